# SPDX-License-Identifier: Apache-2.0
"""The history of alerts outlives the disk it tells about."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from scrigno.core.clock import SystemClock
from scrigno.core.counters import Counters
from scrigno.core.events import EventBus
from scrigno.health.alerts import Action, Alert, Change, LineDamaged, State, from_line, to_line
from scrigno.health.book import AlertBook
from scrigno.health.codes import Level
from scrigno.health.conditions import condition
from scrigno.health.history import FILE_NAME, KEPT_WHATEVER_THE_AGE, History, Mirror, parsed

START = datetime(2026, 3, 1, tzinfo=UTC)


class Shelf:
    """A device beside the system disk: keeps bytes, can die and hang."""

    def __init__(self, name: str, content: bytes | None = None) -> None:
        self.name = name
        self.content = content
        self.dead = False
        self.hangs = False
        self.writes = 0

    async def read(self) -> bytes | None:
        await self._answer()
        return self.content

    async def write(self, content: bytes) -> None:
        await self._answer()
        self.writes += 1
        self.content = content

    async def _answer(self) -> None:
        if self.hangs:
            await asyncio.sleep(3600)
        if self.dead:
            raise OSError(5, "Input/output error")

    def mirror(self) -> Mirror:
        return Mirror(name=self.name, read=self.read, write=self.write)


def _change(sequence: int, *, days: float = 0, subject: str = "data", **more: Any) -> Change:
    at = START + timedelta(days=days)
    alert = Alert(
        alert_id=more.pop("alert_id", sequence),
        code="volume-offline",
        subject=subject,
        level=Level.CRITICAL,
        values={"reason": "Ausfall \udcff", "count": 3, "used_percent": 0.1},
        since=at,
        last_seen=at,
        **more,
    )
    return Change(sequence=sequence, at=at, action=Action.RAISED, alert=alert, tell=True)


def _history(folder: Path, *shelves: Shelf, **more: Any) -> History:
    more = {"gather_s": 0.01, "retry_s": 0.05, **more}
    return History(
        folder / "alerts",
        clock=SystemClock(),
        counters=Counters(),
        mirrors=lambda: [shelf.mirror() for shelf in shelves],
        **more,
    )


async def _until(true: Callable[[], bool], *, seconds: float = 5) -> None:
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.01)


def _sequences(content: bytes | None) -> list[int]:
    found, damage = parsed(content or b"")
    assert damage == ""
    return [change.sequence for change in found]


def test_a_change_is_the_same_after_it_was_a_line_and_a_changed_line_is_noticed() -> None:
    change = _change(7, acknowledged_by="anna", acknowledged_at=START, comment="東京 à")
    line = to_line(change)
    assert from_line(line) == change
    for wrong in (line.replace(b"anna", b"anja"), line[:-5], b"[]", b"{}", b"\xff", b"null"):
        with pytest.raises(LineDamaged):
            from_line(wrong)


def test_a_torn_last_line_is_no_damage_but_one_in_the_middle_is() -> None:
    lines = [to_line(_change(number)) for number in (1, 2, 3)]
    found, damage = parsed(b"".join(lines)[:-10])
    assert ([one.sequence for one in found], damage) == ([1, 2], "")
    found, damage = parsed(lines[0] + lines[1].replace(b"data", b"dada") + lines[2])
    assert ([one.sequence for one in found], damage) == ([1, 3], "1 of 3 entries are damaged")


async def test_after_a_torn_line_the_next_one_stands_by_itself(tmp_path: Path) -> None:
    folder = tmp_path / "alerts"
    folder.mkdir()
    (folder / FILE_NAME).write_bytes(to_line(_change(1)) + to_line(_change(2))[:-10])
    history = _history(tmp_path)
    await history.open()
    assert history.conditions() == []
    history.start()
    history.append(_change(3))
    await history.close()
    assert _sequences((folder / FILE_NAME).read_bytes()) == [1, 3]


@pytest.mark.spec("AD-11")
async def test_every_healthy_volume_gets_the_history(tmp_path: Path) -> None:
    data, backup = Shelf("data"), Shelf("backup1")
    history = _history(tmp_path, data, backup)
    await history.open()
    history.start()
    first = history.last_sequence + 1
    assert first > 1_700_000_000  # past whatever an absent copy may hold
    for number in range(3):
        history.append(_change(first + number))
    await _until(lambda: data.content is not None and data.content.count(b"\n") == 3)
    await _until(lambda: backup.content == data.content)
    history.append(_change(first + 3))
    await history.close()
    await history.close()
    on_disk = (tmp_path / "alerts" / FILE_NAME).read_bytes()
    assert _sequences(on_disk) == [first, first + 1, first + 2, first + 3]
    assert history.conditions() == []
    assert data.writes <= 2  # what comes together is written together


async def test_the_copies_are_put_together_whichever_has_what(tmp_path: Path) -> None:
    lines = {number: to_line(_change(number)) for number in range(1, 7)}
    folder = tmp_path / "alerts"
    folder.mkdir()
    (folder / FILE_NAME).write_bytes(lines[1] + lines[2] + lines[6])
    data = Shelf("data", lines[1] + lines[3] + lines[4])
    backup = Shelf("backup1", lines[5])
    history = _history(tmp_path, data, backup)
    await history.open()
    assert [one.sequence for one in history.changes] == [1, 2, 3, 4, 5, 6]
    assert history.last_sequence == 6
    history.start()
    await _until(lambda: _sequences(data.content) == [1, 2, 3, 4, 5, 6])
    await _until(lambda: _sequences(backup.content) == [1, 2, 3, 4, 5, 6])
    await history.close()
    assert _sequences((folder / FILE_NAME).read_bytes()) == [1, 2, 3, 4, 5, 6]


async def test_a_lost_system_disk_costs_no_entry(tmp_path: Path) -> None:
    shelf = Shelf("data")
    first = _history(tmp_path / "old", shelf)
    await first.open()
    first.start()
    number = first.last_sequence + 1
    first.append(_change(number))
    await _until(lambda: shelf.content is not None)
    await first.close()
    second = _history(tmp_path / "new", shelf)
    await second.open()
    assert [one.sequence for one in second.changes] == [number]
    assert second.last_sequence == number


async def test_a_volume_that_comes_back_brings_what_only_it_knew(tmp_path: Path) -> None:
    shelf = Shelf("data", to_line(_change(1)) + to_line(_change(2)))
    present: list[Shelf] = []
    history = History(
        tmp_path / "alerts",
        clock=SystemClock(),
        counters=Counters(),
        mirrors=lambda: [one.mirror() for one in present],
        gather_s=0.01,
        retry_s=0.05,
    )
    await history.open()
    history.start()
    number = history.last_sequence + 1
    history.append(_change(number))
    present.append(shelf)
    await _until(lambda: _sequences(shelf.content) == [1, 2, number])
    assert [one.sequence for one in history.changes] == [1, 2, number]
    present.clear()
    history.append(_change(number + 1))
    await asyncio.sleep(0.2)
    present.append(shelf)
    await _until(lambda: _sequences(shelf.content) == [1, 2, number, number + 1])
    await history.close()


async def test_a_damaged_copy_is_an_alert_and_made_anew(tmp_path: Path) -> None:
    good = to_line(_change(1)) + to_line(_change(2))
    folder = tmp_path / "alerts"
    folder.mkdir()
    (folder / FILE_NAME).write_bytes(good.replace(b"volume-offline", b"volume-onlines", 1))
    shelf = Shelf("data", good)
    history = _history(tmp_path, shelf)
    await history.open()
    (one,) = history.conditions()
    assert (one.code, one.subject) == ("alert-history-damaged", "system disk")
    assert "1 of 2" in str(one.values["reason"])
    history.start()
    await _until(lambda: (folder / FILE_NAME).read_bytes() == good)
    assert len(history.conditions()) == 1  # mended at once, but heard of
    await history.close()


@pytest.mark.timing
async def test_dead_and_hanging_disks_hold_up_nothing(tmp_path: Path) -> None:
    """The system disk refuses, one volume is dead, one hangs: the third has it at once."""
    (tmp_path / "alerts").write_text("a file where the folder should be")
    dead, hanging, good = Shelf("data"), Shelf("backup1"), Shelf("backup2")
    dead.dead = True
    history = _history(tmp_path, dead, hanging, good)
    await history.open()
    hanging.hangs = True
    book = AlertBook(clock=SystemClock(), bus=EventBus(), counters=Counters(), history=history)
    history.start()
    loop = asyncio.get_running_loop()
    begin = loop.time()
    book.update([condition("volume-offline", subject="data", reason="EIO")])
    assert loop.time() - begin < 0.05
    await _until(lambda: good.content is not None and good.content.count(b"\n") == 1, seconds=2)
    await _until(lambda: len(history.conditions()) == 2)
    assert {one.subject for one in history.conditions()} == {"system disk", "data"}
    (tmp_path / "alerts").unlink()
    dead.dead = False
    await _until(lambda: dead.content is not None and not history.conditions())
    await history.close()
    assert (tmp_path / "alerts" / FILE_NAME).read_bytes() == good.content


async def test_the_history_is_bounded_but_open_alerts_stay(tmp_path: Path) -> None:
    size = len(to_line(_change(10_000)))
    history = _history(tmp_path, most_bytes=size * 20)
    await history.open()
    history.start()
    first = history.last_sequence + 1
    history.append(_change(first, subject="backup1"))
    for number in range(1, 200):
        over = _change(first + number, state=State.CLEARED, cleared_at=START)
        history.append(over)
        if number % 50 == 0:
            await asyncio.sleep(0.05)
    await history.close()
    kept = _sequences((tmp_path / "alerts" / FILE_NAME).read_bytes())
    assert kept[0] == first
    assert kept[-1] == first + 199
    assert 10 < len(kept) <= 20
    again = _history(tmp_path, most_bytes=size * 20)
    await again.open()
    assert [one.sequence for one in again.changes] == kept


async def test_what_is_over_a_year_old_goes_unless_little_is_left(tmp_path: Path) -> None:
    old = [
        _change(number, state=State.CLEARED, cleared_at=START)
        for number in range(1, KEPT_WHATEVER_THE_AGE + 51)
    ]
    new = _change(5000, days=500, state=State.CLEARED, cleared_at=START)
    folder = tmp_path / "alerts"
    folder.mkdir()
    (folder / FILE_NAME).write_bytes(b"".join(map(to_line, [*old, new])))
    history = _history(tmp_path, most_bytes=10 << 20)
    await history.open()
    assert len(history.changes) == KEPT_WHATEVER_THE_AGE
    assert history.changes[-1].sequence == 5000
