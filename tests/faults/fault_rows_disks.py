# SPDX-License-Identifier: Apache-2.0
"""Rows 1 to 14 and 17 to 23 of the fault plan: disks that die, hang, fill up, go and come back."""

import itertools
import json
import os
import shutil
import signal
import time
import uuid
from collections.abc import Callable, Generator
from pathlib import Path

from fault_disks import GIB
from fault_run import HANG, IO_ERROR, Rig, Row, Timing, briefly, like
from loopfs import LoopFilesystem, sh

Fault = Generator[None, None, None]
OFFLINE = ("volume-offline",)
STARTED_ANEW = "the row starts the daemon anew; who asks meanwhile is not counted"
MARKER = ".scrigno-volume.json"
SERVING = ("online", "suspect", "readonly", "full")


def _dies(how: int) -> Callable[[Rig], Fault]:
    def break_it(rig: Rig) -> Fault:
        rig.data.die(how)
        yield
        rig.data.revive()
        rig.check("the box lets go of the dead disk", not rig.data.busy)

    return break_it


def _device_dies(rig: Rig) -> Fault:
    rig.data.device_dies()
    yield
    rig.check("it is known that it cannot be read", rig.state() == "offline", rig.state())
    rig.repaired("data", rig.data.device_back)


def _device_dies_unused(rig: Rig) -> Fault:
    """Nobody stores, what is read lies in caches, the kernel is content: only a probe can tell."""
    rig.load.rest()
    rig.wait(8)  # what was written is on the disk
    rig.fault_s = time.monotonic()
    rig.data.device_dies()
    told_s = rig.until(lambda: rig.state() not in ("", "online"), 40, "somebody to notice")
    rig.check("noticed by the next probe", told_s <= 20, round(told_s, 1))
    rig.load.resume()
    yield
    rig.repaired("data", rig.data.device_back)


def _power_cut_and_back(rig: Rig) -> Fault:
    rig.data.die(2)
    rig.wait(1)
    rig.data.revive()
    yield
    rig.check("it came back by itself", rig.state() in ("online", "recovering"), rig.state())


def _hangs(rig: Rig) -> Fault:
    rig.data.hang()
    yield
    rig.data.go_on()


def _frozen(rig: Rig) -> Fault:
    rig.data.freeze()
    yield
    rig.data.thaw()


def _slow(rig: Rig) -> Fault:
    rig.data.slow(0.25)
    yield
    rig.data.slow(0)
    states = rig.states_since(rig.fault_s)
    rig.check("no flapping", states.count("suspect") + states.count("offline") <= 3, states)


def _error_makes_it_read_only(rig: Rig) -> Fault:
    rig.data.fs_error()
    yield
    rig.repaired("data", rig.data.revive)


def _remounted_read_only(rig: Rig) -> Fault:
    rig.data.read_only()
    yield
    rig.repaired("data", rig.data.revive)


def _error_is_ignored(rig: Rig) -> Fault:
    rig.data.fs_error()
    rig.wait(rig.timing.fault_s)
    state, since = rig.state(), time.monotonic()
    rig.check("no more writes go there", state in ("offline", "readonly", "suspect"), state)
    before = len(list((rig.data.path / "studies").rglob("*.dcm")))
    rig.wait(3)
    after = len(list((rig.data.path / "studies").rglob("*.dcm")))
    rig.check("nothing new stands there", before == after, f"{after - before} new")
    rig.check("images are taken meanwhile", rig.acknowledged_since(since) > 0)
    yield
    rig.repaired("data", rig.data.revive)


def _fsync_lies(rig: Rig) -> Fault:
    rig.data.fill_below()
    yield
    rig.data.make_room()
    rig.repaired("data", rig.data.revive)


def _full(rig: Rig) -> Fault:
    rig.data.fill()
    yield
    rig.data.make_room()


def _no_inodes(rig: Rig) -> Fault:
    litter = rig.data.path / "somebody-elses"
    litter.mkdir()
    number = 0
    try:
        while True:
            (litter / f"{number}").touch()
            number += 1
    except OSError:
        pass
    yield
    shutil.rmtree(litter)


