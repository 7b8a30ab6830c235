# SPDX-License-Identifier: Apache-2.0
"""What the configuration file and a settings document may say, key by key.

This one table makes the reader, the JSON Schema, the export and the words of every refusal.
"""

from typing import Any, Final

from . import trust_shapes
from .care_shapes import ALERTS, CARE
from .entrance_shapes import ACCESS
from .kinds import (
    Flag,
    Folder,
    Group,
    Key,
    ListOf,
    OneOf,
    SomeOf,
    Text,
    Timestamp,
    Whole,
    is_address,
    is_host,
    is_network,
)
from .launch_shapes import LAUNCH, SHARE
from .schema import (
    BootConfig,
    IndexConfig,
    IngestSettings,
    Language,
    LimitSettings,
    LogConfig,
    LogLevel,
    LogPart,
    Peer,
    PeerState,
    Provider,
    Right,
    Settings,
    UnknownSopClasses,
    Unregistered,
    VolumeRole,
    VolumeSetting,
    WebConfig,
)
from .transfer import TRANSFER

# PS3.3 C.12.1.1.2, tables C.12-2 to C.12-5
SINGLE_BYTE_SETS: Final = frozenset(
    f"ISO_IR {number}" for number in (6, 100, 101, 109, 110, 144, 127, 126, 138, 148, 203, 13, 166)
)
WHOLE_SETS: Final = frozenset({"ISO_IR 192", "GB18030", "GBK"})
EXTENDED_SETS: Final = frozenset(
    f"ISO 2022 IR {number}"
    for number in (
        *(6, 100, 101, 109, 110, 144, 127, 126, 138, 148, 203, 13, 166),
        *(87, 159, 149, 58),
    )
)


def is_character_set(text: str) -> bool:
    """Tell whether `text` is a value of Specific Character Set (0008,0005), or empty."""
    terms = text.split("\\")
    if len(terms) == 1:
        return text in SINGLE_BYTE_SETS | WHOLE_SETS | EXTENDED_SETS or not text
    first, *others = terms
    return (not first or first in EXTENDED_SETS) and all(term in EXTENDED_SETS for term in others)


NAME = Text(
    allowed="1 to 64 printable characters, no space at either end",
    pattern=r"\S(?:.{0,62}\S)?",
    check=str.isprintable,
)
AE_TITLE = Text(
    allowed="1 to 16 ASCII characters without backslash, no space at either end (PS3.5 6.2)",
    pattern=r"[!-\[\]-~](?:[ -\[\]-~]{0,14}[!-\[\]-~])?",
)
VOLUME_NAME = Text(
    allowed="1 to 32 small letters, digits or hyphens, beginning with a letter",
    pattern=r"[a-z][a-z0-9-]{0,31}",
)
LISTEN_HOST = Text(
    allowed="an IP address of this machine, 0.0.0.0 for all of IPv4, or :: for all",
    pattern=r"[0-9A-Fa-f.:]{2,45}",
    check=is_address,
)
PEER_HOST = Text(
    allowed="an IP address, a host name, a network such as 192.168.1.0/24, or * for any address",
    pattern=r"[0-9A-Za-z.:/*_-]{1,253}",
    check=lambda text: text == "*" or is_network(text) or is_host(text),
)
LISTEN_PORT = Whole(lowest=0, highest=65535)
PEER_PORT = Whole(lowest=1, highest=65535)
CHARACTER_SET = Text(
    allowed=(
        "a DICOM character set such as 'ISO_IR 100', 'ISO_IR 192' or '\\ISO 2022 IR 87' "
        "(PS3.3 C.12.1.1.2), or empty"
    ),
    pattern=r"[A-Z0-9_ \\]*",
    check=is_character_set,
)
INDEX_URL = Text(
    allowed="sqlite, or postgresql://user@host/database",
    pattern=r"sqlite|postgresql://[^\s]+",
)

