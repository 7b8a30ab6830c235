# SPDX-License-Identifier: Apache-2.0
"""What the index says against what stands on the volumes, and putting it right (DB-3).

Files are compared by name and size; whether their bytes are right is verification's question.
Images go on coming in meanwhile, so whatever looks wrong is looked at a second time before it is
told or mended.
"""

import asyncio
import logging
from collections.abc import Callable, Collection
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from itertools import chain
from pathlib import PurePosixPath
from typing import Final

from scrigno.catalogue.catalogue import Catalogue
from scrigno.catalogue.records import AddOutcome, CopyState, StoredInstance, StoredKey
from scrigno.core.uids import is_uid
from scrigno.db.errors import DatabaseError
from scrigno.imaging.errors import NotDicom
from scrigno.imaging.part10 import split
from scrigno.volumes.states import ErrorKind, VolumeError, VolumeState
from scrigno.volumes.volume import Volume, Volumes

from .copies import OBJECTS_PREFIX, Difference, KeySet, differences, files_of, files_of_index
from .mend import STEADY
from .quarantine import Why, displace
from .rebuild import Rebuilder
from .retrieve import META_BYTES

log = logging.getLogger(__name__)

AT_ONCE: Final = 8  # second looks: they wait for the disk and share commits
SECOND_LOOK_S: Final = 3.0  # longer than an object is durable without its row
MAX_NAMED: Final = 100_000


class Kind(StrEnum):
    """How index and volume differ."""

    ORPHAN = "orphan"  # a file without a row
    MISSING = "missing"  # a copy is recorded, the file is not there
    WRONG_SIZE = "wrong-size"  # the file has another size than was received
    UNRECORDED = "unrecorded"  # the file is a copy that the index does not count
    UNKNOWN = "unknown"  # neither a copy nor a debt is recorded


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """One difference between index and volume."""

    volume: str
    key: str
    kind: Kind
    fixed: bool
    note: str = ""


@dataclass(slots=True)
class ReconcileReport:
    """What a reconciliation found so far."""

    volumes: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)  # volumes that are away
    files: int = 0
    instances: int = 0
    found: int = 0
    fixed: int = 0
    discrepancies: list[Discrepancy] = field(default_factory=list)  # the first 100,000
    cancelled: bool = False

    def add(self, one: Discrepancy) -> None:
        """Note one difference."""
        self.found += 1
        self.fixed += one.fixed
        if len(self.discrepancies) < MAX_NAMED:
            self.discrepancies.append(one)


