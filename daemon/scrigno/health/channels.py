# SPDX-License-Identifier: Apache-2.0
"""How a message leaves the box: by mail, or as a signed POST to another program.

Every way out has a limit in time and verifies the other side's certificate. What goes wrong is
raised as `ChannelFailed`, in words and without any secret.
"""

import asyncio
import hashlib
import hmac
import json
import socket
import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid
from enum import StrEnum
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import urljoin, urlsplit
from uuid import uuid4

import aiosmtplib

from scrigno.core.clock import Clock
from scrigno.core.errors import ScrignoError

from .codes import Level
from .messages import Mail
from .outgoing import Lookups, Outgoing, OutgoingFailed, OutgoingRefused, plain_words

SEND_TIMEOUT_S: Final = 30.0
MOST_REDIRECTS: Final = 3
SIGNATURE_HEADER: Final = "X-Scrigno-Signature"
TIMESTAMP_HEADER: Final = "X-Scrigno-Timestamp"
DELIVERY_HEADER: Final = "X-Scrigno-Delivery"


class ChannelFailed(ScrignoError):
    """A message could not be sent now; the reason is in words."""

    code = "channel-failed"


class Security(StrEnum):
    """How the connection to a mail server is protected."""

    NONE = "none"
    STARTTLS = "starttls"
    TLS = "tls"


@dataclass(frozen=True, slots=True, kw_only=True)
class MailRules:
    """A channel by mail."""

    name: str
    host: str
    port: int = 587
    security: Security = Security.STARTTLS
    user: str = ""
    password: str = field(default="", repr=False)
    sender: str
    recipients: tuple[str, ...]
    level: Level = Level.WARNING


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookRules:
    """A channel to another program."""

    name: str
    url: str
    secret: str = field(default="", repr=False)
    level: Level = Level.WARNING


ChannelRules = MailRules | WebhookRules


