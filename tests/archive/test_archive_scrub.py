# SPDX-License-Identifier: Apache-2.0
"""The scrub: every kind of damage is found and repaired, and nothing good is ever touched."""

import asyncio
import os
import random
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from archivebox import Box, Made, made

from scrigno.archive.errors import ObjectUnavailable
from scrigno.archive.failpoints import EXIT_CODE
from scrigno.archive.scrub import ScrubRules
from scrigno.archive.scrub_desk import ScrubState
from scrigno.catalogue.fixity import LostKind, ScrubRow
from scrigno.core.errors import CommandError
from scrigno.core.events import CopyDamaged, NoGoodCopy
from scrigno.volumes.beside import ATTRIBUTE
from scrigno.volumes.protocol import Op
from scrigno.volumes.states import ErrorKind, VolumeError, VolumeState
from scrigno.volumes.volume import Checked, Volume

DRIVER = Path(__file__).with_name("scrubdriver.py")


async def filled(box: Box, number: int) -> list[Made]:
    """Store objects of two studies and bring them to every volume."""
    objects = [made(place, study=1 + place % 2, pixels=2048) for place in range(1, number + 1)]
    queue = iter(objects)

    async def sender() -> None:
        for one in queue:
            await box.store(one)

    await asyncio.gather(*(sender() for _ in range(4)))
    await spread(box)
    return objects


async def spread(box: Box) -> None:
    for volume in box.volumes.ordered:
        await box.replicator.pay(volume)
    await box.replicator.tidy()


def flip_a_bit(path: Path, chance: random.Random) -> None:
    """Change one bit in place; size and times of the file stay what they were."""
    before = path.stat()
    with path.open("r+b") as file:
        place = chance.randrange(before.st_size)
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ (1 << chance.randrange(8))]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


async def scrubbed(box: Box, *volumes: str) -> None:
    """Let one whole pass run on these volumes, or on all."""
    names = volumes or box.names
    before = {name: box.counters.value("scrub_passes", volume=name) for name in names}
    if not box.scrubber._tasks:
        box.scrubber.start()
        await box.until(lambda: set(box.names) == set(box.scrubber._desks))
    for name in names:
        box.scrubber.run_now(name)
    await box.until(
        lambda: all(box.counters.value("scrub_passes", volume=n) > before[n] for n in names), 30
    )


async def just_scrubbed(box: Box) -> None:
    """Say that every volume has just been scrubbed."""
    now = box.clock.now()
    for name in box.names:
        row = ScrubRow(volume=name, known_since=now, last_finished=now, last_started=now)
        await box.catalogue.save_scrub(row)


@pytest.fixture
async def quiet_box(box: Box) -> Box:
    """A box whose scrub runs only when it is told to."""
    await just_scrubbed(box)
    return box


# finding and repairing -------------------------------------------------------------------------


@pytest.mark.spec("ST-6")
async def test_fifty_flipped_bits_are_all_found_and_repaired_and_no_wrong_byte_is_served(
    quiet_box: Box,
) -> None:
    box, chance = quiet_box, random.Random(11)
    objects = await filled(box, 120)
    bad = chance.sample(objects, 50)
    seen: list[CopyDamaged] = []
    box.bus.subscribe(CopyDamaged, seen.append)
    for number, one in enumerate(bad):
        flip_a_bit(box.root / box.names[number % 2] / one.key, chance)
    ended = asyncio.Event()
    served = 0

    async def reader() -> None:
        nonlocal served
        while not ended.is_set():
            one = chance.choice(bad)
            instance = await box.catalogue.instance(one.uid)
            assert await box.retrieval.read(instance, limit_bytes=1 << 20) == one.file
            served += 1

    reading = asyncio.create_task(reader())
    await scrubbed(box)
    ended.set()
    await reading
    assert served > 0
    assert {(event.name, event.problem, event.repaired) for event in seen} == {
        (one.uid, "changed", True) for one in bad
    }
    assert len(seen) == 50
    for name in box.names:
        assert box.on(name, "studies") == {one.key: one.file for one in objects}
    states = [box.scrubber.status(name) for name in box.names]
    assert [(one.bad, one.repaired, one.unrepairable) for one in states] == [(25, 25, 0)] * 2
    assert [(one.checked_objects, one.total_objects) for one in states] == [(120, 120)] * 2
    assert sum(len(box.set_aside(name)) for name in box.names) == 50
    found = await box.catalogue.study_verified([objects[0].study, objects[1].study])
    assert [(one.copies, one.unverified) for one in found.values()] == [(120, 0)] * 2
    await scrubbed(box)
    assert [box.scrubber.status(name).bad for name in box.names] == [0, 0]


