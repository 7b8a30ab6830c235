# SPDX-License-Identifier: Apache-2.0
"""Objects that were just fetched, kept in memory for the next frames of them. Loop thread only."""

import asyncio
import os
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

SHELF_BYTES: Final = 256 << 20  # one object alone may be larger
SHELF_OBJECTS: Final = 32
IDLE_S: Final = 20.0  # a film that is looked at asks again long before


@dataclass(slots=True)
class _Kept:
    fd: int
    size: int
    used_at: float


class Shelf:
    """Descriptors by the digest of what they hold; each is fetched once for all who ask."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._fetching: dict[str, asyncio.Task[None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    async def get(self, key: str, fetch: Callable[[], Awaitable[int]]) -> int:
        """Return a descriptor of the object, which the caller closes; raises what `fetch` raises.

        `fetch` gives a descriptor that becomes ours.
        """
        while key not in self._kept:
            running = self._fetching.get(key)
            if running is None:
                running = asyncio.create_task(self._fetch(key, fetch))
                self._fetching[key] = running
                running.add_done_callback(lambda _: self._fetching.pop(key, None))
            await asyncio.shield(running)
            if self._closed:
                break
        kept = self._kept.pop(key)
        kept.used_at = asyncio.get_running_loop().time()
        self._kept[key] = kept
        return os.dup(kept.fd)

    async def _fetch(self, key: str, fetch: Callable[[], Awaitable[int]]) -> None:
        fd = await fetch()
        kept = _Kept(fd, os.fstat(fd).st_size, asyncio.get_running_loop().time())
        if self._closed:
            os.close(fd)
            return
        self._kept[key] = kept
        while len(self._kept) > 1 and (
            len(self._kept) > SHELF_OBJECTS
            or sum(each.size for each in self._kept.values()) > SHELF_BYTES
        ):
            os.close(self._kept.popitem(last=False)[1].fd)
        if self._timer is None:
            self._sweep()

    def _sweep(self) -> None:
        """Close what nobody asked for lately, and look again while anything is kept."""
        loop = asyncio.get_running_loop()
        while self._kept:
            key, oldest = next(iter(self._kept.items()))
            if loop.time() - oldest.used_at < IDLE_S:
                break
            os.close(oldest.fd)
            del self._kept[key]
        self._timer = loop.call_later(IDLE_S / 4, self._sweep) if self._kept else None

    async def close(self) -> None:
        """Let everything go; idempotent."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for task in tuple(self._fetching.values()):
            task.cancel()
        await asyncio.gather(*self._fetching.values(), return_exceptions=True)
        while self._kept:
            os.close(self._kept.popitem()[1].fd)
