# SPDX-License-Identifier: Apache-2.0
"""An object on its way in: into staging's unnamed file, or into spare memory where that fails.

What has been written stays in memory as well while it is small enough, so that a staging disk that
dies under an object takes nothing away from it.
"""

import asyncio
import hashlib
import os
from collections import deque
from typing import TYPE_CHECKING, Final

from .files import SYNC_EVERY_BYTES, write_all
from .sealed import (
    ObjectTooLarge,
    OpenFile,
    Sealed,
    StagingFailed,
    StagingFull,
    copy_file,
    reserve_spare,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from scrigno.core.errors import ScrignoError

    from .staging import Staging

HASH_BYTES: Final = 32 << 10  # at a time in the loop: some 20 µs
HEAD_BYTES: Final = 256 << 10  # what header readers may look at without a read
KEPT_BYTES: Final = 32 << 20  # of one object, after they were written: any single X-ray fits
KEPT_TOTAL_BYTES: Final = 64 << 20


class StagedObject:
    """An object that is arriving. Loop thread only.

    Bytes gather in a buffer of `high_water_bytes` taken from a pool (fresh memory costs more in
    page faults than the copy into it). A full one is written out while the next one fills.
    """

    def __init__(self, staging: "Staging", prefix: bytes, limit_bytes: int) -> None:
        """Use `Staging.begin`."""
        self.on_drain: Callable[[], None] | None = None
        self.size = 0
        self._staging = staging
        self._limit = limit_bytes
        self._file = OpenFile(staging)
        self._refusal: StagingFull | StagingFailed | None = None  # why staging does not take it
        self._buffer = staging.take_buffer()
        self._filled = 0
        self._full: deque[memoryview] = deque()  # waiting to be written out
        self._kept: list[memoryview] | None = []  # written to staging, in order; None: too many
        self._head = b""
        self._hasher = hashlib.sha256()
        self._hashed = 0  # bytes of the buffer being written out that are hashed already
        self._turned = False  # the first buffer is full: threads hash now
        self._written = 0  # bytes
        self._written_digest = ""  # of them, where they are no longer in memory
        self._unsynced = 0
        self._flush: asyncio.Task[None] | None = None
        self._error: ScrignoError | None = None
        self._reserved = 0  # of staging's room
        self._owes_drain = False  # write() has answered False
        self._over = False
        self.write(prefix)

    def write(self, fragment: memoryview | bytes) -> bool:
        """Take a copy of `fragment`; False asks the caller to stop until `on_drain` is called."""
        length = len(fragment)
        self.size += length
        if self._error is not None or self._over:
            return True  # drained without being kept; seal() says why
        if self.size > self._limit:
            self._error = ObjectTooLarge(f"the object is larger than {self._limit} bytes")
            return True
        end = self._filled + length
        if end <= len(self._buffer):
            self._buffer[self._filled : end] = fragment
            self._filled = end
            if not self._turned and end - self._hashed >= HASH_BYTES:
                # Beside the sender's work; later buffers are hashed by the thread that writes them.
                self._hasher.update(self._buffer[self._hashed : end])
                self._hashed = end
        else:
            self._spread(memoryview(fragment))
        if not self._full:
            return True
        self._owes_drain = True
        return False

    def _spread(self, fragment: memoryview) -> None:
        while fragment and self._error is None:
            count = min(len(fragment), len(self._buffer) - self._filled)
            self._buffer[self._filled : self._filled + count] = fragment[:count]
            self._filled += count
            fragment = fragment[count:]
            if self._filled == len(self._buffer) and fragment:
                self._turn_over()

    def _turn_over(self) -> None:
        """Hand the full buffer to the flush and begin the next one."""
        self._turned = True
        self._head = self.head
        try:
            self._reserve_room()
        except StagingFull as error:
            self._error = error
            return
        self._full.append(self._buffer)
        self._buffer, self._filled = self._staging.take_buffer(), 0
        if self._flush is None:
            content = self._full.popleft()
            self._flush = asyncio.get_running_loop().create_task(self._flush_out(content))

    @property
    def head(self) -> bytes:
        """The first bytes of the file (prefix included), at most HEAD_BYTES."""
        return self._head or bytes(self._buffer[: min(self._filled, HEAD_BYTES)])

    # to its end --------------------------------------------------------------------------------

    def seal_early(self) -> Sealed | None:
        """Answer a small object that is still to be written; None: it is for `seal` to answer.

        Whatever is done with it first writes it, so that no job of its own is needed for that.
        Raises StagingFull; nothing is left then.
        """
        if self._turned or self._over or self._error is not None:
            return None
        try:
            self._reserve_room()
            if self._refusal is not None:
                self._take_spare_file()
        except StagingFull:
            self.discard()
            raise
        self._hasher.update(self._buffer[self._hashed : self._filled])  # under HASH_BYTES
        return self._sealed([self._buffer], written=False)

    async def seal(self) -> Sealed:
        """Write everything to the unnamed file and answer it, hashed.

        A small object is opened, written and hashed in one hop to the executor.
        Raises StagingFull, StagingFailed, ObjectTooLarge; nothing is left then.
        """
        try:
            while self._flush is not None:
                await asyncio.wait([self._flush])
            if self._error is not None:
                raise self._error
            if self._over:
                raise StagingFailed("the object was discarded")
            self._reserve_room()
            await self._put_out(self._buffer[: self._filled])
            if self._over:
                raise StagingFailed("the object was discarded while it was sealed")
        except BaseException:
            self.discard()
            raise
        self._head = self.head
        if self._file.spare or self._kept is None:
            self._staging.give_buffer(self._buffer)
            return self._sealed([], written=True)
        return self._sealed([*self._kept, self._buffer], written=True)

    def _sealed(self, buffers: list[memoryview], *, written: bool) -> Sealed:
        """Hand everything over; `buffers` hold all its bytes, or there are none."""
        sealed = Sealed(
            self._staging,
            self._file,
            digest=self._hasher.hexdigest(),
            size=self.size,
            arriving=self._reserved,
            buffers=buffers,
            kept_bytes=sum(map(len, self._kept or ())),
            written=written,
            refusal=self._refusal,
        )
        self._over, self._reserved = True, 0
        self._kept = None
        self._buffer, self._filled = memoryview(bytearray()), 0
        return sealed

    def discard(self) -> None:
        """Leave nothing; idempotent, harmless after seal()."""
        if self._over:
            return
        self._over = True
        self._full.clear()
        self._staging.settle(self._reserved)
        self._reserved = 0
        self._drop_kept()
        if not self._file.busy:
            self._staging.give_buffer(self._buffer)
        self._buffer, self._filled = memoryview(bytearray()), 0
        self._file.close()

    # writing out -------------------------------------------------------------------------------

    def _reserve_room(self) -> None:
        """Count what has come so far, of staging's room or of the spare memory.

        Raises StagingFull when neither has enough.
        """
        if self._refusal is None:
            if self._staging.failure:
                self._refusal = StagingFailed(f"staging: {self._staging.failure}")
            elif self._staging.reserve(self.size - self._reserved):
                self._reserved = self.size
                return
            else:
                self._refusal = StagingFull("staging has reached its capacity")
        if self._file.spare:
            reserve_spare(self._file, self.size, self._staging.failure)

    async def _flush_out(self, content: memoryview) -> None:
        try:
            while True:
                await self._put_out(content)
                self._keep_or_give(content)
                if not self._full:
                    break
                content = self._full.popleft()
        except (StagingFull, StagingFailed) as error:
            self._error = error
        finally:
            self._full.clear()
            self._flush = None
        if self._owes_drain and not self._over:
            self._owes_drain = False
            if self.on_drain is not None:
                self.on_drain()

    async def _put_out(self, content: memoryview) -> None:
        """Write to staging, or to spare memory once staging does not take it.

        Raises StagingFull (neither does), StagingFailed (what staging had cannot be read back).
        """
        if not self._file.spare and self._refusal is None:
            try:
                await self._file.run(self._write_out, self._file, content)
            except OSError as error:
                self._refusal = self._staging.broken(error)
            except StagingFailed as error:
                self._refusal = error
        if self._refusal is not None:
            try:
                if not self._file.spare:
                    await self._to_spare()
                await self._file.run(self._write_out, self._file, content)
            except OSError as error:
                raise self._staging.broken(error) from error
        self._hashed = 0  # of the next buffer
        self._written += len(content)

    async def _to_spare(self) -> None:
        """Go on in spare memory with everything that came before; raises OSError too."""
        before = self._file
        before.borrow()
        try:
            file = self._take_spare_file()
            if self._kept is not None:
                await file.run(_append, file, self._kept)
            elif self._written:
                file.borrow()
                try:
                    digest = await self._staging.run_aside(copy_file, before, file, self._written)
                finally:
                    file.give()
                if digest != self._written_digest:
                    raise StagingFailed("staging: the bytes of the object cannot be read back")
        finally:
            before.give()
        self._drop_kept()

    def _take_spare_file(self) -> OpenFile:
        file = OpenFile(self._staging, spare=True)
        reserve_spare(file, self.size, self._staging.failure)
        self._staging.settle(self._reserved)
        self._reserved = 0
        self._file.close()
        self._file = file
        return file

    def _keep_or_give(self, content: memoryview) -> None:
        """Keep what is written for the case that staging dies, as far as memory allows."""
        if self._over or self._file.spare or self._kept is None:
            self._staging.give_buffer(content)
            if not self._file.spare:
                self._written_digest = self._hasher.hexdigest()
            return
        self._kept.append(content)
        self._staging.kept_bytes += len(content)
        held = len(self._kept) * len(content)
        if held > KEPT_BYTES or self._staging.kept_bytes > KEPT_TOTAL_BYTES:
            self._drop_kept()
            self._written_digest = self._hasher.hexdigest()

    def _drop_kept(self) -> None:
        kept, self._kept = self._kept or [], None
        self._staging.kept_bytes -= sum(map(len, kept))
        if not self._file.busy:  # else a job may still read them
            for buffer in kept:
                self._staging.give_buffer(buffer)

    def _write_out(self, file: OpenFile, content: memoryview) -> None:
        # Hashed first and once: whatever becomes of the write, these bytes have come. Nothing else
        # of ours is changed here, since a thread may come back when it was given up long ago.
        if self._hashed < len(content):
            self._hasher.update(content[self._hashed :])
            self._hashed = len(content)
        file.open()
        write_all(file.fd, content)
        if file.spare:
            return
        self._unsynced += len(content)
        if self._unsynced >= SYNC_EVERY_BYTES:
            # a large object is written back as it comes, so that the last fsync is short
            self._unsynced = 0
            os.fdatasync(file.fd)


def _append(file: OpenFile, parts: list[memoryview]) -> None:
    file.open()
    for part in parts:
        write_all(file.fd, part)
