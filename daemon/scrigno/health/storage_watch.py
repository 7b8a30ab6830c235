# SPDX-License-Identifier: Apache-2.0
"""Watching arrays, disks and mounts against the remembered topology."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from scrigno.core.errors import CommandError
from scrigno.host.arrays import Array, ArrayKind
from scrigno.host.blockdevices import BlockDevice
from scrigno.host.facts import NotAvailable
from scrigno.host.filesystems import Mount, mount_of
from scrigno.host.machine import Arrays, KernelView, Machine
from scrigno.host.physical import plain_path
from scrigno.host.storage import StorageMap
from scrigno.host.topology import Difference, KnownVolume, Topology, compare, observe

from .machine_memory import TOPOLOGY, MachineMemory
from .storage_conditions import FileSystemFacts, StorageFacts
from .watched_source import Failures, SourceFailed, failure_of

_BY_TOOLS: Final = frozenset({ArrayKind.LVM, ArrayKind.ZFS})


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedVolume:
    """One volume as the watch needs it."""

    path: Path
    right: bool  # its own marker has been seen there: what it stands on may be remembered
    total_bytes: int | None = None
    free_bytes: int | None = None


class StorageLook:
    """What is known of the storage, and what should be. Loop only."""

    def __init__(
        self,
        machine: Machine,
        memory: MachineMemory,
        save: Callable[[str], Awaitable[None]],
        volumes: Callable[[], Mapping[str, WatchedVolume]],
        places: Callable[[], Mapping[str, Path]],
    ) -> None:
        """`places` are further folders whose file system matters (state, staging), by name."""
        self._machine = machine
        self._memory = memory
        self._save = save
        self._volumes = volumes
        self._places = places
        self._view: KernelView | None = None
        self._tools = Arrays(unknown=dict.fromkeys(_BY_TOOLS, _NOT_YET))
        self._last: dict[ArrayKind, tuple[Array, ...]] = {}
        self._plain: dict[Path, Path] = {}
        self._judged_from: object = None
        self._ours: tuple[Array, ...] = ()
        self._seen: Topology | None = None
        self._systems: tuple[FileSystemFacts, ...] = ()

    async def ask_kernel(self) -> Failures:
        """Look at everything that costs nothing."""
        view = await self._machine.kernel_view()
        if isinstance(view, NotAvailable):
            raise SourceFailed(view)
        await self._follow_links(view.mounts)
        self._view = view
        await self._judge()
        return {
            f"{kind.value} arrays": failure_of(why) for kind, why in view.arrays.unknown.items()
        }

    async def ask_tools(self) -> Failures:
        """Run the tools of LVM and ZFS where there is any."""
        self._tools = await self._machine.tool_arrays()
        await self._judge()
        return {
            f"{kind.value} arrays": failure_of(why) for kind, why in self._tools.unknown.items()
        }

    async def _follow_links(self, mounts: tuple[Mount, ...]) -> None:
        """Keep each path without the links of the root file system."""
        paths = {*self._paths().values()}
        if self._view is not None and mounts == self._view.mounts and paths <= set(self._plain):
            return
        self._plain = await asyncio.to_thread(
            lambda: {path: plain_path(path, mounts) for path in paths}
        )

    def _paths(self) -> dict[str, Path]:
        return {
            **self._places(),
            **{name: volume.path for name, volume in self._volumes().items()},
        }

    def _plainly(self, path: Path) -> Path:
        return self._plain.get(path, path)

    async def _judge(self) -> None:
        view, tools = self._view, self._tools
        if view is None:
            return
        right = {
            name: self._plainly(volume.path)
            for name, volume in self._volumes().items()
            if volume.right
        }
        every = tuple(self._plainly(path) for path in self._paths().values())
        basis = (view, tools, right, every)
        if basis == self._judged_from:
            return
        self._judged_from = basis
        self._systems = tuple(self._file_systems())
        unknown = {**view.arrays.unknown, **tools.unknown}
        for kind in ArrayKind:
            if kind not in unknown:
                found = (*view.arrays.found, *tools.found)
                self._last[kind] = tuple(array for array in found if array.kind is kind)
        storage = view.storage(tools)
        self._ours = tuple(
            array
            for arrays in self._last.values()
            for array in arrays
            if storage.ours(array, every)
        )
        self._seen = observe(storage, right, unasked=frozenset(unknown), places=every)
        learned = _learn(self._memory.topology, self._seen, set(self._volumes()), storage, right)
        if learned != self._memory.topology:
            self._memory.topology = learned
            await self._save(TOPOLOGY)

    @property
    def facts(self) -> StorageFacts:
        """Return what is known now."""
        return StorageFacts(
            arrays=self._ours,
            expected=self._memory.topology,
            seen=self._seen,
            file_systems=self._systems,
        )

    def _file_systems(self) -> list[FileSystemFacts]:
        """Return the file system of each place, once for each with the first place's name."""
        if self._view is None:
            return []
        states = {state.mount.mount_id: state for state in self._view.file_systems}
        found: dict[str, FileSystemFacts] = {}
        for name, path in self._paths().items():
            mount = mount_of(self._plainly(path), self._view.mounts)
            state = states.get(mount.mount_id) if mount is not None else None
            if mount is not None and state is not None:
                found.setdefault(mount.number, FileSystemFacts(place=name, state=state))
        return list(found.values())

    @property
    def looked(self) -> bool:
        """Tell whether the disks were ever seen."""
        return self._view is not None

    @property
    def disks(self) -> tuple[BlockDevice, ...]:
        """Return the disks that are there now."""
        if self._view is None:
            return ()
        return tuple(disk for disk in self._view.tree.disks() if not disk.removable)

    async def accept(self) -> tuple[Difference, ...]:
        """Make what is seen now what should be; returns what differed. Raises CommandError."""
        seen, expected = self._seen, self._memory.topology or Topology()
        if seen is None:
            raise CommandError(
                "The disks cannot be seen at this moment, so nothing was accepted.",
                next_step="Try again in a minute; then look at the log.",
            )
        differences = compare(expected, seen)
        unasked = tuple(array for array in expected.arrays if array.kind in seen.unasked)
        here = {volume.name for volume in seen.volumes}
        away = tuple(volume for volume in expected.volumes if volume.name not in here)
        self._memory.topology = replace(
            seen,
            arrays=(*seen.arrays, *unasked),
            volumes=(*seen.volumes, *away),
            unasked=frozenset(),
        )
        self._memory.forgotten.clear()
        await self._save(TOPOLOGY)
        return differences


