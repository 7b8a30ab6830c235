# SPDX-License-Identifier: Apache-2.0
"""Routes as data: each names its path, who may use it and what it is about; OpenAPI falls out."""

import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from aiohttp import web

from scrigno.access.permissions import Permission

from .errors import STATUS, NotAllowed
from .guard import require_caller, require_same_origin
from .rooms import CALLER, Rooms

API: Final = "/viewer/api"


class For(StrEnum):
    """Who may use a route."""

    ANYBODY = "anybody"
    USERS = "users"
    ADMINISTRATORS = "administrators"


Work = Callable[[web.Request, Rooms], Awaitable[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One method of one path; `work` returns JSON values, None (204) or a whole response."""

    method: str
    path: str
    work: Work
    allowed: For | Permission = For.USERS
    about: str
    query: Sequence[str] = ()
    body: dict[str, Any] | None = None
    answers: str = "application/json"
    errors: Sequence[str] = ()


def add_routes(app: web.Application, rooms: Rooms, routes: Iterable[Route]) -> None:
    """Register the routes behind their guards."""
    for route in routes:
        app.router.add_route(route.method, API + route.path, _handler(route, rooms))


def _handler(route: Route, rooms: Rooms) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(request: web.Request) -> web.StreamResponse:
        if route.allowed is For.ANYBODY:
            if route.method != "GET":
                require_same_origin(request)
        else:
            caller = require_caller(request, rooms)
            request[CALLER] = caller
            needed = _needed(route.allowed)
            if needed is not None and needed not in caller.session.permissions:
                raise NotAllowed(f"Your account may not do this: it needs the right “{needed}”.")
        answer = await route.work(request, rooms)
        if isinstance(answer, web.StreamResponse):
            return answer
        return web.Response(status=204) if answer is None else web.json_response(answer)

    return handle


def _needed(allowed: For | Permission) -> Permission | None:
    if isinstance(allowed, Permission):
        return allowed
    return Permission.ADMIN if allowed is For.ADMINISTRATORS else None


def openapi(routes: Iterable[Route], version: str) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of the routes."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        path = re.sub(r":[^{}]*(\{[^{}]*\}[^{}]*)*\}", "}", API + route.path)
        paths.setdefault(path, {})[route.method.lower()] = _operation(route, path)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Scrigno", "version": version, "license": {"name": "Apache-2.0"}},
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "cookie": {"type": "apiKey", "in": "cookie", "name": "scrigno-session"},
            },
            "schemas": {
                "Problem": {
                    "type": "object",
                    "description": "RFC 9457; rely on `code`, not on the sentences",
                    "required": ["type", "title", "status", "code", "detail"],
                    "properties": {
                        "type": {"type": "string"},
                        "title": {"type": "string"},
                        "status": {"type": "integer"},
                        "code": {"enum": sorted({*STATUS, "internal-error"})},
                        "detail": {"type": "string"},
                        "next_step": {"type": "string"},
                    },
                }
            },
        },
    }


def _operation(route: Route, path: str) -> dict[str, Any]:
    names = re.findall(r"\{([^{}]*)\}", path)
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in names
    ] + [{"name": name, "in": "query", "schema": {"type": "string"}} for name in route.query]
    problem_schema = {"$ref": "#/components/schemas/Problem"}
    problem = {"content": {"application/problem+json": {"schema": problem_schema}}}
    operation: dict[str, Any] = {
        "summary": route.about,
        "operationId": route.work.__name__,
        "x-allowed": str(route.allowed),
        "parameters": parameters,
        "responses": {
            "200": {"description": "OK", "content": {route.answers: {}}},
            "default": {"description": ", ".join(route.errors) or "Refused", **problem},
        },
    }
    if route.body is not None:
        operation["requestBody"] = {"content": {"application/json": {"schema": route.body}}}
    if route.allowed is not For.ANYBODY:
        operation["security"] = [{"bearer": []}, {"cookie": []}]
    return operation


def fields(*required: str, **optional: str) -> dict[str, Any]:
    """Return the schema of a small body: required texts, and optional ones with their type."""
    properties = {name: {"type": "string"} for name in required}
    properties |= {name: {"type": kind} for name, kind in optional.items()}
    return {"type": "object", "required": list(required), "properties": properties}
