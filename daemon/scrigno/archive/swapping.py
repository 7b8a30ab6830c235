# SPDX-License-Identifier: Apache-2.0
"""The kept rival becomes the archived object, the archived one the kept rival.

At every moment each of the two stands durably where the index says, so nobody is ever given the
wrong one: first the archived object gets its second name in the inbox, then the index points
there, then its first name is given to the other, then both rows change in one transaction, and
only then the old name of the other goes. After a crash all of it is repeated from the beginning.
"""

import logging
from dataclasses import dataclass, replace
from typing import Final

from scrigno.catalogue.catalogue import Catalogue
from scrigno.catalogue.records import NewInboxItem, NewInstance, StoredInstance
from scrigno.core.attributes import IndexAttributes
from scrigno.core.uids import object_key
from scrigno.volumes.states import ErrorKind, PutOutcome, VolumeError
from scrigno.volumes.volume import Volume, Volumes

from .appraisal import CONFLICT
from .arrivals import Arrival, inbox_key, sidecar_key, to_sidecar
from .deciding import Deciding, Turn
from .decision_files import WRITABLE
from .errors import InboxError, NotNow
from .failpoints import hit
from .kept import as_stored
from .taking import described

log = logging.getLogger(__name__)

COMMENT: Final = "An operator put another object of this UID in its place."


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """Who goes where."""

    archived: StoredInstance  # leaves the archive
    kept: NewInboxItem  # comes into it
    attributes: IndexAttributes  # of the one that comes
    described: NewInboxItem  # the one that leaves, as an item of the inbox
    place: str  # the key that the one that comes gets
    old_place: str  # the key that the one that leaves had


