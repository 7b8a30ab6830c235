# SPDX-License-Identifier: Apache-2.0
"""The copies of one study: where they are, when they were read back; protection."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

import msgspec
from aiohttp import web

from scrigno.access.permissions import Permission
from scrigno.archive.verify import VerifyReport
from scrigno.catalogue.records import CopyState, StoredInstance
from scrigno.volumes.states import VolumeState

from .answers import moment
from .errors import NotFound
from .rooms import Rooms
from .routes import For, Route, audited
from .shapes import Answer, Moment, Query, path_of, query_of
from .sight import require_study, sight_of

_ADMIN: Final = For.ADMINISTRATORS
MOST_NAMED: Final = 1_000  # bad copies of one report


class VolumeCopiesAnswer(Answer):
    """The copies of one study on one volume; `bad` were held and are gone or damaged."""

    volume: str
    state: VolumeState | None
    held: int
    owed: int
    bad: int
    verified: int
    oldest_verified_on: Moment | None
    newest_verified_on: Moment | None


class CopyAnswer(Answer):
    """One copy of one image."""

    sop_instance_uid: str
    volume: str
    state: CopyState
    verified_on: Moment | None


class CopiesAnswer(Answer):
    """What each volume holds and owes of a study; each copy of each image when asked for."""

    study_instance_uid: str
    objects: int
    volumes: list[VolumeCopiesAnswer]
    copies: list[CopyAnswer] | msgspec.UnsetType = msgspec.UNSET


class BadCopyAnswer(Answer):
    """A copy that was not what was received."""

    volume: str
    sop_instance_uid: str
    problem: str
    repaired: bool


class VerifyAnswer(Answer):
    """What a verification found; `verified_on` is null unless every copy was read."""

    objects: int
    copies_good: int
    copies_bad: int
    copies_skipped: int
    repaired: int
    bad: list[BadCopyAnswer]
    verified_on: Moment | None
    unverified_copies: int


class ProtectionAnswer(Answer):
    """Whether a study is protected from deletion."""

    study_instance_uid: str
    protected: bool


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
    uid = path_of(request)["uid"]
    instances = await rooms.catalogue.instances(uid, within=sight_of(request))
    if not instances:
        raise NotFound("There is no such study.")
    states = {each.name: each.state for each in rooms.volumes.statuses()}
    answer = CopiesAnswer(
        study_instance_uid=uid,
        objects=len(instances),
        volumes=[
            VolumeCopiesAnswer(
                volume=name,
                state=states.get(name),
                held=one.held,
                owed=one.owed,
                bad=one.bad,
                verified=one.verified,
                oldest_verified_on=moment(one.oldest),
                newest_verified_on=moment(one.newest),
            )
            for name, one in sorted(_by_volume(instances).items())
        ],
    )
    if query_of(request)["objects"] == "yes":
        answer.copies = [
            CopyAnswer(
                sop_instance_uid=instance.sop_instance_uid,
                volume=copy.volume,
                state=copy.state,
                verified_on=moment(copy.verified_at),
            )
            for instance in instances
            for copy in instance.copies
        ]
    return answer


def verify_json(report: VerifyReport) -> VerifyAnswer:
    """Return what a verification found."""
    return VerifyAnswer(
        objects=report.instances,
        copies_good=report.copies_good,
        copies_bad=report.copies_bad,
        copies_skipped=report.copies_skipped,
        repaired=report.repaired,
        bad=[
            BadCopyAnswer(
                volume=each.volume,
                sop_instance_uid=each.sop_instance_uid,
                problem=each.problem,
                repaired=each.repaired,
            )
            for each in report.bad[:MOST_NAMED]
        ],
        verified_on=None if report.unverified else moment(report.verified_on),
        unverified_copies=report.unverified,
    )


async def verify_study(request: web.Request, rooms: Rooms) -> Any:
    """Read every copy of a study from its disk now, compare and repair; answers when it is done."""
    uid = path_of(request)["uid"]
    await require_study(request, rooms, uid)
    report = await rooms.verifier.verify(study_uid=uid)
    if not report.instances:
        raise NotFound("There is no such study.")
    audited(
        request,
        good=str(report.copies_good),
        bad=str(report.copies_bad),
        repaired=str(report.repaired),
    )
    return verify_json(report)


async def _protect(request: web.Request, rooms: Rooms, *, on: bool) -> Any:
    uid = path_of(request)["uid"]
    await require_study(request, rooms, uid)
    await rooms.catalogue.protect(uid, on=on)
    rooms.trash.nudge()  # it writes protection to the volumes
    return ProtectionAnswer(study_instance_uid=uid, protected=on)


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
        query=(Query("objects", Literal["yes", "no"], "no", "Also each copy of each image"),),
        answer=CopiesAnswer, errors=("not-found",),
    ),
    Route(
        method="POST", path="/studies/{uid}/verify", work=verify_study, allowed=_ADMIN,
        about="Read every copy of a study now, compare and repair", answer=VerifyAnswer,
        audit="study-verified", errors=("not-found",),
    ),
    Route(
        method="PUT", path="/studies/{uid}/protection", work=protect_study,
        allowed=Permission.EDIT, answer=ProtectionAnswer, audit="study-protected",
        about="Protect a study from deletion by anybody and any rule", errors=("not-found",),
    ),
    Route(
        method="DELETE", path="/studies/{uid}/protection", work=unprotect_study,
        allowed=Permission.EDIT, answer=ProtectionAnswer, audit="study-unprotected",
        about="Take the protection of a study away", errors=("not-found",),
    ),
)  # fmt: skip
