# SPDX-License-Identifier: Apache-2.0
"""Staging: where an object stands from its first byte until every volume has it.

The journal directory *is* the journal. An object is an O_TMPFILE (no name, so a crash leaves
nothing) until `Sealed.keep` has made its bytes and its note durable and linked it in; what stands
in the directory after a crash is taken in again. The note is an extended attribute of the file:
set before the fsync, it becomes durable with the bytes and the file stays a plain Part 10 file.

The main process may touch this directory (it is on the system SSD), but only in the bounded
executor made here.
"""

import asyncio
import contextlib
import errno
import hashlib
import json
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from scrigno.core.counters import Counters

from .files import SYNC_EVERY_BYTES, reserve_bytes, write_all
from .hands import Hands
from .sealed import (
    NOTE_ATTRIBUTE,
    NOTE_LIMIT_BYTES,
    ObjectTooLarge,
    OpenFile,
    Sealed,
    StagingFailed,
    StagingFull,
    failed,
)

if TYPE_CHECKING:
    from scrigno.core.errors import ScrignoError

# what the rooms above need stands in one place
__all__ = [
    "NOTE_LIMIT_BYTES",
    "JournalEntry",
    "ObjectTooLarge",
    "Sealed",
    "StagedObject",
    "Staging",
    "StagingFailed",
    "StagingFull",
]

HASH_BYTES: Final = 32 << 10  # at a time in the loop: some 20 µs
HEAD_BYTES: Final = 256 << 10  # what header readers may look at without a read
THREADS: Final = 8  # concurrent fsyncs share journal commits; more threads bring nothing
POOLED_BUFFERS: Final = 16
JOURNAL_FOLDER: Final = "journal"
CLOSE_AFTER_S: Final = 0.05  # then all files that were let go are closed in one job

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalEntry:
    """One object that stands in the journal."""

    name: str
    path: Path
    size: int
    note: Mapping[str, str]


