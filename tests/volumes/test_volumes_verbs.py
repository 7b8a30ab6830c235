# SPDX-License-Identifier: Apache-2.0
"""What an operator may order of a volume, and what he is told when it makes no sense."""

import asyncio
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from scrigno.core.clock import SystemClock
from scrigno.core.counters import Counters
from scrigno.core.errors import CommandError
from scrigno.core.events import EventBus
from scrigno.volumes.states import ErrorKind, Role, VolumeError, VolumeSpec, VolumeState
from scrigno.volumes.volume import Volumes
from scrigno.volumes.warden import Timing

pytestmark = pytest.mark.spec("ST-3")
PATIENT = Timing(
    op_timeout_s=2.0,
    kernel_every_s=0.2,
    probe_every_s=0.5,
    fresh_write_s=0.2,
    retry_s=0.1,
    retry_most_s=0.3,
    proof_every_s=0.05,
    hold_s=600.0,
)


async def _until(condition, limit_s: float = 30.0) -> None:
    async with asyncio.timeout(limit_s):
        while not condition():
            await asyncio.sleep(0.02)


def _folders(tmp_path: Path, *names: str) -> dict[str, Path]:
    for name in names:
        (tmp_path / name).mkdir()
    return {name: tmp_path / name for name in names}


async def test_a_paused_volume_is_left_alone_also_after_a_restart(box, filesystem) -> None:
    data, backup = filesystem("data"), filesystem("backup")
    async with box(data=data.mount_point, backup=backup.mount_point) as b:
        await b.store("studies/a/b/1.dcm", b"1")
        volume = b.volumes.by_name("data")
        await b.volumes.pause("data", "a new cable")
        assert (volume.state, volume.paused) == (VolumeState.OFFLINE, True)
        assert volume.reason == "paused by an operator: a new cable"
        assert not volume.readable
        data.unmount()  # nothing holds it
        data.mount()
        await asyncio.sleep(0.4)
        assert volume.state is VolumeState.OFFLINE
        assert (await b.store("studies/a/b/2.dcm", b"2")).copies == ("backup",)
        with pytest.raises(VolumeError) as caught:
            await volume.head("studies/a/b/1.dcm", 1)
        assert caught.value.kind is ErrorKind.OFFLINE
    async with box(data=data.mount_point, backup=backup.mount_point) as b:
        volume = b.volumes.by_name("data")
        status = volume.status()
        assert (status.state, status.paused) == (VolumeState.OFFLINE, True)
        assert status.operator_reason == "a new cable"
        assert status.since is not None
        for refused in (b.volumes.pause("data", "again"), b.volumes.force("data")):
            with pytest.raises(CommandError, match="is paused: a new cable") as why:
                await refused
            assert why.value.next_step
        with pytest.raises(CommandError, match="is paused"):
            await b.volumes.adopt("data")
        await b.volumes.resume("data")
        await _until(lambda: volume.state is VolumeState.ONLINE)  # it did not fall: no waiting
        assert not volume.paused
        assert [after for name, after in b.changes if name == "data"][-2:] == [
            "recovering",
            "online",
        ]
        assert (await b.store("studies/a/b/3.dcm", b"3")).copies == ("data",)
    async with box(data=data.mount_point, backup=backup.mount_point) as b:
        assert b.volumes.by_name("data").state is VolumeState.ONLINE


async def test_the_last_volume_that_takes_images_is_neither_paused_nor_retired(
    box, tmp_path: Path
) -> None:
    folders = _folders(tmp_path, "data", "backup")
    async with box(**folders) as b:
        await b.volumes.pause("backup", "x")
        for refused in (b.volumes.pause("data", "x"), b.volumes.retire("data")):
            with pytest.raises(CommandError, match="no other volume takes images") as why:
                await refused
            assert why.value.next_step
        assert b.volumes.by_name("data").state is VolumeState.ONLINE
        await b.volumes.retire("backup")  # it takes none away


async def test_orders_that_make_no_sense_are_refused_in_words(box, tmp_path: Path) -> None:
    async with box(**_folders(tmp_path, "data", "backup")) as b:
        for refused, words in (
            (b.volumes.resume("data"), "is not paused, it is online"),
            (b.volumes.force("data"), "nothing to force"),
        ):
            with pytest.raises(CommandError, match=words):
                await refused
        with pytest.raises(KeyError):
            await b.volumes.pause("nothing", "x")
        await b.volumes.adopt("data")  # it is ours: nothing to do
        (tmp_path / "state").chmod(0o700)
        state = tmp_path / "state"
        state.rename(tmp_path / "elsewhere")
        with pytest.raises(CommandError, match="could not be kept") as why:
            await b.volumes.pause("data", "x")
        assert "system disk" in why.value.next_step
        assert b.volumes.by_name("data").state is VolumeState.ONLINE
        (tmp_path / "elsewhere").rename(state)


