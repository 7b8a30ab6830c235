# SPDX-License-Identifier: Apache-2.0
"""Asks everybody who knows of conditions, again and again, and feeds the alert book.

A source that raises or does not answer in time is an alert itself (`sensor-failed`); what it said
before stands until it speaks again, because silence does not mean that all is well.
"""

import asyncio
import contextlib
import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final

from scrigno.core.counters import Counters
from scrigno.core.errors import ScrignoError

from .book import AlertBook
from .conditions import Condition, condition, in_order
from .ending import ended

log = logging.getLogger(__name__)

EVERY_S: Final = 2.0  # well inside the ten seconds in which an alert has to be there
TIMEOUT_S: Final = 10.0

Poll = Callable[[], Iterable[Condition] | Awaitable[Iterable[Condition]]]


@dataclass(slots=True)
class _Source:
    """One of those who are asked."""

    name: str
    poll: Poll
    every_s: float
    timeout_s: float
    wake: asyncio.Event
    held: tuple[Condition, ...] = ()
    failure: str = ""


class Sources:
    """Polls each source in a task of its own. Loop thread only."""

    def __init__(self, book: AlertBook, *, counters: Counters) -> None:
        """Hold the book; `add` names who is asked."""
        self._book = book
        self._counters = counters
        self._sources: list[_Source] = []
        self._tasks: list[asyncio.Task[None]] = []

    def add(
        self, name: str, poll: Poll, *, every_s: float = EVERY_S, timeout_s: float = TIMEOUT_S
    ) -> None:
        """Ask `poll`, which must not block the loop, from `start` on. `name` is shown to people."""
        self._sources.append(
            _Source(
                name=name, poll=poll, every_s=every_s, timeout_s=timeout_s, wake=asyncio.Event()
            )
        )

    def start(self) -> None:
        """Begin to ask; returns at once."""
        self._tasks = [self._begin(source) for source in self._sources]

    def _begin(self, source: _Source) -> asyncio.Task[None]:
        return asyncio.create_task(self._run(source), name=f"alert-source-{source.name}")

    async def close(self) -> None:
        """Stop asking; idempotent."""
        tasks, self._tasks = self._tasks, []
        await ended(tasks)

    def nudge(self) -> None:
        """Ask everybody now: something happened."""
        for source in self._sources:
            source.wake.set()

    def conditions(self) -> tuple[Condition, ...]:
        """Return everything that holds as far as is known, the worst first."""
        found: list[Condition] = []
        for source in self._sources:
            found.extend(source.held)
            if source.failure:
                found.append(condition("sensor-failed", subject=source.name, reason=source.failure))
        return in_order(found)

    async def _run(self, source: _Source) -> None:
        while True:
            source.wake.clear()
            await self._ask(source)
            try:
                self._book.update(self.conditions())
            except Exception:
                # One odd condition must not end the watch over everything else.
                self._counters.add("alert_book_failures")
                log.exception("alert book: an update failed")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(source.every_s):
                    await source.wake.wait()

    async def _ask(self, source: _Source) -> None:
        try:
            async with asyncio.timeout(source.timeout_s):
                answer = source.poll()
                source.held = tuple(await answer if inspect.isawaitable(answer) else answer)
        except TimeoutError:
            self._failed(source, f"no answer in {source.timeout_s:g} s")
        except Exception as error:  # noqa: BLE001 - whatever it is, people have to know
            self._failed(source, error.reason if isinstance(error, ScrignoError) else repr(error))
        else:
            source.failure = ""

    def _failed(self, source: _Source, reason: str) -> None:
        """Note a failure; called in the handler of its exception."""
        self._counters.add("alert_source_failures", source=source.name)
        if not source.failure:
            log.exception("alert source %s: %s", source.name, reason)  # noqa: LOG004 - see above
        source.failure = reason
