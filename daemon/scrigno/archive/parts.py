# SPDX-License-Identifier: Apache-2.0
"""Parts of stored objects: one frame of a large object without the rest of it.

A part cannot be held against the digest of the whole. It is taken from a volume that is ONLINE,
whose copies the scrub reads against their digests; when none gives it, the whole object is read
from wherever it stands, checked, and the part cut out of that.
"""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from scrigno.catalogue.records import StoredInstance
from scrigno.core.counters import Counters
from scrigno.volumes.states import ErrorKind, VolumeError, VolumeState
from scrigno.volumes.volume import Volume, Volumes

from .errors import ObjectUnavailable
from .retrieve import CHUNK_BYTES, HEDGE_S, Retrieval

MAX_PART_BYTES: Final = 512 << 20  # that is handed over in one piece


class Parts:
    """Reads parts of objects. Loop thread only."""

    def __init__(self, *, retrieval: Retrieval, volumes: Volumes, counters: Counters) -> None:
        """Fall back on `retrieval`."""
        self._retrieval = retrieval
        self._volumes = volumes
        self._counters = counters

    async def read(self, instance: StoredInstance, offset: int, length: int) -> bytes:
        """Return the bytes from `offset`, fewer only at the end of the file.

        Raises ObjectUnavailable.
        """
        if length > MAX_PART_BYTES:
            raise ObjectUnavailable(f"A part of {length} bytes is more than is read at once.")
        async with aclosing(self.stream(instance, offset, length)) as chunks:
            parts = [chunk async for chunk in chunks]
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def stream(
        self, instance: StoredInstance, offset: int, length: int
    ) -> AsyncGenerator[bytes, None]:
        """Yield a part in chunks of at most 1 MiB, going on elsewhere where a copy fails.

        Raises ObjectUnavailable when iterated.
        """
        end = min(offset + length, instance.size)
        for volume in self._online(instance):
            try:
                async with aclosing(volume.read(instance.key, offset, end - offset)) as chunks:
                    while offset < end:
                        async with asyncio.timeout(HEDGE_S):
                            chunk = await anext(chunks, b"")
                        if not chunk:
                            break
                        offset += len(chunk)
                        yield chunk
            except TimeoutError:
                self._counters.add("retrieve_failovers", volume=volume.spec.name, kind="silent")
            except VolumeError as error:
                self._counters.add("retrieve_failovers", volume=volume.spec.name, kind=error.kind)
                if error.kind is ErrorKind.MISSING:
                    self._retrieval.on_suspect(instance)
            else:
                if offset < end:  # shorter than it was received
                    self._retrieval.on_suspect(instance)
            if offset >= end:
                return
        async with aclosing(self._of_whole(instance, offset, end)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def _of_whole(
        self, instance: StoredInstance, offset: int, end: int
    ) -> AsyncGenerator[bytes, None]:
        """Yield a part of the object that was read and checked as a whole."""
        if offset >= end:
            return
        memory = await self._retrieval.memfd(instance)
        try:
            while offset < end:
                # memory: nothing here can wait for a disk
                chunk = os.pread(memory, min(CHUNK_BYTES, end - offset), offset)
                if not chunk:
                    return
                offset += len(chunk)
                yield chunk
        finally:
            os.close(memory)

    def _online(self, instance: StoredInstance) -> list[Volume]:
        held = set(instance.held_by())
        return [
            volume
            for volume in self._volumes.ordered
            if volume.spec.name in held and volume.state is VolumeState.ONLINE
        ]
