# SPDX-License-Identifier: Apache-2.0
"""Which physical things a path stands on, as names that can be compared.

Two paths that share a name are lost together: two folders, partitions, logical volumes, subvolumes
or loop files of one disk. Only the mount table and sysfs are read, so a dead or hung disk cannot
stop it.
"""

import os
from pathlib import Path
from typing import Final

from . import btrfs
from .blockdevices import DeviceKind, read_block_tree
from .facts import NotAvailable
from .filesystems import Mount, mount_of, parse_mountinfo
from .reader import Reader
from .storage import StorageMap

READ_TIMEOUT_S: Final = 5.0
MEMORY: Final = "memory"
_LOOP_DEPTH: Final = 4  # a loop file on a loop file on …
_LINK_LIMIT: Final = 40  # as the kernel's own (path_resolution(7))
_IN_MEMORY: Final = frozenset({"tmpfs", "ramfs", "devtmpfs"})
_SHARES: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs"})


def physical_names(path: Path, storage: StorageMap) -> frozenset[str]:
    """Return what an absolute path without links stands on.

    A disk is named by its id (WWN, else serial, else slot), a share by its server (`host:NAME`),
    memory as `memory`, a ZFS pool as `zfs:POOL` (only its tool knows the disks), and all else by
    the number of its file system as `dev:<st_dev>`. Empty only when no mount is known.
    """
    return _under(path, storage, _LOOP_DEPTH)


def _under(path: Path, storage: StorageMap, depth: int) -> frozenset[str]:
    mount = mount_of(path, storage.mounts)
    if mount is None:
        return frozenset()
    found: set[str] = set()
    for name in storage.mounted_on(mount):
        for device in storage.tree.under(name):
            if device.disk is not None:
                found.add(device.disk)
            elif device.kind is DeviceKind.MEMORY:
                found.add(MEMORY)
            elif device.kind is DeviceKind.LOOP and depth and device.backing_file.startswith("/"):
                found |= _under(Path(device.backing_file), storage, depth - 1)
    return frozenset(found) or frozenset({_without_disk(mount)})


def _without_disk(mount: Mount) -> str:
    if mount.kind in _IN_MEMORY:
        return MEMORY
    if mount.kind in _SHARES and (host := _server(mount.source)):
        return f"host:{host}"
    if mount.kind == "zfs":
        return f"zfs:{mount.source.partition('/')[0]}"
    major, _, minor = mount.number.partition(":")
    return f"dev:{os.makedev(int(major), int(minor))}"


def _server(source: str) -> str:
    """Return the server of `//SERVER/SHARE` or `SERVER:/EXPORT` (also `[fe80::1]:/EXPORT`)."""
    if source.startswith("//"):
        return source[2:].partition("/")[0].lower()
    return source.rpartition(":/")[0].strip("[]").lower()


def plain_path(path: Path, mounts: tuple[Mount, ...]) -> Path:
    """Return a path with the links of the root file system followed, and no other. Blocking.

    From the first mount point on nothing is looked at any more: behind it may be a disk that hangs.
    """
    points = {mount.point for mount in mounts} - {"/"}
    waiting = list(reversed(Path(os.path.normpath(path)).parts[1:]))
    done = Path("/")
    links = 0
    while waiting:
        done = done / waiting.pop()
        if str(done) in points:
            return done.joinpath(*reversed(waiting))
        try:
            target = done.readlink()
        except OSError:
            continue
        links += 1
        if links > _LINK_LIMIT:
            return path
        whole = Path(os.path.normpath(done.parent / target))
        waiting += reversed(whole.parts[1:])
        done = Path("/")
    return done


def read_physical_names(path: Path, root: Path) -> frozenset[str]:
    """Return what a path stands on, from the sys, proc and run under `root`. Blocking."""
    table = (root / "proc/self/mountinfo").read_bytes()
    mounts = parse_mountinfo(table.decode("utf-8", "surrogateescape"))
    uuids = {array.uuid for array in btrfs.read_arrays(root / "sys")}
    storage = StorageMap(
        tree=read_block_tree(root / "sys", root / "run"),
        mounts=mounts,
        btrfs_devices={uuid: btrfs.device_names(root / "sys", uuid) for uuid in uuids},
    )
    return physical_names(plain_path(path, mounts) if root == Path("/") else path, storage)


class PhysicalDevices:
    """Tells what paths stand on, beside the loop and in bounded time. Loop only."""

    def __init__(self, *, root: Path = Path("/"), timeout_s: float = READ_TIMEOUT_S) -> None:
        """Ask the machine whose sys, proc and run stand under `root`."""
        self._root = root
        self._reader = Reader("physical", at_once=2, timeout_s=timeout_s)

    async def devices_of(self, path: Path) -> frozenset[str]:
        """Return the names of `physical_names`; empty when nothing can be said now.

        Never raises, never touches the file system of `path` (but for links of the root one).
        """
        found = await self._reader.read(
            "physical devices", lambda: read_physical_names(path, self._root)
        )
        return frozenset() if isinstance(found, NotAvailable) else found
