# SPDX-License-Identifier: Apache-2.0
"""WADO-RS: frames of an object (PS3.18 section 10.4.1.1.6), as stored or converted."""

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from aiohttp import hdrs, web

from scrigno.archive.errors import ObjectUnavailable
from scrigno.catalogue.records import StoredInstance
from scrigno.imaging.dataset import EXPLICIT_LE, IMPLICIT_LE
from scrigno.imaging.errors import ImagingClosed, ImagingError, NoPixels, NoSuchFrame
from scrigno.web.rooms import Rooms

from .door import Looks
from .frame_source import FrameBytes, FrameSource
from .media import AS_STORED, OCTETS, NotAcceptable, Range, fits
from .retrieve import path_of, sliced
from .search import ranges_of
from .streams import Multipart, Part, etag_of, headers_of, not_modified, range_of, send
from .syntaxes import DEFAULT_OF, MADE, NATIVE, is_video, media_of
from .target import MOST_FRAMES, ROOT, frames_of, target_of

SMALL_BYTES = 4 << 20  # up to here a frame is answered in one piece


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way to give frames: the media type, in parts or alone, in which transfer syntax."""

    media: str
    multipart: bool
    transfer_syntax_uid: str  # empty: as stored


def ways(stored: str, ranges: Sequence[Range], *, alone: bool) -> Iterator[Way]:
    """Yield what the ranges allow for an object of a transfer syntax, the best first.

    `alone`: one frame, which may come without a multipart around it. Without a transfer syntax
    octets are native, and an image type is the stored one where that is of the type.
    """
    for range_ in ranges:
        multipart = range_.multipart or range_.anything
        if multipart or alone:
            for media, syntax in _forms(stored, range_.inner, range_.transfer_syntax):
                yield Way(media=media, multipart=multipart, transfer_syntax_uid=syntax)


def _forms(stored: str, wanted: str, syntax: str) -> Iterator[tuple[str, str]]:
    own = media_of(stored)
    compressed = stored not in NATIVE
    if compressed and syntax in (AS_STORED, stored):
        if fits(wanted, own):
            yield own, ""
        elif wanted == OCTETS:
            yield OCTETS, ""
        return
    if fits(wanted, OCTETS) and (
        syntax in ("", EXPLICIT_LE, IMPLICIT_LE)
        or (not compressed and syntax in (AS_STORED, stored))
    ):
        yield OCTETS, EXPLICIT_LE
        if compressed and wanted == "*/*" and not syntax:
            yield own, ""  # what cannot be decoded here
        return
    if compressed and not syntax and fits(wanted, own):
        yield own, ""
        return
    for media, default in DEFAULT_OF.items():
        made = default if syntax in ("", AS_STORED) else syntax
        if fits(wanted, media) and media_of(made) == media and made in MADE and media != OCTETS:
            yield media, made


class Frames:
    """The handler of frames."""

    def __init__(self, source: FrameSource, looks: Looks) -> None:
        """Read from `source`."""
        self._source = source
        self._looks = looks

    async def get(self, request: web.Request, rooms: Rooms) -> web.StreamResponse:
        """Answer the frames of the path, in their order there."""
        target, wanted = target_of(request), frames_of(request)
        instance = await self._source.instance(request, target)
        return await self._get(request, rooms, instance, wanted)

    async def every(
        self, request: web.Request, rooms: Rooms, instance: StoredInstance
    ) -> web.StreamResponse:
        """Answer all frames of an object, which its compressed pixel data are as bulk data."""
        wanted = tuple(range(min(instance.number_of_frames or 1, MOST_FRAMES)))
        return await self._get(request, rooms, instance, wanted)

    async def _get(
        self,
        request: web.Request,
        rooms: Rooms,
        instance: StoredInstance,
        wanted: tuple[int, ...],
    ) -> web.StreamResponse:
        if is_video(instance.transfer_syntax_uid):
            raise NotAcceptable(
                "The object is a film, which has no frames to be had alone.",
                next_step="Ask for its pixel data as bulk data, or for rendered as video/mp4.",
            )
        ranges = ranges_of(request)
        etag = etag_of(instance.digest, str(wanted), str(ranges))
        known = not_modified(request, etag)
        if known is not None:
            return known
        self._looks.note(request, rooms, instance.study_instance_uid)
        try:
            return await self._answer(request, instance, wanted, ranges, etag)
        except ObjectUnavailable:
            self._source.forget(instance)  # its copies may stand elsewhere by now
            again = await self._source.instance(request, target_of(request))
            return await self._answer(request, again, wanted, ranges, etag)

    async def _answer(
        self,
        request: web.Request,
        instance: StoredInstance,
        wanted: tuple[int, ...],
        ranges: Sequence[Range],
        etag: str,
    ) -> web.StreamResponse:
        refused: ImagingError | None = None
        for way in ways(instance.transfer_syntax_uid, ranges, alone=len(wanted) == 1):
            try:
                first = await self._source.frame(instance, wanted[0], way.transfer_syntax_uid)
            except (ImagingClosed, NoPixels, NoSuchFrame):
                raise
            except ImagingError as error:
                refused = refused or error
                continue
            await self._source.look_ahead(instance)
            if way.multipart:
                return await self._parts(request, instance, way, first, wanted, etag)
            return await _alone(request, way, first, etag)
        if refused is not None:
            raise refused
        raise NotAcceptable(
            "The frames cannot be given in any of these forms.",
            next_step=f"They are stored as {media_of(instance.transfer_syntax_uid)}; ask with "
            "transfer-syntax=* to get them so.",
        )

    async def _parts(
        self,
        request: web.Request,
        instance: StoredInstance,
        way: Way,
        first: FrameBytes,
        wanted: tuple[int, ...],
        etag: str,
    ) -> web.StreamResponse:
        multipart = Multipart()
        place = f"{ROOT}{path_of(instance)}/frames"

        def part(frame: int, found: FrameBytes) -> Part:
            headers: dict[str, str] = {
                hdrs.CONTENT_TYPE: _typed(way, found),
                hdrs.CONTENT_LOCATION: f"{place}/{frame + 1}",
            }
            return Part(headers=headers, chunks=found.chunks, size=found.size)

        async def parts() -> AsyncGenerator[Part, None]:
            yield part(wanted[0], first)
            for frame in wanted[1:]:
                yield part(
                    frame, await self._source.frame(instance, frame, way.transfer_syntax_uid)
                )

        headers = headers_of(etag)
        headers[hdrs.CONTENT_TYPE] = multipart.content_type(way.media)
        body = multipart.body(parts())
        if len(wanted) == 1 and first.size is not None:
            length = multipart.length([(part(wanted[0], first).headers, first.size)])
            if length <= SMALL_BYTES and request.method != "HEAD":
                async with aclosing(body):
                    return web.Response(
                        body=b"".join([piece async for piece in body]), headers=headers
                    )
            return await send(request, body, headers, length=length)
        return await send(request, body, headers)


def _typed(way: Way, found: FrameBytes) -> str:
    return f"{way.media}; transfer-syntax={found.transfer_syntax_uid}"


async def _alone(
    request: web.Request, way: Way, found: FrameBytes, etag: str
) -> web.StreamResponse:
    headers = headers_of(etag)
    headers[hdrs.CONTENT_TYPE] = _typed(way, found)
    if found.size is None:
        return await send(request, found.chunks, headers)
    headers[hdrs.ACCEPT_RANGES] = "bytes"
    part = range_of(request, found.size, etag)
    if part is None:
        return await send(request, found.chunks, headers, length=found.size)
    headers[hdrs.CONTENT_RANGE] = f"bytes {part.start}-{part.end - 1}/{found.size}"
    chunks = sliced(found.chunks, part.start, part.end)
    return await send(request, chunks, headers, status=206, length=part.end - part.start)
