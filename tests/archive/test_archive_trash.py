# SPDX-License-Identifier: Apache-2.0
"""Deleting with undo: at once out of every list, files follow on every volume, nothing is lost."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from archivebox import made
from trashbox import TrashBox, open_box

from scrigno.archive.ingest import StoreOutcome
from scrigno.archive.reconcile import Kind
from scrigno.catalogue.records import CopyState, Debt, StudyListQuery
from scrigno.catalogue.trash_items import NothingToDelete, NotNow, StudyProtected, TrashState
from scrigno.core.errors import CommandError
from scrigno.volumes.staging import StagingFailed
from scrigno.volumes.states import VolumeError, VolumeState

STUDY = "1.2.826.0.1.1"
BOTH = ("data", "backup1")


@pytest.fixture
async def bin_(tmp_path: Path) -> AsyncIterator[TrashBox]:
    box = await open_box(tmp_path)
    try:
        yield box
    finally:
        await box.close()


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


@pytest.mark.spec("ST-7")
async def test_a_deleted_study_is_gone_at_once_and_its_files_follow(bin_: TrashBox) -> None:
    await filled(bin_)
    item = await bin_.delete(STUDY)
    assert await bin_.catalogue.study(STUDY) is None
    assert bin_.happened()[-1] == "StudyRemoved"
    assert len(bin_.objects_on("data", "studies")) == 3  # the files are still where they were
    await bin_.settled()
    for volume in BOTH:
        assert bin_.objects_on(volume, "studies") == []
        assert bin_.objects_on(volume, f"trash/{item.token}") == [
            f"{made(number).uid}.dcm" for number in (1, 2, 3)
        ]
        assert f"trash/records/{item.token}.json" in bin_.on(volume)
    assert await bin_.trash.owed_by(item.trash_id) == ()
    await is_sound(bin_)


@pytest.mark.spec("ST-7")
async def test_undo_brings_back_exactly_what_was_there(bin_: TrashBox) -> None:
    await filled(bin_)
    await filled(bin_, 2, study=2)
    await bin_.verifier.verify()
    before, files = await shown(bin_), [bin_.on(volume, "studies/") for volume in BOTH]
    item = await bin_.delete(STUDY)
    await bin_.settled()
    done = await bin_.trash.restore(item.trash_id, "anna")
    assert done.in_words() == "3 images are back."
    assert await shown(bin_) == before
    assert [bin_.on(volume, "studies/") for volume in BOTH] == files
    assert [bin_.on(volume, "trash/") for volume in BOTH] == [{}, {}]  # nothing is left over
    assert await bin_.trash.items() == []
    assert bin_.happened()[-1] == "StudyReturned"
    assert await readable(bin_) == 5
    await is_sound(bin_)
    with pytest.raises(NotNow):
        await bin_.trash.restore(item.trash_id, "anna")


@pytest.mark.spec("ST-7")
async def test_undo_works_before_the_files_have_moved(bin_: TrashBox) -> None:
    await filled(bin_)
    before = await shown(bin_)
    item = await bin_.delete(STUDY)
    await bin_.trash.restore(item.trash_id, "anna")
    assert await shown(bin_) == before
    await bin_.settled()
    assert await shown(bin_) == before
    await is_sound(bin_)


@pytest.mark.spec("ST-7")
async def test_one_image_or_one_series_goes_and_comes_back_alone(bin_: TrashBox) -> None:
    await filled(bin_)
    before = await shown(bin_)
    one = await bin_.delete(STUDY, sop_uids=[made(2).uid])
    await bin_.settled()
    assert bin_.objects_on("data", "studies") == [f"{made(1).uid}.dcm", f"{made(3).uid}.dcm"]
    two = await bin_.delete(STUDY, series_uid=made(1).series)
    await bin_.settled()
    assert await bin_.catalogue.study(STUDY) is None
    for item in (one, two):
        await bin_.trash.restore(item.trash_id, "anna")
    after = await shown(bin_)
    assert after[:4] == before[:4]
    assert sorted(after[4]) == sorted(before[4])
    await is_sound(bin_)


@pytest.mark.spec("ST-7")
async def test_a_reason_is_needed_and_protection_holds(bin_: TrashBox) -> None:
    await filled(bin_)
    with pytest.raises(CommandError):
        await bin_.trash.delete_study(STUDY, reason=" \n", user="anna")
    with pytest.raises(NothingToDelete):
        await bin_.delete("9.9")
    await bin_.catalogue.protect(STUDY, on=True)
    with pytest.raises(StudyProtected):
        await bin_.delete(STUDY)
    assert [said[3] for said in bin_.said] == ["refused", "refused"]
    assert await bin_.catalogue.study(STUDY) is not None
    await bin_.catalogue.protect(STUDY, on=False)
    item = await bin_.trash.delete_study(STUDY, reason=" Rossi  sent \n twice ", user="anna")
    assert item.reason == "Rossi sent twice"
    (said,) = bin_.said[2:]
    assert said[:4] == ("anna", "study-delete", STUDY, "success")
    assert "Rossi" not in str(said)  # the reason may name a patient


@pytest.mark.spec("ST-7")
async def test_purging_removes_every_file_and_only_after_the_days(bin_: TrashBox) -> None:
    await filled(bin_)
    item = await bin_.delete(STUDY)
    await bin_.settled()
    await bin_.trash.note_running()
    assert await bin_.trash.purge_due() == 0
    bin_.clock.wall_ahead = timedelta(days=3650)  # type: ignore[attr-defined]
    assert await bin_.trash.purge_due() == 0  # a clock that jumps makes nothing old
    bin_.clock.wall_ahead = timedelta()  # type: ignore[attr-defined]
    bin_.clock.run_ahead_s = 31 * 86_400  # type: ignore[attr-defined]
    await bin_.trash.note_running()
    assert await bin_.trash.purge_due() == 0  # the other way round neither
    bin_.clock.wall_ahead = timedelta(days=30)  # type: ignore[attr-defined]
    assert await bin_.trash.purge_due() == 1
    assert await bin_.trash.items() == []
    await bin_.settled()
    for volume in BOTH:
        assert bin_.on(volume, "trash/") == {}
        assert bin_.on(volume, "studies/") == {}
    assert await bin_.catalogue.lifecycle.item(item.trash_id) is None
    assert bin_.said[-1][:3] == ("scrigno", "trash-purge", STUDY)
    await is_sound(bin_)


@pytest.mark.spec("ST-7")
async def test_purging_by_hand_needs_the_item_and_takes_no_other(bin_: TrashBox) -> None:
    await filled(bin_)
    await filled(bin_, 2, study=2)
    first, second = await bin_.delete(STUDY), await bin_.delete("1.2.826.0.1.2")
    await bin_.trash.purge(first.trash_id, "anna")  # before a file has moved
    await bin_.settled()
    assert len(bin_.objects_on("data", "trash")) == 2
    assert bin_.objects_on("data", "studies") == []
    with pytest.raises(NotNow):
        await bin_.trash.purge(first.trash_id, "anna")
    await bin_.trash.restore(second.trash_id, "anna")
    with pytest.raises(NotNow):
        await bin_.trash.purge(second.trash_id, "anna")
    assert await readable(bin_) == 2
    await is_sound(bin_)


# volumes that are away ---------------------------------------------------------------------------


@pytest.mark.spec("ST-7", "ST-3")
async def test_a_volume_that_is_away_moves_its_files_when_it_returns(bin_: TrashBox) -> None:
    await filled(bin_)
    await bin_.take_away("backup1")
    item = await bin_.delete(STUDY)
    await bin_.settled()
    assert await bin_.trash.owed_by(item.trash_id) == ("backup1",)
    await bin_.bring_back("backup1")
    report = await bin_.reconciler.reconcile(fix=True)  # what is on its way is no orphan
    assert report.discrepancies == []
    assert await bin_.catalogue.study(STUDY) is None
    await bin_.settled()
    assert bin_.objects_on("backup1", "studies") == []
    assert len(bin_.objects_on("backup1", f"trash/{item.token}")) == 3
    assert f"trash/records/{item.token}.json" in bin_.on("backup1")
    await is_sound(bin_)


@pytest.mark.spec("ST-7", "ST-3")
async def test_undo_while_a_volume_is_away_brings_its_files_back_when_it_returns(
    bin_: TrashBox,
) -> None:
    await filled(bin_)
    await bin_.verifier.verify()
    before = await shown(bin_)
    item = await bin_.delete(STUDY)
    await bin_.settled()
    await bin_.take_away("backup1")
    done = await bin_.trash.restore(item.trash_id, "anna")
    assert done.returned is not None
    assert await readable(bin_) == 3
    assert (await bin_.catalogue.debt_counts()) == {"backup1": 3}
    await bin_.settled()
    await bin_.bring_back("backup1")
    await bin_.settled()
    assert await shown(bin_) == before
    assert bin_.on("backup1", "trash/") == {}
    await is_sound(bin_)


@pytest.mark.spec("ST-7", "ST-3")
async def test_undo_and_replication_of_a_returning_volume_do_not_hinder_each_other(
    bin_: TrashBox,
) -> None:
    await filled(bin_)
    item = await bin_.delete(STUDY)
    await bin_.settled()
    await bin_.take_away("backup1")
    await bin_.trash.restore(item.trash_id, "anna")
    await bin_.bring_back("backup1")
    paid, _ = await bin_.replicator.pay(bin_.volumes.by_name("backup1"))
    assert paid == 3
    await bin_.settled()
    assert len(bin_.objects_on("backup1", "studies")) == 3
    assert bin_.on("backup1", "trash/") == {}
    await is_sound(bin_)


@pytest.mark.spec("ST-7", "ST-3")
async def test_a_volume_that_was_away_during_delete_and_undo_never_moves_anything(
    bin_: TrashBox,
) -> None:
    await filled(bin_)
    before = await shown(bin_)
    await bin_.take_away("backup1")
    item = await bin_.delete(STUDY)
    await bin_.settled()
    await bin_.trash.restore(item.trash_id, "anna")
    assert await shown(bin_) == before
    await bin_.bring_back("backup1")
    await bin_.settled()
    assert await shown(bin_) == before
    await is_sound(bin_)


@pytest.mark.spec("ST-7", "ST-3")
async def test_undo_is_refused_in_words_while_the_only_copies_are_away(bin_: TrashBox) -> None:
    await filled(bin_)
    item = await bin_.delete(STUDY)
    await bin_.settled()
    for volume in BOTH:
        await bin_.take_away(volume)
    with pytest.raises(NotNow, match="3 of its images stand only on volumes that are away"):
        await bin_.trash.restore(item.trash_id, "anna")
    assert await bin_.states() == [TrashState.TRASHED]
    for volume in BOTH:
        await bin_.bring_back(volume)
    await bin_.trash.restore(item.trash_id, "anna")
    assert await readable(bin_) == 3


@pytest.mark.spec("ST-7", "ST-3")
async def test_a_volume_away_owes_the_purge_too(bin_: TrashBox) -> None:
    await filled(bin_)
    await bin_.take_away("backup1")
    item = await bin_.delete(STUDY)
    await bin_.settled()
    await bin_.trash.purge(item.trash_id, "anna")
    await bin_.settled()
    assert bin_.objects_on("data", "trash") == []
    assert await bin_.catalogue.lifecycle.item(item.trash_id) is not None  # still owed
    await bin_.bring_back("backup1")
    report = await bin_.reconciler.reconcile(fix=True)
    assert report.discrepancies == []
    await bin_.settled()
    assert bin_.on("backup1", "studies/") == {}
    assert bin_.on("backup1", "trash/") == {}
    assert await bin_.catalogue.lifecycle.item(item.trash_id) is None
    await is_sound(bin_)


# sent again --------------------------------------------------------------------------------------


@pytest.mark.spec("ST-7", "ST-10")
@pytest.mark.parametrize("moved", [True, False])
@pytest.mark.parametrize("same", [True, False])
async def test_a_study_sent_again_while_in_the_trash_is_a_new_study(
    bin_: TrashBox, *, moved: bool, same: bool
) -> None:
    await filled(bin_)
    item = await bin_.delete(STUDY)
    if moved:
        await bin_.settled()
    again = made(1) if same else made(1, SeriesDescription="Other")
    receipt = await bin_.store(again)
    assert receipt.outcome is StoreOutcome.NEW
    await bin_.replicated()
    await bin_.settled()
    assert await readable(bin_) == 1
    assert bin_.on("data")[again.key] == again.file
    assert len(bin_.objects_on("data", f"trash/{item.token}")) == 3
    await is_sound(bin_)
    await bin_.trash.purge(item.trash_id, "anna")
    await bin_.settled()
    assert await readable(bin_) == 1  # its file was not purged from under it
    assert bin_.on("backup1")[again.key] == again.file
    await is_sound(bin_)


@pytest.mark.spec("ST-7", "ST-10")
async def test_undo_merges_what_was_sent_again_with_the_same_bytes(bin_: TrashBox) -> None:
    await filled(bin_)
    item = await bin_.delete(STUDY)
    await bin_.settled()
    await bin_.store(made(1))
    await bin_.replicated()
    done = await bin_.trash.restore(item.trash_id, "anna")
    assert done.in_words() == (
        "2 images are back. 1 had been sent again meanwhile, the same bytes."
    )
    assert await readable(bin_) == 3
    assert [bin_.on(volume, "trash/") for volume in BOTH] == [{}, {}]
    await is_sound(bin_)


@pytest.mark.spec("ST-7", "ST-10")
@pytest.mark.parametrize("away", [False, True])
async def test_undo_keeps_what_has_a_rival_by_now_in_the_inbox(
    bin_: TrashBox, *, away: bool
) -> None:
    await filled(bin_)
    item = await bin_.delete(STUDY)
    await bin_.settled()
    rival = made(1, SeriesDescription="Other")
    if away:
        await bin_.take_away("backup1")
    await bin_.store(rival)
    done = await bin_.trash.restore(item.trash_id, "anna")
    assert "those stay, the deleted ones are in the inbox" in done.in_words()
    (kept,) = await bin_.inbox.items()
    assert kept.item.reason == "conflict"
    assert kept.item.digest == made(1).digest
    assert kept.item.study_instance_uid == STUDY
    stream = await bin_.inbox.open(kept.inbox_id)
    assert b"".join([chunk async for chunk in stream.chunks]) == made(1).file
    if away:
        await bin_.bring_back("backup1")
        await bin_.settled()
        await bin_.replicated()
    assert await readable(bin_) == 3
    assert bin_.on("data")[rival.key] == rival.file
    assert [bin_.on(volume, "trash/") for volume in BOTH] == [{}, {}]
    await is_sound(bin_)


@pytest.mark.spec("ST-7", "ST-10")
@pytest.mark.parametrize("same", [True, False])
async def test_a_study_sent_again_while_a_volume_is_away_meets_its_old_file_there(
    bin_: TrashBox, *, same: bool
) -> None:
    await filled(bin_)
    await bin_.take_away("backup1")
    item = await bin_.delete(STUDY)
    await bin_.settled()
    again = made(1) if same else made(1, SeriesDescription="Other")
    await bin_.store(again)
    await bin_.bring_back("backup1")
    await asyncio.gather(bin_.replicator.pay(bin_.volumes.by_name("backup1")), bin_.trash.round())
    await bin_.settled()
    await bin_.replicated()
    assert bin_.on("backup1")[again.key] == again.file
    assert await bin_.catalogue.debt_counts() == {}
    assert await readable(bin_) == 1
    await bin_.trash.purge(item.trash_id, "anna")
    await bin_.settled()
    assert bin_.on("backup1")[again.key] == again.file
    await is_sound(bin_)


@pytest.mark.spec("ST-7", "ST-10")
async def test_a_study_deleted_twice_comes_back_twice(bin_: TrashBox) -> None:
    await filled(bin_)
    first = await bin_.delete(STUDY)
    await bin_.take_away("backup1")
    await bin_.settled()
    await bin_.store(made(1))
    await bin_.store(made(4))
    second = await bin_.delete(STUDY)
    await bin_.settled()
    await bin_.bring_back("backup1")
    await bin_.trash.restore(first.trash_id, "anna")
    await bin_.settled()
    assert await readable(bin_) == 3
    done = await bin_.trash.restore(second.trash_id, "anna")
    assert done.returned is not None
    assert (done.returned.back, done.returned.merged) == (1, 1)
    await bin_.settled()
    await bin_.replicated()
    assert await readable(bin_) == 4
    for volume in BOTH:
        assert len(bin_.objects_on(volume, "studies")) == 4
        assert bin_.on(volume, "trash/") == {}
    await is_sound(bin_)


# copies under way, staging -----------------------------------------------------------------------


@pytest.mark.spec("ST-7")
async def test_debts_of_a_deleted_study_vanish_and_no_late_copy_brings_a_file_back(
    bin_: TrashBox,
) -> None:
    for number in (1, 2, 3):
        await bin_.store(made(number))
    debts = await bin_.catalogue.debts("backup1")
    assert len(debts) == 3
    item = await bin_.delete(STUDY)
    assert await bin_.catalogue.debt_counts() == {}
    # a batch of debts that was read before goes on, first before and then after the move
    await _pay_late(bin_, debts[:1])
    await bin_.settled()
    await _pay_late(bin_, debts[1:])
    assert bin_.objects_on("backup1", "studies") == []
    assert await bin_.staged() == 0
    await bin_.trash.restore(item.trash_id, "anna")
    assert await readable(bin_) == 3
    await is_sound(bin_)


async def _pay_late(box: TrashBox, debts: list[Debt]) -> None:
    """Copy as replication does that has read the debts before something was deleted."""
    for debt in debts:
        async with box.taking.turn(debt.sop_instance_uid):
            with suppress(VolumeError, StagingFailed):
                await box.placement.replicate(
                    debt.staged_as, debt.key, debt.digest, sources=debt.held_by, target="backup1"
                )
                assert not await box.catalogue.paid(debt.sop_instance_uid, "backup1")


@pytest.mark.spec("ST-7")
async def test_an_object_that_stands_only_in_staging_is_brought_into_the_trash(
    bin_: TrashBox,
) -> None:
    await filled(bin_)
    await bin_.take_away("data")
    bin_.change(ack_copies=2)
    late = made(4)
    await bin_.store(late)
    item = await bin_.delete(STUDY)
    # its only volume copy goes with the disk; what staging has is moved to the one that is there
    await bin_.take_away("backup1")
    await bin_.bring_back("data")
    await bin_.settled()
    assert bin_.on("data")[f"trash/{item.token}/{late.key.partition('/')[2]}"] == late.file
    assert await bin_.staged() == 0
    await bin_.trash.restore(item.trash_id, "anna")
    assert await readable(bin_) == 4


@pytest.mark.spec("ST-7", "ST-2")
async def test_staged_objects_of_the_trash_are_not_taken_in_again_by_a_restart(
    tmp_path: Path,
) -> None:
    box = await open_box(tmp_path)
    try:
        for number in (1, 2, 3):
            await box.store(made(number))
        assert await box.staged() == 3
        await box.delete(STUDY)
        await box.reopened()
        box.recovery.start()
        await asyncio.sleep(0.2)
        assert box.recovery.pending == 0
        assert await box.catalogue.study(STUDY) is None
        await box.settled()
        assert await box.staged() == 0
    finally:
        await box.close()


# a lost index ------------------------------------------------------------------------------------


@pytest.mark.spec("ST-7", "ST-8")
@pytest.mark.parametrize("source", ["data", "backup1", None])
async def test_what_is_in_the_trash_stays_there_when_the_index_is_made_anew(
    bin_: TrashBox, source: str | None
) -> None:
    await filled(bin_)
    await filled(bin_, 2, study=2)
    await bin_.catalogue.protect("1.2.826.0.1.2", on=True)
    before = await shown(bin_)
    await bin_.take_away("backup1")
    item = await bin_.delete(STUDY)
    await bin_.settled()
    await bin_.bring_back("backup1")  # its files were never moved
    await bin_.catalogue.forget_all()
    report = await bin_.rebuilder.rebuild(volume=source)
    assert report.trashed_items == 1
    assert (await bin_.catalogue.totals()).studies == 1
    (found,) = await bin_.trash.items()
    assert (found.token, found.reason, found.objects) == (item.token, "a test", 3)
    await bin_.settled()
    assert len(bin_.objects_on("backup1", f"trash/{item.token}")) == 3
    await is_sound(bin_)
    await bin_.trash.restore(found.trash_id, "anna")
    after = await shown(bin_)
    first = {row.study_instance_uid: row for row in before[0].rows}[STUDY]
    assert {row.study_instance_uid: row for row in after[0].rows}[STUDY] == first
    assert await readable(bin_) == 5
    assert (await bin_.catalogue.study_flags(["1.2.826.0.1.2"]))["1.2.826.0.1.2"].protected
    await is_sound(bin_)


@pytest.mark.spec("ST-7", "ST-8")
async def test_what_came_again_is_no_trash_when_the_index_is_made_anew(bin_: TrashBox) -> None:
    await filled(bin_)
    await bin_.delete(STUDY)
    await bin_.store(made(1))  # in the middle of the move
    await bin_.catalogue.forget_all()
    await bin_.rebuilder.rebuild()
    assert await readable(bin_) == 1
    (found,) = await bin_.trash.items()
    assert found.objects == 3
    await bin_.settled()
    await is_sound(bin_)


@pytest.mark.spec("ST-7", "ST-8")
async def test_what_was_brought_back_is_no_trash_when_the_index_is_made_anew(
    bin_: TrashBox,
) -> None:
    await filled(bin_)
    item = await bin_.delete(STUDY)
    await bin_.settled()
    await bin_.take_away("backup1")  # it has the record, and the files in its trash
    await bin_.trash.restore(item.trash_id, "anna")
    await bin_.catalogue.forget_all()
    await bin_.bring_back("backup1")
    await bin_.rebuilder.rebuild()
    assert await readable(bin_) == 3
    await bin_.settled()
    assert await readable(bin_) == 3


@pytest.mark.spec("ST-7", "ST-8")
async def test_a_purge_goes_on_when_the_index_is_made_anew(bin_: TrashBox) -> None:
    await filled(bin_)
    await bin_.take_away("backup1")
    item = await bin_.delete(STUDY)
    await bin_.settled()
    await bin_.trash.purge(item.trash_id, "anna")
    await bin_.settled()
    await bin_.catalogue.forget_all()
    await bin_.bring_back("backup1")
    await bin_.rebuilder.rebuild()
    assert (await bin_.catalogue.totals()).studies == 0
    assert await bin_.trash.items() == []
    await bin_.settled()
    assert bin_.on("backup1", "studies/") == {}
    await is_sound(bin_)


@pytest.mark.spec("ST-7")
async def test_damaged_records_and_flags_are_passed_over(bin_: TrashBox) -> None:
    await filled(bin_)
    await bin_.delete(STUDY)
    await bin_.settled()
    for volume in BOTH:
        folder = bin_.root / volume
        (folder / "flags").mkdir()
        (folder / "flags" / "1.2.3.json").write_bytes(b"{}")
        (folder / "trash" / "records" / "x.json").write_bytes(b"\x1f\x8b nonsense")
    (record,) = (bin_.root / "data" / "trash" / "records").glob("2*.json")
    record.write_bytes(record.read_bytes()[:50])
    await bin_.catalogue.forget_all()
    assert await bin_.trash.learn() == 1  # the other volume has it whole


# protection on volumes ---------------------------------------------------------------------------


@pytest.mark.spec("ST-7", "ST-8")
async def test_protection_stands_on_every_volume_and_follows_to_those_that_were_away(
    bin_: TrashBox,
) -> None:
    await filled(bin_)
    await bin_.catalogue.protect(STUDY, on=True)
    await bin_.take_away("backup1")
    await bin_.settled()
    assert f"flags/{STUDY}.json" in bin_.on("data")
    await bin_.catalogue.protect(STUDY, on=False)
    await bin_.catalogue.protect(STUDY, on=True)
    await bin_.settled()
    await bin_.bring_back("backup1")
    await bin_.settled()
    key = f"flags/{STUDY}.json"
    assert bin_.on("backup1")[key] == bin_.on("data")[key]
    await bin_.catalogue.forget_all()
    await bin_.rebuilder.rebuild(volume="backup1")
    with pytest.raises(StudyProtected):
        await bin_.delete(STUDY)


# in the background -------------------------------------------------------------------------------


@pytest.mark.spec("ST-7", "ST-3")
async def test_it_works_by_itself_while_images_come_in_and_a_volume_comes_and_goes(
    tmp_path: Path,
) -> None:
    box = await open_box(tmp_path, replicating=True)
    try:
        box.trash.start()
        await filled(box, 20)
        await filled(box, 20, study=2)

        async def sender() -> None:
            for number in range(1, 41):
                await box.store(made(number, study=3))

        sending = asyncio.ensure_future(sender())
        item = await box.delete(STUDY)
        await box.take_away("backup1")
        other = await box.delete("1.2.826.0.1.2")
        await sending
        await box.trash.restore(other.trash_id, "anna")
        await box.bring_back("backup1")
        await box.until(lambda: _done(box, item.trash_id), 20)
        await box.until(lambda: _no_debts(box), 20)
        assert await readable(box) == 60
        for volume in BOTH:
            assert len(box.objects_on(volume, f"trash/{item.token}")) == 20
            assert len(box.objects_on(volume, "studies")) == 60
        assert box.trash.error == ""
        await is_sound(box)
    finally:
        await box.close()


async def _done(box: TrashBox, trash_id: int) -> bool:
    return (
        await box.trash.owed_by(trash_id) == ()
        and box.volumes.by_name("backup1").state is VolumeState.ONLINE
    )


async def _no_debts(box: TrashBox) -> bool:
    return not await box.catalogue.debt_counts() and len(box.objects_on("backup1", "studies")) == 60


@pytest.mark.spec("ST-7")
async def test_a_damaged_copy_that_comes_back_is_not_called_verified(bin_: TrashBox) -> None:
    await filled(bin_, 1)
    await bin_.catalogue.copy_missing(made(1).uid, "backup1")
    item = await bin_.delete(STUDY)
    await bin_.settled()
    await bin_.trash.restore(item.trash_id, "anna")
    instance = await bin_.catalogue.instance(made(1).uid)
    assert instance is not None
    states = {copy.volume: copy.state for copy in instance.copies}
    assert states["data"] is CopyState.HELD
    assert instance.copies[0].verified_at is None
    report = await bin_.reconciler.reconcile()
    assert {one.kind for one in report.discrepancies} <= {Kind.UNRECORDED}


# an older index ----------------------------------------------------------------------------------


@pytest.mark.spec("ST-7", "DB-3")
async def test_an_older_index_learns_what_was_deleted_after_it_was_made(tmp_path: Path) -> None:
    box = await open_box(tmp_path)
    try:
        await filled(box)
        await filled(box, 1, study=2)
        await box.catalogue.backup(tmp_path / "older.db")
        item = await box.delete(STUDY)
        await box.settled()
        await box.store(made(1, SeriesDescription="Other"))
        await box.close()
        for rest in ("index.db-wal", "index.db-shm"):
            (tmp_path / "state" / rest).unlink(missing_ok=True)
        (tmp_path / "older.db").replace(tmp_path / "state" / "index.db")
        await box.open()
        assert (await box.catalogue.totals()).instances == 4
        await box.reconciler.reconcile(fix=True)
        await box.settled()
        assert await readable(box) == 2  # of the other study, and the one that came later
        (found,) = await box.trash.items()
        assert found.token == item.token
        await box.replicated()
        await is_sound(box)
        done = await box.trash.restore(found.trash_id, "anna")
        assert done.returned is not None
        assert (done.returned.back, done.returned.kept) == (2, 1)
        assert await readable(box) == 4
    finally:
        await box.close()


@pytest.mark.spec("ST-7", "DB-3")
async def test_what_an_older_index_believes_in_the_trash_and_is_not_is_told(
    bin_: TrashBox,
) -> None:
    await filled(bin_)
    item = await bin_.delete(STUDY)
    await bin_.settled()
    for volume in BOTH:
        (bin_.root / volume / f"trash/{item.token}/{made(1).key[8:]}").unlink()
    done = await bin_.trash.restore(item.trash_id, "anna")
    assert done.in_words() == ("2 images are back. No volume has a file of 1 more; they are lost.")
    assert await readable(bin_) == 2
    await is_sound(bin_)


@pytest.mark.spec("ST-7", "ST-2")
async def test_a_journal_entry_that_outlived_its_deleted_object_brings_nothing_back(
    tmp_path: Path,
) -> None:
    box = await open_box(tmp_path)
    try:
        await box.store(made(1))
        (entry,) = await box.staging.journal()
        (path,) = (tmp_path / "staging").rglob(entry.name)
        await asyncio.to_thread((tmp_path / "kept").hardlink_to, path)
        await box.replicated()
        item = await box.delete(STUDY)
        await box.settled()
        assert await box.staged() == 0
        await box.close()
        (tmp_path / "kept").rename(path)  # the unlink was lost with the power
        await box.open()
        box.recovery.start()
        await box.until(lambda: box.counters.value("recovery_objects", outcome="deleted"))
        assert await box.catalogue.study(STUDY) is None
        await box.settled()
        assert await box.staged() == 0
        await box.store(made(1))  # sent again, the same bytes: that is something else
        assert await readable(box) == 1
        done = await box.trash.restore(item.trash_id, "anna")
        assert done.returned is not None
        assert done.returned.merged == 1
    finally:
        await box.close()
