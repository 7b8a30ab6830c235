# SPDX-License-Identifier: Apache-2.0
"""Where the data set of a message that arrives goes: to a sink, into memory, or nowhere."""

import logging
from collections.abc import Callable
from typing import Final, Protocol

from .service import Command, StoreSink

log = logging.getLogger(__name__)


class Incoming(Protocol):
    """Takes the data set of one message."""

    command: Command

    def write(self, piece: memoryview) -> None:
        """Take the next piece; the view dies afterwards."""

    def end(self) -> None:
        """The last fragment has been written."""

    def discard(self, reason: str) -> None:
        """The association died before the last fragment."""


class Storing:
    """A C-STORE data set on its way into a sink."""

    __slots__ = ("_done", "_failed", "_pause", "_sink", "command")

    def __init__(
        self,
        command: Command,
        sink: StoreSink,
        *,
        pause: Callable[[], None],
        done: Callable[[Command, StoreSink | None], None],
    ) -> None:
        self.command = command
        self._sink = sink
        self._pause = pause
        self._done = done
        self._failed = False

    def write(self, piece: memoryview) -> None:
        """Hand the piece to the sink; a sink that raises is discarded and the rest dropped."""
        if self._failed:
            return
        try:
            wants_more = self._sink.write(piece)
        except Exception:
            log.exception("C-STORE: the sink failed while it was written to")
            self._failed = True
            self._sink.discard("the sink failed")
            return
        if not wants_more:
            self._pause()

    def end(self) -> None:
        """Have the object finished, or the failure answered."""
        self._done(self.command, None if self._failed else self._sink)

    def discard(self, reason: str) -> None:
        """Make the sink leave nothing behind."""
        if not self._failed:
            self._failed = True
            self._sink.discard(reason)


class Collecting:
    """An identifier, attribute list or the like: kept in memory up to a cap."""

    __slots__ = ("_bytes", "_done", "_limit", "_too_big", "command")

    def __init__(
        self, command: Command, *, limit: int, done: Callable[[Command, bytes | None], None]
    ) -> None:
        self.command = command
        self._bytes = bytearray()
        self._limit: Final = limit
        self._too_big = False
        self._done = done

    def write(self, piece: memoryview) -> None:
        """Keep the piece, unless the cap is passed: then nothing is kept any more."""
        if self._too_big:
            return
        if len(self._bytes) + len(piece) > self._limit:
            self._too_big = True
            self._bytes = bytearray()
            return
        self._bytes += piece

    def end(self) -> None:
        """Hand on what was collected; None when it was too big."""
        self._done(self.command, None if self._too_big else bytes(self._bytes))

    def discard(self, reason: str) -> None:
        """Forget it."""
        self._bytes = bytearray()


class Dropping:
    """A data set nobody wants; the refusal is sent after its last fragment."""

    __slots__ = ("_done", "command")

    def __init__(self, command: Command, *, done: Callable[[], None]) -> None:
        self.command = command
        self._done = done

    def write(self, piece: memoryview) -> None:
        """Throw the piece away."""

    def end(self) -> None:
        """Send the refusal."""
        self._done()

    def discard(self, reason: str) -> None:
        """There is nothing to forget."""
