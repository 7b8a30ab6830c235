# SPDX-License-Identifier: Apache-2.0
"""Accounts as administrators see them: who exists, what they may do, where they are logged in."""

from typing import Any, Final

from aiohttp import web
from msgspec import UNSET, UnsetType

from scrigno.access.permissions import Permission
from scrigno.access.roles import BuiltIn

from .account_api import (
    AccountAnswer,
    Password,
    SessionsAnswer,
    UserName,
    account_answer,
    session_answer,
)
from .errors import NotFound
from .rooms import Rooms, caller_of
from .routes import For, Route, audited
from .shapes import Answer, Body, Nothing, Word, path_of, read_body


class AccountsAnswer(Answer, kw_only=True):
    """All accounts by name."""

    accounts: list[AccountAnswer]


class NewAccountAnswer(AccountAnswer, kw_only=True):
    """An account, and the temporary password that the box made for it; it is shown this once."""

    temporary_password: str | UnsetType = UNSET


class NewAccountBody(Body, kw_only=True):
    """Without a password the box makes one, to be changed at the first log-in."""

    user: UserName
    password: Password | UnsetType = UNSET
    role: Word = BuiltIn.USER
    must_change_password: bool = False


class ChangedAccountBody(Body, kw_only=True):
    """What is left out stays as it is; `added` are permissions beside those of the role."""

    role: Word | UnsetType = UNSET
    added: list[Permission] | UnsetType = UNSET
    disabled: bool | UnsetType = UNSET
    must_change_password: bool | UnsetType = UNSET


def _new(answer: AccountAnswer, password: str | UnsetType) -> NewAccountAnswer:
    fields = {name: getattr(answer, name) for name in AccountAnswer.__struct_fields__}
    return NewAccountAnswer(**fields, temporary_password=password)


def _given(value: Any) -> Any:
    return None if value is UNSET else value


def _name(request: web.Request) -> str:
    return str(path_of(request)["name"])


async def list_accounts(request: web.Request, rooms: Rooms) -> AccountsAnswer:
    """List all accounts."""
    known = await rooms.access.accounts.all()
    return AccountsAnswer(accounts=[account_answer(each) for each in known])


async def get_account(request: web.Request, rooms: Rooms) -> AccountAnswer:
    """Return one account."""
    return account_answer(await rooms.access.accounts.named(_name(request)))


async def add_account(request: web.Request, rooms: Rooms) -> NewAccountAnswer:
    """Add an account."""
    body = await read_body(request, NewAccountBody)
    audited(request, body.user[:64], role=body.role)
    if body.password is UNSET:
        made, password = await rooms.access.invite_account(body.user, body.role)
        return _new(account_answer(made), password)
    made = await rooms.access.add_account(
        body.user, body.password, body.role, must_change=body.must_change_password
    )
    return _new(account_answer(made), UNSET)


async def change_account(request: web.Request, rooms: Rooms) -> AccountAnswer:
    """Change what an account may do; running sessions know at once."""
    body = await read_body(request, ChangedAccountBody)
    added = None if body.added is UNSET else frozenset(body.added)
    changed = await rooms.access.change_account(
        _name(request),
        role=_given(body.role),
        added=added,
        disabled=_given(body.disabled),
        must_change=_given(body.must_change_password),
    )
    audited(
        request,
        role=changed.role,
        added=" ".join(sorted(changed.added)),
        disabled=str(changed.disabled).lower(),
    )
    return account_answer(changed)


async def remove_account(request: web.Request, rooms: Rooms) -> None:
    """Remove an account; its sessions end at once, its preferences go."""
    name = _name(request)
    await rooms.access.remove_account(name)
    await rooms.reading.forget_account(name)


async def reset_password(request: web.Request, rooms: Rooms) -> NewAccountAnswer:
    """Give an account a temporary password, which nobody has chosen; its sessions end."""
    account, password = await rooms.access.reset_password(_name(request))
    return _new(account_answer(account), password)


async def reset_second_factor(request: web.Request, rooms: Rooms) -> AccountAnswer:
    """Take every second factor from an account; its sessions end."""
    return account_answer(await rooms.access.reset_factors(_name(request)))


async def list_sessions(request: web.Request, rooms: Rooms) -> SessionsAnswer:
    """List everybody who is logged in, guests among them."""
    own = caller_of(request).session
    return SessionsAnswer(
        sessions=[session_answer(each, own) for each in rooms.access.sessions.all()]
    )


async def end_session(request: web.Request, rooms: Rooms) -> None:
    """End the session of somebody else."""
    if not await rooms.access.sessions.end_by_id(path_of(request)["id"]):
        raise NotFound("There is no such session.")


_ADMIN: Final = For.ADMINISTRATORS
_ONE: Final = "/accounts/{name}"

ROUTES: Final = (
    Route(
        method="GET", path="/accounts", work=list_accounts, allowed=_ADMIN, about="All accounts",
        answer=AccountsAnswer,
    ),
    Route(
        method="POST", path="/accounts", work=add_account, allowed=_ADMIN, success=201,
        about="Add an account; without a password the box makes a temporary one",
        body=NewAccountBody, answer=NewAccountAnswer, audit="account-added",
        errors=("bad-user-name", "weak-password", "unknown-role"),
    ),
    Route(
        method="GET", path=_ONE, work=get_account, allowed=_ADMIN, about="One account",
        answer=AccountAnswer, errors=("unknown-account",),
    ),
    Route(
        method="PATCH", path=_ONE, work=change_account, allowed=_ADMIN,
        about="Change role, added permissions, or whether the account is disabled",
        body=ChangedAccountBody, answer=AccountAnswer, audit="account-changed",
        errors=("unknown-account", "unknown-role", "last-administrator"),
    ),
    Route(
        method="DELETE", path=_ONE, work=remove_account, allowed=_ADMIN, answer=None,
        about="Remove an account", audit="account-removed",
        errors=("unknown-account", "last-administrator"),
    ),
    Route(
        method="POST", path=_ONE + "/password-reset", work=reset_password, allowed=_ADMIN,
        about="Give an account a temporary password, shown this once; its sessions end",
        body=Nothing, body_optional=True, answer=NewAccountAnswer, audit="password-reset",
        errors=("unknown-account", "account-of-provider"),
    ),
    Route(
        method="DELETE", path=_ONE + "/second-factor", work=reset_second_factor, allowed=_ADMIN,
        about="Take every second factor from an account; its sessions end",
        answer=AccountAnswer, audit="second-factor-reset", errors=("unknown-account",),
    ),
    Route(
        method="GET", path="/sessions", work=list_sessions, allowed=_ADMIN, answer=SessionsAnswer,
        about="Everybody who is logged in",
    ),
    Route(
        method="DELETE", path="/sessions/{id}", work=end_session, allowed=_ADMIN, answer=None,
        about="End a session", audit="session-ended", errors=("not-found",),
    ),
)  # fmt: skip
