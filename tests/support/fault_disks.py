# SPDX-License-Identifier: Apache-2.0
"""One disk of a box under test, and every way in which rows of the fault plan break it.

Each way back is here too, and `close` heals whatever was left broken: a test run must never leave
a mount, a loop device or a FUSE server behind. No call here touches the mounted path of a disk
that may hang; tools that may are given a time limit in a process of their own.
"""

import contextlib
import os
import shutil
import subprocess  # noqa: TID251 - the tests' own tools, not the product's
import time
from pathlib import Path

import psutil

from fusefs import FuseFolder
from loopfs import LoopFilesystem, sh

GIB = 1 << 30
# as the installer makes them: an ext4 that has met an error takes no more writes
EXT4_OPTIONS = ("-o", "errors=remount-ro")


class Disk:
    """A filesystem on a medium: `ext4`, `xfs`, `btrfs`, and behind an @ what lies below it.

    `@nested`: on a second loop filesystem that can die as a block device; `@fuse`: on a file that
    can hang or be slow; `@tmpfs`: a sparse file on a small memory disk that can be filled;
    `btrfs@raid1`: a mirror of two loop devices, the second of which can die.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        medium: str,
        *,
        size: int = 3 * GIB,
        mount: tuple[str, ...] | None = None,
        mkfs: tuple[str, ...] = (),
    ) -> None:
        self.kind, _, self.below = medium.partition("@")
        self.name, self._folder = name, folder
        self.path = folder / name
        self.busy = False  # whether it could be unmounted only lazily
        self._options = (EXT4_OPTIONS if self.kind == "ext4" else ()) if mount is None else mount
        self._outer: LoopFilesystem | None = None
        self._leg: LoopFilesystem | None = None  # of a mirror: the image of the second leg
        self._leg_device = ""
        self._fuse: FuseFolder | None = None
        self._tmpfs: Path | None = None
        self._ballast: Path | None = None
        self._throttled = ""
        image = None
        folder.mkdir(parents=True, exist_ok=True)
        try:
            if self.below == "nested":
                self._outer = LoopFilesystem(folder, f"{name}-below", "xfs", size + GIB)
                self._outer.mount()
                image = self._outer.mount_point / f"{name}.img"
            elif self.below == "fuse":
                behind = folder / f"{name}-behind"
                behind.mkdir()
                self._fuse = FuseFolder(behind, folder / f"{name}-fuse")
                (behind / f"{name}.img").touch()
                image = self._fuse.seen / f"{name}.img"
            elif self.below == "tmpfs":
                self._tmpfs = folder / f"{name}-memory"
                self._tmpfs.mkdir()
                sh("mount", "-t", "tmpfs", "-o", f"size={size // 4}", "tmpfs", str(self._tmpfs))
                image = self._tmpfs / f"{name}.img"
                if self.kind == "ext4":
                    mkfs = (*mkfs, "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0")
            if self.below == "raid1":
                self._make_mirror(folder, name, size)
            else:
                self.fs = LoopFilesystem(folder, name, self.kind, size, image=image, options=mkfs)
            self.mount()
        except BaseException:
            self.close()
            raise

    def _make_mirror(self, folder: Path, name: str, size: int) -> None:
        self._leg = LoopFilesystem(folder, f"{name}-leg", "xfs", size + GIB)
        self._leg.mount()
        second = self._leg.mount_point / "leg.img"
        with second.open("wb") as file:
            file.truncate(size)
        self._leg_device = sh("losetup", "-f", "--show", str(second))
        self.fs = LoopFilesystem(folder, name, "btrfs", size)
        self.fs.device = sh("losetup", "-f", "--show", str(self.fs.image))
        sh(
            "mkfs.btrfs", "-q", "-f", "-d", "raid1", "-m", "raid1",
            self.fs.device, self._leg_device,
        )  # fmt: skip

    @property
    def device(self) -> str:
        """The block device that is mounted."""
        return self.fs.device

    # -- mounting ------------------------------------------------------------------------------

    def mount(self, at: Path | None = None) -> None:
        self.fs.mount(*self._options, at=at)
        self.fs.mount_point.chmod(0o755)

    def unmount(self, wait_s: float = 15.0) -> None:
        """Unmount; `busy` is set when the box still holds it after `wait_s` (then it is lazy)."""
        end = time.monotonic() + wait_s
        while True:
            try:
                self.fs.unmount()
            except RuntimeError:
                if time.monotonic() > end:
                    self.busy = True
                    self.fs.unmount(lazy=True)
                    sh("losetup", "-d", self.fs.device, check=False)
                    self.fs.device = ""  # the old one ends with its last user
                    return
                time.sleep(0.2)
            else:
                return

    def pull(self) -> None:
        """Unmount it from under its users."""
        self.fs.unmount(lazy=True)

    def replug(self) -> None:
        """Mount it again after `pull`, as a device that comes back: by a new loop device."""
        sh("losetup", "-d", self.fs.device, check=False)
        self.fs.device = ""
        self.mount()

    def revive(self) -> None:
        """Unmount a dead filesystem, check it, mount it again."""
        self.unmount()
        self.check()
        self.mount()

    def check(self) -> None:
        """Let ext4 mend what an error left; xfs and btrfs do it when they are mounted."""
        if self.kind == "ext4" and self.fs.device:
            subprocess.run(
                ["e2fsck", "-fp", self.fs.device], capture_output=True, timeout=120, check=False
            )

    # -- ways to break, and back ---------------------------------------------------------------

    def die(self, how: int = 2) -> None:
        """The filesystem dies: 0 syncs first, 1 flushes its log, 2 is a power cut."""
        self.fs.shutdown(how)

    def device_dies(self) -> None:
        """Every request to the block device fails with EIO."""
        assert self._outer is not None
        self._outer.shutdown(2)

    def device_back(self) -> None:
        """The block device works again; the filesystem on it is mounted anew."""
        assert self._outer is not None
        self.unmount()
        if self.fs.device:
            sh("losetup", "-d", self.fs.device)
            self.fs.device = ""
        for _ in range(50):
            try:
                self._outer.unmount()
                break
            except RuntimeError:
                time.sleep(0.2)
        self._outer.mount()
        self.mount()

    def hang(self) -> None:
        """The block device answers nothing any more."""
        assert self._fuse is not None
        self._fuse.hang()
        forget_caches()

    def go_on(self) -> None:
        assert self._fuse is not None
        self._fuse.go_on()

    def slow(self, delay_s: float) -> None:
        """Each request of the block device takes so much longer; 0 heals."""
        assert self._fuse is not None
        self._fuse.faults(**({"delay_s": delay_s} if delay_s else {}))

    def bad_reads(self, *, on: bool) -> None:
        """The block device cannot read what is not in the cache; writes work."""
        assert self._fuse is not None
        self._fuse.faults(**({"read_errno": "EIO"} if on else {}))
        forget_caches()

    def freeze(self) -> None:
        self.fs.freeze()

    def thaw(self) -> None:
        self.fs.thaw()

    def fs_error(self) -> None:
        """The kernel finds an error in this ext4 and acts as the mount option `errors=` says."""
        name = Path(self.fs.device).name
        Path(f"/sys/fs/ext4/{name}/trigger_fs_error").write_text("x")

    def read_only(self) -> None:
        """Remount it read-only as an administrator may; with writers open this needs abort."""
        done = subprocess.run(
            ["mount", "-o", "remount,ro", str(self.path)],
            capture_output=True, timeout=20, check=False,
        )  # fmt: skip
        if done.returncode:
            sh("mount", "-o", "remount,abort", str(self.path))

    def fill_below(self) -> None:
        """Fill the memory disk below: what the filesystem has promised cannot be written."""
        assert self._tmpfs is not None
        self._ballast = self._tmpfs / "ballast"
        self._fill(self._ballast)

    def fill(self, leave_bytes: int = 0) -> None:
        """Fill the filesystem itself with a file that is not ours."""
        self._ballast = self.path / "somebody-elses.bin"
        self._fill(self._ballast, leave_bytes)

    def _fill(self, ballast: Path, leave_bytes: int = 0) -> None:
        """Take all room but `leave_bytes`; others may write meanwhile."""
        with ballast.open("ab", buffering=0) as file:
            space = os.statvfs(ballast.parent)
            big = space.f_bavail * space.f_frsize - leave_bytes
            if big > 0:
                with contextlib.suppress(OSError):
                    os.posix_fallocate(file.fileno(), 0, big)
            if not leave_bytes:
                block = b"\0" * 65536
                with contextlib.suppress(OSError):
                    while True:
                        file.write(block)

    def make_room(self) -> None:
        if self._ballast is not None:
            self._ballast.unlink(missing_ok=True)
            self._ballast = None

    def leg_dies(self) -> None:
        """The second leg of the mirror answers EIO."""
        assert self._leg is not None
        self._leg.shutdown(2)

    def leg_back(self) -> None:
        """Seat the second leg again and mount the mirror; nobody may be using it."""
        assert self._leg is not None
        self.unmount()
        sh("losetup", "-d", self._leg_device)
        self._leg.unmount()
        self._leg.mount()
        second = self._leg.mount_point / "leg.img"
        self._leg_device = sh("losetup", "-f", "--show", str(second))
        sh("btrfs", "device", "scan", self.fs.device, self._leg_device)
        self.mount()

    # -- the end -------------------------------------------------------------------------------

    def close(self) -> None:
        """Heal, unmount, detach; what cannot be undone is left to `left_behind` to name."""
        if self._fuse is not None:
            self._fuse.go_on()
            with contextlib.suppress(OSError):
                self._fuse.faults()
        with contextlib.suppress(OSError):
            self.make_room()
        if hasattr(self, "fs"):
            self.fs.close()
        if self._leg_device:
            sh("losetup", "-d", self._leg_device, check=False)
        for outer in (self._outer, self._leg):
            if outer is not None:
                outer.close()
        if self._fuse is not None:
            self._fuse.close()
        if self._tmpfs is not None:
            sh("umount", "-l", str(self._tmpfs), check=False)


def forget_caches() -> None:
    """Drop the page cache, so that reads need the disk; in a child, which a hung disk may keep."""
    child = subprocess.Popen(
        ["/bin/sh", "-c", "echo 1 > /proc/sys/vm/drop_caches"], stderr=subprocess.DEVNULL
    )
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(3)


def left_behind(folder: Path) -> list[str]:
    """Name mounts, loop devices and processes that a row left below `folder`."""
    found = [
        f"mount {line.split()[1]}"
        for line in Path("/proc/self/mounts").read_text().splitlines()
        if line.split()[1].startswith(f"{folder}/")
    ]
    loops = sh("losetup", "-l", "-n", "-O", "NAME,BACK-FILE")
    found += [f"loop {line}" for line in loops.splitlines() if f"{folder}/" in line]
    for process in psutil.process_iter(["pid", "cmdline", "status"]):
        if any(f"{folder}/" in word for word in process.info["cmdline"] or ()):
            found.append(f"process {process.info['pid']} {process.info['status']}")
    return found


def remove(folder: Path) -> None:
    """Remove the folder of a row when nothing is mounted below it any more."""
    if not any(name.startswith("mount") for name in left_behind(folder)):
        shutil.rmtree(folder, ignore_errors=True)
