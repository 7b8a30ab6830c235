# SPDX-License-Identifier: Apache-2.0
"""The main process's end of one worker: sending requests, meeting answers, noticing silence."""

import asyncio
import contextlib
import os
import socket
import threading
import time
from array import array
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scrigno.host.process import Process, spawn_worker

from .protocol import ANSWER, LANE_OF, LANE_THREADS, MAX_MESSAGE, REQUEST, Kind, Lane, Op, unpack
from .states import ErrorKind, VolumeError

QUEUE_LIMIT: Final = 512  # requests that wait for a thread of their lane; more is refused as busy
EXIT_GRACE_S: Final = 1.0
ABANDONED_LIMIT: Final = 4  # workers stuck in the kernel at once; more would not learn more
_FD_BYTES: Final = 4


class WorkerDiedError(VolumeError):
    """The worker process ended under the request; the volume itself may be well."""

    def __init__(self, volume: str) -> None:
        """Name the volume."""
        super().__init__(volume, ErrorKind.IO, "its worker process has ended")


@dataclass(frozen=True, slots=True)
class Reply:
    """A worker's answer; whoever gets it closes `fd` when it is not None."""

    body: bytes
    fd: int | None


@dataclass(slots=True)
class _Pending:
    future: asyncio.Future[Reply]
    since: float  # when it was sent (infinity before), or last gave a sign of life
    lane: "_LaneEnd"


def _drop(future: asyncio.Future[Reply]) -> None:
    """Close what came with an answer that met the cancellation of its caller."""
    if future.done() and not future.cancelled() and future.exception() is None:
        reply = future.result()
        fd = reply.fd
        if fd is not None:
            os.close(fd)


def _send_with(lane: socket.socket, message: bytes, fd: int) -> None:
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [fd]))
    lane.sendmsg([message], [rights])


class _LaneEnd:
    """Our end of one lane and the requests that wait for one of its threads."""

    def __init__(self, lane: Lane) -> None:
        self.socket, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.setblocking(False)  # noqa: FBT003 - positional only
        self.width = LANE_THREADS[lane]
        self.busy = 0
        self.waiting: deque[asyncio.Future[None]] = deque()
        self.sending = threading.Lock()  # held by other threads that send, and to close `socket`

    def free_one(self) -> None:
        """Give a finished request's thread to the next that waits."""
        while self.waiting:
            waiter = self.waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self.busy -= 1


class Posted:
    """A request whose descriptor is not there yet. Its turn is taken, nothing has been sent."""

    __slots__ = ("_lane", "_message", "_number", "_over", "_pending", "link")

    def __init__(
        self, link: "WorkerLink", lane: _LaneEnd, number: int, message: bytes, pending: _Pending
    ) -> None:
        """Use `WorkerLink.post`."""
        self.link = link
        self._lane = lane
        self._number = number
        self._message = message
        self._pending = pending
        self._over = False  # sent, dropped or lost; changed with `sending` held

    def send(self, fd: int) -> None:
        """Send it with the descriptor, from any thread; a failure shows in `answer`."""
        with self._lane.sending:
            if self._over:
                return
            self._over = True
            try:
                _send_with(self._lane.socket, self._message, fd)
            except OSError as error:
                failure = error
            else:
                self._pending.since = time.monotonic()  # the clock of the loop
                return
        self.link.unsent_soon(self._number, failure)

    async def answer(self) -> Reply:
        """Wait for the answer; raises VolumeError."""
        future = self._pending.future
        try:
            return await future
        except asyncio.CancelledError:
            _drop(future)
            raise

    def drop(self) -> None:
        """See that it is not sent any more; harmless when it was. Loop thread only."""
        with self._lane.sending:
            sent, self._over = self._over, True
        if not sent:
            self.link.forget(self._number)


