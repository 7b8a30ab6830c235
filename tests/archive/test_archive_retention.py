# SPDX-License-Identifier: Apache-2.0
"""Rules of retention move old studies to the trash, and spare whatever is in doubt."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from archivebox import made
from trashbox import TestClock, TrashBox

from scrigno.archive.reads import LastReads
from scrigno.archive.retention import Retention, RetentionReport, RetentionRule, Spared

OLD = RetentionRule(name="old", older_than_days=365, copies_elsewhere=1)


@dataclass
class Box(TrashBox):
    """An archive with rules."""

    retention_rules: list[RetentionRule] = field(default_factory=list)
    trusted: bool = True
    in_use: set[str] = field(default_factory=set)
    runs: list[RetentionReport] = field(default_factory=list)

    def _compose(self) -> None:
        super()._compose()
        self.retention = Retention(
            catalogue=self.catalogue,
            volumes=self.volumes,
            trash=self.trash,
            rules=lambda: self.retention_rules,
            clock_trusted=lambda: self.trusted,
            clock=self.clock,
            counters=self.counters,
            busy=lambda uid: uid in self.in_use,
            audit=lambda *args: self.said.append(args),
            on_moved=self.runs.append,
            run_every_s=0.1,
        )
        self.reads = LastReads(catalogue=self.catalogue, clock=self.clock)

    async def close(self) -> None:
        await self.retention.close()
        await self.reads.close()
        await super().close()

    async def studies(self, *numbers: int, year: int = 2020, **changes: Any) -> None:
        """Store one-image studies, on every volume and verified there."""
        for number in numbers:
            one = made(1, study=number, StudyDate=f"{year}01{number:02}", **changes)
            await self.store(one)
        await self.replicated()
        await self.verifier.verify()

    async def planned(self) -> list[str]:
        return [one.study_instance_uid for one in (await self.retention.plan()).studies]

    async def left(self) -> int:
        return (await self.catalogue.totals()).studies


def uid(number: int) -> str:
    return f"1.2.826.0.1.{number}"


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[Box]:
    one = Box(tmp_path)
    await one.open()
    try:
        yield one
    finally:
        await one.close()


@pytest.mark.spec("ST-7")
async def test_nothing_happens_without_a_rule(box: Box) -> None:
    await box.studies(1)
    assert (await box.retention.run()).moved == 0
    for rule in (
        replace(OLD, enabled=False),
        RetentionRule(name="no age", copies_elsewhere=0),
    ):
        box.retention_rules = [rule]
        assert (await box.retention.run()).refused == "There is no rule."
    assert await box.left() == 1


@pytest.mark.spec("ST-7")
async def test_a_plan_says_what_would_go_and_a_run_moves_it_to_the_trash(box: Box) -> None:
    await box.studies(2, 1)
    await box.studies(3, year=2026)
    box.retention_rules = [OLD]
    plan = await box.retention.plan()
    assert [one.study_instance_uid for one in plan.studies] == [uid(1), uid(2)]  # oldest first
    assert plan.size_bytes == sum(one.size_bytes for one in plan.studies) > 0
    assert await box.left() == 3  # a plan does nothing
    report = await box.retention.run()
    assert (report.moved, report.objects, report.size_bytes) == (2, 2, plan.size_bytes)
    assert await box.left() == 1
    items = await box.trash.items()
    assert {item.rule for item in items} == {"old"}
    assert {item.reason for item in items} == {"Rule of retention: old"}
    assert box.runs == [report]
    assert ("scrigno", "retention", uid(1), "success") in [said[:4] for said in box.said]
    await box.settled()
    done = await box.trash.restore(items[0].trash_id, "anna")
    assert done.in_words() == "1 images are back."


@pytest.mark.spec("ST-7")
async def test_it_spares_whatever_is_protected_or_in_doubt(box: Box) -> None:
    box.retention_rules = [OLD]
    await box.studies(1, 2, 3, 4, 5, 6, 7)
    await box.catalogue.protect(uid(1), on=True)
    await box.catalogue.copy_missing(made(1, study=2).uid, "backup1")
    await box.store(made(1, study=3, StudyDescription="Other"))  # a conflict in the inbox
    box.in_use = {uid(4)}
    await box.store(made(2, study=5, StudyDate="20200105"))  # still on its way to backup1
    plan = await box.retention.plan()
    assert [one.study_instance_uid for one in plan.studies] == [uid(6), uid(7)]
    assert plan.spared == {
        Spared.DEBTS: 1,
        Spared.INBOX: 1,
        Spared.BUSY: 1,
        Spared.STAGED: 1,
    }


@pytest.mark.spec("ST-7")
async def test_verified_copies_on_devices_of_their_own_can_be_asked_for(box: Box) -> None:
    for number in (1, 2):
        await box.store(made(1, study=number, StudyDate="20200101"))
    await box.replicated()
    await box.verifier.verify(study_uid=uid(1))
    box.retention_rules = [replace(OLD, copies_elsewhere=0)]
    assert len(await box.planned()) == 2
    box.retention_rules = [OLD]
    assert await box.planned() == [uid(1)]
    # both volumes of this box are folders of one disk
    box.retention_rules = [replace(OLD, copies_elsewhere=2)]
    plan = await box.retention.plan()
    assert plan.studies == []
    assert plan.spared == {Spared.COPIES: 2}


@pytest.mark.spec("ST-7")
async def test_no_rule_runs_while_the_clock_or_a_volume_is_in_doubt(box: Box) -> None:
    await box.studies(1)
    box.retention_rules = [OLD]
    box.trusted = False
    assert "clock" in (await box.retention.run()).refused
    assert "clock" in box.retention.error
    box.trusted = True
    await box.take_away("backup1")
    assert "backup1 is absent" in (await box.retention.run()).refused
    assert await box.left() == 1
    await box.bring_back("backup1")
    assert (await box.retention.run()).moved == 1
    assert box.retention.error == ""


@pytest.mark.spec("ST-7")
async def test_a_cap_holds_for_a_run_and_for_a_day_by_both_measures(box: Box) -> None:
    await box.studies(1, 2, 3, 4, 5, 6)
    clock = box.clock
    assert isinstance(clock, TestClock)
    await box.catalogue.lifecycle.add_to_meter("ran_seconds", 1_000_000)
    box.retention_rules = [replace(OLD, max_studies_per_run=2, max_studies_per_day=3)]
    assert [(await box.retention.run()).moved for _ in range(3)] == [2, 1, 0]
    clock.wall_ahead = timedelta(days=2)
    assert (await box.retention.run()).moved == 0  # a clock that steps is no day
    await box.catalogue.lifecycle.add_to_meter("ran_seconds", 86_401)
    assert (await box.retention.run()).moved == 2


@pytest.mark.spec("ST-7")
async def test_space_matters_only_to_a_rule_that_says_so(box: Box) -> None:
    await box.studies(1)
    box.retention_rules = [replace(OLD, only_above_used=0.9)]
    data = box.volumes.by_name("data")
    data.total_bytes, data.free_bytes = 1000, 500
    assert await box.planned() == []
    data.total_bytes, data.free_bytes = 1000, 50
    assert await box.planned() == [uid(1)]
    data.total_bytes, data.free_bytes = None, None
    assert await box.planned() == []
    box.retention_rules = [OLD]
    assert await box.planned() == [uid(1)]


@pytest.mark.spec("ST-7")
async def test_a_study_of_other_modalities_stays(box: Box) -> None:
    await box.studies(1)
    await box.studies(2, Modality="MR")
    box.retention_rules = [replace(OLD, modalities=("CT",))]
    assert await box.planned() == [uid(1)]


@pytest.mark.spec("ST-7")
async def test_unread_counts_from_the_last_reading_and_never_from_before_it_was_noted(
    box: Box,
) -> None:
    await box.studies(1, 2)
    clock = box.clock
    assert isinstance(clock, TestClock)
    box.retention_rules = [RetentionRule(name="unread", unread_for_days=30, copies_elsewhere=0)]
    assert await box.planned() == []  # received today
    clock.wall_ahead = timedelta(days=20)
    box.reads.note(uid(1))
    await box.reads.write()
    clock.wall_ahead = timedelta(days=40)
    assert await box.planned() == [uid(2)]
    clock.wall_ahead = timedelta(days=60)
    assert await box.planned() == [uid(1), uid(2)]


@pytest.mark.spec("ST-7")
async def test_two_rules_name_a_study_once(box: Box) -> None:
    await box.studies(1)
    box.retention_rules = [OLD, replace(OLD, name="also old")]
    assert await box.planned() == [uid(1)]


@pytest.mark.spec("ST-7")
async def test_it_runs_by_itself_and_looks_again_at_each_study(box: Box) -> None:
    box.retention_rules = [OLD]
    box.retention.start()
    await box.studies(1)
    await box.until(lambda: box.runs)
    assert await box.left() == 0


@pytest.mark.spec("ST-7")
async def test_a_reading_is_noted_without_touching_the_index(box: Box) -> None:
    for number in range(12_000):
        box.reads.note(f"1.2.{number}")
        box.reads.note(uid(1))
    assert len(box.reads._noted) <= 10_000
    box.reads.start()
    await asyncio.sleep(0)
    await box.reads.close()
    flags = await box.catalogue.study_flags([uid(1), "1.2.0"])
    assert all(one.last_read_at is not None for one in flags.values())
