# SPDX-License-Identifier: Apache-2.0
"""Objects that are no ordinary pictures: PDF, reports, ECG, sound, video, and what states say.

HTML and SVG are made by us and escaped; even so they are answered with a policy of their own, under
which nothing in them could run, load or send anything.
"""

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final

from aiohttp import hdrs, web

from scrigno.access.permissions import Permission
from scrigno.imaging.results import Document

from .pictures import PRIVATE, Pictures, answered, etag_of, known, seen_instance, unchanged
from .rooms import Rooms
from .routes import Route
from .shapes import LANGUAGE, Binary, Query, query_of
from .sight import looked

CHUNK_BYTES: Final = 1 << 20
# of our own pages and drawings: their inline style, and nothing else at all
CONTAINED: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox; "
    "frame-ancestors 'self'; base-uri 'none'; form-action 'none'"
)
# a browser's PDF viewer does not start in a sandbox
OF_PDF: Final = "default-src 'none'; object-src 'self'; style-src 'unsafe-inline'; " \
                "frame-ancestors 'self'; base-uri 'none'; form-action 'none'"  # fmt: skip
_MADE_BY_US: Final = frozenset({"text/html", "image/svg+xml"})
_PLAYED: Final = frozenset({"application/pdf", "audio/wav", "video/mp4", "video/mpeg",
                            "text/plain", *_MADE_BY_US})  # fmt: skip
_ENDINGS: Final = {
    "application/pdf": "pdf", "text/html": "html", "image/svg+xml": "svg", "audio/wav": "wav",
    "video/mp4": "mp4", "video/mpeg": "mpg", "video/mp2t": "ts", "text/plain": "txt",
    "model/stl": "stl", "model/obj": "obj", "model/mtl": "mtl", "video/h26x": "h26x",
}  # fmt: skip
_LANGUAGE: Final = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*")
DOWNLOAD: Final = Query("download", bool, default=False, about="As a file to keep")


class DocumentRoutes:
    """The handlers of this file; they share the pictures' way to the workers."""

    def __init__(self, pictures: Pictures) -> None:
        """Read objects as `pictures` does."""
        self._pictures = pictures

    async def get_document(self, request: web.Request, rooms: Rooms) -> Any:
        """Return the document that the object is; a part of it by Range."""
        instance = await seen_instance(request, rooms)
        looked(request, rooms, instance.study_instance_uid)
        language = query_of(request)["language"]
        if not _LANGUAGE.fullmatch(language):
            language = "en"
        etag = etag_of(instance, f"document-{language}")
        if known(request, etag):
            return unchanged(etag)
        source = self._pictures.source(instance)
        document = await self._pictures.imaging.document(
            source, key=instance.digest, language=language
        )
        with document:
            return await _sent(request, document, etag)

    async def get_presentation(self, request: web.Request, rooms: Rooms) -> Any:
        """Return what the object says about images, as JSON."""
        instance = await seen_instance(request, rooms)
        looked(request, rooms, instance.study_instance_uid)
        source = self._pictures.source(instance)
        return await self._pictures.imaging.presentation(source, key=instance.digest)

    async def get_attributes(self, request: web.Request, rooms: Rooms) -> Any:
        """Return every attribute of the object as it is stored (DICOM JSON)."""
        instance = await seen_instance(request, rooms)
        looked(request, rooms, instance.study_instance_uid)
        etag = etag_of(instance, "attributes")
        if known(request, etag):
            return unchanged(etag)
        source = self._pictures.source(instance)
        content = await self._pictures.imaging.metadata(source, bulk_uri=None, key=instance.digest)
        return answered(content, "application/dicom+json", etag)

    def routes(self) -> tuple[Route, ...]:
        """Return the routes of documents."""
        errors = ("not-found", "object-unavailable", "no-document", "decode-failed",
                  "decode-timeout", "imaging-busy", "not-dicom")  # fmt: skip
        return (
            Route(
                method="GET", path="/instances/{uid}/document", work=self.get_document,
                allowed=Permission.VIEW, answer=Binary, answers=tuple(sorted(_ENDINGS)),
                about="What an object without ordinary pictures shows: PDF, HTML, SVG, WAV, video",
                query=(LANGUAGE, DOWNLOAD), also=(206, 304, 416), errors=errors,
            ),
            Route(
                method="GET", path="/instances/{uid}/presentation", work=self.get_presentation,
                allowed=Permission.VIEW, errors=errors, answer=dict[str, Any],
                about="What a key object note, presentation state, RT structure or segmentation"
                      " says of images",
            ),
            Route(
                method="GET", path="/instances/{uid}/attributes", work=self.get_attributes,
                allowed=Permission.VIEW, answer=Binary, answers="application/dicom+json",
                about="Every attribute as it is stored; long binary values are left out",
                also=(304,), errors=errors,
            ),
        )  # fmt: skip


async def _sent(request: web.Request, document: Document, etag: str) -> web.StreamResponse:
    """Send it all, or the part that a Range asks for."""
    start, stop, status = _part(request, document.size, etag)
    response = web.StreamResponse(status=status)
    shown = document.content_type in _PLAYED and not query_of(request)["download"]
    ending = _ENDINGS.get(document.content_type, "bin")
    kind = "inline" if shown else "attachment"
    response.headers[hdrs.CONTENT_DISPOSITION] = f'{kind}; filename="document.{ending}"'
    response.headers[hdrs.CACHE_CONTROL] = PRIVATE
    response.headers[hdrs.ACCEPT_RANGES] = "bytes"
    policy = OF_PDF if document.content_type == "application/pdf" else CONTAINED
    response.headers["Content-Security-Policy"] = policy
    response.headers["X-Frame-Options"] = "SAMEORIGIN"
    response.headers["Scrigno-Document"] = document.kind
    response.content_type = document.content_type
    if document.content_type in _MADE_BY_US:
        response.charset = "utf-8"
    response.etag = etag
    if status == 416:
        response.headers[hdrs.CONTENT_RANGE] = f"bytes */{document.size}"
        response.content_length = 0
    else:
        response.content_length = stop - start
    if status == 206:
        response.headers[hdrs.CONTENT_RANGE] = f"bytes {start}-{stop - 1}/{document.size}"
    await response.prepare(request)
    if request.method != "HEAD":
        async with aclosing(_chunks(document, start, stop)) as chunks:
            async for chunk in chunks:
                await response.write(chunk)
    await response.write_eof()
    return response


def _part(request: web.Request, size: int, etag: str) -> tuple[int, int, int]:
    """Return where to begin and to stop, and the status (RFC 9110 section 14)."""
    condition = request.headers.get(hdrs.IF_RANGE)
    if condition is not None and condition.strip('"') != etag:
        return 0, size, 200
    try:
        asked = request.http_range
    except ValueError:
        return 0, size, 200  # what cannot be read is ignored
    if asked.start is None and asked.stop is None:
        return 0, size, 200
    start, stop, _ = asked.indices(size)
    return (start, stop, 206) if start < stop else (0, 0, 416)


async def _chunks(document: Document, start: int, stop: int) -> AsyncGenerator[bytes, None]:
    while start < stop:
        chunk = document.read(start, min(CHUNK_BYTES, stop - start))
        if not chunk:
            return
        start += len(chunk)
        yield chunk
