# SPDX-License-Identifier: Apache-2.0
"""What the box knows about itself at this moment, for status, health, metrics and conditions.

Numbers that need a query are read anew every few seconds by one task, so that asking how the box
is never waits for anything.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import psutil

from scrigno.access.audit import AuditTrail
from scrigno.archive.index_state import IndexState
from scrigno.catalogue.fixity import LostKind
from scrigno.catalogue.records import Totals, VolumeTally
from scrigno.core.events import VolumeChanged
from scrigno.db.errors import DatabaseError
from scrigno.health.conditions import (
    Condition,
    Facts,
    Readiness,
    VolumeFacts,
    conditions,
    in_order,
    readiness,
)
from scrigno.node.providers import ListenerState, Node
from scrigno.settings.store import SettingsStore
from scrigno.volumes import devices
from scrigno.volumes.states import VolumeState
from scrigno.web.rooms import Gauge, Listening

from .archive_parts import ArchiveParts
from .loop_lag import LoopLag
from .stores import Common, Stores

log = logging.getLogger(__name__)

REFRESH_S: Final = 3.0  # well inside the ten seconds in which a banner must show
WRITABLE: Final = frozenset({VolumeState.ONLINE, VolumeState.SUSPECT})


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexFacts:
    """What the index said when it was last asked."""

    totals: Totals
    tallies: dict[str, VolumeTally]
    inbox: dict[str, int]
    patient_cases: int
    lost: dict[LostKind, int]


class FactBook:
    """Collects facts from the running parts. Loop thread only."""

    def __init__(
        self,
        settings: SettingsStore,
        stores: Stores,
        archive: ArchiveParts,
        node: Node,
        audit: AuditTrail,
        common: Common,
    ) -> None:
        """Hold the parts; `start` begins to ask them."""
        self._settings = settings
        self._access = stores.access
        self._catalogue = stores.catalogue
        self._staging = stores.staging
        self._capacity = stores.staging_capacity_bytes
        self._volumes = stores.volumes
        self._archive = archive
        self._node = node
        self._audit = audit
        self._clock = common.clock
        self._index: IndexFacts | None = None
        self._index_error = ""
        self._changed_s: dict[str, float] = {}  # volume -> monotonic time of its last change
        self._owed_since_s: dict[str, float] = {}
        self._task: asyncio.Task[None] | None = None
        self._unsubscribe = common.bus.subscribe(VolumeChanged, self._volume_changed)
        self._process = psutil.Process()
        self._lag = LoopLag()
        self.stopping = False
        self.retention_error: Callable[[], str] = str  # why rules could not run
        self.elsewhere: Callable[[], Iterable[Condition]] = tuple  # machine, channels, history

    async def start(self) -> None:
        """Ask once, then keep asking."""
        self._lag.start()
        await self.refresh()
        self._task = asyncio.create_task(self._keep_asking(), name="facts")

    async def close(self) -> None:
        """Stop asking; idempotent."""
        self._unsubscribe()
        await self._lag.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def refresh(self) -> None:
        """Read what needs a query now."""
        try:
            self._index = IndexFacts(
                totals=await self._catalogue.totals(),
                tallies=await self._catalogue.volume_tallies(),
                inbox=await self._catalogue.inbox_count(),
                patient_cases=(await self._archive.cases.waiting()).patients,
                lost=await self._catalogue.lost_counts(),
            )
        except DatabaseError as error:
            if not self._index_error:
                log.error("index: %s", error.reason)  # noqa: TRY400 - the reason says it all
            self._index_error = error.reason
            return
        self._index_error = ""
        now = self._clock.monotonic()
        for name, tally in self._index.tallies.items():
            if tally.owed:
                self._owed_since_s.setdefault(name, now)
            else:
                self._owed_since_s.pop(name, None)

    async def _keep_asking(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_S)
            await self.refresh()

    def _volume_changed(self, event: VolumeChanged) -> None:
        self._changed_s[event.volume] = self._clock.monotonic()
        log.info("volume %s: %s, was %s: %s", event.volume, event.after, event.before, event.reason)

    # answers -----------------------------------------------------------------------------------

    @property
    def totals(self) -> Totals:
        """Return what the archive held when it was last asked."""
        if self._index is None:
            return Totals(patients=0, studies=0, series=0, instances=0, size_bytes=0)
        return self._index.totals

    @property
    def inbox(self) -> dict[str, int]:
        """Return how many objects the inbox holds, by reason."""
        return {} if self._index is None else self._index.inbox

    def owed(self, volume: str) -> int:
        """Return how many objects a volume has not got yet."""
        tally = None if self._index is None else self._index.tallies.get(volume)
        return tally.owed if tally else 0

    def conditions(self) -> Sequence[Condition]:
        """Return what is wrong now, the worst first."""
        return in_order([*self.archive_conditions(), *self.elsewhere()])

    def archive_conditions(self) -> Sequence[Condition]:
        """Return what is wrong with the archive itself."""
        return conditions(self._facts())

    def readiness(self) -> Readiness:
        """Tell whether images can be stored and read now."""
        return readiness(self._facts())

    def listening(self) -> Sequence[Listening]:
        """Return every DICOM provider of the settings with its real port."""
        return [
            Listening(
                name=each.name,
                port=each.port if each.state is ListenerState.LISTENING else None,
                error=each.reason,
                associations=each.associations,
            )
            for each in self._node.statuses()
        ]

    def gauges(self) -> Iterator[Gauge]:
        """Yield what the metrics page shows besides the counters."""
        totals = self.totals
        for name in ("patients", "studies", "series", "instances"):
            yield Gauge(name=name, value=getattr(totals, name), labels={})
        yield Gauge(name="archive_bytes", value=totals.size_bytes, labels={})
        yield Gauge(name="associations", value=self._node.association_count, labels={})
        yield Gauge(name="staging_used_bytes", value=self._staging.used_bytes, labels={})
        yield Gauge(name="staging_capacity_bytes", value=self._capacity, labels={})
        yield Gauge(name="resident_memory_bytes", value=self._process.memory_info().rss, labels={})
        yield Gauge(name="loop_lag_seconds", value=self._lag.p99(), labels={"of": "p99"})
        yield Gauge(name="loop_lag_seconds", value=self._lag.most(), labels={"of": "max"})
        for reason, count in self.inbox.items():
            yield Gauge(name="inbox_objects", value=count, labels={"reason": reason})
        for status in self._volumes.statuses():
            labels = {"volume": status.name}
            yield Gauge(
                name="volume_state", value=1, labels={**labels, "state": status.state.value}
            )
            yield Gauge(name="volume_owed_objects", value=self.owed(status.name), labels=labels)
            if status.total_bytes is not None and status.free_bytes is not None:
                yield Gauge(name="volume_total_bytes", value=status.total_bytes, labels=labels)
                yield Gauge(name="volume_free_bytes", value=status.free_bytes, labels=labels)

    def _facts(self) -> Facts:
        settings = self._settings.current
        return Facts(
            volumes=tuple(self._volume_facts()),
            ack_copies=settings.ingest.ack_copies,
            devices_available=self._devices(count_folders=settings.ingest.count_shared_device),
            staging_used_bytes=self._staging.used_bytes,
            staging_capacity_bytes=self._capacity,
            staging_error=self._staging.failure,
            index_error=self._index_trouble(),
            index_backup_age_s=self._index_backup_age_s(),
            pending_objects=self._archive.recovery.pending,
            inbox_conflicts=self.inbox.get("conflict", 0),
            inbox_unreadable=self.inbox.get("unreadable", 0),
            inbox_held=self.inbox.get("unapproved-node", 0),
            inbox_patients=self._index.patient_cases if self._index else 0,
            objects_without_good_copy=self._lost(LostKind.LOST),
            scrub_every_s=self._scrub_every_s(),
            trash_error=self._archive.trash.error,
            retention_error=self.retention_error(),
            unclaimed=not self._access.claimed,
            studies=self.totals.studies,
            max_studies=settings.limits.max_studies,
            audit_error=self._audit.failure,
            audit_dropped=self._audit.dropped,
            settings_error="; ".join(filter(None, (self._settings.damage, self._volumes.damage))),
            stopping=self.stopping,
        )

    def _index_trouble(self) -> str:
        keeper = self._archive.keeper.facts
        if keeper.state in {IndexState.OPEN, IndexState.REPLAYING, IndexState.REBUILDING}:
            return self._index_error
        return keeper.reason or self._index_error

    def _lost(self, kind: LostKind) -> int:
        return 0 if self._index is None else self._index.lost.get(kind, 0)

    def _scrub_every_s(self) -> float | None:
        scrub = self._settings.current.care.scrub
        return scrub.every_days * 86400.0 if scrub.enabled else None

    def _volume_facts(self) -> Iterator[VolumeFacts]:
        now = self._clock.monotonic()
        for status in self._volumes.statuses():
            progress = self._archive.replicator.progress(status.name)
            scrub = self._archive.scrubber.status(status.name)
            all_bytes = progress.done_bytes + progress.owed_bytes
            yield VolumeFacts(
                name=status.name,
                role=status.role.value,
                state=status.state.value,
                reason=status.reason,
                away_s=now - self._changed_s.get(status.name, now),
                total_bytes=status.total_bytes,
                free_bytes=status.free_bytes,
                paused=status.paused,
                operator_reason=status.operator_reason,
                total_inodes=status.total_inodes,
                free_inodes=status.free_inodes,
                owed_objects=self.owed(status.name),
                catch_up_percent=100 * progress.done_bytes / all_bytes if all_bytes else None,
                catch_up_per_s=progress.bytes_per_s,
                catch_up_left_s=progress.eta_s,
                scrub_bad=max(0, scrub.bad - scrub.repaired),
                scrub_age_s=None
                if scrub.last_finished is None
                else (self._clock.now() - scrub.last_finished).total_seconds(),
                oldest_debt_s=now - self._owed_since_s.get(status.name, now),
            )

    def _index_backup_age_s(self) -> float | None:
        made = self._archive.backups.last_made
        return None if made is None else (self._clock.now() - made).total_seconds()

    def _devices(self, *, count_folders: bool) -> int:
        """Count the distinct disks that take writes now, staging included."""
        usable = [each for each in self._volumes.ordered if each.state in WRITABLE]
        staging = [] if self._staging.failure else [self._staging]
        return devices.count([*staging, *usable], shared=count_folders)
