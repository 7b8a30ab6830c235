# SPDX-License-Identifier: Apache-2.0
"""Studies leave the archive for the trash and come back exactly; flags; what retention may take."""

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from made_instances import EPOCH
from scrigno.catalogue.cases import Verdict
from scrigno.catalogue.catalogue import Catalogue
from scrigno.catalogue.decisions import Kind
from scrigno.catalogue.query import FindKey, FindQuery, Level, Single
from scrigno.catalogue.records import (
    AddOutcome,
    CapacityReached,
    CopyState,
    NewInstance,
    StudyDetail,
    StudyListQuery,
    StudyPage,
    Totals,
    VolumeTally,
)
from scrigno.catalogue.retirement import Retiree, RetirementQuery
from scrigno.catalogue.trash_items import (
    NothingToDelete,
    NotNow,
    Place,
    Placed,
    Protection,
    Removal,
    StudyProtected,
    TrashItem,
    TrashState,
)
from scrigno.core.clock import SystemClock
from scrigno.core.counters import Counters

Make = Callable[..., NewInstance]
VOLUMES = ("data", "backup")
NOW = datetime(2026, 6, 1, tzinfo=UTC)


def removal(study: str = "1.2.3", **changes: Any) -> Removal:
    arguments: dict[str, Any] = {
        "study_uid": study,
        "token": secrets.token_hex(4),
        "deleted_at": NOW,
        "keep_days": 30,
        "account": "anna",
        "reason": "sent twice",
        "volumes": VOLUMES,
    } | changes
    return Removal(**arguments)


async def moved(catalogue: Catalogue, item: TrashItem, place: Place) -> None:
    """Pretend that every volume moved every file of an item."""
    await catalogue.sync()
    for number, _ in await catalogue.lifecycle.owing(item.trash_id, VOLUMES):
        step = await catalogue.lifecycle.step(number)
        assert step is not None
        places = {
            name: place if copy.place is not Place.NOWHERE else Place.NOWHERE
            for name, copy in step.copies.items()
        }
        await catalogue.lifecycle.placed(Placed(object_id=number, places=places))


Everything = tuple[StudyPage, StudyDetail | None, Totals, dict[str, VolumeTally], list[Any]]


async def everything(catalogue: Catalogue, study: str = "1.2.3") -> Everything:
    words = await catalogue.study_page(StudyListQuery(search="rossi"))
    keys = [key async for key in catalogue.all_keys()]
    return (
        words,
        await catalogue.study(study),
        await catalogue.totals(),
        await catalogue.volume_tallies(),
        keys,
    )


async def fill(catalogue: Catalogue, make: Make) -> None:
    """Two studies of one patient, several series, copies in every state."""
    for series in (1, 2):
        for number in range(1, 4):
            await catalogue.add(
                make(
                    "1.2.3",
                    f"1.2.3.{series}",
                    f"1.2.3.{series}.{number}",
                    minutes=10 * series + number,
                    copies=("data",) if number < 3 else VOLUMES,
                    owed=("backup",) if number < 3 else (),
                    staged_as=f"s-{series}-{number}" if number < 3 else None,
                    patient_id="P1",
                    patient_name="Rossi^Anna",
                    modality="CT" if series == 1 else "PT",
                    series_number=str(series),
                    instance_number=str(number),
                    study_date="20260101",
                    study_description="Thorax",
                    institution_name="Clinica",
                    request_attributes=({"RequestedProcedureID": "RP1"},),
                )
            )
    await catalogue.add(make("1.2.9", patient_id="P1", patient_name="Rossi^Anna", minutes=1))
    await catalogue.verified("1.2.3.1.3", "data", EPOCH)
    await catalogue.copy_missing("1.2.3.2.3", "backup")


