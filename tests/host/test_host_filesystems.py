# SPDX-License-Identifier: Apache-2.0
"""File systems that really break, and what the kernel says of them without being touched."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from loopfs import loop_filesystem, sh
from scrigno.host.facts import FactsUnreadable
from scrigno.host.filesystems import FileSystemState, mount_of, parse_mountinfo
from scrigno.host.linux_machine import LinuxMachine


async def _state(point: Path) -> FileSystemState:
    states = await LinuxMachine().file_systems()
    return next(one for one in states if one.mount.point == str(point))


@pytest.mark.spec("AD-11")
async def test_an_ext4_error_is_counted_and_closes_it_to_writes(tmp_path: Path) -> None:
    with loop_filesystem(tmp_path, "ill", mounted=False) as made:
        made.mount("-o", "errors=remount-ro")
        well = await _state(made.mount_point)
        assert (well.errors, well.first_error_at, well.writable) == (0, None, True)
        name = Path(made.device).name
        Path(f"/sys/fs/ext4/{name}/trigger_fs_error").write_text("x")
        ill = await _state(made.mount_point)
        assert ill.errors == 1
        assert ill.first_error_at is not None
        assert datetime.now(UTC) - ill.first_error_at < timedelta(minutes=5)
        assert not ill.writable


@pytest.mark.spec("AD-11")
async def test_an_ext4_that_goes_on_after_an_error_is_counted_all_the_same(tmp_path: Path) -> None:
    with loop_filesystem(tmp_path, "deaf", mounted=False) as made:
        made.mount("-o", "errors=continue")
        Path(f"/sys/fs/ext4/{Path(made.device).name}/trigger_fs_error").write_text("x")
        (made.mount_point / "still").write_bytes(b"writes")
        state = await _state(made.mount_point)
        assert (state.errors, state.writable) == (1, True)


@pytest.mark.spec("AD-11")
async def test_an_ext4_that_shut_down_is_told_by_the_mount_table(tmp_path: Path) -> None:
    with loop_filesystem(tmp_path, "dead") as made:
        made.shutdown()
        state = await _state(made.mount_point)
        assert state.mount.shut_down
        assert not state.mount.read_only
        assert not state.writable


async def test_an_xfs_that_repeats_failed_writes_for_ever_is_told(tmp_path: Path) -> None:
    with loop_filesystem(tmp_path, "patient", kind="xfs") as made:
        before = await _state(made.mount_point)
        assert {"EIO", "default"} <= set(before.retries_for_ever)
        at = Path(f"/sys/fs/xfs/{Path(made.device).name}/error/metadata/EIO/max_retries")
        at.write_text("5")
        assert "EIO" not in (await _state(made.mount_point)).retries_for_ever


async def test_a_volume_on_a_loop_file_lies_on_the_disk_of_the_file(tmp_path: Path) -> None:
    with loop_filesystem(tmp_path, "inner") as made:
        storage = await LinuxMachine().storage()
        behind = storage.behind(made.mount_point / "deep" / "inside")
        assert Path(made.device).name in behind.devices
        assert behind.disks == storage.physical_devices(tmp_path)
        assert behind.mount is not None
        assert behind.mount.point == str(made.mount_point)


LINES = """\
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
44 27 9:0 / /srv/my\\040data rw,relatime shared:5 master:2 - ext4 /dev/md0 rw,emergency_ro
45 27 0:39 /sub /srv/b rw - btrfs /dev/sda1 ro,subvol=/sub
46 27 8:1 / /srv/b rw - xfs /dev/sda1 rw
"""


def test_the_mount_table_is_read_with_its_escapes_and_optional_fields() -> None:
    root, data, under, over = parse_mountinfo(LINES)
    assert data.point == "/srv/my data"
    assert data.emergency_read_only
    assert not data.read_only
    assert under.read_only
    mounts = (root, data, under, over)
    assert mount_of(Path("/srv/b/x"), mounts) is over
    assert mount_of(Path("/srv/bb"), mounts) is root
    assert mount_of(Path("/srv/my data"), mounts) is data


@pytest.mark.parametrize("line", ["x", "a b c d e f - g h i", "1 2 3 4 5 6 - x"])
def test_a_mount_table_of_another_form_is_refused(line: str) -> None:
    with pytest.raises(FactsUnreadable):
        parse_mountinfo(line)


def test_this_machines_mounts_are_readable() -> None:
    table = sh("cat", "/proc/self/mountinfo")
    assert any(mount.point == "/" for mount in parse_mountinfo(table))
