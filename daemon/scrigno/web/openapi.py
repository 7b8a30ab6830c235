# SPDX-License-Identifier: Apache-2.0
"""The OpenAPI 3.1 document of the routes, made from their types."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import msgspec

from scrigno.access.permissions import Permission

from .errors import PROBLEM_TYPE, STATUS
from .routes import For, Own, Route, Unaudited, Untyped
from .settings_documents import COMPONENTS
from .shapes import MOST_REPEATED, Binary

REF: Final = "#/components/schemas/{name}"
INTERNAL: Final = "internal-error"
# what any route may answer, whatever it is about
ANYWHERE: Final = (INTERNAL, "shutting-down", "database-unavailable", "index-unavailable")
WRITING: Final = ("database-full", "database-locked")
SECURITY: Final[tuple[dict[str, list[str]], ...]] = ({"bearer": []}, {"cookie": []})


class Problem(msgspec.Struct, kw_only=True):
    """RFC 9457; rely on `code`, not on the sentences."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    next_step: str | msgspec.UnsetType = msgspec.UNSET
    request_id: str | msgspec.UnsetType = msgspec.UNSET


def openapi(routes: Iterable[Route], version: str) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of the routes."""
    routes = list(routes)
    schemas = _Schemas(routes)
    paths: dict[str, dict[str, Any]] = defaultdict(dict)
    for route in routes:
        paths[route.plain_path][route.method.lower()] = _operation(route, schemas)
    schemas.components["Problem"]["properties"]["code"] = {"enum": sorted({*STATUS, INTERNAL})}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Scrigno",
            "version": version,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "description": (
                "A request whose shape is wrong is answered 400, one that cannot be fulfilled as "
                "it is 409 or 422. A method that a path does not have is answered 405."
            ),
        },
        "paths": dict(paths),
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "cookie": {"type": "apiKey", "in": "cookie", "name": "scrigno-session"},
            },
            "schemas": schemas.components,
        },
        "x-permissions": list(Permission),
    }


class _Schemas:
    """The schema of every type of the routes; Structs and enums stand once in the components."""

    def __init__(self, routes: Sequence[Route]) -> None:
        kinds: list[Any] = [Problem]
        for route in routes:
            kinds += [each.type() for each in (*route.parts, *route.keys)]
            kinds += [each for each in (route.body, route.answer) if _typed(each)]
        found, self.components = msgspec.json.schema_components(kinds, ref_template=REF)
        self.components |= COMPONENTS
        self._kinds = list(zip(kinds, found, strict=True))

    def of(self, kind: Any) -> dict[str, Any]:
        """Return the schema of a type of the routes."""
        return next(dict(schema) for each, schema in self._kinds if each == kind)


def _typed(kind: Any) -> bool:
    return kind not in (None, Untyped, Binary) and not isinstance(kind, dict)


def _operation(route: Route, schemas: _Schemas) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": route.about,
        "operationId": route.work.__name__.lstrip("_"),
        "tags": [route.path.split("/")[1]],
        "x-allowed": str(route.allowed),
        "parameters": _parameters(route, schemas),
        "responses": _responses(route, schemas),
    }
    match route.audit:
        case Own(action=action):
            operation["x-audit"] = action
        case Unaudited(why=why):
            operation["x-unaudited"] = why
        case str(action) if action:
            operation["x-audit"] = action
        case _:
            pass
    if route.body is not None:
        operation["requestBody"] = {
            "required": not route.body_optional,
            "content": {each: _content(route.body, schemas) for each in route.body_types},
        }
    operation["security"] = [] if route.allowed is For.ANYBODY else list(SECURITY)
    return operation


def _content(kind: Any, schemas: _Schemas) -> dict[str, Any]:
    if isinstance(kind, dict):
        return {"schema": kind}
    return {"schema": schemas.of(kind)} if _typed(kind) else {}


def _parameters(route: Route, schemas: _Schemas) -> list[dict[str, Any]]:
    found = []
    for place, keys in (("path", route.parts), ("query", route.keys)):
        for key in keys:
            schema = schemas.of(key.type())
            if key.many:
                schema = {"type": "array", "items": schema, "maxItems": MOST_REPEATED}
            if key.default is not None:
                schema = {**schema, "default": key.default}
            one: dict[str, Any] = {"name": key.name, "in": place, "schema": schema}
            if key.required:
                one["required"] = True
            if key.about:
                one["description"] = key.about
            found.append(one)
    return found


def _responses(route: Route, schemas: _Schemas) -> dict[str, Any]:
    good: dict[str, Any] = {"description": HTTPStatus(route.status).phrase}
    if route.answer is not None:
        kinds = [route.answers] if isinstance(route.answers, str) else route.answers
        good["content"] = {
            each: _content(route.answer, schemas) if "json" in each else {} for each in kinds
        }
    responses: dict[str, Any] = {str(route.status): good}
    for status in route.also:
        responses[str(status)] = {"description": HTTPStatus(status).phrase}
        if status == HTTPStatus.PARTIAL_CONTENT:
            responses[str(status)]["content"] = good.get("content", {})
    for status, codes in sorted(_refusals(route).items()):
        responses[str(status)] = {
            "description": ", ".join(codes),
            "content": {
                PROBLEM_TYPE: {
                    "schema": {
                        "allOf": [{"$ref": REF.format(name="Problem")}],
                        "properties": {"code": {"enum": codes}, "status": {"const": status}},
                    }
                }
            },
        }
    return responses


def _refusals(route: Route) -> Mapping[int, list[str]]:
    """Return the codes that the route may answer by their status."""
    codes = {*ANYWHERE, *route.errors}
    if not route.free_query or route.keys:
        codes |= {"bad-request", "unknown-parameter"}
    if route.allowed is not For.ANYBODY:
        codes |= {"not-logged-in", "web-connections-exhausted"}
    if route.permission is not None:
        codes.add("not-allowed")
    if route.changes:
        codes |= {"cross-origin", *WRITING}
    if route.parts:
        codes.add("not-found")
    if route.body is not None:
        codes |= {"bad-body", "body-too-large"}
    found: dict[int, list[str]] = defaultdict(list)
    for code in sorted(codes):
        found[STATUS.get(code, 500)].append(code)
    return found
