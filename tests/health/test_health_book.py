# SPDX-License-Identifier: Apache-2.0
"""The alert book: raised at once, cleared with damping, acknowledged, silenced, told."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from scrigno.core.counters import Counters
from scrigno.core.errors import CommandError
from scrigno.core.events import AlertChanged, EventBus
from scrigno.health.alerts import Action, Alert, Change, State, from_line, to_line
from scrigno.health.book import (
    CLEAR_AFTER_S,
    CLEAR_AFTER_START_S,
    EVENT_AGE_S,
    MOST_EVENTS_OF_A_CODE,
    REOPEN_WITHIN_S,
    AlertBook,
)
from scrigno.health.codes import Level
from scrigno.health.conditions import Condition, condition
from scrigno.health.sources import Sources

OFFLINE = condition("volume-offline", subject="data", reason="EIO")


class HeldClock:
    """A clock that stands until it is moved; the wall and the monotonic one apart if wished."""

    def __init__(self) -> None:
        self.wall = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
        self.seconds = 1000.0

    def now(self) -> datetime:
        return self.wall

    def monotonic(self) -> float:
        return self.seconds

    def go_on(self, seconds: float) -> None:
        self.wall += timedelta(seconds=seconds)
        self.seconds += seconds


@dataclass
class Memory:
    """A history in memory."""

    changes: list[Change] = field(default_factory=list)
    last_sequence: int = 0

    def append(self, change: Change) -> None:
        assert change.sequence == self.last_sequence + 1
        self.changes.append(from_line(to_line(change)))
        self.last_sequence = change.sequence


class Desk:
    """A book, what it published and what it told."""

    def __init__(self, clock: HeldClock | None = None, memory: Memory | None = None) -> None:
        self.clock = clock or HeldClock()
        self.memory = memory or Memory()
        self.published: list[tuple[str, str]] = []
        self.told: list[tuple[str, str]] = []
        self.counters = Counters()
        bus = EventBus()
        bus.subscribe(AlertChanged, lambda one: self.published.append((one.code, one.action)))
        self.book = AlertBook(
            clock=self.clock, bus=bus, counters=self.counters, history=self.memory
        )
        self.book.listen(self._hear)

    def _hear(self, change: Change) -> None:
        if change.tell and change.alert is not None:
            self.told.append((change.alert.code, change.action.value))

    def poll(self, *conditions: Condition, after_s: float = 2.0, times: int = 1) -> None:
        for _ in range(times):
            self.clock.go_on(after_s)
            self.book.update(conditions)

    def again(self) -> "Desk":
        """The same box after a restart."""
        return Desk(self.clock, self.memory)


def _codes(alerts: Iterable[Alert]) -> list[tuple[str, str]]:
    return [(alert.code, alert.subject) for alert in alerts]


def _milder(one: Condition, level: Level) -> Condition:
    return condition(one.code, subject=one.subject, level=level, **one.values)


@pytest.mark.spec("AD-11")
def test_a_condition_is_raised_once_and_keeps_its_first_time() -> None:
    desk = Desk()
    desk.poll(OFFLINE, times=5)
    (alert,) = desk.book.open_alerts()
    assert (alert.code, alert.subject, alert.count) == ("volume-offline", "data", 1)
    assert alert.last_seen - alert.since == timedelta(seconds=8)
    assert desk.told == [("volume-offline", "raised")]
    assert desk.published == [("volume-offline", "raised")]
    assert desk.book.in_words(alert, "en").explanation == "It reports: EIO."


def test_a_condition_that_is_gone_for_a_moment_is_not_cleared() -> None:
    desk = Desk()
    desk.poll(OFFLINE)
    desk.poll(after_s=CLEAR_AFTER_S - 1)
    desk.poll(OFFLINE, after_s=0.5)
    desk.poll(after_s=CLEAR_AFTER_S - 1)
    assert len(desk.book.open_alerts()) == 1
    desk.poll(after_s=2)
    assert desk.book.open_alerts() == []
    assert desk.told == [("volume-offline", "raised"), ("volume-offline", "cleared")]


def test_one_that_flaps_stays_one_alert_and_has_to_stay_away_longer_each_time() -> None:
    desk = Desk()
    for _ in range(20):  # ten seconds there, ten seconds away
        desk.poll(OFFLINE, times=5)
        desk.poll(times=6)
    (alert,) = desk.book.open_alerts()
    assert alert.count == 2  # cleared once; since then ten seconds are not enough
    assert len(desk.told) == 3
    desk.poll(after_s=CLEAR_AFTER_S * 2)
    assert desk.book.open_alerts() == []
    desk.poll(OFFLINE)
    assert [one.alert_id for one in desk.book.open_alerts()] == [alert.alert_id]
    desk.poll(after_s=CLEAR_AFTER_S * 4)
    desk.poll(after_s=REOPEN_WITHIN_S + 1)
    desk.poll(OFFLINE)
    (new,) = desk.book.open_alerts()
    assert (new.count, new.alert_id > alert.alert_id) == (1, True)


def test_a_worse_level_is_told_and_wants_to_be_acknowledged_anew() -> None:
    desk = Desk()
    space = condition("volume-space", subject="data", used_percent=86, free_bytes=1)
    desk.poll(space)
    (alert,) = desk.book.open_alerts()
    seen = desk.book.acknowledge(alert.alert_id, "anna", "disk is ordered")
    assert (seen.acknowledged_by, seen.comment) == ("anna", "disk is ordered")
    desk.poll(_milder(space, Level.CRITICAL))
    (alert,) = desk.book.open_alerts()
    assert (alert.level, alert.acknowledged_by, alert.comment) == (Level.CRITICAL, "", "")
    assert desk.told == [("volume-space", "raised"), ("volume-space", "changed")]
    assert ("volume-space", "acknowledged") in desk.published


def test_a_milder_level_is_believed_only_when_it_lasts_and_is_no_news() -> None:
    desk = Desk()
    space = condition("volume-space", subject="data", used_percent=91, free_bytes=1)
    desk.poll(_milder(space, Level.CRITICAL))
    for _ in range(5):
        desk.poll(_milder(space, Level.WARNING), after_s=CLEAR_AFTER_S - 1)
        desk.poll(_milder(space, Level.CRITICAL), after_s=1)
    assert desk.told == [("volume-space", "raised")]
    desk.poll(_milder(space, Level.WARNING), after_s=CLEAR_AFTER_S, times=2)
    assert [one.level for one in desk.book.open_alerts()] == [Level.WARNING]
    assert desk.told == [("volume-space", "raised")]


def test_an_event_is_raised_once_counted_and_ages_out() -> None:
    desk = Desk()
    for count in (1, 2, 3):
        desk.book.raise_once("scrub-repaired", "data", {"count": count})
    desk.poll()
    (alert,) = desk.book.open_alerts()
    assert (alert.count, alert.values) == (3, {"count": 3})
    assert desk.told == [("scrub-repaired", "raised")]
    desk.poll(after_s=3700)
    desk.book.raise_once("scrub-repaired", "data", {"count": 9})
    assert desk.told[1:] == [("scrub-repaired", "changed")]
    desk.poll(after_s=EVENT_AGE_S[Level.WARNING] + 1)
    assert desk.book.open_alerts() == []
    assert len(desk.told) == 2  # that it is old is no news


def test_an_event_is_over_when_somebody_has_seen_it() -> None:
    desk = Desk()
    alert = desk.book.raise_once("clock-step", values={"step_s": 60})
    assert desk.book.acknowledge(alert.alert_id, "anna").state is State.CLEARED
    assert desk.book.open_alerts() == []
    with pytest.raises(CommandError):
        desk.book.acknowledge(alert.alert_id, "anna")
    assert desk.book.raise_once("clock-step", values={"step_s": 60}).alert_id > alert.alert_id


def test_a_condition_is_no_event_and_unknown_codes_are_refused() -> None:
    desk = Desk()
    with pytest.raises(ValueError, match="condition"):
        desk.book.raise_once("volume-offline", "data")
    with pytest.raises(KeyError):
        desk.book.raise_once("something-else")


def test_subjects_from_the_network_do_not_fill_the_book() -> None:
    desk = Desk()
    for number in range(MOST_EVENTS_OF_A_CODE + 100):
        desk.book.raise_once("unknown-node", f"AE{number}", {"host": "192.0.2.7"})
    alerts = desk.book.open_alerts()
    assert len(alerts) == MOST_EVENTS_OF_A_CODE
    assert sum(alert.count for alert in alerts) == MOST_EVENTS_OF_A_CODE + 100
    assert desk.counters.value("alerts_merged", code="unknown-node") == 100
    assert len(desk.memory.changes) == MOST_EVENTS_OF_A_CODE  # nor the history


def test_what_is_silenced_is_shown_but_not_told_and_told_when_the_silence_ends() -> None:
    desk = Desk()
    until = desk.clock.now() + timedelta(hours=1)
    answer = desk.book.silence(until=until, user="anna", code="load-high")
    assert (answer.at_risk, answer.open_alerts) == (False, ())
    desk.poll(condition("load-high", load=9.5, processors=2))
    assert desk.told == []
    (alert,) = desk.book.open_alerts()
    assert desk.book.is_silenced(alert)
    desk.poll(condition("load-high", load=9.5, processors=2), after_s=3600)
    assert desk.book.silences() == []
    assert desk.told == [("load-high", "changed")]


def test_a_silence_can_be_ended_and_what_was_told_before_is_not_told_again() -> None:
    desk = Desk()
    desk.poll(OFFLINE)
    until = desk.clock.now() + timedelta(hours=1)
    (alert,) = desk.book.open_alerts()
    answer = desk.book.silence(until=until, user="anna", alert_id=alert.alert_id)
    desk.book.unsilence(answer.silence.silence_id)
    desk.poll(OFFLINE)
    assert desk.told == [("volume-offline", "raised")]
    with pytest.raises(CommandError):
        desk.book.unsilence(answer.silence.silence_id)


@pytest.mark.parametrize(
    ("what", "at_risk"),
    [
        ({"code": "volume-offline"}, True),
        ({"code": "volume-offline", "subject": "backup1"}, True),
        ({"subject": "data"}, True),
        ({"code": "index-backup-old"}, False),
        ({"code": "load-high"}, False),
    ],
)
def test_silencing_what_tells_of_images_at_risk_is_said_aloud(
    what: dict[str, str], at_risk: bool
) -> None:
    desk = Desk()
    desk.poll(OFFLINE)
    until = desk.clock.now() + timedelta(days=1)
    assert desk.book.silence(until=until, user="anna", **what).at_risk is at_risk


def test_silencing_one_alert_of_images_at_risk_is_said_aloud() -> None:
    desk = Desk()
    desk.poll(OFFLINE, condition("load-high", load=9, processors=2))
    until = desk.clock.now() + timedelta(days=1)
    answers = {
        alert.code: desk.book.silence(until=until, user="anna", alert_id=alert.alert_id)
        for alert in desk.book.open_alerts()
    }
    assert {code: answer.at_risk for code, answer in answers.items()} == {
        "volume-offline": True,
        "load-high": False,
    }
    assert _codes(answers["volume-offline"].open_alerts) == [("volume-offline", "data")]


def test_a_silence_needs_an_end_and_an_object() -> None:
    desk = Desk()
    now = desk.clock.now()
    for wrong in (
        {"until": now + timedelta(hours=1)},
        {"until": now - timedelta(hours=1), "code": "load-high"},
        {"until": now + timedelta(days=91), "code": "load-high"},
        {"until": now + timedelta(hours=1), "code": "no-such-code"},
        {"until": now + timedelta(hours=1), "alert_id": 4711},
    ):
        with pytest.raises(CommandError):
            desk.book.silence(user="anna", **wrong)  # type: ignore[arg-type]  # mixed on purpose
    assert desk.book.silences() == []


def test_after_a_restart_everything_stands_as_it_was_and_is_not_told_again() -> None:
    desk = Desk()
    desk.poll(OFFLINE, condition("memory-high", used_percent=97))
    desk.book.raise_once("service-crashed", values={"reason": "signal 9"})
    offline = next(one for one in desk.book.open_alerts() if one.code == "volume-offline")
    desk.book.acknowledge(offline.alert_id, "anna")
    until = desk.clock.now() + timedelta(hours=3)
    desk.book.silence(until=until, user="anna", code="memory-high")
    before = desk.book.open_alerts()

    desk.clock.go_on(300)
    later = desk.again()
    assert later.book.open_alerts() == before
    assert [one.code for one in later.book.silences()] == ["memory-high"]
    later.poll(OFFLINE)
    assert later.told == []
    later.poll(OFFLINE, after_s=CLEAR_AFTER_START_S - 10)
    assert len(later.book.open_alerts()) == 3  # sensors may still be on their way
    later.poll(OFFLINE, after_s=11)
    assert sorted(_codes(later.book.open_alerts())) == [
        ("service-crashed", ""),
        ("volume-offline", "data"),
    ]
    assert later.book.open_alerts()[0].alert_id in {one.alert_id for one in before}
    later.poll(after_s=CLEAR_AFTER_START_S, times=2)
    # Who was told hears the end of it, silence or not.
    assert later.told == [("memory-high", "cleared"), ("volume-offline", "cleared")]


@pytest.mark.parametrize("jump", [timedelta(days=3650), timedelta(hours=-1)])
def test_a_clock_that_jumps_neither_ends_silences_nor_ages_events(jump: timedelta) -> None:
    desk = Desk()
    desk.poll(OFFLINE)
    desk.book.raise_once("service-crashed", values={"reason": "signal 9"})
    until = desk.clock.now() + timedelta(hours=3)
    desk.book.silence(until=until, user="anna", code="memory-high")
    desk.clock.wall += jump
    desk.poll(OFFLINE, condition("memory-high", used_percent=97))
    assert len(desk.book.open_alerts()) == 3
    assert len(desk.book.silences()) == 1
    assert len(desk.told) == 2
    sequences = [change.sequence for change in desk.book.history()]
    assert sequences == sorted(sequences, reverse=True)


def test_the_history_is_told_newest_first_and_page_by_page() -> None:
    desk = Desk()
    for number in range(10):
        desk.book.raise_once("disk-inserted", f"disk {number}")
    first = desk.book.history(limit=4)
    assert [one.alert.subject for one in first if one.alert] == [
        "disk 9", "disk 8", "disk 7", "disk 6",
    ]  # fmt: skip
    rest = desk.book.history(before=first[-1].sequence, limit=100)
    assert len(rest) == 6
    assert desk.book.history(after=rest[0].sequence) == first
    assert first[0].action is Action.RAISED


async def test_a_source_that_fails_or_hangs_is_an_alert_and_what_it_said_stands() -> None:
    desk = Desk()
    sources = Sources(desk.book, counters=desk.counters)
    behaviour = "well"

    async def poll() -> list[Condition]:
        if behaviour == "raises":
            raise RuntimeError("bad answer")
        if behaviour == "hangs":
            await asyncio.sleep(60)
        return [OFFLINE] if behaviour == "well" else []

    sources.add("volumes", poll, every_s=0.01, timeout_s=0.05)
    sources.add("load", lambda: [condition("load-high", load=9, processors=2)], every_s=0.01)
    sources.start()
    try:
        for behaviour, failed in (  # noqa: B007 - `poll` reads it
            ("well", False),
            ("raises", True),
            ("hangs", True),
        ):
            await asyncio.sleep(0.2)
            desk.clock.go_on(CLEAR_AFTER_S)
            await asyncio.sleep(0.05)
            held = _codes(desk.book.open_alerts())
            assert ("volume-offline", "data") in held
            assert ("load-high", "") in held
            assert (("sensor-failed", "volumes") in held) is failed
        alert = next(one for one in desk.book.open_alerts() if one.code == "sensor-failed")
        assert alert.values == {"reason": "no answer in 0.05 s"}
        behaviour = "over"
        sources.nudge()
        await asyncio.sleep(0.2)
        desk.clock.go_on(CLEAR_AFTER_S)
        await asyncio.sleep(0.1)
        assert _codes(desk.book.open_alerts()) == [("load-high", "")]
    finally:
        await sources.close()
