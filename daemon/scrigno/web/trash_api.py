# SPDX-License-Identifier: Apache-2.0
"""Deleting, the trash and its undo, and what the rules of retention would do."""

from enum import StrEnum
from typing import Annotated, Any, Final

from aiohttp import web
from msgspec import Meta

from scrigno.access.permissions import Permission
from scrigno.archive.trash import Restored
from scrigno.catalogue.trash_items import TrashItem

from .answers import PersonNameAnswer, at, moment, person
from .errors import BadBody, NotRepeated
from .rooms import Rooms, author_of
from .routes import For, Own, Route
from .shapes import (
    BEFORE,
    NOT_BLANK,
    Answer,
    Body,
    Id,
    Moment,
    limit_of,
    path_of,
    query_of,
    read_body,
)
from .sight import require_everything, require_study, sight_of

MOST_PLANNED: Final = 1000


class TrashStateWord(StrEnum):
    """How an item of the trash is."""

    TRASHED = "trashed"
    RESTORING = "restoring"
    RESTORED = "restored"
    PURGING = "purging"


class TrashItemAnswer(Answer):
    """One deletion."""

    id: int
    study_instance_uid: str
    scope: str
    state: TrashStateWord
    deleted_at: Moment
    kept_until: Moment | None
    account: str
    reason: str
    rule: str
    objects: int
    size_bytes: int
    patient_name: PersonNameAnswer
    patient_id: str
    patient_birth_date: str
    study_date: str
    study_description: str
    accession_number: str
    modalities: list[str]


class TrashTotalsAnswer(Answer):
    """How much the trash holds."""

    items: int
    objects: int
    size_bytes: int


class TrashAnswer(Answer):
    """What was deleted and can be brought back, the newest first."""

    totals: TrashTotalsAnswer
    error: str
    items: list[TrashItemAnswer]


class ReturnedAnswer(Answer):
    """How many objects are back, joined others, are kept aside, are lost."""

    back: int
    merged: int
    kept: int
    lost: int


class RestoredAnswer(Answer):
    """What an undo did; `returned` is null while files are still on their way."""

    study_instance_uid: str
    words: str
    returned: ReturnedAnswer | None


class PlannedAnswer(Answer):
    """One study that a rule would move to the trash."""

    rule: str
    study_instance_uid: str
    study_date: str
    objects: int
    size_bytes: int


class RetentionPlanAnswer(Answer):
    """What the rules of retention would move to the trash now, and how many each rule spares."""

    refused: str
    error: str
    size_bytes: int
    spared: dict[str, int]
    count: int
    studies: list[PlannedAnswer]


class DeleteBody(Body):
    """Why something is deleted."""

    reason: Annotated[str, Meta(min_length=1, max_length=1000, pattern=NOT_BLANK)]


class RepeatedBody(Body):
    """The number of what is to go for good, once more."""

    id: Id


def trash_json(item: TrashItem) -> TrashItemAnswer:
    """Return one deletion."""
    return TrashItemAnswer(
        id=item.trash_id,
        study_instance_uid=item.study_instance_uid,
        scope=item.scope,
        state=TrashStateWord(item.state.name.lower()),
        deleted_at=at(item.deleted_at),
        kept_until=moment(item.kept_until),
        account=item.account,
        reason=item.reason,
        rule=item.rule,
        objects=item.objects,
        size_bytes=item.size_bytes,
        patient_name=person(item.patient_name),
        patient_id=item.patient_id,
        patient_birth_date=item.patient_birth_date,
        study_date=item.study_date,
        study_description=item.study_description,
        accession_number=item.accession_number,
        modalities=list(item.modalities),
    )


def restored_json(restored: Restored) -> RestoredAnswer:
    """Return what an undo did."""
    done = restored.returned
    returned = None
    if done is not None:
        returned = ReturnedAnswer(
            back=done.back, merged=done.merged, kept=done.kept, lost=done.lost
        )
    return RestoredAnswer(
        study_instance_uid=restored.item.study_instance_uid,
        words=restored.in_words(),
        returned=returned,
    )


async def _require_deletable(request: web.Request, rooms: Rooms, uid: str) -> None:
    """Hide what the caller does not see; what is not there is told by the archive itself."""
    if not sight_of(request).everything:
        await require_study(request, rooms, uid)


async def _delete(request: web.Request, rooms: Rooms, series_uid: str | None) -> Any:
    uid = path_of(request)["uid"]
    await _require_deletable(request, rooms, uid)
    reason = (await read_body(request, DeleteBody)).reason
    item = await rooms.trash.delete(
        uid, series_uid=series_uid, reason=reason, user=author_of(request)
    )
    return trash_json(item)


