# SPDX-License-Identifier: Apache-2.0
"""Letting a volume into service: who stands at the path, is it ours, from now on it may be written.

The order matters: identity first, then the marker's generation on the disk, then the box's memory
of it (a crash in between leaves the disk a generation ahead, which is no clone), then the worker
is armed. Nothing is written before the identity is known.
"""

import asyncio
import logging
import os
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from scrigno.core.clock import Clock
from scrigno.core.errors import CommandError

from .kernel import Kernel, Place, View
from .link import WorkerLink
from .marker import Judgement, Marker, Remembered, Verdict, judge
from .protocol import Op, Space, pack, unpack
from .regaining import Regaining
from .registry import Registry
from .states import ErrorKind, VolumeError
from .transitions import Fact

if TYPE_CHECKING:
    from .operations import Volume

log = logging.getLogger(__name__)

_FACTS: Final = {
    Verdict.ABSENT: Fact.IDENTITY_ABSENT,
    Verdict.FOREIGN: Fact.IDENTITY_FOREIGN,
    Verdict.STALE: Fact.IDENTITY_STALE,
    Verdict.OTHER_BOX: Fact.IDENTITY_OTHER_BOX,
    Verdict.PARTED: Fact.IDENTITY_PARTED,
}
_NOT_WRITABLE: Final = (ErrorKind.READONLY, ErrorKind.FULL, ErrorKind.DENIED)


class NotLetIn(Exception):
    """What stands at the path is not this volume."""

    def __init__(self, fact: Fact, words: str) -> None:
        """Keep the fact and its reason."""
        super().__init__(words)
        self.fact = fact
        self.words = words


class Adoption:
    """An order to take what stands at the path; `done` tells whoever gave it."""

    def __init__(self, *, force: bool) -> None:
        """`force`: also what belongs to another box, or a bare mount point."""
        self.force = force
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def succeed(self) -> None:
        """Tell that the volume is in."""
        if not self.done.done():
            self.done.set_result(None)

    def fail(self, error: Exception) -> None:
        """Tell that it is not."""
        if not self.done.done():
            self.done.set_exception(error)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entered:
    """What is known of a volume that was let in."""

    place: Place
    view: View | None
    accepted_errors: int | None


