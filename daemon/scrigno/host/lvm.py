# SPDX-License-Identifier: Apache-2.0
"""LVM: logical volumes and the legs of mirrored ones, from `lvs -a --reportformat json`.

`lvs` reads every physical volume, so it needs root, blocks on a hung disk and always gets a limit.
A pulled disk is told at once: `lv_health_status` "partial", its device "[unknown]" (lvs(8)).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from .arrays import Activity, Array, ArrayHealth, ArrayKind, Member, MemberState, Progress
from .blockdevices import BlockTree
from .facts import FactsUnreadable, Json

COLUMNS: Final = (
    "vg_name,lv_name,lv_uuid,lv_attr,lv_health_status,lv_layout,copy_percent,"
    "raid_sync_action,raid_mismatch_count,lv_kernel_major,lv_kernel_minor,devices"
)
COMMAND: Final = ("lvs", "-a", "--reportformat", "json", "-o", COLUMNS)
_TOOL: Final = "lvs"
_HUNDREDTHS: Final = 10_000  # of 100 per cent, as copy_percent is told
_LEG: Final = re.compile(r"^\[(.+)_(?:rimage|mimage)_(\d+)\]$")
_DEVICE: Final = re.compile(r"([^,()]+)\(\d+\)")
_UNKNOWN: Final = "[unknown]"
_ACTIVE_AT: Final = 4  # fifth letter of lv_attr (lvs(8), lv_attr bits)
_ACTIVITIES: Final = {
    "resync": Activity.RESYNC,
    "recover": Activity.RECOVER,
    "check": Activity.CHECK,
    "repair": Activity.REPAIR,
    "reshape": Activity.RESHAPE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LogicalVolume:
    """One row of `lvs`."""

    group: str
    name: str
    uuid: str
    attributes: str
    health: str
    layout: tuple[str, ...]
    copied: float | None
    action: str
    mismatches: int | None
    number: str  # "major:minor", "-1:-1" when not active
    devices: tuple[str, ...]


def in_use(tree: BlockTree) -> bool:
    """Tell whether there is anything of LVM: an active volume, or a disk udev knows as part."""
    return any(
        one.mapper_uuid.startswith("LVM-") or one.file_system == "LVM2_member"
        for one in tree.devices.values()
    )


def parse_lvs(content: bytes | str) -> tuple[LogicalVolume, ...]:
    """Return the rows of the report; raises FactsUnreadable."""
    told = Json.parse(content, _TOOL)
    if "report" not in told:
        raise FactsUnreadable(_TOOL, "no report")
    return tuple(_row(row) for part in told["report"].rows() for row in part["lv"].rows())


def _row(row: Json) -> LogicalVolume:
    return LogicalVolume(
        group=row["vg_name"].text,
        name=row["lv_name"].text,
        uuid=row["lv_uuid"].text,
        attributes=row["lv_attr"].text,
        health=row["lv_health_status"].text,
        layout=tuple(filter(None, row["lv_layout"].text.split(","))),
        copied=row["copy_percent"].number,
        action=row["raid_sync_action"].text,
        mismatches=row["raid_mismatch_count"].whole,
        number=f"{row['lv_kernel_major'].text}:{row['lv_kernel_minor'].text}",
        devices=tuple(_DEVICE.findall(row["devices"].text)),
    )


def arrays(rows: Iterable[LogicalVolume]) -> tuple[Array, ...]:
    """Return the visible logical volumes as arrays; one without copies has the level "linear"."""
    every = tuple(rows)
    return tuple(_array(row, every) for row in every if not row.name.startswith("["))


def _array(row: LogicalVolume, every: tuple[LogicalVolume, ...]) -> Array:
    members = _members(row, every)
    lacking = sum(member.state in (MemberState.MISSING, MemberState.FAULTY) for member in members)
    mirrored = any(word.startswith(("raid", "mirror")) for word in row.layout)
    mirrored = mirrored and "raid0" not in row.layout
    level = row.layout[-1] if row.layout else "linear"
    return Array(
        kind=ArrayKind.LVM,
        name=f"{row.group}/{row.name}",
        uuid=row.uuid,
        level=level,
        state=row.health or "healthy",
        health=_health(row, lacking, mirrored=mirrored),
        wanted=len(members),
        degraded=lacking,
        members=members,
        progress=_progress(row) if mirrored else None,
        mismatches=row.mismatches,
    )


def _members(row: LogicalVolume, every: tuple[LogicalVolume, ...]) -> tuple[Member, ...]:
    legs = []
    for other in every:
        leg = _LEG.match(other.name)
        if leg and leg[1] == row.name and other.group == row.group:
            legs.append(_member(other.devices, int(leg[2]), other.health))
    if legs:
        return tuple(sorted(legs, key=lambda member: member.role or 0))
    return tuple(_member((device,), role, "") for role, device in enumerate(row.devices))


def _member(devices: tuple[str, ...], role: int, health: str) -> Member:
    present = [device for device in devices if device != _UNKNOWN]
    state = MemberState.IN_SYNC
    if len(present) < len(devices) or not devices or health == "partial":
        state = MemberState.MISSING
    elif health == "refresh needed":  # failed for a moment; its content is old
        state = MemberState.FAULTY
    device = ",".join(name.removeprefix("/dev/") for name in dict.fromkeys(present))
    return Member(device=device, state=state, role=role, words=(health,) if health else ())


def _health(row: LogicalVolume, lacking: int, *, mirrored: bool) -> ArrayHealth:
    if row.attributes[_ACTIVE_AT : _ACTIVE_AT + 1] not in ("a", ""):
        return ArrayHealth.INACTIVE
    if not (lacking or row.health in ("partial", "refresh needed")):
        return ArrayHealth.WHOLE
    return ArrayHealth.DEGRADED if mirrored else ArrayHealth.FAILED


def _progress(row: LogicalVolume) -> Progress | None:
    activity = _ACTIVITIES.get(row.action)
    if activity is None or row.copied is None:
        return None
    return Progress(activity=activity, done=round(row.copied * 100), total=_HUNDREDTHS)
