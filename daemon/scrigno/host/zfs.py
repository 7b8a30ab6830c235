# SPDX-License-Identifier: Apache-2.0
"""ZFS pools from `zpool status`: JSON from OpenZFS 2.3 on, the older text form before.

`zpool` waits for a suspended pool, so it always gets a limit. State words: zpoolconcepts(7),
"Device Failure and Recovery"; JSON keys: zpool-status(8) and cmd/zpool/zpool_main.c.
"""

import re
from collections.abc import Iterator
from typing import Final

from .arrays import Activity, Array, ArrayHealth, ArrayKind, Member, MemberState, Progress
from .facts import FactsUnreadable, Json, number, whole

JSON_COMMAND: Final = ("zpool", "status", "-j", "--json-int", "-L", "-P", "-p")
TEXT_COMMAND: Final = ("zpool", "status", "-L", "-P", "-p")
_TOOL: Final = "zpool status"
_DEPTH: Final = 8  # pool, mirror or raidz, spare or replacing, disk: four in life
_GROUPS: Final = re.compile(r"^(mirror|raidz[123]?|draid\S*|replacing|spare|indirect)(-\d+)?$")
_SECTIONS: Final = frozenset({"logs", "cache", "spares", "special", "dedup"})
_POOL_HEALTH: Final = {
    "ONLINE": ArrayHealth.WHOLE,
    "DEGRADED": ArrayHealth.DEGRADED,
    "FAULTED": ArrayHealth.FAILED,
    "SUSPENDED": ArrayHealth.FAILED,
    "UNAVAIL": ArrayHealth.FAILED,
    "OFFLINE": ArrayHealth.INACTIVE,
    "REMOVED": ArrayHealth.FAILED,
}
_MEMBER_STATES: Final = {
    "ONLINE": MemberState.IN_SYNC,
    "HEALTHY": MemberState.IN_SYNC,  # the JSON's word for it
    "DEGRADED": MemberState.ERRORS,
    "FAULTED": MemberState.FAULTY,
    "OFFLINE": MemberState.FAULTY,
    "UNAVAIL": MemberState.MISSING,
    "CANT_OPEN": MemberState.MISSING,
    "CANT_OPEN_MISSING": MemberState.MISSING,
    "REMOVED": MemberState.MISSING,
    "AVAIL": MemberState.SPARE,
    "INUSE": MemberState.SPARE,
}
_FIELD: Final = re.compile(r"^\s*(pool|state|status|scan|errors): ?(.*)$")
_DONE: Final = re.compile(r"([\d.]+)% done")
_HUNDREDTHS: Final = 10_000


def parse_json(content: bytes | str) -> tuple[Array, ...]:
    """Return the pools of `zpool status -j`; raises FactsUnreadable."""
    told = Json.parse(content, _TOOL)
    if "pools" not in told:
        raise FactsUnreadable(_TOOL, "no pools")
    return tuple(_pool(name, pool) for name, pool in told["pools"].items())


def _pool(key: str, pool: Json) -> Array:
    name = pool["name"].text or key
    levels: list[str] = []
    members: list[Member] = []
    for top in ("vdevs", "logs", "special", "dedup", "spares", "l2cache"):
        for leaf in _leaves(pool[top], levels, _DEPTH):
            members.append(_member(leaf, len(members), top))
    errors = pool["error_count"].whole or 0
    return _array(
        name=name,
        uuid=str(pool["pool_guid"].whole or pool["guid"].whole or ""),
        state=pool["state"].text,
        level="+".join(dict.fromkeys(levels)) or "stripe",
        members=tuple(members),
        progress=_scan(pool["scan_stats"]),
        notes=(pool["status"].text, f"{errors} data errors" if errors else ""),
    )


def _leaves(vdevs: Json, levels: list[str], depth: int) -> Iterator[Json]:
    if depth == 0:
        return
    for vdev in vdevs.values():
        if "vdevs" in vdev:
            kind = vdev["vdev_type"].text
            if kind not in ("", "root"):
                levels.append(kind)
            yield from _leaves(vdev["vdevs"], levels, depth - 1)
        elif vdev["name"].text:
            yield vdev


