# SPDX-License-Identifier: Apache-2.0
"""Two who handle one object at the same moment, and things that stand where an object should."""

import asyncio
import hashlib
import json
import os

import pytest
from archivebox import Box, Made, made

from scrigno.archive.ingest import StoreOutcome
from scrigno.archive.quarantine import displace
from scrigno.volumes.states import ErrorKind, VolumeError
from scrigno.volumes.volume import Checked, Volume

OTHER = {"PatientName": "Other^Name"}


@pytest.mark.spec("ST-10")
async def test_a_damaged_file_in_the_inbox_keeps_no_object_out(box: Box) -> None:
    one = Made("", "", "1.2.3.4", b"\xff" * 500)
    await box.store(one)
    key = f"inbox/{one.digest}.dcm"
    (box.root / "data" / key).write_bytes(b"rotten")
    receipt = await box.store(one)
    assert receipt.outcome is StoreOutcome.UNREADABLE_KEPT
    assert box.on("data")[key] == one.file
    rotten = hashlib.sha256(b"rotten").hexdigest()
    assert box.on("data")[f"displaced/{rotten}.dcm"] == b"rotten"
    assert await box.staged() == 1


async def test_what_is_displaced_stays_when_its_place_is_taken_by_a_damaged_file(box: Box) -> None:
    data = box.volumes.by_name("data")
    one = made(1)
    await box.store(one)
    place = box.root / "data" / "displaced" / f"{one.digest}.dcm"
    place.parent.mkdir()
    place.write_bytes(b"rotten")
    await displace(data, one.key, one.digest)
    there = box.on("data")
    note = json.loads(there.pop(f"displaced/{one.digest}-1.json"))
    assert (note["key"], note["why"]) == (one.key, "conflict")
    assert there == {
        f"displaced/{one.digest}.dcm": b"rotten",
        f"displaced/{one.digest}-1.dcm": one.file,
    }


@pytest.mark.spec("ST-10")
async def test_a_rival_that_is_taken_back_takes_no_replica_with_it(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other bytes reach a volume that lacks the object, while the object is on its way there.

    They meet a conflict on the next volume and are taken back; replication has set them aside in
    between and put the object in its place.
    """
    one, other = made(1), made(1, **OTHER)
    data = box.volumes.by_name("data")
    await box.store(one)
    await box.placement.replicate(None, one.key, one.digest, sources=("data",), target="backup1")
    await box.catalogue.paid(one.uid, "backup1")
    (box.root / "data" / one.key).unlink()
    await box.catalogue.copy_missing(one.uid, "data")
    box.change(ack_copies=3)  # so that both volumes are asked at once
    remove, removing, may_remove = Volume.remove, asyncio.Event(), asyncio.Event()

    async def late(volume: Volume, key: str) -> bool:
        if volume is data and key == one.key and not removing.is_set():
            removing.set()
            await may_remove.wait()
        return await remove(volume, key)

    monkeypatch.setattr(Volume, "remove", late)
    rival = asyncio.create_task(box.store(other))
    await removing.wait()
    paying = asyncio.create_task(box.replicator.pay(data))
    await asyncio.sleep(0.3)
    may_remove.set()
    assert (await rival).outcome is StoreOutcome.CONFLICT_KEPT
    await paying
    assert box.on("data")[one.key] == one.file
    assert box.on("backup1")[one.key] == one.file


@pytest.mark.spec("ST-10")
async def test_a_held_object_that_comes_again_while_it_is_rejected_is_not_lost(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = made(1)
    held = await box.store(one, hold="unapproved-node")
    added, may_add = asyncio.Event(), asyncio.Event()
    inbox_add = box.catalogue.inbox_add

    async def late(item):
        added.set()
        await may_add.wait()
        return await inbox_add(item)

    monkeypatch.setattr(box.catalogue, "inbox_add", late)
    again = asyncio.create_task(box.store(one, hold="unapproved-node"))
    await added.wait()  # its file is durable, its row not yet
    rejecting = asyncio.create_task(box.inbox.reject(held.inbox_id))
    await asyncio.sleep(0.2)
    may_add.set()
    await again
    await rejecting
    known = await box.inbox.items()
    for item in known:  # either it is gone altogether, or it is there whole
        assert box.on("data")[item.item.key] == one.file
    if not known:  # what was rejected can be had back for its days
        (decision, *_) = await box.inbox.decided()
        await box.inbox.undo(decision.decision_id)
        (item,) = await box.inbox.items()
        assert box.on("data")[item.item.key] == one.file


@pytest.mark.spec("ST-6")
async def test_the_last_copy_that_cannot_be_read_stays_when_staging_has_let_go(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row still names the entry of staging: the power failed between letting go and the row."""
    one = made(1)
    await box.store(one)
    row = await box.catalogue.instance(one.uid)
    await box.staging.release(row.staged_as)
    check, failing = Volume.check, [True]

    async def bad_sector(volume: Volume, key: str, between: object = None) -> Checked:
        if failing:
            raise VolumeError(volume.name, ErrorKind.IO, "Input/output error (EIO)")
        return await check(volume, key)

    monkeypatch.setattr(Volume, "check", bad_sector)
    report = await box.verifier.verify()
    assert (report.copies_bad, report.repaired) == (1, 0)
    assert box.on("data") == {one.key: one.file}
    failing.clear()
    assert (await box.verifier.verify()).copies_good == 1


@pytest.mark.parametrize("pixels", [64, 3 << 20])
async def test_a_damaged_copy_is_not_handed_to_the_decoder(box: Box, pixels: int) -> None:
    one = made(1, pixels=pixels)
    await box.store(one)
    await box.placement.replicate(None, one.key, one.digest, sources=("data",), target="backup1")
    await box.catalogue.paid(one.uid, "backup1")
    path = box.root / "data" / one.key
    path.write_bytes(path.read_bytes()[:-4] + b"\xff\xff\xff\xff")
    fd = await box.retrieval.memfd(await box.catalogue.instance(one.uid))
    try:
        assert os.pread(fd, os.fstat(fd).st_size, 0) == one.file
    finally:
        os.close(fd)
