# SPDX-License-Identifier: Apache-2.0
"""What was kept aside, what is decided about it, and taking decisions back."""

from typing import Annotated, Any, Final

from aiohttp import web
from msgspec import Meta

from scrigno.access.permissions import Permission
from scrigno.archive.ingest import Receipt
from scrigno.archive.receipts import StoreOutcome
from scrigno.catalogue.decisions import Decision, Kind, Phase
from scrigno.catalogue.records import InboxItem

from .answers import at, moment
from .errors import NotFound
from .rooms import Rooms, author_of
from .routes import Own, Route
from .shapes import (
    AFTER,
    BEFORE,
    NO_NULL,
    Answer,
    Body,
    Moment,
    Text,
    Word,
    limit_of,
    path_of,
    query_of,
    read_body,
    read_optional_body,
)
from .sight import require_everything
from .trash_api import RepeatedBody, require_repeated

Why = Annotated[str, Meta(max_length=1000, pattern=NO_NULL)]


class InboxItemAnswer(Answer):
    """One kept object."""

    id: int
    reason: str
    comment: str
    received_at: Moment
    size_bytes: int
    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    patient_name: str
    patient_id: str
    door: str
    calling_ae: str
    called_ae: str
    address: str


class InboxAnswer(Answer):
    """What was kept aside, and how many objects wait by reason."""

    counts: dict[str, int]
    items: list[InboxItemAnswer]


class DecisionAnswer(Answer):
    """A decision; only one that is `done` can be taken back."""

    id: int
    kind: Kind
    phase: Phase
    decided_at: Moment
    account: str
    why: str
    undone_at: Moment | None
    undone_by: str
    undone_why: str


class DecidedObjectAnswer(Answer):
    """What a kept object was that was decided about."""

    reason: str
    sop_instance_uid: str
    study_instance_uid: str
    patient_name: str
    patient_id: str


class InboxDecisionAnswer(DecisionAnswer):
    """A decision about a kept object."""

    item: DecidedObjectAnswer


class InboxDecisionsAnswer(Answer):
    """What was decided about kept objects, the newest first."""

    decisions: list[InboxDecisionAnswer]


class TakenInAnswer(Answer):
    """What became of a kept object that was taken into the archive."""

    outcome: StoreOutcome
    study_instance_uid: str


class WhyBody(Body):
    """Why it is decided so; it may be left out."""

    why: Why = ""


class IndexItemBody(Body):
    """Attributes by their names in the index, under which the object is to be found."""

    attributes: Annotated[dict[Word, Text], Meta(max_length=64)]
    why: Why = ""


def item_json(kept: InboxItem) -> InboxItemAnswer:
    """Return a kept object."""
    item = kept.item
    return InboxItemAnswer(
        id=kept.inbox_id,
        reason=item.reason,
        comment=item.comment,
        received_at=at(item.received_at),
        size_bytes=item.size,
        sop_class_uid=item.sop_class_uid,
        sop_instance_uid=item.sop_instance_uid,
        study_instance_uid=item.study_instance_uid,
        patient_name=item.patient_name.text(),
        patient_id=item.patient_id,
        door=item.origin.door,
        calling_ae=item.origin.calling_ae,
        called_ae=item.origin.called_ae,
        address=item.origin.address,
    )


def decision_fields(decision: Decision) -> dict[str, Any]:
    """Return the fields that all answers about decisions have."""
    return {
        "id": decision.decision_id,
        "kind": decision.kind,
        "phase": decision.phase,
        "decided_at": at(decision.decided_at),
        "account": decision.account,
        "why": decision.why,
        "undone_at": moment(decision.undone_at),
        "undone_by": decision.undone_by,
        "undone_why": decision.undone_why,
    }


def decision_json(decision: Decision) -> DecisionAnswer:
    """Return a decision."""
    return DecisionAnswer(**decision_fields(decision))


def _decided(decision: Decision) -> InboxDecisionAnswer:
    """Return a decision about a kept object with what that was."""
    item = decision.before.get("item", {})
    names = DecidedObjectAnswer.__struct_fields__
    was = DecidedObjectAnswer(**{name: str(item.get(name, "")) for name in names})
    return InboxDecisionAnswer(**decision_fields(decision), item=was)


def _receipt(receipt: Receipt) -> TakenInAnswer:
    return TakenInAnswer(outcome=receipt.outcome, study_instance_uid=receipt.study_uid)


async def why_of(request: web.Request) -> str:
    """Return the reason of a decision, which may be left out."""
    return (await read_optional_body(request, WhyBody)).why


