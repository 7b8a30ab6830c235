# SPDX-License-Identifier: Apache-2.0
"""The machine: disks by serial, arrays, heat, power; volumes and what people do to them."""

from pathlib import Path
from typing import Annotated, Any, Final

from aiohttp import web
from msgspec import Meta

from scrigno.archive.catchup import Progress
from scrigno.health.disk_conditions import DiskFacts
from scrigno.host.arrays import Activity, Array, ArrayHealth, ArrayKind, MemberState
from scrigno.host.topology import Difference, DifferenceKind
from scrigno.volumes.states import Role, VolumeState, VolumeStatus

from .answers import moment
from .errors import NotFound
from .rooms import Rooms, author_of
from .routes import For, Own, Route, audited
from .shapes import (
    NO_NULL,
    ONE_LINE,
    Answer,
    Body,
    Moment,
    path_of,
    read_body,
    read_optional_body,
)

_ADMIN: Final = For.ADMINISTRATORS


class ArrayMemberAnswer(Answer):
    """One leg of an array."""

    device: str
    state: MemberState
    errors: int


class ArrayProgressAnswer(Answer):
    """How far an activity of an array is."""

    activity: Activity
    percent: float
    left_s: float | None
    waiting: str


class ArrayAnswer(Answer):
    """One array as it is now."""

    kind: ArrayKind
    name: str
    uuid: str
    level: str
    state: str
    health: ArrayHealth
    wanted: int
    degraded: int
    mismatches: int | None
    members: list[ArrayMemberAnswer]
    progress: ArrayProgressAnswer | None


class DiskAnswer(Answer):
    """One disk: what it is and what it last said of itself."""

    serial: str
    model: str
    device: str
    used_by: list[str]
    temperature_c: float | None
    passed: bool | None
    hours: int | None
    wear_percent: float | None


class DifferenceAnswer(Answer):
    """How what is seen differs from what was."""

    kind: DifferenceKind
    subject: str
    details: str


class UpsAnswer(Answer):
    """The UPS as it last answered."""

    name: str
    on_battery: bool
    low: bool
    silence: str


class ClockAnswer(Answer):
    """Whether the clock of the box is kept right."""

    synchronised: bool
    reason: str


class MachineAnswer(Answer):
    """Disks, arrays, power, time and load as they are, and how disks differ from before."""

    arrays: list[ArrayAnswer]
    disks: list[DiskAnswer]
    differences: list[DifferenceAnswer]
    ups: UpsAnswer | None
    clock: ClockAnswer
    memory_used_percent: float | None
    load: float | None
    processors: int | None
    sensors_failing: dict[str, str]


class AcceptedAnswer(Answer):
    """What differed and is now taken for what should be."""

    accepted: list[DifferenceAnswer]


class CatchUpAnswer(Answer):
    """How far a volume is from having everything."""

    state: str
    owed_objects: int
    owed_bytes: int
    done_objects: int
    done_bytes: int
    bytes_per_s: float | None
    left_s: float | None
    started_at: Moment | None


class VolumeAnswer(Answer):
    """A volume with its state, space and disks."""

    name: str
    role: Role
    path: str
    state: VolumeState
    reason: str
    paused: bool
    operator_reason: str
    since: Moment | None
    uuid: str | None
    disks: list[str]
    total_bytes: int | None
    free_bytes: int | None
    total_inodes: int | None
    free_inodes: int | None
    catch_up: CatchUpAnswer
    objects_held: int
    objects_owed: int
    objects_missing: int


class VolumesAnswer(Answer):
    """The volumes with how much of the archive they hold."""

    volumes: list[VolumeAnswer]


class PauseBody(Body):
    """Why the volume is to rest."""

    reason: Annotated[str, Meta(max_length=200, pattern=NO_NULL)] = ""


class AdoptBody(Body):
    """With `force` also a disk that was used before."""

    force: bool = False


class AddVolumeBody(Body):
    """A name and the folder where the disk is mounted."""

    name: Annotated[str, Meta(min_length=1, max_length=32, pattern=ONE_LINE)]
    path: Annotated[str, Meta(min_length=1, max_length=1024, pattern=ONE_LINE)]


