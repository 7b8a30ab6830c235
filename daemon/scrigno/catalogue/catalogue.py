# SPDX-License-Identifier: Apache-2.0
"""The one door of the room: every question to and every change of the catalogue."""

from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final

from scrigno.core.clock import Clock
from scrigno.core.counters import Counters
from scrigno.core.sight import EVERYTHING, Sight
from scrigno.db.engine import Database
from scrigno.db.sqlite import Connection

from . import copies, details, fixity, identity, inbox, maintenance, ordered, standing, studies
from . import within as sight
from .cases import CaseBook
from .find import Portion, Search
from .gains import HELD, MISSING
from .identity import RecoveryMark
from .intake import Intake
from .lifecycle import Lifecycle
from .query import FindQuery
from .records import (
    AddResult,
    Debt,
    FindRow,
    InboxItem,
    NewInboxItem,
    NewInstance,
    StoredInstance,
    StoredKey,
    StudyDetail,
    StudyListQuery,
    StudyPage,
    Totals,
    VolumeTally,
)
from .schema import INDEX_SCHEMA
from .trash_items import StudyFlags

FIND_PAGE: Final = 200  # answers of a query read at once
KEYS_PAGE: Final = 1000
# Objects that one transaction changes: about 20 ms, so that images get in between.
OBJECTS_AT_ONCE: Final = 5000


