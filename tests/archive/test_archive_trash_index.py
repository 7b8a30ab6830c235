# SPDX-License-Identifier: Apache-2.0
"""The trash outlives a lost index, and an older one learns what was deleted."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from archivebox import made
from trashbox import BOTH, STUDY, TrashBox, filled, is_sound, open_box, readable, shown


@pytest.fixture
async def bin_(tmp_path: Path) -> AsyncIterator[TrashBox]:
    box = await open_box(tmp_path)
    try:
        yield box
    finally:
        await box.close()


# a lost index -------------------------------------------------------------------------------------


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


# an older index -----------------------------------------------------------------------------------


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
