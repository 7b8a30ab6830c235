# SPDX-License-Identifier: Apache-2.0
"""The history of alerts, on more than one device: it has to outlive the disk it tells about.

One file of JSON lines in the state directory, and the same file on every volume that can take it.
The one that is known best wins: at the start and whenever a volume comes back, entries that only a
copy has are taken over by their sequence numbers. Bounded in size and days.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from scrigno.core.clock import Clock
from scrigno.core.counters import Counters
from scrigno.core.errors import ScrignoError
from scrigno.host.facts import NotAvailable
from scrigno.host.files import sync_directory, write_durably
from scrigno.host.reader import Reader

from .alerts import Change, LineDamaged, State, from_line, to_line
from .conditions import Condition, condition
from .ending import ended

log = logging.getLogger(__name__)

FILE_NAME: Final = "history.jsonl"
MIRROR_KEY: Final = "alerts/history.jsonl"  # of a volume
MOST_BYTES: Final = 1 << 20  # some 2,500 changes; a volume gets all of it each time
LONGEST: Final = timedelta(days=400)
# A clock that jumped ahead must not make everything look old (see reliability: order by sequence).
KEPT_WHATEVER_THE_AGE: Final = 1000
# Own limits, so that a dead disk holds up neither the others nor the loop.
WRITE_TIMEOUT_S: Final = 10.0
MIRROR_TIMEOUT_S: Final = 15.0
GATHER_S: Final = 2.0  # changes come in groups; a volume is written to once for all of them
BEHIND_S: Final = 2.0
RETRY_S: Final = 30.0
FAILURES_BEFORE_ALERT: Final = 2
DAMAGE_SHOWN_S: Final = 60.0  # a damaged copy is made anew at once, but has to be heard of
SYSTEM_DISK: Final = "system disk"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirror:
    """Another device that keeps a copy; the app makes one of each volume that takes writes now.

    `read` answers None when there is no copy yet; both may raise OSError or ScrignoError.
    """

    name: str
    read: Callable[[], Awaitable[bytes | None]]
    write: Callable[[bytes], Awaitable[None]]


@dataclass(slots=True)
class _Copy:
    """What is known about the copy on one mirror."""

    merged: bool = False  # what only this copy had has been taken over
    written: int = -1  # last sequence it has
    failures: int = 0
    reason: str = ""  # why it cannot be written; "" when it can
    task: asyncio.Task[None] | None = None


class History:
    """Keeps changes. `append` returns at once; disks follow. Loop thread only."""

    def __init__(
        self,
        folder: Path,
        *,
        clock: Clock,
        counters: Counters,
        mirrors: Callable[[], Sequence[Mirror]] = tuple,
        most_bytes: int = MOST_BYTES,
        gather_s: float = GATHER_S,
        retry_s: float = RETRY_S,
    ) -> None:
        """`folder` is made in the state directory; `mirrors` names the healthy volumes now."""
        self._folder = folder
        self._path = folder / FILE_NAME
        self._clock = clock
        self._counters = counters
        self._mirrors = mirrors
        self._most_bytes = most_bytes
        self._gather_s = gather_s
        self._retry_s = retry_s
        self._disk = Reader("alert-history", at_once=1, timeout_s=WRITE_TIMEOUT_S)
        self._changes: dict[int, Change] = {}
        self._lines: dict[int, bytes] = {}
        self._size = 0
        self._last = 0
        self._on_disk: set[int] = set()
        self._rewrite = False
        self._disk_reason = ""
        self._damages: dict[str, tuple[str, float]] = {}  # place: what was found, when
        self._copies: dict[str, _Copy] = {}
        self._wake = asyncio.Event()
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    # life -----------------------------------------------------------------------------------

    async def open(self) -> None:
        """Read what is there, from the state directory and from the mirrors. Never raises."""
        content = await self._disk.read("alert history", self._read_file)
        if isinstance(content, NotAvailable):
            self._disk_failed(content.reason)
        elif content is not None:
            found, damage = parsed(content)
            self._take(found)
            self._on_disk = set(self._changes)
            self._damaged(SYSTEM_DISK, damage)
            torn = bool(content) and not content.endswith(b"\n")
            self._rewrite = torn or bool(damage)
        await asyncio.gather(*(self._merge(mirror) for mirror in self._mirrors()))
        if not self._last:
            # With no copy at all count on from the time: past whatever an absent copy may hold.
            self._last = max(0, int(self._clock.now().timestamp()))
        self._rewrite = self._rewrite or self._on_disk != set(self._changes)
        self._trim(by_age=True)

    def start(self) -> None:
        """Begin to write; returns at once."""
        self._wake.set()
        self._task = asyncio.create_task(self._run(), name="alert-history")

    async def close(self) -> None:
        """Write what is left to the state directory and stop; idempotent, bounded in time."""
        if self._task is None:
            return
        task, self._task = self._task, None
        self._stop.set()
        self._wake.set()
        await asyncio.gather(task, return_exceptions=True)
        await ended(copy.task for copy in self._copies.values() if copy.task is not None)
        await self._write_disk()

    # what is kept ---------------------------------------------------------------------------

    @property
    def changes(self) -> list[Change]:
        """Return every change that is kept, in order of sequence."""
        return list(self._changes.values())

    @property
    def last_sequence(self) -> int:
        """Return the highest sequence number that was ever given away, as far as is known."""
        return self._last

    def append(self, change: Change) -> None:
        """Keep one more change; it reaches the disks by itself."""
        self._take([change])
        self._trim()
        self._wake.set()

    def conditions(self) -> list[Condition]:
        """Return what is wrong with the copies, one condition for each place."""
        now_s = self._clock.monotonic()
        failed = {
            place: damage
            for place, (damage, found_s) in self._damages.items()
            if now_s - found_s < DAMAGE_SHOWN_S
        }
        if self._disk_reason:
            failed[SYSTEM_DISK] = self._disk_reason
        for mirror in self._mirrors():
            copy = self._copies.get(mirror.name)
            if copy is not None and copy.reason:
                failed[mirror.name] = copy.reason
        return [
            condition("alert-history-damaged", subject=place, reason=reason)
            for place, reason in failed.items()
        ]

    def _take(self, found: Iterable[Change]) -> None:
        new = [change for change in found if change.sequence not in self._changes]
        if not new:
            return
        in_order = all(change.sequence > self._last for change in new)
        for change in new:
            self._changes[change.sequence] = change
            line = self._lines[change.sequence] = to_line(change)
            self._size += len(line)
        self._last = max(self._last, *(change.sequence for change in new))
        if not in_order or len(new) > 1:
            self._changes = dict(sorted(self._changes.items()))

    def _trim(self, *, by_age: bool = False) -> None:
        """Let the oldest go; what tells the state of an open alert or of a silence stays."""
        if not self._changes or (self._size <= self._most_bytes and not by_age):
            return
        needed = _needed(self._changes.values())
        # Down to nine tenths, so that not every change makes the file be written anew.
        most = self._most_bytes * 9 // 10 if self._size > self._most_bytes else self._most_bytes
        # By the newest entry, not by the clock: one that jumped would make everything look old.
        oldest = max(change.at for change in self._changes.values()) - LONGEST
        aged = len(self._changes) - KEPT_WHATEVER_THE_AGE if by_age else 0
        for place, (sequence, change) in enumerate(tuple(self._changes.items())):
            if self._size <= most and not (place < aged and change.at < oldest):
                break
            if sequence not in needed:
                self._size -= len(self._lines.pop(sequence))
                del self._changes[sequence]
                self._rewrite = True
                self._counters.add("alert_history_trimmed")

    # the disks ------------------------------------------------------------------------------

    async def _run(self) -> None:
        while not self._stop.is_set():
            # Also without a change: a volume that came back is looked for now and then.
            await _within(self._wake, BEHIND_S if self._behind() else self._retry_s)
            self._wake.clear()
            await self._write_disk()
            await _within(self._stop, self._gather_s)
            await self._write_disk()
            self._write_mirrors()

    def _behind(self) -> bool:
        """Tell whether a disk that works has not got everything yet."""
        return (self._disk_behind() and not self._disk_reason) or any(
            copy.written != self._last and not copy.failures for copy in self._copies.values()
        )

    def _disk_behind(self) -> bool:
        return self._rewrite or self._on_disk != self._changes.keys()

    def _content(self) -> bytes:
        return b"".join(self._lines[each] for each in self._changes)

    async def _write_disk(self) -> None:
        if not self._disk_behind():
            return
        have = set(self._changes)
        if self._rewrite or self._on_disk - have:
            content, call = self._content(), self._replace_file
        else:
            content = b"".join(
                self._lines[each] for each in self._changes if each not in self._on_disk
            )
            call = self._append_file
        done = await self._disk.read("alert history", lambda: call(content))
        if isinstance(done, NotAvailable):
            self._rewrite = True  # part of a line may stand there
            self._disk_failed(done.reason)
            return
        self._on_disk, self._rewrite, self._disk_reason = have, False, ""

    def _disk_failed(self, reason: str) -> None:
        if not self._disk_reason:
            log.error("alert history in %s: %s", self._folder, reason)
        self._counters.add("alert_history_failures", place=SYSTEM_DISK)
        self._disk_reason = reason

    def _damaged(self, place: str, damage: str) -> None:
        if not damage:
            return
        log.error("alert history on %s: %s", place, damage)
        self._counters.add("alert_history_failures", place=place)
        self._damages[place] = (damage, self._clock.monotonic())

    def _read_file(self) -> bytes | None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self._path.read_bytes() if self._path.exists() else None

    def _append_file(self, content: bytes) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        with os.fdopen(os.open(self._path, flags, 0o600), "ab", buffering=0) as file:
            fresh = file.tell() == 0
            if file.write(content) != len(content):
                raise OSError("the disk took only a part")
            os.fsync(file.fileno())
        if fresh:
            sync_directory(self._folder)

    def _replace_file(self, content: bytes) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_durably(self._path, content)

    def _write_mirrors(self) -> None:
        now = {mirror.name: mirror for mirror in self._mirrors()}
        for name in self._copies.keys() - now.keys():
            # It is away: when it is back its copy is read again before it is written over.
            copy = self._copies.pop(name)
            if copy.task is not None:
                copy.task.cancel()
        for name, mirror in now.items():
            copy = self._copies.setdefault(name, _Copy())
            if copy.written != self._last and (copy.task is None or copy.task.done()):
                copy.task = asyncio.create_task(
                    self._write_mirror(mirror, copy), name=f"alert-history-{name}"
                )

    async def _write_mirror(self, mirror: Mirror, copy: _Copy) -> None:
        """Bring one copy up to date. One at a time for each mirror; nobody waits for it."""
        if not copy.merged:
            await self._merge(mirror)
        if not copy.merged:
            return
        last, content = self._last, self._content()
        try:
            async with asyncio.timeout(MIRROR_TIMEOUT_S):
                await mirror.write(content)
        except (OSError, ScrignoError) as error:
            self._mirror_failed(mirror.name, copy, _words(error))
            return
        copy.written, copy.failures, copy.reason = last, 0, ""

    async def _merge(self, mirror: Mirror) -> None:
        """Take over what only this copy has."""
        copy = self._copies.setdefault(mirror.name, _Copy())
        try:
            async with asyncio.timeout(MIRROR_TIMEOUT_S):
                content = await mirror.read()
        except (OSError, ScrignoError) as error:
            self._mirror_failed(mirror.name, copy, _words(error))
            return
        copy.merged = True
        if content is None:
            return
        found, damage = parsed(content)
        before = len(self._changes)
        self._take(found)
        if len(self._changes) != before:
            self._rewrite = True
        self._damaged(mirror.name, damage)

    def _mirror_failed(self, name: str, copy: _Copy, reason: str) -> None:
        copy.failures += 1
        self._counters.add("alert_history_failures", place=name)
        # A volume that just fails has its own alert and is no mirror any more a moment later.
        if copy.failures == FAILURES_BEFORE_ALERT:
            log.error("alert history on %s: %s", name, reason)
        if copy.failures >= FAILURES_BEFORE_ALERT:
            copy.reason = reason


def parsed(content: bytes) -> tuple[list[Change], str]:
    """Return the changes of a file and what is wrong with it ("" when nothing is).

    A last line without its end is what a power cut leaves and no damage.
    """
    *lines, rest = content.split(b"\n")
    found: list[Change] = []
    bad = 0
    for line in lines:
        try:
            found.append(from_line(line))
        except LineDamaged:
            bad += 1
    if rest:
        with contextlib.suppress(LineDamaged):
            found.append(from_line(rest))
    return found, f"{bad} of {len(lines)} entries are damaged" if bad else ""


def _needed(changes: Iterable[Change]) -> set[int]:
    """Return the sequences of what tells which alerts are open and which silences are in force."""
    last: dict[tuple[str, int], Change] = {}
    for change in changes:
        if change.alert is not None:
            last["alert", change.alert.alert_id] = change
        elif change.silence is not None:
            last["silence", change.silence.silence_id] = change
    return {
        change.sequence
        for change in last.values()
        if (change.alert is not None and change.alert.state is State.OPEN)
        or (change.silence is not None and change.action == "silenced")
    }


async def _within(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, but not longer than this."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer in {MIRROR_TIMEOUT_S:g} s"
    if isinstance(error, ScrignoError):
        return error.reason
    return str(error)