@pytest.mark.spec("ST-7")
async def test_a_deleted_study_leaves_every_answer_at_once_and_counters_stay_right(
    catalogue: Catalogue, make: Make
) -> None:
    await fill(catalogue, make)
    replaced = catalogue.replaced_objects
    item = await catalogue.lifecycle.leave(removal())
    assert catalogue.replaced_objects > replaced  # whoever copies one of them looks again
    assert (item.objects, item.size_bytes, item.scope) == (6, 6000, "study")
    assert (item.patient_name.text(), item.modalities) == ("Rossi^Anna", ("CT", "PT"))
    assert await catalogue.study("1.2.3") is None
    assert await catalogue.instance("1.2.3.1.1") is None
    assert await catalogue.instances("1.2.3") == []
    page = await catalogue.study_page(StudyListQuery())
    assert (page.total, len(page.rows)) == (1, 1)
    assert (await catalogue.study_page(StudyListQuery(search="thorax"))).total == 0
    key = FindKey(keyword="StudyInstanceUID", matching=Single("1.2.3"))
    assert await catalogue.find_count(FindQuery(level=Level.STUDY, keys=(key,))) == 0
    totals = await catalogue.totals()
    assert (totals.patients, totals.studies, totals.series, totals.instances) == (1, 1, 1, 1)
    assert await catalogue.debt_counts() == {}
    assert await catalogue.staged() == []
    assert await catalogue.lifecycle.staged_names() == {"s-1-1", "s-1-2", "s-2-1", "s-2-2"}
    assert await catalogue.check() == []


@pytest.mark.spec("ST-7")
async def test_rows_come_back_exactly_as_they_were(catalogue: Catalogue, make: Make) -> None:
    await fill(catalogue, make)
    before = await everything(catalogue)
    item = await catalogue.lifecycle.leave(removal())
    await moved(catalogue, item, Place.TRASH)
    await catalogue.lifecycle.begin_restore(item.trash_id, VOLUMES)
    assert await catalogue.lifecycle.come_back(item.trash_id, VOLUMES) is None  # files first
    await moved(catalogue, item, Place.ARCHIVE)
    done = await catalogue.lifecycle.come_back(item.trash_id, VOLUMES)
    assert done is not None
    assert (done.back, done.merged, done.kept) == (6, 0, 0)
    assert await everything(catalogue) == before
    assert await catalogue.check() == []
    assert await catalogue.lifecycle.items() == []


@pytest.mark.spec("ST-7")
async def test_the_last_study_of_a_patient_comes_back_with_its_patient(
    catalogue: Catalogue, make: Make
) -> None:
    await fill(catalogue, make)
    await catalogue.remove(["1.2.9.1.1"])
    before = await everything(catalogue)
    item = await catalogue.lifecycle.leave(removal())
    assert (await catalogue.totals()).patients == 0
    await catalogue.add(make("7.7", patient_id="P7", patient_name="Other", modality="MR"))
    await catalogue.lifecycle.begin_restore(item.trash_id, VOLUMES)
    assert await catalogue.lifecycle.come_back(item.trash_id, VOLUMES) is not None
    await catalogue.remove(["7.7.1.1"])
    # a number that was given to another row is not given again; nothing else differs
    assert (await everything(catalogue))[:4] == before[:4]
    assert await catalogue.check() == []


@pytest.mark.spec("ST-7")
@pytest.mark.parametrize("what", ["series", "objects"])
async def test_a_part_of_a_study_leaves_and_comes_back(
    catalogue: Catalogue, make: Make, what: str
) -> None:
    await fill(catalogue, make)
    before = await everything(catalogue)
    part = (
        {"series_uid": "1.2.3.2"}
        if what == "series"
        else {"sop_uids": frozenset({"1.2.3.1.1", "1.2.3.2.3"})}
    )
    item = await catalogue.lifecycle.leave(removal(**part))
    study = await catalogue.study("1.2.3")
    assert study is not None
    assert item.scope == what
    assert study.study.number_of_instances == 6 - item.objects
    if what == "series":
        assert study.study.modalities == ("CT",)
        assert study.study.number_of_series == 1
    assert await catalogue.check() == []
    await catalogue.lifecycle.begin_restore(item.trash_id, VOLUMES)
    assert await catalogue.lifecycle.come_back(item.trash_id, VOLUMES) is not None
    assert await everything(catalogue) == before
    assert await catalogue.check() == []


