# SPDX-License-Identifier: Apache-2.0
"""What the settings of `trust` may say, key by key."""

from typing import Final

from .care_shapes import NAME, WEB_ADDRESS, WORDS
from .kinds import Flag, Group, Key, ListOf, OneOf, SomeOf, Text, Whole, is_address, is_host
from .kinds import is_network as _is_network
from .trust import (
    AuditSettings,
    HookEvent,
    OutgoingSettings,
    SyslogSettings,
    SyslogTransport,
    WebhookEndpoint,
    WebhookSettings,
    WebSettings,
)


def _network(text: str) -> bool:
    return is_address(text) or _is_network(text)


_NETWORK: Final = Text(
    allowed="an IP address or a network such as 10.0.0.0/8",
    pattern=r"[0-9A-Fa-f.:]{2,45}(?:/\d{1,3})?",
    check=_network,
)
_HOST: Final = Text(
    allowed="an IP address or a host name", pattern=r"[0-9A-Za-z.:_-]{1,253}", check=is_host
)
_HOST_OR_NONE: Final = Text(
    allowed="an IP address or a host name, or empty",
    pattern=r"[0-9A-Za-z.:_-]{0,253}",
    check=lambda text: not text or is_host(text),
)
_PEM: Final = Text(
    allowed="certificates in PEM, or empty",
    pattern=r"|\s*-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s-]{1,65000}(?s:.{0,65000})",
    check=lambda text: len(text) <= 65_536 and "PRIVATE KEY" not in text,
)
_ORIGIN: Final = Text(
    allowed="an origin such as https://viewer.example:8443, in lower case and without a path",
    pattern=r"https?://[0-9a-z.:\[\]_-]{1,253}",
)

SYSLOG: Final = Group(
    build=SyslogSettings,
    keys={
        "enabled": Key(kind=Flag(), about="true: every audit line goes to this server too"),
        "host": Key(kind=_HOST_OR_NONE, about="Audit record repository"),
        "port": Key(kind=Whole(lowest=1, highest=65535), about="Its port"),
        "transport": Key(kind=OneOf(words=SyslogTransport), about="How messages travel"),
        "ca": Key(kind=_PEM, about="Who signs its certificate; empty: as the system says"),
    },
)
AUDIT: Final = Group(
    build=AuditSettings,
    keys={
        "quota_mib": Key(
            kind=Whole(lowest=16, highest=65_536), about="Most that the audit trail takes"
        ),
        "syslog": Key(kind=SYSLOG, about="A copy of every line, by syslog"),
    },
)
ENDPOINT: Final = Group(
    build=WebhookEndpoint,
    keys={
        "name": Key(kind=NAME, about="Name shown in the pages", required=True),
        "url": Key(kind=WEB_ADDRESS, about="Where each event is posted", required=True),
        "secret": Key(kind=WORDS, about="Signs each message; whsec_… is base64, else as it is"),
        "events": Key(kind=SomeOf(words=HookEvent), about="What is told; empty is everything"),
        "enabled": Key(kind=Flag(), about="false: it is told nothing"),
    },
)
WEBHOOKS: Final = Group(
    build=WebhookSettings,
    keys={
        "endpoints": Key(kind=ListOf(item=ENDPOINT, most=16), about="Programs that are told"),
        "study_complete_after_s": Key(
            kind=Whole(lowest=1, highest=86_400),
            about="A study is complete when no image came for so long",
        ),
    },
)
OUTGOING: Final = Group(
    build=OutgoingSettings,
    keys={
        "allowed": Key(
            kind=ListOf(item=_NETWORK, most=64),
            about="Networks that may be called although they are loopback or link-local",
        ),
    },
)
WEB: Final = Group(
    build=WebSettings,
    keys={
        "https": Key(kind=Flag(), about="false: the port of https is closed"),
        "redirect": Key(kind=Flag(), about="true: http answers with the address of https only"),
        "hsts": Key(kind=Flag(), about="true: browsers that came by https stay with it"),
        "names": Key(
            kind=ListOf(item=_HOST, most=32), about="Further names and addresses of this box"
        ),
        "only_names": Key(
            kind=Flag(), about="true: other host names than the box's own are refused"
        ),
        "trusted_proxies": Key(
            kind=ListOf(item=_NETWORK, most=64), about="Proxies whose X-Forwarded-… is believed"
        ),
        "dicomweb_origins": Key(
            kind=ListOf(item=_ORIGIN, most=32), about="Sites whose pages may use DICOMweb"
        ),
    },
)
