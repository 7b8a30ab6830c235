# SPDX-License-Identifier: Apache-2.0
"""Taking in again what stands in staging and has no row: after a crash, or after a failed index.

Runs beside new objects and in any order with them: an object of the same UID waits for its turn,
and every step answers the same when it is repeated. An entry leaves staging only when its object
is recorded; one that cannot be taken in stays and is reported.
"""

import asyncio
import logging
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Final

from scrigno.catalogue.catalogue import Catalogue
from scrigno.catalogue.records import StoredKey
from scrigno.core.clock import Clock
from scrigno.core.counters import Counters
from scrigno.db.errors import DatabaseError
from scrigno.imaging.errors import NotDicom
from scrigno.imaging.part10 import FileHead, split
from scrigno.volumes.placement import KeyConflict, NoDurableStorage, Placed
from scrigno.volumes.staging import Sealed, Staging, StagingFailed, StagingFull
from scrigno.volumes.states import PutOutcome, VolumeError
from scrigno.volumes.volume import Volumes

from . import errors
from .appraisal import CONFLICT
from .arrivals import Arrival, from_note
from .retrieve import META_BYTES
from .taking import Judgement, Taking

log = logging.getLogger(__name__)

RETRY_S: Final = 15.0  # an index or a volume that failed is seldom back sooner
AT_ONCE: Final = 4  # beside new objects, which come first


