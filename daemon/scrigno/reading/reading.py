# SPDX-License-Identifier: Apache-2.0
"""The one door of this room to documents: open, save, look, forget, and come back after a loss."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from scrigno.access.accounts import fold
from scrigno.core.clock import Clock
from scrigno.core.counters import Counters
from scrigno.core.events import EventBus, ReadingChanged, ReadingConflict, StudyPurged
from scrigno.db import file as database_file
from scrigno.db.engine import Database
from scrigno.db.errors import DatabaseDamaged, DatabaseError
from scrigno.volumes.volume import Volumes

from .backups import ReadingBackups
from .documents import Content, Documents, Kind, Place, Saved, Scope, Version, short
from .errors import RevisionConflict
from .files import DocumentFiles
from .shares import Shares
from .tables import SCHEMA

log = logging.getLogger(__name__)

DATABASE_NAME: Final = "reading.db"
MOST_STATES: Final = 2000  # studies in which it is remembered where somebody was
IsWanted = Callable[[str], Awaitable[bool]]
LAYERED: Final = frozenset({Kind.ANNOTATIONS, Kind.KEY_IMAGES, Kind.VIEWER_STATE})


class Audit(Protocol):
    """`AuditTrail.record`."""

    def __call__(
        self,
        who: str,
        action: str,
        subject: str,
        outcome: str = "success",
        details: Any = None,
    ) -> None:
        """Note something; must be quick."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A save and the volumes that hold it by now; it is safe when one of them does."""

    saved: Saved
    held_by: tuple[str, ...]

    @property
    def safe(self) -> bool:
        """Whether it outlives the system disk already."""
        return bool(self.held_by)


def of_study(study_uid: str, kind: Kind, owner: str = "") -> Place:
    """Return the place of a document of a study, in the layer of `owner` when it has layers."""
    own = owner if kind in LAYERED else ""
    return Place(
        scope=Scope.STUDY, subject=study_uid, kind=kind, layer=fold(own) if own else "", owner=own
    )


def of_account(account: str, kind: Kind, name: str) -> Place:
    """Return the place of a document of somebody, such as a preference."""
    return Place(scope=Scope.ACCOUNT, subject=fold(account), kind=kind, layer=name, owner=name)


def of_box(kind: Kind, name: str) -> Place:
    """Return the place of a document for everybody."""
    return Place(scope=Scope.BOX, subject="", kind=kind, layer=name, owner=name)


