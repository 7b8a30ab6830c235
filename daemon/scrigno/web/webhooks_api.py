# SPDX-License-Identifier: Apache-2.0
"""Webhooks: how each does, what was told, and sending it again. Who is told is in the settings."""

from typing import Any, Final

from aiohttp import web
from msgspec import UNSET, UnsetType

from scrigno.health.webhook_store import Attempt, Delivery, DeliveryState

from .answers import at, moment
from .rooms import Rooms
from .routes import For, Route, audited
from .shapes import BEFORE, Answer, Count, Id, Moment, Query, limit_of, path_of, query_of

_ADMIN: Final = For.ADMINISTRATORS
MOST: Final = 500


class WebhookAnswer(Answer):
    """How an endpoint does; `failures` in a row, `reason` of the last one."""

    name: str
    waiting: Count
    delivered: Count
    dead: Count
    failures: Count
    reason: str


class WebhooksAnswer(Answer):
    """Every endpoint that is switched on."""

    webhooks: list[WebhookAnswer]


class AttemptAnswer(Answer):
    """One try; `status` null: there was no answer."""

    number: Count
    at: Moment
    status: int | None
    reason: str
    took_ms: Count


class DeliveryAnswer(Answer):
    """One message to one endpoint; `body` and `tried` where one is asked for."""

    id: Id
    message_id: str
    endpoint: str
    event: str
    state: DeliveryState
    created_at: Moment
    due_at: Moment
    finished_at: Moment | None
    attempts: Count
    status: int | None
    reason: str
    body: str | UnsetType = UNSET
    tried: list[AttemptAnswer] | UnsetType = UNSET


class DeliveriesAnswer(Answer):
    """A page of the log, the newest first."""

    deliveries: list[DeliveryAnswer]


class TestAnswer(Answer):
    """How a test message was taken; `reason` says why it was not."""

    sent: bool
    status: int | None
    reason: str


class ReplayedAnswer(Answer):
    """How many messages go again."""

    replayed: Count


def _delivery(one: Delivery) -> DeliveryAnswer:
    return DeliveryAnswer(
        id=one.id,
        message_id=one.message_id,
        endpoint=one.endpoint,
        event=one.kind,
        state=one.state,
        created_at=at(one.created_at),
        due_at=at(one.due_at),
        finished_at=moment(one.finished_at),
        attempts=one.attempts,
        status=one.status,
        reason=one.reason,
    )


def _attempt(one: Attempt) -> AttemptAnswer:
    return AttemptAnswer(
        number=one.number,
        at=at(one.at),
        status=one.status,
        reason=one.reason,
        took_ms=max(0, one.took_ms),
    )


async def list_webhooks(request: web.Request, rooms: Rooms) -> Any:
    """Say how each endpoint does."""
    return WebhooksAnswer(
        webhooks=[
            WebhookAnswer(
                name=each.name,
                waiting=each.waiting,
                delivered=each.delivered,
                dead=each.dead,
                failures=each.failures,
                reason=each.reason,
            )
            for each in await rooms.webhooks.statuses()
        ]
    )


async def test_webhook(request: web.Request, rooms: Rooms) -> Any:
    """Send a test message now."""
    status, reason = await rooms.webhooks.test(path_of(request)["name"])
    return TestAnswer(sent=not reason, status=status, reason=reason)


async def replay_webhook(request: web.Request, rooms: Rooms) -> Any:
    """Send every dead letter of an endpoint again."""
    count = await rooms.webhooks.replay_dead(path_of(request)["name"])
    audited(request, count=str(count))
    return ReplayedAnswer(replayed=count)


async def list_deliveries(request: web.Request, rooms: Rooms) -> Any:
    """List deliveries; `before` is the id of the last one of the page before."""
    query = query_of(request)
    found = await rooms.webhooks.deliveries(
        before=query["before"] or None,
        limit=query["limit"],
        endpoint=query["endpoint"],
        state=str(query["state"] or ""),
        kind=query["event"],
    )
    return DeliveriesAnswer(deliveries=[_delivery(each) for each in found])


async def get_delivery(request: web.Request, rooms: Rooms) -> Any:
    """Return one delivery with what was sent and each attempt."""
    one, attempts = await rooms.webhooks.delivery(path_of(request)["number"])
    answer = _delivery(one)
    answer.body = one.body
    answer.tried = [_attempt(each) for each in attempts]
    return answer


async def replay_delivery(request: web.Request, rooms: Rooms) -> Any:
    """Send one delivery again, with the id it had."""
    await rooms.webhooks.replay(path_of(request)["number"])
    return ReplayedAnswer(replayed=1)


ROUTES: Final = (
    Route(
        method="GET", path="/webhooks", work=list_webhooks, allowed=_ADMIN,
        about="How each endpoint does", answer=WebhooksAnswer,
    ),
    Route(
        method="GET", path="/webhooks/deliveries", work=list_deliveries, allowed=_ADMIN,
        about="What was told, the newest first",
        query=(
            BEFORE, limit_of(MOST),
            Query("endpoint", str, "", "Of this endpoint", max_length=64),
            Query("state", DeliveryState, None, "In this state"),
            Query("event", str, "", "Of this kind of event", max_length=64),
        ),
        answer=DeliveriesAnswer,
    ),
    Route(
        method="GET", path=r"/webhooks/deliveries/{number:\d+}", work=get_delivery,
        allowed=_ADMIN, about="One delivery with its attempts", answer=DeliveryAnswer,
        errors=("unknown-delivery",),
    ),
    Route(
        method="POST", path=r"/webhooks/deliveries/{number:\d+}/replay", work=replay_delivery,
        allowed=_ADMIN, about="Send it again", answer=ReplayedAnswer, audit="webhook-replayed",
        errors=("unknown-delivery",),
    ),
    Route(
        method="POST", path="/webhooks/{name}/test", work=test_webhook, allowed=_ADMIN,
        about="Send a test message now", answer=TestAnswer, audit="webhook-tested",
        errors=("unknown-webhook",),
    ),
    Route(
        method="POST", path="/webhooks/{name}/replay", work=replay_webhook, allowed=_ADMIN,
        about="Send every dead letter again", answer=ReplayedAnswer, audit="webhook-replayed",
        errors=("unknown-webhook",),
    ),
)  # fmt: skip
