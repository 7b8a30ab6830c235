# SPDX-License-Identifier: Apache-2.0
"""The files of one volume, as its worker process handles them. Blocking; any thread of the worker.

A name becomes visible only by: unnamed file → all bytes → fsync → link → fsync of the folder, each
new parent fsynced before. A failed fsync is never repeated: the file is dropped, the caller writes
the object elsewhere. No file is mapped: a dying XFS answers that with SIGBUS.
"""

import contextlib
import errno
import hashlib
import os
import secrets
import stat
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from .beside import Lists, attribute, set_attribute
from .files import (
    FILE_MODE,
    FULL_FROM,
    NO_INODE,
    PROBE_NAME,
    Alive,
    Refused,
    copy,
    drop_names,
    exists,
    hash_file,
    hash_in_steps,
    into_memory,
    names_in,
    preallocate,
    probe_writing,
    reserve_bytes,
    walk_folder,
    write_all,
)
from .folders import Directory, Folders, mount_id
from .key_turns import KeyTurns
from .keys import split_key
from .marker import HARMLESS_ENTRIES, MARKER_NAME, Marker, read_marker
from .protocol import Put, Space
from .states import ErrorKind

TEMPORARY_FOLDER: Final = ".scrigno-tmp"  # for the rare named temporary; swept when armed
PREALLOCATE_FROM_BYTES: Final = 1 << 20  # below, delayed allocation reserves the room as well