@pytest.mark.spec("ST-6")
async def test_cut_zeroed_deleted_and_alien_files_are_found_and_mended_or_told(
    quiet_box: Box,
) -> None:
    box = quiet_box
    objects = await filled(box, 8)
    problems: dict[str, str] = {}

    def watch(event: CopyDamaged) -> None:
        problems[event.name] = event.problem

    box.bus.subscribe(CopyDamaged, watch)
    paths = [box.root / "data" / one.key for one in objects]
    os.truncate(paths[0], 700)
    os.truncate(paths[1], 0)
    paths[2].write_bytes(bytes(paths[2].stat().st_size))
    paths[3].unlink()
    with paths[4].open("ab") as file:
        file.write(b"more")
    alien = paths[0].parent / "1.2.3.4.dcm"
    alien.write_bytes(made(99).file)
    (paths[0].parent / ("ab" * 32 + ".dcm")).write_bytes(b"no image at all")
    await scrubbed(box, "data")
    assert problems == {
        objects[0].uid: "cut",
        objects[1].uid: "cut",
        objects[2].uid: "zeroed",
        objects[3].uid: "missing",
        objects[4].uid: "cut",
    }
    status = box.scrubber.status("data")
    assert (status.bad, status.repaired, status.alien) == (5, 5, 2)
    there = box.on("data", "studies")
    assert all(there[one.key] == one.file for one in objects)
    listed = await box.catalogue.aliens()
    assert {one.key.rpartition("/")[2] for one in listed} == {alien.name, "ab" * 32 + ".dcm"}
    assert alien.exists()  # told, not touched
    report = await box.reconciler.reconcile(fix=True)
    assert report.fixed >= 0
    alien.unlink()


@pytest.mark.spec("ST-6")
async def test_without_any_good_copy_nothing_is_touched_and_the_study_is_named(
    quiet_box: Box, caplog: pytest.LogCaptureFixture
) -> None:
    box, chance = quiet_box, random.Random(5)
    objects = await filled(box, 6)
    lost: list[NoGoodCopy] = []
    box.bus.subscribe(NoGoodCopy, lost.append)
    for name in box.names:
        flip_a_bit(box.root / name / objects[0].key, chance)
    before = {name: box.on(name) for name in box.names}
    await scrubbed(box)
    assert {name: box.on(name) for name in box.names} == before
    assert [(event.name, event.kind) for event in lost] == [(objects[0].uid, "lost")]
    (listed,) = await box.catalogue.lost_objects()
    assert (listed.kind, listed.study_uid) == (LostKind.LOST, objects[0].study)
    assert [box.scrubber.status(name).unrepairable for name in box.names] == [1, 1]
    assert "no good copy" in caplog.text
    instance = await box.catalogue.instance(objects[0].uid)
    with pytest.raises(ObjectUnavailable):
        await box.retrieval.read(instance, limit_bytes=1 << 20)
    # an operator brings the file back from elsewhere
    (box.root / "backup1" / objects[0].key).write_bytes(objects[0].file)
    await box.scrubber.recheck()
    assert await box.catalogue.lost_objects() == []
    assert box.on("data", "studies") == box.on("backup1", "studies")


