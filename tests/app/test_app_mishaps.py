# SPDX-License-Identifier: Apache-2.0
"""What happened and is over: told once by the alert book, and not a thousand times."""

import asyncio
from pathlib import Path

import pytest

from scrigno.app.last_run import LastRun
from scrigno.app.mishaps import Mishaps
from scrigno.core.clock import SystemClock
from scrigno.core.counters import Counters
from scrigno.core.events import (
    CopyDamaged,
    EventBus,
    IndexRebuilt,
    ObjectRefused,
    TlsHandshakeFailed,
    WorkerReplaced,
)
from scrigno.health.alerts import Alert, Change
from scrigno.health.book import AlertBook


@pytest.fixture
def bus() -> EventBus:
    return EventBus()


class Forgetful:
    """A history that keeps nothing."""

    last_sequence = 0
    changes: tuple[Change, ...] = ()

    def append(self, change: Change) -> None:
        self.last_sequence = change.sequence


@pytest.fixture
async def book(bus: EventBus) -> AlertBook:
    made = AlertBook(clock=SystemClock(), bus=EventBus(), counters=Counters(), history=Forgetful())
    Mishaps(made, every_s=0.2).listen(bus)
    return made


def only(book: AlertBook, code: str) -> Alert:
    (alert,) = [each for each in book.open_alerts() if each.code == code]
    return alert


def refused(code: str, reason: str = "no", sender: str = "CT1") -> ObjectRefused:
    return ObjectRefused(calling_ae=sender, host="10.0.0.7", code=code, reason=reason)


@pytest.mark.spec("AD-11")
async def test_images_that_are_refused_are_told_by_sender_and_counted(
    bus: EventBus, book: AlertBook
) -> None:
    for _ in range(500):
        bus.publish(refused("sop-class-refused", "This SOP class is not stored here."))
    alert = only(book, "objects-rejected")
    assert (alert.subject, alert.count) == ("CT1", 1)  # not five hundred messages
    await asyncio.sleep(0.3)
    alert = only(book, "objects-rejected")
    assert alert.values == {"count": 500, "reason": "This SOP class is not stored here."}
    assert alert.count == 2
    await asyncio.sleep(0.3)
    assert only(book, "objects-rejected").count == 2  # nothing came since
    bus.publish(refused("object-unreadable", sender="CT1"))
    assert only(book, "objects-rejected").values["count"] == 501


async def test_what_the_box_itself_could_not_do_blames_no_sender(
    bus: EventBus, book: AlertBook
) -> None:
    for code in ("no-durable-storage", "shutting-down", "index-unavailable", "capacity-reached"):
        bus.publish(refused(code))
    assert book.open_alerts() == []


@pytest.mark.spec("ST-6", "AD-11")
async def test_copies_that_were_repaired_are_told_by_volume(bus: EventBus, book: AlertBook) -> None:
    for repaired in (True, False, True):
        bus.publish(CopyDamaged(volume="data", name="1.2", problem="changed", repaired=repaired))
    await asyncio.sleep(0.3)
    alert = only(book, "scrub-repaired")
    assert (alert.subject, alert.values) == ("data", {"count": 2})


@pytest.mark.spec("AD-11")
async def test_a_worker_an_index_and_a_handshake_are_told(bus: EventBus, book: AlertBook) -> None:
    bus.publish(WorkerReplaced(worker="volume data", reason="it was killed"))
    bus.publish(IndexRebuilt(instances=7))
    bus.publish(TlsHandshakeFailed(host="10.0.0.7", reason="no shared cipher"))
    assert only(book, "worker-replaced").values == {"reason": "it was killed"}
    assert only(book, "index-rebuilt").values == {"count": 7}
    assert only(book, "tls-handshake-failed").subject == "10.0.0.7"


@pytest.mark.spec("AD-11")
def test_a_run_that_was_cut_short_is_known_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def new() -> LastRun:
        return LastRun(tmp_path, SystemClock())

    run = new()
    assert run.begin() == ""
    run.end()
    run.end()
    assert new().begin() == ""
    assert "without being stopped (it ran since" in new().begin()  # nobody called end
    boot = tmp_path / "boot"
    boot.write_text("another boot\n")
    monkeypatch.setattr("scrigno.app.last_run.BOOT_ID", boot)
    assert "machine went down" in new().begin()
    (tmp_path / "running").write_bytes(b"\0\0")
    assert "without being stopped" in new().begin()
    assert new().begin() != ""


def test_a_state_directory_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    run = LastRun(tmp_path / "is not there", SystemClock())
    assert run.begin() == ""
    run.end()
