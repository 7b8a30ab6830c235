# SPDX-License-Identifier: Apache-2.0
"""Answers that are larger than memory should hold: written as they are read, broken off on error.

`write` of aiohttp waits while the client does not read, so a slow one holds one chunk. What cannot
be ended right is cut: the connection closes before the announced length or the last chunk, which
every client takes for an error, never for a short success.
"""

import hashlib
import logging
import secrets
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from aiohttp import hdrs, web

from scrigno.core.errors import ScrignoError
from scrigno.web.errors import RequestRefused

log = logging.getLogger(__name__)

CACHING: Final = "private, no-cache"  # kept by the browser, asked about each time
STALL_S: Final = 120.0  # a reader that takes nothing for so long is gone


class BrokenStream(ScrignoError):
    """What an object holds does not come to its end."""

    code = "broken-stream"


class RangeNotSatisfiable(RequestRefused):
    """The range begins behind the end."""

    code = "range-not-satisfiable"


def etag_of(*parts: str) -> str:
    """Return a strong validator for what is made of these."""
    return f'"{hashlib.sha256("|".join(parts).encode()).hexdigest()[:32]}"'


def not_modified(request: web.Request, etag: str) -> web.Response | None:
    """Return 304 when the client has what it asks for (RFC 9110 section 13.1.2)."""
    said = request.headers.get(hdrs.IF_NONE_MATCH, "")
    known = {each.strip().removeprefix("W/") for each in said.split(",")}
    if etag in known or said.strip() == "*":
        return web.Response(status=304, headers=headers_of(etag))
    return None


def headers_of(etag: str) -> dict[str, str]:
    """Return the headers of what a client may keep and ask about."""
    return {
        hdrs.ETAG: etag,
        hdrs.CACHE_CONTROL: CACHING,
        hdrs.VARY: "Accept, Authorization, Cookie",
    }


@dataclass(frozen=True, slots=True)
class ByteRange:
    """A part of a representation, the end exclusive."""

    start: int
    end: int


def range_of(request: web.Request, size: int, etag: str) -> ByteRange | None:
    """Return the one range asked for, None for the whole (RFC 9110 section 14.2).

    Several ranges, and one of another version, are answered with the whole. Raises
    RangeNotSatisfiable.
    """
    text = request.headers.get(hdrs.RANGE, "")
    condition = request.headers.get(hdrs.IF_RANGE, "")
    if not text.startswith("bytes=") or "," in text or (condition and condition != etag):
        return None
    first, dash, last = text.removeprefix("bytes=").strip().partition("-")
    if not dash or not all(part.isascii() and part.isdigit() for part in (first, last) if part):
        return None
    if not first and not last:
        return None
    if not first:
        start, end = max(0, size - int(last[:20])), size
    else:
        start, end = int(first[:20]), min(size, int(last[:20]) + 1) if last else size
    if (
        start >= size
        or (last and first and int(last[:20]) < start)
        or (not first and not int(last))
    ):
        raise RangeNotSatisfiable(f"The range lies outside the {size} bytes that there are.")
    return ByteRange(start, end)


async def send(
    request: web.Request,
    chunks: AsyncGenerator[bytes, None],
    headers: Mapping[str, str],
    *,
    status: int = 200,
    length: int | None = None,
) -> web.StreamResponse:
    """Write chunks as they come; an error before the first one is raised, a later one cuts.

    The first chunk is waited for before the status goes out, so that what cannot be read at all
    is refused in words.
    """
    async with aclosing(chunks):
        first = b"" if request.method == "HEAD" else await anext(chunks, b"")
        response = web.StreamResponse(status=status, headers=headers)
        if length is not None:
            response.content_length = length
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        return await _rest(request, response, first, chunks, length)


async def _rest(
    request: web.Request,
    response: web.StreamResponse,
    first: bytes,
    rest: AsyncGenerator[bytes, None],
    length: int | None,
) -> web.StreamResponse:
    written = 0
    try:
        chunk = first
        while chunk:
            written += len(chunk)
            await response.write(chunk)
            chunk = await anext(rest, b"")
        if length is not None and written != length:
            raise BrokenStream(f"{written} of {length} bytes came.")
        await response.write_eof()
    except ScrignoError as error:
        log.warning("web: an answer was broken off: %s", error.reason)
        cut(request)
    except ConnectionError:
        cut(request)  # the client is gone; nothing is wrong here
    except BaseException:
        cut(request)
        raise
    return response


def cut(request: web.Request) -> None:
    """Close the connection without an end of the body."""
    if request.transport is not None:
        request.transport.abort()


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of a multipart answer; `size` is None when nobody knows before it is made."""

    headers: Mapping[str, str]
    chunks: AsyncGenerator[bytes, None]
    size: int | None = None


class Multipart:
    """A multipart/related body (RFC 2387) with a boundary of its own."""

    def __init__(self) -> None:
        """Choose a boundary."""
        self.boundary = f"scrigno-{secrets.token_hex(16)}"
        self.end = f"\r\n--{self.boundary}--\r\n".encode()

    def content_type(self, part_type: str) -> str:
        """Return the value of the Content-Type header."""
        return f'multipart/related; type="{part_type}"; boundary={self.boundary}'

    def head(self, headers: Mapping[str, str]) -> bytes:
        """Return the line of the boundary and the headers of a part."""
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"\r\n--{self.boundary}\r\n{lines}\r\n".encode()

    def length(self, parts: Iterable[tuple[Mapping[str, str], int]]) -> int:
        """Return the length of a body with parts of these headers and sizes."""
        return sum(len(self.head(headers)) + size for headers, size in parts) + len(self.end)

    async def body(self, parts: AsyncGenerator[Part, None]) -> AsyncGenerator[bytes, None]:
        """Yield the whole body; the parts are closed in any case."""
        async with aclosing(parts):
            async for part in parts:
                head = self.head(part.headers)
                async with aclosing(part.chunks):
                    async for chunk in part.chunks:
                        yield head + chunk if head else chunk
                        head = b""
                if head:
                    yield head
        yield self.end


async def once(content: bytes) -> AsyncGenerator[bytes, None]:
    """Yield one piece."""
    yield content
