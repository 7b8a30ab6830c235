# SPDX-License-Identifier: Apache-2.0
"""Moves the files of the trash to where its items say, on every volume, whenever that is there.

An object is looked at on all volumes that are there in one turn of its UID, and what is away then
is looked at when it returns. So nobody who still believes in the object (a copy under way, a
verification) can bring a file back among the studies from a volume that was passed over.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Final

from scrigno.catalogue.catalogue import Catalogue
from scrigno.catalogue.records import CapacityReached, NewInboxItem
from scrigno.catalogue.trash_items import (
    NotNow,
    Place,
    Placed,
    Returned,
    TrashItem,
    TrashState,
    TrashStep,
    record_key,
)
from scrigno.core.counters import Counters
from scrigno.core.events import EventBus, InstanceHeld
from scrigno.volumes.placement import KeyConflict, Placement
from scrigno.volumes.staging import Staging, StagingFailed, StagingFull
from scrigno.volumes.states import ErrorKind, VolumeError, VolumeState
from scrigno.volumes.volume import Volume, Volumes

from .appraisal import CONFLICT
from .arrivals import Arrival, inbox_key, sidecar_key, to_sidecar
from .failpoints import hit
from .trash_moves import Moves
from .trash_notes import TrashNotes, able

log = logging.getLogger(__name__)

AT_ONCE: Final = 4  # objects, when no image is arriving
BUSY_PAUSE_S: Final = 0.02  # between objects while images arrive: they come first
RIVAL: Final = "Restored from the trash; the archive has other bytes under its UID by now."


class TrashMover:
    """Works off what volumes owe the trash. Loop thread only."""

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        volumes: Volumes,
        staging: Staging,
        placement: Placement,
        bus: EventBus,
        counters: Counters,
        turn: Callable[[str], AbstractAsyncContextManager[None]],
        is_busy: Callable[[], bool],
    ) -> None:
        """`turn` keeps others off one object, `is_busy` tells whether images are arriving."""
        self._catalogue = catalogue
        self._book = catalogue.lifecycle
        self._volumes = volumes
        self._staging = staging
        self._placement = placement
        self._bus = bus
        self._counters = counters
        self._turn = turn
        self._is_busy = is_busy
        self._moves = Moves(catalogue)
        self.notes = TrashNotes(catalogue=catalogue, volumes=volumes)
        self._items: dict[int, asyncio.Lock] = {}  # one at a time works on an item
        self.failure = ""  # what went wrong last on a volume that should work; '' when all is well
        self.on_returned: Callable[[TrashItem, Returned], None] = lambda item, returned: None

    @property
    def _names(self) -> list[str]:
        return [volume.name for volume in self._volumes.ordered]

    async def round(self) -> None:
        """Do what can be done now; raises DatabaseError."""
        self.failure = ""
        volumes = able(self._volumes)
        await self.notes.look_at_disks(volumes)
        for volume in volumes:
            try:
                await self.notes.write_flags(volume)
            except VolumeError as error:
                self._failed(volume, error)
        for trash_id in await self._book.open_items([volume.name for volume in volumes]):
            await self.item(trash_id)

    async def item(self, trash_id: int) -> Returned | None:
        """Do what can be done now with one item; what came back when it does.

        Raises DatabaseError; NotNow or CapacityReached when it cannot come back after all: it is
        in the trash again then.
        """
        lock = self._items.setdefault(trash_id, asyncio.Lock())
        try:
            async with lock:
                return await self._item(trash_id)
        finally:
            if not lock.locked():
                self._items.pop(trash_id, None)

    async def _item(self, trash_id: int) -> Returned | None:
        item = await self._book.item(trash_id)
        if item is None:
            return None
        volumes = able(self._volumes)
        returned: Returned | None = None
        if item.state is not TrashState.RESTORED or await self._book.owing_volumes(trash_id):
            volumes = await self.notes.write_record(trash_id, volumes)
            hit("trash-recorded")
            await self._objects(trash_id, volumes)
        if item.state is TrashState.RESTORING:
            returned = await self._come_back(item, volumes)
            if returned is not None and await self._book.owing_volumes(trash_id):
                # A lost index must not bring it into the trash again from a volume that is away.
                await self.notes.write_record(trash_id, volumes)
        await self._end(item)
        return returned

    # objects -----------------------------------------------------------------------------------

    async def _objects(self, trash_id: int, volumes: list[Volume]) -> None:
        ready = {volume.name: volume for volume in volumes}
        after = 0
        while found := await self._book.owing(trash_id, list(ready), after):
            await self._batch(found, ready)
            after = found[-1][0]

    async def _batch(self, found: list[tuple[int, str]], ready: dict[str, Volume]) -> None:
        waiting = iter(found)

        async def worker(*, first: bool) -> None:
            for number, uid in waiting:
                async with self._turn(uid):
                    await self.bring(number, ready)
                while self._is_busy():
                    await asyncio.sleep(BUSY_PAUSE_S)
                    if first:
                        break

        async with asyncio.TaskGroup() as group:
            for number in range(AT_ONCE):
                group.create_task(worker(first=number == 0))

    async def bring(self, number: int, ready: dict[str, Volume]) -> None:
        """Bring one object where its item says; the caller holds the turn of its UID.

        A volume that fails is taken out of `ready`: it owes what it did not do. Raises
        DatabaseError.
        """
        step = await self._book.step(number)
        if step is None:
            return
        if step.state is TrashState.RESTORING and _has_rival(step):
            await self._to_inbox(step, ready)
            return
        owing = [
            volume
            for name, volume in tuple(ready.items())
            if name in step.copies and step.copies[name].owes
        ]
        places = await self._move(step, owing, ready)
        to_check: frozenset[str] = frozenset()
        if step.state is TrashState.TRASHED and Place.TRASH in places.values():
            # Until now it could be copied from there to volumes that were looked at before.
            done = set(places)
            others = [ready[name] for name in step.copies if name in ready and name not in done]
            places |= await self._move(step, others, ready)
            to_check = frozenset(set(step.copies) - set(places))
        unstaged = await self._unstage(step, places, ready)
        await self._book.placed(
            Placed(object_id=number, places=places, to_check=to_check, unstaged=unstaged)
        )
        self._counters.add("trash_moves", state=step.state.name.lower())

    async def _move(
        self, step: TrashStep, volumes: list[Volume], ready: dict[str, Volume]
    ) -> dict[str, Place]:
        """Move on these volumes side by side; return where the file is on those that did."""
        act = {
            TrashState.TRASHED: self._moves.to_trash,
            TrashState.RESTORING: self._moves.to_archive,
            TrashState.RESTORED: self._moves.late,
            TrashState.PURGING: self._moves.away_for_good,
        }[step.state]

        async def on(volume: Volume) -> Place | None:
            try:
                return await act(volume, step)
            except VolumeError as error:
                self._failed(volume, error)
                ready.pop(volume.name, None)
                return None

        places = await asyncio.gather(*(on(volume) for volume in volumes))
        return {
            volume.name: place
            for volume, place in zip(volumes, places, strict=True)
            if place is not None
        }

    def _failed(self, volume: Volume, error: VolumeError) -> None:
        log.warning("volume %s: the trash waits: %s", volume.name, error.reason)
        self._counters.add("trash_deferred", volume=volume.name)
        if volume.state is VolumeState.ONLINE:
            self.failure = error.reason

    # staging -----------------------------------------------------------------------------------

    async def _unstage(
        self, step: TrashStep, places: dict[str, Place], ready: dict[str, Volume]
    ) -> bool:
        """Let staging go of an object that needs it no more; tell whether it did.

        One that stands nowhere else is first brought into the trash of a volume.
        """
        if step.staged_as is None or step.state is TrashState.RESTORING:
            return False
        if step.state is TrashState.TRASHED and Place.TRASH not in places.values():
            on_volumes = any(
                copy.place is Place.TRASH and not copy.owes
                for name, copy in step.copies.items()
                if name in ready and name not in places
            )
            if not on_volumes and not await self._from_staging(step, places, ready):
                return False
        try:
            await self._staging.release(step.staged_as)
        except StagingFailed as error:
            log.warning("staging: entry %s is left over: %s", step.staged_as, error.reason)
            return False
        hit("trash-released")
        return True

    async def _from_staging(
        self, step: TrashStep, places: dict[str, Place], ready: dict[str, Volume]
    ) -> bool:
        """Bring an object from staging into the trash of a volume; True when that is done."""
        for name, volume in tuple(ready.items()):
            if volume.state is not VolumeState.ONLINE:
                continue
            try:
                await self._placement.replicate(
                    step.staged_as, step.trash_key, step.digest, sources=(), target=name
                )
            except VolumeError as error:
                self._failed(volume, error)
                continue
            except StagingFailed as error:
                if isinstance(error.__cause__, FileNotFoundError):
                    return True  # its entry is gone; what volumes have is all there is
                log.warning("staging: entry %s waits: %s", step.staged_as, error.reason)
                return False  # it may be the last copy, and be read again later
            except (StagingFull, KeyConflict) as error:
                log.warning("volume %s: %s: %s", name, step.trash_key, error.reason)
                continue
            places[name] = Place.TRASH
            return True
        return False

    # coming back -------------------------------------------------------------------------------

    async def _come_back(self, item: TrashItem, volumes: list[Volume]) -> Returned | None:
        """Let the rows follow the files; None when some files are not there yet."""
        ready = {volume.name: volume for volume in volumes}
        after = 0
        while found := await self._book.undecided(item.trash_id, after):
            for number, uid in found:
                async with self._turn(uid):
                    await self.bring(number, ready)
            after = found[-1][0]
        try:
            returned = await self._book.come_back(item.trash_id, self._names)
        except (NotNow, CapacityReached):
            await self._book.back_to_trash(item.trash_id)
            raise
        hit("restore-rows")
        if returned is not None:
            self.on_returned(item, returned)
        return returned

    async def _to_inbox(self, step: TrashStep, ready: dict[str, Volume]) -> None:
        """Keep an object that has a rival in the archive aside, as any conflict is."""
        item = await self._book.as_inbox_item(step.object_id)
        if item is None or step.kept:
            return
        key = inbox_key(step.digest)
        async with self._turn(key):
            held = [
                name
                for name, volume in tuple(ready.items())
                if name in step.copies and await self._aside(volume, step, key)
            ]
            if not held and step.staged_as is not None:
                held = await self._aside_from_staging(step, key, ready)
            if not held:
                return
            item = replace(
                item,
                reason=CONFLICT,
                key=key,
                comment=RIVAL,
                copies=tuple(held),
                owed=tuple(name for name in self._names if name not in held),
            )
            await self._describe(item, held)
            number = await self._catalogue.inbox_add(item)
        places = dict.fromkeys(held, Place.NOWHERE)
        await self._book.placed(Placed(object_id=step.object_id, places=places, kept=True))
        self._bus.publish(InstanceHeld(inbox_id=number, reason=CONFLICT))

    async def _aside(self, volume: Volume, step: TrashStep, key: str) -> bool:
        """Move a file into the inbox of a volume; True when it stands there."""
        try:
            in_trash = step.copies[volume.name].place is Place.TRASH
            source = step.trash_key
            if not in_trash:  # it was never moved; what stands there may be the rival's
                if await volume.stat(step.key) is None:
                    return await volume.stat(key) is not None
                if (await volume.digest(step.key))[0] != step.digest:
                    return await volume.stat(key) is not None
                source = step.key
            if not await volume.move_within(source, key):
                await volume.remove(source)
        except VolumeError as error:
            if error.kind is ErrorKind.MISSING:
                return await volume.stat(key) is not None
            self._failed(volume, error)
            return False
        return True

    async def _aside_from_staging(
        self, step: TrashStep, key: str, ready: dict[str, Volume]
    ) -> list[str]:
        for name in ready:
            try:
                await self._placement.replicate(
                    step.staged_as, key, step.digest, sources=(), target=name
                )
            except (VolumeError, StagingFull, StagingFailed, KeyConflict) as error:
                log.warning("volume %s: %s: %s", name, key, error.reason)
                continue
            return [name]
        return []

    async def _describe(self, item: NewInboxItem, held: list[str]) -> None:
        arrival = Arrival(
            origin=item.origin,
            sop_class_uid=item.sop_class_uid,
            sop_instance_uid=item.sop_instance_uid,
            transfer_syntax_uid=item.transfer_syntax_uid,
            received_at=item.received_at,
        )
        sidecar = to_sidecar(arrival, item.digest, item.reason, item.comment)
        for name in held:
            try:
                await self._volumes.by_name(name).put_bytes(sidecar_key(item.key), sidecar)
            except (KeyError, VolumeError) as error:
                log.warning("volume %s: no sidecar beside %s: %s", name, item.key, error)

    # ending ------------------------------------------------------------------------------------

    async def _end(self, item: TrashItem) -> None:
        """Forget an item with which nothing is left to do, its records first."""
        if not await self._book.end(item.trash_id, self._names):
            return
        hit("trash-ended")
        volumes = {volume.name: volume for volume in able(self._volumes)}
        for name in await self._book.records_of(item.trash_id) or [""]:
            if name in self._names:
                if name not in volumes:
                    continue  # it still owes this
                try:
                    await volumes[name].remove(record_key(item.token))
                except VolumeError as error:
                    self._failed(volumes[name], error)
                    continue
            if await self._book.unrecorded(item.trash_id, name, self._names):
                return


def _has_rival(step: TrashStep) -> bool:
    """Tell whether the archive has other bytes under its UID."""
    return step.live is not None and step.live.digest != step.digest
