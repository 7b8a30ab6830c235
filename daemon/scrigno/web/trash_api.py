# SPDX-License-Identifier: Apache-2.0
"""Deleting, the trash and its undo, and what the rules of retention would do."""

from typing import Any, Final

from aiohttp import web

from scrigno.access.permissions import Permission
from scrigno.archive.trash import Restored
from scrigno.catalogue.trash_items import TrashItem

from .answers import moment, person
from .bodies import number, read_optional, text
from .errors import BadBody
from .rooms import Rooms, author_of
from .routes import For, Route, fields
from .sight import require_everything, require_study, sight_of
from .studies_api import uid_of

_ADMIN: Final = For.ADMINISTRATORS
LAST_ID: Final = 2**53
MOST_REASON: Final = 1000
MOST_PLANNED: Final = 1000


def trash_json(item: TrashItem) -> dict[str, Any]:
    """Return one deletion as JSON values."""
    return {
        "id": item.trash_id,
        "study_instance_uid": item.study_instance_uid,
        "scope": item.scope,
        "state": item.state.name.lower(),
        "deleted_at": moment(item.deleted_at),
        "kept_until": moment(item.kept_until),
        "account": item.account,
        "reason": item.reason,
        "rule": item.rule,
        "objects": item.objects,
        "size_bytes": item.size_bytes,
        "patient_name": person(item.patient_name),
        "patient_id": item.patient_id,
        "patient_birth_date": item.patient_birth_date,
        "study_date": item.study_date,
        "study_description": item.study_description,
        "accession_number": item.accession_number,
        "modalities": item.modalities,
    }


def restored_json(restored: Restored) -> dict[str, Any]:
    """Return what an undo did; `returned` is null while files are still on their way."""
    done = restored.returned
    return {
        "study_instance_uid": restored.item.study_instance_uid,
        "words": restored.in_words(),
        "returned": None
        if done is None
        else {"back": done.back, "merged": done.merged, "kept": done.kept, "lost": done.lost},
    }


async def _require_deletable(request: web.Request, rooms: Rooms, uid: str) -> None:
    """Hide what the caller does not see; what is not there is told by the archive itself."""
    if not sight_of(request).everything:
        await require_study(request, rooms, uid)


async def _delete(request: web.Request, rooms: Rooms, series_uid: str | None) -> Any:
    uid = uid_of(request)
    await _require_deletable(request, rooms, uid)
    reason = text(await read_optional(request), "reason", default="", most=MOST_REASON)
    if not reason.strip():
        raise BadBody(
            "A reason is needed to delete something.",
            next_step='Say in a few words why, in the body: {"reason": "…"}.',
        )
    item = await rooms.trash.delete(
        uid, series_uid=series_uid, reason=reason, user=author_of(request)
    )
    return trash_json(item)


async def delete_study(request: web.Request, rooms: Rooms) -> Any:
    """Move a study to the trash; it can be brought back for some days."""
    return await _delete(request, rooms, None)


async def delete_series(request: web.Request, rooms: Rooms) -> Any:
    """Move one series of a study to the trash; it can be brought back for some days."""
    return await _delete(request, rooms, uid_of(request, "series"))


async def list_trash(request: web.Request, rooms: Rooms) -> Any:
    """List what can be brought back, the newest first."""
    require_everything(request)
    before = number(request.query, "before", lowest=0, highest=LAST_ID, default=0)
    limit = number(request.query, "limit", lowest=1, highest=500, default=100)
    totals = await rooms.trash.totals()
    return {
        "totals": {
            "items": totals.items,
            "objects": totals.objects,
            "size_bytes": totals.size_bytes,
        },
        "error": rooms.trash.error,
        "items": [trash_json(each) for each in await rooms.trash.items(before or None, limit)],
    }


def _trash_id(request: web.Request) -> int:
    return number(request.match_info, "id", lowest=1, highest=LAST_ID)


async def restore_trash(request: web.Request, rooms: Rooms) -> Any:
    """Bring an item back as it was."""
    require_everything(request)
    return restored_json(await rooms.trash.restore(_trash_id(request), author_of(request)))


async def purge_trash(request: web.Request, rooms: Rooms) -> Any:
    """Remove an item for good, now; its number is repeated in the body."""
    require_everything(request)
    trash_id = _trash_id(request)
    require_repeated(await read_optional(request), trash_id)
    await rooms.trash.purge(trash_id, author_of(request))


def require_repeated(body: dict[str, Any], wanted: int) -> None:
    """Raise BadBody unless the body repeats the number of what is to go for good."""
    if body.get("id") != wanted or isinstance(body.get("id"), bool):
        raise BadBody(
            "What is removed for good cannot be brought back.",
            next_step=f'Repeat its number in the body: {{"id": {wanted}}}.',
        )


async def get_retention_plan(request: web.Request, rooms: Rooms) -> Any:
    """Return what the rules of retention would move to the trash now; nothing is done."""
    require_everything(request)
    plan = await rooms.retention.plan()
    return {
        "refused": plan.refused,
        "error": rooms.retention.error,
        "size_bytes": plan.size_bytes,
        "spared": {reason.value: count for reason, count in plan.spared.items()},
        "count": len(plan.studies),
        "studies": [
            {
                "rule": each.rule,
                "study_instance_uid": each.study_instance_uid,
                "study_date": each.study_date,
                "objects": each.objects,
                "size_bytes": each.size_bytes,
            }
            for each in plan.studies[:MOST_PLANNED]
        ],
    }


_REFUSALS: Final = ("bad-body", "nothing-to-delete", "study-protected", "trash-refused")

ROUTES: Final = (
    Route(
        method="DELETE", path="/studies/{uid}", work=delete_study, allowed=Permission.DELETE,
        about="Move a study to the trash; a reason is needed", body=fields("reason"),
        errors=_REFUSALS,
    ),
    Route(
        method="DELETE", path="/studies/{uid}/series/{series}", work=delete_series,
        allowed=Permission.DELETE,
        about="Move one series to the trash; a reason is needed", body=fields("reason"),
        errors=_REFUSALS,
    ),
    Route(
        method="GET", path="/trash", work=list_trash, allowed=Permission.DELETE,
        about="What was deleted and can be brought back", query=("before", "limit"),
    ),
    Route(
        method="POST", path=r"/trash/{id:\d+}/restore", work=restore_trash,
        allowed=Permission.DELETE,
        about="Bring it back as it was", errors=("trash-refused", "capacity-reached"),
    ),
    Route(
        method="DELETE", path=r"/trash/{id:\d+}", work=purge_trash, allowed=_ADMIN,
        about="Remove it for good, now; its number is repeated in the body",
        body={"type": "object", "required": ["id"], "properties": {"id": {"type": "integer"}}},
        errors=("bad-body", "trash-refused"),
    ),
    Route(
        method="GET", path="/retention/plan", work=get_retention_plan, allowed=_ADMIN,
        about="What the rules of retention would move to the trash now",
    ),
)  # fmt: skip
