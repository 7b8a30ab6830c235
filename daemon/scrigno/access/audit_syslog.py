# SPDX-License-Identifier: Apache-2.0
"""The audit trail sent on to an audit record repository, line by line, by syslog.

The trail itself is the queue: what is kept besides is the number of the last line that was sent.
So nothing is lost while the server is away, as long as the trail's own quota holds; what went
beyond it is counted, told in the trail, and skipped. UDP (RFC 5426) tells nothing about arrival;
TCP (RFC 6587, octet counting) and TLS (RFC 5425) are watched for the other side's end, and what
was written to a connection that then broke is sent again.
"""

import asyncio
import contextlib
import json
import logging
import os
import socket
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, Protocol

from scrigno.core.counters import Counters
from scrigno.host.files import write_durably

from .audit import OWN, AuditTrail
from .audit_messages import syslog
from .audit_search import Recorded

log = logging.getLogger(__name__)

STATE_FILE: Final = "syslog.json"
BATCH: Final = 200
EVERY_S: Final = 1.0
# Syslog has no answers. What was written to a connection that lives on for this long has arrived.
CONFIRM_S: Final = 5.0
CONNECT_S: Final = 15.0
WRITE_S: Final = 30.0
RETRY_FIRST_S: Final = 2.0
RETRY_MOST_S: Final = 300.0
FAILURES_BEFORE_ALERT: Final = 3
LARGEST_DATAGRAM: Final = 65_000


class Transport(StrEnum):
    """How messages travel."""

    UDP = "udp"
    TCP = "tcp"
    TLS = "tls"


@dataclass(frozen=True, slots=True, kw_only=True)
class SyslogRules:
    """Where lines go; `ca` is PEM, empty: as the system says."""

    host: str
    port: int
    transport: Transport = Transport.TLS
    ca: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SyslogStatus:
    """How sending does; `reason` is why not, "" while it works or is off."""

    enabled: bool
    sent: int  # number of the last line that went out
    waiting: int
    failures: int  # in a row
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SyslogPace:
    """How long is waited; tests are in a hurry."""

    every_s: float = EVERY_S
    confirm_s: float = CONFIRM_S
    retry_first_s: float = RETRY_FIRST_S
    retry_most_s: float = RETRY_MOST_S


class _Line(Protocol):
    """A way to the server."""

    def require_open(self) -> None:
        """Raise OSError when the other side has ended it."""

    async def send(self, messages: list[bytes]) -> None:
        """Send all or raise OSError."""

    async def close(self) -> None:
        """Let go."""