@pytest.mark.spec("ST-7")
async def test_a_part_comes_back_when_the_rest_was_deleted_meanwhile(
    catalogue: Catalogue, make: Make
) -> None:
    await fill(catalogue, make)
    before = await everything(catalogue)
    part = await catalogue.lifecycle.leave(removal(series_uid="1.2.3.2"))
    rest = await catalogue.lifecycle.leave(removal(token="t-rest"))
    for item in (part, rest):
        await catalogue.lifecycle.begin_restore(item.trash_id, VOLUMES)
        assert await catalogue.lifecycle.come_back(item.trash_id, VOLUMES) is not None
        assert await catalogue.check() == []
    assert await everything(catalogue) == before


@pytest.mark.spec("ST-7", "ST-10")
async def test_a_study_that_was_sent_again_is_merged_with_what_comes_back(
    catalogue: Catalogue, make: Make
) -> None:
    await fill(catalogue, make)
    item = await catalogue.lifecycle.leave(removal())
    again = make("1.2.3", "1.2.3.1", "1.2.3.1.1", minutes=500, copies=("data",), owed=("backup",))
    assert (await catalogue.add(again)).outcome is AddOutcome.NEW
    other = make("1.2.3", "1.2.3.1", "1.2.3.1.2", content="other bytes", copies=("data",))
    await catalogue.add(other)
    await catalogue.lifecycle.begin_restore(item.trash_id, VOLUMES)
    assert await catalogue.lifecycle.come_back(item.trash_id, VOLUMES) is None  # a rival first
    ((number, uid),) = await catalogue.lifecycle.undecided(item.trash_id)
    assert uid == "1.2.3.1.2"
    await catalogue.lifecycle.placed(Placed(object_id=number, kept=True))
    done = await catalogue.lifecycle.come_back(item.trash_id, VOLUMES)
    assert done is not None
    assert (done.back, done.merged, done.kept) == (4, 1, 1)
    study = await catalogue.study("1.2.3")
    assert study is not None
    assert study.study.number_of_instances == 6
    assert study.study.received_first == EPOCH + timedelta(minutes=11)
    assert study.study.received_last == EPOCH + timedelta(minutes=500)
    assert study.study.modalities == ("CT", "PT")
    rival = await catalogue.instance("1.2.3.1.2")
    assert rival is not None
    assert rival.digest == other.digest
    assert await catalogue.check() == []


@pytest.mark.spec("ST-7", "ST-10")
async def test_what_was_decided_of_a_patient_holds_when_the_study_comes_back(
    catalogue: Catalogue, make: Make
) -> None:
    async def lists() -> list[Any]:
        page = await catalogue.study_page(StudyListQuery())
        return [sorted(page.rows, key=lambda row: row.study_instance_uid), await catalogue.totals()]

    async def there_and_back() -> None:
        item = await catalogue.lifecycle.leave(removal("1.2"))
        await catalogue.lifecycle.begin_restore(item.trash_id, VOLUMES)
        assert await catalogue.lifecycle.come_back(item.trash_id, VOLUMES) is not None
        assert await catalogue.check() == []

    await catalogue.add(make("1.1", patient_id="P1", patient_name="Rossi^Anna"))
    await catalogue.add(make("1.2", patient_id="P1", patient_name="Bianchi^Carla", minutes=5))
    before = await lists()
    await there_and_back()
    assert await lists() == before  # in conflict as they were
    version = await catalogue.cases.version("1.2")
    verdict = Verdict(
        kind=Kind.FIX,
        study_uid="1.2",
        version=version,
        account="anna",
        changes={"patient_id": "P2"},
    )
    decision = await catalogue.cases.decide(verdict, NOW)
    fixed = await lists()
    await there_and_back()
    assert await lists() == fixed
    await catalogue.cases.undo_patient(decision.decision_id, "anna", "", NOW)
    assert await lists() == before
    decision = await catalogue.cases.decide(
        replace(verdict, version=await catalogue.cases.version("1.2")), NOW
    )
    item = await catalogue.lifecycle.leave(removal("1.2"))
    await catalogue.cases.undo_patient(decision.decision_id, "anna", "", NOW)  # while it is away
    await catalogue.lifecycle.begin_restore(item.trash_id, VOLUMES)
    assert await catalogue.lifecycle.come_back(item.trash_id, VOLUMES) is not None
    assert await lists() == before
    assert await catalogue.check() == []


