# SPDX-License-Identifier: Apache-2.0
"""The files of one volume, as its worker process handles them. Blocking; any thread of the worker.

A name becomes visible only by: unnamed file → all bytes → fsync → link → fsync of the directory,
every newly made parent fsynced before (recipe and measurements: ext4, xfs, btrfs). A failed fsync
is never repeated: the file is dropped and the caller writes the object elsewhere.
Nothing is mapped into memory: a dying XFS answers a mapped read with SIGBUS.
"""

import contextlib
import errno
import json
import os
import secrets
import stat
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from .files import (
    Alive,
    Refused,
    copy,
    exists,
    hash_file,
    into_memory,
    names_in,
    preallocate,
    reserve_bytes,
    walk_folder,
    write_all,
)
from .keys import split_key
from .marker import HARMLESS_ENTRIES, MARKER_NAME, BadMarkerError, Marker
from .protocol import Put, Space
from .states import ErrorKind

TEMPORARY_FOLDER: Final = ".scrigno-tmp"  # for the rare named temporary; swept when armed
PROBE_NAME: Final = ".scrigno-probe"
PROBE_BYTES: Final = 4096
CACHED_DIRECTORIES: Final = 256  # descriptors; a series being received is one
PREALLOCATE_FROM_BYTES: Final = 1 << 20  # below, delayed allocation reserves the room as well
FILE_MODE: Final = 0o640
FOLDER_MODE: Final = 0o750

_NO_UNNAMED_FILES = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL})


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


@dataclass(frozen=True, slots=True)
class PutDone:
    """How a put ended; `existing` is the digest that was there."""

    outcome: Put
    free_bytes: int
    existing: bytes = bytes(32)