class Swapping:
    """Loop thread only."""

    def __init__(
        self, *, catalogue: Catalogue, volumes: Volumes, deciding: Deciding, turn: Turn
    ) -> None:
        """`deciding` reads headers and removes what is left over."""
        self._catalogue = catalogue
        self._volumes = volumes
        self._deciding = deciding
        self._turn = turn

    async def swap(
        self, *, coming: str, old_place: str, leaves_as: str, known_as: NewInboxItem | None = None
    ) -> None:
        """Put the kept object `coming` (its key) in the place of the archived one of its UID.

        `old_place` is the key that the archived one has, or had before a crash; `leaves_as` is
        how its item is marked, `known_as` what its item was when it stood in the inbox before.
        Raises InboxError, DatabaseError.
        """
        item = await self._catalogue.cases.kept(coming)
        if item is None:
            raise InboxError("The object is not in the inbox any more.")
        uid = item.item.sop_instance_uid
        async with self._turn(uid):
            archived = await self._catalogue.instance(uid)
            if archived is None or archived.digest == item.item.digest:
                raise InboxError(
                    "The archive has no other object with this UID any more.",
                    next_step="Accept this one, or reject it.",
                )
            first, second = sorted((coming, inbox_key(archived.digest)))
            async with self._turn(first), self._turn(second):
                item = await self._catalogue.cases.kept(coming) or item
                plan = await self._plan(archived, item.item, old_place, known_as)
                await self._carry_out(plan, leaves_as)
                await self._deciding.clear(item)

    async def _plan(
        self,
        archived: StoredInstance,
        kept: NewInboxItem,
        old_place: str,
        known_as: NewInboxItem | None,
    ) -> _Plan:
        attributes = await self._deciding.attributes(as_stored(kept), kept, {})
        item = NewInboxItem(
            reason=CONFLICT,
            key=inbox_key(archived.digest),
            digest=archived.digest,
            size=archived.size,
            received_at=archived.received_at,
            origin=await self._catalogue.cases.origin(archived.sop_instance_uid),
            sop_class_uid=archived.sop_class_uid,
            sop_instance_uid=archived.sop_instance_uid,
            study_instance_uid=archived.study_instance_uid,
            series_instance_uid=archived.series_instance_uid,
            transfer_syntax_uid=archived.transfer_syntax_uid,
            comment=COMMENT,
            staged_as=archived.staged_as,
        )
        # One that cannot be read now could not come back either.
        item = described(item, await self._deciding.attributes(archived, item, {}))
        if known_as is not None:
            item = replace(known_as, staged_as=archived.staged_as)
        return _Plan(
            archived=archived,
            kept=kept,
            attributes=attributes,
            described=item,
            place=object_key(
                attributes.study.study_instance_uid,
                attributes.series.series_instance_uid,
                kept.sop_instance_uid,
            ),
            old_place=old_place,
        )

    async def _carry_out(self, plan: _Plan, leaves_as: str) -> None:
        usable = [volume for volume in self._volumes.ordered if volume.state in WRITABLE]
        safe = await self._second_names(plan, usable)
        ready = [volume for volume in usable if await self._has(volume, plan.kept)]
        if not safe or not ready:
            raise NotNow(
                "No volume that holds both objects can be written now.",
                next_step="Try again when the volumes are back.",
            )
        hit("swap-named")
        uid, key = plan.archived.sop_instance_uid, plan.described.key
        await self._catalogue.cases.redirect(uid, key, safe)
        hit("swap-redirected")
        placed = await self._places(plan, usable, safe)
        if not placed:
            await self._back(plan, safe)
            raise NotNow(
                "No volume took the object into the archive.",
                next_step="Try again when the volumes are back.",
            )
        hit("swap-placed")
        names = [volume.name for volume in self._volumes.ordered]
        await self._catalogue.cases.swap(
            archived=NewInstance(
                attributes=plan.attributes,
                key=plan.place,
                digest=plan.kept.digest,
                size=plan.kept.size,
                received_at=plan.kept.received_at,
                origin=plan.kept.origin,
                copies=tuple(placed),
                owed=tuple(name for name in names if name not in placed),
                staged_as=plan.kept.staged_as,
            ),
            kept=replace(
                plan.described,
                copies=tuple(safe),
                owed=tuple(name for name in names if name not in safe),
            ),
            leaving=plan.kept.key,
            decided=leaves_as,
        )
        hit("swap-recorded")

    async def _second_names(self, plan: _Plan, usable: list[Volume]) -> list[str]:
        """Give the archived object its name in the inbox; return where it has it."""
        safe: list[str] = []
        for volume in usable:
            for source in dict.fromkeys((plan.archived.key, plan.old_place)):
                if source == plan.described.key:
                    if await volume_has(volume, source, plan.archived.size):
                        safe.append(volume.name)
                        break
                    continue
                if volume.name not in plan.archived.held_by():
                    continue
                try:
                    done = await volume.copy_within(source, plan.described.key)
                    if done.outcome is PutOutcome.CONFLICT:
                        continue
                    await volume.put_bytes(sidecar_key(plan.described.key), _sidecar(plan))
                except VolumeError as error:
                    log.warning("volume %s: not swapped there: %s", volume.name, error.what)
                    continue
                safe.append(volume.name)
                break
        return safe

    @staticmethod
    async def _has(volume: Volume, kept: NewInboxItem) -> bool:
        return volume.name in kept.copies and await volume_has(volume, kept.key, kept.size)

    async def _places(self, plan: _Plan, usable: list[Volume], safe: list[str]) -> list[str]:
        """Give the first name of the one to the other; return where that was done."""
        placed: list[str] = []
        for volume in usable:
            held = volume.name in plan.archived.held_by()
            if held and volume.name not in safe:
                continue  # its only name there; replication sets it aside later
            try:
                if volume.name in safe:
                    await self._give_up(volume, plan)
                if volume.name not in plan.kept.copies:
                    continue
                done = await volume.copy_within(plan.kept.key, plan.place)
            except VolumeError as error:
                log.warning("volume %s: not swapped there: %s", volume.name, error.what)
                continue
            if done.outcome is not PutOutcome.CONFLICT:
                placed.append(volume.name)
        return placed

    async def _give_up(self, volume: Volume, plan: _Plan) -> None:
        """Remove the first name of the one that leaves, unless the other has it already.

        Only where the second name stands: it is asked for once more, whatever was thought before.
        """
        second = plan.described.key
        if plan.old_place == second or await volume.stat(plan.old_place) is None:
            return
        if not await volume_has(volume, second, plan.archived.size):
            raise VolumeError(volume.name, ErrorKind.MISSING, f"{second} is not there")
        digest, _ = await volume.digest(plan.old_place)
        if digest == plan.archived.digest:
            await volume.remove(plan.old_place)

    async def _back(self, plan: _Plan, safe: list[str]) -> None:
        """Let the archived object have its first name again."""
        back: list[str] = []
        for name in safe:
            try:
                volume = self._volumes.by_name(name)
                done = await volume.copy_within(plan.described.key, plan.old_place)
            except (KeyError, VolumeError):
                continue
            if done.outcome is not PutOutcome.CONFLICT:
                back.append(name)
        if back:
            uid = plan.archived.sop_instance_uid
            await self._catalogue.cases.redirect(uid, plan.old_place, back)
            for name in back:
                await self._catalogue.cases.leave_over(name, plan.described.key)


async def volume_has(volume: Volume, key: str, size: int) -> bool:
    """Tell whether a file of this size stands there; False when that cannot be told."""
    try:
        return await volume.stat(key) == size
    except VolumeError:
        return False


def _sidecar(plan: _Plan) -> bytes:
    item = plan.described
    arrival = Arrival(
        origin=item.origin,
        sop_class_uid=item.sop_class_uid,
        sop_instance_uid=item.sop_instance_uid,
        transfer_syntax_uid=item.transfer_syntax_uid,
        received_at=item.received_at,
    )
    return to_sidecar(arrival, item.digest, item.reason, item.comment)