@pytest.mark.spec("ST-6")
async def test_a_bad_copy_waits_for_the_volume_that_has_the_good_one(quiet_box: Box) -> None:
    box, chance = quiet_box, random.Random(6)
    objects = await filled(box, 4)
    flip_a_bit(box.root / "data" / objects[0].key, chance)
    backup = box.volumes.by_name("backup1")
    backup.state = VolumeState.ABSENT
    before = box.on("data")
    await scrubbed(box, "data")
    assert box.on("data") == before
    (listed,) = await box.catalogue.lost_objects()
    assert (listed.kind, listed.away) == (LostKind.WAITING, ("backup1",))
    backup.state = VolumeState.ONLINE
    await box.scrubber.recheck()
    assert await box.catalogue.lost_counts() == {}
    assert box.on("data", "studies") == box.on("backup1", "studies")


@pytest.mark.spec("ST-6")
async def test_objects_of_the_inbox_are_scrubbed_too(quiet_box: Box) -> None:
    box = quiet_box
    one = made(1)
    await box.store(one, hold="unapproved-node")
    await spread(box)
    path = box.root / "backup1" / "inbox" / f"{one.digest}.dcm"
    flip_a_bit(path, random.Random(1))
    await scrubbed(box)
    assert path.read_bytes() == one.file
    assert box.scrubber.status("backup1").repaired == 1