@pytest.mark.spec("ST-7")
async def test_a_deletion_shares_its_transaction_with_new_objects_and_counts_stay_right(
    catalogue: Catalogue, make: Make
) -> None:
    await fill(catalogue, make)
    # the numbers of rows that go are free at once; whoever gets them must not inherit counts
    _, _, first, _, _, second = await asyncio.gather(
        catalogue.add(make("1.2.3", "1.2.3.1", "1.2.3.1.4", patient_id="P1")),
        catalogue.add(make("5.5", sop="5.5.1.9", patient_id="P5")),
        catalogue.lifecycle.leave(removal()),
        catalogue.add(make("5.6", patient_id="P6", modality="MR")),
        catalogue.add(make("1.2.3", "1.2.3.1", "1.2.3.1.1", patient_id="P1")),
        catalogue.lifecycle.leave(removal("5.5")),
    )
    assert first.objects == 7
    assert await catalogue.check() == []
    again = await catalogue.study("1.2.3")
    assert again is not None
    assert (again.study.number_of_instances, again.study.modalities) == (1, ("CT",))
    for item in (first, second):
        await catalogue.lifecycle.begin_restore(item.trash_id, VOLUMES)
        assert await catalogue.lifecycle.come_back(item.trash_id, VOLUMES) is not None
    assert await catalogue.check() == []
    assert (await catalogue.totals()).instances == 7 + 1 + 1 + 1


@pytest.mark.spec("ST-7")
async def test_a_protected_study_is_not_deleted_whatever_part_is_named(
    catalogue: Catalogue, make: Make
) -> None:
    await fill(catalogue, make)
    await catalogue.protect("1.2.3", on=True)
    flags = await catalogue.study_flags(["1.2.3", "1.2.9"])
    assert (flags["1.2.3"].protected, flags["1.2.9"].protected) == (True, False)
    for part in ({}, {"series_uid": "1.2.3.1"}, {"sop_uids": frozenset({"1.2.3.1.1"})}):
        with pytest.raises(StudyProtected):
            await catalogue.lifecycle.leave(removal(**part))
    assert await catalogue.study("1.2.3") is not None
    await catalogue.protect("1.2.3", on=False)
    await catalogue.lifecycle.leave(removal())


@pytest.mark.spec("ST-7")
async def test_what_is_not_there_is_told(catalogue: Catalogue, make: Make) -> None:
    await fill(catalogue, make)
    for what in (
        removal("9.9"),
        removal(series_uid="9"),
        removal(sop_uids=frozenset({"1.2.9.1.1"})),
    ):
        with pytest.raises(NothingToDelete):
            await catalogue.lifecycle.leave(what)
    with pytest.raises(NotNow):
        await catalogue.lifecycle.begin_restore(99, VOLUMES)
    assert await catalogue.check() == []


@pytest.mark.spec("ST-7")
async def test_nothing_comes_back_while_the_only_copies_are_away(
    catalogue: Catalogue, make: Make
) -> None:
    await catalogue.add(make(copies=("data",), owed=("backup",)))
    item = await catalogue.lifecycle.leave(removal())
    with pytest.raises(NotNow, match="away"):
        await catalogue.lifecycle.begin_restore(item.trash_id, ("backup",))
    (still,) = await catalogue.lifecycle.items()
    assert still.state is TrashState.TRASHED


