# SPDX-License-Identifier: Apache-2.0
"""What is done with one trashed object on one volume. Every step can be repeated after a crash.

A file goes from the studies to the trash and back by one rename, so it never stands under both
names. That is what tells the two apart that look alike after a crash: with a file in the trash,
what stands among the studies came after the deletion; without one, it is the one to be moved.
"""

import logging
from typing import Final

from scrigno.catalogue.catalogue import Catalogue
from scrigno.catalogue.gains import HELD
from scrigno.catalogue.records import StoredInstance
from scrigno.catalogue.trash_items import Heir, Place, Placed, TrashStep
from scrigno.catalogue.values import moment
from scrigno.volumes.states import ErrorKind, VolumeError
from scrigno.volumes.volume import Volume

from .failpoints import hit
from .quarantine import displace

log = logging.getLogger(__name__)

_NOT_THERE: Final = ErrorKind.MISSING


class Moves:
    """Moves files of trashed objects; the caller holds the turn of the SOP Instance UID.

    Each method answers where the file is on the volume then, and raises VolumeError, DatabaseError.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        """`catalogue` is told when a copy of an archived object comes or goes by a move."""
        self._catalogue = catalogue

    async def to_trash(self, volume: Volume, step: TrashStep) -> Place:
        """Bring the file into the trash, unless what stands in its place came after it."""
        rival = _in_its_place(step)
        if rival is not None and rival.digest == step.digest:
            return await self._second_name(volume, step)
        certain = rival is None and not step.rivals and _is_there(step, volume)
        theirs = volume.name in step.claimed
        if not certain and (theirs or not await _is_it(volume, step.key, step.digest)):
            return await _where(volume, step)
        try:
            moved = await volume.move_within(step.key, step.trash_key)
        except VolumeError as error:
            if error.kind is not _NOT_THERE:
                raise
            return await _where(volume, step)
        hit("trash-moved")
        if not moved and await _is_it(volume, step.key, step.digest):
            await volume.remove(step.key)  # copied once more by somebody who did not know yet
        if rival is not None and volume.name in rival.held_by():
            await self._catalogue.copy_missing(step.sop_instance_uid, volume.name)
        return Place.TRASH

    async def _second_name(self, volume: Volume, step: TrashStep) -> Place:
        """Let the trash and the study that was sent again share the file."""
        try:
            await volume.copy_within(step.key, step.trash_key)
        except VolumeError as error:
            if error.kind is not _NOT_THERE:
                raise
            return await _where(volume, step)
        return Place.TRASH

    async def to_archive(self, volume: Volume, step: TrashStep) -> Place:
        """Bring the file back among the studies."""
        if _in_its_place(step) is not None:
            return await self._to_live(volume, step)
        if _is_there(step, volume) and await self._stands(volume, step):
            return Place.ARCHIVE
        for _ in range(2):
            try:
                if await volume.move_within(step.trash_key, step.key):
                    hit("restore-moved")
                    return Place.ARCHIVE
            except VolumeError as error:
                if error.kind is not _NOT_THERE:
                    raise
                there = await _is_it(volume, step.key, step.digest)
                return Place.ARCHIVE if there else Place.NOWHERE
            if await _is_it(volume, step.key, step.digest):
                await volume.remove(step.trash_key)
                return Place.ARCHIVE
            standing, _ = await volume.digest(step.key)
            await displace(volume, step.key, standing)
        raise VolumeError(volume.name, ErrorKind.IO, f"{step.key} is taken again and again")

    async def _stands(self, volume: Volume, step: TrashStep) -> bool:
        """Tell whether a file that was never moved is where it was."""
        if step.rivals:
            return await _is_it(volume, step.key, step.digest)
        return await volume.stat(step.key) == step.size

    async def _to_live(self, volume: Volume, step: TrashStep) -> Place:
        """Give the file to the archived object of the same bytes, where that needs it."""
        live = step.live
        if live is None or live.digest != step.digest:
            await volume.remove(step.trash_key)
            return Place.NOWHERE
        try:
            moved = await volume.move_within(step.trash_key, live.key)
        except VolumeError as error:
            if error.kind is not _NOT_THERE:
                raise
            return await self._never_moved(volume, step, live)
        if not moved:  # it has its own
            await volume.remove(step.trash_key)
            return Place.NOWHERE
        await self._count(volume, step)
        return Place.ARCHIVE

    async def _never_moved(self, volume: Volume, step: TrashStep, live: StoredInstance) -> Place:
        """Look whether the copy is there that the archive counts because it never was moved."""
        if volume.name in live.held_by() and await volume.stat(live.key) is None:
            await self._catalogue.copy_missing(step.sop_instance_uid, volume.name)
        return Place.NOWHERE

    async def _count(self, volume: Volume, step: TrashStep) -> None:
        uid, copy = step.sop_instance_uid, step.copies[volume.name]
        await self._catalogue.paid(uid, volume.name)
        if copy.was == HELD and copy.verified_at is not None:
            await self._catalogue.verified(uid, volume.name, moment(copy.verified_at))

    async def late(self, volume: Volume, step: TrashStep) -> Place:
        """Bring a file back whose object came back while the volume was away.

        When the object was deleted again since, the file serves that deletion: it may be the last.
        """
        live = step.live
        if step.heir is not None and (live is None or live.digest != step.digest):
            return await self._to_heir(volume, step, step.heir)
        return await self._to_live(volume, step)

    async def _to_heir(self, volume: Volume, step: TrashStep, heir: Heir) -> Place:
        """Give the file to the newer deletion of the same bytes."""
        for _ in range(2):
            try:
                if await volume.move_within(step.trash_key, heir.trash_key):
                    hit("trash-inherited")
                    break
            except VolumeError as error:
                if error.kind is not _NOT_THERE:
                    raise
                if await volume.stat(heir.trash_key) is None:
                    return Place.NOWHERE  # it was never moved, the newer one looks for it itself
                break  # moved before a crash
            if await _is_it(volume, heir.trash_key, step.digest):
                await volume.remove(step.trash_key)
                break
            standing, _ = await volume.digest(heir.trash_key)
            await displace(volume, heir.trash_key, standing)
        else:
            raise VolumeError(volume.name, ErrorKind.IO, f"{heir.trash_key} is taken again")
        there = {volume.name: Place.TRASH}
        await self._catalogue.lifecycle.placed(Placed(object_id=heir.object_id, places=there))
        return Place.NOWHERE

    async def away_for_good(self, volume: Volume, step: TrashStep) -> Place:
        """Remove the file, wherever it stands."""
        await volume.remove(step.trash_key)
        hit("purge-removed")
        live = _in_its_place(step)
        wanted = step.digest in step.rivals or (live is not None and live.digest == step.digest)
        never_moved = step.copies[volume.name].place is Place.ARCHIVE
        if never_moved and not wanted and await _is_it(volume, step.key, step.digest):
            await volume.remove(step.key)
        return Place.NOWHERE


def _in_its_place(step: TrashStep) -> StoredInstance | None:
    """Return the archived object that lives where this one lived."""
    return step.live if step.live is not None and step.live.key == step.key else None


def _is_there(step: TrashStep, volume: Volume) -> bool:
    copy = step.copies.get(volume.name)
    return copy is not None and copy.place is Place.ARCHIVE


async def _is_it(volume: Volume, key: str, digest: str) -> bool:
    """Tell whether these bytes stand at `key`; reads them."""
    if await volume.stat(key) is None:
        return False
    found, _ = await volume.digest(key)
    return found == digest


async def _where(volume: Volume, step: TrashStep) -> Place:
    there = await volume.stat(step.trash_key) is not None
    return Place.TRASH if there else Place.NOWHERE
