# SPDX-License-Identifier: Apache-2.0
"""Request bodies and query strings: capped, typed, refused in words."""

import asyncio
import json
from typing import Any, Final

from aiohttp import web

from scrigno.settings.boot import read_settings
from scrigno.settings.document import InvalidSettingsError, Problem, from_plain
from scrigno.settings.kinds import BAD, Group
from scrigno.settings.schema import Settings

from .errors import BadBody, BodyTooLarge, BodyTooSlow, RequestRefused

WHOLE_BODY_S: Final = 60.0  # of a body that is kept in memory; uploads have a way of their own
SMALL_BYTES: Final = 64 << 10
LARGEST_BYTES: Final = 2 << 20  # a whole configuration


async def read_bytes(request: web.Request, limit: int) -> bytes:
    """Return the body; raises BodyTooLarge before more than `limit` is kept."""
    if (request.content_length or 0) > limit:
        raise BodyTooLarge(f"The body may have {limit} bytes.")
    body = bytearray()
    try:
        async with asyncio.timeout(WHOLE_BODY_S):
            async for chunk in request.content.iter_chunked(16 << 10):
                body += chunk
                if len(body) > limit:
                    raise BodyTooLarge(f"The body may have {limit} bytes.")
    except TimeoutError as error:
        raise BodyTooSlow(f"The body did not come within {WHOLE_BODY_S:g} s.") from error
    return bytes(body)


async def read_object(request: web.Request, *, limit: int = SMALL_BYTES) -> dict[str, Any]:
    """Return the JSON object of the body; raises BadBody.

    The content type must say JSON: a form of another site cannot send that without being asked.
    """
    if request.content_type != "application/json":
        raise BadBody("The body must be application/json.")
    try:
        value = json.loads(await read_bytes(request, limit))
    except (ValueError, RecursionError) as error:
        raise BadBody("The body is not valid JSON.") from error
    if not isinstance(value, dict):
        raise BadBody("The body must be a JSON object.")
    return value


async def read_optional(request: web.Request) -> dict[str, Any]:
    """Return the JSON object of the body, an empty one when there is no body; raises BadBody."""
    return await read_object(request) if request.body_exists else {}


def text(body: dict[str, Any], *names: str, default: str | None = None, most: int = 1024) -> str:
    """Return the text under the first of `names` that is there; raises BadBody."""
    for name in names:
        value = body.get(name)
        if isinstance(value, str) and len(value) <= most:
            return value
        if value is not None:
            raise BadBody(f"{name} must be a text of at most {most} characters.")
    if default is None:
        raise BadBody(f"{names[0]} is missing.")
    return default


def number(values: Any, name: str, *, lowest: int, highest: int, default: int | None = None) -> int:
    """Return a whole number of a body or query in its range; raises RequestRefused."""
    value = values.get(name)
    if value is None and default is not None:
        return default
    try:
        found = int(value) if not isinstance(value, bool | float) else None
    except (TypeError, ValueError):
        found = None
    if found is None or not lowest <= found <= highest:
        raise RequestRefused(f"{name} must be a whole number from {lowest} to {highest}.")
    return found


def shaped(shape: Group, value: object) -> Any:
    """Return the typed value of a body that a shape of the settings describes."""
    problems: list[Problem] = []
    found = shape.read(_node(value), (), problems)
    if problems or found is BAD:
        raise InvalidSettingsError(problems)
    return found


def settings_of(value: object) -> Settings:
    """Return the settings that a JSON document says; raises InvalidSettingsError."""
    return read_settings(_node(value), source="")


def _node(value: object) -> Any:
    try:
        return from_plain(value)
    except (TypeError, RecursionError) as error:
        raise BadBody("The body is nested too deeply or holds no plain values.") from error


def merged(value: Any, patch: Any) -> Any:
    """Return `value` with a JSON Merge Patch (RFC 7396) applied; null removes a key."""
    if not isinstance(patch, dict):
        return patch
    result = dict(value) if isinstance(value, dict) else {}
    for name, part in patch.items():
        if part is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), part)
    return result
