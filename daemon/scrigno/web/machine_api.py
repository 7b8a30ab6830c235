# SPDX-License-Identifier: Apache-2.0
"""The machine: disks by serial, arrays, heat, power; volumes and what people do to them."""

from pathlib import Path
from typing import Any, Final

from aiohttp import web

from scrigno.archive.catchup import Progress
from scrigno.health.disk_conditions import DiskFacts
from scrigno.host.arrays import Array
from scrigno.volumes.states import VolumeStatus

from .answers import moment
from .bodies import read_object, text
from .errors import BadBody
from .rooms import Rooms, author_of
from .routes import For, Route

_ADMIN: Final = For.ADMINISTRATORS


def _array(array: Array) -> dict[str, Any]:
    progress = array.progress
    return {
        "kind": array.kind,
        "name": array.name,
        "uuid": array.uuid,
        "level": array.level,
        "state": array.state,
        "health": array.health,
        "wanted": array.wanted,
        "degraded": array.degraded,
        "mismatches": array.mismatches,
        "members": [
            {"device": each.device, "state": each.state, "errors": each.errors}
            for each in array.members
        ],
        "progress": None
        if progress is None
        else {
            "activity": progress.activity,
            "percent": round(progress.percent, 1),
            "left_s": progress.remaining_s,
            "waiting": progress.waiting,
        },
    }


def _disk(disk: DiskFacts) -> dict[str, Any]:
    smart = disk.smart
    return {
        "serial": disk.serial,
        "model": disk.model,
        "device": disk.name,
        "used_by": disk.used_by,
        "temperature_c": disk.heat.current_c if disk.heat else None,
        "passed": smart.passed if smart else None,
        "hours": smart.hours if smart else None,
        "wear_percent": smart.wear_percent if smart else None,
    }


async def get_machine(request: web.Request, rooms: Rooms) -> Any:
    """Return disks, arrays, power, time and load as they are, and how disks differ from before."""
    facts = rooms.watch.facts
    resources = facts.resources
    return {
        "arrays": [_array(each) for each in facts.storage.arrays],
        "disks": [_disk(each) for each in facts.disks],
        "differences": [
            {"kind": each.kind, "subject": each.subject, "details": each.details}
            for each in facts.storage.differences
        ],
        "ups": None
        if facts.ups is None
        else {
            "name": facts.ups.name,
            "on_battery": facts.ups.on_battery,
            "low": facts.ups.low,
            "silence": facts.ups.silence,
        },
        "clock": {"synchronised": facts.clock.synchronised, "reason": facts.clock.reason},
        "memory_used_percent": resources.memory_used_percent if resources else None,
        "load": resources.load if resources else None,
        "processors": resources.processors if resources else None,
        "sensors_failing": {
            name: failure.reason for name, failure in facts.failures.items() if not failure.absent
        },
    }


async def accept_topology(request: web.Request, rooms: Rooms) -> Any:
    """Take the disks as they are now for what should be; returns what differed."""
    differences = await rooms.watch.accept_topology()
    return {
        "accepted": [
            {"kind": each.kind, "subject": each.subject, "details": each.details}
            for each in differences
        ]
    }


async def accept_disk(request: web.Request, rooms: Rooms) -> Any:
    """Take the error counters of a disk as they are."""
    await rooms.watch.accept_disk(request.match_info["serial"])


def volume_json(status: VolumeStatus, rooms: Rooms) -> dict[str, Any]:
    """Return a volume as the pages show it."""
    progress = rooms.replicator.progress(status.name)
    return {
        "name": status.name,
        "role": status.role,
        "path": str(status.path),
        "state": status.state,
        "reason": status.reason,
        "paused": status.paused,
        "operator_reason": status.operator_reason,
        "since": moment(status.since),
        "uuid": status.uuid,
        "disks": sorted(status.devices),
        "total_bytes": status.total_bytes,
        "free_bytes": status.free_bytes,
        "total_inodes": status.total_inodes,
        "free_inodes": status.free_inodes,
        "catch_up": _progress(progress),
    }


def _progress(progress: Progress) -> dict[str, Any]:
    return {
        "state": progress.state,
        "owed_objects": progress.owed_objects,
        "owed_bytes": progress.owed_bytes,
        "done_objects": progress.done_objects,
        "done_bytes": progress.done_bytes,
        "bytes_per_s": progress.bytes_per_s,
        "left_s": progress.eta_s,
        "started_at": moment(progress.started_at),
    }


