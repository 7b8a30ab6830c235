# SPDX-License-Identifier: Apache-2.0
"""The one place from which the box calls other machines by HTTP, and what it refuses to call.

Somebody who may type an address must not make the box speak to itself, to a cloud's metadata
service or to a link-local neighbour (SSRF). Each address is judged at the moment its socket is
made, after every look-up, so a name server that answers differently the second time gains
nothing. Redirects are not followed, proxies of the environment are not used, cookies are not
kept; time and size of an answer are capped.

Private networks are allowed: the servers of a clinic are there. Loopback, link-local and other
special addresses need `outgoing.allowed` of the settings.
"""

import asyncio
import ipaddress
import os
import socket
import ssl
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final
from urllib.parse import urlsplit

import aiohttp
from aiohttp import AddrInfoType
from aiohttp.abc import AbstractResolver, ResolveResult
from typing_extensions import override
from yarl import URL

from scrigno.core.errors import ScrignoError
from scrigno.host.facts import NotAvailable
from scrigno.host.reader import Reader

TIMEOUT_S: Final = 30.0
LOOKUP_TIMEOUT_S: Final = 10.0
MOST_ANSWER_BYTES: Final = 1 << 20
MOST_URL: Final = 2048
MOST_HEADER_BYTES: Final = 8 << 10

Address = IPv4Address | IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Beyond loopback and link-local: addresses that lead to the machine or the cloud it stands in.
_METADATA: Final = frozenset(
    ipaddress.ip_address(each)
    for each in ("169.254.169.254", "169.254.170.2", "100.100.100.200", "fd00:ec2::254")
)
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


class OutgoingRefused(ScrignoError):
    """The box does not call this address."""

    code = "outgoing-refused"


class OutgoingFailed(ScrignoError):
    """The other side could not be reached or did not answer; the reason is in words."""

    code = "outgoing-failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Replied:
    """What the other side answered; `body` is at most what the caller allowed."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def why_refused(address: Address, allowed: Iterable[Network]) -> str:
    """Return in words why the box does not call this address, "" when it does. Pure."""
    real = _inner(address)
    if any(real in network for network in allowed if network.version == real.version):
        return ""
    for is_so, words in (
        (real in _METADATA, "the metadata service of a cloud"),
        (real.is_loopback, "the box itself"),
        (real.is_unspecified, "the box itself"),
        (real.is_link_local, "a link-local address"),
        (real.is_multicast, "a multicast address"),
        (real.is_reserved, "a reserved address"),
    ):
        if is_so:
            return words
    return ""


def _inner(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 one stands for, so that none slips by in disguise."""
    if isinstance(address, IPv4Address):
        return address
    hidden = address.ipv4_mapped or address.sixtofour
    if hidden is None and address in _NAT64:
        hidden = IPv4Address(int(address) & 0xFFFFFFFF)
    if hidden is None and address.teredo is not None:
        hidden = address.teredo[1]
    return hidden or address


def networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Return networks as the settings name them; a single address is one too."""
    return tuple(ipaddress.ip_network(text, strict=False) for text in texts)


class Lookups(AbstractResolver):
    """Names to addresses, in threads of their own: a dead name server holds up nobody else."""

    def __init__(self) -> None:
        """Four at once."""
        self._reader = Reader("outgoing-names", at_once=4, timeout_s=LOOKUP_TIMEOUT_S)

    @override
    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return addresses; OSError when there are none or nobody answers."""
        found = await self._reader.read(
            host, lambda: socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
        )
        if isinstance(found, NotAvailable):
            raise OSError(f"the name {host} was not found: {found.reason}")
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=int(address[1]),
                family=kind,
                proto=proto,
                flags=socket.AI_NUMERICHOST,
            )
            for kind, _, proto, _, address in found
        ]

    @override
    async def close(self) -> None:
        """Nothing is held."""

    async def connected(self, host: str, port: int) -> socket.socket:
        """Return a socket that is connected to the first address that answers."""
        last: OSError = OSError(f"the name {host} was not found")
        for address in await self.resolve(host, port):
            sock = socket.socket(address["family"], socket.SOCK_STREAM)
            sock.setblocking(False)  # noqa: FBT003 - the socket's own signature
            try:
                await asyncio.get_running_loop().sock_connect(
                    sock, (address["host"], address["port"])
                )
            except OSError as error:
                sock.close()
                last = error
            except BaseException:
                sock.close()
                raise
            else:
                return sock
        raise last


