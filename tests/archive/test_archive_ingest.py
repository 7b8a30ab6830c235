# SPDX-License-Identifier: Apache-2.0
"""The way of one image, and of everything that is no image."""

import asyncio
import logging
import struct
import time
import tracemalloc
import zlib
from pathlib import Path

import pydicom
import pydicom.data
import pytest
from archivebox import EXPLICIT_LE, IMPLICIT_LE, Box, Made, dataset, encoded, made

from scrigno.archive.errors import (
    CapacityReached,
    IndexUnavailable,
    IngestError,
    NoDurableStorage,
    ObjectTooLarge,
    ObjectUnreadable,
    ShuttingDown,
    UidMismatch,
)
from scrigno.archive.ingest import StoreOutcome
from scrigno.catalogue import records
from scrigno.core.events import InstanceHeld, InstanceStored
from scrigno.db.errors import DatabaseFull
from scrigno.volumes.arriving import KEPT_BYTES


async def nothing_is_left(box: Box) -> None:
    """Nothing in staging, nothing on any volume, nothing in the index."""
    assert await box.staged() == 0
    assert box.staging.used_bytes == 0
    for name in box.names:
        assert box.on(name) == {}
    assert (await box.catalogue.totals()).instances == 0
    assert await box.catalogue.inbox_count() == {}


# stored ----------------------------------------------------------------------------------------


@pytest.mark.spec("DN-4", "ST-2", "ST-8")
async def test_an_image_is_stored_byte_for_byte_and_recorded(box: Box) -> None:
    one = made(pixels=130_000)
    receipt = await box.store(one)
    assert receipt.outcome is StoreOutcome.NEW
    assert receipt.copies == ("data",)
    assert receipt.study_uid == one.study
    assert not receipt.degraded
    assert box.on("data") == {one.key: one.file}
    row = await box.catalogue.instance(one.uid)
    assert row is not None
    assert (row.key, row.digest, row.size) == (one.key, one.digest, len(one.file))
    # staging is the second device until the backup volume has its copy
    entries = await box.staging.journal()
    assert [entry.name for entry in entries] == [row.staged_as]
    assert entries[0].path.read_bytes() == one.file
    assert box.events == [
        InstanceStored(study_uid=one.study, series_uid=one.series, sop_instance_uid=one.uid)
    ]
    assert box.counters.value("ingest_objects", outcome="new", door="dicom") == 1
    # what lies on the disk is a DICOM file to everybody
    read = pydicom.dcmread(box.root / "data" / one.key)
    assert read.PatientName == "Rossi^Anna"
    assert read.file_meta.TransferSyntaxUID == EXPLICIT_LE


@pytest.mark.spec("DN-4")
@pytest.mark.parametrize(
    "name",
    [
        "CT_small.dcm",
        "MR_small_bigendian.dcm",
        "MR_small_implicit.dcm",
        "JPEG2000.dcm",
        "image_dfl.dcm",
        "waveform_ecg.dcm",
        "test-SR.dcm",
        "rtplan.dcm",
        "reportsi.dcm",
    ],
)
async def test_what_modalities_send_is_stored_as_it_came(box: Box, name: str) -> None:
    content = Path(pydicom.data.get_testdata_file(name, read=False)).read_bytes()
    parsed = pydicom.dcmread(Path(pydicom.data.get_testdata_file(name, read=False)))
    data = content[_data_offset(content) :]
    one = Made(
        study=str(parsed.get("StudyInstanceUID", "")),
        series=str(parsed.get("SeriesInstanceUID", "")),
        uid=str(parsed.SOPInstanceUID),
        data=data,
        transfer_syntax=str(parsed.file_meta.TransferSyntaxUID),
        sop_class=str(parsed.SOPClassUID),
    )
    receipt = await box.store(one)
    assert receipt.outcome is StoreOutcome.NEW
    (stored,) = box.on("data").values()
    assert stored.endswith(data)
    assert stored == one.file


def _data_offset(content: bytes) -> int:
    length = struct.unpack("<I", content[140:144])[0]
    return 144 + int(length)


