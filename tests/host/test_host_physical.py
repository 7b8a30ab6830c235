# SPDX-License-Identifier: Apache-2.0
"""What paths physically stand on, and being told of changes."""

import asyncio
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from btrfsraid import btrfs_pair
from captured_sysfs import build_captured
from loopfs import loop_filesystem, sh
from scrigno.host.blockdevices import BlockTree, read_block_tree
from scrigno.host.facts import NotAvailable
from scrigno.host.filesystems import mount_of, parse_mountinfo
from scrigno.host.linux_machine import LinuxMachine
from scrigno.host.machine import KernelView
from scrigno.host.mounts import KernelFileWatch, StorageWatch
from scrigno.host.physical import PhysicalDevices, physical_names, plain_path
from scrigno.host.process import Completed
from scrigno.host.storage import StorageMap

Sysfs = Callable[[str], Path]
NOTHING = BlockTree(devices={})


async def _of(path: Path) -> frozenset[str]:
    return await PhysicalDevices().devices_of(path)


@pytest.mark.spec("ST-2", "ST-4")
async def test_folders_and_loop_files_of_one_disk_are_one_device(tmp_path: Path) -> None:
    under = await _of(tmp_path)
    assert len(under) == 1
    with loop_filesystem(tmp_path, "one") as one, loop_filesystem(tmp_path, "two") as two:
        assert await _of(one.mount_point) == await _of(two.mount_point) == under
        with loop_filesystem(one.mount_point / "in", "inner", size=32 << 20) as inner:
            assert await _of(inner.mount_point / "not" / "there") == under
    assert await _of(tmp_path / "nothing here") == under


@pytest.mark.spec("ST-4")
async def test_the_legs_of_a_mirror_and_its_subvolumes_are_followed(tmp_path: Path) -> None:
    under = await _of(tmp_path)
    with btrfs_pair(tmp_path) as pair:
        sh("btrfs", "subvolume", "create", str(pair.point / "sub"))
        assert await _of(pair.point / "sub") == under


@pytest.mark.spec("ST-4")
async def test_a_dead_or_frozen_disk_does_not_keep_the_answer(tmp_path: Path) -> None:
    under = await _of(tmp_path)
    with loop_filesystem(tmp_path, "one") as one:
        one.freeze()
        async with asyncio.timeout(3):
            assert await _of(one.mount_point / "deep" / "inside") == under
        one.thaw()
        one.shutdown()
        assert await _of(one.mount_point) == under


async def test_memory_is_one_device_whatever_is_mounted_of_it(tmp_path: Path) -> None:
    with loop_filesystem(tmp_path, "one", mounted=False) as one:  # for its clean-up
        sh("mount", "-t", "tmpfs", "tmpfs", str(one.mount_point))
        one.mounted = True
        assert await _of(one.mount_point / "x") == {"memory"}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("30 1 0:40 / /v rw - nfs4 nas.example:/export/a rw", {"host:nas.example"}),
        ("30 1 0:40 / /v rw - nfs [fe80::1]:/export rw", {"host:fe80::1"}),
        ("30 1 0:41 / /v rw - cifs //NAS/pacs rw", {"host:nas"}),
        ("30 1 0:42 / /v rw - zfs tank/data/sub rw", {"zfs:tank"}),
        ("30 1 0:43 / /v rw - fuse.sshfs me@there:/x rw", {f"dev:{os.makedev(0, 43)}"}),
        ("30 1 8:99 / /v rw - ext4 /dev/gone rw", {f"dev:{os.makedev(8, 99)}"}),
        ("30 1 0:44 / /v rw - btrfs /dev/gone rw", {f"dev:{os.makedev(0, 44)}"}),
        ("30 1 0:45 / /v rw - nfs strange rw", {f"dev:{os.makedev(0, 45)}"}),
    ],
)
@pytest.mark.spec("ST-9")
def test_what_has_no_disk_here_has_a_name_of_its_own(line: str, expected: set[str]) -> None:
    storage = StorageMap(
        tree=NOTHING, mounts=parse_mountinfo(f"1 1 0:2 / / rw - rootfs x rw\n{line}\n")
    )
    assert physical_names(Path("/v/data"), storage) == expected


def test_without_any_mount_nothing_is_said() -> None:
    assert physical_names(Path("/v"), StorageMap(tree=NOTHING, mounts=())) == frozenset()


@pytest.mark.spec("ST-4")
def test_the_disks_of_captured_arrays_are_named_by_their_ids(sysfs: Sysfs) -> None:
    mounts = parse_mountinfo(
        "1 1 0:2 / / rw - rootfs rootfs rw\n25 1 9:0 / /mnt/data rw - ext4 /dev/md0 rw\n"
    )
    tree = read_block_tree(sysfs("md-clean"), Path("/nonexistent"))
    found = physical_names(Path("/mnt/data/x"), StorageMap(tree=tree, mounts=mounts))
    serials = {disk.disk: disk.serial for disk in tree.disks()}
    assert {serials[one] for one in found} == {"DISKA0001", "DISKB0001"}  # type: ignore[index]


async def test_a_machine_that_tells_nothing_says_nothing(tmp_path: Path) -> None:
    assert await PhysicalDevices(root=tmp_path).devices_of(Path("/srv")) == frozenset()