async def test_force_leaves_out_the_waiting_and_nothing_else(box, tmp_path: Path) -> None:
    folders = _folders(tmp_path, "data", "backup")
    async with box(PATIENT, **folders) as b:
        volume = b.volumes.by_name("data")
        caught_up = False
        b.volumes.caught_up = lambda name: caught_up or name != "data"
        folders["data"].rename(tmp_path / "away")
        await _until(lambda: volume.state is VolumeState.ABSENT)
        await b.volumes.force("data")
        await asyncio.sleep(0.3)
        assert volume.state is VolumeState.ABSENT  # not without the disk
        volume_falls = b.changes.count(("data", "absent"))
        (tmp_path / "away").rename(folders["data"])
        await _until(lambda: volume.state is VolumeState.RECOVERING)
        await _until(lambda: "gets the images it has missed" in volume.reason)
        caught_up = True
        await _until(lambda: volume.state is VolumeState.ONLINE)
        assert volume_falls == 1


async def test_without_force_it_is_watched_for_the_whole_time(box, tmp_path: Path) -> None:
    folders = _folders(tmp_path, "data", "backup")
    async with box(PATIENT, **folders) as b:
        volume = b.volumes.by_name("data")
        folders["data"].rename(tmp_path / "away")
        await _until(lambda: volume.state is VolumeState.ABSENT)
        (tmp_path / "away").rename(folders["data"])
        await _until(lambda: "is being watched: " in volume.reason)
        assert " of 600 s" in volume.reason
        assert volume.state is VolumeState.RECOVERING
        assert volume.readable
        await b.volumes.force("data")
        await _until(lambda: volume.state is VolumeState.ONLINE)


async def test_a_retired_disk_is_named_when_it_comes_back_and_can_be_taken_in_again(
    box, filesystem
) -> None:
    data, backup, new = filesystem("data"), filesystem("backup"), filesystem("new")
    place = backup.mount_point
    new.unmount()
    async with box(data=data.mount_point, backup=place) as b:
        volume = b.volumes.by_name("backup")
        await b.volumes.retire("backup")
        assert (volume.state, volume.reason) == (VolumeState.OFFLINE, "retired by an operator")
        for refused in (b.volumes.retire("backup"), b.volumes.resume("backup")):
            with pytest.raises(CommandError, match="is retired"):
                await refused
        with pytest.raises(CommandError, match="is retired"):
            await b.volumes.force("backup")
        # a bare mount point is not taken for a new disk by itself
        backup.unmount()
        await asyncio.sleep(0.4)
        assert list(place.iterdir()) == []
        new.mount(at=place)
        await b.volumes.adopt("backup")
        await _until(lambda: volume.state is VolumeState.ONLINE)
        uuid = volume.uuid
        new.unmount(lazy=True)
        backup.mount(at=place)
        await _until(lambda: volume.state is VolumeState.FOREIGN)
        assert "volume backup that was retired on " in volume.reason
        await b.volumes.adopt("backup")
        await _until(lambda: volume.state is VolumeState.ONLINE)
        assert volume.uuid != uuid


@pytest.mark.spec("ST-1", "ST-3")
async def test_a_disk_is_replaced_only_when_another_one_is_there(box, filesystem) -> None:
    data, backup, new = filesystem("data"), filesystem("backup"), filesystem("new")
    new.unmount()
    place = data.mount_point
    async with box(data=place, backup=backup.mount_point) as b:
        await b.store("studies/a/b/1.dcm", b"1")
        volume = b.volumes.by_name("data")
        before = volume.uuid
        data.unmount(lazy=True)
        await _until(lambda: volume.state is VolumeState.ABSENT)
        with pytest.raises(CommandError, match="nothing is mounted") as why:
            await b.volumes.adopt("data")
        assert "Mount the new disk" in why.value.next_step
        assert list(place.iterdir()) == []
        new.mount(at=place)
        await b.volumes.adopt("data")
        await _until(lambda: volume.state is VolumeState.ONLINE)
        assert volume.uuid != before
        new.unmount(lazy=True)
        data.mount(at=place)
        await _until(lambda: volume.state is VolumeState.FOREIGN)
        assert "volume data that was replaced on " in volume.reason