def _all_full(rig: Rig) -> Fault:
    before = {
        disk.name: _objects(disk.path) for disk in rig.disks.values() if disk.name != "staging"
    }
    for disk in rig.disks.values():
        disk.fill()
    since = time.monotonic()
    rig.wait(rig.timing.fault_s / 2)
    late = [s.answer for s in rig.load.sent if s.sent_s > since + 3]
    rig.check("images are refused", late and "Success" not in late[-5:], late[-5:])
    rig.check(
        "refused as out of resources", all("OutOfResources" in a for a in late[-3:]), late[-3:]
    )
    gone = [name for name, paths in before.items() if not paths <= _objects(rig.disks[name].path)]
    rig.check("nothing was deleted", not gone, gone)
    yield
    for disk in rig.disks.values():
        disk.make_room()
    since = time.monotonic()
    rig.until(lambda: rig.acknowledged_since(since), 60, "images after there is room again")


def _objects(volume: Path) -> set[str]:
    return {path.name for path in (volume / "studies").rglob("*.dcm")}


def _backup_dies(rig: Rig) -> Fault:
    rig.backup.die(2)
    yield
    rig.backup.revive()


def _backup_comes_late(rig: Rig) -> Fault:
    """Absent at the start of the daemon, back while it runs."""
    rig.stop_daemon()
    rig.backup.unmount()
    rig.restart()
    since = time.monotonic()
    rig.until(lambda: rig.acknowledged_since(since), 30, "images without the backup")
    yield
    rig.backup.mount()


def _both_die(rig: Rig) -> Fault:
    rig.data.die(2)
    rig.backup.die(2)
    died_s = time.monotonic()
    yield
    promised = [s.uid for s in rig.load.sent if s.sent_s > died_s and s.answer == "Success"]
    rig.check("nothing is promised while no volume takes it", not promised, len(promised))
    rig.data.revive()
    rig.backup.revive()
    since = time.monotonic()
    rig.until(lambda: rig.acknowledged_since(since), 60, "images after the disks are back")


def _the_power_fails(rig: Rig) -> Fault:
    """Every disk loses what was not synced, at the same moment, and the box stops."""
    assert rig.box.process is not None
    disks = list(rig.disks.values())
    rig.chance.shuffle(disks)
    rig.expect_exit = True
    rig.box.process.send_signal(signal.SIGSTOP)  # at one moment, as far as it can tell
    for disk in disks:
        disk.die(2)
    rig.stop_daemon(signal.SIGKILL)
    for disk in disks:
        disk.revive()
    cut_s = time.monotonic()
    rig.restart()
    rig.until(lambda: rig.acknowledged_since(cut_s), 60, "images after the power is back")
    first = min(s.answered_s for s in rig.load.sent if s.sent_s > cut_s and s.answer == "Success")
    rig.check("the first image within 60 s", first - cut_s <= 60, round(first - cut_s, 1))
    yield


def _dies_while_it_recovers(rig: Rig) -> Fault:
    rig.data.die(2)
    rig.wait(rig.timing.fault_s)
    rig.data.revive()
    rig.until(lambda: rig.state() == "recovering", 60, "the beginning of the recovery")
    rig.data.die(2)
    yield
    rig.until(lambda: rig.state() != "recovering", 15, "the second fall")
    rig.data.revive()


def _flaps(rig: Rig) -> Fault:
    for _ in range(max(int(rig.timing.fault_s / 4), 2)):
        rig.data.die(2)
        rig.wait(2)
        rig.data.revive()
        rig.wait(2)
    serving = [s in SERVING for s in rig.states_since(rig.fault_s)]
    changes = sum(1 for one, two in itertools.pairwise(serving) if one != two)
    rig.check("it goes in or out of service at most three times", changes <= 3, changes)
    yield


def _pulled(rig: Rig) -> Fault:
    rig.data.pull()
    yield
    bare = [path.name for path in rig.data.path.iterdir()]
    rig.check("nothing was written into the bare mount point", not bare, bare)
    rig.data.replug()


def _wrong_disk(rig: Rig) -> Fault:
    """A disk that never was a volume."""
    yield from _other_disk_in_place(rig, {})


def _disk_of_another_box(rig: Rig) -> Fault:
    """A disk that is a volume of another box."""
    marker = json.loads((rig.data.path / MARKER).read_text())
    yield from _other_disk_in_place(
        rig, marker | {"uuid": str(uuid.uuid4()), "owner": str(uuid.uuid4())}
    )


