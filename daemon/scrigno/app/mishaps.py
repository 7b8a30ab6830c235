# SPDX-License-Identifier: Apache-2.0
"""Mishaps that are over when they are told: refused images, repaired copies, replaced workers.

A device that is set up wrongly sends a thousand images that are refused, and a bad disk has as many
copies repaired: they are counted, and told once in a while and not each.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from scrigno.core.events import (
    CopyDamaged,
    EventBus,
    IndexRebuilt,
    ObjectRefused,
    TlsHandshakeFailed,
    WorkerReplaced,
)
from scrigno.health.book import AlertBook

if TYPE_CHECKING:
    from scrigno.health.texts import Value

TOLD_EVERY_S: Final = 10.0
MOST_SUBJECTS: Final = 200  # that are counted at a time; hostile peers invent names
# What the box itself could not do is told as a condition, by its own name.
_OUR_OWN: Final = frozenset(
    {
        "capacity-reached",
        "index-unavailable",
        "internal-fault",
        "no-durable-storage",
        "not-taken-in",
        "shutting-down",
    }
)


class Tally:
    """Counts by subject, and tells each at once and then every few seconds. Loop thread only."""

    def __init__(self, tell: Callable[[str, int], None], *, every_s: float = TOLD_EVERY_S) -> None:
        """`tell` gets a subject and how many there were since the start."""
        self._tell = tell
        self._every_s = every_s
        self._counts: dict[str, int] = {}
        self._waiting: dict[str, int] = {}  # subject -> the count that was told last

    def add(self, subject: str) -> None:
        """Count one more."""
        if subject not in self._counts and len(self._counts) >= MOST_SUBJECTS:
            self._counts.clear()
        self._counts[subject] = self._counts.get(subject, 0) + 1
        if subject not in self._waiting:
            self._say(subject)

    def _say(self, subject: str) -> None:
        count = self._counts.get(subject, 0)
        if count == self._waiting.pop(subject, 0):
            return  # nothing came since
        self._waiting[subject] = count
        self._tell(subject, count)
        asyncio.get_running_loop().call_later(self._every_s, self._say, subject)


class Mishaps:
    """Turns what is heard on the bus into events of the book. Loop thread only."""

    def __init__(self, book: AlertBook, *, every_s: float = TOLD_EVERY_S) -> None:
        """Hold the book; `listen` ties it to what happens."""
        self._book = book
        self._reasons: dict[str, str] = {}
        self._refusals = Tally(self._refused_told, every_s=every_s)
        self._repairs = Tally(self._repaired_told, every_s=every_s)

    def listen(self, bus: EventBus) -> None:
        """Hear from now on."""
        bus.subscribe(ObjectRefused, self._refused)
        bus.subscribe(CopyDamaged, self._damaged)
        bus.subscribe(WorkerReplaced, self._replaced)
        bus.subscribe(IndexRebuilt, self._rebuilt)
        bus.subscribe(TlsHandshakeFailed, self._handshake)

    def _refused(self, event: ObjectRefused) -> None:
        if event.code in _OUR_OWN:
            return
        if len(self._reasons) >= MOST_SUBJECTS:
            self._reasons.clear()
        self._reasons[event.calling_ae] = event.reason
        self._refusals.add(event.calling_ae)

    def _refused_told(self, sender: str, count: int) -> None:
        values: dict[str, Value] = {"count": count, "reason": self._reasons.get(sender, "")}
        self._book.raise_once("objects-rejected", sender, values)

    def _damaged(self, event: CopyDamaged) -> None:
        if event.repaired:
            self._repairs.add(event.volume)

    def _repaired_told(self, volume: str, count: int) -> None:
        self._book.raise_once("scrub-repaired", volume, {"count": count})

    def _replaced(self, event: WorkerReplaced) -> None:
        self._book.raise_once("worker-replaced", event.worker, {"reason": event.reason})

    def _rebuilt(self, event: IndexRebuilt) -> None:
        self._book.raise_once("index-rebuilt", values={"count": event.instances})

    def _handshake(self, event: TlsHandshakeFailed) -> None:
        self._book.raise_once("tls-handshake-failed", event.host, {"reason": event.reason})
