# SPDX-License-Identifier: Apache-2.0
"""Requests of ours that wait for the peer's responses."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from .dimse import is_pending
from .errors import AssociationLost
from .service import Command

# What the caller has not taken yet, in bytes: above the one we stop reading, below the other we
# go on. A response without data counts as much as its objects cost us.
_QUEUE_HIGH: Final = 1024 * 1024
_QUEUE_LOW: Final = 256 * 1024
_RESPONSE_COST: Final = 1024


class Pending:
    """One request of ours and the responses to it, in order.

    `over` is called when the final response arrived: the request no longer counts towards the
    asynchronous operations window.
    """

    def __init__(
        self,
        *,
        message_id: int,
        pause: Callable[[object], None],
        resume: Callable[[object], None],
    ) -> None:
        self.message_id = message_id
        self.abandoned = False
        self._pause = pause
        self._resume = resume
        self._responses: deque[tuple[Command, bytes | None]] = deque()
        self._queued = 0
        self._lost: str | None = None
        self._arrived = asyncio.Event()

    def arrive(self, command: Command, data: bytes | None) -> bool:
        """Take a response; True when it is the final one."""
        if not self.abandoned:
            self._responses.append((command, data))
            self._arrived.set()
            self._queued += _cost(data)
            if self._queued >= _QUEUE_HIGH:
                self._pause(self)
        return not is_pending(command.status)

    def abandon(self) -> None:
        """The caller left: further responses are thrown away."""
        self.abandoned = True
        self._responses.clear()
        self._resume(self)

    def lose(self, words: str) -> None:
        """The association is over."""
        self._lost = words
        self._arrived.set()

    async def next(self, timeout_s: float) -> tuple[Command, bytes | None]:
        """Return the next response; TimeoutError, or AssociationLost when none can come."""
        while not self._responses:
            if self._lost is not None:
                raise AssociationLost(self._lost)
            self._arrived.clear()
            async with asyncio.timeout(timeout_s):
                await self._arrived.wait()
        response = self._responses.popleft()
        self._queued -= _cost(response[1])
        if self._queued < _QUEUE_LOW:
            self._resume(self)
        return response


def _cost(data: bytes | None) -> int:
    return _RESPONSE_COST + (len(data) if data is not None else 0)


class Window:
    """How many requests of ours may be outstanding (PS3.7 annex D.3.3.3)."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._used = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def enter(self) -> None:
        """Wait for a place, in the order of asking."""
        if self._used < self._size and not self._waiting:
            self._used += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave()  # the place came at the same moment
            else:
                self._waiting.remove(turn)
            raise

    def leave(self) -> None:
        """Give the place to the next one."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._used -= 1
