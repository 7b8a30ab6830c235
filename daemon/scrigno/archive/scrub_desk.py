# SPDX-License-Identifier: Apache-2.0
"""What the scrub remembers of each volume while it runs, and which disks it has in hand."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum

from scrigno.catalogue.fixity import Mark, ScrubRow


class ScrubState(StrEnum):
    """What the scrub of one volume does."""

    IDLE = "idle"  # no pass is due
    RUNNING = "running"
    PAUSED = "paused"  # by an operator
    WAITING = "waiting"  # a pass is due or under way and must not read now; `reason` says why


@dataclass(slots=True)
class Desk:
    """One volume's scrub."""

    name: str
    row: ScrubRow
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    marks: list[Mark] = field(default_factory=list)
    state: ScrubState = ScrubState.IDLE
    reason: str = ""
    forced: bool = False
    saved_s: float = 0.0
    swept_s: float | None = None
    spared_until_s: float = 0.0
    unreadable: int = 0  # one after the other
    stuck: tuple[int, int] = (0, 0)  # at which object the volume left, and how often
    ready_s: float = 0.0  # when the next byte may be read
    bytes_per_s: float | None = None
    total_objects: int = 0
    total_bytes: int = 0
    task: asyncio.Task[None] | None = None


class Disks:
    """Which physical disks are being scrubbed."""

    def __init__(self) -> None:
        self._busy: set[str] = set()
        self._freed = asyncio.Condition()

    def free(self, devices: frozenset[str]) -> bool:
        """Tell whether none of them is in use."""
        return not self._busy & devices

    @asynccontextmanager
    async def use(self, devices: frozenset[str]) -> AsyncIterator[None]:
        """Wait for all of them."""
        async with self._freed:
            await self._freed.wait_for(lambda: self.free(devices))
            self._busy |= devices
        try:
            yield
        finally:
            self._busy -= devices
            async with self._freed:
                self._freed.notify_all()