_NOT_YET: Final = NotAvailable(source="arrays", reason="not asked yet")


def _learn(
    expected: Topology | None,
    seen: Topology,
    configured: set[str],
    storage: StorageMap,
    right: Mapping[str, Path],
) -> Topology | None:
    """Return what should be from now on.

    What is seen first is what should be, once every kind of array could be asked. A volume seen
    in its right place for the first time brings its arrays and disks along: btrfs shows an array
    only while it is mounted. One that is configured no more is forgotten.
    """
    if expected is None:
        return None if seen.unasked else seen
    known = {volume.name for volume in expected.volumes}
    new = [volume for volume in seen.volumes if volume.name not in known]
    volumes = tuple(volume for volume in expected.volumes if volume.name in configured)
    learned = replace(expected, volumes=(*volumes, *new))
    return _with_their_ground(learned, seen, new, storage, right)


def _with_their_ground(
    expected: Topology,
    seen: Topology,
    new: list[KnownVolume],
    storage: StorageMap,
    right: Mapping[str, Path],
) -> Topology:
    under = {
        (array.kind, array.uuid or array.name)
        for volume in new
        for array in storage.behind(right[volume.name]).arrays
    }
    known = {array.key for array in expected.arrays}
    arrays = tuple(one for one in seen.arrays if one.key in under - known)
    on = {disk for volume in new for disk in volume.disks}
    on |= {disk for array in arrays for disk in array.disks}
    there = {disk.id for disk in expected.disks}
    disks = tuple(one for one in seen.disks if one.id in on - there)
    return replace(expected, arrays=(*expected.arrays, *arrays), disks=(*expected.disks, *disks))
