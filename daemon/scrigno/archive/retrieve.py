# SPDX-License-Identifier: Apache-2.0
"""Reading stored objects: the best healthy copy first, the next one inside the same request.

What leaves the box was received: the digest of reception is checked on the way, and the last
bytes are held back until it is known to be right. An object that fits one chunk is checked before
its first byte leaves, so that a damaged copy is passed over unnoticed; of a larger one the reader
sees the stream break instead of a whole but wrong object.
"""

import asyncio
import hashlib
import logging
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from scrigno.catalogue.records import StoredInstance
from scrigno.core.counters import Counters
from scrigno.imaging.errors import NotDicom
from scrigno.imaging.part10 import split
from scrigno.volumes.staging import Staging, StagingFailed
from scrigno.volumes.states import ErrorKind, VolumeError, VolumeState
from scrigno.volumes.volume import Volume, Volumes

from .errors import ObjectUnavailable

log = logging.getLogger(__name__)

CHUNK_BYTES: Final = 1 << 20
META_BYTES: Final = 64 << 10  # within which the data set of every file of ours begins

# best first; a volume in another state is not asked
_ORDER: Final = (
    VolumeState.ONLINE,
    VolumeState.SUSPECT,
    VolumeState.FULL,
    VolumeState.READONLY,
    VolumeState.RECOVERING,
)


@dataclass(frozen=True, slots=True)
class ObjectStream:
    """One object being read; iterate `chunks` (each at most 1 MiB) once, or `aclose` it."""

    transfer_syntax_uid: str
    size: int  # bytes that will come
    chunks: AsyncGenerator[bytes, None]


