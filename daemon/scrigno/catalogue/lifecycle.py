# SPDX-License-Identifier: Apache-2.0
"""Protection, reading times and the trash: the part of the catalogue about how studies end."""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime

from scrigno.db.engine import Database
from scrigno.db.sqlite import Connection

from . import (
    flags,
    retirement,
    trash_leave,
    trash_records,
    trash_return,
    trash_rows,
    trash_work,
    values,
)
from .intake import Intake
from .records import NewInboxItem
from .retirement import CopyCounts, Retiree, RetirementQuery
from .trash_items import (
    Document,
    Placed,
    Protection,
    Removal,
    Returned,
    StudyFlags,
    TrashItem,
    TrashStep,
    TrashTotals,
)


class Lifecycle:
    """Reached as `Catalogue.lifecycle`. Loop thread only; a change is durable on return.

    Every method raises `scrigno.db.errors.DatabaseError` when the index itself fails.
    """

    def __init__(
        self, database: Database, intake: Intake, max_studies: Callable[[], int | None]
    ) -> None:
        """Share the database and the counters of the catalogue."""
        self._db = database
        self._intake = intake
        self._max_studies = max_studies
        self.replaced = 0  # grows whenever objects went or came back, see `Catalogue`

    # flags -------------------------------------------------------------------------------------

    async def protect(self, study_uid: str, *, on: bool, at: datetime) -> Protection:
        """Protect a study from deletion, or no longer."""
        return await self._db.write(
            lambda connection: flags.protect(connection, study_uid, on=on, at=values.stamp(at))
        )

    async def study_flags(self, study_uids: Sequence[str]) -> dict[str, StudyFlags]:
        """Return the flags of each of these studies."""
        uids = list(study_uids)
        return await self._db.read(lambda connection: flags.study_flags(connection, uids))

    async def note_reads(self, reads: Mapping[str, datetime]) -> None:
        """Note when studies were read; once an hour each is enough."""
        stamps = {uid: values.stamp(at) for uid, at in reads.items()}
        await self._db.write(lambda connection: flags.note_reads(connection, stamps))

    async def protections_owed(self, volume: str, limit: int = 100) -> list[Protection]:
        """Return decisions whose file on a volume is missing or older."""
        return await self._db.read(lambda connection: flags.owed(connection, volume, limit))

    async def protection_written(self, volume: str, one: Protection) -> None:
        """Note that the file of a decision stands on a volume."""
        await self._db.write(lambda connection: flags.written(connection, volume, one))

    async def learn_protections(self, found: Sequence[Protection]) -> int:
        """Take decisions over that were read from volumes and are newer; return how many."""
        return await self._db.write(lambda connection: flags.learn(connection, found))

    async def volume_is(self, volume: str, uuid: str) -> bool:
        """Note which disk a volume is; False when that is new, and all small files are owed."""
        return await self._db.write(lambda connection: flags.volume_is(connection, volume, uuid))

    async def meter(self, name: str) -> int:
        """Return a count that only grows."""
        return await self._db.read(lambda connection: trash_rows.meter(connection, name))

    async def add_to_meter(self, name: str, number: int) -> int:
        """Let a count grow; return what it is now."""
        return await self._db.write(lambda connection: flags.add_to_meter(connection, name, number))

    async def set_meter_once(self, name: str, number: int) -> int:
        """Set a number at its first use; return what it is."""
        return await self._db.write(
            lambda connection: flags.set_meter_once(connection, name, number)
        )

    # the trash, for people ---------------------------------------------------------------------

    async def leave(self, removal: Removal) -> TrashItem:
        """Take a study or a part of it out of the archive, in one transaction.

        Raises NothingToDelete, StudyProtected, NotNow.
        """

        def change(connection: Connection) -> TrashItem:
            self._intake.forget()
            number = trash_leave.leave(connection, self._intake.gains, removal)
            item = trash_work.item(connection, number)
            assert item is not None  # noqa: S101 - just made
            return item

        try:
            return await self._db.write(change)
        finally:
            self.replaced += 1

    async def items(self, before: int | None = None, limit: int = 100) -> list[TrashItem]:
        """Return what can be brought back, newest first; `before`: the last number seen."""
        return await self._db.read(lambda connection: trash_work.items(connection, before, limit))

    async def item(self, trash_id: int) -> TrashItem | None:
        """Return one item whatever its state, or None."""
        return await self._db.read(lambda connection: trash_work.item(connection, trash_id))

    async def items_of_study(self, study_uid: str) -> list[TrashItem]:
        """Return the items of a study in the trash, oldest first."""
        return await self._db.read(
            lambda connection: trash_work.items_of_study(connection, study_uid)
        )

    async def totals(self) -> TrashTotals:
        """Return what can still be brought back."""
        return await self._db.read(trash_work.totals)

    async def due(self, now: datetime, days: int) -> list[int]:
        """Return items that are older than their days by every measure of time."""
        return await self._db.read(
            lambda connection: trash_work.due(connection, values.stamp(now), days)
        )

    async def begin_restore(self, trash_id: int, able: Collection[str]) -> None:
        """Let the files of an item go back; raises NotNow."""
        names = list(able)
        await self._db.write(
            lambda connection: trash_work.begin_restore(connection, trash_id, names)
        )

    async def come_back(self, trash_id: int, volumes: Collection[str]) -> Returned | None:
        """Bring the rows back; None when some files are not in place yet.

        Raises NotNow, CapacityReached: then the item is to stay in the trash.
        """
        names = list(volumes)

        def change(connection: Connection) -> Returned | None:
            self._intake.forget()
            return trash_return.come_back(
                connection,
                self._intake.gains,
                trash_id,
                volumes=names,
                max_studies=self._max_studies(),
            )

        try:
            return await self._db.write(change)
        finally:
            self.replaced += 1

    async def back_to_trash(self, trash_id: int) -> None:
        """Let an item stay in the trash that was to come back and cannot."""
        await self._db.write(lambda connection: trash_work.back_to_trash(connection, trash_id))

    async def begin_purge(self, trash_id: int) -> bool:
        """Let the files of an item be removed for good; False when it is not in the trash."""
        return await self._db.write(lambda connection: trash_work.begin_purge(connection, trash_id))

    # the trash, for whoever moves files --------------------------------------------------------

    async def open_items(self, able: Collection[str]) -> list[int]:
        """Return the items for which something can be done on these volumes, oldest first."""
        names = list(able)
        return await self._db.read(lambda connection: trash_work.open_items(connection, names))

    async def owing(
        self, trash_id: int, volumes: Collection[str], after: int = 0, limit: int = 200
    ) -> list[tuple[int, str]]:
        """Return objects (number, SOP Instance UID) that these volumes owe something."""
        names = list(volumes)
        return await self._db.read(
            lambda connection: trash_work.owing(connection, trash_id, names, after, limit)
        )

    async def undecided(
        self, trash_id: int, after: int = 0, limit: int = 200
    ) -> list[tuple[int, str]]:
        """Return objects of an item that have a rival in the archive and are not in the inbox."""
        return await self._db.read(
            lambda connection: trash_work.undecided(connection, trash_id, after, limit)
        )

    async def leaving_objects(self, sop_instance_uid: str) -> list[tuple[int, int]]:
        """Return objects (number, item) of a UID with files on their way into the trash."""
        return await self._db.read(
            lambda connection: trash_work.leaving_objects(connection, sop_instance_uid)
        )

    async def step(self, object_id: int) -> TrashStep | None:
        """Return what decides what is to be done with one object, None when it is gone."""
        return await self._db.read(lambda connection: trash_work.step(connection, object_id))

    async def as_inbox_item(self, object_id: int) -> NewInboxItem | None:
        """Return a trashed object as the inbox keeps it; place and reason are the caller's."""
        return await self._db.read(
            lambda connection: trash_work.as_inbox_item(connection, object_id)
        )

    async def placed(self, one: Placed) -> None:
        """Note where files are now. Not durable by itself: a step can be repeated."""
        await self._db.write_batched(trash_work.placed, one, synced=False)

    async def end(self, trash_id: int, configured: Collection[str]) -> bool:
        """Forget objects with which nothing is left to do; tell whether none is left."""
        names = list(configured)
        return await self._db.write(lambda connection: trash_work.end(connection, trash_id, names))

    async def owing_volumes(self, trash_id: int) -> tuple[str, ...]:
        """Return the volumes that have not yet done what the state of an item asks for."""
        return await self._db.read(
            lambda connection: trash_work.owing_volumes(connection, trash_id)
        )

    async def leaving(self) -> set[str]:
        """Return the studies that have files on their way into the trash."""
        return await self._db.read(trash_work.leaving)

    async def staged_names(self) -> set[str]:
        """Return the names in the staging journal that belong to the trash."""
        return await self._db.read(trash_work.staged_names)

    async def adopt_staged(
        self, sop_instance_uid: str, digest: str, received_at: datetime, name: str
    ) -> bool:
        """Give a journal entry to the deleted object whose arrival it tells of; False: to none."""
        return await self._db.write(
            lambda connection: trash_work.adopt_staged(
                connection, sop_instance_uid, digest, values.stamp(received_at), name
            )
        )

    async def claims(
        self, volume: str, sop_instance_uid: str, key: str, digest: str | None = None
    ) -> bool:
        """Tell whether a file among the studies of a volume belongs to the trash."""
        return await self._db.read(
            lambda connection: trash_work.claims(connection, volume, sop_instance_uid, key, digest)
        )

    # records on volumes ------------------------------------------------------------------------

    async def volumes_behind(self, trash_id: int, volumes: Collection[str]) -> list[str]:
        """Return those of these volumes whose record of an item is missing or older."""
        names = list(volumes)
        return await self._db.read(
            lambda connection: trash_records.volumes_behind(connection, trash_id, names)
        )

    async def document(self, trash_id: int) -> Document | None:
        """Return an item with its rows, as it is written on volumes."""
        return await self._db.read(lambda connection: trash_records.document(connection, trash_id))

    async def recorded(self, trash_id: int, volume: str, revision: int) -> None:
        """Note which revision of a record stands on a volume."""
        await self._db.write(
            lambda connection: trash_records.recorded(connection, trash_id, volume, revision)
        )

    async def records_of(self, trash_id: int) -> list[str]:
        """Return the volumes on which a record of an item stands."""
        return await self._db.read(
            lambda connection: trash_records.records_of(connection, trash_id)
        )

    async def unrecorded(self, trash_id: int, volume: str, configured: Collection[str]) -> bool:
        """Note that an ended item's record is off a volume; forgets the item with the last one."""
        names = list(configured)
        return await self._db.write(
            lambda connection: trash_records.unrecorded(connection, trash_id, volume, names)
        )

    async def known_tokens(self) -> set[str]:
        """Return the names of all items on volumes."""
        return await self._db.read(trash_records.known_tokens)

    async def learn(
        self,
        found: Document,
        places: Mapping[str, Collection[str]],
        volumes: Collection[str],
    ) -> bool:
        """Take an item over that was read from a volume; False when it is known."""
        names = list(volumes)

        def change(connection: Connection) -> bool:
            self._intake.forget()
            return trash_records.learn(connection, self._intake.gains, found, places, names)

        try:
            return await self._db.write(change)
        finally:
            self.replaced += 1

    # retention ---------------------------------------------------------------------------------

    async def retirees(self, query: RetirementQuery) -> list[Retiree]:
        """Return a page of studies that a rule may take, the oldest first."""
        return await self._db.read(lambda connection: retirement.page(connection, query))

    async def copy_counts(self, study_uids: Sequence[str]) -> dict[str, CopyCounts]:
        """Return how the copies of each of these studies stand."""
        uids = list(study_uids)
        return await self._db.read(lambda connection: retirement.copy_counts(connection, uids))

    async def studies_in_inbox(self) -> set[str]:
        """Return the studies of which something waits in the inbox."""
        return await self._db.read(retirement.in_inbox)

    async def retired_since(self, rule: str, since: datetime, ran_since: int) -> int:
        """Return how many studies a rule has put into the trash since then, by either measure."""
        return await self._db.read(
            lambda connection: trash_work.retired_since(
                connection, rule, values.stamp(since), ran_since
            )
        )