@pytest.mark.spec("DN-4")
async def test_real_objects_are_stored_as_they_came(box: Box, real_data: Path | None) -> None:
    """Uses the directory of real data (SCRIGNO_TEST_DATA) where there is one."""
    if real_data is None:
        pytest.skip("no real data here")
    files = [path for path in sorted(real_data.rglob("*.dcm")) if path.stat().st_size < 1 << 20]
    report = await box.importer.import_paths(files[::12])
    assert report.found == len(files[::12]) == report.done
    assert report.new > report.found / 2
    rows = 0
    async for row in box.catalogue.all_keys():
        rows += 1
        assert (box.root / "data" / row.key).stat().st_size == row.size
    assert rows == report.new


async def test_an_object_larger_than_the_memory_it_may_use_is_streamed(box: Box) -> None:
    box.change(max_object_bytes=1 << 30)
    one = made(pixels=48 << 20)
    tracemalloc.start()
    try:
        receipt = await box.store(one)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert receipt.outcome is StoreOutcome.NEW
    assert peak < (8 << 20) + KEPT_BYTES  # kept until it is plain that they are too many
    assert box.staging.kept_bytes == 0
    assert (box.root / "data" / one.key).stat().st_size == len(one.file)


async def test_a_header_longer_than_the_head_in_memory_is_read_from_the_file(box: Box) -> None:
    ds = dataset(3)
    block = ds.private_block(0x0009, "ACME", create=True)
    block.add_new(0x01, "OB", bytes(3 << 20))  # before the patient, as icons and the like are
    one = Made(ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID, encoded(ds))
    receipt = await box.store(one)
    assert receipt.outcome is StoreOutcome.NEW
    assert (await box.catalogue.instance(one.uid)).key == one.key


@pytest.mark.spec("ST-2")
async def test_with_one_volume_only_an_image_is_still_durable_on_two_devices(
    tmp_path: Path,
) -> None:
    box = await Box(tmp_path, names=("data",)).open()
    try:
        receipt = await box.store(made())
        assert receipt.copies == ("data",)
        assert not receipt.degraded
        assert await box.staged() == 1  # the second device
    finally:
        await box.close()


@pytest.mark.spec("ST-2")
async def test_more_copies_than_staging_and_one_volume_are_waited_for(box: Box) -> None:
    box.change(ack_copies=3)
    receipt = await box.store(made())
    assert sorted(receipt.copies) == ["backup1", "data"]
    assert box.on("data") == box.on("backup1") != {}


@pytest.mark.spec("ST-2")
async def test_fewer_devices_than_the_policy_asks_for_is_told(box: Box) -> None:
    box.change(ack_copies=5)
    receipt = await box.store(made())
    assert receipt.outcome is StoreOutcome.NEW
    assert receipt.degraded
    assert box.ingest.degraded


async def test_staging_lets_go_at_once_when_every_volume_has_it(tmp_path: Path) -> None:
    box = await Box(tmp_path, names=("data",)).open()
    try:
        box.change(ack_copies=1)
        await box.store(made())
        assert await box.staged() == 0
        assert (await box.catalogue.instance(made().uid)).staged_as is None
    finally:
        await box.close()


# duplicates ------------------------------------------------------------------------------------


@pytest.mark.spec("ST-10")
async def test_the_same_object_again_is_a_success_and_stored_once(box: Box) -> None:
    one = made()
    await box.store(one)
    receipt = await box.store(one)
    assert receipt.outcome is StoreOutcome.SAME
    assert await box.staged() == 1
    assert (await box.catalogue.totals()).instances == 1
    assert len([e for e in box.events if isinstance(e, InstanceStored)]) == 1


@pytest.mark.spec("ST-10")
async def test_the_same_object_again_after_it_is_replicated_leaves_nothing_in_staging(
    box: Box,
) -> None:
    await box.store(made())
    await box.replicator.pay(box.volumes.by_name("backup1"))
    assert await box.staged() == 0
    assert (await box.store(made())).outcome is StoreOutcome.SAME
    assert await box.staged() == 0
    assert await box.catalogue.staged() == []


@pytest.mark.spec("ST-10")
async def test_the_same_object_again_makes_up_for_a_staged_copy_that_was_lost(box: Box) -> None:
    await box.store(made())
    row = await box.catalogue.instance(made().uid)
    await box.staging.release(row.staged_as)
    await box.catalogue.unstaged([made().uid])
    assert (await box.store(made())).outcome is StoreOutcome.SAME
    (entry,) = await box.staging.journal()
    assert (await box.catalogue.instance(made().uid)).staged_as == entry.name


