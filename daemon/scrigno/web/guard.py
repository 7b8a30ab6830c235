# SPDX-License-Identifier: Apache-2.0
"""What every request passes: who asks, from which site, and how refusals are answered."""

import logging
from typing import Final
from urllib.parse import urlsplit

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from scrigno.core.counters import Counters
from scrigno.core.errors import ScrignoError

from .errors import (
    BodyTooLarge,
    CrossOrigin,
    MethodNotAllowed,
    NotFound,
    NotLoggedIn,
    RequestRefused,
    problem,
)
from .rooms import Caller, Rooms

log = logging.getLogger(__name__)


PLAIN_COOKIE: Final = "scrigno-session"
# The prefix makes the browser itself refuse the cookie unless it is Secure, of this host only
# and of path / (RFC 6265bis 4.1.3); it cannot be used without TLS.
SECURE_COOKIE: Final = "__Host-scrigno-session"
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})

SECURITY_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
        "font-src 'self'; connect-src 'self'; manifest-src 'self'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
}


async def set_security_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Put the headers of ASVS 5.0 section 3.4 on every answer."""
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers["Server"] = "Scrigno"


def answering_refusals(counters: Counters) -> Middleware:
    """Return the middleware that turns every error into a problem document, and counts."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            response = await handler(request)
        except ScrignoError as error:
            response = problem(error)
        except web.HTTPNotFound:
            response = problem(NotFound("There is nothing at this address."))
        except web.HTTPMethodNotAllowed as error:
            response = problem(MethodNotAllowed(f"{error.method} is not possible here."))
            response.headers[hdrs.ALLOW] = error.headers[hdrs.ALLOW]
        except web.HTTPRequestEntityTooLarge:
            response = problem(BodyTooLarge("The body is too large."))
        except web.HTTPException as error:
            if error.status < 400:
                raise
            response = problem(RequestRefused(error.reason))
        except Exception as error:
            # the edge of the room: a fault of ours must reach the log and not the caller
            log.exception("web: %s %s failed", request.method, _pattern(request))
            response = problem(ScrignoError(f"Something went wrong ({type(error).__name__})."))
        counters.add("web_requests_total", method=_method(request), status=str(response.status))
        return response

    return middleware


def _method(request: web.Request) -> str:
    """Return the method, invented ones as one word: a label must not grow without end."""
    return request.method if request.method in hdrs.METH_ALL else "other"


def _pattern(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return resource.canonical if resource else "unknown address"


def require_same_origin(request: web.Request) -> None:
    """Raise CrossOrigin when a page of another site makes this request.

    Every browser of VW-10 sends Origin with requests that change something; programs that send
    neither header carry their own token and cannot be misled by a page.
    """
    origin = request.headers.get(hdrs.ORIGIN)
    if origin is not None:
        if urlsplit(origin).netloc.lower() != request.host.lower():
            raise CrossOrigin("This request comes from a page of another site.")
        return
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in {"same-origin", "none"}:
        raise CrossOrigin("This request comes from a page of another site.")


def caller(request: web.Request, rooms: Rooms) -> Caller | None:
    """Return who asks, by bearer token or by cookie; None for nobody."""
    kind, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    by_cookie = kind.lower() != "bearer"
    if by_cookie:
        token = request.cookies.get(cookie_name(request), "")
    token = token.strip()
    session = rooms.access.session(token) if token else None
    return Caller(session=session, token=token, by_cookie=by_cookie) if session else None


def require_caller(request: web.Request, rooms: Rooms) -> Caller:
    """Return who asks; raises NotLoggedIn, and CrossOrigin for changes by cookie."""
    found = caller(request, rooms)
    if found is None:
        raise NotLoggedIn("Log in first.")
    if found.by_cookie and request.method not in SAFE_METHODS:
        require_same_origin(request)
    return found


def cookie_name(request: web.Request) -> str:
    """Return the name of the session cookie on this connection."""
    return SECURE_COOKIE if request.secure else PLAIN_COOKIE


def set_cookie(request: web.Request, response: web.Response, token: str) -> None:
    """Give the browser its session; it ends with the browser or at the box, whichever is first."""
    response.set_cookie(
        cookie_name(request),
        token,
        path="/",
        httponly=True,
        samesite="Strict",
        secure=request.secure,
    )


def drop_cookie(request: web.Request, response: web.Response) -> None:
    """Take the session from the browser."""
    response.del_cookie(
        cookie_name(request), path="/", httponly=True, samesite="Strict", secure=request.secure
    )
