# SPDX-License-Identifier: Apache-2.0
"""A complete object: hashed, durable once staging keeps it, or copied to volumes without that.

Its bytes stand in an unnamed file of staging. Where staging cannot, they go to a memory file of the
spare spool, from the buffers in which they came or, verified, back from staging's file.
"""

import asyncio
import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Final, TypeVar

from scrigno.core.errors import ScrignoError

from .files import write_all
from .hands import still_moving
from .spool import SpareFull, memory_file

if TYPE_CHECKING:
    from .staging import Staging

NOTE_ATTRIBUTE: Final = "user.scrigno.note"
NOTE_LIMIT_BYTES: Final = 3500  # ext4 keeps an attribute in one block
COPY_BYTES: Final = 1 << 20
LOOK_S: Final = 1.0  # for the last bytes of a file that was just written
FULL_ERRORS: Final = frozenset({errno.ENOSPC, errno.EDQUOT})

T = TypeVar("T")


class StagingFull(ScrignoError):
    """Staging has no room for the object; nothing of it is left."""

    code: ClassVar[str] = "staging-full"


class StagingFailed(ScrignoError):
    """The staging device failed; nothing of the object is left."""

    code: ClassVar[str] = "staging-failed"


class ObjectTooLarge(ScrignoError):
    """The object is over the limit given to `begin`; nothing of it is left."""

    code: ClassVar[str] = "object-too-large"


class OpenFile:
    """An unnamed file that is closed when asked to, but never under a job that still uses it.

    `spare`: it is in memory, and `reserved` bytes of the spool are given back with it.
    """

    def __init__(self, staging: "Staging", fd: int = -1, *, spare: bool = False) -> None:
        self.staging = staging
        self.fd = fd
        self.spare = spare
        self.reserved = 0
        self.on_idle: Callable[[], None] | None = None  # told when no job uses it any more
        self._jobs = 0
        self._doomed = False
        self._soon = True

    @property
    def busy(self) -> bool:
        """Whether a job uses it."""
        return self._jobs > 0

    def run(self, job: Callable[..., T], *args: object) -> asyncio.Future[T]:
        """Give a job on the file to a thread now; a cancelled caller leaves it running."""
        run = self.staging.spool.run if self.spare else self.staging.run
        future = run(job, *args, over=self.give)
        self._jobs += 1
        return future

    def borrow(self) -> None:
        """Keep it open until `give`."""
        self._jobs += 1

    def give(self) -> None:
        """End what `run` or `borrow` began."""
        self._jobs -= 1
        if not self._jobs and self.on_idle is not None:
            self.on_idle()
        if self._doomed:
            self._close_if_idle()

    def open(self) -> None:
        """Open it where that is still to be done; in a thread, raises OSError."""
        if self.fd < 0:
            self.fd = memory_file() if self.spare else self.staging.unnamed()

    def close(self, *, soon: bool = True) -> None:
        """Close it as soon as no job uses it, or some time after that; idempotent."""
        self._doomed, self._soon = True, soon
        self._close_if_idle()

    def _close_if_idle(self) -> None:
        if self._jobs:
            return
        if self.spare:
            self.staging.spool.give_back(self.reserved)
            self.reserved = 0
        fd, self.fd = self.fd, -1
        if fd >= 0 and self.spare:
            self.staging.spool.close_fd(fd)
        elif fd >= 0:
            self.staging.close_fd(fd, soon=self._soon)


