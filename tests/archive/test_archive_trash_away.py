# SPDX-License-Identifier: Apache-2.0
"""Deleting and undo while a volume is away, and of studies that are sent again."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from archivebox import made
from trashbox import BOTH, STUDY, TrashBox, filled, is_sound, open_box, readable, shown

from scrigno.archive.ingest import StoreOutcome
from scrigno.catalogue.trash_items import NotNow, TrashState


@pytest.fixture
async def bin_(tmp_path: Path) -> AsyncIterator[TrashBox]:
    box = await open_box(tmp_path)
    try:
        yield box
    finally:
        await box.close()


# volumes that are away ----------------------------------------------------------------------------


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


# sent again ---------------------------------------------------------------------------------------


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


@pytest.mark.spec("ST-7", "ST-3")
@pytest.mark.parametrize("sent_again", [False, True])
async def test_a_file_that_comes_late_for_an_undo_serves_the_next_deletion(
    bin_: TrashBox, *, sent_again: bool
) -> None:
    """Brought back and deleted again while a volume was away, whose copy is then the last one."""
    await filled(bin_)
    first = await bin_.delete(STUDY)
    await bin_.settled()
    await bin_.take_away("backup1")
    await bin_.trash.restore(first.trash_id, "anna")
    await bin_.settled()
    second = await bin_.delete(STUDY)
    await bin_.settled()
    assert bin_.objects_on("data", "studies") == []
    assert len(bin_.objects_on("data", f"trash/{second.token}")) == 3
    rival = made(1, SeriesDescription="Other")
    await bin_.take_away("data")
    await bin_.bring_back("backup1")
    if sent_again:
        await bin_.store(rival)
    await bin_.settled()
    assert bin_.objects_on("backup1", f"trash/{first.token}") == []
    assert len(bin_.objects_on("backup1", f"trash/{second.token}")) == 3
    assert bin_.objects_on("backup1", "studies") == [f"{rival.uid}.dcm"] * sent_again
    done = await bin_.trash.restore(second.trash_id, "anna")
    assert done.returned is not None
    assert (done.returned.back, done.returned.kept) == ((2, 1) if sent_again else (3, 0))
    assert await readable(bin_) == 3
    await bin_.bring_back("data")
    await bin_.settled()
    await bin_.replicated()
    assert [bin_.on(volume, "trash/") for volume in BOTH] == [{}, {}]
    assert await readable(bin_) == 3
    await is_sound(bin_)


@pytest.mark.spec("ST-7", "ST-3")
async def test_a_file_that_comes_late_goes_when_the_next_deletion_is_purged(
    bin_: TrashBox,
) -> None:
    await filled(bin_)
    first = await bin_.delete(STUDY)
    await bin_.settled()
    await bin_.take_away("backup1")
    await bin_.trash.restore(first.trash_id, "anna")
    second = await bin_.delete(STUDY)
    await bin_.settled()
    await bin_.trash.purge(second.trash_id, "anna")
    await bin_.bring_back("backup1")
    await bin_.settled()
    await bin_.settled()
    for volume in BOTH:
        assert bin_.objects_on(volume, "studies") == []
        assert bin_.on(volume, "trash/") == {}
    await is_sound(bin_)


@pytest.mark.spec("ST-7", "ST-3")
async def test_a_late_file_is_handed_over_once_and_not_to_a_damaged_one(bin_: TrashBox) -> None:
    await filled(bin_)
    first = await bin_.delete(STUDY)
    await bin_.settled()
    await bin_.take_away("backup1")
    await bin_.trash.restore(first.trash_id, "anna")
    second = await bin_.delete(STUDY)
    await bin_.settled()
    await bin_.take_away("data")
    old, new = (
        [
            bin_.root / "backup1-away" / "trash" / item.token / made(place).key.partition("/")[2]
            for place in (1, 2, 3)
        ]
        for item in (first, second)
    )
    new[0].parent.mkdir(parents=True)
    old[0].rename(new[0])  # the box was killed between moving it and noting that
    new[1].write_bytes(b"damaged")
    new[2].write_bytes(old[2].read_bytes())
    await bin_.bring_back("backup1")
    await bin_.settled()
    assert bin_.objects_on("backup1", f"trash/{first.token}") == []
    assert bin_.set_aside("backup1") == [b"damaged"]
    done = await bin_.trash.restore(second.trash_id, "anna")
    assert done.returned is not None
    assert done.returned.back == 3
    assert await readable(bin_) == 3
