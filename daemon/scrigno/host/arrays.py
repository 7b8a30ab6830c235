# SPDX-License-Identifier: Apache-2.0
"""What an array is, whoever runs it: md, btrfs, LVM or ZFS."""

from dataclasses import dataclass
from enum import StrEnum


class ArrayKind(StrEnum):
    """Who runs the array."""

    MD = "md"
    BTRFS = "btrfs"
    LVM = "lvm"
    ZFS = "zfs"


class ArrayHealth(StrEnum):
    """What the array can still bear."""

    WHOLE = "whole"  # every copy there is meant to be
    DEGRADED = "degraded"  # serves, with fewer copies than meant
    FAILED = "failed"  # does not serve any more
    INACTIVE = "inactive"  # known, not running


class MemberState(StrEnum):
    """What a member is to its array."""

    IN_SYNC = "in sync"
    REBUILDING = "rebuilding"
    SPARE = "spare"
    ERRORS = "errors"  # serves, and has failed before
    FAULTY = "faulty"
    MISSING = "missing"


class Activity(StrEnum):
    """What the array does beside serving."""

    RESYNC = "resync"  # making copies equal after creation or a crash
    RECOVER = "recover"  # filling a new member
    CHECK = "check"
    REPAIR = "repair"
    RESHAPE = "reshape"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far an activity is; bytes for each member where the source tells them, else of 100."""

    activity: Activity
    done: int
    total: int
    rate: float | None = None  # of the same unit for each second; None: not told, or no motion
    waiting: str = ""  # why it does not run yet: "delayed", "pending", "paused"

    @property
    def percent(self) -> float:
        """Return 0 to 100."""
        return min(100.0, 100.0 * self.done / self.total) if self.total > 0 else 0.0

    @property
    def remaining_s(self) -> float | None:
        """Return seconds to the end at this rate, None when it cannot be said."""
        if not self.rate or self.total <= 0:
            return None
        return max(0, self.total - self.done) / self.rate


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One leg of an array."""

    device: str  # kernel name or path as the source tells it; "" when the disk is gone
    state: MemberState
    role: int | None = None  # slot, counted from 0; None for a spare
    words: tuple[str, ...] = ()  # the source's own words
    errors: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Array:
    """One array as seen now."""

    kind: ArrayKind
    name: str
    uuid: str  # "" when the source could not be asked
    level: str  # "raid1", "mirror", "raidz1" … as the source says
    state: str  # the source's own state word
    health: ArrayHealth
    wanted: int  # members it should have, spares not counted; 0: not told
    degraded: int  # members it lacks
    members: tuple[Member, ...]
    progress: Progress | None = None
    mismatches: int | None = None  # of the last check, in the source's unit; None: not told
    notes: tuple[str, ...] = ()  # what else the source warns of, in its words
