# SPDX-License-Identifier: Apache-2.0
"""The second factor: the steps of a log-in after the password, and what an account has set up."""

from collections.abc import Awaitable
from io import BytesIO
from typing import Annotated, Any, Final

import segno
from aiohttp import web
from msgspec import Meta

from scrigno.access.audit import Action
from scrigno.access.entrance import LoggedIn
from scrigno.access.errors import AccessDenied, ConfirmPassword, FactorRefused, LoginUnfinished
from scrigno.access.factors import NewSecret
from scrigno.access.passkeys import Challenge, Place
from scrigno.access.sessions import Session

from .account_api import (
    LOGIN_ERRORS,
    LoginAnswer,
    Password,
    Ticket,
    logged_in,
    moment_of,
    record_refusal,
    require_person,
    step_answer,
)
from .errors import BadBody, NotFound
from .rooms import Rooms
from .routes import For, Own, Route
from .shapes import Answer, Body, Moment, Word, path_of, read_body, read_optional_body

Code = Annotated[str, Meta(min_length=1, max_length=64)]
CHALLENGE_S: Final = 300.0
MOST_CHALLENGES: Final = 1000


class SecondFactorBody(Body, kw_only=True):
    """One of the three: the code of the app, a recovery code, or what the passkey answered."""

    ticket: Ticket
    code: Code | None = None
    recovery_code: Code | None = None
    passkey: dict[str, Any] | None = None


class TicketBody(Body, kw_only=True):
    """An unfinished log-in."""

    ticket: Ticket


class EnrolledBody(TicketBody, kw_only=True):
    """The first code of the new app."""

    code: Code


class NewPasswordBody(TicketBody, kw_only=True):
    """The password that replaces the temporary one."""

    new: Password


class ConfirmedBody(Body, kw_only=True):
    """The own password, which confirms the change."""

    password: Password = ""


class CodeBody(Body, kw_only=True):
    """A code of the app."""

    code: Code


class PasskeyBody(Body, kw_only=True):
    """What the browser's `navigator.credentials.create` gave, as JSON, and a name for it."""

    credential: dict[str, Any]
    name: Word = "Passkey"


class OptionsAnswer(Answer, kw_only=True):
    """What goes to `navigator.credentials`, as WebAuthn's JSON form writes it."""

    options: dict[str, Any]


class SecretAnswer(Answer, kw_only=True):
    """A secret for an authenticator app; `qr` is an SVG image of `uri`."""

    secret: str
    uri: str
    qr: str


class RecoveryAnswer(Answer, kw_only=True):
    """Recovery codes, shown this once; none when there were some already."""

    recovery_codes: list[str]


class PasskeyAnswer(Answer, kw_only=True):
    """One passkey; it works under this name of the box only."""

    id: str
    name: str
    host: str
    created_at: Moment
    used_at: Moment | None


class AddedPasskeyAnswer(RecoveryAnswer, kw_only=True):
    """A new passkey, and recovery codes when there were none."""

    passkey: PasskeyAnswer


class FactorsAnswer(Answer, kw_only=True):
    """What the account has set up, and whether the settings ask for one."""

    totp: bool
    passkeys: list[PasskeyAnswer]
    recovery_codes_left: int


def _secret(made: NewSecret) -> SecretAnswer:
    image = BytesIO()  # with its name space, so that it is an image by itself too
    code = segno.make(made.uri, micro=False)
    code.save(image, kind="svg", xmldecl=False, nl=False, scale=4, border=4, light="#fff")
    return SecretAnswer(secret=made.secret, uri=made.uri, qr=image.getvalue().decode("utf-8"))


def place_of(request: web.Request) -> Place:
    """Return where the browser has the pages open; before a proxy they may come by https."""
    origins = {f"https://{request.host}", f"{request.scheme}://{request.host}"}
    return Place(host=request.url.host or "", origins=tuple(sorted(origins)))


