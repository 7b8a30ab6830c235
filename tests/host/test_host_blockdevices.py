# SPDX-License-Identifier: Apache-2.0
"""Disks, and what lies under a device: captured trees and this machine's own."""

import os
import subprocess  # noqa: TID251 - a writer that hangs must be another process
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from loopfs import loop_filesystem, sh
from scrigno.host.blockdevices import (
    BlockTree,
    DeviceKind,
    IoCounters,
    hung,
    parse_io_counters,
    read_block_tree,
    read_io_counters,
)

Sysfs = Callable[[str], Path]
RUN = Path("/nonexistent")
A = "wwn:naa.5000c50000000a01"
B = "wwn:naa.5000c50000000a02"
C = "wwn:naa.5000c50000000a03"
D = "wwn:naa.5000c50000000a04"
E = "wwn:naa.5000c50000000a05"


def _tree(root: Path) -> BlockTree:
    return read_block_tree(root, RUN)


@pytest.mark.spec("ST-4")
def test_disks_are_known_by_wwn_and_serial(sysfs: Sysfs) -> None:
    disks = {disk.name: disk for disk in _tree(sysfs("bare")).disks()}
    assert disks["sda"].disk == A
    assert (disks["sda"].serial, disks["sda"].model) == ("DISKA0001", "QEMU HARDDISK")
    assert disks["sda"].size_bytes == 96 << 20
    assert disks["sda"].state == "running"
    assert disks["sdf"].serial == "SATADISK01"
    assert disks["nvme0n1"].serial == "NVMEDISK01"
    assert disks["nvme0n1"].disk is not None
    assert disks["nvme0n1"].disk.startswith("wwn:nvme.")
    assert disks["vda"].serial == "OUTDISK"


@pytest.mark.spec("ST-4")
def test_an_array_its_partitions_and_its_disks_are_found_from_a_device_number(
    sysfs: Sysfs,
) -> None:
    tree = _tree(sysfs("md-clean"))
    assert tree.physical_devices("9:0") == {A, B}
    assert tree.physical_devices("8:1") == tree.physical_devices("8:0") == {A}
    assert tree.physical_devices("0:51") == frozenset()
    assert {one.name for one in tree.under("md0")} == {"md0", "sda1", "sda", "sdb1", "sdb"}


@pytest.mark.spec("ST-4")
def test_a_logical_volume_lies_on_its_disks_through_every_layer(sysfs: Sysfs) -> None:
    tree = _tree(sysfs("lvm"))
    mirror = next(one for one in tree.devices.values() if one.mapper_name == "vg0-mirror")
    plain = next(one for one in tree.devices.values() if one.mapper_name == "vg0-plain")
    assert tree.physical_devices(mirror.number) == {D, E}
    assert tree.physical_devices(plain.number) == {D}
    assert mirror.kind is DeviceKind.MAPPER
    after = _tree(sysfs("lvm-pulled"))
    assert after.physical_devices(mirror.number) == {D}


def test_a_disk_that_tells_no_name_is_known_by_its_slot(sysfs: Sysfs) -> None:
    root = sysfs("bare")
    (root / "block/sda/device/vpd_pg80").unlink()
    (root / "block/sda/device/wwid").unlink()
    disk = _tree(root).devices["sda"].disk
    assert disk == "slot:pci0000:00/0000:00:02.0/virtio0/host0/target0:0:1/0:0:1:0"


def test_a_scsi_name_made_of_model_and_serial_is_no_wwn(sysfs: Sysfs) -> None:
    root = sysfs("bare")
    (root / "block/sda/device/wwid").write_text("t10.ATA     QEMU HARDDISK  DISKA0001\n")
    assert _tree(root).devices["sda"].disk == "serial:QEMU HARDDISK:DISKA0001"


def test_a_serial_that_every_bridge_gives_names_no_disk(sysfs: Sysfs) -> None:
    root = sysfs("bare")
    for name in ("sda", "sdb"):
        (root / f"block/{name}/device/wwid").unlink()
        (root / f"block/{name}/device/vpd_pg80").write_bytes(b"\0\x80\0\x0c000000000000")
    disks = _tree(root).devices
    assert disks["sda"].disk != disks["sdb"].disk
    assert disks["sda"].disk is not None
    assert disks["sda"].disk.startswith("slot:")


