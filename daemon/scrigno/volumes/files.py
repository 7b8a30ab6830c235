# SPDX-License-Identifier: Apache-2.0
"""Moving bytes between descriptors, and what the kernel may say to it. Blocking.

Long work calls `alive` as it moves on, so that silence means a disk that hangs.
"""

import contextlib
import errno
import hashlib
import os
import secrets
from collections.abc import Callable, Iterator
from typing import Final

from .keys import BadKeyError, split_key
from .marker import HARMLESS_ENTRIES
from .protocol import Space
from .states import ErrorKind

RESERVE_BYTES: Final = 64 << 20  # room for markers, probes and index backups when "full"
RESERVE_PARTS: Final = 100  # …or 1 % of a small filesystem
FULL_FROM: Final = 2  # with less than so many reserves free a volume is FULL…
FULL_UNTIL: Final = 3  # …until it has so many
NO_INODE: Final = "no inode is free"
FILE_MODE: Final = 0o640
PROBE_NAME: Final = ".scrigno-probe"
PROBE_BYTES: Final = 4096
PIECE_BYTES: Final = 8 << 20
SYNC_EVERY_BYTES: Final = 32 << 20  # so that one fsync stays far under the operation timeout

_NO_RANGE_COPY = frozenset({errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS})
_KINDS = {
    errno.ENOSPC: ErrorKind.FULL,
    errno.EDQUOT: ErrorKind.FULL,
    errno.EROFS: ErrorKind.READONLY,
    errno.EPERM: ErrorKind.DENIED,
    errno.EACCES: ErrorKind.DENIED,
    errno.ENOENT: ErrorKind.MISSING,
}

Alive = Callable[[], None]


class Refused(Exception):
    """An operation that was not done; becomes a VolumeError in the main process."""

    def __init__(self, kind: ErrorKind, reason: str) -> None:
        """Keep kind and reason."""
        super().__init__(reason)
        self.kind = kind
        self.reason = reason


def refusal(error: OSError) -> Refused:
    """Translate what the kernel said."""
    code = error.errno or 0
    kind = _KINDS.get(code, ErrorKind.IO)
    return Refused(kind, f"{os.strerror(code)} ({errno.errorcode.get(code, code)})")


def reserve_bytes(total_bytes: int) -> int:
    """Return how much of a filesystem of this size is kept free."""
    return min(RESERVE_BYTES, total_bytes // RESERVE_PARTS)


def full_below(total_bytes: int) -> int:
    """Return with how many bytes less a volume of this size becomes FULL."""
    return FULL_FROM * reserve_bytes(total_bytes)


def fullness(space: Space, *, full: bool) -> str:
    """Return in words why a volume is FULL, or "" when it is not; `full`: it is so far.

    It is FULL some room above the reserve, so that others take over before a write is refused,
    and stays so until there is clearly more: one removed image must not turn it back and forth.
    """
    if space.total_inodes and not space.free_inodes:
        return NO_INODE
    reserve = reserve_bytes(space.total_bytes)
    if space.free_bytes < (FULL_UNTIL if full else FULL_FROM) * reserve:
        return f"{space.free_bytes >> 20} MiB free, {reserve >> 20} MiB are kept in reserve"
    return ""


def names_in(folder: int) -> list[str]:
    """Return the names in an open folder."""
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries]


def exists(folder: int, name: str) -> bool:
    """Tell whether a name stands in an open folder, whatever it is."""
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def write_all(fd: int, content: bytes | memoryview) -> None:
    """Write everything, also when the kernel takes it in parts."""
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]


def drop_names(folder: int, prefix: str = "") -> None:
    """Remove what begins with `prefix` from an open folder, as far as that is allowed."""
    for name in names_in(folder):
        if name.startswith(prefix):
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=folder)


def write_probe(folder: int) -> None:
    """Write, fsync, rename, fsync the folder, drop the cache, read back and compare.

    Raises OSError, Refused(IO). A new file under a name of its own each time: a killed worker that
    was stuck finishes its last call when the disk goes on, and must not meet ours.
    """
    content = secrets.token_bytes(PROBE_BYTES)
    temporary = f"{PROBE_NAME}.{secrets.token_hex(8)}"
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    fd = os.open(temporary, flags, FILE_MODE, dir_fd=folder)
    try:
        write_all(fd, content)
        os.fsync(fd)
        os.rename(temporary, PROBE_NAME, src_dir_fd=folder, dst_dir_fd=folder)
        os.fsync(folder)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        if os.pread(fd, PROBE_BYTES + 1, 0) != content:
            raise Refused(ErrorKind.IO, "the probe read back other bytes than it had written")
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=folder)
        raise
    finally:
        os.close(fd)


