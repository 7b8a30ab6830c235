# SPDX-License-Identifier: Apache-2.0
"""WADO-RS metadata: every attribute but the bulk of a study, series or object (PS3.18 10.4.1.1.2).

Only what stands before the pixel data is read. What was made is kept on the SSD, some objects in
one piece, with a mark where the address of the service goes.
"""

import asyncio
import hashlib
import os
import zlib
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, Final

import msgspec
from aiohttp import hdrs, web

from scrigno.catalogue.records import StoredInstance
from scrigno.imaging.errors import ImagingClosed, ImagingError
from scrigno.imaging.pixel_layout import NoLayout
from scrigno.web.rooms import Rooms

from . import native_xml
from .door import Looks
from .frame_source import FrameSource
from .media import JSON, XML, Offer, choose
from .retrieve import path_of
from .search import ranges_of
from .streams import Multipart, Part, etag_of, headers_of, not_modified, once, send
from .target import base_of, instances_of, target_of

AT_ONCE: Final = 128  # objects that are made, and kept, together
SIDE_BY_SIDE: Final = 8
VARIANT: Final = "dicomweb-metadata-2"
LARGE_BYTES: Final = 256 << 10  # a text that is not taken apart in the loop
MARK: Final = b'"BulkDataURI":"scrigno-bulk:'
_OFFERS: Final = (Offer(media=JSON), Offer(media=XML, multipart=True))
_PIXEL_SPACING: Final = "00280030"


class Metadata:
    """The handler of metadata."""

    def __init__(self, source: FrameSource, looks: Looks) -> None:
        """Read heads through `source`."""
        self._source = source
        self._looks = looks

    async def get(self, request: web.Request, rooms: Rooms) -> web.StreamResponse:
        """Answer as DICOM JSON, or as XML in parts."""
        offer, _ = choose(ranges_of(request), _OFFERS)
        instances = await instances_of(request, rooms, target_of(request))
        base = base_of(request)
        etag = etag_of(offer.media, VARIANT, base, *(each.digest for each in instances))
        known = not_modified(request, etag)
        if known is not None:
            return known
        self._looks.note(request, rooms, instances[0].study_instance_uid)
        headers = headers_of(etag)
        pieces = self._pieces(rooms, instances, base)
        if offer.media == XML:
            return await _as_xml(request, headers, pieces)
        headers[hdrs.CONTENT_TYPE] = JSON
        if len(instances) <= AT_ONCE:
            async with aclosing(pieces):
                content = b"".join([b"[" + each + b"]" async for each in pieces])
            return web.Response(body=content, headers=headers)
        return await send(request, _array(pieces), headers)

    async def _pieces(
        self, rooms: Rooms, instances: Sequence[StoredInstance], base: str
    ) -> AsyncGenerator[bytes, None]:
        """Yield the metadata of some objects at a time, separated by commas."""
        address = MARK.replace(b"scrigno-bulk:", base.encode())
        for place in range(0, len(instances), AT_ONCE):
            some = instances[place : place + AT_ONCE]
            yield (await self._some(rooms, some)).replace(MARK, address)

    async def _some(self, rooms: Rooms, instances: Sequence[StoredInstance]) -> bytes:
        key = hashlib.sha256("".join(each.digest for each in instances).encode()).hexdigest()
        kept = await rooms.frames.get(key, VARIANT)
        if kept is not None:
            return await asyncio.to_thread(zlib.decompress, kept)
        turns = asyncio.Semaphore(SIDE_BY_SIDE)

        async def one(instance: StoredInstance) -> bytes:
            async with turns:
                return await self._one(rooms, instance, alone=len(instances) == 1)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(each)) for each in instances]
        except BaseExceptionGroup as group_of:
            raise group_of.exceptions[0] from None
        made = b",".join([task.result() for task in tasks])
        await rooms.frames.put(key, VARIANT, await asyncio.to_thread(zlib.compress, made, 1))
        return made

    async def _one(self, rooms: Rooms, instance: StoredInstance, *, alone: bool) -> bytes:
        path = f"{path_of(instance)}/bulkdata"
        pixels: tuple[str, str] | None = None
        try:
            head, header = await self._source.header(instance)
            vr = header.pixels.vr.decode("ascii", "replace") or "OW"
            pixels = (f"{header.pixels.tag:08X}", vr)
            content = await rooms.imaging.metadata(
                head.content[: header.pixels_at], bulk_uri=f"scrigno-bulk:{path}"
            )
        except (NoLayout, ImagingError) as error:
            if isinstance(error, ImagingClosed):
                raise
            pixels = None
            content = await self._of_whole(rooms, instance, path, alone=alone)
        if len(content) > LARGE_BYTES:
            return await asyncio.to_thread(_completed, content, instance, pixels, path)
        return _completed(content, instance, pixels, path)

    async def _of_whole(
        self, rooms: Rooms, instance: StoredInstance, path: str, *, alone: bool
    ) -> bytes:
        source = await rooms.retrieval.memfd(instance)
        try:
            return await rooms.imaging.metadata(source, bulk_uri=f"scrigno-bulk:{path}")
        except ImagingClosed:
            raise
        except ImagingError:
            if alone:
                raise
            return _least(instance)  # one object that nobody can describe does not hide the others
        finally:
            os.close(source)


def _least(instance: StoredInstance) -> bytes:
    """Return what the index knows of an object."""
    known = {
        "00080016": instance.sop_class_uid,
        "00080018": instance.sop_instance_uid,
        "0020000D": instance.study_instance_uid,
        "0020000E": instance.series_instance_uid,
    }
    return msgspec.json.encode({tag: {"vr": "UI", "Value": [uid]} for tag, uid in known.items()})


def _completed(
    content: bytes, instance: StoredInstance, pixels: tuple[str, str] | None, path: str
) -> bytes:
    """Add what was not read and what viewers stumble over when it is missing or impossible."""
    found: dict[str, Any] = msgspec.json.decode(content)
    if pixels is not None:
        found[pixels[0]] = {"vr": pixels[1], "BulkDataURI": f"scrigno-bulk:{path}/{pixels[0]}"}
    found["00083002"] = {"vr": "UI", "Value": [instance.transfer_syntax_uid]}
    if not found.get("00080060", {}).get("Value"):
        found["00080060"] = {"vr": "CS", "Value": ["OT"]}
    spacing = found.get(_PIXEL_SPACING, {}).get("Value")
    if spacing and any(each == 0 for each in spacing):
        found[_PIXEL_SPACING] = {"vr": "DS"}  # a viewer that scales by it shows nothing
    return msgspec.json.encode(found)


async def _array(pieces: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    separator = b"["
    async with aclosing(pieces):
        async for piece in pieces:
            yield separator + piece
            separator = b","
    yield b"]"


async def _as_xml(
    request: web.Request, headers: dict[str, str], pieces: AsyncGenerator[bytes, None]
) -> web.StreamResponse:
    multipart = Multipart()
    head: dict[str, str] = {hdrs.CONTENT_TYPE: XML}

    async def parts() -> AsyncGenerator[Part, None]:
        async with aclosing(pieces):
            async for piece in pieces:
                documents = await asyncio.to_thread(_documents, piece)
                for each in documents:
                    yield Part(headers=head, chunks=once(each))

    headers[hdrs.CONTENT_TYPE] = multipart.content_type(XML)
    return await send(request, multipart.body(parts()), headers)


def _documents(piece: bytes) -> list[bytes]:
    return [native_xml.document(each) for each in msgspec.json.decode(b"[" + piece + b"]")]
