# SPDX-License-Identifier: Apache-2.0
"""WADO-RS: studies, series and objects as DICOM files (PS3.18 sections 10.4.1.1.1 and 10.4.4)."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from aiohttp import hdrs, web

from scrigno.access.audit import Action
from scrigno.catalogue.records import StoredInstance
from scrigno.web.rooms import Rooms

from .door import Looks, transferred
from .frame_source import WHOLE_BYTES, FrameSource
from .media import DICOM, ZIP, NotAcceptable, Offer, Range, choose, matches
from .objects import Outgoing, chunks_of, outgoing, read_ahead
from .search import ranges_of
from .streams import (
    Multipart,
    Part,
    etag_of,
    headers_of,
    not_modified,
    range_of,
    send,
)
from .target import ROOT, Target, instances_of, target_of
from .zipped import zip_of

_PARTS = Offer(media=DICOM, multipart=True)
_FILE = Offer(media=DICOM)
_ZIP = Offer(media=ZIP)


class Retrieve:
    """The handlers of whole objects."""

    def __init__(self, source: FrameSource, looks: Looks) -> None:
        """Note in `looks` who reads what; take small single objects from `source`."""
        self._source = source
        self._looks = looks

    async def get(self, request: web.Request, rooms: Rooms) -> web.StreamResponse:
        """Answer a study, a series or an object in the best form that is accepted."""
        target = target_of(request)
        ranges: Sequence[Range] = ranges_of(request)
        offers = [_PARTS, _FILE, _ZIP] if target.instance else [_PARTS, _ZIP]
        offer, _ = choose(ranges, offers)
        if target.instance:
            instances = [await self._source.instance(request, target)]
        else:
            instances = await instances_of(request, rooms, target)
        fitting = [each for each in ranges if matches(each, offer)]
        return await self._answer(request, rooms, instances, offer, fitting)

    async def one(
        self,
        request: web.Request,
        rooms: Rooms,
        instance: StoredInstance,
        ranges: Sequence[Range],
    ) -> web.StreamResponse:
        """Answer one object as a file."""
        return await self._answer(request, rooms, [instance], _FILE, ranges)

    async def _answer(
        self,
        request: web.Request,
        rooms: Rooms,
        instances: Sequence[StoredInstance],
        offer: Offer,
        fitting: Sequence[Range],
    ) -> web.StreamResponse:
        found = [outgoing(each, fitting) for each in instances]
        objects = [each for each in found if each is not None]
        if not objects:
            raise NotAcceptable(
                "The objects cannot be given in any of these transfer syntaxes.",
                next_step="Ask with transfer-syntax=* to get them as they are stored.",
            )
        etag = etag_of(offer.media, str(offer.multipart), *map(_version, objects))
        known = not_modified(request, etag)
        if known is not None:
            return known
        self._looks.note(request, rooms, objects[0].instance.study_instance_uid)
        headers = headers_of(etag)
        partial = len(objects) < len(instances)
        if partial:
            headers["Warning"] = (
                f'299 {request.host} "{len(instances) - len(objects)} objects cannot be given in '
                'an acceptable transfer syntax and are left out"'
            )
        sent = _Sent()
        try:
            if len(instances) == 1 and offer is not _ZIP and await self._small(objects[0], request):
                content = (await self._source.head(objects[0].instance)).content
                return _in_one_piece(objects[0], content, offer, headers, sent)
            if offer is _FILE:
                return await _file(request, rooms, objects[0], headers, etag, sent)
            status = 206 if partial else 200
            if offer is _ZIP:
                return await _zip(request, rooms, objects, headers, status, sent)
            return await _parts(request, rooms, objects, headers, status, sent)
        finally:
            study = objects[0].instance.study_instance_uid
            if len(instances) == 1 and sent.whole:
                # who takes a study object by object has one line for all of them
                self._looks.note(request, rooms, study, Action.INSTANCES_TRANSFERRED)
            elif request.method != "HEAD":
                transferred(request, rooms, study, len(objects), whole=sent.whole)

    async def _small(self, each: Outgoing, request: web.Request) -> bool:
        """Tell whether the object is answered from memory, and have the next ones read."""
        plain = request.method == "GET" and hdrs.RANGE not in request.headers
        if not (plain and each.as_stored and each.instance.size <= WHOLE_BYTES):
            return False
        await self._source.look_ahead(each.instance)
        return True


class _Sent:
    """Whether an answer came to its end."""

    whole = False

    async def watching(self, chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk
        self.whole = True


def _version(each: Outgoing) -> str:
    return f"{each.instance.digest}.{each.transfer_syntax_uid}"


def _in_one_piece(
    each: Outgoing, content: bytes, offer: Offer, headers: dict[str, str], sent: _Sent
) -> web.Response:
    sent.whole = True
    if offer is _FILE:
        headers[hdrs.CONTENT_TYPE] = each.content_type()
        headers[hdrs.CONTENT_DISPOSITION] = _named(f"{each.instance.sop_instance_uid}.dcm")
        headers[hdrs.ACCEPT_RANGES] = "bytes"
        return web.Response(body=content, headers=headers)
    multipart = Multipart()
    headers[hdrs.CONTENT_TYPE] = multipart.content_type(DICOM)
    body = b"".join((multipart.head(_part_headers(each)), content, multipart.end))
    return web.Response(body=body, headers=headers)


async def _file(
    request: web.Request,
    rooms: Rooms,
    each: Outgoing,
    headers: dict[str, str],
    etag: str,
    sent: _Sent,
) -> web.StreamResponse:
    headers[hdrs.CONTENT_TYPE] = each.content_type()
    headers[hdrs.CONTENT_DISPOSITION] = _named(f"{each.instance.sop_instance_uid}.dcm")
    chunks = sent.watching(chunks_of(rooms, each))
    if not each.as_stored:
        return await send(request, chunks, headers)
    size = each.instance.size
    headers[hdrs.ACCEPT_RANGES] = "bytes"
    part = range_of(request, size, etag)
    if part is None:
        return await send(request, chunks, headers, length=size)
    headers[hdrs.CONTENT_RANGE] = f"bytes {part.start}-{part.end - 1}/{size}"
    # the object is read and checked as a whole, and only the part leaves
    return await send(
        request,
        sliced(chunks, part.start, part.end),
        headers,
        status=206,
        length=part.end - part.start,
    )


async def sliced(
    chunks: AsyncGenerator[bytes, None], start: int, end: int
) -> AsyncGenerator[bytes, None]:
    """Yield the bytes from `start` to before `end`."""
    position = 0
    async with aclosing(chunks):
        async for chunk in chunks:
            first, last = max(start - position, 0), min(end - position, len(chunk))
            position += len(chunk)
            if first < last:
                yield chunk[first:last]


async def _parts(
    request: web.Request,
    rooms: Rooms,
    objects: Sequence[Outgoing],
    headers: dict[str, str],
    status: int,
    sent: _Sent,
) -> web.StreamResponse:
    multipart = Multipart()
    heads = [_part_headers(each) for each in objects]
    length = None
    if all(each.as_stored for each in objects):
        sizes = (each.instance.size for each in objects)
        length = multipart.length(zip(heads, sizes, strict=True))

    async def parts() -> AsyncGenerator[Part, None]:
        for each, head in zip(objects, heads, strict=True):
            yield Part(headers=head, chunks=chunks_of(rooms, each))

    headers[hdrs.CONTENT_TYPE] = multipart.content_type(DICOM)
    body = sent.watching(read_ahead(multipart.body(parts())))
    return await send(request, body, headers, status=status, length=length)


def _part_headers(each: Outgoing) -> dict[str, str]:
    headers: dict[str, str] = {hdrs.CONTENT_TYPE: each.content_type()}
    headers[hdrs.CONTENT_LOCATION] = ROOT + path_of(each.instance)
    if each.as_stored:
        headers[hdrs.CONTENT_LENGTH] = str(each.instance.size)
    return headers


def path_of(instance: StoredInstance) -> str:
    """Return the path of an object below the root of the service."""
    return Target(
        study=instance.study_instance_uid,
        series=instance.series_instance_uid,
        instance=instance.sop_instance_uid,
    ).path()


async def _zip(
    request: web.Request,
    rooms: Rooms,
    objects: Sequence[Outgoing],
    headers: dict[str, str],
    status: int,
    sent: _Sent,
) -> web.StreamResponse:
    headers[hdrs.CONTENT_TYPE] = ZIP
    target = target_of(request)
    name = target.instance or target.series or target.study
    headers[hdrs.CONTENT_DISPOSITION] = _named(f"{name}.zip")
    return await send(
        request, sent.watching(read_ahead(zip_of(rooms, objects))), headers, status=status
    )


def _named(name: str) -> str:
    return f'attachment; filename="{name}"'
