# SPDX-License-Identifier: Apache-2.0
"""What was kept aside, what is decided about it, and taking decisions back."""

from typing import Any, Final

from aiohttp import web

from scrigno.archive.ingest import Receipt
from scrigno.catalogue.decisions import Decision
from scrigno.catalogue.records import InboxItem

from .answers import moment
from .bodies import number, read_object, read_optional, text
from .errors import BadBody, NotFound
from .rooms import Rooms, author_of
from .routes import For, Route, fields
from .trash_api import require_repeated

_ADMIN: Final = For.ADMINISTRATORS
LAST_ID: Final = 2**53
MOST_WHY: Final = 1000


def item_json(kept: InboxItem) -> dict[str, Any]:
    """Return a kept object as JSON values."""
    item = kept.item
    return {
        "id": kept.inbox_id,
        "reason": item.reason,
        "comment": item.comment,
        "received_at": moment(item.received_at),
        "size_bytes": item.size,
        "sop_class_uid": item.sop_class_uid,
        "sop_instance_uid": item.sop_instance_uid,
        "study_instance_uid": item.study_instance_uid,
        "patient_name": item.patient_name.text(),
        "patient_id": item.patient_id,
        "door": item.origin.door,
        "calling_ae": item.origin.calling_ae,
        "called_ae": item.origin.called_ae,
        "address": item.origin.address,
    }


def decision_json(decision: Decision) -> dict[str, Any]:
    """Return a decision as JSON values; only one that is `done` can be taken back."""
    return {
        "id": decision.decision_id,
        "kind": decision.kind,
        "phase": decision.phase,
        "decided_at": moment(decision.decided_at),
        "account": decision.account,
        "why": decision.why,
        "undone_at": moment(decision.undone_at),
        "undone_by": decision.undone_by,
        "undone_why": decision.undone_why,
    }


def _decided(decision: Decision) -> dict[str, Any]:
    """Return a decision about a kept object with what that was."""
    item = decision.before.get("item", {})
    names = ("reason", "sop_instance_uid", "study_instance_uid", "patient_name", "patient_id")
    return decision_json(decision) | {"item": {name: item.get(name, "") for name in names}}


def _receipt(receipt: Receipt) -> dict[str, Any]:
    return {"outcome": receipt.outcome, "study_instance_uid": receipt.study_uid}


async def why_of(request: web.Request) -> str:
    """Return the reason of a decision, which may be left out."""
    return text(await read_optional(request), "why", default="", most=MOST_WHY)


async def list_inbox(request: web.Request, rooms: Rooms) -> Any:
    """List what was kept aside: held, unreadable, same UID with other content."""
    after = number(request.query, "after", lowest=0, highest=LAST_ID, default=0)
    limit = number(request.query, "limit", lowest=1, highest=500, default=100)
    items = await rooms.inbox.items(after=after, limit=limit)
    return {
        "counts": await rooms.inbox.counts(),
        "items": [item_json(each) for each in items],
    }


async def _item_id(request: web.Request, rooms: Rooms) -> int:
    inbox_id = number(request.match_info, "id", lowest=1, highest=LAST_ID)
    if await rooms.catalogue.inbox_get(inbox_id) is None:
        raise NotFound("There is no such object in the inbox.")
    return inbox_id


async def accept_inbox_item(request: web.Request, rooms: Rooms) -> Any:
    """Take a kept object into the archive."""
    inbox_id, why = await _item_id(request, rooms), await why_of(request)
    return _receipt(await rooms.inbox.accept(inbox_id, user=author_of(request), why=why))


async def reject_inbox_item(request: web.Request, rooms: Rooms) -> Any:
    """Take a kept object out of the inbox; it can be had back for some days."""
    inbox_id, why = await _item_id(request, rooms), await why_of(request)
    return _decided(await rooms.inbox.reject(inbox_id, user=author_of(request), why=why))


async def replace_by_inbox_item(request: web.Request, rooms: Rooms) -> Any:
    """Put a kept object in the place of its archived rival, which comes into the inbox."""
    inbox_id, why = await _item_id(request, rooms), await why_of(request)
    return _decided(await rooms.inbox.replace(inbox_id, user=author_of(request), why=why))