class Sealed:
    """A complete object in an open file, hashed; durable once kept. Loop thread only."""

    def __init__(
        self,
        staging: "Staging",
        file: OpenFile,
        *,
        digest: str,
        size: int,
        name: str | None = None,
        arriving: int = 0,
        buffers: Sequence[memoryview] = (),
        kept_bytes: int = 0,
        written: bool = True,
        refusal: ScrignoError | None = None,
    ) -> None:
        """Use `StagedObject.seal` or `Staging.open_entry`.

        `buffers` begin with the bytes, all of them or none; `written` says that the file has them.
        `refusal` is why staging does not take it; the file is a spare one then.
        """
        self.digest = digest  # hex SHA-256 of the whole file
        self.size = size
        self.name = name  # in the journal, once kept
        self._staging = staging
        self._file = file
        self._spare: OpenFile | None = file if file.spare else None
        self._refusal = refusal
        self._arriving = arriving
        self._written = written
        self._buffers = list(buffers)
        self._kept_bytes = kept_bytes  # how much of them counts as kept
        self._parts = _cut(buffers, size)
        self._closed = False
        self._moving: asyncio.Future[int] | None = None  # to the spare file
        self._late_note: Mapping[str, str] | None = None  # of a `keep` nobody waits for any more
        file.on_idle = self._idle

    @property
    def written(self) -> bool:
        """Tell whether all its bytes are in a file; else they are in memory of ours."""
        return self._written

    @property
    def fd(self) -> int:
        """The open file, -1 once closed; whoever needs it longer duplicates it."""
        return self._file.fd if self._spare is None else self._spare.fd

    @property
    def in_spare(self) -> bool:
        """Tell whether the spare spool has it, so that a volume copies from memory."""
        return self._spare is not None

    @property
    def keepable(self) -> bool:
        """Tell whether staging has not refused it yet; `keep` is in vain then."""
        return self._refusal is None

    async def read(self, offset: int, length: int) -> bytes:
        """Read a part of it; raises StagingFailed, StagingFull (no spare memory)."""
        if self._spare is None:
            try:
                return await self._file.run(os.pread, self._file.fd, length, offset)
            except OSError as error:
                self._staging.broken(error)
            except StagingFailed:
                pass  # it is known to be down
            await self.to_spare()
        assert self._spare is not None  # noqa: S101 - to_spare has made it
        return await self._spare.run(os.pread, self._spare.fd, length, offset)

    async def write(self) -> None:
        """Write it to the unnamed file if that is still to be done; raises as `keep` does."""
        try:
            await self._file.run(self._write)
        except OSError as error:
            raise self._staging.broken(error) from error

    async def keep(
        self, note: Mapping[str, str], *, written: Callable[[int], None] | None = None
    ) -> str:
        """Make bytes and note durable in the journal and answer the name there.

        Kept already: only the note is replaced. The note is at most NOTE_LIMIT_BYTES of JSON.
        `written` is called in a thread with the open file as soon as it holds all the bytes.
        Raises StagingFull, StagingFailed: then it must not be kept again, a failed fsync is final.
        A caller that is cancelled or given up leaves it running: when it comes to its end after
        all, `Staging.on_late` is told.
        """
        text = json.dumps(dict(note), separators=(",", ":")).encode()
        if len(text) > NOTE_LIMIT_BYTES:
            raise ValueError(f"a note of {len(text)} bytes is over {NOTE_LIMIT_BYTES}")
        if self._refusal is not None:
            raise self._refusal
        try:
            if self.name is None:
                return await self._file.run(self._link_in, text, written)
            await self._file.run(_renote, self._file.fd, text)
        except OSError as error:
            self._refusal = self._staging.broken(error)
            raise self._refusal from error
        except StagingFailed as error:
            self._refusal = error
            self.missed(note)
            raise
        except asyncio.CancelledError:
            self.missed(note)
            raise
        return self.name

    def missed(self, note: Mapping[str, str]) -> None:
        """Have `Staging.on_late` told of a `keep` under way that nobody waits for any more."""
        self._late_note = note
        if not self._file.busy:
            self._tell_late()

    async def to_spare(self) -> int:
        """Bring its bytes to the spare spool and return the open memory file; once.

        Raises StagingFull (no room there, in words), StagingFailed (the bytes are not to be had).
        """
        if self._spare is not None and self._written:
            return self._spare.fd
        if self._moving is None:
            self._moving = asyncio.ensure_future(self._move())
            self._moving.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(self._moving)

    async def settle(self) -> None:
        """See that a copy made of it is right although nobody keeps it in the journal.

        Staging's file of such an object is never synced, so nobody would hear that the disk has
        lost some of it. Raises StagingFull, StagingFailed when its bytes are not to be had.
        """
        if self.name is not None or self._spare is not None:
            return
        if self._parts:
            with contextlib.suppress(StagingFull):
                await self.to_spare()
                return
        try:
            await self._file.run(os.fdatasync, self._file.fd)
        except OSError as error:
            self._staging.broken(error)
            await self.to_spare()
        except StagingFailed:
            await self.to_spare()

    async def _move(self) -> int:
        file = self._spare
        if file is None:
            file = OpenFile(self._staging, spare=True)
            reserve_spare(file, self.size, self._staging.failure)
        file.borrow()
        try:
            if self._parts:
                await file.run(_fill, file, self._parts)
            else:
                await self._rescue(file)
        except BaseException:
            file.close()
            raise
        finally:
            file.give()
        self._written = True
        if self._closed:
            file.close()
        self._spare = file
        return file.fd

    async def _rescue(self, file: OpenFile) -> None:
        """Read the bytes back from staging; what is cached can be read from a hung disk too."""
        self._file.borrow()
        try:
            digest = await self._staging.run_aside(copy_file, self._file, file, self.size)
        except OSError as error:
            raise self._staging.broken(error) from error
        finally:
            self._file.give()
        if digest != self.digest:
            raise StagingFailed("staging: the bytes of the object cannot be read back")

    async def source_is_bad(self) -> bool:
        """Tell whether a volume that failed may have failed for want of a source."""
        if self._spare is not None:
            return False
        if self._staging.failure:
            return True
        try:
            async with asyncio.timeout(LOOK_S):
                await self._file.run(os.pread, self._file.fd, 4096, max(0, self.size - 4096))
        except (TimeoutError, StagingFailed):
            return True
        except OSError as error:
            self._staging.broken(error)
            return True
        return False

    def _write(self) -> None:
        if not self._written:
            self._file.open()
            for part in self._parts:
                write_all(self._file.fd, part)
            self._written = True

    def _link_in(self, text: bytes, written: Callable[[int], None] | None) -> str:
        self._write()
        if written is not None:
            written(self._file.fd)
        # the name and the room it takes are known even when nobody waits any more
        self.name = self._staging.link_in(self._file.fd, text, self.size)
        return self.name

    async def release(self) -> None:
        """Take it out of the journal again; harmless when it was never kept."""
        if self.name is not None:
            await self._staging.release(self.name)

    def borrow(self) -> Callable[[], None]:
        """Keep its files open beyond `close`, until the answer is called."""
        files = [self._file]
        if self._spare is not None and self._spare is not self._file:
            files.append(self._spare)
        for file in files:
            file.borrow()

        def give() -> None:
            while files:
                files.pop().give()

        return give

    def close(self) -> None:
        """Close the file; idempotent. An object never kept is gone then."""
        self._staging.settle(self._arriving)
        self._arriving = 0
        self._closed = True
        if not self._file.busy:
            self._give_back()
        # The last close of a file that has no name frees its blocks; else there is no hurry.
        self._file.close(soon=self.name is None)
        if self._spare is not None and self._spare is not self._file:
            self._spare.close()

    def _idle(self) -> None:
        self._tell_late()
        if self._closed:
            self._give_back()

    def _tell_late(self) -> None:
        note, self._late_note = self._late_note, None
        if note is not None and self.name is not None:
            self._staging.on_late(self.name, note)

    def _give_back(self) -> None:
        """Let the buffers go when no job can need them any more."""
        self._staging.kept_bytes -= self._kept_bytes
        self._kept_bytes = 0
        if self._moving is not None and not self._moving.done():
            return  # kept from the pool; memory is freed when the copy has ended
        buffers, self._buffers, self._parts = self._buffers, [], []
        for buffer in buffers:
            self._staging.give_buffer(buffer)