class Catalogue:
    """Loop thread only. A change is durable on return, an added object after `sync`.

    A caller that is cancelled may have won.

    Every method raises `scrigno.db.errors.DatabaseError` when the index itself fails.
    """

    def __init__(
        self,
        path: Path,
        *,
        counters: Counters,
        clock: Clock,
        max_studies: Callable[[], int | None] = lambda: None,
        readers: int = 3,
    ) -> None:
        """Name the file of the index (`state_dir / "index.db"`); `open` makes or migrates it."""
        self._clock = clock
        self._counters = counters
        self._max_studies = max_studies
        self._intake = Intake()
        self._db = Database(path, INDEX_SCHEMA, readers=readers, hooks=self._intake)
        self.cases = CaseBook(self._db, self._intake)
        self._removed = 0
        self.lifecycle = Lifecycle(self._db, self._intake, max_studies)

    async def open(self) -> None:
        """Open, check and migrate; raises SchemaTooNew, DatabaseDamaged, DatabaseLocked.

        After `close` it may be another file that stands there now.
        """
        self._intake.group_undone()  # nothing is remembered of what the last file held
        await self._db.open()

    @property
    def engine(self) -> Database:
        """The database itself, for whoever keeps it in order; no rows are asked through it."""
        return self._db

    async def close(self) -> None:
        """Finish what is queued and close; idempotent."""
        await self._db.close()

    async def __aenter__(self) -> "Catalogue":
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # taking in ---------------------------------------------------------------------------------

    async def add(self, new: NewInstance) -> AddResult:
        """Make one durable object known; raises CapacityReached when it would be a new study.

        The row outlives any crash of the process. A power cut may take it until `sync`, which is
        to be called before staging lets the object go: its journal is what brings the row back.
        """
        result = await self._db.write_batched(
            self._intake.add_many, (new, self._max_studies()), synced=False
        )
        self._counters.add("catalogue_objects", outcome=result.outcome)
        return result

    async def sync(self) -> None:
        """Make every row that was added before durable."""
        await self._db.sync()

    # asking ------------------------------------------------------------------------------------

    async def instance(
        self, sop_instance_uid: str, *, within: Sight = EVERYTHING
    ) -> StoredInstance | None:
        """Return one object, or None; what is not seen is not there."""
        return await self._db.read(
            lambda connection: details.instance(connection, sop_instance_uid, within)
        )

    async def instances(
        self,
        study_uid: str,
        series_uid: str | None = None,
        sop_uids: Collection[str] | None = None,
        *,
        within: Sight = EVERYTHING,
    ) -> list[StoredInstance]:
        """Return the objects of a study (of one series, of these UIDs), by series and number."""
        wanted = None if sop_uids is None else list(sop_uids)
        return await self._db.read(
            lambda connection: details.instances(connection, study_uid, series_uid, wanted, within)
        )

    async def find(
        self, query: FindQuery, *, within: Sight = EVERYTHING
    ) -> AsyncGenerator[FindRow, None]:
        """Yield the matches that are seen, in the query's order or newest first, page by page.

        Closing the iterator stops it.
        """
        if query.order:
            async for row in self._find_ordered(query, within):
                yield row
            return
        left = query.limit
        skip = query.offset
        before: int | None = None
        while left is None or left > 0:
            portion = await self._db.read(
                partial(_portion, query=query, before=before, within=within)
            )
            numbers = portion.numbers
            for place in range(skip if portion.exact else 0, len(numbers), FIND_PAGE):
                some: list[int] = numbers[place : place + FIND_PAGE].tolist()
                if portion.exact:
                    some = some[:left]
                rows = await self._db.read(
                    partial(_answers, query=query, numbers=some, exact=portion.exact, within=within)
                )
                if not portion.exact:  # only now it is known which of them count
                    rows, skip = rows[skip:], max(0, skip - len(rows))
                for row in rows[:left]:
                    yield row
                if left is not None:
                    left -= len(rows)
                    if left <= 0:
                        return
            if portion.last:
                return
            skip = max(0, skip - len(numbers))
            before = int(numbers[-1])

    async def _find_ordered(self, query: FindQuery, within: Sight) -> AsyncGenerator[FindRow, None]:
        numbers = await self._db.read(partial(_ordered_page, query=query, within=within))
        for place in range(0, len(numbers), FIND_PAGE):
            some = numbers[place : place + FIND_PAGE]
            for row in await self._db.read(
                partial(_answers, query=query, numbers=some, exact=True, within=within)
            ):
                yield row

    async def find_count(self, query: FindQuery, *, within: Sight = EVERYTHING) -> int:
        """Return how many entities match and are seen, limit and offset aside."""
        return await self._db.read(lambda connection: Search(connection, query, within).count())

    async def study_page(self, query: StudyListQuery, *, within: Sight = EVERYTHING) -> StudyPage:
        """Return one page of the study list and its exact total; raises UnknownStudyColumn."""
        return await self._db.read(lambda connection: studies.page(connection, query, within))

    async def study(self, study_uid: str, *, within: Sight = EVERYTHING) -> StudyDetail | None:
        """Return one study with its series and objects, or None; what is not seen is not there."""
        return await self._db.read(lambda connection: details.study(connection, study_uid, within))

    async def seen(
        self, study_uids: Collection[str], *, within: Sight = EVERYTHING
    ) -> frozenset[str]:
        """Return those of these studies that exist and are seen."""
        wanted = tuple(study_uids)
        return await self._db.read(lambda connection: sight.seen(connection, wanted, within))

    async def totals(self) -> Totals:
        """Return what the archive holds, from maintained counters."""

        def query(connection: Connection) -> Totals:
            row = connection.execute(
                "SELECT patients, studies, series, instances, size_bytes FROM totals WHERE id = 1"
            ).fetchone()
            assert row is not None  # noqa: S101 - made with the table
            return Totals(
                patients=row[0],
                studies=row[1],
                series=row[2],
                instances=row[3],
                size_bytes=row[4],
            )

        return await self._db.read(query)

    # copies and debts --------------------------------------------------------------------------

    async def debts(self, volume: str, after: int = 0, limit: int = 100) -> list[Debt]:
        """Return what `volume` still needs, oldest first, inbox objects included."""
        return await self._db.read(
            lambda connection: copies.debts(connection, volume, after, limit)
        )

    async def debt_counts(self) -> dict[str, int]:
        """Return how many objects each volume is owed; volumes with none are left out."""
        return await self._db.read(copies.debt_counts)

    async def volume_tallies(self) -> dict[str, VolumeTally]:
        """Return what each volume holds and is owed."""
        return await self._db.read(copies.tallies)

    async def only_on(self, volume: str) -> int:
        """Return how many objects stand on this volume and on no other."""
        return await self._db.read(lambda connection: standing.only_on(connection, volume))

    async def paid(self, sop_instance_uid: str, volume: str) -> bool:
        """Record that `volume` now holds the object durably; False when it is unknown."""
        return await self._set_state(sop_instance_uid, volume, HELD)

    async def owe(self, sop_instance_uids: Sequence[str], volume: str) -> int:
        """Record that `volume` needs these objects (it does not hold them); return how many."""
        names = list(sop_instance_uids)
        return await self._db.write(
            lambda connection: copies.owe(connection, self._intake.gains, names, volume)
        )

    async def owe_all(self, volume: str) -> int:
        """Record that `volume` needs every object it does not hold (a new, empty disk)."""
        return await self._over_all(copies.owe_range, volume)

    async def copy_missing(self, sop_instance_uid: str, volume: str) -> bool:
        """Record that the copy on `volume` is gone or damaged and is owed again."""
        return await self._set_state(sop_instance_uid, volume, MISSING)

    async def forget_volume(self, volume: str) -> int:
        """Drop every copy record of a volume that left the box; objects stay known."""
        dropped = await self._over_all(copies.forget_range, volume)
        await self._db.write(lambda connection: copies.forget_tally(connection, volume))
        return dropped

    async def volume_uuids(self) -> dict[str, str]:
        """Return the uuid of the disk that each volume was when its copies were recorded."""
        return await self._db.read(identity.uuids)

    async def remember_volume(self, volume: str, uuid: str) -> None:
        """Record which disk the copies of a volume are on."""
        await self._db.write(lambda connection: identity.remember(connection, volume, uuid))

    async def volume_recoveries(self) -> dict[str, RecoveryMark]:
        """Return the volumes that fell and are to be caught up."""
        return await self._db.read(identity.recoveries)

    async def begin_volume_recovery(self, volume: str, since: datetime) -> None:
        """Record that copies on `volume` of objects that came from `since` on are doubted."""
        await self._db.write(lambda connection: identity.begin_recovery(connection, volume, since))

    async def note_volume_checked(self, volume: str, checked: int) -> None:
        """Record up to which object the doubted copies were read back."""
        await self._db.write(lambda connection: identity.note_checked(connection, volume, checked))

    async def end_volume_recovery(self, volume: str) -> None:
        """Record that a volume is caught up."""
        await self._db.write(lambda connection: identity.end_recovery(connection, volume))

    async def held_since(
        self, volume: str, since: datetime, after: int, limit: int = 100
    ) -> list[tuple[int, StoredKey]]:
        """Return numbers and objects that came since then and that `volume` is said to hold."""
        return await self._db.read(
            lambda connection: identity.held_since(connection, volume, since, after, limit)
        )

    async def newest_object(self) -> int:
        """Return the number of the newest archived object, as `Debt.debt_id` counts."""
        return await self._db.read(identity.newest_object)

    async def owed_to(self, volume: str) -> tuple[int, int]:
        """Return how many objects and bytes a volume is owed."""
        return await self._db.read(lambda connection: identity.owed_to(connection, volume))

    async def verified(self, sop_instance_uid: str, volume: str, at: datetime) -> bool:
        """Record that the copy was read back and its digest was right."""
        return await self._db.write(
            lambda connection: copies.verified(connection, sop_instance_uid, volume, at)
        )

    async def staged(self, names: Collection[str] | None = None) -> list[StoredKey]:
        """Return the objects that still stand in staging under these names (None: all of them)."""
        wanted = None if names is None else list(names)
        return await self._db.read(lambda connection: copies.staged(connection, wanted))

    async def unstaged(self, sop_instance_uids: Sequence[str]) -> None:
        """Record that staging let these objects go."""
        names = list(sop_instance_uids)
        await self._db.write(lambda connection: copies.unstaged(connection, names))

    async def all_keys(self, after: int = 0) -> AsyncGenerator[StoredKey, None]:
        """Yield every known object in the order it came, a page at a time."""
        while found := await self._db.read(
            partial(copies.stored_after, after=after, limit=KEYS_PAGE)
        ):
            for key in found:
                yield key
            after = found[-1].instance_id

    # fixity ------------------------------------------------------------------------------------

    async def copies_verified(self, marks: Sequence[fixity.Mark]) -> int:
        """Record copies that were read back and were right, in one transaction; return how many."""
        return await self._db.write(lambda connection: fixity.mark(connection, marks))

    async def study_verified(self, study_uids: Sequence[str]) -> dict[str, fixity.Verified]:
        """Return when each study was verified, and how many of its copies never were."""
        uids = list(study_uids)
        return await self._db.read(lambda connection: fixity.study_verified(connection, uids))

    async def scrubs(self) -> dict[str, fixity.ScrubRow]:
        """Return how far the scrub of each volume has come."""
        return await self._db.read(fixity.scrub_rows)

    async def save_scrub(self, row: fixity.ScrubRow, marks: Sequence[fixity.Mark] = ()) -> None:
        """Keep how far a scrub has come, and what it found right, in one transaction."""
        await self._db.write(lambda connection: fixity.save_scrub(connection, row, marks))

    async def held_after(self, volume: str, after: int, limit: int) -> list[StoredKey]:
        """Return what `volume` holds after the object numbered `after`, the inbox last."""
        return await self._db.read(
            lambda connection: fixity.held_after(connection, volume, after, limit)
        )

    async def stored_key(self, name: str) -> StoredKey | None:
        """Return one object of the archive (by UID) or the inbox (by key), or None."""
        return await self._db.read(lambda connection: fixity.stored_key(connection, name))

    async def known_keys(self, keys: Collection[str]) -> set[str]:
        """Return those of these keys that the UIDs of archived objects give."""
        return await self._db.read(lambda connection: fixity.known_keys(connection, keys))

    async def note_lost(self, lost: fixity.LostObject) -> bool:
        """Record that no good copy of an object could be read; tell whether that is new."""
        return await self._db.write(lambda connection: fixity.note_lost(connection, lost))

    async def found_good(self, names: Collection[str]) -> None:
        """Take objects off the list of those without a good copy."""
        await self._db.write(lambda connection: fixity.found_good(connection, names))

    async def lost_objects(self, after: str = "", limit: int = 1000) -> list[fixity.LostObject]:
        """Return objects without a good copy, by name, and the study each belongs to."""
        return await self._db.read(lambda connection: fixity.lost_objects(connection, after, limit))

    async def lost_counts(self) -> dict[fixity.LostKind, int]:
        """Return how many objects have no good copy, by kind."""
        return await self._db.read(fixity.lost_counts)

    async def save_aliens(self, files: Sequence[fixity.AlienFile]) -> None:
        """Record files that no row names."""
        await self._db.write(lambda connection: fixity.save_aliens(connection, files))

    async def forget_aliens(self, volume: str) -> None:
        """Begin the list of files that no row names anew for one volume."""
        await self._db.write(lambda connection: fixity.forget_aliens(connection, volume))

    async def aliens(self, limit: int = 1000) -> list[fixity.AlienFile]:
        """Return files that no row names, as the last passes saw them."""
        return await self._db.read(lambda connection: fixity.aliens(connection, limit))

    async def save_set_aside(self, files: Sequence[fixity.SetAside]) -> None:
        """Record files that were set aside."""
        await self._db.write(lambda connection: fixity.save_set_aside(connection, files))

    async def forget_set_aside(self, files: Sequence[tuple[str, str]]) -> None:
        """Forget files (volume, key) that were set aside and are gone."""
        await self._db.write(lambda connection: fixity.forget_set_aside(connection, files))

    async def set_aside(
        self, volume: str | None = None, limit: int = 10_000
    ) -> list[fixity.SetAside]:
        """Return what was set aside, the newest first, on one volume or on all."""
        return await self._db.read(lambda connection: fixity.set_aside(connection, volume, limit))

    # inbox -------------------------------------------------------------------------------------

    async def inbox_add(self, item: NewInboxItem) -> int:
        """Keep an object aside; return its number. The same key again returns the same number."""
        return await self._db.write(
            lambda connection: inbox.add(connection, self._intake.gains, item)
        )

    async def inbox_list(self, after: int = 0, limit: int = 100) -> list[InboxItem]:
        """Return what is kept aside, oldest first."""
        return await self._db.read(lambda connection: inbox.page(connection, after, limit))

    async def inbox_get(self, inbox_id: int) -> InboxItem | None:
        """Return one kept object, or None."""
        return await self._db.read(lambda connection: inbox.get(connection, inbox_id))

    async def inbox_count(self) -> dict[str, int]:
        """Return how many objects are kept aside, by reason."""
        return await self._db.read(inbox.counts)

    async def inbox_remove(self, inbox_id: int) -> bool:
        """Forget a kept object (its file is the caller's affair); False when it was unknown."""
        return await self._db.write(
            lambda connection: inbox.remove(connection, self._intake.gains, inbox_id)
        )

    # flags -------------------------------------------------------------------------------------

    async def protect(self, study_uid: str, *, on: bool) -> None:
        """Protect a study from deletion, or no longer; the volumes are told by `archive.trash`."""
        await self.lifecycle.protect(study_uid, on=on, at=self._clock.now())

    async def study_flags(self, study_uids: Sequence[str]) -> dict[str, StudyFlags]:
        """Return protection and reading time of each of these studies."""
        return await self.lifecycle.study_flags(study_uids)

    # care --------------------------------------------------------------------------------------

    async def remove(self, sop_instance_uids: Sequence[str]) -> int:
        """Forget objects, and the series, studies and patients left empty; return how many."""
        names = list(sop_instance_uids)

        def change(connection: Connection) -> int:
            self._intake.forget()
            return maintenance.remove(connection, self._intake.gains, names)

        try:
            return await self._db.write(change)
        finally:
            self._removed += 1

    @property
    def replaced_objects(self) -> int:
        """Grows whenever an object went or another took its place.

        Whoever read what is known of an object before it had the object's turn compares this.
        """
        return self._removed + self.cases.replaced + self.lifecycle.replaced

    async def forget_all(self) -> None:
        """Forget every patient, study, series and object (rebuild follows); the inbox too."""

        def change(connection: Connection) -> None:
            maintenance.forget_all(connection)
            self._intake.group_undone()  # what the open transaction has gained is gone with it

        await self._db.write(change)

    async def check(self) -> list[str]:
        """Run the engine's integrity check and compare counters; return what is wrong in words."""
        found = await self._db.check()
        return found or await self._db.read(maintenance.differences)

    async def backup(self, path: Path) -> None:
        """Write a consistent copy of the index to `path` while it is in use."""
        await self._db.backup(path)

    async def _set_state(self, name: str, volume: str, state: int) -> bool:
        def change(connection: Connection) -> bool:
            if state == HELD:  # it was copied from a good one
                fixity.found_good(connection, (name,))
            return copies.change_state(connection, self._intake.gains, name, volume, state)

        return await self._db.write(change)

    async def _over_all(self, change: Callable[..., int], volume: str) -> int:
        """Run `change` over all objects in short transactions, so that images get in between."""
        changed = 0
        for shelf in copies.SHELVES:
            last = await self._db.read(partial(copies.last_number, shelf=shelf))
            for after in range(0, last, OBJECTS_AT_ONCE):
                until = min(after + OBJECTS_AT_ONCE, last)
                changed += await self._db.write(
                    partial(
                        change,
                        gains=self._intake.gains,
                        volume=volume,
                        shelf=shelf,
                        after=after,
                        last=until,
                    )
                )
        return changed


def _portion(
    connection: Connection, query: FindQuery, before: int | None, within: Sight
) -> Portion:
    return Search(connection, query, within).portion(before)


def _ordered_page(connection: Connection, query: FindQuery, within: Sight) -> list[int]:
    return ordered.page(connection, Search(connection, query, within), query)


def _answers(
    connection: Connection,
    query: FindQuery,
    numbers: list[int],
    exact: bool,  # noqa: FBT001 - given by keyword through partial
    within: Sight,
) -> list[FindRow]:
    return Search(connection, query, within).answers(numbers, exact=exact)
