# SPDX-License-Identifier: Apache-2.0
"""Real faults on real filesystems: what was acknowledged is there, and the next disk takes over."""

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from contents import names_under
from loopfs import sh
from scrigno.volumes.placement import IngestPolicy, KeyConflict, NoDurableStorage
from scrigno.volumes.states import ErrorKind, VolumeError, VolumeState

pytestmark = pytest.mark.timeout(240)


async def _until(condition, limit_s: float = 30.0) -> None:
    async with asyncio.timeout(limit_s):
        while not condition():
            await asyncio.sleep(0.02)


@pytest.mark.spec("ST-2")
async def test_an_acknowledged_object_is_on_two_devices(box, filesystem, tmp_path: Path) -> None:
    data, backup = filesystem("data"), filesystem("backup")
    async with box(data=data.mount_point, backup=backup.mount_point) as b:
        placed = await b.store("studies/a/b/c.dcm", b"x" * 1000)
        assert placed.copies == ("data",)
        assert placed.owed == ("backup",)
        assert not placed.degraded
        (entry,) = await b.staging.journal()
        assert entry.name == placed.staged_as
        assert (data.mount_point / "studies/a/b/c.dcm").stat().st_dev != entry.path.stat().st_dev
        await b.placement.replicate(
            placed.staged_as,
            "studies/a/b/c.dcm",
            (await b.volumes.by_name("data").digest("studies/a/b/c.dcm"))[0],
            sources=placed.copies,
            target="backup",
        )
        assert (backup.mount_point / "studies/a/b/c.dcm").read_bytes() == b"x" * 1000


@pytest.mark.spec("ST-2")
async def test_folders_of_one_disk_count_once_unless_the_policy_says_else(
    box, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "backup").mkdir()
    async with box(data=tmp_path / "data", backup=tmp_path / "backup") as b:
        placed = await b.store("studies/a/b/1.dcm", b"1")
        assert placed.degraded
        assert placed.copies == ("data",)
        b.policy = IngestPolicy(count_shared_device=True)
        placed = await b.store("studies/a/b/2.dcm", b"2")
        assert not placed.degraded
        assert placed.copies == ("data",)
        b.policy = IngestPolicy(count_shared_device=True, ack_copies=3)
        placed = await b.store("studies/a/b/3.dcm", b"3")
        assert set(placed.copies) == {"data", "backup"}
        assert not placed.degraded


