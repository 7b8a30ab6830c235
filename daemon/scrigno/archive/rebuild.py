# SPDX-License-Identifier: Apache-2.0
"""The index anew from what stands on the volumes, while the box goes on working (ST-8).

The volume is read and every object is added to the index in force; what is known already stays as
it is. So nothing is ever missing from the index while it is rebuilt, new images come in beside
it, and neither inbox nor debts are lost. A lost or damaged index is replaced by an empty one at
start and filled in the same way. Copies on other volumes are recorded where they stand and owed
where they do not.
"""

import asyncio
import logging
from collections.abc import Callable, Container
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final, Protocol

from scrigno.catalogue import records
from scrigno.catalogue.catalogue import Catalogue
from scrigno.catalogue.records import AddOutcome, NewInboxItem, NewInstance
from scrigno.core.clock import Clock
from scrigno.core.counters import Counters
from scrigno.core.errors import CommandError
from scrigno.imaging.errors import HeaderIncomplete, NotDicom
from scrigno.imaging.part10 import FileHead, split
from scrigno.volumes.states import ErrorKind, VolumeError
from scrigno.volumes.volume import Scanned, Volume, Volumes

from .appraisal import UNREADABLE, Admit, Aside, appraise
from .arrivals import INBOX_PREFIX, Arrival, from_note, from_sidecar, inbox_key, sidecar_key
from .copies import OBJECTS_PREFIX, Difference, differences, files_of
from .errors import IngestError
from .receipts import IngestRules
from .replicate import SIDECAR_BYTES
from .taking import MAX_HEADER_BYTES, described

log = logging.getLogger(__name__)

# So many rows wait for the index at once: they share transactions, and memory stays small.
ADDS_AT_ONCE: Final = 128
MAX_NAMED: Final = 10_000
OWED_AT_ONCE: Final = 1000
HEAD_BYTES: Final = 256 << 10


@dataclass(slots=True)
class RebuildReport:
    """What a rebuild did so far."""

    volumes: list[str] = field(default_factory=list)
    scanned: int = 0
    added: int = 0
    known: int = 0
    inbox: int = 0
    damaged: int = 0  # files that could not be read whole
    trashed: int = 0  # files on their way into the trash, passed over
    trashed_items: int = 0  # deletions that were learnt from the volumes
    unreadable: list[str] = field(default_factory=list)  # keys on the volume, the first 10,000
    conflicts: list[str] = field(default_factory=list)  # keys on the volume, the first 10,000
    refused: list[str] = field(default_factory=list)  # keys over a limit of the settings
    cancelled: bool = False


class TrashOfVolumes(Protocol):
    """What is asked of the trash here."""

    async def learn(self) -> int:
        """Take over what volumes know of the trash; return how many items."""

    async def claims(
        self, volume: str, sop_instance_uid: str, key: str, digest: str | None = None
    ) -> bool:
        """Tell whether a file among the studies of a volume belongs to the trash."""


