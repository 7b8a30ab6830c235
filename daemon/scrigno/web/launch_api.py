# SPDX-License-Identifier: Apache-2.0
"""Launching by an address: what it asks for, and the three ways in: password, code, token."""

import base64
import secrets
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal

import msgspec
from aiohttp import web
from msgspec import Meta

from scrigno.access.errors import AccessDenied, LoginUnfinished, WrongCredentials
from scrigno.access.otp import PublicKey
from scrigno.access.permissions import Permission
from scrigno.access.sessions import Kind
from scrigno.catalogue.records import FilterOperator, ListFilter, StudyListQuery
from scrigno.reading.errors import LaunchOff
from scrigno.reading.launch import (
    MOST_CHARACTERS,
    Launch,
    fallback_codecs,
    parse_credentials,
    parse_list,
    parse_viewer,
)
from scrigno.reading.launching import LONGEST_S, MOST_STUDIES, Grant

from .account_api import LoginAnswer, address_of, agent_of, logged_in, record_refusal, step_answer
from .errors import NotAllowed
from .limited import EnteredAnswer, enter
from .rooms import Rooms, author_of, caller_of
from .routes import For, Own, Route, Unaudited, Work
from .shapes import NO_NULL, ONE_LINE, Answer, Body, Query, Uid, query_of, read_body
from .shares_api import narrowed
from .sight import require_studies, sight_of

LONGEST_SESSION_S: Final = 12 * 3600
MOST_OPENED: Final = 100
_GIVEN: Final = (Permission.VIEW, Permission.ANNOTATE, Permission.REPORT, Permission.EXPORT)


class ParseBody(Body):
    """What stands behind `#/list?` or `#/viewer?`, byte for byte, without what logs in."""

    route: Literal["list", "viewer"]
    query: Annotated[str, Meta(max_length=MOST_CHARACTERS, pattern=NO_NULL)] = ""


class PlainFilterAnswer(Answer):
    """One condition."""

    field: str
    operator: FilterOperator
    values: list[str]


class FilterAnswer(PlainFilterAnswer):
    """One condition as `POST /studies/search` takes it; one of `alternatives` is as good."""

    alternatives: list[PlainFilterAnswer]


class ParsedAnswer(Answer, kw_only=True):
    """What an address asks for. `studies` are those that the viewer is to open, null for a list."""

    filters: list[FilterAnswer]
    studies: list[str] | None
    more: int  # studies beyond those that are opened at once
    ignored: list[str]


class PasswordLaunchBody(Body, kw_only=True):
    """`id` and `password` of an address."""

    id: Annotated[str, Meta(max_length=256, pattern=NO_NULL)]
    password: Annotated[str, Meta(max_length=1024, pattern=NO_NULL)]
    cookie: bool = False


class CodeLaunchBody(Body, kw_only=True):
    """`code` of an address, as it stood there."""

    code: Annotated[str, Meta(max_length=4096, pattern=NO_NULL)]
    cookie: bool = False


class TokenLaunchBody(Body, kw_only=True):
    """`token` of an address."""

    token: Annotated[str, Meta(max_length=256, pattern=ONE_LINE)]
    cookie: bool = False


class LaunchBody(Body, kw_only=True):
    """Which studies somebody may look at, for how long, and what he may do with them."""

    studies: Annotated[list[Uid], Meta(min_length=1, max_length=MOST_STUDIES)]
    permissions: Annotated[
        list[Literal["view", "annotate", "report", "export"]], Meta(max_length=4)
    ] = msgspec.field(default_factory=lambda: ["view"])
    lifetime_s: Annotated[int, Meta(ge=1, le=LONGEST_S)] = LONGEST_S
    session_s: Annotated[int, Meta(ge=60, le=LONGEST_SESSION_S)] = 3600


class LaunchAnswer(Answer):
    """A token and the address that spends it; good once, for `expires_in_s`."""

    token: str
    path: str
    link: str
    expires_in_s: int


# what an address asks for ------------------------------------------------------------------------


async def parse_launch(request: web.Request, rooms: Rooms) -> Any:
    """Return what an address asks for, within what the caller sees."""
    body = await read_body(request, ParseBody)
    settings = rooms.settings.current
    parse: Callable[..., Launch] = parse_list if body.route == "list" else parse_viewer
    launch = parse(
        body.query,
        today=rooms.clock.now().astimezone().date(),  # the day of the box, not of Greenwich
        codecs=fallback_codecs(settings.language, settings.default_character_set),
    )
    studies, more = None, 0
    if body.route == "viewer":
        studies, more = await _opened(request, rooms, launch)
    return ParsedAnswer(
        filters=[_filter(each) for each in launch.filters],
        studies=studies,
        more=more,
        ignored=list(launch.ignored),
    )


def _filter(one: ListFilter) -> FilterAnswer:
    return FilterAnswer(
        field=one.field,
        operator=one.operator,
        values=list(one.values),
        alternatives=[
            PlainFilterAnswer(field=each.field, operator=each.operator, values=list(each.values))
            for each in one.alternatives
        ],
    )


