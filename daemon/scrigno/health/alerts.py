# SPDX-License-Identifier: Apache-2.0
"""An alert, and one change of it, as it stands in the history and in the outbox."""

import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from .codes import CLASSES, Kind, Level
from .texts import Value

_CHECK: Final = "check"


class State(StrEnum):
    """Whether it still asks for attention."""

    OPEN = "open"
    CLEARED = "cleared"


class Action(StrEnum):
    """What a change did."""

    RAISED = "raised"
    CHANGED = "changed"  # level, or it is told again after a silence
    CLEARED = "cleared"
    ACKNOWLEDGED = "acknowledged"
    SILENCED = "silenced"
    UNSILENCED = "unsilenced"


class LineDamaged(ValueError):
    """A line of a history is not what was written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alert. Times are for people; what came first is told by sequence numbers."""

    alert_id: int
    code: str
    subject: str
    level: Level
    values: Mapping[str, Value] = field(default_factory=dict)
    state: State = State.OPEN
    since: datetime
    last_seen: datetime
    count: int = 1  # how often it was raised; more than 1 is flapping, or an event again
    acknowledged_by: str = ""
    acknowledged_at: datetime | None = None
    comment: str = ""
    cleared_at: datetime | None = None

    @property
    def kind(self) -> Kind:
        """Return how it ends; a code of an older version is an event, so that it ages out."""
        known = CLASSES.get(self.code)
        return known.kind if known else Kind.EVENT

    @property
    def data_at_risk(self) -> bool:
        """Tell whether images could be lost."""
        known = CLASSES.get(self.code)
        return known is not None and known.data_at_risk


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """Nobody is told of alerts that fit all of what is given, until then."""

    silence_id: int
    until: datetime
    user: str
    alert_id: int | None = None
    code: str = ""
    subject: str = ""

    def covers(self, alert: Alert) -> bool:
        """Tell whether it keeps this alert quiet."""
        return (
            (self.alert_id is None or self.alert_id == alert.alert_id)
            and (not self.code or self.code == alert.code)
            and (not self.subject or self.subject == alert.subject)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One entry of the history. `sequence` only grows, whatever the clock does."""

    sequence: int
    at: datetime
    action: Action
    alert: Alert | None = None
    silence: Silence | None = None
    tell: bool = False  # the channels are to tell people


def to_plain(change: Change) -> dict[str, Any]:
    """Return a change as JSON can hold it."""
    return {name: _plain(value) for name, value in asdict(change).items() if value is not None}


def from_plain(plain: Mapping[str, Any]) -> Change:
    """Return the change again. Raises LineDamaged. Keys of a newer version are left aside."""
    try:
        return Change(
            sequence=int(plain["sequence"]),
            at=_time(plain["at"]),
            action=Action(plain["action"]),
            alert=_alert(plain["alert"]) if plain.get("alert") else None,
            silence=_silence(plain["silence"]) if plain.get("silence") else None,
            tell=bool(plain.get("tell")),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise LineDamaged(str(error)) from error


def to_line(change: Change) -> bytes:
    """Return a change as one line of JSON with its own check (CRC-32 of the rest)."""
    plain = to_plain(change)
    return _json({**plain, _CHECK: _crc(plain)}) + b"\n"


def from_line(line: bytes) -> Change:
    """Return the change of a line. Raises LineDamaged."""
    try:
        plain = json.loads(line)
    except ValueError as error:
        raise LineDamaged(str(error)) from error
    if not isinstance(plain, dict) or plain.pop(_CHECK, None) != _crc(plain):
        raise LineDamaged("the check does not fit")
    return from_plain(plain)


def _json(plain: Mapping[str, Any]) -> bytes:
    return json.dumps(plain, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode(
        "utf-8",
        "backslashreplace",  # a name that is no text, from a disk or a peer
    )


def _crc(plain: Mapping[str, Any]) -> str:
    return f"{zlib.crc32(_json(plain)):08x}"


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items() if each is not None}
    return value


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _known(kind: type, plain: Mapping[str, Any]) -> dict[str, Any]:
    return {each.name: plain[each.name] for each in fields(kind) if each.name in plain}


def _alert(plain: Mapping[str, Any]) -> Alert:
    known = _known(Alert, plain)
    known["level"], known["state"] = Level(known["level"]), State(known["state"])
    for name in ("since", "last_seen", "acknowledged_at", "cleared_at"):
        if known.get(name):
            known[name] = _time(known[name])
    return Alert(**known)


def _silence(plain: Mapping[str, Any]) -> Silence:
    known = _known(Silence, plain)
    known["until"] = _time(known["until"])
    return Silence(**known)