class Reconciler:
    """Compares, and on demand repairs. Loop thread only."""

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        volumes: Volumes,
        rebuilder: Rebuilder,
        on_debt: Callable[[], None] = lambda: None,
        turn: Callable[[str], AbstractAsyncContextManager[None]] = lambda _: nullcontext(),
        suspect: Callable[[StoredInstance], None] = lambda _: None,
        second_look_s: float = SECOND_LOOK_S,
    ) -> None:
        """`on_debt` is told when a missing copy became a debt, which replication pays.

        `turn` keeps others off one object while its row and file are compared and put right.
        `suspect` hears of objects whose only copy is not what was received.
        """
        self._catalogue = catalogue
        self._volumes = volumes
        self._rebuilder = rebuilder
        self._on_debt = on_debt
        self._turn = turn
        self._suspect = suspect
        self._second_look_s = second_look_s

    async def reconcile(
        self,
        *,
        fix: bool = False,
        progress: Callable[[int, int], None] | None = None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> ReconcileReport:
        """Compare every volume with the index; `fix` takes orphans in and owes missing copies.

        `progress(volumes done, volumes)` is called on the loop. Raises DatabaseError.
        """
        report = ReconcileReport()
        if fix:
            await self._rebuilder.learn_trash()  # an older index would take it in again
        report.instances = (await self._catalogue.totals()).instances
        for volume in self._volumes.ordered:
            if cancelled():
                report.cancelled = True
                break
            try:
                if not volume.readable:
                    report.skipped.append(volume.spec.name)
                    continue
                await self._volume(volume, report, cancelled, fix=fix)
                report.volumes.append(volume.spec.name)
            except VolumeError as error:
                log.warning("volume %s: not reconciled: %s", volume.spec.name, error.reason)
                report.skipped.append(volume.spec.name)
            if progress is not None:
                progress(len(report.volumes) + len(report.skipped), len(self._volumes.ordered))
        self._on_debt()
        return report

    async def reconcile_folders(self, folders: Collection[str]) -> ReconcileReport:
        """Put right what stands in these folders of the volumes that can be read, and only there.

        What has no row gets one, and a debt for each other volume; a file that its row does not
        count is counted. Recorded copies that are gone are owed. Raises DatabaseError.
        """
        report = ReconcileReport()
        await self._rebuilder.learn_trash()
        for volume in self._volumes.ordered:
            if not volume.readable:
                report.skipped.append(volume.spec.name)
                continue
            try:
                for folder in folders:
                    await self._folder(volume, folder, report)
                report.volumes.append(volume.spec.name)
            except VolumeError as error:
                log.warning("volume %s: not reconciled: %s", volume.spec.name, error.reason)
                report.skipped.append(volume.spec.name)
        self._on_debt()
        return report

    async def _folder(self, volume: Volume, folder: str, report: ReconcileReport) -> None:
        async with aclosing(volume.walk(folder)) as walk:
            stands = {key: size async for key, size in walk}
        report.files += len(stands)
        study, _, series = folder.removeprefix(f"{OBJECTS_PREFIX}/").partition("/")
        known = {one.key: one for one in await self._catalogue.instances(study, series)}
        for key, one in known.items():
            held = volume.spec.name in one.held_by()
            if held is not (stands.get(key) == one.size):
                difference = Difference.GONE if held else Difference.UNRECORDED
                await self._row(volume, _stored_key(one), difference, report, fix=True)
        for key in stands.keys() - known.keys():
            found = report.fixed
            await self._file(volume, key, report, fix=True)
            uid = await self._uid_of(volume, key) if report.fixed > found else None
            for other in self._volumes.ordered if uid is not None else ():
                await self._catalogue.owe([str(uid)], other.spec.name)

    async def _volume(
        self, volume: Volume, report: ReconcileReport, cancelled: Callable[[], bool], *, fix: bool
    ) -> None:
        known = await files_of_index(self._catalogue)
        suspects = await self._unknown_files(volume, known, report)
        files = await files_of(volume)
        doubtful = [
            (row, difference)
            async for row, difference in differences(self._catalogue, volume, files)
        ]
        if suspects or doubtful:
            await asyncio.sleep(self._second_look_s)
        looks = chain(
            (
                partial(self._row, volume, row, difference, report, fix=fix)
                for row, difference in doubtful
            ),
            (partial(self._file, volume, key, report, fix=fix) for key in suspects),
        )

        async def worker() -> None:
            for look in looks:
                if cancelled():
                    report.cancelled = True
                    return
                await look()

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(AT_ONCE):
                    group.create_task(worker())
        except* (VolumeError, DatabaseError) as several:
            raise several.exceptions[0] from several

    async def _unknown_files(
        self, volume: Volume, known: KeySet, report: ReconcileReport
    ) -> list[str]:
        """Return the keys on the volume that no row names, with this size."""
        unknown: list[str] = []
        async with aclosing(volume.walk(OBJECTS_PREFIX)) as walk:
            async for key, size in walk:
                report.files += 1
                if (key, size) not in known:
                    unknown.append(key)
        return unknown

    # rows --------------------------------------------------------------------------------------

    async def _row(
        self,
        volume: Volume,
        row: StoredKey,
        difference: Difference,
        report: ReconcileReport,
        *,
        fix: bool,
    ) -> None:
        """Look a second time at a row that seemed to disagree, and put it right."""
        uid = row.sop_instance_uid
        async with self._turn(uid):
            instance = await self._catalogue.instance(uid)
            if instance is None or instance.key != row.key:
                return  # removed meanwhile
            await self._row_in_turn(volume, instance, difference, report, fix=fix)

    async def _row_in_turn(
        self,
        volume: Volume,
        instance: StoredInstance,
        difference: Difference,
        report: ReconcileReport,
        *,
        fix: bool,
    ) -> None:
        name, row = volume.spec.name, _stored_key(instance)
        fixed, note = fix, ""
        state = next((copy.state for copy in instance.copies if copy.volume == name), None)
        size = await volume.stat(row.key)
        if state is CopyState.HELD:
            if size == row.size:
                return
            kind = Kind.MISSING if size is None else Kind.WRONG_SIZE
            if size is not None and _only_there(instance, name):
                # Cut short or not, it is all there is: an engineer may save what it holds.
                fixed, note = False, "It is the only copy and stays where it is."
                self._suspect(instance)
            elif fix:
                await self._owe(volume, row, kind)
        elif size == row.size:
            if state is not None and difference is not Difference.UNRECORDED:
                return
            kind = Kind.UNRECORDED
            if fix:
                await self._record(volume, row)
        elif state is None:
            kind = Kind.UNKNOWN
            if fix:
                await self._catalogue.owe([row.sop_instance_uid], name)
        else:
            return  # owed and not there: replication's business
        report.add(Discrepancy(name, row.key, kind, fixed=fixed, note=note))

    async def _owe(self, volume: Volume, row: StoredKey, kind: Kind) -> None:
        """Have a copy made anew, from a good one."""
        await self._catalogue.copy_missing(row.sop_instance_uid, volume.spec.name)
        if kind is Kind.WRONG_SIZE and volume.state is VolumeState.ONLINE:
            digest = await self._read(volume, row.key)
            await displace(volume, row.key, digest, Why.CONFLICT if digest else Why.UNREADABLE)

    async def _record(self, volume: Volume, row: StoredKey) -> None:
        """Count a file as a copy when its bytes are right, else leave it to replication."""
        if await self._read(volume, row.key) == row.digest:
            await self._catalogue.paid(row.sop_instance_uid, volume.spec.name)
        else:
            await self._catalogue.owe([row.sop_instance_uid], volume.spec.name)

    async def _read(self, volume: Volume, key: str) -> str:
        """Return the digest of a file, "" when it is the file that cannot be read.

        Raises VolumeError when it is the volume.
        """
        for last in (False, True):
            try:
                return (await volume.digest(key))[0]
            except VolumeError as error:
                if error.kind is not ErrorKind.IO or (last and volume.state not in STEADY):
                    raise
            if not last:
                await asyncio.sleep(self._second_look_s)  # the probe tells whether it is the disk
        return ""

    # files -------------------------------------------------------------------------------------

    async def _file(self, volume: Volume, key: str, report: ReconcileReport, *, fix: bool) -> None:
        """Look a second time at a file that no row named, and take it in."""
        name = volume.spec.name
        uid = await self._uid_of(volume, key)
        if uid is None:
            return  # gone meanwhile
        instance = await self._catalogue.instance(uid)
        if instance is not None and instance.key == key:
            return  # its row has come, or it is a copy of the wrong size, told by its row
        if await self._rebuilder.is_trashed(volume, uid, key, None):
            return  # it was deleted and is on its way into the trash
        outcome = await self._take_in(volume, key) if fix else None
        fixed = outcome in (AddOutcome.NEW, AddOutcome.SAME)
        note = ""
        if fix and not fixed:
            different = outcome is AddOutcome.DIFFERENT
            note = "The index has another object of this UID." if different else "It is unreadable."
        report.add(Discrepancy(name, key, Kind.ORPHAN, fixed=fixed, note=note))

    async def _take_in(self, volume: Volume, key: str) -> AddOutcome | None:
        """Give a file a row; None when that cannot be, for which others do not wait."""
        try:
            return await self._rebuilder.take_in(volume, key)
        except VolumeError as error:
            if error.kind is not ErrorKind.IO:
                raise
        if await self._read(volume, key) == "":
            return None
        return await self._rebuilder.take_in(volume, key)

    async def _uid_of(self, volume: Volume, key: str) -> str | None:
        """Return the SOP Instance UID that a file is about, None when it is not there."""
        stem = PurePosixPath(key).stem
        if is_uid(stem):
            return stem if await volume.stat(key) is not None else None
        try:
            return split(await volume.head(key, META_BYTES)).sop_instance_uid
        except NotDicom:
            return stem
        except VolumeError:
            return None


def _only_there(instance: StoredInstance, volume: str) -> bool:
    """Tell whether nobody else is said to hold the object, staging included."""
    return instance.staged_as is None and instance.held_by() == (volume,)


def _stored_key(one: StoredInstance) -> StoredKey:
    return StoredKey(
        instance_id=0,
        sop_instance_uid=one.sop_instance_uid,
        key=one.key,
        digest=one.digest,
        size=one.size,
        staged_as=one.staged_as,
        copies=one.copies,
    )
