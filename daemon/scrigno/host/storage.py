# SPDX-License-Identifier: Apache-2.0
"""From a path to its mount, its arrays and its disks, without touching the path.

Two volumes on two partitions, logical volumes, subvolumes or loop files of one disk are one
physical device: one failure takes both.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from .arrays import Array, ArrayKind
from .blockdevices import BlockTree, DeviceKind, DiskId
from .filesystems import Mount, mount_of

_LOOP_DEPTH: Final = 4  # a loop file on a loop file on …: more is a riddle, not a volume


@dataclass(frozen=True, slots=True, kw_only=True)
class Behind:
    """What a path stands on."""

    mount: Mount | None
    devices: frozenset[str]  # kernel names, down to the disks
    arrays: tuple[Array, ...]
    disks: frozenset[DiskId]  # empty for network and memory file systems


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageMap:
    """Block devices, mounts and arrays of one moment, put together."""

    tree: BlockTree
    mounts: tuple[Mount, ...]
    arrays: tuple[Array, ...] = ()
    btrfs_devices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # by UUID

    def behind(self, path: Path) -> Behind:
        """Return what an absolute path without links stands on."""
        names = self._names(path, _LOOP_DEPTH)
        mount = mount_of(path, self.mounts)
        devices = frozenset(one.name for name in names for one in self.tree.under(name))
        disks = (self.tree.disks_under(name) for name in names)
        return Behind(
            mount=mount,
            devices=devices,
            arrays=tuple(array for array in self.arrays if self._holds(array, devices, mount)),
            disks=frozenset[DiskId]().union(*disks),
        )

    def physical_devices(self, path: Path) -> frozenset[DiskId]:
        """Return the disks under a path."""
        return self.behind(path).disks

    def _names(self, path: Path, depth: int) -> frozenset[str]:
        mount = mount_of(path, self.mounts)
        if mount is None or depth == 0:
            return frozenset()
        names = set(self.mounted_on(mount))
        for name in tuple(names):
            for one in self.tree.under(name):
                if one.kind is DeviceKind.LOOP and one.backing_file.startswith("/"):
                    names |= self._names(Path(one.backing_file), depth - 1)
        return frozenset(names)

    def mounted_on(self, mount: Mount) -> tuple[str, ...]:
        """Return the block devices right under a mount.

        btrfs and ZFS have numbers of their own (major 0), so the source is asked: a device of the
        btrfs, a data set of the pool.
        """
        source = mount.source
        if mount.kind == "btrfs":
            name = self._name_of(source)
            sets = (names for names in self.btrfs_devices.values() if name in names)
            return next(sets, (name,))
        if mount.kind == "zfs":
            pool = source.partition("/")[0]
            return tuple(
                self._name_of(member.device)
                for array in self.arrays
                if array.kind is ArrayKind.ZFS and array.name == pool
                for member in array.members
                if member.device
            )
        device = self.tree.by_number(mount.number)
        return (device.name,) if device is not None else ()

    def _name_of(self, source: str) -> str:
        """Return the kernel name of `/dev/sda1` or `/dev/mapper/NAME`."""
        name = source.removeprefix("/dev/")
        if name.startswith("mapper/"):
            wanted = name.removeprefix("mapper/")
            for one in self.tree.devices.values():
                if one.kind is DeviceKind.MAPPER and one.mapper_name == wanted:
                    return one.name
        return name.rpartition("/")[2]

    def _holds(self, array: Array, devices: frozenset[str], mount: Mount | None) -> bool:
        match array.kind:
            case ArrayKind.MD:
                return array.name in devices
            case ArrayKind.LVM:
                ending = array.uuid.replace("-", "")
                uuids = (self.tree.devices[name].mapper_uuid for name in devices)
                return bool(ending) and any(
                    uuid.startswith("LVM-") and uuid.endswith(ending) for uuid in uuids
                )
            case ArrayKind.BTRFS:
                return not devices.isdisjoint(self.btrfs_devices.get(array.uuid, ()))
            case ArrayKind.ZFS:
                pool = mount.source.partition("/")[0] if mount is not None else ""
                return mount is not None and mount.kind == "zfs" and array.name == pool

    def ours(self, array: Array, paths: tuple[Path, ...]) -> bool:
        """Tell whether an array is one of the box, and not somebody's experiment.

        Every mounted btrfs is told as an array, also one on a single disk, and loop files make
        arrays without hardware. Those count only where one of `paths` stands on them.
        """
        single = array.kind is ArrayKind.BTRFS and array.wanted <= 1
        if not single and self.disks_of(array):
            return True
        if not single and not self._on_loops_only(array):
            return True
        return any(array in self.behind(path).arrays for path in paths)

    def _on_loops_only(self, array: Array) -> bool:
        names = self._members(array)
        kinds = [self.tree.devices[name].kind for name in names if name in self.tree.devices]
        return bool(kinds) and all(kind is DeviceKind.LOOP for kind in kinds)

    def _members(self, array: Array) -> list[str]:
        names = [self._name_of(part) for one in array.members for part in one.device.split(",")]
        if array.kind is ArrayKind.BTRFS:
            names += self.btrfs_devices.get(array.uuid, ())
        return [name for name in names if name]

    def disks_of(self, array: Array) -> frozenset[DiskId]:
        """Return the disks an array's present members lie on."""
        names = self._members(array)
        return frozenset[DiskId]().union(*(self.tree.disks_under(name) for name in names))
