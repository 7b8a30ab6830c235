# SPDX-License-Identifier: Apache-2.0
"""Reading stored objects: the best healthy copy first, the next one inside the same request.

A copy that fails is followed by the next at once; one that is silent for HEDGE_S is joined by all
others, and the first whole, right one wins. A large object goes on with the next copy where the
silent one stopped.

What leaves the box was received: the digest of reception is checked on the way, and the last
bytes are held back until it is known to be right. An object that fits one chunk is checked before
its first byte leaves, so that a damaged copy is passed over unnoticed; of a larger one the reader
sees the stream break instead of a whole but wrong object.
"""

import asyncio
import hashlib
import logging
import os
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, TypeVar

from scrigno.catalogue.records import StoredInstance
from scrigno.core.counters import Counters
from scrigno.core.errors import ScrignoError
from scrigno.imaging.errors import NotDicom
from scrigno.imaging.part10 import split
from scrigno.volumes.staging import Staging, StagingFailed, StagingFull
from scrigno.volumes.states import ErrorKind, VolumeError, VolumeState
from scrigno.volumes.volume import Volume, Volumes

from .errors import ObjectUnavailable

log = logging.getLogger(__name__)

T = TypeVar("T")

HEDGE_S: Final = 1.5  # for the next bytes of a copy; a disk that wakes up needs longer
SLOW_BYTES_PER_S: Final = 20 << 20  # what a copy that is read in one piece is granted besides
MEMORY_FILE_BYTES: Final = 1 << 30  # a volume hands over this much in one piece
CHUNK_BYTES: Final = 1 << 20
META_BYTES: Final = 64 << 10  # within which the data set of every file of ours begins