async def keep_inbox_item_beside(request: web.Request, rooms: Rooms) -> Any:
    """Archive a kept object beside its rival, under a UID of its own."""
    inbox_id, why = await _item_id(request, rooms), await why_of(request)
    return _receipt(await rooms.inbox.keep_beside(inbox_id, user=author_of(request), why=why))


async def index_inbox_item(request: web.Request, rooms: Rooms) -> Any:
    """Archive a kept object as it is, found by attributes that are given here."""
    inbox_id, body = await _item_id(request, rooms), await read_object(request)
    given = texts_of(body, "attributes")
    why = text(body, "why", default="", most=MOST_WHY)
    return _receipt(await rooms.inbox.index(inbox_id, given, user=author_of(request), why=why))


def texts_of(body: dict[str, Any], name: str) -> dict[str, str]:
    """Return an object of texts in a body; raises BadBody."""
    given = body.get(name)
    if not isinstance(given, dict) or not all(isinstance(each, str) for each in given.values()):
        raise BadBody(f"{name} must be an object of texts.")
    return given


async def list_decided(request: web.Request, rooms: Rooms) -> Any:
    """List what was decided about kept objects, the newest first."""
    before = number(request.query, "before", lowest=0, highest=LAST_ID, default=0)
    limit = number(request.query, "limit", lowest=1, highest=500, default=100)
    decided = await rooms.inbox.decided(before, limit)
    return {"decisions": [_decided(each) for each in decided]}


async def undo_decision(request: web.Request, rooms: Rooms) -> Any:
    """Take a decision back: about a kept object, or about a patient."""
    decision_id = number(request.match_info, "id", lowest=1, highest=LAST_ID)
    why = await why_of(request)
    return decision_json(await rooms.cases.undo(decision_id, user=author_of(request), why=why))


async def purge_rejected(request: web.Request, rooms: Rooms) -> Any:
    """Remove a rejected object for good, now; the body repeats the number of the decision."""
    decision_id = number(request.match_info, "id", lowest=1, highest=LAST_ID)
    require_repeated(await read_optional(request), decision_id)
    await rooms.inbox.purge(decision_id, user=author_of(request))


_REFUSALS: Final = (
    "not-found", "inbox-refused", "inbox-waits", "decision-refused", "decision-overtaken",
)  # fmt: skip


def _verb(verb: str, work: Any, about: str) -> Route:
    return Route(
        method="POST", path=rf"/inbox/{{id:\d+}}/{verb}", work=work, allowed=_ADMIN, about=about,
        body=fields(why="string"), errors=_REFUSALS,
    )  # fmt: skip


ROUTES: Final = (
    Route(
        method="GET", path="/inbox", work=list_inbox, allowed=_ADMIN,
        about="What was kept aside", query=("after", "limit"),
    ),
    _verb("accept", accept_inbox_item, "Take a kept object into the archive"),
    _verb("reject", reject_inbox_item, "Take it out of the inbox; it can be had back"),
    _verb("replace", replace_by_inbox_item, "Put it in the place of its archived rival"),
    _verb("keep-beside", keep_inbox_item_beside, "Archive it beside its rival, under its own UID"),
    Route(
        method="POST", path=r"/inbox/{id:\d+}/index", work=index_inbox_item, allowed=_ADMIN,
        about="Archive it as it is, found by the attributes given",
        body={
            "type": "object",
            "required": ["attributes"],
            "properties": {"attributes": {"type": "object"}, "why": {"type": "string"}},
        },
        errors=_REFUSALS,
    ),
    Route(
        method="GET", path="/inbox/decided", work=list_decided, allowed=_ADMIN,
        about="What was decided about kept objects, the newest first", query=("before", "limit"),
    ),
    Route(
        method="POST", path=r"/decisions/{id:\d+}/undo", work=undo_decision, allowed=_ADMIN,
        about="Take a decision about a kept object or a patient back", body=fields(why="string"),
        errors=_REFUSALS,
    ),
    Route(
        method="DELETE", path=r"/inbox/decided/{id:\d+}", work=purge_rejected, allowed=_ADMIN,
        about="Remove a rejected object for good; the number is repeated in the body",
        body={"type": "object", "required": ["id"], "properties": {"id": {"type": "integer"}}},
        errors=("bad-body", "decision-refused"),
    ),
)  # fmt: skip