class Retrieval:
    """Reads objects from wherever they stand. Loop thread only."""

    def __init__(
        self,
        *,
        volumes: Volumes,
        staging: Staging,
        counters: Counters,
        on_suspect: Callable[[StoredInstance], None] = lambda instance: None,
    ) -> None:
        """`on_suspect` is told of an object one of whose copies turned out missing or damaged."""
        self._volumes = volumes
        self._staging = staging
        self._counters = counters
        self.on_suspect = on_suspect

    def open(self, instance: StoredInstance) -> ObjectStream:
        """Read the whole Part 10 file; iterating raises ObjectUnavailable when no copy is left."""
        return ObjectStream(instance.transfer_syntax_uid, instance.size, self._checked(instance))

    async def data_set(self, instance: StoredInstance) -> ObjectStream:
        """Read the data set alone, without preamble and file meta; raises ObjectUnavailable."""
        chunks = self._checked(instance)
        try:
            head = b""
            async for chunk in chunks:
                head += chunk
                if len(head) >= min(META_BYTES, instance.size):
                    break
            found = split(memoryview(head)[:META_BYTES])
        except NotDicom as error:
            await chunks.aclose()
            raise ObjectUnavailable(
                f"The stored file of {instance.sop_instance_uid} is no DICOM file."
            ) from error
        except BaseException:
            await chunks.aclose()
            raise
        return ObjectStream(
            found.transfer_syntax_uid,
            instance.size - found.data_offset,
            _resumed(head[found.data_offset :], chunks),
        )

    async def read(self, instance: StoredInstance, *, limit_bytes: int) -> bytes:
        """Read a whole Part 10 file into memory; raises ObjectUnavailable, also over the limit."""
        if instance.size > limit_bytes:
            raise ObjectUnavailable(
                f"The object has {instance.size} bytes, more than the {limit_bytes} allowed here."
            )
        return b"".join([chunk async for chunk in self._checked(instance)])

    async def memfd(self, instance: StoredInstance) -> int:
        """Return a memfd with the whole Part 10 file; the caller closes it.

        Raises ObjectUnavailable.
        """
        for volume in self._sources(instance):
            try:
                fd = await volume.read_memfd(instance.key)
            except VolumeError as error:
                self._failed(instance, volume, error)
                continue
            try:
                whole = await asyncio.to_thread(_digest_of, fd) == instance.digest
            except BaseException:
                os.close(fd)
                raise
            if whole:
                return fd
            os.close(fd)
            self._damaged(instance, volume.spec.name)
        fd = os.memfd_create("object", os.MFD_CLOEXEC)
        try:
            async for chunk in self._checked(instance):
                await self._staging.run(os.write, fd, chunk)
            await self._staging.run(os.lseek, fd, 0, os.SEEK_SET)
        except BaseException:
            os.close(fd)
            raise
        return fd

    # the way of the bytes ----------------------------------------------------------------------

    async def _checked(self, instance: StoredInstance) -> AsyncGenerator[bytes, None]:
        if instance.size <= CHUNK_BYTES:
            yield await self._small(instance)
            return
        digest = hashlib.sha256()
        held_back = b""
        async with aclosing(self._large(instance)) as chunks:
            async for chunk in chunks:
                digest.update(chunk)
                if held_back:
                    yield held_back
                held_back = chunk
        if digest.hexdigest() != instance.digest:
            self._damaged(instance, "some volume")
            raise ObjectUnavailable(
                f"A copy of {instance.sop_instance_uid} is damaged.",
                next_step="Ask again: its copies are being checked against each other.",
            )
        yield held_back

    async def _small(self, instance: StoredInstance) -> bytes:
        """Return an object of one chunk whose digest is right, from the first copy that has it."""
        for volume in self._sources(instance):
            try:
                chunks = [chunk async for chunk in volume.read(instance.key)]
            except VolumeError as error:
                self._failed(instance, volume, error)
                continue
            data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
            if hashlib.sha256(data).hexdigest() == instance.digest:
                return data
            self._damaged(instance, volume.spec.name)
        data = b"".join([chunk async for chunk in self._staged(instance, 0)])
        if hashlib.sha256(data).hexdigest() != instance.digest:
            raise self._unavailable(instance)
        return data

    async def _large(self, instance: StoredInstance) -> AsyncGenerator[bytes, None]:
        """Yield the bytes as they stand, going on with the next copy where one fails."""
        position = 0
        for volume in self._sources(instance):
            try:
                async with aclosing(volume.read(instance.key, position)) as chunks:
                    async for chunk in chunks:
                        part = chunk[: instance.size - position]
                        position += len(part)
                        yield part
            except VolumeError as error:
                self._failed(instance, volume, error)
            else:
                if position < instance.size:
                    self._damaged(instance, volume.spec.name)
            if position >= instance.size:
                return
        async with aclosing(self._staged(instance, position)) as staged:
            async for chunk in staged:
                yield chunk

    async def _staged(self, instance: StoredInstance, position: int) -> AsyncGenerator[bytes, None]:
        """Yield the bytes from `position` from staging, the last resort."""
        if instance.staged_as is None:
            raise self._unavailable(instance)
        try:
            sealed = await self._staging.open_entry(instance.staged_as)
        except StagingFailed as error:
            raise self._unavailable(instance) from error
        try:
            while position < instance.size:
                length = min(CHUNK_BYTES, instance.size - position)
                chunk = await sealed.read(position, length)
                if not chunk:
                    return
                position += len(chunk)
                yield chunk
        finally:
            sealed.close()

    def _unavailable(self, instance: StoredInstance) -> ObjectUnavailable:
        self._counters.add("retrieve_unavailable_objects")
        return ObjectUnavailable(
            f"No whole copy of {instance.sop_instance_uid} can be read now.",
            next_step="Bring the volumes back that hold it.",
        )

    def _sources(self, instance: StoredInstance) -> list[Volume]:
        held = set(instance.held_by())
        volumes = [
            volume
            for volume in self._volumes.ordered
            if volume.spec.name in held and volume.state in _ORDER
        ]
        return sorted(volumes, key=lambda volume: _ORDER.index(volume.state))

    def _failed(self, instance: StoredInstance, volume: Volume, error: VolumeError) -> None:
        self._counters.add("retrieve_failovers", volume=volume.spec.name, kind=error.kind)
        if error.kind is ErrorKind.MISSING:
            self._damaged(instance, volume.spec.name)

    def _damaged(self, instance: StoredInstance, volume: str) -> None:
        log.warning(
            "volume %s: copy of object %s is damaged or missing", volume, instance.sop_instance_uid
        )
        self._counters.add("retrieve_damaged_copies", volume=volume)
        self.on_suspect(instance)


def _digest_of(memory: int) -> str:
    digest, offset = hashlib.sha256(), 0
    while chunk := os.pread(memory, CHUNK_BYTES, offset):
        digest.update(chunk)
        offset += len(chunk)
    return digest.hexdigest()


async def _resumed(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    try:
        if first:
            yield first
        async for chunk in rest:
            yield chunk
    finally:
        await rest.aclose()
