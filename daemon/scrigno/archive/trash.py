# SPDX-License-Identifier: Apache-2.0
"""Deleting with undo: what is deleted leaves every list at once and stays in the trash (ST-7).

Order that matters. Deleting: the rows go in one transaction, then files move on every volume that
is there, and on the others when they return. Undo: the files first, then the rows, so that nothing
is ever listed that cannot be read. Purging: the item is marked, then its files go. Each step can
be repeated after a crash.

Nothing is purged by itself before `trash_days` have passed twice over: by the wall clock, which a
wrong battery or a step may move by years, and by the time that the daemon itself has run, which
only grows as fast as time does. So a clock that jumps ten years on purges nothing; on a box that
is off at night things stay longer than promised, never shorter. A rule that is made shorter does
not shorten what was promised on the day of the deletion.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable, Collection
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC
from typing import Final

from scrigno.catalogue.catalogue import Catalogue
from scrigno.catalogue.records import CapacityReached
from scrigno.catalogue.trash_items import (
    NothingToDelete,
    NotNow,
    Removal,
    Returned,
    StudyProtected,
    TrashItem,
    TrashState,
    TrashTotals,
)
from scrigno.catalogue.trash_rows import RAN
from scrigno.core.clock import Clock
from scrigno.core.counters import Counters
from scrigno.core.errors import CommandError, ScrignoError
from scrigno.core.events import EventBus, StudyPurged, StudyRemoved, StudyReturned, VolumeChanged
from scrigno.db.errors import DatabaseError
from scrigno.volumes.placement import Placement
from scrigno.volumes.staging import Staging
from scrigno.volumes.volume import Volumes

from .failpoints import hit
from .taking import Taking
from .trash_mover import TrashMover
from .trash_notes import able

log = logging.getLogger(__name__)

POLL_S: Final = 10.0  # for a volume whose return nobody told us of
MINUTE_S: Final = 60.0  # the time that the daemon has run is noted as often
PURGE_EVERY_S: Final = 3600.0
MAX_REASON: Final = 500
NOBODY: Final = "scrigno"  # who purges when the days are over


@dataclass(frozen=True, slots=True, kw_only=True)
class TrashRules:
    """The part of the settings that the trash goes by."""

    trash_days: int = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What an undo did; `returned` is None while files of it are still on their way."""

    item: TrashItem
    returned: Returned | None

    def in_words(self) -> str:
        """Return what happened, for people."""
        done = self.returned
        if done is None:
            return "It is coming back; a volume failed meanwhile, and it goes on by itself."
        said = [f"{done.back} images are back."]
        if done.merged:
            said.append(f"{done.merged} had been sent again meanwhile, the same bytes.")
        if done.kept:
            said.append(
                f"{done.kept} had been sent again with other bytes: those stay, the deleted ones "
                "are in the inbox."
            )
        if done.lost:
            said.append(f"No volume has a file of {done.lost} more; they are lost.")
        return " ".join(said)


