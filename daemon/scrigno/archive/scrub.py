# SPDX-License-Identifier: Apache-2.0
"""The scrub: every copy on every volume is read anew from its disk within a month (ST-6).

Each volume has a task of its own. A pass reads what the volume holds in the order it came, which
is close to the order on the disk, repairs what is bad, then looks for files of no row. Where it is
stands in the index, so a restart goes on there. It reads at a limited rate, slower while images
arrive, only in its window, and never two volumes of one physical disk at once.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from scrigno.catalogue.catalogue import Catalogue
from scrigno.catalogue.fixity import Mark, ScrubRow
from scrigno.core.clock import Clock
from scrigno.core.counters import Counters
from scrigno.core.errors import CommandError
from scrigno.core.events import EventBus, VolumeChanged
from scrigno.db.errors import DatabaseError
from scrigno.volumes.states import ErrorKind, VolumeError, VolumeState
from scrigno.volumes.volume import STEP_BYTES, Volume, Volumes

from .aliens import aliens_on
from .mend import STEADY, Finding, Mender, Target
from .quarantine import Quarantine
from .scrub_desk import Desk, Disks, PauseMark, ScrubState

log = logging.getLogger(__name__)

PAGE: Final = 256  # objects asked of the index at once
AT_ONCE: Final = 2  # as many as the lane for bulk work has threads
SAVE_EVERY_S: Final = 2.0
SAVE_MARKS: Final = 500
BUSY_SHARE: Final = 8  # while images arrive, one part of so many of the rate is used
BEGIN_SHARE: Final = 0.8  # of the days allowed; the rest is for the pass itself
START_DELAY_S: Final = 60.0  # the start of the box has other work to do
POLL_S: Final = 5.0
FAILED_PAUSE_S: Final = 60.0
RECHECK_S: Final = 600.0  # of objects without a good copy
SWEEP_S: Final = 24 * 3600.0  # of what was set aside
SECOND_LOOK_S: Final = 3.0  # longer than an object is durable without its row
MAX_ALIENS: Final = 10_000  # named for each volume; more are only counted
TRIES: Final = 3  # of one file on which the volume leaves each time; then it is passed over
UNREADABLE_IN_ROW: Final = 25  # then it is the disk and not the files: leave it alone for…
SPARE_S: Final = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrubRules:
    """The part of the settings that the scrub goes by. `window`: minutes of the local day."""

    enabled: bool = True
    every_days: int = 30
    max_bytes_per_s: int = 40 << 20
    window: tuple[int, int] | None = None  # from, until; over midnight when from is later
    quarantine_days: int = 90


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrubStatus:
    """The scrub of one volume at one moment; the numbers are of the running or last pass."""

    volume: str
    state: ScrubState
    reason: str
    checked_objects: int
    total_objects: int
    checked_bytes: int
    total_bytes: int
    bytes_per_s: float | None
    eta_s: float | None
    bad: int
    repaired: int
    unrepairable: int
    alien: int
    last_started: datetime | None
    last_finished: datetime | None
    overdue: bool


class _Interrupted(Exception):
    """The pass must stop reading for now."""


class Scrubber:
    """Scrubs every volume. Loop thread only."""

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        volumes: Volumes,
        mender: Mender,
        quarantine: Quarantine,
        rules: Callable[[], ScrubRules],
        counters: Counters,
        clock: Clock,
        bus: EventBus,
        is_busy: Callable[[], bool] = lambda: False,
        local_time: Callable[[], datetime] = lambda: datetime.now().astimezone(),
        start_delay_s: float = START_DELAY_S,
        poll_s: float = POLL_S,
        second_look_s: float = SECOND_LOOK_S,
        pause_mark: Path | None = None,
    ) -> None:
        """`is_busy` tells whether images are arriving, `local_time` what the window goes by.

        `pause_mark` is the file that stands while it is paused, so that a restart keeps to it.
        """
        self._catalogue = catalogue
        self._volumes = volumes
        self._mender = mender
        self._quarantine = quarantine
        self._rules = rules
        self._counters = counters
        self._clock = clock
        self._bus = bus
        self._is_busy = is_busy
        self._local_time = local_time
        self._start_delay_s = start_delay_s
        self._poll_s = poll_s
        self._second_look_s = second_look_s
        self._desks: dict[str, Desk] = {}
        self._disks = Disks()
        self._paused = False
        self._mark = PauseMark(pause_mark)
        self._recheck = asyncio.Event()
        self._begin = asyncio.Event()  # somebody asked before the start delay was over
        self._asked: set[str] = set()  # volumes without a desk yet
        self._reload = False
        self._tasks: list[asyncio.Task[None]] = []
        self._unsubscribe: Callable[[], None] = lambda: None
        # Set by whoever knows: on battery, a volume is catching up, an operator's night.
        self.hold: Callable[[], bool] = lambda: False

    # life --------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin; returns at once."""
        self._unsubscribe = self._bus.subscribe(VolumeChanged, self._volume_changed)
        works = {"scrub": self._keep_desks(), "scrub-recheck": self._recheck_lost()}
        self._tasks = [asyncio.create_task(work, name=name) for name, work in works.items()]

    async def close(self) -> None:
        """Stop; the next start goes on where this one was. Idempotent."""
        self._unsubscribe()
        await self._mark.close()
        tasks = self._tasks + [desk.task for desk in self._desks.values() if desk.task is not None]
        self._tasks = []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._desks.clear()

    def reload(self) -> None:
        """Say that the index is another one: positions are read from it again."""
        self._reload = True

    def _volume_changed(self, event: VolumeChanged) -> None:
        if event.after == VolumeState.ONLINE:
            self._recheck.set()
        if event.volume in self._desks:
            self._desks[event.volume].wake.set()

    # an operator's words -----------------------------------------------------------------------

    def run_now(self, volume: str | None = None) -> None:
        """Begin a pass now, on one volume or on all, whatever window and schedule say.

        Raises CommandError.
        """
        names = {each.name for each in self._volumes.ordered}
        if volume is not None and volume not in names:
            raise CommandError(f"There is no volume {volume}.")
        self._asked |= (names if volume is None else {volume}) - set(self._desks)
        self._begin.set()
        for name, desk in self._desks.items():
            if volume in (None, name):
                desk.forced = True
                desk.spared_until_s = 0.0
                desk.wake.set()

    def pause(self) -> None:
        """Read nothing until `resume`, also after a restart; a small object is read to its end."""
        self._set_paused(paused=True)

    def resume(self) -> None:
        """Go on."""
        self._set_paused(paused=False)
        for desk in self._desks.values():
            desk.wake.set()

    def _set_paused(self, *, paused: bool) -> None:
        self._paused = paused
        self._mark.set(paused=paused)

    @property
    def paused(self) -> bool:
        """Whether an operator has paused it."""
        return self._paused

    def status(self, volume: str) -> ScrubStatus:
        """Return how the scrub of one volume is; raises CommandError."""
        desk = self._desks.get(volume)
        if desk is None:
            if volume in {each.name for each in self._volumes.ordered}:  # not looked at yet
                desk = Desk(volume, ScrubRow(volume=volume, known_since=self._clock.now()))
            else:
                raise CommandError(f"There is no volume {volume}.")
        row = desk.row
        running = desk.state is ScrubState.RUNNING
        left = max(0, desk.total_bytes - row.checked_bytes)
        speed = desk.bytes_per_s if running else None
        return ScrubStatus(
            volume=volume,
            state=desk.state,
            reason=desk.reason,
            checked_objects=row.checked,
            total_objects=max(desk.total_objects, row.checked),
            checked_bytes=row.checked_bytes,
            total_bytes=max(desk.total_bytes, row.checked_bytes),
            bytes_per_s=speed,
            eta_s=left / speed if speed else None,
            bad=row.bad,
            repaired=row.repaired,
            unrepairable=row.unrepairable,
            alien=row.alien,
            last_started=row.started_at or row.last_started,
            last_finished=row.last_finished,
            overdue=self._is_overdue(row),
        )

    def _is_overdue(self, row: ScrubRow) -> bool:
        rules = self._rules()
        last = row.last_finished or row.known_since
        return rules.enabled and self._clock.now() - last > timedelta(days=rules.every_days)

    # one volume --------------------------------------------------------------------------------

    async def _keep_desks(self) -> None:
        """Serve the volumes that are configured now."""
        self._paused = self._paused or await self._mark.stands()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._start_delay_s):
                await self._begin.wait()
        while True:
            try:
                await self._open_desks()
            except DatabaseError as error:
                log.warning("scrub: waits for the index: %s", error.reason)
            await asyncio.sleep(self._poll_s)

    async def _open_desks(self) -> None:
        names = {volume.name for volume in self._volumes.ordered}
        closing = set(self._desks) if self._reload else set(self._desks) - names
        tasks = [self._desks.pop(name).task for name in closing]
        for task in tasks:
            if task is not None:
                task.cancel()
        await asyncio.gather(*(task for task in tasks if task), return_exceptions=True)
        if names == set(self._desks):
            return
        rows = await self._catalogue.scrubs()
        self._reload = False
        for name in names - set(self._desks):
            row = rows.get(name)
            if row is None:
                row = ScrubRow(volume=name, known_since=self._clock.now())
                await self._catalogue.save_scrub(row)
            desk = self._desks[name] = Desk(name, row)
            desk.forced = name in self._asked
            self._asked.discard(name)
            desk.task = asyncio.create_task(self._serve(desk), name=f"scrub-{name}")

    async def _serve(self, desk: Desk) -> None:
        while True:
            pause_s = self._poll_s
            try:
                await self._tend(desk)
            except _Interrupted:
                pass
            except KeyError:
                return  # no longer configured
            except (DatabaseError, VolumeError) as error:
                desk.state, desk.reason = ScrubState.WAITING, error.reason
                log.warning("volume %s: the scrub waits: %s", desk.name, error.reason)
                pause_s = max(self._poll_s, min(FAILED_PAUSE_S, 12 * self._poll_s))
            except Exception:  # a fault of ours must not end it for ever
                log.exception("volume %s: the scrub failed and goes on", desk.name)
                pause_s = max(self._poll_s, min(FAILED_PAUSE_S, 12 * self._poll_s))
            desk.wake.clear()
            try:
                async with asyncio.timeout(pause_s):
                    await desk.wake.wait()
            except TimeoutError:
                continue

    async def _tend(self, desk: Desk) -> None:
        """Do what is due on one volume; returns when nothing is."""
        if not self._due(desk):
            desk.state, desk.reason = ScrubState.IDLE, ""
            await self._sweep(desk)
            return
        self._must_go_on(desk)
        volume = self._volumes.by_name(desk.name)
        devices = _devices(volume)
        if not self._disks.free(devices):
            desk.state = ScrubState.WAITING
            desk.reason = "another volume of the same disk is being read"
        async with self._disks.use(devices):
            await self._pass(desk, volume)
        await self._sweep(desk)

    def _due(self, desk: Desk) -> bool:
        rules, row = self._rules(), desk.row
        if desk.forced or row.started_at is not None:
            return desk.forced or rules.enabled
        if not rules.enabled:
            return False
        if row.last_finished is None:
            return True
        since = self._clock.now() - row.last_finished
        # A finish in the future is one of a clock that was wrong.
        return since >= timedelta(days=rules.every_days * BEGIN_SHARE) or since < -timedelta(days=1)

    def _must_go_on(self, desk: Desk) -> None:
        """Raise _Interrupted, with the reason in the desk, when nothing may be read now."""
        if self._paused:
            desk.state, desk.reason = ScrubState.PAUSED, "an operator has paused it"
            raise _Interrupted
        reason = self._obstacle(desk)
        if reason:
            desk.state, desk.reason = ScrubState.WAITING, reason
            raise _Interrupted
        desk.state, desk.reason = ScrubState.RUNNING, ""

    def _obstacle(self, desk: Desk) -> str:
        rules = self._rules()
        if self._reload:
            return "the index was replaced"
        if not rules.enabled and not desk.forced:
            return "it is switched off"
        if self.hold():
            return "something more urgent is under way"
        # A disk in doubt, or one that is coming back, may hold the only good copy: leave it alone.
        volume = self._volumes.by_name(desk.name)
        if volume.state not in STEADY or volume.paused:
            return f"the volume is {'paused' if volume.paused else volume.state.value}"
        if asyncio.get_running_loop().time() < desk.spared_until_s:
            return "too many files in a row could not be read; the disk is spared for an hour"
        if rules.window is not None and not desk.forced and not self._in_window(rules.window):
            return "it runs only in its window"
        return ""

    def _in_window(self, window: tuple[int, int]) -> bool:
        now = self._local_time()
        minute = now.hour * 60 + now.minute
        begin, end = window
        if begin <= end:
            return begin <= minute < end
        return minute >= begin or minute < end

    # one pass ----------------------------------------------------------------------------------

    async def _pass(self, desk: Desk, volume: Volume) -> None:
        tally = (await self._catalogue.volume_tallies()).get(desk.name)
        desk.total_objects = tally.held if tally else 0
        desk.total_bytes = tally.held_bytes if tally else 0
        if desk.row.started_at is None:
            now = self._clock.now()
            desk.row = replace(
                desk.row,
                started_at=now,
                last_started=now,
                after=0,
                checked=0,
                checked_bytes=0,
                bad=0,
                repaired=0,
                unrepairable=0,
                alien=0,
            )
            await self._save(desk)
            log.info("volume %s: scrub begins, %d objects", desk.name, desk.total_objects)
        try:
            while page := await self._catalogue.held_after(desk.name, desk.row.after, PAGE):
                for place in range(0, len(page), AT_ONCE):
                    some = page[place : place + AT_ONCE]
                    await self._read(desk, [(one.instance_id, Target.of(one)) for one in some])
            await self._look_for_aliens(desk, volume)
        finally:
            if desk.marks:
                await self._save(desk)
        await self._finish(desk)

    async def _read(self, desk: Desk, targets: list[tuple[int, Target]]) -> None:
        """Read some objects side by side, record and mend."""
        self._must_go_on(desk)
        loop = asyncio.get_running_loop()
        began = loop.time()
        paced = 0  # bytes of large objects that were waited for while they were read

        async def between(count: int) -> None:
            nonlocal paced
            paced += count
            await self._rest(desk, count)

        looks = await asyncio.gather(
            *(
                self._mender.look(target, desk.name, between if target.size > STEP_BYTES else None)
                for _, target in targets
            )
        )
        now, read = self._clock.now(), -paced
        for (number, target), look in zip(targets, looks, strict=True):
            read += look.size
            if look.finding is Finding.GOOD:
                desk.marks.append(Mark(name=target.name, volume=desk.name, at=now))
                desk.unreadable = 0
            elif look.finding is Finding.SKIPPED:
                self._count_stuck(desk, number, target)
            else:
                read += await self._mend(desk, target, look.finding)
            row = desk.row
            desk.row = replace(
                row,
                after=number,
                checked=row.checked + 1,
                checked_bytes=row.checked_bytes + target.size,
            )
        self._counters.add("scrub_read_bytes", read + paced, volume=desk.name)
        if len(desk.marks) >= SAVE_MARKS or loop.time() - desk.saved_s >= SAVE_EVERY_S:
            await self._save(desk)
        await self._keep_pace(desk, read, began, paced)

    async def _rest(self, desk: Desk, read: int) -> None:
        """Wait in the middle of a large object, also as long as nothing may be read."""
        self._spend(desk, read, asyncio.get_running_loop().time())
        while True:
            with suppress(_Interrupted):
                self._must_go_on(desk)
                await self._until_ready(desk)
                return
            volume = self._volumes.by_name(desk.name)
            if not volume.readable or self._reload:
                return  # what is read next tells
            await asyncio.sleep(min(self._poll_s, 1.0))

    def _count_stuck(self, desk: Desk, number: int, target: Target) -> None:
        """The volume left while a file was read: stop, to read it again, but not for ever."""
        times = desk.stuck[1] + 1 if desk.stuck[0] == number else 1
        desk.stuck = (number, times)
        if times < TRIES:
            self._must_go_on(desk)
            raise VolumeError(desk.name, ErrorKind.IO, f"{target.key} cannot be judged now")
        log.error("volume %s: it left each time %s was read, passed over", desk.name, target.key)
        self._counters.add("scrub_passed_over_objects", volume=desk.name)

    async def _mend(self, desk: Desk, target: Target, finding: Finding) -> int:
        """Mend one copy, count it, and return how many bytes that read."""
        await self._save(desk)  # what was right so far; a crash in the repair repeats only this one
        outcome = await self._mender.mend(target.name, desk.name)
        if outcome.finding in (Finding.GOOD, Finding.SKIPPED):
            return outcome.read_bytes
        row = desk.row
        desk.row = replace(
            row,
            bad=row.bad + 1,
            repaired=row.repaired + outcome.repaired,
            unrepairable=row.unrepairable + outcome.lost,
        )
        desk.unreadable = desk.unreadable + 1 if finding is Finding.UNREADABLE else 0
        if desk.unreadable >= UNREADABLE_IN_ROW:
            desk.unreadable = 0
            desk.spared_until_s = asyncio.get_running_loop().time() + SPARE_S
            log.error(
                "volume %s: %d files in a row cannot be read, the scrub spares the disk",
                desk.name,
                UNREADABLE_IN_ROW,
            )
        return outcome.read_bytes

    def _spend(self, desk: Desk, read: int, began: float) -> None:
        rate = max(1, self._rules().max_bytes_per_s)
        if self._is_busy():
            rate = max(1, rate // BUSY_SHARE)
        desk.ready_s = max(desk.ready_s, began) + read / rate

    async def _until_ready(self, desk: Desk) -> None:
        loop = asyncio.get_running_loop()
        while (left := desk.ready_s - loop.time()) > 0:
            await asyncio.sleep(min(left, 1.0))
            self._must_go_on(desk)

    async def _keep_pace(self, desk: Desk, read: int, began: float, paced: int) -> None:
        """Wait until so much more may have been read."""
        loop = asyncio.get_running_loop()
        self._spend(desk, max(read, 0), began if not paced else loop.time())
        await self._until_ready(desk)
        took = max(loop.time() - began, 1e-6)
        speed = (read + paced) / took
        before = desk.bytes_per_s
        desk.bytes_per_s = speed if before is None else before * 0.95 + speed * 0.05

    async def _save(self, desk: Desk) -> None:
        marks, desk.marks = desk.marks, []
        await self._catalogue.save_scrub(desk.row, marks)
        desk.saved_s = asyncio.get_running_loop().time()

    async def _finish(self, desk: Desk) -> None:
        desk.row = replace(desk.row, started_at=None, last_finished=self._clock.now())
        desk.forced = False
        await self._save(desk)
        row = desk.row
        desk.state, desk.reason = ScrubState.IDLE, ""
        self._counters.add("scrub_passes", volume=desk.name)
        log.info(
            "volume %s: scrub finished, %d objects, %d bad, %d repaired, %d without a good copy, "
            "%d files of no row",
            *(desk.name, row.checked, row.bad, row.repaired, row.unrepairable, row.alien),
        )

    async def _look_for_aliens(self, desk: Desk, volume: Volume) -> None:
        """Look for files that no row names; told and listed, `reconcile` takes them in."""
        await self._catalogue.forget_aliens(desk.name)
        found = await aliens_on(
            volume,
            self._catalogue,
            now=self._clock.now(),
            second_look_s=self._second_look_s,
            on_step=lambda: self._must_go_on(desk),
        )
        desk.row = replace(desk.row, alien=len(found))
        if found:
            log.warning("volume %s: %d files of no row", desk.name, len(found))
            self._counters.add("scrub_alien_files", len(found), volume=desk.name)
            await self._catalogue.save_aliens(found[:MAX_ALIENS])

    # beside the passes -------------------------------------------------------------------------

    async def _sweep(self, desk: Desk) -> None:
        """Once a day look through what was set aside on the volume."""
        now = asyncio.get_running_loop().time()
        volume = self._volumes.by_name(desk.name)
        fresh = desk.swept_s is not None and now - desk.swept_s < SWEEP_S
        if fresh or volume.state is not VolumeState.ONLINE or self._paused or self.hold():
            return
        desk.swept_s = now
        await self._quarantine.sweep(volume, self._rules().quarantine_days)

    async def _recheck_lost(self) -> None:
        """Look again at objects without a good copy: a volume may have come back with one."""
        while True:
            try:
                async with asyncio.timeout(RECHECK_S):
                    await self._recheck.wait()
            except TimeoutError:
                pass
            self._recheck.clear()
            if self._paused or self.hold():
                continue
            try:
                await self.recheck()
            except (DatabaseError, VolumeError) as error:
                log.warning("scrub: objects without a good copy are not looked at: %s", error)

    async def recheck(self) -> None:
        """Look at every object on the list of those without a good copy; raises DatabaseError."""
        after = ""
        while lost := await self._catalogue.lost_objects(after, PAGE):
            for one in lost:
                await self._mender.check(one.name)
            after = lost[-1].name


def _devices(volume: Volume) -> frozenset[str]:
    """Return the physical disks of a volume."""
    return volume.devices or frozenset({f"dev:{volume.device}"})