async def test_a_read_that_was_wrong_only_once_repairs_nothing(
    quiet_box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = quiet_box
    objects = await filled(box, 3)
    check, wrong = Volume.check, [objects[1].key]

    async def sometimes(volume: Volume, key: str, between: object = None) -> Checked:
        answer = await check(volume, key)
        if key in wrong:
            wrong.remove(key)
            return replace(answer, digest="0" * 64)
        return answer

    monkeypatch.setattr(Volume, "check", sometimes)
    await scrubbed(box, "data")
    assert box.set_aside("data") == []
    assert box.scrubber.status("data").bad == 0
    assert box.counters.value("fixity_second_look_good", volume="data") == 1


@pytest.mark.spec("ST-6")
async def test_the_digest_beside_a_file_is_written_when_missing_and_mended_when_wrong(
    quiet_box: Box,
) -> None:
    box = quiet_box
    objects = await filled(box, 3)
    paths = [box.root / "data" / one.key for one in objects]
    os.removexattr(paths[0], ATTRIBUTE)
    os.setxattr(paths[1], ATTRIBUTE, bytes(32))
    await scrubbed(box, "data")
    assert [os.getxattr(path, ATTRIBUTE).hex() for path in paths] == [o.digest for o in objects]
    assert box.counters.value("fixity_wrong_digests_beside", volume="data") == 1
    assert box.scrubber.status("data").bad == 0


@pytest.mark.spec("ST-6", "ST-10")
async def test_a_whole_other_object_in_a_place_is_set_aside_and_kept_for_ever(
    quiet_box: Box,
) -> None:
    box = quiet_box
    objects = await filled(box, 3)
    other = made(1, PatientName="Other^Name")
    path = box.root / "data" / objects[0].key
    path.unlink()
    path.write_bytes(other.file)
    os.setxattr(path, ATTRIBUTE, bytes.fromhex(other.digest))
    await scrubbed(box, "data")
    assert path.read_bytes() == objects[0].file
    (row,) = await box.quarantine.items()
    assert row.why == "conflict"
    assert await box.quarantine.sweep(box.volumes.by_name("data"), -1) == 0
    assert box.set_aside("data") == [other.file]


@pytest.mark.spec("ST-6")
async def test_copies_that_agree_among_themselves_accuse_the_index_and_are_not_touched(
    quiet_box: Box,
) -> None:
    box = quiet_box
    objects = await filled(box, 3)
    await box.catalogue.engine.write(
        lambda connection: connection.execute(
            "UPDATE instance SET digest = ? WHERE sop_instance_uid = ?",
            (bytes(32), objects[0].uid),
        )
    )
    before = {name: box.on(name) for name in box.names}
    await scrubbed(box)
    assert {name: box.on(name) for name in box.names} == before
    assert await box.catalogue.lost_counts() == {LostKind.INDEX: 1}


@pytest.mark.spec("ST-6")
async def test_a_file_that_the_disk_does_not_give_back_is_replaced_and_the_volume_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = await Box(tmp_path).open()
    try:
        await just_scrubbed(box)
        objects = await filled(box, 4)
        check, failures = Volume.check, [1, 2]  # both looks at it; the file is replaced then

        async def sick(volume: Volume, key: str, between: object = None) -> Checked:
            if volume.name == "data" and key == objects[1].key and failures:
                failures.pop()
                error = VolumeError("data", ErrorKind.IO, "Input/output error (EIO)")
                volume.on_error(error, Op.DIGEST)
                raise error
            return await check(volume, key)

        monkeypatch.setattr(Volume, "check", sick)
        await scrubbed(box, "data")
        assert box.scrubber.status("data").repaired == 1
        (row,) = await box.quarantine.items()
        assert row.why == "unreadable"
        assert box.on("data", "studies") == box.on("backup1", "studies")
        assert not await box.catalogue.debt_counts()
        await box.until(lambda: box.volumes.by_name("data").state is VolumeState.ONLINE)
    finally:
        await box.close()


# when it may read ------------------------------------------------------------------------------


@pytest.mark.spec("ST-6")
@pytest.mark.parametrize("state", ["suspect", "recovering", "offline"])
async def test_a_volume_in_doubt_is_left_alone(quiet_box: Box, state: str) -> None:
    box = quiet_box
    await filled(box, 3)
    box.volumes.by_name("data").state = VolumeState(state)
    box.scrubber.start()
    await box.until(lambda: len(box.scrubber._desks) == 2)
    box.scrubber.run_now("data")
    await box.until(lambda: box.scrubber.status("data").state is ScrubState.WAITING)
    assert state in box.scrubber.status("data").reason
    box.volumes.by_name("data").state = VolumeState.ONLINE
    await box.until(lambda: box.counters.value("scrub_passes", volume="data") == 1)


@pytest.mark.timing
@pytest.mark.spec("ST-6")
async def test_it_is_paused_held_and_kept_to_its_window_and_goes_on_where_it_was(
    quiet_box: Box,
) -> None:
    box = quiet_box
    await filled(box, 30)
    size = (await box.catalogue.totals()).size_bytes // 30
    box.scrub_rules = ScrubRules(max_bytes_per_s=size * 20)  # 1.5 s
    box.scrubber.start()
    await box.until(lambda: len(box.scrubber._desks) == 2)
    box.scrubber.run_now("data")
    status = lambda: box.scrubber.status("data")  # noqa: E731
    await box.until(lambda: status().checked_objects >= 4)
    assert status().state is ScrubState.RUNNING
    assert status().eta_s is not None
    box.scrubber.pause()
    await box.until(lambda: status().state is ScrubState.PAUSED)
    here = status().checked_objects
    await asyncio.sleep(0.3)
    assert status().checked_objects == here < 30
    assert (await box.catalogue.scrubs())["data"].checked == here  # as a restart finds it
    box.scrubber.hold = lambda: True
    box.scrubber.resume()
    await box.until(lambda: status().state is ScrubState.WAITING)
    assert status().checked_objects == here
    box.scrubber.hold = lambda: False
    await box.until(lambda: status().last_finished > box.clock.now() - timedelta(seconds=0.5), 20)
    assert (status().checked_objects, status().bad) == (30, 0)


async def test_the_window_may_reach_over_midnight(quiet_box: Box) -> None:
    scrubber = quiet_box.scrubber
    for minute, day, night in ((0, False, True), (600, True, False), (1439, False, True)):
        now = datetime(2026, 3, 1, tzinfo=UTC) + timedelta(minutes=minute)
        scrubber._local_time = lambda now=now: now
        assert scrubber._in_window((480, 1080)) is day
        assert scrubber._in_window((1320, 360)) is night


@pytest.mark.timing
@pytest.mark.spec("ST-6")
async def test_it_keeps_to_its_rate_and_gives_way_to_arriving_images(quiet_box: Box) -> None:
    box = quiet_box
    await filled(box, 16)
    size = (await box.catalogue.totals()).size_bytes
    box.scrub_rules = ScrubRules(max_bytes_per_s=size * 2)
    began = time.monotonic()
    await scrubbed(box, "data")
    assert 0.4 < time.monotonic() - began < 5
    box.scrubber._is_busy = lambda: True
    began = time.monotonic()
    box.scrub_rules = ScrubRules(max_bytes_per_s=size * 8)
    await scrubbed(box, "data")
    assert time.monotonic() - began > 0.8


@pytest.mark.timing
@pytest.mark.spec("ST-6")
async def test_a_large_object_is_read_in_steps_at_the_rate_and_a_pause_stops_within_it(
    quiet_box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    box, step = quiet_box, 256 << 10
    monkeypatch.setattr("scrigno.volumes.operations.STEP_BYTES", step)
    monkeypatch.setattr("scrigno.archive.scrub.STEP_BYTES", step)
    one = made(1, pixels=2 << 20)
    await box.store(one)
    await spread(box)
    call, reads = Volume._call, []

    async def watched(volume: Volume, op: Op, *rest: object) -> object:
        if op is Op.DIGEST:
            reads.append(time.monotonic())
        return await call(volume, op, *rest)

    monkeypatch.setattr(Volume, "_call", watched)
    box.scrub_rules = ScrubRules(max_bytes_per_s=4 << 20)
    box.scrubber.start()
    await box.until(lambda: set(box.names) == set(box.scrubber._desks))
    box.scrubber.run_now("data")
    await box.until(lambda: len(reads) >= 2)
    box.scrubber.pause()
    await asyncio.sleep(0.3)  # the step under way ends
    paused_at = len(reads)
    await asyncio.sleep(0.5)
    assert len(reads) == paused_at < 8
    assert box.scrubber.status("data").state is ScrubState.PAUSED
    box.scrubber.resume()
    await box.until(lambda: box.counters.value("scrub_passes", volume="data"))
    assert len(reads) >= 8
    waits = [later - earlier for earlier, later in pairwise(reads)]
    assert sorted(waits)[1] > 0.9 * step / (4 << 20)  # the last step may be a short one
    row = (await box.catalogue.scrubs())["data"]
    assert (row.checked, row.bad) == (1, 0)
    assert box.counters.value("scrub_read_bytes", volume="data") == len(one.file)


@pytest.mark.spec("ST-6")
async def test_a_large_object_that_is_bad_is_found_in_steps_too(
    quiet_box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = quiet_box
    monkeypatch.setattr("scrigno.volumes.operations.STEP_BYTES", 64 << 10)
    monkeypatch.setattr("scrigno.archive.scrub.STEP_BYTES", 64 << 10)
    one = made(1, pixels=1 << 20)
    await box.store(one)
    await spread(box)
    flip_a_bit(box.root / "data" / one.key, random.Random(3))
    await scrubbed(box, "data")
    assert (await box.catalogue.scrubs())["data"].repaired == 1
    assert (box.root / "data" / one.key).read_bytes() == one.file


@pytest.mark.spec("ST-6")
async def test_a_pause_outlives_a_restart(tmp_path: Path) -> None:
    box = await Box(tmp_path).open()
    try:
        for paused in (True, False):
            box.scrubber.start()
            (box.scrubber.pause if paused else box.scrubber.resume)()
            await box.reopened()
            box.scrubber.start()
            await box.until(lambda: set(box.names) == set(box.scrubber._desks))
            assert box.scrubber.paused is paused
    finally:
        await box.close()


@pytest.mark.spec("ST-6")
async def test_two_volumes_of_one_disk_are_never_read_at_the_same_time(
    quiet_box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = quiet_box
    await filled(box, 10)
    check, reading, together = Volume.check, set(), []

    async def watched(volume: Volume, key: str, between: object = None) -> Checked:
        reading.add(volume.name)
        together.append(len(reading))
        await asyncio.sleep(0.01)
        try:
            return await check(volume, key)
        finally:
            reading.discard(volume.name)

    monkeypatch.setattr(Volume, "check", watched)
    await scrubbed(box)
    assert max(together) == 1
    assert len(together) == 20


@pytest.mark.spec("ST-6")
async def test_a_pass_begins_by_itself_in_time_and_an_old_one_is_overdue(box: Box) -> None:
    objects = await filled(box, 4)
    box.scrub_rules = replace(box.scrub_rules, every_days=30)
    now = box.clock.now()
    ages = {"data": 29, "backup1": 31}
    for name, days in ages.items():
        at = now - timedelta(days=days)
        await box.catalogue.save_scrub(ScrubRow(volume=name, known_since=at, last_finished=at))
    box.scrubber.hold = lambda: True
    box.scrubber.start()
    await box.until(lambda: len(box.scrubber._desks) == 2)
    assert [box.scrubber.status(name).overdue for name in box.names] == [False, True]
    box.scrubber.hold = lambda: False
    await box.until(
        lambda: all(box.counters.value("scrub_passes", volume=name) == 1 for name in box.names)
    )
    assert [box.scrubber.status(name).overdue for name in box.names] == [False, False]
    assert (await box.catalogue.study_verified([objects[0].study]))[objects[0].study].on >= now
    await asyncio.sleep(0.3)
    assert box.counters.value("scrub_passes", volume="data") == 1  # not again for weeks
    with pytest.raises(CommandError):
        box.scrubber.run_now("nothing")
    with pytest.raises(CommandError):
        box.scrubber.status("nothing")


# the process dies ------------------------------------------------------------------------------


async def driven(root: Path, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, str(DRIVER), str(root), *arguments, stdout=asyncio.subprocess.PIPE
    )


@pytest.mark.spec("ST-6")
@pytest.mark.parametrize("failpoint", ["mend-owed", "mend-set-aside", "mend-written"])
async def test_a_repair_cut_short_at_any_step_is_made_good_after_the_restart(
    tmp_path: Path, failpoint: str
) -> None:
    box = await Box(tmp_path).open()
    objects = await filled(box, 5)
    await box.close()
    flip_a_bit(tmp_path / "data" / objects[2].key, random.Random(3))
    process = await driven(tmp_path, failpoint)
    assert await process.wait() == EXIT_CODE
    box = await Box(tmp_path).open()
    try:
        await spread(box)  # the debt alone brings it back, weeks before the next pass
        assert not await box.catalogue.debt_counts()
        assert box.on("data", "studies") == {one.key: one.file for one in objects}
        await scrubbed(box)
        assert box.on("data", "studies") == {one.key: one.file for one in objects}
        assert box.on("data", "studies") == box.on("backup1", "studies")
        assert len(box.set_aside("data")) == 1
        assert await box.catalogue.check() == []
    finally:
        await box.close()


@pytest.mark.spec("ST-6")
async def test_a_scrub_that_is_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    box = await Box(tmp_path).open()
    await filled(box, 60)
    await just_scrubbed(box)
    size = (await box.catalogue.totals()).size_bytes // 60
    await box.close()
    process = await driven(tmp_path, "none", str(size * 12))  # 5 s for a pass
    assert process.stdout is not None
    async with asyncio.timeout(20):
        while int(await process.stdout.readline()) < 30:
            pass
    process.kill()
    await process.wait()
    box = await Box(tmp_path).open()
    try:
        row = (await box.catalogue.scrubs())["data"]
        assert row.started_at is not None
        assert 4 <= row.checked <= 60
        reads_before = box.counters.value("scrub_read_bytes", volume="data")
        await scrubbed(box, "data")
        read = box.counters.value("scrub_read_bytes", volume="data") - reads_before
        assert read == (60 - row.checked) * size
        assert box.scrubber.status("data").checked_objects == 60
    finally:
        await box.close()
