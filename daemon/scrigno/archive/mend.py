# SPDX-License-Identifier: Apache-2.0
"""One copy of one object: read it anew from its disk, judge it, and make it good again (ST-6).

A copy is only ever replaced after another one was read back and found good in the same moment, and
what stood in its place is set aside under another name, not deleted. Without any good copy nothing
is touched: a damaged copy is better than none.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from scrigno.catalogue.catalogue import Catalogue
from scrigno.catalogue.fixity import LostKind, LostObject, Mark, SetAside
from scrigno.catalogue.records import CopyState, StoredInstance, StoredKey
from scrigno.core.clock import Clock
from scrigno.core.counters import Counters
from scrigno.core.events import CopyDamaged, EventBus, NoGoodCopy
from scrigno.volumes.placement import KeyConflict, Placement
from scrigno.volumes.staging import StagingFailed, StagingFull
from scrigno.volumes.states import ErrorKind, VolumeError, VolumeState
from scrigno.volumes.volume import Volume, Volumes

from .failpoints import hit
from .quarantine import Why, displace

log = logging.getLogger(__name__)

ZEROS_LOOKED_AT: Final = 1 << 20  # a file that begins with so many zeros is called zeroed
SETTLE_S: Final = 10.0  # after an I/O error: the volume is probed, and is on its feet again or away
SETTLE_POLL_S: Final = 0.05
# States in which what is read says something about the file and not about the volume.
STEADY: Final = frozenset({VolumeState.ONLINE, VolumeState.READONLY, VolumeState.FULL})


class Finding(StrEnum):
    """What reading one copy showed."""

    GOOD = "good"
    MISSING = "missing"
    CHANGED = "changed"
    CUT = "cut"  # it has another size
    ZEROED = "zeroed"  # the right size, and nothing but zeros where it begins
    UNREADABLE = "unreadable"
    SKIPPED = "skipped"  # the volume is away or failed while it was read


_WHY: Final = {
    Finding.CHANGED: Why.CHANGED,
    Finding.CUT: Why.CUT,
    Finding.ZEROED: Why.ZEROED,
    Finding.UNREADABLE: Why.UNREADABLE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One object whose copies are looked at. An object of the inbox is named by its key."""

    name: str
    key: str
    digest: str
    size: int
    staged_as: str | None
    held: tuple[str, ...]  # volumes

    @classmethod
    def of(cls, one: StoredKey | StoredInstance) -> "Target":
        """Return what is to be looked at of a known object."""
        return cls(
            name=one.sop_instance_uid,
            key=one.key,
            digest=one.digest,
            size=one.size,
            staged_as=one.staged_as,
            held=tuple(copy.volume for copy in one.copies if copy.state is CopyState.HELD),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What one copy is like; `digest` and `size` of what stands there when it could be read."""

    finding: Finding
    digest: str = ""
    size: int = 0
    whole: bool = False  # it is what the digest kept beside it says: another object, not damage


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a copy that looked bad."""

    finding: Finding
    repaired: bool = False
    lost: bool = False  # no good copy could be read
    read_bytes: int = 0


class Mender:
    """Looks at copies and mends them. Loop thread only."""

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        volumes: Volumes,
        placement: Placement,
        counters: Counters,
        clock: Clock,
        bus: EventBus,
        turn: Callable[[str], AbstractAsyncContextManager[None]],
        settle_s: float = SETTLE_S,
    ) -> None:
        """`turn` keeps others off one object while it is mended."""
        self._catalogue = catalogue
        self._volumes = volumes
        self._placement = placement
        self._counters = counters
        self._clock = clock
        self._bus = bus
        self._turn = turn
        self._settle_s = settle_s

    # looking -----------------------------------------------------------------------------------

    async def look(
        self,
        target: Target,
        name: str,
        between: Callable[[int], Awaitable[None]] | None = None,
    ) -> Look:
        """Read one copy from its disk, not from a cache, and judge it; `between` as in `check`."""
        volume = self._volume(name)
        if volume is None or not volume.readable:
            return Look(finding=Finding.SKIPPED)
        try:
            found = await volume.check(target.key, between)
        except VolumeError as error:
            return Look(finding=await self._judge(volume, error))
        if found.digest == target.digest:
            if found.beside != found.digest:
                await self._note_digest(volume, target, known=found.beside)
            return Look(finding=Finding.GOOD, digest=found.digest, size=found.size)
        finding = Finding.CUT if found.size != target.size else Finding.CHANGED
        if finding is Finding.CHANGED and await _is_zeroed(volume, target):
            finding = Finding.ZEROED
        return Look(
            finding=finding,
            digest=found.digest,
            size=found.size,
            whole=found.beside == found.digest,
        )

    async def _note_digest(self, volume: Volume, target: Target, *, known: str | None) -> None:
        """Write the digest beside a good copy that has none, or another one."""
        if volume.state is not VolumeState.ONLINE:
            return
        if known is not None:
            log.warning("volume %s: the digest beside %s was wrong", volume.name, target.key)
            self._counters.add("fixity_wrong_digests_beside", volume=volume.name)
        try:
            await volume.note_digest(target.key, target.digest)
        except VolumeError as error:
            log.warning("volume %s: no digest beside %s: %s", volume.name, target.key, error.reason)

    async def _judge(self, volume: Volume, error: VolumeError) -> Finding:
        """Tell a file that cannot be read from a volume that cannot."""
        if error.kind is ErrorKind.MISSING:
            return Finding.MISSING
        if error.kind is ErrorKind.IO and await self._steady(volume):
            return Finding.UNREADABLE
        return Finding.SKIPPED

    async def _steady(self, volume: Volume) -> bool:
        """Wait for the probe that follows an I/O error; tell whether the volume itself is well."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + self._settle_s
        while volume.state not in STEADY:
            if loop.time() >= ends or not volume.readable:
                return False
            await asyncio.sleep(SETTLE_POLL_S)
        return True

    # mending -----------------------------------------------------------------------------------

    async def check(self, name: str) -> bool:
        """Look at every copy of one object and mend the bad ones; tell whether one is good.

        True as well when the object is not known any more. Raises DatabaseError.
        """
        stored = await self._catalogue.stored_key(name)
        if stored is None:
            await self._catalogue.found_good([name])
            return True
        target = Target.of(stored)
        looks = {volume: await self.look(target, volume) for volume in target.held}
        good = [volume for volume, look in looks.items() if look.finding is Finding.GOOD]
        await self.note_good(target, good)
        for volume, look in looks.items():
            if look.finding not in (Finding.GOOD, Finding.SKIPPED):
                await self.mend(name, volume)
        return bool(good)

    async def has_good_copy(self, name: str) -> bool:
        """Read the copies of one object until one is right; False as well when it is unknown."""
        stored = await self._catalogue.stored_key(name)
        if stored is None:
            return False
        target = Target.of(stored)
        for volume in target.held:
            if (await self.look(target, volume)).finding is Finding.GOOD:
                await self.note_good(target, [volume])
                return True
        return False

    async def note_good(self, target: Target, volumes: list[str]) -> None:
        """Record at once that these copies are right."""
        if volumes:
            now = self._clock.now()
            await self._catalogue.copies_verified(
                [Mark(name=target.name, volume=volume, at=now) for volume in volumes]
            )

    async def mend(self, name: str, volume_name: str) -> Outcome:
        """Look a second time at a copy that looked bad, and write it anew from a good one.

        What cannot be done now is owed to the volume and paid by replication. Raises DatabaseError.
        """
        async with self._turn(name):
            stored = await self._catalogue.stored_key(name)
            target = None if stored is None else Target.of(stored)
            if target is None or volume_name not in target.held:
                return Outcome(finding=Finding.SKIPPED)  # it was removed or replaced meanwhile
            look = await self.look(target, volume_name)
            if look.finding is Finding.GOOD:
                await self.note_good(target, [volume_name])
                self._counters.add("fixity_second_look_good", volume=volume_name)
            if look.finding in (Finding.GOOD, Finding.SKIPPED):
                return Outcome(finding=look.finding, read_bytes=look.size)
            outcome = await self._mend(target, volume_name, look)
        self._counters.add("fixity_bad_copies", volume=volume_name, finding=look.finding)
        if outcome.repaired:
            self._counters.add("fixity_repaired_copies", volume=volume_name)
        self._bus.publish(
            CopyDamaged(
                volume=volume_name,
                name=name,
                problem=look.finding.value,
                repaired=outcome.repaired,
            )
        )
        return outcome

    async def _mend(self, target: Target, name: str, look: Look) -> Outcome:
        log.warning("volume %s: copy of object %s is %s", name, target.name, look.finding.value)
        others, read = {name: look}, look.size
        for other in target.held:
            if other == name:
                continue
            others[other] = await self.look(target, other)
            read += others[other].size
            if others[other].finding is Finding.GOOD:
                await self.note_good(target, [other])
                repaired = await self._repair(target, name, look, (other,))
                return Outcome(
                    finding=look.finding, repaired=repaired, read_bytes=read + 2 * target.size
                )
        if await self._placement.stages(target.staged_as, target.digest):
            repaired = await self._repair(target, name, look, ())
            return Outcome(finding=look.finding, repaired=repaired, read_bytes=read + target.size)
        await self._no_good_copy(target, others)
        if look.finding is Finding.MISSING:
            await self._catalogue.copy_missing(target.name, name)
        return Outcome(finding=look.finding, lost=True, read_bytes=read)

    async def _no_good_copy(self, target: Target, looks: dict[str, Look]) -> None:
        """Put the object on the list that the operator sees, and say so once."""
        away = tuple(name for name, look in looks.items() if look.finding is Finding.SKIPPED)
        kind = LostKind.WAITING if away else LostKind.LOST
        if not away and len({look.digest for look in looks.values() if look.whole}) == 1:
            kind = LostKind.INDEX if all(look.whole for look in looks.values()) else kind
        lost = LostObject(name=target.name, kind=kind, found_at=self._clock.now(), away=away)
        if await self._catalogue.note_lost(lost):
            log.error(
                "object %s: no good copy is left that can be read (%s)", target.name, kind.value
            )
            self._counters.add("fixity_lost_objects", kind=kind)
            self._bus.publish(NoGoodCopy(name=target.name, kind=kind.value, away=away))

    async def _repair(
        self, target: Target, name: str, look: Look, sources: tuple[str, ...]
    ) -> bool:
        """Write a copy anew from a good one; tell whether it stands there and reads right."""
        # Owed before the bad copy goes, so that a crash in between is made good too.
        await self._catalogue.copy_missing(target.name, name)
        hit("mend-owed")
        volume = self._volume(name)
        if volume is None or not await self._steady(volume):
            return False
        if volume.state is not VolumeState.ONLINE:
            return False
        try:
            if look.finding is not Finding.MISSING:
                await self._set_aside(volume, target, look)
            hit("mend-set-aside")
            await self._placement.replicate(
                target.staged_as, target.key, target.digest, sources=sources, target=name
            )
        except (VolumeError, StagingFull, StagingFailed, KeyConflict) as error:
            log.warning("volume %s: %s is not repaired now: %s", name, target.key, error.reason)
            return False
        hit("mend-written")
        # A disk that spoiled it once may do so again: what was written is read back.
        if (await self.look(target, name)).finding is not Finding.GOOD:
            log.warning("volume %s: %s does not read right after repair", name, target.key)
            return False
        await self._catalogue.paid(target.name, name)
        await self.note_good(target, [name])
        return True

    async def _set_aside(self, volume: Volume, target: Target, look: Look) -> None:
        # What is as the digest beside it says is no damage: it is another object's file.
        why = Why.CONFLICT if look.whole else _WHY[look.finding]
        key = await displace(volume, target.key, look.digest, why)
        await self._catalogue.save_set_aside(
            [
                SetAside(
                    volume=volume.name,
                    key=key,
                    object_key=target.key,
                    why=why.value,
                    size=look.size,
                    set_aside_at=self._clock.now(),
                )
            ]
        )

    def _volume(self, name: str) -> Volume | None:
        try:
            return self._volumes.by_name(name)
        except KeyError:
            return None


async def _is_zeroed(volume: Volume, target: Target) -> bool:
    try:
        head = await volume.head(target.key, min(target.size, ZEROS_LOOKED_AT))
    except VolumeError:
        return False
    return not any(head)