@pytest.mark.spec("ST-10")
async def test_other_bytes_under_the_same_key_change_nothing(box, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    async with box(data=tmp_path / "data") as b:
        await b.store("studies/a/b/c.dcm", b"first")
        again = await b.store("studies/a/b/c.dcm", b"first")
        assert again.copies == ("data",)
        sealed = await b.sealed(b"second")
        with pytest.raises(KeyConflict):
            await b.placement.store(sealed, "studies/a/b/c.dcm", {"key": "studies/a/b/c.dcm"})
        assert (tmp_path / "data/studies/a/b/c.dcm").read_bytes() == b"first"
        placed = await b.placement.store(sealed, "inbox/00.dcm", {"key": "inbox/00.dcm"})
        sealed.close()
        assert (tmp_path / "data/inbox/00.dcm").read_bytes() == b"second"
        notes = {entry.name: entry.note for entry in await b.staging.journal()}
        assert notes[placed.staged_as] == {"key": "inbox/00.dcm"}
        assert len(notes) == 3


@pytest.mark.spec("ST-2")
async def test_with_no_volume_an_object_is_refused_and_nothing_is_left(box, tmp_path: Path) -> None:
    async with box(data=tmp_path / "nothing") as b:
        with pytest.raises(NoDurableStorage):
            await b.store("studies/a/b/c.dcm", b"x")
        assert await b.staging.journal() == []
        assert b.staging.used_bytes == 0
    assert not (tmp_path / "nothing").exists()


@pytest.mark.spec("ST-3")
@pytest.mark.parametrize(("kind", "how"), [("ext4", 2), ("ext4", 1), ("xfs", 2)])
async def test_when_the_data_disk_dies_during_puts_the_backup_takes_them(
    box, filesystem, kind: str, how: int
) -> None:
    data, backup = filesystem("data", kind=kind), filesystem("backup")
    async with box(data=data.mount_point, backup=backup.mount_point) as b:
        placed = {}

        async def sender(number: int) -> None:
            for i in range(40):
                key = f"studies/{number}/s/{i}.dcm"
                placed[key] = await b.store(key, key.encode() * 500)

        senders = asyncio.gather(*(sender(n) for n in range(4)))
        await _until(lambda: len(placed) > 20)
        data.shutdown(how)
        died = time.monotonic()
        await senders
        assert time.monotonic() - died < 5
        assert len(placed) == 160
        await _until(lambda: b.volumes.by_name("data").state is VolumeState.OFFLINE)
        on_backup = [key for key, p in placed.items() if "backup" in p.copies]
        assert len(on_backup) > 100
        for key in on_backup:
            assert (backup.mount_point / key).read_bytes() == key.encode() * 500
        assert not any(p.degraded for p in placed.values())
        on_data = [key for key, p in placed.items() if p.copies == ("data",)]
        # a dead filesystem must not be held by us: it can be unmounted, mended and come back
        await _until(lambda: _unmounted(data))
        await _until(lambda: b.volumes.by_name("data").state is VolumeState.ABSENT)
        data.mount()
        for key in on_data:
            assert (data.mount_point / key).read_bytes() == key.encode() * 500
        await _until(lambda: b.volumes.by_name("data").state is VolumeState.ONLINE, 20)
        assert (await b.store("studies/back/s/i.dcm", b"x")).copies == ("data",)


def _unmounted(filesystem) -> bool:
    try:
        filesystem.unmount()
    except RuntimeError:
        return False
    return True


@pytest.mark.spec("ST-3", "DN-11")
async def test_when_the_data_disk_hangs_the_backup_takes_over_and_the_loop_never_waits(
    box, filesystem
) -> None:
    data, backup = filesystem("data"), filesystem("backup")
    async with box(data=data.mount_point, backup=backup.mount_point) as b:
        await b.store("studies/a/b/0.dcm", b"before")
        lags: list[float] = []

        async def measure() -> None:
            while True:
                before = time.monotonic()
                await asyncio.sleep(0.01)
                lags.append(time.monotonic() - before - 0.01)

        measuring = asyncio.ensure_future(measure())
        data.freeze()
        started = time.monotonic()
        results = await asyncio.gather(
            *(b.store(f"studies/a/b/{i}.dcm", b"during" * 1000) for i in range(1, 20))
        )
        assert time.monotonic() - started < 5  # operations get 2 s here
        assert all(placed.copies == ("backup",) for placed in results)
        assert not any(placed.degraded for placed in results)
        await _until(lambda: b.volumes.by_name("data").state is VolumeState.OFFLINE)
        started = time.monotonic()
        await b.store("studies/a/b/quick.dcm", b"x")
        assert time.monotonic() - started < 1
        await asyncio.sleep(2.5)  # it is tried again and again, and hangs again
        data.thaw()
        await _until(lambda: b.volumes.by_name("data").state is VolumeState.ONLINE, 20)
        measuring.cancel()
        assert max(lags) < 1.0  # a loop that waited for the disk would stand for two seconds
        assert (await b.store("studies/a/b/after.dcm", b"x")).copies == ("data",)
        # nothing half written became visible
        for name in names_under(data.mount_point):
            assert (data.mount_point / name).read_bytes() in (b"before", b"during" * 1000, b"x")


@pytest.mark.spec("ST-7", "ST-3")
async def test_a_full_disk_keeps_its_reserve_and_the_next_one_takes_over(box, filesystem) -> None:
    data, backup = filesystem("data"), filesystem("backup", size=200 << 20)
    async with box(data=data.mount_point, backup=backup.mount_point) as b:
        placed = [await b.store(f"studies/a/b/{i}.dcm", os.urandom(4 << 20)) for i in range(20)]
        on_data = [p for p in placed if "data" in p.copies]
        assert 5 < len(on_data) < 16
        assert all("backup" in p.copies for p in placed if p not in on_data)
        assert b.volumes.by_name("data").state in (VolumeState.FULL, VolumeState.ONLINE)
        assert not any(p.degraded for p in placed)
        about = os.statvfs(data.mount_point)
        assert about.f_bavail * about.f_frsize >= (about.f_blocks * about.f_frsize) // 100
        # small ones until nothing fits at all: the state says so, reads go on
        small = 0
        while b.volumes.by_name("data").state is not VolumeState.FULL:
            await b.store(f"studies/a/c/{small}.dcm", bytes(300_000))
            small += 1
        await asyncio.sleep(0.8)
        assert b.volumes.by_name("data").state in (VolumeState.FULL, VolumeState.ONLINE)
        assert len(await b.volumes.by_name("data").head("studies/a/b/0.dcm", 100)) == 100
        for i in range(12):
            await b.volumes.by_name("data").remove(f"studies/a/b/{i}.dcm")
        await _until(lambda: b.volumes.by_name("data").state is VolumeState.ONLINE)


@pytest.mark.spec("ST-7")
async def test_when_every_disk_is_full_objects_are_refused_without_a_trace(box, filesystem) -> None:
    data = filesystem("data")
    async with box(data=data.mount_point) as b:
        with pytest.raises(NoDurableStorage, match="reserve"):
            await b.store("studies/a/b/c.dcm", bytes(80 << 20))
        assert names_under(data.mount_point) == []
        assert await b.staging.journal() == []


@pytest.mark.spec("ST-1", "ST-3")
async def test_after_umount_the_bare_mount_point_is_not_touched(box, filesystem) -> None:
    data, backup = filesystem("data"), filesystem("backup")
    async with box(data=data.mount_point, backup=backup.mount_point) as b:
        await b.store("studies/a/b/1.dcm", b"1")
        started = time.monotonic()
        data.unmount(lazy=True)
        placed = await b.store("studies/a/b/2.dcm", b"2")
        assert placed.copies == ("backup",)
        await _until(lambda: b.volumes.by_name("data").state is VolumeState.ABSENT, 5)
        assert time.monotonic() - started < 5
        placed = await b.store("studies/a/b/3.dcm", b"3")
        assert placed.copies == ("backup",)
        assert list(data.mount_point.iterdir()) == []
        with pytest.raises(VolumeError) as caught:
            await b.volumes.by_name("data").put_bytes("backups/x", b"x")
        assert caught.value.kind is ErrorKind.ABSENT
        data.mount()
        await _until(lambda: b.volumes.by_name("data").state is VolumeState.ONLINE)
        assert names_under(data.mount_point) == ["studies/a/b/1.dcm"]


@pytest.mark.spec("ST-1")
async def test_a_disk_that_is_missing_at_the_start_is_absent_and_comes_in_when_mounted(
    box, filesystem
) -> None:
    data = filesystem("data")
    async with box(data=data.mount_point) as b:
        await b.store("studies/a/b/1.dcm", b"1")
    data.unmount()
    async with box(data=data.mount_point) as b:
        assert b.volumes.by_name("data").state is VolumeState.ABSENT
        assert list(data.mount_point.iterdir()) == []
        data.mount()
        await _until(lambda: b.volumes.by_name("data").state is VolumeState.ONLINE)


@pytest.mark.spec("ST-1", "ST-3")
async def test_a_wrong_disk_is_foreign_and_never_written_to(box, filesystem) -> None:
    data, backup, wrong = filesystem("data"), filesystem("backup"), filesystem("wrong")
    (wrong.mount_point / "holiday.jpg").write_bytes(b"jpg")
    wrong.unmount()
    async with box(data=data.mount_point, backup=backup.mount_point) as b:
        await b.store("studies/a/b/1.dcm", b"1")
        data.unmount(lazy=True)
        backup_place = backup.mount_point
        wrong.mount(at=data.mount_point)
        placed = await b.store("studies/a/b/2.dcm", b"2")
        assert placed.copies == ("backup",)
        await _until(
            lambda: b.volumes.by_name("data").state in (VolumeState.ABSENT, VolumeState.FOREIGN)
        )
        await asyncio.sleep(0.7)
        assert names_under(wrong.mount_point) == ["holiday.jpg"]
        await _until(lambda: _unmounted(wrong))  # a worker may be looking at it just now
        # the backup's disk in the data's place: a volume, but not this one
        backup.unmount(lazy=True)
        backup.mount(at=data.mount_point)
        await _until(lambda: b.volumes.by_name("data").state is VolumeState.FOREIGN)
        told = ("wrong disk", "already in use as another")
        await _until(lambda: any(each in b.volumes.by_name("data").reason for each in told))
        with pytest.raises(NoDurableStorage):
            await b.store("studies/a/b/3.dcm", b"3")
        backup.unmount()
        backup.mount(at=backup_place)
        data.mount()
        await _until(lambda: len(b.volumes.healthy()) == 2)


@pytest.mark.spec("ST-1")
async def test_an_old_copy_of_a_volume_is_recognised(box, filesystem) -> None:
    data, clone = filesystem("data"), filesystem("clone", mounted=False)
    async with box(data=data.mount_point) as b:
        await b.store("studies/a/b/1.dcm", b"1")
    data.unmount()
    sh("cp", "--sparse=always", str(data.image), str(clone.image))
    data.mount()
    async with box(data=data.mount_point) as b:
        assert b.volumes.by_name("data").state is VolumeState.ONLINE
    data.unmount()
    clone.mount(at=data.mount_point)
    async with box(data=data.mount_point) as b:
        assert b.volumes.by_name("data").state is VolumeState.FOREIGN
        assert "old copy" in b.volumes.by_name("data").reason
        assert names_under(data.mount_point) == ["studies/a/b/1.dcm"]


@pytest.mark.spec("ST-3")
async def test_a_disk_that_turned_read_only_is_still_read(box, filesystem) -> None:
    data, backup = filesystem("data"), filesystem("backup")
    async with box(data=data.mount_point, backup=backup.mount_point) as b:
        await b.store("studies/a/b/1.dcm", b"1")
        sh("mount", "-o", "remount,ro", str(data.mount_point))
        assert (await b.store("studies/a/b/2.dcm", b"2")).copies == ("backup",)
        volume = b.volumes.by_name("data")
        await _until(lambda: volume.state is VolumeState.READONLY)
        assert await volume.head("studies/a/b/1.dcm", 10) == b"1"
        sh("mount", "-o", "remount,rw", str(data.mount_point))
        await _until(lambda: volume.state is VolumeState.ONLINE)


@pytest.mark.spec("ST-3")
async def test_killing_workers_again_and_again_loses_no_put(box, filesystem) -> None:
    data, backup = filesystem("data"), filesystem("backup")
    async with box(data=data.mount_point, backup=backup.mount_point) as b:
        volume = b.volumes.by_name("data")
        stop = False

        async def killer() -> None:
            while not stop:
                await asyncio.sleep(0.25)
                if volume.link is not None:
                    volume.link.process.send_signal(signal.SIGKILL)

        killing = asyncio.ensure_future(killer())
        placed = {}
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            key = f"studies/a/b/{len(placed)}.dcm"
            placed[key] = await b.store(key, key.encode() * 300)
            await asyncio.sleep(0.01)  # a fast machine must not fill the small disks
        stop = True
        await killing
        assert len(placed) > 20
        assert not any(p.degraded for p in placed.values())
        places = {"data": data.mount_point, "backup": backup.mount_point}
        for key, p in placed.items():
            for name in p.copies:
                assert (places[name] / key).read_bytes() == key.encode() * 300


async def test_an_operator_can_adopt_what_is_foreign(box, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/old.txt").write_bytes(b"old")
    async with box(data=tmp_path / "data") as b:
        volume = b.volumes.by_name("data")
        assert volume.state is VolumeState.FOREIGN
        assert "adopt" in volume.reason
        await b.volumes.adopt("data")
        await _until(lambda: volume.state is VolumeState.ONLINE)
        assert (tmp_path / "data/old.txt").read_bytes() == b"old"


@pytest.mark.spec("ST-1")
async def test_a_disk_without_a_marker_in_its_place_is_told_as_a_wrong_one(box, filesystem) -> None:
    data, other = filesystem("data"), filesystem("other")
    async with box(data=data.mount_point) as b:
        await b.store("studies/a/b/1.dcm", b"1")
    data.unmount()
    other.unmount()
    other.mount(at=data.mount_point)
    async with box(data=data.mount_point) as b:
        await _until(lambda: b.volumes.by_name("data").state is VolumeState.FOREIGN)
        assert "without a marker" in b.volumes.by_name("data").reason
    assert names_under(other.mount_point) == []