async def _opened(request: web.Request, rooms: Rooms, launch: Launch) -> tuple[list[str], int]:
    """Return the newest studies that the viewer is to open; none when nothing is asked for."""
    if not launch.filters:
        return [], 0
    query = StudyListQuery(filters=launch.filters, limit=MOST_OPENED)
    page = await rooms.catalogue.study_page(query, within=sight_of(request))
    return [row.study_instance_uid for row in page.rows], page.total - len(page.rows)


# by password -------------------------------------------------------------------------------------


async def launch_by_password(request: web.Request, rooms: Rooms) -> Any:
    """Log in with `id` and `password` of an address, where that is switched on."""
    body = await read_body(request, PasswordLaunchBody)
    if not rooms.settings.current.launch.password_in_address:
        raise LaunchOff(
            "Logging in by name and password in an address is switched off on this box.",
            next_step="Log in here, or have an administrator switch it on.",
        )
    try:
        made = await rooms.access.login(
            body.id,
            body.password,
            address=address_of(request),
            agent=agent_of(request),
            kind=Kind.COOKIE if body.cookie else Kind.BEARER,
        )
    except LoginUnfinished as unfinished:
        return step_answer(unfinished)
    except AccessDenied as refusal:
        record_refusal(request, rooms, refusal)
        raise
    return await logged_in(request, rooms, made)


# by a one-time code ------------------------------------------------------------------------------


async def _issue(request: web.Request, rooms: Rooms) -> web.Response:
    if not rooms.settings.current.launch.one_time_codes:
        raise LaunchOff("One-time codes are switched off on this box.")
    key = await rooms.one_time_keys.issue(address_of(request))
    kind, content = _FORMATS[query_of(request)["format"]]
    return web.Response(text=content(key), content_type=kind)


def _pem(key: PublicKey) -> str:
    return key.pem


def _json(key: PublicKey) -> str:
    return msgspec.json.encode(
        {"public_key": key.pem, "expires_in_s": key.lifetime_s, "parameter": "code"}
    ).decode()


def _xml(key: PublicKey) -> str:
    """The form that .NET's RSA.FromXmlString reads."""
    return (
        f"<RSAKeyValue><Modulus>{_base64(key.modulus)}</Modulus>"
        f"<Exponent>{_base64(key.exponent)}</Exponent></RSAKeyValue>"
    )


def _jwk(key: PublicKey) -> str:
    url = str.maketrans("+/", "-_")
    parts = {
        "kty": "RSA",
        "n": _base64(key.modulus).translate(url).rstrip("="),
        "e": _base64(key.exponent).translate(url).rstrip("="),
    }
    return msgspec.json.encode(parts).decode()


def _base64(number: int) -> str:
    content = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return base64.b64encode(content).decode("ascii")


_FORMATS: Final[dict[str, tuple[str, Callable[[PublicKey], str]]]] = {
    "pem": ("text/plain", _pem),
    "json": ("application/json", _json),
    "xml": ("application/xml", _xml),
    "jwk": ("application/json", _jwk),
}


async def get_one_time_key(request: web.Request, rooms: Rooms) -> Any:
    """Give out the public key of a new one-time code."""
    return await _issue(request, rooms)


async def post_one_time_key(request: web.Request, rooms: Rooms) -> Any:
    """Give out the public key of a new one-time code, asked for as the product before us did."""
    return await _issue(request, rooms)


async def get_one_time_key_short(request: web.Request, rooms: Rooms) -> Any:
    """Give out the public key of a new one-time code."""
    return await _issue(request, rooms)


async def post_one_time_key_short(request: web.Request, rooms: Rooms) -> Any:
    """Give out the public key of a new one-time code."""
    return await _issue(request, rooms)


async def launch_by_code(request: web.Request, rooms: Rooms) -> Any:
    """Log in with a one-time code: 200, or 401 whatever was wrong.

    A code that is none takes the way of a wrong password to its end, so that neither the answer
    nor its time says how far it got.
    """
    body = await read_body(request, CodeLaunchBody)
    if not rooms.settings.current.launch.one_time_codes:
        raise LaunchOff("One-time codes are switched off on this box.")
    found = await rooms.one_time_keys.open(body.code, parse_credentials)
    user = found.user if found else secrets.token_hex(8)
    try:
        made = await rooms.access.login(
            user,
            found.password if found else secrets.token_hex(8),
            address=address_of(request),
            agent=agent_of(request),
            kind=Kind.COOKIE if body.cookie else Kind.BEARER,
        )
    except LoginUnfinished as unfinished:
        return step_answer(unfinished)
    except AccessDenied as refusal:
        denied = WrongCredentials("The code is not good.", next_step="Start again where you were.")
        record_refusal(request, rooms, denied)
        raise denied from refusal
    return await logged_in(request, rooms, made)


# by a launch token -------------------------------------------------------------------------------