class Staging:
    """The staging directory. Loop thread only, except what it runs in its own executor."""

    def __init__(
        self,
        root: Path,
        *,
        capacity_bytes: int,
        counters: Counters,
        high_water_bytes: int = 1 << 20,
    ) -> None:
        """Nothing is touched before `open()`.

        `capacity_bytes` bounds what stands in the journal plus what is arriving. One object holds
        at most twice `high_water_bytes` in memory.
        """
        self.device = 0  # st_dev, once open
        self.high_water_bytes = high_water_bytes
        self._buffers: list[memoryview] = []
        self._folder_path = root / JOURNAL_FOLDER
        self._capacity_bytes = capacity_bytes
        self._counters = counters
        self._hands: Hands | None = None
        self._let_go: list[int] = []  # descriptors to be closed
        self._closing: asyncio.TimerHandle | None = None
        self._folder_fd = -1
        self._arriving_bytes = 0
        self._lock = threading.Lock()  # protects the next two, which executor threads change
        self._sizes: dict[str, int] = {}  # journal name -> bytes
        self._standing_bytes = 0

    async def open(self) -> None:
        """Make the journal directory and count what stands in it.

        Raises StagingFailed in words when the directory cannot serve.
        """
        self._hands = Hands(THREADS, "staging")
        try:
            self._folder_fd, self.device, self._sizes = await self.run(self._open)
            self._standing_bytes = sum(self._sizes.values())
        except OSError as error:
            await self.close()
            raise StagingFailed(
                f"staging {self._folder_path}: {os.strerror(error.errno or 0)}.",
                next_step="It must be a folder on a local SSD (ext4, XFS or btrfs) that the "
                "service may write to.",
            ) from error

    async def close(self) -> None:
        """Let the executor go when its running jobs have ended, at most after 5 s; idempotent."""
        hands, self._hands = self._hands, None
        if hands is None:
            return
        if self._let_go:
            self._close_let_go(hands)
        hands.dismiss()
        deadline = time.monotonic() + 5
        # a thread that hangs in the kernel cannot be joined; it ends with the process
        while not hands.gone:
            if time.monotonic() > deadline:
                return
            await asyncio.sleep(0.005)
        if self._folder_fd >= 0:
            os.close(self._folder_fd)
            self._folder_fd = -1

    @property
    def used_bytes(self) -> int:
        """Bytes that stand in the journal plus bytes that are arriving."""
        return self._standing_bytes + self._arriving_bytes

    @property
    def full(self) -> bool:
        """Whether what stands and arrives has reached the capacity."""
        return self.used_bytes >= self._capacity_bytes

    def begin(self, prefix: bytes, *, limit_bytes: int) -> "StagedObject":
        """Start an object whose first bytes are `prefix`; touches no disk.

        `limit_bytes` counts the prefix too; what goes over it is not kept and `seal` says so.
        """
        return StagedObject(self, prefix, limit_bytes)

    async def journal(self) -> list[JournalEntry]:
        """Return what stands in the journal, oldest first; raises StagingFailed."""
        try:
            return await self.run(self._read_journal)
        except OSError as error:
            raise failed(error) from error

    async def open_entry(self, name: str) -> Sealed:
        """Open a journal entry again; its digest is computed anew. Raises StagingFailed."""

        def job() -> tuple[int, str, int]:
            fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=self._folder_fd)
            hasher, size = hashlib.sha256(), 0
            buffer = bytearray(1 << 20)
            view = memoryview(buffer)
            try:
                while count := os.preadv(fd, [buffer], size):
                    hasher.update(view[:count])
                    size += count
            except BaseException:
                os.close(fd)
                raise
            return fd, hasher.hexdigest(), size

        try:
            fd, digest, size = await self.run(job)
        except OSError as error:
            raise failed(error) from error
        return Sealed(self, OpenFile(self, fd), digest=digest, size=size, name=name)

    async def release(self, name: str) -> None:
        """Forget a journal entry; harmless when it is gone.

        Not fsynced: a lost unlink only makes the next start repeat idempotent work.
        """
        try:
            await self.run(self._unlink, name)
        except OSError as error:
            raise failed(error) from error

    def run(
        self, job: Callable[..., T], *args: object, over: Callable[[], None] | None = None
    ) -> asyncio.Future[T]:
        """Run blocking work on the staging device in the bounded executor; see `Hands.run`."""
        if self._hands is None:
            raise StagingFailed("staging is closed")
        return self._hands.run(job, *args, over=over)

    def reserve(self, size: int) -> bool:
        """Count `size` bytes more as arriving; False when they do not fit."""
        if self.used_bytes + size > self._capacity_bytes:
            return False
        self._arriving_bytes += size
        return True

    def settle(self, size: int) -> None:
        """Count `size` bytes less as arriving."""
        self._arriving_bytes -= size

    def take_buffer(self) -> memoryview:
        """Return a buffer of `high_water_bytes`, used before if there is one."""
        if self._buffers:
            return self._buffers.pop()
        return memoryview(bytearray(self.high_water_bytes))

    def give_buffer(self, buffer: memoryview) -> None:
        """Take back a buffer that no job uses any more."""
        if len(buffer) == self.high_water_bytes and len(self._buffers) < POOLED_BUFFERS:
            self._buffers.append(buffer)

    def close_fd(self, fd: int, *, soon: bool) -> None:
        """Close a descriptor in the executor, at once or with others a little later."""
        hands = self._hands
        if hands is None:
            os.close(fd)
            return
        self._let_go.append(fd)
        if soon:
            self._close_let_go(hands)
        elif self._closing is None:
            loop = asyncio.get_running_loop()
            self._closing = loop.call_later(CLOSE_AFTER_S, self._close_let_go, hands)

    def _close_let_go(self, hands: Hands) -> None:
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None
        fds, self._let_go = self._let_go, []
        _ = hands.run(_close_all, fds)

    # -- in the executor ---------------------------------------------------------------------

    def _open(self) -> tuple[int, int, dict[str, int]]:
        self._folder_path.mkdir(parents=True, exist_ok=True)
        fd = os.open(self._folder_path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            probe = self.unnamed(fd)
            try:
                os.setxattr(probe, NOTE_ATTRIBUTE, b"{}")
            finally:
                os.close(probe)
            with os.scandir(fd) as entries:
                sizes = {entry.name: entry.stat().st_size for entry in entries}
            return fd, os.fstat(fd).st_dev, sizes
        except BaseException:
            os.close(fd)
            raise

    def unnamed(self, folder: int | None = None) -> int:
        """Open an unnamed file; raises OSError(ENOSPC) when the reserve would be touched."""
        flags = os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC
        fd = os.open(".", flags, 0o640, dir_fd=self._folder_fd if folder is None else folder)
        about = os.fstatvfs(fd)
        if about.f_bavail * about.f_frsize < reserve_bytes(about.f_blocks * about.f_frsize):
            os.close(fd)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return fd

    def link_in(self, fd: int, note: bytes, size: int) -> str:
        """Make the unnamed file and its note durable under a new name."""
        os.setxattr(fd, NOTE_ATTRIBUTE, note)
        os.fsync(fd)
        name = f"{time.time_ns():020d}-{os.urandom(4).hex()}"  # sorts by age
        source = f"/proc/self/fd/{fd}"
        os.link(source, name, dst_dir_fd=self._folder_fd, follow_symlinks=True)
        with self._lock:
            self._sizes[name] = size
            self._standing_bytes += size
        try:
            os.fsync(self._folder_fd)
        except OSError:
            with contextlib.suppress(OSError):
                self._unlink(name)
            raise
        return name

    def _unlink(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._folder_fd)
        with self._lock:
            self._standing_bytes -= self._sizes.pop(name, 0)

    def _read_journal(self) -> list[JournalEntry]:
        entries = []
        with os.scandir(self._folder_fd) as found:
            names = sorted(entry.name for entry in found)
        for name in names:
            path = self._folder_path / name
            try:
                note = json.loads(os.getxattr(path, NOTE_ATTRIBUTE))
            except (OSError, ValueError):
                note = {}  # not made by us, or by a hand that copied files without attributes
            with contextlib.suppress(FileNotFoundError):  # released in the meantime
                size = path.stat().st_size
                entries.append(JournalEntry(name=name, path=path, size=size, note=note))
        return entries


class StagedObject:
    """An object that is arriving. Loop thread only.

    Bytes gather in a buffer of `high_water_bytes` taken from a pool (fresh memory costs more in
    page faults than the copy into it). A full one is written out while the next one fills.
    """

    def __init__(self, staging: Staging, prefix: bytes, limit_bytes: int) -> None:
        """Use `Staging.begin`."""
        self.on_drain: Callable[[], None] | None = None
        self.size = 0
        self._staging = staging
        self._limit = limit_bytes
        self._file = OpenFile(staging)
        self._buffer = staging.take_buffer()
        self._filled = 0
        self._full: deque[memoryview] = deque()  # waiting to be written out
        self._head = b""
        self._hasher = hashlib.sha256()
        self._hashed = 0  # bytes of the buffer being written out that are hashed already
        self._turned = False  # the first buffer is full: threads hash now
        self._unsynced = 0
        self._flush: asyncio.Task[None] | None = None
        self._error: ScrignoError | None = None
        self._reserved = 0
        self._owes_drain = False  # write() has answered False
        self._over = False
        self.write(prefix)

    def write(self, fragment: memoryview | bytes) -> bool:
        """Take a copy of `fragment`; False asks the caller to stop until `on_drain` is called."""
        length = len(fragment)
        self.size += length
        if self._error is not None or self._over:
            return True  # drained without being kept; seal() says why
        if self.size > self._limit:
            self._error = ObjectTooLarge(f"the object is larger than {self._limit} bytes")
            return True
        end = self._filled + length
        if end <= len(self._buffer):
            self._buffer[self._filled : end] = fragment
            self._filled = end
            if not self._turned and end - self._hashed >= HASH_BYTES:
                # Beside the sender's work; later buffers are hashed by the thread that writes them.
                self._hasher.update(self._buffer[self._hashed : end])
                self._hashed = end
        else:
            self._spread(memoryview(fragment))
        if not self._full:
            return True
        self._owes_drain = True
        return False

    def _spread(self, fragment: memoryview) -> None:
        while fragment and self._error is None:
            count = min(len(fragment), len(self._buffer) - self._filled)
            self._buffer[self._filled : self._filled + count] = fragment[:count]
            self._filled += count
            fragment = fragment[count:]
            if self._filled == len(self._buffer) and fragment:
                self._turn_over()

    def _turn_over(self) -> None:
        """Hand the full buffer to the flush and begin the next one."""
        self._turned = True
        self._head = self.head
        try:
            self._reserve_room()
        except StagingFull as error:
            self._error = error
            return
        self._full.append(self._buffer)
        self._buffer, self._filled = self._staging.take_buffer(), 0
        if self._flush is None:
            content = self._full.popleft()
            self._flush = asyncio.get_running_loop().create_task(self._flush_out(content))

    @property
    def head(self) -> bytes:
        """The first bytes of the file (prefix included), at most HEAD_BYTES."""
        return self._head or bytes(self._buffer[: min(self._filled, HEAD_BYTES)])

    def seal_early(self) -> Sealed | None:
        """Answer a small object that is still to be written; None: it is for `seal` to answer.

        Whatever is done with it first writes it, so that no job of its own is needed for that.
        Raises StagingFull; nothing is left then.
        """
        if self._turned or self._over or self._error is not None:
            return None
        try:
            self._reserve_room()
        except StagingFull:
            self.discard()
            raise
        self._hasher.update(self._buffer[self._hashed : self._filled])  # under HASH_BYTES
        sealed = Sealed(
            self._staging,
            self._file,
            digest=self._hasher.hexdigest(),
            size=self.size,
            arriving=self._reserved,
            buffer=self._buffer,
        )
        self._over, self._reserved = True, 0
        self._buffer, self._filled = memoryview(bytearray()), 0
        return sealed

    async def seal(self) -> Sealed:
        """Write everything to the unnamed file and answer it, hashed.

        A small object is opened, written and hashed in one hop to the executor.
        Raises StagingFull, StagingFailed, ObjectTooLarge; nothing is left then.
        """
        try:
            while self._flush is not None:
                await asyncio.wait([self._flush])
            if self._error is not None:
                raise self._error
            if self._over:
                raise StagingFailed("the object was discarded")
            try:
                self._reserve_room()
                await self._file.run(self._write_out, self._buffer[: self._filled])
            except OSError as error:
                raise failed(error) from error
            if self._over:
                raise StagingFailed("the object was discarded while it was sealed")
        except BaseException:
            self.discard()
            raise
        sealed = Sealed(
            self._staging,
            self._file,
            digest=self._hasher.hexdigest(),
            size=self.size,
            arriving=self._reserved,
        )
        self._head, self._over, self._reserved = self.head, True, 0
        self._give_back()
        return sealed

    def discard(self) -> None:
        """Leave nothing; idempotent, harmless after seal()."""
        if self._over:
            return
        self._over = True
        self._full.clear()
        self._staging.settle(self._reserved)
        self._reserved = 0
        if not self._file.busy:
            self._give_back()
        self._file.close()

    def _give_back(self) -> None:
        self._staging.give_buffer(self._buffer)
        self._buffer, self._filled = memoryview(bytearray()), 0

    def _reserve_room(self) -> None:
        if not self._staging.reserve(self.size - self._reserved):
            raise StagingFull("staging has reached its capacity")
        self._reserved = self.size

    async def _flush_out(self, content: memoryview) -> None:
        try:
            while True:
                await self._file.run(self._write_out, content)
                self._staging.give_buffer(content)
                if not self._full:
                    break
                content = self._full.popleft()
        except OSError as error:
            self._error = failed(error)
        except StagingFailed as error:
            self._error = error
        finally:
            self._full.clear()
            self._flush = None
        if self._owes_drain and not self._over:
            self._owes_drain = False
            if self.on_drain is not None:
                self.on_drain()

    def _write_out(self, content: memoryview) -> None:
        if self._file.fd < 0:
            self._file.fd = self._staging.unnamed()
        write_all(self._file.fd, content)
        self._hasher.update(content[self._hashed :])
        self._hashed = 0  # of the next buffer
        self._unsynced += len(content)
        if self._unsynced >= SYNC_EVERY_BYTES:
            # a large object is written back as it comes, so that the last fsync is short
            self._unsynced = 0
            os.fdatasync(self._file.fd)


def _close_all(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)