async def delete_study(request: web.Request, rooms: Rooms) -> Any:
    """Move a study to the trash; it can be brought back for some days."""
    return await _delete(request, rooms, None)


async def delete_series(request: web.Request, rooms: Rooms) -> Any:
    """Move one series of a study to the trash; it can be brought back for some days."""
    return await _delete(request, rooms, path_of(request)["series"])


async def list_trash(request: web.Request, rooms: Rooms) -> Any:
    """List what can be brought back, the newest first."""
    require_everything(request)
    asked, totals = query_of(request), await rooms.trash.totals()
    items = await rooms.trash.items(asked["before"] or None, asked["limit"])
    return TrashAnswer(
        totals=TrashTotalsAnswer(
            items=totals.items, objects=totals.objects, size_bytes=totals.size_bytes
        ),
        error=rooms.trash.error,
        items=[trash_json(each) for each in items],
    )


async def restore_trash(request: web.Request, rooms: Rooms) -> Any:
    """Bring an item back as it was."""
    require_everything(request)
    return restored_json(await rooms.trash.restore(path_of(request)["id"], author_of(request)))


async def purge_trash(request: web.Request, rooms: Rooms) -> Any:
    """Remove an item for good, now; its number is repeated in the body."""
    require_everything(request)
    trash_id = path_of(request)["id"]
    await require_repeated(request, trash_id)
    await rooms.trash.purge(trash_id, author_of(request))


async def require_repeated(request: web.Request, wanted: int) -> None:
    """Raise NotRepeated unless the body repeats the number of what is to go for good."""
    step = f'Repeat its number in the body: {{"id": {wanted}}}.'
    try:
        repeated = (await read_body(request, RepeatedBody)).id
    except BadBody as error:
        error.next_step = step
        raise
    if repeated != wanted:
        raise NotRepeated("What is removed for good cannot be brought back.", next_step=step)


async def get_retention_plan(request: web.Request, rooms: Rooms) -> Any:
    """Return what the rules of retention would move to the trash now; nothing is done."""
    require_everything(request)
    plan = await rooms.retention.plan()
    return RetentionPlanAnswer(
        refused=plan.refused,
        error=rooms.retention.error,
        size_bytes=plan.size_bytes,
        spared={reason.value: count for reason, count in plan.spared.items()},
        count=len(plan.studies),
        studies=[
            PlannedAnswer(
                rule=each.rule,
                study_instance_uid=each.study_instance_uid,
                study_date=each.study_date,
                objects=each.objects,
                size_bytes=each.size_bytes,
            )
            for each in plan.studies[:MOST_PLANNED]
        ],
    )


_REFUSALS: Final = ("not-found", "nothing-to-delete", "study-protected", "trash-refused")

ROUTES: Final = (
    Route(
        method="DELETE", path="/studies/{uid}", work=delete_study, allowed=Permission.DELETE,
        about="Move a study to the trash; a reason is needed", body=DeleteBody,
        answer=TrashItemAnswer, audit=Own("study-delete"), errors=_REFUSALS,
    ),
    Route(
        method="DELETE", path="/studies/{uid}/series/{series}", work=delete_series,
        allowed=Permission.DELETE,
        about="Move one series to the trash; a reason is needed", body=DeleteBody,
        answer=TrashItemAnswer, audit=Own("series-delete"), errors=_REFUSALS,
    ),
    Route(
        method="GET", path="/trash", work=list_trash, allowed=Permission.DELETE,
        about="What was deleted and can be brought back", query=(BEFORE, limit_of(500)),
        answer=TrashAnswer,
    ),
    Route(
        method="POST", path=r"/trash/{id:\d+}/restore", work=restore_trash,
        allowed=Permission.DELETE, about="Bring it back as it was", answer=RestoredAnswer,
        audit=Own("trash-restore"), errors=("trash-refused", "capacity-reached"),
    ),
    Route(
        method="DELETE", path=r"/trash/{id:\d+}", work=purge_trash, allowed=Permission.DELETE,
        about="Remove it for good, now; its number is repeated in the body",
        body=RepeatedBody, answer=None, audit=Own("trash-purge"),
        errors=("trash-refused", "not-repeated"),
    ),
    Route(
        method="GET", path="/retention/plan", work=get_retention_plan,
        allowed=For.ADMINISTRATORS, answer=RetentionPlanAnswer,
        about="What the rules of retention would move to the trash now",
    ),
)  # fmt: skip
