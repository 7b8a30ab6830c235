# SPDX-License-Identifier: Apache-2.0
"""Claim, log-in and log-out; the own account, password and sessions."""

from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, UnsetType

from scrigno.access.accounts import Account
from scrigno.access.audit import Action
from scrigno.access.entrance import LoggedIn
from scrigno.access.errors import AccessDenied, LoginUnfinished, Step, TooManyAttempts
from scrigno.access.permissions import Permission
from scrigno.access.sessions import Kind, Session
from scrigno.settings.schema import Language

from .errors import BadBody, NotAllowed, NotFound
from .guard import caller, cookie_name, drop_cookie, set_cookie
from .rooms import Rooms, caller_of
from .routes import For, Own, Route
from .shapes import NO_NULL, ONE_LINE, Answer, Body, Moment, path_of, read_body

UserName = Annotated[str, Meta(max_length=256, pattern=ONE_LINE)]
Password = Annotated[str, Meta(max_length=1024, pattern=NO_NULL)]
Ticket = Annotated[str, Meta(min_length=1, max_length=128, pattern=ONE_LINE)]


def address_of(request: web.Request) -> str:
    """Return the address of the other end of the connection; no header is believed."""
    return request.remote or "unknown"


def agent_of(request: web.Request) -> str:
    """Return what the client calls itself."""
    return request.headers.get("User-Agent", "")


def moment_of(seconds: float | None) -> str | None:
    """Return UNIX seconds as every answer writes a time."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


# answers ---------------------------------------------------------------------------------------


class AccountAnswer(Answer, kw_only=True):
    """One account; of a guest, what his link or token lets him do."""

    name: str
    role: str
    language: str
    created_at: str
    permissions: list[Permission]
    added: list[Permission]
    disabled: bool
    must_change_password: bool
    by_provider: bool
    last_login: Moment | None
    sees_everything: bool
    guest: bool


def account_answer(account: Account) -> AccountAnswer:
    """Return an account as its answer."""
    return AccountAnswer(
        name=account.name,
        role=account.role,
        language=account.language,
        created_at=account.created_at,
        permissions=[each for each in Permission if each in account.permissions],
        added=[each for each in Permission if each in account.added],
        disabled=account.disabled,
        must_change_password=account.must_change,
        by_provider=bool(account.provider),
        last_login=moment_of(account.used_at),
        sees_everything=account.sight.everything,
        guest=account.id == 0,
    )


class EntryAnswer(Answer, kw_only=True):
    """Where the pages are: is the box claimed, who is logged in, which language."""

    claimed: bool
    language: Language
    languages: list[Language]
    user: AccountAnswer | None


class LoginAnswer(Answer, kw_only=True):
    """Who is logged in now; or, when the password alone is not enough, which step comes next."""

    user: AccountAnswer | UnsetType = UNSET
    token: str | UnsetType = UNSET
    token_type: str | UnsetType = UNSET
    recovery_codes: list[str] | UnsetType = UNSET  # shown once, of a second factor just set up
    step: Step | UnsetType = UNSET
    ticket: str | UnsetType = UNSET
    ticket_s: int | UnsetType = UNSET
    methods: list[str] | UnsetType = UNSET


class SessionAnswer(Answer, kw_only=True):
    """Somebody who came in."""

    id: str
    user: str
    kind: Kind
    created_at: Moment
    used_at: Moment
    expires_at: Moment | None
    address: str
    agent: str
    guest: bool
    own: bool


def session_answer(session: Session, own: Session) -> SessionAnswer:
    """Return a session as its answer."""
    return SessionAnswer(
        id=session.id,
        user=session.account.name,
        kind=session.kind,
        created_at=moment_of(session.created_at) or "",
        used_at=moment_of(session.used_at) or "",
        expires_at=moment_of(session.expires_at),
        address=session.address,
        agent=session.agent,
        guest=session.guest,
        own=session is own,
    )


class SessionsAnswer(Answer, kw_only=True):
    """Sessions, the last used first."""

    sessions: list[SessionAnswer]


# bodies ----------------------------------------------------------------------------------------


class LoginBody(Body, kw_only=True):
    """`id` is another name of `user`, as older systems write it."""

    password: Password
    user: UserName = ""
    id: UserName = ""
    cookie: bool = False


class ClaimBody(LoginBody, kw_only=True):
    """The setup code goes by either name."""

    setup_code: Annotated[str, Meta(max_length=64)] = ""
    code: Annotated[str, Meta(max_length=64)] = ""


class OwnAccountBody(Body, kw_only=True):
    """What the person picked; an empty language is that of the box."""

    language: Annotated[str, Meta(max_length=16, extra_json_schema={"enum": ["", *Language]})]


class PasswordBody(Body, kw_only=True):
    """The password in force, and the one that replaces it."""

    old: Password
    new: Password


# who asks --------------------------------------------------------------------------------------


def require_person(request: web.Request) -> Session:
    """Return the session of somebody who logged in himself: no guest, no program's token."""
    session = caller_of(request).session
    if session.guest or session.kind is Kind.TOKEN:
        raise NotAllowed(
            "This belongs to a person's own account.", next_step="Log in with name and password."
        )
    return session