# steps of a log-in -----------------------------------------------------------------------------


async def _step(request: web.Request, rooms: Rooms, going_on: Awaitable[LoggedIn]) -> Any:
    try:
        made = await going_on
    except LoginUnfinished as unfinished:
        return step_answer(unfinished)
    except AccessDenied as refusal:
        record_refusal(request, rooms, refusal)
        raise
    return await logged_in(request, rooms, made)


async def give_second_factor(request: web.Request, rooms: Rooms) -> Any:
    """Go on with a code, a recovery code or a passkey."""
    body = await read_body(request, SecondFactorBody)
    entrance = rooms.access.entrance
    if sum(each is not None for each in (body.code, body.recovery_code, body.passkey)) != 1:
        raise BadBody("Give one of code, recovery_code and passkey.")
    if body.code is not None:
        going_on = entrance.by_code(body.ticket, body.code)
    elif body.recovery_code is not None:
        going_on = entrance.by_recovery_code(body.ticket, body.recovery_code)
    else:
        going_on = entrance.by_passkey(body.ticket, body.passkey or {})
    return await _step(request, rooms, going_on)


async def ask_passkey(request: web.Request, rooms: Rooms) -> OptionsAnswer:
    """Return what the browser needs to ask for the passkey of this log-in."""
    ticket = (await read_body(request, TicketBody)).ticket
    return OptionsAnswer(options=await rooms.access.entrance.ask_passkey(ticket, place_of(request)))


async def begin_enrolment(request: web.Request, rooms: Rooms) -> SecretAnswer:
    """Return the secret for a new app, when the settings ask for a second factor."""
    ticket = (await read_body(request, TicketBody)).ticket
    return _secret(await rooms.access.entrance.enrol(ticket))


async def finish_enrolment(request: web.Request, rooms: Rooms) -> Any:
    """Put the new app in force with a code of it, and go on."""
    body = await read_body(request, EnrolledBody)
    going_on = rooms.access.entrance.enrolled(body.ticket, body.code)
    return await _step(request, rooms, going_on)


async def give_new_password(request: web.Request, rooms: Rooms) -> Any:
    """Replace a temporary password, and go on."""
    body = await read_body(request, NewPasswordBody)
    going_on = rooms.access.entrance.new_password(body.ticket, body.new)
    return await _step(request, rooms, going_on)


# what the account has --------------------------------------------------------------------------


