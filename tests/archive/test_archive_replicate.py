# SPDX-License-Identifier: Apache-2.0
"""Debts are paid, survive a restart, wait for a volume that is away; staging lets go in time."""

import asyncio
from pathlib import Path

import pytest
from archivebox import Box, made

from scrigno.archive.ingest import StoreOutcome
from scrigno.archive.standing import may_release
from scrigno.volumes.states import VolumeState


async def settled(box: Box) -> bool:
    return not await box.catalogue.debt_counts() and await box.staged() == 0


@pytest.mark.parametrize(
    ("held", "usable", "devices", "ack_copies", "may"),
    [
        (["data", "b"], ["data", "b"], 2, 2, True),
        (["data", "b"], ["data", "b"], 1, 2, False),  # two folders of one disk
        (["data"], ["data"], 1, 2, False),  # staging is the second device
        (["data"], ["data", "b"], 1, 1, False),
        (["data", "b"], ["data"], 2, 2, True),
        (["data"], [], 1, 1, True),
        ([], [], 0, 0, True),
    ],
)
def test_staging_lets_go_when_every_usable_volume_and_enough_devices_hold_it(
    held: list[str], usable: list[str], devices: int, ack_copies: int, *, may: bool
) -> None:
    assert may_release(held, usable, devices, ack_copies) is may


@pytest.mark.spec("ST-2")
async def test_every_volume_gets_its_copy_and_staging_is_empty_afterwards(live_box: Box) -> None:
    box = live_box
    for number in range(1, 30):
        await box.store(made(number))
    await box.store(made(1, PatientName="Other^Name"))  # one for the inbox
    await box.until(lambda: settled(box))
    files = box.on("data")
    assert files == box.on("backup1")
    assert len(files) == 29 + 2  # with the sidecar of the one kept aside
    row = await box.catalogue.instance(made(1).uid)
    assert sorted(row.held_by()) == ["backup1", "data"]
    assert row.staged_as is None
    assert box.staging.used_bytes == 0


