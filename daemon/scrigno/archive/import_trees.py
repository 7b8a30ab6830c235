# SPDX-License-Identifier: Apache-2.0
"""What can be imported from, seen as a tree of files; folders of the box with no way out of them.

Everything here blocks and runs in threads. A folder is walked by descriptors, each step with
O_NOFOLLOW, so that no link, race or `..` leads anywhere else (openat(2)).
"""

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final, Protocol

from .import_errors import FileRefused, PlaceNotAllowed, SourceGone
from .sources import OpenFile

MOST_DEPTH: Final = 64
MOST_FILES: Final = 5_000_000
NO_LINKS: Final = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One file of a source. `ref` is JSON by which its tree finds it again."""

    parts: tuple[str, ...]  # its name, for people only: never made into a path
    ref: Any = None
    code: str = ""  # why it cannot be imported, "" when it can be tried
    reason: str = ""

    @property
    def name(self) -> str:
        """Return the name as people read it."""
        return "/".join(self.parts)


class Readable(Protocol):
    """A file being read from its beginning to its end, in steps."""

    size: int

    def read(self, offset: int, length: int) -> bytes:
        """Return the next bytes; `offset` is where the last call ended, or 0 again."""

    def close(self) -> None:
        """Close it."""


class Tree(Protocol):
    """A source of files."""

    def entries(self) -> Iterator[Entry]:
        """Yield every file: those of a folder by name, then its sub-folders by name."""

    def below(self, folder: Sequence[str], parts: Sequence[str]) -> Entry | None:
        """Return the file that a DICOMDIR in `folder` means, whatever the case of its name."""

    def open(self, ref: Any) -> Readable:
        """Open a file again; raises FileRefused, OSError."""

    def require_there(self) -> None:
        """Raise SourceGone when the whole source is away."""

    def close(self) -> None:
        """Let go of it; idempotent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where people may import from and export to: below `roots`, never in `ours`."""

    roots: tuple[Path, ...]
    ours: tuple[Path, ...]  # volumes, state and staging of the box

    def require(self, path: str) -> Path:
        """Return the path when it is allowed; raises PlaceNotAllowed. Touches no disk."""
        plain = PurePosixPath(path)
        if "\0" in path or not plain.is_absolute() or ".." in plain.parts or len(path) > 4096:
            raise PlaceNotAllowed("The path must be absolute and without '..'.")
        found = Path(plain)
        if self.root_of(found) is None:
            raise PlaceNotAllowed(
                "The path is not below a folder that may be imported from or exported to.",
                next_step="An administrator can allow it in the settings (transfer.roots).",
            )
        if any(found.is_relative_to(ours) for ours in self.ours):
            raise PlaceNotAllowed("The path belongs to the box itself.")
        return found

    def root_of(self, path: Path) -> Path | None:
        """Return the allowed folder that a path lies in."""
        return next((root for root in self.roots if path.is_relative_to(root)), None)

    def is_ours(self, path: Path) -> bool:
        """Tell whether a folder met on the way belongs to the box itself."""
        return path in self.ours


@contextmanager
def descend(root: Path, parts: Sequence[str]) -> Iterator[int]:
    """Open a folder below `root` (which may be a link itself) and no link; raises OSError."""
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts:
            if part in {"", ".", ".."} or "/" in part:
                raise FileRefused("Its name is no name of a file.")
            deeper = os.open(part, os.O_RDONLY | os.O_DIRECTORY | NO_LINKS, dir_fd=fd)
            os.close(fd)
            fd = deeper
        yield fd
    finally:
        os.close(fd)


def open_below(root: Path, parts: Sequence[str]) -> OpenFile:
    """Open a regular file below `root`, following no link; raises OSError, FileRefused."""
    with descend(root, parts[:-1]) as folder:
        if not parts or parts[-1] in {"", ".", ".."} or "/" in parts[-1]:
            raise FileRefused("Its name is no name of a file.")
        return OpenFile.at(os.open(parts[-1], os.O_RDONLY | NO_LINKS, dir_fd=folder))


class FolderTree:
    """A folder of the box, or one file of it."""

    def __init__(self, places: Places, path: Path, *, recursive: bool) -> None:
        """`path` was allowed by `places`."""
        root = places.root_of(path)
        if root is None:
            raise PlaceNotAllowed("The path is not below a folder that may be imported from.")
        self._places = places
        self._root = root
        self._base = path.relative_to(root).parts
        self._path = path
        self._recursive = recursive
        self._identity = self._look()

    def _look(self) -> tuple[int, int]:
        """Return what the folder is, to know it again; raises OSError."""
        with descend(self._root, self._base) as folder:
            about = os.fstat(folder)
            return about.st_dev, about.st_ino

    def require_there(self) -> None:
        """Raise SourceGone when the folder is away or another one stands in its place."""
        with suppress(OSError):
            if self._look() == self._identity:
                return
        raise SourceGone(
            "What is imported from is gone.",
            next_step="Put the stick or disc back and let the job go on.",
        )

    def entries(self) -> Iterator[Entry]:
        """Walk the folder; see Tree."""
        waiting: list[tuple[str, ...]] = [()]
        while waiting:
            below = waiting.pop()
            try:
                with descend(self._root, (*self._base, *below)) as folder:
                    files, folders, links = _sorted(folder)
            except OSError as error:
                yield Entry(parts=below or (".",), code="not-readable", reason=words(error))
                continue
            for name in files:
                yield Entry(parts=(*below, name), ref=[*below, name])
            for name in links:
                yield Entry(
                    parts=(*below, name),
                    code="is-link",
                    reason="It is a link and links are not followed.",
                )
            if not self._recursive:
                continue
            for name in reversed(folders):
                deeper = (*below, name)
                if self._places.is_ours(self._path.joinpath(*deeper)):
                    continue  # the archive is not imported into itself
                if len(deeper) > MOST_DEPTH:
                    reason = "The folders are nested too deep."
                    yield Entry(parts=deeper, code="not-readable", reason=reason)
                else:
                    waiting.append(deeper)

    def below(self, folder: Sequence[str], parts: Sequence[str]) -> Entry | None:
        """Find a file that a DICOMDIR names; see Tree."""
        found = list(folder)
        try:
            for number, part in enumerate(parts):
                last = number + 1 == len(parts)
                with descend(self._root, (*self._base, *found)) as fd:
                    name = _same_name(fd, part, as_folder=not last)
                if name is None:
                    return None
                found.append(name)
        except OSError:
            return None
        return Entry(parts=tuple(found), ref=found)

    def open(self, ref: Any) -> Readable:
        """Open a file of the walk again."""
        return open_below(self._root, (*self._base, *map(str, ref)))

    def close(self) -> None:
        """Nothing is held."""


class FileTree:
    """One file of the box that is no archive."""

    def __init__(self, places: Places, path: Path) -> None:
        """`path` was allowed by `places`."""
        root = places.root_of(path)
        if root is None:
            raise PlaceNotAllowed("The path is not below a folder that may be imported from.")
        self._root = root
        self._parts = path.relative_to(root).parts

    def require_there(self) -> None:
        """Raise SourceGone when it is away."""
        try:
            self.open(None).close()
        except (OSError, FileRefused) as error:
            raise SourceGone("The file is gone.") from error

    def entries(self) -> Iterator[Entry]:
        """Yield it."""
        yield Entry(parts=(self._parts[-1],), ref=0)

    def below(self, folder: Sequence[str], parts: Sequence[str]) -> Entry | None:
        """Nothing lies below a file."""

    def open(self, ref: Any) -> Readable:
        """Open it."""
        return open_below(self._root, self._parts)

    def close(self) -> None:
        """Nothing is held."""


def _sorted(folder: int) -> tuple[list[str], list[str], list[str]]:
    """Return regular files, folders and links by name; pipes and devices are none of them."""
    files: list[str] = []
    folders: list[str] = []
    links: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_symlink():
                links.append(entry.name)
            elif entry.is_dir(follow_symlinks=False):
                folders.append(entry.name)
            elif entry.is_file(follow_symlinks=False):
                files.append(entry.name)
    return sorted(files), sorted(folders), sorted(links)


def _same_name(folder: int, wanted: str, *, as_folder: bool) -> str | None:
    """Return the name of a file (or folder) as it stands on the medium."""
    kind = stat.S_ISDIR if as_folder else stat.S_ISREG
    with suppress(OSError):
        if kind(os.stat(wanted, dir_fd=folder, follow_symlinks=False).st_mode):
            return wanted
    for name in os.listdir(folder):
        if name.upper() == wanted.upper() and name != wanted:
            with suppress(OSError):
                if kind(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                    return name
    return None


def words(error: OSError) -> str:
    """Say why a file cannot be read."""
    return f"It cannot be read: {error.strerror or type(error).__name__}."
