# SPDX-License-Identifier: Apache-2.0
"""Open directories of a volume, kept for the next object of the same series. Blocking."""

import contextlib
import errno
import os
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Final

CACHED_DIRECTORIES: Final = 256  # descriptors; a series being received is one
FOLDER_MODE: Final = 0o750
_GONE = frozenset({errno.ENOENT, errno.EPERM})  # EPERM: O_TMPFILE in a removed one, ext4


class Directory:
    """An open directory that closes itself when nobody uses it any more.

    Whoever uses `fd` holds the object in a variable meanwhile: the number of a closed descriptor
    is given to the next file that is opened.
    """

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        """Take the descriptor over."""
        self.fd = fd

    def __del__(self) -> None:
        os.close(self.fd)

    def was_removed(self, error: OSError) -> bool:
        """Tell whether an operation in it failed because somebody else has removed it."""
        if error.errno == errno.ESTALE:  # NFS
            return True
        return error.errno in _GONE and not os.fstat(self.fd).st_nlink


class Folders:
    """The folders under one root. Any thread."""

    def __init__(self) -> None:
        """Hold nothing open yet."""
        self._lock = threading.Lock()  # protects _cached
        self._cached: OrderedDict[tuple[str, ...], Directory] = OrderedDict()

    def clear(self) -> None:
        """Let go of every descriptor that is not in use."""
        with self._lock:
            self._cached.clear()

    def made(self, root: Directory, parts: tuple[str, ...]) -> Directory:
        """Return the folder, made if need be; itself and all its parents durable."""
        with self._lock:
            cached = self._cached.get(parts)
            if cached is not None:
                self._cached.move_to_end(parts)
                return cached
        if not parts:
            return root
        parent = self.made(root, parts[:-1])
        with contextlib.suppress(FileExistsError):
            os.mkdir(parts[-1], FOLDER_MODE, dir_fd=parent.fd)
        # Also when it was there: another thread, or a worker that was killed, may have made it
        # and not come to its fsync. Nothing is pending most of the time, then this costs nothing.
        os.fsync(parent.fd)
        directory = _open_folder(parts[-1], parent)
        with self._lock:
            self._cached[parts] = directory
            while len(self._cached) > CACHED_DIRECTORIES:
                self._cached.popitem(last=False)
        return directory

    def existing(self, root: Directory, parts: tuple[str, ...]) -> Directory:
        """Return a folder that is there; raises FileNotFoundError. Not known to be durable."""
        with self._lock:
            cached = self._cached.get(parts)
        if cached is not None:
            return cached
        directory = root
        for part in parts:
            directory = _open_folder(part, directory)
        return directory

    def forget(self, parts: tuple[str, ...]) -> None:
        """Look it and all above it up again the next time."""
        with self._lock:
            for depth in range(len(parts), 0, -1):
                self._cached.pop(parts[:depth], None)


def mount_id(fd: int) -> int:
    """Return the id of the mount a descriptor lies in (proc_pid_fdinfo(5)), 0 when untold."""
    for line in Path(f"/proc/self/fdinfo/{fd}").read_text("ascii").splitlines():
        if line.startswith("mnt_id:"):
            return int(line.partition(":")[2])
    return 0


def _open_folder(part: str, parent: Directory) -> Directory:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    return Directory(os.open(part, flags, dir_fd=parent.fd))
