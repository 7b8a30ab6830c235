# SPDX-License-Identifier: Apache-2.0
"""What the kernel says of a volume's mount and device, without touching its file system.

`statvfs`, `stat` and `access` succeed on a dead disk. These tell, and never wait for a disk: the
super options of mountinfo (`shutdown` and `emergency_ro` of ext4 stand nowhere else), the error
counters of ext4 and btrfs in sysfs, and the counters of the block device. XFS says nothing at all
when it has shut down (measured), so its warden asks the worker each time instead.
"""

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scrigno.host.blockdevices import IoCounters, parse_io_counters
from scrigno.host.btrfs import device_names, parse_error_stats
from scrigno.host.facts import FactsUnreadable, NotAvailable, read_names, read_text, whole
from scrigno.host.filesystems import Mount, mount_of, parse_mountinfo
from scrigno.host.mounts import MOUNT_TABLE
from scrigno.host.reader import Reader

from .transitions import Fact

READ_TIMEOUT_S: Final = 2.0
UNTOLD: Final = frozenset({"xfs"})  # kinds of file system whose death stands in no kernel file
NO_COUNTERS_FACTOR: Final = 2  # without a device's counters only our own waiting tells: be slower
_DEAD_STATES: Final = frozenset({"offline", "transport-offline", "dead", "deleting"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a volume stands, as its worker has found it."""

    path: Path  # without links
    mount_id: int  # 0 when untold
    number: str  # "major:minor" of its files


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What the kernel said of one place at one moment."""

    at_s: float  # monotonic
    mounted: bool = True
    own_mount: bool = False  # the path is a mount point
    kind: str = ""
    shut_down: bool = False
    emergency_read_only: bool = False
    read_only: bool = False
    fs_errors: int | None = None  # ext4, since mkfs or the last repair
    device_errors: int | None = None  # btrfs, of all its devices
    device: str = ""  # kernel names, for people
    device_there: bool = True
    device_read_only: bool = False
    counters: IoCounters | None = None


@dataclass(frozen=True, slots=True)
class Said:
    """A fact and what it is based on."""

    fact: Fact
    words: str


class Kernel:
    """Reads views beside the loop, in bounded time. Loop thread only."""

    def __init__(
        self, *, sys_root: Path = Path("/sys"), mount_table: Path = Path(MOUNT_TABLE)
    ) -> None:
        """Ask these files."""
        self._sys = sys_root
        self._table = mount_table
        self._reader = Reader("volumes", at_once=1, timeout_s=READ_TIMEOUT_S)

    async def look(self, places: Mapping[str, Place]) -> Mapping[str, View]:
        """Return a view of each place; nothing when the kernel does not answer in time."""
        if not places:
            return {}
        views = await self._reader.read(
            "mountinfo", lambda: read_views(places, self._sys, self._table)
        )
        return {} if isinstance(views, NotAvailable) else views


def read_views(places: Mapping[str, Place], sys_root: Path, table: Path) -> dict[str, View]:
    """Return a view of each place. Blocking, though never on a disk; raises FactsUnreadable."""
    mounts = parse_mountinfo(table.read_text("utf-8", "surrogateescape"))
    at_s = time.monotonic()
    return {name: _view(place, mounts, sys_root, at_s) for name, place in places.items()}


def _view(place: Place, mounts: tuple[Mount, ...], sys_root: Path, at_s: float) -> View:
    mount = mount_of(place.path, mounts)
    if mount is None:
        return View(at_s=at_s, mounted=False)
    if place.mount_id and mount.mount_id != place.mount_id:
        # ours has gone, or another covers it
        return View(at_s=at_s, mounted=False, own_mount=mount.point == str(place.path))
    names = tuple(_devices(place, mount, sys_root))
    folders = [sys_root / "class" / "block" / name for name in names]
    return View(
        at_s=at_s,
        own_mount=mount.point == str(place.path),
        kind=mount.kind,
        shut_down=mount.shut_down,
        emergency_read_only=mount.emergency_read_only,
        read_only=mount.read_only,
        fs_errors=_ext4_errors(mount, names, sys_root),
        device_errors=_btrfs_errors(mount, names, sys_root),
        device=", ".join(names),
        # one leg of a btrfs mirror that goes does not end it
        device_there=not folders or any(map(_is_there, folders)),
        device_read_only=any(read_text(at / "ro") == "1" for at in folders),
        counters=_counters(folders, at_s),
    )


def _devices(place: Place, mount: Mount, sys_root: Path) -> Iterator[str]:
    """Yield the kernel names of the block devices under a mount; none for network and memory."""
    if mount.kind == "btrfs":  # has device numbers of its own
        name = Path(os.path.realpath(mount.source)).name
        for uuid in read_names(sys_root / "fs" / "btrfs"):
            members = device_names(sys_root, uuid)
            if name in members:
                yield from members
                return
    elif not place.number.startswith("0:"):
        link = sys_root / "dev" / "block" / place.number
        yield Path(os.path.realpath(link)).name if link.exists() else place.number


def _is_there(at: Path) -> bool:
    if not at.exists() or read_text(at / "size") == "0":
        return False
    whole_disk = Path(os.path.realpath(at)).parent if (at / "partition").exists() else at
    if read_text(whole_disk / "device" / "state") in _DEAD_STATES:
        return False
    return read_text(at / "md" / "array_state") != "broken"


def _ext4_errors(mount: Mount, names: tuple[str, ...], sys_root: Path) -> int | None:
    if not mount.kind.startswith("ext") or not names:
        return None
    return whole(read_text(sys_root / "fs" / "ext4" / names[0] / "errors_count"))


def _btrfs_errors(mount: Mount, names: tuple[str, ...], sys_root: Path) -> int | None:
    if mount.kind != "btrfs" or not names:
        return None
    total = 0
    for uuid in read_names(sys_root / "fs" / "btrfs"):
        if names[0] not in device_names(sys_root, uuid):
            continue
        folder = sys_root / "fs" / "btrfs" / uuid / "devinfo"
        for number in read_names(folder):
            try:
                told = parse_error_stats(read_text(folder / number / "error_stats"))
            except FactsUnreadable:
                continue  # the device is going just now
            total += sum(told.values())
    return total


def _counters(folders: list[Path], at_s: float) -> IoCounters | None:
    told = [
        counters
        for at in folders
        if (
            counters := parse_io_counters(
                read_text(at / "stat"), read_text(at / "inflight"), at_s=at_s
            )
        )
    ]
    if not told:
        return None
    return IoCounters(
        at_s=at_s,
        completed=sum(one.completed for one in told),
        in_flight=sum(one.in_flight for one in told),
        busy_ms=max(one.busy_ms for one in told),
    )


def standing(view: View, *, accepted_errors: int | None) -> Said | None:
    """Return what keeps a volume from taking images for as long as the kernel says it.

    `accepted_errors` is what ext4 had counted when the volume was found good.
    """
    device = view.device or "its device"
    if view.shut_down:
        return Said(Fact.FS_SHUT_DOWN, f"{view.kind} on {device} has stopped itself after an error")
    if not view.device_there:
        return Said(Fact.DEVICE_GONE, f"{device} has gone")
    if view.emergency_read_only:
        return Said(
            Fact.FS_EMERGENCY_READ_ONLY, f"{view.kind} on {device} refuses writes after an error"
        )
    if view.read_only:
        return Said(Fact.FS_REMOUNTED_READ_ONLY, "it is mounted read-only")
    if view.device_read_only:
        return Said(Fact.DEVICE_READ_ONLY, f"{device} has become read-only")
    if accepted_errors is not None and (view.fs_errors or 0) > accepted_errors:
        return Said(
            Fact.FS_ERRORS_GREW,
            f"{view.kind} on {device} has found {view.fs_errors} errors in its own structures, "
            f"before {accepted_errors}; it must be unmounted and repaired (e2fsck)",
        )
    return None


class Ear:
    """Turns the views of one time of service into facts. Pure: remembers what was said before."""

    def __init__(self, first: View, *, accepted_errors: int | None, hang_s: float) -> None:
        """Begin with the view at which the volume was let in."""
        self.standing = standing(first, accepted_errors=accepted_errors)
        self._accepted_errors = accepted_errors
        self._hang_s = hang_s
        self._before = first
        self._moved = first  # when the device had completed something for the last time

    def hear(self, view: View, *, silent_s: float) -> Iterator[Said]:
        """Yield what follows; `silent_s`: how long a request of ours has waited for an answer."""
        before, self._before = self._before, view
        if not view.mounted:
            yield Said(Fact.UNMOUNTED, "it was unmounted, or another disk was mounted over it")
            return
        was, self.standing = self.standing, standing(view, accepted_errors=self._accepted_errors)
        if self.standing is not None:
            yield self.standing
        elif was is not None:
            yield Said(Fact.KERNEL_CONTENT, "")
        if (view.device_errors or 0) > (before.device_errors or 0):
            yield Said(
                Fact.DEVICE_ERRORS_GREW, f"{view.device}: {view.device_errors} errors of devices"
            )
        if self._hangs(view, silent_s):
            yield Said(
                Fact.DEVICE_HANGS, f"requests wait for {silent_s:.0f} s and none is completed"
            )

    def _hangs(self, view: View, silent_s: float) -> bool:
        """Tell whether our requests wait and the device completes none, anybody's.

        Measured on a stopped disk: not one completion while io_ticks run. A frozen file system
        sends its device nothing at all, so requests in flight there are not asked for. A slow
        disk completes something.
        """
        now, then = view.counters, self._moved.counters
        if now is None or then is None:
            self._moved = view
            return silent_s >= self._hang_s * NO_COUNTERS_FACTOR
        if now.completed != then.completed:
            self._moved = view
        return silent_s >= self._hang_s <= view.at_s - self._moved.at_s
