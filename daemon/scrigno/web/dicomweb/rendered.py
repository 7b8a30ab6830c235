# SPDX-License-Identifier: Apache-2.0
"""WADO-RS rendered and thumbnail resources (PS3.18 sections 10.4.1.1.3 and 10.4.1.1.4)."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from typing import Final

from aiohttp import hdrs, web

from scrigno.catalogue.records import StoredInstance
from scrigno.imaging.errors import (
    ImagingClosed,
    ImagingError,
    NoPixels,
    NoSuchFrame,
    UnsupportedSyntax,
)
from scrigno.imaging.results import Document
from scrigno.web.errors import NotFound
from scrigno.web.rooms import Rooms

from .door import Looks
from .frame_source import FrameSource
from .looks import Asked, look_of
from .media import GIF, JPEG, PNG, NotAcceptable, Offer, choose
from .rendering import Rendering
from .retrieve import path_of
from .search import ranges_of
from .streams import Multipart, Part, etag_of, headers_of, not_modified, once, range_of, send
from .syntaxes import is_video
from .target import MOST_FRAMES, ROOT, frames_of, instances_of, target_of

_PICTURES: Final = (Offer(media=JPEG), Offer(media=PNG), Offer(media="image/webp"))
_SEVERAL: Final = (Offer(media=JPEG, multipart=True), Offer(media=PNG, multipart=True))
_GIF: Final = Offer(media=GIF)
_DOCUMENTS: Final = ("application/pdf", "text/html", "image/svg+xml", "video/mp4", "video/mpeg",
                     "audio/wav", "text/xml", "model/stl", "text/plain")  # fmt: skip


class RenderedResources:
    """The handlers of pictures."""

    def __init__(self, source: FrameSource, rendering: Rendering, looks: Looks) -> None:
        """Take pictures from `rendering`."""
        self._source = source
        self._rendering = rendering
        self._looks = looks

    async def get(self, request: web.Request, rooms: Rooms) -> web.StreamResponse:
        """Answer a study, a series or one object as pictures, a document or a film."""
        target = target_of(request)
        if target.instance:
            instance = await self._source.instance(request, target)
            return await self._instance(request, rooms, instance)
        instances = await instances_of(request, rooms, target)
        offer, _ = choose(ranges_of(request), _SEVERAL)
        shown = [each for each in instances if each.rows and each.columns]
        if not shown:
            raise NoPixels("Nothing in it can be shown as a picture.")
        return await self._pictures(request, rooms, [(each, 0) for each in shown], offer)

    async def get_frames(self, request: web.Request, rooms: Rooms) -> web.StreamResponse:
        """Answer frames as pictures."""
        wanted = frames_of(request)
        instance = await self._source.instance(request, target_of(request))
        offers = (*_PICTURES, *_SEVERAL) if len(wanted) == 1 else _SEVERAL
        offer, _ = choose(ranges_of(request), offers)
        if offer.multipart:
            return await self._pictures(
                request, rooms, [(instance, each) for each in wanted], offer
            )
        return await self._picture(request, rooms, instance, wanted[0], offer)

    async def get_thumbnail(self, request: web.Request, rooms: Rooms) -> web.StreamResponse:
        """Answer a small picture that stands for a study, a series, an object or a frame."""
        offer, _ = choose(ranges_of(request), _PICTURES)
        asked = look_of(request.query, offer.media, thumbnail=True)
        instances = await instances_of(request, rooms, target_of(request))
        if "frames" in request.match_info:
            frame = frames_of(request)[0]
            made = await self._rendering.get(instances[0], replace(asked.look, frame=frame))
            return _answer(request, asked, made.content, made.content_type, "")
        etag = etag_of("thumbnail", str(asked.look), *(each.digest for each in instances))
        known = not_modified(request, etag)
        if known is not None:
            return known
        found = await self._rendering.first(_representative(instances), asked.look)
        if found is None:
            raise NotFound("Nothing in it can be shown as a picture.")
        return _answer(request, asked, found[1].content, found[1].content_type, etag)

    async def _instance(
        self, request: web.Request, rooms: Rooms, instance: StoredInstance
    ) -> web.StreamResponse:
        ranges = ranges_of(request)
        pictures = bool(instance.rows and instance.columns)
        if not pictures or is_video(instance.transfer_syntax_uid):
            return await self.document(request, rooms, instance)
        many = (instance.number_of_frames or 1) > 1
        # a film comes as its first frame unless the client names something that can hold more
        offers = (*_PICTURES, _GIF, *_SEVERAL)
        offer, _ = choose(ranges, offers)
        if offer.multipart:
            frames = range(min(instance.number_of_frames or 1, MOST_FRAMES) if many else 1)
            return await self._pictures(
                request, rooms, [(instance, each) for each in frames], offer
            )
        return await self._picture(request, rooms, instance, 0, offer)

    async def _picture(
        self,
        request: web.Request,
        rooms: Rooms,
        instance: StoredInstance,
        frame: int,
        offer: Offer,
    ) -> web.StreamResponse:
        asked = look_of(request.query, offer.media)
        return await self.look(
            request, rooms, instance, replace(asked, look=replace(asked.look, frame=frame))
        )

    async def look(
        self, request: web.Request, rooms: Rooms, instance: StoredInstance, asked: Asked
    ) -> web.StreamResponse:
        """Answer one picture."""
        look = asked.look
        etag = etag_of(instance.digest, str(look))
        known = not_modified(request, etag)
        if known is not None:
            return known
        self._looks.note(request, rooms, instance.study_instance_uid)
        made = await self._rendering.get(instance, look)
        return _answer(request, asked, made.content, made.content_type, etag)

    async def _pictures(
        self,
        request: web.Request,
        rooms: Rooms,
        wanted: Sequence[tuple[StoredInstance, int]],
        offer: Offer,
    ) -> web.StreamResponse:
        asked = look_of(request.query, offer.media)
        self._looks.note(request, rooms, wanted[0][0].study_instance_uid)
        multipart = Multipart()

        async def parts() -> AsyncGenerator[Part, None]:
            for instance, frame in wanted:
                try:
                    made = await self._rendering.get(instance, replace(asked.look, frame=frame))
                except (ImagingClosed, NoSuchFrame):
                    raise
                except ImagingError:
                    if len(wanted) == 1:
                        raise
                    continue  # of a study, what can be shown
                place = f"{ROOT}{path_of(instance)}/frames/{frame + 1}/rendered"
                headers: dict[str, str] = {
                    hdrs.CONTENT_TYPE: made.content_type,
                    hdrs.CONTENT_LOCATION: place,
                }
                yield Part(headers=headers, chunks=once(made.content))

        headers = _warned(request, asked, {hdrs.CONTENT_TYPE: multipart.content_type(offer.media)})
        return await send(request, multipart.body(parts()), headers)

    async def document(
        self, request: web.Request, rooms: Rooms, instance: StoredInstance
    ) -> web.StreamResponse:
        """Answer what an object without ordinary pictures shows: PDF, HTML, SVG, film, sound."""
        ranges = ranges_of(request)
        try:
            found = await rooms.imaging.document(
                lambda: rooms.retrieval.memfd(instance), key=instance.digest
            )
        except UnsupportedSyntax as error:
            raise NoPixels(error.reason) from error
        media = found.content_type.partition(";")[0]
        try:
            choose(ranges, (Offer(media=media), Offer(media=media, multipart=True)))
        except NotAcceptable:
            found.close()
            raise
        self._looks.note(request, rooms, instance.study_instance_uid)
        etag = etag_of(instance.digest, "document")
        headers = headers_of(etag) | {hdrs.CONTENT_TYPE: found.content_type}
        headers[hdrs.ACCEPT_RANGES] = "bytes"
        try:
            known = not_modified(request, etag)
            part = range_of(request, found.size, etag)
        except BaseException:
            found.close()
            raise
        if known is not None:
            found.close()
            return known
        start, end, status = (part.start, part.end, 206) if part else (0, found.size, 200)
        if part is not None:
            headers[hdrs.CONTENT_RANGE] = f"bytes {start}-{end - 1}/{found.size}"
        chunks = _read(found, start, end)
        return await send(request, chunks, headers, status=status, length=end - start)


async def _read(found: Document, start: int, end: int) -> AsyncGenerator[bytes, None]:
    with found:
        for offset in range(start, end, 1 << 20):
            yield found.read(offset, min(1 << 20, end - offset))


def _answer(
    request: web.Request, asked: Asked, content: bytes, content_type: str, etag: str
) -> web.Response:
    headers = headers_of(etag) if etag else {}
    headers[hdrs.CONTENT_TYPE] = content_type
    return web.Response(body=content, headers=_warned(request, asked, headers))


def _warned(request: web.Request, asked: Asked, headers: dict[str, str]) -> dict[str, str]:
    if asked.ignored:
        words = ", ".join(asked.ignored)
        headers["Warning"] = f'299 {request.host} "Not supported and ignored: {words}"'
    return headers


def _representative(instances: Sequence[StoredInstance]) -> list[StoredInstance]:
    """Return the objects to try, the middle one of each series that has pictures, at most five."""
    by_series: dict[str, list[StoredInstance]] = {}
    for instance in instances:
        if instance.rows and instance.columns:
            by_series.setdefault(instance.series_instance_uid, []).append(instance)
    return [each[len(each) // 2] for each in by_series.values()][:5]