def _other_disk_in_place(rig: Rig, marker: dict[str, object]) -> Fault:
    rig.data.unmount(wait_s=0)
    with other_disk(rig, "other") as path:
        if marker:
            (path / MARKER).write_text(json.dumps(marker))
        sh("mount", "--bind", str(path), str(rig.data.path))
        yield
        found = sorted(p.name for p in path.iterdir() if p.name not in ("lost+found", MARKER))
        rig.check("nothing was written to the wrong disk", found == ["holiday.jpg"], found)
        _umount(rig.data.path)
    rig.data.fs.device = ""
    rig.data.mount()


class other_disk:  # noqa: N801 - used as a context manager
    """A disk that is not the box's, with somebody's file on it."""

    def __init__(self, rig: Rig, name: str) -> None:
        self._fs = LoopFilesystem(rig.folder / "elsewhere", name, "ext4", 64 << 20)

    def __enter__(self) -> Path:
        self._fs.mount()
        (self._fs.mount_point / "holiday.jpg").write_bytes(b"x")
        return self._fs.mount_point

    def __exit__(self, *_: object) -> None:
        self._fs.close()


def _umount(path: Path) -> None:
    for _ in range(100):
        sh("umount", str(path), check=False)
        if not os.path.ismount(path):
            return
        time.sleep(0.1)
    sh("umount", "-l", str(path), check=False)


def _stale_clone(rig: Rig) -> Fault:
    """A copy of the disk's image from before is mounted in its place."""
    clone = rig.folder / "clone.img"
    rig.data.fs.freeze()  # a clean moment for the copy
    sh("cp", "--sparse=always", str(rig.data.fs.image), str(clone))
    rig.data.fs.thaw()
    rig.stop_daemon()
    rig.restart()  # goes into service once more: the clone is a generation behind
    rig.wait(3)
    rig.data.unmount(wait_s=0)
    device = sh("losetup", "-f", "--show", str(clone))
    rig.fault_s = time.monotonic()
    sh("mount", device, str(rig.data.path))
    before = _objects(rig.data.path)
    yield
    rig.check("nothing was written to the old copy", _objects(rig.data.path) == before)
    _umount(rig.data.path)
    sh("losetup", "-d", device, check=False)
    clone.unlink()
    rig.data.fs.device = ""
    rig.data.mount()


