# SPDX-License-Identifier: Apache-2.0
"""What the web application is composed of; the app room fills it in."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from aiohttp import web

from scrigno.access.access import Access
from scrigno.access.audit import AuditTrail
from scrigno.access.audit_syslog import Forwarder
from scrigno.access.oidc import OidcLogin
from scrigno.access.otp import OneTimeKeys
from scrigno.access.sessions import Session
from scrigno.appliance.disks import Disks
from scrigno.archive.backups import IndexBackups
from scrigno.archive.cases import Cases
from scrigno.archive.exporter import Exporter
from scrigno.archive.import_desk import ImportDesk
from scrigno.archive.inbox import Inbox
from scrigno.archive.indexkeeper import IndexKeeper
from scrigno.archive.ingest import Ingest
from scrigno.archive.quarantine import Quarantine
from scrigno.archive.replicate import Replicator
from scrigno.archive.retention import Retention
from scrigno.archive.retrieve import Retrieval
from scrigno.archive.scrub import Scrubber
from scrigno.archive.trash import Trash
from scrigno.archive.verify import Verifier
from scrigno.catalogue.catalogue import Catalogue
from scrigno.catalogue.records import Totals
from scrigno.core.clock import Clock
from scrigno.core.counters import Counters
from scrigno.core.events import EventBus
from scrigno.health.book import AlertBook
from scrigno.health.conditions import Condition, Readiness
from scrigno.health.dispatch import Dispatcher
from scrigno.health.outgoing import Outgoing
from scrigno.health.watch import MachineWatch
from scrigno.health.webhooks import Webhooks
from scrigno.imaging.cache import FrameCache
from scrigno.imaging.workers import ImagingPool
from scrigno.jobs.jobs import Jobs
from scrigno.reading.launching import LaunchTokens
from scrigno.reading.reading import Reading
from scrigno.settings.peers import Peers
from scrigno.settings.store import SettingsStore
from scrigno.volumes.volume import Volumes

from .certificates import Certificates
from .connections import Connections
from .log_files import LogFiles
from .looks import Looks
from .remote_answers import RemoteDesk
from .send_answers import SendDesk
from .service_answers import ServiceDesk


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """One DICOM provider as it is now; `port` is None while it does not listen, `error` why."""

    name: str
    port: int | None
    error: str = ""
    associations: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauge:
    """A number that goes up and down, for the metrics page; name in snake case with its unit."""

    name: str
    value: float
    about: str = ""
    labels: Mapping[str, str]


class Box(Protocol):
    """What only the composed box knows. Quick calls on the loop."""

    def conditions(self) -> Sequence[Condition]:
        """Return what is wrong now, the worst first."""

    def readiness(self) -> Readiness:
        """Tell whether images can be stored and read now."""

    def listening(self) -> Sequence[Listening]:
        """Return every DICOM provider of the settings with its real port."""

    def gauges(self) -> Iterable[Gauge]:
        """Return what the metrics page shows besides the counters."""

    @property
    def totals(self) -> Totals:
        """Return what the archive held when it was last asked."""


class SecurePort(Protocol):
    """Where https is served."""

    @property
    def port(self) -> int | None:
        """Return the port, None while https is not served."""

    @property
    def error(self) -> str:
        """Return why it is not served although it should be."""

    def names(self) -> tuple[str, ...]:
        """Return the names and addresses that the box's own certificate is to hold."""


class Support(Protocol):
    """Makes the support bundle."""

    def name(self) -> str:
        """Return how the file is to be called."""

    async def make(self) -> bytes:
        """Return the bundle as a ZIP."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rooms:
    """Everything the handlers use; `on_read` hears the UID of each study that is looked at."""

    access: Access
    alerts: AlertBook
    audit: AuditTrail
    backups: IndexBackups
    box: Box
    bus: EventBus
    cases: Cases
    catalogue: Catalogue
    certificates: Certificates
    clock: Clock
    connections: Connections
    counters: Counters
    disks: Disks
    dispatcher: Dispatcher
    frames: FrameCache
    imaging: ImagingPool
    imports: ImportDesk
    exporter: Exporter
    inbox: Inbox
    ingest: Ingest
    jobs: Jobs
    keeper: IndexKeeper
    launches: LaunchTokens
    logs: LogFiles
    looks: Looks
    oidc: OidcLogin
    on_read: Callable[[str], None]
    one_time_keys: OneTimeKeys
    outgoing: Outgoing
    peers: Peers
    quarantine: Quarantine
    reading: Reading
    remote: RemoteDesk
    replicator: Replicator
    retention: Retention
    retrieval: Retrieval
    scrubber: Scrubber
    send: SendDesk
    service: ServiceDesk
    secure_port: SecurePort
    settings: SettingsStore
    support: Support
    syslog: Forwarder
    trash: Trash
    verifier: Verifier
    volumes: Volumes
    watch: MachineWatch
    webhooks: Webhooks


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks: the session and the token it came with, and whether that was a cookie."""

    session: Session
    token: str
    by_cookie: bool


CALLER: Final = web.RequestKey("caller", Caller)


def caller_of(request: web.Request) -> Caller:
    """Return who asks, on routes that need a log-in."""
    return request[CALLER]


def author_of(request: web.Request) -> str:
    """Return the name that goes into the history of the settings."""
    return caller_of(request).session.account.name