async def list_inbox(request: web.Request, rooms: Rooms) -> Any:
    """List what was kept aside: held, unreadable, same UID with other content."""
    require_everything(request)
    asked = query_of(request)
    items = await rooms.inbox.items(after=asked["after"], limit=asked["limit"])
    return InboxAnswer(counts=await rooms.inbox.counts(), items=[item_json(each) for each in items])


async def _item_id(request: web.Request, rooms: Rooms) -> int:
    require_everything(request)
    inbox_id: int = path_of(request)["id"]
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
    inbox_id, body = await _item_id(request, rooms), await read_body(request, IndexItemBody)
    given, why = body.attributes, body.why
    return _receipt(await rooms.inbox.index(inbox_id, given, user=author_of(request), why=why))


async def list_decided(request: web.Request, rooms: Rooms) -> Any:
    """List what was decided about kept objects, the newest first."""
    require_everything(request)
    asked = query_of(request)
    decided = await rooms.inbox.decided(asked["before"], asked["limit"])
    return InboxDecisionsAnswer(decisions=[_decided(each) for each in decided])


async def undo_decision(request: web.Request, rooms: Rooms) -> Any:
    """Take a decision back: about a kept object, or about a patient."""
    require_everything(request)
    decision_id, why = path_of(request)["id"], await why_of(request)
    return decision_json(await rooms.cases.undo(decision_id, user=author_of(request), why=why))


async def purge_rejected(request: web.Request, rooms: Rooms) -> Any:
    """Remove a rejected object for good, now; the body repeats the number of the decision."""
    require_everything(request)
    decision_id = path_of(request)["id"]
    await require_repeated(request, decision_id)
    await rooms.inbox.purge(decision_id, user=author_of(request))


_REFUSALS: Final = (
    "not-found", "inbox-refused", "inbox-waits", "decision-refused", "decision-overtaken",
    "capacity-reached", "study-protected",
)  # fmt: skip


def _verb(verb: str, work: Any, about: str, answer: Any, audit: str) -> Route:
    return Route(
        method="POST", path=rf"/inbox/{{id:\d+}}/{verb}", work=work, allowed=Permission.EDIT,
        about=about, body=WhyBody, body_optional=True, answer=answer, audit=Own(audit),
        errors=_REFUSALS,
    )  # fmt: skip


ROUTES: Final = (
    Route(
        method="GET", path="/inbox", work=list_inbox, allowed=Permission.EDIT,
        about="What was kept aside", query=(AFTER, limit_of(500)), answer=InboxAnswer,
    ),
    _verb("accept", accept_inbox_item, "Take a kept object into the archive", TakenInAnswer,
          "inbox-accepted"),
    _verb("reject", reject_inbox_item, "Take it out of the inbox; it can be had back",
          InboxDecisionAnswer, "inbox-rejected"),
    _verb("replace", replace_by_inbox_item, "Put it in the place of its archived rival",
          InboxDecisionAnswer, "inbox-replaced"),
    _verb("keep-beside", keep_inbox_item_beside,
          "Archive it beside its rival, under its own UID", TakenInAnswer, "inbox-kept-beside"),
    Route(
        method="POST", path=r"/inbox/{id:\d+}/index", work=index_inbox_item,
        allowed=Permission.EDIT,
        about="Archive it as it is, found by the attributes given", body=IndexItemBody,
        answer=TakenInAnswer, audit=Own("inbox-indexed"), errors=_REFUSALS,
    ),
    Route(
        method="GET", path="/inbox/decided", work=list_decided, allowed=Permission.EDIT,
        about="What was decided about kept objects, the newest first",
        query=(BEFORE, limit_of(500)), answer=InboxDecisionsAnswer,
    ),
    Route(
        method="POST", path=r"/decisions/{id:\d+}/undo", work=undo_decision,
        allowed=Permission.EDIT,
        about="Take a decision about a kept object or a patient back", body=WhyBody,
        body_optional=True, answer=DecisionAnswer, audit=Own("decision-undone"),
        errors=_REFUSALS,
    ),
    Route(
        method="DELETE", path=r"/inbox/decided/{id:\d+}", work=purge_rejected,
        allowed=Permission.DELETE,
        about="Remove a rejected object for good; the number is repeated in the body",
        body=RepeatedBody, answer=None, audit=Own("inbox-purged"),
        errors=("decision-refused", "not-repeated"),
    ),
)  # fmt: skip
