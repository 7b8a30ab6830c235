# SPDX-License-Identifier: Apache-2.0
"""Alerts: what is open, what was, who has seen it, who is told (SPEC AD-11)."""

from datetime import UTC, datetime
from typing import Any, Final

from aiohttp import web

from scrigno.health.alerts import Alert, Change, Silence
from scrigno.health.texts import alert_text

from .answers import moment
from .bodies import number, read_object, text
from .errors import BadBody
from .rooms import Rooms, author_of, caller_of
from .routes import For, Route

LAST_ID: Final = 2**53
_ADMIN: Final = For.ADMINISTRATORS


def language_of(request: web.Request, rooms: Rooms) -> str:
    """Return the language in which this caller reads."""
    asked = request.query.get("language", "")
    account = caller_of(request).session.account
    return asked or account.language or rooms.settings.current.language.value


def alert_json(alert: Alert, language: str) -> dict[str, Any]:
    """Return an alert with its words."""
    words = alert_text(alert.code, alert.subject, alert.values, language)
    return {
        "id": alert.alert_id,
        "code": alert.code,
        "subject": alert.subject,
        "level": alert.level,
        "state": alert.state,
        "kind": alert.kind,
        "data_at_risk": alert.data_at_risk,
        "summary": words.summary,
        "explanation": words.explanation,
        "next_step": words.next_step,
        "values": dict(alert.values),
        "since": moment(alert.since),
        "last_seen": moment(alert.last_seen),
        "cleared_at": moment(alert.cleared_at),
        "count": alert.count,
        "acknowledged_by": alert.acknowledged_by,
        "acknowledged_at": moment(alert.acknowledged_at),
        "comment": alert.comment,
    }


def _change(change: Change, language: str) -> dict[str, Any]:
    return {
        "sequence": change.sequence,
        "at": moment(change.at),
        "action": change.action,
        "alert": alert_json(change.alert, language) if change.alert else None,
        "silence": _silence(change.silence) if change.silence else None,
    }


def _silence(silence: Silence) -> dict[str, Any]:
    return {
        "id": silence.silence_id,
        "until": moment(silence.until),
        "user": silence.user,
        "alert_id": silence.alert_id,
        "code": silence.code,
        "subject": silence.subject,
    }


async def list_alerts(request: web.Request, rooms: Rooms) -> Any:
    """List what is open, the worst first, in the reader's language."""
    language = language_of(request, rooms)
    return {
        "alerts": [
            alert_json(each, language) | {"silenced": rooms.alerts.is_silenced(each)}
            for each in rooms.alerts.open_alerts()
        ]
    }


async def alert_history(request: web.Request, rooms: Rooms) -> Any:
    """List what was raised, changed, seen and cleared, the newest first."""
    language = language_of(request, rooms)
    before = number(request.query, "before", lowest=0, highest=LAST_ID, default=0)
    limit = number(request.query, "limit", lowest=1, highest=500, default=100)
    changes = rooms.alerts.history(before=before or None, limit=limit)
    return {"changes": [_change(each, language) for each in changes]}


async def acknowledge_alert(request: web.Request, rooms: Rooms) -> Any:
    """Say that somebody has seen it and cares for it."""
    alert_id = number(request.match_info, "id", lowest=1, highest=LAST_ID)
    comment = text(await read_object(request), "comment", default="", most=500)
    found = rooms.alerts.acknowledge(alert_id, author_of(request), comment)
    return alert_json(found, language_of(request, rooms))


async def silence_alerts(request: web.Request, rooms: Rooms) -> Any:
    """Tell nobody about an alert, a code or a subject until a moment; the pages still show it."""
    body = await read_object(request)
    alert_id = body.get("alert_id")
    if alert_id is not None:
        alert_id = number(body, "alert_id", lowest=1, highest=LAST_ID)
    try:
        until = datetime.fromisoformat(text(body, "until"))
    except ValueError as error:
        raise BadBody("until must be a time as 2026-01-31T12:00:00+00:00.") from error
    silenced = rooms.alerts.silence(
        until=until if until.tzinfo else until.replace(tzinfo=UTC),
        user=author_of(request),
        alert_id=alert_id,
        code=text(body, "code", default="", most=64),
        subject=text(body, "subject", default="", most=200),
    )
    return {
        "silence": _silence(silenced.silence),
        "at_risk": silenced.at_risk,
        "alerts": [each.alert_id for each in silenced.open_alerts],
    }


async def list_silences(request: web.Request, rooms: Rooms) -> Any:
    """List the silences in force."""
    return {"silences": [_silence(each) for each in rooms.alerts.silences()]}


async def end_silence(request: web.Request, rooms: Rooms) -> Any:
    """End a silence now."""
    rooms.alerts.unsilence(number(request.match_info, "id", lowest=1, highest=LAST_ID))


async def list_channels(request: web.Request, rooms: Rooms) -> Any:
    """List how each channel does."""
    return {
        "channels": [
            {
                "name": each.name,
                "waiting": each.waiting,
                "failures": each.failures,
                "reason": each.reason,
            }
            for each in rooms.dispatcher.statuses()
        ]
    }


async def test_channel(request: web.Request, rooms: Rooms) -> Any:
    """Send a test message by a channel now; the answer says why it did not go out, if so."""
    reason = await rooms.dispatcher.test(request.match_info["name"])
    return {"sent": not reason, "reason": reason}


ROUTES: Final = (
    Route(
        method="GET", path="/alerts", work=list_alerts,
        about="What is open, the worst first, in words", query=("language",),
    ),
    Route(
        method="GET", path="/alerts/history", work=alert_history, allowed=_ADMIN,
        about="What was raised, seen and cleared", query=("before", "limit", "language"),
    ),
    Route(
        method="POST", path=r"/alerts/{id:\d+}/acknowledge", work=acknowledge_alert,
        allowed=_ADMIN, about="Say that somebody cares for it",
        body={"type": "object", "properties": {"comment": {"type": "string"}}},
        errors=("command-refused",),
    ),
    Route(
        method="GET", path="/alerts/silences", work=list_silences, allowed=_ADMIN,
        about="The silences in force",
    ),
    Route(
        method="POST", path="/alerts/silences", work=silence_alerts, allowed=_ADMIN,
        about="Tell nobody about an alert, a code or a subject until a moment",
        body={
            "type": "object",
            "required": ["until"],
            "properties": {
                "until": {"type": "string", "format": "date-time"},
                "alert_id": {"type": "integer"},
                "code": {"type": "string"},
                "subject": {"type": "string"},
            },
        },
        errors=("command-refused", "bad-body"),
    ),
    Route(
        method="DELETE", path=r"/alerts/silences/{id:\d+}", work=end_silence, allowed=_ADMIN,
        about="End a silence", errors=("command-refused",),
    ),
    Route(
        method="GET", path="/alerts/channels", work=list_channels, allowed=_ADMIN,
        about="How the channels of alerts do",
    ),
    Route(
        method="POST", path="/alerts/channels/{name}/test", work=test_channel, allowed=_ADMIN,
        about="Send a test message now", errors=("command-refused",),
    ),
)  # fmt: skip
