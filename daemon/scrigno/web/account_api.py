# SPDX-License-Identifier: Apache-2.0
"""Claim, log-in and log-out; accounts and sessions."""

from datetime import UTC, datetime
from typing import Any, Final

from aiohttp import web

from scrigno.access.accounts import Account, Role
from scrigno.access.sessions import Kind, Session
from scrigno.settings.schema import Language

from .bodies import read_object, text
from .errors import BadBody, NotFound
from .guard import caller, cookie_name, drop_cookie, set_cookie
from .rooms import Rooms, caller_of
from .routes import For, Route, fields


def address_of(request: web.Request) -> str:
    """Return the address of the other end of the connection; no header is believed."""
    return request.remote or "unknown"


def _account(account: Account) -> dict[str, Any]:
    return {
        "name": account.name,
        "role": account.role,
        "language": account.language,
        "created_at": account.created_at,
    }


def _session(session: Session, own: Session) -> dict[str, Any]:
    def moment(seconds: float) -> str:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")

    return {
        "id": session.id,
        "user": session.account.name,
        "kind": session.kind,
        "created_at": moment(session.created_at),
        "used_at": moment(session.used_at),
        "address": session.address,
        "agent": session.agent,
        "own": session is own,
    }


async def get_session(request: web.Request, rooms: Rooms) -> Any:
    """Tell the pages where they are: is the box claimed, who is logged in, which language."""
    found = caller(request, rooms)
    return {
        "claimed": rooms.access.claimed,
        "language": rooms.settings.current.language,
        "languages": list(Language),
        "user": _account(found.session.account) if found else None,
    }


async def claim(request: web.Request, rooms: Rooms) -> Any:
    """Make the first account with the setup code, and log it in."""
    body = await read_object(request)
    user, password = text(body, "user", "id"), text(body, "password")
    code = text(body, "setup_code", "code")
    await rooms.access.claim(code, user, password, address=address_of(request))
    return await _logged_in(request, rooms, user, password, by_cookie=body.get("cookie") is True)


async def login(request: web.Request, rooms: Rooms) -> Any:
    """Log in; with `cookie: true` the token travels in the cookie only, as the pages want it."""
    body = await read_object(request)
    user, password = text(body, "user", "id"), text(body, "password")
    return await _logged_in(request, rooms, user, password, by_cookie=body.get("cookie") is True)


async def _logged_in(
    request: web.Request, rooms: Rooms, user: str, password: str, *, by_cookie: bool
) -> web.Response:
    earlier = request.cookies.get(cookie_name(request))
    if earlier:  # a new token at each log-in (ASVS 7.2.4), and none left behind
        await rooms.access.sessions.end(earlier)
    made = await rooms.access.login(
        user,
        password,
        address=address_of(request),
        agent=request.headers.get("User-Agent", ""),
        kind=Kind.COOKIE if by_cookie else Kind.BEARER,
    )
    content: dict[str, Any] = {"user": _account(made.account)}
    if not by_cookie:
        content |= {"token": made.token, "token_type": "Bearer"}
    response = web.json_response(content)
    if by_cookie:
        set_cookie(request, response, made.token)
    return response


async def logout(request: web.Request, rooms: Rooms) -> Any:
    """End the session on the box and in the browser."""
    await rooms.access.sessions.end(caller_of(request).token)
    response = web.Response(status=204)
    drop_cookie(request, response)
    if request.secure:
        response.headers["Clear-Site-Data"] = '"cache", "storage"'
    return response


async def change_own_account(request: web.Request, rooms: Rooms) -> Any:
    """Remember the language of the logged-in person."""
    language = text(await read_object(request), "language")
    if language and language not in list(Language):
        raise BadBody(f"language must be one of {', '.join(Language)}, or empty.")
    session = caller_of(request).session
    session.account = await rooms.access.accounts.set_language(session.account.name, language)
    return _account(session.account)


async def change_own_password(request: web.Request, rooms: Rooms) -> Any:
    """Change the own password; every other session of the account ends."""
    body = await read_object(request)
    caller_ = caller_of(request)
    await rooms.access.change_password(
        caller_.session, text(body, "old"), text(body, "new"), keep=caller_.token
    )


async def list_accounts(request: web.Request, rooms: Rooms) -> Any:
    """List all accounts."""
    return {"accounts": [_account(each) for each in await rooms.access.accounts.all()]}


async def add_account(request: web.Request, rooms: Rooms) -> Any:
    """Add an account."""
    body = await read_object(request)
    role = text(body, "role", default=Role.USER)
    if role not in list(Role):
        raise BadBody(f"role must be one of {', '.join(Role)}.")
    made = await rooms.access.add_account(text(body, "user"), text(body, "password"), Role(role))
    return web.json_response(_account(made), status=201)


async def remove_account(request: web.Request, rooms: Rooms) -> Any:
    """Remove an account; its sessions end at once."""
    await rooms.access.remove_account(request.match_info["name"])


async def list_sessions(request: web.Request, rooms: Rooms) -> Any:
    """List everybody who is logged in."""
    own = caller_of(request).session
    return {"sessions": [_session(each, own) for each in rooms.access.sessions.all()]}


async def end_session(request: web.Request, rooms: Rooms) -> Any:
    """End the session of somebody else."""
    if not await rooms.access.sessions.end_by_id(request.match_info["id"]):
        raise NotFound("There is no such session.")


_LOGIN_ERRORS: Final = ("wrong-credentials", "too-many-attempts", "web-connections-exhausted")
_ADMIN: Final = For.ADMINISTRATORS

ROUTES: Final = (
    Route(
        method="GET", path="/session", work=get_session, allowed=For.ANYBODY,
        about="Whether the box is claimed and who is logged in",
    ),
    Route(
        method="POST", path="/claim", work=claim, allowed=For.ANYBODY,
        about="Make the first account with the setup code",
        body=fields("setup_code", "user", "password", cookie="boolean"),
        errors=("already-claimed", "wrong-setup-code", "weak-password", *_LOGIN_ERRORS),
    ),
    Route(
        method="POST", path="/login", work=login, allowed=For.ANYBODY,
        about="Log in and get a bearer token, or with cookie: true a session cookie",
        body=fields("user", "password", cookie="boolean"), errors=_LOGIN_ERRORS,
    ),
    Route(method="POST", path="/logout", work=logout, about="Log out"),
    Route(
        method="PATCH", path="/account", work=change_own_account,
        about="Change the own language", body=fields("language"),
    ),
    Route(
        method="POST", path="/account/password", work=change_own_password,
        about="Change the own password", body=fields("old", "new"),
        errors=("wrong-credentials", "weak-password"),
    ),
    Route(
        method="GET", path="/accounts", work=list_accounts, allowed=_ADMIN, about="All accounts"
    ),
    Route(
        method="POST", path="/accounts", work=add_account, allowed=_ADMIN,
        about="Add an account", body=fields("user", "password", role="string"),
        errors=("bad-user-name", "weak-password"),
    ),
    Route(
        method="DELETE", path="/accounts/{name}", work=remove_account, allowed=_ADMIN,
        about="Remove an account", errors=("unknown-account", "last-administrator"),
    ),
    Route(
        method="GET", path="/sessions", work=list_sessions, allowed=_ADMIN,
        about="Everybody who is logged in",
    ),
    Route(
        method="DELETE", path="/sessions/{id}", work=end_session, allowed=_ADMIN,
        about="End a session", errors=("not-found",),
    ),
)  # fmt: skip