def _array(array: Array) -> ArrayAnswer:
    progress = array.progress
    return ArrayAnswer(
        kind=array.kind,
        name=array.name,
        uuid=array.uuid,
        level=array.level,
        state=array.state,
        health=array.health,
        wanted=array.wanted,
        degraded=array.degraded,
        mismatches=array.mismatches,
        members=[
            ArrayMemberAnswer(device=each.device, state=each.state, errors=each.errors)
            for each in array.members
        ],
        progress=None
        if progress is None
        else ArrayProgressAnswer(
            activity=progress.activity,
            percent=round(progress.percent, 1),
            left_s=progress.remaining_s,
            waiting=progress.waiting,
        ),
    )


def _disk(disk: DiskFacts) -> DiskAnswer:
    smart = disk.smart
    return DiskAnswer(
        serial=disk.serial,
        model=disk.model,
        device=disk.name,
        used_by=list(disk.used_by),
        temperature_c=disk.heat.current_c if disk.heat else None,
        passed=smart.passed if smart else None,
        hours=smart.hours if smart else None,
        wear_percent=smart.wear_percent if smart else None,
    )


def _difference(each: Difference) -> DifferenceAnswer:
    return DifferenceAnswer(kind=each.kind, subject=each.subject, details=each.details)


async def get_machine(_request: web.Request, rooms: Rooms) -> Any:
    """Return disks, arrays, power, time and load as they are, and how disks differ from before."""
    facts = rooms.watch.facts
    resources, ups = facts.resources, facts.ups
    return MachineAnswer(
        arrays=[_array(each) for each in facts.storage.arrays],
        disks=[_disk(each) for each in facts.disks],
        differences=[_difference(each) for each in facts.storage.differences],
        ups=None
        if ups is None
        else UpsAnswer(name=ups.name, on_battery=ups.on_battery, low=ups.low, silence=ups.silence),
        clock=ClockAnswer(synchronised=facts.clock.synchronised, reason=facts.clock.reason),
        memory_used_percent=resources.memory_used_percent if resources else None,
        load=resources.load if resources else None,
        processors=resources.processors if resources else None,
        sensors_failing={
            name: failure.reason for name, failure in facts.failures.items() if not failure.absent
        },
    )


async def accept_topology(request: web.Request, rooms: Rooms) -> Any:
    """Take the disks as they are now for what should be; returns what differed."""
    audited(request, "disks")
    differences = await rooms.watch.accept_topology()
    return AcceptedAnswer(accepted=[_difference(each) for each in differences])


async def accept_disk(request: web.Request, rooms: Rooms) -> Any:
    """Take the error counters of a disk as they are."""
    await rooms.watch.accept_disk(path_of(request)["serial"])


async def _volumes(rooms: Rooms) -> list[VolumeAnswer]:
    tallies = await rooms.catalogue.volume_tallies()
    found = []
    for status in rooms.volumes.statuses():
        tally = tallies.get(status.name)
        held, owed, missing = (tally.held, tally.owed, tally.missing) if tally else (0, 0, 0)
        found.append(_volume(status, rooms, held, owed, missing))
    return found


def _volume(status: VolumeStatus, rooms: Rooms, held: int, owed: int, missing: int) -> VolumeAnswer:
    return VolumeAnswer(
        name=status.name,
        role=status.role,
        path=str(status.path),
        state=status.state,
        reason=status.reason,
        paused=status.paused,
        operator_reason=status.operator_reason,
        since=moment(status.since),
        uuid=status.uuid,
        disks=sorted(status.devices),
        total_bytes=status.total_bytes,
        free_bytes=status.free_bytes,
        total_inodes=status.total_inodes,
        free_inodes=status.free_inodes,
        catch_up=_progress(rooms.replicator.progress(status.name)),
        objects_held=held,
        objects_owed=owed,
        objects_missing=missing,
    )


def _progress(progress: Progress) -> CatchUpAnswer:
    return CatchUpAnswer(
        state=progress.state,
        owed_objects=progress.owed_objects,
        owed_bytes=progress.owed_bytes,
        done_objects=progress.done_objects,
        done_bytes=progress.done_bytes,
        bytes_per_s=progress.bytes_per_s,
        left_s=progress.eta_s,
        started_at=moment(progress.started_at),
    )


