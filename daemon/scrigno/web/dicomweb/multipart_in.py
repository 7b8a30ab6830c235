# SPDX-License-Identifier: Apache-2.0
"""The parts of a request, read as they come: capped, timed, nothing unpacked."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from aiohttp import BodyPartReader, MultipartReader, hdrs, web
from aiohttp.http_exceptions import HttpProcessingError

from scrigno.web.errors import RequestRefused

MOST_PARTS: Final = 100_000
CHUNK_BYTES: Final = 256 << 10
PATIENCE_S: Final = 60.0  # for the next bytes of a client
_IDENTITY: Final = frozenset({"", "identity", "binary", "8bit", "7bit"})


class BadMultipart(RequestRefused):
    """The body is not the multipart/related that its header announces, or ends too early."""

    code = "bad-multipart"


class ClientTooSlow(RequestRefused):
    """The client sent nothing for a minute."""

    code = "client-too-slow"


class UnsupportedMedia(RequestRefused):
    """The body is of a media type, or packed in a way, that is not taken."""

    code = "unsupported-media-type"


@dataclass(frozen=True, slots=True, kw_only=True)
class PartIn:
    """One part; `chunks` is read to its end or closed before the next part is asked for."""

    media: str
    parameters: dict[str, str]
    location: str
    chunks: AsyncGenerator[bytes, None]


async def parts_of(request: web.Request) -> AsyncGenerator[PartIn, None]:
    """Yield the parts; raises BadMultipart, ClientTooSlow, UnsupportedMedia.

    Parts inside parts and packed parts are refused: a small body must not become a large one.
    """
    try:
        reader = MultipartReader(request.headers, request.content)
    except (ValueError, AssertionError) as error:
        raise BadMultipart("The multipart/related has no usable boundary.") from error
    count = 0
    while (part := await _next(reader)) is not None:
        count += 1
        if count > MOST_PARTS:
            raise BadMultipart(f"A request may have {MOST_PARTS} parts.")
        if isinstance(part, MultipartReader):
            raise UnsupportedMedia("Parts inside of parts are not taken.")
        for name in (hdrs.CONTENT_ENCODING, hdrs.CONTENT_TRANSFER_ENCODING):
            if part.headers.get(name, "").lower() not in _IDENTITY:
                raise UnsupportedMedia(f"Parts with a {name} are not taken.")
        media, parameters = media_type(part.headers.get(hdrs.CONTENT_TYPE, ""))
        chunks = _chunks(part)
        yield PartIn(
            media=media,
            parameters=parameters,
            location=part.headers.get(hdrs.CONTENT_LOCATION, "")[:4096].strip(),
            chunks=chunks,
        )
        async with aclosing(chunks):
            async for _ in chunks:
                pass  # what the reader left
    if not count:
        raise BadMultipart("The request has no parts.")


async def _next(reader: MultipartReader) -> BodyPartReader | MultipartReader | None:
    try:
        async with asyncio.timeout(PATIENCE_S):
            return await reader.next()
    except TimeoutError as error:
        raise ClientTooSlow("Nothing came for a minute.") from error
    except (ValueError, AssertionError, HttpProcessingError, RuntimeError) as error:
        raise BadMultipart("The parts of the request cannot be told apart.") from error


async def _chunks(part: BodyPartReader) -> AsyncGenerator[bytes, None]:
    while not part.at_eof():
        try:
            async with asyncio.timeout(PATIENCE_S):
                chunk = await part.read_chunk(CHUNK_BYTES)
        except TimeoutError as error:
            raise ClientTooSlow("Nothing came for a minute.") from error
        except (ValueError, AssertionError, HttpProcessingError) as error:
            raise BadMultipart("A part of the request does not come to its end.") from error
        if chunk:
            yield chunk


async def whole_body(request: web.Request) -> AsyncGenerator[bytes, None]:
    """Yield a body that is one object."""
    while True:
        try:
            async with asyncio.timeout(PATIENCE_S):
                chunk = await request.content.readany()
        except TimeoutError as error:
            raise ClientTooSlow("Nothing came for a minute.") from error
        if not chunk:
            return
        yield chunk


def media_type(text: str) -> tuple[str, dict[str, str]]:
    """Return a media type in lower case and its parameters."""
    media, *parameters = text[:1024].split(";")
    named = (each.partition("=") for each in parameters)
    return media.strip().lower(), {
        name.strip().lower(): value.strip().strip('"') for name, _, value in named
    }
