# SPDX-License-Identifier: Apache-2.0
"""The main process's side of the volumes: one worker process each, their states, their rescue."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from scrigno.core.clock import Clock
from scrigno.core.counters import Counters
from scrigno.core.events import EventBus

from .states import PutResult, VolumeSpec, VolumeState, VolumeStatus


@dataclass(frozen=True, slots=True)
class Scanned:
    """One object met by `Volume.scan`; digest is None when it could not be read whole."""

    key: str
    size: int
    digest: str | None
    head: bytes


class Volume:
    """One volume as the rest of the daemon sees it. Every method raises VolumeError."""

    spec: VolumeSpec
    state: VolumeState
    reason: str
    uuid: str | None
    device: int | None
    generation: int
    total_bytes: int | None
    free_bytes: int | None

    async def put(self, key: str, *, fd: int, size: int, digest: str) -> PutResult:
        """Copy `size` bytes of `fd` to `key`, durable on return."""
        raise NotImplementedError

    def read(self, key: str, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """Stream a part of an object in chunks of at most 1 MiB."""
        raise NotImplementedError

    async def read_memfd(self, key: str, offset: int = 0, length: int | None = None) -> int:
        """Return a memfd holding a part (at most 1 GiB); the caller closes it."""
        raise NotImplementedError

    async def digest(self, key: str) -> tuple[str, int]:
        """Read all of it from the disk, not the cache; return hex SHA-256 and size."""
        raise NotImplementedError

    async def head(self, key: str, length: int) -> bytes:
        """Return the first bytes, at most 1 MiB."""
        raise NotImplementedError

    async def stat(self, key: str) -> int | None:
        """Return its size, or None when there is no such key."""
        raise NotImplementedError

    def walk(self, prefix: str) -> AsyncIterator[tuple[str, int]]:
        """Yield key and size of everything under the folder `prefix` ("" is all), in key order."""
        raise NotImplementedError

    def scan(self, prefix: str) -> AsyncIterator[Scanned]:
        """Walk and read everything once, several objects at a time."""
        raise NotImplementedError

    async def copy_within(self, source_key: str, target_key: str) -> PutResult:
        """Give an object a second name on the same volume (hard link), durable on return."""
        raise NotImplementedError

    async def remove(self, key: str) -> bool:
        """Unlink, durable on return; False when it was not there."""
        raise NotImplementedError

    async def put_bytes(self, key: str, data: bytes) -> None:
        """Write a small file atomically, over an older one too; durable on return."""
        raise NotImplementedError

    async def probe(self) -> float:
        """Write, fsync, read back uncached; return seconds."""
        raise NotImplementedError

    def status(self) -> VolumeStatus:
        """Return how it is now."""
        raise NotImplementedError


class Volumes:
    """All configured volumes, data first."""

    def __init__(
        self,
        specs: Sequence[VolumeSpec],
        *,
        state_dir: Path,
        counters: Counters,
        bus: EventBus,
        clock: Clock,
        op_timeout_s: float = 10.0,
    ) -> None: ...

    async def start(self) -> None:
        """Start every worker; returns when each volume has shown its state, at most after 2 s."""
        raise NotImplementedError

    async def close(self) -> None:
        """Stop every worker; a stuck one is abandoned. Idempotent."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close."""
        await self.close()

    def by_name(self, name: str) -> Volume:
        """Return the volume; raises KeyError."""
        raise NotImplementedError

    @property
    def ordered(self) -> tuple[Volume, ...]:
        """All of them, data first, else as configured."""
        raise NotImplementedError

    def healthy(self) -> list[Volume]:
        """Those that are ONLINE, in order."""
        raise NotImplementedError

    async def adopt(self, name: str, *, force: bool = False) -> None:
        """Make what stands at the path this volume; `force`: even one of another box."""
        raise NotImplementedError

    def statuses(self) -> list[VolumeStatus]:
        """Return how all of them are now."""
        raise NotImplementedError