async def list_volumes(_request: web.Request, rooms: Rooms) -> Any:
    """List the volumes with their state, space, disks and how much of the archive they hold."""
    return VolumesAnswer(volumes=await _volumes(rooms))


async def _named(rooms: Rooms, name: str) -> VolumeAnswer:
    for each in await _volumes(rooms):
        if each.name == name:
            return each
    raise NotFound(f"There is no volume {name}.")


async def pause_volume(request: web.Request, rooms: Rooms) -> Any:
    """Let a volume rest until it is resumed."""
    name, body = path_of(request)["name"], await read_optional_body(request, PauseBody)
    await rooms.disks.pause(name, reason=body.reason, user=author_of(request))
    return await _named(rooms, name)


async def resume_volume(request: web.Request, rooms: Rooms) -> Any:
    """Let a paused volume come back."""
    name = path_of(request)["name"]
    await rooms.disks.resume(name, user=author_of(request))
    return await _named(rooms, name)


async def force_volume(request: web.Request, rooms: Rooms) -> Any:
    """Do not wait any longer for a volume that has come back."""
    name = path_of(request)["name"]
    await rooms.disks.force(name, user=author_of(request))
    return await _named(rooms, name)


async def adopt_volume(request: web.Request, rooms: Rooms) -> Any:
    """Make what stands at the path this volume: a new disk, or with `force` a used one."""
    name, body = path_of(request)["name"], await read_optional_body(request, AdoptBody)
    await rooms.disks.adopt(name, force=body.force, user=author_of(request))
    return await _named(rooms, name)


async def retire_volume(request: web.Request, rooms: Rooms) -> Any:
    """Take a volume out for good; its files stay as they are."""
    await rooms.disks.retire(path_of(request)["name"], user=author_of(request))


async def add_volume(request: web.Request, rooms: Rooms) -> Any:
    """Take a further volume into service; it gets a copy of everything."""
    body = await read_body(request, AddVolumeBody)
    await rooms.disks.add(body.name, Path(body.path), user=author_of(request))
    return await _named(rooms, body.name)


def _verb(
    verb: str, work: Any, about: str, body: type[Body] | None = None, answer: Any = VolumeAnswer
) -> Route:
    return Route(
        method="POST", path=f"/volumes/{{name}}/{verb}", work=work, allowed=_ADMIN, about=about,
        body=body, body_optional=True, answer=answer, audit=Own("hardware-configuration"),
        errors=("command-refused", "volume-error", "bad-configuration"),
    )  # fmt: skip


ROUTES: Final = (
    Route(
        method="GET", path="/machine", work=get_machine, allowed=_ADMIN,
        about="Disks by serial, arrays, heat, power, time and load", answer=MachineAnswer,
    ),
    Route(
        method="POST", path="/machine/topology/accept", work=accept_topology, allowed=_ADMIN,
        about="Take the disks as they are now for what should be", answer=AcceptedAnswer,
        audit="topology-accepted", errors=("command-refused",),
    ),
    Route(
        method="POST", path="/machine/disks/{serial}/accept", work=accept_disk, allowed=_ADMIN,
        about="Take the error counters of a disk as they are", answer=None,
        audit="disk-accepted", errors=("command-refused",),
    ),
    Route(
        method="GET", path="/volumes", work=list_volumes, allowed=_ADMIN,
        about="The volumes with state, space, disks and debts", answer=VolumesAnswer,
    ),
    Route(
        method="POST", path="/volumes", work=add_volume, allowed=_ADMIN,
        about="Take a further volume into service", body=AddVolumeBody, answer=VolumeAnswer,
        success=201, audit=Own("hardware-configuration"),
        errors=("bad-configuration", "command-refused", "volume-error"),
    ),
    _verb("pause", pause_volume, "Let a volume rest until it is resumed", PauseBody),
    _verb("resume", resume_volume, "Let a paused volume come back"),
    _verb("force", force_volume, "Do not wait any longer for a volume that has come back"),
    _verb("adopt", adopt_volume, "Make what stands at the path this volume", AdoptBody),
    _verb("retire", retire_volume, "Take a volume out for good; its files stay", answer=None),
)  # fmt: skip