def test_links_are_followed_on_the_root_file_system_only(tmp_path: Path) -> None:
    (tmp_path / "real" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "real" / "up").symlink_to(tmp_path / "link" / "deep")
    (tmp_path / "round").symlink_to(tmp_path / "round")
    (tmp_path / "real" / "trap").symlink_to("/never")
    root = parse_mountinfo("1 1 0:2 / / rw - rootfs x rw\n")
    assert plain_path(tmp_path / "link" / "up" / "x", root) == tmp_path / "real" / "deep" / "x"
    assert plain_path(tmp_path / "link" / ".." / "real", root) == tmp_path / "real"
    assert plain_path(tmp_path / "round", root) == tmp_path / "round"
    point = parse_mountinfo(f"2 1 8:1 / {tmp_path}/real rw - ext4 /dev/sda1 rw\n")
    # behind a mount point nothing is looked at: its links stay as they are
    assert plain_path(tmp_path / "link" / "trap" / "x", (*root, *point)) == (
        tmp_path / "real" / "trap" / "x"
    )


@pytest.mark.parametrize(
    ("path", "point"),
    [("/srv/data", "/srv"), ("/srv", "/srv"), ("/srvx", "/"), ("/", "/"), ("/srv/a/b", "/srv/a")],
)
def test_the_mount_of_a_path_is_the_deepest_whole_name(path: str, point: str) -> None:
    mounts = parse_mountinfo(
        "".join(f"1 1 8:1 / {at} rw - ext4 /dev/x rw\n" for at in ("/", "/srv", "/srv/a"))
    )
    found = mount_of(Path(path), mounts)
    assert found is not None
    assert found.point == point


# -- one cheap look, and being woken


@pytest.mark.spec("ST-4")
async def test_one_look_tells_a_new_mount_though_devices_are_kept(tmp_path: Path) -> None:
    machine = LinuxMachine()
    before = await machine.kernel_view()
    again = await machine.kernel_view()
    assert isinstance(before, KernelView)
    assert isinstance(again, KernelView)
    assert again.tree is before.tree
    with loop_filesystem(tmp_path, "one") as one:
        after = await machine.kernel_view()
        assert isinstance(after, KernelView)
        (state,) = [s for s in after.file_systems if s.mount.point == str(one.mount_point)]
        assert (state.errors, state.writable) == (0, True)
        one.shutdown()
        after = await machine.kernel_view()
        assert isinstance(after, KernelView)
        (state,) = [s for s in after.file_systems if s.mount.point == str(one.mount_point)]
        assert not state.writable


@pytest.mark.spec("ST-4")
async def test_a_look_runs_no_tool_where_no_leg_is_bad(tmp_path: Path) -> None:
    asked: list[Sequence[str]] = []

    async def never(argv: Sequence[str], timeout_s: float) -> Completed:
        asked.append(argv)
        raise OSError("no tool here")

    for name in ("md-clean", "md-pulled", "lvm", "bare"):
        root = tmp_path / name
        await asyncio.to_thread(build_captured, name, root)
        table = root / "proc/self/mountinfo"
        await asyncio.to_thread(table.parent.mkdir, parents=True)
        await asyncio.to_thread(table.write_text, "1 1 0:2 / / rw - rootfs x rw\n")
        machine = LinuxMachine(root=root, runner=never)
        assert isinstance(await machine.kernel_view(), KernelView)
        assert asked == []
        tools = await machine.tool_arrays()
        assert [argv[0] for argv in asked] == (["lvs"] if name == "lvm" else [])
        assert bool(tools.unknown) == (name == "lvm")
        asked.clear()


async def test_the_mdadm_of_an_inactive_array_is_asked_once(tmp_path: Path) -> None:
    asked = []

    async def mdadm(argv: Sequence[str], timeout_s: float) -> Completed:
        asked.append(argv[0])
        text = b"MD_LEVEL=raid1\nMD_UUID=1:2:3:4\n"
        return Completed(argv=tuple(argv), returncode=0, stdout=text, stderr=b"")

    root = tmp_path / "md"
    await asyncio.to_thread(build_captured, "md-inactive", root)
    table = root / "proc/self/mountinfo"
    await asyncio.to_thread(table.parent.mkdir, parents=True)
    await asyncio.to_thread(table.write_text, "1 1 0:2 / / rw - rootfs x rw\n")
    machine = LinuxMachine(root=root, runner=mdadm)
    for _ in range(3):
        view = await machine.kernel_view()
        assert isinstance(view, KernelView)
        assert [array.uuid for array in view.arrays.found] == ["1234"]
    assert asked == ["mdadm"]


async def test_a_kernel_file_tells_again_and_again(tmp_path: Path) -> None:
    told = asyncio.Event()
    watch = KernelFileWatch("/proc/self/mountinfo", told.set)
    try:
        with loop_filesystem(tmp_path, "one") as one:
            for _ in range(3):
                told.clear()
                one.unmount()
                one.mount()
                async with asyncio.timeout(5):
                    await told.wait()
    finally:
        watch.close()
        watch.close()
    assert watch.closed


async def test_what_cannot_be_watched_yet_is_looked_for_again(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    told = asyncio.Event()
    watch = StorageWatch(told.set, root=tmp_path)
    try:
        watch.renew()
        (tmp_path / "proc" / "mdstat").symlink_to("/proc/self/mountinfo")  # md has been loaded
        watch.renew()
        with loop_filesystem(tmp_path, "one"):
            async with asyncio.timeout(5):
                await told.wait()
    finally:
        watch.close()
        watch.close()
    assert isinstance(await LinuxMachine(root=tmp_path).kernel_view(), NotAvailable)
