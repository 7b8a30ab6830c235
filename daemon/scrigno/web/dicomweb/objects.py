# SPDX-License-Identifier: Apache-2.0
"""Whole objects on their way out: as stored, or in the transfer syntax that was asked for."""

import asyncio
import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from scrigno.catalogue.records import StoredInstance
from scrigno.imaging.dataset import EXPLICIT_LE
from scrigno.imaging.errors import ImagingClosed, ImagingError
from scrigno.web.rooms import Rooms

from .media import AS_STORED, DICOM, Range
from .syntaxes import NATIVE

CHUNK_BYTES: Final = 1 << 20
AHEAD: Final = 2  # chunks read while the one before is on its way


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """One object and its transfer syntax; `lenient`: as stored when it cannot be converted."""

    instance: StoredInstance
    transfer_syntax_uid: str
    lenient: bool = False

    @property
    def as_stored(self) -> bool:
        """Tell whether its bytes leave as they came."""
        return self.transfer_syntax_uid == self.instance.transfer_syntax_uid

    def content_type(self) -> str:
        """Return the media type of the object."""
        return f"{DICOM}; transfer-syntax={self.transfer_syntax_uid}"


def outgoing(instance: StoredInstance, ranges: Sequence[Range]) -> Outgoing | None:
    """Return how an object leaves by the first range that is possible, None by none of them.

    Without a transfer syntax Explicit VR Little Endian is meant (PS3.18 section 8.7.3.5.2).
    """
    stored = instance.transfer_syntax_uid
    for range_ in ranges:
        wanted = range_.transfer_syntax
        if wanted in (AS_STORED, stored):
            return Outgoing(instance=instance, transfer_syntax_uid=stored)
        if not wanted:
            return Outgoing(instance=instance, transfer_syntax_uid=EXPLICIT_LE, lenient=True)
        if wanted in NATIVE:
            return Outgoing(instance=instance, transfer_syntax_uid=wanted)
    return None


async def chunks_of(rooms: Rooms, each: Outgoing) -> AsyncGenerator[bytes, None]:
    """Yield the Part 10 file; raises ObjectUnavailable, ImagingError."""
    if each.as_stored:
        async with aclosing(rooms.retrieval.open(each.instance).chunks) as chunks:
            async for chunk in chunks:
                yield chunk
        return
    try:
        made = await _converted(rooms, each)
    except ImagingClosed:
        raise
    except ImagingError:
        if not each.lenient:
            raise
        async with aclosing(rooms.retrieval.open(each.instance).chunks) as chunks:
            async for chunk in chunks:
                yield chunk
        return
    try:
        offset = 0
        while chunk := os.pread(made, CHUNK_BYTES, offset):  # memory: it waits for no disk
            offset += len(chunk)
            yield chunk
    finally:
        os.close(made)


async def _converted(rooms: Rooms, each: Outgoing) -> int:
    """Return a memory file with the object in its new syntax; the caller closes it."""
    source = await rooms.retrieval.memfd(each.instance)
    try:
        with await rooms.imaging.transcode(
            source, to_transfer_syntax=each.transfer_syntax_uid
        ) as made:
            return os.dup(made.fd)
    finally:
        os.close(source)


async def read_ahead(chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """Yield the same, with a little read while the reader is busy; errors come in their place."""
    queue: asyncio.Queue[bytes | BaseException | None] = asyncio.Queue(AHEAD)

    async def fill() -> None:
        try:
            async with aclosing(chunks):
                async for chunk in chunks:
                    await queue.put(chunk)
            await queue.put(None)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - raised again where it is read
            await queue.put(error)

    filling = asyncio.create_task(fill())
    try:
        while True:
            found = await queue.get()
            if found is None:
                return
            if isinstance(found, BaseException):
                raise found
            yield found
    finally:
        filling.cancel()
        await asyncio.gather(filling, return_exceptions=True)
