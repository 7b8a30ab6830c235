# SPDX-License-Identifier: Apache-2.0
"""Verification on demand: every copy of a study, of everything, or of what a reader met (ST-6).

What is right is remembered as verified some hundred copies at a time, so that a thousand objects
are not a thousand commits.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from scrigno.catalogue.catalogue import Catalogue
from scrigno.catalogue.fixity import Mark
from scrigno.catalogue.records import StoredInstance
from scrigno.core.clock import Clock
from scrigno.core.counters import Counters
from scrigno.db.errors import DatabaseError

from .mend import Finding, Mender, Target

log = logging.getLogger(__name__)

AT_ONCE: Final = 2  # objects; the reads of one go to different volumes side by side
MAX_SUSPECTS: Final = 10_000  # a dead volume makes every object suspect; the scrub finds the rest
MAX_BAD: Final = 100_000  # named in a report; more are only counted
MARKS_AT_ONCE: Final = 400  # copies that share a transaction …
MARK_EVERY_S: Final = 1.0  # … or what was verified in this time


@dataclass(frozen=True, slots=True)
class BadCopy:
    """One copy that is not what was received."""

    volume: str
    key: str
    sop_instance_uid: str
    problem: Finding
    repaired: bool


@dataclass(slots=True)
class VerifyReport:
    """What a verification found so far."""

    instances: int = 0
    copies_good: int = 0
    copies_bad: int = 0
    copies_skipped: int = 0  # volume away
    repaired: int = 0
    bad: list[BadCopy] = field(default_factory=list)  # the first 100,000
    cancelled: bool = False
    verified_on: datetime | None = None  # of a study: its oldest verification afterwards
    unverified: int = 0  # of a study: copies that were never read back, even now


class Verifier:
    """Reads copies anew and compares them. Loop thread only."""

    def __init__(
        self, *, catalogue: Catalogue, mender: Mender, counters: Counters, clock: Clock
    ) -> None:
        """`mender` reads and repairs; it is shared with the scrub."""
        self._catalogue = catalogue
        self._mender = mender
        self._counters = counters
        self._clock = clock
        self._suspects: dict[str, None] = {}
        self._marks: list[Mark] = []
        self._marked_s = 0.0
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    # what readers met --------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to check what `suspect` names; returns at once."""
        self._task = asyncio.create_task(self._check_suspects(), name="check-suspects")

    async def close(self) -> None:
        """Stop. Idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def suspect(self, instance: StoredInstance) -> None:
        """Have the copies of an object checked and repaired soon; a reader met a bad one."""
        if len(self._suspects) < MAX_SUSPECTS:
            self._suspects[instance.sop_instance_uid] = None
            self._wake.set()

    async def _check_suspects(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            for uid in tuple(self._suspects):
                try:
                    await self.verify_instance(uid)
                except DatabaseError as error:
                    log.warning("object %s: is not checked now: %s", uid, error.reason)
                self._suspects.pop(uid, None)

    # verification ------------------------------------------------------------------------------

    async def verify(
        self,
        *,
        study_uid: str | None = None,
        repair: bool = True,
        progress: Callable[[int, int], None] | None = None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> VerifyReport:
        """Check one study, or everything; a bad copy is rewritten from a good one by `repair`.

        `progress(checked, total)` is called on the loop. Raises DatabaseError.
        """
        report = VerifyReport()
        if study_uid is None:
            total = (await self._catalogue.totals()).instances
            targets = _stored(self._catalogue)
        else:
            instances = await self._catalogue.instances(study_uid)
            total = len(instances)
            targets = _listed(instances)
        turn = asyncio.Lock()  # one worker at a time asks for the next object

        async def worker() -> None:
            while True:
                async with turn:
                    target = await anext(targets, None)
                if target is None:
                    return
                if cancelled():
                    report.cancelled = True
                    return
                await self._check(target, report, repair=repair)
                report.instances += 1
                if progress is not None:
                    progress(report.instances, total)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(AT_ONCE):
                    group.create_task(worker())
        finally:
            await self._remember(all_of_it=True)
        if study_uid is not None:
            study = (await self._catalogue.study_verified([study_uid])).get(study_uid)
            if study is not None:
                report.verified_on, report.unverified = study.on, study.unverified
        return report

    async def verify_instance(self, sop_instance_uid: str) -> VerifyReport:
        """Check the copies of one object and repair them, as when a reader met a bad one."""
        report = VerifyReport()
        instance = await self._catalogue.instance(sop_instance_uid)
        if instance is not None:
            await self._check(Target.of(instance), report, repair=True)
            report.instances = 1
            await self._remember(all_of_it=True)
        return report

    async def _check(self, target: Target, report: VerifyReport, *, repair: bool) -> None:
        looks = await asyncio.gather(*(self._mender.look(target, name) for name in target.held))
        now = self._clock.now()
        for name, look in zip(target.held, looks, strict=True):
            self._counters.add("verified_copies", volume=name, finding=look.finding)
            if look.finding is Finding.GOOD:
                report.copies_good += 1
                self._marks.append(Mark(name=target.name, volume=name, at=now))
            elif look.finding is Finding.SKIPPED:
                report.copies_skipped += 1
            else:
                await self._bad(target, name, look.finding, report, repair=repair)
        await self._remember()

    async def _bad(
        self, target: Target, name: str, finding: Finding, report: VerifyReport, *, repair: bool
    ) -> None:
        """Tell of a copy that looked bad; with `repair` it is looked at again and mended."""
        repaired = False
        if repair:
            outcome = await self._mender.mend(target.name, name)
            if outcome.finding is Finding.GOOD:
                report.copies_good += 1
                return
            if outcome.finding is Finding.SKIPPED:
                report.copies_skipped += 1
                return
            finding, repaired = outcome.finding, outcome.repaired
        else:
            log.warning("volume %s: copy of object %s is %s", name, target.name, finding.value)
        report.copies_bad += 1
        report.repaired += repaired
        if len(report.bad) < MAX_BAD:
            report.bad.append(BadCopy(name, target.key, target.name, finding, repaired))

    async def _remember(self, *, all_of_it: bool = False) -> None:
        """Write down what was verified, many copies at a time."""
        now = self._clock.monotonic()
        late = now - self._marked_s >= MARK_EVERY_S
        if self._marks and (all_of_it or late or len(self._marks) >= MARKS_AT_ONCE):
            marks, self._marks = self._marks, []
            self._marked_s = now
            await self._catalogue.copies_verified(marks)


async def _stored(catalogue: Catalogue) -> AsyncIterator[Target]:
    async for one in catalogue.all_keys():
        yield Target.of(one)


async def _listed(instances: list[StoredInstance]) -> AsyncIterator[Target]:
    for one in instances:
        yield Target.of(one)