async def list_volumes(request: web.Request, rooms: Rooms) -> Any:
    """List the volumes with their state, space, disks and how much of the archive they hold."""
    tallies = await rooms.catalogue.volume_tallies()
    volumes = []
    for status in rooms.volumes.statuses():
        tally = tallies.get(status.name)
        volumes.append(
            volume_json(status, rooms)
            | {
                "objects_held": tally.held if tally else 0,
                "objects_owed": tally.owed if tally else 0,
                "objects_missing": tally.missing if tally else 0,
            }
        )
    return {"volumes": volumes}


def _answer(request: web.Request, rooms: Rooms) -> Any:
    name = request.match_info["name"]
    found = [each for each in rooms.volumes.statuses() if each.name == name]
    return volume_json(found[0], rooms) if found else None


async def pause_volume(request: web.Request, rooms: Rooms) -> Any:
    """Let a volume rest until it is resumed."""
    reason = text(await read_object(request), "reason", default="", most=200)
    await rooms.disks.pause(request.match_info["name"], reason=reason, user=author_of(request))
    return _answer(request, rooms)


async def resume_volume(request: web.Request, rooms: Rooms) -> Any:
    """Let a paused volume come back."""
    await rooms.disks.resume(request.match_info["name"], user=author_of(request))
    return _answer(request, rooms)


async def force_volume(request: web.Request, rooms: Rooms) -> Any:
    """Do not wait any longer for a volume that has come back."""
    await rooms.disks.force(request.match_info["name"], user=author_of(request))
    return _answer(request, rooms)


async def adopt_volume(request: web.Request, rooms: Rooms) -> Any:
    """Make what stands at the path this volume: a new disk, or with `force` a used one."""
    body = await read_object(request)
    force = body.get("force", False)
    if not isinstance(force, bool):
        raise BadBody("force must be true or false.")
    await rooms.disks.adopt(request.match_info["name"], force=force, user=author_of(request))
    return _answer(request, rooms)


async def retire_volume(request: web.Request, rooms: Rooms) -> Any:
    """Take a volume out for good; its files stay as they are."""
    await rooms.disks.retire(request.match_info["name"], user=author_of(request))


async def add_volume(request: web.Request, rooms: Rooms) -> Any:
    """Take a further volume into service; it gets a copy of everything."""
    body = await read_object(request)
    path = Path(text(body, "path"))
    name = text(body, "name", most=32)
    await rooms.disks.add(name, path, user=author_of(request))
    found = [each for each in rooms.volumes.statuses() if each.name == name]
    return web.json_response(volume_json(found[0], rooms) if found else {}, status=201)


def _verb(verb: str, work: Any, about: str, **properties: str) -> Route:
    return Route(
        method="POST", path=f"/volumes/{{name}}/{verb}", work=work, allowed=_ADMIN, about=about,
        body={
            "type": "object",
            "properties": {name: {"type": kind} for name, kind in properties.items()},
        }
        if properties
        else None,
        errors=("command-refused", "volume-error"),
    )  # fmt: skip


ROUTES: Final = (
    Route(
        method="GET", path="/machine", work=get_machine, allowed=_ADMIN,
        about="Disks by serial, arrays, heat, power, time and load",
    ),
    Route(
        method="POST", path="/machine/topology/accept", work=accept_topology, allowed=_ADMIN,
        about="Take the disks as they are now for what should be", errors=("command-refused",),
    ),
    Route(
        method="POST", path="/machine/disks/{serial}/accept", work=accept_disk, allowed=_ADMIN,
        about="Take the error counters of a disk as they are", errors=("command-refused",),
    ),
    Route(
        method="GET", path="/volumes", work=list_volumes, allowed=_ADMIN,
        about="The volumes with state, space, disks and debts",
    ),
    Route(
        method="POST", path="/volumes", work=add_volume, allowed=_ADMIN,
        about="Take a further volume into service",
        body={
            "type": "object",
            "required": ["name", "path"],
            "properties": {"name": {"type": "string"}, "path": {"type": "string"}},
        },
        errors=("bad-configuration", "command-refused"),
    ),
    _verb("pause", pause_volume, "Let a volume rest until it is resumed", reason="string"),
    _verb("resume", resume_volume, "Let a paused volume come back"),
    _verb("force", force_volume, "Do not wait any longer for a volume that has come back"),
    _verb("adopt", adopt_volume, "Make what stands at the path this volume", force="boolean"),
    _verb("retire", retire_volume, "Take a volume out for good; its files stay"),
)  # fmt: skip
