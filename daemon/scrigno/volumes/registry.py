# SPDX-License-Identifier: Apache-2.0
"""The box's own memory of its volumes: `volumes.json` in the state directory."""

import json
import os
import threading
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from scrigno.core.errors import ConfigError

from .marker import Parted, Remembered

FILE_NAME: Final = "volumes.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What an operator has ordered of a volume and what holds until he says otherwise."""

    reason: str
    since: str  # ISO 8601, UTC
    retired: bool = False  # else paused


class Registry:
    """What the box remembers of each volume name. Blocking: executor threads only.

    The reading methods ask no disk and may be called anywhere.
    """

    def __init__(self, state_dir: Path) -> None:
        """Read it, or start a new one; raises ConfigError when it cannot be understood."""
        self._path = state_dir / FILE_NAME
        self._lock = threading.Lock()  # protects everything below and the file
        self.owner = str(uuid.uuid4())
        self._volumes: dict[str, Remembered] = {}
        self._standing: dict[str, Standing] = {}
        self._parted: dict[str, Parted] = {}
        try:
            self._read(json.loads(self._path.read_text("utf-8")))
        except FileNotFoundError:
            state_dir.mkdir(parents=True, exist_ok=True)
            self._save()
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"{self._path} cannot be understood: {error}.",
                next_step="Restore it from a backup, or move it away and adopt each volume again.",
            ) from error

    def _read(self, document: Any) -> None:
        self.owner = str(document["owner"])
        for name, entry in document["volumes"].items():
            errors = entry.get("fs_errors")
            self._volumes[name] = Remembered(
                uuid=str(entry["uuid"]),
                generation=int(entry["generation"]),
                own_mount=bool(entry.get("own_mount", False)),
                fs_errors=None if errors is None else int(errors),
            )
        for name, entry in document.get("standing", {}).items():
            self._standing[name] = Standing(
                reason=str(entry["reason"]),
                since=str(entry["since"]),
                retired=bool(entry["retired"]),
            )
        for uuid_, entry in document.get("parted", {}).items():
            self._parted[uuid_] = Parted(
                name=str(entry["name"]), retired=bool(entry["retired"]), on=str(entry["on"])
            )

    # -- asking ------------------------------------------------------------------------------

    def remembered(self, name: str) -> Remembered | None:
        """Return what is known of the volume `name`."""
        return self._volumes.get(name)

    def standing(self, name: str) -> Standing | None:
        """Return how the operator has paused or retired it, None when he has not."""
        return self._standing.get(name)

    @property
    def parted(self) -> Mapping[str, Parted]:
        """The disks that were replaced or retired, by uuid."""
        return self._parted

    # -- keeping: durable on return ----------------------------------------------------------

    def remember(self, name: str, entry: Remembered, now: datetime) -> None:
        """Keep it; a disk with another uuid replaces the one before."""
        with self._lock:
            before = self._volumes.get(name)
            if before == entry:
                return
            if before is not None and before.uuid != entry.uuid:
                self._part(before.uuid, name, now, retired=False)
            self._parted.pop(entry.uuid, None)
            self._volumes[name] = entry
            self._save()

    def pause(self, name: str, reason: str, now: datetime) -> None:
        """Keep that it is paused."""
        with self._lock:
            self._standing[name] = Standing(reason=reason, since=_text(now))
            self._save()

    def retire(self, name: str, now: datetime) -> None:
        """Forget its disk as a volume, and know it as a retired one."""
        with self._lock:
            entry = self._volumes.pop(name, None)
            if entry is not None:
                self._part(entry.uuid, name, now, retired=True)
            self._standing[name] = Standing(reason="", since=_text(now), retired=True)
            self._save()

    def release(self, name: str) -> None:
        """Keep that it is neither paused nor retired."""
        with self._lock:
            if self._standing.pop(name, None) is not None:
                self._save()

    def release_all_but(self, names: Iterable[str]) -> None:
        """Drop the orders for volumes that are configured no more."""
        with self._lock:
            gone = set(self._standing) - set(names)
            for name in gone:
                del self._standing[name]
            if gone:
                self._save()

    def _part(self, uuid_: str, name: str, now: datetime, *, retired: bool) -> None:
        self._parted[uuid_] = Parted(name=name, retired=retired, on=_text(now))

    def _save(self) -> None:
        document = {
            "owner": self.owner,
            "volumes": _documents(self._volumes),
            "standing": _documents(self._standing),
            "parted": _documents(self._parted),
        }
        temporary = self._path.with_name(f".{FILE_NAME}.new")
        with temporary.open("wb") as file:
            file.write(json.dumps(document, indent=1).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")


def _documents(entries: Mapping[str, Any]) -> dict[str, Any]:
    return {key: asdict(entry) for key, entry in sorted(entries.items())}
