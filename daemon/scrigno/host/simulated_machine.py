# SPDX-License-Identifier: Apache-2.0
"""A machine that is not there: for development and tests without disks to pull.

It holds disks in bays, md mirrors on them and volumes mounted on the mirrors (or on bare disks),
and does what real md was seen to do: a pulled disk is missing at once, a spare takes over, a
rebuild shows progress, kernel letters move at every insertion. Time only moves by `advance`.
Any source can be made to fail (`broken`) or to hang (`hanging`), by the name of its method.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from .arrays import Activity, Array, ArrayHealth, ArrayKind, Member, MemberState, Progress
from .blockdevices import BlockDevice, BlockTree, DeviceKind, DiskId, IoCounters
from .facts import NotAvailable
from .filesystems import FileSystemState, Mount
from .machine import Arrays, KernelView, Machine
from .resources import Resources
from .simulated_hardware import TERABYTE, SimulatedDisk, SimulatedMirror, SimulatedWatch
from .smart import Counter, Smart
from .storage import StorageMap
from .temperature import Temperature
from .timesync import ClockSample, ClockState
from .topology import Topology, observe
from .ups import Ups, UpsPower

REBUILD_BYTES_S: Final = 150 * 10**6  # a spinning disk of today
_DISK_MAJOR, _MD_MAJOR = 8, 9
_START_S: Final = 1_800_000_000.0


class SimulatedMachine:
    """Implements `machine.Machine` in memory; the other methods are the hands of a person."""

    def __init__(self) -> None:
        self.disks: dict[str, SimulatedDisk] = {}
        self.mirrors: dict[str, SimulatedMirror] = {}
        self.volumes: dict[Path, str] = {}  # mount point -> mirror name, or serial of a bare disk
        self.super_options: dict[Path, str] = {}
        self.errors: dict[Path, int] = {}  # that the file system mounted there has counted
        self.ups_state: Ups | NotAvailable = NotAvailable(source="upsc", reason="no UPS")
        self.synchronised = True
        self.unknown: dict[ArrayKind, NotAvailable] = {}
        self.broken: dict[str, NotAvailable] = {}
        self.hanging: set[str] = set()
        self.chips: dict[str, float] = {}  # sensor -> °C
        self.in_use = Resources(
            memory_used_percent=20, load=0.1, processors=4, descriptors=50, descriptor_limit=1024
        )
        self.asked: list[str] = []
        self._watches: list[SimulatedWatch] = []
        self._elapsed_s = 0.0
        self._wall_s = _START_S

    # -- the hands

    def insert(self, serial: str, *, size_bytes: int = 4 * TERABYTE) -> SimulatedDisk:
        """Put a disk into a bay, a new one or one that was pulled; it gets the next free letter."""
        disk = self.disks.setdefault(serial, SimulatedDisk(serial=serial, size_bytes=size_bytes))
        taken = {one.letter for one in self.disks.values()}
        disk.letter = next(letter for letter in "abcdefghijklmnop" if letter not in taken)
        self._changed()
        return disk

    def pull(self, serial: str) -> None:
        """Take a disk out; mirrors lose it at the next look, and a spare steps in."""
        self.disks[serial].letter = ""
        for array in self.mirrors.values():
            self._step_in(array, serial)
        self._changed()

    def fail_member(self, mirror: str, serial: str) -> None:
        """Let md throw a member out that is still in its bay (write errors)."""
        self.mirrors[mirror].faulty.add(serial)
        self._step_in(self.mirrors[mirror], serial)
        self._changed()

    def _step_in(self, array: SimulatedMirror, serial: str) -> None:
        spares = [one for one in array.spares if self._name(one) and one != serial]
        if serial in array.slots and spares:
            array.spares.remove(spares[0])
            self._fill(array, serial, spares[0])

    def mirror(self, name: str, uuid: str, *serials: str, spares: tuple[str, ...] = ()) -> None:
        """Make a mirror of two disks, already in sync."""
        for serial in (*serials, *spares):
            self.disks[serial].blank = False
        made = SimulatedMirror(name=name, uuid=uuid, slots=list(serials), spares=list(spares))
        self.mirrors[name] = made

    def mount(self, path: Path, on: str) -> None:
        """Mount a volume on a mirror, or on the one partition of a disk."""
        self.volumes[path] = on
        if on in self.disks:
            self.disks[on].blank = False
        self._changed()

    def unmount(self, path: Path) -> None:
        """Unmount a volume."""
        del self.volumes[path]
        self._changed()

    def replace(self, mirror: str, *, gone: str, new: str) -> None:
        """Give a mirror a new disk for one that is gone; the rebuild starts at nothing."""
        self._fill(self.mirrors[mirror], gone, new)
        self._changed()

    def _fill(self, array: SimulatedMirror, gone: str, new: str) -> None:
        array.slots[array.slots.index(gone)] = new
        array.rebuilt_bytes.pop(gone, None)
        array.rebuilt_bytes[new] = 0.0
        array.faulty.discard(gone)
        self.disks[new].blank = False

    def check(self, mirror: str) -> None:
        """Start a check of a mirror."""
        self.mirrors[mirror].checked_bytes = 0.0
        self._changed()

    def advance(self, seconds: float) -> None:
        """Let time pass: clocks run, rebuilds go on, disks that do not hang finish requests."""
        self._elapsed_s += seconds
        self._wall_s += seconds
        for disk in self.disks.values():
            disk.completed += 0 if disk.hung else max(1, round(seconds * 10))
        for array in self.mirrors.values():
            for serial in tuple(array.rebuilt_bytes):
                array.rebuilt_bytes[serial] += seconds * REBUILD_BYTES_S
                if array.rebuilt_bytes[serial] >= self.disks[serial].size_bytes:
                    del array.rebuilt_bytes[serial]
            if array.checked_bytes is not None:
                array.checked_bytes += seconds * REBUILD_BYTES_S
                if array.checked_bytes >= self._size(array):
                    array.checked_bytes = None

    def step_clock(self, seconds: float) -> None:
        """Set the wall clock forward or back; who set it has not disciplined it yet."""
        self._wall_s += seconds
        self.synchronised = False

    def set_power(
        self,
        power: UpsPower,
        *,
        charge_percent: float,
        low: bool = False,
        replace_battery: bool = False,
    ) -> None:
        """Have a UPS, on mains or on battery."""
        words = {UpsPower.MAINS: "OL", UpsPower.BATTERY: "OB"}.get(power, "OFF")
        told = [words, *(["LB"] if low else []), *(["RB"] if replace_battery else [])]
        self.ups_state = Ups(
            model="Simulated UPS",
            power=power,
            words=frozenset(told),
            battery_low=low,
            replace_battery=replace_battery,
            charge_percent=charge_percent,
        )

    def lose_ups(self, reason: str = "Error: Driver not connected") -> None:
        """Let the UPS not answer any more."""
        self.ups_state = NotAvailable(source="upsc", reason=reason)

    def set_smart(self, serial: str, smart: Smart) -> None:
        """Let a disk say something else of itself; start from `disks[serial].smart`."""
        self.disks[serial].smart = smart

    def count(self, serial: str, counter: Counter, value: int) -> None:
        """Set a counter a disk tells by SMART."""
        smart = self.disks[serial].smart
        self.set_smart(serial, replace(smart, counters={**smart.counters, counter: value}))

    def _changed(self) -> None:
        self._watches = [watch for watch in self._watches if not watch.closed]
        for watch in self._watches:
            watch.changed()

    # -- the answers

    async def _ask(self, source: str) -> NotAvailable | None:
        """Note that a source was asked; hang, or tell what is wrong with it."""
        self.asked.append(source)
        if source in self.hanging:
            await asyncio.Event().wait()
        return self.broken.get(source)

    def watch(self, changed: Callable[[], None]) -> SimulatedWatch:
        """Call back whenever a hand touched disks, arrays or mounts."""
        watch = SimulatedWatch(changed)
        self._watches.append(watch)
        return watch

    async def kernel_view(self) -> KernelView | NotAvailable:
        """Return devices, mounts and mirrors of one moment."""
        if refused := await self._ask("kernel_view"):
            return refused
        tree = self._tree()
        return KernelView(
            tree=tree,
            mounts=self._mounts(tree),
            file_systems=await self.file_systems(),
            arrays=await self.arrays(),
        )

    async def tool_arrays(self) -> Arrays:
        """Return nothing: no LVM and no ZFS here."""
        if refused := await self._ask("tool_arrays"):
            return Arrays(unknown={ArrayKind.LVM: refused})
        return Arrays()

    async def block_tree(self) -> BlockTree:
        """Return every block device."""
        return self._tree()

    def _tree(self) -> BlockTree:
        devices = {}
        for disk in self._present():
            holders = tuple(m.name for m in self.mirrors.values() if disk.serial in m.slots)
            devices[f"sd{disk.letter}"] = BlockDevice(
                name=f"sd{disk.letter}",
                number=_number(_DISK_MAJOR, ord(disk.letter) - ord("a"), 16),
                kind=DeviceKind.DISK,
                size_bytes=disk.size_bytes,
                read_only=False,
                holders=holders,
                disk=disk.id,
                model=disk.model,
                serial=disk.serial,
                rotational=True,
                state="running",
                file_system="" if disk.blank else "ext4",
                probed=True,
            )
        for index, array in enumerate(self.mirrors.values()):
            slaves = tuple(filter(None, (self._name(serial) for serial in array.slots)))
            devices[array.name] = BlockDevice(
                name=array.name,
                number=_number(_MD_MAJOR, index),
                kind=DeviceKind.MD,
                size_bytes=0,
                read_only=False,
                slaves=slaves,
            )
        return BlockTree(devices=devices)

    def _present(self) -> list[SimulatedDisk]:
        return [disk for disk in self.disks.values() if disk.letter]

    def _name(self, serial: str | None) -> str:
        disk = self.disks.get(serial or "")
        return f"sd{disk.letter}" if disk is not None and disk.letter else ""

    async def io_counters(self) -> Mapping[str, IoCounters]:
        """Return what each disk has finished and what waits."""
        return {
            f"sd{disk.letter}": IoCounters(
                at_s=self._elapsed_s,
                completed=disk.completed,
                in_flight=7 if disk.hung else 0,
                busy_ms=round(self._elapsed_s * 1000) if disk.hung else 0,
            )
            for disk in self._present()
        }

    async def mounts(self) -> tuple[Mount, ...]:
        """Return the mount table."""
        return self._mounts(self._tree())

    def _mounts(self, tree: BlockTree) -> tuple[Mount, ...]:
        found = []
        for index, (path, on) in enumerate(self.volumes.items()):
            name = on if on in self.mirrors else self._name(on)
            device = tree.devices.get(name)
            found.append(
                Mount(
                    mount_id=100 + index,
                    parent_id=1,
                    number=device.number if device is not None else "8:255",
                    root="/",
                    point=str(path),
                    options=frozenset({"rw"}),
                    kind="ext4",
                    source=f"/dev/{name}",
                    super_options=frozenset(self.super_options.get(path, "rw").split(",")),
                )
            )
        return tuple(found)

    async def file_systems(self) -> tuple[FileSystemState, ...]:
        """Return the state of every volume's file system."""
        return tuple(
            FileSystemState(mount=mount, errors=self.errors.get(Path(mount.point), 0))
            for mount in await self.mounts()
        )

    async def arrays(self) -> Arrays:
        """Return every mirror."""
        found = () if ArrayKind.MD in self.unknown else self._arrays()
        return Arrays(found=found, unknown=dict(self.unknown))

    def _arrays(self) -> tuple[Array, ...]:
        # an array none of whose disks is there is not in the kernel any more
        return tuple(
            self._array(one) for one in self.mirrors.values() if any(map(self._name, one.slots))
        )

    def _array(self, array: SimulatedMirror) -> Array:
        members = tuple(self._member(array, role) for role in range(len(array.slots)))
        degraded = sum(member.state is not MemberState.IN_SYNC for member in members)
        spares = (self._name(serial) for serial in array.spares)
        return Array(
            kind=ArrayKind.MD,
            name=array.name,
            uuid=array.uuid,
            level="raid1",
            state="clean",
            health=_health(degraded, len(members)),
            wanted=len(members),
            degraded=degraded,
            members=(
                *members,
                *(Member(device=name, state=MemberState.SPARE) for name in spares if name),
            ),
            progress=self._progress(array),
            mismatches=array.mismatches,
        )

    def _progress(self, array: SimulatedMirror) -> Progress | None:
        filled = {one: done for one, done in array.rebuilt_bytes.items() if self._name(one)}
        for serial, done in filled.items():
            total = self.disks[serial].size_bytes
            return _at(Activity.RECOVER, done, total)
        if array.checked_bytes is not None:
            return _at(Activity.CHECK, array.checked_bytes, self._size(array))
        return None

    def _size(self, array: SimulatedMirror) -> int:
        return min(self.disks[serial].size_bytes for serial in array.slots if serial)

    def _member(self, array: SimulatedMirror, role: int) -> Member:
        serial = array.slots[role]
        name = self._name(serial)
        state = MemberState.IN_SYNC if name else MemberState.MISSING
        if name and serial in array.rebuilt_bytes:
            state = MemberState.REBUILDING
        elif name and serial in array.faulty:
            state = MemberState.FAULTY
        return Member(device=name, state=state, role=role)

    async def storage(self) -> StorageMap:
        """Return devices, mounts and arrays of one moment."""
        tree = self._tree()
        return StorageMap(tree=tree, mounts=self._mounts(tree), arrays=(await self.arrays()).found)

    async def topology(self, volumes: Mapping[str, Path]) -> Topology:
        """Return the topology seen now."""
        return observe(await self.storage(), volumes, unasked=frozenset(self.unknown))

    async def smart(self, disk: DiskId) -> Smart | NotAvailable:
        """Return what a disk says of itself."""
        if refused := await self._ask("smart"):
            return refused
        for one in self._present():
            if one.id == disk:
                return replace(one.smart, temperature_c=round(one.celsius))
        return NotAvailable(source="smartctl", reason=f"no disk {disk} here")

    async def temperatures(self) -> tuple[Temperature, ...] | NotAvailable:
        """Return every disk's sensor, and those of chips."""
        if refused := await self._ask("temperatures"):
            return refused
        disks = tuple(
            Temperature(
                sensor="drivetemp", label="", current_c=one.celsius, device=f"sd{one.letter}"
            )
            for one in self._present()
        )
        chips = (
            Temperature(sensor=name, label="", current_c=celsius)
            for name, celsius in self.chips.items()
        )
        return (*disks, *chips)

    async def ups(self, name: str) -> Ups | NotAvailable:
        """Return the state of the UPS."""
        if refused := await self._ask("ups"):
            return refused
        return self.ups_state

    async def clock(self) -> ClockState | NotAvailable:
        """Return whether somebody disciplines the clock."""
        if refused := await self._ask("clock"):
            return refused
        return ClockState(synchronised=self.synchronised, source="simulated")

    async def resources(self) -> Resources | NotAvailable:
        """Return memory, load and file descriptors."""
        return await self._ask("resources") or self.in_use

    def clock_sample(self) -> ClockSample:
        """Return wall clock and elapsed time now."""
        return ClockSample(wall_s=self._wall_s, elapsed_s=self._elapsed_s)


def _health(degraded: int, members: int) -> ArrayHealth:
    if not degraded:
        return ArrayHealth.WHOLE
    return ArrayHealth.FAILED if degraded >= members else ArrayHealth.DEGRADED


def _at(activity: Activity, done: float, total: int) -> Progress:
    return Progress(activity=activity, done=round(done), total=total, rate=float(REBUILD_BYTES_S))


def _number(major: int, index: int, step: int = 1) -> str:
    return f"{major}:{index * step}"


_CONFORMS: type[Machine] = SimulatedMachine  # for mypy to prove
