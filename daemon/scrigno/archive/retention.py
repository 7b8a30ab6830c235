# SPDX-License-Identifier: Apache-2.0
"""Studies that may leave by themselves: rules an operator made, into the trash, never further.

Without a rule nothing is done. A rule never runs because space is short, unless it says so itself,
and it never runs at all while the clock is not trusted or a volume is not whole: then nobody can
say how old a study is, or how many copies of it there are.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, timedelta
from enum import StrEnum
from typing import Final

from scrigno.catalogue.catalogue import Catalogue
from scrigno.catalogue.retirement import CopyCounts, Retiree, RetirementQuery
from scrigno.catalogue.trash_items import NothingToDelete, NotNow, StudyProtected
from scrigno.catalogue.trash_rows import RAN
from scrigno.catalogue.values import moment, stamp
from scrigno.core.clock import Clock
from scrigno.core.counters import Counters
from scrigno.core.errors import CommandError
from scrigno.db.errors import DatabaseError
from scrigno.volumes.states import VolumeState
from scrigno.volumes.volume import Volume, Volumes

from .reads import SINCE
from .trash import Trash

log = logging.getLogger(__name__)

DAY_S: Final = 86_400
RUN_EVERY_S: Final = 6 * 3600.0  # the caps are per day, so it matters little when
RETRY_S: Final = 600.0
FIRST_AFTER_S: Final = 300.0  # volumes and clock have settled by then
PAGE: Final = 500
MOST_LOOKED_AT: Final = 200_000  # studies of one rule in one run
MOST_NAMED: Final = 10_000  # of a plan


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionRule:
    """Which studies may go; every condition that is given must hold, and one of the ages must be.

    Age counts from the study date, from the reception of the last image where there is none.
    `copies_elsewhere`: each image must be held, read back and found right, on volumes of at least
    so many different devices; 0 asks for none. `only_above_used`: a share of the data volume's
    space that must be in use, else the rule does not run; None: space does not matter to it.
    """

    name: str
    enabled: bool = True
    older_than_days: int | None = None
    unread_for_days: int | None = None
    modalities: tuple[str, ...] = ()
    copies_elsewhere: int = 2
    max_studies_per_run: int = 100
    max_studies_per_day: int = 100
    only_above_used: float | None = None

    @property
    def reason(self) -> str:
        """Return what stands in the trash as the reason."""
        return f"Rule of retention: {self.name}"


class Spared(StrEnum):
    """Why a study that is old enough stays."""

    BUSY = "busy"  # it is being sent, received or looked at
    DEBTS = "debts"  # a volume has not all of it, or a copy is bad
    INBOX = "inbox"  # something of it waits for a decision
    COPIES = "copies"  # too few verified copies
    STAGED = "staged"  # images of it are still on their way
    MODALITY = "modality"


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One study that a rule would move to the trash."""

    rule: str
    study_instance_uid: str
    study_date: str
    objects: int
    size_bytes: int


@dataclass(slots=True)
class RetentionPlan:
    """What the rules would do now; `refused` says why they do nothing at all."""

    studies: list[Planned] = field(default_factory=list)
    spared: Counter[Spared] = field(default_factory=Counter)
    size_bytes: int = 0
    refused: str = ""

    def add(self, one: Planned) -> None:
        """Add one study."""
        self.size_bytes += one.size_bytes
        if len(self.studies) < MOST_NAMED:
            self.studies.append(one)


@dataclass(slots=True)
class RetentionReport:
    """What a run did."""

    moved: int = 0
    objects: int = 0
    size_bytes: int = 0
    refused: str = ""


