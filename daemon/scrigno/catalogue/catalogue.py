# SPDX-License-Identifier: Apache-2.0
"""The one door of the room: every question to and every change of the catalogue."""

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from datetime import datetime
from pathlib import Path

from scrigno.core.clock import Clock
from scrigno.core.counters import Counters

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


class Catalogue:
    """Loop thread only. A change is durable on return; a caller that is cancelled may have won.

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
        raise NotImplementedError

    async def open(self) -> None:
        """Open, check and migrate; raises SchemaTooNew, DatabaseDamaged, DatabaseLocked."""

    async def close(self) -> None:
        """Finish what is queued and close; idempotent."""

    async def __aenter__(self) -> "Catalogue":
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # taking in ---------------------------------------------------------------------------------

    async def add(self, new: NewInstance) -> AddResult:
        """Make one durable object known; raises CapacityReached when it would be a new study."""
        raise NotImplementedError

    # asking ------------------------------------------------------------------------------------

    async def instance(self, sop_instance_uid: str) -> StoredInstance | None:
        """Return one object, or None."""
        raise NotImplementedError

    async def instances(
        self,
        study_uid: str,
        series_uid: str | None = None,
        sop_uids: Collection[str] | None = None,
    ) -> list[StoredInstance]:
        """Return the objects of a study (of one series, of these UIDs), by series and number."""
        raise NotImplementedError

    def find(self, query: FindQuery) -> AsyncIterator[FindRow]:
        """Yield the matches, newest first, a page at a time; closing the iterator stops it."""
        raise NotImplementedError

    async def find_count(self, query: FindQuery) -> int:
        """Return how many entities match, limit and offset aside."""
        raise NotImplementedError

    async def study_page(self, query: StudyListQuery) -> StudyPage:
        """Return one page of the study list and its exact total; raises UnknownStudyColumn."""
        raise NotImplementedError

    async def study(self, study_uid: str) -> StudyDetail | None:
        """Return one study with its series and objects, or None."""
        raise NotImplementedError

    async def totals(self) -> Totals:
        """Return what the archive holds, from maintained counters."""
        raise NotImplementedError

    # copies and debts --------------------------------------------------------------------------

    async def debts(self, volume: str, after: int = 0, limit: int = 100) -> list[Debt]:
        """Return what `volume` still needs, oldest first, inbox objects included."""
        raise NotImplementedError

    async def debt_counts(self) -> dict[str, int]:
        """Return how many objects each volume is owed; volumes with none are left out."""
        raise NotImplementedError

    async def volume_tallies(self) -> dict[str, VolumeTally]:
        """Return what each volume holds and is owed."""
        raise NotImplementedError

    async def paid(self, sop_instance_uid: str, volume: str) -> bool:
        """Record that `volume` now holds the object durably; False when it is unknown."""
        raise NotImplementedError

    async def owe(self, sop_instance_uids: Sequence[str], volume: str) -> int:
        """Record that `volume` needs these objects (it does not hold them); return how many."""
        raise NotImplementedError

    async def owe_all(self, volume: str) -> int:
        """Record that `volume` needs every object it does not hold (a new, empty disk)."""
        raise NotImplementedError

    async def copy_missing(self, sop_instance_uid: str, volume: str) -> bool:
        """Record that the copy on `volume` is gone or damaged and is owed again."""
        raise NotImplementedError

    async def forget_volume(self, volume: str) -> int:
        """Drop every copy record of a volume that left the box; objects stay known."""
        raise NotImplementedError

    async def verified(self, sop_instance_uid: str, volume: str, at: datetime) -> bool:
        """Record that the copy was read back and its digest was right."""
        raise NotImplementedError

    async def staged(self, names: Collection[str] | None = None) -> list[StoredKey]:
        """Return the objects that still stand in staging under these names (None: all of them)."""
        raise NotImplementedError

    async def unstaged(self, sop_instance_uids: Sequence[str]) -> None:
        """Record that staging let these objects go."""
        raise NotImplementedError

    def all_keys(self, after: int = 0) -> AsyncIterator[StoredKey]:
        """Yield every known object in the order it came, a page at a time."""
        raise NotImplementedError

    # inbox -------------------------------------------------------------------------------------

    async def inbox_add(self, item: NewInboxItem) -> int:
        """Keep an object aside; return its number. The same key again returns the same number."""
        raise NotImplementedError

    async def inbox_list(self, after: int = 0, limit: int = 100) -> list[InboxItem]:
        """Return what is kept aside, oldest first."""
        raise NotImplementedError

    async def inbox_get(self, inbox_id: int) -> InboxItem | None:
        """Return one kept object, or None."""
        raise NotImplementedError

    async def inbox_count(self) -> dict[str, int]:
        """Return how many objects are kept aside, by reason."""
        raise NotImplementedError

    async def inbox_remove(self, inbox_id: int) -> bool:
        """Forget a kept object (its file is the caller's affair); False when it was unknown."""
        raise NotImplementedError

    # care --------------------------------------------------------------------------------------

    async def remove(self, sop_instance_uids: Sequence[str]) -> int:
        """Forget objects, and the series, studies and patients left empty; return how many."""
        raise NotImplementedError

    async def forget_all(self) -> None:
        """Forget every patient, study, series and object (rebuild follows); the inbox too."""
        raise NotImplementedError

    async def check(self) -> list[str]:
        """Run the engine's integrity check and compare counters; return what is wrong in words."""
        raise NotImplementedError

    async def backup(self, path: Path) -> None:
        """Write a consistent copy of the index to `path` while it is in use."""
        raise NotImplementedError
