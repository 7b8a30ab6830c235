# SPDX-License-Identifier: Apache-2.0
"""WADO-RS bulk data: the long values that metadata name by address (PS3.18 section 10.4.1.1.5)."""

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from aiohttp import hdrs, web

from scrigno.catalogue.records import StoredInstance
from scrigno.imaging.dataset import EXPLICIT_LE
from scrigno.imaging.pixel_layout import NoLayout
from scrigno.imaging.results import MemoryFile
from scrigno.web.errors import NotFound
from scrigno.web.rooms import Rooms

from .door import Looks
from .frame_source import FrameSource
from .frames import Frames
from .media import OCTETS, Offer, choose
from .retrieve import path_of, sliced
from .search import ranges_of
from .streams import Multipart, Part, etag_of, headers_of, not_modified, range_of, send
from .syntaxes import NATIVE, is_video, media_of
from .target import ROOT, target_of

CHUNK_BYTES: Final = 1 << 20
_PATH: Final = re.compile(r"[0-9A-Fa-f]{8}(/[0-9]{1,9}/[0-9A-Fa-f]{8}){0,32}")
_PIXELS: Final = frozenset({"7FE00008", "7FE00009", "7FE00010"})
_OFFERS: Final = (Offer(media=OCTETS, multipart=True), Offer(media=OCTETS))
_PDF: Final = "application/pdf"
_DOCUMENT: Final = "00420011"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Value:
    chunks: AsyncGenerator[bytes, None]
    size: int


class BulkData:
    """The handler of bulk data."""

    def __init__(self, source: FrameSource, frames: Frames, looks: Looks) -> None:
        """Read native pixel data from `source`; compressed ones are the business of `frames`."""
        self._source = source
        self._frames = frames
        self._looks = looks

    async def get(self, request: web.Request, rooms: Rooms) -> web.StreamResponse:
        """Answer one value, or the part of it that a Range header names."""
        path = request.match_info["path"].strip("/").upper()
        if not _PATH.fullmatch(path):
            raise NotFound("There is no such bulk data.")
        instance = await self._source.instance(request, target_of(request))
        film = is_video(instance.transfer_syntax_uid)
        if path in _PIXELS and instance.transfer_syntax_uid not in NATIVE and not film:
            return await self._frames.every(request, rooms, instance)
        offers: tuple[Offer, ...] = (*_OFFERS, Offer(media=_PDF)) if path == _DOCUMENT else _OFFERS
        if film and path in _PIXELS:
            media = media_of(instance.transfer_syntax_uid)
            offers = (Offer(media=media, multipart=True), Offer(media=media), *_OFFERS)
        offer, _ = choose(ranges_of(request), offers)
        etag = etag_of(instance.digest, "bulk", path)
        known = not_modified(request, etag)
        if known is not None:
            return known
        self._looks.note(request, rooms, instance.study_instance_uid)
        value = await self._value(rooms, instance, path)
        return await _answer(request, value, offer, f"{path_of(instance)}/bulkdata/{path}", etag)

    async def _value(self, rooms: Rooms, instance: StoredInstance, path: str) -> _Value:
        if path in _PIXELS and is_video(instance.transfer_syntax_uid):
            film = await rooms.imaging.document(
                lambda: rooms.retrieval.memfd(instance), key=instance.digest
            )
            return _Value(chunks=_read(film), size=film.size)
        if path in _PIXELS:
            try:
                start, length = await self._source.pixel_value(instance)
            except NoLayout:
                pass
            else:
                chunks = self._source.parts.stream(instance, start, length)
                return _Value(chunks=chunks, size=length)
        found = await rooms.imaging.bulk(
            lambda: rooms.retrieval.memfd(instance), path=path, key=instance.digest
        )
        return _Value(chunks=_read(found), size=found.size)


async def _read(found: MemoryFile) -> AsyncGenerator[bytes, None]:
    """Yield what stands in memory, and let it go."""
    with found:
        for offset in range(0, found.size, CHUNK_BYTES):
            yield found.read(offset, min(CHUNK_BYTES, found.size - offset))


def _typed(media: str) -> str:
    return f"{OCTETS}; transfer-syntax={EXPLICIT_LE}" if media == OCTETS else media


async def _answer(
    request: web.Request, value: _Value, offer: Offer, path: str, etag: str
) -> web.StreamResponse:
    """Send it alone or as the one part of a multipart; a range may be had of both."""
    headers = headers_of(etag)
    headers[hdrs.ACCEPT_RANGES] = "bytes"
    async with aclosing(value.chunks):
        part = range_of(request, value.size, etag)
        status, chunks, size = 200, value.chunks, value.size
        place: dict[str, str] = {}
        if part is not None:
            status, size = 206, part.end - part.start
            place[hdrs.CONTENT_RANGE] = f"bytes {part.start}-{part.end - 1}/{value.size}"
            chunks = sliced(value.chunks, part.start, part.end)
        if not offer.multipart:
            headers |= place
            headers[hdrs.CONTENT_TYPE] = offer.media
            return await send(request, chunks, headers, status=status, length=size)
        multipart = Multipart()
        head = {
            str(hdrs.CONTENT_TYPE): _typed(offer.media),
            str(hdrs.CONTENT_LOCATION): ROOT + path,
            **place,
        }

        async def parts() -> AsyncGenerator[Part, None]:
            yield Part(headers=head, chunks=chunks, size=size)

        headers[hdrs.CONTENT_TYPE] = multipart.content_type(offer.media)
        length = multipart.length([(head, size)])
        return await send(request, multipart.body(parts()), headers, status=status, length=length)
