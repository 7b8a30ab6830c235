# SPDX-License-Identifier: Apache-2.0
"""One thing that is watched: asked again and again, with its own limit and its own failure."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from scrigno.core.errors import ScrignoError
from scrigno.host.facts import NotAvailable

from .machine_facts import SensorFailure

log = logging.getLogger(__name__)

RETRY_S: Final = 300.0  # a source that failed is asked again sooner than in an hour
LEAST_GAP_S: Final = 0.25  # however often it is woken: a storm of mounts costs little
Failures = Mapping[str, SensorFailure]


class SourceFailed(ScrignoError):
    """A source could not be read."""

    code = "source-failed"

    def __init__(self, answer: NotAvailable) -> None:
        """Keep what the machine said."""
        super().__init__(f"{answer.source}: {answer.reason}")
        self.failure = failure_of(answer)


def failure_of(answer: NotAvailable) -> SensorFailure:
    """Return why nothing can be said, as a fact."""
    return SensorFailure(reason=f"{answer.source}: {answer.reason}", absent=answer.absent)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How often a source is asked, and how long one asking may take."""

    every_s: float
    timeout_s: float


class Source:
    """Asks one source for ever; whatever it does, the others go on. Loop only."""

    def __init__(self, name: str, pace: Pace, ask: Callable[[], Awaitable[Failures]]) -> None:
        """`ask` keeps what it learns and returns what within it failed, by name in words."""
        self.name = name
        self.failures: Failures = {}
        self._pace = pace
        self._ask = ask
        self._awake = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()

    async def poll(self) -> None:
        """Ask once; never raises but when cancelled, and comes back in its time."""
        async with self._one_at_a_time:
            await self._poll()

    async def _poll(self) -> None:
        before = self.failures
        try:
            async with asyncio.timeout(self._pace.timeout_s):
                self.failures = await self._ask()
        except TimeoutError:
            self._failed(SensorFailure(reason=f"no answer in {self._pace.timeout_s:g} s"))
        except SourceFailed as error:
            self._failed(error.failure)
        except Exception as error:
            # A watch that ends is a fault nobody would notice: it is told and it goes on.
            log.exception("%s: the watch failed", self.name)
            self._failed(SensorFailure(reason=f"{type(error).__name__}: {error}"))
        for name in self.failures.keys() - before.keys():
            log.warning("%s cannot be watched: %s", name, self.failures[name].reason)
        for name in before.keys() - self.failures.keys():
            log.info("%s can be watched again", name)

    def _failed(self, failure: SensorFailure) -> None:
        self.failures = {self.name: failure}

    def wake(self) -> None:
        """Ask again at once."""
        self._awake.set()

    async def keep_polling(self, polled: Callable[[], None]) -> None:
        """Poll until cancelled and call back after each time."""
        while True:
            self._awake.clear()
            await self.poll()
            polled()
            every_s = self._pace.every_s
            wait_s = min(every_s, RETRY_S) if self.failures else every_s
            await asyncio.sleep(min(wait_s, LEAST_GAP_S))
            try:
                async with asyncio.timeout(wait_s):
                    await self._awake.wait()
            except TimeoutError:
                continue
