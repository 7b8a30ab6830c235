# SPDX-License-Identifier: Apache-2.0
"""A complete object in staging: hashed, and durable once it is kept."""

import asyncio
import errno
import json
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar, Final, TypeVar

from scrigno.core.errors import ScrignoError

from .files import write_all

if TYPE_CHECKING:
    from .staging import Staging

NOTE_ATTRIBUTE: Final = "user.scrigno.note"
NOTE_LIMIT_BYTES: Final = 3500  # ext4 keeps an attribute in one block
_FULL_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT})

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
    """An unnamed file that is closed when asked to, but never under a job that still uses it."""

    def __init__(self, staging: "Staging", fd: int = -1) -> None:
        self.fd = fd
        self.on_idle: Callable[[], None] | None = None  # told when no job uses it any more
        self._staging = staging
        self._jobs = 0
        self._doomed = False
        self._soon = True

    @property
    def busy(self) -> bool:
        """Whether a job uses it."""
        return self._jobs > 0

    def run(self, job: Callable[..., T], *args: object) -> asyncio.Future[T]:
        """Give a job on the file to a thread now; a cancelled caller leaves it running."""
        future = self._staging.run(job, *args, over=self._ended)
        self._jobs += 1
        return future

    def _ended(self) -> None:
        self._jobs -= 1
        if not self._jobs and self.on_idle is not None:
            self.on_idle()
        if self._doomed:
            self._close_if_idle()

    def close(self, *, soon: bool = True) -> None:
        """Close it as soon as no job uses it, or some time after that; idempotent."""
        self._doomed, self._soon = True, soon
        self._close_if_idle()

    def _close_if_idle(self) -> None:
        if not self._jobs and self.fd >= 0:
            self._staging.close_fd(self.fd, soon=self._soon)
            self.fd = -1


class Sealed:
    """A complete object in an open file, hashed; durable once kept."""

    def __init__(
        self,
        staging: "Staging",
        file: OpenFile,
        *,
        digest: str,
        size: int,
        name: str | None = None,
        arriving: int = 0,
        buffer: memoryview | None = None,
    ) -> None:
        """Use `StagedObject.seal` or `Staging.open_entry`.

        `buffer` begins with the bytes when they are still to be written.
        """
        self.digest = digest  # hex SHA-256 of the whole file
        self.size = size
        self.name = name  # in the journal, once kept
        self._staging = staging
        self._file = file
        self._arriving = arriving
        self._content = None if buffer is None else buffer[:size]
        self._buffer = buffer
        self._closed = False
        if buffer is not None:
            file.on_idle = self._give_back

    @property
    def written(self) -> bool:
        """Tell whether all its bytes are in the file; else they are in memory."""
        return self._content is None

    @property
    def fd(self) -> int:
        """The open file, -1 once closed; whoever needs it longer duplicates it."""
        return self._file.fd

    async def read(self, offset: int, length: int) -> bytes:
        """Read a part of it; raises StagingFailed."""
        try:
            return await self._file.run(os.pread, self._file.fd, length, offset)
        except OSError as error:
            raise failed(error) from error

    async def write(self) -> None:
        """Write it to the unnamed file if that is still to be done; raises as `keep` does."""
        try:
            await self._file.run(self._write)
        except OSError as error:
            raise failed(error) from error

    async def keep(
        self, note: Mapping[str, str], *, written: Callable[[int], None] | None = None
    ) -> str:
        """Make bytes and note durable in the journal and answer the name there.

        Kept already: only the note is replaced. The note is at most NOTE_LIMIT_BYTES of JSON.
        `written` is called in a thread with the open file as soon as it holds all the bytes.
        Raises StagingFull, StagingFailed: then it must not be kept again, a failed fsync is final.
        A cancelled caller leaves it running; `release` waits for nothing, so await it first.
        """
        text = json.dumps(dict(note), separators=(",", ":")).encode()
        if len(text) > NOTE_LIMIT_BYTES:
            raise ValueError(f"a note of {len(text)} bytes is over {NOTE_LIMIT_BYTES}")
        try:
            if self.name is None:
                return await self._file.run(self._link_in, text, written)
            await self._file.run(_renote, self._file.fd, text)
        except OSError as error:
            raise failed(error) from error
        return self.name

    def _write(self) -> None:
        if self._content is not None:
            if self._file.fd < 0:
                self._file.fd = self._staging.unnamed()
            write_all(self._file.fd, self._content)
            self._content = None

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

    def close(self) -> None:
        """Close the file; idempotent. An object never kept is gone then."""
        self._staging.settle(self._arriving)
        self._arriving = 0
        self._closed = True
        self._give_back()
        # The last close of a file that has no name frees its blocks; else there is no hurry.
        self._file.close(soon=self.name is None)

    def _give_back(self) -> None:
        """Let the buffer go when no job can need it any more."""
        if self._buffer is not None and not self._file.busy and (self.written or self._closed):
            self._staging.give_buffer(self._buffer)
            self._buffer = None


def _renote(fd: int, text: bytes) -> None:
    os.setxattr(fd, NOTE_ATTRIBUTE, text)
    os.fsync(fd)


def failed(error: OSError) -> StagingFull | StagingFailed:
    if error.errno in _FULL_ERRORS:
        return StagingFull("staging: no space left on the device")
    return StagingFailed(f"staging: {os.strerror(error.errno or 0)}")
