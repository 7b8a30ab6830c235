# SPDX-License-Identifier: Apache-2.0
"""A volume that fell comes back only when it is the right one, has held, and has caught up."""

import asyncio
import contextlib
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from loopfs import LoopFilesystem, need_loop, sh
from scrigno.volumes.states import ErrorKind, VolumeError, VolumeState
from scrigno.volumes.warden import Timing

pytestmark = pytest.mark.spec("ST-3")
QUICK = Timing(
    op_timeout_s=2.0,
    hang_s=0.5,
    kernel_every_s=0.2,
    probe_every_s=0.4,
    fresh_write_s=0.1,
    retry_s=0.1,
    retry_most_s=0.2,
    proof_every_s=0.1,
    hold_s=1.0,
)


async def _until(condition, limit_s: float = 15.0) -> float:
    began = time.monotonic()
    async with asyncio.timeout(limit_s):
        while not condition():
            await asyncio.sleep(0.02)
    return time.monotonic() - began


@pytest.mark.timing
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
async def test_after_a_death_it_proves_itself_holds_and_catches_up_before_it_takes_images(
    box, filesystem, kind: str
) -> None:
    data, backup = filesystem("data", kind=kind), filesystem("backup")
    async with box(QUICK, data=data.mount_point, backup=backup.mount_point) as b:
        volume = b.volumes.by_name("data")
        owed = True
        b.volumes.caught_up = lambda name: not (name == "data" and owed)
        await b.store("studies/a/b/1.dcm", b"1")
        data.shutdown(2)
        await _until(lambda: volume.state is VolumeState.OFFLINE)
        await _until(lambda: _unmounted(data))
        data.mount()
        await _until(lambda: volume.state is VolumeState.RECOVERING)
        seen = {volume.reason}
        began = time.monotonic()
        while "missed" not in volume.reason:
            assert volume.state is VolumeState.RECOVERING
            assert (await b.store(f"studies/{len(seen)}/b/2.dcm", b"2")).copies == ("backup",)
            seen.add(volume.reason)
            await asyncio.sleep(0.02)
            assert time.monotonic() - began < 10
        assert time.monotonic() - began > 0.5
        assert any("probes are good" in reason for reason in seen)
        assert any("being watched" in reason for reason in seen)
        assert volume.readable
        assert await volume.head("studies/a/b/1.dcm", 1) == b"1"
        await asyncio.sleep(0.5)
        assert volume.state is VolumeState.RECOVERING
        owed = False
        await _until(lambda: volume.state is VolumeState.ONLINE)
        assert (await b.store("studies/a/b/3.dcm", b"3")).copies == ("data",)


def _unmounted(disk: LoopFilesystem) -> bool:
    try:
        disk.unmount()
    except RuntimeError:
        return False
    return True


async def test_a_volume_that_was_absent_at_the_start_is_not_kept_waiting(box, filesystem) -> None:
    data = filesystem("data")
    slow = replace(QUICK, hold_s=600.0)
    async with box(slow, data=data.mount_point) as b:
        assert b.volumes.by_name("data").state is VolumeState.ONLINE  # a first start: at once
    data.unmount()
    async with box(slow, data=data.mount_point) as b:
        volume = b.volumes.by_name("data")
        assert volume.state is VolumeState.ABSENT
        assert "nothing is mounted at" in volume.reason
        data.mount()
        await _until(lambda: volume.state is VolumeState.ONLINE, 5)
        assert [after for _, after in b.changes] == ["absent", "recovering", "online"]


async def test_a_flapping_disk_is_shown_online_three_times_at_most(box, tmp_path: Path) -> None:
    for name in ("data", "backup"):
        (tmp_path / name).mkdir()
    flapping = replace(QUICK, probe_every_s=0.05, proof_every_s=0.03, hold_s=0.8)
    async with box(flapping, data=tmp_path / "data", backup=tmp_path / "backup") as b:
        volume = b.volumes.by_name("data")
        for number in range(20):  # on and off, each a sixth of the waiting time
            (tmp_path / "data").rename(tmp_path / "away")
            await asyncio.sleep(0.08)
            assert (await b.store(f"studies/{number}/b/1.dcm", b"1")).copies == ("backup",)
            (tmp_path / "away").rename(tmp_path / "data")
            await asyncio.sleep(0.1)
        assert b.changes.count(("data", "online")) <= 3
        assert b.changes.count(("backup", "online")) == 1
        await _until(lambda: volume.state is VolumeState.ONLINE)


