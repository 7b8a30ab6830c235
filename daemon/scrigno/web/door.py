# SPDX-License-Identifier: Apache-2.0
"""What happens to a request before anything looks at its path: proxy, host name, https, its id."""

import ipaddress
import re
import socket
from collections.abc import Iterable
from typing import Final, Protocol

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from scrigno.core.tracing import REQUEST, new_request_id
from scrigno.settings.store import SettingsStore
from scrigno.settings.trust import WebSettings

from .errors import HttpsRequired, RequestRefused, UnknownHost

REQUEST_ID: Final = web.RequestKey("request-id", str)
REQUEST_HEADER: Final = "X-Request-Id"
HSTS: Final = "max-age=31536000"
NO_HSTS: Final = "max-age=0"
OPEN_BY_HTTP: Final = frozenset({"/healthz", "/metrics"})  # monitors have no patient data to lose
MOST_HOST: Final = 255
MOST_HOPS: Final = 16
_HOST: Final = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?")
_METHOD: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class SecurePort(Protocol):
    """Where https is served."""

    @property
    def port(self) -> int | None:
        """Return the port, None while https is not served."""


def at_the_door(settings: SettingsStore, secure: SecurePort) -> Middleware:
    """Return the middleware that stands before all others; its refusals are ScrignoErrors."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        rules = settings.current.web
        if rules.trusted_proxies:
            request = behind_proxy(request, rules.trusted_proxies)
        _require_host(request, rules)
        if rules.redirect and not request.secure and request.path not in OPEN_BY_HTTP:
            moved = _to_https(request, secure.port)
            if moved is not None:
                return moved
        return await handler(request)

    return middleware


@web.middleware
async def naming_requests(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give each request an id that stands in its log lines, its problem document and a header."""
    request[REQUEST_ID] = new_request_id()
    # A connection that is kept alive serves its requests in one task: the id must end with each.
    token = REQUEST.set(request[REQUEST_ID])
    try:
        return await handler(request)
    finally:
        REQUEST.reset(token)


def transport_headers(
    settings: SettingsStore, request: web.Request, response: web.StreamResponse
) -> None:
    """Put the id of the request, and HSTS where the connection is secure, on an answer."""
    if REQUEST_ID in request:
        response.headers[REQUEST_HEADER] = request[REQUEST_ID]
    if request.secure:
        # RFC 6797 7.2: never over http. max-age=0 lets browsers forget what they were told before.
        keep = settings.current.web.hsts
        response.headers["Strict-Transport-Security"] = HSTS if keep else NO_HSTS


def own_names(names: Iterable[str] = ()) -> set[str]:
    """Return the host names under which this box is reached, in small letters."""
    own = socket.gethostname().lower().rstrip(".")
    short = own.partition(".")[0]
    given = (each.lower().rstrip(".") for each in names)
    return {"localhost", own, short, f"{short}.local", *given} - {""}


def behind_proxy(request: web.Request, trusted: Iterable[str]) -> web.Request:
    """Return the request as its first untrusted hop made it, when a trusted proxy brings it.

    Of X-Forwarded-For the last address that is no trusted proxy counts: what stands before it was
    written by the caller itself.
    """
    networks = [ipaddress.ip_network(each, strict=False) for each in trusted]
    if not _within(request.remote or "", networks):
        return request
    hops = request.headers.get("X-Forwarded-For", "").split(",")[-MOST_HOPS:]
    address = request.remote or ""
    for hop in reversed([each.strip() for each in hops if each.strip()]):
        address = hop if _is_address(hop) else address
        if not _within(hop, networks):
            break
    scheme = request.headers.get("X-Forwarded-Proto", "").split(",")[-1].strip().lower()
    if scheme not in {"http", "https"}:
        scheme = request.scheme
    return request.clone(remote=address, scheme=scheme)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _within(text: str, networks: Iterable[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return any(address in each for each in networks if each.version == address.version)


def _require_host(request: web.Request, rules: WebSettings) -> None:
    """Raise RequestRefused, UnknownHost for a host name that is none of the box's."""
    given = request.headers.getall(hdrs.HOST, [])
    found = _HOST.fullmatch(given[0]) if len(given) == 1 and len(given[0]) <= MOST_HOST else None
    if found is None:
        raise RequestRefused("The request names no host, or not as it is written.")
    if not rules.only_names:
        return
    name = found[1].strip("[]").lower().rstrip(".")
    if not _is_address(name) and name not in own_names(rules.names):
        raise UnknownHost(
            "This box has another name.",
            next_step="Use its address, or have an administrator add the name to web.names.",
        )


def _to_https(request: web.Request, port: int | None) -> web.Response | None:
    if port is None:
        return None
    if request.method not in {"GET", "HEAD"}:
        raise HttpsRequired(
            "This box is used by https only; what was sent came in clear.",
            next_step="Use the address with https, and change a password that was sent.",
        )
    name = request.host.rpartition(":")[0] if _has_port(request.host) else request.host
    target = f"https://{name}" + (f":{port}" if port != 443 else "") + request.raw_path
    # raw_path begins with one slash, so the name above stays the name
    return web.Response(status=308, headers={hdrs.LOCATION: target})


def _has_port(host: str) -> bool:
    return host.rpartition(":")[2].isdigit() and not host.endswith("]")
