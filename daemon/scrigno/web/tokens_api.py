# SPDX-License-Identifier: Apache-2.0
"""Tokens of programs: made by a person in the account page, with less than that person may do."""

from typing import Annotated, Any, Final

from aiohttp import web
from msgspec import Meta

from scrigno.access.permissions import Permission
from scrigno.access.sessions import Session

from .account_api import Password, address_of, moment_of, require_person
from .errors import NotFound, RequestRefused
from .rooms import Rooms
from .routes import For, Route, audited
from .shapes import Answer, Body, Moment, Word, path_of, read_body

DAY_S: Final = 86_400.0


class TokenAnswer(Answer, kw_only=True):
    """A token without its secret."""

    id: str
    name: str
    scopes: list[Permission]
    created_at: Moment
    expires_at: Moment | None
    used_at: Moment | None


class NewTokenAnswer(TokenAnswer, kw_only=True):
    """A token; `token` is shown this once and kept nowhere."""

    token: str


class TokensAnswer(Answer, kw_only=True):
    """The tokens of an account, the last used first."""

    tokens: list[TokenAnswer]


class NewTokenBody(Body, kw_only=True):
    """`days` null is a token without an end; the own password confirms it."""

    name: Word
    scopes: Annotated[list[Permission], Meta(min_length=1, max_length=len(Permission))]
    days: Annotated[int, Meta(ge=1, le=3650)] | None = 365
    password: Password = ""


def _token(session: Session) -> dict[str, Any]:
    scopes = session.scopes or frozenset()
    used = session.used_at if session.used_at > session.created_at else None
    return {
        "id": session.id,
        "name": session.label,
        "scopes": [each for each in Permission if each in scopes],
        "created_at": moment_of(session.created_at) or "",
        "expires_at": moment_of(session.expires_at),
        "used_at": moment_of(used),
    }


def _tokens(rooms: Rooms, account_id: int) -> TokensAnswer:
    found = rooms.access.sessions.tokens_of(account_id)
    return TokensAnswer(tokens=[TokenAnswer(**_token(each)) for each in found])


async def list_own_tokens(request: web.Request, rooms: Rooms) -> TokensAnswer:
    """List the own tokens."""
    return _tokens(rooms, require_person(request).account.id)


async def make_token(request: web.Request, rooms: Rooms) -> NewTokenAnswer:
    """Make a token with some of the own permissions."""
    session = require_person(request)
    body = await read_body(request, NewTokenBody)
    scopes = frozenset(body.scopes)
    beyond = scopes - session.permissions
    if beyond:
        raise RequestRefused(
            f"Your account does not have the right “{min(beyond)}” itself.",
            next_step="Leave it out of the scopes.",
        )
    audited(request, body.name, scopes=" ".join(sorted(scopes)))
    await rooms.access.entrance.confirm(session, body.password)
    until = None
    if body.days is not None:
        until = rooms.clock.now().timestamp() + body.days * DAY_S
    token, made = await rooms.access.sessions.begin_token(
        session.account, body.name, scopes, expires_at=until, address=address_of(request)
    )
    return NewTokenAnswer(**_token(made), token=token)


async def revoke_own_token(request: web.Request, rooms: Rooms) -> None:
    """Revoke a token; it ends at once."""
    await _revoke(rooms, require_person(request).account.id, path_of(request)["id"])


async def list_tokens_of(request: web.Request, rooms: Rooms) -> TokensAnswer:
    """List the tokens of an account."""
    account = await rooms.access.accounts.named(path_of(request)["name"])
    return _tokens(rooms, account.id)


async def revoke_token_of(request: web.Request, rooms: Rooms) -> None:
    """Revoke the token of somebody else; it ends at once."""
    account = await rooms.access.accounts.named(path_of(request)["name"])
    await _revoke(rooms, account.id, path_of(request)["id"])


async def _revoke(rooms: Rooms, account_id: int, ident: str) -> None:
    mine = {each.id for each in rooms.access.sessions.tokens_of(account_id)}
    if ident not in mine or not await rooms.access.sessions.end_by_id(ident, of=account_id):
        raise NotFound("There is no such token.")


_OF: Final = "/accounts/{name}/tokens"

ROUTES: Final = (
    Route(
        method="GET", path="/account/tokens", work=list_own_tokens, answer=TokensAnswer,
        about="The own tokens of programs",
    ),
    Route(
        method="POST", path="/account/tokens", work=make_token, success=201,
        about="Make a token for a program; it is shown this once", body=NewTokenBody,
        answer=NewTokenAnswer, audit="token-made",
        errors=("too-many-tokens", "confirm-password", "wrong-credentials", "too-many-attempts"),
    ),
    Route(
        method="DELETE", path="/account/tokens/{id}", work=revoke_own_token, answer=None,
        about="Revoke a token", audit="token-revoked", errors=("not-found",),
    ),
    Route(
        method="GET", path=_OF, work=list_tokens_of, allowed=For.ADMINISTRATORS,
        answer=TokensAnswer, about="The tokens of an account", errors=("unknown-account",),
    ),
    Route(
        method="DELETE", path=_OF + "/{id}", work=revoke_token_of, allowed=For.ADMINISTRATORS,
        answer=None, about="Revoke the token of an account", audit="token-revoked",
        errors=("unknown-account", "not-found"),
    ),
)  # fmt: skip