VOLUME: Final = Group(
    build=VolumeSetting,
    keys={
        "name": Key(kind=VOLUME_NAME, about="Short name, never shown to a peer", required=True),
        "role": Key(
            kind=OneOf(words=VolumeRole),
            about="data: the first choice for reading and writing; backup: a full copy",
            required=True,
        ),
        "path": Key(kind=Folder(), about="Folder on its own disk", required=True),
    },
)
PROVIDER: Final = Group(
    build=Provider,
    keys={
        "name": Key(kind=NAME, about="Name shown in the pages", required=True),
        "ae_title": Key(kind=AE_TITLE, about="AE title that peers call", required=True),
        "port": Key(
            kind=LISTEN_PORT, about="TCP port to listen on; 0 takes a free one", required=True
        ),
        "host": Key(kind=LISTEN_HOST, about="Address to listen on"),
        "unregistered": Key(
            kind=OneOf(words=Unregistered),
            about=(
                "What to do with a node that is not on the list: accept its images, hold them in "
                "the inbox until it is approved, or reject the association"
            ),
        ),
        "enabled": Key(kind=Flag(), about="false: this provider does not listen"),
    },
)
PEER: Final = Group(
    build=Peer,
    keys={
        "name": Key(kind=NAME, about="Name shown in the pages", required=True),
        "ae_title": Key(kind=AE_TITLE, about="AE title of the node", required=True),
        "host": Key(kind=PEER_HOST, about="Where the node calls from", required=True),
        "port": Key(kind=PEER_PORT, about="Port on which the node listens"),
        "rights": Key(kind=SomeOf(words=Right), about="What the node may ask for"),
        "state": Key(
            kind=OneOf(words=PeerState), about="approved, pending (nobody looked yet), blocked"
        ),
        "first_seen": Key(kind=Timestamp(), about="First contact of a node that came by itself"),
    },
)
INGEST: Final = Group(
    build=IngestSettings,
    keys={
        "ack_copies": Key(
            kind=Whole(lowest=1, highest=8),
            about="Distinct disks that must hold an image before it is acknowledged",
        ),
        "count_shared_device": Key(
            kind=Flag(), about="true: two folders of one disk count as two (trial runs only)"
        ),
        "max_object_bytes": Key(
            kind=Whole(lowest=1 << 20, highest=1 << 40), about="Largest object taken, in bytes"
        ),
        "unknown_sop_classes": Key(
            kind=OneOf(words=UnknownSopClasses),
            about="Storage classes that no dictionary names, private ones too",
        ),
    },
)
_UNLIMITED = Whole(lowest=1, highest=1_000_000_000, nothing="unlimited")
LIMITS: Final = Group(
    build=LimitSettings,
    keys={
        "max_studies": Key(kind=_UNLIMITED, about="Studies in the archive"),
        "max_web_connections": Key(kind=_UNLIMITED, about="People logged in at one time"),
        "max_dicom_connections": Key(kind=_UNLIMITED, about="DICOM associations at one time"),
        "max_associations_per_peer": Key(kind=_UNLIMITED, about="Associations of one node"),
    },
)
DICOM: Final = Group(
    build=dict,
    parts=lambda value: value,
    keys={
        "providers": Key(
            kind=ListOf(item=PROVIDER, most=64), about="DICOM application entities of this box"
        ),
        "users": Key(kind=ListOf(item=PEER, most=5_000), about="Remote DICOM nodes"),
    },
)


def _settings(*, dicom: dict[str, Any] | None = None, **rest: Any) -> Settings:
    nodes = dicom or {}
    return Settings(providers=nodes.get("providers", ()), peers=nodes.get("users", ()), **rest)


def _settings_parts(settings: Settings) -> dict[str, Any]:
    return {
        "volumes": settings.volumes,
        "dicom": {"providers": settings.providers, "users": settings.peers},
        "ingest": settings.ingest,
        "limits": settings.limits,
        "care": settings.care,
        "alerts": settings.alerts,
        "transfer": settings.transfer,
        "language": settings.language,
        "default_character_set": settings.default_character_set,
        "log_level": settings.log_level,
        "log_levels": settings.log_levels,
        "audit": settings.audit,
        "webhooks": settings.webhooks,
        "outgoing": settings.outgoing,
        "web": settings.web,
        "launch": settings.launch,
        "share": settings.share,
        "access": settings.access,
    }