@pytest.mark.spec("ST-7", "AD-8")
async def test_the_limit_of_studies_holds_for_what_comes_back(index_path: Any, make: Make) -> None:
    limit = [5]
    async with Catalogue(
        index_path, counters=Counters(), clock=SystemClock(), max_studies=lambda: limit[0]
    ) as catalogue:
        await fill(catalogue, make)
        item = await catalogue.lifecycle.leave(removal())
        limit[0] = 1
        await catalogue.lifecycle.begin_restore(item.trash_id, VOLUMES)
        with pytest.raises(CapacityReached):
            await catalogue.lifecycle.come_back(item.trash_id, VOLUMES)
        await catalogue.lifecycle.back_to_trash(item.trash_id)
        assert await catalogue.check() == []
        assert [one.trash_id for one in await catalogue.lifecycle.items()] == [item.trash_id]


@pytest.mark.spec("ST-7")
async def test_an_item_is_due_only_by_the_clock_and_by_running_time(
    catalogue: Catalogue, make: Make
) -> None:
    await fill(catalogue, make)
    lifecycle = catalogue.lifecycle
    await lifecycle.add_to_meter("ran_seconds", 1000)
    item = await lifecycle.leave(removal())
    in_ten_years = NOW + timedelta(days=3650)
    assert await lifecycle.due(in_ten_years, 30) == []  # the clock alone says nothing
    await lifecycle.add_to_meter("ran_seconds", 30 * 86_400 - 1)
    assert await lifecycle.due(in_ten_years, 30) == []
    await lifecycle.add_to_meter("ran_seconds", 1)
    assert await lifecycle.due(NOW + timedelta(days=29, hours=23), 30) == []  # nor this alone
    assert await lifecycle.due(NOW + timedelta(days=30), 30) == [item.trash_id]
    assert await lifecycle.due(NOW + timedelta(days=30), 1) == [item.trash_id]
    # a shorter rule does not shorten what was promised, a longer one lengthens it
    assert await lifecycle.due(NOW + timedelta(days=29), 1) == []
    assert await lifecycle.due(NOW + timedelta(days=30), 31) == []


@pytest.mark.spec("ST-7", "ST-8")
async def test_an_item_read_back_from_a_volume_comes_back_as_it_was(
    catalogue: Catalogue, make: Make
) -> None:
    await fill(catalogue, make)
    lifecycle = catalogue.lifecycle
    before = await catalogue.study("1.2.3")
    item = await lifecycle.leave(removal())
    document = await lifecycle.document(item.trash_id)
    assert document is not None
    rest = {one[1].partition("/")[2] for one in document["objects"]}
    await catalogue.forget_all()
    assert await lifecycle.items() == []
    assert await lifecycle.learn(document, {"data": rest}, VOLUMES)
    assert not await lifecycle.learn(document, {"data": rest}, VOLUMES)
    (learnt,) = await lifecycle.items()
    assert (learnt.objects, learnt.reason, learnt.account) == (6, "sent twice", "anna")
    # on the volume that held a copy and has it not in its trash, the move is still to be made
    assert await lifecycle.claims("backup", "1.2.3.1.3", "studies/1.2.3/1.2.3.1/1.2.3.1.3.dcm")
    assert not await lifecycle.claims("data", "1.2.3.1.3", "studies/1.2.3/1.2.3.1/1.2.3.1.3.dcm")
    await lifecycle.begin_restore(learnt.trash_id, VOLUMES)
    await moved(catalogue, learnt, Place.ARCHIVE)
    assert await lifecycle.come_back(learnt.trash_id, VOLUMES) is not None
    after = await catalogue.study("1.2.3")
    assert before is not None
    assert after is not None
    assert after.study == before.study
    for old, new in zip(before.series, after.series, strict=True):
        assert old.attributes == new.attributes
        for one, other in zip(old.instances, new.instances, strict=True):
            assert (one.digest, one.received_at) == (other.digest, other.received_at)
            if one.staged_as is None:
                assert one.copies == other.copies
    assert await catalogue.check() == []


