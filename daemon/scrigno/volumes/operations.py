# SPDX-License-Identifier: Apache-2.0
"""One volume as the rest of the daemon sees it: its operations, done by its worker."""

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from scrigno.core.counters import Counters

from .files import full_below
from .link import Posted, Reply, WorkerDiedError, WorkerLink
from .protocol import MAX_CHUNK, PUT, PUT_DONE, Op, Put, Space, pack, unpack
from .states import (
    READABLE_STATES,
    ErrorKind,
    PutOutcome,
    PutResult,
    VolumeError,
    VolumeSpec,
    VolumeState,
    VolumeStatus,
)

if TYPE_CHECKING:
    from datetime import datetime

SCAN_AHEAD: Final = 4  # objects asked for at once; the worker reads two at a time
STEP_BYTES: Final = 16 << 20  # of a large object that is read for nobody who waits
HEAD_LIMIT: Final = 256 << 10
MEMORY_LIMIT: Final = 1 << 30
REVIVAL_S: Final = 5.0  # how long a request waits for a new worker when the old one died
_KIND_OF_STATE: Final = {
    VolumeState.ABSENT: ErrorKind.ABSENT,
    VolumeState.FOREIGN: ErrorKind.FOREIGN,
}


@dataclass(frozen=True, slots=True)
class Scanned:
    """One object met by `Volume.scan`; digest is None when it could not be read whole."""

    key: str
    size: int
    digest: str | None
    head: bytes


@dataclass(frozen=True, slots=True)
class Checked:
    """An object as it is on the disk now; `beside` is the digest kept beside it, if any."""

    digest: str
    size: int
    beside: str | None


