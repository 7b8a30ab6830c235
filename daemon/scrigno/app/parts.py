# SPDX-License-Identifier: Apache-2.0
"""Every object of the daemon, made once, started in order and stopped in reverse."""

import asyncio
from dataclasses import dataclass
from typing import Final

from scrigno.access.access import Access
from scrigno.access.audit import AuditTrail
from scrigno.appliance.disks import Disks, specs_of
from scrigno.archive.exporter import Exporter
from scrigno.archive.importer import Importer
from scrigno.archive.inbox import Inbox
from scrigno.archive.rebuild import Rebuilder
from scrigno.archive.reconcile import Reconciler
from scrigno.archive.replicate import Replicator
from scrigno.archive.retention import Retention
from scrigno.archive.verify import Verifier
from scrigno.catalogue.catalogue import Catalogue
from scrigno.core.clock import SystemClock
from scrigno.core.counters import Counters
from scrigno.core.events import EventBus, SettingsChanged
from scrigno.host.physical import PhysicalDevices
from scrigno.imaging.cache import FrameCache
from scrigno.imaging.workers import ImagingPool
from scrigno.jobs.jobs import Jobs
from scrigno.node.providers import Node
from scrigno.reading.reading import Reading
from scrigno.settings.peers import Peers
from scrigno.settings.schema import BootConfig
from scrigno.settings.store import SettingsStore
from scrigno.volumes.staging import Staging
from scrigno.volumes.states import VolumeState
from scrigno.volumes.volume import Volumes
from scrigno.web.application import build_app
from scrigno.web.certificates import Certificates
from scrigno.web.rooms import Rooms

from .access_parts import access_rules, make_oidc
from .archive_parts import INDEX_FILE, ArchiveParts, make_archive
from .facts import FactBook
from .happenings import Happenings
from .health_parts import HealthParts, start_health
from .in_use import StudiesInUse
from .jobs_parts import make_jobs, make_uploads, tie_jobs
from .logs import Logs
from .pages import serve_pages
from .places import pages_folder, staging_capacity
from .reading_parts import make_reading
from .remote_parts import make_remote
from .retention_parts import make_retention
from .send_parts import start_sending
from .service_parts import Service
from .starter import Starter
from .stores import Common, Stores
from .trust_parts import TrustParts, start_trust

IMAGING_WORKERS: Final = 2
FRAME_CACHE_BYTES: Final = 2 << 30
GRACE_S: Final = 5.0  # for images and requests on their way when the box is asked to stop


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts that the operator's commands use, once everything is started."""

    access: Access
    archive: ArchiveParts
    audit: AuditTrail
    bus: EventBus
    catalogue: Catalogue
    disks: Disks
    facts: FactBook
    health: HealthParts
    importer: Importer
    inbox: Inbox
    jobs: Jobs
    node: Node
    reading: Reading
    rebuilder: Rebuilder
    reconciler: Reconciler
    replicator: Replicator
    retention: Retention
    service: Service
    settings: SettingsStore
    trust: TrustParts
    verifier: Verifier
    volumes: Volumes
    web_ports: tuple[int, ...]


