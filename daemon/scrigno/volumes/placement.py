# SPDX-License-Identifier: Apache-2.0
"""Placement: on which devices an object must be before it is acknowledged, and getting it there."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .attempt import Attempt, IngestPolicy, KeyConflict, NoDurableStorage
from .sealed import Sealed, StagingFailed, StagingFull
from .staging import Staging
from .states import ErrorKind, PutOutcome, VolumeError, VolumeState
from .volume import Volume, Volumes

# what the rooms above need stands in one place
__all__ = ["IngestPolicy", "KeyConflict", "NoDurableStorage", "Placed", "Placement"]

if TYPE_CHECKING:
    from scrigno.core.errors import ScrignoError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """Where an object is durable."""

    copies: tuple[str, ...]  # volumes that have it
    staged_as: str | None  # its journal name; None when staging could not keep it
    owed: tuple[str, ...]  # volumes that still need it
    degraded: bool  # fewer devices than the policy wants


class Placement:
    """Puts sealed objects where they must be. Loop thread only."""

    def __init__(
        self, staging: Staging, volumes: Volumes, policy: Callable[[], IngestPolicy]
    ) -> None:
        """`policy` is asked anew for each object."""
        self._staging = staging
        self._volumes = volumes
        self._policy = policy
        self._late: set[asyncio.Task[None]] = set()

    async def store(self, sealed: Sealed, key: str, note: Mapping[str, str]) -> Placed:
        """Make it durable: in staging's journal and on volumes, all at once.

        Success means `ack_copies` distinct devices, or all devices that are there when they are
        fewer (`degraded` then), and at least one of them a volume. A volume that fails is replaced
        by the next, one that is silent for two seconds is joined by the next; staging that fails
        or is silent is made up for by volumes. Raises KeyConflict, NoDurableStorage; after the
        latter nothing is left.
        """
        attempt = Attempt(sealed, key, note, self._policy(), self._staging, self._volumes)
        try:
            await attempt.run()
        except BaseException:
            await asyncio.shield(attempt.undo())
            raise
        stored = tuple(attempt.stored)
        for task in attempt.leave_late():
            self._late.add(task)
            task.add_done_callback(self._came_late)
        return Placed(
            copies=tuple(volume.name for volume in stored),
            staged_as=sealed.name if attempt.staged else None,
            owed=tuple(v.name for v in self._volumes.ordered if v not in stored),
            degraded=attempt.devices() < attempt.policy.ack_copies,
        )

    def _came_late(self, task: asyncio.Task[None]) -> None:
        """Let a copy go that came, or failed, after its object was acknowledged.

        It is recorded as owed either way: replication then finds it there, or makes it.
        """
        self._late.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("placement: a late copy failed unforeseen: %r", error)

    async def replicate(
        self,
        journal_name: str | None,
        key: str,
        digest: str,
        *,
        sources: tuple[str, ...],
        target: str,
    ) -> None:
        """Bring an object to `target` from staging or from another volume; durable on return.

        What comes from another volume is read whole into staging first and its digest compared,
        so that a bad copy is never spread. Raises VolumeError (of the target, or of the last
        source), StagingFull, StagingFailed (`journal_name` cannot be read and there is no other
        source), KeyConflict.
        """
        sealed = await self._source(journal_name, key, digest, sources)
        volume = self._volumes.by_name(target)
        try:
            await sealed.settle()
            result = await volume.put(key, fd=sealed.fd, size=sealed.size, digest=sealed.digest)
        except VolumeError as error:
            if error.kind is not ErrorKind.IO or not await sealed.source_is_bad():
                raise
            # staging died under the copy, which is not the target's fault
            fd = await sealed.to_spare()
            result = await volume.put(key, fd=fd, size=sealed.size, digest=sealed.digest)
        finally:
            sealed.close()
        if result.outcome is PutOutcome.CONFLICT:
            raise KeyConflict(key, result.existing_digest, target)

    async def stages(self, journal_name: str | None, digest: str) -> bool:
        """Tell whether staging has the object under this name, whole; reads all of it."""
        if journal_name is None:
            return False
        try:
            sealed = await self._staging.open_entry(journal_name)
        except (StagingFull, StagingFailed):
            return False
        sealed.close()
        return sealed.digest == digest

    async def _source(
        self, journal_name: str | None, key: str, digest: str, sources: Sequence[str]
    ) -> Sealed:
        failure: ScrignoError = StagingFailed(f"staging: no good source for {key}")
        if journal_name is not None:
            try:
                sealed = await self._staging.open_entry(journal_name)
            except StagingFailed as error:
                failure = error
            else:
                if sealed.digest == digest:
                    return sealed
                sealed.close()
                failure = StagingFailed(f"staging: {journal_name} has not the digest it had")
        readable = [v for v in self._volumes.ordered if v.name in sources and v.readable]
        for volume in sorted(readable, key=lambda v: v.state is not VolumeState.ONLINE):
            try:
                sealed = await self._fetch(volume, key)
            except VolumeError as error:
                failure = error
                continue
            if sealed.digest == digest:
                return sealed
            sealed.close()
            failure = VolumeError(volume.name, ErrorKind.IO, f"{key} has not the digest it had")
        raise failure

    async def _fetch(self, volume: Volume, key: str) -> Sealed:
        drained = asyncio.Event()
        arriving = self._staging.begin(b"", limit_bytes=1 << 62)
        arriving.on_drain = drained.set
        try:
            async for chunk in volume.read(key):
                drained.clear()
                if not arriving.write(chunk):
                    await drained.wait()
            return await arriving.seal()
        except BaseException:
            arriving.discard()
            raise
