# SPDX-License-Identifier: Apache-2.0
"""Paying what volumes are owed, and letting staging go.

The queue is the catalogue's debts, so it survives a restart. Each volume has a task of its own:
a volume that is away or slow keeps nobody waiting, and its debts are paid when it is back, before
it takes over (`catchup`). A disk that is not the one whose copies are recorded is owed everything.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Collection, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Final

from scrigno.catalogue.catalogue import Catalogue
from scrigno.catalogue.records import Debt, StoredKey
from scrigno.core.clock import Clock, SystemClock
from scrigno.core.counters import Counters
from scrigno.core.errors import ScrignoError
from scrigno.core.events import EventBus, VolumeChanged
from scrigno.db.errors import DatabaseError
from scrigno.volumes.placement import KeyConflict, Placement
from scrigno.volumes.staging import Staging, StagingFailed, StagingFull
from scrigno.volumes.states import ErrorKind, VolumeError, VolumeState
from scrigno.volumes.volume import Volume, Volumes

from .arrivals import INBOX_PREFIX, sidecar_key
from .catchup import CatchUp, Pace, Progress
from .quarantine import Why, displace
from .receipts import IngestRules
from .recent_copies import RecentCopies
from .standing import may_go, standing_on

log = logging.getLogger(__name__)

BATCH: Final = 64
AT_ONCE: Final = 4  # per volume, when no image is arriving
GATHER_TURNS: Final = 50  # of BUSY_PAUSE_S
BUSY_PAUSE_S: Final = 0.02  # between copies while images arrive: they come first
LEISURE: Final = 5  # times that pause, for a volume that is in service and only a little behind
POLL_S: Final = 10.0  # for a volume whose return nobody told us of
ALL_AGAIN_S: Final = 60.0  # then debts that could not be paid are tried again
FAILED_PAUSE_S: Final = 1.0
ROUND_PAUSE_S: Final = 0.3  # between rounds while a volume is caught up
STAGING_HIGH: Final = 0.70  # over this share the oldest entries with one copy are let go …
STAGING_LOW: Final = 0.60  # … down to this one
SIDECAR_BYTES: Final = 64 << 10


# A volume on its way back is paid before it takes over.
_PAID: Final = (VolumeState.ONLINE, VolumeState.RECOVERING)


class _Desk:
    """Where one volume's debts are paid."""

    def __init__(self, clock: Clock) -> None:
        self.pace = Pace(clock)
        self.wake = asyncio.Event()
        self.seen = 0  # debts up to this number were tried
        self.all_again_at = 0.0
        self.task: asyncio.Task[None] | None = None

    def start_over(self) -> None:
        """Try every debt once more, now."""
        self.all_again_at = 0.0
        self.wake.set()


