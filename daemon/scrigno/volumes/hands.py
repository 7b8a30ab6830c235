# SPDX-License-Identifier: Apache-2.0
"""A few threads for blocking work, with as few wake-ups as can be.

What several jobs answer at one time wakes the loop once. A thread is started only when more jobs
are under way than there are threads, so that one sender is served by one thread.
"""

import asyncio
import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

_Done = tuple["asyncio.Future[Any]", Any, BaseException | None, Callable[[], None] | None]


class _Job:
    """What is to be done, who waits for it, and who must hear of its end in any case."""

    __slots__ = ("args", "future", "over", "work")

    def __init__(
        self,
        work: Callable[..., Any],
        args: tuple[object, ...],
        future: "asyncio.Future[Any]",
        over: Callable[[], None] | None,
    ) -> None:
        self.work = work
        self.args = args
        self.future = future
        self.over = over


class Hands:
    """At most `most` threads. Loop thread only."""

    def __init__(self, most: int, name: str) -> None:
        """Start no thread yet."""
        self._loop = asyncio.get_running_loop()
        self._most = most
        self._name = name
        self._threads: list[threading.Thread] = []
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
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
            thread = threading.Thread(target=self._serve, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()
        self._jobs.put(_Job(work, args, future, over))
        return future

    def dismiss(self) -> None:
        """Take no more jobs and let the threads end when those given are done."""
        for _ in self._threads:
            self._jobs.put(None)

    @property
    def gone(self) -> bool:
        """Tell whether every thread has ended."""
        return not any(thread.is_alive() for thread in self._threads)

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            result, error = None, None
            if job.over is not None or not job.future.cancelled():
                try:
                    result = job.work(*job.args)
                except BaseException as failure:  # noqa: BLE001 - whoever waits gets it
                    error = failure
            self._done.append((job.future, result, error, job.over))
            del job, result, error
            if not self._told:
                self._told = True
                with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                    self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._told = False  # before looking, so that what comes from now on calls again
        while self._done:
            future, result, error, over = self._done.popleft()
            self._under_way -= 1
            if not future.cancelled():
                if error is None:
                    future.set_result(result)
                else:
                    future.set_exception(error)
                    if over is not None:
                        future.exception()  # seen, also when nobody waits any more
            if over is not None:
                over()