class Senders:
    """Sends by any channel. Loop thread only; each call is bounded in time."""

    def __init__(
        self,
        *,
        clock: Clock,
        tls: Callable[[], ssl.SSLContext] = ssl.create_default_context,
        timeout_s: float = SEND_TIMEOUT_S,
        allowed: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        """`tls` makes the context by which other sides are verified; it may block.

        `allowed` names networks that are called although `outgoing` would refuse them.
        """
        self._clock = clock
        self._tls = tls
        self._timeout_s = timeout_s
        self._lookups = Lookups()
        self._outgoing = Outgoing(allowed=allowed, tls=tls, timeout_s=timeout_s)
        self._context: ssl.SSLContext | None = None

    async def mail(self, rules: MailRules, mail: Mail) -> str:
        """Send one mail; return which recipients were refused while others took it, in words.

        Raises ChannelFailed.
        """
        if rules.password and rules.security is Security.NONE and not _is_here(rules.host):
            raise ChannelFailed(
                "a password is sent over a protected connection only",
                next_step="Choose STARTTLS or TLS, or take the password away.",
            )
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._mail(rules, mail)
        except (OSError, aiosmtplib.SMTPException, ValueError) as error:
            reason = self._smtp_words(error)
            raise ChannelFailed(_without(reason, rules.password)) from None

    async def _mail(self, rules: MailRules, mail: Mail) -> str:
        message = _mime(rules, mail, self._clock)
        secured = rules.security is not Security.NONE
        context = await self._verified() if secured else None
        # From here on the socket belongs to the client, which closes it.
        sock = await self._lookups.connected(rules.host, rules.port)
        client = aiosmtplib.SMTP(
            hostname=rules.host,
            sock=sock,
            use_tls=rules.security is Security.TLS,
            start_tls=rules.security is Security.STARTTLS,
            tls_context=context,
            username=rules.user or None,
            password=rules.password if rules.user else None,
            local_hostname=_own_name(),
            timeout=self._timeout_s,
        )
        try:
            async with client:
                refused, _ = await client.send_message(
                    message, sender=rules.sender, recipients=list(rules.recipients)
                )
        finally:
            client.close()
        return "; ".join(
            f"{recipient} was refused: {answer.code} {answer.message}"
            for recipient, answer in refused.items()
        )

    async def post(self, rules: WebhookRules, document: Mapping[str, Any]) -> None:
        """Post one JSON document, signed when there is a secret. Raises ChannelFailed."""
        body = json.dumps(document, ensure_ascii=False).encode("utf-8", "backslashreplace")
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._post(rules, body)
        except (OutgoingRefused, OutgoingFailed) as error:
            raise ChannelFailed(_without(error.reason, rules.secret)) from None
        except TimeoutError:
            raise ChannelFailed(f"no answer in {self._timeout_s:g} s") from None

    async def _post(self, rules: WebhookRules, body: bytes) -> None:
        headers = {
            "Content-Type": "application/json",
            DELIVERY_HEADER: uuid4().hex,
            **signed(rules.secret, body, int(self._clock.now().timestamp())),
        }
        url = rules.url
        for _ in range(MOST_REDIRECTS + 1):
            answer = await self._outgoing.request("POST", url, headers=headers, body=body)
            target = answer.headers.get("Location", "")
            if 200 <= answer.status < 300:
                return
            if answer.status not in {307, 308} or not target:
                raise ChannelFailed(f"the other side answered {answer.status}")
            url = _redirected(url, target)
        raise ChannelFailed("the other side redirects without end")

    async def _verified(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = await asyncio.to_thread(self._tls)
        return self._context

    def _smtp_words(self, error: Exception) -> str:
        cause = error.__cause__ if isinstance(error, aiosmtplib.SMTPConnectError) else None
        match cause or error:
            case ssl.SSLCertVerificationError() as wrong:
                return f"the certificate of the mail server is not trusted: {wrong.verify_message}"
            case ssl.SSLError() as wrong:
                return f"no secure connection to the mail server: {wrong.reason}"
            case TimeoutError():
                return f"the mail server did not answer in {self._timeout_s:g} s"
            case aiosmtplib.SMTPAuthenticationError() as refused:
                return f"the mail server refused the log-in: {refused.code} {refused.message}"
            case aiosmtplib.SMTPRecipientsRefused() as refused:
                first = refused.recipients[0]
                return f"every recipient was refused: {first.code} {first.message}"
            case aiosmtplib.SMTPResponseException() as refused:
                return f"the mail server refused: {refused.code} {refused.message}"
            case other:
                return f"no connection to the mail server: {plain_words(other)}"


def signed(secret: str, body: bytes, timestamp: int) -> dict[str, str]:
    """Return the headers that prove a message: HMAC-SHA256 of `timestamp.body`, in hex.

    The receiver compares it and refuses a timestamp that is more than five minutes away.
    """
    headers = {TIMESTAMP_HEADER: str(timestamp)}
    if secret:
        digest = hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256)
        headers[SIGNATURE_HEADER] = f"sha256={digest.hexdigest()}"
    return headers


def _redirected(url: str, target: str) -> str:
    """Return where a redirect leads; only within the same server. Raises ChannelFailed."""
    there = urljoin(url, target)
    before, after = urlsplit(url), urlsplit(there)
    if (before.scheme, before.netloc) != (after.scheme, after.netloc):
        raise ChannelFailed(f"the other side redirects to another server, {after.hostname}")
    return there


def _mime(rules: MailRules, mail: Mail, clock: Clock) -> EmailMessage:
    message = EmailMessage()
    message["Subject"] = mail.subject
    message["From"] = Address(display_name="Scrigno", addr_spec=rules.sender)
    message["To"] = _addresses(rules.recipients)
    message["Date"] = format_datetime(clock.now())
    message["Message-ID"] = make_msgid(domain=rules.sender.rpartition("@")[2])
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's vacation notice answers
    message["X-Scrigno-Level"] = mail.level
    if mail.level == Level.CRITICAL:
        message["Importance"] = "high"
    message.set_content(mail.text)
    return message


def _addresses(recipients: Sequence[str]) -> tuple[Address, ...]:
    return tuple(Address(addr_spec=recipient) for recipient in recipients)


def _own_name() -> str:
    """Return a name for EHLO without asking a name server."""
    name = socket.gethostname()
    return (
        name if name.isascii() and name and all(c.isalnum() or c in "-." for c in name) else "box"
    )


def _is_here(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _without(text: str, secret: str) -> str:
    """Return a text of the other side in one line, and without the secret should it repeat it."""
    text = " ".join(text.split())[:300]
    return text.replace(secret, "…") if secret else text
