# SPDX-License-Identifier: Apache-2.0
"""Placement: on which devices an object must be before it is acknowledged, and getting it there."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from scrigno.core.errors import ScrignoError

from .link import Posted, WorkerDiedError
from .staging import Sealed, Staging, StagingFailed, StagingFull
from .states import ErrorKind, PutOutcome, PutResult, VolumeError, VolumeState
from .volume import Volume, Volumes

COPY_BLOCK: Final = 1 << 20
# When nothing is ONLINE: these answer, and refusing an image is worse than trusting them once.
_LAST_RESORT: Final = (VolumeState.SUSPECT, VolumeState.RECOVERING, VolumeState.FULL)


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
    """Another object stands under the key on a volume; no volume was changed.

    The sealed object is still usable: store it under another key (which replaces its note in the
    journal), or `release` it. Until then a restart would try the first key again, and meet this
    conflict again.
    """

    code: ClassVar[str] = "key-conflict"

    def __init__(self, key: str, existing_digest: str, volume: str) -> None:
        """Keep the key, the digest of what is there and the volume that has it."""
        super().__init__(f"volume {volume}: {key} is there with other bytes")
        self.key = key
        self.existing_digest = existing_digest
        self.volume = volume


class Placement:
    """Puts sealed objects where they must be. Loop thread only."""

    def __init__(
        self, staging: Staging, volumes: Volumes, policy: Callable[[], IngestPolicy]
    ) -> None:
        """`policy` is asked anew for each object."""
        self._staging = staging
        self._volumes = volumes
        self._policy = policy

    async def store(self, sealed: Sealed, key: str, note: Mapping[str, str]) -> Placed:
        """Make it durable: in staging's journal and on volumes, all at once.

        Success means `ack_copies` distinct devices, or all devices that are there when they are
        fewer (`degraded` then), and at least one of them a volume. A volume that fails is replaced
        by the next. Raises KeyConflict, NoDurableStorage; after the latter nothing is left.
        """
        attempt = _Attempt(sealed, key, note, self._policy(), self._staging.device)
        candidates = self._candidates()
        try:
            await attempt.run(candidates)
        except BaseException:
            await asyncio.shield(attempt.undo())
            raise
        return Placed(
            copies=tuple(volume.name for volume in attempt.stored),
            staged_as=sealed.name if attempt.staged else None,
            owed=tuple(v.name for v in self._volumes.ordered if v not in attempt.stored),
            degraded=attempt.devices() < attempt.policy.ack_copies,
        )

    def _candidates(self) -> list[Volume]:
        ordered = self._volumes.ordered
        last_resort = [v for v in ordered if v.state in _LAST_RESORT and v.link is not None]
        return self._volumes.healthy() + last_resort

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
        try:
            result = await self._volumes.by_name(target).put(
                key, fd=sealed.fd, size=sealed.size, digest=sealed.digest
            )
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
        for volume in self._volumes.ordered:
            if volume.name not in sources or not volume.readable:
                continue
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


class _Attempt:
    """One object on its way to enough devices."""

    def __init__(
        self,
        sealed: Sealed,
        key: str,
        note: Mapping[str, str],
        policy: IngestPolicy,
        staging_device: int,
    ) -> None:
        self.policy = policy
        self.staged = False
        self.stored: list[Volume] = []
        self._sealed = sealed
        self._key = key
        self._note = note
        self._staging_device = staging_device
        self._staging_failed = False
        self._new: list[Volume] = []  # where the object was not before
        self._reasons: list[str] = []
        self._running: dict[asyncio.Task[None], Volume | None] = {}
        self._posted: list[Posted] = []  # puts that are sent as soon as the bytes are in the file
        self._conflict: KeyConflict | None = None

    async def run(self, candidates: list[Volume]) -> None:
        """Start what is needed, replace what fails, until it is enough or nothing is left."""
        if not self._sealed.written and not self._post_puts(candidates):
            await self._sealed.write()
            self._send_posted(self._sealed.fd)
        # the volumes first: their request is away before staging's fsync begins
        self._start_puts(candidates)
        self._run_beside(self._keep(), None)
        while self._running:
            done, _ = await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                del self._running[task]
                task.result()
            if self._conflict is None:
                self._start_puts(candidates)
        if self._conflict is not None:
            raise self._conflict
        if not self.stored:
            reasons = "; ".join(self._reasons) or "no volume is in service"
            raise NoDurableStorage(
                f"no volume could take the object: {reasons}.",
                next_step="See the storage page for the state of each volume.",
            )

    def devices(self) -> int:
        """How many devices count that have it now."""
        return self._count(self.stored, staged=self.staged)

    def _count(self, volumes: Sequence[Volume], *, staged: bool) -> int:
        if self.policy.count_shared_device:
            return len(volumes) + staged
        devices = {volume.device for volume in volumes}
        return len(devices | {self._staging_device}) if staged else len(devices)

    def _start_puts(self, candidates: list[Volume]) -> None:
        """Start as many puts as are still needed, in the order of the candidates."""
        for volume in self._chosen(candidates):
            self._run_beside(self._put(volume), volume)

    def _post_puts(self, candidates: list[Volume]) -> bool:
        """Begin the puts of an object that is not written yet; False when one cannot wait so."""
        sealed = self._sealed
        for volume in self._chosen(list(candidates)):
            posted = volume.post_put(self._key, size=sealed.size, digest=sealed.digest)
            if posted is None:
                return False
            candidates.remove(volume)
            self._posted.append(posted)
            self._run_beside(self._put(volume, posted), volume)
        return True

    def _send_posted(self, fd: int) -> None:
        for posted in self._posted:
            posted.send(fd)

    def _run_beside(self, work: Coroutine[None, None, None], volume: Volume | None) -> None:
        self._running[asyncio.get_running_loop().create_task(work)] = volume

    def _chosen(self, candidates: list[Volume]) -> Iterator[Volume]:
        """Take from the candidates, in their order, as many as are still needed."""
        hoped = [*self.stored, *(v for v in self._running.values() if v is not None)]
        staged = not self._staging_failed
        while candidates:
            count = self._count(hoped, staged=staged)
            if hoped and count >= self.policy.ack_copies:
                return
            chosen = next(
                (v for v in candidates if self._count([*hoped, v], staged=staged) > count),
                None if hoped else candidates[0],
            )
            if chosen is None:
                return
            candidates.remove(chosen)
            hoped.append(chosen)
            yield chosen

    async def _put(self, volume: Volume, posted: Posted | None = None) -> None:
        try:
            result = await self._put_to(volume, posted)
        except VolumeError as error:
            self._reasons.append(error.reason)
            return
        if result.outcome is PutOutcome.CONFLICT:
            self._conflict = KeyConflict(self._key, result.existing_digest, volume.name)
            return
        self.stored.append(volume)
        if result.outcome is PutOutcome.STORED:
            self._new.append(volume)

    async def _put_to(self, volume: Volume, posted: Posted | None) -> PutResult:
        sealed = self._sealed
        if posted is not None:
            try:
                return await volume.posted_put(posted, size=sealed.size)
            except WorkerDiedError:  # ask the new one, as `put` does
                await volume.revived()
                if sealed.fd < 0:
                    raise
        return await volume.put(self._key, fd=sealed.fd, size=sealed.size, digest=sealed.digest)

    async def _keep(self) -> None:
        try:
            await self._sealed.keep(self._note, written=self._send_posted)
        except (StagingFull, StagingFailed) as error:
            if not self._sealed.written:
                raise  # there is nothing that a volume could copy
            self._staging_failed = True
            self._reasons.append(error.reason)
        else:
            self.staged = True

    async def undo(self) -> None:
        """Take back what a failed attempt left; a volume that cannot is left to reconciliation."""
        for posted in self._posted:
            posted.drop()
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)
        if self._conflict is None:
            await self._sealed.release()
        for volume in self._new:
            try:
                await volume.remove(self._key)
            except VolumeError as error:
                self._reasons.append(error.reason)
