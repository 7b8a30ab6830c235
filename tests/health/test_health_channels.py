# SPDX-License-Identifier: Apache-2.0
"""Alerts reach people: real mail and web servers, well, broken and hanging."""

import asyncio
import contextlib
import hashlib
import hmac
import json
import logging
import ssl
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from scrigno.core.clock import SystemClock
from scrigno.core.counters import Counters
from scrigno.core.errors import CommandError
from scrigno.health.alerts import Action, Alert, Change
from scrigno.health.channels import (
    ChannelRules,
    MailRules,
    Security,
    Senders,
    WebhookRules,
    signed,
)
from scrigno.health.codes import CLASSES, Level
from scrigno.health.dispatch import Dispatcher, NotifyRules, Pace
from scrigno.health.messages import mail_of
from scrigno.health.outbox import FILE_NAME, Item, Outbox
from scrigno.health.texts import Value

PASSWORD = "correct horse battery staple"
HURRY = Pace(gather_s=0.05, quiet_s=0.05, retry_first_s=0.05, retry_most_s=0.2)


class Post:
    """What arrived at a mail server, and how it behaves."""

    def __init__(self) -> None:
        self.mails: list[tuple[EmailMessage, list[str]]] = []
        self.refusals: list[str] = []  # what DATA answers next
        self.refused_recipients: set[str] = set()

    async def handle_RCPT(
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: Any
    ) -> str:
        if address in self.refused_recipients:
            return "550 5.1.1 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:
        if self.refusals:
            return self.refusals.pop(0)
        message = message_from_bytes(bytes(envelope.content or b""), policy=policy.default)
        assert isinstance(message, EmailMessage)
        self.mails.append((message, envelope.rcpt_tos))
        return "250 OK"


class Hook:
    """What arrived at a web server, and how it answers."""

    def __init__(self) -> None:
        self.posts: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[int] = []
        self.redirect = ""
        self.hang = False

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        if self.hang:
            await asyncio.sleep(3600)
        if self.answers:
            return web.Response(status=self.answers.pop(0))
        if self.redirect and request.path != "/moved":
            return web.Response(status=307, headers={"Location": self.redirect})
        self.posts.append((dict(request.headers), body))
        return web.Response(status=204)

    def alerts(self) -> list[dict[str, Any]]:
        return [alert for _, body in self.posts for alert in json.loads(body)["alerts"]]


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of localhost with its key, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "localhost.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