ROWS = (
    Row(
        number="1", name="the data file system dies (ext4)", break_it=_dies(2), short=briefly(6),
        timing=Timing(impatient=False), note="the minute of damping is waited for",
        bars=like(IO_ERROR, alerts=OFFLINE),
    ),
    Row(
        number="2", name="the data file system dies (xfs): no SIGBUS", break_it=_dies(2),
        disks={"data": "xfs", "backup1": "ext4"}, bars=like(IO_ERROR, alerts=OFFLINE),
    ),
    Row(
        number="3a", name="the data file system dies, its log flushed", break_it=_dies(1),
        bars=like(IO_ERROR, alerts=OFFLINE),
    ),
    Row(
        number="3b", name="the data file system dies, all synced", break_it=_dies(0),
        disks={"data": "xfs", "backup1": "btrfs"}, bars=like(IO_ERROR, alerts=OFFLINE),
    ),
    Row(
        number="4a", name="the data block device fails (ext4)", break_it=_device_dies,
        disks={"data": "ext4@nested", "backup1": "xfs"}, bars=like(IO_ERROR, alerts=OFFLINE),
    ),
    Row(
        number="4b", name="the data block device fails (btrfs)", break_it=_device_dies,
        disks={"data": "btrfs@nested", "backup1": "ext4"},
        bars=like(IO_ERROR, alerts=OFFLINE),
    ),
    Row(
        number="4c", name="the data block device fails while nobody stores",
        break_it=_device_dies_unused, disks={"data": "ext4@nested", "backup1": "xfs"},
        bars=like(IO_ERROR, next_ack_s=None),
    ),
    Row(
        number="5", name="a power cut of the data disk only, back at once",
        break_it=_power_cut_and_back, bars=like(IO_ERROR, alerts=OFFLINE),
        timing=Timing(impatient=False), note="the minute of damping is waited for",
    ),
    Row(
        number="6", name="the data block device hangs", break_it=_hangs, short=briefly(12),
        disks={"data": "ext4@fuse", "backup1": "xfs"}, timing=Timing(fault_s=20),
        bars=like(HANG, alerts=OFFLINE),
    ),
    Row(
        number="7", name="the data file system is frozen", break_it=_frozen,
        timing=Timing(fault_s=30), bars=like(HANG, alerts=OFFLINE),
    ),
    Row(
        number="8", name="the data disk is a hundred times slower", break_it=_slow,
        disks={"data": "ext4@fuse", "backup1": "xfs"}, timing=Timing(fault_s=30),
        bars=like(HANG, detect_s=20.0),
    ),
    Row(
        number="9a", name="the data file system goes read-only by an error", short=briefly(6),
        break_it=_error_makes_it_read_only,
        bars=like(IO_ERROR, alerts=("volume-readonly",)),
    ),
    Row(
        number="9b", name="the data file system is remounted read-only",
        break_it=_remounted_read_only, bars=like(IO_ERROR, alerts=("volume-readonly",)),
    ),
    Row(
        number="10", name="ext4 with errors=continue meets corruption",
        break_it=_error_is_ignored, disk_options={"data": {"mount": ("-o", "errors=continue")}},
        bars=like(IO_ERROR, alerts=("volume-readonly", "filesystem-errors")),
    ),
    Row(
        number="11", name="fsync fails once and then lies", break_it=_fsync_lies,
        disks={"data": "ext4@tmpfs", "backup1": "xfs"}, bars=IO_ERROR, short=briefly(6),
    ),
    Row(
        number="12", name="the data volume is full", break_it=_full,
        disk_options={"data": {"size": GIB}}, bars=like(IO_ERROR, alerts=("volume-full",)),
    ),
    Row(
        number="13", name="every volume is full", break_it=_all_full, short=briefly(8),
        disk_options={"data": {"size": GIB}, "backup1": {"size": GIB}},
        bars=like(
            IO_ERROR, next_ack_s=None, refused=None, alerts=("volume-full",)
        ),
    ),
    Row(
        number="14", name="the data volume has no inodes left", break_it=_no_inodes,
        disk_options={"data": {"size": GIB, "mkfs": ("-N", "4096")}}, bars=IO_ERROR,
    ),
    Row(
        number="17a", name="the backup dies and returns", break_it=_backup_dies,
        target="backup1", bars=like(IO_ERROR, alerts=OFFLINE),
    ),
    Row(
        number="17b", name="the backup is absent at the start and returns later",
        break_it=_backup_comes_late, target="backup1",
        bars=like(IO_ERROR, next_ack_s=None), note=STARTED_ANEW,
    ),
    Row(
        number="18", name="data and backup die together", break_it=_both_die,
        bars=like(
            IO_ERROR, next_ack_s=None, refused=None, reads_pct=None, alerts=OFFLINE
        ),
    ),
    Row(
        number="29", name="the power fails: every disk is cut at the same moment",
        break_it=_the_power_fails, timing=Timing(fault_s=0), short=briefly(0),
        disks={"data": "ext4", "backup1": "xfs", "staging": "ext4", "state": "ext4"},
        disk_options={"state": {"size": GIB // 2}},
        bars=like(IO_ERROR, next_ack_s=None, alert_s=None),
        note="file systems are shut down without a flush; a drive's own cache is not played",
    ),
    Row(
        number="19", name="the data disk dies again while it is caught up",
        break_it=_dies_while_it_recovers, bars=like(IO_ERROR, alerts=OFFLINE, settle_s=180.0),
        timing=Timing(impatient=False), note="two falls: the two minutes of damping are waited for",
    ),
    Row(
        number="20", name="a flapping disk", break_it=_flaps,
        timing=Timing(fault_s=40),
        bars=like(IO_ERROR, alerts=OFFLINE, settle_s=180.0),
        note="the damping has to hold while it flaps; `scrigno volume force` ends the row",
    ),
    Row(
        number="21", name="umount -l of the data volume", break_it=_pulled, short=briefly(5),
        bars=like(IO_ERROR, detect_s=1.0, alerts=("volume-absent",)),
    ),
    Row(
        number="22a", name="a disk that is no volume is mounted at the data path",
        break_it=_wrong_disk, bars=like(IO_ERROR, alerts=("volume-foreign",)),
    ),
    Row(
        number="22b", name="a disk of another box is mounted at the data path",
        break_it=_disk_of_another_box, bars=like(IO_ERROR, alerts=("volume-foreign",)),
    ),
    Row(
        number="23", name="an old clone of the volume is mounted", break_it=_stale_clone,
        bars=like(IO_ERROR, next_ack_s=None, alerts=("volume-foreign",)), note=STARTED_ANEW,
    ),
)  # fmt: skip
