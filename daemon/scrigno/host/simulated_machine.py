# SPDX-License-Identifier: Apache-2.0
"""A machine that is not there: for development and tests without disks to pull.

It holds disks in bays, md mirrors on them and volumes mounted on the mirrors (or on bare disks),
and does what real md was seen to do: a pulled disk is missing at once, a rebuild shows progress,
kernel letters move at every insertion. Time only moves by `advance`.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from .arrays import Activity, Array, ArrayHealth, ArrayKind, Member, MemberState, Progress
from .blockdevices import BlockDevice, BlockTree, DeviceKind, DiskId, IoCounters
from .facts import NotAvailable
from .filesystems import FileSystemState, Mount
from .machine import Arrays, Machine
from .simulated_hardware import TERABYTE, SimulatedDisk, SimulatedMirror
from .smart import Smart
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
        self.ups_state: Ups | NotAvailable = NotAvailable(source="upsc", reason="no UPS")
        self.synchronised = True
        self.unknown: dict[ArrayKind, NotAvailable] = {}
        self._elapsed_s = 0.0
        self._wall_s = _START_S

    # -- the hands

    def insert(self, serial: str, *, size_bytes: int = 4 * TERABYTE) -> SimulatedDisk:
        """Put a disk into a bay, a new one or one that was pulled; it gets the next free letter."""
        disk = self.disks.setdefault(serial, SimulatedDisk(serial=serial, size_bytes=size_bytes))
        taken = {one.letter for one in self.disks.values()}
        disk.letter = next(letter for letter in "abcdefghijklmnop" if letter not in taken)
        return disk

    def pull(self, serial: str) -> None:
        """Take a disk out; mirrors lose it at the next look."""
        self.disks[serial].letter = ""

    def mirror(self, name: str, uuid: str, *serials: str) -> None:
        """Make a mirror of two disks, already in sync."""
        for serial in serials:
            self.disks[serial].blank = False
        self.mirrors[name] = SimulatedMirror(name=name, uuid=uuid, slots=list(serials))

    def mount(self, path: Path, on: str) -> None:
        """Mount a volume on a mirror, or on the one partition of a disk."""
        self.volumes[path] = on
        if on in self.disks:
            self.disks[on].blank = False

    def replace(self, mirror: str, *, gone: str, new: str) -> None:
        """Give a mirror a new disk for one that is gone; the rebuild starts at nothing."""
        array = self.mirrors[mirror]
        array.slots[array.slots.index(gone)] = new
        array.rebuilt_bytes[new] = 0.0
        self.disks[new].blank = False

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

    def step_clock(self, seconds: float) -> None:
        """Set the wall clock forward or back."""
        self._wall_s += seconds

    def set_power(self, power: UpsPower, *, charge_percent: float, low: bool = False) -> None:
        """Have a UPS, on mains or on battery."""
        words = {UpsPower.MAINS: "OL", UpsPower.BATTERY: "OB"}.get(power, "OFF")
        self.ups_state = Ups(
            model="Simulated UPS",
            power=power,
            words=frozenset({words, *(["LB"] if low else [])}),
            battery_low=low,
            replace_battery=False,
            charge_percent=charge_percent,
        )

    def set_smart(self, serial: str, smart: Smart) -> None:
        """Let a disk say something else of itself; start from `disks[serial].smart`."""
        self.disks[serial].smart = smart

    # -- the answers

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
        return tuple(FileSystemState(mount=mount, errors=0) for mount in await self.mounts())

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
        progress = None
        for serial, done in array.rebuilt_bytes.items():
            if self._name(serial):
                progress = Progress(
                    activity=Activity.RECOVER,
                    done=round(done),
                    total=self.disks[serial].size_bytes,
                    rate=float(REBUILD_BYTES_S),
                )
        return Array(
            kind=ArrayKind.MD,
            name=array.name,
            uuid=array.uuid,
            level="raid1",
            state="clean",
            health=ArrayHealth.DEGRADED if degraded else ArrayHealth.WHOLE,
            wanted=len(members),
            degraded=degraded,
            members=members,
            progress=progress,
            mismatches=array.mismatches,
        )

    def _member(self, array: SimulatedMirror, role: int) -> Member:
        serial = array.slots[role]
        name = self._name(serial)
        state = MemberState.IN_SYNC if name else MemberState.MISSING
        if name and serial in array.rebuilt_bytes:
            state = MemberState.REBUILDING
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
        for one in self._present():
            if one.id == disk:
                return replace(one.smart, temperature_c=round(one.celsius))
        return NotAvailable(source="smartctl", reason=f"no disk {disk} here")

    async def temperatures(self) -> tuple[Temperature, ...]:
        """Return every disk's sensor."""
        return tuple(
            Temperature(
                sensor="drivetemp", label="", current_c=one.celsius, device=f"sd{one.letter}"
            )
            for one in self._present()
        )

    async def ups(self, name: str) -> Ups | NotAvailable:
        """Return the state of the UPS."""
        return self.ups_state

    async def clock(self) -> ClockState:
        """Return whether somebody disciplines the clock."""
        return ClockState(synchronised=self.synchronised, source="simulated")

    def clock_sample(self) -> ClockSample:
        """Return wall clock and elapsed time now."""
        return ClockSample(wall_s=self._wall_s, elapsed_s=self._elapsed_s)


def _number(major: int, index: int, step: int = 1) -> str:
    return f"{major}:{index * step}"


_CONFORMS: type[Machine] = SimulatedMachine  # for mypy to prove
