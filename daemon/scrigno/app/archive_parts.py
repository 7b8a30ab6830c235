# SPDX-License-Identifier: Apache-2.0
"""The archive's own parts, made, started and stopped together."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scrigno.archive.backups import IndexBackups
from scrigno.archive.importer import Importer
from scrigno.archive.inbox import Inbox
from scrigno.archive.ingest import Ingest, IngestRules
from scrigno.archive.mend import Mender
from scrigno.archive.rebuild import Rebuilder
from scrigno.archive.reconcile import Reconciler
from scrigno.archive.recovery import Recovery
from scrigno.archive.replicate import Replicator
from scrigno.archive.retrieve import Retrieval
from scrigno.archive.taking import Taking
from scrigno.archive.verify import Verifier
from scrigno.settings.store import SettingsStore
from scrigno.volumes.placement import IngestPolicy, Placement

from .starter import Starter
from .stores import Common, Stores

GRACE_S: Final = 5.0  # for images on their way when the box stops
QUIET_S: Final = 1.0  # without a new image for this long, replication takes all it can get


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveParts:
    """Everything of the archive that lives as long as the daemon."""

    backups: IndexBackups
    importer: Importer
    inbox: Inbox
    ingest: Ingest
    rebuilder: Rebuilder
    reconciler: Reconciler
    recovery: Recovery
    replicator: Replicator
    retrieval: Retrieval
    taking: Taking
    verifier: Verifier

    def start(self) -> None:
        """Take in what the last run left, pay debts, back the index up; returns at once."""
        self.recovery.start()
        self.replicator.start()
        self.verifier.start()
        self.backups.start()

    def register(self, starter: Starter) -> None:
        """Say how each is stopped: ingest first, since the others serve it."""
        starter.on_stop("index backups", self.backups.close)
        starter.on_stop("verification", self.verifier.close)
        starter.on_stop("replication", self.replicator.close)
        starter.on_stop("recovery", self.recovery.close)
        starter.on_stop("ingest", lambda: self.ingest.close(GRACE_S))


def make_archive(
    settings: SettingsStore, stores: Stores, common: Common, work_dir: Path
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
        is_busy=lambda: clock.monotonic() - ingest.last_commit_s < QUIET_S,
    )
    taking.on_debt = replicator.nudge
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
        volumes=volumes, staging=staging, counters=counters, on_suspect=verifier.suspect
    )
    rebuilder = Rebuilder(
        catalogue=catalogue,
        volumes=volumes,
        rules=rules,
        counters=counters,
        clock=clock,
        on_debt=replicator.nudge,
    )
    return ArchiveParts(
        backups=IndexBackups(
            catalogue=catalogue, volumes=volumes, work_dir=work_dir, counters=counters, clock=clock
        ),
        importer=Importer(ingest),
        inbox=Inbox(
            catalogue=catalogue,
            volumes=volumes,
            staging=staging,
            ingest=ingest,
            retrieval=retrieval,
            turn=taking.turn,
        ),
        ingest=ingest,
        rebuilder=rebuilder,
        reconciler=Reconciler(
            catalogue=catalogue,
            volumes=volumes,
            rebuilder=rebuilder,
            on_debt=replicator.nudge,
        ),
        recovery=Recovery(
            staging=staging,
            volumes=volumes,
            catalogue=catalogue,
            taking=taking,
            counters=counters,
            clock=clock,
        ),
        replicator=replicator,
        retrieval=retrieval,
        taking=taking,
        verifier=verifier,
    )
