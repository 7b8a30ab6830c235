# SPDX-License-Identifier: Apache-2.0
"""btrfs RAID1 on two real loop devices, one of which really dies."""

import asyncio
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from loopfs import loop_filesystem, missing, sh
from scrigno.host import btrfs
from scrigno.host.arrays import Array, ArrayHealth, MemberState
from scrigno.host.blockdevices import DeviceKind, read_block_tree
from scrigno.host.facts import FactsUnreadable
from scrigno.host.linux_machine import LinuxMachine

SYS = Path("/sys")


@dataclass
class Pair:
    """A mounted btrfs mirror; the file of its second leg lies on a file system that can die."""

    point: Path
    first: str
    second: str
    uuid: str
    kill_second: Callable[[], None]

    def array(self) -> Array:
        return next(one for one in btrfs.read_arrays(SYS) if one.uuid == self.uuid)

    def write(self, name: str) -> None:
        sh("dd", "if=/dev/zero", f"of={self.point / name}", "bs=1M", "count=24", "conv=fsync")


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    if missing() or shutil.which("mkfs.btrfs", path="/usr/sbin:/usr/bin:/sbin:/bin") is None:
        pytest.skip(missing() or "needs mkfs.btrfs")
    with ExitStack() as stack:
        outer = stack.enter_context(loop_filesystem(tmp_path, "outer", kind="xfs"))
        devices = []
        for image in (tmp_path / "first.img", outer.mount_point / "second.img"):
            with image.open("wb") as file:
                file.truncate(160 << 20)
            devices.append(sh("losetup", "-f", "--show", str(image)))
            stack.callback(sh, "losetup", "-d", devices[-1], check=False)
        sh("mkfs.btrfs", "-q", "-f", "-L", "pair", "-d", "raid1", "-m", "raid1", *devices)
        uuid = sh("blkid", "-p", "-s", "UUID", "-o", "value", devices[0])
        point = tmp_path / "pair"
        point.mkdir()
        sh("mount", devices[0], str(point))
        stack.callback(sh, "umount", str(point), check=False)
        yield Pair(point, Path(devices[0]).name, Path(devices[1]).name, uuid, outer.shutdown)


@pytest.mark.spec("ST-4")
async def test_a_dead_leg_is_told_and_named_though_every_write_succeeds(pair: Pair) -> None:
    whole = await asyncio.to_thread(pair.array)
    assert (whole.name, whole.level, whole.health) == ("pair", "raid1", ArrayHealth.WHOLE)
    assert (whole.wanted, whole.degraded, whole.notes) == (2, 0, ())
    assert set(await asyncio.to_thread(btrfs.device_names, SYS, pair.uuid)) == {
        pair.first,
        pair.second,
    }

    pair.kill_second()
    pair.write("after")  # no error to the writer

    arrays = await LinuxMachine().arrays()
    array = next(one for one in arrays.found if one.uuid == pair.uuid)
    assert (array.health, array.degraded, array.state) == (ArrayHealth.DEGRADED, 1, "errors")
    assert [(m.device, m.state) for m in array.members] == [
        (pair.first, MemberState.IN_SYNC),
        (pair.second, MemberState.ERRORS),
    ]
    assert array.members[1].errors > 0
    assert "write_errs" in array.members[1].words

    sh("umount", str(pair.point))
    sh("mount", "-o", "degraded", f"/dev/{pair.first}", str(pair.point))
    for number in range(8):  # until a chunk is full and the next one is made with one copy
        pair.write(f"degraded {number}")
        gone = await asyncio.to_thread(pair.array)
        if gone.notes:
            break
    assert (gone.health, gone.state, gone.degraded) == (ArrayHealth.DEGRADED, "missing", 1)
    assert gone.members[1].state is MemberState.MISSING
    assert any("data" in note and "single" in note for note in gone.notes)


@pytest.mark.spec("ST-4")
async def test_subvolumes_and_loop_files_of_one_disk_are_one_physical_device(
    pair: Pair, tmp_path: Path
) -> None:
    sh("btrfs", "subvolume", "create", str(pair.point / "sub"))
    storage = await LinuxMachine().storage()
    on_pair = storage.behind(pair.point / "sub")
    assert {pair.first, pair.second} <= on_pair.devices
    assert [array.uuid for array in on_pair.arrays] == [pair.uuid]
    assert on_pair.disks == storage.physical_devices(tmp_path)


def test_the_loop_devices_of_a_mirror_know_their_files(pair: Pair) -> None:
    tree = read_block_tree(SYS, Path("/run"))
    device = tree.devices[pair.first]
    assert device.kind is DeviceKind.LOOP
    assert device.backing_file.endswith("first.img")


def test_device_stats_name_the_device(capture: Callable[[str], str]) -> None:
    whole = btrfs.parse_device_stats(capture("btrfs-6.2-stats-whole.json"))
    assert [one.total for one in whole] == [0, 0]
    dead = btrfs.parse_device_stats(capture("btrfs-6.2-stats-dead-leg.json"))
    assert (dead[1].device, dead[1].write, dead[1].flush) == ("/dev/loop2", 7, 1)
    gone = btrfs.parse_device_stats(capture("btrfs-6.2-stats-missing.json"))
    assert (gone[1].device, gone[1].total) == ("<missing disk>", 10)


def test_counters_without_a_number_are_refused() -> None:
    with pytest.raises(FactsUnreadable):
        btrfs.parse_error_stats("write_errs many\n")
