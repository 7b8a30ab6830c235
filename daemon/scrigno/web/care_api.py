# SPDX-License-Identifier: Apache-2.0
"""Looking after images: the scrub of every volume and what it found."""

from typing import Annotated, Any, Final

from aiohttp import web
from msgspec import Meta

from scrigno.archive.scrub import ScrubStatus
from scrigno.archive.scrub_desk import ScrubState
from scrigno.catalogue.fixity import LostKind, LostObject, SetAside

from .answers import at, moment
from .rooms import Rooms
from .routes import For, Route, audited
from .shapes import (
    ONE_LINE,
    Answer,
    Body,
    Moment,
    Query,
    limit_of,
    query_of,
    read_optional_body,
)

_ADMIN: Final = For.ADMINISTRATORS
MOST_FILES: Final = 10_000
_ALL: Final = "all volumes"


class ScrubAnswer(Answer):
    """How the scrub of one volume is; the numbers are of the running or last pass."""

    volume: str
    state: ScrubState
    reason: str
    checked_objects: int
    total_objects: int
    checked_bytes: int
    total_bytes: int
    bytes_per_s: float | None
    left_s: float | None
    bad: int
    repaired: int
    unrepairable: int
    alien: int
    last_started: Moment | None
    last_finished: Moment | None
    overdue: bool


class ScrubsAnswer(Answer):
    """How the scrub of each volume is."""

    paused: bool
    volumes: list[ScrubAnswer]


class SetAsideAnswer(Answer):
    """One file that was set aside."""

    volume: str
    key: str
    object_key: str
    why: str
    size_bytes: int
    set_aside_at: Moment


class QuarantineAnswer(Answer):
    """Files that were set aside."""

    files: list[SetAsideAnswer]


class LostAnswer(Answer):
    """One object of which no good copy can be read; volumes that are away may have one."""

    name: str
    study_instance_uid: str | None
    kind: LostKind
    found_at: Moment
    away: list[str]


class LostObjectsAnswer(Answer):
    """Objects of which no good copy can be read, and how many of each kind there are."""

    counts: dict[str, int]
    objects: list[LostAnswer]


class ScrubBody(Body):
    """Which volume; all of them when it is empty."""

    volume: Annotated[str, Meta(max_length=32, pattern=ONE_LINE)] = ""


def scrub_json(status: ScrubStatus) -> ScrubAnswer:
    """Return how the scrub of one volume is."""
    return ScrubAnswer(
        volume=status.volume,
        state=status.state,
        reason=status.reason,
        checked_objects=status.checked_objects,
        total_objects=status.total_objects,
        checked_bytes=status.checked_bytes,
        total_bytes=status.total_bytes,
        bytes_per_s=status.bytes_per_s,
        left_s=status.eta_s,
        bad=status.bad,
        repaired=status.repaired,
        unrepairable=status.unrepairable,
        alien=status.alien,
        last_started=moment(status.last_started),
        last_finished=moment(status.last_finished),
        overdue=status.overdue,
    )


def _scrubs(rooms: Rooms) -> ScrubsAnswer:
    names = [each.name for each in rooms.volumes.ordered]
    return ScrubsAnswer(
        paused=rooms.scrubber.paused,
        volumes=[scrub_json(rooms.scrubber.status(name)) for name in names],
    )


async def get_scrub(_request: web.Request, rooms: Rooms) -> Any:
    """Return how the scrub of each volume is."""
    return _scrubs(rooms)


async def run_scrub(request: web.Request, rooms: Rooms) -> Any:
    """Begin a pass now, on one volume or on all, whatever window and schedule say."""
    volume = (await read_optional_body(request, ScrubBody)).volume
    audited(request, volume or _ALL)
    rooms.scrubber.run_now(volume or None)
    return _scrubs(rooms)


async def pause_scrub(request: web.Request, rooms: Rooms) -> Any:
    """Read nothing until it is resumed, or the box starts anew."""
    audited(request, _ALL)
    rooms.scrubber.pause()
    return _scrubs(rooms)


async def resume_scrub(request: web.Request, rooms: Rooms) -> Any:
    """Go on where it was paused."""
    audited(request, _ALL)
    rooms.scrubber.resume()
    return _scrubs(rooms)


def set_aside_json(file: SetAside) -> SetAsideAnswer:
    """Return one file that was set aside."""
    return SetAsideAnswer(
        volume=file.volume,
        key=file.key,
        object_key=file.object_key,
        why=file.why,
        size_bytes=file.size,
        set_aside_at=at(file.set_aside_at),
    )


async def list_quarantine(request: web.Request, rooms: Rooms) -> Any:
    """List the files that were set aside because they are not what the index says."""
    asked = query_of(request)
    files = await rooms.quarantine.items(asked["volume"] or None, asked["limit"])
    return QuarantineAnswer(files=[set_aside_json(each) for each in files])


def lost_json(lost: LostObject) -> LostAnswer:
    """Return one object of which no good copy can be read."""
    return LostAnswer(
        name=lost.name,
        study_instance_uid=lost.study_uid or None,
        kind=lost.kind,
        found_at=at(lost.found_at),
        away=list(lost.away),
    )


async def list_lost(request: web.Request, rooms: Rooms) -> Any:
    """List the objects of which no good copy can be read, by name."""
    asked = query_of(request)
    found = await rooms.catalogue.lost_objects(asked["after"], asked["limit"])
    counts = await rooms.catalogue.lost_counts()
    return LostObjectsAnswer(
        counts={kind.value: count for kind, count in counts.items()},
        objects=[lost_json(each) for each in found],
    )


ROUTES: Final = (
    Route(
        method="GET", path="/scrub", work=get_scrub, allowed=_ADMIN,
        about="How far every copy of each volume was read anew, and what was found",
        answer=ScrubsAnswer,
    ),
    Route(
        method="POST", path="/scrub/run", work=run_scrub, allowed=_ADMIN,
        about="Begin a pass now, on one volume or on all", body=ScrubBody, body_optional=True,
        answer=ScrubsAnswer, audit="scrub-run", errors=("command-refused",),
    ),
    Route(
        method="POST", path="/scrub/pause", work=pause_scrub, allowed=_ADMIN,
        about="Read nothing until it is resumed", answer=ScrubsAnswer, audit="scrub-pause",
    ),
    Route(
        method="POST", path="/scrub/resume", work=resume_scrub, allowed=_ADMIN,
        about="Go on where the scrub was paused", answer=ScrubsAnswer, audit="scrub-resume",
    ),
    Route(
        method="GET", path="/quarantine", work=list_quarantine, allowed=_ADMIN,
        about="Files that were set aside because they are not what was received",
        query=(Query("volume", str, ""), limit_of(MOST_FILES, 1000)), answer=QuarantineAnswer,
    ),
    Route(
        method="GET", path="/lost", work=list_lost, allowed=_ADMIN,
        about="Objects of which no good copy can be read, with their studies",
        query=(Query("after", str, "", "The last name of the page before"), limit_of(1000, 1000)),
        answer=LostObjectsAnswer,
    ),
)  # fmt: skip