@pytest.mark.spec("ST-10")
async def test_the_same_object_on_many_associations_at_once_is_new_once(box: Box) -> None:
    one = made(pixels=100_000)
    receipts = await asyncio.gather(*(box.store(one) for _ in range(12)))
    outcomes = sorted(receipt.outcome for receipt in receipts)
    assert outcomes.count(StoreOutcome.NEW) == 1
    assert outcomes.count(StoreOutcome.SAME) == 11
    assert await box.staged() == 1
    assert list(box.on("data")) == [one.key]


@pytest.mark.spec("ST-10")
async def test_other_bytes_under_a_known_uid_are_kept_aside_and_overwrite_nothing(
    box: Box,
) -> None:
    one, other = made(), made(PatientName="Bianchi^Luca")
    await box.store(one)
    receipt = await box.store(other)
    assert receipt.outcome is StoreOutcome.CONFLICT_KEPT
    files = box.on("data")
    assert files[one.key] == one.file
    assert files[f"inbox/{other.digest}.dcm"] == other.file
    assert b"Rossi" not in files[f"inbox/{other.digest}.json"]
    (item,) = await box.inbox.items()
    assert item.inbox_id == receipt.inbox_id
    assert (item.item.reason, item.item.sop_instance_uid) == ("conflict", one.uid)
    assert item.item.patient_name.alphabetic == "Bianchi^Luca"
    assert (await box.catalogue.instance(one.uid)).digest == one.digest
    assert box.counters.value("ingest_objects", outcome="conflict-kept", door="dicom") == 1
    assert box.events[-1] == InstanceHeld(inbox_id=item.inbox_id, reason="conflict")
    # and again: one item, not two
    again = await box.store(other)
    assert (again.outcome, again.inbox_id) == (StoreOutcome.CONFLICT_KEPT, receipt.inbox_id)
    assert await box.inbox.counts() == {"conflict": 1}
    assert await box.staged() == 2


@pytest.mark.spec("ST-10")
async def test_a_known_uid_in_another_study_is_kept_aside_and_leaves_no_file(box: Box) -> None:
    one = made(1, study=1)
    other = made(1, study=2, SOPInstanceUID=one.uid)
    await box.store(one)
    receipt = await box.store(other)
    assert receipt.outcome is StoreOutcome.CONFLICT_KEPT
    assert sorted(box.on("data")) == sorted(
        [one.key, f"inbox/{other.digest}.dcm", f"inbox/{other.digest}.json"]
    )
    assert (await box.catalogue.totals()).studies == 1


async def test_different_bytes_of_one_uid_at_once_are_one_image_and_one_conflict(
    box: Box,
) -> None:
    rivals = [made(StudyDescription=f"Version {number}") for number in range(6)]
    receipts = await asyncio.gather(*(box.store(one) for one in rivals))
    outcomes = [receipt.outcome for receipt in receipts]
    assert outcomes.count(StoreOutcome.NEW) == 1
    assert outcomes.count(StoreOutcome.CONFLICT_KEPT) == 5
    winner = rivals[outcomes.index(StoreOutcome.NEW)]
    assert box.on("data")[winner.key] == winner.file


# held and unreadable ---------------------------------------------------------------------------


async def test_an_object_of_a_node_that_is_not_approved_waits_in_the_inbox(box: Box) -> None:
    one = made()
    receipt = await box.store(one, hold="unapproved-node")
    assert receipt.outcome is StoreOutcome.HELD
    assert (await box.catalogue.totals()).instances == 0
    (item,) = await box.inbox.items()
    assert item.item.reason == "unapproved-node"
    assert item.item.origin.calling_ae == "CT1"
    assert item.item.study_instance_uid == one.study
    assert box.on("data")[f"inbox/{one.digest}.dcm"] == one.file


