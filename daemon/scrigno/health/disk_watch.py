# SPDX-License-Identifier: Apache-2.0
"""Watching what disks say of themselves, and heat."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

from scrigno.host.blockdevices import BlockDevice
from scrigno.host.facts import NotAvailable
from scrigno.host.machine import Machine
from scrigno.host.smart import DiskProtocol, Exit, Smart
from scrigno.host.temperature import Temperature
from scrigno.host.topology import KnownDisk, Topology

from .disk_conditions import DiskFacts, DiskMemory, accepted, remember
from .machine_facts import SensorFailure
from .machine_memory import DISKS, MachineMemory
from .storage_conditions import uses
from .watched_source import Failures, SourceFailed, failure_of

AT_ONCE: Final = 4  # disks asked at a time: one that hangs keeps no other from being asked
# SCSI, ATA and NVMe speak SMART; disks of virtual machines (vda, xvda) and cards do not
_SPEAKERS: Final = ("sd", "hd", "nvme")


class DiskLook:
    """What is known of each disk. Loop only."""

    def __init__(
        self,
        machine: Machine,
        memory: MachineMemory,
        save: Callable[[str], Awaitable[None]],
        disks: Callable[[], tuple[BlockDevice, ...]],
        *,
        one_timeout_s: float,
    ) -> None:
        """`disks` are those that are there at the moment."""
        self._machine = machine
        self._memory = memory
        self._save = save
        self._disks = disks
        self._one_timeout_s = one_timeout_s
        self._smart: dict[str, Smart] = {}
        self._heat: tuple[Temperature, ...] = ()

    async def ask_smart(self) -> Failures:
        """Ask every disk that can answer; sleeping ones stay asleep and keep their last answer."""
        disks = [disk for disk in self._disks() if disk.name.startswith(_SPEAKERS)]
        places = asyncio.Semaphore(AT_ONCE)
        answers = await asyncio.gather(*(self._ask_one(disk, places) for disk in disks))
        before = dict(self._memory.disks)
        failures = {}
        told: dict[str, Smart] = {}
        for disk, answer in zip(disks, answers, strict=True):
            serial = name_of(disk)
            if isinstance(answer, SensorFailure):
                failures[f"SMART of {serial}"] = answer
            else:
                self._memory.disks[serial] = remember(before.get(serial), answer)
            if isinstance(answer, Smart) and not answer.unread:
                told[serial] = answer
            elif serial in self._smart:
                told[serial] = self._smart[serial]
        self._smart = told
        if self._memory.disks != before:
            await self._save(DISKS)
        if failures and all(one.absent for one in failures.values()):
            return {"SMART": next(iter(failures.values()))}
        return failures

    async def _ask_one(self, disk: BlockDevice, places: asyncio.Semaphore) -> Smart | SensorFailure:
        if disk.disk is None:
            return SensorFailure(reason="it has no identity")
        try:
            async with places, asyncio.timeout(self._one_timeout_s):
                answer = await self._machine.smart(disk.disk)
        except TimeoutError:
            return SensorFailure(reason=f"no answer in {self._one_timeout_s:g} s")
        if isinstance(answer, NotAvailable):
            return failure_of(answer)
        # exit bits of smartctl: not opened, and not because it sleeps or has no SMART at all
        if answer.unread and not answer.asleep and Exit.NOT_OPENED in answer.exit:
            return SensorFailure(reason=f"smartctl: {answer.unread}")
        return answer

    async def ask_heat(self) -> Failures:
        """Read every temperature sensor."""
        answer = await self._machine.temperatures()
        if isinstance(answer, NotAvailable):
            raise SourceFailed(answer)
        self._heat = answer
        return {}

    async def accept(self, serial: str) -> bool:
        """Forget what rose of one disk: somebody has seen it. False when nothing had."""
        known = self._memory.disks.get(serial)
        if known is None or not known.risen:
            return False
        self._memory.disks[serial] = accepted(known)
        await self._save(DISKS)
        return True

    @property
    def chips(self) -> tuple[Temperature, ...]:
        """Return the sensors that belong to no disk."""
        return tuple(one for one in self._heat if not one.device)

    def facts(self, topology: Topology | None) -> Iterator[DiskFacts]:
        """Yield what is known of each disk that is there."""
        for disk in self._disks():
            serial = name_of(disk)
            smart = self._smart.get(serial)
            memory = self._memory.disks.get(serial, DiskMemory())
            yield DiskFacts(
                serial=serial,
                model=disk.model,
                name=disk.name,
                used_by=users_of(disk, topology),
                smart=smart,
                risen=memory.risen,
                heat=self._heat_of(disk, smart),
            )

    def _heat_of(self, disk: BlockDevice, smart: Smart | None) -> Temperature | None:
        """Return the disk's own sensor, else what it said by SMART.

        NVMe limits (WCTEMP, CCTEMP) hold for the composite temperature only; single sensors of a
        healthy disk run far above it (NVMe Base 2.0, Identify Controller).
        """
        own = [
            one
            for one in self._heat
            if one.device == disk.name and (one.sensor != "nvme" or one.label in ("Composite", ""))
        ]
        if own:
            return max(own, key=lambda one: one.current_c)
        if smart is None or smart.temperature_c is None:
            return None
        return Temperature(
            sensor="nvme" if smart.protocol is DiskProtocol.NVME else "drivetemp",
            label="",
            current_c=float(smart.temperature_c),
            warning_c=smart.warning_c,
            critical_c=smart.critical_c,
            device=disk.name,
        )


def name_of(disk: BlockDevice) -> str:
    """Return what a disk is called in alerts: its serial, else the place it sits in."""
    return disk.serial or disk.disk or disk.name


def users_of(disk: BlockDevice, topology: Topology | None) -> tuple[str, ...]:
    """Return what stands on a disk, in words."""
    if topology is None or disk.disk is None:
        return ()
    known = KnownDisk(
        id=disk.disk, serial=disk.serial, model=disk.model, size_bytes=disk.size_bytes
    )
    return uses(known, topology)
