# SPDX-License-Identifier: Apache-2.0
"""What the kernel says of a volume moves its state in seconds, also when nobody uses it."""

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import pytest

from fault_disks import Disk
from loopfs import need_loop, sh
from scrigno.host.blockdevices import IoCounters
from scrigno.volumes.kernel import Ear, Kernel, Place, Said, View, read_views, standing
from scrigno.volumes.states import VolumeState
from scrigno.volumes.transitions import Fact
from scrigno.volumes.warden import Timing

pytestmark = pytest.mark.spec("ST-3")
# No probe within the test: what is noticed here, the kernel has said (or one look at XFS).
NO_PROBES = Timing(
    op_timeout_s=4.0,
    hang_s=0.5,
    kernel_every_s=0.3,
    probe_every_s=60.0,
    retry_s=0.2,
    retry_most_s=0.4,
    proof_every_s=0.1,
    hold_s=0.3,
)


async def _until(condition, limit_s: float = 30.0) -> float:
    began = time.monotonic()
    async with asyncio.timeout(limit_s):
        while not condition():
            await asyncio.sleep(0.02)
    return time.monotonic() - began


# -- facts from views, without any kernel ----------------------------------------------------

WELL = View(at_s=0.0, kind="ext4", device="sdb1", fs_errors=2, counters=None)


@pytest.mark.parametrize(
    ("change", "fact", "words"),
    [
        ({"shut_down": True}, Fact.FS_SHUT_DOWN, "stopped itself"),
        ({"device_there": False}, Fact.DEVICE_GONE, "sdb1 has gone"),
        ({"emergency_read_only": True}, Fact.FS_EMERGENCY_READ_ONLY, "refuses writes"),
        ({"read_only": True}, Fact.FS_REMOUNTED_READ_ONLY, "read-only"),
        ({"device_read_only": True}, Fact.DEVICE_READ_ONLY, "sdb1"),
        ({"fs_errors": 3}, Fact.FS_ERRORS_GREW, "found 3 errors in its own structures, before 2"),
        ({"mounted": False}, Fact.UNMOUNTED, "unmounted"),
        ({"device_errors": 1}, Fact.DEVICE_ERRORS_GREW, "1 errors"),
    ],
)
def test_each_complaint_of_the_kernel_is_a_fact_in_words(change, fact, words) -> None:
    ear = Ear(WELL, accepted_errors=2, hang_s=3)
    assert list(ear.hear(WELL, silent_s=0)) == []
    (said,) = ear.hear(replace(WELL, **change), silent_s=0)
    assert said.fact is fact
    assert words in said.words


def test_a_complaint_lasts_until_the_kernel_takes_it_back() -> None:
    ear = Ear(WELL, accepted_errors=2, hang_s=3)
    bad = replace(WELL, read_only=True)
    for _ in range(2):
        (said,) = ear.hear(bad, silent_s=0)
        assert said == ear.standing
    assert [said.fact for said in ear.hear(WELL, silent_s=0)] == [Fact.KERNEL_CONTENT]
    assert list(ear.hear(WELL, silent_s=0)) == []
    assert ear.standing is None
    assert standing(WELL, accepted_errors=None) is None


def _at(at_s: float, completed: int | None) -> View:
    counters = None
    if completed is not None:
        counters = IoCounters(at_s=at_s, completed=completed, in_flight=3, busy_ms=0)
    return replace(WELL, at_s=at_s, counters=counters)


@pytest.mark.parametrize(
    ("completed", "silent_s", "hangs"),
    [
        ([5, 5, 5, 5], [1, 2, 3, 4], [False, False, True, True]),
        ([5, 6, 7, 8], [1, 2, 3, 4], [False] * 4),  # slow, but it moves
        ([5, 5, 6, 6], [1, 2, 3, 4], [False] * 4),
        ([5, 5, 5, 5], [0, 0, 0, 0], [False] * 4),  # idle
        ([None] * 7, [1, 2, 3, 4, 5, 6, 7], [False] * 5 + [True] * 2),  # a share: our word alone
    ],
)
def test_a_hang_is_our_waiting_while_the_device_completes_nothing(
    completed, silent_s, hangs
) -> None:
    ear = Ear(_at(0, completed[0]), accepted_errors=2, hang_s=3)
    heard = [
        [said.fact for said in ear.hear(_at(second, count), silent_s=silent)]
        for second, (count, silent) in enumerate(zip(completed, silent_s, strict=True), start=1)
    ]
    assert heard == [[Fact.DEVICE_HANGS] if hang else [] for hang in hangs]


