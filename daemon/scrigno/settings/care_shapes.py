# SPDX-License-Identifier: Apache-2.0
"""What the settings of `care` may say, key by key."""

from typing import Final
from urllib.parse import urlsplit

from .care import (
    AlertLevel,
    AlertSettings,
    CareSettings,
    MailChannel,
    MailSecurity,
    RetentionRule,
    ScrubSettings,
    WebhookChannel,
)
from .kinds import Flag, Group, Key, ListOf, OneOf, Text, Whole, is_host

NAME: Final = Text(
    allowed="1 to 64 printable characters, no space at either end",
    pattern=r"\S(?:.{0,62}\S)?",
    check=str.isprintable,
)
_ADDRESS: Final = Text(
    allowed="a mail address such as it@clinic.example",
    pattern=r"[^\s@<>,;]{1,64}@[^\s@<>,;]{1,190}",
)
WORDS: Final = Text(
    allowed="at most 256 printable characters", pattern=r".{0,256}", check=str.isprintable
)


def _is_web_address(text: str) -> bool:
    parts = urlsplit(text)
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and "@" not in parts.netloc


WEB_ADDRESS: Final = Text(
    allowed="an http:// or https:// address without user and password",
    pattern=r"https?://[^\s]{1,1000}",
    check=_is_web_address,
)
_DAYS: Final = Whole(lowest=1, highest=36_500)
_DAYS_OR_NONE: Final = Whole(lowest=1, highest=36_500, nothing="does not matter")

SCRUB: Final = Group(
    build=ScrubSettings,
    keys={
        "enabled": Key(kind=Flag(), about="false: copies are not read anew by themselves"),
        "every_days": Key(kind=_DAYS, about="Each copy is read at least once in so many days"),
        "max_mib_per_s": Key(
            kind=Whole(lowest=1, highest=10_000), about="Most that is read from one disk"
        ),
        "window": Key(
            kind=Text(
                allowed="a time of day such as 22:00-06:00, or empty for always",
                pattern=r"|(?:[01]\d|2[0-3]):[0-5]\d-(?:[01]\d|2[0-3]):[0-5]\d",
            ),
            about="When it may run, in the time of the box",
        ),
    },
)
RETENTION: Final = Group(
    build=RetentionRule,
    keys={
        "name": Key(kind=NAME, about="Name shown in the pages and in the audit", required=True),
        "enabled": Key(kind=Flag(), about="false: the rule does nothing"),
        "older_than_days": Key(kind=_DAYS_OR_NONE, about="Days since the study"),
        "unread_for_days": Key(kind=_DAYS_OR_NONE, about="Days since anybody last read it"),
        "modalities": Key(
            kind=ListOf(
                item=Text(allowed="a modality such as CT", pattern=r"[A-Z0-9]{2,16}"), most=64
            ),
            about="Only studies of these modalities; empty is all",
        ),
        "copies_elsewhere": Key(
            kind=Whole(lowest=1, highest=8), about="Verified copies that each image must have"
        ),
        "max_studies_per_day": Key(
            kind=Whole(lowest=1, highest=100_000), about="Never more than these in one day"
        ),
        "max_studies_per_run": Key(
            kind=Whole(lowest=1, highest=100_000), about="Never more than these at a time"
        ),
        "only_above_used_percent": Key(
            kind=Whole(lowest=1, highest=99, nothing="space does not matter"),
            about="Runs only while more of the data volume is in use",
        ),
    },
)
CARE: Final = Group(
    build=CareSettings,
    keys={
        "scrub": Key(kind=SCRUB, about="Reading every copy anew and comparing it"),
        "retention": Key(
            kind=ListOf(item=RETENTION, most=64),
            about="Studies that may go to the trash by themselves; none by default",
        ),
        "trash_days": Key(kind=_DAYS, about="Days in which a deleted study can be brought back"),
        "quarantine_days": Key(kind=_DAYS, about="Days for which a damaged copy is kept aside"),
    },
)
MAIL: Final = Group(
    build=MailChannel,
    keys={
        "name": Key(kind=NAME, about="Name shown in the pages", required=True),
        "host": Key(
            kind=Text(
                allowed="an IP address or a host name",
                pattern=r"[0-9A-Za-z.:_-]{1,253}",
                check=is_host,
            ),
            about="Mail server",
            required=True,
        ),
        "recipients": Key(
            kind=ListOf(item=_ADDRESS, most=32), about="Who is written to", required=True
        ),
        "sender": Key(kind=_ADDRESS, about="From which address", required=True),
        "port": Key(kind=Whole(lowest=1, highest=65535), about="Port of the mail server"),
        "security": Key(kind=OneOf(words=MailSecurity), about="Protection of the connection"),
        "user": Key(kind=WORDS, about="Log-in at the mail server; empty is none"),
        "password": Key(kind=WORDS, about="Password of that log-in"),
        "level": Key(kind=OneOf(words=AlertLevel), about="From which level on"),
    },
)
WEBHOOK: Final = Group(
    build=WebhookChannel,
    keys={
        "name": Key(kind=NAME, about="Name shown in the pages", required=True),
        "url": Key(kind=WEB_ADDRESS, about="Where each alert is posted", required=True),
        "secret": Key(kind=WORDS, about="Signs each message; empty is unsigned"),
        "level": Key(kind=OneOf(words=AlertLevel), about="From which level on"),
    },
)
ALERTS: Final = Group(
    build=AlertSettings,
    keys={
        "mail": Key(kind=ListOf(item=MAIL, most=8), about="Alerts by mail"),
        "webhooks": Key(kind=ListOf(item=WEBHOOK, most=8), about="Alerts to other programs"),
        "ups": Key(
            kind=Text(
                allowed="a UPS as NUT names it, such as ups@localhost, or empty",
                pattern=r"|[A-Za-z0-9_.-]{1,64}(?:@[0-9A-Za-z.:_-]{1,253})?",
            ),
            about="The uninterruptible power supply that is asked",
        ),
    },
)
