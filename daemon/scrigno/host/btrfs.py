# SPDX-License-Identifier: Apache-2.0
"""btrfs as an array: its devices, what failed on each, and whether every copy has a second.

sysfs tells all of it without blocking (Documentation/ABI/testing/sysfs-fs-btrfs): a RAID1 with a
dead leg goes on acknowledging writes without one error to the writer, only `error_stats` counts;
`missing` stays 0 until the next mount; writes made degraded leave `single` chunks that stay
without a copy until a soft balance.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from .arrays import Array, ArrayHealth, ArrayKind, Member, MemberState
from .facts import FactsUnreadable, Json, key_values, read_names, read_text, whole

ERROR_COUNTERS: Final = (
    "write_errs",
    "read_errs",
    "flush_errs",
    "corruption_errs",
    "generation_errs",
)
STATS_COMMAND: Final = ("btrfs", "--format", "json", "device", "stats")
_TOOL: Final = "btrfs device stats"
_TYPES: Final = ("data", "metadata", "system")
_FLAGS: Final = ("in_fs_metadata", "writeable", "missing", "replace_target")
_STALE: Final = frozenset({"write_errs", "flush_errs", "generation_errs"})
_WITHOUT_COPY: Final = frozenset({"single", "raid0", "dup"})  # on another disk


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceErrors:
    """What btrfs counted against one device since it was last reset; survives a mount."""

    device: str
    device_id: int
    write: int
    read: int
    flush: int
    corruption: int
    generation: int

    @property
    def total(self) -> int:
        """Return all of them together."""
        return self.write + self.read + self.flush + self.corruption + self.generation


def parse_device_stats(content: bytes | str) -> tuple[DeviceErrors, ...]:
    """Return `btrfs --format json device stats`; raises FactsUnreadable."""
    told = Json.parse(content, _TOOL)
    if "device-stats" not in told:
        raise FactsUnreadable(_TOOL, "no device-stats")
    return tuple(
        DeviceErrors(
            device=row["device"].text,
            device_id=row["devid"].whole or 0,
            write=row["write_io_errs"].whole or 0,
            read=row["read_io_errs"].whole or 0,
            flush=row["flush_io_errs"].whole or 0,
            corruption=row["corruption_errs"].whole or 0,
            generation=row["generation_errs"].whole or 0,
        )
        for row in told["device-stats"].rows()
    )


def parse_error_stats(text: str) -> dict[str, int]:
    """Return the counters of `devinfo/N/error_stats`; raises FactsUnreadable."""
    values = key_values(text, " ")
    counted = {name: whole(values.get(name)) for name in ERROR_COUNTERS}
    known = {name: value for name, value in counted.items() if value is not None}
    if not known:
        raise FactsUnreadable("btrfs error_stats", "no counter in it")
    return known


def read_arrays(sys_root: Path) -> tuple[Array, ...]:
    """Return every mounted btrfs. Blocking, though never on a disk."""
    folder = sys_root / "fs" / "btrfs"
    return tuple(
        _array(uuid, folder / uuid)
        for uuid in read_names(folder)
        if (folder / uuid / "devinfo").is_dir()
    )


def device_names(sys_root: Path, uuid: str) -> tuple[str, ...]:
    """Return the kernel names of the devices a mounted btrfs is made of."""
    return read_names(sys_root / "fs" / "btrfs" / uuid / "devices")


def _array(uuid: str, at: Path) -> Array:
    profiles = {kind: _profiles(at / "allocation" / kind) for kind in _TYPES}
    names = read_names(at / "devices")
    ids = sorted((whole(name) or 0, name) for name in read_names(at / "devinfo"))
    members = tuple(_member(at / "devinfo" / name, number) for number, name in ids)
    if len(members) == 1 == len(names):
        members = (replace(members[0], device=names[0]),)
    degraded = sum(member.state is MemberState.MISSING for member in members)
    behind = sum(_behind(member) for member in members)
    copied = any(set(used) - _WITHOUT_COPY for used in profiles.values())
    level = "+".join(profiles["data"]) or "single"
    return Array(
        kind=ArrayKind.BTRFS,
        name=read_text(at / "label") or uuid,
        uuid=uuid,
        level=level,
        state=_state(at, degraded=degraded, behind=behind),
        health=ArrayHealth.DEGRADED if degraded or (behind and copied) else ArrayHealth.WHOLE,
        wanted=len(members),
        degraded=degraded or (behind if copied else 0),
        members=members,
        notes=tuple(_notes(profiles)),
    )


def _behind(member: Member) -> bool:
    """Tell whether a present device failed to take what was written, so its copy is old.

    The counters stay until `btrfs device stats --reset`, which is the operator's word that a scrub
    or a balance has made it good. Reads that failed were served from the other copy.
    """
    return member.state is MemberState.ERRORS and not _STALE.isdisjoint(member.words)


def _state(at: Path, *, degraded: int, behind: int) -> str:
    operation = read_text(at / "exclusive_operation")  # none, balance, device replace, …
    if operation and operation != "none":
        return operation
    if degraded:
        return "missing"
    return "errors" if behind else "clean"


def _profiles(at: Path) -> tuple[str, ...]:
    """Return the block group profiles in use: the directories beside the counters."""
    return tuple(
        name for name in read_names(at) if (whole(read_text(at / name / "total_bytes")) or 0) > 0
    )


def _notes(profiles: dict[str, tuple[str, ...]]) -> list[str]:
    return [
        f"{kind} has chunks of more than one profile ({', '.join(used)}): "
        "some may have no second copy until a balance"
        for kind, used in profiles.items()
        if len(used) > 1
    ]


def _member(at: Path, number: int) -> Member:
    try:
        errors = parse_error_stats(read_text(at / "error_stats"))
    except FactsUnreadable:
        errors = {}  # a device added this moment has no counters yet
    total = sum(errors.values())
    state = MemberState.ERRORS if total else MemberState.IN_SYNC
    if read_text(at / "missing") == "1":
        state = MemberState.MISSING
    elif read_text(at / "replace_target") == "1":
        state = MemberState.REBUILDING
    flags = (word for word in _FLAGS if read_text(at / word) == "1")
    counted = (name for name, value in errors.items() if value)
    return Member(device="", state=state, role=number, words=(*flags, *counted), errors=total)


def has_bad_leg(array: Array) -> bool:
    """Tell whether a member is worth asking the name of."""
    return any(one.state in (MemberState.ERRORS, MemberState.MISSING) for one in array.members)


def named(array: Array, told: tuple[DeviceErrors, ...]) -> Array:
    """Give members the device names `btrfs device stats` tells by device id.

    sysfs ties no name to an id (`devices/` and `devinfo/` are two lists), except for one of one.
    A device that is gone has no name to give.
    """
    names = {one.device_id: one.device.removeprefix("/dev/") for one in told}
    members = tuple(
        replace(member, device=names.get(member.role or 0, "").replace("<missing disk>", ""))
        for member in array.members
    )
    return replace(array, members=members)
