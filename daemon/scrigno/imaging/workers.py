# SPDX-License-Identifier: Apache-2.0
"""The imaging workers seen from the main process: a pool that renders, transcodes and describes."""

import asyncio
import json
import mmap
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Literal

from scrigno.core.counters import Counters

from . import errors
from .child import Worker, WorkerDied
from .protocol import memory_file

# a whole Part 10 file: its bytes, or a descriptor of it (memfd or a file; read from its beginning,
# not closed and its position not used by us)
Source = bytes | memoryview | int

MAX_JOBS: Final = 1000  # of one worker: decoders leak
MAX_WAITING: Final = 1000  # jobs in the queue; more are refused
SMALL_BYTES: Final = 1 << 20  # up to here a copy takes less than a thread hop costs
MAX_PICTURE_BYTES: Final = 256 << 20
_BY_CODE: Final = {
    kind.code: kind
    for kind in (
        errors.NotDicom,
        errors.NoPixels,
        errors.NoSuchFrame,
        errors.UnsupportedSyntax,
        errors.DecodeFailed,
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """One frame as a picture for a browser."""

    content: bytes
    content_type: str
    width: int  # of the frame, not of the scaled picture
    height: int
    window_center: float | None  # what was applied, None for colour and look-up tables
    window_width: float | None
    frames: int  # of the object


class Transcoded:
    """A Part 10 file in a sealed memory file, gone when closed; use as a context manager."""

    def __init__(self, fd: int, *, size: int, data_offset: int, transfer_syntax_uid: str) -> None:
        """Own `fd`; `data_offset` is where the data set begins after the file meta."""
        self.fd = fd
        self.size = size
        self.data_offset = data_offset
        self.transfer_syntax_uid = transfer_syntax_uid

    def close(self) -> None:
        """Let the memory go; idempotent."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def view(self) -> mmap.mmap:
        """Return the whole file as a read-only map; the caller closes it."""
        return mmap.mmap(self.fd, self.size, prot=mmap.PROT_READ)

    def __enter__(self) -> "Transcoded":
        """Return the file itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()


class ImagingPool:
    """Sandboxed worker processes, one job each at a time, started on demand. Loop thread only."""

    def __init__(
        self,
        size: int,
        *,
        counters: Counters,
        memory_limit_bytes: int = 2 << 30,
        cpu_limit_s: int = 60,
        timeout_s: float = 60.0,
        idle_s: float = 300.0,
    ) -> None:
        """Prepare up to `size` workers; none is started before the first job or `warm()`.

        `memory_limit_bytes` bounds a worker's address space (0.4 GiB of it are libraries), without
        the object and the result, which are memory files. Limits of time are per job.
        """
        self._size = size
        self._counters = counters
        self._memory_limit_bytes = memory_limit_bytes
        self._cpu_limit_s = cpu_limit_s
        self._timeout_s = timeout_s
        self._idle_s = idle_s
        self._slots = asyncio.Semaphore(size)
        self._waiting = 0
        self._idle: list[Worker] = []
        self._busy: set[Worker] = set()
        self._timers: dict[Worker, asyncio.TimerHandle] = {}
        self._warming: set[asyncio.Task[None]] = set()
        self._copier = ThreadPoolExecutor(max_workers=2, thread_name_prefix="imaging-copy")
        self._closed = False

    @property
    def workers(self) -> int:
        """Return how many worker processes live."""
        return len(self._idle) + len(self._busy)

    def warm(self, count: int = 1) -> None:
        """Start workers in the background, so that the first job does not wait for one."""
        for _ in range(min(count, self._size) - self.workers - len(self._warming)):
            task = asyncio.get_running_loop().create_task(self._warm_one())
            self._warming.add(task)
            task.add_done_callback(self._warming.discard)

    async def _warm_one(self) -> None:
        async with self._slots:
            # a start that fails is told to the first job that needs a worker
            with suppress(errors.ImagingError):
                self._put_back(await self._start())

    async def close(self) -> None:
        """Fail what is under way with `ImagingClosed`, end every worker; idempotent."""
        if self._closed:
            return
        self._closed = True
        for task in tuple(self._warming):
            task.cancel()
        await asyncio.gather(*self._warming, return_exceptions=True)
        for timer in self._timers.values():
            timer.cancel()
        ending = [*self._idle, *self._busy]
        self._idle.clear()
        for worker in ending:
            worker.process.kill()  # a busy one's job sees the end of its socket
        for worker in ending:
            await worker.process.wait(1.0)
            if worker not in self._busy:
                worker.end()
        self._copier.shutdown(wait=False)  # its threads are idle, or end with their copy

    async def render(
        self,
        source: Source,
        *,
        frame: int = 0,
        window: tuple[float, float] | None = None,
        max_size: int | None = None,
        format: Literal["jpeg", "png"] = "jpeg",
        quality: int = 85,
    ) -> Rendered:
        """Return one frame as a picture at most `max_size` pixels wide and high.

        `window` is centre and width in modality units; without it the object's own is used, or one
        is made. Raises NoPixels, NoSuchFrame, UnsupportedSyntax, DecodeFailed, DecodeTimeout,
        NotDicom, ImagingBusy, ImagingClosed.
        """
        message = {
            "job": "render",
            "frame": frame,
            "window": window,
            "max_size": max_size,
            "format": format,
            "quality": quality,
        }
        answer, fd = await self._run(message, source)
        content = await self._content(fd, MAX_PICTURE_BYTES)
        return Rendered(
            content=content,
            content_type=f"image/{format}",
            width=int(answer["width"]),
            height=int(answer["height"]),
            window_center=answer["center"],
            window_width=answer["window_width"],
            frames=int(answer["frames"]),
        )

    async def transcode(self, source: Source, *, to_transfer_syntax: str) -> Transcoded:
        """Return the object in another, uncompressed transfer syntax; UIDs stay.

        Raises UnsupportedSyntax, DecodeFailed, DecodeTimeout, NotDicom, ImagingBusy, ImagingClosed.
        """
        answer, fd = await self._run({"job": "transcode", "to": to_transfer_syntax}, source)
        return Transcoded(
            fd,
            size=os.fstat(fd).st_size,
            data_offset=int(answer["data_offset"]),
            transfer_syntax_uid=to_transfer_syntax,
        )

    async def describe(self, source: Source) -> dict[str, Any]:
        """Return every attribute as DICOM JSON (PS3.18 annex F), bulk values left out.

        Raises DecodeFailed, DecodeTimeout, NotDicom, ImagingBusy, ImagingClosed.
        """
        _, fd = await self._run({"job": "describe"}, source)
        content = await self._content(fd, MAX_PICTURE_BYTES)
        described: dict[str, Any] = json.loads(content)
        return described

    async def _run(self, message: dict[str, Any], source: Source) -> tuple[dict[str, Any], int]:
        """Run one job in the next free worker; count how it ended."""
        if self._closed:
            raise errors.ImagingClosed("The box is shutting down.")
        if self._waiting >= MAX_WAITING:
            raise errors.ImagingBusy(f"More than {MAX_WAITING} pictures are waiting to be made.")
        outcome = "failed"
        self._waiting += 1
        try:
            async with self._slots:
                if self._closed:
                    raise errors.ImagingClosed("The box is shutting down.")
                given = await self._open(source)
                try:
                    result = await self._run_in_worker(message, given)
                finally:
                    os.close(given)
            outcome = "done"
            return result
        except errors.ImagingError as error:
            outcome = error.code
            raise
        finally:
            self._waiting -= 1
            self._counters.add("imaging_jobs", job=str(message["job"]), outcome=outcome)

    async def _run_in_worker(
        self, message: dict[str, Any], given: int
    ) -> tuple[dict[str, Any], int]:
        worker = await self._take()
        usable = False
        try:
            async with asyncio.timeout(self._timeout_s):
                answer, fd = await worker.job(message, given)
            usable = not answer.get("retire") and worker.jobs < MAX_JOBS
        except TimeoutError:
            raise errors.DecodeTimeout(
                f"Decoding took longer than {self._timeout_s:g} s."
            ) from None
        except WorkerDied:
            if self._closed:
                raise errors.ImagingClosed("The box is shutting down.") from None
            raise errors.DecodeFailed(await worker.how_it_ended()) from None
        finally:
            self._busy.discard(worker)
            if usable and not self._closed:
                self._put_back(worker)
            else:
                worker.end()
        if fd is None:
            kind = _BY_CODE.get(str(answer["error"]), errors.DecodeFailed)
            raise kind(str(answer.get("reason", "The object could not be decoded.")))
        return answer, fd

    async def _take(self) -> Worker:
        """Return a worker that is ready, the one used last first, so that the others may retire."""
        while self._idle:
            worker = self._idle.pop()
            self._timers.pop(worker).cancel()
            if worker.process.returncode is None:
                self._busy.add(worker)
                return worker
            worker.end()
        worker = await self._start()
        self._busy.add(worker)
        return worker

    async def _start(self) -> Worker:
        worker = Worker(memory_limit_bytes=self._memory_limit_bytes, cpu_limit_s=self._cpu_limit_s)
        self._busy.add(worker)
        try:
            await worker.ready()
        except (WorkerDied, TimeoutError):
            worker.end()
            raise errors.DecodeFailed("An imaging worker could not be started.") from None
        except BaseException:
            worker.end()
            raise
        finally:
            self._busy.discard(worker)
        self._counters.add("imaging_workers_started")
        return worker

    def _put_back(self, worker: Worker) -> None:
        self._idle.append(worker)
        loop = asyncio.get_running_loop()
        self._timers[worker] = loop.call_later(self._idle_s, self._retire, worker)

    def _retire(self, worker: Worker) -> None:
        """End a worker that had nothing to do for long; the memory is worth more."""
        self._timers.pop(worker, None)
        if worker in self._idle:
            self._idle.remove(worker)
            worker.end()

    async def _open(self, source: Source) -> int:
        """Return a descriptor for the worker, read-only in effect and with its own position."""
        if isinstance(source, int):
            # a new open file description: the caller's position stays its own (open(2))
            return os.open(f"/proc/self/fd/{source}", os.O_RDONLY | os.O_CLOEXEC)
        if len(source) <= SMALL_BYTES:
            return memory_file(source)
        copying = asyncio.get_running_loop().run_in_executor(self._copier, memory_file, source)
        try:
            return await asyncio.shield(copying)
        except asyncio.CancelledError:
            copying.add_done_callback(_close_late)
            raise

    async def _content(self, fd: int, limit_bytes: int) -> bytes:
        """Return a result's bytes and close its file, also when cancelled."""
        size = os.fstat(fd).st_size
        if size > limit_bytes:
            os.close(fd)
            raise errors.DecodeFailed("The result is larger than a picture may be.")
        if size <= SMALL_BYTES:
            return _taken(fd, size)
        loop = asyncio.get_running_loop()
        return await asyncio.shield(loop.run_in_executor(self._copier, _taken, fd, size))


def _taken(fd: int, size: int) -> bytes:
    """Return the bytes of a memory file and close it."""
    try:
        if not size:
            return b""
        with mmap.mmap(fd, size, prot=mmap.PROT_READ) as view:
            return view[:]
    finally:
        os.close(fd)


def _close_late(copying: asyncio.Future[int]) -> None:
    """Close a memory file that was ready only when nobody wanted it any more."""
    if not copying.cancelled() and copying.exception() is None:
        os.close(copying.result())