def _member(leaf: Json, role: int, top: str) -> Member:
    word = leaf["state"].text
    counts = (leaf[f"{kind}_errors"].whole or 0 for kind in ("read", "write", "checksum"))
    return _leg(
        leaf["path"].text or leaf["name"].text, word, role, sum(counts), spare=top == "spares"
    )


def _leg(device: str, word: str, role: int, errors: int, *, spare: bool) -> Member:
    state = _MEMBER_STATES.get(word, MemberState.FAULTY)
    if state is MemberState.IN_SYNC:
        state = MemberState.ERRORS if errors else state
    if spare:
        state = MemberState.SPARE if word in ("AVAIL", "INUSE") else MemberState.FAULTY
    gone = state is MemberState.MISSING
    return Member(
        device="" if gone else device.removeprefix("/dev/"),
        state=state,
        role=None if spare else role,
        words=(word, device) if gone else (word,),
        errors=errors,
    )


def _scan(scan: Json) -> Progress | None:
    if scan["state"].text != "SCANNING":
        return None
    activity = Activity.RECOVER if scan["function"].text == "RESILVER" else Activity.CHECK
    paused = scan["scrub_pause"].whole or 0
    return Progress(
        activity=activity,
        done=scan["issued"].whole or 0,
        total=scan["to_examine"].whole or 0,
        waiting="paused" if paused else "",
    )


def _array(
    *,
    name: str,
    uuid: str,
    state: str,
    level: str,
    members: tuple[Member, ...],
    progress: Progress | None,
    notes: tuple[str, ...],
) -> Array:
    lacking = sum(member.state in (MemberState.MISSING, MemberState.FAULTY) for member in members)
    health = _POOL_HEALTH.get(state, ArrayHealth.FAILED)
    return Array(
        kind=ArrayKind.ZFS,
        name=name,
        uuid=uuid,
        level=level,
        state=state,
        health=health,
        wanted=sum(member.state is not MemberState.SPARE for member in members),
        degraded=lacking,
        members=members,
        progress=progress,
        notes=tuple(note for note in notes if note and note != "OK"),
    )


def parse_text(text: str) -> tuple[Array, ...]:
    """Return the pools of `zpool status -P -p`; raises FactsUnreadable."""
    if not text.strip() or text.startswith("no pools available"):
        return ()
    blocks = re.split(r"^(?=\s*pool: )", text, flags=re.MULTILINE)
    pools = tuple(_text_pool(block) for block in blocks if block.strip())
    if not all(pool.name for pool in pools):
        raise FactsUnreadable(_TOOL, "no pool in it")
    return pools


def _text_pool(block: str) -> Array:
    head, _, table = block.partition("config:")
    fields = {
        match[1]: match[2].strip() for line in head.splitlines() if (match := _FIELD.match(line))
    }
    name = fields.get("pool", "")
    levels: list[str] = []
    members: list[Member] = []
    section = ""
    for line in table.partition("\nerrors:")[0].splitlines():
        words = line.split()
        if not words or words[0] in ("NAME", name):
            continue
        if words[0] in _SECTIONS:
            section = words[0]
        elif group := _GROUPS.match(words[0]):
            levels.append(group[1])
        elif len(words) > 1:
            errors = sum(whole(word) or 0 for word in words[2:5])
            members.append(
                _leg(words[0], words[1], len(members), errors, spare=section == "spares")
            )
    return _array(
        name=name,
        uuid="",
        state=fields.get("state", ""),
        level="+".join(dict.fromkeys(levels)) or "stripe",
        members=tuple(members),
        progress=_text_scan(head),
        notes=(fields.get("status", ""),),
    )


def _text_scan(head: str) -> Progress | None:
    scan = head.partition("scan:")[2]
    match = _DONE.search(scan)
    done = number(match[1]) if match else None
    if "in progress" not in scan or done is None:
        return None
    activity = Activity.RECOVER if "resilver" in scan else Activity.CHECK
    return Progress(activity=activity, done=round(done * 100), total=_HUNDREDTHS)