class Forwarder:
    """Sends what the trail holds. Loop thread only."""

    def __init__(
        self,
        audit: AuditTrail,
        state_dir: Path,
        *,
        rules: Callable[[], SyslogRules | None],
        counters: Counters,
        source: str = "",
        pace: SyslogPace | None = None,
    ) -> None:
        """`rules` is asked before each batch; None: nothing is sent."""
        self._audit = audit
        self._path = state_dir / "audit" / STATE_FILE
        self._rules = rules
        self._counters = counters
        self._source = source or socket.gethostname()
        self._pace = pace or SyslogPace()
        self._sent = -1  # not read yet
        self._confirmed = -1  # up to here a restart need not send again
        self._marks: deque[tuple[float, int]] = deque()  # when lines up to a number were written
        self._last = 0
        self._failures = 0
        self._reason = ""
        self._line: tuple[SyslogRules, _Line] | None = None
        self._task: asyncio.Task[None] | None = None
        self._nudged = asyncio.Event()

    def start(self) -> None:
        """Begin; returns at once."""
        self._task = asyncio.create_task(self._run(), name="audit-syslog")

    async def close(self) -> None:
        """Stop; what was not sent waits in the trail. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self._drop()
        if self._marks:  # an orderly end: what was written was taken
            await asyncio.to_thread(self._write, self._sent)

    def nudge(self) -> None:
        """Try at once: the settings changed."""
        self._nudged.set()

    def status(self) -> SyslogStatus:
        """Return how it does."""
        enabled = self._rules() is not None
        return SyslogStatus(
            enabled=enabled,
            sent=max(0, self._sent),
            waiting=max(0, self._last - self._sent) if enabled and self._sent >= 0 else 0,
            failures=self._failures,
            reason=self._reason if enabled else "",
        )

    @property
    def failing(self) -> bool:
        """Tell whether an operator should know."""
        return self._rules() is not None and self._failures >= FAILURES_BEFORE_ALERT

    async def _run(self) -> None:
        while True:
            rules = self._rules()
            delay = self._pace.every_s
            if rules is None:
                await self._drop()
                self._failures, self._reason = 0, ""
            else:
                try:
                    if await self._send_some(rules):
                        delay = 0.0
                    self._recovered()
                except (OSError, ssl.SSLError, TimeoutError) as error:
                    delay = await self._failed(error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._nudged.wait()
            self._nudged.clear()

    async def _send_some(self, rules: SyslogRules) -> bool:
        """Send the next lines; return whether there may be more. Raises OSError."""
        first, self._last, _ = await self._audit.extent()
        if self._sent < 0:
            # Switched on for the first time: from here on, the past is in the trail.
            self._sent = self._confirmed = await asyncio.to_thread(self._read, self._last)
        if self._sent > self._last:  # another trail than the one that was sent
            self._sent = first - 1
        if first - 1 > self._sent:
            lost, self._sent = first - 1 - self._sent, first - 1
            self._confirmed = max(self._confirmed, self._sent)
            log.error("audit syslog: %d lines went beyond the quota before they were sent", lost)
            self._audit.record(OWN, "audit-syslog-skipped", "audit", "failure", {"lost": str(lost)})
        if self._line is not None:
            self._line[1].require_open()
        await self._confirm()
        lines = await self._audit.following(self._sent, BATCH)
        if not lines:
            return False
        way = await self._way(rules)
        await way.send([self._message(line) for line in lines])
        self._sent = lines[-1].number
        self._marks.append((asyncio.get_running_loop().time(), self._sent))
        self._counters.add("audit_syslog_sent", len(lines))
        return len(lines) == BATCH

    async def _confirm(self) -> None:
        """Note what has been written for long enough."""
        due = asyncio.get_running_loop().time() - self._pace.confirm_s
        before = self._confirmed
        while self._marks and self._marks[0][0] <= due:
            self._confirmed = self._marks.popleft()[1]
        if self._confirmed != before:
            await asyncio.to_thread(self._write, self._confirmed)

    def _message(self, line: Recorded) -> bytes:
        return syslog(line, source=self._source, process=str(os.getpid()))

    async def _way(self, rules: SyslogRules) -> _Line:
        if self._line is not None and self._line[0] == rules:
            return self._line[1]
        await self._drop()
        made = await connected(rules)
        self._line = (rules, made)
        return made

    async def _drop(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            await line[1].close()

    def _recovered(self) -> None:
        if self._failures >= FAILURES_BEFORE_ALERT:
            log.warning("audit syslog: lines are sent again")
        self._failures, self._reason = 0, ""

    async def _failed(self, error: Exception) -> float:
        await self._drop()
        if self._sent >= 0:
            self._sent = self._confirmed  # what was on its way goes again
        self._marks.clear()
        self._failures += 1
        self._reason = _words(error)
        self._counters.add("audit_syslog_failures")
        if self._failures == FAILURES_BEFORE_ALERT:
            log.warning("audit syslog: %s", self._reason)
        return min(
            self._pace.retry_first_s * 2.0 ** min(self._failures - 1, 20), self._pace.retry_most_s
        )

    def _read(self, default: int) -> int:
        try:
            return int(json.loads(self._path.read_bytes())["sent"])
        except FileNotFoundError:
            return default
        except (OSError, ValueError, KeyError, TypeError):
            log.warning("audit syslog: where it was is not known any more; all lines go again")
            return 0

    def _write(self, number: int) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_durably(self._path, json.dumps({"sent": number}).encode())


async def connected(rules: SyslogRules) -> _Line:
    """Return a way to the server; raises OSError, TimeoutError."""
    async with asyncio.timeout(CONNECT_S):
        if rules.transport is Transport.UDP:
            transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                asyncio.DatagramProtocol, remote_addr=(rules.host, rules.port)
            )
            return _Datagrams(transport)
        context: ssl.SSLContext | None = None
        if rules.transport is Transport.TLS:
            context = await asyncio.to_thread(_context, rules.ca)
        reader, writer = await asyncio.open_connection(
            rules.host, rules.port, ssl=context, server_hostname=rules.host if context else None
        )
        return _Stream(reader, writer)


def _context(ca: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=ca or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


class _Datagrams:
    """One message in each datagram (RFC 5426)."""

    def __init__(self, transport: asyncio.DatagramTransport) -> None:
        self._transport = transport

    def require_open(self) -> None:
        """Nothing is known of the other side."""

    async def send(self, messages: list[bytes]) -> None:
        for each in messages:
            self._transport.sendto(each[:LARGEST_DATAGRAM])
            await asyncio.sleep(0)

    async def close(self) -> None:
        self._transport.close()


class _Stream:
    """Octet counting over TCP or TLS (RFC 6587 section 3.4.1, RFC 5425 section 4.3)."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def require_open(self) -> None:
        if self._reader.at_eof() or self._reader.exception() or self._writer.is_closing():
            raise ConnectionResetError("the server ended the connection")

    async def send(self, messages: list[bytes]) -> None:
        self.require_open()
        self._writer.write(b"".join(b"%d %s" % (len(each), each) for each in messages))
        async with asyncio.timeout(WRITE_S):
            await self._writer.drain()

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError, ssl.SSLError, TimeoutError):
            async with asyncio.timeout(2):
                await self._writer.wait_closed()


def _words(error: Exception) -> str:
    match error:
        case ssl.SSLCertVerificationError() as wrong:
            return f"the certificate of the server is not trusted: {wrong.verify_message}"
        case ssl.SSLError() as wrong:
            return f"no secure connection: {wrong.reason}"
        case TimeoutError():
            return "the server does not answer"
        case OSError() as failed if failed.errno and failed.errno > 0:
            return os.strerror(failed.errno)
        case other:
            return str(other) or type(other).__name__
