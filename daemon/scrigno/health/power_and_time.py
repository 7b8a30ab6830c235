# SPDX-License-Identifier: Apache-2.0
"""Watching the UPS and the clock."""

import asyncio
from collections.abc import Callable
from typing import Final

from scrigno.host.facts import NotAvailable
from scrigno.host.machine import Machine
from scrigno.host.timesync import STEP_THRESHOLD_S, ClockSample, step_s
from scrigno.host.ups import Ups

from .machine_facts import ClockFacts, UpsFacts
from .machine_memory import MachineMemory
from .watched_source import Failures, SourceFailed

SLACK_S: Final = 1.0  # left of a source's time, so that silence is told as the UPS's own


class UpsLook:
    """What is known of the UPS. Loop only."""

    def __init__(self, machine: Machine, name: Callable[[], str], *, timeout_s: float) -> None:
        """Ask the UPS that `name` tells; "" means that there is none."""
        self._machine = machine
        self._name = name
        self._timeout_s = max(timeout_s - SLACK_S, timeout_s / 2)
        self._asked = ""
        self._last: Ups | None = None
        self._silence = ""
        self._silent_since_s = 0.0

    async def ask(self) -> Failures:
        """Ask once. A UPS that does not answer is a condition of its own, not a failed source."""
        name = self._name()
        if name != self._asked:
            self._asked, self._last, self._silence = name, None, ""
        if not name:
            return {}
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await self._machine.ups(name)
        except TimeoutError:
            answer = NotAvailable(source="upsc", reason=f"no answer in {self._timeout_s:g} s")
        if isinstance(answer, Ups):
            self._last, self._silence = answer, ""
            return {}
        if not self._silence:
            self._silent_since_s = self._machine.clock_sample().elapsed_s
        self._silence = answer.reason
        return {}

    @property
    def facts(self) -> UpsFacts | None:
        """Return what is known now, None when there is no UPS."""
        if not self._asked:
            return None
        silent_s = self._machine.clock_sample().elapsed_s - self._silent_since_s
        return UpsFacts(
            name=self._asked,
            last=self._last,
            silence=self._silence,
            silent_s=silent_s if self._silence else 0,
        )


class ClockLook:
    """What is known of the clock. Loop only."""

    def __init__(
        self, machine: Machine, memory: MachineMemory, stepped: Callable[[float], None]
    ) -> None:
        """Call `stepped` with the seconds, forward positive, whenever the wall clock was set."""
        self._machine = machine
        self._memory = memory
        self._stepped = stepped
        self._before: ClockSample | None = None
        self._synchronised = True
        self._reason = ""
        self._unsynchronised_since_s: float | None = None
        self._doubt_s = 0.0

    async def ask(self) -> Failures:
        """Look at both clocks and at who disciplines them."""
        now = self._machine.clock_sample()
        step = self._step(now)
        self._before = now
        if step is not None:
            self._doubt_s += step
            self._stepped(step)
        state = await self._machine.clock()
        if isinstance(state, NotAvailable):
            raise SourceFailed(state)
        self._synchronised = state.synchronised
        if state.synchronised:
            self._unsynchronised_since_s = None
            if step is None:  # one more look, so that the word is younger than the step
                self._doubt_s = 0.0
        elif self._unsynchronised_since_s is None:
            self._unsynchronised_since_s = now.elapsed_s
        self._reason = f"no time server has set it ({state.source})"
        return {}

    def _step(self, now: ClockSample) -> float | None:
        if self._before is not None:
            return step_s(self._before, now)
        # A box that starts before the moment it was last running has lost its clock (an empty
        # battery of the main board); how long it was off nobody knows, so it is at least this.
        noted = self._memory.wall_s
        if noted is not None and now.wall_s < noted - STEP_THRESHOLD_S:
            return now.wall_s - noted
        return None

    @property
    def facts(self) -> ClockFacts:
        """Return what is known now."""
        since = self._unsynchronised_since_s
        elapsed_s = self._machine.clock_sample().elapsed_s
        return ClockFacts(
            synchronised=self._synchronised,
            reason=self._reason,
            unsynchronised_s=0 if since is None else elapsed_s - since,
            doubt_s=self._doubt_s,
        )