class SecondFactorRoutes:
    """The handlers of this file; they share the challenges that wait for a new passkey."""

    def __init__(self) -> None:
        """Wait for nothing yet."""
        self._challenges: dict[str, tuple[float, Challenge]] = {}  # by the id of the session

    async def get_factors(self, request: web.Request, rooms: Rooms) -> FactorsAnswer:
        """Return what the person has set up."""
        account = require_person(request).account
        having = await rooms.access.factors.having(account.id)
        known = await rooms.access.passkeys.of(account.id)
        return FactorsAnswer(
            totp=having.totp,
            passkeys=[_passkey(each) for each in known],
            recovery_codes_left=having.recovery_codes,
        )

    async def begin_totp(self, request: web.Request, rooms: Rooms) -> SecretAnswer:
        """Return a secret for an authenticator app; a code of it puts it in force."""
        session = await _confirmed(request, rooms)
        return _secret(await rooms.access.factors.begin_totp(session.account))

    async def confirm_totp(self, request: web.Request, rooms: Rooms) -> RecoveryAnswer:
        """Put the app in force."""
        session = require_person(request)
        body = await read_body(request, CodeBody)
        await rooms.access.factors.confirm_totp(session.account.id, body.code)
        return await _recovery(rooms, session)

    async def drop_totp(self, request: web.Request, rooms: Rooms) -> None:
        """Take the app away."""
        session = await _confirmed(request, rooms)
        await rooms.access.factors.drop_totp(session.account.id)
        await _without_factors(rooms, session)

    async def renew_recovery_codes(self, request: web.Request, rooms: Rooms) -> RecoveryAnswer:
        """Make new recovery codes in the place of the earlier ones."""
        session = await _confirmed(request, rooms)
        if not await _has_factor(rooms, session):
            raise FactorRefused(
                "Recovery codes stand in for a second factor, and there is none.",
                next_step="Set up an authenticator app or a passkey first.",
            )
        codes = await rooms.access.factors.new_recovery_codes(session.account.id)
        return RecoveryAnswer(recovery_codes=codes)

    async def begin_passkey(self, request: web.Request, rooms: Rooms) -> OptionsAnswer:
        """Return what the browser needs to make a passkey."""
        session = await _confirmed(request, rooms)
        challenge = await rooms.access.passkeys.begin_adding(session.account, place_of(request))
        now = rooms.clock.monotonic()
        if len(self._challenges) >= MOST_CHALLENGES:
            self._challenges.pop(next(iter(self._challenges)))
        self._challenges[session.id] = (now + CHALLENGE_S, challenge)
        return OptionsAnswer(options=challenge.options)

    async def add_passkey(self, request: web.Request, rooms: Rooms) -> AddedPasskeyAnswer:
        """Keep the passkey that the browser made."""
        session = require_person(request)
        body = await read_body(request, PasskeyBody)
        until, challenge = self._challenges.pop(session.id, (0.0, None))
        if challenge is None or rooms.clock.monotonic() > until:
            raise ConfirmPassword("Nobody has asked for a new passkey.", next_step="Begin again.")
        made = await rooms.access.passkeys.finish_adding(
            session.account, challenge, body.credential, body.name
        )
        codes = (await _recovery(rooms, session)).recovery_codes
        return AddedPasskeyAnswer(passkey=_passkey(made), recovery_codes=codes)

    async def drop_passkey(self, request: web.Request, rooms: Rooms) -> None:
        """Take a passkey away."""
        session = await _confirmed(request, rooms)
        if not await rooms.access.passkeys.drop(session.account.id, path_of(request)["key"]):
            raise NotFound("There is no such passkey.")
        await _without_factors(rooms, session)

    def routes(self) -> tuple[Route, ...]:
        """Return the routes of the own second factor."""
        confirming = ("confirm-password", "wrong-credentials", "too-many-attempts")
        base = "/account/second-factor"
        return (
            Route(
                method="GET", path=base, work=self.get_factors, answer=FactorsAnswer,
                about="The own second factors",
            ),
            Route(
                method="POST", path=base + "/totp", work=self.begin_totp, body=ConfirmedBody,
                body_optional=True, answer=SecretAnswer, audit="second-factor-begun",
                about="Begin to set up an authenticator app",
                errors=("second-factor-refused", *confirming),
            ),
            Route(
                method="POST", path=base + "/totp/confirm", work=self.confirm_totp, body=CodeBody,
                answer=RecoveryAnswer, audit="second-factor-added",
                about="Put the authenticator app in force", errors=("wrong-code",),
            ),
            Route(
                method="DELETE", path=base + "/totp", work=self.drop_totp, body=ConfirmedBody,
                body_optional=True, answer=None, audit="second-factor-removed",
                about="Take the authenticator app away", errors=confirming,
            ),
            Route(
                method="POST", path=base + "/recovery-codes", work=self.renew_recovery_codes,
                body=ConfirmedBody, body_optional=True, answer=RecoveryAnswer,
                audit="recovery-codes-made", about="Make new recovery codes",
                errors=("second-factor-refused", *confirming),
            ),
            Route(
                method="POST", path=base + "/passkeys/options", work=self.begin_passkey,
                body=ConfirmedBody, body_optional=True, answer=OptionsAnswer,
                audit="second-factor-begun", about="Begin to set up a passkey",
                errors=("second-factor-refused", *confirming),
            ),
            Route(
                method="POST", path=base + "/passkeys", work=self.add_passkey, body=PasskeyBody,
                answer=AddedPasskeyAnswer, success=201, audit="second-factor-added",
                about="Keep the passkey that the browser made",
                errors=("wrong-code", "second-factor-refused", "confirm-password"),
            ),
            Route(
                method="DELETE", path=base + "/passkeys/{key}", work=self.drop_passkey,
                params={"key": Annotated[str, Meta(min_length=1, max_length=1400)]},
                body=ConfirmedBody, body_optional=True, answer=None,
                audit="second-factor-removed", about="Take a passkey away",
                errors=("not-found", *confirming),
            ),
        )  # fmt: skip


