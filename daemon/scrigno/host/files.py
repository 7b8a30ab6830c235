# SPDX-License-Identifier: Apache-2.0
"""Small files of the state directory that must be whole after a power cut. Blocking."""

import os
from pathlib import Path
from typing import Final

PRIVATE: Final = 0o600


def write_durably(path: Path, content: bytes, *, mode: int = PRIVATE) -> None:
    """Replace `path`; on return old or new stands there whole, and the new survives power loss.

    Temporary name, write, fsync, rename, fsync of the directory. The directory must exist.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as to:
            to.write(content)
            to.flush()
            os.fsync(to.fileno())
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make names that came or went in `directory` survive power loss."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
