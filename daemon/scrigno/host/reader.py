# SPDX-License-Identifier: Apache-2.0
"""A bounded place for reads that may wait for ever.

Each read has a daemon thread of its own, a few at once. A `ThreadPoolExecutor` would be joined when
the interpreter ends, so one sensor of a hung disk would keep the daemon from stopping.
"""

import asyncio
import contextlib
from collections.abc import Callable
from threading import Thread
from typing import TypeVar

from .facts import FactsUnreadable, NotAvailable

_T = TypeVar("_T")
_V = TypeVar("_V")


class Reader:
    """Runs blocking reads beside the loop, `at_once` of them. Loop only.

    A read over its time is left behind and answered `NotAvailable`. When all places are taken by
    such reads the next one is refused at once; they are free again when the reads come back.
    """

    def __init__(self, name: str, *, at_once: int, timeout_s: float) -> None:
        self._name = name
        self._at_once = at_once
        self._timeout_s = timeout_s
        self._places = asyncio.Semaphore(at_once)
        self._stuck = 0

    async def read(self, source: str, call: Callable[[], _T]) -> _T | NotAvailable:
        """Return what `call` returns, or why not; FactsUnreadable and OSError are such reasons."""
        if self._stuck >= self._at_once:
            return NotAvailable(source=source, reason="earlier reads have not come back")
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._places.acquire()
        except TimeoutError:
            return NotAvailable(source=source, reason=f"no place in {self._timeout_s:g} s")
        future: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        Thread(target=_work, args=(future, call), name=f"host-{self._name}", daemon=True).start()
        try:
            await asyncio.wait([future], timeout=self._timeout_s)
        finally:  # also when the caller is cancelled
            if future.done():
                self._places.release()
            else:
                self._stuck += 1
                future.add_done_callback(self._came_back)
        if not future.done():
            return NotAvailable(source=source, reason=f"no answer in {self._timeout_s:g} s")
        try:
            return future.result()
        except (FactsUnreadable, OSError) as error:
            return NotAvailable(source=source, reason=str(error))

    def _came_back(self, future: asyncio.Future[_T]) -> None:
        self._stuck -= 1
        self._places.release()
        future.exception()  # nobody waits for it any more


def _work(future: asyncio.Future[_T], call: Callable[[], _T]) -> None:
    loop = future.get_loop()
    try:
        result = call()
    except Exception as error:  # noqa: BLE001 - it goes to whoever asked
        deliver: Callable[[], None] = _setter(future.set_exception, error)
    else:
        deliver = _setter(future.set_result, result)
    with contextlib.suppress(RuntimeError):  # the loop ended meanwhile, nobody asks any more
        loop.call_soon_threadsafe(deliver)


def _setter(setter: Callable[[_V], None], value: _V) -> Callable[[], None]:
    return lambda: setter(value)
