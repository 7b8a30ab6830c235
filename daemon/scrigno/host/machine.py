# SPDX-License-Identifier: Apache-2.0
"""The machine as one protocol: what can be asked about disks, arrays, power, heat and time.

Every answer is a value; what cannot be known is `NotAvailable` with its reason. Nothing here
raises on the loop, blocks it, or touches a data or backup volume.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from .arrays import Array, ArrayKind
from .blockdevices import BlockTree, DiskId, IoCounters
from .facts import NotAvailable
from .filesystems import FileSystemState, Mount
from .resources import Resources
from .smart import Smart
from .storage import StorageMap
from .temperature import Temperature
from .timesync import ClockSample, ClockState
from .topology import Topology
from .ups import Ups


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrays:
    """The arrays seen, and the kinds nothing can be said of."""

    found: tuple[Array, ...] = ()
    unknown: Mapping[ArrayKind, NotAvailable] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelView:
    """What sysfs and procfs tell in one look: no tool was run and no disk was asked."""

    tree: BlockTree
    mounts: tuple[Mount, ...]
    file_systems: tuple[FileSystemState, ...]
    arrays: Arrays  # md and btrfs
    btrfs_devices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # by UUID

    def storage(self, tools: Arrays) -> StorageMap:
        """Return it all put together with the arrays that tools told of, now or a while ago."""
        return StorageMap(
            tree=self.tree,
            mounts=self.mounts,
            arrays=(*self.arrays.found, *tools.found),
            btrfs_devices=self.btrfs_devices,
        )


class Watching(Protocol):
    """A watch that goes on until it is closed."""

    def renew(self) -> None:
        """Watch what has come since; cheap."""

    def close(self) -> None:
        """Stop watching; idempotent."""


class Machine(Protocol):
    """A machine that can be asked. Loop only; every answer comes in bounded time."""

    async def block_tree(self) -> BlockTree | NotAvailable:
        """Return every block device."""

    async def io_counters(self) -> Mapping[str, IoCounters] | NotAvailable:
        """Return what each whole block device has finished and what waits, by kernel name."""

    async def mounts(self) -> tuple[Mount, ...] | NotAvailable:
        """Return the mount table."""

    async def file_systems(self) -> tuple[FileSystemState, ...] | NotAvailable:
        """Return the state of every mounted disk file system."""

    async def arrays(self) -> Arrays:
        """Return every md, btrfs, LVM and ZFS array."""

    async def kernel_view(self) -> KernelView | NotAvailable:
        """Return devices, mounts, md and btrfs of one moment; cheap, and wakes no disk."""

    async def tool_arrays(self) -> Arrays:
        """Return LVM and ZFS as their tools tell them; they read the disks they manage."""

    def watch(self, changed: Callable[[], None]) -> Watching:
        """Call back whenever a mount or an array may have changed. In a running loop."""

    async def storage(self) -> StorageMap | NotAvailable:
        """Return devices, mounts and arrays of one moment."""

    async def topology(self, volumes: Mapping[str, Path]) -> Topology | NotAvailable:
        """Return the topology seen now; `volumes` are absolute paths by name."""

    async def smart(self, disk: DiskId) -> Smart | NotAvailable:
        """Return what a disk says of itself; a sleeping disk is left asleep."""

    async def temperatures(self) -> tuple[Temperature, ...] | NotAvailable:
        """Return every temperature sensor."""

    async def ups(self, name: str) -> Ups | NotAvailable:
        """Return the state of a UPS, named as NUT does: `ups@host`."""

    async def clock(self) -> ClockState | NotAvailable:
        """Return whether somebody disciplines the clock."""

    async def resources(self) -> Resources | NotAvailable:
        """Return memory, load and file descriptors."""

    def clock_sample(self) -> ClockSample:
        """Return wall clock and elapsed time now."""
