# SPDX-License-Identifier: Apache-2.0
"""From a complete object to a receipt: decide, make durable, record. The same for every door.

Order that matters: bytes are durable before the row is committed, the row before anything is
acknowledged, and staging lets go last. Each step can be repeated after a crash: a put answers
SAME for the same bytes, the catalogue answers SAME for a known digest, a kept object's key is its
digest.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Final

from scrigno.catalogue import records
from scrigno.catalogue.catalogue import Catalogue
from scrigno.core.attributes import IndexAttributes
from scrigno.core.counters import Counters
from scrigno.core.events import EventBus, InstanceHeld, InstanceStored
from scrigno.db.errors import DatabaseError, DatabaseUnavailable
from scrigno.imaging.errors import HeaderIncomplete
from scrigno.volumes.placement import KeyConflict, NoDurableStorage, Placed
from scrigno.volumes.staging import Sealed, Staging, StagingFailed
from scrigno.volumes.states import VolumeError
from scrigno.volumes.volume import Volumes

from .appraisal import CONFLICT, UNREADABLE, Admit, Aside, appraise, unreadable
from .arrivals import Arrival, inbox_key, sidecar_key, to_note, to_sidecar
from .errors import CapacityReached, IndexUnavailable
from .failpoints import hit
from .limits import StudyLimit
from .quarantine import Why, displace
from .receipts import IngestRules, Receipt, StoreOutcome
from .standing import is_enough, may_go

log = logging.getLogger(__name__)

# A header longer than this (icons, private blocks before the patient) is called unreadable.
MAX_HEADER_BYTES: Final = 64 << 20
# Up to here a header is read on the loop: skipping through it stays far below a millisecond.
LOOP_HEADER_BYTES: Final = 1 << 20
INDEX_S: Final = 5.0  # then an object is acknowledged on its journal entry, its row comes later
SIDECAR_S: Final = 3.0  # a hint is not worth more


Place = Callable[[Sealed, str, Mapping[str, str]], Awaitable[Placed]]
Judgement = Admit | Aside


class Taking:
    """The steps behind every door. Loop thread only."""

    def __init__(
        self,
        *,
        staging: Staging,
        volumes: Volumes,
        catalogue: Catalogue,
        rules: Callable[[], IngestRules],
        bus: EventBus,
        counters: Counters,
    ) -> None:
        """Hold the rooms below; `on_debt` is told of each object that volumes still need."""
        self._staging = staging
        self._volumes = volumes
        self._catalogue = catalogue
        self._rules = rules
        self._bus = bus
        self._counters = counters
        self._turns: dict[str, asyncio.Future[None]] = {}
        self._limits = StudyLimit(catalogue, lambda: rules().max_studies)
        self._long_headers = ThreadPoolExecutor(1, "long-headers")
        self._one_long_header = asyncio.Lock()
        self._index_silent: asyncio.Task[None] | None = None  # waits until it answers again
        self.degraded = False  # the last object was acknowledged with too few devices
        self.on_debt: Callable[[], None] = lambda: None
        # volumes whose recorded copies do not count for now
        self.doubted: Callable[[], Collection[str]] = tuple
        # told of the folder of an image before it is put; what it answers is waited for
        self.on_folder: Callable[[str], Awaitable[None] | None] = lambda folder: None
        self.on_pending: Callable[[str, Mapping[str, str]], None] = lambda name, note: None
        # Studies whose files are on their way into the trash, and what clears the place of one
        # object of theirs that comes again; `make_way` is called in the turn of its UID.
        self.leaving: Collection[str] = frozenset()
        self.make_way: Callable[[str], Awaitable[None]] | None = None

    def forget_studies(self) -> None:
        """Forget which studies are known; whoever removes studies calls this."""
        self._limits.forget()

    def close(self) -> None:
        """Let the thread for long headers go."""
        self._long_headers.shutdown(wait=False)
        if self._index_silent is not None:
            self._index_silent.cancel()

    def attend(self, sealed: Sealed, arrival: Arrival, judgement: Judgement) -> None:
        """See that an object whose taking-in broke off is taken in all the same."""
        if sealed.name is not None:
            aside = judgement.reason if isinstance(judgement, Aside) else None
            self.on_pending(sealed.name, to_note(arrival, sealed.digest, aside))

    # deciding ----------------------------------------------------------------------------------

    def judge(
        self, arrival: Arrival, head: bytes | memoryview, size: int | None
    ) -> Judgement | None:
        """Decide from the head of the data set; None when it is too short for that.

        `size` is that of the whole data set, None while it is still arriving.

        Raises `UidMismatch`, `ObjectUnreadable`.
        """
        try:
            return appraise(
                arrival,
                head,
                size=size,
                default_character_set=self._rules().default_character_set,
            )
        except HeaderIncomplete:
            return None

    async def judge_sealed(self, arrival: Arrival, sealed: Sealed, offset: int) -> Judgement:
        """Decide from a file whose data set begins at `offset`, reading as much as is needed.

        One long header at a time is in memory; raises `UidMismatch`, `ObjectUnreadable`.
        """
        size = sealed.size - offset
        character_set = self._rules().default_character_set
        loop = asyncio.get_running_loop()
        wanted = min(size, LOOP_HEADER_BYTES)
        async with self._one_long_header:
            while True:
                head = await sealed.read(offset, wanted)
                try:
                    if len(head) <= LOOP_HEADER_BYTES:
                        return appraise(
                            arrival, head, size=size, default_character_set=character_set
                        )
                    work = partial(
                        appraise, arrival, head, size=size, default_character_set=character_set
                    )
                    return await loop.run_in_executor(self._long_headers, work)
                except HeaderIncomplete as error:
                    needed = error.needed_bytes
                if needed > MAX_HEADER_BYTES or wanted >= min(size, MAX_HEADER_BYTES):
                    return unreadable(arrival, "The header is cut short or longer than 64 MiB.")
                wanted = min(max(needed, 4 * wanted), size, MAX_HEADER_BYTES)

    # doing -------------------------------------------------------------------------------------

    async def take(
        self, sealed: Sealed, arrival: Arrival, judgement: Judgement, *, place: Place
    ) -> Receipt:
        """Make the object durable and recorded. Raises an IngestError, and what `place` raises.

        Objects of one SOP Instance UID take turns, whichever door they come by.
        """
        async with self.turn(arrival.sop_instance_uid):
            return await self.take_in_turn(sealed, arrival, judgement, place=place)

    async def take_in_turn(
        self, sealed: Sealed, arrival: Arrival, judgement: Judgement, *, place: Place
    ) -> Receipt:
        """Do what `take` does for a caller that holds the turn of the SOP Instance UID."""
        if isinstance(judgement, Aside):
            return await self._keep_aside(sealed, arrival, judgement, place)
        if self._rules().max_studies is None:
            return await self._archive(sealed, arrival, judgement, place)
        async with self._limits.room_for(judgement.attributes.study.study_instance_uid):
            return await self._archive(sealed, arrival, judgement, place)

    async def _archive(
        self, sealed: Sealed, arrival: Arrival, admit: Admit, place: Place
    ) -> Receipt:
        """Make durable what belongs into the archive, then record it."""
        if self.make_way and admit.attributes.study.study_instance_uid in self.leaving:
            await self.make_way(arrival.sop_instance_uid)
        named = self.on_folder(admit.key.rpartition("/")[0])
        if named is not None:
            await named
        try:
            placed = await self._placed(sealed, arrival, admit, place)
        except KeyConflict:
            return await self._keep_conflict(sealed, arrival, admit, place)
        hit("placed")
        self.degraded = placed.degraded
        return await self._record(sealed, arrival, admit, placed, place)

    async def _placed(self, sealed: Sealed, arrival: Arrival, admit: Admit, place: Place) -> Placed:
        """Place it; a damaged copy of its own makes room. Raises KeyConflict for a real one."""
        note = to_note(arrival, sealed.digest, None)
        while True:
            try:
                return await place(sealed, admit.key, note)
            except KeyConflict as conflict:
                if not await self._made_way(conflict, sealed.digest, arrival.sop_instance_uid):
                    raise

    async def _made_way(self, conflict: KeyConflict, digest: str, uid: str) -> bool:
        """Set aside a copy of this very object that is damaged; False when it is another object's.

        The digest kept beside the file tells the two apart, whether or not the index works.
        """
        volume = self._volumes.by_name(conflict.volume)
        try:
            found = await volume.check(conflict.key)
            if found.beside != digest or found.digest == digest:
                return False
            with suppress(DatabaseError, TimeoutError):  # else the scrub finds that it is gone
                async with self._index_time():
                    await self._catalogue.copy_missing(uid, volume.name)
            await displace(volume, conflict.key, found.digest, Why.CHANGED)
        except VolumeError as error:
            log.warning("volume %s: %s is damaged: %s", volume.name, conflict.key, error.reason)
            return False
        self._counters.add("ingest_damaged_copies", volume=volume.name)
        return True

    async def _record(
        self, sealed: Sealed, arrival: Arrival, admit: Admit, placed: Placed, place: Place
    ) -> Receipt:
        """Commit the row of an object that is durable."""
        settled = self._is_settled(placed)
        new = records.NewInstance(
            attributes=admit.attributes,
            key=admit.key,
            digest=sealed.digest,
            size=sealed.size,
            received_at=arrival.received_at,
            origin=arrival.origin,
            copies=placed.copies,
            owed=placed.owed,
            staged_as=None if settled else placed.staged_as,
        )
        study = admit.attributes.study.study_instance_uid
        try:
            async with self._index_time():
                result = await self._catalogue.add(new)
                if placed.staged_as is None:
                    await self._catalogue.sync()  # no journal would bring the row back
        except (DatabaseError, TimeoutError) as error:
            note = to_note(arrival, sealed.digest, None)
            self._left_to_recovery(placed, note, error)
            return Receipt(
                outcome=StoreOutcome.NEW,
                sop_instance_uid=arrival.sop_instance_uid,
                study_uid=study,
                copies=placed.copies,
                degraded=placed.degraded,
                pending=True,
            )
        except records.CapacityReached as error:
            # Only when another writer of the index was faster than `StudyLimit`. The files stay
            # where they are: they may have stood there before, and nothing that may have been
            # acknowledged is deleted. Recovery tries again for as long as the limit stands.
            if placed.staged_as:
                self.on_pending(placed.staged_as, to_note(arrival, sealed.digest, None))
            raise CapacityReached(error.reason, next_step=error.next_step) from error
        hit("recorded")
        if result.outcome is records.AddOutcome.DIFFERENT:
            return await self._move_aside(sealed, arrival, admit, placed, place)
        new_here = result.outcome is records.AddOutcome.NEW
        if placed.staged_as and (settled or not new_here):
            note = to_note(arrival, sealed.digest, None)
            release = self._release if settled else self._release_again
            await release(placed.staged_as, note)
        hit("released")
        if placed.owed:
            self.on_debt()
        self._limits.remember(study)
        if new_here:
            self._bus.publish(
                InstanceStored(
                    study_uid=study,
                    series_uid=admit.attributes.series.series_instance_uid,
                    sop_instance_uid=arrival.sop_instance_uid,
                    source=arrival.origin.calling_ae or arrival.origin.user or arrival.origin.door,
                )
            )
        return Receipt(
            outcome=StoreOutcome.NEW if new_here else StoreOutcome.SAME,
            sop_instance_uid=arrival.sop_instance_uid,
            study_uid=study,
            copies=placed.copies,
            degraded=placed.degraded,
        )

    def _is_settled(self, placed: Placed) -> bool:
        """Tell whether staging may let the object go as soon as it is recorded."""
        volumes = [each for each in self._volumes.ordered if each.name in placed.copies]
        return not placed.owed and is_enough(volumes, self._rules())

    async def _release_again(self, name: str, note: Mapping[str, str]) -> None:
        """Release the entry of an object that had its row before, as far as it is not needed.

        The row takes the entry as its own when it had none, so that the object stands on enough
        devices again; with copies enough, or an older entry, this one is let go.
        """
        try:
            rows = await self._catalogue.staged([name])
            if not rows:
                await self._release(name, note)
            for row in rows:
                if may_go(row, self._volumes, self._rules(), self.doubted()):
                    await self._release(name, note)
                    await self._catalogue.unstaged([row.sop_instance_uid])
        except DatabaseError as error:
            log.warning("staging: entry %s is left for the next start: %s", name, error.reason)

    # keeping aside -----------------------------------------------------------------------------

    async def _keep_conflict(
        self, sealed: Sealed, arrival: Arrival, admit: Admit, place: Place
    ) -> Receipt:
        log.warning(
            "object %s: other bytes than those archived under this UID, kept aside in the inbox",
            admit.attributes.instance.sop_instance_uid[:64],
        )
        aside = Aside(CONFLICT, "Another object with this UID is in the archive.", admit.attributes)
        return await self._keep_aside(sealed, arrival, aside, place)

    async def _move_aside(
        self, sealed: Sealed, arrival: Arrival, admit: Admit, placed: Placed, place: Place
    ) -> Receipt:
        """Keep an object whose UID is known with other bytes, though no volume saw the conflict.

        Its UID is known under another study, or the volumes that hold the first object are away.
        What was put under its key was never recorded there and is taken away again, but only
        when it is safe in the inbox: it may have stood there before.
        """
        receipt = await self._keep_conflict(sealed, arrival, admit, place)
        hit("moved-aside")
        for name in placed.copies:
            try:
                await self._volumes.by_name(name).remove(admit.key)
            except VolumeError as error:
                log.warning("volume %s: %s is left over: %s", name, admit.key, error.reason)
        return receipt

    async def _keep_aside(
        self, sealed: Sealed, arrival: Arrival, aside: Aside, place: Place
    ) -> Receipt:
        async with self.turn(inbox_key(sealed.digest)):  # replication and the operator go by it
            return await self._keep_aside_in_turn(sealed, arrival, aside, place)

    async def _keep_aside_in_turn(
        self, sealed: Sealed, arrival: Arrival, aside: Aside, place: Place
    ) -> Receipt:
        key = inbox_key(sealed.digest)
        placed = await self._place_aside(sealed, arrival, aside, place)
        hit("aside-placed")
        self.degraded = placed.degraded
        await self._write_sidecars(
            key, to_sidecar(arrival, sealed.digest, aside.reason, aside.comment), placed
        )
        hit("aside-described")
        settled = self._is_settled(placed)
        item = self._inbox_item(sealed, arrival, aside, replace(
            placed, staged_as=None if settled else placed.staged_as
        ))  # fmt: skip
        outcome = _OUTCOME_OF_REASON.get(aside.reason, StoreOutcome.HELD)
        try:
            async with self._index_time():
                inbox_id = await self._catalogue.inbox_add(item)
        except (DatabaseError, TimeoutError) as error:
            note = to_note(arrival, sealed.digest, aside.reason)
            self._left_to_recovery(placed, note, error)
            return Receipt(
                outcome=outcome,
                sop_instance_uid=arrival.sop_instance_uid,
                study_uid=item.study_instance_uid,
                copies=placed.copies,
                degraded=placed.degraded,
                pending=True,
            )
        hit("aside-recorded")
        note = to_note(arrival, sealed.digest, aside.reason)
        if placed.staged_as and settled:
            await self._release(placed.staged_as, note)
        elif placed.staged_as:
            await self._release_again(placed.staged_as, note)
        if placed.owed:
            self.on_debt()
        self._bus.publish(InstanceHeld(inbox_id=inbox_id, reason=aside.reason))
        return Receipt(
            outcome=outcome,
            sop_instance_uid=arrival.sop_instance_uid,
            study_uid=item.study_instance_uid,
            copies=placed.copies,
            degraded=placed.degraded,
            inbox_id=inbox_id,
        )

    async def _place_aside(
        self, sealed: Sealed, arrival: Arrival, aside: Aside, place: Place
    ) -> Placed:
        """Place it under its digest; whatever else stands there is damaged and makes room."""
        key, note = inbox_key(sealed.digest), to_note(arrival, sealed.digest, aside.reason)
        for _ in self._volumes.ordered:
            try:
                return await place(sealed, key, note)
            except KeyConflict as conflict:
                volume = self._volumes.by_name(conflict.volume)
                try:
                    await displace(volume, key, conflict.existing_digest)
                except VolumeError as error:
                    log.warning("volume %s: %s is damaged: %s", conflict.volume, key, error.reason)
                    break
        if sealed.name is not None:
            self.on_pending(sealed.name, note)
        raise NoDurableStorage("a damaged file stands in the way")

    @staticmethod
    def _inbox_item(
        sealed: Sealed, arrival: Arrival, aside: Aside, placed: Placed
    ) -> records.NewInboxItem:
        item = records.NewInboxItem(
            reason=aside.reason,
            key=inbox_key(sealed.digest),
            digest=sealed.digest,
            size=sealed.size,
            received_at=arrival.received_at,
            origin=arrival.origin,
            sop_class_uid=arrival.sop_class_uid,
            sop_instance_uid=arrival.sop_instance_uid,
            transfer_syntax_uid=arrival.transfer_syntax_uid,
            comment=aside.comment,
            copies=placed.copies,
            owed=placed.owed,
            staged_as=placed.staged_as,
        )
        return item if aside.attributes is None else described(item, aside.attributes)

    async def _write_sidecars(self, key: str, sidecar: bytes, placed: Placed) -> None:
        """Write the sidecar beside each copy; without it a lost index loses only the reason."""
        for name in placed.copies:
            try:
                async with asyncio.timeout(SIDECAR_S):
                    await self._volumes.by_name(name).put_bytes(sidecar_key(key), sidecar)
            except VolumeError as error:
                log.warning("volume %s: no sidecar beside %s: %s", name, key, error.reason)
            except TimeoutError:
                log.warning("volume %s: no sidecar beside %s: it is too slow", name, key)

    # failing -----------------------------------------------------------------------------------

    def _left_to_recovery(self, placed: Placed, note: Mapping[str, str], error: Exception) -> None:
        """Leave an object to its journal entry; raises IndexUnavailable when it has none."""
        if isinstance(error, TimeoutError):
            self._fell_silent()
            error = _silent()
        if placed.staged_as is None:
            raise IndexUnavailable(
                "The index cannot record the object now, and staging does not keep it.",
                next_step=error.next_step if isinstance(error, DatabaseError) else "",
            ) from error
        self._counters.add("ingest_pending_objects")
        self.on_pending(placed.staged_as, note)

    def _index_time(self) -> asyncio.Timeout:
        """Return how long to wait for the index; raises DatabaseUnavailable while it is silent.

        What was asked may be done all the same, a little later; taking the object in again finds
        that.
        """
        if self._index_silent is not None:
            raise _silent()
        return asyncio.timeout(INDEX_S)

    def _fell_silent(self) -> None:
        """Take note that the index does not answer, so that the next images need not wait."""
        if self._index_silent is None:
            log.error("index: no answer for %.0f s; rows are written later", INDEX_S)
            self._index_silent = asyncio.create_task(self._until_it_answers())

    async def _until_it_answers(self) -> None:
        try:
            await self._catalogue.sync()
        except DatabaseError as error:
            log.warning("index: it answers again, but fails: %s", error.reason)
        finally:
            self._index_silent = None

    async def _release(self, name: str, note: Mapping[str, str]) -> None:
        """Let staging forget an object; what cannot be let go now is taken in once more."""
        try:
            # Until its row is durable the journal is what brings it back after a power cut.
            async with self._index_time():
                await self._catalogue.sync()
            await self._staging.release(name)
        except StagingFailed as error:  # seen again when it is back
            log.warning("staging: entry %s is left over: %s", name, error.reason)
        except DatabaseError as error:
            log.warning("staging: entry %s is left over: %s", name, error.reason)
            self.on_pending(name, note)
        except TimeoutError:
            self._fell_silent()
            self.on_pending(name, note)

    @asynccontextmanager
    async def turn(self, uid: str) -> AsyncIterator[None]:
        """Wait until no other object of this UID is being taken in."""
        while (busy := self._turns.get(uid)) is not None:
            await asyncio.shield(busy)  # a waiter that is cancelled must not end the turn
        mine = self._turns[uid] = asyncio.get_running_loop().create_future()
        try:
            yield
        finally:
            del self._turns[uid]
            mine.set_result(None)


def _silent() -> DatabaseUnavailable:
    return DatabaseUnavailable(
        "The index does not answer.", next_step="Check the system disk; it may hang."
    )


_OUTCOME_OF_REASON: Final = {
    CONFLICT: StoreOutcome.CONFLICT_KEPT,
    UNREADABLE: StoreOutcome.UNREADABLE_KEPT,
}


def described(item: records.NewInboxItem, attributes: IndexAttributes) -> records.NewInboxItem:
    """Return the inbox item with what the header of its object says."""
    return replace(
        item,
        study_instance_uid=attributes.study.study_instance_uid,
        series_instance_uid=attributes.series.series_instance_uid,
        patient_name=attributes.patient.patient_name,
        patient_id=attributes.patient.patient_id,
    )