LOG_PART: Final = Group(
    build=LogPart,
    keys={
        "part": Key(
            kind=Text(
                allowed="a room such as node or web.guard",
                pattern=r"[a-z_]{1,32}(?:\.[a-z_]{1,32}){0,2}",
            ),
            about="Room, or module of a room",
            required=True,
        ),
        "level": Key(kind=OneOf(words=LogLevel), about="How much it says", required=True),
    },
)
SETTINGS: Final = Group(
    build=_settings,
    parts=_settings_parts,
    keys={
        "volumes": Key(
            kind=ListOf(item=VOLUME, most=16), about="Where images are kept: one data, any backups"
        ),
        "dicom": Key(kind=DICOM, about="DICOM providers and users"),
        "ingest": Key(kind=INGEST, about="When an image is acknowledged"),
        "limits": Key(kind=LIMITS, about="Capacity limits; null is unlimited"),
        "care": Key(kind=CARE, about="Looking after images: scrub, retention, trash"),
        "alerts": Key(kind=ALERTS, about="Who is told when something is wrong"),
        "transfer": Key(kind=TRANSFER, about="Import, export and the jobs that do them"),
        "language": Key(
            kind=OneOf(words=Language), about="Language of the pages until a user picks another"
        ),
        "default_character_set": Key(
            kind=CHARACTER_SET, about="Character set of objects that name none"
        ),
        "log_level": Key(
            kind=OneOf(words=LogLevel, nothing="as the configuration file says"),
            about="How much the log says",
        ),
        "log_levels": Key(
            kind=ListOf(item=LOG_PART, most=32), about="Rooms that say more or less than the rest"
        ),
        "audit": Key(kind=trust_shapes.AUDIT, about="The audit trail"),
        "launch": Key(kind=LAUNCH, about="How other systems log people in by an address"),
        "share": Key(kind=SHARE, about="Links for guests"),
        "access": Key(kind=ACCESS, about="Sessions, second factor, log-in by a provider"),
        "webhooks": Key(kind=trust_shapes.WEBHOOKS, about="Programs that are told of events"),
        "outgoing": Key(kind=trust_shapes.OUTGOING, about="What the box may call"),
        "web": Key(kind=trust_shapes.WEB, about="HTTPS, host names, proxies"),
    },
)
WEB: Final = Group(
    build=WebConfig,
    keys={
        "host": Key(kind=LISTEN_HOST, about="Address to listen on"),
        "port": Key(kind=LISTEN_PORT, about="Port of http; 0 takes a free one"),
        "tls_port": Key(
            kind=Whole(lowest=0, highest=65535, nothing="no https"), about="Port of https"
        ),
    },
)
LOG: Final = Group(
    build=LogConfig,
    keys={
        "level": Key(kind=OneOf(words=LogLevel), about="How much the log says"),
        "dir": Key(kind=Folder(nothing="standard error only"), about="Folder of the log files"),
    },
)
INDEX: Final = Group(
    build=IndexConfig,
    keys={"url": Key(kind=INDEX_URL, about="sqlite (in state_dir), or a PostgreSQL database")},
)
BOOT: Final = Group(
    build=BootConfig,
    keys={
        "state_dir": Key(
            kind=Folder(), about="Index, settings and keys; on the system SSD", required=True
        ),
        "staging_dir": Key(
            kind=Folder(), about="Images on their way and caches; on an SSD", required=True
        ),
        "web": Key(kind=WEB, about="Where the pages are served"),
        "log": Key(kind=LOG, about="Log"),
        "index": Key(kind=INDEX, about="Where the index is"),
        "initial": Key(
            kind=SETTINGS,
            about="Applied at first start only; afterwards settings live in the state directory",
        ),
    },
)