async def test_an_unreadable_object_with_valid_uids_is_kept(box: Box) -> None:
    one = Made("", "", "1.2.3.4", b"\xff" * 5000)
    receipt = await box.store(one)
    assert receipt.outcome is StoreOutcome.UNREADABLE_KEPT
    (item,) = await box.inbox.items()
    assert item.item.reason == "unreadable"
    assert item.item.comment
    assert box.on("data")[f"inbox/{one.digest}.dcm"] == one.file
    assert box.counters.value("ingest_objects", outcome="unreadable-kept", door="dicom") == 1


@pytest.mark.parametrize("length", [0, 1, 7, 8, 30, 150, 200])
async def test_an_object_that_ends_inside_its_header_is_kept(box: Box, length: int) -> None:
    one = made()
    cut = Made(one.study, one.series, one.uid, one.data[:length])
    receipt = await box.store(cut)
    assert receipt.outcome is StoreOutcome.UNREADABLE_KEPT
    assert list(box.on("data", "studies")) == []


async def test_an_object_that_ends_inside_its_pixels_is_stored_as_it_came(box: Box) -> None:
    one = made(pixels=4000)
    cut = Made(one.study, one.series, one.uid, one.data[:-1000])
    assert (await box.store(cut)).outcome is StoreOutcome.NEW
    assert box.on("data")[one.key] == cut.file


async def test_a_wrong_transfer_syntax_label_is_noticed(box: Box) -> None:
    one = made()
    wrong = Made(one.study, one.series, one.uid, one.data, transfer_syntax=IMPLICIT_LE)
    receipt = await box.store(wrong)
    assert receipt.outcome is StoreOutcome.UNREADABLE_KEPT
    (item,) = await box.inbox.items()
    assert "explicit" in item.item.comment


async def test_an_object_of_no_study_is_kept_aside(box: Box) -> None:
    one = made(StudyInstanceUID=None)
    assert (await box.store(one)).outcome is StoreOutcome.UNREADABLE_KEPT


# refused: the table of bad input ---------------------------------------------------------------


def _bomb() -> bytes:
    """5,000 sequences inside each other, before the patient."""
    start = b"\x08\x00\x05\x10SQ\x00\x00\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    return start * 5000


def _inflating() -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(bytes(200 << 20)) + packer.flush()


DEFLATED = "1.2.840.10008.1.2.1.99"
BAD_UIDS = ["../../../etc/passwd", "1." * 40 + "1", "", "1.2.3\n4", "1.2.3/4", "é.1", "\udcff"]


@pytest.mark.parametrize("uid", BAD_UIDS)
@pytest.mark.parametrize("data", [b"no data set", _bomb()], ids=["text", "bomb"])
async def test_garbage_under_an_invalid_uid_is_refused(
    box: Box, caplog: pytest.LogCaptureFixture, uid: str, data: bytes
) -> None:
    with pytest.raises(ObjectUnreadable) as caught:
        await box.store(Made("", "", uid, data))
    assert caught.value.reason
    assert box.refused("object-unreadable") == 1
    await nothing_is_left(box)


@pytest.mark.parametrize("uid", ["../../../etc/passwd", "1." * 40 + "1", "1.2.3/4"])
async def test_a_readable_object_under_an_invalid_uid_is_kept_under_a_safe_name(
    box: Box, uid: str
) -> None:
    one = made(SOPInstanceUID="1.2.3")
    data = one.data.replace(b"\x08\x00\x18\x00UI\x06\x001.2.3\x00", _element(uid))
    receipt = await box.store(Made(one.study, one.series, uid, data))
    assert receipt.outcome is StoreOutcome.NEW
    (key,) = box.on("data")
    assert key.startswith(f"studies/{one.study}/{one.series}/")
    assert len(key.rpartition("/")[2]) == 64 + 4
    assert (await box.catalogue.instance(uid)).key == key


def _element(uid: str) -> bytes:
    value = uid.encode() + b"\0" * (len(uid) % 2)
    return b"\x08\x00\x18\x00UI" + struct.pack("<H", len(value)) + value


@pytest.mark.parametrize(
    ("announced", "words"),
    [
        ({"sop_instance_uid": "1.2.3.99"}, "Instance"),
        ({"sop_class_uid": "1.2.840.10008.5.1.4.1.1.4"}, "Class"),
    ],
)
async def test_another_object_than_announced_is_refused(
    box: Box, announced: dict[str, str], words: str
) -> None:
    with pytest.raises(UidMismatch, match=words):
        await box.store(made(), **announced)
    assert box.refused("uid-mismatch") == 1
    await nothing_is_left(box)


