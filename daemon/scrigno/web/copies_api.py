# SPDX-License-Identifier: Apache-2.0
"""The copies of one study: where they are, when they were read back; protection."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from aiohttp import web

from scrigno.access.permissions import Permission
from scrigno.archive.verify import VerifyReport
from scrigno.catalogue.records import CopyState, StoredInstance

from .answers import moment
from .errors import NotFound
from .rooms import Rooms, author_of
from .routes import For, Route
from .sight import require_study, sight_of
from .studies_api import uid_of

_ADMIN: Final = For.ADMINISTRATORS
MOST_NAMED: Final = 1_000  # bad copies of one report


@dataclass(slots=True)
class _Held:
    """The copies of one study on one volume."""

    held: int = 0
    owed: int = 0
    bad: int = 0  # was held, is gone or damaged
    verified: int = 0
    oldest: datetime | None = None
    newest: datetime | None = None


def _by_volume(instances: Sequence[StoredInstance]) -> dict[str, _Held]:
    found: dict[str, _Held] = defaultdict(_Held)
    for copy in (copy for instance in instances for copy in instance.copies):
        one = found[copy.volume]
        match copy.state:
            case CopyState.HELD:
                one.held += 1
            case CopyState.OWED:
                one.owed += 1
            case CopyState.MISSING:
                one.bad += 1
        if copy.state is CopyState.HELD and copy.verified_at is not None:
            one.verified += 1
            one.oldest = min(one.oldest or copy.verified_at, copy.verified_at)
            one.newest = max(one.newest or copy.verified_at, copy.verified_at)
    return found


async def get_copies(request: web.Request, rooms: Rooms) -> Any:
    """Return how many images of a study each volume holds and owes, and when they were read back.

    With `objects=yes` also each copy of each image.
    """
    uid = uid_of(request)
    instances = await rooms.catalogue.instances(uid, within=sight_of(request))
    if not instances:
        raise NotFound("There is no such study.")
    states = {each.name: each.state for each in rooms.volumes.statuses()}
    answer: dict[str, Any] = {
        "study_instance_uid": uid,
        "objects": len(instances),
        "volumes": [
            {
                "volume": name,
                "state": states.get(name),
                "held": one.held,
                "owed": one.owed,
                "bad": one.bad,
                "verified": one.verified,
                "oldest_verified_on": moment(one.oldest),
                "newest_verified_on": moment(one.newest),
            }
            for name, one in sorted(_by_volume(instances).items())
        ],
    }
    if request.query.get("objects") == "yes":
        answer["copies"] = [
            {
                "sop_instance_uid": instance.sop_instance_uid,
                "volume": copy.volume,
                "state": copy.state,
                "verified_on": moment(copy.verified_at),
            }
            for instance in instances
            for copy in instance.copies
        ]
    return answer


def verify_json(report: VerifyReport) -> dict[str, Any]:
    """Return what a verification found."""
    return {
        "objects": report.instances,
        "copies_good": report.copies_good,
        "copies_bad": report.copies_bad,
        "copies_skipped": report.copies_skipped,
        "repaired": report.repaired,
        "bad": [
            {
                "volume": each.volume,
                "sop_instance_uid": each.sop_instance_uid,
                "problem": each.problem,
                "repaired": each.repaired,
            }
            for each in report.bad[:MOST_NAMED]
        ],
        "verified_on": None if report.unverified else moment(report.verified_on),
        "unverified_copies": report.unverified,
    }


async def verify_study(request: web.Request, rooms: Rooms) -> Any:
    """Read every copy of a study from its disk now, compare and repair; answers when it is done."""
    uid = uid_of(request)
    await require_study(request, rooms, uid)
    report = await rooms.verifier.verify(study_uid=uid)
    if not report.instances:
        raise NotFound("There is no such study.")
    details = {"good": report.copies_good, "bad": report.copies_bad, "repaired": report.repaired}
    told = {name: str(count) for name, count in details.items()}
    rooms.audit.record(author_of(request), "study-verified", uid, details=told)
    return verify_json(report)


async def _protect(request: web.Request, rooms: Rooms, *, on: bool) -> Any:
    uid = uid_of(request)
    await require_study(request, rooms, uid)
    await rooms.catalogue.protect(uid, on=on)
    rooms.trash.nudge()  # it writes protection to the volumes
    rooms.audit.record(author_of(request), "study-protected" if on else "study-unprotected", uid)
    return {"study_instance_uid": uid, "protected": on}


async def protect_study(request: web.Request, rooms: Rooms) -> Any:
    """Protect a study: nobody and no rule can delete it until the protection is taken away."""
    return await _protect(request, rooms, on=True)


async def unprotect_study(request: web.Request, rooms: Rooms) -> Any:
    """Take the protection of a study away."""
    return await _protect(request, rooms, on=False)


ROUTES: Final = (
    Route(
        method="GET", path="/studies/{uid}/copies", work=get_copies, allowed=Permission.VIEW,
        about="What each volume holds and owes of a study, and when it was read back",
        query=("objects",), errors=("not-found",),
    ),
    Route(
        method="POST", path="/studies/{uid}/verify", work=verify_study, allowed=_ADMIN,
        about="Read every copy of a study now, compare and repair", errors=("not-found",),
    ),
    Route(
        method="PUT", path="/studies/{uid}/protection", work=protect_study, allowed=Permission.EDIT,
        about="Protect a study from deletion by anybody and any rule", errors=("not-found",),
    ),
    Route(
        method="DELETE", path="/studies/{uid}/protection", work=unprotect_study,
        allowed=Permission.EDIT,
        about="Take the protection of a study away", errors=("not-found",),
    ),
)  # fmt: skip