def _made_kernel(tmp_path: Path, mounts: str, **files: str) -> tuple[Path, Path]:
    table = tmp_path / "mountinfo"
    table.write_text(mounts)
    for name, content in files.items():
        path = tmp_path / "sys" / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return tmp_path / "sys", table


def test_a_view_comes_from_the_mount_with_our_id_and_its_device(tmp_path: Path) -> None:
    sys_root, table = _made_kernel(
        tmp_path,
        "21 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
        "40 21 8:17 / /srv/data rw,noatime - ext4 /dev/sdb1 rw,emergency_ro\n",
        class__block__sdb1__size="100",
        class__block__sdb1__ro="1",
        class__block__sdb1__stat="1 0 0 0 2 0 0 0 3 4 5",
        class__block__sdb1__inflight="1 2",
        fs__ext4__sdb1__errors_count="7",
    )
    (sys_root / "dev/block").mkdir(parents=True)
    (sys_root / "dev/block/8:17").symlink_to("../../class/block/sdb1")
    ours = Place(path=Path("/srv/data"), mount_id=40, number="8:17")
    views = read_views(
        {
            "ours": ours,
            "covered": replace(ours, mount_id=39),
            "within": Place(path=Path("/srv/data/x"), mount_id=40, number="8:17"),
            "gone": Place(path=Path("/mnt"), mount_id=21, number="8:1"),
        },
        sys_root,
        table,
    )
    view = views["ours"]
    assert view.mounted
    assert view.own_mount
    assert view.emergency_read_only
    assert view.device_read_only
    assert view.device_there
    assert (view.fs_errors, view.device, view.kind) == (7, "sdb1", "ext4")
    assert view.counters is not None
    assert (view.counters.completed, view.counters.in_flight) == (3, 3)
    assert not views["covered"].mounted
    assert not views["within"].own_mount
    assert not views["gone"].device_there  # 8:1 is in the table and no device any more


@pytest.mark.parametrize(
    "files",
    [
        {"class__block__sdb1__size": "0"},
        {"class__block__sdb1__size": "9", "class__block__sdb1__device__state": "offline"},
        {"class__block__sdb1__size": "9", "class__block__sdb1__md__array_state": "broken"},
    ],
)
def test_a_pulled_disk_is_seen_while_it_is_still_mounted(tmp_path: Path, files) -> None:
    sys_root, table = _made_kernel(
        tmp_path, "40 1 8:17 / /srv/data rw - ext4 /dev/sdb1 rw\n", **files
    )
    (sys_root / "dev/block").mkdir(parents=True)
    (sys_root / "dev/block/8:17").symlink_to("../../class/block/sdb1")
    place = Place(path=Path("/srv/data"), mount_id=40, number="8:17")
    assert not read_views({"data": place}, sys_root, table)["data"].device_there


def test_errors_of_any_leg_of_a_btrfs_are_counted(tmp_path: Path) -> None:
    errors = "write_errs {}\nread_errs 0\nflush_errs 0\ncorruption_errs 1\ngeneration_errs 0\n"
    sys_root, table = _made_kernel(
        tmp_path,
        "40 1 0:50 / /srv/data rw - btrfs /dev/loop77 rw\n",
        fs__btrfs__uuid__devices__loop77__x="",
        fs__btrfs__uuid__devices__loop78__x="",
        fs__btrfs__uuid__devinfo__1__error_stats=errors.format(0),
        fs__btrfs__uuid__devinfo__2__error_stats=errors.format(5),
        class__block__loop77__size="9",
    )
    place = Place(path=Path("/srv/data"), mount_id=40, number="0:50")
    view = read_views({"data": place}, sys_root, table)["data"]
    assert view.device_errors == 7
    assert view.device == "loop77, loop78"
    assert view.device_there  # a mirror goes on with one leg