# coming in -------------------------------------------------------------------------------------


async def get_session(request: web.Request, rooms: Rooms) -> EntryAnswer:
    """Tell the pages where they are: is the box claimed, who is logged in, which language."""
    found = caller(request, rooms)
    return EntryAnswer(
        claimed=rooms.access.claimed,
        language=rooms.settings.current.language,
        languages=list(Language),
        user=account_answer(found.session.account) if found else None,
    )


async def claim(request: web.Request, rooms: Rooms) -> Any:
    """Make the first account with the setup code, and log it in."""
    body = await read_body(request, ClaimBody)
    user, code = _one_of(body.user, body.id, "user"), _one_of(body.setup_code, body.code, "code")
    account = await rooms.access.claim(code, user, body.password, address=address_of(request))
    rooms.audit.record(account.name, Action.SECURITY_CONFIGURATION, "box-claimed")
    return await _login(request, rooms, user, body)


async def login(request: web.Request, rooms: Rooms) -> Any:
    """Log in; with `cookie: true` the token travels in the cookie only, as the pages want it."""
    body = await read_body(request, LoginBody)
    return await _login(request, rooms, _one_of(body.user, body.id, "user"), body)


def _one_of(first: str, second: str, name: str) -> str:
    if not (first or second):
        raise BadBody(f"{name} is missing.")
    return first or second


async def _login(request: web.Request, rooms: Rooms, user: str, body: LoginBody) -> Any:
    kind = Kind.COOKIE if body.cookie else Kind.BEARER
    address, agent = address_of(request), agent_of(request)
    try:
        made = await rooms.access.login(
            user, body.password, address=address, agent=agent, kind=kind
        )
    except LoginUnfinished as unfinished:
        return step_answer(unfinished)
    except AccessDenied as refusal:
        record_refusal(request, rooms, refusal)
        raise
    return await logged_in(request, rooms, made)


def record_refusal(request: web.Request, rooms: Rooms, refusal: AccessDenied) -> None:
    """Record a log-in that failed; what was typed as a name may be a password, so it is not.

    Those that come too fast are one line in ten minutes: they cost the caller nothing.
    """
    too_fast = refusal.code == TooManyAttempts.code
    if too_fast and not rooms.looks.is_news("too-many-attempts", address_of(request)):
        return
    rooms.audit.record(
        "nobody",
        Action.LOGIN,
        address_of(request),
        outcome="failure",
        details={"code": refusal.code},
    )


def step_answer(unfinished: LoginUnfinished) -> LoginAnswer:
    """Return what a log-in still needs."""
    return LoginAnswer(
        step=unfinished.step,
        ticket=unfinished.ticket,
        ticket_s=unfinished.lifetime_s,
        methods=list(unfinished.methods),
    )


async def logged_in(request: web.Request, rooms: Rooms, made: LoggedIn) -> web.Response:
    """Give a fresh session to who asked for it: as a cookie, or as a token in the answer."""
    by_cookie = made.kind is Kind.COOKIE
    earlier = request.cookies.get(cookie_name(request))
    if earlier and by_cookie:  # a new token at each log-in (ASVS 7.2.4), and none left behind
        await rooms.access.sessions.end(earlier)
    rooms.audit.record(made.account.name, Action.LOGIN, address_of(request))
    answer = LoginAnswer(user=account_answer(made.account))
    if made.recovery_codes:
        answer.recovery_codes = list(made.recovery_codes)
    if not by_cookie:
        answer.token, answer.token_type = made.token, "Bearer"
    response = web.Response(body=msgspec.json.encode(answer), content_type="application/json")
    if by_cookie:
        set_cookie(request, response, made.token)
    return response


