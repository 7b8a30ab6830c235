# SPDX-License-Identifier: Apache-2.0
"""Checking a volume that was pulled out of the box: no daemon, no index, only the disk.

Each file is read from the disk and compared with the digest kept beside it (see `beside`). Nothing
is written. Blocking: for the command line.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from scrigno.core.errors import CommandError

from .beside import attribute, read_list
from .files import hash_file, refusal
from .marker import HARMLESS_ENTRIES


class Finding(StrEnum):
    """How one file is."""

    GOOD = "good"
    CHANGED = "changed"  # its bytes are not those that were stored
    UNREADABLE = "unreadable"
    UNNOTED = "unnoted"  # readable, and no digest is kept beside it
    MISSING = "missing"  # its folder's list names it, and it is not there


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One file; `digest` is of the bytes on the disk, `beside` what they were."""

    path: Path  # relative to the volume
    finding: Finding
    size: int = 0
    digest: str = ""
    beside: str = ""
    reason: str = ""


def verify_lone(path: Path, *, under: str = "") -> Iterator[Found]:
    """Yield every file of the volume at `path` (of the folder `under` only), folder by folder.

    Hidden files are passed over: they are ours, or a file system's. Raises CommandError when
    there is no such folder or it cannot be read.
    """
    root = path / under
    try:
        names = _names(root)
    except OSError as error:
        raise CommandError(
            f"{root} cannot be read: {error.strerror}.",
            next_step="Name the folder at which the volume is mounted.",
        ) from error
    if not under:
        names = [name for name in names if name not in HARMLESS_ENTRIES]
    yield from _folder(root, Path(under), names)


def _names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def _folder(folder: Path, relative: Path, names: list[str]) -> Iterator[Found]:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        listed = read_list(fd)
        folders: list[str] = []
        for name in names:
            if name.startswith("."):
                continue
            try:
                mode = os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode
            except OSError as error:
                yield _unreadable(relative / name, error)
                continue
            if stat.S_ISDIR(mode):
                folders.append(name)
            elif stat.S_ISREG(mode):
                yield _file(fd, name, relative / name, listed.get(name))
        for name in sorted(set(listed) - set(names)):
            yield Found(path=relative / name, finding=Finding.MISSING, beside=listed[name].hex())
    finally:
        os.close(fd)
    for name in folders:
        try:
            inner = _names(folder / name)
        except OSError as error:
            yield _unreadable(relative / name, error)
            continue
        yield from _folder(folder / name, relative / name, inner)


def _file(folder: int, name: str, relative: Path, listed: bytes | None) -> Found:
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    except OSError as error:
        return _unreadable(relative, error)
    try:
        kept = attribute(fd) or listed
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        digest, size, _ = hash_file(fd, 0, lambda: None)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    except OSError as error:
        return _unreadable(relative, error)
    finally:
        os.close(fd)
    if kept is None:
        finding = Finding.UNNOTED
    else:
        finding = Finding.GOOD if kept == digest else Finding.CHANGED
    return Found(
        path=relative,
        finding=finding,
        size=size,
        digest=digest.hex(),
        beside=kept.hex() if kept is not None else "",
    )


def _unreadable(relative: Path, error: OSError) -> Found:
    return Found(path=relative, finding=Finding.UNREADABLE, reason=refusal(error).reason)
