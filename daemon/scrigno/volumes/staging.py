# SPDX-License-Identifier: Apache-2.0
"""Staging: where an object stands from its first byte until every volume has it.

The journal directory *is* the journal. An object is an O_TMPFILE (no name, so a crash leaves
nothing) until `Sealed.keep` has made its bytes and its note durable and linked it in; what stands
in the directory after a crash is taken in again. The note is an extended attribute of the file:
set before the fsync, it becomes durable with the bytes and the file stays a plain Part 10 file.

The main process may touch this directory (it is on the system SSD), but only in the bounded
executor made here. When the disk under it fails or hangs, `failure` says so, everything asked of
it fails at once, arriving objects go to the spare spool, and it is probed in the background until
it has proved itself again. A thread that hangs in the kernel is left behind, never joined.
"""

import asyncio
import contextlib
import errno
import hashlib
import json
import logging
import os
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from scrigno.core.counters import Counters

from .arriving import StagedObject
from .files import reserve_bytes, write_all
from .hands import Hands, still_moving
from .sealed import (
    FULL_ERRORS,
    NOTE_ATTRIBUTE,
    NOTE_LIMIT_BYTES,
    ObjectTooLarge,
    OpenFile,
    Sealed,
    StagingFailed,
    StagingFull,
)
from .spool import Spool

# what the rooms above need stands in one place
__all__ = [
    "NOTE_LIMIT_BYTES",
    "JournalEntry",
    "ObjectTooLarge",
    "Patience",
    "Sealed",
    "StagedObject",
    "Staging",
    "StagingFailed",
    "StagingFull",
]

log = logging.getLogger(__name__)

