# SPDX-License-Identifier: Apache-2.0
"""The box's own memory of its volumes: `volumes.json` in the state directory, and its twin.

Both are written with each change. When one cannot be understood the other one counts; when neither
can, the volumes are forgotten: the damaged files are kept under another name, nothing is adopted by
itself any more, and `regaining` finds out from the disks which are this box's own.
"""

import json
import logging
import threading
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from scrigno.host.files import sync_directory, write_durably

from .marker import Parted, Remembered

log = logging.getLogger(__name__)

FILE_NAME: Final = "volumes.json"
TWIN_NAME: Final = "volumes.copy.json"
_DAMAGE: Final = (ValueError, KeyError, TypeError, AttributeError)


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

    def __init__(self, state_dir: Path, *, used_before: bool = False) -> None:
        """Read it, or start a new one; `used_before`: this box had one, whatever is found now.

        Raises OSError when the state directory cannot be written.
        """
        self._path = state_dir / FILE_NAME
        self._twin = state_dir / TWIN_NAME
        self._lock = threading.Lock()  # protects everything below and the files
        self.damage = ""  # in words, what could not be understood at this start
        self.is_new = False  # nothing was remembered: this is the first start of the box
        self._begin()
        state_dir.mkdir(parents=True, exist_ok=True)
        for path in (self._path, self._twin):
            self._begin()
            try:
                self._read(json.loads(path.read_text("utf-8")))
            except FileNotFoundError:
                continue
            except (*_DAMAGE, OSError) as error:
                self._set_aside(path, error)
            else:
                break
        else:
            self._begin()
            self.is_new = not (self.damage or used_before)
            self.owner = str(uuid.uuid4()) if self.is_new else ""
            if used_before and not self.damage:
                self.damage = f"{FILE_NAME} is gone from the state directory"
            self._save()
            return
        try:
            if not (self._path.exists() and self._twin.exists()):  # or one was set aside
                self._save()
        except OSError as error:  # what is known is known; the next change tells
            log.warning("volumes: the memory of them cannot be written: %s", error)

    def _begin(self) -> None:
        self.owner = ""  # unknown
        self._volumes: dict[str, Remembered] = {}
        self._standing: dict[str, Standing] = {}
        self._parted: dict[str, Parted] = {}
        self._forgotten: set[str] = set()  # volumes in use before of which nothing is known now

    def _set_aside(self, path: Path, error: Exception) -> None:
        """Keep what cannot be understood beside, under another name."""
        aside = path.with_name(f"{path.name}.damaged")
        count = 0
        while aside.exists():
            count += 1
            aside = path.with_name(f"{path.name}.damaged.{count}")
        try:
            path.rename(aside)
            sync_directory(path.parent)
        except OSError as problem:
            log.warning("volumes: %s cannot be set aside: %s", path.name, problem)
        log.error("volumes: %s cannot be understood, it is kept as %s", path.name, aside.name)
        words = f"{path.name} could not be understood ({error}) and is kept as {aside.name}"
        self.damage = f"{self.damage}; {words}" if self.damage else words

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

        self._forgotten = set(map(str, document.get("forgotten", ())))

    # -- what was forgotten ------------------------------------------------------------------

    def forget(self, names: Iterable[str]) -> None:
        """Note which volumes were in use before a damage that left nothing known of them."""
        with self._lock:
            self._forgotten |= set(names)
            self._save()

    def is_forgotten(self, name: str) -> bool:
        """Tell whether what stands at its path must not be adopted without an order."""
        return name in self._forgotten or not self.owner

    @property
    def forgotten(self) -> frozenset[str]:
        """The volumes of which nothing is known, though they were in use."""
        return frozenset(self._forgotten)

    def recall(self, uuids: Mapping[str, str]) -> None:
        """Learn which disks others remember; only of volumes that were forgotten."""
        for name in self._forgotten & set(uuids):
            self._volumes.setdefault(name, Remembered(uuid=uuids[name], generation=0))

    def settle_owner(self, owner: str) -> None:
        """Say who this box is, when that was forgotten; durable with the next volume."""
        self.owner = self.owner or owner

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
            if before == entry and name not in self._forgotten:
                return
            self._forgotten.discard(name)
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
            self._forgotten.discard(name)
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
            lost = self._forgotten - set(names)
            for name in gone:
                del self._standing[name]
            self._forgotten -= lost
            if gone or lost:
                self._save()

    def _part(self, uuid_: str, name: str, now: datetime, *, retired: bool) -> None:
        self._parted[uuid_] = Parted(name=name, retired=retired, on=_text(now))

    def _save(self) -> None:
        document = {
            "owner": self.owner,
            "volumes": _documents(self._volumes),
            "standing": _documents(self._standing),
            "parted": _documents(self._parted),
            "forgotten": sorted(self._forgotten),
        }
        content = json.dumps(document, indent=1).encode() + b"\n"
        # the twin first: whichever of the two is torn by a crash in between, the other is whole
        write_durably(self._twin, content)
        write_durably(self._path, content)


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")


def _documents(entries: Mapping[str, Any]) -> dict[str, Any]:
    return {key: asdict(entry) for key, entry in sorted(entries.items())}