class Retention:
    """Runs the rules. Loop thread only."""

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        volumes: Volumes,
        trash: Trash,
        rules: Callable[[], Sequence[RetentionRule]],
        clock_trusted: Callable[[], bool],
        clock: Clock,
        counters: Counters,
        busy: Callable[[str], bool] = lambda study_uid: False,
        audit: Callable[..., None] = lambda *args, **more: None,
        on_moved: Callable[[RetentionReport], None] = lambda report: None,
        run_every_s: float = RUN_EVERY_S,
    ) -> None:
        """`busy` tells of studies in use; `on_moved` is told of each run that moved something."""
        self._book = catalogue.lifecycle
        self._volumes = volumes
        self._trash = trash
        self._rules = rules
        self._clock_trusted = clock_trusted
        self._clock = clock
        self._counters = counters
        self._busy = busy
        self._audit = audit
        self._on_moved = on_moved
        self._run_every_s = run_every_s
        self._one = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self.error = ""  # why the last run did nothing, in words; '' when it was well
        self.last: RetentionReport | None = None
        # Set by whoever knows that work which can wait has to, as without mains.
        self.hold: Callable[[], bool] = lambda: False

    # life --------------------------------------------------------------------------------------

    def start(self) -> None:
        """Run now and then; returns at once."""
        self._task = asyncio.create_task(self._repeat(), name="retention")

    async def close(self) -> None:
        """Stop. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _repeat(self) -> None:
        wait_s = min(FIRST_AFTER_S, self._run_every_s)
        while True:
            await asyncio.sleep(wait_s)
            wait_s = self._run_every_s
            if not self._in_force():
                self.error = ""
                continue
            if self.hold():
                wait_s = min(RETRY_S, self._run_every_s)
                continue
            try:
                report = await self.run()
            except DatabaseError as error:
                self.error, wait_s = error.reason, min(RETRY_S, self._run_every_s)
                log.warning("retention: %s", error.reason)
                continue
            if report.refused:
                wait_s = min(RETRY_S, self._run_every_s)

    # planning ----------------------------------------------------------------------------------

    def _in_force(self) -> list[RetentionRule]:
        return [
            rule
            for rule in self._rules()
            if rule.enabled
            and (rule.older_than_days is not None or rule.unread_for_days is not None)
        ]

    async def plan(self) -> RetentionPlan:
        """Return what the rules would do now, without doing it; raises DatabaseError."""
        plan = RetentionPlan()
        rules = self._in_force()
        plan.refused = self._hindrance(rules)
        if plan.refused:
            return plan
        in_inbox = await self._book.studies_in_inbox()
        taken: set[str] = set()
        for rule in rules:
            left = await self._left_today(rule)
            if left > 0 and self._space_allows(rule):
                await self._plan_rule(rule, left, plan, in_inbox, taken)
        return plan

    def _hindrance(self, rules: Sequence[RetentionRule]) -> str:
        """Return why no rule may run now; '' when they may."""
        if not rules:
            return "There is no rule."
        if not self._clock_trusted():
            return "The clock is not trusted, so nobody can say how old a study is."
        for volume in self._volumes.ordered:
            if volume.state is not VolumeState.ONLINE:
                return f"Volume {volume.name} is {volume.state.value}, so copies cannot be counted."
        if not self._volumes.ordered:
            return "There is no volume."
        return ""

    async def _left_today(self, rule: RetentionRule) -> int:
        """Return how many studies the rule may still take, by the day and by this run."""
        now = self._clock.now()
        ran = await self._book.meter(RAN)
        done = await self._book.retired_since(rule.name, now - timedelta(days=1), ran - DAY_S)
        return min(rule.max_studies_per_day - done, rule.max_studies_per_run)

    def _space_allows(self, rule: RetentionRule) -> bool:
        if rule.only_above_used is None:
            return True
        first = self._volumes.ordered[0]
        if not first.total_bytes or first.free_bytes is None:
            return False
        return 1 - first.free_bytes / first.total_bytes >= rule.only_above_used

    async def _plan_rule(
        self,
        rule: RetentionRule,
        left: int,
        plan: RetentionPlan,
        in_inbox: set[str],
        taken: set[str],
    ) -> None:
        query = await self._query(rule)
        looked_at = 0
        while left > 0 and looked_at < MOST_LOOKED_AT:
            page = await self._book.retirees(query)
            if not page:
                return
            looked_at += len(page)
            counts = await self._book.copy_counts([one.study_instance_uid for one in page])
            for one in page:
                uid = one.study_instance_uid
                if uid in taken or uid not in counts:
                    continue
                spared = self._spared(rule, one, counts[uid], in_inbox)
                if spared is not None:
                    plan.spared[spared] += 1
                    continue
                taken.add(uid)
                plan.add(
                    Planned(
                        rule=rule.name,
                        study_instance_uid=uid,
                        study_date=one.study_date,
                        objects=one.objects,
                        size_bytes=one.size_bytes,
                    )
                )
                left -= 1
                if left == 0:
                    return
            query = replace(query, after=page[-1].place)

    async def _query(self, rule: RetentionRule) -> RetirementQuery:
        now = self._clock.now().astimezone(UTC)
        since = await self._book.set_meter_once(SINCE, stamp(now))
        older, unread = rule.older_than_days, rule.unread_for_days
        return RetirementQuery(
            older_than=None if older is None else now - timedelta(days=older),
            unread_since=None if unread is None else now - timedelta(days=unread),
            reads_noted_since=moment(since),
            limit=PAGE,
        )

    def _spared(
        self, rule: RetentionRule, one: Retiree, counts: CopyCounts, in_inbox: set[str]
    ) -> Spared | None:
        """Return what speaks against taking a study; None when nothing does."""
        if rule.modalities and not set(one.modalities) <= set(rule.modalities):
            return Spared.MODALITY
        if one.study_instance_uid in in_inbox:
            return Spared.INBOX
        if counts.staged:
            return Spared.STAGED
        if counts.debts or not counts.held:
            return Spared.DEBTS
        if self._verified_devices(counts) < rule.copies_elsewhere:
            return Spared.COPIES
        if self._busy(one.study_instance_uid):
            return Spared.BUSY
        return None

    def _verified_devices(self, counts: CopyCounts) -> int:
        """Return on how many devices of their own the whole study was read back and is right."""
        seen: set[str] = set()
        number = 0
        for volume in self._volumes.ordered:
            devices = _devices(volume)
            if counts.verified.get(volume.name, 0) < counts.objects or devices & seen:
                continue
            seen |= devices
            number += 1
        return number

    # running -----------------------------------------------------------------------------------

    async def run(self) -> RetentionReport:
        """Move what the rules say to the trash; raises DatabaseError.

        Everything that speaks against it is looked at once more for each study.
        """
        async with self._one:
            report = RetentionReport()
            plan = await self.plan()
            report.refused = self.error = plan.refused
            rules = {rule.name: rule for rule in self._in_force()}
            for planned in plan.studies:
                rule = rules.get(planned.rule)
                if rule is None:
                    continue  # taken back meanwhile
                report.refused = self.error = self._hindrance([rule])
                if report.refused:
                    break
                if not self._busy(planned.study_instance_uid):
                    await self._move(rule, planned, report)
            self.last = report
            if report.moved:
                self._on_moved(report)
            return report

    async def _move(self, rule: RetentionRule, planned: Planned, report: RetentionReport) -> None:
        uid = planned.study_instance_uid
        counts = (await self._book.copy_counts([uid])).get(uid)
        if counts is None or counts.debts or counts.staged or counts.objects != planned.objects:
            return  # something came or was lost since the plan was made
        try:
            item = await self._trash.delete_study(
                uid, reason=rule.reason, user="scrigno", rule=rule.name
            )
        except (NothingToDelete, StudyProtected, NotNow, CommandError) as refusal:
            log.info("retention: study %s stays: %s", uid[:64], refusal.reason)
            return
        report.moved += 1
        report.objects += item.objects
        report.size_bytes += item.size_bytes
        self._counters.add("retention_studies", rule=rule.name)
        details = {"rule": rule.name, "trash_id": str(item.trash_id)}
        self._audit("scrigno", "retention", uid, "success", details)


def _devices(volume: Volume) -> frozenset[str]:
    """Return the disks under a volume; its filesystem while these are not known."""
    return volume.devices or frozenset({f"dev:{volume.device}"})
