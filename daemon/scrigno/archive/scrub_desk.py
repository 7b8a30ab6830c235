# SPDX-License-Identifier: Apache-2.0
"""What the scrub remembers of each volume while it runs, and which disks it has in hand."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from scrigno.catalogue.fixity import Mark, ScrubRow
from scrigno.host.files import write_durably

log = logging.getLogger(__name__)


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


class PauseMark:
    """The file that stands while an operator has paused the scrub, so that a restart keeps to it.

    Loop thread only. A state directory that cannot be written is told and stops nothing.
    """

    def __init__(self, path: Path | None) -> None:
        """Without a path nothing is kept."""
        self._path = path
        self._task: asyncio.Task[None] | None = None

    async def stands(self) -> bool:
        """Tell whether it was paused when the last run ended; False once something was set."""
        if self._path is None or self._task is not None:
            return False
        return await asyncio.to_thread(self._path.exists)

    def set(self, *, paused: bool) -> None:
        """Keep it; what was said last counts."""
        if self._path is not None:
            keeping = self._keep(self._path, self._task, paused=paused)
            self._task = asyncio.create_task(keeping, name="scrub-pause")

    async def close(self) -> None:
        """Wait until it is kept."""
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    async def _keep(self, path: Path, before: asyncio.Task[None] | None, *, paused: bool) -> None:
        if before is not None:
            await before
        try:
            if paused:
                await asyncio.to_thread(write_durably, path, b"paused\n")
            else:
                await asyncio.to_thread(path.unlink, missing_ok=True)
        except OSError as error:
            log.warning("scrub: the pause is not kept for a restart: %s", error.strerror)