class Recovery:
    """Replays the staging journal. Loop thread only."""

    def __init__(
        self,
        *,
        staging: Staging,
        volumes: Volumes,
        catalogue: Catalogue,
        taking: Taking,
        counters: Counters,
        clock: Clock,
        retry_s: float = RETRY_S,
    ) -> None:
        """Listen to `taking` for objects that the index did not take."""
        self._staging = staging
        self._volumes = volumes
        self._catalogue = catalogue
        self._taking = taking
        self._counters = counters
        self._clock = clock
        self._retry_s = retry_s
        self._pending: dict[str, Mapping[str, str]] = {}  # journal name -> note
        self._stuck: set[str] = set()
        self._listed = False  # what stands in the journal is known
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        taking.on_pending = self.add
        staging.on_late = self.add
        staging.when_back(self.look_again)

    @property
    def pending(self) -> int:
        """How many objects stand in staging without a row, those that are stuck included."""
        return len(self._pending) + len(self._stuck)

    @property
    def listed(self) -> bool:
        """Tell whether what stands in the journal is known."""
        return self._listed

    @property
    def waiting(self) -> int:
        """How many entries are still to be taken in, without those that are stuck."""
        return len(self._pending)

    def add(self, name: str, note: Mapping[str, str]) -> None:
        """Take the journal entry `name` in as soon as that works."""
        self._pending[name] = note
        self._wake.set()

    def look_again(self) -> None:
        """List anew what stands in staging: it was away, or the index is another one."""
        self._listed = False
        self._wake.set()

    def start(self) -> None:
        """Begin with everything that stands in the journal now; returns at once."""
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stop; what is not done is done at the next start. Idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            if not self._listed:
                self._listed = await self._list()
            await self.replay()
            idle = self._listed and not self._pending
            try:
                async with asyncio.timeout(None if idle else self._retry_s):
                    await self._wake.wait()
                    # Let the failure that woke us pass before trying the same again.
                    await asyncio.sleep(min(1.0, self._retry_s))
            except TimeoutError:
                continue

    async def _list(self) -> bool:
        """Note what stands in the journal and has no row; False when that cannot be told."""
        if self._staging.failure:
            return False  # said already; we are told when it is back
        try:
            rows = await self._catalogue.staged()
            entries = await self._staging.journal()
            await self._forget_gone(rows, {entry.name for entry in entries})
            known = {row.staged_as for row in await self._catalogue.staged()}
            known |= await self._catalogue.lifecycle.staged_names()  # of what was deleted
        except (StagingFailed, DatabaseError) as error:
            log.error("staging: what was left by the last run cannot be listed: %s", error.reason)  # noqa: TRY400 - the reason says it all
            return False
        for entry in entries:
            if entry.name not in known and entry.name not in self._stuck:
                self._pending.setdefault(entry.name, entry.note)
        if self._pending:
            log.info("staging: %d objects of the last run are taken in again", len(self._pending))
        return True

    async def _forget_gone(self, rows: Collection[StoredKey], standing: Collection[str]) -> None:
        """Note of objects that their entry is gone: the disk is another, or the index is older.

        Else the entry of such an object that is sent again would be let go at once, as one too
        many. `rows` are older than `standing`, so that no entry is missed that was just made.
        """
        gone = [row.sop_instance_uid for row in rows if row.staged_as not in standing]
        if gone:
            log.warning("staging: the entries of %d objects are gone", len(gone))
            self._counters.add("recovery_gone_entries", len(gone))
            await self._catalogue.unstaged(gone)

    async def replay(self) -> None:
        """Try every pending entry once."""
        names = iter(tuple(self._pending))

        async def worker() -> None:
            for name in names:
                await self._replay_one(name)

        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(worker())

    async def _replay_one(self, name: str) -> None:
        try:
            outcome = await self._take_again(name)
        except (NoDurableStorage, errors.NoDurableStorage, errors.CapacityReached):
            return  # stays pending; the volume, the index or the limit has been reported
        except (StagingFailed, StagingFull, DatabaseError):
            return
        except (errors.IngestError, NotDicom) as error:
            # It passed when it came, so this is a fault of ours or of the disk: keep it.
            log.error("staging: entry %s cannot be taken in and stays: %s", name, error.reason)  # noqa: TRY400 - the reason says it all
            self._counters.add("recovery_stuck_objects")
            self._stuck.add(name)
        except Exception:  # a fault of ours in one entry must not keep the others out
            log.exception("staging: entry %s cannot be taken in and stays", name)
            self._counters.add("recovery_stuck_objects")
            self._stuck.add(name)
        else:
            if outcome is None:
                return  # the index still does not take its row
            self._counters.add("recovery_objects", outcome=outcome)
        self._pending.pop(name, None)

    async def _take_again(self, name: str) -> str | None:
        """Take one entry in; returns what became of it, None when that is not decided."""
        try:
            sealed = await self._staging.open_entry(name)
        except StagingFailed as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return "gone"  # its own commit came to its end in the meantime
            raise
        try:
            head = split(await sealed.read(0, min(META_BYTES, sealed.size)))
            async with self._taking.turn(head.sop_instance_uid):
                if await self._catalogue.staged([name]):
                    return "known"
                arrival, judgement = await self._judge(name, sealed, head)
                if await self._catalogue.lifecycle.adopt_staged(
                    head.sop_instance_uid, sealed.digest, arrival.received_at, name
                ):
                    return "deleted"  # its entry outlived it; the trash lets it go
                receipt = await self._taking.take_in_turn(
                    sealed, arrival, judgement, place=self._place
                )
                return None if receipt.pending else receipt.outcome
        finally:
            sealed.close()

    async def _judge(self, name: str, sealed: Sealed, head: FileHead) -> tuple[Arrival, Judgement]:
        note = self._pending[name]
        if note.get("digest", sealed.digest) != sealed.digest:
            raise errors.ObjectUnreadable("Its bytes are not those that were received.")
        arrival = from_note(
            note,
            sop_class_uid=head.sop_class_uid,
            sop_instance_uid=head.sop_instance_uid,
            transfer_syntax_uid=head.transfer_syntax_uid,
            fallback=self._clock.now(),
        )
        if arrival.hold == CONFLICT:
            # Judged anew: the conflict may be gone, and if not it is found again.
            arrival = replace(arrival, hold=None)
        return arrival, await self._taking.judge_sealed(arrival, sealed, head.data_offset)

    async def _place(self, sealed: Sealed, key: str, note: Mapping[str, str]) -> Placed:
        """Put an entry of the journal on the first volume that takes it; it stays in staging.

        Unlike `Placement.store` it takes nothing back on failure: the object may have been
        acknowledged. Nobody waits, so one volume is enough for now; the rest is owed.
        """
        name = await sealed.keep(note)
        for volume in self._volumes.healthy():
            try:
                result = await volume.put(key, fd=sealed.fd, size=sealed.size, digest=sealed.digest)
            except VolumeError as error:
                log.warning("volume %s: an object of the last run: %s", volume.spec.name, error)
                continue
            if result.outcome is PutOutcome.CONFLICT:
                raise KeyConflict(key, result.existing_digest, volume.spec.name)
            others = [other.spec.name for other in self._volumes.ordered if other is not volume]
            return Placed(
                copies=(volume.spec.name,), staged_as=name, owed=tuple(others), degraded=False
            )
        raise NoDurableStorage("no volume takes the object now")
