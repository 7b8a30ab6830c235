# SPDX-License-Identifier: Apache-2.0
"""Holds every answer of the API against its declared type while tests run."""

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
from aiohttp import web

from scrigno.web.routes import ANSWERED, Route, Untyped
from scrigno.web.shapes import Binary


class NotAsDeclared(AssertionError):
    """The document of the API says something else."""


def heard(route: Route, request: web.Request, response: web.StreamResponse) -> None:
    """Raise NotAsDeclared, which the caller of the route sees as status 500."""
    where = f"{route.method} {route.path}"
    if response.status not in {route.status, *route.also}:
        raise NotAsDeclared(f"{where}: status {response.status}, not {route.status}")
    if response.status in {204, 304} or response.status in route.also:
        return
    kinds = {route.answers} if isinstance(route.answers, str) else set(route.answers)
    if response.content_type not in kinds and "*/*" not in kinds:
        raise NotAsDeclared(f"{where}: {response.content_type}, not {kinds}")
    if route.answer in (None, Binary) or response.content_type != "application/json":
        return
    if route.answer is Untyped:
        raise NotAsDeclared(f"{where}: the answer has no type")
    assert isinstance(response, web.Response)
    assert isinstance(response.body, bytes), where
    msgspec.json.decode(response.body, type=route.answer)


@contextmanager
def checked() -> Iterator[None]:
    """Check every answer from now on."""
    ANSWERED.append(heard)
    try:
        yield
    finally:
        ANSWERED.remove(heard)
