# SPDX-License-Identifier: Apache-2.0
"""Alerts: what is open, what was, who has seen it, who is told (SPEC AD-11)."""

from typing import Annotated, Any, Final

from aiohttp import web
from msgspec import Meta

from scrigno.health.alerts import Action, Alert, Change, Silence, State
from scrigno.health.codes import Kind, Level
from scrigno.health.texts import alert_text

from .answers import at, moment
from .rooms import Rooms, author_of, caller_of
from .routes import For, Route, audited
from .shapes import (
    BEFORE,
    LANGUAGE,
    NO_NULL,
    ONE_LINE,
    Answer,
    Body,
    Id,
    Moment,
    Time,
    limit_of,
    path_of,
    query_of,
    read_body,
    read_optional_body,
    time_of,
)

_ADMIN: Final = For.ADMINISTRATORS
Value = str | int | float


class AlertAnswer(Answer):
    """One alert, in words."""

    id: int
    code: str
    subject: str
    level: Level
    state: State
    kind: Kind
    data_at_risk: bool
    summary: str
    explanation: str
    next_step: str
    values: dict[str, Value]
    since: Moment
    last_seen: Moment
    cleared_at: Moment | None
    count: int
    acknowledged_by: str
    acknowledged_at: Moment | None
    comment: str
    silenced: bool


class AlertsAnswer(Answer):
    """What is open, the worst first."""

    alerts: list[AlertAnswer]


class SilenceAnswer(Answer):
    """Nobody is told of alerts that fit all of what is given, until then."""

    id: int
    until: Moment
    user: str
    alert_id: int | None
    code: str
    subject: str


class SilencesAnswer(Answer):
    """The silences in force."""

    silences: list[SilenceAnswer]


class AlertChangeAnswer(Answer):
    """One entry of the history."""

    sequence: int
    at: Moment
    action: Action
    alert: AlertAnswer | None
    silence: SilenceAnswer | None


class AlertHistoryAnswer(Answer):
    """What was raised, changed, seen and cleared, the newest first."""

    changes: list[AlertChangeAnswer]


class SilencedAnswer(Answer):
    """A new silence, and which open alerts it keeps quiet."""

    silence: SilenceAnswer
    at_risk: bool
    alerts: list[int]


class ChannelAnswer(Answer):
    """How a channel does; `failures` in a row."""

    name: str
    waiting: int
    failures: int
    reason: str


class ChannelsAnswer(Answer):
    """How each channel does."""

    channels: list[ChannelAnswer]


class ChannelTestAnswer(Answer):
    """Whether the test message went out, and why not."""

    sent: bool
    reason: str


class AcknowledgeBody(Body):
    """What somebody says who cares for an alert."""

    comment: Annotated[str, Meta(max_length=500, pattern=NO_NULL)] = ""


class SilenceBody(Body):
    """What is to be kept quiet, and until when; at least one of the others is given."""

    until: Time
    alert_id: Id | None = None
    code: Annotated[str, Meta(max_length=64, pattern=ONE_LINE)] = ""
    subject: Annotated[str, Meta(max_length=200, pattern=ONE_LINE)] = ""


def language_of(request: web.Request, rooms: Rooms) -> str:
    """Return the language in which this caller reads."""
    asked = str(query_of(request).get("language", ""))
    account = caller_of(request).session.account
    return asked or account.language or rooms.settings.current.language.value


def alert_json(alert: Alert, language: str, *, silenced: bool = False) -> AlertAnswer:
    """Return an alert with its words."""
    words = alert_text(alert.code, alert.subject, alert.values, language)
    return AlertAnswer(
        id=alert.alert_id,
        code=alert.code,
        subject=alert.subject,
        level=alert.level,
        state=alert.state,
        kind=alert.kind,
        data_at_risk=alert.data_at_risk,
        summary=words.summary,
        explanation=words.explanation,
        next_step=words.next_step,
        values=dict(alert.values),
        since=at(alert.since),
        last_seen=at(alert.last_seen),
        cleared_at=moment(alert.cleared_at),
        count=alert.count,
        acknowledged_by=alert.acknowledged_by,
        acknowledged_at=moment(alert.acknowledged_at),
        comment=alert.comment,
        silenced=silenced,
    )


def _change(change: Change, language: str) -> AlertChangeAnswer:
    return AlertChangeAnswer(
        sequence=change.sequence,
        at=at(change.at),
        action=change.action,
        alert=alert_json(change.alert, language) if change.alert else None,
        silence=_silence(change.silence) if change.silence else None,
    )


def _silence(silence: Silence) -> SilenceAnswer:
    return SilenceAnswer(
        id=silence.silence_id,
        until=at(silence.until),
        user=silence.user,
        alert_id=silence.alert_id,
        code=silence.code,
        subject=silence.subject,
    )