async def make_launch(request: web.Request, rooms: Rooms) -> Any:
    """Make a token with which a browser looks at these studies, once, within a minute."""
    body = await read_body(request, LaunchBody)
    if not rooms.settings.current.launch.tokens:
        raise LaunchOff("Launch tokens are switched off on this box.")
    session = caller_of(request).session
    if session.guest:
        raise NotAllowed("A guest launches nobody.")
    rights = frozenset(Permission(each) for each in body.permissions) | {Permission.VIEW}
    if not rights <= session.permissions:
        raise NotAllowed("You cannot give what you may not do yourself.")
    studies = tuple(dict.fromkeys(body.studies))
    await require_studies(request, rooms, studies)
    grant = Grant(
        studies=studies,
        permissions=rights,
        author=author_of(request),
        sight=narrowed(session.sight, studies),
        session_s=body.session_s,
    )
    token = rooms.launches.make(grant, lifetime_s=body.lifetime_s)
    for uid in studies:
        rooms.audit.record(author_of(request), "launch-made", uid)
    wanted = "&".join(f"studyinstanceuid={uid}" for uid in studies[:1])
    path = f"/viewer/#/viewer?{wanted}&token={token}"
    return LaunchAnswer(
        token=token,
        path=path,
        link=f"{request.scheme}://{request.host}{path}",
        expires_in_s=body.lifetime_s,
    )


async def launch_by_token(request: web.Request, rooms: Rooms) -> Any:
    """Spend a launch token: a session that sees its studies and nothing else."""
    body = await read_body(request, TokenLaunchBody)
    if not rooms.settings.current.launch.tokens:
        raise LaunchOff("Launch tokens are switched off on this box.")
    grant = rooms.launches.take(body.token)
    label = f"launched by {grant.author}"
    for uid in grant.studies:
        rooms.audit.record(label, "launch-used", uid, details={"address": address_of(request)})
    return await enter(
        request,
        rooms,
        label=label,
        sight=grant.sight,
        permissions=grant.permissions,
        lifetime_s=grant.session_s,
        by_cookie=body.cookie,
    )


_FORMAT: Final = (
    Query(
        "format", Literal["pem", "json", "xml", "jwk"], "pem",
        "PEM (SubjectPublicKeyInfo), JSON with it, RSAKeyValue of .NET, or JWK",
    ),
)  # fmt: skip


def _key_route(method: str, path: str, work: Work) -> Route:
    return Route(
        method=method,
        path=path,
        work=work,
        allowed=For.ANYBODY,
        about="The public key of a new one-time code: encrypt id=…&password=… with it",
        query=_FORMAT,
        answer=dict[str, Any],
        answers=("text/plain", "application/json", "application/xml"),
        audit=Unaudited("a key alone opens nothing"),
        errors=("launch-off", "too-many-codes", "cross-origin"),
    )


_LOGIN_ERRORS: Final = (
    "wrong-credentials", "too-many-attempts", "web-connections-exhausted", "password-expired",
    "launch-off", "bad-body",
)  # fmt: skip

ROUTES: Final = (
    Route(
        method="POST", path="/launch/parse", work=parse_launch, allowed=Permission.VIEW,
        about="What an address of the list or the viewer asks for", body=ParseBody,
        answer=ParsedAnswer, audit=Unaudited("a question; the list and the study tell looks"),
        errors=("bad-launch", "unknown-study-column"),
    ),
    Route(
        method="POST", path="/launch/login", work=launch_by_password, allowed=For.ANYBODY,
        about="Log in with id and password of an address, where that is switched on",
        body=PasswordLaunchBody, answer=LoginAnswer, audit=Own("login"), errors=_LOGIN_ERRORS,
    ),
    _key_route("GET", "/otp/", get_one_time_key),
    _key_route("POST", "/otp/", post_one_time_key),
    _key_route("GET", "/otp", get_one_time_key_short),
    _key_route("POST", "/otp", post_one_time_key_short),
    Route(
        method="POST", path="/otp/login", work=launch_by_code, allowed=For.ANYBODY,
        about="Log in with a one-time code: 200, or 401 whatever was wrong",
        body=CodeLaunchBody, answer=LoginAnswer, audit=Own("login"),
        errors=("wrong-credentials", "launch-off", "bad-body"),
    ),
    Route(
        method="POST", path="/launch", work=make_launch, allowed=Permission.SHARE,
        about="A token with which a browser looks at exactly these studies, once, within 60 s",
        body=LaunchBody, answer=LaunchAnswer, success=201, audit=Own("launch-made"),
        errors=("launch-off", "not-found", "too-many"),
    ),
    Route(
        method="POST", path="/launch/enter", work=launch_by_token, allowed=For.ANYBODY,
        about="Spend a launch token: a session that sees its studies and nothing else",
        body=TokenLaunchBody, answer=EnteredAnswer, audit=Own("launch-used"),
        errors=("launch-off", "launch-over", "web-connections-exhausted", "bad-body"),
    ),
)  # fmt: skip
