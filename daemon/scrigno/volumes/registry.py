# SPDX-License-Identifier: Apache-2.0
"""The box's own memory of its volumes: `volumes.json` in the state directory."""

import json
import os
import threading
import uuid
from dataclasses import asdict
from pathlib import Path
from typing import Final

from scrigno.core.errors import ConfigError

from .marker import Remembered

FILE_NAME: Final = "volumes.json"


class Registry:
    """Which uuid each volume name had; the box's id. Blocking: executor threads only."""

    def __init__(self, state_dir: Path) -> None:
        """Read it, or start a new one; raises ConfigError when it cannot be understood."""
        self._path = state_dir / FILE_NAME
        self._lock = threading.Lock()  # protects _volumes and the file
        self.owner = str(uuid.uuid4())
        self._volumes: dict[str, Remembered] = {}
        try:
            document = json.loads(self._path.read_text("utf-8"))
            self.owner = str(document["owner"])
            for name, entry in document["volumes"].items():
                self._volumes[name] = Remembered(
                    uuid=str(entry["uuid"]), generation=int(entry["generation"])
                )
        except FileNotFoundError:
            state_dir.mkdir(parents=True, exist_ok=True)
            self._save()
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"{self._path} cannot be understood: {error}.",
                next_step="Restore it from a backup, or move it away and adopt each volume again.",
            ) from error

    def remembered(self, name: str) -> Remembered | None:
        """Return what is known of the volume `name`."""
        return self._volumes.get(name)

    def remember(self, name: str, entry: Remembered) -> None:
        """Keep it; durable on return."""
        with self._lock:
            if self._volumes.get(name) != entry:
                self._volumes[name] = entry
                self._save()

    def _save(self) -> None:
        document = {
            "owner": self.owner,
            "volumes": {name: asdict(entry) for name, entry in sorted(self._volumes.items())},
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
