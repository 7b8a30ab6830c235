# SPDX-License-Identifier: Apache-2.0
"""QIDO-RS: search for studies, series and objects (PS3.18 section 10.6)."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final

import msgspec
from aiohttp import hdrs, web

from scrigno.catalogue.query import Level, Order
from scrigno.catalogue.records import FindRow
from scrigno.web.rooms import Rooms
from scrigno.web.sight import sight_of

from . import native_xml
from .media import JSON, XML, Offer, acceptable, choose
from .query import LEVELS, Asked, asked_of
from .results import result
from .streams import Multipart, Part, once, send
from .target import base_of, target_of

AT_ONCE: Final = 500  # up to here the answer is made as a whole, with its length
_OFFERS: Final = (Offer(media=JSON), Offer(media=XML, multipart=True))
_NEWEST: Final = (Order(keyword="StudyDate", descending=True),)
_NATURAL: Final = {
    Level.SERIES: (Order(keyword="SeriesNumber"),),
    Level.IMAGE: (Order(keyword="SeriesNumber"), Order(keyword="InstanceNumber")),
}


async def search(request: web.Request, rooms: Rooms) -> web.StreamResponse:
    """Answer any search; the last word of the path names the level."""
    level = LEVELS[request.path.rstrip("/").rpartition("/")[2]]
    target = target_of(request)
    offer, _ = choose(ranges_of(request), _OFFERS)
    asked = asked_of(list(request.query.items()), level, target)
    if not asked.query.order and (level is Level.STUDY or target.study):
        order = _NEWEST if level is Level.STUDY else _NATURAL[level]
        asked = asked.ordered(order)
    sight = sight_of(request)
    total = await rooms.catalogue.find_count(asked.query, within=sight)
    rooms.counters.add("dicomweb_searches", level=level.value.lower())
    headers = _headers(request, asked, total)
    rows = rooms.catalogue.find(asked.query, within=sight)
    base = base_of(request)
    async with aclosing(_results(rows, level, base, asked.kept)) as found:
        first = [each async for each in _take(found, AT_ONCE)]
        if not first:
            return web.Response(status=204, headers=headers)
        if offer.media == XML:
            return await _as_xml(request, headers, first, found)
        if len(first) < AT_ONCE:
            return web.Response(body=msgspec.json.encode(first), content_type=JSON, headers=headers)
        headers[hdrs.CONTENT_TYPE] = JSON
        return await send(request, _array(first, found), headers)


def ranges_of(request: web.Request) -> Any:
    """Return what the client accepts, by the header or the query parameter."""
    return acceptable(request.headers.getall(hdrs.ACCEPT, []), request.query.getall("accept", []))


def _headers(request: web.Request, asked: Asked, total: int) -> dict[str, str]:
    left = total - asked.query.offset - asked.limit
    warnings = []
    if left > 0:
        warnings.append(f"There are {left} additional results that can be requested")
    if asked.ignored:
        warnings.append(
            "The following parameters are not supported and were ignored: "
            + ", ".join(each[:64] for each in asked.ignored[:32])
        )
    headers = {"X-Total-Count": str(total), hdrs.VARY: "Accept, Authorization, Cookie"}
    if warnings:
        headers["Warning"] = ", ".join(f'299 {request.host} "{each}"' for each in warnings)
    return headers


async def _results(
    rows: AsyncGenerator[FindRow, None], level: Level, base: str, kept: frozenset[str]
) -> AsyncGenerator[dict[str, Any], None]:
    async with aclosing(rows) as found:
        async for row in found:
            yield result(row, level, base, kept)


async def _take(
    results: AsyncGenerator[dict[str, Any], None], most: int
) -> AsyncGenerator[dict[str, Any], None]:
    while most > 0:
        found = await anext(results, None)
        if found is None:
            return
        most -= 1
        yield found


async def _array(
    first: list[dict[str, Any]], rest: AsyncGenerator[dict[str, Any], None]
) -> AsyncGenerator[bytes, None]:
    yield msgspec.json.encode(first)[:-1]
    waiting: list[bytes] = []
    async for each in rest:
        waiting.append(b"," + msgspec.json.encode(each))
        if len(waiting) >= AT_ONCE:
            yield b"".join(waiting)
            waiting.clear()
    yield b"".join([*waiting, b"]"])


async def _as_xml(
    request: web.Request,
    headers: dict[str, str],
    first: list[dict[str, Any]],
    rest: AsyncGenerator[dict[str, Any], None],
) -> web.StreamResponse:
    multipart = Multipart()
    head: dict[str, str] = {hdrs.CONTENT_TYPE: XML}

    async def parts() -> AsyncGenerator[Part, None]:
        for each in first:
            yield Part(headers=head, chunks=once(native_xml.document(each)))
        async for each in rest:
            yield Part(headers=head, chunks=once(native_xml.document(each)))

    headers[hdrs.CONTENT_TYPE] = multipart.content_type(XML)
    return await send(request, multipart.body(parts()), headers)