def reserve_spare(file: OpenFile, size: int, why: str) -> None:
    """Reserve room for `size` bytes in all; raises StagingFull with both reasons in words."""
    spool = file.staging.spool
    try:
        spool.reserve(size, size - file.reserved)
    except SpareFull as error:
        raise StagingFull(
            f"staging takes no more ({why or 'it is full'}) and {error.reason}",
            next_step=error.next_step,
        ) from error
    file.reserved = size


def _cut(buffers: Sequence[memoryview], size: int) -> list[memoryview]:
    parts = []
    for buffer in buffers:
        parts.append(buffer[:size])
        size -= len(parts[-1])
    return parts


def _fill(file: OpenFile, parts: Sequence[memoryview]) -> None:
    file.open()
    for part in parts:
        write_all(file.fd, part)


def copy_file(source: OpenFile, target: OpenFile, size: int) -> str:
    """Copy the first `size` bytes and return their digest; blocking, raises OSError."""
    target.open()
    hasher, offset = hashlib.sha256(), 0
    while offset < size:
        chunk = os.pread(source.fd, min(COPY_BYTES, size - offset), offset)
        if not chunk:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        hasher.update(chunk)
        write_all(target.fd, chunk)
        offset += len(chunk)
        still_moving()
    return hasher.hexdigest()


def _renote(fd: int, text: bytes) -> None:
    os.setxattr(fd, NOTE_ATTRIBUTE, text)
    os.fsync(fd)