class Tree:
    """What stands at a volume's path; refuses every write until `arm` has named its uuid."""

    def __init__(self, path: Path) -> None:
        """Remember the path; nothing is opened."""
        self._path = path
        self._root: Directory | None = None
        self._identity = (0, 0)
        self._uuid: str | None = None
        self._lock = threading.Lock()  # protects _directories and publishing by rename
        self._directories: OrderedDict[tuple[str, ...], Directory] = OrderedDict()

    # -- identity ----------------------------------------------------------------------------

    def open(self) -> dict[str, Any]:
        """Open the root anew and say what stands there: marker, emptiness, device, space.

        Holds nothing open when there is no folder. Raises Refused(ABSENT | IO).
        """
        self.close()
        try:
            root = Directory(os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise Refused(ErrorKind.ABSENT, f"{self._path} is not a folder") from error
        about = os.fstat(root.fd)
        marker, trouble = _read_marker(root.fd)
        others = [name for name in names_in(root.fd) if name not in HARMLESS_ENTRIES]
        self._root = root
        self._identity = (about.st_dev, about.st_ino)
        space = self.space()
        return {
            "marker": marker,
            "trouble": trouble,
            "empty": not others,
            "device": about.st_dev,
            "total_bytes": space.total_bytes,
            "free_bytes": space.free_bytes,
        }

    def close(self) -> None:
        """Let go of every descriptor, so that the filesystem can be unmounted."""
        self._uuid = None
        self._root = None
        with self._lock:
            self._directories.clear()

    def mark(self, marker: Marker) -> None:
        """Write the marker over an older one; durable on return."""
        self._still_there()
        self._replace(self._opened(), MARKER_NAME, marker.text(), temporary=MARKER_NAME + ".new")

    def arm(self, uuid: str) -> None:
        """Allow writes from now on, as long as this uuid stands at the path."""
        self._uuid = uuid
        self.check()
        self._sweep()

    def check(self) -> None:
        """Raise Refused(ABSENT | FOREIGN) unless path and marker are those that were armed."""
        self._still_there()
        root = self._opened()
        marker, _ = _read_marker(root.fd)
        if marker is None:
            raise Refused(ErrorKind.ABSENT, "its marker has gone")
        if marker.get("uuid") != self._uuid:
            raise Refused(ErrorKind.FOREIGN, "another volume stands at this path (wrong disk)")

    def _opened(self) -> Directory:
        root = self._root
        if root is None:
            raise Refused(ErrorKind.ABSENT, "the volume is not open")
        return root

    def _writable(self) -> Directory:
        root = self._opened()
        if self._uuid is None:
            raise Refused(ErrorKind.FOREIGN, "the volume has not been identified")
        self._still_there()
        return root

    def _still_there(self) -> None:
        # A held descriptor goes on writing "successfully" into a filesystem that was lazily
        # unmounted, so every write asks whether the path still leads to the same directory (2 µs).
        try:
            about = os.stat(self._path)  # noqa: PTH116 - half the time of Path.stat
        except FileNotFoundError as error:
            raise Refused(ErrorKind.ABSENT, f"{self._path} has gone") from error
        if (about.st_dev, about.st_ino) != self._identity:
            raise Refused(ErrorKind.ABSENT, "it was unmounted, or another disk was mounted over it")

    # -- space and health --------------------------------------------------------------------

    def space(self) -> Space:
        """Return what statvfs says; it says it of a dead disk too, so this proves nothing."""
        root = self._opened()
        about = os.fstatvfs(root.fd)
        return Space(
            total_bytes=about.f_blocks * about.f_frsize, free_bytes=about.f_bavail * about.f_frsize
        )

    def _room_for(self, size: int) -> int:
        root = self._opened()
        about = os.fstatvfs(root.fd)
        free = about.f_bavail * about.f_frsize
        reserve = reserve_bytes(about.f_blocks * about.f_frsize)
        if free - size < reserve:
            raise Refused(
                ErrorKind.FULL, f"{free >> 20} MiB free, {reserve >> 20} MiB are kept in reserve"
            )
        if about.f_files and not about.f_favail:
            raise Refused(ErrorKind.FULL, "no inode is free")
        return free - size

    def probe(self) -> Space:
        """Write, fsync, rename, fsync the root, drop the cache, read back and compare."""
        root = self._writable()
        self.check()
        content = secrets.token_bytes(PROBE_BYTES)
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        fd = os.open(PROBE_NAME + ".new", flags, FILE_MODE, dir_fd=root.fd)
        try:
            write_all(fd, content)
            os.fsync(fd)
            os.rename(PROBE_NAME + ".new", PROBE_NAME, src_dir_fd=root.fd, dst_dir_fd=root.fd)
            os.fsync(root.fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            if os.pread(fd, PROBE_BYTES + 1, 0) != content:
                raise Refused(ErrorKind.IO, "the probe read back other bytes than it had written")
        finally:
            os.close(fd)
        return self.space()

    # -- writing -----------------------------------------------------------------------------

    def put(self, key: str, source: int, size: int, digest: bytes, alive: Alive) -> PutDone:
        """Copy `size` bytes of the descriptor `source` to `key`; durable on return.

        Only the size is verified: the bytes were hashed on their way into staging and the kernel
        copies between two page caches. A second hash here would cost as much as the fsync and
        prove nothing about the disk; `digest()` re-reads from the disk and does.
        """
        self._writable()
        parts = split_key(key)
        for _ in range(2):
            try:
                return self._put_once(parts, source, size, digest, alive)
            except FileNotFoundError:
                # the cached directory was removed behind our back: look it up again, once
                self._forget(parts[:-1])
        raise Refused(ErrorKind.IO, "the folder vanishes again and again")

    def _put_once(
        self, parts: tuple[str, ...], source: int, size: int, digest: bytes, alive: Alive
    ) -> PutDone:
        folder = self._folder(parts[:-1])
        name = parts[-1]
        if exists(folder.fd, name):
            return self._compare(folder, name, size, digest, alive)
        free = self._room_for(size)
        fd, temporary = self._unnamed(folder)
        try:
            if size >= PREALLOCATE_FROM_BYTES:
                preallocate(fd, size)
            copy(source, fd, size, alive)
            if os.fstat(fd).st_size != size:
                raise Refused(ErrorKind.IO, "the copy has not the size of the object")
            os.fsync(fd)
            try:
                self._publish(fd, temporary, folder, name)
            except FileExistsError:
                return self._compare(folder, name, size, digest, alive)
        finally:
            os.close(fd)
            if temporary is not None:
                self._unlink_temporary(temporary)
        self._settle(folder, name)
        return PutDone(Put.STORED, free)

    def link(self, source_key: str, target_key: str, alive: Alive) -> PutDone:
        """Give the object at `source_key` a second name; durable on return."""
        self._writable()
        source_parts, parts = split_key(source_key), split_key(target_key)
        source_folder = self._existing(source_parts[:-1])
        folder = self._folder(parts[:-1])
        name = parts[-1]
        try:
            os.link(
                source_parts[-1],
                name,
                src_dir_fd=source_folder.fd,
                dst_dir_fd=folder.fd,
                follow_symlinks=False,
            )
        except FileExistsError:
            digest, size, _ = self.digest(source_key, 0, alive)
            return self._compare(folder, name, size, digest, alive)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK):
                raise
            return self._link_by_copy(source_key, target_key, alive)
        self._settle(folder, name)
        return PutDone(Put.STORED, self.space().free_bytes)

    def _link_by_copy(self, source_key: str, target_key: str, alive: Alive) -> PutDone:
        # a filesystem without hard links (exFAT, some shares)
        digest, size, _ = self.digest(source_key, 0, alive)
        fd = self._open_file(source_key)
        try:
            return self.put(target_key, fd, size, digest, alive)
        finally:
            os.close(fd)

    def rename(self, source_key: str, target_key: str) -> bool:
        """Give the object at `source_key` another name; durable on return.

        One step: it never stands under both names, and it needs no room but that of a directory
        entry, so it works on a full volume too. False when the target is there: nothing is
        changed then. Raises Refused(MISSING) when there is no such object.
        """
        self._writable()
        source, target = split_key(source_key), split_key(target_key)
        for _ in range(2):
            try:
                return self._rename_once(source, target)
            except FileNotFoundError:
                # the object is not there, or a cached directory was removed behind our back
                self._forget(source[:-1])
                self._forget(target[:-1])
        raise Refused(ErrorKind.MISSING, f"no object {source_key}")

    def _rename_once(self, source: tuple[str, ...], target: tuple[str, ...]) -> bool:
        source_folder = self._existing(source[:-1])
        os.stat(source[-1], dir_fd=source_folder.fd, follow_symlinks=False)  # before any mkdir
        folder = self._folder(target[:-1])
        with self._lock:  # this process is the only writer: nothing is renamed over
            if exists(folder.fd, target[-1]):
                return False
            os.rename(source[-1], target[-1], src_dir_fd=source_folder.fd, dst_dir_fd=folder.fd)
        os.fsync(folder.fd)
        os.fsync(source_folder.fd)
        self._still_there()
        self._drop_empty_folders(source)
        return True

    def put_bytes(self, key: str, content: bytes, *, from_reserve: bool = False) -> None:
        """Write a small file atomically, over an older one too; durable on return.

        `from_reserve`: also when only the reserve of a full volume is left.
        """
        self._writable()
        parts = split_key(key)
        if not from_reserve:
            self._room_for(len(content))
        self._replace(self._folder(parts[:-1]), parts[-1], content)

    def remove(self, key: str) -> bool:
        """Unlink; durable on return. Folders that are empty then go too, the top one stays."""
        self._writable()
        parts = split_key(key)
        try:
            folder = self._existing(parts[:-1])
            os.unlink(parts[-1], dir_fd=folder.fd)
        except FileNotFoundError:
            return False
        os.fsync(folder.fd)
        self._drop_empty_folders(parts)
        return True

    def _drop_empty_folders(self, parts: tuple[str, ...]) -> None:
        """Remove the folders above a key that are empty now, the top one stays."""
        for depth in range(len(parts) - 1, 1, -1):
            try:
                parent = self._existing(parts[: depth - 1])
                self._forget(parts[:depth])
                os.rmdir(parts[depth - 1], dir_fd=parent.fd)
            except OSError:
                break  # not empty, which is the usual case, or another thread was first

    def _unnamed(self, folder: Directory) -> tuple[int, str | None]:
        flags = os.O_RDWR | os.O_CLOEXEC
        try:
            return os.open(".", flags | os.O_TMPFILE, FILE_MODE, dir_fd=folder.fd), None
        except OSError as error:
            if error.errno not in _NO_UNNAMED_FILES:
                raise
        # no O_TMPFILE here (NFS, SMB, FUSE): a name in the folder that is swept when armed
        temporary = secrets.token_hex(16)
        swept = self._folder((TEMPORARY_FOLDER,))
        fd = os.open(temporary, flags | os.O_CREAT | os.O_EXCL, FILE_MODE, dir_fd=swept.fd)
        return fd, temporary

    def _publish(self, fd: int, temporary: str | None, folder: Directory, name: str) -> None:
        if temporary is None:
            os.link(f"/proc/self/fd/{fd}", name, dst_dir_fd=folder.fd, follow_symlinks=True)
            return
        swept = self._folder((TEMPORARY_FOLDER,))
        try:
            os.link(temporary, name, src_dir_fd=swept.fd, dst_dir_fd=folder.fd)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP):
                raise
            with self._lock:  # no links either: this process is the only writer
                if exists(folder.fd, name):
                    raise FileExistsError(errno.EEXIST, name) from error
                os.rename(temporary, name, src_dir_fd=swept.fd, dst_dir_fd=folder.fd)

    def _settle(self, folder: Directory, name: str) -> None:
        """Make the new name durable, or take it back; and be sure it is where we think."""
        try:
            os.fsync(folder.fd)
            self._still_there()
        except (OSError, Refused):
            # a dead disk takes nothing back; reconcile then finds a whole, valid object
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=folder.fd)
            raise

    def _replace(
        self, folder: Directory, name: str, content: bytes, *, temporary: str | None = None
    ) -> None:
        swept = folder if temporary else self._folder((TEMPORARY_FOLDER,))
        temporary = temporary or secrets.token_hex(16)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        fd = os.open(temporary, flags, FILE_MODE, dir_fd=swept.fd)
        try:
            write_all(fd, content)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, name, src_dir_fd=swept.fd, dst_dir_fd=folder.fd)
        os.fsync(folder.fd)

    def _compare(
        self, folder: Directory, name: str, size: int, digest: bytes, alive: Alive
    ) -> PutDone:
        """Tell SAME from CONFLICT; SAME is made durable, its first writer may have died early."""
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=folder.fd)
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            existing, existing_size, _ = hash_file(fd, 0, alive)
            free = self.space().free_bytes
            if existing != digest or existing_size != size:
                return PutDone(Put.CONFLICT, free, existing)
            os.fsync(fd)
            os.fsync(folder.fd)
            return PutDone(Put.SAME, free, existing)
        finally:
            os.close(fd)

    # -- reading -----------------------------------------------------------------------------

    def stat(self, key: str) -> int | None:
        """Return the size of an object, or None."""
        parts = split_key(key)
        try:
            folder = self._existing(parts[:-1])
            about = os.stat(parts[-1], dir_fd=folder.fd, follow_symlinks=False)
        except FileNotFoundError:
            return None
        return about.st_size if stat.S_ISREG(about.st_mode) else None

    def read(self, key: str, offset: int, length: int, alive: Alive) -> tuple[int, int]:
        """Return a memfd with that part of the object, and how many bytes that is."""
        fd = self._open_file(key)
        try:
            return into_memory(fd, offset, length, alive)
        finally:
            os.close(fd)

    def digest(self, key: str, head: int, alive: Alive) -> tuple[bytes, int, bytes]:
        """Read the object from the disk, not from the cache: SHA-256, size, first `head` bytes."""
        fd = self._open_file(key)
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            return hash_file(fd, head, alive)
        finally:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)

    def walk(self, prefix: str, after: str) -> Iterator[tuple[str, int]]:
        """Yield key and size under the folder `prefix`, sorted part by part, after the key `after`.

        What is no key (our own files, files that others put there) is passed over.
        """
        parts = split_key(prefix) if prefix else ()
        beyond = tuple(after.split("/"))[len(parts) :] if after else ()
        try:
            folder = self._existing(parts)
        except FileNotFoundError:
            return
        yield from walk_folder(folder.fd, parts, beyond)

    def _open_file(self, key: str) -> int:
        parts = split_key(key)
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            folder = self._existing(parts[:-1])
            try:
                return os.open(parts[-1], flags, dir_fd=folder.fd)
            except FileNotFoundError:
                self._forget(parts[:-1])  # perhaps the cached folder was replaced
                folder = self._existing(parts[:-1])
                return os.open(parts[-1], flags, dir_fd=folder.fd)
        except FileNotFoundError as error:
            raise Refused(ErrorKind.MISSING, f"no object {key}") from error

    # -- directories -------------------------------------------------------------------------

    def _folder(self, parts: tuple[str, ...]) -> Directory:
        """Return the folder, made if need be; itself and all its parents durable."""
        with self._lock:
            cached = self._directories.get(parts)
            if cached is not None:
                self._directories.move_to_end(parts)
                return cached
        if not parts:
            return self._opened()
        parent = self._folder(parts[:-1])
        with contextlib.suppress(FileExistsError):
            os.mkdir(parts[-1], FOLDER_MODE, dir_fd=parent.fd)
        # Also when it was there: another thread, or a worker that was killed, may have made it
        # and not come to its fsync. Nothing is pending most of the time, then this costs nothing.
        os.fsync(parent.fd)
        return self._remember(parts, parent)

    def _existing(self, parts: tuple[str, ...]) -> Directory:
        """Return a folder that is there; raises FileNotFoundError. Not known to be durable."""
        with self._lock:
            cached = self._directories.get(parts)
        if cached is not None:
            return cached
        directory = self._opened()
        for part in parts:
            directory = _open_folder(part, directory)
        return directory

    def _remember(self, parts: tuple[str, ...], parent: Directory) -> Directory:
        directory = _open_folder(parts[-1], parent)
        with self._lock:
            self._directories[parts] = directory
            while len(self._directories) > CACHED_DIRECTORIES:
                self._directories.popitem(last=False)
        return directory

    def _forget(self, parts: tuple[str, ...]) -> None:
        with self._lock:
            for depth in range(len(parts), 0, -1):
                self._directories.pop(parts[:depth], None)

    def _sweep(self) -> None:
        """Remove named temporaries that a killed worker left."""
        try:
            swept = self._existing((TEMPORARY_FOLDER,))
        except FileNotFoundError:
            return
        for name in names_in(swept.fd):
            os.unlink(name, dir_fd=swept.fd)

    def _unlink_temporary(self, temporary: str) -> None:
        # published by rename, or the disk is dead: what is left is swept when it is armed again
        with contextlib.suppress(OSError):
            folder = self._folder((TEMPORARY_FOLDER,))
            os.unlink(temporary, dir_fd=folder.fd)


def _open_folder(part: str, parent: Directory) -> Directory:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    return Directory(os.open(part, flags, dir_fd=parent.fd))


def _read_marker(root: int) -> tuple[dict[str, Any] | None, str]:
    """Return the marker document, or None with what is wrong with it ("" when there is none)."""
    try:
        fd = os.open(MARKER_NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=root)
    except FileNotFoundError:
        return None, ""
    try:
        document = json.loads(os.pread(fd, 1 << 16, 0))
        Marker.parse(document)
    except (ValueError, BadMarkerError, AttributeError) as error:
        return None, str(error)
    finally:
        os.close(fd)
    return document, ""
