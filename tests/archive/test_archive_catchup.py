# SPDX-License-Identifier: Apache-2.0
"""A volume that fell takes over only when what it should hold was read back and what it missed is
there; it comes to an end whatever happens, and another disk under its name is owed everything.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from archivebox import Box, made

from scrigno.archive import catchup, replicate
from scrigno.archive.catchup import Pace
from scrigno.core.clock import SystemClock
from scrigno.core.events import VolumeChanged
from scrigno.volumes.states import VolumeState

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[Box]:
    one = await Box(tmp_path, replicating=True).open()
    try:
        yield one
    finally:
        await one.close()


async def settled(box: Box) -> bool:
    return not await box.catalogue.debt_counts() and await box.staged() == 0


async def pull(box: Box, name: str) -> None:
    """Take a disk out."""
    volume = box.volumes.by_name(name)
    (box.root / name).rename(box.root / f"{name}-pulled")
    async with asyncio.timeout(20):
        while volume.state is not VolumeState.ABSENT:
            volume.doubt.set()
            await asyncio.sleep(0.02)


def push(box: Box, name: str) -> None:
    """Put it in again."""
    (box.root / f"{name}-pulled").rename(box.root / name)


async def back(box: Box, name: str, timeout_s: float = 30) -> None:
    await box.until(lambda: box.volumes.by_name(name).state is VolumeState.ONLINE, timeout_s)


@pytest.mark.spec("ST-2", "ST-3")
async def test_a_volume_takes_over_only_when_it_has_what_it_missed(box: Box) -> None:
    for number in range(1, 4):
        await box.store(made(number))
    await box.until(lambda: settled(box))
    await pull(box, "data")
    missed = [made(number) for number in range(10, 40)]
    for one in missed:
        receipt = await box.store(one)
        assert receipt.copies == ("backup1",)
    await box.until(lambda: box.replicator.progress("data").owed_objects == 30)
    assert box.replicator.progress("data").state == "waiting"
    assert not box.replicator.caught_up("data")
    had: list[float] = []
    before = box.counters.value("replication_objects", volume="data")

    def look(event: VolumeChanged) -> None:
        if (event.volume, event.after) == ("data", "online"):
            had.append(box.counters.value("replication_objects", volume="data") - before)

    box.bus.subscribe(VolumeChanged, look)
    push(box, "data")
    await back(box, "data")
    assert had == [30]
    await box.until(lambda: settled(box))
    assert box.on("data") == box.on("backup1")
    assert box.replicator.caught_up("data")
    assert await box.catalogue.volume_recoveries() == {}
    progress = box.replicator.progress("data")
    assert (progress.state, progress.owed_objects, progress.eta_s) == ("idle", 0, None)
    assert progress.done_objects >= 30
    assert (await box.store(made(99))).copies == ("data",)


@pytest.mark.spec("ST-3", "ST-6")
async def test_copies_of_just_before_the_fall_are_read_back(box: Box) -> None:
    """An fsync may have lied: what was acknowledged is gone or wrong after the disk is back."""
    objects = [made(number, pixels=5000) for number in range(1, 9)]
    for one in objects:
        await box.store(one)
    await box.until(lambda: settled(box))
    await pull(box, "data")
    pulled = box.root / "data-pulled"
    (pulled / objects[0].key).unlink()
    for one, content in ((objects[1], bytes(len(objects[1].file))), (objects[2], b"")):
        (pulled / one.key).chmod(0o600)
        (pulled / one.key).write_bytes(content)
    push(box, "data")
    await back(box, "data")
    await box.until(lambda: settled(box))
    for one in objects:
        assert (box.root / "data" / one.key).read_bytes() == one.file
    assert box.counters.value("catch_up_bad_copies", volume="data") == 3
    assert bytes(len(objects[1].file)) in box.set_aside("data")
    row = await box.catalogue.instance(objects[5].uid)
    assert all(copy.verified_at for copy in row.copies if copy.volume == "data")


@pytest.mark.spec("ST-3", "ST-6")
@pytest.mark.parametrize("restarted", [False, True])
async def test_new_copies_of_old_objects_are_read_back_too(
    box: Box, monkeypatch: pytest.MonkeyPatch, restarted: bool
) -> None:
    """A copy that was owed for days is as new to its disk as an image that has just come."""
    monkeypatch.setattr(catchup, "DOUBTED_BEFORE", timedelta(0))  # no object counts as new
    objects = [made(number, pixels=5000) for number in range(1, 9)]
    for one in objects:
        await box.store(one)
    await box.until(lambda: settled(box))  # the backup got its copies by replication
    await pull(box, "backup1")
    pulled = box.root / "backup1-pulled"
    for one in objects[:3]:
        (pulled / one.key).chmod(0o600)
        (pulled / one.key).write_bytes(bytes(len(one.file)))
    kept = box.root / "state" / "recent-copies"
    if restarted:
        await box.until(lambda: kept.exists() and list(kept.glob("*.json")))
        await box.reopened()  # which makes a bare folder of the place
        await pull_again(box, "backup1")
    push(box, "backup1")
    await back(box, "backup1")
    await box.until(lambda: settled(box))
    for one in objects:
        assert (box.root / "backup1" / one.key).read_bytes() == one.file
    assert box.counters.value("catch_up_bad_copies", volume="backup1") == 3
    await box.until(lambda: not list(kept.glob("*.json")))


async def pull_again(box: Box, name: str) -> None:
    """Take the bare folder away that stands in the place of a pulled disk."""
    volume = box.volumes.by_name(name)
    await box.until(lambda: volume.state is VolumeState.ABSENT)
    (box.root / name).rmdir()


@pytest.mark.spec("ST-3", "DB-3")
async def test_a_restored_index_says_anew_which_disks_it_knows(box: Box) -> None:
    objects = [made(number) for number in range(1, 5)]
    for one in objects:
        await box.store(one)
    await box.until(lambda: settled(box))
    # the index of a backup: since then the disk was replaced, and these copies are not there
    await box.catalogue.remember_volume("backup1", "the disk before")
    for one in objects[:2]:
        (box.root / "backup1" / one.key).unlink()
    box.replicator.reload()
    uuid = box.volumes.by_name("backup1").uuid

    async def known() -> bool:
        return (await box.catalogue.volume_uuids())["backup1"] == uuid

    await box.until(known)
    await box.until(lambda: settled(box))
    assert box.on("data", "studies") == box.on("backup1", "studies")


@pytest.mark.spec("ST-3")
async def test_it_comes_to_an_end_while_images_go_on_arriving(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(box.replicator, "_is_busy", lambda: True)
    monkeypatch.setattr(catchup, "FEW", 0)
    monkeypatch.setattr(catchup, "SETTLE_S", 1.0)
    for number in range(1, 4):
        await box.store(made(number))
    await pull(box, "data")
    for number in range(10, 30):
        await box.store(made(number))
    stop = asyncio.Event()

    async def sender() -> None:
        number = 100
        while not stop.is_set():
            await box.store(made(number))
            number += 1

    sending = asyncio.gather(sender(), return_exceptions=False)
    push(box, "data")
    await back(box, "data")
    stop.set()
    await sending
    monkeypatch.setattr(box.replicator, "_is_busy", lambda: False)
    await box.until(lambda: settled(box), 30)
    assert box.on("data") == box.on("backup1")


@pytest.mark.spec("ST-3")
async def test_a_disk_that_falls_again_while_it_is_caught_up_loses_nothing(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catchup, "NOTE_EVERY", 5)
    monkeypatch.setattr(replicate, "BUSY_PAUSE_S", 0.05)
    monkeypatch.setattr(box.replicator, "_is_busy", lambda: True)  # slowly
    for number in range(1, 31):
        await box.store(made(number))
    monkeypatch.setattr(box.replicator, "_is_busy", lambda: False)
    await box.until(lambda: settled(box))
    monkeypatch.setattr(box.replicator, "_is_busy", lambda: True)
    await pull(box, "data")
    for number in range(100, 130):
        await box.store(made(number))
    for _ in range(3):
        push(box, "data")
        await box.until(lambda: box.volumes.by_name("data").state is VolumeState.RECOVERING)
        done = box.replicator.progress("data").done_objects
        await box.until(lambda done=done: box.replicator.progress("data").done_objects > done + 3)
        await pull(box, "data")
        await box.store(made(200))
    push(box, "data")
    await back(box, "data", 60)
    monkeypatch.setattr(box.replicator, "_is_busy", lambda: False)
    await box.until(lambda: settled(box), 30)
    assert box.on("data", "studies") == box.on("backup1", "studies")
    assert len(box.on("data", "studies")) == 61


@pytest.mark.spec("ST-3")
async def test_a_restart_goes_on_where_it_was(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catchup, "NOTE_EVERY", 5)
    monkeypatch.setattr(replicate, "BUSY_PAUSE_S", 0.1)
    for number in range(1, 31):
        await box.store(made(number))
    await box.until(lambda: settled(box))
    monkeypatch.setattr(box.replicator, "_is_busy", lambda: True)
    await pull(box, "data")
    (box.root / "data-pulled" / made(30).key).unlink()
    push(box, "data")
    await box.until(lambda: _checked(box))
    await box.close()
    await box.open()
    checked = (await box.catalogue.volume_recoveries())["data"].checked
    assert 5 <= checked < 30
    await box.until(lambda: box.replicator.caught_up("data"), 30)
    await box.until(lambda: settled(box))
    assert (box.root / "data" / made(30).key).read_bytes() == made(30).file
    row = await box.catalogue.instance(made(1).uid)
    assert row.copies  # the first were read before, the last only now
    assert box.counters.value("catch_up_bad_copies", volume="data") == 1


async def _checked(box: Box) -> bool:
    marks = await box.catalogue.volume_recoveries()
    return "data" in marks and marks["data"].checked >= 5


@pytest.mark.spec("ST-1", "ST-3")
async def test_another_disk_under_a_name_is_owed_everything_whatever_crashed_when(
    box: Box,
) -> None:
    objects = [made(number) for number in range(1, 9)]
    for one in objects:
        await box.store(one)
    await box.until(lambda: settled(box))
    uuid = box.volumes.by_name("data").uuid
    await box.until(lambda: _remembers(box, uuid))
    await box.close()
    # the adoption of another disk came to its end, what follows from it did not
    for key in box.on("data", "studies"):
        (box.root / "data" / key).unlink()
    await box.open()
    await box.catalogue.remember_volume("data", "the disk before")
    await box.close()
    await box.open()
    await box.until(lambda: _remembers(box, uuid))
    await box.until(lambda: settled(box))
    assert box.on("data") == box.on("backup1")
    assert len(box.on("data", "studies")) == 8


async def _remembers(box: Box, uuid: str) -> bool:
    return (await box.catalogue.volume_uuids()).get("data") == uuid


@pytest.mark.spec("ST-2")
async def test_what_only_a_disk_that_went_away_held_is_not_let_go_from_staging(
    tmp_path: Path,
) -> None:
    """The recorded copies of a name are not on the disk that serves it now."""
    box = await Box(tmp_path).open()
    try:
        await box.store(made(1))
        await box.catalogue.remember_volume("data", "the disk before")
        await box.catalogue.remember_volume("backup1", "the other before")
        await box.catalogue.paid(made(1).uid, "backup1")
        box.replicator._tidying = asyncio.get_running_loop().create_future()
        box.replicator._uuids = await box.catalogue.volume_uuids()
        await box.replicator.tidy()
        assert await box.staged() == 1
        box.replicator._uuids = {v.name: v.uuid for v in box.volumes.ordered}
        await box.replicator.tidy()
        assert await box.staged() == 0
        box.replicator._tidying = None
    finally:
        await box.close()


def test_pace_knows_rate_and_time_left() -> None:
    class Clock(SystemClock):
        seconds = 0.0

        def monotonic(self) -> float:
            return self.seconds

    clock = Clock()
    pace = Pace(clock)
    assert pace.progress("data").state == "idle"
    pace.begin("copying")
    pace.owed = (10, 1000)
    for _ in range(4):
        clock.seconds += 1
        pace.done(100)
    progress = pace.progress("data")
    assert (progress.owed_objects, progress.owed_bytes) == (6, 600)
    assert (progress.done_objects, progress.done_bytes) == (4, 400)
    assert progress.bytes_per_s == 100
    assert progress.eta_s == 6
    pace.wait()
    assert (pace.progress("data").state, pace.progress("data").eta_s) == ("waiting", None)
    pace.end()
    assert pace.progress("data").state == "idle"


async def test_an_index_that_is_closed_for_a_while_makes_nobody_spin(
    box: Box, caplog: pytest.LogCaptureFixture
) -> None:
    await box.store(made(1))
    await box.until(lambda: settled(box))
    await box.replicator.close()
    await box.catalogue.close()
    box.replicator._uuids = None
    box.replicator.start()
    await asyncio.sleep(1.5)
    assert caplog.text.count("entries are not let go now") == 1
    assert not box.replicator.caught_up("data")
    await box.catalogue.open()
    await box.until(lambda: box.replicator.caught_up("data"))
