# SPDX-License-Identifier: Apache-2.0
"""Log-in by an OpenID Connect provider: to it and back."""

from typing import Any, Final
from urllib.parse import quote

from aiohttp import web

from scrigno.access.audit import Action
from scrigno.access.errors import AccessDenied
from scrigno.access.sessions import Kind
from scrigno.core.errors import ScrignoError

from .account_api import address_of, agent_of, record_refusal
from .guard import cookie_name, set_cookie
from .rooms import Rooms
from .routes import API, For, Own, Route
from .shapes import Answer, Query

PLAIN_COOKIE: Final = "scrigno-provider"
SECURE_COOKIE: Final = "__Host-scrigno-provider"
COOKIE_S: Final = 600
MOST_TEXT: Final = 4096
PAGES: Final = "/viewer/"


class ProviderAnswer(Answer):
    """Whether the log-in page offers a provider, and what its button says."""

    enabled: bool
    label: str


async def get_provider(request: web.Request, rooms: Rooms) -> ProviderAnswer:
    """Return what the log-in page offers."""
    rules = rooms.oidc.rules
    return ProviderAnswer(enabled=rules.enabled, label=rules.label if rules.enabled else "")


async def go_to_provider(request: web.Request, rooms: Rooms) -> Any:
    """Send the browser to the provider."""
    back = f"{request.scheme}://{request.host}{API}/oidc/callback"
    begun = await rooms.oidc.begin(back)
    response = web.Response(status=303, headers={"Location": begun.url})
    # Lax: the browser comes back from another site, and must bring it then.
    response.set_cookie(
        _cookie(request),
        begun.secret,
        path="/",
        max_age=COOKIE_S,
        httponly=True,
        samesite="Lax",
        secure=request.secure,
    )
    return response


async def come_back(request: web.Request, rooms: Rooms) -> Any:
    """Let in whom the provider sent back; the pages say why not, if not."""
    answer = {name: text[:MOST_TEXT] for name, text in request.query.items()}
    address = address_of(request)
    try:
        account = await rooms.oidc.finish(answer, request.cookies.get(_cookie(request), ""))
        made = await rooms.access.entrance.enter(
            account, address=address, agent=agent_of(request), kind=Kind.COOKIE
        )
    except ScrignoError as refusal:
        if isinstance(refusal, AccessDenied):
            record_refusal(request, rooms, refusal)
        return _home(request, f"#/login?refused={quote(refusal.code, safe='')}")
    earlier = request.cookies.get(cookie_name(request))
    if earlier:
        await rooms.access.sessions.end(earlier)
    rooms.audit.record(made.account.name, Action.LOGIN, address, details={"by": "provider"})
    response = _home(request, "")
    set_cookie(request, response, made.token)
    return response


def _home(request: web.Request, where: str) -> web.Response:
    response = web.Response(status=303, headers={"Location": PAGES + where})
    response.del_cookie(
        _cookie(request), path="/", httponly=True, samesite="Lax", secure=request.secure
    )
    return response


def _cookie(request: web.Request) -> str:
    return SECURE_COOKIE if request.secure else PLAIN_COOKIE


ROUTES: Final = (
    Route(
        method="GET", path="/oidc", work=get_provider, allowed=For.ANYBODY, answer=ProviderAnswer,
        about="Whether the log-in page offers a provider",
    ),
    Route(
        method="GET", path="/oidc/start", work=go_to_provider, allowed=For.ANYBODY,
        about="Send the browser to the provider", answer=None, also=(303,),
        errors=("provider-unavailable", "outgoing-failed", "outgoing-refused"),
    ),
    Route(
        method="GET", path="/oidc/callback", work=come_back, allowed=For.ANYBODY,
        about="Where the provider sends the browser back to", answer=None, also=(303,),
        query=(Query("code", max_length=MOST_TEXT), Query("state", max_length=MOST_TEXT),
               Query("iss", max_length=MOST_TEXT), Query("error", max_length=MOST_TEXT)),
        free_query=True, audit=Own(Action.LOGIN),
    ),
)  # fmt: skip
