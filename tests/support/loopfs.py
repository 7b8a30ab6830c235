# SPDX-License-Identifier: Apache-2.0
"""Real filesystems on loop devices, and real faults in them. Needs root, losetup and mkfs.

Use `loop_filesystem(...)` as a context manager: whatever happened to it (frozen, shut down,
unmounted), it is thawed, unmounted and detached on exit. Never touch a hung filesystem from the
test's own process: only FITHAW and umount are safe there.
"""

import contextlib
import fcntl
import os
import shutil
import struct
import subprocess  # noqa: TID251 - the tests' own tools, not the product's
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from afterwards import clean_up_after

FS_IOC_SHUTDOWN = 0x8004587D
FIFREEZE = 0xC0045877
FITHAW = 0xC0045878
SIZES = {"ext4": 64 << 20, "xfs": 320 << 20, "btrfs": 128 << 20}


def missing() -> str:
    """Return why loop mounts cannot be made here, or nothing."""
    if os.geteuid() != 0:
        return "needs root"
    if not Path("/dev/loop-control").exists():
        return "needs loop devices"
    for tool in ("losetup", "mount", "mkfs.ext4", "mkfs.xfs"):
        if shutil.which(tool, path="/usr/sbin:/usr/bin:/sbin:/bin") is None:
            return f"needs {tool}"
    return ""


def need_loop() -> None:
    """Skip with the reason, or fail loudly on the build machine."""
    reason = missing()
    if reason and os.environ.get("CI") == "true":
        pytest.fail(f"loop mounts must work on the build machine: {reason}")
    if reason:
        pytest.skip(reason)


def sh(*argv: str, check: bool = True) -> str:
    """Run a tool of the test with a limit."""
    done = subprocess.run(argv, capture_output=True, timeout=30, check=False, text=True)
    if check and done.returncode:
        raise RuntimeError(f"{argv}: {done.stderr}")
    return done.stdout.strip()


class LoopFilesystem:
    """One filesystem image, its loop device and its mount point."""

    def __init__(
        self,
        folder: Path,
        name: str,
        kind: str,
        size: int | None,
        *,
        image: Path | None = None,
        options: Sequence[str] = (),
    ) -> None:
        """`image` may lie on another (faulty) filesystem; `options` are for mkfs."""
        self.kind = kind
        self.image = image or folder / f"{name}.img"
        self.mount_point = folder / name
        self.device = ""
        self.mounted = False
        self.frozen = False
        self._control = -1  # an open root, for ioctls on a hung filesystem
        folder.mkdir(parents=True, exist_ok=True)
        clean_up_after(folder)
        self.mount_point.mkdir(exist_ok=True)
        with self.image.open("wb") as file:
            file.truncate(size or SIZES[kind])
        quiet = ["-q", "-F"] if kind == "ext4" else ["-q", "-f"]
        sh(f"mkfs.{kind}", *quiet, *options, str(self.image))

    def mount(self, *options: str, at: Path | None = None) -> None:
        """Attach and mount it."""
        if not self.device:
            # losetup -f --show races with other test runs: another may take the device it found
            for attempt in range(20):
                try:
                    self.device = sh("losetup", "-f", "--show", str(self.image))
                    break
                except RuntimeError:
                    if attempt == 19:
                        raise
                    time.sleep(0.1)
        self.mount_point = at or self.mount_point
        sh("mount", *options, self.device, str(self.mount_point))
        self.mounted = True
        self._control = os.open(self.mount_point, os.O_RDONLY | os.O_DIRECTORY)

    def unmount(self, *, lazy: bool = False) -> None:
        """Unmount; `lazy` as when somebody pulls it from under open files."""
        self._drop_control()
        sh("umount", *(["-l"] if lazy else []), str(self.mount_point))
        self.mounted = False

    def shutdown(self, how: int = 2) -> None:
        """Let the filesystem die: 0 = sync first, 1 = flush the log, 2 = as a power cut."""
        fcntl.ioctl(self._control, FS_IOC_SHUTDOWN, struct.pack("I", how))

    def freeze(self) -> None:
        """Make every writer hang in D state until `thaw`."""
        fcntl.ioctl(self._control, FIFREEZE, 0)
        self.frozen = True

    def thaw(self) -> None:
        """Let writers go on."""
        if self.frozen:
            self.frozen = False
            fcntl.ioctl(self._control, FITHAW, 0)

    def close(self) -> None:
        """Thaw, unmount, detach: always to be called."""
        with contextlib.suppress(OSError):
            self.thaw()
        self._drop_control()
        for _ in range(100):
            if not self.mounted:
                break
            sh("umount", str(self.mount_point), check=False)
            self.mounted = os.path.ismount(self.mount_point)
            if self.mounted:
                time.sleep(0.05)  # a killed worker still lets go
        if self.mounted:
            sh("umount", "-l", str(self.mount_point), check=False)
            self.mounted = False
        if self.device:
            sh("losetup", "-d", self.device, check=False)
            self.device = ""

    def _drop_control(self) -> None:
        if self._control >= 0:
            os.close(self._control)
            self._control = -1


@contextlib.contextmanager
def loop_filesystem(
    folder: Path, name: str, *, kind: str = "ext4", size: int | None = None, mounted: bool = True
) -> Iterator[LoopFilesystem]:
    """Make, mount and in the end remove one."""
    need_loop()
    made = LoopFilesystem(folder, name, kind, size)
    try:
        if mounted:
            made.mount()
        yield made
    finally:
        made.close()
