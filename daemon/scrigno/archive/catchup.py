# SPDX-License-Identifier: Apache-2.0
"""The way back of a volume that fell: what it should hold is read back, what it missed is copied.

A volume that leaves ONLINE for worse than a doubt opens a case. The case is closed, and the volume
may take over, when

1. the copies it was said to hold of objects that came in the ten minutes before it left, and those
   made in that time of older objects (an fsync may have lied), have been read from its disk and
   compared; what is bad or gone is owed again,
2. every debt that stood when the paying began has been paid and read back, or cannot be paid now
   because no source is left, and
3. of the debts that came since then FEW are left, or SETTLE_S have passed: images that arrive go
   on making debts until the volume takes over, so waiting for none would never end.

Each of the three is bounded, so that it always ends. A fall in between leaves the case open; the
index keeps how far it came, for a restart too.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from scrigno.catalogue.catalogue import Catalogue
from scrigno.catalogue.identity import RecoveryMark
from scrigno.catalogue.records import StoredKey
from scrigno.core.clock import Clock
from scrigno.core.counters import Counters
from scrigno.core.events import VolumeChanged
from scrigno.volumes.states import ErrorKind, VolumeError, VolumeState
from scrigno.volumes.volume import Volume

from .quarantine import Why, displace
from .recent_copies import RecentCopies
from .standing import held_by

log = logging.getLogger(__name__)

DOUBTED_BEFORE: Final = timedelta(minutes=10)  # the kernel writes back within 30 s; ample
DOUBTED_OBJECTS: Final = 20_000  # the newest of them, and of these…
DOUBTED_BYTES: Final = 16 << 30  # …the newest: three minutes at 100 MB/s
PAGE: Final = 500
AT_ONCE: Final = 2
NOTE_EVERY: Final = 100  # objects read back, then the index keeps how far it came
FEW: Final = 100
SETTLE_S: Final = 30.0
RATE_OVER_S: Final = 20.0

_FELL: Final = frozenset(
    {
        VolumeState.OFFLINE,
        VolumeState.ABSENT,
        VolumeState.FOREIGN,
        VolumeState.READONLY,
        VolumeState.FULL,
        VolumeState.RECOVERING,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a volume is from having everything; rate and ETA are None while not known."""

    volume: str
    state: str = "idle"  # 'idle' | 'waiting' | 'verifying' | 'copying'
    owed_objects: int = 0
    owed_bytes: int = 0
    done_objects: int = 0
    done_bytes: int = 0
    bytes_per_s: float | None = None
    eta_s: float | None = None
    started_at: datetime | None = None


class Pace:
    """What was done and how fast. Loop thread only."""

    def __init__(self, clock: Clock) -> None:
        """Begin with nothing done."""
        self._clock = clock
        self.state = "idle"
        self.owed = (0, 0)  # objects, bytes
        self.done_objects = 0
        self.done_bytes = 0
        self.started_at: datetime | None = None
        self._marks: deque[tuple[float, int]] = deque()  # when, bytes done until then

    def begin(self, state: str) -> None:
        """Say what is being done now."""
        if self.started_at is None:
            self.started_at = self._clock.now()
            self.done_objects = self.done_bytes = 0
        if self.state != state:
            self.state = state
            self._marks.clear()

    def end(self) -> None:
        """Say that nothing is left to do; what was done stays to be seen."""
        self.state, self.owed, self.started_at = "idle", (0, 0), None
        self._marks.clear()

    def wait(self) -> None:
        """Say that it cannot go on now."""
        if self.state != "idle" or self.owed[0]:
            self.state = "waiting"
            self._marks.clear()

    def done(self, size: int) -> None:
        """Count one object."""
        self.done_objects += 1
        self.done_bytes += size
        self.owed = (max(self.owed[0] - 1, 0), max(self.owed[1] - size, 0))
        now = self._clock.monotonic()
        self._marks.append((now, self.done_bytes))
        while len(self._marks) > 2 and now - self._marks[0][0] > RATE_OVER_S:
            self._marks.popleft()

    def progress(self, volume: str) -> Progress:
        """Return how it stands."""
        rate = None
        if len(self._marks) > 1:
            (since, before), (_, after) = self._marks[0], self._marks[-1]
            seconds = self._clock.monotonic() - since
            rate = (after - before) / seconds if seconds > 0 else None
        objects, size = self.owed
        return Progress(
            volume=volume,
            state=self.state,
            owed_objects=objects,
            owed_bytes=size,
            done_objects=self.done_objects,
            done_bytes=self.done_bytes,
            bytes_per_s=rate,
            eta_s=size / rate if rate else None,
            started_at=self.started_at,
        )


