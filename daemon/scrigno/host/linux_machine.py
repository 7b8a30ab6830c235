# SPDX-License-Identifier: Apache-2.0
"""The Linux machine this runs on, asked through sysfs, procfs and the tools that are installed.

Kernel files are read beside the loop, sensors apart from the rest, because some of them wait:
`drivetemp` asks its disk, md takes a lock.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Final, TypeVar

from scrigno.core.errors import ScrignoError

from . import btrfs, lvm, mdraid, smart, timesync, ups, zfs
from .arrays import Array, ArrayKind, Member
from .blockdevices import (
    BlockDevice,
    BlockTree,
    DeviceKind,
    DiskId,
    IoCounters,
    read_block_tree,
    read_io_counters,
)
from .facts import FactsUnreadable, NotAvailable, read_names
from .filesystems import FileSystemState, Mount, parse_mountinfo, read_file_systems
from .machine import Arrays, KernelView, Machine
from .mounts import StorageWatch
from .process import CommandNotFound, CommandTimeout, Completed, run
from .reader import Reader
from .resources import Resources, read_resources
from .storage import StorageMap
from .temperature import Temperature, read_temperatures
from .topology import Topology, observe

READ_TIMEOUT_S: Final = 5.0
TREE_AGE_S: Final = 30.0  # of block devices whose names did not change
TOOL_TIMEOUT_S: Final = 10.0  # lvs, zpool, mdadm, btrfs, upsc: milliseconds when all is well
SMART_TIMEOUT_S: Final = 60.0  # a dozen log pages, each retried by an old disk for seconds
_READS_AT_ONCE: Final = 2
_UPS_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(@[A-Za-z0-9.:\[\]-]+)?")
_T = TypeVar("_T")
_K = TypeVar("_K", bound=tuple[str, object])
Runner = Callable[[Sequence[str], float], Awaitable[Completed]]


async def run_here(argv: Sequence[str], timeout_s: float) -> Completed:
    """Run a tool as this user; the root helper stands in its place where root is needed."""
    return await run(argv, timeout_s=timeout_s)


class LinuxMachine:
    """Implements `machine.Machine` here. Holds nothing that needs closing."""

    def __init__(
        self,
        *,
        root: Path = Path("/"),
        runner: Runner = run_here,
        read_timeout_s: float = READ_TIMEOUT_S,
    ) -> None:
        """Ask the machine whose sys, proc and run stand under `root`."""
        self._root = root
        self._sys, self._proc, self._run = root / "sys", root / "proc", root / "run"
        self._runner = runner
        self._kernel = Reader("kernel", at_once=_READS_AT_ONCE, timeout_s=read_timeout_s)
        self._md_files = Reader("md", at_once=1, timeout_s=read_timeout_s)
        # what tools told of an array, as long as it has the same members in the same state
        self._last_look: _Look | None = None
        self._md_uuids: dict[tuple[str, tuple[Member, ...]], str] = {}
        self._leg_names: dict[tuple[str, tuple[Member, ...]], Array] = {}
        self._sensors = Reader("sensors", at_once=1, timeout_s=read_timeout_s)

    async def block_tree(self) -> BlockTree | NotAvailable:
        """Return every block device."""
        return await self._kernel.read("sysfs", lambda: read_block_tree(self._sys, self._run))

    async def io_counters(self) -> Mapping[str, IoCounters] | NotAvailable:
        """Return what each whole block device has finished and what waits."""
        return await self._kernel.read("sysfs", lambda: read_io_counters(self._sys, monotonic()))

    async def mounts(self) -> tuple[Mount, ...] | NotAvailable:
        """Return the mount table."""
        table = self._proc / "self" / "mountinfo"
        return await self._kernel.read("mountinfo", lambda: parse_mountinfo(_all_of(table)))

    async def file_systems(self) -> tuple[FileSystemState, ...] | NotAvailable:
        """Return the state of every mounted disk file system."""
        tree, mounts = await self.block_tree(), await self.mounts()
        if isinstance(tree, NotAvailable):
            return tree
        if isinstance(mounts, NotAvailable):
            return mounts
        return await self._kernel.read("sysfs", lambda: read_file_systems(self._sys, mounts, tree))

    async def arrays(self) -> Arrays:
        """Return every array; kinds that are not there at all are not asked."""
        tree = await self.block_tree()
        return await self._arrays(tree if isinstance(tree, BlockTree) else BlockTree(devices={}))

    async def _arrays(self, tree: BlockTree) -> Arrays:
        mounts = await self.mounts()
        seen = await self._kernel.read("sysfs", lambda: btrfs.read_arrays(self._sys))
        kernel = await self._kernel_arrays(
            mounts if isinstance(mounts, tuple) else (),
            seen if isinstance(seen, NotAvailable) else Arrays(found=seen),
            tree=tree,
        )
        tools = await self._tool_arrays(tree)
        return Arrays(found=kernel.found + tools.found, unknown={**kernel.unknown, **tools.unknown})

    async def _kernel_arrays(
        self, mounts: tuple[Mount, ...], seen: Arrays | NotAvailable, *, tree: BlockTree
    ) -> Arrays:
        """Return md, and the btrfs arrays seen with the names of their bad legs."""
        md = await self._md() if any(map(_is_md, tree.devices.values())) else ()
        legs: tuple[Array, ...] | NotAvailable
        if isinstance(seen, NotAvailable):
            legs = seen
        else:
            legs = tuple([await self._named(array, mounts) for array in seen.found])
        return _put_together({ArrayKind.MD: md, ArrayKind.BTRFS: legs})

    async def _tool_arrays(self, tree: BlockTree) -> Arrays:
        answers = await asyncio.gather(self._lvm(tree), self._zfs())
        return _put_together(dict(zip((ArrayKind.LVM, ArrayKind.ZFS), answers, strict=True)))

    async def tool_arrays(self) -> Arrays:
        """Return LVM and ZFS as their tools tell them."""
        tree = await self.block_tree()
        return await self._tool_arrays(
            tree if isinstance(tree, BlockTree) else BlockTree(devices={})
        )

    async def kernel_view(self) -> KernelView | NotAvailable:
        """Return devices, mounts, md and btrfs of one moment.

        The devices are read anew when their names or the mounts have changed, or after
        `TREE_AGE_S`; errors, members and progress every time.
        """
        seen = await self._kernel.read("sysfs", self._look)
        if isinstance(seen, NotAvailable):
            return seen
        arrays = await self._kernel_arrays(seen.mounts, seen.arrays, tree=seen.tree)
        return replace(seen, arrays=arrays)

    def _look(self) -> KernelView:
        """Read what needs no md lock, in one thread. Blocking."""
        table = (self._proc / "self" / "mountinfo").read_bytes()
        names = read_names(self._sys / "class" / "block")
        last = self._last_look
        if last is None or last.basis != (table, names) or monotonic() - last.at_s >= TREE_AGE_S:
            last = self._last_look = _Look(
                basis=(table, names),
                at_s=monotonic(),
                tree=read_block_tree(self._sys, self._run),
                mounts=parse_mountinfo(table.decode("utf-8", "surrogateescape")),
            )
        found = btrfs.read_arrays(self._sys)
        return KernelView(
            tree=last.tree,
            mounts=last.mounts,
            file_systems=read_file_systems(self._sys, last.mounts, last.tree),
            arrays=Arrays(found=found),
            btrfs_devices={one.uuid: btrfs.device_names(self._sys, one.uuid) for one in found},
        )

    def watch(self, changed: Callable[[], None]) -> StorageWatch:
        """Call back whenever a mount or an md array changes."""
        return StorageWatch(changed, root=self._root)

    async def _md(self) -> tuple[Array, ...] | NotAvailable:
        seen = await self._md_files.read("sysfs md", lambda: mdraid.read_arrays(self._sys, {}))
        if isinstance(seen, NotAvailable) or all(array.uuid for array in seen):
            return seen
        uuids = {array.name: await self._md_uuid(array) for array in seen if not array.uuid}
        return tuple(replace(array, uuid=array.uuid or uuids.get(array.name, "")) for array in seen)

    async def _md_uuid(self, array: Array) -> str:
        """Ask mdadm once for each state of an array that does not run: it reads the members."""
        key = (array.name, array.members)
        if key not in self._md_uuids:
            told = await self._tool(
                ("mdadm", "--detail", "--export", f"/dev/{array.name}"), mdraid.parse_detail_export
            )
            if isinstance(told, NotAvailable):
                return ""
            self._md_uuids = {**_others(self._md_uuids, array.name), key: told.uuid}
        return self._md_uuids[key]

    async def _named(self, array: Array, mounts: tuple[Mount, ...]) -> Array:
        if not btrfs.has_bad_leg(array):
            return array
        key = (array.uuid, array.members)
        if key not in self._leg_names:
            names = await self._btrfs_devices((array,))
            here = names.get(array.uuid, ()) if not isinstance(names, NotAvailable) else ()
            point = next((m.point for m in mounts if Path(m.source).name in here), "")
            if not point:
                return array
            told = await self._tool((*btrfs.STATS_COMMAND, point), btrfs.parse_device_stats)
            if isinstance(told, NotAvailable):
                return array
            named = btrfs.named(array, told)
            self._leg_names = {**_others(self._leg_names, array.uuid), key: named}
        return replace(array, members=self._leg_names[key].members)

    async def _btrfs_devices(
        self, arrays: tuple[Array, ...]
    ) -> Mapping[str, tuple[str, ...]] | NotAvailable:
        uuids = [array.uuid for array in arrays if array.kind is ArrayKind.BTRFS]
        if not uuids:
            return {}
        return await self._kernel.read(
            "sysfs", lambda: {uuid: btrfs.device_names(self._sys, uuid) for uuid in uuids}
        )

    async def _lvm(self, tree: BlockTree) -> tuple[Array, ...] | NotAvailable:
        """Return the logical volumes; `lvs` reads disks, so only where there is LVM."""
        if not lvm.in_use(tree):
            return ()
        rows = await self._tool(lvm.COMMAND, lvm.parse_lvs)
        return rows if isinstance(rows, NotAvailable) else lvm.arrays(rows)

    async def _zfs(self) -> tuple[Array, ...] | NotAvailable:
        loaded = await self._kernel.read("sysfs", (self._sys / "module" / "zfs").exists)
        if isinstance(loaded, NotAvailable):
            return loaded
        if not loaded:
            return ()
        told = await self._tool(zfs.JSON_COMMAND, zfs.parse_json)
        if isinstance(told, NotAvailable):  # before 2.3 there is no -j
            told = await self._tool(zfs.TEXT_COMMAND, zfs.parse_text)
        return told

    async def storage(self) -> StorageMap | NotAvailable:
        """Return devices, mounts and arrays of one moment."""
        answer = await self._storage()
        return answer if isinstance(answer, NotAvailable) else answer[0]

    async def _storage(self) -> tuple[StorageMap, Arrays] | NotAvailable:
        tree, mounts = await self.block_tree(), await self.mounts()
        if isinstance(tree, NotAvailable):
            return tree
        if isinstance(mounts, NotAvailable):
            return mounts
        arrays = await self._arrays(tree)
        names = await self._btrfs_devices(arrays.found)
        if isinstance(names, NotAvailable):
            return names
        storage = StorageMap(tree=tree, mounts=mounts, arrays=arrays.found, btrfs_devices=names)
        return storage, arrays

    async def topology(self, volumes: Mapping[str, Path]) -> Topology | NotAvailable:
        """Return the topology seen now."""
        answer = await self._storage()
        if isinstance(answer, NotAvailable):
            return answer
        storage, arrays = answer
        return observe(storage, volumes, unasked=frozenset(arrays.unknown))

    async def smart(self, disk: DiskId) -> smart.Smart | NotAvailable:
        """Return what a disk says of itself."""
        tree = await self.block_tree()
        if isinstance(tree, NotAvailable):
            return tree
        device = next((one for one in tree.disks() if one.disk == disk), None)
        if device is None:
            return NotAvailable(source="smartctl", reason=f"no disk {disk} here")
        return await self._tool(
            (*smart.COMMAND, f"/dev/{device.name}"), smart.parse, timeout_s=SMART_TIMEOUT_S
        )

    async def temperatures(self) -> tuple[Temperature, ...] | NotAvailable:
        """Return every temperature sensor."""
        return await self._sensors.read("hwmon", lambda: read_temperatures(self._sys))

    async def ups(self, name: str) -> ups.Ups | NotAvailable:
        """Return the state of a UPS."""
        if not _UPS_NAME.fullmatch(name):
            return NotAvailable(source="upsc", reason="not a name of a UPS")
        return await self._tool(("upsc", name), ups.parse_upsc)

    async def clock(self) -> timesync.ClockState | NotAvailable:
        """Return whether somebody disciplines the clock."""
        try:
            return timesync.read_kernel_clock()
        except FactsUnreadable:
            return await self._tool(timesync.COMMAND, timesync.parse_timedatectl)

    async def resources(self) -> Resources | NotAvailable:
        """Return memory, load and file descriptors."""
        return await self._kernel.read("procfs", read_resources)

    def clock_sample(self) -> timesync.ClockSample:
        """Return wall clock and elapsed time now."""
        return timesync.sample_clock()

    async def _tool(
        self,
        argv: Sequence[str],
        parse: Callable[[str], _T],
        *,
        timeout_s: float = TOOL_TIMEOUT_S,
    ) -> _T | NotAvailable:
        """Run a tool and read its output, whatever its exit code; smartctl's is a bit field."""
        try:
            done = await self._runner(argv, timeout_s)
        except CommandNotFound as error:
            return NotAvailable(source=argv[0], reason=error.reason, absent=True)
        except CommandTimeout as error:
            return NotAvailable(source=argv[0], reason=error.reason)
        except (OSError, ScrignoError) as error:
            return NotAvailable(source=argv[0], reason=str(error))
        try:
            return parse(done.stdout.decode("utf-8", "backslashreplace"))
        except FactsUnreadable as error:
            words = done.stderr.decode("utf-8", "backslashreplace").strip().splitlines()
            return NotAvailable(source=argv[0], reason=words[-1] if words else error.reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """The devices and mounts as last read."""

    basis: tuple[bytes, tuple[str, ...]]  # the mount table and the names of the devices
    at_s: float
    tree: BlockTree
    mounts: tuple[Mount, ...]


def _is_md(device: BlockDevice) -> bool:
    return device.kind is DeviceKind.MD


def _put_together(
    answers: Mapping[ArrayKind, tuple[Array, ...] | NotAvailable],
) -> Arrays:
    found: list[Array] = []
    unknown = {}
    for kind, answer in answers.items():
        if isinstance(answer, NotAvailable):
            unknown[kind] = answer
        else:
            found += answer
    return Arrays(found=tuple(found), unknown=unknown)


def _others(known: Mapping[_K, _T], name: str) -> dict[_K, _T]:
    """Return what is remembered of all arrays but one: each keeps one state only."""
    return {key: value for key, value in known.items() if key[0] != name}


def _all_of(table: Path) -> str:
    """Return a mount table whole: it may be larger than an attribute."""
    return table.read_bytes().decode("utf-8", "surrogateescape")


_CONFORMS: type[Machine] = LinuxMachine  # for mypy to prove