# best first; a volume in another state is not asked
_ORDER: Final = (
    VolumeState.ONLINE,
    VolumeState.FULL,
    VolumeState.READONLY,
    VolumeState.SUSPECT,
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
        anew: Callable[[str], Awaitable[StoredInstance | None]] | None = None,
    ) -> None:
        """`on_suspect` is told of an object one of whose copies turned out missing or damaged.

        `anew` tells where an object stands by now: a long retrieval knows where it stood when it
        began, and meanwhile other volumes have their copies and staging let it go.
        """
        self._anew = anew
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
        if instance.size <= MEMORY_FILE_BYTES:
            patience_s = HEDGE_S + instance.size / SLOW_BYTES_PER_S
            fd = await self._best(
                instance, self._memfd_of, self._memfd_of_staging, patience_s, os.close
            )
            if fd is not None:
                return fd
            raise self._unavailable(instance)
        return await _memory_file(self._checked(instance))

    async def _memfd_of(self, instance: StoredInstance, volume: Volume) -> int | None:
        """Return a memfd with one copy, None when that is not whole and right."""
        try:
            fd = await volume.read_memfd(instance.key)
        except VolumeError as error:
            self._failed(instance, volume, error)
            return None
        try:
            whole = await asyncio.to_thread(_digest_of, fd) == instance.digest
        except BaseException:
            os.close(fd)
            raise
        if whole:
            return fd
        os.close(fd)
        self._damaged(instance, volume.spec.name)
        return None

    async def _memfd_of_staging(self, instance: StoredInstance) -> int | None:
        try:
            fd = await _memory_file(self._staged(instance, 0))
        except ObjectUnavailable:
            return None
        if await asyncio.to_thread(_digest_of, fd) == instance.digest:
            return fd
        os.close(fd)
        return None

    # which copy --------------------------------------------------------------------------------

    async def _best(
        self,
        instance: StoredInstance,
        fetch: Callable[[StoredInstance, Volume], Coroutine[None, None, T | None]],
        from_staging: Callable[[StoredInstance], Coroutine[None, None, T | None]],
        patience_s: float,
        drop: Callable[[T], None] = lambda _: None,
    ) -> T | None:
        """Return what the first copy gives that is right; None when none is.

        While copies answer they are asked one after the other, staging last. One that is silent is
        asked again beside all others, and `drop` is given what comes second.
        """
        tried: set[Volume] = set()
        for volume in self._sources(instance):
            tried.add(volume)
            try:
                async with asyncio.timeout(patience_s):
                    found = await fetch(instance, volume)
            except TimeoutError:
                self._silent(volume)
                instance = await self._as_it_stands(instance)
                others = [each for each in self._sources(instance) if each not in tried]
                rest = [fetch(instance, each) for each in (*others, volume)]
                if instance.staged_as is not None:
                    rest.append(from_staging(instance))
                first = await _first(rest, drop)
                found = first
                tried.update(others)
                break
            if found is not None:
                return found
        else:
            found = await from_staging(instance) if instance.staged_as is not None else None
        if found is not None:
            return found
        instance = await self._as_it_stands(instance)
        late = [fetch(instance, each) for each in self._sources(instance) if each not in tried]
        if not late:
            return None
        return await _first(late, drop)

    async def _as_it_stands(self, instance: StoredInstance) -> StoredInstance:
        """Return the row of the object as it is now; the one given when it cannot be had."""
        if self._anew is None:
            return instance
        try:
            fresh = await self._anew(instance.sop_instance_uid)
        except ScrignoError:
            return instance  # the index is away: what was known must do
        same = fresh is not None and fresh.digest == instance.digest
        return fresh if fresh is not None and same else instance

    def _silent(self, volume: Volume) -> None:
        self._counters.add("retrieve_failovers", volume=volume.spec.name, kind="silent")

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
        data = await self._best(instance, self._bytes_of, self._bytes_of_staging, HEDGE_S)
        if data is None:
            raise self._unavailable(instance)
        return data

    async def _bytes_of_staging(self, instance: StoredInstance) -> bytes | None:
        try:
            data = b"".join([chunk async for chunk in self._staged(instance, 0)])
        except ObjectUnavailable:
            return None
        return data if hashlib.sha256(data).hexdigest() == instance.digest else None

    async def _bytes_of(self, instance: StoredInstance, volume: Volume) -> bytes | None:
        """Return one copy of an object of one chunk, None when that is not whole and right."""
        try:
            chunks = [chunk async for chunk in volume.read(instance.key)]
        except VolumeError as error:
            self._failed(instance, volume, error)
            return None
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        if hashlib.sha256(data).hexdigest() == instance.digest:
            return data
        self._damaged(instance, volume.spec.name)
        return None

    async def _large(self, instance: StoredInstance) -> AsyncGenerator[bytes, None]:
        """Yield the bytes as they stand, going on with the next copy where one fails or is silent.

        A silent one comes again after all others, staging too, and is waited for then.
        """
        position = 0
        waiting: deque[Volume | None] = deque(self._sources(instance))
        silent: set[Volume] = set()
        tried = set(self._sources(instance))
        if instance.staged_as is not None:
            waiting.append(None)  # staging
        while waiting:
            volume = waiting.popleft()
            hedged = volume not in silent and bool(waiting)
            if volume is None:
                chunks = self._staged(instance, position)
            else:
                chunks = volume.read(instance.key, position)
            try:
                async with aclosing(_patient(chunks, HEDGE_S if hedged else None)) as patient:
                    async for chunk in patient:
                        part = chunk[: instance.size - position]
                        position += len(part)
                        yield part
            except (TimeoutError, VolumeError, ObjectUnavailable) as error:
                if volume is not None and self._comes_again(instance, volume, error):
                    silent.add(volume)
                    waiting.append(volume)
            else:
                if position < instance.size and volume is not None:
                    self._damaged(instance, volume.spec.name)
            if position >= instance.size:
                return
            if not waiting:
                fresh = self._sources(await self._as_it_stands(instance))
                waiting.extend(each for each in fresh if each not in tried)
                tried.update(fresh)
        raise self._unavailable(instance)

    def _comes_again(self, instance: StoredInstance, volume: Volume, error: Exception) -> bool:
        """Tell whether a copy that gave nothing may yet do so: it was only silent."""
        if isinstance(error, VolumeError):
            self._failed(instance, volume, error)
            return False
        self._silent(volume)
        return True

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
                try:
                    chunk = await sealed.read(position, length)
                except (StagingFailed, StagingFull) as error:
                    raise self._unavailable(instance) from error
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


async def _first(
    fetches: Sequence[Coroutine[None, None, T | None]], drop: Callable[[T], None]
) -> T | None:
    """Return the first answer that is one, with all of them under way at once."""
    running = {asyncio.ensure_future(fetch) for fetch in fetches}
    found: T | None = None
    try:
        while running and found is None:
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                answer = task.result()
                if found is None:
                    found = answer
                elif answer is not None:
                    drop(answer)
    finally:
        for task in running:
            task.cancel()
        for late in await asyncio.gather(*running, return_exceptions=True):
            if late is not None and not isinstance(late, BaseException):
                drop(late)
    return found


async def _patient(
    chunks: AsyncGenerator[bytes, None], patience_s: float | None
) -> AsyncGenerator[bytes, None]:
    """Yield the chunks; raises TimeoutError when one of them does not come in time."""
    async with aclosing(chunks):
        while True:
            async with asyncio.timeout(patience_s):
                chunk = await anext(chunks, b"")
            if not chunk:
                return
            yield chunk


async def _memory_file(chunks: AsyncGenerator[bytes, None]) -> int:
    """Return a memfd with these bytes, at its beginning; the caller closes it."""
    fd = os.memfd_create("object", os.MFD_CLOEXEC)
    try:
        async with aclosing(chunks):
            async for chunk in chunks:
                await asyncio.to_thread(os.write, fd, chunk)
        os.lseek(fd, 0, os.SEEK_SET)  # memory: nothing here can wait for a disk
    except BaseException:
        os.close(fd)
        raise
    return fd


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
