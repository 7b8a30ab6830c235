# SPDX-License-Identifier: Apache-2.0
"""Mounted file systems and what the kernel counts against them, without touching one.

`statvfs`, `stat` and `access` succeed on a dead, hung or read-only file system; these do tell:
the super options of mountinfo (`emergency_ro` and `shutdown` of ext4 stand nowhere else), and the
error counters of sysfs.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from .blockdevices import BlockTree
from .facts import FactsUnreadable, read_names, read_text, whole

_ESCAPE: Final = re.compile(r"\\([0-7]{3})")
_BEFORE_DASH: Final = 6
_AFTER_DASH: Final = 3
_YEAR_9999_S: Final = 253_370_764_800


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One line of /proc/self/mountinfo (proc_pid_mountinfo(5))."""

    mount_id: int
    parent_id: int
    number: str  # "major:minor", as st_dev of its files (not for btrfs subvolumes)
    root: str
    point: str
    options: frozenset[str]
    kind: str
    source: str
    super_options: frozenset[str]

    @property
    def read_only(self) -> bool:
        """Tell whether the mount or its file system is meant to be read-only."""
        return "ro" in self.options or "ro" in self.super_options

    @property
    def emergency_read_only(self) -> bool:
        """Tell whether ext4 refuses writes after an error while the mount still says rw."""
        return "emergency_ro" in self.super_options

    @property
    def shut_down(self) -> bool:
        """Tell whether the file system has stopped itself. XFS never says so here."""
        return "shutdown" in self.super_options


def parse_mountinfo(text: str) -> tuple[Mount, ...]:
    """Return the mounts in order (a later one covers an earlier); raises FactsUnreadable."""
    return tuple(_mount(line) for line in text.splitlines() if line.strip())


def _mount(line: str) -> Mount:
    fields = line.split(" ")
    try:
        dash = fields.index("-", _BEFORE_DASH)
    except ValueError as error:
        raise FactsUnreadable("mountinfo", "a line without its separator") from error
    mount_id, parent_id = whole(fields[0]), whole(fields[1])
    if mount_id is None or parent_id is None or len(fields) <= dash + _AFTER_DASH:
        raise FactsUnreadable("mountinfo", "a line of unknown form")
    return Mount(
        mount_id=mount_id,
        parent_id=parent_id,
        number=fields[2],
        root=_plain(fields[3]),
        point=_plain(fields[4]),
        options=frozenset(fields[5].split(",")),
        kind=fields[dash + 1],
        source=_plain(fields[dash + 2]),
        super_options=frozenset(fields[dash + _AFTER_DASH].split(",")),
    )


def _plain(text: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), text)


def mount_of(path: Path, mounts: Iterable[Mount]) -> Mount | None:
    """Return the mount an absolute path lies in: the deepest, of equal ones the last."""
    best: Mount | None = None
    text = f"{path}/"
    for mount in mounts:  # often asked, hence by text: points and paths are in the same plain form
        inside = mount.point == "/" or text.startswith(f"{mount.point}/")
        if inside and (best is None or len(mount.point) >= len(best.point)):
            best = mount
    return best


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSystemState:
    """One mounted file system and the errors counted against it."""

    mount: Mount
    errors: int | None = None  # ext4: since mkfs or fsck; btrfs: write, read, flush, … of its disks
    first_error_at: datetime | None = None
    warnings: int = 0
    retries_for_ever: tuple[str, ...] = ()  # XFS: errors at which it never gives up

    @property
    def writable(self) -> bool:
        """Tell whether nothing known here keeps it from taking writes."""
        mount = self.mount
        return not (mount.read_only or mount.emergency_read_only or mount.shut_down)


def read_file_systems(
    sys_root: Path, mounts: Iterable[Mount], tree: BlockTree
) -> tuple[FileSystemState, ...]:
    """Return the state of each mounted ext4, XFS and btrfs. Blocking, though never on a disk."""
    states = []
    for mount in mounts:
        device = tree.by_number(mount.number)
        name = device.name if device is not None else Path(mount.source).name
        match mount.kind:
            case "ext2" | "ext3" | "ext4":
                states.append(_ext4(mount, sys_root / "fs" / "ext4" / name))
            case "xfs":
                states.append(_xfs(mount, sys_root / "fs" / "xfs" / name / "error"))
            case "btrfs":
                states.append(FileSystemState(mount=mount))
            case _:
                pass
    return tuple(states)


def _ext4(mount: Mount, at: Path) -> FileSystemState:
    """Read the counters of the super block (fs/ext4/sysfs.c); they outlive a mount."""
    first = whole(read_text(at / "first_error_time"))
    return FileSystemState(
        mount=mount,
        errors=whole(read_text(at / "errors_count")),
        first_error_at=_moment(first),
        warnings=whole(read_text(at / "warning_count")) or 0,
    )


def _moment(seconds: int | None) -> datetime | None:
    if not seconds or not 0 < seconds < _YEAR_9999_S:
        return None
    return datetime.fromtimestamp(seconds, UTC)


def _xfs(mount: Mount, at: Path) -> FileSystemState:
    """Read how often XFS repeats a failed metadata write; -1 is for ever (admin-guide/xfs.rst)."""
    metadata = at / "metadata"
    endless = tuple(
        name
        for name in read_names(metadata)
        if whole(read_text(metadata / name / "max_retries")) == -1
        and (whole(read_text(metadata / name / "retry_timeout_seconds")) or 0) <= 0
    )
    return FileSystemState(mount=mount, retries_for_ever=endless)
