# SPDX-License-Identifier: Apache-2.0
"""A rebuild counts as a copy only what it has read and found right."""

from dataclasses import replace

import pytest
from archivebox import Box, Made, dataset, encoded, made


async def on_both(box: Box, *objects: Made) -> None:
    for one in objects:
        await box.store(one)
        await box.placement.replicate(
            None, one.key, one.digest, sources=("data",), target="backup1"
        )
        await box.catalogue.paid(one.uid, "backup1")


async def without_index(box: Box) -> None:
    for entry in await box.staging.journal():
        await box.staging.release(entry.name)
    await box.close()
    for path in (box.root / "state").glob("index.db*"):
        path.unlink()
    await box.open()


@pytest.mark.spec("ST-8", "ST-6")
@pytest.mark.parametrize("volume", ["data", None])
async def test_other_bytes_of_the_same_size_are_no_copy(box: Box, volume: str | None) -> None:
    one, other = made(1), made(1, PatientName="Bossi^Anna")
    assert len(one.file) == len(other.file)
    await on_both(box, one)
    (box.root / "backup1" / one.key).write_bytes(other.file)
    await without_index(box)
    report = await box.rebuilder.rebuild(volume=volume)
    assert report.conflicts == ([] if volume else [one.key])
    row = await box.catalogue.instance(one.uid)
    if volume is None:  # both were read
        assert row.held_by() == ("data",)
        assert await box.catalogue.debt_counts() == {"backup1": 1}
        await box.replicator.pay(box.volumes.by_name("backup1"))
        assert box.on("backup1")[one.key] == one.file
        assert box.on("backup1")[f"displaced/{other.digest}.dcm"] == other.file


@pytest.mark.spec("ST-8")
async def test_a_damaged_file_of_the_inbox_is_told_and_a_good_copy_is_taken(box: Box) -> None:
    one = made(1)
    await box.store(one, hold="unapproved-node")
    await box.replicator.pay(box.volumes.by_name("backup1"))
    key = f"inbox/{one.digest}.dcm"
    path = box.root / "data" / key
    path.write_bytes(path.read_bytes()[:-4] + b"\xff\xff\xff\xff")
    await without_index(box)
    report = await box.rebuilder.rebuild()
    assert report.damaged == 1
    (item,) = await box.inbox.items()
    assert (item.item.digest, item.item.copies) == (one.digest, ("backup1",))
    await box.replicator.pay(box.volumes.by_name("data"))
    assert box.on("data")[key] == one.file


@pytest.mark.spec("ST-8", "ST-2")
async def test_what_only_one_volume_holds_of_the_inbox_is_owed_to_the_others(box: Box) -> None:
    await box.store(made(1), hold="unapproved-node")
    await without_index(box)
    await box.rebuilder.rebuild(volume="data")
    assert await box.catalogue.debt_counts() == {"backup1": 1}
    await box.replicator.pay(box.volumes.by_name("backup1"))
    assert box.on("backup1") == box.on("data")


@pytest.mark.spec("ST-8")
@pytest.mark.filterwarnings("ignore:The value length")
async def test_an_object_under_an_overlong_uid_comes_back(box: Box) -> None:
    uid = "1.2." + "3" * 196
    one = replace(made(1), uid=uid, data=encoded(dataset(1, SOPInstanceUID=uid)))
    receipt = await box.store(one)
    assert receipt.outcome == "new"
    await without_index(box)
    report = await box.rebuilder.rebuild(volume="data")
    assert (report.added, report.unreadable) == (1, [])
