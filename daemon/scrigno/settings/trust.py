# SPDX-License-Identifier: Apache-2.0
"""Settings that others rely on: audit, webhooks, calls to other machines, the web door."""

from dataclasses import dataclass, field
from enum import StrEnum


class SyslogTransport(StrEnum):
    """How audit messages travel (RFC 5426, 6587, 5425)."""

    UDP = "udp"
    TCP = "tcp"
    TLS = "tls"


@dataclass(frozen=True, slots=True, kw_only=True)
class SyslogSettings:
    """An audit record repository that gets every line as a DICOM audit message (PS3.15 A.5).

    `ca` is a PEM text with the certificates that may sign the server's; empty: those of the system.
    """

    enabled: bool = False
    host: str = ""
    port: int = 6514
    transport: SyslogTransport = SyslogTransport.TLS
    ca: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditSettings:
    """The audit trail: how much of the system disk it may take, and who gets a copy."""

    quota_mib: int = 256
    syslog: SyslogSettings = field(default_factory=SyslogSettings)


class HookEvent(StrEnum):
    """What a webhook can be told. Payloads hold ids and UIDs only."""

    STUDY_RECEIVED = "study.received"
    STUDY_COMPLETE = "study.complete"
    STUDY_DELETED = "study.deleted"
    STUDY_RESTORED = "study.restored"
    INBOX_HELD = "inbox.held"
    NODE_PENDING = "node.pending"
    REPORT_STATE = "report.state"
    JOB_CHANGED = "job.changed"
    ALERT_CHANGED = "alert.changed"
    VOLUME_CHANGED = "volume.changed"
    SETTINGS_CHANGED = "settings.changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookEndpoint:
    """A program that is told of events; no event named means all of them."""

    name: str
    url: str
    secret: str = field(default="", repr=False)
    events: frozenset[HookEvent] = frozenset()
    enabled: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSettings:
    """Who is told of events, and when a study counts as complete: no image for so long."""

    endpoints: tuple[WebhookEndpoint, ...] = ()
    study_complete_after_s: int = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingSettings:
    """Networks that the box may call although it would refuse them: its own, link-local."""

    allowed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSettings:
    """The web door. `names` are further host names and addresses of the certificate.

    With `only_names` a request for any other host name is refused. `trusted_proxies` are networks
    whose X-Forwarded-For and X-Forwarded-Proto are believed. `dicomweb_origins` are the sites whose
    pages may use DICOMweb from a browser (`https://viewer.example`), none by default.
    """

    https: bool = True
    redirect: bool = False
    hsts: bool = True
    names: tuple[str, ...] = ()
    only_names: bool = False
    trusted_proxies: tuple[str, ...] = ()
    dicomweb_origins: tuple[str, ...] = ()
