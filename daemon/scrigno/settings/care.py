# SPDX-License-Identifier: Apache-2.0
"""Settings of what the box does by itself: looking after images, and telling people."""

from dataclasses import dataclass, field
from enum import StrEnum


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrubSettings:
    """The reading anew of every copy (SPEC ST-6). `window` is `HH:MM-HH:MM`, empty is always."""

    enabled: bool = True
    every_days: int = 30
    max_mib_per_s: int = 40
    window: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionRule:
    """Which studies may go to the trash by themselves; every condition given must hold.

    `copies_elsewhere` is how many verified copies of each image must stand on volumes;
    `only_above_used_percent` of the data volume must be in use, else the rule does not run.
    """

    name: str
    enabled: bool = True
    older_than_days: int | None = None
    unread_for_days: int | None = None
    modalities: tuple[str, ...] = ()
    copies_elsewhere: int = 2
    max_studies_per_day: int = 100
    max_studies_per_run: int = 100
    only_above_used_percent: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CareSettings:
    """How images are looked after and how long what was taken away can come back."""

    scrub: ScrubSettings = field(default_factory=ScrubSettings)
    retention: tuple[RetentionRule, ...] = ()
    trash_days: int = 30
    quarantine_days: int = 90


class AlertLevel(StrEnum):
    """From which level on a channel is told."""

    INFO = "info"
    NOTICE = "notice"
    WARNING = "warning"
    CRITICAL = "critical"


class MailSecurity(StrEnum):
    """How the connection to the mail server is protected."""

    NONE = "none"
    STARTTLS = "starttls"
    TLS = "tls"


@dataclass(frozen=True, slots=True, kw_only=True)
class MailChannel:
    """Alerts by mail."""

    name: str
    host: str
    recipients: tuple[str, ...]
    sender: str
    port: int = 587
    security: MailSecurity = MailSecurity.STARTTLS
    user: str = ""
    password: str = field(default="", repr=False)
    level: AlertLevel = AlertLevel.WARNING


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookChannel:
    """Alerts as JSON to an address; `secret` signs each message (HMAC-SHA256)."""

    name: str
    url: str
    secret: str = field(default="", repr=False)
    level: AlertLevel = AlertLevel.WARNING


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertSettings:
    """Who is told, and the UPS that is asked (`ups@host` as NUT names it; empty: none)."""

    mail: tuple[MailChannel, ...] = ()
    webhooks: tuple[WebhookChannel, ...] = ()
    ups: str = ""