async def test_a_kernel_that_does_not_answer_says_nothing(tmp_path: Path) -> None:
    kernel = Kernel(mount_table=tmp_path / "nothing")
    place = Place(path=tmp_path, mount_id=0, number="0:1")
    assert await kernel.look({"data": place}) == {}
    assert await kernel.look({}) == {}


# -- real faults ------------------------------------------------------------------------------


@pytest.mark.timing
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
async def test_a_dead_file_system_that_nobody_uses_is_noticed_within_two_seconds(
    box, filesystem, kind: str
) -> None:
    data, backup = filesystem("data", kind=kind), filesystem("backup")
    async with box(NO_PROBES, data=data.mount_point, backup=backup.mount_point) as b:
        data.shutdown(2)
        volume = b.volumes.by_name("data")
        assert await _until(lambda: volume.state is VolumeState.OFFLINE) < 2
        assert volume.link is None
        if kind == "ext4":
            assert "stopped itself" in volume.reason
        assert b.volumes.by_name("backup").state is VolumeState.ONLINE


@pytest.mark.spec("ST-1", "ST-3")
async def test_a_dead_block_device_does_not_pass_for_one_that_can_be_read(
    box, filesystem, tmp_path: Path
) -> None:
    """Its ext4 refuses writes and serves what is cached, so that a probe that stops there lies."""
    need_loop()
    disk = Disk(tmp_path / "disks", "data", "ext4@nested", size=1 << 28)
    backup = filesystem("backup")
    try:
        # held for a minute, so that it is seen what the probes of a new worker say
        patient = replace(NO_PROBES, hold_s=60.0, proof_every_s=0.2)
        async with box(patient, data=disk.path, backup=backup.mount_point) as b:
            volume = b.volumes.by_name("data")
            await b.store("studies/1/2/3.dcm", b"image" * 1000)
            await asyncio.to_thread(disk.device_dies)
            await b.store("studies/1/2/4.dcm", b"image" * 1000)
            await _until(lambda: volume.state is VolumeState.OFFLINE)
            for _ in range(3):  # its journal fails, and from then on it refuses writes
                await asyncio.to_thread(sh, "sync", "-f", str(disk.path), check=False)
                await asyncio.to_thread(sh, "touch", str(disk.path / "somebody-elses"), check=False)
                await asyncio.sleep(1)
            mounts = await asyncio.to_thread(Path("/proc/self/mountinfo").read_text)
            (line,) = [line for line in mounts.splitlines() if f" {disk.path} " in line]
            assert "emergency_ro" in line or "ro" in line.split()[5].split(",")
            b.changes.clear()
            await asyncio.sleep(3)
            assert "readonly" not in {state for name, state in b.changes if name == "data"}
            assert not volume.readable
    finally:
        await asyncio.to_thread(disk.close)


@pytest.mark.timing
async def test_an_unmount_is_noticed_within_a_second_without_any_request(box, filesystem) -> None:
    data = filesystem("data")
    async with box(NO_PROBES, data=data.mount_point) as b:
        volume = b.volumes.by_name("data")
        data.unmount(lazy=True)
        assert await _until(lambda: volume.state is VolumeState.ABSENT) < 1
        assert "unmounted" in volume.reason or "nothing is mounted" in volume.reason
        await _until(lambda: "nothing is mounted at" in volume.reason)
        assert list(data.mount_point.iterdir()) == []


