# SPDX-License-Identifier: Apache-2.0
"""Deleting with undo: at once out of every list, files follow, nothing is lost."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from archivebox import made
from trashbox import BOTH, STUDY, TrashBox, filled, is_sound, open_box, readable, shown

from loopfs import loop_filesystem
from scrigno.archive.errors import IngestError
from scrigno.archive.reconcile import Kind
from scrigno.catalogue.records import CopyState, Debt
from scrigno.catalogue.trash_items import NothingToDelete, NotNow, StudyProtected
from scrigno.core.errors import CommandError
from scrigno.volumes.staging import StagingFailed
from scrigno.volumes.states import VolumeError, VolumeState


@pytest.fixture
async def bin_(tmp_path: Path) -> AsyncIterator[TrashBox]:
    box = await open_box(tmp_path)
    try:
        yield box
    finally:
        await box.close()


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


# copies under way, staging ------------------------------------------------------------------------


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


@pytest.mark.spec("ST-7", "ST-3")
async def test_a_copy_from_a_volume_that_was_away_at_the_deletion_brings_no_file_back(
    tmp_path: Path,
) -> None:
    box = await open_box(tmp_path, names=("data", "backup1", "backup2"))
    try:
        for number in (1, 2, 3):
            await box.store(made(number))
        debts = await box.catalogue.debts("backup2")
        await box.replicator.pay(box.volumes.by_name("backup1"))
        await box.take_away("backup1")
        item = await box.delete(STUDY)
        await box.settled()
        await box.bring_back("backup1")
        late = [replace(debt, staged_as=None, held_by=("backup1",)) for debt in debts]
        await _pay_late(box, late, "backup2")
        assert len(box.objects_on("backup2", "studies")) == 3
        await box.settled()
        assert box.objects_on("backup2", "studies") == []
        assert len(box.objects_on("backup2", f"trash/{item.token}")) == 3
        await is_sound(box)
    finally:
        await box.close()


async def _pay_late(box: TrashBox, debts: list[Debt], target: str = "backup1") -> None:
    """Copy as replication does that has read the debts before something was deleted."""
    for debt in debts:
        async with box.taking.turn(debt.sop_instance_uid):
            with suppress(VolumeError, StagingFailed):
                await box.placement.replicate(
                    debt.staged_as, debt.key, debt.digest, sources=debt.held_by, target=target
                )
                assert not await box.catalogue.paid(debt.sop_instance_uid, target)


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
@pytest.mark.parametrize("gone", [False, True])
async def test_staging_keeps_a_deleted_object_that_it_cannot_read_now(
    bin_: TrashBox, *, gone: bool
) -> None:
    await filled(bin_)
    await bin_.take_away("data")
    bin_.change(ack_copies=2)
    late = made(4)
    await bin_.store(late)
    item = await bin_.delete(STUDY)
    await bin_.take_away("backup1")
    (entry,) = await bin_.staging.journal()
    (path,) = (bin_.root / "staging").rglob(entry.name)
    aside = bin_.root / "aside"
    path.rename(aside)
    if not gone:
        path.symlink_to("nowhere")  # reading it fails, and that is not for want of an entry
    await bin_.bring_back("data")
    await bin_.settled()
    assert late.uid not in str(bin_.objects_on("data", "trash"))
    assert (await bin_.catalogue.lifecycle.staged_names() == set()) is gone
    if gone:
        return
    assert path.is_symlink()  # it was not let go
    path.unlink()
    aside.rename(path)
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


# protection on volumes ----------------------------------------------------------------------------


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


# in the background --------------------------------------------------------------------------------


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


# full volumes -------------------------------------------------------------------------------------


@pytest.mark.spec("ST-7")
async def test_deleting_undo_and_purging_work_on_full_volumes(tmp_path: Path) -> None:
    with loop_filesystem(tmp_path, "data"), loop_filesystem(tmp_path, "backup1"):
        box = await open_box(tmp_path)
        try:
            await filled(box)
            for volume in BOTH:
                await asyncio.to_thread(_fill, tmp_path / volume)
            with pytest.raises(IngestError):
                await box.store(made(4))
            assert await readable(box) == 3
            item = await box.delete(STUDY)
            await box.settled()
            for volume in BOTH:
                assert box.volumes.by_name(volume).state is VolumeState.FULL
                assert len(box.objects_on(volume, f"trash/{item.token}")) == 3
            await box.trash.restore(item.trash_id, "anna")
            assert await readable(box) == 3
            again = await box.delete(STUDY)
            await box.settled()
            await box.trash.purge(again.trash_id, "anna")
            await box.settled()
            for volume in BOTH:
                assert box.on(volume, "trash/") == {}
        finally:
            await box.close()


def _fill(folder: Path) -> None:
    """Leave less than the reserve."""
    about = os.statvfs(folder)
    fd = os.open(folder / ".filler", os.O_CREAT | os.O_WRONLY)
    try:
        os.posix_fallocate(fd, 0, about.f_bavail * about.f_frsize - (256 << 10))
    finally:
        os.close(fd)