class WorkerLink:
    """A running worker. Loop thread only.

    When any request gives no sign of life for `op_timeout_s`, or the worker ends, the link is
    lost: everything pending fails, the worker is killed and never waited for (a thread in the
    kernel's D state would not end), `lost` says why and `on_lost` of the owner is called.
    """

    def __init__(
        self, volume: str, path: Path, *, op_timeout_s: float, lost: asyncio.Event
    ) -> None:
        """Start the worker of `volume`; `lost` is set when the link breaks."""
        self.failure: VolumeError | None = None
        self.last_write = float("-inf")  # loop time of the last sign that writes succeed
        self._volume = volume
        self._loop = asyncio.get_running_loop()
        self._op_timeout_s = op_timeout_s
        self._lost = lost
        self._numbers = 0
        self._pending: dict[int, _Pending] = {}
        self._lanes = [_LaneEnd(lane) for lane in Lane]
        try:
            self.process = spawn_worker(
                "scrigno.volumes.worker", [str(path)], fds=[lane.theirs for lane in self._lanes]
            )
        except BaseException:
            for lane in self._lanes:
                lane.socket.close()
            raise
        finally:
            for lane in self._lanes:
                lane.theirs.close()
        for lane in self._lanes:
            self._loop.add_reader(lane.socket.fileno(), self._readable, lane)
        self._tick_s = min(0.5, op_timeout_s / 4)
        self._last_tick = self._loop.time()
        self._ticker = self._loop.call_later(self._tick_s, self._tick)

    async def call(self, op: Op, body: bytes, fd: int = -1) -> Reply:
        """Ask and wait; raises VolumeError."""
        lane = self._lanes[LANE_OF.get(op, Lane.WRITE)]
        if self.failure is not None:
            raise self._again()
        if lane.busy < lane.width:
            lane.busy += 1
        else:
            await self._turn(lane)
        try:
            if self.failure is not None:  # lost between our turn and this moment
                raise self._again()
            future = self._send(lane, op, body, fd)
        except BaseException:
            lane.free_one()
            raise
        try:
            return await future
        except asyncio.CancelledError:
            _drop(future)
            raise

    def post(self, op: Op, body: bytes) -> Posted | None:
        """Begin a request that is sent from another thread; None when its lane has no turn now."""
        lane = self._lanes[LANE_OF.get(op, Lane.WRITE)]
        if self.failure is not None or lane.busy >= lane.width:
            return None
        lane.busy += 1
        number = self._next_number()
        pending = _Pending(self._loop.create_future(), float("inf"), lane)
        self._pending[number] = pending
        return Posted(self, lane, number, REQUEST.pack(number, op) + body, pending)

    def silent_s(self) -> float:
        """Return for how long the request that waits longest has had no answer; 0 when none."""
        return max(
            (self._loop.time() - pending.since for pending in self._pending.values()), default=0.0
        )

    def forget(self, number: int) -> None:
        """Give back the turn of a request that was never sent."""
        if self._pending.pop(number, None) is not None:
            self._lanes[Lane.WRITE].free_one()

    def unsent_soon(self, number: int, failure: OSError) -> None:
        """Tell the loop that a posted request could not be sent. Any thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            self._loop.call_soon_threadsafe(self._unsent, number, failure)

    def _unsent(self, number: int, failure: OSError) -> None:
        pending = self._pending.get(number)
        if pending is None:
            return
        if not isinstance(failure, BlockingIOError):
            self.lose(ErrorKind.IO, "its worker process has ended")
            return
        self.forget(number)
        if not pending.future.done():
            pending.future.set_exception(self._full())

    async def _turn(self, lane: _LaneEnd) -> None:
        if len(lane.waiting) >= QUEUE_LIMIT:
            raise self._error(ErrorKind.BUSY, "too many requests are waiting")
        waiter: asyncio.Future[None] = self._loop.create_future()
        lane.waiting.append(waiter)
        try:
            await waiter  # no limit of its own: a lane that does not move loses the link
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                lane.free_one()  # the turn had been given to us already
            raise

    def _send(self, lane: _LaneEnd, op: Op, body: bytes, fd: int) -> asyncio.Future[Reply]:
        number = self._next_number()
        message = REQUEST.pack(number, op) + body
        try:
            if fd < 0:
                lane.socket.send(message)
            else:
                _send_with(lane.socket, message, fd)
        except BlockingIOError as error:
            raise self._full() from error
        except (BrokenPipeError, ConnectionResetError) as error:
            self.lose(ErrorKind.IO, "its worker process has ended")
            raise WorkerDiedError(self._volume) from error
        future: asyncio.Future[Reply] = self._loop.create_future()
        self._pending[number] = _Pending(future, self._loop.time(), lane)
        return future

    def _next_number(self) -> int:
        self._numbers = (self._numbers + 1) & 0xFFFFFFFF
        return self._numbers

    def _readable(self, lane: _LaneEnd) -> None:
        try:
            answer, ancillary, _, _ = lane.socket.recvmsg(
                MAX_MESSAGE, socket.CMSG_SPACE(_FD_BYTES), socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return
        except ConnectionResetError:
            answer, ancillary = b"", []
        if not answer:
            self.lose(ErrorKind.IO, "its worker process has ended")
            return
        handed = array("i", ancillary[0][2][:_FD_BYTES])[0] if ancillary else None
        number, kind = ANSWER.unpack_from(answer)
        pending = self._pending.get(number)
        if pending is None:
            if handed is not None:
                os.close(handed)
            return
        if lane is self._lanes[Lane.WRITE] and kind != Kind.FAILED:
            self.last_write = self._loop.time()
        if kind == Kind.ALIVE:
            pending.since = self._loop.time()
            return
        del self._pending[number]
        pending.lane.free_one()
        body = answer[ANSWER.size :]
        if pending.future.done():  # its caller was cancelled
            if handed is not None:
                os.close(handed)
        elif kind == Kind.DONE:
            pending.future.set_result(Reply(body, handed))
        else:
            failure = unpack(body)
            pending.future.set_exception(
                self._error(ErrorKind(failure["kind"]), str(failure["reason"]))
            )

    def _tick(self) -> None:
        now = self._loop.time()
        late = now - self._last_tick - self._tick_s
        self._last_tick = now
        if late > self._tick_s:
            # we slept (stopped, suspended): the answers may be there, unread; not the disk's fault
            for pending in self._pending.values():
                pending.since += late
        elif any(now - pending.since > self._op_timeout_s for pending in self._pending.values()):
            self.lose(
                ErrorKind.TIMEOUT, f"no answer for {self._op_timeout_s:g} s, it seems to hang"
            )
            return
        self._ticker = self._loop.call_later(self._tick_s, self._tick)

    def lose(self, kind: ErrorKind, reason: str) -> None:
        """Break the link: kill the worker without waiting, fail everything; idempotent."""
        if self.failure is not None:
            return
        died = kind is ErrorKind.IO
        self.failure = WorkerDiedError(self._volume) if died else self._error(kind, reason)
        self._shut()
        self.process.abandon()
        self._lost.set()

    async def close(self) -> None:
        """Let the worker go; it leaves by itself when it sees our end closed. Idempotent."""
        if self.failure is None:
            self.failure = self._error(ErrorKind.OFFLINE, "it is being closed")
            self._shut()
        if await self.process.wait(EXIT_GRACE_S) is None:
            self.process.abandon()

    def _shut(self) -> None:
        self._ticker.cancel()
        for lane in self._lanes:
            self._loop.remove_reader(lane.socket.fileno())
            with lane.sending:  # its number may be another file's a moment later
                lane.socket.close()
            for waiter in lane.waiting:
                if not waiter.done():
                    waiter.set_exception(self._again())
            lane.waiting.clear()
        pending, self._pending = self._pending, {}
        for request in pending.values():
            if not request.future.done():
                request.future.set_exception(self._again())

    def _again(self) -> VolumeError:
        failure = self.failure
        if isinstance(failure, WorkerDiedError) or failure is None:
            return WorkerDiedError(self._volume)
        return VolumeError(self._volume, failure.kind, failure.what)

    def _full(self) -> VolumeError:
        return self._error(ErrorKind.BUSY, "the worker takes no more requests")

    def _error(self, kind: ErrorKind, reason: str) -> VolumeError:
        return VolumeError(self._volume, kind, reason)


class Abandoned:
    """Workers that were let go: killed, and perhaps stuck in the kernel. Loop thread only."""

    def __init__(self) -> None:
        """Begin with none."""
        self._processes: list[Process] = []

    def add(self, link: WorkerLink) -> None:
        """Remember one whose link is lost."""
        self._processes.append(link.process)

    async def room(self) -> None:
        """Wait while too many are stuck in the kernel: the disk still hangs."""
        while True:
            self._processes = [gone for gone in self._processes if gone.returncode is None]
            if len(self._processes) < ABANDONED_LIMIT:
                return
            await asyncio.wait(
                [gone.ended for gone in self._processes], return_when=asyncio.FIRST_COMPLETED
            )

    async def gone(self, last: WorkerLink | None) -> None:
        """Wait a moment until they, and `last`, have ended and hold nothing open."""
        let_go = [*self._processes, *([last.process] if last is not None else [])]
        dying = [process.ended for process in let_go if process.returncode is None]
        if dying:
            await asyncio.wait(dying, timeout=EXIT_GRACE_S)