class Trash:
    """The trash as doors use it. Loop thread only. Roles are the doors' affair."""

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        volumes: Volumes,
        staging: Staging,
        placement: Placement,
        taking: Taking,
        rules: Callable[[], TrashRules],
        bus: EventBus,
        counters: Counters,
        clock: Clock,
        turn: Callable[[str], AbstractAsyncContextManager[None]],
        is_busy: Callable[[], bool] = lambda: False,
        audit: Callable[..., None] = lambda *args, **more: None,
        on_debt: Callable[[], None] = lambda: None,
    ) -> None:
        """`taking` is told which studies are on their way out; `audit` as `AuditTrail.record`."""
        self._catalogue = catalogue
        self._book = catalogue.lifecycle
        self._volumes = volumes
        self._taking = taking
        self._rules = rules
        self._bus = bus
        self._counters = counters
        self._clock = clock
        self._audit = audit
        self._on_debt = on_debt
        self._mover = TrashMover(
            catalogue=catalogue,
            volumes=volumes,
            staging=staging,
            placement=placement,
            bus=bus,
            counters=counters,
            turn=turn,
            is_busy=is_busy,
        )
        self._mover.on_returned = self._has_returned
        self._leaving: set[str] = set()  # studies with files on their way into the trash
        self._deletions = 0
        self._returned: dict[int, Returned] = {}
        self._restoring = asyncio.Lock()
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._unsubscribe: Callable[[], None] = lambda: None
        self._ran_until = 0.0
        taking.leaving = self._leaving
        taking.make_way = self._make_way
        self.error = ""  # in words, while something does not work; '' when all is well

    # life --------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Learn what is on its way; before the first image is taken in. Raises DatabaseError."""
        self._leaving |= await self._book.leaving()
        self._ran_until = self._clock.monotonic()

    def start(self) -> None:
        """Begin to move files and to purge; returns at once."""
        self._unsubscribe = self._bus.subscribe(VolumeChanged, lambda _: self._wake.set())
        self._wake.set()
        moving = asyncio.create_task(self._move(), name="trash")
        ageing = asyncio.create_task(self._grow_old(), name="trash-age")
        self._tasks = [moving, ageing]

    async def close(self) -> None:
        """Stop; what is not done is done after the next start. Idempotent."""
        self._unsubscribe()
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def nudge(self) -> None:
        """Look at once what is to be done, as after a study was protected."""
        self._wake.set()

    async def _move(self) -> None:
        while True:
            self._wake.clear()
            try:
                await self.round()
            except DatabaseError as error:
                self._fails(error)
            except Exception:  # a fault of ours must not stop the trash for ever
                log.exception("trash: a round failed and is tried again")
                self.error = "An unexpected fault; see the log."
            try:
                async with asyncio.timeout(POLL_S):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def _fails(self, error: ScrignoError) -> None:
        if self.error != error.reason:
            log.warning("trash: it waits: %s", error.reason)
        self.error = error.reason

    async def round(self) -> None:
        """Do what can be done now; raises DatabaseError."""
        try:
            await self._mover.round()
        except (NotNow, CapacityReached) as refusal:
            log.warning("trash: an item stays in the trash: %s", refusal.reason)
        self.error = self._mover.failure
        before, deletions = set(self._leaving), self._deletions
        now = await self._book.leaving()
        self._leaving |= now  # the index may have come back only after the start
        if deletions == self._deletions:
            self._leaving -= before - now

    # deleting ----------------------------------------------------------------------------------

    async def delete_study(
        self, study_uid: str, *, reason: str, user: str, rule: str = ""
    ) -> TrashItem:
        """Move a whole study to the trash; `rule` names a rule of retention that did it.

        Raises CommandError (no reason), NothingToDelete, StudyProtected, NotNow, DatabaseError.
        """
        return await self.delete(study_uid, reason=reason, user=user, rule=rule)

    async def delete(
        self,
        study_uid: str,
        *,
        series_uid: str | None = None,
        sop_uids: Collection[str] | None = None,
        reason: str,
        user: str,
        rule: str = "",
    ) -> TrashItem:
        """Move a study, one of its series or some of its objects to the trash, at once."""
        said = " ".join(reason.split())
        if not said:
            raise CommandError(
                "A reason is needed to delete something.", next_step="Say in a few words why."
            )
        now = self._clock.now()
        token = f"{now.astimezone(UTC).strftime('%Y%m%dT%H%M%SZ')}-{secrets.token_hex(8)}"
        removal = Removal(
            study_uid=study_uid,
            series_uid=series_uid,
            sop_uids=None if sop_uids is None else frozenset(sop_uids),
            token=token,
            deleted_at=now,
            keep_days=self._rules().trash_days,
            account=user,
            reason=said[:MAX_REASON],
            rule=rule,
            volumes=tuple(volume.name for volume in self._volumes.ordered),
        )
        self._leaving.add(study_uid)  # before the rows go: it may be sent again at that moment
        self._deletions += 1
        try:
            item = await self._book.leave(removal)
        except (NothingToDelete, StudyProtected, NotNow) as refusal:
            self._audit(user, "study-delete", study_uid, "refused", {"why": refusal.code})
            raise
        hit("trash-rows")
        self._taking.forget_studies()
        self._wake.set()
        self._bus.publish(StudyRemoved(study_uid=study_uid, trash_id=item.trash_id))
        self._counters.add("trash_deletions", scope=item.scope)
        self._tell("study-delete", item, user)
        return item

    def _tell(self, action: str, item: TrashItem, user: str, **more: str) -> None:
        """Write it into the audit trail and the log; the reason may name a patient, so it is not.

        It stands with the item, whose number is told.
        """
        details = {
            "trash_id": str(item.trash_id),
            "scope": item.scope,
            "objects": str(item.objects),
            **({"rule": item.rule} if item.rule else {}),
            **more,
        }
        self._audit(user, action, item.study_instance_uid, "success", details)
        log.info(
            "trash item %d: %s, study %s, %d objects",
            *(item.trash_id, action, item.study_instance_uid[:64], item.objects),
        )

    # the list ----------------------------------------------------------------------------------

    async def items(self, before: int | None = None, limit: int = 100) -> list[TrashItem]:
        """Return what can be brought back, newest first; `before`: the last number of a page."""
        return await self._book.items(before, limit)

    async def item(self, trash_id: int) -> TrashItem:
        """Return one item that can be brought back; raises NotNow."""
        item = await self._book.item(trash_id)
        if item is None or item.state not in (TrashState.TRASHED, TrashState.RESTORING):
            raise NotNow("It is not in the trash.", next_step="Load the list again.")
        return item

    async def owed_by(self, trash_id: int) -> tuple[str, ...]:
        """Return the volumes that have still to move files of an item."""
        return await self._book.owing_volumes(trash_id)

    async def totals(self) -> TrashTotals:
        """Return what can be brought back in all."""
        return await self._book.totals()

    # undo --------------------------------------------------------------------------------------

    async def restore(self, trash_id: int, user: str) -> Restored:
        """Bring an item back; on return its rows are there, unless `returned` is None.

        Raises NotNow, CapacityReached (nothing is changed then), DatabaseError.
        """
        async with self._restoring:
            item = await self.item(trash_id)
            for other in await self._book.items_of_study(item.study_instance_uid):
                if other.trash_id != trash_id:  # its files leave before others take their place
                    await self._mover.item(other.trash_id)
            names = [volume.name for volume in able(self._volumes)]
            await self._book.begin_restore(trash_id, names)
            hit("restore-begun")
            await self._mover.item(trash_id)
        self._tell("study-restore", item, user)
        return Restored(item=item, returned=self._returned.pop(trash_id, None))

    def _has_returned(self, item: TrashItem, returned: Returned) -> None:
        """Tell everybody of rows that came back; after a crash nobody has asked for it."""
        if len(self._returned) > 100:
            self._returned.clear()
        self._returned[item.trash_id] = returned
        self._taking.forget_studies()
        self._on_debt()
        self._wake.set()  # volumes that were away owe the rest
        self._bus.publish(StudyReturned(study_uid=item.study_instance_uid, trash_id=item.trash_id))
        self._counters.add("trash_restores", scope=item.scope)

    # purging -----------------------------------------------------------------------------------

    async def purge(self, trash_id: int, user: str) -> None:
        """Remove an item for good, now; volumes that are away do it when they return.

        Raises NotNow when it is not in the trash, or coming back.
        """
        item = await self.item(trash_id)
        if not await self._purge(item, user):
            raise NotNow("It is coming back.", next_step="Load the list again.")

    async def _purge(self, item: TrashItem, user: str) -> bool:
        if not await self._book.begin_purge(item.trash_id):
            return False
        hit("purge-begun")
        self._counters.add("trash_purges", scope=item.scope)
        self._tell("trash-purge", item, user)
        self._wake.set()
        self._bus.publish(
            StudyPurged(study_uid=item.study_instance_uid, trash_id=item.trash_id, scope=item.scope)
        )
        return True

    async def purge_due(self) -> int:
        """Purge what is older than its days by both measures; return how many. DatabaseError."""
        purged = 0
        for trash_id in await self._book.due(self._clock.now(), self._rules().trash_days):
            item = await self._book.item(trash_id)
            if item is not None:
                purged += await self._purge(item, NOBODY)
        return purged

    async def _grow_old(self) -> None:
        look_at = self._clock.monotonic()
        while True:
            try:
                await self.note_running()
                if self._clock.monotonic() >= look_at:
                    look_at = self._clock.monotonic() + PURGE_EVERY_S
                    await self.purge_due()
            except DatabaseError as error:
                self._fails(error)
            await asyncio.sleep(MINUTE_S)

    async def note_running(self) -> None:
        """Note how long the daemon has run, while something is in the trash."""
        now = self._clock.monotonic()
        seconds = int(now - self._ran_until)
        if seconds > 0 and (await self._book.totals()).items:
            await self._book.add_to_meter(RAN, seconds)
        self._ran_until += max(seconds, 0)

    # for those who take objects in, or look at files ---------------------------------------------

    async def _make_way(self, sop_instance_uid: str) -> None:
        """Move the files of a deleted object out of the way of the same UID that comes again.

        The caller holds its turn. What cannot be done now is done later.
        """
        try:
            ready = {volume.name: volume for volume in able(self._volumes)}
            for number, trash_id in await self._book.leaving_objects(sop_instance_uid):
                noted = await self._mover.notes.write_record(trash_id, list(ready.values()))
                await self._mover.bring(number, {volume.name: volume for volume in noted})
        except DatabaseError as error:
            log.warning("trash: object %s: not out of the way: %s", sop_instance_uid, error.reason)

    async def learn(self) -> int:
        """Take over what volumes know of trash and protection; before an index is made anew."""
        learnt = await self._mover.notes.learn()
        self._leaving |= await self._book.leaving()
        self._wake.set()
        return learnt

    async def claims(
        self, volume: str, sop_instance_uid: str, key: str, digest: str | None = None
    ) -> bool:
        """Tell whether a file among the studies of a volume belongs to the trash.

        Such a file is neither an orphan nor to be taken in: it is on its way.
        """
        return await self._book.claims(volume, sop_instance_uid, key, digest)
