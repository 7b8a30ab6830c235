# SPDX-License-Identifier: Apache-2.0
"""A real btrfs mirror on loop devices, one leg of which can really die and be replaced."""

import contextlib
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from loopfs import LoopFilesystem, loop_filesystem, missing, need_loop, sh
from scrigno.host import btrfs
from scrigno.host.arrays import Array

SYS = Path("/sys")
LEG_BYTES = 160 << 20


@dataclass
class BtrfsPair:
    """A mounted mirror. The file of its second leg lies on a file system that can die."""

    folder: Path
    point: Path
    first: str  # kernel names
    second: str
    uuid: str
    outer: LoopFilesystem
    stack: ExitStack

    def array(self) -> Array:
        """Return what sysfs tells now. Blocking."""
        return next(one for one in btrfs.read_arrays(SYS) if one.uuid == self.uuid)

    def write(self, name: str) -> None:
        """Write 24 MB to it and sync."""
        sh("dd", "if=/dev/zero", f"of={self.point / name}", "bs=1M", "count=24", "conv=fsync")

    def kill_second(self) -> None:
        """Let the second leg die: from now on each of its requests is an I/O error."""
        self.outer.shutdown()

    def remount_degraded(self) -> None:
        """Mount it with the first leg only, as after a start without the other disk."""
        sh("umount", str(self.point))
        sh("mount", "-o", "degraded", f"/dev/{self.first}", str(self.point))

    def replace_second(self) -> str:
        """Put a new leg in the place of the second and wait until it is filled; its name."""
        device = _loop(self.folder / "third.img", self.stack)
        sh("btrfs", "replace", "start", "-B", "-r", "-f", "2", device, str(self.point))
        return Path(device).name

    def balance_softly(self) -> None:
        """Give a second copy to what was written while there was one leg only."""
        kinds = ("-dconvert=raid1,soft", "-mconvert=raid1,soft", "-sconvert=raid1,soft", "-f")
        sh("btrfs", "balance", "start", *kinds, str(self.point))


def _loop(image: Path, stack: ExitStack) -> str:
    with image.open("wb") as file:
        file.truncate(LEG_BYTES)
    device = sh("losetup", "-f", "--show", str(image))
    stack.callback(sh, "losetup", "-d", device, check=False)
    return device


@contextlib.contextmanager
def btrfs_pair(folder: Path) -> Iterator[BtrfsPair]:
    """Make, mount and in the end remove a mirror."""
    need_loop()
    if missing() or shutil.which("mkfs.btrfs", path="/usr/sbin:/usr/bin:/sbin:/bin") is None:
        pytest.skip("needs mkfs.btrfs")
    with ExitStack() as stack:
        outer = stack.enter_context(loop_filesystem(folder, "outer", kind="xfs"))
        images = (folder / "first.img", outer.mount_point / "second.img")
        devices = [_loop(image, stack) for image in images]
        sh("mkfs.btrfs", "-q", "-f", "-L", "pair", "-d", "raid1", "-m", "raid1", *devices)
        uuid = sh("blkid", "-p", "-s", "UUID", "-o", "value", devices[0])
        point = folder / "pair"
        point.mkdir()
        sh("mount", devices[0], str(point))
        stack.callback(sh, "umount", str(point), check=False)
        yield BtrfsPair(
            folder=folder,
            point=point,
            first=Path(devices[0]).name,
            second=Path(devices[1]).name,
            uuid=uuid,
            outer=outer,
            stack=stack,
        )
