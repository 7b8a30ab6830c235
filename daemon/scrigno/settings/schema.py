# SPDX-License-Identifier: Apache-2.0
"""The settings as typed values. What each value may be is in `shapes`, beside its explanation."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from .care import AlertSettings, CareSettings
from .entrance import AccessSettings
from .launch import LaunchSettings, ShareSettings
from .transfer import TransferSettings
from .trust import AuditSettings, OutgoingSettings, WebhookSettings, WebSettings


class Unregistered(StrEnum):
    """What a provider does with a node that is not on its list (SPEC DN-3)."""

    ACCEPT = "accept"  # takes its images into the archive, as the old product did
    HOLD = "hold"  # keeps its images in the inbox until the node is approved
    REJECT = "reject"  # refuses the association


class Right(StrEnum):
    """A verb that a remote node may use."""

    ECHO = "echo"
    STORE = "store"
    QUERY = "query"
    RETRIEVE = "retrieve"
    WORKLIST = "worklist"
    MPPS = "mpps"
    COMMITMENT = "commitment"


ALL_RIGHTS = frozenset(Right)


class PeerState(StrEnum):
    """Whether an operator has said yes to a remote node."""

    APPROVED = "approved"
    PENDING = "pending"  # registered itself by a first contact, nobody has looked yet
    BLOCKED = "blocked"


class VolumeRole(StrEnum):
    """What a volume is for; there is exactly one data volume."""

    DATA = "data"
    BACKUP = "backup"


class UnknownSopClasses(StrEnum):
    """What to do with storage classes that the DICOM dictionary at hand does not name."""

    ACCEPT = "accept"
    REJECT = "reject"


class Language(StrEnum):
    """The languages of the pages (SPEC VW-8), as BCP 47 names them."""

    ENGLISH = "en"
    ITALIAN = "it"
    FRENCH = "fr"
    JAPANESE = "ja"
    KOREAN = "ko"
    VIETNAMESE = "vi"


class LogLevel(StrEnum):
    """How much the log says."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """One DICOM application entity of this box: where it listens and what it is called."""

    name: str
    ae_title: str
    port: int
    host: str = "0.0.0.0"  # noqa: S104 - a PACS is there to be reached from the network
    unregistered: Unregistered = Unregistered.HOLD
    enabled: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A remote DICOM node.

    `host` is an IP address, a network in CIDR notation, a host name, or `*` for any address.
    `port` is where the node listens; a node that registered itself is assumed at 104 until
    somebody says better. `first_seen` is set for nodes that registered themselves.
    """

    name: str
    ae_title: str
    host: str
    port: int = 104
    rights: frozenset[Right] = ALL_RIGHTS
    state: PeerState = PeerState.APPROVED
    first_seen: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeSetting:
    """A folder on a disk that is to hold images."""

    name: str
    role: VolumeRole
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestSettings:
    """When an image may be acknowledged, and what is taken at all."""

    ack_copies: int = 2
    count_shared_device: bool = False
    max_object_bytes: int = 4 << 30
    unknown_sop_classes: UnknownSopClasses = UnknownSopClasses.ACCEPT


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSettings:
    """Capacity limits (SPEC AD-8); None is unlimited."""

    max_studies: int | None = None
    max_web_connections: int | None = None
    max_dicom_connections: int | None = None
    max_associations_per_peer: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPart:
    """A room, or a module of it, whose log says more or less than the rest."""

    part: str
    level: LogLevel


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that can be changed while the box runs; one revision of it is in force."""

    volumes: tuple[VolumeSetting, ...] = ()
    providers: tuple[Provider, ...] = ()
    peers: tuple[Peer, ...] = ()
    ingest: IngestSettings = field(default_factory=IngestSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)
    care: CareSettings = field(default_factory=CareSettings)
    alerts: AlertSettings = field(default_factory=AlertSettings)
    transfer: TransferSettings = field(default_factory=TransferSettings)
    language: Language = Language.ENGLISH
    default_character_set: str = ""  # DICOM defined terms joined with a backslash; "" is ASCII
    log_level: LogLevel | None = None  # None: as the configuration file says
    log_levels: tuple[LogPart, ...] = ()
    audit: AuditSettings = field(default_factory=AuditSettings)
    webhooks: WebhookSettings = field(default_factory=WebhookSettings)
    outgoing: OutgoingSettings = field(default_factory=OutgoingSettings)
    web: WebSettings = field(default_factory=WebSettings)
    launch: LaunchSettings = field(default_factory=LaunchSettings)
    share: ShareSettings = field(default_factory=ShareSettings)
    access: AccessSettings = field(default_factory=AccessSettings)

    def provider(self, name: str) -> Provider | None:
        """Return the provider of that name."""
        return next((each for each in self.providers if each.name == name), None)

    def peer(self, name: str) -> Peer | None:
        """Return the peer of that name."""
        return next((each for each in self.peers if each.name == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class WebConfig:
    """Where the pages are served. Port 0 asks the system for a free one (tests)."""

    host: str = "0.0.0.0"  # noqa: S104 - the pages are there to be reached from the network
    port: int = 80
    tls_port: int | None = 443  # None: no https


@dataclass(frozen=True, slots=True, kw_only=True)
class LogConfig:
    """How much is logged and where; no directory means standard error only."""

    level: LogLevel = LogLevel.INFO
    dir: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexConfig:
    """Where the index is: `sqlite` (in the state directory) or a postgresql URL."""

    url: str = "sqlite"


@dataclass(frozen=True, slots=True, kw_only=True)
class BootConfig:
    """What is read once at start from the configuration file.

    `initial` becomes revision 1 of the settings when the state directory has none yet; after
    that it is not looked at again.
    """

    state_dir: Path
    staging_dir: Path
    web: WebConfig = field(default_factory=WebConfig)
    log: LogConfig = field(default_factory=LogConfig)
    index: IndexConfig = field(default_factory=IndexConfig)
    initial: Settings = field(default_factory=Settings)
