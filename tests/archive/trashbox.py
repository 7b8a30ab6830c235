# SPDX-License-Identifier: Apache-2.0
"""An archive with a trash, and volumes that a test can take away and bring back."""

import asyncio
import hashlib
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from archivebox import Box, made
from typing_extensions import override

from scrigno.archive.trash import Trash, TrashRules
from scrigno.catalogue.records import StudyListQuery
from scrigno.catalogue.trash_items import TrashItem, TrashState
from scrigno.core.clock import SystemClock
from scrigno.core.events import InstanceHeld, InstanceStored, StudyRemoved, StudyReturned
from scrigno.volumes.states import VolumeState


class TestClock(SystemClock):
    """The machine's clock, set wrong or running ahead as a test wants it."""

    __test__ = False

    def __init__(self) -> None:
        self.wall_ahead = timedelta()
        self.run_ahead_s = 0.0

    @override
    def now(self) -> datetime:
        return super().now() + self.wall_ahead

    @override
    def monotonic(self) -> float:
        return super().monotonic() + self.run_ahead_s


@dataclass
class TrashBox(Box):
    """A Box whose trash moves files only in `settled`, unless it is started."""

    trash_days: int = 30
    said: list[tuple[Any, ...]] = field(default_factory=list)

    @override
    def _compose(self) -> None:
        super()._compose()
        self.clock = TestClock()
        for kind in (StudyRemoved, StudyReturned):
            self.bus.subscribe(kind, self.events.append)
        self.trash = Trash(
            catalogue=self.catalogue,
            volumes=self.volumes,
            staging=self.staging,
            placement=self.placement,
            taking=self.taking,
            rules=lambda: TrashRules(trash_days=self.trash_days),
            bus=self.bus,
            counters=self.counters,
            clock=self.clock,
            turn=self.taking.turn,
            audit=lambda *args: self.said.append(args),
            on_debt=self.replicator.nudge,
        )
        self.rebuilder.trash = self.trash

    @override
    async def open(self) -> "TrashBox":
        await super().open()
        await self.trash.open()
        return self

    @override
    async def close(self) -> None:
        await self.trash.close()
        await super().close()

    async def delete(self, study: str, **more: Any) -> TrashItem:
        return await self.trash.delete(study, reason="a test", user="anna", **more)

    async def replicated(self) -> None:
        """Pay what volumes that are there are owed."""
        for volume in self.volumes.healthy():
            await self.replicator.pay(volume)

    async def settled(self) -> None:
        """Let the trash do what it can do now."""
        await self.trash.round()
        assert self.trash.error == ""

    def objects_on(self, volume: str, top: str) -> list[str]:
        """Return the names of the objects under a top folder, without what the trash adds."""
        found = [
            key.rpartition("/")[2] for key in self.on(volume, f"{top}/") if key.endswith(".dcm")
        ]
        return sorted(found)

    async def take_away(self, volume: str) -> None:
        """Let a volume be unplugged: its folder is not there."""
        path = self.root / volume
        await asyncio.to_thread(path.rename, path.with_name(f"{volume}-away"))
        await self.until(lambda: self.volumes.by_name(volume).state is VolumeState.ABSENT)

    async def bring_back(self, volume: str) -> None:
        path = self.root / volume
        await asyncio.to_thread(path.with_name(f"{volume}-away").rename, path)
        await self.until(lambda: self.volumes.by_name(volume).state is VolumeState.ONLINE)

    async def states(self) -> list[TrashState]:
        return [item.state for item in await self.trash.items()]

    def happened(self) -> list[str]:
        wanted = (InstanceStored, InstanceHeld, StudyRemoved, StudyReturned)
        return [type(event).__name__ for event in self.events if isinstance(event, wanted)]


async def open_box(root: Path, **changes: Any) -> TrashBox:
    box = TrashBox(root, **changes)
    return await box.open()


STUDY = "1.2.826.0.1.1"
BOTH = ("data", "backup1")


async def filled(box: TrashBox, images: int = 3, **changes: Any) -> None:
    """Store images and let every volume have its copy."""
    for number in range(1, images + 1):
        await box.store(made(number, **changes))
    await box.replicated()


async def shown(box: TrashBox) -> Any:
    """Return everything of the archive that people and peers see, and every copy."""
    page = await box.catalogue.study_page(StudyListQuery())
    keys = [
        (row.sop_instance_uid, row.key, row.digest, row.copies)
        async for row in box.catalogue.all_keys()
    ]
    return (
        page,
        [await box.catalogue.study(row.study_instance_uid) for row in page.rows],
        await box.catalogue.totals(),
        await box.catalogue.volume_tallies(),
        keys,
    )


async def readable(box: TrashBox) -> int:
    """Read every archived object whole; return how many there are."""
    count = 0
    async for row in box.catalogue.all_keys():
        instance = await box.catalogue.instance(row.sop_instance_uid)
        assert instance is not None
        content = await box.retrieval.read(instance, limit_bytes=1 << 20)
        assert hashlib.sha256(content).hexdigest() == row.digest
        count += 1
    return count


async def is_sound(box: TrashBox) -> None:
    assert await box.catalogue.check() == []
    report = await box.reconciler.reconcile()
    assert report.discrepancies == []
