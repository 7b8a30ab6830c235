# SPDX-License-Identifier: Apache-2.0
"""The archive's own parts, made, started and stopped together."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scrigno.access.audit import AuditTrail
from scrigno.archive.backups import IndexBackups
from scrigno.archive.cases import Cases
from scrigno.archive.importer import Importer
from scrigno.archive.inbox import Inbox
from scrigno.archive.indexkeeper import IndexKeeper
from scrigno.archive.ingest import Ingest, IngestRules
from scrigno.archive.mend import Mender
from scrigno.archive.quarantine import Quarantine
from scrigno.archive.reads import LastReads
from scrigno.archive.rebuild import Rebuilder
from scrigno.archive.recent_copies import RecentCopies
from scrigno.archive.reconcile import Reconciler
from scrigno.archive.recovery import Recovery
from scrigno.archive.replicate import Replicator
from scrigno.archive.retrieve import Retrieval
from scrigno.archive.scrub import Scrubber, ScrubRules
from scrigno.archive.taking import Taking
from scrigno.archive.trash import Trash, TrashRules
from scrigno.archive.unclean import CleanStop
from scrigno.archive.verify import Verifier
from scrigno.db.errors import DatabaseError
from scrigno.settings.store import SettingsStore
from scrigno.volumes.placement import IngestPolicy, Placement

from .starter import Starter
from .stores import Common, Stores

INDEX_FILE: Final = "index.db"
GRACE_S: Final = 5.0  # for images on their way when the box stops
QUIET_S: Final = 1.0  # without a new image for this long, replication takes all it can get


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveParts:
    """Everything of the archive that lives as long as the daemon."""

    backups: IndexBackups
    cases: Cases
    clean_stop: CleanStop
    importer: Importer
    inbox: Inbox
    ingest: Ingest
    keeper: IndexKeeper
    quarantine: Quarantine
    reads: LastReads
    rebuilder: Rebuilder
    reconciler: Reconciler
    recovery: Recovery
    replicator: Replicator
    retrieval: Retrieval
    scrubber: Scrubber
    taking: Taking
    trash: Trash
    verifier: Verifier

    async def open(self) -> None:
        """Open the index and learn what the last run left; before the first image."""
        await self.keeper.open()
        await self.clean_stop.open()
        with suppress(DatabaseError):  # the keeper brings the index back; the trash then learns
            await self.trash.open()

    def start(self) -> None:
        """Take in what the last run left, pay debts, back the index up; returns at once."""
        self.keeper.start()
        self.recovery.start()
        self.clean_stop.start()
        self.replicator.start()
        self.verifier.start()
        self.scrubber.start()
        self.trash.start()
        self.cases.start()
        self.reads.start()
        self.backups.start()

    def register(self, starter: Starter) -> None:
        """Say how each is stopped: ingest first, since the others serve it."""
        starter.on_stop("index", self.keeper.close)
        starter.on_stop("index backups", self.backups.close)
        starter.on_stop("reading times", self.reads.close)
        starter.on_stop("trash", self.trash.close)
        starter.on_stop("scrub", self.scrubber.close)
        starter.on_stop("verification", self.verifier.close)
        starter.on_stop("replication", self.replicator.close)
        starter.on_stop("clean stop", self.clean_stop.close)
        starter.on_stop("recovery", self.recovery.close)
        starter.on_stop("decisions", self.cases.close)
        starter.on_stop("ingest", lambda: self.ingest.close(GRACE_S))


def make_archive(
    settings: SettingsStore,
    stores: Stores,
    common: Common,
    audit: AuditTrail,
    work_dir: Path,
) -> ArchiveParts:
    """Make the archive's parts and tie them together; `work_dir` holds backups being made."""

    def rules() -> IngestRules:
        now = settings.current
        return IngestRules(
            max_object_bytes=now.ingest.max_object_bytes,
            ack_copies=now.ingest.ack_copies,
            count_shared_device=now.ingest.count_shared_device,
            max_studies=now.limits.max_studies,
            default_character_set=now.default_character_set,
        )

    def policy() -> IngestPolicy:
        now = settings.current.ingest
        return IngestPolicy(ack_copies=now.ack_copies, count_shared_device=now.count_shared_device)

    def is_busy() -> bool:
        return clock.monotonic() - ingest.last_commit_s < QUIET_S

    catalogue, staging, volumes = stores.catalogue, stores.staging, stores.volumes
    bus, clock, counters = common.bus, common.clock, common.counters
    placement = Placement(staging, volumes, policy)
    taking = Taking(
        staging=staging,
        volumes=volumes,
        catalogue=catalogue,
        rules=rules,
        bus=bus,
        counters=counters,
    )
    ingest = Ingest(
        staging=staging,
        placement=placement,
        taking=taking,
        rules=rules,
        counters=counters,
        clock=clock,
    )
    replicator = Replicator(
        catalogue=catalogue,
        volumes=volumes,
        staging=staging,
        placement=placement,
        rules=rules,
        bus=bus,
        counters=counters,
        staging_capacity_bytes=stores.staging_capacity_bytes,
        turn=taking.turn,
        is_busy=is_busy,
        recent=RecentCopies(clock, work_dir / "recent-copies"),
    )
    taking.on_debt, taking.doubted = replicator.nudge, replicator.doubted
    mender = Mender(
        catalogue=catalogue,
        volumes=volumes,
        placement=placement,
        counters=counters,
        clock=clock,
        bus=bus,
        turn=taking.turn,
    )
    verifier = Verifier(catalogue=catalogue, mender=mender, counters=counters, clock=clock)
    retrieval = Retrieval(
        volumes=volumes,
        staging=staging,
        counters=counters,
        on_suspect=verifier.suspect,
        anew=catalogue.instance,
    )
    rebuilder = Rebuilder(
        catalogue=catalogue,
        volumes=volumes,
        rules=rules,
        counters=counters,
        clock=clock,
        on_debt=replicator.nudge,
    )
    reconciler = Reconciler(
        catalogue=catalogue,
        volumes=volumes,
        rebuilder=rebuilder,
        on_debt=replicator.nudge,
        turn=taking.turn,
        suspect=verifier.suspect,
    )
    recovery = Recovery(
        staging=staging,
        volumes=volumes,
        catalogue=catalogue,
        taking=taking,
        counters=counters,
        clock=clock,
    )
    backups = IndexBackups(
        catalogue=catalogue, volumes=volumes, work_dir=work_dir, counters=counters, clock=clock
    )
    quarantine = Quarantine(
        catalogue=catalogue,
        volumes=volumes,
        counters=counters,
        clock=clock,
        is_good=mender.has_good_copy,
    )
    scrubber = Scrubber(
        catalogue=catalogue,
        volumes=volumes,
        mender=mender,
        quarantine=quarantine,
        rules=lambda: scrub_rules(settings),
        counters=counters,
        clock=clock,
        bus=bus,
        is_busy=is_busy,
        pause_mark=work_dir / "scrub-paused",
    )
    trash = Trash(
        catalogue=catalogue,
        volumes=volumes,
        staging=staging,
        placement=placement,
        taking=taking,
        rules=lambda: TrashRules(trash_days=settings.current.care.trash_days),
        bus=bus,
        counters=counters,
        clock=clock,
        turn=taking.turn,
        is_busy=is_busy,
        audit=audit.record,
        on_debt=replicator.nudge,
    )
    rebuilder.trash = trash  # or a rebuild would bring back what was deleted
    inbox = Inbox(
        catalogue=catalogue,
        volumes=volumes,
        staging=staging,
        ingest=ingest,
        retrieval=retrieval,
        turn=taking.turn,
        clock=clock,
        audit=audit.record,
        keep_days=lambda: settings.current.care.trash_days,
        character_set=lambda: settings.current.default_character_set,
        forget_studies=taking.forget_studies,
    )
    return ArchiveParts(
        backups=backups,
        clean_stop=CleanStop(
            state_dir=work_dir,
            taking=taking,
            recovery=recovery,
            reconciler=reconciler,
            counters=counters,
        ),
        cases=Cases(
            catalogue=catalogue,
            volumes=volumes,
            inbox=inbox,
            bus=bus,
            counters=counters,
            clock=clock,
            audit=audit.record,
        ),
        importer=Importer(ingest),
        inbox=inbox,
        ingest=ingest,
        keeper=IndexKeeper(
            catalogue=catalogue,
            path=work_dir / INDEX_FILE,
            volumes=volumes,
            staging=staging,
            backups=backups,
            rebuilder=rebuilder,
            reconciler=reconciler,
            recovery=recovery,
            counters=counters,
            clock=clock,
            bus=bus,
            replaced=(scrubber.reload, taking.forget_studies, replicator.reload, trash.nudge),
        ),
        quarantine=quarantine,
        reads=LastReads(catalogue=catalogue, clock=clock),
        rebuilder=rebuilder,
        reconciler=reconciler,
        recovery=recovery,
        replicator=replicator,
        retrieval=retrieval,
        scrubber=scrubber,
        taking=taking,
        trash=trash,
        verifier=verifier,
    )


def scrub_rules(settings: SettingsStore) -> ScrubRules:
    """Return how the scrub goes about, as the settings say now."""
    care = settings.current.care
    return ScrubRules(
        enabled=care.scrub.enabled,
        every_days=care.scrub.every_days,
        max_bytes_per_s=care.scrub.max_mib_per_s << 20,
        window=_minutes(care.scrub.window),
        quarantine_days=care.quarantine_days,
    )


def _minutes(window: str) -> tuple[int, int] | None:
    """Return `HH:MM-HH:MM` as minutes of the day."""
    if not window:
        return None
    begin, _, end = window.partition("-")
    first, last = (60 * int(each[:2]) + int(each[3:]) for each in (begin, end))
    return first, last
