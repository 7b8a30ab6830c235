# SPDX-License-Identifier: Apache-2.0
"""Verification, rebuild, reconciliation and backups of the index."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from archivebox import Box, Made, dataset, encoded, made

from scrigno.archive.copies import Difference
from scrigno.archive.reconcile import ReconcileReport
from scrigno.catalogue.catalogue import Catalogue
from scrigno.catalogue.query import FindKey, FindQuery, Level
from scrigno.core.errors import CommandError
from scrigno.volumes.states import VolumeState


async def filled(box: Box, number: int = 6) -> list[Made]:
    """Store objects of two studies and bring them to both volumes."""
    objects = [made(place, study=1 + place % 2) for place in range(1, number + 1)]
    for one in objects:
        await box.store(one)
    await spread(box)
    return objects


async def spread(box: Box) -> None:
    for volume in box.volumes.ordered:
        await box.replicator.pay(volume)
    await box.replicator.tidy()


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 0xFF
    path.write_bytes(content)


async def answers(box: Box) -> list[tuple[Level, list[tuple[str, str]]]]:
    """Everything a query can tell, at every level."""
    found: list[tuple[Level, list[tuple[str, str]]]] = []
    keys = {
        Level.PATIENT: ("PatientID", "PatientName", "NumberOfPatientRelatedInstances"),
        Level.STUDY: (
            "StudyInstanceUID",
            "PatientName",
            "StudyDate",
            "StudyDescription",
            "ModalitiesInStudy",
            "NumberOfStudyRelatedInstances",
        ),
        Level.SERIES: ("SeriesInstanceUID", "Modality", "SeriesDescription"),
        Level.IMAGE: ("SOPInstanceUID", "InstanceNumber", "Rows"),
    }
    for level, keywords in keys.items():
        query = FindQuery(level=level, keys=tuple(FindKey(keyword=word) for word in keywords))
        rows = [
            sorted((k, repr(v)) for k, v in row.values.items())
            async for row in box.catalogue.find(query)
        ]
        found.append(sorted(rows))
    return sorted(found)


# verification ----------------------------------------------------------------------------------


@pytest.mark.spec("ST-6")
async def test_good_copies_are_found_good_and_remembered_as_verified(box: Box) -> None:
    await filled(box)
    seen: list[tuple[int, int]] = []
    report = await box.verifier.verify(progress=lambda n, total: seen.append((n, total)))
    assert (report.instances, report.copies_good, report.copies_bad) == (6, 12, 0)
    assert seen[-1] == (6, 6)
    row = await box.catalogue.instance(made(2, study=1).uid)
    assert all(copy.verified_at is not None for copy in row.copies)
    one_study = await box.verifier.verify(study_uid=made(2, study=1).study)
    assert one_study.instances == 3


@pytest.mark.spec("ST-6")
@pytest.mark.parametrize("problem", ["changed", "missing", "cut"])
async def test_a_bad_copy_is_repaired_from_the_good_one(box: Box, problem: str) -> None:
    objects = await filled(box)
    path = box.root / "data" / objects[0].key
    match problem:
        case "changed":
            damage(path)
        case "missing":
            path.unlink()
        case "cut":
            path.write_bytes(objects[0].file[:-10])
    bad = path.read_bytes() if path.exists() else None
    report = await box.verifier.verify()
    assert (report.copies_good, report.copies_bad, report.repaired) == (11, 1, 1)
    (one,) = report.bad
    assert (one.volume, one.key, one.repaired) == ("data", objects[0].key, True)
    assert box.on("data", "studies") == box.on("backup1", "studies")
    assert box.set_aside("data") == ([] if bad is None else [bad])
    assert (await box.verifier.verify()).copies_bad == 0


@pytest.mark.spec("ST-6")
async def test_without_repair_a_bad_copy_is_only_told(box: Box) -> None:
    objects = await filled(box)
    damage(box.root / "data" / objects[0].key)
    report = await box.verifier.verify(repair=False)
    assert (report.copies_bad, report.repaired) == (1, 0)
    assert box.on("data") != box.on("backup1")


@pytest.mark.spec("ST-6")
async def test_the_last_copy_is_never_touched_even_when_it_is_bad(
    box: Box, caplog: pytest.LogCaptureFixture
) -> None:
    objects = await filled(box)
    for name in box.names:
        damage(box.root / name / objects[0].key)
    before = box.on("data"), box.on("backup1")
    report = await box.verifier.verify()
    assert (report.copies_bad, report.repaired) == (2, 0)
    assert (box.on("data"), box.on("backup1")) == before
    assert "no good copy is left" in caplog.text


async def test_a_copy_still_in_staging_repairs_the_only_volume_copy(box: Box) -> None:
    await box.store(made())
    damage(box.root / "data" / made().key)
    report = await box.verifier.verify()
    assert (report.copies_bad, report.repaired) == (1, 1)
    assert box.on("data", "studies") == {made().key: made().file}


async def test_copies_on_a_volume_that_is_away_are_left_out(box: Box) -> None:
    await filled(box)
    box.volumes.by_name("backup1").state = VolumeState.ABSENT
    report = await box.verifier.verify()
    assert (report.copies_good, report.copies_skipped) == (6, 6)


async def test_a_missing_copy_on_a_volume_that_takes_no_writes_is_owed(box: Box) -> None:
    objects = await filled(box)
    (box.root / "backup1" / objects[0].key).unlink()
    box.volumes.by_name("backup1").state = VolumeState.READONLY
    report = await box.verifier.verify()
    assert (report.copies_bad, report.repaired) == (1, 0)
    assert await box.catalogue.debt_counts() == {"backup1": 1}


async def test_a_verification_can_be_cancelled(box: Box) -> None:
    await filled(box)
    report = await box.verifier.verify(cancelled=lambda: True)
    assert report.cancelled
    assert report.instances == 0


@pytest.mark.spec("ST-6")
async def test_a_bad_copy_that_a_reader_met_is_repaired_by_itself(box: Box) -> None:
    objects = await filled(box)
    box.retrieval.on_suspect = box.verifier.suspect
    box.verifier.start()
    try:
        path = box.root / "data" / objects[0].key
        damage(path)
        row = await box.catalogue.instance(objects[0].uid)
        await box.retrieval.read(row, limit_bytes=1 << 20)
        await box.until(lambda: path.exists() and path.read_bytes() == objects[0].file)
    finally:
        await box.verifier.close()


# rebuild ---------------------------------------------------------------------------------------


async def without_index(box: Box) -> None:
    """Lose the index, as by a broken system disk."""
    await box.close()
    for path in (box.root / "state").glob("index.db*"):
        path.unlink()
    await box.open()


@pytest.mark.spec("ST-8")
@pytest.mark.parametrize("volume", ["data", "backup1", None])
async def test_the_index_is_rebuilt_and_every_query_answers_the_same(
    box: Box, volume: str | None
) -> None:
    await filled(box)
    before = await answers(box)
    await without_index(box)
    assert (await box.catalogue.totals()).instances == 0
    report = await box.rebuilder.rebuild(volume=volume)
    assert (report.added, report.unreadable, report.conflicts) == (6, [], [])
    assert await answers(box) == before
    row = await box.catalogue.instance(made(2, study=1).uid)
    assert sorted(row.held_by()) == ["backup1", "data"]
    assert not await box.catalogue.debt_counts()


@pytest.mark.spec("ST-8")
async def test_a_rebuild_beside_the_old_index_changes_nothing(box: Box) -> None:
    await filled(box)
    await box.store(made(50))  # owed to the backup volume, in staging
    await box.store(made(1, study=2, PatientName="Other^Name"))  # in the inbox
    before = await answers(box)
    debts = await box.catalogue.debt_counts()
    report = await box.rebuilder.rebuild()
    assert (report.added, report.known) == (0, 13)
    assert await answers(box) == before
    assert await box.catalogue.debt_counts() == debts
    assert await box.inbox.counts() == {"conflict": 1}
    row = await box.catalogue.instance(made(50).uid)
    assert row.staged_as is not None


@pytest.mark.spec("ST-8")
async def test_the_inbox_comes_back_with_its_reasons(box: Box) -> None:
    await box.store(made(1), hold="unapproved-node")
    await box.store(Made("", "", "1.2.3.4", b"\xff" * 500))
    before = [one.item for one in await box.inbox.items()]
    await without_index(box)
    report = await box.rebuilder.rebuild(volume="data")
    assert report.inbox == 2
    after = {one.item.key: one.item for one in await box.inbox.items()}
    for item in before:
        back = after[item.key]
        assert (back.reason, back.origin, back.received_at) == (
            item.reason,
            item.origin,
            item.received_at,
        )
        assert (back.sop_instance_uid, back.study_instance_uid, back.patient_name) == (
            item.sop_instance_uid,
            item.study_instance_uid,
            item.patient_name,
        )
        assert back.comment == item.comment


async def test_an_inbox_without_sidecars_comes_back_too(box: Box) -> None:
    await box.store(made(1), hold="unapproved-node")
    for path in (box.root / "data" / "inbox").glob("*.json"):
        path.write_text("{no json")
    await without_index(box)
    await box.rebuilder.rebuild(volume="data")
    (one,) = await box.inbox.items()
    assert (one.item.reason, one.item.key) == ("unreadable", f"inbox/{made(1).digest}.dcm")


async def test_images_come_in_while_the_index_is_rebuilt(box: Box) -> None:
    await filled(box, 40)
    await without_index(box)
    rebuilding = asyncio.create_task(box.rebuilder.rebuild())
    for number in range(100, 120):
        await box.store(made(number))
    report = await rebuilding
    assert report.conflicts == []
    assert (await box.catalogue.totals()).instances == 60


async def test_what_a_volume_holds_that_is_no_image_is_named(box: Box) -> None:
    objects = await filled(box, 2)
    folder = box.root / "data" / "studies" / "1.2"
    folder.mkdir()
    (folder / "readme.dcm").write_bytes(b"no image")
    (folder / "stranger.dcm").write_bytes(made(9, PatientName="X^Y").file)
    (folder / "twin.dcm").write_bytes(objects[0].file)
    (folder / "rival.dcm").write_bytes(made(1, study=2, PatientName="X^Y").file)
    await without_index(box)
    report = await box.rebuilder.rebuild(volume="data")
    assert report.unreadable == ["studies/1.2/readme.dcm"]
    assert len(report.conflicts) == 2
    assert report.added == 3  # one of two twins, the stranger


async def test_long_headers_are_rebuilt_as_well(box: Box) -> None:
    ds = dataset(3)
    block = ds.private_block(0x0009, "ACME", create=True)
    block.add_new(0x01, "OB", bytes(3 << 20))
    one = Made(ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID, encoded(ds))
    await box.store(one)
    await without_index(box)
    assert (await box.rebuilder.rebuild(volume="data")).added == 1
    assert (await box.catalogue.instance(one.uid)).key == one.key


@pytest.mark.spec("AD-8")
async def test_a_rebuild_keeps_to_the_limit_of_studies(box: Box) -> None:
    await filled(box)
    await without_index(box)
    box.change(max_studies=1)
    report = await box.rebuilder.rebuild(volume="data")
    assert (report.added, len(report.refused)) == (3, 3)


async def test_a_rebuild_can_be_cancelled_and_tells_its_progress(box: Box) -> None:
    await filled(box, 10)
    await without_index(box)
    seen: list[int] = []
    report = await box.rebuilder.rebuild(
        progress=lambda done, _: seen.append(done), cancelled=lambda: len(seen) >= 3
    )
    assert report.cancelled
    assert seen == [1, 2, 3]


async def test_a_rebuild_needs_a_volume_that_can_be_read(box: Box) -> None:
    with pytest.raises(CommandError, match="no volume tape"):
        await box.rebuilder.rebuild(volume="tape")
    for volume in box.volumes.ordered:
        volume.state = VolumeState.ABSENT
    with pytest.raises(CommandError, match="cannot be read"):
        await box.rebuilder.rebuild(volume="data")
    with pytest.raises(CommandError, match="No volume"):
        await box.rebuilder.rebuild()


async def test_a_rebuild_owes_everything_to_a_volume_that_is_away(box: Box) -> None:
    await filled(box)
    await without_index(box)
    box.volumes.by_name("backup1").state = VolumeState.ABSENT
    await box.rebuilder.rebuild(volume="data")
    assert await box.catalogue.debt_counts() == {"backup1": 6}


# reconciliation --------------------------------------------------------------------------------


def kinds(report) -> dict[tuple[str, str], str]:
    return {(one.volume, one.key): one.kind for one in report.discrepancies}


@pytest.mark.spec("DB-3")
async def test_index_and_volumes_that_agree_show_nothing(box: Box) -> None:
    await filled(box)
    await box.store(made(50))  # owed: not a discrepancy
    report = await box.reconciler.reconcile()
    assert (report.found, report.instances) == (0, 7)
    assert report.volumes == ["data", "backup1"]


@pytest.mark.spec("DB-3")
@pytest.mark.parametrize("fix", [False, True])
async def test_orphans_missing_and_wrong_copies_are_found_and_mended(
    box: Box, *, fix: bool
) -> None:
    objects = await filled(box)
    orphan = made(77)
    path = box.root / "backup1" / orphan.key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(orphan.file)
    (box.root / "data" / objects[0].key).unlink()
    (box.root / "data" / objects[1].key).write_bytes(objects[1].file[:-10])
    report = await box.reconciler.reconcile(fix=fix)
    assert kinds(report) == {
        ("backup1", orphan.key): "orphan",
        ("data", objects[0].key): "missing",
        ("data", objects[1].key): "wrong-size",
    }
    assert report.fixed == (3 if fix else 0)
    if not fix:
        assert not await box.catalogue.debt_counts()
        return
    await spread(box)
    again = await box.reconciler.reconcile(fix=True)
    await spread(box)
    assert kinds(again) in ({}, {("data", orphan.key): "unknown"})
    assert (await box.reconciler.reconcile()).found == 0
    assert box.on("data", "studies") == box.on("backup1", "studies")
    assert (await box.catalogue.instance(orphan.uid)).key == orphan.key


@pytest.mark.spec("DB-3", "ST-1")
async def test_the_only_copy_stays_in_its_place_though_it_has_the_wrong_size(box: Box) -> None:
    one, *_ = await filled(box, 2)
    await box.catalogue.forget_volume("backup1")  # as after an index that knows one copy only
    path = box.root / "data" / one.key
    path.write_bytes(one.file[:-10])
    (box.root / "backup1" / one.key).unlink()
    suspected: list[str] = []
    box.reconciler._suspect = lambda instance: suspected.append(instance.sop_instance_uid)
    report = await box.reconciler.reconcile(fix=True)
    (found,) = [each for each in report.discrepancies if each.key == one.key and each.note]
    assert (found.volume, found.kind, found.fixed) == ("data", "wrong-size", False)
    assert "only copy" in found.note
    assert suspected == [one.uid]
    assert path.read_bytes() == one.file[:-10]
    assert box.set_aside("data") == []
    assert "data" in (await box.catalogue.instance(one.uid)).held_by()


@pytest.mark.spec("DB-3")
async def test_nothing_is_set_aside_while_somebody_else_works_on_the_object(box: Box) -> None:
    one, *_ = await filled(box, 2)
    path = box.root / "data" / one.key
    async with box.taking.turn(one.uid):
        path.write_bytes(one.file[:-10])
        running = asyncio.create_task(box.reconciler.reconcile(fix=True))
        await asyncio.sleep(0.7)  # far beyond the second look
        assert not running.done()
        assert box.set_aside("data") == []
        path.write_bytes(one.file)
    assert (await running).discrepancies == []
    assert box.on("data", "studies") == box.on("backup1", "studies")
    assert box.set_aside("data") == []
    assert not await box.catalogue.debt_counts()


@pytest.mark.spec("DB-3")
async def test_a_file_is_judged_by_the_row_as_it_is_now(box: Box) -> None:
    """The walk saw the row of an object that was deleted, and sent again with other bytes."""
    one, *_ = await filled(box, 2)
    stored = await box.catalogue.stored_key(one.uid)
    assert stored is not None
    seen = replace(stored, size=stored.size + 10, digest="0" * 64)
    report = ReconcileReport()
    volume = box.volumes.by_name("data")
    await box.reconciler._row(volume, seen, Difference.GONE, report, fix=True)
    assert report.found == 0
    assert box.on("data")[one.key] == one.file
    assert box.set_aside("data") == []


@pytest.mark.spec("DB-3")
async def test_an_orphan_that_cannot_be_taken_in_is_told_with_the_reason(box: Box) -> None:
    objects = await filled(box, 2)
    folder = box.root / "data" / "studies" / "1.2"
    folder.mkdir()
    (folder / "readme.dcm").write_bytes(b"no image")
    (folder / f"{objects[0].uid}.dcm").write_bytes(made(1, study=2, PatientName="X^Y").file)
    report = await box.reconciler.reconcile(fix=True)
    notes = {one.key.rpartition("/")[2]: one.note for one in report.discrepancies}
    assert notes == {
        "readme.dcm": "It is unreadable.",
        f"{objects[0].uid}.dcm": "The index has another object of this UID.",
    }
    assert report.fixed == 0


async def test_copies_that_the_index_does_not_count_are_counted(box: Box) -> None:
    objects = await filled(box)
    await box.catalogue.forget_volume("backup1")
    damage(box.root / "backup1" / objects[0].key)  # same size, other bytes
    report = await box.reconciler.reconcile(fix=True)
    assert set(kinds(report).values()) == {"unrecorded"}
    assert report.fixed == 6
    tallies = await box.catalogue.volume_tallies()
    assert (tallies["backup1"].held, tallies["backup1"].owed) == (5, 1)


async def test_a_volume_that_is_away_is_left_out_of_reconciliation(box: Box) -> None:
    await filled(box)
    box.volumes.by_name("backup1").state = VolumeState.ABSENT
    seen: list[tuple[int, int]] = []
    report = await box.reconciler.reconcile(progress=lambda n, total: seen.append((n, total)))
    assert (report.volumes, report.skipped) == (["data"], ["backup1"])
    assert seen[-1][1] == 2
    assert (await box.reconciler.reconcile(cancelled=lambda: True)).cancelled


async def test_reconciliation_beside_arriving_images_sees_no_ghosts(box: Box) -> None:
    async def arrive() -> None:
        for number in range(1, 60):
            await box.store(made(number))

    arriving = asyncio.create_task(arrive())
    for _ in range(5):
        report = await box.reconciler.reconcile()
        assert report.discrepancies == []
    await arriving


# backups ---------------------------------------------------------------------------------------


@pytest.mark.spec("DB-3")
async def test_a_backup_of_the_index_stands_on_every_volume_and_can_be_restored(
    box: Box, tmp_path: Path
) -> None:
    await filled(box)
    before = await answers(box)
    made_now = await box.backups.make()
    assert [backup.volume for backup in made_now] == ["data", "backup1"]
    assert not (box.root / "state" / "index-backup.tmp").exists()
    for place in range(60, 63):
        await box.store(made(place))
    newest = (await box.backups.listed())[0]
    target = tmp_path / "restored.db"
    (tmp_path / "restored.db-wal").write_bytes(b"of another file")
    await box.backups.fetch(newest, target)
    assert not (tmp_path / "restored.db-wal").exists()
    current, box.catalogue = (
        box.catalogue,
        Catalogue(target, counters=box.counters, clock=box.clock),
    )
    try:
        await box.catalogue.open()
        assert await answers(box) == before
    finally:
        await box.catalogue.close()
        box.catalogue = current


@pytest.mark.spec("DB-3")
async def test_a_damaged_backup_is_not_restored(box: Box, tmp_path: Path) -> None:
    await filled(box, 2)
    (first, _) = await box.backups.make()
    damage(box.root / first.volume / first.key)
    with pytest.raises(CommandError, match="damaged"):
        await box.backups.fetch(first, tmp_path / "restored.db")
    assert list(tmp_path.glob("restored*")) == []


@pytest.mark.spec("DB-3")
async def test_so_many_backups_are_kept_as_asked_for(box: Box) -> None:
    folder = box.root / "data" / "index-backups"
    folder.mkdir()
    for hour in (1, 2, 3):
        (folder / f"20260101T0{hour}0000Z-{'0' * 32}.db").write_bytes(b"old")
    (folder / "notes.txt").write_bytes(b"not ours")
    await box.backups.make()
    kept = [one.made_at for one in await box.backups.listed() if one.volume == "data"]
    assert len(kept) == 2
    assert (kept[1].year, kept[1].hour) == (2026, 3)
    assert (folder / "notes.txt").exists()


async def test_without_a_volume_no_backup_is_made_and_it_is_told(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(box.volumes, "healthy", list)
    with pytest.raises(CommandError):
        await box.backups.make()
    assert await box.backups.listed() == []


async def test_backups_are_made_by_themselves_when_the_newest_is_old(box: Box) -> None:
    await filled(box, 2)
    box.backups.start()
    await box.until(lambda: box.backups.last_made is not None)
    before = {each.name for each in await box.backups.listed()}
    assert len(await box.backups.listed()) == 2
    await box.backups.close()
    box.backups.start()  # as after a restart: the newest is fresh
    await asyncio.sleep(0.2)
    assert box.backups.last_made is not None
    assert {each.name for each in await box.backups.listed()} == before


async def test_a_backup_that_fails_is_counted_and_tried_again(
    box: Box, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fails(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(box.catalogue, "backup", fails)
    box.backups.start()
    await box.until(lambda: box.counters.value("index_backup_failures") == 1)
    assert "no backup" in caplog.text
