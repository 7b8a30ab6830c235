# SPDX-License-Identifier: Apache-2.0
"""The imaging workers seen from the main process: a pool that renders, transcodes and describes."""

import asyncio
import json
import mmap
import os
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final

from scrigno.core.counters import Counters

from . import errors
from .child import Worker, WorkerDied
from .orders import Order
from .protocol import memory_file
from .results import (
    CONTENT_TYPES,
    Document,
    FrameBytes,
    Look,
    MemoryFile,
    PictureFormat,
    Rendered,
    Transcoded,
    Viewport,
)
from .shelf import Shelf

# a whole Part 10 file: its bytes; a descriptor of it (memfd or a file; read from its beginning,
# not closed and its position not used by us); or how to fetch a descriptor, which then is ours
Source = bytes | memoryview | int | Callable[[], Awaitable[int]]

MAX_JOBS: Final = 1000  # of one worker: decoders leak
MAX_WAITING: Final = 1000  # jobs in the queue; more are refused
SMALL_BYTES: Final = 1 << 20  # up to here a copy takes less than a thread hop costs
MAX_PICTURE_BYTES: Final = 256 << 20
MAX_FRAME_BYTES: Final = 512 << 20
HTJ2K_RPCL: Final = "1.2.840.10008.1.2.4.202"
_BY_CODE: Final = {
    kind.code: kind
    for kind in (
        errors.NotDicom,
        errors.NoPixels,
        errors.NoSuchFrame,
        errors.NoSuchValue,
        errors.NoDocument,
        errors.UnsupportedSyntax,
        errors.DecodeFailed,
    )
}


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
        # of texts in objects that name none (PS3.3 C.12.1.1.2)
        self.default_character_set: Callable[[], str] = lambda: ""
        self._at_rest = asyncio.Event()
        self._at_rest.set()
        self._shelf = Shelf()
        self._closed = False

    @property
    def workers(self) -> int:
        """Return how many worker processes live."""
        return len(self._idle) + len(self._busy)

    async def at_rest(self) -> None:
        """Wait until no job is under way or waits for a worker."""
        await self._at_rest.wait()

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
        await self._shelf.close()
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
        look: Look | None = None,
        *,
        key: str | None = None,
        frame: int | None = None,
        window: tuple[float, float] | None = None,
        voi: int | str | None = None,
        viewport: Viewport | None = None,
        max_size: int | None = None,
        overlays: bool = True,
        annotation: tuple[str, ...] = (),
        format: PictureFormat = "jpeg",
        quality: int = 85,
    ) -> Rendered:
        """Return one frame as a picture, by a `look` or by the words of one.

        `window` is centre and width in modality units; without it the object's own is used, or one
        is made. `key` names the bytes (their digest): the object stays open for a while, and a
        `source` that is a function is called only when it is not. Raises NoPixels, NoSuchFrame,
        UnsupportedSyntax, DecodeFailed, DecodeTimeout, NotDicom, ImagingBusy, ImagingClosed.
        """
        look = look or Look(
            frame=frame or 0,
            window=window,
            voi=voi,
            viewport=viewport,
            max_size=max_size,
            overlays=overlays,
            annotation=annotation,
            format=format,
            quality=quality,
        )
        answer, fd = await self._run({"job": "render", "look": look.message()}, source, key)
        content = await self._content(fd, MAX_PICTURE_BYTES)
        return Rendered(
            content=content,
            content_type=CONTENT_TYPES[look.format],
            width=int(answer["width"]),
            height=int(answer["height"]),
            window_center=answer["center"],
            window_width=answer["window_width"],
            frames=int(answer["frames"]),
        )

    async def frame_bytes(
        self,
        source: Source,
        *,
        frame: int = 0,
        transfer_syntax: str | None = None,
        key: str | None = None,
    ) -> FrameBytes:
        """Return one frame (from 0) in its stored syntax, or in `transfer_syntax`.

        Native syntaxes all give Explicit VR Little Endian's bytes. Raises as `render`.
        """
        message = {"job": "frame", "frame": frame, "to": transfer_syntax}
        answer, fd = await self._run(message, source, key)
        content = await self._content(fd, MAX_FRAME_BYTES)
        return FrameBytes(
            content=content,
            transfer_syntax_uid=str(answer["syntax"]),
            content_type=str(answer["content_type"]),
            frames=int(answer["frames"]),
        )

    async def viewer_frame(
        self, source: Source, *, frame: int = 0, key: str | None = None
    ) -> FrameBytes:
        """Return one frame for our own viewer: HTJ2K, lossless, as `viewer_metadata` says it.

        Raises as `render`.
        """
        answer, fd = await self._run({"job": "viewer-frame", "frame": frame}, source, key)
        content = await self._content(fd, MAX_FRAME_BYTES)
        return FrameBytes(
            content=content,
            transfer_syntax_uid=HTJ2K_RPCL,
            content_type="image/jphc",
            frames=int(answer["frames"]),
        )

    async def transcode(self, source: Source, *, to_transfer_syntax: str) -> Transcoded:
        """Return the object in another, uncompressed transfer syntax; UIDs stay.

        Raises UnsupportedSyntax, DecodeFailed, DecodeTimeout, NotDicom, ImagingBusy, ImagingClosed.
        """
        answer, fd = await self._run({"job": "transcode", "to": to_transfer_syntax}, source)
        return Transcoded(
            fd,
            data_offset=int(answer["data_offset"]),
            transfer_syntax_uid=to_transfer_syntax,
        )

    async def describe(self, source: Source) -> dict[str, Any]:
        """Return every attribute as DICOM JSON (PS3.18 annex F), bulk values left out.

        Raises DecodeFailed, DecodeTimeout, NotDicom, ImagingBusy, ImagingClosed.
        """
        described: dict[str, Any] = json.loads(await self.metadata(source, bulk_uri=None))
        return described

    async def metadata(
        self, source: Source, *, bulk_uri: str | None, key: str | None = None
    ) -> bytes:
        """Return one object as DICOM JSON text (PS3.18 annex F), an object without the brackets.

        Long binary values become `BulkDataURI`s: `bulk_uri`, a slash, and the path that `bulk`
        takes (tags and item numbers from 0, "54000100/0/54001010"). Raises as `describe`.
        """
        _, fd = await self._run({"job": "metadata", "bulk_uri": bulk_uri}, source, key)
        return await self._content(fd, MAX_PICTURE_BYTES)

    async def viewer_metadata(
        self, source: Source, *, bulk_uri: str | None, key: str | None = None
    ) -> bytes:
        """Return the metadata for our own viewer: corrected, so that its loader never fails.

        It describes the frames that `viewer_frame` gives. Raises as `describe`.
        """
        message = {"job": "viewer-metadata", "bulk_uri": bulk_uri}
        _, fd = await self._run(message, source, key)
        return await self._content(fd, MAX_PICTURE_BYTES)

    async def bulk(self, source: Source, *, path: str, key: str | None = None) -> MemoryFile:
        """Return the value of one attribute by the path in its `BulkDataURI`, little endian.

        Raises NoSuchValue, and as `describe`.
        """
        _, fd = await self._run({"job": "bulk", "path": path}, source, key)
        return MemoryFile(fd)

    async def document(
        self, source: Source, *, key: str | None = None, language: str = "en"
    ) -> Document:
        """Return what an object without ordinary pictures shows: PDF, HTML, SVG, WAV, video.

        Raises NoDocument when it has none, and as `describe`.
        """
        given = await self._fetched(source, key) if callable(source) else None
        try:
            whole = source if given is None else given
            answer, fd = await self._run({"job": "document", "language": language}, whole, key)
            spans = None
            if answer.get("stream"):  # it stands in the object itself, which is kept instead
                said = json.loads(await self._content(fd, MAX_PICTURE_BYTES))
                spans = tuple((int(start), int(length)) for start, length in said)
                fd = await self._open(whole)
        finally:
            if given is not None:
                os.close(given)
        return Document(
            fd,
            kind=str(answer["kind"]),
            content_type=str(answer["content_type"]),
            title=str(answer["title"]),
            spans=spans,
        )

    async def presentation(self, source: Source, *, key: str | None = None) -> dict[str, Any]:
        """Return what a KO, a presentation state, an RTSTRUCT or a SEG says, as JSON values.

        Raises NoDocument when it is none of them, and as `describe`.
        """
        _, fd = await self._run({"job": "presentation"}, source, key)
        said: dict[str, Any] = json.loads(await self._content(fd, MAX_PICTURE_BYTES))
        return said

    async def compose(self, source: Source) -> MemoryFile:
        """Return the Part 10 file of metadata and bulk data, as `jobs_dicomweb` takes them.

        Raises DecodeFailed, DecodeTimeout, ImagingBusy, ImagingClosed.
        """
        _, fd = await self._run({"job": "compose"}, source)
        return MemoryFile(fd)

    async def write(self, order: Order) -> bytes:
        """Return a new object as a Part 10 file: an SR, a presentation state, a key object note.

        Raises DecodeFailed with what is wrong about the order.
        """
        content = json.dumps(order.message()).encode()
        _, fd = await self._run({"job": "write"}, content)
        return await self._content(fd, MAX_PICTURE_BYTES)

    async def media(
        self, verb: str, source: Source, **options: Any
    ) -> tuple[dict[str, Any], MemoryFile]:
        """Do a job of media (`fileset_jobs`): a disc's listing, records, a directory, a copy.

        Raises as `describe`.
        """
        answer, fd = await self._run({"job": "media", "verb": verb, **options}, source)
        return answer, MemoryFile(fd)

    async def _run(
        self, message: dict[str, Any], source: Source, key: str | None = None
    ) -> tuple[dict[str, Any], int]:
        """Run one job in the next free worker; count how it ended."""
        if self._closed:
            raise errors.ImagingClosed("The box is shutting down.")
        if self._waiting >= MAX_WAITING:
            raise errors.ImagingBusy(f"More than {MAX_WAITING} pictures are waiting to be made.")
        outcome = "failed"
        message = {**message, "character_set": self.default_character_set()}
        self._waiting += 1
        self._at_rest.clear()
        try:
            # an object that must be fetched takes no worker while it is on its way
            given = await self._fetched(source, key) if callable(source) else None
            try:
                result = await self._in_slot(message, source, given, key)
            finally:
                if given is not None:
                    os.close(given)
            outcome = "done"
            return result
        except errors.ImagingError as error:
            outcome = error.code
            raise
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._at_rest.set()
            self._counters.add("imaging_jobs", job=str(message["job"]), outcome=outcome)

    async def _fetched(self, fetch: Callable[[], Awaitable[int]], key: str | None) -> int:
        return await fetch() if key is None else await self._shelf.get(key, fetch)

    async def _in_slot(
        self, message: dict[str, Any], source: Source, given: int | None, key: str | None
    ) -> tuple[dict[str, Any], int]:
        async with self._slots:
            if self._closed:
                raise errors.ImagingClosed("The box is shutting down.")
            opened = await self._open(source if given is None else given)
            try:
                return await self._run_in_worker(message, opened, key)
            finally:
                os.close(opened)

    async def _run_in_worker(
        self, message: dict[str, Any], given: int, key: str | None
    ) -> tuple[dict[str, Any], int]:
        worker = await self._take(key)
        if key is not None:
            message = {**message, "key": key}
            worker.key = key
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

    async def _take(self, key: str | None = None) -> Worker:
        """Return a worker that is ready: the one that has the object open, else the one used last.

        So the others may retire.
        """
        while self._idle:
            place = next((at for at, each in enumerate(self._idle) if each.key == key), -1)
            worker = self._idle.pop(place if key is not None else -1)
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
        if callable(source):
            raise TypeError("a source that is a function is called before")
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