class Reading:
    """Documents, their files, the links for guests, and the database below them."""

    def __init__(
        self,
        state_dir: Path,
        *,
        volumes: Volumes,
        bus: EventBus,
        counters: Counters,
        clock: Clock,
        audit: Audit,
    ) -> None:
        """Name the files; `open` makes them."""
        self._path = state_dir / DATABASE_NAME
        self._bus = bus
        self._counters = counters
        self._clock = clock
        self._audit = audit
        # Whether a study exists or may come back; the app knows the archive.
        self.is_wanted: IsWanted = _always
        self.database = Database(self._path, SCHEMA, readers=2)
        self.documents = Documents(self.database, clock=clock)
        self.files = DocumentFiles(self.database, volumes=volumes, bus=bus, counters=counters)
        self.backups = ReadingBackups(
            self.database, volumes=volumes, work_dir=state_dir, counters=counters, clock=clock
        )
        self.shares = Shares(self.database, bus=bus, clock=clock, counters=counters)
        self.restored_from = ""  # the backup that was put in place at this start
        self._purges: set[asyncio.Task[None]] = set()
        self._unsubscribe: Callable[[], None] = lambda: None

    async def open(self) -> None:
        """Open the database, or put the newest backup in its place; raises DatabaseError, OSError.

        The volumes have been started.
        """
        if not await asyncio.to_thread(self._path.exists):
            self.restored_from = await self.backups.fetch_newest(self._path)
        try:
            await self.database.open()
        except DatabaseDamaged as damage:
            log.error("reading: %s", damage.reason)  # noqa: TRY400 - the reason says it all
            self._counters.add("reading_replacements")
            await asyncio.to_thread(database_file.set_aside, self._path, self._clock.now())
            self.restored_from = await self.backups.fetch_newest(self._path)
            await self.database.open()
        if self.restored_from:
            log.warning("reading: the backup %s is in force", self.restored_from)
            await self.files.forget_disks()
            # One that was revoked since that backup must not be good again.
            await self.shares.revoke_all("restored")
        await self.shares.open()

    def start(self) -> None:
        """Give the volumes what they are owed from now on; returns at once."""
        self._unsubscribe = self._bus.subscribe(StudyPurged, self._purged)
        self.files.start()
        self.backups.start()

    async def close(self) -> None:
        """Stop; idempotent."""
        self._unsubscribe()
        await self.backups.close()
        await asyncio.gather(*self._purges, return_exceptions=True)
        await self.files.close()
        await self.shares.close()
        await self.database.close()

    # saving ----------------------------------------------------------------------------------

    async def save(
        self,
        place: Place,
        content: Content,
        *,
        author: str,
        expected: int | None,
        keep: bool = False,
    ) -> Stored:
        """Save upon a revision; on return the system disk has it, and a volume when `safe`.

        Raises RevisionNeeded, RevisionConflict, BadDocument, TooMany, DatabaseError.
        """
        try:
            saved = await self.documents.put(
                place,
                content,
                author=author,
                expected=expected,
                volumes=self.files.names(),
                keep=keep,
            )
        except RevisionConflict as conflict:
            self._counters.add("reading_conflicts", kind=place.kind)
            self._bus.publish(
                ReadingConflict(
                    study_uid=place.subject if place.scope is Scope.STUDY else "",
                    kind=place.kind,
                    layer=short(place.layer) if place.layer else "",
                    revision=conflict.revision,
                )
            )
            raise
        if place.kind is Kind.VIEWER_STATE:
            if saved.version.revision == 1:
                await self.documents.prune(place.kind, place.layer, MOST_STATES)
            return Stored(saved=saved, held_by=())
        held_by = await self.files.settled(saved)
        if saved.changed:
            self._counters.add("reading_saves", kind=place.kind)
            self._tell(saved.version)
        return Stored(saved=saved, held_by=held_by)

    def _tell(self, version: Version) -> None:
        place = version.place
        if place.scope is Scope.STUDY:
            self._bus.publish(
                ReadingChanged(
                    study_uid=place.subject,
                    kind=place.kind,
                    layer=short(place.layer) if place.layer else "",
                    revision=version.revision,
                )
            )

    async def restore(
        self, place: Place, number: int, *, author: str, expected: int | None
    ) -> Stored:
        """Save an older version anew, as a version of its own; raises UnknownVersion too."""
        old = await self.documents.version(place, number)
        return await self.save(place, old.content, author=author, expected=expected, keep=True)

    # forgetting ------------------------------------------------------------------------------

    async def forget_account(self, account: str) -> int:
        """Remove preferences of an account that is gone; what it wrote on studies stays."""
        forgotten = await self.documents.forget(Scope.ACCOUNT, fold(account), self.files.names())
        self.files.nudge()
        return forgotten

    async def remove(self, place: Place) -> bool:
        """Remove one document for good; False when there was none."""
        removed = await self.documents.remove(place, self.files.names())
        self.files.nudge()
        return removed

    def _purged(self, event: StudyPurged) -> None:
        task = asyncio.create_task(self._purge(event), name="reading-purge")
        self._purges.add(task)
        task.add_done_callback(self._purges.discard)

    async def _purge(self, event: StudyPurged) -> None:
        """Remove what was added to a study that is gone for good; never raises."""
        try:
            if await self.is_wanted(event.study_uid):
                return  # a part of it was purged, or it was sent again
            gone = await self.documents.forget(Scope.STUDY, event.study_uid, self.files.names())
        except DatabaseError as error:
            log.warning("reading: study %s keeps its documents: %s", event.study_uid, error.reason)
            return
        self.files.nudge()
        if gone:
            self._audit(
                "scrigno",
                "reading-purged",
                event.study_uid,
                "success",
                {"documents": str(gone), "why": "purged", "trash_id": str(event.trash_id)},
            )


async def _always(_study_uid: str) -> bool:
    return True