@pytest.mark.spec("ST-7")
async def test_decisions_about_protection_are_owed_to_volumes_and_learnt_from_them(
    catalogue: Catalogue,
) -> None:
    lifecycle = catalogue.lifecycle
    one = await lifecycle.protect("1.2.3", on=True, at=NOW)
    assert await lifecycle.protect("1.2.3", on=True, at=NOW) == one  # nothing new
    assert await lifecycle.volume_is("data", "disk-1") is False
    (owed,) = await lifecycle.protections_owed("data")
    await lifecycle.protection_written("data", owed)
    assert await lifecycle.protections_owed("data") == []
    assert await lifecycle.volume_is("data", "disk-1")
    assert await lifecycle.volume_is("data", "disk-2") is False  # another disk has no files
    assert await lifecycle.protections_owed("data") == [one]
    await catalogue.forget_all()
    older = Protection(study_instance_uid="1.2.3", protected=False, revision=1, changed_at=NOW)
    newer = Protection(study_instance_uid="1.2.3", protected=True, revision=2, changed_at=NOW)
    await lifecycle.learn_protections([newer])
    await lifecycle.learn_protections([older])
    assert (await catalogue.study_flags(["1.2.3"]))["1.2.3"].protected


@pytest.mark.spec("ST-7")
async def test_a_reading_time_is_written_once_an_hour_and_follows_a_corrected_clock(
    catalogue: Catalogue,
) -> None:
    async def read(at: datetime) -> datetime | None:
        await catalogue.lifecycle.note_reads({"1.2.3": at})
        return (await catalogue.study_flags(["1.2.3"]))["1.2.3"].last_read_at

    assert await read(NOW) == NOW
    assert await read(NOW + timedelta(minutes=59)) == NOW
    assert await read(NOW + timedelta(minutes=60)) == NOW + timedelta(minutes=60)
    wrong = NOW + timedelta(days=3650)
    assert await read(wrong) == wrong
    assert await read(NOW + timedelta(hours=3)) == NOW + timedelta(hours=3)


async def uids(catalogue: Catalogue, **query: Any) -> list[str]:
    arguments = {"reads_noted_since": EPOCH} | query
    return [
        one.study_instance_uid
        for one in await catalogue.lifecycle.retirees(RetirementQuery(**arguments))
    ]


@pytest.mark.spec("ST-7")
async def test_studies_to_retire_are_old_by_their_date_or_reception_and_unread(
    catalogue: Catalogue, make: Make
) -> None:
    await catalogue.add(make("1.1", study_date="20200101"))
    await catalogue.add(make("1.2", study_date="20250101"))
    await catalogue.add(make("1.3"))  # no date: received in 2026
    await catalogue.add(make("1.4", study_date="20190101"))
    await catalogue.protect("1.4", on=True)
    assert await uids(catalogue, older_than=datetime(2021, 1, 1, tzinfo=UTC)) == ["1.1"]
    assert await uids(catalogue, older_than=NOW) == ["1.3", "1.1", "1.2"]
    await catalogue.lifecycle.note_reads({"1.1": NOW})
    unread = EPOCH + timedelta(days=1)
    assert await uids(catalogue, unread_since=unread) == ["1.3", "1.2"]
    # reading times that were never noted prove nothing
    assert await uids(catalogue, unread_since=unread, reads_noted_since=NOW) == []
    first: list[Retiree] = await catalogue.lifecycle.retirees(
        RetirementQuery(older_than=NOW, reads_noted_since=EPOCH, limit=2)
    )
    assert await uids(catalogue, older_than=NOW, after=first[-1].place) == ["1.2"]


@pytest.mark.spec("ST-7")
async def test_the_copies_of_a_study_are_counted_for_retention(
    catalogue: Catalogue, make: Make
) -> None:
    await fill(catalogue, make)
    counts = (await catalogue.lifecycle.copy_counts(["1.2.3"]))["1.2.3"]
    assert counts.objects == 6
    assert counts.held == {"data": 6, "backup": 1}
    assert counts.verified["data"] == 1
    assert (counts.debts, counts.staged) == (5, 4)
    copy = (await catalogue.instance("1.2.3.2.3")).copies  # type: ignore[union-attr]
    assert {one.volume: one.state for one in copy}["backup"] is CopyState.MISSING