def _server_context(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@asynccontextmanager
async def _mail_server(
    post: Post, certificate: Path | None = None, *, tls: bool = False
) -> AsyncIterator[int]:
    """A mail server; with a certificate by STARTTLS, or by TLS at once, and with a log-in."""
    context = _server_context(certificate) if certificate else None

    def check(_server: SMTP, _session: Session, _envelope: Envelope, _kind: str, data: Any) -> Any:
        good = isinstance(data, LoginPassword) and data.password == PASSWORD.encode()
        return AuthResult(success=good, handled=False)

    def protocol() -> SMTP:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it does not know that the port itself speaks TLS
            return SMTP(
                post,
                hostname="localhost",
                tls_context=None if tls else context,
                require_starttls=context is not None and not tls,
                auth_required=context is not None,
                auth_require_tls=not tls,
                authenticator=check,
            )

    loop = asyncio.get_running_loop()
    server = await loop.create_server(protocol, "127.0.0.1", 0, ssl=context if tls else None)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


@asynccontextmanager
async def _black_hole() -> AsyncIterator[int]:
    """A server that takes connections and never says a word."""
    held: list[asyncio.StreamWriter] = []

    async def hold(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        for writer in held:
            writer.transport.abort()
        server.close()
        await server.wait_closed()


@asynccontextmanager
async def _dripping_server() -> AsyncIterator[int]:
    """A server that never ends its greeting, so that it never stays silent for long."""
    drips: list[asyncio.Task[None]] = []

    async def drip(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        drips.append(asyncio.current_task())  # type: ignore[arg-type]
        try:
            while True:
                writer.write(b"220-one moment\r\n")
                await writer.drain()
                await asyncio.sleep(0.02)
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        for task in drips:
            task.cancel()
        await asyncio.gather(*drips, return_exceptions=True)
        server.close()
        await server.wait_closed()


@asynccontextmanager
async def _web_server(hook: Hook, certificate: Path | None = None) -> AsyncIterator[str]:
    application = web.Application()
    application.router.add_route("*", "/{tail:.*}", hook.handle)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    context = _server_context(certificate) if certificate else None
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    try:
        port = runner.addresses[0][1]
        yield f"{'https' if certificate else 'http'}://localhost:{port}/alerts"
    finally:
        await runner.cleanup()


class Bureau:
    """A dispatcher with its outbox in a folder."""

    def __init__(
        self,
        folder: Path,
        *channels: ChannelRules,
        certificate: Path | None = None,
        language: str = "en",
        pace: Pace = HURRY,
        timeout_s: float = 5,
    ) -> None:
        self.rules = NotifyRules(channels=channels, language=language)
        self.counters = Counters()
        self.clock = SystemClock()
        self.outbox = Outbox(folder / "alerts", counters=self.counters)
        self.senders = Senders(
            clock=self.clock,
            tls=lambda: ssl.create_default_context(cafile=certificate and str(certificate)),
            timeout_s=timeout_s,
            allowed=lambda: ["127.0.0.0/8", "::1"],
        )
        self.dispatcher = Dispatcher(
            rules=lambda: self.rules,
            outbox=self.outbox,
            senders=self.senders,
            clock=self.clock,
            counters=self.counters,
            pace=pace,
        )
        self.sequence = 0

    async def __aenter__(self) -> "Bureau":
        await self.outbox.open()
        self.dispatcher.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.dispatcher.close()

    def tell(
        self,
        code: str,
        subject: str = "",
        *,
        level: Level | None = None,
        action: Action = Action.RAISED,
        **values: Value,
    ) -> None:
        self.sequence += 1
        now = self.clock.now()
        alert = Alert(
            alert_id=self.sequence,
            code=code,
            subject=subject,
            level=level or CLASSES[code].level,
            values=values,
            since=now,
            last_seen=now,
        )
        self.dispatcher.take(
            Change(sequence=self.sequence, at=now, action=action, alert=alert, tell=True)
        )

    def codes(self) -> dict[str, str]:
        return {one.subject: str(one.values["reason"]) for one in self.dispatcher.conditions()}


def _mail(port: int, **more: Any) -> MailRules:
    given = {
        "name": "office", "host": "localhost", "port": port, "security": Security.NONE,
        "sender": "box@clinic.example", "recipients": ("it@clinic.example",), **more,
    }  # fmt: skip
    return MailRules(**given)


async def _until(true: Callable[[], bool], *, seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.01)


@pytest.mark.spec("AD-11")
async def test_what_happens_together_is_one_mail_to_everybody_in_words(tmp_path: Path) -> None:
    post = Post()
    people = ("it@clinic.example", "night@clinic.example")
    async with (
        _mail_server(post) as port,
        Bureau(tmp_path, _mail(port, recipients=people)) as bureau,
    ):
        bureau.tell("objects-held", count=3)  # a notice: below the level of the channel
        bureau.tell("volume-offline", "data", reason="EIO on write")
        bureau.tell("copies-below-policy", devices=1, wanted=2)
        bureau.tell("ssd-wear", "nvme0", used_percent=91)
        await _until(lambda: bool(post.mails))
        await asyncio.sleep(0.2)
    ((mail, recipients),) = post.mails
    assert recipients == list(people)
    assert mail["Subject"] == "[Scrigno box] CRITICAL: Volume data has failed (and 2 more)"
    assert mail["From"] == "Scrigno <box@clinic.example>"
    assert (mail["X-Scrigno-Level"], mail["Auto-Submitted"]) == ("critical", "auto-generated")
    assert mail.get_content_type() == "text/plain"
    text = mail.get_content().replace("\r\n", "\n")
    assert "It reports: EIO on write.\nWhat to do: Check power, cable and disk" in text
    assert "WARNING: Disk nvme0 has used 91% of its life." in text
    assert "delayed" not in text


async def test_the_mail_speaks_the_language_of_the_box(tmp_path: Path) -> None:
    post = Post()
    async with _mail_server(post) as port, Bureau(tmp_path, _mail(port), language="ja") as bureau:
        bureau.tell("volume-offline", "data", reason="EIO")
        await _until(lambda: bool(post.mails))
    mail, _ = post.mails[0]
    assert "ボリューム data が故障しました" in mail["Subject"]
    assert "電源、ケーブル、ディスクを確認" in mail.get_content()


@pytest.mark.parametrize("tls", [False, True])
async def test_mail_goes_by_a_verified_connection_with_log_in(
    tmp_path: Path, certificate: Path, tls: bool
) -> None:
    post = Post()
    security = Security.TLS if tls else Security.STARTTLS
    async with _mail_server(post, certificate, tls=tls) as port:
        rules = _mail(port, security=security, user="box", password=PASSWORD)
        async with Bureau(tmp_path, rules, certificate=certificate) as bureau:
            assert await bureau.dispatcher.test("office") == ""
            assert post.mails[0][0]["Subject"] == "[Scrigno box] Test message"
            wrong = _mail(port, security=security, user="box", password="wrong-password")
            reason = await bureau.dispatcher.test(wrong)
            assert reason.startswith("the mail server refused the log-in: 535")
            assert "wrong-password" not in reason
        async with Bureau(tmp_path, rules) as stranger:  # does not know who signed
            reason = await stranger.dispatcher.test("office")
            assert reason.startswith("the certificate of the mail server is not trusted")


async def test_a_password_never_goes_over_an_open_connection_nor_into_a_text(
    tmp_path: Path,
) -> None:
    rules = _mail(25, host="mail.clinic.example", user="box", password=PASSWORD)
    hook = WebhookRules(name="hook", url="http://localhost/", secret=PASSWORD)
    async with Bureau(tmp_path, rules) as bureau:
        assert "protected connection" in await bureau.dispatcher.test("office")
        with pytest.raises(CommandError):
            await bureau.dispatcher.test("nobody")
    assert PASSWORD not in repr(rules) + repr(hook) + repr(NotifyRules(channels=(rules, hook)))


async def test_a_refused_recipient_is_named_while_the_others_get_it(tmp_path: Path) -> None:
    post = Post()
    post.refused_recipients = {"gone@clinic.example"}
    people = ("it@clinic.example", "gone@clinic.example")
    async with (
        _mail_server(post) as port,
        Bureau(tmp_path, _mail(port, recipients=people)) as bureau,
    ):
        bureau.tell("volume-offline", "data", reason="EIO")
        await _until(lambda: bool(bureau.codes()))
        assert bureau.codes() == {
            "office": "gone@clinic.example was refused: 550 5.1.1 no such user"
        }
        assert len(post.mails) == 1
        post.refused_recipients = {"it@clinic.example", "gone@clinic.example"}
        assert "every recipient was refused" in await bureau.dispatcher.test("office")


async def test_a_failing_server_is_tried_again_until_it_takes_the_mail(tmp_path: Path) -> None:
    post = Post()
    post.refusals = ["451 4.7.1 try again later"] * 3
    async with _mail_server(post) as port, Bureau(tmp_path, _mail(port)) as bureau:
        bureau.tell("volume-offline", "data", reason="EIO")
        await _until(lambda: bool(bureau.codes()))
        assert bureau.codes()["office"] == "the mail server refused: 451 4.7.1 try again later"
        await _until(lambda: bool(post.mails))
        await _until(lambda: not bureau.codes())
        assert bureau.counters.value("alert_message_failures", channel="office") == 3


@pytest.mark.timing
async def test_a_hanging_mail_server_holds_up_nothing_and_is_told_by_the_other_channel(
    tmp_path: Path,
) -> None:
    """Row 53 of the faults: queue, no block, an alert about the channel."""
    hook = Hook()
    async with _black_hole() as port, _web_server(hook) as url:
        mail = _mail(port)
        to_program = WebhookRules(name="monitor", url=url)
        async with Bureau(tmp_path, mail, to_program, timeout_s=0.3) as bureau:
            loop = asyncio.get_running_loop()
            begin = loop.time()
            bureau.tell("volume-offline", "data", reason="EIO")
            assert loop.time() - begin < 0.02
            await _until(lambda: bool(hook.posts), seconds=2)
            await _until(lambda: bool(bureau.codes()))
            assert bureau.codes() == {"office": "the mail server did not answer in 0.3 s"}
            (failed,) = bureau.dispatcher.conditions()
            assert (failed.code, failed.level) == ("alert-channel-failed", Level.CRITICAL)
            bureau.tell(failed.code, failed.subject, **failed.values)
            await _until(lambda: len(hook.alerts()) == 2)
            assert hook.alerts()[1]["summary"] == "Alerts do not get out by office."
            await _until(lambda: not bureau.outbox.waiting("monitor"))
            assert len(bureau.outbox.waiting("office")) == 1  # not told about itself
            bureau.rules = NotifyRules(channels=(to_program,))
            bureau.dispatcher.reconfigure()
            assert bureau.codes() == {}


@pytest.mark.spec("AD-11")
async def test_what_waits_survives_a_restart_and_says_that_it_is_late(tmp_path: Path) -> None:
    post = Post()
    async with _black_hole() as port, Bureau(tmp_path, _mail(port), timeout_s=0.2) as bureau:
        bureau.tell("volume-offline", "data", reason="EIO")
        bureau.tell("volume-offline", "data", reason="EIO", action=Action.CLEARED)
        await _until(lambda: bool(bureau.codes()))
    path = tmp_path / "alerts" / FILE_NAME
    kept = json.loads(path.read_text())
    assert len(kept["office"]) == 2
    for item in kept["office"]:
        item["queued_at"] = (datetime.now(UTC) - timedelta(hours=5)).isoformat()
    path.write_text(json.dumps(kept))
    async with _mail_server(post) as port, Bureau(tmp_path, _mail(port)):
        await _until(lambda: bool(post.mails))
        await _until(lambda: json.loads(path.read_text()) == {})
    text = post.mails[0][0].get_content()
    assert text.startswith("This message was delayed")
    assert "Over: Volume data has failed." in text


async def test_a_damaged_outbox_does_not_keep_new_alerts_in(tmp_path: Path) -> None:
    post = Post()
    (tmp_path / "alerts").mkdir()
    for damage in ('{"office": [{', '{"office": [{"change": {}, "queued_at": 3}]}', "[]", "7"):
        (tmp_path / "alerts" / FILE_NAME).write_text(damage)
        async with _mail_server(post) as port, Bureau(tmp_path, _mail(port)) as bureau:
            bureau.tell("volume-offline", "data", reason="EIO")
            count = len(post.mails)
            await _until(lambda count=count: len(post.mails) > count)  # type: ignore[misc]


async def test_the_outbox_is_bounded_and_says_what_it_gave_up(tmp_path: Path) -> None:
    async with _black_hole() as port:
        pace = Pace(gather_s=0.05, retry_first_s=0.05, retry_most_s=0.05, given_up_after_s=0.4)
        async with Bureau(tmp_path, _mail(port), pace=pace, timeout_s=0.1) as bureau:
            given_up: list[tuple[str, int]] = []
            bureau.dispatcher.dropped = lambda channel, count: given_up.append((channel, count))
            for number in range(505):
                bureau.tell("volume-offline", f"volume{number}", reason="EIO")
            assert given_up == [("office", 1)] * 5
            assert len(bureau.outbox.waiting("office")) == 500
            await _until(lambda: not bureau.outbox.waiting("office"))
            assert sum(count for _, count in given_up) == 505


async def test_a_webhook_is_signed_and_holds_words_and_values(tmp_path: Path) -> None:
    hook = Hook()
    async with _web_server(hook) as url:
        rules = WebhookRules(name="monitor", url=url, secret=PASSWORD, level=Level.INFO)
        async with Bureau(tmp_path, rules) as bureau:
            bureau.tell("volume-space", "data", level=Level.NOTICE, used_percent=86, free_bytes=9)
            await _until(lambda: bool(hook.posts))
    ((headers, body),) = hook.posts
    stamp = headers["X-Scrigno-Timestamp"]
    expected = hmac.new(PASSWORD.encode(), stamp.encode() + b"." + body, hashlib.sha256)
    assert headers["X-Scrigno-Signature"] == f"sha256={expected.hexdigest()}"
    assert signed("", body, 1) == {"X-Scrigno-Timestamp": "1"}
    (alert,) = hook.alerts()
    assert (alert["code"], alert["level"], alert["action"]) == ("volume-space", "notice", "raised")
    assert alert["values"] == {"used_percent": 86, "free_bytes": 9}
    assert alert["summary"] == "Volume data is 86% full."


async def test_a_webhook_that_fails_is_tried_again(tmp_path: Path) -> None:
    hook = Hook()
    hook.answers = [500, 503, 404]
    async with (
        _web_server(hook) as url,
        Bureau(tmp_path, WebhookRules(name="monitor", url=url)) as bureau,
    ):
        bureau.tell("volume-offline", "data", reason="EIO")
        await _until(lambda: bool(hook.posts))
        assert bureau.counters.value("alert_message_failures", channel="monitor") == 3
        hook.answers = [500]
        assert await bureau.dispatcher.test("monitor") == "the other side answered 500"
        assert await bureau.dispatcher.test("monitor") == ""
        assert json.loads(hook.posts[-1][1])["test"] is True


async def test_a_webhook_verifies_the_certificate(tmp_path: Path, certificate: Path) -> None:
    hook = Hook()
    async with _web_server(hook, certificate) as url:
        rules = WebhookRules(name="monitor", url=url)
        async with Bureau(tmp_path, rules) as stranger:
            reason = await stranger.dispatcher.test("monitor")
            assert reason.startswith("the certificate is not trusted: ")
        async with Bureau(tmp_path, rules, certificate=certificate) as bureau:
            assert await bureau.dispatcher.test("monitor") == ""


async def test_a_redirect_is_followed_within_the_same_server_only(tmp_path: Path) -> None:
    hook, elsewhere = Hook(), Hook()
    async with (
        _web_server(hook) as url,
        _web_server(elsewhere) as other,
        Bureau(tmp_path, WebhookRules(name="monitor", url=url)) as bureau,
    ):
        hook.redirect = "/moved"
        assert await bureau.dispatcher.test("monitor") == ""
        hook.redirect = "/round"
        assert "redirects without end" in await bureau.dispatcher.test("monitor")
        hook.redirect = other
        assert "another server" in await bureau.dispatcher.test("monitor")
    assert elsewhere.posts == []


async def test_words_for_what_is_not_there(tmp_path: Path, unused_tcp_port: int) -> None:
    nobody = WebhookRules(name="monitor", url=f"http://localhost:{unused_tcp_port}/")
    nowhere = WebhookRules(name="monitor", url="http://no-such-host.invalid/")
    async with _black_hole() as port, Bureau(tmp_path, timeout_s=0.3) as bureau:
        test = bureau.dispatcher.test
        hole = WebhookRules(name="monitor", url=f"http://localhost:{port}/")
        assert await test(nobody) == "no connection: Connection refused"
        assert await test(hole) == "no answer in 0.3 s"
        assert await test(_mail(unused_tcp_port)) == (
            "no connection to the mail server: Connection refused"
        )
        assert await test(_mail(port)) == "the mail server did not answer in 0.3 s"
    async with _dripping_server() as port, Bureau(tmp_path, timeout_s=0.3) as bureau:
        async with asyncio.timeout(3):
            assert await bureau.dispatcher.test(_mail(port)) == (
                "the mail server did not answer in 0.3 s"
            )
    async with Bureau(tmp_path) as bureau:
        assert "no-such-host.invalid" in await bureau.dispatcher.test(nowhere)


def test_a_mail_is_one_subject_line_whatever_a_disk_is_called() -> None:
    now = datetime.now(UTC)
    alert = Alert(
        alert_id=1, code="disk-missing", subject="X\r\nBcc: all@example", level=Level.CRITICAL,
        values={"reason": "gone\nfor good"}, since=now, last_seen=now, count=1200,
    )  # fmt: skip
    change = Change(sequence=1, at=now, action=Action.RAISED, alert=alert, tell=True)
    items = [Item(change=change, queued_at=now)] * 60
    mail = mail_of(items, box="Scrigno box", language="en", now=now)
    assert "\n" not in mail.subject
    assert "\r" not in mail.subject
    assert "gone for good" in mail.text
    assert "Older messages left out here: 10" in mail.text
    assert "Times: 1,200" in mail.text


async def test_nothing_secret_reaches_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    hook = WebhookRules(name="monitor", url="http://localhost:1/x", secret=PASSWORD)
    mail = _mail(1, user="box", password=PASSWORD)
    async with Bureau(tmp_path, mail, hook) as bureau:
        bureau.tell("volume-offline", "data", reason="EIO")
        await _until(lambda: len(bureau.codes()) == 2)
        with contextlib.suppress(CommandError):
            await bureau.dispatcher.test("monitor")
    assert PASSWORD not in caplog.text
    assert PASSWORD not in (tmp_path / "alerts" / FILE_NAME).read_text()
