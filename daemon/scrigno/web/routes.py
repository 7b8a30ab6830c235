# SPDX-License-Identifier: Apache-2.0
"""Routes as data: each names its path, who may use it and what it is about; OpenAPI falls out."""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any, Final

from aiohttp import web

from scrigno.access.permissions import Permission
from scrigno.core.errors import ScrignoError

from .errors import NotAllowed
from .guard import require_caller, require_same_origin
from .rooms import CALLER, Rooms, author_of
from .shapes import PATH, QUERY, Query, encoded, parse_path, parse_query, path_part

API: Final = "/viewer/api"
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
MOST_SUBJECT: Final = 256
_PART: Final = re.compile(r"\{(\w+)(?::((?:[^{}]|\{[^{}]*\})*))?\}")


class For(StrEnum):
    """Who may use a route."""

    ANYBODY = "anybody"
    SESSIONS = "sessions"  # whoever came in, guests of a link or a launch token too
    USERS = "users"  # whoever has an account
    ADMINISTRATORS = "administrators"


class Untyped:
    """The answer of a route that does not say its type."""


@dataclass(frozen=True, slots=True)
class Own:
    """The action is recorded by the handler or the room below, which know more than the frame."""

    action: str


@dataclass(frozen=True, slots=True)
class Unaudited:
    """Nothing is recorded, and why that is right."""

    why: str


Work = Callable[[web.Request, Rooms], Awaitable[Any]]


@dataclass(frozen=True, kw_only=True)
class Route:
    """One method of one path.

    `work` returns an Answer or JSON values (answered with `success`), None (204) or a whole
    response. `answer` is the type of what it returns, None for no content; `success` its status
    and `also` further ones without a body of that type (204, 206, 304). `audit` names the action
    that the frame records when the work is done or refused, with the first part of the path as
    its subject (or what `audited` says); `Own` when somebody else records it. `path` parts are read
    as `params` says, else by their name and pattern. `free_query` lets unknown keys pass.
    """

    method: str
    path: str
    work: Work
    allowed: For | Permission = For.USERS
    about: str
    query: Sequence[Query | str] = ()
    free_query: bool = False
    params: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None  # a Body, or the JSON Schema of one
    body_optional: bool = False
    body_types: Sequence[str] = ("application/json",)
    answer: Any = Untyped
    answers: str | Sequence[str] = "application/json"
    success: int = 0
    also: Sequence[int] = ()
    audit: str | Own | Unaudited = ""
    errors: Sequence[str] = ()

    @cached_property
    def keys(self) -> tuple[Query, ...]:
        """Return the declared keys of the query string."""
        return tuple(Query(each) if isinstance(each, str) else each for each in self.query)

    @cached_property
    def parts(self) -> tuple[Query, ...]:
        """Return the variable parts of the path."""
        found = _PART.findall(self.path)
        return tuple(path_part(name, pattern, self.params) for name, pattern in found)

    @property
    def plain_path(self) -> str:
        """Return the path as documents write it, without patterns."""
        return API + _PART.sub(r"{\1}", self.path)

    @property
    def status(self) -> int:
        """Return the status of success."""
        return self.success or (204 if self.answer is None else 200)

    @property
    def permission(self) -> Permission | None:
        """Return the right that the caller needs, None for none."""
        if isinstance(self.allowed, Permission):
            return self.allowed
        return Permission.ADMIN if self.allowed is For.ADMINISTRATORS else None

    @property
    def changes(self) -> bool:
        """Tell whether the method may change something."""
        return self.method not in SAFE


SUBJECT: Final = web.RequestKey("subject", str)
DETAILS: Final = web.RequestKey("details", dict[str, str])

# Tests hear every answer here and hold it against its declared type.
ANSWERED: Final[list[Callable[[Route, web.Request, web.StreamResponse], None]]] = []


def audited(request: web.Request, subject: str = "", **details: str) -> None:
    """Say what the frame shall record: what was acted on, and small facts without patient data."""
    if subject:
        request[SUBJECT] = subject
    request[DETAILS] = {**request.get(DETAILS, {}), **details}


def add_routes(app: web.Application, rooms: Rooms, routes: Iterable[Route]) -> None:
    """Register the routes behind their guards.

    A path that exists answers 405 to every method it has not, one that does not exist 404, both
    whatever pages are served beside the API.
    """
    by_path: dict[str, list[Route]] = {}
    for route in routes:
        # numbers are read by the frame, so that what is none is not found instead of not allowed
        by_path.setdefault(route.path.replace(r":\d+}", "}"), []).append(route)
    for path, some in by_path.items():
        for route in some:
            app.router.add_route(route.method, API + path, _handler(route, rooms))
        app.router.add_route("*", API + path, _refusing({route.method for route in some}))


def add_end(app: web.Application) -> None:
    """Answer 404 below the API where nothing is; registered after everything else of it."""
    app.router.add_route("*", API + "/{rest:.*}", _nowhere)


def _refusing(methods: set[str]) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def refuse(request: web.Request) -> web.StreamResponse:
        raise web.HTTPMethodNotAllowed(request.method, methods)

    return refuse


async def _nowhere(_: web.Request) -> web.StreamResponse:
    raise web.HTTPNotFound


def _handler(route: Route, rooms: Rooms) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(request: web.Request) -> web.StreamResponse:
        _admit(route, request, rooms)
        request[PATH] = parse_path(request, route.parts)
        request[QUERY] = parse_query(request, route.keys, free=route.free_query)
        try:
            answer = await route.work(request, rooms)
        except ScrignoError as error:
            _record(route, request, rooms, error.code)
            raise
        _record(route, request, rooms)
        response = _response(route, answer)
        for heard in ANSWERED:
            heard(route, request, response)
        return response

    return handle


def _admit(route: Route, request: web.Request, rooms: Rooms) -> None:
    if route.allowed is For.ANYBODY:
        if route.changes:
            require_same_origin(request)
        return
    caller = require_caller(request, rooms)
    request[CALLER] = caller
    if caller.session.guest and route.allowed is For.USERS:
        _record(route, request, rooms, NotAllowed.code)
        raise NotAllowed("This is for people with an account.")
    needed = route.permission
    if needed is not None and needed not in caller.session.permissions:
        _record(route, request, rooms, NotAllowed.code)
        raise NotAllowed(f"Your account may not do this: it needs the right “{needed}”.")


def _record(route: Route, request: web.Request, rooms: Rooms, refused: str = "") -> None:
    if not isinstance(route.audit, str) or not route.audit:
        return
    who = author_of(request) if CALLER in request else "nobody"
    details = dict(request.get(DETAILS, {}))
    if refused:
        details["code"] = refused
    subject = request.get(SUBJECT, "") or next(iter(request.match_info.values()), "")
    rooms.audit.record(
        who,
        route.audit,
        (subject or route.path)[:MOST_SUBJECT],
        outcome="failure" if refused else "success",
        details=details,
    )


def _response(route: Route, answer: Any) -> web.StreamResponse:
    if isinstance(answer, web.StreamResponse):
        return answer
    if answer is None:
        return web.Response(status=204)
    return web.Response(body=encoded(answer), status=route.status, content_type="application/json")


def fields(*required: str, **optional: str) -> dict[str, Any]:
    """Return the schema of a small body: required texts, and optional ones with their type."""
    properties = {name: {"type": "string"} for name in required}
    properties |= {name: {"type": kind} for name, kind in optional.items()}
    return {"type": "object", "required": list(required), "properties": properties}
