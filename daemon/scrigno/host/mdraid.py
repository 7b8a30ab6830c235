# SPDX-License-Identifier: Apache-2.0
"""Linux md: arrays from sysfs (Documentation/admin-guide/md.rst), mdstat and mdadm.

sysfs is the source; `/proc/mdstat` serves where sysfs is hidden, and `mdadm --detail --export`
adds the UUID where sysfs has none. What real disks taught: md itself notices a pulled disk only at
the next write; until then `degraded` is 0 and the member "in_sync". Its `block` link leads nowhere
at once, so that is what counts here.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .arrays import Activity, Array, ArrayHealth, ArrayKind, Member, MemberState, Progress
from .facts import FactsUnreadable, key_values, link_name, read_names, read_text, whole

SECTOR_BYTES: Final = 512  # of sync_completed, always (md.rst)
KIB: Final = 1024
_STOPPED: Final = frozenset({"clear", "inactive"})
_ACTIVITIES: Final = {
    "resync": Activity.RESYNC,
    "recover": Activity.RECOVER,
    "recovery": Activity.RECOVER,
    "check": Activity.CHECK,
    "repair": Activity.REPAIR,
    "reshape": Activity.RESHAPE,
}
_HEAD: Final = re.compile(
    r"^(?P<name>md\S*) : (?P<state>active|inactive)(?P<mode>(?: \([a-z-]+\))*)(?P<rest>.*)$"
)
_MEMBER: Final = re.compile(r"^(\S+?)\[(\d+)\]((?:\([A-Z]\))*)$")
_SIZES: Final = re.compile(r"\[(\d{1,9})/(\d{1,9})\] \[([U_]+)\]")
_MOTION: Final = re.compile(
    r"(resync|recovery|check|repair|reshape)\s*=\s*[\d.]+% \((\d{1,18})/(\d{1,18})\)"
    r"(?:.*?speed=(\d{1,18})K/sec)?"
)
_WAIT: Final = re.compile(r"(resync|recovery|check|repair|reshape)\s*=\s*(DELAYED|PENDING|REMOTE)")


@dataclass(frozen=True, slots=True, kw_only=True)
class MdRecord:
    """What `mdadm --detail --export` adds to sysfs."""

    uuid: str
    name: str
    level: str
    devices: int


def plain_uuid(text: str) -> str:
    """Return a UUID as 32 digits: sysfs parts it by dashes, mdadm by colons at other places."""
    return text.replace("-", "").replace(":", "").lower()


def _known_uuid(text: str) -> str:
    found = plain_uuid(text)
    return found if found.strip("0") else ""  # all zero while the array is inactive


def parse_detail_export(text: str) -> MdRecord:
    """Return the facts of `mdadm --detail --export`; raises FactsUnreadable when it has none."""
    values = key_values(text)
    if "MD_UUID" not in values and "MD_LEVEL" not in values:
        raise FactsUnreadable("mdadm --detail --export", "no MD_UUID and no MD_LEVEL")
    return MdRecord(
        uuid=plain_uuid(values.get("MD_UUID", "")),
        name=values.get("MD_NAME", values.get("MD_DEVNAME", "")),
        level=values.get("MD_LEVEL", ""),
        devices=whole(values.get("MD_DEVICES")) or 0,
    )


def read_arrays(sys_root: Path, uuids: Mapping[str, str]) -> tuple[Array, ...]:
    """Return every md array sysfs knows. Blocking; `uuids` by kernel name where known."""
    block = sys_root / "block"
    names = (name for name in read_names(block) if (block / name / "md").is_dir())
    return tuple(_array(name, block / name / "md", uuids.get(name, "")) for name in names)


def _array(name: str, md: Path, uuid: str) -> Array:
    wanted = whole(read_text(md / "raid_disks").partition(" ")[0]) or 0
    state = read_text(md / "array_state")
    degraded = whole(read_text(md / "degraded")) or 0
    legs = [_member(md, entry) for entry in read_names(md) if entry.startswith("dev-")]
    filled = {leg.role for leg in legs if leg.role is not None}
    gone = [role for role in range(wanted) if role not in filled]
    missing = tuple(Member(device="", state=MemberState.MISSING, role=role) for role in gone)
    pulled = sum(leg.state is MemberState.MISSING for leg in legs)
    degraded = max(degraded, pulled + len(gone) if wanted and state not in _STOPPED else 0)
    return Array(
        kind=ArrayKind.MD,
        name=name,
        uuid=_known_uuid(read_text(md / "uuid")) or plain_uuid(uuid),
        level=read_text(md / "level"),
        state=state,
        health=_health(state, degraded),
        wanted=wanted,
        degraded=degraded,
        members=tuple(sorted(legs, key=_place)) + missing,
        progress=_sysfs_progress(md),
        mismatches=whole(read_text(md / "mismatch_cnt")),
    )


def _place(member: Member) -> tuple[int, str]:
    return (member.role if member.role is not None else 1 << 30, member.device)


def _member(md: Path, entry: str) -> Member:
    words = tuple(read_text(md / entry / "state").split(","))
    slot = whole(read_text(md / entry / "slot"))  # "none" for a spare or a failed one
    errors = whole(read_text(md / entry / "errors")) or 0
    state = _member_state(words, slot, errors)
    if state is not MemberState.FAULTY and not (md / entry / "block").exists():
        state = MemberState.MISSING
    return Member(
        device=link_name(md / entry / "block") or entry.removeprefix("dev-"),
        state=state,
        role=None if state is MemberState.FAULTY else slot,
        words=words,
        errors=errors,
    )


def _member_state(words: tuple[str, ...], slot: int | None, errors: int) -> MemberState:
    if "faulty" in words:
        return MemberState.FAULTY
    if "in_sync" in words:
        broken = errors or "write_error" in words or "want_replacement" in words
        return MemberState.ERRORS if broken else MemberState.IN_SYNC
    return MemberState.SPARE if slot is None else MemberState.REBUILDING


def _health(state: str, degraded: int) -> ArrayHealth:
    # "broken" (md.rst): raid0 or linear that lost a member; serves nothing it would notice
    if state == "broken":
        return ArrayHealth.FAILED
    if state in _STOPPED or not state:
        return ArrayHealth.INACTIVE
    return ArrayHealth.DEGRADED if degraded else ArrayHealth.WHOLE


def _sysfs_progress(md: Path) -> Progress | None:
    activity = _ACTIVITIES.get(read_text(md / "sync_action"))
    if activity is None:  # "idle", "frozen", or a level that never syncs
        return None
    done, slash, total = read_text(md / "sync_completed").partition("/")
    speed = whole(read_text(md / "sync_speed"))  # KiB/s; "none" when nothing moves
    if not slash:  # "none" or "delayed"
        return Progress(activity=activity, done=0, total=0, waiting=done.strip())
    return Progress(
        activity=activity,
        done=(whole(done) or 0) * SECTOR_BYTES,
        total=(whole(total) or 0) * SECTOR_BYTES,
        rate=float(speed * KIB) if speed else None,
    )


def parse_mdstat(text: str) -> tuple[Array, ...]:
    """Return the arrays of /proc/mdstat (md_seq_show, drivers/md/md.c), without UUIDs.

    Raises FactsUnreadable when the text is not mdstat at all.
    """
    if not text.startswith("Personalities"):
        raise FactsUnreadable("/proc/mdstat", "does not start with Personalities")
    blocks: list[list[str]] = []
    for line in text.splitlines():
        if _HEAD.match(line):
            blocks.append([line])
        elif blocks and line.startswith(" "):
            blocks[-1].append(line)
    return tuple(_from_mdstat(block[0], "\n".join(block[1:])) for block in blocks)


def _from_mdstat(head: str, body: str) -> Array:
    match = _HEAD.match(head)
    if match is None:
        raise FactsUnreadable("/proc/mdstat", "an array line of unknown form")
    words = match["rest"].split()
    level = words.pop(0) if words and not _MEMBER.match(words[0]) else ""
    sizes = _SIZES.search(body)
    wanted, working = (int(sizes[1]), int(sizes[2])) if sizes else (0, 0)
    slots = sizes[3] if sizes else ""
    progress = _motion(body)
    members = tuple(filter(None, (_mdstat_member(word) for word in words)))
    missing = tuple(
        Member(device="", state=MemberState.MISSING, role=role)
        for role, mark in enumerate(slots)
        if mark == "_" and progress is None
    )
    stopped = match["state"] == "inactive"
    degraded = max(0, wanted - working)
    health = ArrayHealth.DEGRADED if degraded else ArrayHealth.WHOLE
    return Array(
        kind=ArrayKind.MD,
        name=match["name"],
        uuid="",
        level=level,
        state=f"{match['state']}{match['mode']}",
        health=ArrayHealth.INACTIVE if stopped else health,
        wanted=wanted,
        degraded=degraded,
        members=members + missing,
        progress=progress,
    )


def _mdstat_member(word: str) -> Member | None:
    """Read `sdb1[1](F)`. The number is the descriptor, not the slot, so no role is told."""
    match = _MEMBER.match(word)
    if match is None:
        return None
    marks = match[3]
    state = MemberState.IN_SYNC
    if "(F)" in marks:
        state = MemberState.FAULTY
    elif "(S)" in marks:
        state = MemberState.SPARE
    return Member(device=match[1], state=state, words=tuple(re.findall(r"\((.)\)", marks)))


def _motion(body: str) -> Progress | None:
    if moving := _MOTION.search(body):
        return Progress(
            activity=_ACTIVITIES[moving[1]],
            done=int(moving[2]) * KIB,
            total=int(moving[3]) * KIB,
            rate=float(int(moving[4]) * KIB) if moving[4] and int(moving[4]) else None,
        )
    if waiting := _WAIT.search(body):
        return Progress(
            activity=_ACTIVITIES[waiting[1]], done=0, total=0, waiting=waiting[2].lower()
        )
    return None
