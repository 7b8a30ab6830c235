# SPDX-License-Identifier: Apache-2.0
"""Looking after images: the scrub of every volume and what it found."""

from typing import Any, Final

from aiohttp import web

from scrigno.archive.scrub import ScrubStatus
from scrigno.catalogue.fixity import LostObject, SetAside

from .answers import moment
from .bodies import number, read_optional, text
from .rooms import Rooms, author_of
from .routes import For, Route, fields

_ADMIN: Final = For.ADMINISTRATORS
MOST_FILES: Final = 10_000


def scrub_json(status: ScrubStatus) -> dict[str, Any]:
    """Return how the scrub of one volume is; the numbers are of the running or last pass."""
    return {
        "volume": status.volume,
        "state": status.state,
        "reason": status.reason,
        "checked_objects": status.checked_objects,
        "total_objects": status.total_objects,
        "checked_bytes": status.checked_bytes,
        "total_bytes": status.total_bytes,
        "bytes_per_s": status.bytes_per_s,
        "left_s": status.eta_s,
        "bad": status.bad,
        "repaired": status.repaired,
        "unrepairable": status.unrepairable,
        "alien": status.alien,
        "last_started": moment(status.last_started),
        "last_finished": moment(status.last_finished),
        "overdue": status.overdue,
    }


def _scrubs(rooms: Rooms) -> dict[str, Any]:
    names = [each.name for each in rooms.volumes.ordered]
    return {
        "paused": rooms.scrubber.paused,
        "volumes": [scrub_json(rooms.scrubber.status(name)) for name in names],
    }


async def get_scrub(request: web.Request, rooms: Rooms) -> Any:
    """Return how the scrub of each volume is."""
    return _scrubs(rooms)


async def run_scrub(request: web.Request, rooms: Rooms) -> Any:
    """Begin a pass now, on one volume or on all, whatever window and schedule say."""
    volume = text(await read_optional(request), "volume", default="", most=32)
    rooms.scrubber.run_now(volume or None)
    rooms.audit.record(author_of(request), "scrub-run", volume or "all volumes")
    return _scrubs(rooms)


async def pause_scrub(request: web.Request, rooms: Rooms) -> Any:
    """Read nothing until it is resumed, or the box starts anew."""
    rooms.scrubber.pause()
    rooms.audit.record(author_of(request), "scrub-pause", "all volumes")
    return _scrubs(rooms)


async def resume_scrub(request: web.Request, rooms: Rooms) -> Any:
    """Go on where it was paused."""
    rooms.scrubber.resume()
    rooms.audit.record(author_of(request), "scrub-resume", "all volumes")
    return _scrubs(rooms)


def set_aside_json(file: SetAside) -> dict[str, Any]:
    """Return one file that was set aside."""
    return {
        "volume": file.volume,
        "key": file.key,
        "object_key": file.object_key,
        "why": file.why,
        "size_bytes": file.size,
        "set_aside_at": moment(file.set_aside_at),
    }


async def list_quarantine(request: web.Request, rooms: Rooms) -> Any:
    """List the files that were set aside because they are not what the index says."""
    limit = number(request.query, "limit", lowest=1, highest=MOST_FILES, default=1000)
    files = await rooms.quarantine.items(request.query.get("volume") or None, limit)
    return {"files": [set_aside_json(each) for each in files]}


def lost_json(lost: LostObject) -> dict[str, Any]:
    """Return one object of which no good copy can be read."""
    return {
        "name": lost.name,
        "study_instance_uid": lost.study_uid or None,
        "kind": lost.kind,
        "found_at": moment(lost.found_at),
        "away": lost.away,
    }


async def list_lost(request: web.Request, rooms: Rooms) -> Any:
    """List the objects of which no good copy can be read, by name."""
    limit = number(request.query, "limit", lowest=1, highest=1000, default=1000)
    found = await rooms.catalogue.lost_objects(request.query.get("after", ""), limit)
    return {
        "counts": await rooms.catalogue.lost_counts(),
        "objects": [lost_json(each) for each in found],
    }


ROUTES: Final = (
    Route(
        method="GET", path="/scrub", work=get_scrub, allowed=_ADMIN,
        about="How far every copy of each volume was read anew, and what was found",
    ),
    Route(
        method="POST", path="/scrub/run", work=run_scrub, allowed=_ADMIN,
        about="Begin a pass now, on one volume or on all", body=fields(volume="string"),
        errors=("command-refused",),
    ),
    Route(
        method="POST", path="/scrub/pause", work=pause_scrub, allowed=_ADMIN,
        about="Read nothing until it is resumed",
    ),
    Route(
        method="POST", path="/scrub/resume", work=resume_scrub, allowed=_ADMIN,
        about="Go on where the scrub was paused",
    ),
    Route(
        method="GET", path="/quarantine", work=list_quarantine, allowed=_ADMIN,
        about="Files that were set aside because they are not what was received",
        query=("volume", "limit"),
    ),
    Route(
        method="GET", path="/lost", work=list_lost, allowed=_ADMIN,
        about="Objects of which no good copy can be read, with their studies",
        query=("after", "limit"),
    ),
)  # fmt: skip
