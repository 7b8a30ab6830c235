# SPDX-License-Identifier: Apache-2.0
"""Placement: on which devices an object must be before it is acknowledged, and getting it there."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from scrigno.core.errors import ScrignoError

from .staging import Sealed, Staging
from .volume import Volumes


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestPolicy:
    """How many copies an acknowledgement needs; whether two folders of one disk count as two."""

    ack_copies: int = 2
    count_shared_device: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """Where an object is durable."""

    copies: tuple[str, ...]  # volumes that have it
    staged_as: str | None  # its journal name; None when staging could not keep it
    owed: tuple[str, ...]  # volumes that still need it
    degraded: bool  # fewer devices than the policy wants


class NoDurableStorage(ScrignoError):
    """No volume could take the object; nothing of it is left."""

    code: ClassVar[str] = "no-durable-storage"


class KeyConflict(ScrignoError):
    """Another object stands under the key; nothing was changed. The Sealed is still usable."""

    code: ClassVar[str] = "key-conflict"

    def __init__(self, key: str, existing_digest: str, volume: str) -> None:
        """Keep the key, the digest of what is there and the volume that has it."""
        super().__init__(f"volume {volume}: {key} is there with other bytes")
        self.key = key
        self.existing_digest = existing_digest
        self.volume = volume


class Placement:
    """Puts sealed objects where they must be."""

    def __init__(
        self, staging: Staging, volumes: Volumes, policy: Callable[[], IngestPolicy]
    ) -> None: ...

    async def store(self, sealed: Sealed, key: str, note: Mapping[str, str]) -> Placed:
        """Make it durable as the policy says; raises NoDurableStorage, KeyConflict."""
        raise NotImplementedError

    async def replicate(
        self,
        journal_name: str | None,
        key: str,
        digest: str,
        *,
        sources: tuple[str, ...],
        target: str,
    ) -> None:
        """Bring an object to `target` from staging or from another volume.

        Raises VolumeError (of the target or the last source), KeyConflict.
        """
        raise NotImplementedError