async def logout(request: web.Request, rooms: Rooms) -> Any:
    """End the session on the box and in the browser."""
    asking = caller_of(request)
    if asking.session.kind is Kind.TOKEN:
        raise NotAllowed("A token is revoked in the account page.")
    await rooms.access.sessions.end(asking.token)
    rooms.audit.record(asking.session.account.name, Action.LOGOUT, address_of(request))
    response = web.Response(status=204)
    drop_cookie(request, response)
    if request.secure:
        response.headers["Clear-Site-Data"] = '"cache", "storage"'
    return response


# the own account -------------------------------------------------------------------------------


async def change_own_account(request: web.Request, rooms: Rooms) -> AccountAnswer:
    """Remember the language of the logged-in person."""
    language = (await read_body(request, OwnAccountBody)).language
    if language and language not in list(Language):
        raise BadBody(f"language must be one of {', '.join(Language)}, or empty.")
    session = require_person(request)
    account = await rooms.access.accounts.set_language(session.account.name, language)
    rooms.access.sessions.refresh([account])
    return account_answer(account)


async def change_own_password(request: web.Request, rooms: Rooms) -> None:
    """Change the own password; every other session of the account ends."""
    body, session = await read_body(request, PasswordBody), require_person(request)
    await rooms.access.change_password(session, body.old, body.new, keep=caller_of(request).token)


async def list_own_sessions(request: web.Request, rooms: Rooms) -> SessionsAnswer:
    """List where the person is logged in."""
    own = require_person(request)
    mine = [each for each in rooms.access.sessions.all() if each.account.id == own.account.id]
    return SessionsAnswer(sessions=[session_answer(each, own) for each in mine])


async def end_own_session(request: web.Request, rooms: Rooms) -> None:
    """End another session of the person."""
    own = require_person(request)
    if not await rooms.access.sessions.end_by_id(path_of(request)["id"], of=own.account.id):
        raise NotFound("There is no such session.")


async def end_other_sessions(request: web.Request, rooms: Rooms) -> None:
    """Log the person out everywhere else."""
    own = require_person(request)
    await rooms.access.sessions.end_all_of(
        own.account.id, but=caller_of(request).token, tokens=False
    )


LOGIN_ERRORS: Final = (
    "wrong-credentials", "too-many-attempts", "web-connections-exhausted", "password-expired",
)  # fmt: skip
_LOGIN: Final = Own(Action.LOGIN)

ROUTES: Final = (
    Route(
        method="GET", path="/session", work=get_session, allowed=For.ANYBODY, answer=EntryAnswer,
        about="Whether the box is claimed and who is logged in",
        errors=("web-connections-exhausted",),
    ),
    Route(
        method="POST", path="/claim", work=claim, allowed=For.ANYBODY,
        about="Make the first account with the setup code",
        body=ClaimBody, answer=LoginAnswer, audit=_LOGIN,
        errors=("already-claimed", "wrong-setup-code", "weak-password", "bad-user-name",
                *LOGIN_ERRORS),
    ),
    Route(
        method="POST", path="/login", work=login, allowed=For.ANYBODY,
        about="Log in and get a bearer token, or with cookie: true a session cookie; or hear which "
        "step comes next",
        body=LoginBody, answer=LoginAnswer, audit=_LOGIN, errors=LOGIN_ERRORS,
    ),
    Route(
        method="POST", path="/logout", work=logout, allowed=For.SESSIONS, about="Log out",
        answer=None, audit=Own(Action.LOGOUT),
    ),
    Route(
        method="PATCH", path="/account", work=change_own_account,
        about="Change the own language", body=OwnAccountBody, answer=AccountAnswer,
        audit="account-changed",
    ),
    Route(
        method="POST", path="/account/password", work=change_own_password,
        about="Change the own password; other sessions end", body=PasswordBody, answer=None,
        audit="password-changed",
        errors=("wrong-credentials", "weak-password", "too-many-attempts"),
    ),
    Route(
        method="GET", path="/account/sessions", work=list_own_sessions, answer=SessionsAnswer,
        about="Where the person is logged in",
    ),
    Route(
        method="DELETE", path="/account/sessions/{id}", work=end_own_session, answer=None,
        about="End another session of the person", audit="session-ended", errors=("not-found",),
    ),
    Route(
        method="DELETE", path="/account/sessions", work=end_other_sessions, answer=None,
        about="Log the person out everywhere else", audit="sessions-ended",
    ),
)  # fmt: skip
