# SPDX-License-Identifier: Apache-2.0
"""btrfs RAID1 on two real loop devices, one of which really dies."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from btrfsraid import SYS, BtrfsPair, btrfs_pair
from loopfs import sh
from scrigno.host import btrfs
from scrigno.host.arrays import ArrayHealth, MemberState
from scrigno.host.blockdevices import DeviceKind, read_block_tree
from scrigno.host.facts import FactsUnreadable
from scrigno.host.linux_machine import LinuxMachine


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[BtrfsPair]:
    with btrfs_pair(tmp_path) as made:
        yield made


@pytest.mark.spec("ST-4")
async def test_a_dead_leg_is_told_and_named_though_every_write_succeeds(pair: BtrfsPair) -> None:
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

    pair.remount_degraded()
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
    pair: BtrfsPair, tmp_path: Path
) -> None:
    sh("btrfs", "subvolume", "create", str(pair.point / "sub"))
    storage = await LinuxMachine().storage()
    on_pair = storage.behind(pair.point / "sub")
    assert {pair.first, pair.second} <= on_pair.devices
    assert [array.uuid for array in on_pair.arrays] == [pair.uuid]
    assert on_pair.disks == storage.physical_devices(tmp_path)


def test_the_loop_devices_of_a_mirror_know_their_files(pair: BtrfsPair) -> None:
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
