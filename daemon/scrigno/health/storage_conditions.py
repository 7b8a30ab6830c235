# SPDX-License-Identifier: Apache-2.0
"""Arrays, the remembered topology and file systems: from facts to conditions. Pure.

What counts is what an operator has to do: a member that was replaced explains the disk that is
gone and the one that came, so those two are not told as well.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from scrigno.host.arrays import Activity, Array, ArrayHealth, ArrayKind, MemberState
from scrigno.host.filesystems import FileSystemState
from scrigno.host.topology import (
    Difference,
    DifferenceKind,
    KnownArray,
    KnownDisk,
    Topology,
    compare,
)

from .codes import Level
from .conditions import Condition, condition

# A check only reads, and a repair belongs to it; neither means that a copy is missing.
_FILLING: Final = frozenset({Activity.RECOVER, Activity.RESYNC, Activity.RESHAPE})
_BTRFS_FILLING: Final = frozenset({"device replace", "device remove"})  # exclusive_operation
_FAILED: Final = frozenset({MemberState.FAULTY, MemberState.ERRORS})


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSystemFacts:
    """One file system that matters: of a volume, the index or staging."""

    place: str  # the volume's name, or the folder's
    state: FileSystemState


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageFacts:
    """Arrays, disks and file systems as they are and as they should be."""

    arrays: tuple[Array, ...] = ()
    expected: Topology | None = None  # None: nothing is remembered yet
    seen: Topology | None = None  # None: not known at this moment
    file_systems: tuple[FileSystemFacts, ...] = ()

    @property
    def differences(self) -> tuple[Difference, ...]:
        """Return how what is seen differs from what should be."""
        if self.expected is None or self.seen is None:
            return ()
        return compare(self.expected, self.seen)


def storage_conditions(facts: StorageFacts) -> Iterator[Condition]:
    """Yield every condition that holds."""
    differences = facts.differences
    for array in facts.arrays:
        yield from _array(array, facts)
    yield from _topology(facts, differences)
    for system in facts.file_systems:
        yield from _file_system(system)


def _array(array: Array, facts: StorageFacts) -> Iterator[Condition]:
    match array.health:
        case ArrayHealth.FAILED | ArrayHealth.INACTIVE:
            yield condition("raid-failed", subject=array.name, reason=_state(array, facts))
        case ArrayHealth.DEGRADED:
            yield condition(
                "raid-degraded",
                subject=array.name,
                present=max(0, array.wanted - array.degraded),
                wanted=array.wanted,
                reason=_state(array, facts),
            )
        case ArrayHealth.WHOLE:
            if array.kind is ArrayKind.BTRFS and array.notes:
                # Measured: what was written while a leg was away stands on one disk only, also
                # after `btrfs replace`, until a balance with the filter "soft".
                yield condition(
                    "raid-degraded",
                    subject=array.name,
                    level=Level.WARNING,
                    present=array.wanted,
                    wanted=array.wanted,
                    reason="; ".join(array.notes),
                )
    yield from _activity(array)
    # md(4), SCRUBBING AND MISMATCHES: sectors that differed in the last check; a count that a
    # check is still making, or the resync after a crash, is not one yet.
    if array.mismatches and array.progress is None:
        yield condition("raid-mismatch", subject=array.name, count=array.mismatches)
    yield from _spares(array, facts)


def _state(array: Array, facts: StorageFacts) -> str:
    """Say which members are bad, by serial where the remembered topology knows them."""
    told = [array.state] if array.health in (ArrayHealth.FAILED, ArrayHealth.INACTIVE) else []
    for member in array.members:
        if member.state is MemberState.REBUILDING:
            told.append(f"{member.device or 'a new disk'} is being filled")
        elif member.state in _FAILED and member.device:
            counted = [word for word in member.words if word.endswith("_errs")]  # btrfs
            told.append(f"{member.device} has failed" + f" ({', '.join(counted)})" * bool(counted))
    gone = sorted(_gone(array, facts))
    told += [f"disk {serial} is gone" for serial in gone]
    missing = sum(member.state is MemberState.MISSING for member in array.members)
    if missing > len(gone):
        told.append(f"{missing} of its disks are gone" if missing > 1 else "a disk is gone")
    return "; ".join([*told, *array.notes]) or array.state


def _gone(array: Array, facts: StorageFacts) -> frozenset[str]:
    expected, seen = _known(array, facts.expected), _known(array, facts.seen)
    if expected is None or seen is None or facts.expected is None:
        return frozenset()
    serials = {disk.id: disk.serial or disk.id for disk in facts.expected.disks}
    return frozenset(serials.get(one, one) for one in set(expected.disks) - set(seen.disks))


def _known(array: Array, topology: Topology | None) -> KnownArray | None:
    key = (array.kind, array.uuid or array.name)
    known = topology.arrays if topology is not None else ()
    return next((one for one in known if one.key == key), None)


def _activity(array: Array) -> Iterator[Condition]:
    progress = array.progress
    if progress is not None and progress.activity in _FILLING:
        left_s = None if progress.remaining_s is None else round(progress.remaining_s)
        percent = round(progress.percent, 1)
        yield condition("raid-rebuilding", subject=array.name, percent=percent, left_s=left_s)
    elif array.kind is ArrayKind.BTRFS and array.state in _BTRFS_FILLING:
        yield condition("raid-rebuilding", subject=array.name)  # sysfs tells no progress


def _spares(array: Array, facts: StorageFacts) -> Iterator[Condition]:
    known = _known(array, facts.expected)
    if known is None or array.health is not ArrayHealth.WHOLE or array.kind is not ArrayKind.MD:
        return
    wanted = max(0, len(known.disks) - known.wanted)
    present = sum(one.state is MemberState.SPARE for one in array.members)
    if present < wanted:
        yield condition("raid-spare-missing", subject=array.name, present=present, wanted=wanted)


def _topology(facts: StorageFacts, differences: tuple[Difference, ...]) -> Iterator[Condition]:
    if facts.expected is None or facts.seen is None:
        return
    replaced = [one for one in differences if one.kind is DifferenceKind.MEMBER_REPLACED]
    moved = [one for one in differences if one.kind is DifferenceKind.VOLUME_MOVED]
    explained = {serial for one in replaced for serial in (*one.before, *one.after)}
    explained |= {serial for one in moved for serial in one.after}
    for name in sorted({one.subject for one in replaced}):
        swaps = [one.details.removeprefix(" -> ") for one in replaced if one.subject == name]
        yield condition("member-replaced", subject=name, reason="; ".join(swaps))
    for one in moved:
        yield condition(
            "volume-moved",
            subject=one.subject,
            reason=f"{', '.join(one.before) or 'none'} -> {', '.join(one.after)}",
        )
    disks = {disk.serial or disk.id: disk for disk in (*facts.expected.disks, *facts.seen.disks)}
    for one in differences:
        if one.subject not in explained:
            yield from _difference(one, disks.get(one.subject), facts.expected)


def _difference(one: Difference, disk: KnownDisk | None, expected: Topology) -> Iterator[Condition]:
    match one.kind:
        case DifferenceKind.DISK_MISSING:
            users = uses(disk, expected) if disk is not None else ()
            yield condition(
                "disk-missing",
                subject=one.subject,
                level=Level.CRITICAL if users else Level.WARNING,
                reason=", ".join(filter(None, (one.details, *users))),
            )
        case DifferenceKind.DISK_BLANK:
            size = disk.size_bytes if disk is not None else None
            yield condition("disk-blank", subject=one.subject, size_bytes=size)
        case DifferenceKind.DISK_UNKNOWN:
            size = disk.size_bytes if disk is not None else None
            yield condition("disk-unknown", subject=one.subject, size_bytes=size)
        case DifferenceKind.ARRAY_MISSING:
            reason = f"its disks: {', '.join(one.before)}" if one.before else "its disks unknown"
            yield condition("raid-missing", subject=one.subject, reason=reason)
        case DifferenceKind.ARRAY_FOREIGN:
            yield condition("array-foreign", subject=one.subject, reason=one.details)
        case (
            DifferenceKind.MEMBER_MISSING  # told as raid-degraded or raid-spare-missing
            | DifferenceKind.MEMBER_REPLACED
            | DifferenceKind.VOLUME_MOVED
        ):
            return


def uses(disk: KnownDisk, expected: Topology) -> tuple[str, ...]:
    """Return what stands on a disk, in words: its arrays and volumes."""
    arrays = (f"RAID {one.name}" for one in expected.arrays if disk.id in one.disks)
    volumes = (f"volume {one.name}" for one in expected.volumes if disk.id in one.disks)
    return (*arrays, *volumes)


def _file_system(system: FileSystemFacts) -> Iterator[Condition]:
    mount, told = system.state.mount, []
    # Measured: ext4 refuses every write while the mount still says "rw"; these words stand in the
    # super options only.
    if mount.shut_down:
        told.append("it has shut itself down")
    if mount.emergency_read_only:
        told.append("it takes no writes after an error")
    if system.state.errors:
        since = system.state.first_error_at
        told.append(f"errors counted since {since:%Y-%m-%d}" if since else "errors counted")
    if told:
        yield condition(
            "filesystem-errors",
            subject=system.place,
            reason="; ".join(told),
            count=system.state.errors or 0,
        )