THREADS: Final = 8  # concurrent fsyncs share journal commits; more threads bring nothing
POOLED_BUFFERS: Final = 16
JOURNAL_FOLDER: Final = "journal"
CLOSE_AFTER_S: Final = 0.05  # then all files that were let go are closed in one job
TICK_S: Final = 0.5
STUCK_LIMIT: Final = 16  # threads stuck in the kernel; with more nothing new is tried
FALLS_WINDOW_S: Final = 3600.0
PROBE_BYTES: Final = 4096
# What a dead disk says (reliability, section 2 and 3); anything else is asked of the probe.
_DEAD_ERRORS: Final = frozenset(
    {
        errno.EIO,
        errno.EROFS,
        errno.ENXIO,
        errno.ENODEV,
        errno.ESTALE,
        errno.ENOTCONN,
        errno.EUCLEAN,
        errno.ESHUTDOWN,
        errno.ETIMEDOUT,
    }
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long staging is waited for; seconds."""

    hang_s: float = 8.0  # no sign of life of a job: it hangs
    open_s: float = 2.0  # at the start (budget: 2 s to the first image)
    retry_s: float = 1.0  # between probes of a failed staging
    proofs: int = 3  # probes in a row before it is trusted again
    hold_s: float = 10.0  # it must hold this long after its first fall; doubles with each…
    hold_most_s: float = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalEntry:
    """One object that stands in the journal."""

    name: str
    path: Path
    size: int
    note: Mapping[str, str]


class _NoRoom(OSError):
    """The reserve would be touched: full, which is no failure."""


DevicesOf = Callable[[Path], Awaitable[frozenset[str]]]


def _nobody_late(name: str, note: Mapping[str, str]) -> None:
    """Stand in until somebody listens."""


class Staging:
    """The staging directory. Loop thread only, except what it runs in its own executor."""

    def __init__(
        self,
        root: Path,
        *,
        capacity_bytes: int,
        counters: Counters,
        high_water_bytes: int = 1 << 20,
        devices_of: DevicesOf | None = None,
        patience: Patience | None = None,
        spool: Spool | None = None,
    ) -> None:
        """Nothing is touched before `open()`.

        `capacity_bytes` bounds what stands in the journal plus what is arriving. One object holds
        at most twice `high_water_bytes` in memory, and what `arriving.KEPT_BYTES` allows besides.
        `devices_of` tells which physical disks a path stands on.
        """
        self.device = 0  # st_dev, once open
        self.devices: frozenset[str] = frozenset({"dev:staging"})  # until it is known better
        self.failure = ""  # why it takes nothing now, in words
        self.high_water_bytes = high_water_bytes
        self.kept_bytes = 0  # of arriving objects, in memory although they were written
        self.spool = spool or Spool()
        self.on_late: Callable[[str, Mapping[str, str]], None] = _nobody_late
        self._when_back: list[Callable[[], None]] = []
        self._buffers: list[memoryview] = []
        self._root = root
        self._folder_path = root / JOURNAL_FOLDER
        self._capacity_bytes = capacity_bytes
        self._counters = counters
        self._devices_of = devices_of
        self._patience = patience or Patience()
        self._hands: Hands | None = None  # None: closed, or failed
        self._left_behind: list[Hands] = []  # dismissed, not yet gone
        self._closer: Hands | None = None  # closes files of a failed disk, which may hang
        self._falls: list[float] = []
        self._keeper: asyncio.Task[None] | None = None  # brings it back
        self._ticker: asyncio.TimerHandle | None = None
        self._last_tick = 0.0
        self._let_go: list[int] = []  # descriptors to be closed
        self._closing: asyncio.TimerHandle | None = None
        self._folder_fd = -1
        self._arriving_bytes = 0
        self._lock = threading.Lock()  # protects the next two, which executor threads change
        self._sizes: dict[str, int] = {}  # journal name -> bytes
        self._standing_bytes = 0

    # life --------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Make the journal directory and count what stands in it.

        Raises StagingFailed in words when the directory is not fit for it. A disk that is dead or
        hangs is no reason not to start: `failure` says so, and it is waited for.
        """
        self._last_tick = asyncio.get_running_loop().time()
        self._tick()
        try:
            async with asyncio.timeout(self._patience.open_s):
                await self._reopen()
        except TimeoutError:
            self._fail("it does not answer, it seems to hang")
        except OSError as error:
            if error.errno in _DEAD_ERRORS:
                self._fail(os.strerror(error.errno or 0))
                return
            await self.close()
            raise StagingFailed(
                f"staging {self._folder_path}: {os.strerror(error.errno or 0)}.",
                next_step="It must be a folder on a local SSD (ext4, XFS or btrfs) that the "
                "service may write to.",
            ) from error

    async def _reopen(self) -> None:
        """Open the folder with fresh threads; raises OSError, StagingFailed."""
        hands = Hands(THREADS, "staging")
        try:
            fd, device, sizes = await hands.run(self._open)
        except BaseException:
            self._leave_behind(hands)
            raise
        self._hands = hands
        before, self._folder_fd, self.device = self._folder_fd, fd, device
        if before >= 0:
            self._close_aside([before])
        with self._lock:
            self._sizes, self._standing_bytes = sizes, sum(sizes.values())
        self.devices = frozenset({f"dev:{device}"})
        if self._devices_of is not None:
            self.devices = await self._devices_of(self._root) or self.devices

    async def close(self) -> None:
        """Let the executor go when its running jobs have ended, at most after 5 s; idempotent."""
        if self._ticker is not None:
            self._ticker.cancel()
            self._ticker = None
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
            self._keeper = None
        hands, self._hands = self._hands, None
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None
        fds, self._let_go = self._let_go, []
        self._close_aside(fds)
        self.spool.close()
        if hands is not None:
            self._leave_behind(hands)
        if self._closer is not None:
            self._closer.dismiss()
            self._left_behind.append(self._closer)
            self._closer = None
        deadline = time.monotonic() + (0.5 if self.failure else 5)
        # a thread that hangs in the kernel cannot be joined; it ends with the process
        while any(not each.gone for each in self._left_behind):
            if time.monotonic() > deadline:
                return
            await asyncio.sleep(0.005)
        if self._folder_fd >= 0:
            os.close(self._folder_fd)
            self._folder_fd = -1

    def when_back(self, tell: Callable[[], None]) -> None:
        """Have `tell` called whenever staging is back after a failure, and with it its journal."""
        self._when_back.append(tell)

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
            raise self.broken(error) from error

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
                    still_moving()
            except BaseException:
                os.close(fd)
                raise
            return fd, hasher.hexdigest(), size

        try:
            fd, digest, size = await self.run(job)
        except OSError as error:
            raise self.broken(error) from error
        return Sealed(self, OpenFile(self, fd), digest=digest, size=size, name=name)

    async def release(self, name: str) -> None:
        """Forget a journal entry; harmless when it is gone.

        Not fsynced: a lost unlink only makes the next start repeat idempotent work.
        """
        try:
            await self.run(self._unlink, name)
        except OSError as error:
            raise self.broken(error) from error

    def run(
        self, job: Callable[..., T], *args: object, over: Callable[[], None] | None = None
    ) -> asyncio.Future[T]:
        """Run blocking work on the staging device in the bounded executor; see `Hands.run`.

        Raises StagingFailed at once while it is down; the future gets it when the job hangs.
        """
        if self._hands is None:
            raise StagingFailed(f"staging: {self.failure or 'it is closed'}")
        return self._hands.run(job, *args, over=over)

    async def run_aside(self, job: Callable[..., T], *args: object) -> T:
        """Run blocking work on a disk that may hang, in a thread of its own."""
        self._forget_gone()
        if sum(each.threads for each in self._left_behind) >= STUCK_LIMIT:
            raise StagingFailed("staging: too many threads hang on it")
        hands = Hands(1, "staging-aside")
        running = hands.run(job, *args)
        hands.dismiss()
        self._left_behind.append(hands)
        return await running

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
        """Close a descriptor in a thread, at once or with others a little later."""
        self._let_go.append(fd)
        if soon:
            self._close_let_go()
        elif self._closing is None:
            loop = asyncio.get_running_loop()
            self._closing = loop.call_later(CLOSE_AFTER_S, self._close_let_go)

    def _close_let_go(self) -> None:
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None
        fds, self._let_go = self._let_go, []
        self._close_aside(fds)

    def _close_aside(self, fds: list[int]) -> None:
        """Close in a thread of its own: the last close of a file frees its blocks, and may hang.

        Not in those that are left behind with a failed disk: what waits there is never done.
        """
        if not fds:
            return
        if self._closer is None:
            self._closer = Hands(1, "staging-close")
        _ = self._closer.run(_close_all, fds)
        if self._ticker is None:  # closed: it is the last job
            self._closer.dismiss()
            self._left_behind.append(self._closer)
            self._closer = None

    # failing and coming back -------------------------------------------------------------------

    def broken(self, error: OSError) -> StagingFull | StagingFailed:
        """Return what an error means for an object, and take note of what it means for the disk."""
        if error.errno in FULL_ERRORS:
            return StagingFull("staging: no space left on the device")
        words = os.strerror(error.errno or 0)
        if error.errno in _DEAD_ERRORS:
            self._fail(words)
        return StagingFailed(f"staging: {words}")

    def _fail(self, reason: str) -> None:
        """Take it out of service: whatever is asked of it from now on fails at once."""
        if self.failure or self._ticker is None:
            return  # known, or being closed
        self.failure = reason
        self._counters.add("staging_failures")
        log.error(
            "staging %s: %s; objects go straight to the volumes until it is back",
            self._folder_path,
            reason,
        )
        hands, self._hands = self._hands, None
        if hands is not None:
            self._leave_behind(hands)
        now = time.monotonic()
        self._falls = [*(fall for fall in self._falls if now - fall < FALLS_WINDOW_S), now]
        self._keeper = asyncio.get_running_loop().create_task(self._bring_back(), name="staging")

    def _leave_behind(self, hands: Hands) -> None:
        if self.failure:
            hands.abandon(StagingFailed(f"staging: {self.failure}"))
        else:
            hands.dismiss()
        self._left_behind.append(hands)

    def _forget_gone(self) -> None:
        self._left_behind = [each for each in self._left_behind if not each.gone]

    def _tick(self) -> None:
        """Give up jobs that hang, and with the first of them the disk."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        late = now - self._last_tick - TICK_S
        self._last_tick = now
        self._forget_gone()
        watched = [*self._left_behind, *([] if self._hands is None else [self._hands])]
        for hands in watched:
            if late > TICK_S:
                # we slept (stopped, suspended); not the disk's fault
                hands.forgive(late)
                continue
            hanging = hands.overdue(self._patience.hang_s)
            if hanging:
                reason = f"no answer for {self._patience.hang_s:g} s, it seems to hang"
                for job in hanging:
                    job.give_up(StagingFailed(f"staging: {reason}"))
                if hands is self._hands:
                    self._fail(reason)
        self._ticker = loop.call_later(TICK_S, self._tick)

    async def _bring_back(self) -> None:
        """Probe it until it has proved itself, damped as a volume is."""
        patience = self._patience
        hold_s = min(patience.hold_s * 2 ** (len(self._falls) - 1), patience.hold_most_s)
        proofs = 0
        while True:
            await asyncio.sleep(patience.retry_s)
            self._forget_gone()
            if not self._left_behind and self._folder_fd >= 0:
                # a dead filesystem must not be held by us: it can be unmounted and mended
                fd, self._folder_fd = self._folder_fd, -1
                self._close_aside([fd])
            if proofs >= patience.proofs and time.monotonic() - self._falls[-1] >= hold_s:
                try:
                    async with asyncio.timeout(patience.hang_s):
                        await self._reopen()
                except (OSError, StagingFailed):  # TimeoutError is one
                    proofs = 0
                    continue
                break
            try:
                await self.run_aside(self._probe)
            except (OSError, StagingFailed):
                proofs = 0
            else:
                proofs += 1
        log.warning("staging %s: is back, it was away: %s", self._folder_path, self.failure)
        self.failure = ""
        self._keeper = None
        for tell in self._when_back:
            tell()

    # -- in the executor ---------------------------------------------------------------------

    def _open(self) -> tuple[int, int, dict[str, int]]:
        self._folder_path.mkdir(parents=True, exist_ok=True)
        fd = os.open(self._folder_path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with contextlib.suppress(_NoRoom):  # what stands there can be read all the same
                probe = self.unnamed(fd)
                try:
                    os.setxattr(probe, NOTE_ATTRIBUTE, b"{}")
                finally:
                    os.close(probe)
            sizes = {}
            with os.scandir(fd) as entries:
                for entry in entries:
                    sizes[entry.name] = entry.stat().st_size
                    still_moving()
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
            raise _NoRoom(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return fd

    def _probe(self) -> None:
        """Write, fsync and read back uncached, in the folder as it is found now; raises OSError."""
        folder = os.open(self._folder_path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with contextlib.suppress(_NoRoom):
                fd = self.unnamed(folder)
                try:
                    content = os.urandom(PROBE_BYTES)
                    write_all(fd, content)
                    os.fsync(fd)
                    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                    if os.pread(fd, PROBE_BYTES + 1, 0) != content:
                        raise OSError(errno.EIO, os.strerror(errno.EIO))
                finally:
                    os.close(fd)
            os.fsync(folder)
        finally:
            os.close(folder)

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
            still_moving()
            try:
                note = json.loads(os.getxattr(path, NOTE_ATTRIBUTE))
            except (OSError, ValueError):
                note = {}  # not made by us, or by a hand that copied files without attributes
            with contextlib.suppress(FileNotFoundError):  # released in the meantime
                size = path.stat().st_size
                entries.append(JournalEntry(name=name, path=path, size=size, note=note))
        return entries


def _close_all(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)