async def test_a_nested_sequence_bomb_under_valid_uids_is_kept_undecoded(box: Box) -> None:
    one = Made("", "", "1.2.3.4", _bomb())
    assert (await box.store(one)).outcome is StoreOutcome.UNREADABLE_KEPT


async def test_a_deflate_bomb_is_kept_unpacked_only_a_little(box: Box) -> None:
    one = Made("", "", "1.2.3.4", _inflating(), transfer_syntax=DEFLATED)
    assert (await box.store(one)).outcome is StoreOutcome.UNREADABLE_KEPT


async def test_an_object_over_the_size_limit_is_refused_without_being_kept(box: Box) -> None:
    box.change(max_object_bytes=1 << 20)
    reception = box.begin(made())
    fragment = memoryview(bytes(64_000))
    tracemalloc.start()
    try:
        for number in range(10_000):  # 640 MB
            while not reception.write(fragment):
                await asyncio.sleep(0.001)
            if number > 100:
                assert reception.write(fragment)  # drained, not kept
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20
    with pytest.raises(ObjectTooLarge):
        await reception.commit()
    assert box.refused("object-too-large") == 1
    await nothing_is_left(box)


async def test_a_header_that_never_ends_is_read_up_to_a_limit(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scrigno.archive.taking.MAX_HEADER_BYTES", 2 << 20)
    private = b"".join(
        struct.pack("<HH2sHI", 9, number, b"OB", 0, 4000) + bytes(4000)
        for number in range(0x1000, 0x1000 + 1200)
    )
    one = Made("", "", "1.2.3.4", private)
    assert (await box.store(one)).outcome is StoreOutcome.UNREADABLE_KEPT


async def test_a_refusal_names_no_patient(box: Box, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="scrigno.archive")
    with pytest.raises(UidMismatch) as caught:
        await box.store(made(), sop_instance_uid="1.2.3.99")
    await box.store(made())
    await box.store(made(PatientName="Bianchi^Luca"))
    said = caplog.text + caught.value.sentence()
    for text in ("Rossi", "Bianchi", "P1", "19700101"):
        assert text not in said


async def test_a_connection_that_breaks_leaves_nothing(box: Box) -> None:
    reception = box.begin(made())
    for _ in range(40):
        if not reception.write(bytes(16_000)):
            await asyncio.sleep(0.05)
    reception.discard("connection lost")
    reception.discard("twice does no harm")
    await asyncio.sleep(0.05)
    await nothing_is_left(box)
    with pytest.raises(RuntimeError):
        await reception.commit()


async def test_many_refusals_leave_no_memory_behind(box: Box) -> None:
    async def refused() -> None:
        with pytest.raises(IngestError):
            await box.store(made(), sop_instance_uid="1.2.3.99")

    await refused()
    tracemalloc.start()
    try:
        for _ in range(50):
            await refused()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(200):
            await refused()
        after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert after - before < 100_000
    await nothing_is_left(box)


# limits and failures ---------------------------------------------------------------------------


@pytest.mark.spec("AD-8")
async def test_a_new_study_over_the_limit_is_refused_and_a_known_one_goes_on(box: Box) -> None:
    box.change(max_studies=2)
    await box.store(made(1, study=1))
    await box.store(made(1, study=2))
    before = box.on("data")
    with pytest.raises(CapacityReached, match="2 studies") as caught:
        await box.store(made(1, study=3))
    assert caught.value.next_step
    assert box.refused("capacity-reached") == 1
    assert box.on("data") == before
    assert await box.staged() == 2
    assert (await box.store(made(2, study=1))).outcome is StoreOutcome.NEW
    assert (await box.store(made(1, study=1))).outcome is StoreOutcome.SAME
    # a restart forgets what it remembered of studies, not the rule
    await box.reopened()
    assert (await box.store(made(3, study=1))).outcome is StoreOutcome.NEW
    with pytest.raises(CapacityReached):
        await box.store(made(1, study=3))
    box.change(max_studies=None)
    assert (await box.store(made(1, study=3))).outcome is StoreOutcome.NEW


@pytest.mark.spec("AD-8")
async def test_new_studies_at_once_fill_the_limit_exactly(box: Box) -> None:
    box.change(max_studies=3)
    results = await asyncio.gather(
        *(box.store(made(1, study=number)) for number in range(1, 9)), return_exceptions=True
    )
    assert sum(isinstance(result, CapacityReached) for result in results) == 5
    assert (await box.catalogue.totals()).studies == 3
    assert len(box.on("data")) == 3
    assert await box.staged() == 3


@pytest.mark.spec("AD-8")
async def test_a_limit_that_only_the_index_sees_refuses_and_deletes_nothing(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: object) -> None:
        raise records.CapacityReached(limit=3)

    with monkeypatch.context() as patch:
        patch.setattr(box.catalogue, "add", fails)
        with pytest.raises(CapacityReached, match="3 studies"):
            await box.store(made())
    assert list(box.on("data")) == [made().key]
    assert box.recovery.pending == 1
    await box.recovery.replay()
    assert box.recovery.pending == 0


async def test_waiting_for_its_turn_can_be_given_up(box: Box) -> None:
    async with box.taking.turn("1.2.3"):
        waiting = [asyncio.create_task(_turn(box)) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await asyncio.sleep(0)
    await asyncio.gather(*waiting, return_exceptions=True)
    assert [task.cancelled() for task in waiting] == [True, False, False]


async def _turn(box: Box) -> None:
    async with box.taking.turn("1.2.3"):
        await asyncio.sleep(0)


async def test_without_any_volume_the_answer_is_no_durable_storage(tmp_path: Path) -> None:
    box = await Box(tmp_path, names=()).open()
    try:
        with pytest.raises(NoDurableStorage):
            await box.store(made())
        assert box.refused("no-durable-storage") == 1
        await nothing_is_left(box)
    finally:
        await box.close()


@pytest.mark.spec("ST-3", "ST-5")
async def test_with_staging_full_an_image_goes_to_the_volumes_at_once(tmp_path: Path) -> None:
    box = await Box(tmp_path, staging_capacity=100_000).open()
    try:
        await box.store(made(1, pixels=60_000))
        receipt = await box.store(made(2, pixels=60_000))
        assert (sorted(receipt.copies), receipt.degraded) == (["backup1", "data"], False)
        assert await box.staged() == 1
        row = await box.catalogue.instance(made(2).uid)
        assert (sorted(row.held_by()), row.staged_as) == (["backup1", "data"], None)
    finally:
        await box.close()


@pytest.mark.spec("ST-7")
async def test_an_image_that_neither_staging_nor_memory_takes_is_refused(tmp_path: Path) -> None:
    box = await Box(tmp_path, staging_capacity=100_000).open()
    box.staging.spool._object_bytes = 1 << 20
    try:
        with pytest.raises(NoDurableStorage, match="spare memory takes objects up to 1 MiB"):
            await box.store(made(2, pixels=2 << 20))
        await nothing_is_left(box)
    finally:
        await box.close()


@pytest.mark.spec("ST-2", "ST-3")
async def test_an_image_in_the_journal_is_acknowledged_without_the_index_and_gets_its_row_later(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    box.recovery.start()
    one = made()

    async def fails(*_: object) -> None:
        raise DatabaseFull("database index.db: the disk is full.")

    with monkeypatch.context() as patch:
        patch.setattr(box.catalogue, "add", fails)
        receipt = await box.store(one)
        assert (receipt.pending, receipt.copies, receipt.degraded) == (True, ("data",), False)
        again = await box.store(one)  # the sender lost our answer
        assert again.pending
        assert await box.staged() == 2
        assert box.recovery.pending == 2
        await asyncio.sleep(0.5)  # tried again and again meanwhile
        assert box.recovery.pending == 2
    await box.until(lambda: box.recovery.pending == 0)
    assert (await box.catalogue.instance(one.uid)).digest == one.digest
    assert await box.staged() == 1
    assert not (await box.store(one)).pending
    assert (await box.store(one)).outcome is StoreOutcome.SAME


@pytest.mark.timing
@pytest.mark.spec("ST-2", "ST-3")
async def test_an_index_that_hangs_delays_one_image_and_no_more(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scrigno.archive.taking.INDEX_S", 0.3)
    box.recovery.start()
    hanging = asyncio.Event()

    async def hangs(*_: object) -> None:
        await hanging.wait()
        raise DatabaseFull("it was long")

    add, sync = box.catalogue.add, box.catalogue.sync
    box.catalogue.add = box.catalogue.sync = hangs
    assert (await box.store(made(1))).pending
    started = time.monotonic()
    assert (await box.store(made(2))).pending
    assert time.monotonic() - started < 0.25
    box.catalogue.add, box.catalogue.sync = add, sync
    hanging.set()
    await box.until(lambda: box.recovery.pending == 0)
    assert (await box.catalogue.totals()).instances == 2
    assert not (await box.store(made(3))).pending


async def test_an_image_that_only_volumes_have_is_refused_while_the_index_fails(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: object) -> None:
        raise DatabaseFull("database index.db: the disk is full.")

    monkeypatch.setattr(box.staging, "reserve", lambda size: False)
    with monkeypatch.context() as patch:
        patch.setattr(box.catalogue, "add", fails)
        with pytest.raises(IndexUnavailable):
            await box.store(made())
    assert box.refused("index-unavailable") == 1
    assert not (await box.store(made())).pending


@pytest.mark.spec("ST-10")
async def test_a_conflict_that_shows_when_the_row_is_written_later_ends_in_the_inbox(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = made(1, study=1), made(1, study=2, SOPInstanceUID=made(1, study=1).uid)
    await box.store(first)

    async def fails(*_: object) -> None:
        raise DatabaseFull("database index.db: the disk is full.")

    with monkeypatch.context() as patch:
        patch.setattr(box.catalogue, "add", fails)
        assert (await box.store(second)).pending
    await box.recovery.replay()
    assert await box.inbox.counts() == {"conflict": 1}
    assert (await box.catalogue.instance(first.uid)).digest == first.digest
    assert not (box.root / "data" / second.key).exists()
    assert box.on("data", "inbox/")[f"inbox/{second.digest}.dcm"] == second.file


async def test_an_inbox_that_fails_is_made_up_for_later_too(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: object) -> None:
        raise DatabaseFull("database index.db: the disk is full.")

    with monkeypatch.context() as patch:
        patch.setattr(box.catalogue, "inbox_add", fails)
        receipt = await box.store(made(), hold="unapproved-node")
        assert (receipt.outcome, receipt.pending) == (StoreOutcome.HELD, True)
    await box.recovery.replay()
    assert box.recovery.pending == 0
    assert await box.inbox.counts() == {"unapproved-node": 1}


async def test_a_fault_of_ours_is_answered_and_its_journal_entry_is_taken_in(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    box.recovery.start()

    async def fails(*_: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(box.catalogue, "add", fails)
        with pytest.raises(IngestError) as caught:
            await box.store(made())
    assert caught.value.code == "internal-fault"
    await box.until(lambda: box.recovery.pending == 0)
    assert (await box.catalogue.instance(made().uid)) is not None


async def test_a_limit_that_cannot_be_checked_refuses(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: object) -> None:
        raise DatabaseFull("database index.db: the disk is full.")

    box.change(max_studies=5)
    with monkeypatch.context() as patch:
        patch.setattr(box.catalogue, "totals", fails)
        with pytest.raises(IndexUnavailable):
            await box.store(made())
    await nothing_is_left(box)


async def test_a_closing_archive_refuses_new_objects_and_ends_those_on_their_way(
    box: Box,
) -> None:
    reception = box.begin(made())
    reception.write(made().data)
    committing = asyncio.create_task(reception.commit())
    await asyncio.sleep(0)
    await box.ingest.close(5)
    assert (await committing).outcome is StoreOutcome.NEW
    with pytest.raises(ShuttingDown):
        box.begin(made(2))
    assert box.refused("shutting-down") == 1


async def test_a_caller_that_goes_away_does_not_cut_the_commit_short(box: Box) -> None:
    reception = box.begin(made())
    reception.write(made().data)
    committing = asyncio.create_task(reception.commit())
    await asyncio.sleep(0)
    committing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await committing
    await box.until(lambda: box.ingest.active == 0)
    assert (await box.catalogue.instance(made().uid)) is not None
    assert await box.staged() == 1