class Replicator:
    """Pays debts and releases staging. Loop thread only."""

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        volumes: Volumes,
        staging: Staging,
        placement: Placement,
        rules: Callable[[], IngestRules],
        bus: EventBus,
        counters: Counters,
        staging_capacity_bytes: int,
        turn: Callable[[str], AbstractAsyncContextManager[None]],
        is_busy: Callable[[], bool] = lambda: False,
        clock: Clock | None = None,
        recent: RecentCopies | None = None,
    ) -> None:
        """`turn` keeps others off one object, `is_busy` tells whether images are arriving now."""
        self._clock = clock or SystemClock()
        self._catalogue = catalogue
        self._volumes = volumes
        self._staging = staging
        self._placement = placement
        self._rules = rules
        self._bus = bus
        self._counters = counters
        self._capacity = staging_capacity_bytes
        self._turn = turn
        self._is_busy = is_busy
        self._desks: dict[str, _Desk] = {}
        self._tidying: asyncio.Task[None] | None = None
        self._unsubscribe: Callable[[], None] = lambda: None
        self._sweep = asyncio.Event()
        staging.when_back(self._sweep.set)
        self._uuids: dict[str, str] | None = None  # of the disks whose copies are recorded
        self._catch_up = CatchUp(
            catalogue=catalogue,
            clock=self._clock,
            counters=counters,
            turn=turn,
            give_way=self._give_way,
            recent=recent,
        )

    # life --------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to pay; returns at once. From now on volumes are caught up before they return."""
        self._volumes.caught_up = self.caught_up
        self._unsubscribe = self._bus.subscribe(VolumeChanged, self._volume_changed)
        self._sweep.set()  # the last run may have ended between a payment and its release
        self._tidying = asyncio.create_task(self._tidy(), name="release-staging")

    async def close(self) -> None:
        """Stop; what is owed stays owed. Idempotent."""
        self._volumes.caught_up = lambda name: True
        self._unsubscribe()
        tasks = [desk.task for desk in self._desks.values() if desk.task is not None]
        if self._tidying is not None:
            tasks.append(self._tidying)
        self._desks.clear()
        self._tidying = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def reload(self) -> None:
        """Say that the index is another one: which disks it knows is read from it again."""
        self._uuids = None
        self._sweep.set()

    def nudge(self) -> None:
        """Say that there are new debts."""
        for desk in self._desks.values():
            desk.wake.set()

    def _volume_changed(self, event: VolumeChanged) -> None:
        self._catch_up.volume_changed(event)
        desk = self._desks.get(event.volume)
        if desk is not None:
            desk.start_over()
        self._sweep.set()

    def _open_desks(self) -> bool:
        """Serve the volumes that are configured now; tell whether one is new."""
        names = {volume.spec.name for volume in self._volumes.ordered}
        for name in set(self._desks) - names:
            task = self._desks.pop(name).task
            if task is not None:
                task.cancel()
        fresh = names - set(self._desks)
        for name in fresh:
            desk = self._desks[name] = _Desk(self._clock)
            if self._volumes.by_name(name).state is VolumeState.RECOVERING:
                self._catch_up.open_case(name)
            desk.task = asyncio.create_task(self._serve(name, desk), name=f"replicate-{name}")
        return bool(fresh)

    # a volume that is new or was replaced ------------------------------------------------------

    async def replaced(self, volume: str) -> int:
        """Owe everything to a volume that is another disk now; returns how many objects."""
        await self._catalogue.forget_volume(volume)
        owed = await self._catalogue.owe_all(volume)
        if volume in self._desks:
            self._desks[volume].start_over()
        return owed

    def caught_up(self, name: str) -> bool:
        """Tell whether a volume that fell has everything that it should have, and may take over."""
        known = self._uuids is not None  # else not even the index has been asked
        return known and not self._catch_up.is_open(name) and self._is_same_disk(name)

    def progress(self, name: str) -> Progress:
        """Return how far a volume is from having everything; raises KeyError."""
        desk = self._desks.get(name)
        if desk is None:
            self._volumes.by_name(name)
            return Progress(volume=name)
        return desk.pace.progress(name)

    def _is_same_disk(self, name: str) -> bool:
        """Tell whether the disk that serves is the one whose copies are recorded."""
        uuid = self._volumes.by_name(name).uuid
        return uuid is None or (self._uuids or {}).get(name) == uuid

    def doubted(self) -> list[str]:
        """Return the volumes whose recorded copies do not count for now.

        They are on another disk than the one there now, or of before its fall and not read back.
        """
        if self._tidying is None:
            return []  # nobody has begun to compare
        names = [volume.spec.name for volume in self._volumes.ordered]
        return [
            name
            for name in names
            if self._uuids is None or not self._is_same_disk(name) or self._catch_up.in_doubt(name)
        ]

    async def _remember(self) -> None:
        """Learn from the index which disks were there, and who was being caught up."""
        uuids = await self._catalogue.volume_uuids()
        for name, mark in (await self._catalogue.volume_recoveries()).items():
            self._catch_up.reopen(name, mark)
            await self._catch_up.learn(name)
        self._uuids = uuids

    async def _identify(self, volume: Volume) -> None:
        """Owe everything to a disk that is not the one whose copies are recorded.

        Remembered last: a crash before that makes the next run begin anew, whatever was done.
        """
        name, uuid = volume.spec.name, volume.uuid
        if uuid is None or self._uuids is None or self._is_same_disk(name):
            return
        before = self._uuids.get(name)
        if before is not None:
            owed = await self.replaced(name)
            log.warning(
                "volume %s: is another disk than before, %d objects are copied to it", name, owed
            )
        await self._catalogue.remember_volume(name, uuid)
        self._uuids[name] = uuid
        self._sweep.set()

    async def owe_to_new_volumes(self) -> None:
        """Owe everything to volumes that the catalogue has never heard of."""
        tallies = await self._catalogue.volume_tallies()
        for volume in self._volumes.ordered:
            if volume.spec.name not in tallies and await self._catalogue.owe_all(volume.spec.name):
                log.info("volume %s: is new and gets a copy of everything", volume.spec.name)

    # paying ------------------------------------------------------------------------------------

    async def _serve(self, name: str, desk: "_Desk") -> None:
        """Pay one volume's debts for ever."""
        loop = asyncio.get_running_loop()
        while True:
            desk.wake.clear()
            if loop.time() >= desk.all_again_at:
                desk.seen = 0
                desk.all_again_at = loop.time() + ALL_AGAIN_S
            try:
                volume = self._volumes.by_name(name)
                await self._catch_up.note(name)
                if volume.link is not None and volume.state in _PAID:
                    await self._serve_once(volume, desk)
                else:
                    desk.seen = 0
                    await self._look_at_debts(name, desk)
                    desk.pace.wait()
            except (DatabaseError, StagingFailed, VolumeError) as error:
                log.warning("volume %s: replication waits: %s", name, error.reason)
                desk.seen = 0
                desk.pace.wait()
                await asyncio.sleep(FAILED_PAUSE_S)
            except KeyError:
                return  # no longer configured
            except Exception:  # a fault of ours must not stop replication for ever
                log.exception("volume %s: replication failed and goes on", name)
                desk.seen = 0
                await asyncio.sleep(FAILED_PAUSE_S)
            recovering = self._catch_up.is_open(name) and self._is_served(name)
            try:
                async with asyncio.timeout(ROUND_PAUSE_S if recovering else POLL_S):
                    await desk.wake.wait()
            except TimeoutError:
                continue
            if not recovering:
                await self._let_debts_gather()

    def _is_served(self, name: str) -> bool:
        volume = self._volumes.by_name(name)
        return volume.link is not None and volume.state in _PAID

    async def _serve_once(self, volume: Volume, desk: "_Desk") -> None:
        """Identify, verify, pay: what one volume needs now."""
        name, pace = volume.spec.name, desk.pace
        await self._identify(volume)
        if self._catch_up.is_open(name):
            desk.seen = 0
            await self._catch_up.verify(volume, pace)
            await self._catch_up.begin_paying(name)
        await self._look_at_debts(name, desk)
        _, desk.seen = await self.pay(volume, desk.seen, pace)
        left, _ = await self._look_at_debts(name, desk)
        await self._catch_up.paid_until(name, None, left)
        if not left:
            pace.end()
        elif pace.state != "idle":
            pace.wait()  # nothing can pay these now

    async def _look_at_debts(self, name: str, desk: "_Desk") -> tuple[int, int]:
        desk.pace.owed = owed = await self._catalogue.owed_to(name)
        return owed

    async def _let_debts_gather(self) -> None:
        """While images arrive, look at the debts once a second and not once for each."""
        for _ in range(GATHER_TURNS):
            if not self._must_give_way():
                return
            await asyncio.sleep(BUSY_PAUSE_S)

    async def pay(
        self, volume: Volume, after: int = 0, pace: Pace | None = None
    ) -> tuple[int, int]:
        """Pay the debts of `volume` numbered over `after` that can be paid now.

        Returns how many were, and where to go on when there are new ones; one that cannot be
        paid now (its only copy is away) is passed over. Raises VolumeError when the volume itself
        fails, DatabaseError.
        """
        name, pace = volume.spec.name, pace or Pace(self._clock)
        paid, seen = 0, after
        while True:
            epoch = self._catalogue.replaced_objects
            debts = await self._catalogue.debts(name, after, BATCH)
            if not debts:
                break
            pace.begin("copying")
            done = await self._pay_batch(volume, debts, pace, epoch)
            paid += len(done)
            await self._release_settled([debt.staged_as for debt in done if debt.staged_as])
            if self._catalogue.replaced_objects != epoch:
                continue  # what was owed then may be another object now: ask again
            after = debts[-1].debt_id
            # Debts of the inbox are numbered behind all others, and are few.
            seen = max([seen, *(debt.debt_id for debt in debts if not _is_kept(debt))])
            if self._catch_up.is_open(name):
                left, _ = pace.owed = await self._catalogue.owed_to(name)
                await self._catch_up.paid_until(name, after, left)
        return paid, seen

    async def _pay_batch(
        self, volume: Volume, debts: Iterable[Debt], pace: Pace, epoch: int
    ) -> list[Debt]:
        waiting = deque(debts)
        paid: list[Debt] = []
        failure: list[ScrignoError] = []

        async def worker(*, first: bool) -> None:
            while waiting and not failure:
                debt = waiting.popleft()
                async with self._turn(debt.sop_instance_uid):
                    if self._catalogue.replaced_objects != epoch:
                        return
                    if await self._pay_one(volume, debt, failure):
                        paid.append(debt)
                        pace.done(debt.size)
                await self._give_way(volume)
                while not first and waiting and self._must_give_way():
                    await self._give_way(volume)

        async with asyncio.TaskGroup() as group:
            for number in range(AT_ONCE):
                group.create_task(worker(first=number == 0))
        if failure:
            raise failure[0]
        return paid

    def _must_give_way(self) -> bool:
        """While images arrive one copy at a time is made, unless staging is filling up."""
        return self._is_busy() and self._staging.used_bytes < self._capacity * STAGING_LOW

    async def _give_way(self, volume: Volume | None = None) -> None:
        """Wait a little while images arrive; never for long, so that it comes to an end."""
        if self._must_give_way():
            in_service = volume is not None and volume.state is VolumeState.ONLINE
            await asyncio.sleep(BUSY_PAUSE_S * (LEISURE if in_service else 1))

    async def _pay_one(self, volume: Volume, debt: Debt, failure: list[ScrignoError]) -> bool:
        """Make one copy and record it; a failure of the volume or the index goes to `failure`."""
        name = volume.spec.name
        try:
            await self._copy(volume, debt)
        except VolumeError as error:
            if error.volume == name and error.kind is not ErrorKind.MISSING:
                failure.append(error)
            self._counters.add("replication_deferred", volume=name)
            return False
        except (StagingFull, StagingFailed, KeyConflict) as error:
            log.warning("volume %s: %s is not copied now: %s", name, debt.key, error.reason)
            self._counters.add("replication_deferred", volume=name)
            return False
        try:
            await self._catalogue.paid(debt.sop_instance_uid, name)
        except DatabaseError as error:
            failure.append(error)
            return False
        self._counters.add("replication_objects", volume=name)
        self._catch_up.copied(name, debt.sop_instance_uid)
        return True

    async def _copy(self, volume: Volume, debt: Debt) -> None:
        name = volume.spec.name
        for again in (True, False):
            try:
                await self._placement.replicate(
                    debt.staged_as, debt.key, debt.digest, sources=debt.held_by, target=name
                )
                break
            except KeyConflict as conflict:
                if not again:
                    raise
                await displace(volume, debt.key, conflict.existing_digest)
            except StagingFailed:
                # No source is left, but a disk that was adopted may have it all the while.
                if await _standing(volume, debt.key) != debt.digest:
                    raise
                break
            except VolumeError as error:
                unread = error.volume == name and error.kind is ErrorKind.IO and again
                if not unread or await _standing(volume, debt.key) != "":
                    raise
                # the copy is at hand, and only what stands in its place cannot be read
                await displace(volume, debt.key, "", Why.UNREADABLE)
        if _is_kept(debt):
            await self._copy_sidecar(volume, debt)
        if self._catch_up.is_open(name) and (await volume.digest(debt.key))[0] != debt.digest:
            raise VolumeError(
                name, ErrorKind.IO, f"{debt.key} reads back other than it was written"
            )

    async def _copy_sidecar(self, volume: Volume, debt: Debt) -> None:
        """Bring the sidecar too; it is a hint, so its absence keeps no debt open."""
        key = sidecar_key(debt.key)
        for source in debt.held_by:
            try:
                sidecar = await self._volumes.by_name(source).head(key, SIDECAR_BYTES)
            except (KeyError, VolumeError):  # no longer configured, or away
                continue
            await volume.put_bytes(key, sidecar)
            return

    # letting staging go ------------------------------------------------------------------------

    async def _release_settled(self, names: Collection[str]) -> None:
        """Release those entries that are no longer needed."""
        if not names:
            return
        rows = await self._catalogue.staged(names)
        await self._release([row for row in rows if self._may_go(row)])

    def _may_go(self, row: StoredKey) -> bool:
        return may_go(row, self._volumes, self._rules(), self.doubted())

    async def _release(self, rows: Collection[StoredKey]) -> None:
        if self._staging.failure:
            return  # what stands there is let go when it is back
        if rows:
            # Until their rows are durable the journal is what brings them back after a power cut.
            await self._catalogue.sync()
        for row in rows:
            if row.staged_as is not None:
                await self._staging.release(row.staged_as)
        if rows:
            await self._catalogue.unstaged([row.sop_instance_uid for row in rows])
            self._counters.add("staging_released_objects", len(rows))

    async def _tidy(self) -> None:
        """Release what no payment released: a volume left, or staging fills up."""
        told = ""
        while True:
            try:
                if self._uuids is None:
                    await self._remember()
                    self.nudge()
                if self._open_desks():
                    await self.owe_to_new_volumes()
                    self.nudge()
                if self._sweep.is_set() or self._nearly_full():
                    self._sweep.clear()
                    await self.tidy()
                told = ""
            except (DatabaseError, StagingFailed) as error:
                if error.reason != told:
                    log.warning("staging: entries are not let go now: %s", error.reason)
                told = error.reason
                self._sweep.set()  # again, a little later
                await asyncio.sleep(FAILED_PAUSE_S)
            except Exception:  # a fault of ours must not fill staging up
                log.exception("staging: entries are not let go now")
                await asyncio.sleep(FAILED_PAUSE_S)
            try:
                async with asyncio.timeout(POLL_S):
                    await self._sweep.wait()
            except TimeoutError:
                continue

    def _nearly_full(self) -> bool:
        return (
            not self._staging.failure and self._staging.used_bytes >= self._capacity * STAGING_HIGH
        )

    async def tidy(self) -> None:
        """Release everything that may go, and over the high-water mark the oldest single copies."""
        rows = await self._catalogue.staged()
        free = [row for row in rows if self._may_go(row)]
        await self._release(free)
        if not self._nearly_full():
            return
        gone = {row.staged_as for row in free}
        excess = self._staging.used_bytes - int(self._capacity * STAGING_LOW)
        doubted = self.doubted()
        early: list[StoredKey] = []
        for row in sorted(rows, key=lambda row: row.staged_as or ""):  # names sort by age
            if excess <= 0:
                break
            standing = set(standing_on(row, self._volumes)) - set(doubted)
            if row.staged_as not in gone and await self._reads_right(row, standing):
                early.append(row)
                excess -= row.size
        if early:
            log.warning(
                "staging: nearly full, %d objects are let go with fewer copies than wanted",
                len(early),
            )
            await self._release(early)

    async def _reads_right(self, row: StoredKey, names: Collection[str]) -> bool:
        """Read a copy back from its disk, since it may be the only one from now on."""
        for name in names:
            try:
                found = await _standing(self._volumes.by_name(name), row.key)
            except VolumeError:
                continue
            if found == row.digest:
                await self._catalogue.verified(row.sop_instance_uid, name, self._clock.now())
                return True
        return False


async def _standing(volume: Volume, key: str) -> str | None:
    """Return the digest of what stands there, "" when it cannot be read, None when nothing does.

    Raises VolumeError when it is the volume that fails.
    """
    try:
        return (await volume.digest(key))[0]
    except VolumeError as error:
        if error.kind is ErrorKind.MISSING:
            return None
        if error.kind is ErrorKind.IO and volume.readable:
            return ""
        raise


def _is_kept(debt: Debt) -> bool:
    return debt.key.startswith(f"{INBOX_PREFIX}/")