@pytest.mark.spec("ST-1")
async def test_a_volume_of_another_box_is_taken_over_only_by_force(box, tmp_path: Path) -> None:
    folders = _folders(tmp_path, "data", "backup")
    async with box(**folders):
        pass
    shutil.rmtree(tmp_path / "state")  # another box
    async with box(**folders) as b:
        volume = b.volumes.by_name("data")
        assert volume.state is VolumeState.FOREIGN
        assert "another box" in volume.reason
        with pytest.raises(CommandError, match="cannot be forced"):
            await b.volumes.force("data")
        with pytest.raises(CommandError, match="another box") as why:
            await b.volumes.adopt("data")
        assert "--force" in why.value.next_step
        await b.volumes.adopt("data", force=True)
        await _until(lambda: volume.state is VolumeState.ONLINE)


@pytest.mark.spec("ST-1")
async def test_volumes_are_configured_while_they_are_used(box, tmp_path: Path) -> None:
    folders = _folders(tmp_path, "data", "backup", "new")
    async with box(data=folders["data"], backup=folders["backup"]) as b:
        await b.store("studies/a/b/1.dcm", b"1")
        data, backup = (b.volumes.by_name(name) for name in ("data", "backup"))
        link = data.link
        swapped = [
            replace(data.spec, role=Role.BACKUP),
            replace(backup.spec, role=Role.DATA),
        ]
        await b.volumes.configure(swapped)
        assert [v.name for v in b.volumes.ordered] == ["backup", "data"]
        assert data.link is link  # it goes on undisturbed
        assert (await b.store("studies/a/b/2.dcm", b"2")).copies == ("backup",)
        # the same disk at another path
        folders["data"].rename(tmp_path / "moved")
        moved = VolumeSpec(name="data", role=Role.DATA, path=tmp_path / "moved")
        await b.volumes.configure([moved, swapped[1]])
        data = b.volumes.by_name("data")
        await _until(lambda: data.state is VolumeState.ONLINE)
        assert await data.head("studies/a/b/1.dcm", 1) == b"1"
        # another, empty folder is not that volume until it is adopted
        await b.volumes.configure([replace(moved, path=folders["new"]), swapped[1]])
        data = b.volumes.by_name("data")
        await _until(lambda: data.state is VolumeState.ABSENT)
        assert list(folders["new"].iterdir()) == []
        await b.volumes.adopt("data")
        await _until(lambda: data.state is VolumeState.ONLINE)
        # one leaves, and its name is free again
        await b.volumes.pause("data", "x")
        await b.volumes.configure([swapped[1]])
        assert [v.name for v in b.volumes.ordered] == ["backup"]
        await b.volumes.configure([swapped[1], replace(moved, path=folders["new"])])
        assert not b.volumes.by_name("data").paused
        await _until(lambda: b.volumes.by_name("data").state is VolumeState.ONLINE)


@pytest.mark.spec("ST-4")
async def test_the_disks_under_a_volume_are_named_when_it_goes_into_service(
    tmp_path: Path,
) -> None:
    folders = _folders(tmp_path, "data", "backup", "slow")
    asked: list[Path] = []
    answer = asyncio.Event()

    async def devices_of(path: Path) -> frozenset[str]:
        asked.append(path)
        if path.name == "slow":
            await answer.wait()
        if path.name == "backup":
            raise OSError("sysfs is not there")
        return frozenset({"wwn:1", "wwn:2"})

    (tmp_path / "link").symlink_to(folders["data"])
    paths = {"data": tmp_path / "link", "backup": folders["backup"], "slow": folders["slow"]}
    volumes = Volumes(
        [VolumeSpec(name=name, role=Role.DATA, path=path) for name, path in paths.items()],
        state_dir=tmp_path / "state",
        counters=Counters(),
        bus=EventBus(),
        clock=SystemClock(),
        devices_of=devices_of,
    )
    async with volumes:
        data, backup, slow = map(volumes.by_name, paths)
        assert data.devices == {"wwn:1", "wwn:2"} == data.status().devices
        assert folders["data"] in asked  # without links
        assert backup.devices == {f"dev:{backup.device}"}
        assert slow.state is VolumeState.ONLINE  # images do not wait for it
        assert slow.devices == {f"dev:{slow.device}"}
        answer.set()
        await _until(lambda: slow.devices == {"wwn:1", "wwn:2"})