_NO_UNNAMED_FILES = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL})
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK})
T = TypeVar("T")


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
        self._lock = threading.Lock()  # protects publishing by rename
        self._folders = Folders()
        self._turns = KeyTurns()  # who puts a name, or takes it away, is alone with it
        self._lists = Lists()
        self._vanished = 0  # folders that somebody else removed, since the last probe

    # -- identity ----------------------------------------------------------------------------

    def open(self) -> dict[str, Any]:
        """Open the root anew and say what stands there: marker, emptiness, device, space.

        `place` is the path without links, `mount` the id of its mount in mountinfo. Holds nothing
        open when there is no folder. Raises Refused(ABSENT | IO).
        """
        self.close()
        try:
            root = Directory(os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise Refused(ErrorKind.ABSENT, f"{self._path} is not a folder") from error
        about = os.fstat(root.fd)
        marker, trouble = read_marker(root.fd)
        others = [name for name in names_in(root.fd) if name not in HARMLESS_ENTRIES]
        self._root = root
        self._identity = (about.st_dev, about.st_ino)
        space = self.space()
        return {
            "marker": marker,
            "trouble": trouble,
            "empty": not others,
            "device": about.st_dev,
            "place": os.path.realpath(self._path),
            "mount": mount_id(root.fd),
            "space": asdict(space),
        }

    def close(self) -> None:
        """Let go of every descriptor, so that the filesystem can be unmounted."""
        self._uuid = None
        self._root = None
        self._folders.clear()

    def mark(self, marker: Marker) -> None:
        """Write the marker over an older one; durable on return.

        The temporary name is nobody else's: a killed worker that was stuck in the kernel finishes
        its last call when the disk goes on, and that call must not empty what we rename.
        """
        self._still_there()
        root = self._opened()
        drop_names(root.fd, MARKER_NAME + ".")
        temporary = f"{MARKER_NAME}.{secrets.token_hex(8)}"
        self._replace(root, MARKER_NAME, marker.text(), temporary=temporary)

    def arm(self, uuid: str) -> None:
        """Allow writes from now on, as long as this uuid stands at the path."""
        self._uuid = uuid
        self.check()
        self._sweep()

    def check(self) -> None:
        """Raise Refused(ABSENT | FOREIGN) unless path and marker are those that were armed."""
        self._still_there()
        root = self._opened()
        marker, _ = read_marker(root.fd)
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
        """Return what statvfs says; it says it of a dead disk too."""
        root = self._opened()
        about = os.fstatvfs(root.fd)
        return Space(
            total_bytes=about.f_blocks * about.f_frsize,
            free_bytes=about.f_bavail * about.f_frsize,
            total_inodes=about.f_files,
            free_inodes=about.f_favail,
        )

    def _room_for(self, size: int) -> int:
        root = self._opened()
        about = os.fstatvfs(root.fd)
        free = about.f_bavail * about.f_frsize
        reserve = reserve_bytes(about.f_blocks * about.f_frsize)
        if free - size < reserve:
            raise Refused(
                ErrorKind.FULL if free < FULL_FROM * reserve else ErrorKind.NO_ROOM,
                f"{free >> 20} MiB free, {reserve >> 20} MiB are kept in reserve",
            )
        if about.f_files and not about.f_favail:
            raise Refused(ErrorKind.FULL, NO_INODE)
        return free - size

    def vanished(self) -> int:
        """Return how many folders somebody else has removed since this was last asked."""
        count, self._vanished = self._vanished, 0
        return count

    def probe(self) -> Space:
        """Write, fsync, rename, fsync the root, drop the cache, read back and compare.

        Where no write is allowed the disk must at least read, else it is not there at all.
        """
        root = self._writable()
        self.check()
        space = self.space()
        if space.total_inodes and not space.free_inodes:
            return space  # no new file can be made, and that is what is to be told
        probe_writing(root.fd, MARKER_NAME)
        return self.space()

    # -- writing -----------------------------------------------------------------------------

    def put(self, key: str, source: int, size: int, digest: bytes, alive: Alive) -> PutDone:
        """Copy `size` bytes of the descriptor `source` to `key`; durable on return.

        Only the size is verified: the bytes were hashed on their way into staging. A second hash
        would cost as much as the fsync and prove nothing about the disk; `digest()` does.
        """
        self._writable()
        *parts, name = split_key(key)

        def put(folder: Directory) -> PutDone:
            return self._put_once(folder, name, source, size, digest, alive)

        with self._turns.of(key, alive=alive):
            return self._in_folder(tuple(parts), put)

    def _in_folder(self, parts: tuple[str, ...], work: Callable[[Directory], T]) -> T:
        """Do `work` in a folder, made if need be; once more when it was removed meanwhile."""
        for _ in range(2):
            folder = self._folder(parts)
            try:
                return work(folder)
            except OSError as error:
                if not folder.was_removed(error):
                    raise
            self._vanished += 1
            self._folders.forget(parts)
        raise Refused(ErrorKind.IO, "the folder vanishes again and again")

    def _put_once(
        self, folder: Directory, name: str, source: int, size: int, digest: bytes, alive: Alive
    ) -> PutDone:
        if exists(folder.fd, name):
            return self._compare(folder, name, size, digest, alive)
        free = self._room_for(size)
        fd, temporary = self._unnamed(folder)
        try:
            if size >= PREALLOCATE_FROM_BYTES:
                preallocate(fd, size)
            copy(source, fd, size, alive)
            noted = set_attribute(fd, digest)
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
        self._settle(folder, name, None if noted else digest)
        return PutDone(Put.STORED, free)

    def link(self, source_key: str, target_key: str, alive: Alive) -> PutDone:
        """Give the object at `source_key` a second name; durable on return."""
        self._writable()
        *parts, name = split_key(target_key)

        def link(folder: Directory) -> PutDone:
            return self._link_once(source_key, folder, name, alive)

        with self._turns.of(source_key, target_key, alive=alive):
            return self._in_folder(tuple(parts), link)

    def _link_once(self, source_key: str, folder: Directory, name: str, alive: Alive) -> PutDone:
        *source_parts, source_name = split_key(source_key)
        source_folder = self._existing(tuple(source_parts))
        listed = self._lists.find(source_folder.fd, source_name)
        try:
            os.link(
                source_name,
                name,
                src_dir_fd=source_folder.fd,
                dst_dir_fd=folder.fd,
                follow_symlinks=False,
            )
        except FileExistsError:
            digest, size, _ = self.digest(source_key, 0, alive)
            return self._compare(folder, name, size, digest, alive)
        except OSError as error:
            if error.errno not in _NO_LINKS or folder.was_removed(error):
                raise
            return self._link_by_copy(source_key, folder, name, alive)
        self._settle(folder, name, listed)
        return PutDone(Put.STORED, self.space().free_bytes)

    def _link_by_copy(self, source_key: str, folder: Directory, name: str, alive: Alive) -> PutDone:
        # a filesystem without hard links (exFAT, some shares)
        digest, size, _ = self.digest(source_key, 0, alive)
        fd = self._open_file(source_key)
        try:
            return self._put_once(folder, name, fd, size, digest, alive)
        finally:
            os.close(fd)

    def rename(self, source_key: str, target_key: str, alive: Alive = lambda: None) -> bool:
        """Give the object at `source_key` another name; durable on return.

        One step: it never stands under both names, and it needs no room but that of a directory
        entry, so it works on a full volume too. False when the target is there: nothing is
        changed then. Raises Refused(MISSING) when there is no such object.
        """
        self._writable()
        source, target = split_key(source_key), split_key(target_key)
        with self._turns.of(source_key, target_key, alive=alive):
            for _ in range(2):
                try:
                    return self._rename_once(source, target)
                except FileNotFoundError:
                    # the object is not there, or a cached directory was removed behind our back
                    self._folders.forget(source[:-1])
                    self._folders.forget(target[:-1])
        raise Refused(ErrorKind.MISSING, f"no object {source_key}")

    def _rename_once(self, source: tuple[str, ...], target: tuple[str, ...]) -> bool:
        source_folder = self._existing(source[:-1])
        os.stat(source[-1], dir_fd=source_folder.fd, follow_symlinks=False)  # before any mkdir
        folder = self._folder(target[:-1])
        with self._lock:  # this process is the only writer: nothing is renamed over
            if exists(folder.fd, target[-1]):
                return False
            os.rename(source[-1], target[-1], src_dir_fd=source_folder.fd, dst_dir_fd=folder.fd)
        listed = self._lists.find(source_folder.fd, source[-1])
        if listed is not None:
            self._lists.add(folder.fd, target[-1], listed)
            self._lists.replace(source_folder.fd, source[-1], None)
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
        *parts, name = split_key(key)
        if not from_reserve:
            self._room_for(len(content))

        def replace(folder: Directory) -> None:
            self._replace(folder, name, content, digest=hashlib.sha256(content).digest())

        self._in_folder(tuple(parts), replace)

    def remove(self, key: str, alive: Alive = lambda: None) -> bool:
        """Unlink; durable on return. Folders that are empty then go too, the top one stays."""
        self._writable()
        parts = split_key(key)
        with self._turns.of(key, alive=alive):
            return self._remove(parts)

    def _remove(self, parts: tuple[str, ...]) -> bool:
        for _ in range(2):
            try:
                folder = self._existing(parts[:-1])
                os.unlink(parts[-1], dir_fd=folder.fd)
                break
            except FileNotFoundError:
                self._folders.forget(parts[:-1])  # perhaps the cached folder was replaced
        else:
            return False
        self._lists.replace(folder.fd, parts[-1], None)
        os.fsync(folder.fd)
        self._drop_empty_folders(parts)
        return True

    def _drop_empty_folders(self, parts: tuple[str, ...]) -> None:
        """Remove the folders above a key that are empty now, the top one stays."""
        for depth in range(len(parts) - 1, 1, -1):
            try:
                parent = self._existing(parts[: depth - 1])
                self._folders.forget(parts[:depth])
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
        swept = self._swept()
        fd = os.open(temporary, flags | os.O_CREAT | os.O_EXCL, FILE_MODE, dir_fd=swept.fd)
        return fd, temporary

    def _publish(self, fd: int, temporary: str | None, folder: Directory, name: str) -> None:
        if temporary is None:
            os.link(f"/proc/self/fd/{fd}", name, dst_dir_fd=folder.fd, follow_symlinks=True)
            return
        swept = self._swept()
        try:
            os.link(temporary, name, src_dir_fd=swept.fd, dst_dir_fd=folder.fd)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP):
                raise
            with self._lock:  # no links either: this process is the only writer
                if exists(folder.fd, name):
                    raise FileExistsError(errno.EEXIST, name) from error
                os.rename(temporary, name, src_dir_fd=swept.fd, dst_dir_fd=folder.fd)

    def _settle(self, folder: Directory, name: str, listed: bytes | None) -> None:
        """Make the new name durable, or take it back; and be sure it is where we think.

        `listed` is the digest when the folder's list has to keep it.
        """
        try:
            if listed is not None:
                self._lists.add(folder.fd, name, listed)
            os.fsync(folder.fd)
            self._still_there()
        except (OSError, Refused):
            # a dead disk takes nothing back; reconcile then finds a whole, valid object
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=folder.fd)
            raise

    def _replace(
        self,
        folder: Directory,
        name: str,
        content: bytes,
        *,
        temporary: str | None = None,
        digest: bytes | None = None,
    ) -> None:
        swept = folder if temporary else self._swept()
        temporary = temporary or secrets.token_hex(16)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        fd = os.open(temporary, flags, FILE_MODE, dir_fd=swept.fd)
        try:
            write_all(fd, content)
            noted = digest is None or set_attribute(fd, digest)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, name, src_dir_fd=swept.fd, dst_dir_fd=folder.fd)
        if not noted:
            self._lists.replace(folder.fd, name, digest)
        os.fsync(folder.fd)

    def note(self, key: str, digest: bytes) -> None:
        """Keep the digest beside an object that is there; durable on return."""
        self._writable()
        parts = split_key(key)
        fd = self._open_file(key)
        try:
            if set_attribute(fd, digest):
                os.fsync(fd)
                return
        finally:
            os.close(fd)
        folder = self._existing(parts[:-1])
        self._lists.replace(folder.fd, parts[-1], digest)

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
            if attribute(fd) is None and not set_attribute(fd, digest):
                self._lists.replace(folder.fd, name, digest)
            os.fsync(fd)
            os.fsync(folder.fd)
            return PutDone(Put.SAME, free, existing)
        finally:
            os.close(fd)

    # -- reading -----------------------------------------------------------------------------

    def stat(self, key: str) -> int | None:
        """Return the size of an object, or None."""
        *parts, name = split_key(key)
        try:
            folder = self._existing(tuple(parts))
            about = os.stat(name, dir_fd=folder.fd, follow_symlinks=False)
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

    def digest_in_steps(self, key: str, step: int) -> Iterator[tuple[bytes, int]]:
        """Read as `digest` does and pause after each `step` bytes; the last has the digest."""
        yield from hash_in_steps(self._open_file(key), step)

    def beside(self, key: str) -> bytes | None:
        """Return the digest kept beside an object, None when there is none."""
        *parts, name = split_key(key)
        fd = self._open_file(key)
        try:
            kept = attribute(fd)
        finally:
            os.close(fd)
        if kept is not None:
            return kept
        folder = self._existing(tuple(parts))
        return self._lists.find(folder.fd, name)

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
                self._folders.forget(parts[:-1])  # perhaps the cached folder was replaced
                folder = self._existing(parts[:-1])
                return os.open(parts[-1], flags, dir_fd=folder.fd)
        except FileNotFoundError as error:
            raise Refused(ErrorKind.MISSING, f"no object {key}") from error

    # -- directories -------------------------------------------------------------------------

    def _folder(self, parts: tuple[str, ...]) -> Directory:
        return self._folders.made(self._opened(), parts)

    def _existing(self, parts: tuple[str, ...]) -> Directory:
        return self._folders.existing(self._opened(), parts)

    def _swept(self) -> Directory:
        """Return the folder of named temporaries, made anew when somebody removed it."""
        folder = self._folder((TEMPORARY_FOLDER,))
        if not os.fstat(folder.fd).st_nlink:
            self._folders.forget((TEMPORARY_FOLDER,))
            folder = self._folder((TEMPORARY_FOLDER,))
        return folder

    def _sweep(self) -> None:
        """Remove named temporaries that a killed worker left."""
        root = self._opened()
        drop_names(root.fd, f"{PROBE_NAME}.")
        try:
            swept = self._existing((TEMPORARY_FOLDER,))
        except FileNotFoundError:
            return
        drop_names(swept.fd)

    def _unlink_temporary(self, temporary: str) -> None:
        # published by rename, or the disk is dead: what is left is swept when it is armed again
        with contextlib.suppress(OSError):
            folder = self._swept()
            os.unlink(temporary, dir_fd=folder.fd)