def test_only_a_disk_udev_saw_empty_is_blank(sysfs: Sysfs, tmp_path: Path) -> None:
    root = sysfs("bare")
    records = tmp_path / "run/udev/data"
    records.mkdir(parents=True)
    (records / "b8:32").write_text("S:disk/by-id/x\nE:ID_SERIAL_SHORT=DISKC0001\n")
    (records / "b8:0").write_text("E:ID_SERIAL_SHORT=DISKA0001\nE:ID_PART_TABLE_TYPE=dos\n")
    (records / "b8:80").write_text("E:ID_FS_TYPE=ext4\n")
    tree = read_block_tree(root, tmp_path / "run")
    assert [disk.name for disk in tree.blank_disks()] == ["sdc"]
    assert not _tree(root).blank_disks()


def test_this_machines_own_disks_are_found_under_its_root() -> None:
    tree = read_block_tree(Path("/sys"), Path("/run"))
    number = os.stat("/").st_dev
    found = tree.physical_devices(f"{os.major(number)}:{os.minor(number)}")
    if not tree.disks():
        pytest.skip("a machine without disks")
    assert found <= {disk.disk for disk in tree.disks()}
    if tree.by_number(f"{os.major(number)}:{os.minor(number)}"):
        assert found
    counters = read_io_counters(Path("/sys"), 0.0)
    assert all(counters[disk.name].completed >= 0 for disk in tree.disks())


def _counters(at_s: float, *, completed: int, in_flight: int) -> IoCounters:
    return IoCounters(at_s=at_s, completed=completed, in_flight=in_flight, busy_ms=0)


def test_requests_that_wait_while_nothing_ends_mean_a_hung_disk() -> None:
    before = _counters(0, completed=100, in_flight=7)
    assert hung(before, _counters(10, completed=100, in_flight=7), least_s=10)
    assert not hung(before, _counters(9, completed=100, in_flight=7), least_s=10)
    assert not hung(before, _counters(10, completed=101, in_flight=7), least_s=10)
    assert not hung(before, _counters(10, completed=100, in_flight=0), least_s=10)
    idle = _counters(0, completed=100, in_flight=0)
    assert not hung(idle, _counters(10, completed=100, in_flight=1), least_s=10)


def test_counters_of_every_kernel_form_are_read() -> None:
    old = "10 0 80 5 20 0 160 9 1 14 14"
    found = parse_io_counters(old, "", at_s=1)
    assert found is not None
    assert (found.completed, found.in_flight, found.busy_ms) == (30, 1, 14)
    new = parse_io_counters(f"{old} 3 0 8 1 4 2", "       5        2", at_s=1)
    assert new is not None
    assert (new.completed, new.in_flight) == (37, 7)
    assert parse_io_counters("", "", at_s=1) is None
    assert parse_io_counters("a b c d e f g h i j k", "x", at_s=1) is None


def test_a_disk_that_really_hangs_shows_it_and_one_that_works_does_not(tmp_path: Path) -> None:
    # a loop device on a file of a frozen file system takes requests and finishes none
    with loop_filesystem(tmp_path, "below") as below:
        image = below.mount_point / "disk.img"
        with image.open("wb") as file:
            file.truncate(8 << 20)
        device = sh("losetup", "-f", "--show", str(image))
        name = Path(device).name
        argv = ["dd", "if=/dev/zero", f"of={device}", "bs=64k", "count=16", "oflag=direct"]
        try:
            below.freeze()
            writer = subprocess.Popen(argv, stderr=subprocess.DEVNULL)
            time.sleep(0.3)
            before = read_io_counters(Path("/sys"), time.monotonic())[name]
            time.sleep(0.5)
            after = read_io_counters(Path("/sys"), time.monotonic())[name]
            assert hung(before, after, least_s=0.5)
            below.thaw()
            assert writer.wait(20) == 0
            healed = read_io_counters(Path("/sys"), time.monotonic())[name]
            assert not hung(before, healed, least_s=0.5)
            assert healed.completed > after.completed
        finally:
            below.thaw()
            sh("losetup", "-d", device, check=False)