async def list_alerts(request: web.Request, rooms: Rooms) -> Any:
    """List what is open, the worst first, in the reader's language."""
    language = language_of(request, rooms)
    return AlertsAnswer(
        alerts=[
            alert_json(each, language, silenced=rooms.alerts.is_silenced(each))
            for each in rooms.alerts.open_alerts()
        ]
    )


async def alert_history(request: web.Request, rooms: Rooms) -> Any:
    """List what was raised, changed, seen and cleared, the newest first."""
    language, asked = language_of(request, rooms), query_of(request)
    changes = rooms.alerts.history(before=asked["before"] or None, limit=asked["limit"])
    return AlertHistoryAnswer(changes=[_change(each, language) for each in changes])


async def acknowledge_alert(request: web.Request, rooms: Rooms) -> Any:
    """Say that somebody has seen it and cares for it."""
    body = await read_optional_body(request, AcknowledgeBody)
    found = rooms.alerts.acknowledge(path_of(request)["id"], author_of(request), body.comment)
    return alert_json(found, language_of(request, rooms), silenced=rooms.alerts.is_silenced(found))


async def silence_alerts(request: web.Request, rooms: Rooms) -> Any:
    """Tell nobody about an alert, a code or a subject until a moment; the pages still show it."""
    body = await read_body(request, SilenceBody)
    audited(request, body.code or body.subject or str(body.alert_id or ""))
    silenced = rooms.alerts.silence(
        until=time_of(body.until, "until"),
        user=author_of(request),
        alert_id=body.alert_id,
        code=body.code,
        subject=body.subject,
    )
    return SilencedAnswer(
        silence=_silence(silenced.silence),
        at_risk=silenced.at_risk,
        alerts=[each.alert_id for each in silenced.open_alerts],
    )


async def list_silences(_request: web.Request, rooms: Rooms) -> Any:
    """List the silences in force."""
    return SilencesAnswer(silences=[_silence(each) for each in rooms.alerts.silences()])


async def end_silence(request: web.Request, rooms: Rooms) -> Any:
    """End a silence now."""
    rooms.alerts.unsilence(path_of(request)["id"])


async def list_channels(_request: web.Request, rooms: Rooms) -> Any:
    """List how each channel does."""
    return ChannelsAnswer(
        channels=[
            ChannelAnswer(
                name=each.name, waiting=each.waiting, failures=each.failures, reason=each.reason
            )
            for each in rooms.dispatcher.statuses()
        ]
    )


async def test_channel(request: web.Request, rooms: Rooms) -> Any:
    """Send a test message by a channel now; the answer says why it did not go out, if so."""
    reason = await rooms.dispatcher.test(path_of(request)["name"])
    return ChannelTestAnswer(sent=not reason, reason=reason)


ROUTES: Final = (
    Route(
        method="GET", path="/alerts", work=list_alerts,
        about="What is open, the worst first, in words", query=(LANGUAGE,), answer=AlertsAnswer,
    ),
    Route(
        method="GET", path="/alerts/history", work=alert_history, allowed=_ADMIN,
        about="What was raised, seen and cleared", query=(BEFORE, limit_of(500), LANGUAGE),
        answer=AlertHistoryAnswer,
    ),
    Route(
        method="POST", path=r"/alerts/{id:\d+}/acknowledge", work=acknowledge_alert,
        allowed=_ADMIN, about="Say that somebody cares for it", query=(LANGUAGE,),
        body=AcknowledgeBody, body_optional=True, answer=AlertAnswer,
        audit="alert-acknowledged", errors=("command-refused",),
    ),
    Route(
        method="GET", path="/alerts/silences", work=list_silences, allowed=_ADMIN,
        about="The silences in force", answer=SilencesAnswer,
    ),
    Route(
        method="POST", path="/alerts/silences", work=silence_alerts, allowed=_ADMIN,
        about="Tell nobody about an alert, a code or a subject until a moment",
        body=SilenceBody, answer=SilencedAnswer, audit="alerts-silenced",
        errors=("command-refused", "not-possible"),
    ),
    Route(
        method="DELETE", path=r"/alerts/silences/{id:\d+}", work=end_silence, allowed=_ADMIN,
        about="End a silence", answer=None, audit="silence-ended", errors=("command-refused",),
    ),
    Route(
        method="GET", path="/alerts/channels", work=list_channels, allowed=_ADMIN,
        about="How the channels of alerts do", answer=ChannelsAnswer,
    ),
    Route(
        method="POST", path="/alerts/channels/{name}/test", work=test_channel, allowed=_ADMIN,
        about="Send a test message now", answer=ChannelTestAnswer, audit="channel-tested",
        errors=("command-refused",),
    ),
)  # fmt: skip
