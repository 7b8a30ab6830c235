# SPDX-License-Identifier: Apache-2.0
"""Sending studies to other nodes: the queue, what became of each item, one course per node (DN-9).

People see what they asked for, administrators everything.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Final

from aiohttp import web
from msgspec import Meta

from scrigno.access.permissions import Permission
from scrigno.catalogue.records import StoredInstance

from .errors import NotFound
from .rooms import Rooms, author_of, caller_of
from .routes import For, Route, audited
from .send_answers import (
    DestinationAnswer,
    DestinationsAnswer,
    ObjectState,
    SendItemAnswer,
    SendItemsAnswer,
    SendObjectsAnswer,
    State,
)
from .shapes import (
    BEFORE,
    NO_NULL,
    ONE_LINE,
    Body,
    Id,
    Query,
    Uid,
    limit_of,
    path_of,
    query_of,
    read_body,
    read_optional_body,
)
from .sight import require_studies, sight_of

Name = Annotated[str, Meta(min_length=1, max_length=64, pattern=ONE_LINE)]
MOST_STUDIES: Final = 200
MOST_DESTINATIONS: Final = 32
MOST_PARTS: Final = 32
MOST_INSTANCES: Final = 100  # of one part; a whole series has no need to name them
LARGEST_BYTES: Final = 512 << 10


class SendSeriesBody(Body):
    """One series of a study, or some objects of it."""

    study: Uid
    series: Uid | None = None
    instances: Annotated[tuple[Uid, ...], Meta(max_length=MOST_INSTANCES)] = ()


class SendBody(Body, kw_only=True):
    """Whole studies, or parts of them, and the names of the nodes."""

    to: Annotated[list[Name], Meta(min_length=1, max_length=MOST_DESTINATIONS)]
    studies: Annotated[tuple[Uid, ...], Meta(max_length=MOST_STUDIES)] = ()
    parts: Annotated[tuple[SendSeriesBody, ...], Meta(max_length=MOST_PARTS)] = ()


class PauseSendingBody(Body):
    """Why nothing is to be sent there."""

    reason: Annotated[str, Meta(max_length=200, pattern=NO_NULL)] = ""


def _whose(request: web.Request) -> str | None:
    permissions = caller_of(request).session.permissions
    return None if Permission.ADMIN in permissions else author_of(request)


async def list_send_items(request: web.Request, rooms: Rooms) -> Any:
    """List what was asked to be sent, the newest first."""
    asked = query_of(request)
    items = await rooms.send.page(
        author=_whose(request),
        destination=asked["destination"] or None,
        states=asked["state"],
        before=asked["before"],
        limit=asked["limit"],
    )
    return SendItemsAnswer(items=items)


async def send_studies(request: web.Request, rooms: Rooms) -> Any:
    """Put studies, or parts of them, into the queue for one or several nodes."""
    body = await read_body(request, SendBody, limit=LARGEST_BYTES)
    studies = list(dict.fromkeys((*body.studies, *(each.study for each in body.parts))))
    audited(request, ", ".join(studies[:3]), studies=str(len(studies)), to=", ".join(body.to))
    await require_studies(request, rooms, studies)
    wanted: dict[str, list[str]] = {}
    for study in body.studies:
        found = await _objects_of(request, rooms, study)
        wanted[study] = [each.sop_instance_uid for each in found]
    for part in body.parts:
        some = [each for each in await _objects_of(request, rooms, part.study) if _in(each, part)]
        if not some:
            raise NotFound("The study has no such series or objects.")
        chosen = wanted.setdefault(part.study, [])
        chosen += [each.sop_instance_uid for each in some if each.sop_instance_uid not in chosen]
    if not wanted:
        raise NotFound("Nothing was named that could be sent.")
    destinations = list(dict.fromkeys(body.to))
    items = await rooms.send.add(list(wanted.items()), destinations, author=author_of(request))
    return SendItemsAnswer(items=items)


async def _objects_of(request: web.Request, rooms: Rooms, study: str) -> Sequence[StoredInstance]:
    return await rooms.catalogue.instances(study, within=sight_of(request))


def _in(instance: StoredInstance, part: SendSeriesBody) -> bool:
    in_series = part.series is None or instance.series_instance_uid == part.series
    return in_series and (not part.instances or instance.sop_instance_uid in part.instances)


async def _item_id(request: web.Request, rooms: Rooms) -> int:
    """Return the number of the path; raises UnknownSendItem for items of others."""
    item_id: int = path_of(request)["id"]
    item = await rooms.send.get(item_id, author=_whose(request))
    audited(request, item.study_instance_uid, item=str(item_id), destination=item.destination)
    return item_id


async def get_send_item(request: web.Request, rooms: Rooms) -> Any:
    """Return one item."""
    return await rooms.send.get(path_of(request)["id"], author=_whose(request))


async def list_send_objects(request: web.Request, rooms: Rooms) -> Any:
    """List what became of each object of an item."""
    item_id, asked = await _item_id(request, rooms), query_of(request)
    return SendObjectsAnswer(
        objects=await rooms.send.objects(
            item_id, states=asked["state"], after=asked["after"], limit=asked["limit"]
        )
    )


async def cancel_send_item(request: web.Request, rooms: Rooms) -> Any:
    """Send nothing more of an item; what the node took it keeps."""
    return await rooms.send.cancel(await _item_id(request, rooms))


async def retry_send_item(request: web.Request, rooms: Rooms) -> Any:
    """Try every object of an item that was not taken, at once."""
    return await rooms.send.retry(await _item_id(request, rooms))


async def delete_send_item(request: web.Request, rooms: Rooms) -> Any:
    """Forget an item that has ended."""
    await rooms.send.delete(await _item_id(request, rooms))


async def list_destinations(_request: web.Request, rooms: Rooms) -> Any:
    """List the nodes that can be sent to, and how the course of each goes."""
    return DestinationsAnswer(destinations=await rooms.send.destinations())


async def pause_destination(request: web.Request, rooms: Rooms) -> Any:
    """Send nothing to a node until it is resumed."""
    name, body = path_of(request)["name"], await read_optional_body(request, PauseSendingBody)
    await _require_destination(rooms, name)
    await rooms.send.pause(name, author=author_of(request), reason=body.reason)
    return await _require_destination(rooms, name)


async def resume_destination(request: web.Request, rooms: Rooms) -> Any:
    """Send to a node again."""
    name = path_of(request)["name"]
    await _require_destination(rooms, name)
    await rooms.send.resume(name)
    return await _require_destination(rooms, name)


async def _require_destination(rooms: Rooms, name: str) -> DestinationAnswer:
    for each in await rooms.send.destinations():
        if each.name == name:
            return each
    raise NotFound(f"There is no node {name}.")


_SEND: Final = Permission.SEND
_ITEM: Final = ("unknown-send-item", "send-refused")

ROUTES: Final = (
    Route(
        method="GET", path="/send", work=list_send_items, allowed=_SEND,
        about="What was asked to be sent, the newest first",
        query=(
            Query("destination", Name, ""), Query("state", State, many=True), BEFORE,
            limit_of(500),
        ),
        answer=SendItemsAnswer,
    ),
    Route(
        method="POST", path="/send", work=send_studies, allowed=_SEND,
        about="Send studies, or parts of them, to one or several nodes", body=SendBody,
        answer=SendItemsAnswer, success=201, audit="send-asked",
        errors=("not-found", "unusable-destination", "send-queue-full"),
    ),
    Route(
        method="GET", path="/send/destinations", work=list_destinations, allowed=_SEND,
        about="The nodes that can be sent to, and how the course of each goes",
        answer=DestinationsAnswer,
    ),
    Route(
        method="POST", path="/send/destinations/{name}/pause", work=pause_destination,
        allowed=For.ADMINISTRATORS, params={"name": Name},
        about="Send nothing to a node until it is resumed", body=PauseSendingBody,
        body_optional=True, answer=DestinationAnswer, audit="sending-paused",
    ),
    Route(
        method="POST", path="/send/destinations/{name}/resume", work=resume_destination,
        allowed=For.ADMINISTRATORS, params={"name": Name}, about="Send to a node again",
        answer=DestinationAnswer, audit="sending-resumed",
    ),
    Route(
        method="GET", path="/send/{id}", work=get_send_item, allowed=_SEND, params={"id": Id},
        about="One item of the send queue", answer=SendItemAnswer, errors=_ITEM[:1],
    ),
    Route(
        method="GET", path="/send/{id}/objects", work=list_send_objects, allowed=_SEND,
        params={"id": Id}, about="What became of each object of an item",
        query=(
            Query("state", ObjectState, many=True),
            Query("after", int, -1, "The last position of the page before", ge=-1, le=2**31),
            limit_of(1000, 500),
        ),
        answer=SendObjectsAnswer, errors=_ITEM[:1],
    ),
    Route(
        method="POST", path="/send/{id}/cancel", work=cancel_send_item, allowed=_SEND,
        params={"id": Id}, about="Send nothing more of an item", answer=SendItemAnswer,
        audit="send-cancelled", errors=_ITEM,
    ),
    Route(
        method="POST", path="/send/{id}/retry", work=retry_send_item, allowed=_SEND,
        params={"id": Id}, about="Try every object that was not taken, at once",
        answer=SendItemAnswer, audit="send-retried", errors=_ITEM,
    ),
    Route(
        method="DELETE", path="/send/{id}", work=delete_send_item, allowed=_SEND,
        params={"id": Id}, about="Forget an item that has ended", answer=None,
        audit="send-deleted", errors=_ITEM,
    ),
)  # fmt: skip
