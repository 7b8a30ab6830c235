# SPDX-License-Identifier: Apache-2.0
"""Small objects that were just read, and the next ones of their series, kept in memory a while.

A viewer walks through a series: what it asks for next is read while the frame before is on its way.
What is kept was checked against its digest when it was read. Loop thread only.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from scrigno.archive.errors import ObjectUnavailable
from scrigno.catalogue.records import StoredInstance
from scrigno.core.errors import ScrignoError

KEPT_BYTES: Final = 48 << 20  # of the 150 MB that the main process may take
IDLE_S: Final = 30.0
AHEAD: Final = 6

Read = Callable[[StoredInstance], Awaitable[bytes]]


class ReadAhead:
    """Objects by their digest."""

    def __init__(self, read: Read) -> None:
        """Read whole, checked objects by `read`."""
        self._read = read
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._size = 0
        self._reading: dict[str, asyncio.Task[bytes]] = {}
        self._fetching: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._used_at = 0.0

    async def get(self, instance: StoredInstance) -> bytes:
        """Return the whole object; raises ObjectUnavailable."""
        self._touch()
        kept = self._kept.get(instance.digest)
        if kept is not None:
            self._kept.move_to_end(instance.digest)
            return kept
        running = self._reading.get(instance.digest)
        if running is None:
            running = asyncio.create_task(self._fetch(instance))
            self._reading[instance.digest] = running
            running.add_done_callback(lambda _: self._reading.pop(instance.digest, None))
        return await asyncio.shield(running)

    def expect(self, instances: Sequence[StoredInstance]) -> None:
        """Read these in the background as far as they are not there; at once one walk only."""
        missing = [each for each in instances[:AHEAD] if each.digest not in self._kept]
        if missing and (self._fetching is None or self._fetching.done()):
            self._fetching = asyncio.create_task(self._walk(missing))

    async def close(self) -> None:
        """Stop reading and let the memory go."""
        tasks = [*self._reading.values(), *([self._fetching] if self._fetching else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._forget()

    async def _walk(self, instances: Sequence[StoredInstance]) -> None:
        for each in instances:
            try:
                await self.get(each)
            except ScrignoError:
                return  # whoever asks for it hears why

    async def _fetch(self, instance: StoredInstance) -> bytes:
        content = await self._read(instance)
        if len(content) != instance.size:
            raise ObjectUnavailable("The object is shorter than it was received.")
        self._kept[instance.digest] = content
        self._size += len(content)
        while self._size > KEPT_BYTES:
            _, gone = self._kept.popitem(last=False)
            self._size -= len(gone)
        return content

    def _touch(self) -> None:
        loop = asyncio.get_running_loop()
        self._used_at = loop.time()
        if self._timer is None:
            self._timer = loop.call_later(IDLE_S, self._look)

    def _look(self) -> None:
        """Let everything go when nobody asked for a while."""
        loop = asyncio.get_running_loop()
        self._timer = None
        left = self._used_at + IDLE_S - loop.time()
        if left <= 0:
            self._forget()
        else:
            self._timer = loop.call_later(left, self._look)

    def _forget(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._kept.clear()
        self._size = 0
