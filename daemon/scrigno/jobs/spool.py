# SPDX-License-Identifier: Apache-2.0
"""Where jobs put their files: a folder for each job on the SSD, bounded, gone with the job."""

import hashlib
import os
import shutil
from pathlib import Path
from typing import Final

from scrigno.host.files import sync_directory

CHUNK_BYTES: Final = 1 << 20
SPARE_BYTES: Final = 1 << 30  # of the disk: images on their way come first


class Spool:
    """Folders below one folder. Every method blocks, so it runs in a thread."""

    def __init__(self, folder: Path) -> None:
        """Name the folder; `open` makes it."""
        self.folder = folder

    def open(self, known: set[int]) -> None:
        """Make the folder and remove what belongs to no job. Raises OSError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        for each in self.folder.iterdir():
            if not (each.name.isdigit() and int(each.name) in known):
                _remove(each)

    def of(self, job_id: int) -> Path:
        """Make and return the folder of a job. Raises OSError."""
        folder = self.folder / str(job_id)
        folder.mkdir(exist_ok=True)
        return folder

    def remove(self, job_id: int) -> None:
        """Remove everything of a job; idempotent."""
        _remove(self.folder / str(job_id))

    def has_room(self, wanted: int) -> bool:
        """Tell whether the disk has that much to spare. Raises OSError."""
        space = os.statvfs(self.folder)
        return space.f_bavail * space.f_frsize >= wanted + SPARE_BYTES


def sealed(path: Path) -> tuple[int, str]:
    """Make a finished file durable and return its size and SHA-256. Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
        os.fsync(file.fileno())
        size = file.tell()
    sync_directory(path.parent)
    return size, digest.hexdigest()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
