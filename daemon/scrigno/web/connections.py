# SPDX-License-Identifier: Apache-2.0
"""Open connections of the pages: those that say nothing, or too slowly, are ended.

aiohttp waits for ever for the head of a first request, so a thousand silent connections would
cost descriptors and memory until somebody looks. A connection with no request at work is ended
after IDLE_S; over MOST_OPEN the longest idle ones go at once, those of the busiest address first.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable
from typing import Final, Protocol

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from scrigno.core.counters import Counters

IDLE_S: Final = 30.0
LOOK_EVERY_S: Final = 2.0
MOST_OPEN: Final = 1000
MOST_WRITING_S: Final = 900.0  # a large answer on a slow line


class Open(Protocol):
    """One connection as aiohttp has it."""

    transport: asyncio.Transport | None


class Connections:
    """Knows which connections are at work. Loop thread only."""

    def __init__(
        self, counters: Counters, *, idle_s: float = IDLE_S, most: int = MOST_OPEN
    ) -> None:
        """Start with none."""
        self._counters = counters
        self._idle_s = idle_s
        self._most = most
        self._busy: Counter[int] = Counter()
        self._since: dict[int, float] = {}  # idle since, by the connection's id

    def middleware(self) -> Middleware:
        """Return the middleware that notes when a connection works."""

        @web.middleware
        async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
            at_work = id(request.protocol)
            self._busy[at_work] += 1
            try:
                return await handler(request)
            finally:
                self._busy[at_work] -= 1
                if not self._busy[at_work]:
                    del self._busy[at_work]
                self._since[at_work] = _now()

        return middleware

    def look(self, connections: Iterable[Open]) -> None:
        """End those that are idle too long, or too many."""
        now = _now()
        idle: list[tuple[float, Open]] = []
        total = 0
        known: dict[int, float] = {}
        for each in connections:
            total += 1
            if each.transport is None or self._busy.get(id(each)):
                continue
            since = known[id(each)] = self._since.get(id(each), now)
            limit = MOST_WRITING_S if each.transport.get_write_buffer_size() else self._idle_s
            if now - since > limit:
                self._end(each)
                total -= 1
            else:
                idle.append((since, each))
        self._since = known  # those that went are forgotten
        self._thin_out(idle, total - self._most)

    def _thin_out(self, idle: list[tuple[float, Open]], over: int) -> None:
        if over <= 0:
            return
        by_address = Counter(_address(each) for _, each in idle)
        worst_first = sorted(idle, key=lambda pair: (-by_address[_address(pair[1])], pair[0]))
        for _, each in worst_first[:over]:
            self._end(each)

    def _end(self, connection: Open) -> None:
        self._counters.add("web_connections_ended_total", reason="idle")
        if connection.transport is not None:
            connection.transport.abort()


def _address(connection: Open) -> str:
    peer = connection.transport.get_extra_info("peername") if connection.transport else None
    return str(peer[0]) if peer else ""


def _now() -> float:
    return asyncio.get_running_loop().time()
