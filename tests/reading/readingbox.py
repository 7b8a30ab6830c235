# SPDX-License-Identifier: Apache-2.0
"""A box of documents: a real state directory and real volumes, all of which can be taken away."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scrigno.core.clock import SystemClock
from scrigno.core.counters import Counters
from scrigno.core.events import Event, EventBus, ReadingChanged, ReadingConflict, ShareChanged
from scrigno.reading.reading import Reading
from scrigno.volumes.states import Role, VolumeSpec
from scrigno.volumes.volume import Volumes


@dataclass
class ReadingBox:
    """A system disk, two volumes, and what is said about them."""

    root: Path
    state: str = "state"
    names: tuple[str, ...] = ("data", "backup1")
    events: list[Event] = field(default_factory=list)
    audited: list[tuple[str, str, str]] = field(default_factory=list)
    reading: Reading = None  # type: ignore[assignment]
    volumes: Volumes = None  # type: ignore[assignment]
    bus: EventBus = None  # type: ignore[assignment]
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    def audit(self, who: str, action: str, subject: str, *_: Any) -> None:
        self.audited.append((who, action, subject))

    async def start(self) -> None:
        for name in (self.state, *self.names):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        self.bus, counters, clock = EventBus(), Counters(), SystemClock()
        for kind in (ReadingChanged, ReadingConflict, ShareChanged):
            self.bus.subscribe(kind, self.events.append)
        self.volumes = Volumes(
            [
                VolumeSpec(
                    name=name,
                    role=Role.DATA if name == "data" else Role.BACKUP,
                    path=self.root / name,
                )
                for name in self.names
            ],
            state_dir=self.root / self.state,
            counters=counters,
            bus=self.bus,
            clock=clock,
        )
        await self.volumes.start()
        self._stack.push_async_callback(self.volumes.close)
        self.reading = Reading(
            self.root / self.state,
            volumes=self.volumes,
            bus=self.bus,
            counters=counters,
            clock=clock,
            audit=self.audit,
        )
        self._stack.push_async_callback(self.reading.close)
        await self.reading.open()
        self.reading.start()

    async def stop(self) -> None:
        await self._stack.aclose()
        self._stack = AsyncExitStack()

    async def paid(self) -> None:
        """Wait until no volume is owed anything."""
        async with asyncio.timeout(20):
            while any((await self.reading.files.owed()).values()):
                await asyncio.sleep(0.02)

    def files(self, volume: str) -> list[Path]:
        return sorted((self.root / volume / "reading").rglob("*.json"))
