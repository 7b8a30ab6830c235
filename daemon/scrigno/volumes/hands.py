# SPDX-License-Identifier: Apache-2.0
"""A few threads for blocking work, with as few wake-ups as can be.

What several jobs answer at one time wakes the loop once. A thread is started only when more jobs
are under way than there are threads, so that one sender is served by one thread.

A thread that hangs in the kernel cannot be ended. Whoever waits for its job can be told that it is
given up (`overdue`, `give_up`), and the whole set can be left behind (`abandon`).
"""

import asyncio
import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, TypeVar

T = TypeVar("T")

_NOT_BEGUN: Final = float("inf")
_here = threading.local()  # `job`: what this thread is doing


class Job:
    """What is to be done, who waits for it, and who must hear of its end in any case."""

    __slots__ = ("args", "future", "over", "since", "work")

    def __init__(
        self,
        work: Callable[..., Any],
        args: tuple[object, ...],
        future: "asyncio.Future[Any]",
        over: Callable[[], None] | None,
    ) -> None:
        """Take note; it has not begun."""
        self.work = work
        self.args = args
        self.future = future
        self.over = over
        self.since = _NOT_BEGUN  # monotonic time of its begin, or of its last sign of life

    def give_up(self, error: Exception) -> None:
        """Tell whoever waits; the job itself may go on, and `over` still tells its end."""
        if not self.future.done():
            self.future.set_exception(error)
            self.future.exception()  # seen, also when nobody waits any more


_Done = tuple[Job, Any, BaseException | None]


def still_moving() -> None:
    """Say, from within a long job, that it moves on. Any thread, harmless outside a job."""
    job: Job | None = getattr(_here, "job", None)
    if job is not None:
        job.since = time.monotonic()


class Hands:
    """At most `most` threads. Loop thread only."""

    def __init__(self, most: int, name: str) -> None:
        """Start no thread yet."""
        self._loop = asyncio.get_running_loop()
        self._most = most
        self._name = name
        self._threads: list[threading.Thread] = []
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._running: dict[int, Job] = {}  # by thread; each changes its own entry only
        self._under_way = 0
        self._done: deque[_Done] = deque()
        self._told = False  # the loop is going to look into `_done`

    def run(
        self, work: Callable[..., T], *args: object, over: Callable[[], None] | None = None
    ) -> "asyncio.Future[T]":
        """Do `work` in a thread.

        Cancelling the future does not stop a job that has begun. One that has `over` is always
        done, and `over` is called on the loop when it has really ended, whoever still waits.
        """
        future: asyncio.Future[T] = self._loop.create_future()
        self._under_way += 1
        if self._under_way > len(self._threads) < self._most:
            name = f"{self._name}_{len(self._threads)}"
            # A thread that hangs in the kernel cannot be joined; it ends with the process.
            thread = threading.Thread(
                target=self._serve, args=(len(self._threads),), name=name, daemon=True
            )
            self._threads.append(thread)
            thread.start()
        self._jobs.put(Job(work, args, future, over))
        return future

    def dismiss(self) -> None:
        """Take no more jobs and let the threads end when those given are done."""
        for _ in self._threads:
            self._jobs.put(None)

    def abandon(self, error: Exception) -> None:
        """Let the threads go; what none of them has begun fails with `error`."""
        while True:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                break
            if job is not None:
                self._under_way -= 1
                job.give_up(error)
                if job.over is not None:
                    job.over()
        self.dismiss()

    def overdue(self, limit_s: float) -> list[Job]:
        """Return the jobs that gave no sign of life for `limit_s` and are still waited for."""
        latest = time.monotonic() - limit_s
        running = list(self._running.values())
        return [job for job in running if job.since < latest and not job.future.done()]

    def forgive(self, late_s: float) -> None:
        """Take it that nothing could move for `late_s`: we were stopped, or the box slept."""
        for job in list(self._running.values()):
            job.since += late_s

    @property
    def gone(self) -> bool:
        """Tell whether every thread has ended."""
        return not any(thread.is_alive() for thread in self._threads)

    @property
    def threads(self) -> int:
        """How many threads have not ended."""
        return sum(thread.is_alive() for thread in self._threads)

    def _serve(self, number: int) -> None:
        while (job := self._jobs.get()) is not None:
            result, error = None, None
            if job.over is not None or not job.future.cancelled():
                job.since = time.monotonic()
                _here.job = self._running[number] = job
                try:
                    result = job.work(*job.args)
                except BaseException as failure:  # noqa: BLE001 - whoever waits gets it
                    error = failure
                del self._running[number]
            self._done.append((job, result, error))
            _here.job = None
            del job, result, error
            if not self._told:
                self._told = True
                with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                    self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._told = False  # before looking, so that what comes from now on calls again
        while self._done:
            job, result, error = self._done.popleft()
            self._under_way -= 1
            future, over = job.future, job.over
            if not future.done():
                if error is None:
                    future.set_result(result)
                else:
                    future.set_exception(error)
                    if over is not None:
                        future.exception()  # seen, also when nobody waits any more
            if over is not None:
                over()
