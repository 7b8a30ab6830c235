# SPDX-License-Identifier: Apache-2.0
"""The alert book: what is wrong, since when, who has seen it, and who is to be told.

Conditions come from polls and are raised at once, but cleared only when they have been gone for a
while; one that comes back within an hour opens the same alert again and has to stay away longer
each time. Events are raised once and age out. Loop thread only; nothing here waits.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final, Protocol

from scrigno.core.clock import Clock
from scrigno.core.counters import Counters
from scrigno.core.errors import CommandError
from scrigno.core.events import AlertChanged, EventBus

from .alerts import Action, Alert, Change, Silence, State
from .codes import CLASSES, Kind, Level
from .conditions import Condition
from .silences import Silences, keeps_a_risk_quiet
from .texts import AlertText, Value, alert_text

log = logging.getLogger(__name__)

CLEAR_AFTER_S: Final = 10.0  # doubled each time it comes back
CLEAR_AFTER_MOST_S: Final = 600.0
# After a start sensors have not all spoken yet; what was open is not over because nobody asked.
CLEAR_AFTER_START_S: Final = 60.0
REOPEN_WITHIN_S: Final = 3600.0
EVENT_AGE_S: Final = {
    Level.INFO: 24 * 3600.0,
    Level.NOTICE: 3 * 24 * 3600.0,
    Level.WARNING: 7 * 24 * 3600.0,
    Level.CRITICAL: 30 * 24 * 3600.0,
}
EVENT_TOLD_AGAIN_S: Final = 3600.0
# Subjects may come from the network (an AE title that anybody can choose).
MOST_EVENTS_OF_A_CODE: Final = 50

Key = tuple[str, str]


class HistoryLike(Protocol):
    """Where changes are kept; `health.history` does it on more than one device."""

    @property
    def changes(self) -> list[Change]:
        """Return what is known, in order of sequence."""

    @property
    def last_sequence(self) -> int:
        """Return the highest sequence number that was ever given away, as far as is known."""

    def append(self, change: Change) -> None:
        """Keep one more; returns at once."""


@dataclass(slots=True)
class _Entry:
    """An alert with what is measured by the monotonic clock."""

    alert: Alert
    seen_s: float  # monotonic: last seen
    clear_after_s: float = CLEAR_AFTER_S
    cleared_s: float | None = None
    milder_since_s: float | None = None
    told: Level | None = None  # the level people were told last; None: nobody was told
    told_s: float = field(default=float("-inf"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Silenced:
    """The answer to a wish for silence. `at_risk` has to be shown to whoever asked."""

    silence: Silence
    at_risk: bool  # it keeps quiet a critical alert about images that could be lost
    open_alerts: tuple[Alert, ...]  # what is quiet from now on


class AlertBook:
    """Raises, changes, clears; acknowledges and silences."""

    def __init__(
        self,
        *,
        clock: Clock,
        bus: EventBus,
        counters: Counters,
        history: HistoryLike,
    ) -> None:
        """Begin where `history` ends; it must be open already."""
        self._clock = clock
        self._bus = bus
        self._counters = counters
        self._history = history
        self._entries: dict[Key, _Entry] = {}
        self._silences = Silences(clock)
        self._listeners: list[Callable[[Change], None]] = []
        self._restore()

    def listen(self, listener: Callable[[Change], None]) -> None:
        """Call `listener` at each change; it must be quick."""
        self._listeners.append(listener)

    # what holds -----------------------------------------------------------------------------

    def update(self, conditions: Iterable[Condition]) -> None:
        """Take in every condition that holds now; what is not among them is on its way out."""
        now_s = self._clock.monotonic()
        for condition in conditions:
            self._holds(condition, now_s)
        for entry in tuple(self._entries.values()):
            self._age(entry, now_s)
        for silence_id in self._silences.ended():
            self.unsilence(silence_id)

    def raise_once(
        self,
        code: str,
        subject: str = "",
        values: Mapping[str, Value] | None = None,
        *,
        level: Level | None = None,
    ) -> Alert:
        """Raise an event, or count it once more. Raises KeyError or ValueError: no such event."""
        about = CLASSES[code]
        if about.kind is not Kind.EVENT:
            raise ValueError(f"{code} is a condition: it is raised by update")
        now_s = self._clock.monotonic()
        level = level or about.level
        entry = self._entries.get((code, subject))
        if entry is not None:
            entry.alert = replace(entry.alert, values=dict(values or {}))
        else:
            entry = self._crowded(code)
        if entry is None:
            return self._raise(code, subject, level, values or {}, now_s).alert
        entry.seen_s = now_s
        entry.alert = replace(
            entry.alert,
            level=max(entry.alert.level, level, key=lambda each: each.rank),
            last_seen=self._clock.now(),
            count=entry.alert.count + 1,
        )
        self._speak_up(entry, Action.CHANGED, again=True)
        return entry.alert

    def _crowded(self, code: str) -> _Entry | None:
        """Return the last event of a code that has too many subjects open, to be counted on."""
        same = [
            entry
            for entry in self._entries.values()
            if entry.alert.code == code and entry.alert.state is State.OPEN
        ]
        if len(same) < MOST_EVENTS_OF_A_CODE:
            return None
        self._counters.add("alerts_merged", code=code)
        return max(same, key=lambda entry: entry.alert.alert_id)

    def _holds(self, condition: Condition, now_s: float) -> None:
        key = (condition.code, condition.subject)
        entry = self._entries.get(key)
        if entry is None:
            self._raise(condition.code, condition.subject, condition.level, condition.values, now_s)
            return
        entry.seen_s = now_s
        entry.alert = replace(
            entry.alert, last_seen=self._clock.now(), values=dict(condition.values)
        )
        if entry.alert.state is State.CLEARED:
            self._reopen(entry, condition.level)
        elif condition.level.rank > entry.alert.level.rank:
            entry.milder_since_s = None
            self._worse(entry, condition.level)
        elif condition.level.rank < entry.alert.level.rank:
            self._milder(entry, condition.level, now_s)
        else:
            entry.milder_since_s = None

    def _raise(
        self, code: str, subject: str, level: Level, values: Mapping[str, Value], now_s: float
    ) -> _Entry:
        now = self._clock.now()
        alert = Alert(
            alert_id=self._history.last_sequence + 1,
            code=code,
            subject=subject,
            level=level,
            values=dict(values),
            since=now,
            last_seen=now,
        )
        entry = self._entries[code, subject] = _Entry(alert=alert, seen_s=now_s)
        self._counters.add("alerts_raised", code=code, level=level.value)
        self._speak_up(entry, Action.RAISED)
        return entry

    def _reopen(self, entry: _Entry, level: Level) -> None:
        """It came back soon: the same alert, counted, and slower to be cleared."""
        entry.cleared_s = entry.milder_since_s = None
        entry.clear_after_s = min(entry.clear_after_s * 2, CLEAR_AFTER_MOST_S)
        if level.rank > entry.alert.level.rank:
            entry.alert = _unseen(entry.alert)
        entry.alert = replace(
            entry.alert,
            state=State.OPEN,
            level=level,
            count=entry.alert.count + 1,
            cleared_at=None,
        )
        self._counters.add("alerts_reopened", code=entry.alert.code)
        self._speak_up(entry, Action.RAISED)

    def _worse(self, entry: _Entry, level: Level) -> None:
        entry.alert = replace(_unseen(entry.alert), level=level)
        self._speak_up(entry, Action.CHANGED)

    def _milder(self, entry: _Entry, level: Level, now_s: float) -> None:
        """Lower the level when it has been lower for as long as clearing takes."""
        if entry.milder_since_s is None:
            entry.milder_since_s = now_s
        if now_s - entry.milder_since_s >= entry.clear_after_s:
            entry.milder_since_s = None
            entry.alert = replace(entry.alert, level=level)
            self._write(entry, Action.CHANGED)

    def _age(self, entry: _Entry, now_s: float) -> None:
        alert = entry.alert
        if alert.state is State.CLEARED:
            if entry.cleared_s is not None and now_s - entry.cleared_s > REOPEN_WITHIN_S:
                del self._entries[alert.code, alert.subject]
            return
        limit_s = EVENT_AGE_S[alert.level] if alert.kind is Kind.EVENT else entry.clear_after_s
        if now_s - entry.seen_s >= limit_s:
            self._clear(entry, now_s)

    def _clear(self, entry: _Entry, now_s: float) -> None:
        if entry.alert.kind is Kind.EVENT:
            del self._entries[entry.alert.code, entry.alert.subject]
        entry.cleared_s, entry.milder_since_s = now_s, None
        entry.clear_after_s = max(
            CLEAR_AFTER_S, min(entry.clear_after_s, CLEAR_AFTER_S * 2 ** (entry.alert.count - 1))
        )
        entry.alert = replace(entry.alert, state=State.CLEARED, cleared_at=self._clock.now())
        # That an event is old is no news; that a condition is over is, to those who were told.
        news = entry.alert.kind is Kind.CONDITION and entry.told is not None
        entry.told = None
        self._write(entry, Action.CLEARED, tell=news)

    # what people do -------------------------------------------------------------------------

    def acknowledge(self, alert_id: int, user: str, comment: str = "") -> Alert:
        """Note that `user` has seen it. An event is over with that. Raises CommandError."""
        entry = self._open(alert_id)
        entry.alert = replace(
            entry.alert, acknowledged_by=user, acknowledged_at=self._clock.now(), comment=comment
        )
        self._write(entry, Action.ACKNOWLEDGED)
        if entry.alert.kind is Kind.EVENT:
            self._clear(entry, self._clock.monotonic())
        return entry.alert

    def silence(
        self,
        *,
        until: datetime,
        user: str,
        alert_id: int | None = None,
        code: str = "",
        subject: str = "",
    ) -> Silenced:
        """Tell nobody about one alert, a code, a subject, or a code of a subject, until then.

        The pages go on showing what is silenced. Raises CommandError.
        """
        if alert_id is not None:
            self._open(alert_id)
        silence = Silence(
            silence_id=self._history.last_sequence + 1,
            until=until.astimezone(UTC),
            user=user,
            alert_id=alert_id,
            code=code,
            subject=subject,
        )
        self._silences.begin(silence)
        self._note(Action.SILENCED, silence=silence)
        covered = tuple(alert for alert in self.open_alerts() if silence.covers(alert))
        for alert in covered:
            self._publish(alert, Action.SILENCED)
        return Silenced(
            silence=silence, at_risk=keeps_a_risk_quiet(silence, covered), open_alerts=covered
        )

    def unsilence(self, silence_id: int) -> None:
        """End a silence now; what is open and was kept quiet is told. Raises CommandError."""
        silence = self._silences.end(silence_id)
        self._note(Action.UNSILENCED, silence=silence)
        for entry in tuple(self._entries.values()):
            if entry.alert.state is not State.OPEN or not silence.covers(entry.alert):
                continue
            told_less = entry.told is None or entry.told.rank < entry.alert.level.rank
            if told_less and not entry.alert.acknowledged_by:
                self._speak_up(entry, Action.CHANGED)
            else:
                self._publish(entry.alert, Action.UNSILENCED)

    def silences(self) -> list[Silence]:
        """Return the silences in force, oldest first."""
        return self._silences.in_force()

    def is_silenced(self, alert: Alert) -> bool:
        """Tell whether nobody is told about it now."""
        return self._silences.cover(alert)

    # answers --------------------------------------------------------------------------------

    def open_alerts(self) -> list[Alert]:
        """Return what is open, the worst first, then the newest."""
        found = [each.alert for each in self._entries.values() if each.alert.state is State.OPEN]
        return sorted(found, key=lambda alert: (-alert.level.rank, -alert.alert_id))

    def history(
        self, *, after: int = 0, before: int | None = None, limit: int = 100
    ) -> list[Change]:
        """Return changes with a sequence between the two, newest first, at most `limit`."""
        found: list[Change] = []
        for change in reversed(self._history.changes):
            if len(found) >= limit or change.sequence <= after:
                break
            if before is None or change.sequence < before:
                found.append(change)
        return found

    def in_words(self, alert: Alert, language: str) -> AlertText:
        """Return what it says in a language; English where that is not known."""
        return alert_text(alert.code, alert.subject, alert.values, language)

    # inside ---------------------------------------------------------------------------------

    def _open(self, alert_id: int) -> _Entry:
        for entry in self._entries.values():
            if entry.alert.alert_id == alert_id and entry.alert.state is State.OPEN:
                return entry
        raise CommandError(f"There is no open alert {alert_id}.")

    def _speak_up(self, entry: _Entry, action: Action, *, again: bool = False) -> None:
        """Write a change and tell people, unless a silence covers it or they were told just now."""
        now_s = self._clock.monotonic()
        alert = entry.alert
        known = entry.told is not None and entry.told.rank >= alert.level.rank
        if again and known and now_s - entry.told_s < EVENT_TOLD_AGAIN_S:
            # An event once more: counted, but neither told nor written each time.
            return
        tell = not self.is_silenced(alert)
        if tell:
            entry.told, entry.told_s = alert.level, now_s
        self._write(entry, action, tell=tell)

    def _write(self, entry: _Entry, action: Action, *, tell: bool = False) -> None:
        alert = entry.alert
        log.log(
            _LOG_LEVEL[alert.level] if action is Action.RAISED else logging.INFO,
            "alert %s %s: %s %s: %s",
            alert.alert_id,
            action.value,
            alert.code,
            alert.subject,
            alert_text(alert.code, alert.subject, alert.values).summary,
        )
        self._note(action, alert=alert, tell=tell)
        self._publish(alert, action)

    def _publish(self, alert: Alert, action: Action) -> None:
        self._bus.publish(
            AlertChanged(
                alert_id=alert.alert_id,
                code=alert.code,
                level=alert.level.value,
                subject=alert.subject,
                action=action.value,
            )
        )

    def _note(
        self,
        action: Action,
        *,
        alert: Alert | None = None,
        silence: Silence | None = None,
        tell: bool = False,
    ) -> None:
        change = Change(
            sequence=self._history.last_sequence + 1,
            at=self._clock.now(),
            action=action,
            alert=alert,
            silence=silence,
            tell=tell,
        )
        self._history.append(change)
        for listener in self._listeners:
            listener(change)

    def _restore(self) -> None:
        """Stand where the last run stood, as far as the history knows."""
        now, now_s = self._clock.now(), self._clock.monotonic()
        for change in self._history.changes:
            if change.alert is not None:
                self._restore_alert(change, now, now_s)
            elif change.silence is not None and change.action is Action.SILENCED:
                self._silences.restore(change.silence, now)
            elif change.silence is not None:
                self._silences.forget(change.silence.silence_id)

    def _restore_alert(self, change: Change, now: datetime, now_s: float) -> None:
        alert = change.alert
        if alert is None:
            return
        key = (alert.code, alert.subject)
        if alert.state is State.CLEARED:
            cleared_s = now_s - _age_s(now, alert.cleared_at)
            if alert.kind is Kind.EVENT:
                self._entries.pop(key, None)
                return
            entry = _Entry(alert=alert, seen_s=cleared_s, cleared_s=cleared_s)
        elif alert.kind is Kind.EVENT:
            entry = _Entry(alert=alert, seen_s=now_s - _age_s(now, alert.last_seen))
        else:
            entry = _Entry(alert=alert, seen_s=now_s, clear_after_s=CLEAR_AFTER_START_S)
        before = self._entries.get(key)
        if change.tell:
            entry.told = None if alert.state is State.CLEARED else alert.level
            entry.told_s = now_s
        elif before is not None and before.alert.alert_id == alert.alert_id:
            entry.told, entry.told_s = before.told, before.told_s
        self._entries[key] = entry


_LOG_LEVEL: Final = {
    Level.INFO: logging.INFO,
    Level.NOTICE: logging.INFO,
    Level.WARNING: logging.WARNING,
    Level.CRITICAL: logging.ERROR,
}


def _age_s(now: datetime, then: datetime | None) -> float:
    """Return how long ago that was; never less than nothing, whatever the clock did."""
    return 0.0 if then is None else max(0.0, (now - then).total_seconds())


def _unseen(alert: Alert) -> Alert:
    """Return the alert as nobody has acknowledged it."""
    return replace(alert, acknowledged_by="", acknowledged_at=None, comment="")
