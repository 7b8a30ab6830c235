# SPDX-License-Identifier: Apache-2.0
"""One object on its way to enough devices, whichever of them fail or fall silent meanwhile.

A failure is answered at once by the next volume. Silence is answered after HEDGE_S by the next
volume beside the silent one: whoever makes it enough devices wins, and what comes later is simply
one more copy. Staging is one of the devices; without it volumes alone must be enough.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from scrigno.core.errors import ScrignoError

from . import devices
from .link import Posted, WorkerDiedError
from .sealed import Sealed, StagingFailed, StagingFull
from .staging import Staging
from .states import ErrorKind, PutOutcome, PutResult, VolumeError, VolumeState
from .volume import Volume, Volumes

HEDGE_S: Final = 2.0  # a volume that needs longer is joined by the next one
HOLD_S: Final = 5.0  # how long an object waits for a volume that may yet take it
LOOK_AGAIN_S: Final = 0.1
TRIES: Final = 3  # of one volume that failed and is ONLINE again
# When nothing is ONLINE: these answer, and refusing an image is worse than trusting them once.
_LAST_RESORT: Final = (VolumeState.SUSPECT, VolumeState.RECOVERING, VolumeState.FULL)
_MAY_YET: Final = (VolumeState.STARTING, VolumeState.SUSPECT, VolumeState.RECOVERING)
_SAID_NO: Final = (ErrorKind.FULL, ErrorKind.READONLY)


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestPolicy:
    """How many copies an acknowledgement needs; whether two folders of one disk count as two."""

    ack_copies: int = 2
    count_shared_device: bool = False


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


class Attempt:
    """The putting of one object. Loop thread only; used once."""

    def __init__(
        self,
        sealed: Sealed,
        key: str,
        note: Mapping[str, str],
        policy: IngestPolicy,
        staging: Staging,
        volumes: Volumes,
    ) -> None:
        """Start nothing yet."""
        self.policy = policy
        self.staged = False
        self.stored: list[Volume] = []
        self._sealed = sealed
        self._key = key
        self._note = note
        self._staging = staging
        self._volumes = volumes
        self._candidates: list[Volume] = []
        self._no_staging = False  # it failed, or is silent
        self._unsure = (
            False  # staging failed after the bytes were in its file: it may have lost them
        )
        self._unproved: set[Volume] = set()  # that copied from staging's file
        self._new: list[Volume] = []  # where the object was not before
        self._reasons: list[str] = []
        self._tries: Counter[str] = Counter()  # by volume, those that failed
        self._running: dict[asyncio.Task[None], Volume | None] = {}  # None: staging
        self._silent: set[asyncio.Task[None]] = set()  # of the running ones
        self._posted: list[Posted] = []  # puts that are sent as soon as the bytes are in a file
        self._conflict: KeyConflict | None = None
        self._hold_until = 0.0  # loop time; 0: every hope was still there

    async def run(self) -> None:
        """Start what is needed, replace what fails, until it is enough or nothing is left."""
        sealed = self._sealed
        self._candidates = self._usable()
        self._no_staging = not sealed.keepable or bool(self._staging.failure)
        if not sealed.written and not self._post_puts():
            await self._write()
        elif self._no_staging and sealed.written and not sealed.in_spare:
            self._unsure = True
        # the volumes first: their request is away before staging's fsync begins
        self._start_puts()
        if not self._no_staging or sealed.name is not None:
            self._run_beside(self._keep(), None)
        elif not sealed.written:
            await self._write()
        await self._until_enough()
        while self._unsure and not await self._read_back():
            self._start_puts()
            await self._until_enough()
        if self._conflict is not None:
            raise self._conflict
        if not self.stored:
            reasons = "; ".join(self._reasons) or "no volume is in service"
            raise NoDurableStorage(
                f"no volume could take the object: {reasons}.",
                next_step="See the storage page for the state of each volume.",
            )

    async def _until_enough(self) -> None:
        while True:
            while self._running:
                done, _ = await asyncio.wait(
                    self._running, timeout=HEDGE_S, return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    del self._running[task]
                    self._silent.discard(task)
                    task.result()
                if not done:
                    await self._join_the_silent()
                if self._conflict is None:
                    self._start_puts()
                    if self._silent and self._enough():
                        return
            if self.stored or self._conflict is not None or not await self._look_again():
                return

    async def _join_the_silent(self) -> None:
        """Count no longer on what gave no answer for HEDGE_S."""
        self._silent = set(self._running)
        if None in self._running.values() and not self.staged:
            self._no_staging = True
            if not self._sealed.written:
                # the thread hangs before the bytes are in a file: volumes copy from memory
                await self._write_spare()

    async def _look_again(self) -> bool:
        """Wait for a volume that may yet take the object; the sender waits with us."""
        loop = asyncio.get_running_loop()
        self._hold_until = self._hold_until or loop.time() + HOLD_S
        while loop.time() < self._hold_until:
            if self._tries:
                await asyncio.sleep(LOOK_AGAIN_S)
            usable = [v for v in self._usable() if 0 <= self._tries[v.name] < TRIES]
            ready = [v for v in usable if not self._tries[v.name] or _is_online(v)]
            if ready and self._sealed.fd >= 0:
                self._candidates = ready
                self._start_puts()
                return True
            if not usable and not any(v.state in _MAY_YET for v in self._volumes.ordered):
                return False
            if not self._tries:
                await asyncio.sleep(LOOK_AGAIN_S)
        return False

    def devices(self) -> int:
        """How many devices count that have it now."""
        return self._count(self.stored, staged=self.staged)

    def _enough(self) -> bool:
        return bool(self.stored) and self.devices() >= self.policy.ack_copies

    def _count(self, volumes: Sequence[Volume], *, staged: bool) -> int:
        if self.policy.count_shared_device:
            return len(volumes) + staged
        places: list[devices.Place] = [*volumes]
        if staged:
            places.append(self._staging)
        return devices.count(places, shared=False)

    # puts --------------------------------------------------------------------------------------

    def _usable(self) -> list[Volume]:
        """Return who may be asked, the healthy first."""
        ordered = self._volumes.ordered
        last_resort = [v for v in ordered if v.state in _LAST_RESORT and v.link is not None]
        return [v for v in (*self._volumes.healthy(), *last_resort) if not is_paused(v)]

    def _start_puts(self) -> None:
        """Start as many puts as are still needed, in the order of the candidates."""
        for volume in self._chosen(self._candidates):
            self._run_beside(self._put(volume), volume)

    def _post_puts(self) -> bool:
        """Begin the puts of an object that is not written yet; False when one cannot wait so."""
        sealed = self._sealed
        for volume in self._chosen(list(self._candidates)):
            posted = volume.post_put(self._key, size=sealed.size, digest=sealed.digest)
            if posted is None:
                return False
            self._candidates.remove(volume)
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
        asked = (v for task, v in self._running.items() if task not in self._silent)
        hoped = [*self.stored, *(v for v in asked if v is not None)]
        staged = self.staged or not self._no_staging
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
        from_memory = self._sealed.in_spare
        try:
            result = await self._put_from_good_source(volume, posted)
        except VolumeError as error:
            self._reasons.append(error.reason)
            self._tries[volume.name] += TRIES if error.kind in _SAID_NO else 1
            return
        except (StagingFull, StagingFailed) as error:
            self._reasons.append(error.reason)
            self._tries[volume.name] += TRIES
            return
        if result.outcome is PutOutcome.CONFLICT:
            self._conflict = KeyConflict(self._key, result.existing_digest, volume.name)
            return
        self.stored.append(volume)
        if result.outcome is PutOutcome.STORED:
            self._new.append(volume)
            if not from_memory:
                self._unproved.add(volume)

    async def _put_from_good_source(self, volume: Volume, posted: Posted | None) -> PutResult:
        """Put; from memory when it is staging, the source, that cannot be read or has failed."""
        if self._unsure:
            await self._sealed.to_spare()
        sealed, from_staging = self._sealed, not self._sealed.in_spare
        try:
            return await self._put_to(volume, posted)
        except VolumeError as error:
            if error.kind is not ErrorKind.IO or not from_staging:
                raise
            # another put may have brought it to memory meanwhile
            if not sealed.in_spare and not await sealed.source_is_bad():
                raise
        await sealed.to_spare()
        return await self._put_to(volume, None)

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

    # staging -----------------------------------------------------------------------------------

    async def _write(self) -> None:
        """Bring the bytes into a file, staging's or a spare one, and send what waits for them."""
        if not self._no_staging:
            try:
                async with asyncio.timeout(HEDGE_S):
                    await self._sealed.write()
            except (StagingFull, StagingFailed, TimeoutError) as error:
                self._without_staging(error)
            else:
                self._send_posted(self._sealed.fd)
                return
        await self._write_spare()

    async def _write_spare(self) -> None:
        try:
            self._send_posted(await self._sealed.to_spare())
        except (StagingFull, StagingFailed) as error:
            self._reasons.append(error.reason)
            if None not in self._running.values():  # nobody else will ever write the bytes
                raise

    async def _keep(self) -> None:
        try:
            await self._sealed.keep(self._note, written=self._send_posted)
        except (StagingFull, StagingFailed) as error:
            self._without_staging(error)
            if not self._sealed.written:
                self._send_posted(await self._sealed.to_spare())
            else:
                self._unsure = True
        else:
            self.staged = True

    async def _read_back(self) -> bool:
        """Read the copies that were made from staging's file; False when one is not right.

        After a failed fsync the kernel calls the lost pages clean, and the file reads as zeros. A
        copy that is wrong goes, if this attempt has made it.
        """
        doubtful = [volume for volume in self.stored if volume in self._unproved]
        all_right = True
        for volume in doubtful:
            self._unproved.discard(volume)
            try:
                if (await volume.digest(self._key))[0] == self._sealed.digest:
                    continue
                self._reasons.append(f"volume {volume.name}: staging had lost the bytes")
                await volume.remove(self._key)
                self._new.remove(volume)
                self._candidates.append(volume)
            except VolumeError as error:
                self._reasons.append(error.reason)
            self.stored.remove(volume)
            all_right = False
        return all_right

    def _without_staging(self, error: Exception) -> None:
        self._no_staging = True
        reason = error.reason if isinstance(error, ScrignoError) else "staging does not answer"
        self._reasons.append(reason)

    # afterwards --------------------------------------------------------------------------------

    def leave_late(self) -> Iterable[asyncio.Task[None]]:
        """Hand over what still runs although it is enough; each keeps the bytes it needs."""
        late, self._running = self._running, {}
        for task, volume in late.items():
            task.add_done_callback(_calling(self._sealed.borrow()))
            if volume is None:
                # should staging keep it after all, its entry is found a row by recovery
                self._sealed.missed(self._note)
        return late

    async def undo(self) -> None:
        """Take back what a failed attempt left; a volume that cannot is left to reconciliation."""
        for posted in self._posted:
            posted.drop()
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)
        if self._conflict is None:
            try:
                await self._sealed.release()
            except StagingFailed as error:
                self._reasons.append(error.reason)  # it is taken in when staging is back
        for volume in self._new:
            try:
                await volume.remove(self._key)
            except VolumeError as error:
                self._reasons.append(error.reason)


def is_paused(volume: Volume) -> bool:
    """Tell whether an operator keeps the volume out of use."""
    return bool(getattr(volume, "paused", False))


def _calling(done: Callable[[], None]) -> Callable[[object], None]:
    return lambda _: done()


def _is_online(volume: Volume) -> bool:
    return volume.state is VolumeState.ONLINE
