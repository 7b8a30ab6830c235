# SPDX-License-Identifier: Apache-2.0
"""The digest of an object kept beside it, so that a disk alone can tell whether it is whole.

On a file system with extended attributes it is `user.scrigno.sha256`, the 32 raw bytes: set before
the fsync of the file it becomes durable with the bytes, and it fits into an inode of 256 bytes of
ext4 or XFS (measured: no slower; 64 hex digits take a block of their own). Elsewhere each folder
has one hidden list of lines that `sha256sum -c` understands. Blocking.
"""

import errno
import os
import re
import threading
from typing import Final

ATTRIBUTE: Final = "user.scrigno.sha256"
LIST_NAME: Final = ".scrigno-sha256"
DIGEST_BYTES: Final = 32
LIST_MODE: Final = 0o640
_NO_ATTRIBUTES: Final = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.E2BIG})
_LINE: Final = re.compile(rb"([0-9a-f]{64})  ([^/\n]+)")


def set_attribute(file: int, digest: bytes) -> bool:
    """Keep the digest on an open file; False where attributes cannot be kept. Raises OSError."""
    try:
        os.setxattr(file, ATTRIBUTE, digest)
    except OSError as error:
        if error.errno in _NO_ATTRIBUTES:
            return False
        raise
    return True


def attribute(file: int) -> bytes | None:
    """Return the digest kept on an open file; raises OSError when that cannot be read."""
    try:
        value = os.getxattr(file, ATTRIBUTE)
    except OSError as error:
        if error.errno in (*_NO_ATTRIBUTES, errno.ENODATA):
            return None
        raise
    return value if len(value) == DIGEST_BYTES else None


def parse_list(content: bytes) -> dict[str, bytes]:
    """Return name → digest; the last line of a name counts, a torn one is passed over."""
    return {
        os.fsdecode(match[2]): bytes.fromhex(match[1].decode())
        for line in content.splitlines()
        if (match := _LINE.fullmatch(line))
    }


def _line(name: str, digest: bytes) -> bytes:
    return f"{digest.hex()}  {name}\n".encode()


def read_list(folder: int) -> dict[str, bytes]:
    """Return the list of an open folder; empty when it has none."""
    try:
        fd = os.open(LIST_NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        return {}
    try:
        with os.fdopen(fd, "rb", closefd=False) as file:
            return parse_list(file.read())
    finally:
        os.close(fd)


class Lists:
    """The lists of a volume's folders. Any thread; one worker is their only writer."""

    def __init__(self) -> None:
        """Remember nothing yet."""
        self._lock = threading.Lock()  # protects the files and _seen
        self._seen: tuple[tuple[int, int, int], dict[str, bytes]] = ((0, 0, 0), {})

    def find(self, folder: int, name: str) -> bytes | None:
        """Return the digest in the list of an open folder, None when there is none."""
        try:
            about = os.stat(LIST_NAME, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return None
        version = (about.st_ino, about.st_mtime_ns, about.st_size)
        with self._lock:
            if self._seen[0] != version:
                self._seen = (version, read_list(folder))
            return self._seen[1].get(name)

    def add(self, folder: int, name: str, digest: bytes) -> None:
        """Append a line, durable on return once the folder is."""
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        with self._lock:
            fd = os.open(LIST_NAME, flags, LIST_MODE, dir_fd=folder)
            try:
                size = os.fstat(fd).st_size
                torn = size and os.pread(fd, 1, size - 1) != b"\n"  # power went in mid-line
                os.write(fd, b"\n" * bool(torn) + _line(name, digest))
                os.fsync(fd)
            finally:
                os.close(fd)

    def replace(self, folder: int, name: str, digest: bytes | None) -> None:
        """Change or (None) drop the line of a name; nothing happens when there is no list."""
        with self._lock:
            entries = read_list(folder)
            if name not in entries:
                if digest is None:
                    return
            elif entries[name] == digest:
                return
            else:
                del entries[name]
            if digest is not None:
                entries[name] = digest
            self._write(folder, entries)

    def _write(self, folder: int, entries: dict[str, bytes]) -> None:
        if not entries:
            os.unlink(LIST_NAME, dir_fd=folder)
            return
        temporary = LIST_NAME + ".new"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(temporary, flags, LIST_MODE, dir_fd=folder)
        try:
            with os.fdopen(fd, "wb", closefd=False) as file:
                file.writelines(_line(name, digest) for name, digest in entries.items())
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, LIST_NAME, src_dir_fd=folder, dst_dir_fd=folder)
        os.fsync(folder)
