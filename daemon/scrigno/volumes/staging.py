# SPDX-License-Identifier: Apache-2.0
"""Staging: where an object stands from its first byte until every volume has it.

The journal directory *is* the journal. An object is an O_TMPFILE (no name, so a crash leaves
nothing) until `Sealed.keep` has made its bytes and its note durable and linked it in; what stands
in the directory after a crash is taken in again. The note is an extended attribute of the file:
set before the fsync, it becomes durable with the bytes and the file stays a plain Part 10 file.

The main process may touch this directory (it is on the system SSD), but only in the bounded
executor made here.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

from scrigno.core.counters import Counters
from scrigno.core.errors import ScrignoError

HEAD_BYTES: Final = 256 << 10  # what header readers may look at without a read


class StagingFull(ScrignoError):  # noqa: N818 - named for what happened
    """Staging has no room for the object; nothing of it is left."""

    code: ClassVar[str] = "staging-full"


class StagingFailed(ScrignoError):  # noqa: N818 - named for what happened
    """The staging device failed; nothing of the object is left."""

    code: ClassVar[str] = "staging-failed"


class ObjectTooLarge(ScrignoError):  # noqa: N818 - named for what happened
    """The object is over the limit given to `begin`; nothing of it is left."""

    code: ClassVar[str] = "object-too-large"


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalEntry:
    """One object that stands in the journal."""

    name: str
    path: Path
    size: int
    note: Mapping[str, str]


class Staging:
    """The staging directory. Loop thread only, except what it runs in its own executor."""

    device: int  # st_dev, known after open()
    used_bytes: int
    full: bool

    def __init__(
        self,
        root: Path,
        *,
        capacity_bytes: int,
        counters: Counters,
        high_water_bytes: int = 1 << 20,
    ) -> None: ...

    async def open(self) -> None:
        """Make the journal directory; raises StagingFailed in words when it cannot serve."""
        raise NotImplementedError

    async def close(self) -> None:
        """Wait for running jobs and let the executor go; idempotent."""
        raise NotImplementedError

    def begin(self, prefix: bytes, *, limit_bytes: int) -> "StagedObject":
        """Start an object whose first bytes are `prefix`; touches no disk."""
        raise NotImplementedError

    async def journal(self) -> list[JournalEntry]:
        """Return what stands in the journal, oldest first."""
        raise NotImplementedError

    async def open_entry(self, name: str) -> "Sealed":
        """Open a journal entry again (its digest is computed anew); raises StagingFailed."""
        raise NotImplementedError

    async def release(self, name: str) -> None:
        """Forget a journal entry; not fsynced, since a lost unlink only repeats idempotent work."""
        raise NotImplementedError


class StagedObject:
    """An object that is arriving. Loop thread only."""

    on_drain: Callable[[], None] | None
    size: int

    def write(self, fragment: memoryview | bytes) -> bool:
        """Take a copy of `fragment`; False asks the caller to stop until `on_drain` is called."""
        raise NotImplementedError

    @property
    def head(self) -> bytes:
        """The first bytes of the file (prefix included), at most HEAD_BYTES."""
        raise NotImplementedError

    async def seal(self) -> "Sealed":
        """Write everything to the unnamed file; raises StagingFull/StagingFailed/ObjectTooLarge."""
        raise NotImplementedError

    def discard(self) -> None:
        """Leave nothing; idempotent, harmless after seal()."""
        raise NotImplementedError


@dataclass(slots=True)
class Sealed:
    """A complete object in an open file, hashed, not yet durable."""

    digest: str  # hex SHA-256 of the whole file
    size: int
    fd: int
    name: str | None = None  # in the journal, once kept

    async def read(self, offset: int, length: int) -> bytes:
        """Read a part of it."""
        raise NotImplementedError

    async def keep(self, note: Mapping[str, str]) -> str:
        """Make it durable under a new journal name, with its note; answer the name."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the file; idempotent. An object never kept is gone then."""
        raise NotImplementedError