def _passkey(each: Any) -> PasskeyAnswer:
    return PasskeyAnswer(
        id=each.id,
        name=each.name,
        host=each.host,
        created_at=moment_of(each.created_at) or "",
        used_at=moment_of(each.used_at),
    )


async def _confirmed(request: web.Request, rooms: Rooms) -> Session:
    """Return the session of somebody who has just given the password again (ASVS 7.5.1)."""
    session = require_person(request)
    body = await read_optional_body(request, ConfirmedBody)
    await rooms.access.entrance.confirm(session, body.password)
    return session


async def _has_factor(rooms: Rooms, session: Session) -> bool:
    having = await rooms.access.factors.having(session.account.id)
    return having.totp or bool(await rooms.access.passkeys.of(session.account.id))


async def _recovery(rooms: Rooms, session: Session) -> RecoveryAnswer:
    """Return recovery codes for who has none yet."""
    having = await rooms.access.factors.having(session.account.id)
    if having.recovery_codes:
        return RecoveryAnswer(recovery_codes=[])
    codes = await rooms.access.factors.new_recovery_codes(session.account.id)
    return RecoveryAnswer(recovery_codes=codes)


async def _without_factors(rooms: Rooms, session: Session) -> None:
    """Drop recovery codes that stand in for nothing any more."""
    if not await _has_factor(rooms, session):
        await rooms.access.factors.drop_recovery_codes(session.account.id)


_LOGIN: Final = Own(Action.LOGIN)
_STEP_ERRORS: Final = ("login-expired", "wrong-code", *LOGIN_ERRORS)

ROUTES: Final = (
    Route(
        method="POST", path="/login/second-factor", work=give_second_factor, allowed=For.ANYBODY,
        about="Go on with the log-in of a ticket: code, recovery_code or passkey",
        body=SecondFactorBody, answer=LoginAnswer, audit=_LOGIN, errors=_STEP_ERRORS,
    ),
    Route(
        method="POST", path="/login/passkey-options", work=ask_passkey, allowed=For.ANYBODY,
        about="What the browser needs to ask for the passkey of a log-in",
        body=TicketBody, answer=OptionsAnswer, audit=_LOGIN,
        errors=("login-expired", "second-factor-refused"),
    ),
    Route(
        method="POST", path="/login/enrol", work=begin_enrolment, allowed=For.ANYBODY,
        about="A secret for an authenticator app, when the settings ask for a second factor",
        body=TicketBody, answer=SecretAnswer, audit=_LOGIN,
        errors=("login-expired", "second-factor-refused"),
    ),
    Route(
        method="POST", path="/login/enrol/confirm", work=finish_enrolment, allowed=For.ANYBODY,
        about="Put the new app in force with a code of it, and go on",
        body=EnrolledBody, answer=LoginAnswer, audit=_LOGIN, errors=_STEP_ERRORS,
    ),
    Route(
        method="POST", path="/login/new-password", work=give_new_password, allowed=For.ANYBODY,
        about="Replace a temporary password, and go on",
        body=NewPasswordBody, answer=LoginAnswer, audit=_LOGIN,
        errors=("weak-password", *_STEP_ERRORS),
    ),
)  # fmt: skip