async def test_errors_again_and_again_are_no_longer_dispelled_by_a_good_probe(
    box, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "backup").mkdir()
    async with box(QUICK, data=tmp_path / "data", backup=tmp_path / "backup") as b:
        volume = b.volumes.by_name("data")
        for _ in range(6):
            if volume.link is not None:
                error = VolumeError("data", ErrorKind.IO, "Input/output error (EIO)")
                volume.on_error(error, None)
            await asyncio.sleep(0.15)
        assert volume.state is VolumeState.RECOVERING
        assert b.changes.count(("data", "online")) == 3
        assert b.changes.count(("data", "offline")) == 0
        await _until(lambda: volume.state is VolumeState.ONLINE)


async def test_a_file_that_cannot_be_read_is_no_failure_of_the_disk(box, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    async with box(QUICK, data=tmp_path / "data") as b:
        volume = b.volumes.by_name("data")
        (tmp_path / "data/studies/bad.dcm").mkdir(parents=True)
        for _ in range(5):
            with pytest.raises(VolumeError) as caught:
                await volume.head("studies/bad.dcm", 10)
            assert caught.value.kind is ErrorKind.IO
            await asyncio.sleep(0.05)
        assert volume.state is VolumeState.ONLINE
        assert b.changes == [("data", "online")]


@pytest.mark.spec("ST-7", "ST-3")
async def test_it_is_full_by_its_level_before_any_write_is_refused(box, filesystem) -> None:
    data, backup = filesystem("data"), filesystem("backup", size=200 << 20)
    async with box(QUICK, data=data.mount_point, backup=backup.mount_point) as b:
        volume = b.volumes.by_name("data")
        number = 0
        while volume.state is VolumeState.ONLINE:
            placed = await b.store(f"studies/a/b/{number}.dcm", bytes(200_000))
            number += 1
            await asyncio.sleep(0)
        assert volume.state is VolumeState.FULL
        assert "are kept in reserve" in volume.reason
        assert b.counters.value("volume_errors", volume="data", kind="full") == 0
        assert (await b.store("studies/a/c/1.dcm", bytes(1000))).copies == ("backup",)
        # a little room does not turn it back and forth
        await volume.remove("studies/a/b/0.dcm")
        volume.doubt.set()
        await asyncio.sleep(0.6)
        assert volume.state is VolumeState.FULL
        assert await volume.head("studies/a/b/1.dcm", 3) == bytes(3)
        for one in range(1, 16):
            await volume.remove(f"studies/a/b/{one}.dcm")
        await _until(lambda: volume.state is VolumeState.ONLINE)
        assert placed
        sealed = await b.sealed(bytes(70 << 20))
        with pytest.raises(VolumeError) as caught:  # one that is too large makes nothing full
            await volume.put("studies/a/big.dcm", fd=sealed.fd, size=70 << 20, digest="00" * 32)
        sealed.close()
        assert caught.value.kind is ErrorKind.NO_ROOM
        assert volume.state is VolumeState.ONLINE


@pytest.mark.spec("ST-7", "ST-3")
async def test_without_a_free_inode_it_is_full_and_says_so(box, tmp_path: Path) -> None:
    need_loop()
    (tmp_path / "backup").mkdir()
    disk = LoopFilesystem(tmp_path / "loops", "data", "ext4", None, options=("-N", "32"))
    with contextlib.closing(disk):
        disk.mount()
        async with box(QUICK, data=disk.mount_point, backup=tmp_path / "backup") as b:
            volume = b.volumes.by_name("data")
            assert volume.status().total_inodes == 64
            number = 0
            while (await b.store(f"studies/{number}/b/1.dcm", b"1")).copies == ("data",):
                number += 1
            await _until(lambda: volume.reason == "no inode is free")
            assert volume.state is VolumeState.FULL
            assert volume.status().free_inodes == 0
            assert await volume.head("studies/0/b/1.dcm", 3) == b"1"
            for one in range(3):
                await volume.remove(f"studies/{one}/b/1.dcm")
            await _until(lambda: volume.state is VolumeState.ONLINE)


async def test_a_disk_that_refuses_us_is_read_and_says_why(box, filesystem) -> None:
    data, backup = filesystem("data"), filesystem("backup")
    async with box(QUICK, data=data.mount_point, backup=backup.mount_point) as b:
        await b.store("studies/a/b/1.dcm", b"1")
        volume = b.volumes.by_name("data")
        sh("chattr", "+i", str(data.mount_point / "studies/a/b"), str(data.mount_point))
        try:
            assert (await b.store("studies/a/b/2.dcm", b"2")).copies == ("backup",)
            await _until(lambda: volume.state is VolumeState.READONLY)
            assert "EPERM" in volume.reason
            await asyncio.sleep(1)
            assert volume.state is VolumeState.READONLY
            assert await volume.head("studies/a/b/1.dcm", 3) == b"1"
        finally:
            sh("chattr", "-i", str(data.mount_point), str(data.mount_point / "studies/a/b"))
        await _until(lambda: volume.state is VolumeState.ONLINE)


@pytest.mark.spec("ST-1", "ST-3")
async def test_an_old_copy_mounted_in_service_is_never_written_to(box, filesystem) -> None:
    data, clone = filesystem("data"), filesystem("clone", mounted=False)
    async with box(QUICK, data=data.mount_point):
        pass
    data.unmount()
    sh("cp", "--sparse=always", str(data.image), str(clone.image))
    data.mount()
    async with box(QUICK, data=data.mount_point) as b:
        volume = b.volumes.by_name("data")
        data.unmount(lazy=True)
        clone.mount(at=data.mount_point)
        await _until(lambda: volume.state is VolumeState.FOREIGN)
        assert "old copy" in volume.reason
        await asyncio.sleep(0.5)
        assert {p.name for p in clone.mount_point.iterdir()} <= {
            "lost+found",
            ".scrigno-volume.json",
            ".scrigno-probe",
        }
        assert volume.link is None
        clone.unmount(lazy=True)
        data.mount()
        await _until(lambda: volume.state is VolumeState.ONLINE)


async def test_a_worker_that_dies_again_and_again_takes_its_volume_out(box, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "backup").mkdir()
    async with box(QUICK, data=tmp_path / "data", backup=tmp_path / "backup") as b:
        volume = b.volumes.by_name("data")
        async with asyncio.timeout(20):
            while volume.state is not VolumeState.OFFLINE:
                if volume.link is not None:
                    volume.link.process.send_signal(signal.SIGKILL)
                await asyncio.sleep(0.02)
        assert b.counters.value("volume_worker_deaths", volume="data") == 6
        await _until(lambda: volume.state is VolumeState.ONLINE)


async def test_when_it_changed_is_told(box, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    async with box(QUICK, data=tmp_path / "data") as b:
        volume = b.volumes.by_name("data")
        before, moment = volume.since_s, volume.status().since
        (tmp_path / "data").rename(tmp_path / "away")
        await _until(lambda: volume.state is VolumeState.ABSENT)
        assert volume.since_s > before
        assert volume.status().since > moment


async def test_a_fault_of_ours_does_not_end_the_looking_after(
    box, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "data").mkdir()
    async with box(QUICK, data=tmp_path / "data") as b:
        volume = b.volumes.by_name("data")

        def fault(_: str) -> bool:
            raise KeyError("nobody thought of this")

        b.volumes.caught_up = fault
        (tmp_path / "data").rename(tmp_path / "away")
        await _until(lambda: volume.state is VolumeState.ABSENT)
        (tmp_path / "away").rename(tmp_path / "data")
        await _until(lambda: "nobody thought of this" in volume.reason)
        b.volumes.caught_up = lambda _: True
        await _until(lambda: volume.state is VolumeState.ONLINE)
        assert "looking after it failed" in caplog.text
