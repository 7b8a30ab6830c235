# SPDX-License-Identifier: Apache-2.0
"""Files to import: found and read without blocking the loop, never outside what was named.

Everything here but `Sources` runs in threads. Links below a folder are not followed, and only
regular files are opened, so a folder on a stranger's stick cannot lead anywhere else.
"""

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from scrigno.imaging.dicomdir import referenced_files
from scrigno.imaging.errors import NotDicom

HEAD_BYTES: Final = 256 << 10
DICOMDIR_BYTES: Final = 256 << 20  # a full DVD of small images has a directory of 50 MB
MEDIA_STORAGE_DIRECTORY: Final = "1.2.840.10008.1.3.10"  # PS3.10 section 8.6


@dataclass(slots=True)
class Found:
    """One file to import, or the reason why one that was named cannot be."""

    path: Path
    problem: str = ""
    code: str = "not-readable"


@dataclass(slots=True)
class Walk:
    """Walks what an operator named, one batch at a time. One thread at a time."""

    paths: Sequence[Path]
    recursive: bool
    _files: Iterator[Found] | None = field(default=None, init=False)

    def batch(self, size: int) -> list[Found]:
        """Return the next files, at most `size`; empty at the end."""
        if self._files is None:
            self._files = self._all()
        found: list[Found] = []
        for one in self._files:
            found.append(one)
            if len(found) >= size:
                break
        return found

    def _all(self) -> Iterator[Found]:
        for path in self.paths:
            try:
                mode = path.stat().st_mode  # what was named itself may be a link
            except OSError as error:
                yield Found(path, _words(error))
                continue
            if stat.S_ISDIR(mode):
                yield from self._folder(path)
            elif path.name.upper() == "DICOMDIR":
                yield from _directory(path)
            else:
                yield Found(path)

    def _folder(self, folder: Path) -> Iterator[Found]:
        folders = [folder]
        while folders:
            folder = folders.pop()
            try:
                with os.scandir(folder) as entries:
                    listed = sorted(entries, key=lambda entry: entry.name)
                    below = [entry for entry in listed if entry.is_dir(follow_symlinks=False)]
                    files = [entry for entry in listed if entry.is_file(follow_symlinks=False)]
                    links = [entry for entry in listed if entry.is_symlink()]
            except OSError as error:
                yield Found(folder, _words(error))
                continue
            # What a directory names stands in the same folder, so the walk meets it anyway.
            yield from (
                Found(Path(entry.path)) for entry in files if entry.name.upper() != "DICOMDIR"
            )
            yield from (
                Found(Path(entry.path), "It is a link and links are not followed.")
                for entry in links
            )
            if self.recursive:
                folders.extend(Path(entry.path) for entry in reversed(below))


def _directory(path: Path) -> Iterator[Found]:
    """Yield the files that a DICOMDIR names, as long as they are in its folder."""
    try:
        with path.open("rb") as file:
            content = file.read(DICOMDIR_BYTES + 1)
        names = referenced_files(content[:DICOMDIR_BYTES])
    except OSError as error:
        yield Found(path, _words(error))
        return
    except NotDicom as error:
        yield Found(path, error.reason, error.code)
        return
    root = path.parent.resolve()
    for parts in names:
        found = _below(root, parts)
        if found is None:
            yield Found(root.joinpath(*parts), "The DICOMDIR names it, but it is not there.")
        else:
            yield Found(found)


def _below(root: Path, parts: Sequence[str]) -> Path | None:
    """Return the file under `root`, whatever the case of its name on a stick, or None."""
    exact = root.joinpath(*parts)
    if not exact.is_file():
        folder = root
        for part in parts:
            same = [each for each in _names(folder) if each.upper() == part.upper()]
            if not same:
                return None
            folder = folder / same[0]
        exact = folder
    resolved = exact.resolve()
    return resolved if resolved.is_relative_to(root) and resolved.is_file() else None


def _names(folder: Path) -> list[str]:
    try:
        return [entry.name for entry in folder.iterdir()]
    except OSError:
        return []


class OpenFile:
    """A regular file being read from its beginning. Every method runs in a thread."""

    def __init__(self, path: Path) -> None:
        """Raise OSError when it cannot be opened or is no regular file."""
        # O_NONBLOCK: opening a named pipe must not wait for somebody to write to it
        self._own(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))

    @classmethod
    def at(cls, fd: int) -> "OpenFile":
        """Read from an open descriptor, which is owned from now on; raises OSError."""
        made = cls.__new__(cls)
        made._own(fd)
        return made

    def _own(self, fd: int) -> None:
        self._fd = fd
        about = os.fstat(fd)
        self.size = about.st_size
        if not stat.S_ISREG(about.st_mode):
            os.close(fd)
            raise OSError(0, "It is no regular file.")

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._fd

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes from `offset`, fewer only at the end."""
        return os.pread(self._fd, length, offset)

    def close(self) -> None:
        """Close it."""
        os.close(self._fd)


def _words(error: OSError) -> str:
    return f"It cannot be read: {error.strerror or type(error).__name__}."