class Outgoing:
    """Calls other machines. Loop thread only."""

    def __init__(
        self,
        *,
        allowed: Callable[[], Iterable[str]] = tuple,
        tls: Callable[[], ssl.SSLContext] = ssl.create_default_context,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """`allowed` names networks beyond the usual; `tls` makes the context, it may block."""
        self._allowed = allowed
        self._lookups = Lookups()
        self._tls = tls
        self._timeout_s = timeout_s
        self._context: ssl.SSLContext | None = None

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        most_bytes: int = MOST_ANSWER_BYTES,
        timeout_s: float | None = None,
    ) -> Replied:
        """Call once and return what came, whatever its status; a redirect is an answer too.

        Raises OutgoingRefused before anything is sent, OutgoingFailed, both in words.
        """
        target = self._target(url)
        limit_s = timeout_s or self._timeout_s
        try:
            async with asyncio.timeout(limit_s):
                return await self._request(method, target, dict(headers or {}), body, most_bytes)
        except OutgoingRefused:
            raise
        except (OSError, aiohttp.ClientError, ValueError) as error:
            raise OutgoingFailed(_words(error, limit_s)) from None

    def _target(self, url: str) -> URL:
        parts = urlsplit(url)
        good = parts.scheme in {"http", "https"} and parts.hostname and "@" not in parts.netloc
        if not good or len(url) > MOST_URL or any(each in url for each in "\r\n\t \\"):
            raise OutgoingRefused("Only http and https addresses without a user are called.")
        return URL(url)

    def _socket(self, found: AddrInfoType) -> socket.socket:
        """Return the socket for one address, at the last moment before it is connected.

        Names, addresses and whatever passes for one (127.1, 2130706433) all come by here.
        """
        family, kind, proto, _, sockaddr = found
        address = ipaddress.ip_address(str(sockaddr[0]).split("%", 1)[0])
        words = why_refused(address, networks(self._allowed()))
        if words:
            raise OutgoingRefused(
                f"{address} is not called: it is {words}.",
                next_step="If that is meant, name it in the setting outgoing.allowed.",
            )
        return socket.socket(family, kind, proto)

    async def _request(
        self, method: str, url: URL, headers: dict[str, str], body: bytes | None, most_bytes: int
    ) -> Replied:
        connector = aiohttp.TCPConnector(
            resolver=self._lookups,
            ssl=await self._verified(),
            force_close=True,
            use_dns_cache=False,
            socket_factory=self._socket,
        )
        async with (
            aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                auto_decompress=False,
                max_field_size=MOST_HEADER_BYTES,
                max_line_size=MOST_HEADER_BYTES,
            ) as session,
            session.request(
                method,
                url,
                data=body,
                headers={"User-Agent": "Scrigno", "Accept-Encoding": "identity", **headers},
                allow_redirects=False,
            ) as answer,
        ):
            found = bytearray()
            async for chunk in answer.content.iter_chunked(16 << 10):
                found += chunk
                if len(found) > most_bytes:
                    raise OutgoingFailed(f"the answer has more than {most_bytes} bytes")
            return Replied(status=answer.status, headers=dict(answer.headers), body=bytes(found))

    async def _verified(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = await asyncio.to_thread(self._tls)
        return self._context


def _words(error: Exception, timeout_s: float) -> str:
    match error:
        case aiohttp.ClientConnectorCertificateError() as wrong:
            why = getattr(wrong.certificate_error, "verify_message", wrong.certificate_error)
            return f"the certificate is not trusted: {why}"
        case ssl.SSLError() as wrong:
            return f"no secure connection: {wrong.reason}"
        case TimeoutError():
            return f"no answer in {timeout_s:g} s"
        case aiohttp.ClientConnectorError() as failed:
            return f"no connection: {plain_words(failed.os_error)}"
        case other:
            return f"no connection: {plain_words(other)}"


def plain_words(error: BaseException) -> str:
    """Return the system's own words where there are any, in one line."""
    if isinstance(error, OSError) and error.errno and error.errno > 0:
        return os.strerror(error.errno)
    return " ".join(str(error).split())[:300] or type(error).__name__
