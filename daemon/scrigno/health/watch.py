# SPDX-License-Identifier: Apache-2.0
"""The watch over the machine: asks each source at its own pace and keeps what it learns.

A source that hangs, fails or talks rubbish is itself told as a condition, and all others go on.
Nothing here blocks the loop or wakes a sleeping disk; the kernel says when a mount or an md array
changes, everything else is looked at again and again.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from scrigno.core.errors import CommandError
from scrigno.host.blockdevices import BlockDevice
from scrigno.host.facts import NotAvailable
from scrigno.host.machine import Machine, Watching
from scrigno.host.reader import Reader
from scrigno.host.topology import Difference

from . import machine_memory
from .certificates import read_certificate
from .conditions import Condition, condition, in_order
from .disk_watch import DiskLook, name_of, users_of
from .forecast import Forecast, SpaceSample, forecast
from .machine_facts import (
    CertificateFacts,
    ClockFacts,
    MachineFacts,
    SensorFailure,
    UpsFacts,
    machine_conditions,
)
from .machine_memory import CLOCK, SPACE, MachineMemory
from .power_and_time import ClockLook, UpsLook
from .storage_watch import StorageLook, WatchedVolume
from .texts import Value
from .watched_source import Failures, Pace, Source, SourceFailed

if TYPE_CHECKING:
    from scrigno.host.resources import Resources

log = logging.getLogger(__name__)

SAMPLE_DAYS: Final = 35  # the trend looks back four weeks
SAVE_SPACE_S: Final = 3600.0
_DAY_S: Final = 86400.0
_ITSELF: Final = "the machine"


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineRules:
    """What the operator chose."""

    ups: str = ""  # as NUT names it, `ups@host`; "" when there is none
    certificates: Mapping[str, Path] = field(default_factory=dict)  # by name
    places: Mapping[str, Path] = field(default_factory=dict)  # folders beside the volumes, by name


@dataclass(frozen=True, slots=True, kw_only=True)
class Paces:
    """How often each source is asked, and how long it may take (an alert shows in 10 s)."""

    storage: Pace
    tools: Pace
    smart: Pace
    one_smart_s: float  # of the time for SMART, for each disk
    heat: Pace
    ups: Pace
    clock: Pace
    certificates: Pace
    resources: Pace
    space: Pace


USUAL: Final = Paces(
    storage=Pace(every_s=5, timeout_s=30),  # the kernel wakes it for mounts and md
    tools=Pace(every_s=60, timeout_s=30),  # lvs and zpool, where there is LVM or ZFS
    smart=Pace(every_s=3600, timeout_s=900),  # TrueNAS asks every 90 min
    one_smart_s=70,  # smartctl itself gets 60 s
    heat=Pace(every_s=120, timeout_s=15),
    ups=Pace(every_s=5, timeout_s=12),
    clock=Pace(every_s=30, timeout_s=15),
    certificates=Pace(every_s=3600, timeout_s=15),
    resources=Pace(every_s=10, timeout_s=10),
    space=Pace(every_s=600, timeout_s=25),
)


class MachineWatch:
    """Watches one machine. Loop only; `start` before anything else, `close` at the end."""

    def __init__(
        self,
        machine: Machine,
        *,
        folder: Path,
        volumes: Callable[[], Mapping[str, WatchedVolume]],
        rules: Callable[[], MachineRules] = MachineRules,
        on_change: Callable[[], None] = lambda: None,
        on_event: Callable[[str, str, Mapping[str, Value]], None] = lambda *_: None,
        paces: Paces = USUAL,
    ) -> None:
        """Remember in `folder` (on the system disk).

        `on_change` is called when `conditions()` has become another, `on_event` for what happens
        once: code, subject and values of an alert class of the kind "event".
        """
        self._machine = machine
        self._folder = folder
        self._volumes = volumes
        self._rules = rules
        self._on_change = on_change
        self._on_event = on_event
        self._paces = paces
        self._files = Reader("watch-files", at_once=2, timeout_s=10)
        self._one_writer = asyncio.Lock()
        self._unsaved: dict[str, str] = {}  # file -> why it could not be written
        self._certificates: tuple[CertificateFacts, ...] = ()
        self._resources: Resources | None = None
        self._forecasts: dict[str, Forecast] = {}
        self._space_saved_s = float("-inf")
        self._index_damage = ""
        self._conditions: tuple[Condition, ...] = ()
        self._tasks: list[asyncio.Task[None]] = []
        self._watching: Watching | None = None
        self._prepare(MachineMemory())

    def _prepare(self, memory: MachineMemory) -> None:
        """Begin with a memory."""
        self._memory = memory
        rules = self._rules
        self._storage = StorageLook(
            self._machine, memory, self._save, self._volumes, lambda: rules().places
        )
        self._disks = DiskLook(
            self._machine,
            memory,
            self._save,
            lambda: self._storage.disks,
            one_timeout_s=self._paces.one_smart_s,
        )
        self._ups = UpsLook(self._machine, lambda: rules().ups, timeout_s=self._paces.ups.timeout_s)
        self._clock = ClockLook(self._machine, memory, self._stepped)
        paces = self._paces
        self.sources: Mapping[str, Source] = {
            "storage": Source("the disks and arrays", paces.storage, self._ask_storage),
            "tools": Source("arrays told by tools", paces.tools, self._storage.ask_tools),
            "smart": Source("SMART", paces.smart, self._disks.ask_smart),
            "heat": Source("temperatures", paces.heat, self._disks.ask_heat),
            "ups": Source("the UPS", paces.ups, self._ask_ups),
            "clock": Source("the clock", paces.clock, self._clock.ask),
            "certificates": Source("certificates", paces.certificates, self._ask_certificates),
            "resources": Source("memory and load", paces.resources, self._ask_resources),
            "space": Source("the space of volumes", paces.space, self._ask_space),
        }

    # life ---------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Remember, and watch from now on; returns at once. What cannot be remembered is told."""
        remembered = await self._files.read("remembered", lambda: machine_memory.load(self._folder))
        if isinstance(remembered, NotAvailable):
            remembered = MachineMemory(forgotten={"everything": remembered.reason})
        for name, reason in remembered.forgotten.items():
            log.warning("machine memory %s: starts anew: %s", name, reason)
        self._prepare(remembered)
        self._watching = self._machine.watch(self.storage_changed)
        for name, source in self.sources.items():
            polling = source.keep_polling(self._publish)
            self._tasks.append(asyncio.create_task(polling, name=f"watch {name}"))

    async def close(self) -> None:
        """Stop watching; idempotent."""
        if self._watching is not None:
            self._watching.close()
            self._watching = None
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def poll(self, *names: str) -> None:
        """Ask sources now, by their key in `sources`; all of them when none is named."""
        for name in names or tuple(self.sources):
            await self.sources[name].poll()
        self._publish()

    def storage_changed(self) -> None:
        """Look at mounts, arrays and disks at once; also for whoever else hears of a change."""
        self.sources["storage"].wake()

    def note_index(self, damage: str) -> None:
        """Take in what the check of the index found; "" when it is whole."""
        self._index_damage = damage
        self._publish()

    # answers ------------------------------------------------------------------------------------

    def conditions(self) -> tuple[Condition, ...]:
        """Return what holds now, the worst first."""
        return self._conditions

    @property
    def facts(self) -> MachineFacts:
        """Return everything known at this moment."""
        storage = self._storage.facts
        return MachineFacts(
            now=datetime.fromtimestamp(self._machine.clock_sample().wall_s, UTC),
            storage=storage,
            disks=tuple(self._disks.facts(storage.seen)),
            chips=self._disks.chips,
            ups=self.ups,
            clock=self.clock,
            certificates=self._certificates,
            resources=self._resources,
            forecasts=dict(self._forecasts),
            index_damage=self._index_damage,
            failures=self._failures(),
            forgotten=dict(self._memory.forgotten),
        )

    @property
    def ups(self) -> UpsFacts | None:
        """Return the UPS as it last answered, None when there is none."""
        return self._ups.facts

    @property
    def clock(self) -> ClockFacts:
        """Return how good the clock is."""
        return self._clock.facts

    def _failures(self) -> Mapping[str, SensorFailure]:
        found = {
            name: failure
            for source in self.sources.values()
            for name, failure in source.failures.items()
        }
        for name, reason in self._unsaved.items():
            found[f"the memory of {name}"] = SensorFailure(reason=reason)
        return found

    def hold_background(self) -> bool:
        """Tell whether work that can wait shall wait (scrub, retention): there is no mains."""
        return self.ups is not None and (self.ups.on_battery or self.ups.low)

    def power_failing(self) -> bool:
        """Tell whether the power can end at any moment: refuse new images and stop cleanly."""
        return self.ups is not None and self.ups.low

    # what the operator says ---------------------------------------------------------------------

    async def accept_topology(self) -> tuple[Difference, ...]:
        """Make the disks as they are now what should be; returns what differed.

        Raises CommandError when they cannot be seen now.
        """
        differences = await self._storage.accept()
        if differences:
            told = "; ".join(f"{one.kind.value} {one.subject}" for one in differences)
            self._on_event("topology-changed", "", {"reason": told})
        self._publish()
        return differences

    async def accept_disk(self, serial: str) -> None:
        """Take the counters of a disk as they are; CommandError when none of it had risen."""
        if not await self._disks.accept(serial):
            raise CommandError(f"No counter of a disk {serial} has risen.")
        self._publish()

    # the sources --------------------------------------------------------------------------------

    async def _ask_storage(self) -> Failures:
        before = {str(disk.disk): disk for disk in self._storage.disks if disk.disk}
        known = self._storage.looked
        if self._watching is not None:
            self._watching.renew()
        failures = await self._storage.ask_kernel()
        now = {str(disk.disk): disk for disk in self._storage.disks if disk.disk}
        if now.keys() - before.keys():
            self.sources["smart"].wake()
            self.sources["heat"].wake()
        if known:
            self._came_and_went(before, now)
        return failures

    def _came_and_went(
        self, before: Mapping[str, BlockDevice], now: Mapping[str, BlockDevice]
    ) -> None:
        """Tell of disks that were taken out while they were in use, and of those put in."""
        expected = self._memory.topology
        for name in sorted(before.keys() - now.keys()):
            users = users_of(before[name], expected)
            if users:
                self._on_event("disk-pulled", name_of(before[name]), {"reason": ", ".join(users)})
        for name in sorted(now.keys() - before.keys()):
            size = {"size_bytes": now[name].size_bytes}
            self._on_event("disk-inserted", name_of(now[name]), size)

    async def _ask_ups(self) -> Failures:
        before = self.ups is not None and self.ups.asks_to_stop
        failures = await self._ups.ask()
        ups = self.ups
        if ups is not None and ups.last is not None and ups.asks_to_stop and not before:
            words = " ".join(sorted(ups.last.words))
            self._on_event("ups-shutdown", ups.name, {"reason": words})
        return failures

    async def _ask_certificates(self) -> Failures:
        found, failures = [], {}
        for name, path in self._rules().certificates.items():
            answer = await self._files.read(name, partial(read_certificate, name, path))
            if isinstance(answer, NotAvailable):
                failures[f"the certificate {name}"] = SensorFailure(reason=answer.reason)
            else:
                found.append(answer)
        self._certificates = tuple(found)
        return failures

    async def _ask_resources(self) -> Failures:
        answer = await self._machine.resources()
        if isinstance(answer, NotAvailable):
            raise SourceFailed(answer)
        self._resources = answer
        return {}

    async def _ask_space(self) -> Failures:
        sample = self._machine.clock_sample()
        space = self._memory.space
        volumes = self._volumes()
        for name in tuple(space):
            if name not in volumes:
                del space[name]
        for name, volume in volumes.items():
            if volume.right and volume.total_bytes and volume.free_bytes is not None:
                now = SpaceSample(
                    at_s=sample.wall_s,
                    used_bytes=volume.total_bytes - volume.free_bytes,
                    total_bytes=volume.total_bytes,
                )
                space[name] = with_sample(space.get(name, ()), now)
        found = {name: forecast(samples, sample.wall_s) for name, samples in space.items()}
        self._forecasts = {name: one for name, one in found.items() if one is not None}
        if sample.elapsed_s - self._space_saved_s >= SAVE_SPACE_S:
            self._space_saved_s = sample.elapsed_s
            self._memory.wall_s = sample.wall_s
            await self._save(SPACE)
            await self._save(CLOCK)
        for name in tuple(self._unsaved):
            await self._save(name)
        return {}

    def _stepped(self, step_s: float) -> None:
        """The wall clock was set: the samples of space move with it, so their trend stays."""
        log.warning("clock: it was set by %+.1f s", step_s)
        for name, samples in self._memory.space.items():
            self._memory.space[name] = tuple(
                SpaceSample(
                    at_s=one.at_s + step_s, used_bytes=one.used_bytes, total_bytes=one.total_bytes
                )
                for one in samples
            )
        self._on_event("clock-step", "", {"step_s": round(step_s, 1)})

    # keeping ------------------------------------------------------------------------------------

    def _publish(self) -> None:
        """Derive the conditions anew; whatever fails in it is told and ends no watch."""
        try:
            found = machine_conditions(self.facts)
        except Exception as error:
            log.exception("machine: the conditions could not be derived")
            reason = f"{type(error).__name__}: {error}"
            held = [one for one in self._conditions if one.subject != _ITSELF]
            found = in_order([*held, condition("sensor-failed", subject=_ITSELF, reason=reason)])
        if found != self._conditions:
            self._conditions = found
            self._on_change()

    async def _save(self, name: str) -> None:
        content = machine_memory.content_of(name, self._memory)
        write = partial(machine_memory.write, self._folder, name, content)
        async with self._one_writer:
            done = await self._files.read(name, write)
        if isinstance(done, NotAvailable):
            if name not in self._unsaved:
                log.warning("machine memory %s: cannot be written: %s", name, done.reason)
            self._unsaved[name] = done.reason
        else:
            self._unsaved.pop(name, None)


def with_sample(samples: tuple[SpaceSample, ...], now: SpaceSample) -> tuple[SpaceSample, ...]:
    """Return the samples with another one: one a day, those of the last `SAMPLE_DAYS`."""
    day = int(now.at_s // _DAY_S)
    kept = [
        one
        for one in samples
        if int(one.at_s // _DAY_S) != day and now.at_s - one.at_s <= SAMPLE_DAYS * _DAY_S
    ]
    return (*kept, now)[-2 * SAMPLE_DAYS :]