class Rebuilder:
    """Reads volumes and writes the index. Loop thread only."""

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        volumes: Volumes,
        rules: Callable[[], IngestRules],
        counters: Counters,
        clock: Clock,
        on_debt: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_debt` is told when volumes are owed objects that others have."""
        self._catalogue = catalogue
        self._volumes = volumes
        self._rules = rules
        self._counters = counters
        self._clock = clock
        self._on_debt = on_debt
        # What stands in the trash stays there: it is learnt first, and its files are passed over.
        self.trash: TrashOfVolumes | None = None

    async def rebuild(
        self,
        *,
        volume: str | None = None,
        progress: Callable[[int, int], None] | None = None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> RebuildReport:
        """Rebuild from one volume, or from all.

        `progress(scanned, total)` is called on the loop; the total is 0 where nobody knows it.
        Raises CommandError for a volume that is away, VolumeError when it fails, DatabaseError.
        """
        report = RebuildReport()
        sources = self._sources(volume)
        report.trashed_items = await self.learn_trash()
        for source in sources:
            report.volumes.append(source.spec.name)
            await self._objects(source, report, progress, cancelled)
            await self._inbox(source, report, cancelled)
        if not report.cancelled:
            await self._copies_elsewhere(set(report.volumes))
        await self._catalogue.sync()
        self._on_debt()
        return report

    async def take_in(self, volume: Volume, key: str) -> AddOutcome | None:
        """Make one object known that stands on `volume` without a row (reconcile).

        None when it cannot be read. Raises VolumeError, DatabaseError.
        """
        report = RebuildReport()
        digest, size = await volume.digest(key)
        head = await volume.head(key, HEAD_BYTES)
        return await self._object(volume, Scanned(key, size, digest, head), report)

    async def take_in_kept(self, volume: Volume) -> int:
        """Make objects of the inbox known that stand on `volume` without a row; return how many.

        Raises VolumeError, DatabaseError.
        """
        taken = 0
        async with aclosing(volume.walk(INBOX_PREFIX)) as files:
            async for key, size in files:
                if not key.endswith(".dcm") or await self._catalogue.stored_key(key) is not None:
                    continue
                try:
                    digest, _ = await volume.digest(key)
                except VolumeError as error:
                    if error.kind is not ErrorKind.IO or not volume.readable:
                        raise
                    digest = ""  # this file, not the volume
                if key != inbox_key(digest):
                    log.warning("volume %s: %s is damaged", volume.spec.name, key)
                    continue
                scanned = Scanned(key, size, digest, await volume.head(key, HEAD_BYTES))
                await self._catalogue.inbox_add(await self._inbox_item(volume, scanned))
                taken += 1
        return taken

    async def learn_trash(self) -> int:
        """Learn from the volumes what was deleted; return how many items the index did not know."""
        return 0 if self.trash is None else await self.trash.learn()

    async def is_trashed(self, volume: Volume, uid: str, key: str, digest: str | None) -> bool:
        """Tell whether a file is no object of the archive but on its way to or from the trash."""
        if self.trash is None:
            return False
        return await self.trash.claims(volume.spec.name, uid, key, digest)

    def _sources(self, name: str | None) -> list[Volume]:
        if name is None:
            sources = [volume for volume in self._volumes.ordered if volume.readable]
            if not sources:
                raise CommandError(
                    "No volume can be read.", next_step="Bring one back and try again."
                )
            return sources
        try:
            source = self._volumes.by_name(name)
        except KeyError:
            names = ", ".join(volume.spec.name for volume in self._volumes.ordered)
            raise CommandError(
                f"There is no volume {name}.", next_step=f"Name one of: {names}."
            ) from None
        if not source.readable:
            raise CommandError(
                f"Volume {name} cannot be read: {source.state} ({source.reason}).",
                next_step="Bring it back or name another one.",
            )
        return [source]

    # objects -----------------------------------------------------------------------------------

    async def _objects(
        self,
        volume: Volume,
        report: RebuildReport,
        progress: Callable[[int, int], None] | None,
        cancelled: Callable[[], bool],
    ) -> None:
        tally = (await self._catalogue.volume_tallies()).get(volume.spec.name)
        total = tally.held if tally is not None else 0
        room = asyncio.Semaphore(ADDS_AT_ONCE)

        async def one(scanned: Scanned) -> None:
            try:
                await self._object(volume, scanned, report)
            finally:
                room.release()

        async with (
            aclosing(volume.scan(OBJECTS_PREFIX)) as objects,
            asyncio.TaskGroup() as group,
        ):
            async for scanned in objects:
                if cancelled():
                    report.cancelled = True
                    break
                await room.acquire()
                group.create_task(one(scanned))
                report.scanned += 1
                if progress is not None:
                    progress(report.scanned, max(total, report.scanned))

    async def _object(
        self, volume: Volume, scanned: Scanned, report: RebuildReport
    ) -> AddOutcome | None:
        """Add one object to the index; None when it could not be."""
        if scanned.digest is None:
            log.warning("volume %s: %s cannot be read whole", volume.spec.name, scanned.key)
            report.damaged += 1
            return None
        try:
            arrival, admit = await self._understand(volume, scanned)
        except (IngestError, NotDicom) as error:
            log.warning("volume %s: %s: %s", volume.spec.name, scanned.key, error.reason)
            _name(report.unreadable, scanned.key)
            return None
        if await self.is_trashed(volume, arrival.sop_instance_uid, scanned.key, scanned.digest):
            report.trashed += 1
            return None
        try:
            result = await self._catalogue.add(
                NewInstance(
                    attributes=admit.attributes,
                    key=scanned.key,
                    digest=scanned.digest,
                    size=scanned.size,
                    received_at=arrival.received_at,
                    origin=arrival.origin,
                    copies=(volume.spec.name,),
                )
            )
        except records.CapacityReached:
            _name(report.refused, scanned.key)
            return None
        match result.outcome:
            case AddOutcome.NEW:
                report.added += 1
            case AddOutcome.SAME if result.existing_key == scanned.key:
                report.known += 1
            case AddOutcome.SAME | AddOutcome.DIFFERENT:
                log.warning(
                    "volume %s: %s is not the object that the index has under its UID",
                    volume.spec.name,
                    scanned.key,
                )
                _name(report.conflicts, scanned.key)
        return result.outcome

    async def _understand(self, volume: Volume, scanned: Scanned) -> tuple[Arrival, Admit]:
        """Read the header of an object; raises NotDicom, IngestError."""
        head = split(scanned.head)
        arrival = from_note(
            {"door": "rebuild"},
            sop_class_uid=head.sop_class_uid,
            sop_instance_uid=head.sop_instance_uid,
            transfer_syntax_uid=head.transfer_syntax_uid,
            fallback=self._clock.now(),
        )
        judgement = await self._judge(volume, scanned, head, arrival)
        if isinstance(judgement, Aside):
            raise IngestError(judgement.comment)
        return arrival, judgement

    async def _judge(
        self, volume: Volume, scanned: Scanned, head: FileHead, arrival: Arrival
    ) -> Admit | Aside:
        """Appraise the object, reading more of it when its header is long."""
        content, size = scanned.head, scanned.size - head.data_offset
        while True:
            try:
                return appraise(
                    arrival,
                    memoryview(content)[head.data_offset :],
                    size=size,
                    default_character_set=self._rules().default_character_set,
                )
            except HeaderIncomplete as error:
                needed = head.data_offset + max(error.needed_bytes, 4 * len(content))
            wanted = min(needed, scanned.size, MAX_HEADER_BYTES)
            if wanted <= len(content):
                raise IngestError("The header is cut short or longer than 64 MiB.")
            async with aclosing(volume.read(scanned.key, len(content), wanted - len(content))) as (
                chunks
            ):
                more = b"".join([chunk async for chunk in chunks])
            if not more:
                raise IngestError("The header is cut short.")
            content += more

    # inbox -------------------------------------------------------------------------------------

    async def _inbox(
        self, volume: Volume, report: RebuildReport, cancelled: Callable[[], bool]
    ) -> None:
        async with aclosing(volume.scan(INBOX_PREFIX)) as objects:
            async for scanned in objects:
                if cancelled():
                    report.cancelled = True
                    return
                if not scanned.key.endswith(".dcm"):
                    continue
                if scanned.digest is None or scanned.key != inbox_key(scanned.digest):
                    log.warning("volume %s: %s is damaged", volume.spec.name, scanned.key)
                    report.damaged += 1
                    continue
                await self._catalogue.inbox_add(await self._inbox_item(volume, scanned))
                report.inbox += 1

    async def _inbox_item(self, volume: Volume, scanned: Scanned) -> NewInboxItem:
        """Describe a kept object from its sidecar and what of it can be read."""
        try:
            sidecar = from_sidecar(await volume.head(sidecar_key(scanned.key), SIDECAR_BYTES))
        except VolumeError:
            sidecar = {}
        assert scanned.digest is not None  # noqa: S101 - the caller has looked
        arrival = from_note(
            sidecar,
            sop_class_uid=sidecar.get("sop_class_uid", ""),
            sop_instance_uid=sidecar.get("sop_instance_uid", ""),
            transfer_syntax_uid=sidecar.get("transfer_syntax_uid", ""),
            fallback=self._clock.now(),
        )
        item = NewInboxItem(
            reason=sidecar.get("aside", UNREADABLE),
            key=scanned.key,
            digest=scanned.digest,
            size=scanned.size,
            received_at=arrival.received_at,
            origin=arrival.origin,
            sop_class_uid=arrival.sop_class_uid,
            sop_instance_uid=arrival.sop_instance_uid,
            transfer_syntax_uid=arrival.transfer_syntax_uid,
            comment=sidecar.get("comment", ""),
            copies=(volume.spec.name,),
            owed=tuple(v.spec.name for v in self._volumes.ordered if v is not volume),
        )
        try:
            _, admit = await self._understand(volume, scanned)
        except (IngestError, NotDicom):
            return item
        return described(item, admit.attributes)

    # copies on other volumes -------------------------------------------------------------------

    async def _copies_elsewhere(self, read: Container[str]) -> None:
        """Record the copies that volumes have, and owe them what they have not.

        What a volume that was `read` has and was not recorded then is another object or damaged.
        """
        for volume in self._volumes.ordered:
            name = volume.spec.name
            if not volume.readable:
                await self._catalogue.owe_all(name)
                continue
            owed: list[str] = []
            found = differences(self._catalogue, volume, await files_of(volume))
            async for row, difference in found:
                if difference is Difference.UNRECORDED and name not in read:
                    await self._catalogue.paid(row.sop_instance_uid, name)
                elif difference is not Difference.GONE:
                    owed.append(row.sop_instance_uid)
                if len(owed) >= OWED_AT_ONCE:
                    await self._catalogue.owe(owed, name)
                    owed.clear()
            if owed:
                await self._catalogue.owe(owed, name)


def _name(keys: list[str], key: str) -> None:
    if len(keys) < MAX_NAMED:
        keys.append(key)