@pytest.mark.timing
@pytest.mark.spec("ST-1", "ST-3")
@pytest.mark.parametrize("errors", ["remount-ro", "continue"])
async def test_errors_in_the_file_system_end_writing_and_not_reading(
    box, filesystem, errors: str
) -> None:
    # errors=continue is what a bare mkfs gives: ext4 goes on accepting writes (measured)
    data, backup = filesystem("data", mounted=False), filesystem("backup")
    data.mount("-o", f"errors={errors}")
    device = Path(data.device).name
    async with box(NO_PROBES, data=data.mount_point, backup=backup.mount_point) as b:
        await b.store("studies/a/b/1.dcm", b"1")
        volume = b.volumes.by_name("data")
        trigger = Path(f"/sys/fs/ext4/{device}/trigger_fs_error")
        await asyncio.to_thread(trigger.write_text, "x")
        assert await _until(lambda: volume.state is VolumeState.READONLY) < 2
        assert await volume.head("studies/a/b/1.dcm", 10) == b"1"
        assert (await b.store("studies/a/b/2.dcm", b"2")).copies == ("backup",)
        volume.doubt.set()  # a good probe changes nothing while the kernel complains
        await asyncio.sleep(0.5)
        assert volume.state is VolumeState.READONLY
        if errors == "continue":
            assert "repaired (e2fsck)" in volume.reason
    if errors == "remount-ro":
        return
    async with box(NO_PROBES, data=data.mount_point, backup=backup.mount_point) as b:
        volume = b.volumes.by_name("data")
        assert volume.state is VolumeState.READONLY  # known after a restart too
        # repaired while the box runs
        await asyncio.to_thread(data.unmount, lazy=True)
        await _until(lambda: volume.state is VolumeState.ABSENT)
        await asyncio.to_thread(_repair, data.device)
        await asyncio.to_thread(data.mount)
        await _until(lambda: volume.state is VolumeState.ONLINE)
        assert (await b.store("studies/a/b/3.dcm", b"3")).copies == ("data",)


def _repair(device: str) -> None:
    for _ in range(50):  # a worker may still be letting go
        sh("e2fsck", "-fy", device, check=False)
        if "FS Error count" not in sh("dumpe2fs", "-h", device, check=False):
            return
        time.sleep(0.1)
    raise AssertionError("e2fsck did not repair it")


@pytest.mark.timing
async def test_a_remount_is_noticed_both_ways_without_a_probe(box, filesystem) -> None:
    data = filesystem("data")
    async with box(NO_PROBES, data=data.mount_point) as b:
        volume = b.volumes.by_name("data")
        sh("mount", "-o", "remount,ro", str(data.mount_point))
        assert await _until(lambda: volume.state is VolumeState.READONLY) < 2
        assert volume.readable
        sh("mount", "-o", "remount,rw", str(data.mount_point))
        assert await _until(lambda: volume.state is VolumeState.ONLINE) < 3
        assert [after for _, after in b.changes][-3:] == ["readonly", "recovering", "online"]


@pytest.mark.timing
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
async def test_a_disk_that_hangs_is_left_alone_long_before_the_verdict(
    box, filesystem, kind: str
) -> None:
    data, backup = filesystem("data", kind=kind), filesystem("backup")
    async with box(NO_PROBES, data=data.mount_point, backup=backup.mount_point) as b:
        volume = b.volumes.by_name("data")
        data.freeze()
        began = time.monotonic()
        stuck = asyncio.ensure_future(b.store("studies/a/b/1.dcm", b"1"))
        await _until(lambda: volume.state is VolumeState.SUSPECT, 3)
        assert time.monotonic() - began < 2.5
        assert "none is completed" in volume.reason
        soon = time.monotonic()
        assert (await b.store("studies/a/b/2.dcm", b"2")).copies == ("backup",)
        assert time.monotonic() - soon < 1
        data.thaw()
        await stuck
        await _until(lambda: volume.state is VolumeState.ONLINE)
        assert "offline" not in [after for _, after in b.changes]


async def test_the_view_of_a_real_mount_has_its_device_and_its_counters(filesystem) -> None:
    disk = filesystem("data")
    about = disk.mount_point.stat()
    place = Place(
        path=disk.mount_point.resolve(),
        mount_id=0,
        number=f"{about.st_dev >> 8}:{about.st_dev & 255}",
    )
    view = (await Kernel().look({"data": place}))["data"]
    assert view.own_mount
    assert (view.kind, view.device) == ("ext4", Path(disk.device).name)
    assert view.fs_errors == 0
    assert view.counters is not None
    assert standing(view, accepted_errors=0) is None
    assert not isinstance(view, Said)