async def start(config: BootConfig, logs: Logs, starter: Starter) -> Parts:
    """Make and start every part; what was started is registered with `starter` even on failure."""
    common = Common(bus=EventBus(), clock=SystemClock(), counters=Counters())
    settings = SettingsStore(config.state_dir, bus=common.bus, clock=common.clock)
    await settings.open(config.initial)
    _follow_log_level(settings, config, logs, common.bus)
    stores = await _open_stores(config, settings, common, starter)
    audit = AuditTrail(config.state_dir, common.clock, common.counters)
    starter.on_stop("audit trail", audit.close)
    await audit.open()
    archive = make_archive(settings, stores, common, audit, config.state_dir)
    archive.register(starter)
    await archive.open()
    imaging = ImagingPool(IMAGING_WORKERS, counters=common.counters)
    imaging.default_character_set = lambda: settings.current.default_character_set
    starter.on_stop("imaging workers", imaging.close)
    in_use = StudiesInUse(archive.reads, common.clock)
    in_use.listen(common.bus)
    peers = Peers(settings, bus=common.bus, clock=common.clock)
    node = Node(
        settings=settings,
        peers=peers,
        ingest=archive.ingest,
        catalogue=stores.catalogue,
        retrieval=archive.retrieval,
        imaging=imaging,
        bus=common.bus,
        counters=common.counters,
        clock=common.clock,
        on_read=in_use.note_read,
    )
    facts = FactBook(settings, stores, archive, node, audit, common)
    starter.on_stop("facts", facts.close)
    await facts.start()
    archive.start()
    disks = Disks(
        settings=settings,
        volumes=stores.volumes,
        catalogue=stores.catalogue,
        replaced=archive.replicator.replaced,
        audit=audit,
        bus=common.bus,
    )
    starter.on_stop("volumes by settings", disks.close)
    disks.start()
    certificates = Certificates(config.state_dir, clock=common.clock)
    health = await start_health(
        config, settings, stores.volumes, facts, audit, certificates, common, starter
    )
    archive.scrubber.hold = lambda: _background_rests(health, stores.volumes)
    archive.ingest.power_failing = health.watch.power_failing
    jobs = make_jobs(config, settings, common)
    starter.on_stop("jobs", jobs.close)
    await jobs.open()
    uploads = make_uploads(config, settings, common)
    await uploads.open()
    exporter = Exporter(catalogue=stores.catalogue, retrieval=archive.retrieval, imaging=imaging)
    imports = tie_jobs(jobs, settings, stores, archive, imaging, uploads, exporter, config, common)
    reading = make_reading(config, stores, common, audit)
    starter.on_stop("reading", reading.close)
    await reading.open()
    reading.start()
    retention = make_retention(settings, stores, archive, health, in_use, audit, common)
    starter.on_stop("retention", retention.close)
    retention.start()
    facts.retention_error = lambda: retention.error
    Happenings(health.book, settings).listen(common.bus, stores.access)
    trust = await start_trust(
        config, settings, stores, facts, health, audit, certificates, logs, common, starter
    )
    send = await start_sending(
        config,
        settings,
        stores.catalogue,
        archive.retrieval,
        imaging,
        stores.access,
        audit,
        common,
        starter,
        on_read=in_use.note_read,
    )
    service = Service(
        node=node,
        volumes=stores.volumes,
        archive=archive,
        secure_port=trust.secure_port,
        clock=common.clock,
    )
    rooms = Rooms(
        access=stores.access,
        alerts=health.book,
        audit=audit,
        backups=archive.backups,
        box=facts,
        bus=common.bus,
        cases=archive.cases,
        catalogue=stores.catalogue,
        clock=common.clock,
        counters=common.counters,
        disks=disks,
        dispatcher=health.dispatcher,
        frames=stores.frames,
        imaging=imaging,
        imports=imports,
        exporter=exporter,
        inbox=archive.inbox,
        ingest=archive.ingest,
        jobs=jobs,
        keeper=archive.keeper,
        launches=reading.launches,
        oidc=make_oidc(stores.access, settings, trust.outgoing, common.clock),
        on_read=in_use.note_read,
        one_time_keys=reading.one_time_keys,
        peers=peers,
        quarantine=archive.quarantine,
        reading=reading.reading,
        remote=make_remote(settings, stores.catalogue, archive.ingest, jobs, common),
        replicator=archive.replicator,
        retention=retention,
        retrieval=archive.retrieval,
        scrubber=archive.scrubber,
        send=send,
        service=service,
        settings=settings,
        trash=archive.trash,
        verifier=archive.verifier,
        volumes=stores.volumes,
        watch=health.watch,
        logs=logs,
        **trust.for_rooms(),
    )
    jobs.rests = lambda: _background_rests(health, stores.volumes)
    jobs.start_all()
    app = build_app(rooms, pages_folder=pages_folder())
    web_ports = await serve_pages(
        app, config.web, trust.secure_port, trust.connections, common.bus, starter
    )
    # The door for images opens last, when everything behind it stands, and closes first.
    starter.on_stop("DICOM node", lambda: node.close(GRACE_S))
    await node.start()
    return Parts(
        access=stores.access,
        archive=archive,
        audit=audit,
        bus=common.bus,
        catalogue=stores.catalogue,
        disks=disks,
        facts=facts,
        health=health,
        importer=archive.importer,
        inbox=archive.inbox,
        jobs=jobs,
        node=node,
        reading=reading.reading,
        rebuilder=archive.rebuilder,
        reconciler=archive.reconciler,
        replicator=archive.replicator,
        retention=retention,
        service=service,
        settings=settings,
        trust=trust,
        verifier=archive.verifier,
        volumes=stores.volumes,
        web_ports=web_ports,
    )


async def _open_stores(
    config: BootConfig, settings: SettingsStore, common: Common, starter: Starter
) -> Stores:
    capacity = await asyncio.to_thread(staging_capacity, config.staging_dir)
    access = Access(
        config.state_dir,
        clock=common.clock,
        counters=common.counters,
        rules=access_rules(settings),
    )
    catalogue = Catalogue(
        config.state_dir / INDEX_FILE, counters=common.counters, clock=common.clock
    )
    physical = PhysicalDevices()
    staging = Staging(
        config.staging_dir / "objects",
        capacity_bytes=capacity,
        counters=common.counters,
        devices_of=physical.devices_of,
    )
    volumes = Volumes(
        specs_of(settings.current),
        state_dir=config.state_dir,
        counters=common.counters,
        bus=common.bus,
        clock=common.clock,
        devices_of=physical.devices_of,
        # the index is made after the volumes' memory: with one and without the other it was lost
        used_before=await asyncio.to_thread((config.state_dir / f"{INDEX_FILE}.made").exists),
    )
    frames = FrameCache(
        config.staging_dir / "frames",
        capacity_bytes=FRAME_CACHE_BYTES,
        counters=common.counters,
    )
    starter.on_stop("accounts", access.close)
    starter.on_stop("staging", staging.close)
    starter.on_stop("volumes", volumes.close)
    starter.on_stop("frame cache", frames.close)
    # Independent of each other; the worker processes of the volumes take the longest.
    async with asyncio.TaskGroup() as opening:
        for each in (access, staging, frames):
            opening.create_task(each.open())
        opening.create_task(volumes.start())
    return Stores(
        access=access,
        catalogue=catalogue,
        frames=frames,
        staging=staging,
        staging_capacity_bytes=capacity,
        volumes=volumes,
    )


def _background_rests(health: HealthParts, volumes: Volumes) -> bool:
    """Tell whether work that can wait has to: no mains, or a volume catches up."""
    recovering = any(volume.state is VolumeState.RECOVERING for volume in volumes.ordered)
    return recovering or health.watch.hold_background()


def _follow_log_level(
    settings: SettingsStore, config: BootConfig, logs: Logs, bus: EventBus
) -> None:
    """Let the log say as much as the settings want, now and after each change."""

    def follow(_event: SettingsChanged | None = None) -> None:
        now = settings.current
        apart = {each.part: each.level for each in now.log_levels}
        logs.set_levels(now.log_level or config.log.level, apart)

    follow()
    bus.subscribe(SettingsChanged, follow)