class Volume:
    """One volume. Loop thread only; every operation raises VolumeError.

    The state is changed by the warden that looks after it (see `warden`), at once when an
    operation fails; operations only need `link` and tell `doubt`.
    """

    def __init__(self, spec: VolumeSpec, counters: Counters) -> None:
        """Start as STARTING, with no worker."""
        self.spec = spec
        self.state = VolumeState.STARTING
        self.reason = ""
        self.uuid: str | None = None
        self.device: int | None = None
        self.generation = 0
        self.total_bytes: int | None = None
        self.free_bytes: int | None = None
        self.total_inodes: int | None = None  # 0: the file system makes them as it needs them
        self.free_inodes: int | None = None
        self.devices: frozenset[str] = frozenset()  # physical disks, `dev:ST_DEV` until known
        self.paused = False
        self.retired = False
        self.operator_reason = ""  # why it is paused
        self.since_s = asyncio.get_running_loop().time()  # of the state, monotonic
        self.since: datetime | None = None
        self.link: WorkerLink | None = None
        self.served = asyncio.Event()  # set while `link` may be used
        self.settled = asyncio.Event()  # set while `served` is, or when it will not be soon
        self.doubt = asyncio.Event()  # set to make the warden look at once
        # the warden listens
        self.on_error: Callable[[VolumeError, Op | None], None] = lambda *_: None
        self.on_low_space: Callable[[], None] = lambda: None
        self._full_below = 0
        self._counters = counters
        self._cursors = 0

    @property
    def name(self) -> str:
        """The configured name."""
        return self.spec.name

    @property
    def readable(self) -> bool:
        """Whether a read is worth trying."""
        return self.link is not None and self.state in READABLE_STATES

    def status(self) -> VolumeStatus:
        """Return how it is now."""
        return VolumeStatus(
            name=self.spec.name,
            role=self.spec.role,
            path=self.spec.path,
            state=self.state,
            reason=self.reason,
            uuid=self.uuid,
            device=self.device,
            generation=self.generation,
            total_bytes=self.total_bytes,
            free_bytes=self.free_bytes,
            devices=self.devices,
            paused=self.paused,
            operator_reason=self.operator_reason,
            total_inodes=self.total_inodes,
            free_inodes=self.free_inodes,
            since=self.since,
        )

    def note_space(self, space: Space) -> None:
        """Keep what the worker said of the room."""
        self.total_bytes, self.free_bytes = space.total_bytes, space.free_bytes
        self.total_inodes, self.free_inodes = space.total_inodes, space.free_inodes
        self._full_below = full_below(space.total_bytes)

    def set_served(self, *, served: bool) -> None:
        """Say whether `link` may be used; the warden's word."""
        for event in (self.served, self.settled):
            if served:
                event.set()
            else:
                event.clear()

    # -- writing -----------------------------------------------------------------------------

    async def put(self, key: str, *, fd: int, size: int, digest: str) -> PutResult:
        """Copy `size` bytes of `fd` to `key`; on return they survive the loss of power.

        `fd` must stay open until this ends.
        """
        reply = await self._call(Op.PUT, _put_body(key, size, digest), fd)
        self._counters.add("volume_put_bytes", size, volume=self.name)
        return self._put_result(reply)

    def post_put(self, key: str, *, size: int, digest: str) -> Posted | None:
        """Begin a put whose bytes are not all there yet; None when it cannot begin now.

        Another thread says `send` when they are; `posted_put` waits for the end.
        """
        if self.link is None:
            return None
        return self.link.post(Op.PUT, _put_body(key, size, digest))

    async def posted_put(self, posted: Posted, *, size: int) -> PutResult:
        """Do what `put` does from here on; WorkerDiedError when its worker has ended."""
        reply = await self._told(posted.link, posted.answer())
        self._counters.add("volume_put_bytes", size, volume=self.name)
        return self._put_result(reply)

    async def copy_within(self, source_key: str, target_key: str) -> PutResult:
        """Give an object a second name on the same volume; durable on return."""
        body = pack({"source": source_key, "target": target_key})
        return self._put_result(await self._call(Op.LINK, body))

    async def move_within(self, source_key: str, target_key: str) -> bool:
        """Give an object another name on the same volume, in one step; durable on return.

        False when something stands at the target: nothing is changed then. Raises VolumeError
        MISSING when there is no such object. Works on a full volume too.
        """
        body = pack({"source": source_key, "target": target_key})
        return bool(unpack((await self._call(Op.RENAME, body)).body)["moved"])

    async def remove(self, key: str) -> bool:
        """Unlink, durable on return; False when it was not there."""
        reply = await self._call(Op.REMOVE, pack({"key": key}))
        return bool(unpack(reply.body)["removed"])

    async def put_bytes(self, key: str, data: bytes, *, from_reserve: bool = False) -> None:
        """Write a small file atomically, over an older one too; durable on return.

        `from_reserve`: also when only the reserve of a full volume is left.
        """
        memory = os.memfd_create("scrigno-bytes", os.MFD_CLOEXEC)
        try:
            os.pwrite(memory, data, 0)  # memory: nothing here can wait for a disk
            body = pack({"key": key, "reserve": from_reserve})
            await self._call(Op.PUT_BYTES, body, memory)
        finally:
            os.close(memory)

    def _put_result(self, reply: Reply) -> PutResult:
        outcome, self.free_bytes, existing = PUT_DONE.unpack(reply.body)
        if self.free_bytes < self._full_below:
            self.on_low_space()
        match Put(outcome):
            case Put.STORED:
                return PutResult(PutOutcome.STORED)
            case Put.SAME:
                return PutResult(PutOutcome.SAME)
            case Put.CONFLICT:
                return PutResult(PutOutcome.CONFLICT, existing.hex())

    # -- reading -----------------------------------------------------------------------------

    async def read(
        self, key: str, offset: int = 0, length: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        """Stream a part of an object in chunks of at most 1 MiB; close it when leaving early.

        Each chunk is a request of its own and one is asked for ahead: a slow reader holds no
        thread of the worker, and a reader that goes on elsewhere knows its offset.
        """
        end = None if length is None else offset + length
        ahead = self._chunk_soon(key, offset, end)
        try:
            while ahead is not None:
                chunk, wanted = await ahead
                offset += len(chunk)
                ahead = None
                if len(chunk) == wanted and offset != end:
                    ahead = self._chunk_soon(key, offset, end)
                if chunk:
                    yield chunk
        finally:
            if ahead is not None:
                ahead.cancel()
                await asyncio.wait([ahead])

    def _chunk_soon(
        self, key: str, offset: int, end: int | None
    ) -> "asyncio.Task[tuple[bytes, int]] | None":
        wanted = MAX_CHUNK if end is None else min(MAX_CHUNK, end - offset)
        if wanted <= 0:
            return None
        return asyncio.get_running_loop().create_task(self._chunk(key, offset, wanted))

    async def _chunk(self, key: str, offset: int, length: int) -> tuple[bytes, int]:
        memory, size = await self._memory(key, offset, length)
        try:
            return os.pread(memory, size, 0), length
        finally:
            os.close(memory)

    async def read_memfd(self, key: str, offset: int = 0, length: int = MEMORY_LIMIT) -> int:
        """Return a memfd holding a part of an object (at most 1 GiB); the caller closes it."""
        memory, _ = await self._memory(key, offset, min(length, MEMORY_LIMIT))
        return memory

    async def head(self, key: str, length: int) -> bytes:
        """Return the first bytes, at most 1 MiB."""
        chunk, _ = await self._chunk(key, 0, min(length, MAX_CHUNK))
        return chunk

    async def stat(self, key: str) -> int | None:
        """Return its size, or None when there is no such key."""
        size = unpack((await self._call(Op.STAT, pack({"key": key}))).body)["size"]
        return None if size is None else int(size)

    async def digest(self, key: str) -> tuple[str, int]:
        """Read all of it from the disk, not the cache; return hex SHA-256 and size."""
        document = unpack((await self._call(Op.DIGEST, pack({"key": key, "head": 0}))).body)
        return str(document["digest"]), int(document["size"])

    async def check(
        self, key: str, between: Callable[[int], Awaitable[None]] | None = None
    ) -> Checked:
        """Read all of it from the disk, and the digest that is kept beside it.

        With `between` it is read in steps of STEP_BYTES; that is called after each but the last
        with how many bytes it read, and may take its time.
        """
        if between is not None:
            return await self._check_in_steps(key, between)
        body = pack({"key": key, "head": 0, "beside": True})
        document = unpack((await self._call(Op.DIGEST, body)).body)
        return Checked(str(document["digest"]), int(document["size"]), document["beside"])

    async def _check_in_steps(self, key: str, between: Callable[[int], Awaitable[None]]) -> Checked:
        self._cursors += 1
        body = pack({"key": key, "cursor": self._cursors, "step": STEP_BYTES})
        before = 0
        while True:
            document = unpack((await self._call(Op.DIGEST, body)).body)
            digest, size = str(document["digest"]), int(document["size"])
            if digest:
                return Checked(digest, size, document["beside"])
            await between(max(size - before, 0))
            before = size

    async def note_digest(self, key: str, digest: str) -> None:
        """Keep a digest (hex SHA-256) beside an object that has none; durable on return."""
        await self._call(Op.NOTE, pack({"key": key, "digest": digest}))

    async def walk(self, prefix: str) -> AsyncGenerator[tuple[str, int], None]:
        """Yield key and size of everything under the folder `prefix` ("" is all), in order."""
        self._cursors += 1
        cursor, after, more = self._cursors, "", True
        while more:
            body = pack({"cursor": cursor, "prefix": prefix, "after": after})
            document = unpack((await self._call(Op.WALK, body)).body)
            more = document["more"]
            for key, size in document["entries"]:
                yield key, size
                after = key

    async def scan(self, prefix: str) -> AsyncGenerator[Scanned, None]:
        """Walk and read everything once: digest and head, a few objects ahead of the caller."""
        loop = asyncio.get_running_loop()
        ahead: list[asyncio.Task[Scanned | None]] = []
        try:
            async with aclosing(self.walk(prefix)) as walk:
                async for key, size in walk:
                    ahead.append(loop.create_task(self._scan_one(key, size)))
                    if len(ahead) >= SCAN_AHEAD and (met := await ahead.pop(0)) is not None:
                        yield met
            while ahead:
                if (met := await ahead.pop(0)) is not None:
                    yield met
        finally:
            for task in ahead:
                task.cancel()
            if ahead:
                await asyncio.wait(ahead)

    async def _scan_one(self, key: str, size: int) -> Scanned | None:
        try:
            reply = await self._call(Op.DIGEST, pack({"key": key, "head": HEAD_LIMIT}))
        except VolumeError as error:
            if error.kind is ErrorKind.MISSING:
                return None  # removed since the walk saw it
            if error.kind is ErrorKind.IO and self.readable:
                return Scanned(key, size, None, b"")  # this object, not the volume
            raise
        document = unpack(reply.body)
        return Scanned(key, document["size"], document["digest"], _take(reply.fd))

    async def _memory(self, key: str, offset: int, length: int) -> tuple[int, int]:
        body = pack({"key": key, "offset": offset, "length": length})
        reply = await self._call(Op.READ, body)
        if reply.fd is None:
            raise VolumeError(self.name, ErrorKind.IO, "the worker answered without the bytes")
        return reply.fd, int(unpack(reply.body)["size"])

    # -- asking the worker -------------------------------------------------------------------

    async def _call(self, op: Op, body: bytes, fd: int = -1) -> Reply:
        """Ask; when the worker process dies under it, ask the new one once (all is idempotent)."""
        try:
            return await self._ask(op, body, fd)
        except WorkerDiedError:
            await self.revived()
            return await self._ask(op, body, fd)

    async def _ask(self, op: Op, body: bytes, fd: int = -1) -> Reply:
        link = self.link
        if link is None:
            kind = _KIND_OF_STATE.get(self.state, ErrorKind.OFFLINE)
            raise VolumeError(self.name, kind, f"{self.state.value}: {self.reason}")
        return await self._told(link, link.call(op, body, fd), op)

    async def _told(self, link: WorkerLink, answer: Awaitable[Reply], op: Op = Op.PUT) -> Reply:
        """Wait for an answer over `link` and tell the warden of a failure."""
        try:
            return await answer
        except VolumeError as error:
            self._counters.add("volume_errors", volume=self.name, kind=error.kind.value)
            if link is self.link and link.failure is not None:
                self.set_served(served=False)  # until the warden has made a new one
            self.on_error(error, op)
            raise

    async def revived(self) -> None:
        """Wait for the worker that takes the place of one that died; raises WorkerDiedError.

        Returns early when the volume has gone down: who asks then is told so.
        """
        try:
            async with asyncio.timeout(REVIVAL_S):
                await self.settled.wait()
        except TimeoutError as error:
            raise WorkerDiedError(self.name) from error


def _put_body(key: str, size: int, digest: str) -> bytes:
    return PUT.pack(size, bytes.fromhex(digest)) + key.encode("ascii")


def _take(memory: int | None) -> bytes:
    if memory is None:
        return b""
    try:
        return os.pread(memory, os.fstat(memory).st_size, 0)
    finally:
        os.close(memory)
