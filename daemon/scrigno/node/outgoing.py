# SPDX-License-Identifier: Apache-2.0
"""Stored objects on their way out: as stored where the peer takes that, else transcoded.

The archive compares what it reads with the digest of reception and holds the last bytes back
until that is right: a peer gets the object that was sent to us or none, never a damaged one.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Final

from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from scrigno.archive.retrieve import Retrieval
from scrigno.catalogue.records import StoredInstance
from scrigno.imaging.workers import ImagingPool

# A data set up to this size is read to its end before its first byte leaves, so that a damaged
# copy costs one sub-operation; of a larger one it costs the association (a message that was begun
# cannot be taken back). Bounds the memory of a retrieval, which has two objects in hand.
WHOLE_FIRST_BYTES: Final = 4 << 20
CHUNK_BYTES: Final = 1 << 20

# What an object can be transcoded to, best first: nothing is lost in any of them.
TRANSCODE_TARGETS: Final = (
    str(ExplicitVRLittleEndian),
    str(ImplicitVRLittleEndian),
    str(ExplicitVRBigEndian),
    str(DeflatedExplicitVRLittleEndian),
)


class Outgoing:
    """Reads objects for sending."""

    def __init__(self, retrieval: Retrieval, imaging: ImagingPool) -> None:
        """Read through `retrieval`, transcode in `imaging`."""
        self._retrieval = retrieval
        self._imaging = imaging

    def data_set(
        self, instance: StoredInstance, transfer_syntax: str
    ) -> AsyncGenerator[bytes, None]:
        """Yield the data set in this transfer syntax, chunk by chunk.

        Iterating raises ObjectUnavailable or an ImagingError; for objects up to
        `WHOLE_FIRST_BYTES`, and for transcoded ones, before the first chunk.
        """
        if transfer_syntax == instance.transfer_syntax_uid:
            return self._as_stored(instance)
        return self._transcoded(instance, transfer_syntax)

    async def _as_stored(self, instance: StoredInstance) -> AsyncGenerator[bytes, None]:
        stream = await self._retrieval.data_set(instance)
        async with aclosing(stream.chunks) as chunks:
            if stream.size <= WHOLE_FIRST_BYTES:
                for chunk in [chunk async for chunk in chunks]:
                    yield chunk
                return
            async for chunk in chunks:
                yield chunk

    async def _transcoded(
        self, instance: StoredInstance, transfer_syntax: str
    ) -> AsyncGenerator[bytes, None]:
        source = os.memfd_create("scrigno-transcode", os.MFD_CLOEXEC)
        try:
            async with aclosing(self._retrieval.open(instance).chunks) as chunks:
                async for chunk in chunks:
                    await asyncio.to_thread(_append, source, chunk)
            made = await self._imaging.transcode(source, to_transfer_syntax=transfer_syntax)
        finally:
            os.close(source)
        try:
            for offset in range(made.data_offset, made.size, CHUNK_BYTES):
                length = min(CHUNK_BYTES, made.size - offset)
                yield await asyncio.to_thread(os.pread, made.fd, length, offset)
        finally:
            made.close()


def _append(fd: int, chunk: bytes) -> None:
    """Write all of `chunk`; a write of more than 2 GiB may be partial, a smaller one never is."""
    left = memoryview(chunk)
    while left:
        left = left[os.write(fd, left) :]


def targets(instance: StoredInstance) -> Sequence[str]:
    """Return the transfer syntaxes an object may be sent in, best first."""
    stored = instance.transfer_syntax_uid
    return (stored, *(each for each in TRANSCODE_TARGETS if each != stored))
