# SPDX-License-Identifier: Apache-2.0
"""Fixity: read every copy anew from its disk and compare it with the digest of reception (ST-6).

A copy is only ever replaced after another one was read back and found good, and what stood in its
place is set aside under another name, not deleted.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from scrigno.catalogue.catalogue import Catalogue
from scrigno.catalogue.records import Copy, CopyState, StoredInstance, StoredKey
from scrigno.core.clock import Clock
from scrigno.core.counters import Counters
from scrigno.db.errors import DatabaseError
from scrigno.volumes.placement import KeyConflict, Placement
from scrigno.volumes.staging import StagingFailed, StagingFull
from scrigno.volumes.states import ErrorKind, VolumeError, VolumeState
from scrigno.volumes.volume import Volume, Volumes

from .quarantine import displace

log = logging.getLogger(__name__)

AT_ONCE: Final = 2  # objects; the reads of one go to different volumes side by side
MAX_SUSPECTS: Final = 10_000  # a dead volume makes every object suspect; the scrub finds the rest
MAX_BAD: Final = 100_000  # named in a report; more are only counted


class Finding(StrEnum):
    """What reading one copy showed."""

    GOOD = "good"
    MISSING = "missing"
    CHANGED = "changed"
    UNREADABLE = "unreadable"
    SKIPPED = "skipped"  # the volume is away or failed while it was read


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


@dataclass(frozen=True, slots=True)
class _Target:
    """One object to verify."""

    sop_instance_uid: str
    key: str
    digest: str
    size: int
    staged_as: str | None
    copies: tuple[Copy, ...]


class Verifier:
    """Reads copies anew and compares them. Loop thread only."""

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        volumes: Volumes,
        placement: Placement,
        counters: Counters,
        clock: Clock,
        turn: Callable[[str], AbstractAsyncContextManager[None]],
    ) -> None:
        """Hold the rooms below; `turn` keeps others off one object while it is mended."""
        self._catalogue = catalogue
        self._volumes = volumes
        self._placement = placement
        self._counters = counters
        self._clock = clock
        self._turn = turn
        self._suspects: dict[str, None] = {}
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

        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(worker())
        return report

    async def verify_instance(self, sop_instance_uid: str) -> VerifyReport:
        """Check the copies of one object and repair them, as when a reader met a bad one."""
        report = VerifyReport()
        instance = await self._catalogue.instance(sop_instance_uid)
        if instance is not None:
            await self._check(_target(instance), report, repair=True)
            report.instances = 1
        return report

    async def _check(self, target: _Target, report: VerifyReport, *, repair: bool) -> None:
        held = [copy.volume for copy in target.copies if copy.state is CopyState.HELD]
        findings = dict(
            zip(
                held,
                await asyncio.gather(*(self._read(target, name) for name in held)),
                strict=True,
            )
        )
        good = tuple(name for name in held if findings[name] is Finding.GOOD)
        for name in held:
            finding = findings[name]
            self._counters.add("verified_copies", volume=name, finding=finding)
            if finding is Finding.GOOD:
                report.copies_good += 1
                await self._catalogue.verified(target.sop_instance_uid, name, self._clock.now())
            elif finding is Finding.SKIPPED:
                report.copies_skipped += 1
            else:
                async with self._turn(target.sop_instance_uid):
                    repaired = await self._mend(target, name, finding, good, repair=repair)
                report.copies_bad += 1
                report.repaired += repaired
                if len(report.bad) < MAX_BAD:
                    report.bad.append(
                        BadCopy(name, target.key, target.sop_instance_uid, finding, repaired)
                    )

    async def _read(self, target: _Target, name: str) -> Finding:
        """Read one copy from its disk."""
        volume = _readable(self._volumes, name)
        if volume is None:
            return Finding.SKIPPED
        try:
            digest, _ = await volume.digest(target.key)
        except VolumeError as error:
            if error.kind is ErrorKind.MISSING:
                return Finding.MISSING
            if error.kind is ErrorKind.IO and volume.readable:
                return Finding.UNREADABLE
            return Finding.SKIPPED
        return Finding.GOOD if digest == target.digest else Finding.CHANGED

    async def _mend(
        self, target: _Target, name: str, finding: Finding, good: tuple[str, ...], *, repair: bool
    ) -> bool:
        """Record a bad copy and write it anew from a good one; returns whether it is good now.

        Whatever cannot be done now is owed to the volume and paid by replication. Without any
        good copy nothing is touched: a damaged copy is better than none.
        """
        log.warning(
            "volume %s: copy of object %s is %s", name, target.sop_instance_uid, finding.value
        )
        if not repair:
            return False
        if not good and not await self._placement.stages(target.staged_as, target.digest):
            log.error("object %s: no good copy is left", target.sop_instance_uid)
            if finding is Finding.MISSING:
                await self._catalogue.copy_missing(target.sop_instance_uid, name)
            return False
        # Owed before the bad copy goes, so that a crash in between is made good too.
        await self._catalogue.copy_missing(target.sop_instance_uid, name)
        volume = _readable(self._volumes, name)
        if volume is None or volume.state is not VolumeState.ONLINE:
            return False
        try:
            if finding is not Finding.MISSING:
                await self._give_way(volume, target, finding)
            await self._placement.replicate(
                target.staged_as, target.key, target.digest, sources=good, target=name
            )
        except (VolumeError, StagingFull, StagingFailed, KeyConflict) as error:
            log.warning("volume %s: %s is not repaired now: %s", name, target.key, error.reason)
            return False
        await self._catalogue.paid(target.sop_instance_uid, name)
        return True

    @staticmethod
    async def _give_way(volume: Volume, target: _Target, finding: Finding) -> None:
        """Take a bad copy out of its place; what can still be read stays under another name."""
        if finding is Finding.CHANGED:
            digest, _ = await volume.digest(target.key)
            await displace(volume, target.key, digest)
        else:
            await volume.remove(target.key)


def _readable(volumes: Volumes, name: str) -> Volume | None:
    """Return the volume when it is in service and readable."""
    try:
        volume = volumes.by_name(name)
    except KeyError:
        return None
    return volume if volume.readable else None


def _target(one: StoredInstance | StoredKey) -> _Target:
    return _Target(one.sop_instance_uid, one.key, one.digest, one.size, one.staged_as, one.copies)


async def _stored(catalogue: Catalogue) -> AsyncIterator[_Target]:
    async for one in catalogue.all_keys():
        yield _target(one)


async def _listed(instances: list[StoredInstance]) -> AsyncIterator[_Target]:
    for one in instances:
        yield _target(one)