def probe_writing(folder: int, marker: str) -> None:
    """Do `write_probe`; a disk that takes no writes must at least read, else that error counts."""
    try:
        write_probe(folder)
    except OSError as error:
        if refusal(error).kind in (ErrorKind.READONLY, ErrorKind.DENIED):
            read_probe(folder, marker)
        raise


def read_probe(folder: int, name: str) -> None:
    """Read a small file past the cache; raises OSError when the disk cannot.

    A dead disk under an ext4 that refuses writes still serves what is cached (measured).
    """
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.pread(fd, PROBE_BYTES, 0)
    finally:
        os.close(fd)


def preallocate(fd: int, size: int) -> None:
    """Reserve the room where the filesystem can; raises OSError(ENOSPC) early."""
    try:
        os.posix_fallocate(fd, 0, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise


def copy(source: int, target: int, size: int, alive: Alive) -> None:
    """Copy inside the kernel, the source's own offset untouched (it is shared with its owner)."""
    by_range, offset, unsynced = True, 0, 0
    while offset < size:
        piece = min(size - offset, PIECE_BYTES)
        try:
            if by_range:
                done = os.copy_file_range(source, target, piece, offset)
            else:
                done = os.sendfile(target, source, offset, piece)
        except OSError as error:
            if by_range and error.errno in _NO_RANGE_COPY:
                by_range = False  # other kinds of filesystem on the two sides
                continue
            raise
        if not done:
            raise Refused(ErrorKind.IO, f"the source ended after {offset} of {size} bytes")
        offset += done
        unsynced += done
        if unsynced >= SYNC_EVERY_BYTES and offset < size:
            os.fdatasync(target)
            unsynced = 0
            alive()


def hash_file(fd: int, head: int, alive: Alive) -> tuple[bytes, int, bytes]:
    hasher, size = hashlib.sha256(), 0
    buffer = bytearray(1 << 20)
    view = memoryview(buffer)
    first = b""
    while count := os.preadv(fd, [buffer], size):
        hasher.update(view[:count])
        if size < head:
            first += view[: min(count, head - size)]
        size += count
        if size % PIECE_BYTES == 0:
            alive()
    return hasher.digest(), size, first


def hash_in_steps(fd: int, step: int) -> Iterator[tuple[bytes, int]]:
    """Read past the cache and stop after each `step` bytes; yields digest and size so far.

    Closes `fd` in the end.
    """
    hasher, size, stop = hashlib.sha256(), 0, step
    buffer = bytearray(min(1 << 20, step))
    view = memoryview(buffer)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        while count := os.preadv(fd, [buffer], size):
            hasher.update(view[:count])
            size += count
            if size >= stop:
                os.posix_fadvise(fd, 0, size, os.POSIX_FADV_DONTNEED)
                stop = size + step
                yield b"", size
        yield hasher.digest(), size
    finally:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


def into_memory(fd: int, offset: int, length: int, alive: Alive) -> tuple[int, int]:
    memory = os.memfd_create("scrigno-object", os.MFD_CLOEXEC)
    try:
        size = 0
        while size < length:
            done = os.sendfile(memory, fd, offset + size, min(length - size, PIECE_BYTES))
            if not done:
                break
            size += done
            alive()
    except BaseException:
        os.close(memory)
        raise
    return memory, size


def walk_folder(
    folder: int, parts: tuple[str, ...], beyond: tuple[str, ...]
) -> Iterator[tuple[str, int]]:
    with os.scandir(folder) as entries:
        found = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
    for name, is_folder in found:
        if (beyond and name < beyond[0]) or (not parts and name in HARMLESS_ENTRIES):
            continue
        try:
            split_key(name)
        except BadKeyError:
            continue
        at_bound = bool(beyond) and name == beyond[0]
        if not is_folder:
            if not at_bound:
                with contextlib.suppress(FileNotFoundError):  # removed since it was listed
                    about = os.stat(name, dir_fd=folder, follow_symlinks=False)
                    yield "/".join((*parts, name)), about.st_size
            continue
        try:
            fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
        except FileNotFoundError:
            continue
        try:
            yield from walk_folder(fd, (*parts, name), beyond[1:] if at_bound else ())
        finally:
            os.close(fd)