@pytest.mark.spec("ST-2")
async def test_staging_lets_nothing_go_before_the_index_is_synced(
    live_box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a row that a power cut takes is made again from staging's journal, so that must still be there
    box = live_box
    order: list[str] = []
    sync, release = box.catalogue.sync, box.staging.release

    async def synced() -> None:
        await sync()
        order.append("sync")

    async def released(name: str) -> None:
        order.append("release")
        await release(name)

    monkeypatch.setattr(box.catalogue, "sync", synced)
    monkeypatch.setattr(box.staging, "release", released)
    await box.store(made(1))
    await box.until(lambda: settled(box))
    assert order.index("sync") < order.index("release"), order


async def test_debts_survive_a_restart(box: Box) -> None:
    for number in range(1, 6):
        await box.store(made(number))
    assert box.on("backup1") == {}
    box.replicating = True
    await box.reopened()
    await box.until(lambda: settled(box))
    assert box.on("data") == box.on("backup1")


@pytest.mark.spec("ST-2", "ST-3")
async def test_a_volume_that_was_away_is_caught_up_when_it_is_back(tmp_path: Path) -> None:
    box = await Box(tmp_path, replicating=True).open()
    await box.store(made(1))
    await box.until(lambda: settled(box))
    await box.close()
    (tmp_path / "backup1").rename(tmp_path / "elsewhere")
    (tmp_path / "state2").mkdir()
    box.events.clear()
    # the folder is not made anew: the disk is just not there
    box.names = ("data",)
    await Box.open(box)
    try:
        await box.store(made(2))
        assert (await box.catalogue.instance(made(2).uid)).held_by() == ("data",)
    finally:
        await box.close()
    (tmp_path / "elsewhere").rename(tmp_path / "backup1")
    box.names = ("data", "backup1")
    await box.open()
    try:
        # it never heard of the second object, and the catalogue of no debt for it
        report = await box.reconciler.reconcile(fix=True)
        assert [(one.kind, one.key) for one in report.discrepancies] == [("unknown", made(2).key)]
        await box.until(lambda: settled(box))
        assert box.on("data") == box.on("backup1")
    finally:
        await box.close()


async def test_debts_of_a_volume_that_vanishes_wait_for_it(live_box: Box) -> None:
    box = live_box
    await box.store(made(1))
    await box.until(lambda: settled(box))
    (box.root / "backup1").rename(box.root / "elsewhere")
    backup = box.volumes.by_name("backup1")
    await box.until(lambda: _fails(box, backup), timeout_s=20)
    await box.store(made(2))
    await asyncio.sleep(0.3)
    assert await box.catalogue.debt_counts() == {"backup1": 1}
    assert await box.staged() == 1  # the second device meanwhile
    (box.root / "elsewhere").rename(box.root / "backup1")
    await box.until(lambda: settled(box), timeout_s=30)
    assert box.on("data") == box.on("backup1")


async def _fails(box: Box, backup) -> bool:
    if backup.state is VolumeState.ONLINE:
        backup.doubt.set()
    return backup.state is not VolumeState.ONLINE


async def test_a_new_volume_gets_everything(box: Box) -> None:
    for number in range(1, 5):
        await box.store(made(number))
    box.replicating, box.names = True, ("data", "backup1", "backup2")
    await box.reopened()
    await box.until(lambda: settled(box))
    assert box.on("data") == box.on("backup1") == box.on("backup2")


async def test_a_replaced_disk_gets_everything_anew(live_box: Box) -> None:
    box = live_box
    for number in range(1, 5):
        await box.store(made(number))
    await box.until(lambda: settled(box))
    for key in box.on("backup1"):
        (box.root / "backup1" / key).unlink()
    assert await box.replicator.replaced("backup1") == 4
    await box.until(lambda: settled(box))
    assert box.on("data") == box.on("backup1")


async def test_a_file_in_the_way_is_set_aside_and_not_deleted(live_box: Box) -> None:
    box, one = live_box, made()
    path = box.root / "backup1" / one.key
    path.parent.mkdir(parents=True)
    path.write_bytes(b"something else")
    await box.store(one)
    await box.until(lambda: settled(box))
    files = box.on("backup1")
    assert files[one.key] == one.file
    assert box.set_aside("backup1") == [b"something else"]


async def test_a_debt_is_paid_from_another_volume_when_staging_is_gone(box: Box) -> None:
    await box.store(made())
    row = await box.catalogue.instance(made().uid)
    await box.staging.release(row.staged_as)
    paid, _ = await box.replicator.pay(box.volumes.by_name("backup1"))
    assert paid == 1
    assert box.on("data") == box.on("backup1")


async def test_a_debt_without_any_source_is_passed_over(box: Box) -> None:
    await box.store(made(1))
    await box.store(made(2))
    row = await box.catalogue.instance(made(1).uid)
    await box.staging.release(row.staged_as)
    (box.root / "data" / made(1).key).unlink()
    paid, seen = await box.replicator.pay(box.volumes.by_name("backup1"))
    assert paid == 1
    assert await box.replicator.pay(box.volumes.by_name("backup1"), seen) == (0, seen)
    assert await box.catalogue.debt_counts() == {"backup1": 1}


async def test_over_the_high_water_mark_the_oldest_leave_staging_first(tmp_path: Path) -> None:
    box = await Box(tmp_path, names=("data",), staging_capacity=400_000).open()
    try:
        for number in range(1, 7):
            assert (await box.store(made(number, pixels=50_000))).outcome is StoreOutcome.NEW
        assert await box.staged() == 6  # one volume: staging is the second device
        await box.replicator.tidy()
        assert box.staging.used_bytes <= 0.6 * 400_000
        assert await box.staged() == 4
        assert (await box.catalogue.instance(made(1).uid)).staged_as is None
        assert (await box.catalogue.instance(made(6).uid)).staged_as is not None
    finally:
        await box.close()


async def test_replication_gives_way_to_images_that_arrive(
    live_box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = live_box
    monkeypatch.setattr(box.replicator, "_is_busy", lambda: True)
    monkeypatch.setattr("scrigno.archive.replicate.BUSY_PAUSE_S", 0.5)
    for number in range(1, 13):
        await box.store(made(number))
    owed = (await box.catalogue.debt_counts())["backup1"]
    assert owed >= 6
    monkeypatch.setattr(box.replicator, "_is_busy", lambda: False)
    await box.until(lambda: settled(box))