@dataclass(slots=True)
class Case:
    """One volume on its way back."""

    since: datetime  # objects that came from then on are doubted
    checked: int = 0  # up to this number they were read back
    noted: bool = False  # the index knows of the case
    kept: bool = False  # and a file of the copies that were new when it fell
    verified: bool = False
    last_debt: int | None = None  # the newest object when the paying began
    old_paid_at: float | None = None  # monotonic
    falls: int = 0  # counts changes of state, so that work done before one is not taken for later


class CatchUp:
    """Keeps the cases of all volumes. Loop thread only."""

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        clock: Clock,
        counters: Counters,
        turn: Callable[[str], AbstractAsyncContextManager[None]],
        give_way: Callable[[], Awaitable[None]],
        recent: RecentCopies | None = None,
    ) -> None:
        """`give_way` waits a little while images arrive; `turn` keeps others off one object."""
        self._recent = recent or RecentCopies(clock)
        self._catalogue = catalogue
        self._clock = clock
        self._counters = counters
        self._turn = turn
        self._give_way = give_way
        self._cases: dict[str, Case] = {}
        self._left_at: dict[str, datetime] = {}  # when a volume left ONLINE

    # opening and closing -----------------------------------------------------------------------

    def volume_changed(self, event: VolumeChanged) -> None:
        """Open a case when a volume falls; a mere doubt that a probe dispels opens none."""
        name = event.volume
        if event.before == VolumeState.ONLINE:
            self._left_at[name] = self._clock.now()
        if event.after in _FELL:
            self.open_case(name)
        elif event.after == VolumeState.ONLINE and name not in self._cases:
            self._left_at.pop(name, None)

    def open_case(self, name: str) -> None:
        """Have a volume caught up before it takes over."""
        left_at = self._left_at.get(name, self._clock.now())
        case = self._cases.setdefault(name, Case(left_at - DOUBTED_BEFORE))
        self._recent.fell(name)
        case.kept = False
        case.falls += 1
        case.verified = False
        case.last_debt = case.old_paid_at = None

    def reopen(self, name: str, mark: RecoveryMark) -> None:
        """Go on with a case of the last run."""
        case = self._cases.setdefault(name, Case(mark.since))
        case.since, case.checked, case.noted = min(case.since, mark.since), mark.checked, True

    def copied(self, name: str, sop_instance_uid: str) -> None:
        """Note that a volume has got a copy now."""
        self._recent.note(name, sop_instance_uid)

    async def learn(self, name: str) -> None:
        """Take in which copies of a volume were new when the last run ended in a fall."""
        await self._recent.learn(name)

    def is_open(self, name: str) -> bool:
        """Tell whether the volume is still to be caught up."""
        return name in self._cases

    def in_doubt(self, name: str) -> bool:
        """Tell whether copies of before its fall are still to be read back."""
        case = self._cases.get(name)
        return case is not None and not case.verified

    async def note(self, name: str) -> None:
        """Have the index remember the case; raises DatabaseError."""
        case = self._cases.get(name)
        if case is not None and not case.noted:
            await self._catalogue.begin_volume_recovery(name, case.since)
            case.noted = True
        if case is not None and not case.kept:
            case.kept = True
            await self._recent.keep(name)

    async def _close_case(self, name: str) -> None:
        await self._catalogue.end_volume_recovery(name)
        self._cases.pop(name, None)
        self._left_at.pop(name, None)
        log.info("volume %s: is caught up", name)

    # verifying ---------------------------------------------------------------------------------

    async def verify(self, volume: Volume, pace: Pace) -> None:
        """Read back the doubted copies; raises VolumeError when the volume fails, DatabaseError."""
        name = volume.spec.name
        case = self._cases.get(name)
        if case is None or case.verified:
            return
        falls = case.falls
        doubted = await self._doubted(name, case)
        if doubted:
            log.info("volume %s: %d copies of before its fall are read back", name, len(doubted))
        pace.begin("verifying")
        pace.owed = (len(doubted), sum(key.size for _, key in doubted))
        for place in range(0, len(doubted), NOTE_EVERY):
            some = doubted[place : place + NOTE_EVERY]
            await self._check_some(volume, some, pace)
            if case.falls != falls:
                return  # it fell meanwhile: begins again behind what was noted
            case.checked = some[-1][0]
            await self._catalogue.note_volume_checked(name, case.checked)
        await self._verify_recent(volume, case, {key.sop_instance_uid for _, key in doubted}, pace)
        case.verified = case.falls == falls

    async def _verify_recent(
        self, volume: Volume, case: Case, checked: set[str], pace: Pace
    ) -> None:
        """Read back the copies that were made shortly before the fall, of older objects."""
        name, falls = volume.spec.name, case.falls
        self._recent.believe(name, checked)
        left = self._recent.doubted(name)
        for place in range(0, len(left), NOTE_EVERY):
            some = left[place : place + NOTE_EVERY]
            rows = [await self._catalogue.stored_key(uid) for uid in some]
            held = [(0, row) for row in rows if row is not None and name in held_by(row)]
            await self._check_some(volume, held, pace)
            if case.falls != falls:
                return
            self._recent.believe(name, set(some))
            await self._recent.keep(name)
        if checked and not left:
            await self._recent.keep(name)

    async def _doubted(self, name: str, case: Case) -> list[tuple[int, StoredKey]]:
        doubted: deque[tuple[int, StoredKey]] = deque(maxlen=DOUBTED_OBJECTS)
        after = case.checked
        while found := await self._catalogue.held_since(name, case.since, after, PAGE):
            doubted.extend(found)
            after = found[-1][0]
        size = sum(key.size for _, key in doubted)
        while size > DOUBTED_BYTES and len(doubted) > 1:
            size -= doubted.popleft()[1].size
        return list(doubted)

    async def _check_some(
        self, volume: Volume, some: list[tuple[int, StoredKey]], pace: Pace
    ) -> None:
        waiting = iter(some)
        failures: list[VolumeError] = []

        async def worker() -> None:
            for _, key in waiting:
                if failures:
                    return
                try:
                    await self._check(volume, key)
                except VolumeError as error:
                    failures.append(error)
                    return
                pace.done(key.size)
                await self._give_way()

        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(worker())
        if failures:
            raise failures[0]

    async def _check(self, volume: Volume, key: StoredKey) -> None:
        """Read one copy; a bad one is owed again and makes room, if the object stands elsewhere."""
        name, uid = volume.spec.name, key.sop_instance_uid
        if await self._standing(volume, key) == key.digest:
            await self._catalogue.verified(uid, name, self._clock.now())
            return
        async with self._turn(uid):
            # Once more, in its turn: it may have been changed or removed meanwhile, and a read that
            # fails once is not enough to take a copy from its place.
            now = await self._catalogue.stored_key(uid)
            if now is None or name not in held_by(now):
                return
            digest = await self._standing(volume, now)
            if digest == now.digest:
                await self._catalogue.verified(uid, name, self._clock.now())
                return
            log.warning("volume %s: the copy of %s did not survive its fall", name, uid)
            self._counters.add("catch_up_bad_copies", volume=name)
            if digest is not None and now.staged_as is None and held_by(now) == (name,):
                return  # a damaged copy is better than none; the scrub tells of it
            # owed before the bad copy goes, so that a crash in between is made good too
            await self._catalogue.copy_missing(uid, name)
            if digest is not None:
                await displace(volume, now.key, digest, Why.CHANGED if digest else Why.UNREADABLE)

    async def _standing(self, volume: Volume, key: StoredKey) -> str | None:
        """Return the digest of what stands there, "" when it cannot be read, None when it is gone.

        Raises VolumeError when it is the volume that fails.
        """
        try:
            return (await volume.digest(key.key))[0]
        except VolumeError as error:
            if error.kind is ErrorKind.MISSING:
                return None
            if error.kind is ErrorKind.IO and volume.readable:
                return ""  # this file, not the volume; the probe tells otherwise
            raise

    # copying -----------------------------------------------------------------------------------

    async def begin_paying(self, name: str) -> None:
        """Take note of which debts stand now; raises DatabaseError."""
        case = self._cases.get(name)
        if case is not None and case.verified and case.last_debt is None:
            case.last_debt = await self._catalogue.newest_object()

    async def paid_until(self, name: str, debt_id: int | None, left: int) -> None:
        """Hear that debts up to `debt_id` (None: all) were tried and `left` objects are owed.

        Closes the case when the volume is caught up; raises DatabaseError.
        """
        case = self._cases.get(name)
        if case is None or not case.verified or case.last_debt is None:
            return
        now = self._clock.monotonic()
        if case.old_paid_at is None:
            if debt_id is not None and debt_id < case.last_debt:
                return
            case.old_paid_at = now
        if debt_id is None or left <= FEW or now - case.old_paid_at >= SETTLE_S:
            await self._close_case(name)
