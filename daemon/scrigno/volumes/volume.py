# SPDX-License-Identifier: Apache-2.0
"""The volumes as the rest of the daemon sees them: which there are, and orders to them."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, Self

from scrigno.core.clock import Clock
from scrigno.core.counters import Counters
from scrigno.core.errors import CommandError
from scrigno.core.events import EventBus
from scrigno.host.mounts import MountWatch

from .kernel import Kernel
from .operations import STEP_BYTES, Checked, Scanned, Volume
from .orders import may_adopt, may_force, may_pause, may_resume, may_retire
from .probing import DevicesOf
from .regaining import Regaining
from .registry import Registry
from .states import Role, VolumeSpec, VolumeState, VolumeStatus
from .surroundings import Surroundings, Timing
from .transitions import Fact
from .warden import Warden

# what the rooms above need stands in one place
__all__ = ["STEP_BYTES", "Checked", "Scanned", "Volume", "Volumes"]

log = logging.getLogger(__name__)

START_WAIT_S: Final = 2.0  # a hung disk must not delay the start (budget: 2 s to the first image)


class Volumes:
    """The volumes and their wardens. Loop thread only."""

    def __init__(
        self,
        specs: Sequence[VolumeSpec],
        *,
        state_dir: Path,
        counters: Counters,
        bus: EventBus,
        clock: Clock,
        op_timeout_s: float | None = None,
        timing: Timing | None = None,
        devices_of: DevicesOf | None = None,
        kernel: Kernel | None = None,
        used_before: bool = False,
    ) -> None:
        """Start nothing yet; names and paths of `specs` must be unique.

        `devices_of` names the physical disks under a path; without it a device number stands for
        them. `kernel` is this machine's own unless a test gives another. `used_before`: the box
        had volumes, so a memory of them that is gone was lost (`registry`).
        """
        timing = timing or Timing()
        if op_timeout_s is not None:
            timing = replace(timing, op_timeout_s=op_timeout_s)
        if len({spec.name for spec in specs}) < len(specs):
            raise ValueError("two volumes have the same name")
        # Whether a volume has everything it missed while it was away; the archive knows.
        self.caught_up: Callable[[str], bool] = lambda _name: True
        self._specs = tuple(specs)
        self._state_dir = state_dir
        self._counters = counters
        self._bus = bus
        self._clock = clock
        self._timing = timing
        self._devices_of = devices_of
        self._kernel = kernel or Kernel()
        self._used_before = used_before
        self._forgotten: frozenset[str] = frozenset()
        self._wardens: dict[str, Warden] = {}
        self._around: Surroundings | None = None
        self._mounts: MountWatch | None = None
        self._asked_early = asyncio.Event()  # ask the kernel now
        self._asking: asyncio.Task[None] | None = None
        self._complained = False

    # -- life --------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start every worker; returns when each has shown its state, at most after 2 s.

        A memory of the volumes that is damaged is set aside and made anew: see `damage`.
        """
        registry = await asyncio.to_thread(self._remembering)
        self._forgotten = registry.forgotten
        self._around = Surroundings(
            registry=registry,
            regaining=Regaining(registry, [spec.name for spec in self._specs]),
            claims={},
            kernel=self._kernel,
            timing=self._timing,
            counters=self._counters,
            bus=self._bus,
            clock=self._clock,
            devices_of=self._devices_of,
            caught_up=self._has_caught_up,
        )
        self._mounts = MountWatch(self._mounts_changed)
        for spec in sorted(self._specs, key=lambda spec: spec.role is not Role.DATA):
            self._add(spec)
        self._asking = asyncio.get_running_loop().create_task(
            self._ask_the_kernel(), name="volumes: kernel"
        )
        waits = [asyncio.ensure_future(w.shown.wait()) for w in self._wardens.values()]
        if waits:
            _, late = await asyncio.wait(waits, timeout=START_WAIT_S)
            for wait in late:
                wait.cancel()

    def _remembering(self) -> Registry:
        registry = Registry(self._state_dir, used_before=self._used_before)
        if not registry.owner:
            registry.forget(spec.name for spec in self._specs)
        return registry

    @property
    def damage(self) -> str:
        """Return in words what of the memory was damaged at the start or is still not known."""
        if self._around is None:
            return ""
        registry = self._around.registry
        if not registry.forgotten:
            return registry.damage
        names = ", ".join(sorted(registry.forgotten))
        words = f"not known any more and not seen since: volume {names}"
        return f"{registry.damage}; {words}" if registry.damage else words

    @property
    def forgotten(self) -> frozenset[str]:
        """The volumes of which the box knew nothing at this start, though they were in use."""
        return self._forgotten

    @property
    def used_before(self) -> bool:
        """Tell whether the box had volumes before this start."""
        return self._around is not None and not self._around.registry.is_new

    def remind(self, uuids: Mapping[str, str]) -> None:
        """Say which disks others remember, by volume; only a box that has forgotten them listens.

        Until this is called, or for some seconds, a box without memory lets no volume in.
        """
        self._started.regaining.remind(uuids)

    def _add(self, spec: VolumeSpec) -> None:
        around = self._started
        volume = Volume(spec, self._counters)
        warden = self._wardens[spec.name] = Warden(volume, around)
        standing = around.registry.standing(spec.name)
        if standing is not None:
            volume.paused, volume.retired = not standing.retired, standing.retired
            volume.operator_reason = standing.reason
            fact = Fact.RETIRED if standing.retired else Fact.PAUSED
            warden.stop(fact, _stopped(standing.reason, retired=standing.retired))
        warden.start()

    @property
    def _started(self) -> Surroundings:
        assert self._around is not None  # noqa: S101 - start() has made it
        return self._around

    async def close(self) -> None:
        """Stop every worker; a stuck one is abandoned. Idempotent."""
        if self._mounts is not None:
            self._mounts.close()
            self._mounts = None
        asking, self._asking = self._asking, None
        if asking is not None:
            asking.cancel()
            await asyncio.wait([asking])
        await asyncio.gather(*(warden.close() for warden in self._wardens.values()))

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close."""
        await self.close()

    async def configure(self, specs: Sequence[VolumeSpec]) -> None:
        """Change the set of volumes in service; what is unchanged goes on undisturbed.

        Another role takes effect at once. Another path ends the time of service there and begins
        one at the new path, where the same disk must stand; for another disk, `adopt` it.
        """
        around = self._started
        wanted = {spec.name: spec for spec in specs}
        gone = []
        for name, warden in self._wardens.items():
            spec = wanted.get(name)
            if spec is None or spec.path != warden.volume.spec.path:
                gone.append(name)
            else:
                warden.volume.spec = spec
        await asyncio.gather(*(self._wardens[name].close() for name in gone))
        for name in gone:
            del self._wardens[name]
        await asyncio.to_thread(around.registry.release_all_but, list(wanted))
        self._specs = tuple(specs)
        for spec in specs:
            if spec.name not in self._wardens:
                self._add(spec)

    # -- which there are ---------------------------------------------------------------------

    def by_name(self, name: str) -> Volume:
        """Return the volume; raises KeyError."""
        return self._wardens[name].volume

    @property
    def ordered(self) -> tuple[Volume, ...]:
        """All of them, data first, else as configured."""
        volumes = [self._wardens[s.name].volume for s in self._specs if s.name in self._wardens]
        return tuple(sorted(volumes, key=lambda volume: volume.spec.role is not Role.DATA))

    def healthy(self) -> list[Volume]:
        """Those that are ONLINE, in order."""
        return [volume for volume in self.ordered if volume.state is VolumeState.ONLINE]

    def statuses(self) -> list[VolumeStatus]:
        """Return how all of them are now."""
        return [volume.status() for volume in self.ordered]

    # -- orders of an operator: KeyError, CommandError (not now, with the next step) ------------

    async def pause(self, name: str, reason: str) -> None:
        """Neither write nor read it until `resume`, also after a restart; it may be unmounted."""
        warden = self._wardens[name]
        volume = warden.volume
        may_pause(volume, self.ordered)
        await self._keep(self._started.registry.pause, name, reason, self._clock.now())
        volume.paused, volume.operator_reason = True, reason
        warden.stop(Fact.PAUSED, _stopped(reason, retired=False))
        await warden.gone()

    async def resume(self, name: str) -> None:
        """Use a paused volume again once it has proved itself and has caught up."""
        warden = self._wardens[name]
        may_resume(warden.volume)
        await self._keep(self._started.registry.release, name)
        warden.volume.paused, warden.volume.operator_reason = False, ""
        warden.resume()

    async def force(self, name: str) -> None:
        """Leave the waiting time after a failure out; identity, proofs and catching up stay."""
        may_force(self._wardens[name].volume)
        self._wardens[name].force()

    async def retire(self, name: str) -> None:
        """Take a volume out for good; its disk is known as retired when it comes back.

        It stays in the list, OFFLINE, until `configure` leaves it out or `adopt` gives it a disk.
        """
        warden = self._wardens[name]
        volume = warden.volume
        may_retire(volume, self.ordered)
        await self._keep(self._started.registry.retire, name, self._clock.now())
        volume.paused, volume.operator_reason, volume.retired = False, "", True
        warden.stop(Fact.RETIRED, _stopped("", retired=True))
        await warden.gone()

    async def adopt(self, name: str, *, force: bool = False) -> None:
        """Make what stands at the path this volume: a new disk, or one that was refused.

        The disk before is known as replaced from then on. `force`: even one of another box, or
        the bare folder of a mount point. Raises VolumeError too, when it does not answer.
        """
        warden = self._wardens[name]
        may_adopt(warden.volume)
        if warden.volume.retired:
            await self._keep(self._started.registry.release, name)
            warden.volume.retired = False
        await warden.adopt(force=force)

    async def _keep(self, method: Callable[..., None], *args: object) -> None:
        try:
            await asyncio.to_thread(method, *args)
        except OSError as error:
            raise CommandError(
                f"The order could not be kept in the state directory: {error.strerror}.",
                next_step="See that the system disk has room and is writable.",
            ) from error

    # -- the kernel --------------------------------------------------------------------------

    def _has_caught_up(self, name: str) -> bool:
        return self.caught_up(name)  # the archive sets it after the start

    def _mounts_changed(self) -> None:
        self._asked_early.set()  # whose mount it was is known in a moment
        for warden in self._wardens.values():
            warden.mounts_changed()

    async def _ask_the_kernel(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._timing.kernel_every_s):
                    await self._asked_early.wait()
            except TimeoutError:
                pass
            self._asked_early.clear()
            places = {n: w.place for n, w in self._wardens.items() if w.place is not None}
            try:
                views = await self._kernel.look(places)
            except Exception as error:  # noqa: BLE001 - told; it must not end the asking
                self._not_understood(error)
                continue
            for name, view in views.items():
                warden = self._wardens.get(name)
                if warden is not None and warden.place is places[name]:
                    warden.hear(view)

    def _not_understood(self, error: Exception) -> None:
        self._counters.add("volume_kernel_not_understood")
        if not self._complained:
            self._complained = True
            log.error("volumes: the kernel is not understood", exc_info=error)


def _stopped(reason: str, *, retired: bool) -> str:
    return "retired by an operator" if retired else f"paused by an operator: {reason}"
