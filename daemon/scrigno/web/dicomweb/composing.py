# SPDX-License-Identifier: Apache-2.0
"""Metadata and bulk data of a STOW-RS request, kept in memory files until objects are made of them.

A memory file counts against the machine's memory, so all of a request together is capped.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final, Self
from urllib.parse import urlsplit

import msgspec

from scrigno.core.errors import ScrignoError
from scrigno.imaging.errors import ImagingClosed, ImagingError
from scrigno.imaging.protocol import seal
from scrigno.web.errors import BodyTooLarge
from scrigno.web.rooms import Rooms

from .media import JSON, XML
from .multipart_in import BadMultipart, PartIn

MOST_METADATA_BYTES: Final = 64 << 20
MOST_BYTES: Final = 1 << 30
MOST_OBJECTS: Final = 10_000
MOST_DEPTH: Final = 64
CHUNK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    start: int
    length: int
    media: str
    transfer_syntax: str


class Composing:
    """The parts of one request."""

    def __init__(self, rooms: Rooms) -> None:
        """Make objects in the imaging workers of `rooms`."""
        self._rooms = rooms
        self._memory = -1
        self._size = 0
        self._places: dict[str, _Place] = {}
        self._datasets: list[dict[str, Any]] = []
        self._documents: list[str] = []

    async def __aenter__(self) -> Self:
        """Begin."""
        self._memory = os.memfd_create("stow-bulk", os.MFD_CLOEXEC)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Let the memory go."""
        os.close(self._memory)

    async def add(self, part: PartIn) -> None:
        """Keep one part; raises BadMultipart, BodyTooLarge."""
        if part.media in (JSON, "application/json", XML, "text/xml"):
            await self._add_metadata(part)
            return
        start = self._size
        async with aclosing(part.chunks):
            async for chunk in part.chunks:
                if self._size + len(chunk) > MOST_BYTES:
                    raise BodyTooLarge(f"Bulk data of a request may have {MOST_BYTES} bytes.")
                self._size += os.pwrite(self._memory, chunk, self._size)
        self._places[_address(part.location)] = _Place(
            start=start,
            length=self._size - start,
            media=part.media,
            transfer_syntax=part.parameters.get("transfer-syntax", ""),
        )

    async def _add_metadata(self, part: PartIn) -> None:
        content = bytearray()
        async with aclosing(part.chunks):
            async for chunk in part.chunks:
                content += chunk
                if len(content) > MOST_METADATA_BYTES:
                    raise BodyTooLarge(f"Metadata may have {MOST_METADATA_BYTES} bytes.")
        if part.media in (XML, "text/xml"):
            try:
                self._documents.append(content.decode())
            except UnicodeDecodeError as error:
                raise BadMultipart("The XML metadata are not in UTF-8.") from error
        else:
            self._datasets += await asyncio.to_thread(_datasets, bytes(content))
        if len(self._datasets) + len(self._documents) > MOST_OBJECTS:
            raise BodyTooLarge(f"A request may have metadata of {MOST_OBJECTS} objects.")

    async def objects(self) -> AsyncGenerator[AsyncGenerator[bytes, None] | ScrignoError, None]:
        """Yield each object as a Part 10 file, or why it cannot be made."""
        if not self._datasets and not self._documents:
            raise BadMultipart("The request has no metadata.")
        for said in self._said():
            try:
                yield _read(await self._made(said))
            except ImagingClosed:
                raise
            except ImagingError as error:
                yield error

    def _said(self) -> Iterator[tuple[dict[str, Any], set[str] | None]]:
        for dataset in self._datasets:
            yield {"dataset": dataset}, set(_addresses(dataset, 0))
        for document in self._documents:
            yield {"xml": document}, None  # which ones it names is told by the worker alone

    async def _made(self, said: tuple[dict[str, Any], set[str] | None]) -> int:
        """Return a memory file with the object; the caller closes it."""
        message, wanted = said
        source = await asyncio.to_thread(self._container, message, wanted)
        try:
            with await self._rooms.imaging.compose(source) as made:
                return os.dup(made.fd)
        finally:
            os.close(source)

    def _container(self, message: dict[str, Any], wanted: set[str] | None) -> int:
        """Write what `jobs_dicomweb` reads: a length, a JSON text, the bulk data. In a thread."""
        places: dict[str, Any] = {}
        pieces: list[_Place] = []
        start = 0
        for address, place in self._places.items():
            if wanted is None or address in {_address(each) for each in wanted}:
                entry = {"start": start, "length": place.length, "type": place.media,
                         "transfer_syntax": place.transfer_syntax}  # fmt: skip
                places[address] = entry
                for each in wanted or ():
                    if _address(each) == address:
                        places[each] = entry
                pieces.append(place)
                start += place.length
        text = msgspec.json.encode({**message, "bulk": places})
        target = os.memfd_create("stow-object", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.write(target, len(text).to_bytes(8, "little") + text)
            for place in pieces:
                _copy(self._memory, place.start, place.length, target)
            seal(target)
        except BaseException:
            os.close(target)
            raise
        return target


def _copy(source: int, start: int, length: int, target: int) -> None:
    for offset in range(start, start + length, CHUNK_BYTES):
        os.write(target, os.pread(source, min(CHUNK_BYTES, start + length - offset), offset))


def _datasets(content: bytes) -> list[dict[str, Any]]:
    try:
        found = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadMultipart("The metadata are not JSON.") from error
    found = found if isinstance(found, list) else [found]
    if not all(isinstance(each, dict) for each in found):
        raise BadMultipart("The metadata must be an array of data sets.")
    return list(found)


def _addresses(dataset: Any, depth: int) -> Iterator[str]:
    """Yield every address of bulk data in a data set."""
    if depth > MOST_DEPTH or not isinstance(dataset, dict):
        return
    for element in dataset.values():
        if isinstance(element, dict):
            uri = element.get("BulkDataURI")
            if isinstance(uri, str):
                yield uri
            for item in element.get("Value") or () if element.get("vr") == "SQ" else ():
                yield from _addresses(item, depth + 1)


def _address(uri: str) -> str:
    """Return what of an address counts: clients write it absolute here and relative there."""
    parts = urlsplit(uri)
    return parts.path.lstrip("/") + (f"?{parts.query}" if parts.query else "") or uri


async def _read(memory: int) -> AsyncGenerator[bytes, None]:
    try:
        offset = 0
        while chunk := os.pread(memory, CHUNK_BYTES, offset):  # memory: it waits for no disk
            offset += len(chunk)
            yield chunk
    finally:
        os.close(memory)