class Entrance:
    """Lets one volume in. Loop thread only."""

    def __init__(
        self,
        volume: "Volume",
        *,
        registry: Registry,
        regaining: Regaining,
        claims: dict[str, str],
        kernel: Kernel,
        clock: Clock,
    ) -> None:
        """`claims` (uuid → volume name in service) is shared by all volumes."""
        self._volume = volume
        self._registry = registry
        self._regaining = regaining
        self._claims = claims
        self._kernel = kernel
        self._clock = clock

    async def enter(self, link: WorkerLink, adoption: Adoption | None) -> Entered:
        """Identify, adopt an empty folder never used, arm the worker.

        Raises NotLetIn, VolumeError.
        """
        volume = self._volume
        facts = unpack((await link.call(Op.OPEN, b"")).body)
        device = int(facts["device"])
        volume.device = device
        volume.devices = frozenset({f"dev:{device}"})
        volume.note_space(Space(**facts["space"]))
        place = Place(
            path=Path(facts["place"]),
            mount_id=facts["mount"],
            number=f"{os.major(device)}:{os.minor(device)}",
        )
        view = (await self._kernel.look({volume.name: place})).get(volume.name)
        found = None if facts["marker"] is None else Marker.parse(facts["marker"])
        await self._regaining.hear(volume.name, found)
        marker = self._identified(found, facts, view, adoption)
        self._claims[marker.uuid] = volume.name
        accepted = self._accepted_errors(marker, view, adopted=adoption is not None)
        remembered = self._registry.remembered(volume.name)
        if view is not None:
            own_mount = view.own_mount
        else:
            own_mount = remembered is not None and remembered.own_mount
        await self._into_service(link, marker, accepted=accepted, own_mount=own_mount)
        return Entered(place=place, view=view, accepted_errors=accepted)

    def leave(self) -> None:
        """Give the disk free for other names."""
        for disk in [disk for disk, name in self._claims.items() if name == self._volume.name]:
            del self._claims[disk]

    def _identified(
        self,
        found: Marker | None,
        facts: dict[str, Any],
        view: View | None,
        adoption: Adoption | None,
    ) -> Marker:
        name, registry = self._volume.name, self._registry
        taken = frozenset(disk for disk, holder in self._claims.items() if holder != name)
        judgement = judge(
            name=name,
            owner=registry.owner,
            remembered=registry.remembered(name),
            found=found,
            empty=facts["empty"],
            taken=taken,
            trouble=facts["trouble"],
            parted=registry.parted,
            forgotten=registry.is_forgotten(name),
        )
        if judgement.verdict is Verdict.OURS and found is not None:
            return found
        if judgement.verdict is Verdict.EMPTY:
            return self._fresh_marker()
        if adoption is None or adoption.done.done():
            if judgement.verdict is Verdict.ABSENT and view is not None and view.own_mount:
                # not away: something is mounted here that has no marker of anybody
                where = f"a disk without a marker is mounted at {self._volume.spec.path}"
                raise NotLetIn(_FACTS[Verdict.FOREIGN], where)
            raise NotLetIn(_FACTS[judgement.verdict], self._reason(judgement, view))
        try:
            return self._taken_over(found, taken, judgement, view, force=adoption.force)
        except CommandError as error:
            adoption.fail(error)
            raise NotLetIn(_FACTS[judgement.verdict], self._reason(judgement, view)) from error

    def _reason(self, judgement: Judgement, view: View | None) -> str:
        if judgement.verdict is Verdict.ABSENT and self._bare(view):
            return f"nothing is mounted at {self._volume.spec.path}"
        return judgement.reason

    def _bare(self, view: View | None) -> bool:
        """Tell whether the path was a mount point, and is none now."""
        remembered = self._registry.remembered(self._volume.name)
        return (
            remembered is not None
            and remembered.own_mount
            and view is not None
            and not view.own_mount
        )

    def _fresh_marker(self) -> Marker:
        spec = self._volume.spec
        log.info("volume %s: adopting the folder %s", spec.name, spec.path)
        return Marker.new(
            owner=self._registry.owner,
            name=spec.name,
            role=spec.role.value,
            now=self._clock.now(),
        )

    def _taken_over(
        self,
        found: Marker | None,
        taken: frozenset[str],
        judgement: Judgement,
        view: View | None,
        *,
        force: bool,
    ) -> Marker:
        """Return the marker under which an operator's adoption goes on; raises CommandError."""
        spec = self._volume.spec
        if self._bare(view) and not force:
            raise CommandError(
                f"volume {spec.name}: nothing is mounted at {spec.path}, it is a bare folder.",
                next_step="Mount the new disk there first. --force takes the folder itself.",
            )
        if found is not None and found.uuid in taken:
            raise CommandError(f"volume {spec.name}: {judgement.reason}.")
        # an order to adopt says who the box is, when it has forgotten that
        self._registry.settle_owner(str(uuid.uuid4()) if found is None else found.owner)
        if found is None:
            return self._fresh_marker()
        if not force and found.owner != self._registry.owner:
            raise CommandError(
                f"volume {spec.name}: {judgement.reason}.",
                next_step="Use --force to take it over.",
            )
        log.warning("volume %s: taking over %s (%s)", spec.name, spec.path, judgement.reason)
        remembered = self._registry.remembered(spec.name)
        generation = max(found.generation, remembered.generation if remembered else 0)
        return replace(found, owner=self._registry.owner, generation=generation)

    def _accepted_errors(self, marker: Marker, view: View | None, *, adopted: bool) -> int | None:
        """Return how many errors of ext4 are old news: those before its first service or repair.

        The count lies on the disk and outlives a mount; e2fsck sets it back.
        """
        now = None if view is None else view.fs_errors
        remembered = self._registry.remembered(self._volume.name)
        if adopted or remembered is None or remembered.uuid != marker.uuid:
            return now
        before = remembered.fs_errors
        return now if before is None or (now is not None and now < before) else before

    async def _into_service(
        self, link: WorkerLink, marker: Marker, *, accepted: int | None, own_mount: bool
    ) -> None:
        volume, spec = self._volume, self._volume.spec
        marker = replace(marker.next_generation(), name=spec.name, role=spec.role.value)
        try:
            await link.call(Op.MARK, pack(marker.document()))
        except VolumeError as error:
            if error.kind not in _NOT_WRITABLE:
                raise
            marker = replace(marker, generation=marker.generation - 1)
        entry = Remembered(
            uuid=marker.uuid,
            generation=marker.generation,
            own_mount=own_mount,
            fs_errors=accepted,
        )
        await asyncio.to_thread(self._registry.remember, spec.name, entry, self._clock.now())
        await link.call(Op.ARM, pack({"uuid": marker.uuid}))
        volume.uuid, volume.generation = marker.uuid, marker.generation
