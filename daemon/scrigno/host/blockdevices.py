# SPDX-License-Identifier: Apache-2.0
"""Block devices from sysfs: which disks there are, and which disks lie under a device.

A disk is known by its WWN or serial, never by its letter: letters move at every hot swap. Reading
sysfs and udev's records never touches a medium, so a dead or hung disk cannot stop it.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, NewType

from .facts import link_name, read_names, read_text, whole

DiskId = NewType("DiskId", str)
"""Names a physical disk: `wwn:…`, `serial:MODEL:SERIAL`, or `slot:…` for one that tells neither."""

SECTOR_BYTES: Final = 512  # of /sys/block/*/size and stat, whatever the disk's own sector
_GLOBAL_NAME: Final = re.compile(r"(?:naa|eui|nvme|uuid)\.\S+")
_PAGE_HEADER_BYTES: Final = 4  # of a SCSI vital product data page (SPC-5 7.7)
_UDEV_RECORD: Final = re.compile(r"^E:([A-Z0-9_]+)=(.*)$", re.MULTILINE)
_COUNTING: Final = "0123456789ABCDEF"
_LETTERS: Final = re.compile(r"/block/[^/]+$|/nvme\d+/nvme\d+(?:c\d+)?n(?=\d+$)")


class DeviceKind(StrEnum):
    """What a block device is made of."""

    DISK = "disk"
    PARTITION = "partition"
    MD = "md"
    MAPPER = "mapper"  # LVM, dm-crypt, multipath
    LOOP = "loop"  # a file shown as a disk
    MEMORY = "memory"  # ram, zram
    OPTICAL = "optical"


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockDevice:
    """One block device as the kernel shows it now."""

    name: str  # kernel name: good until the next swap, only for talking to tools
    number: str  # "major:minor"
    kind: DeviceKind
    size_bytes: int
    read_only: bool
    parent: str = ""  # of a partition: its disk
    slaves: tuple[str, ...] = ()  # what it is made of
    holders: tuple[str, ...] = ()  # what is made of it
    disk: DiskId | None = None  # of a whole disk
    model: str = ""
    serial: str = ""
    wwn: str = ""
    removable: bool = False
    rotational: bool = False
    state: str = ""  # of a SCSI or NVMe disk: "running", "live", "offline" …
    backing_file: str = ""  # of a loop device
    mapper_name: str = ""  # of a device-mapper one: "vg0-data"
    mapper_uuid: str = ""  # "LVM-…", "mpath-…", "CRYPT-…"
    file_system: str = ""  # udev's word on the content: "ext4", "linux_raid_member", "" …
    partition_table: bool = False  # udev saw one
    probed: bool = False  # udev has looked at the content


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockTree:
    """Every block device at one moment."""

    devices: Mapping[str, BlockDevice]  # by kernel name

    def disks(self) -> tuple[BlockDevice, ...]:
        """Return the physical disks."""
        return tuple(device for device in self.devices.values() if device.kind is DeviceKind.DISK)

    def by_number(self, number: str) -> BlockDevice | None:
        """Return the device with this "major:minor"."""
        return next((one for one in self.devices.values() if one.number == number), None)

    def under(self, name: str) -> tuple[BlockDevice, ...]:
        """Return the device and all it is made of, down to disks (and loop devices)."""
        found: dict[str, BlockDevice] = {}
        waiting = [name]
        while waiting:
            device = self.devices.get(waiting.pop())
            if device is not None and device.name not in found:
                found[device.name] = device
                waiting += [*device.slaves, *([device.parent] if device.parent else [])]
        return tuple(found.values())

    def physical_devices(self, st_dev: str) -> frozenset[DiskId]:
        """Return the disks under a "major:minor"; empty when it is no block device's.

        Two partitions, logical volumes or arrays that share a disk share its id. btrfs, ZFS and
        network file systems have numbers of their own: ask `storage.StorageMap`.
        """
        device = self.by_number(st_dev)
        return self.disks_under(device.name) if device is not None else frozenset()

    def disks_under(self, name: str) -> frozenset[DiskId]:
        """Return the ids of the disks a device is made of."""
        return frozenset(one.disk for one in self.under(name) if one.disk is not None)

    def blank_disks(self) -> tuple[BlockDevice, ...]:
        """Return the disks that hold nothing anybody knows: no partition, user or signature.

        A disk udev has not looked at is not called blank.
        """
        parents = {device.parent for device in self.devices.values()}
        return tuple(
            disk
            for disk in self.disks()
            if disk.probed
            and not (disk.holders or disk.file_system or disk.partition_table or disk.removable)
            and disk.name not in parents
            and disk.size_bytes
        )


def read_block_tree(sys_root: Path, run_root: Path) -> BlockTree:
    """Return every block device of `/sys/class/block`. Blocking, though never on a disk."""
    folder = sys_root / "class" / "block"
    found = {}
    for name in read_names(folder):
        device = _read_device(name, folder / name, run_root)
        if device is not None:
            found[name] = device
    return BlockTree(devices=found)


def _read_device(name: str, at: Path, run_root: Path) -> BlockDevice | None:
    number = read_text(at / "dev")
    if not number or read_text(at / "hidden") == "1":  # hidden: a path of NVMe multipath
        return None
    kind = _kind(name, at)
    udev = dict(_UDEV_RECORD.findall(read_text(run_root / "udev" / "data" / f"b{number}")))
    whole_disk = kind in (DeviceKind.DISK, DeviceKind.OPTICAL)
    model = _first(at / "device" / "model", at / "model") if whole_disk else ""
    serial = _serial(at, udev) if whole_disk else ""
    wwn = _wwn(at, udev) if whole_disk else ""
    return BlockDevice(
        name=name,
        number=number,
        kind=kind,
        size_bytes=(whole(read_text(at / "size")) or 0) * SECTOR_BYTES,
        read_only=read_text(at / "ro") == "1",
        parent=_parent(at) if kind is DeviceKind.PARTITION else "",
        slaves=read_names(at / "slaves"),
        holders=read_names(at / "holders"),
        disk=_identity(at, wwn, model, serial) if kind is DeviceKind.DISK else None,
        model=model,
        serial=serial,
        wwn=wwn,
        removable=read_text(at / "removable") == "1",
        rotational=read_text(at / "queue" / "rotational") == "1",
        state=read_text(at / "device" / "state") if whole_disk else "",
        backing_file=read_text(at / "loop" / "backing_file"),
        mapper_name=read_text(at / "dm" / "name"),
        mapper_uuid=read_text(at / "dm" / "uuid"),
        file_system=udev.get("ID_FS_TYPE", ""),
        partition_table="ID_PART_TABLE_TYPE" in udev,
        probed=bool(udev),
    )


def _kind(name: str, at: Path) -> DeviceKind:
    if (at / "partition").exists():
        return DeviceKind.PARTITION
    if (at / "md").is_dir():
        return DeviceKind.MD
    if (at / "dm").is_dir():
        return DeviceKind.MAPPER
    for start, kind in (
        ("loop", DeviceKind.LOOP),
        ("zram", DeviceKind.MEMORY),
        ("ram", DeviceKind.MEMORY),
        ("sr", DeviceKind.OPTICAL),
        ("md", DeviceKind.MD),
        ("dm-", DeviceKind.MAPPER),
    ):
        if re.fullmatch(rf"{start}\d+", name):
            return kind
    return DeviceKind.DISK


def _parent(at: Path) -> str:
    return _real(at).parent.name


def _real(at: Path) -> Path:
    try:
        return at.resolve(strict=True)
    except (OSError, RuntimeError):
        return at


def _first(*paths: Path) -> str:
    return next((" ".join(text.split()) for text in map(read_text, paths) if text), "")


def _serial(at: Path, udev: Mapping[str, str]) -> str:
    """Return the serial: virtio's or NVMe's attribute, SCSI page 0x80, or what udev noted."""
    if told := _first(at / "serial", at / "device" / "serial"):
        return told
    return _unit_serial(at / "device" / "vpd_pg80") or udev.get("ID_SERIAL_SHORT", "").strip()


def _unit_serial(page: Path) -> str:
    try:
        content = page.read_bytes()
    except OSError:
        return ""
    length = int.from_bytes(content[2:_PAGE_HEADER_BYTES], "big")
    return (
        content[_PAGE_HEADER_BYTES : _PAGE_HEADER_BYTES + length]
        .decode("ascii", "ignore")
        .strip("\0 ")
    )


def _wwn(at: Path, udev: Mapping[str, str]) -> str:
    told = _first(at / "wwid", at / "device" / "wwid")
    if _GLOBAL_NAME.fullmatch(told):  # "t10.…" repeats model and serial, and is no WWN
        return told
    noted = udev.get("ID_WWN_WITH_EXTENSION", udev.get("ID_WWN", ""))
    return f"naa.{noted.removeprefix('0x')}" if noted.startswith("0x") else noted


def _identity(at: Path, wwn: str, model: str, serial: str) -> DiskId:
    if wwn and not _everybodys(wwn.partition(".")[2]):
        return DiskId(f"wwn:{wwn}")
    if serial and not _everybodys(serial):
        return DiskId(f"serial:{model}:{serial}")
    parts = _real(at).as_posix().partition("/devices/")[2]
    return DiskId(f"slot:{_LETTERS.sub('', '/' + parts).strip('/') or link_name(at)}")


def _everybodys(name: str) -> bool:
    """Tell whether a name is one that cheap USB bridges give every disk, as 000000000000."""
    return len(set(name)) <= 1 or _COUNTING.startswith(name.upper())


@dataclass(frozen=True, slots=True, kw_only=True)
class IoCounters:
    """What a disk has finished and what waits, at one moment (Documentation/block/stat.rst)."""

    at_s: float  # monotonic
    completed: int  # reads, writes, discards and flushes since the start
    in_flight: int
    busy_ms: int  # io_ticks


def parse_io_counters(stat: str, inflight: str, *, at_s: float) -> IoCounters | None:
    """Return the counters of `/sys/block/X/stat` and `inflight`, None when the disk is gone."""
    fields = [whole(field) for field in stat.split()]
    if len(fields) < 11 or None in fields:  # 11 fields since 2.6, 15 with discards, 17 with flushes
        return None
    values = [field or 0 for field in fields]
    finished = sum(values[index] for index in (0, 4, 11, 15) if index < len(values))
    waiting = [whole(field) or 0 for field in inflight.split()]
    return IoCounters(
        at_s=at_s,
        completed=finished,
        in_flight=sum(waiting) if waiting else values[8],
        busy_ms=values[9],
    )


def read_io_counters(sys_root: Path, at_s: float) -> Mapping[str, IoCounters]:
    """Return the counters of every whole block device. Blocking, though never on a disk."""
    return dict(_counters(sys_root / "block", at_s))


def _counters(folder: Path, at_s: float) -> Iterator[tuple[str, IoCounters]]:
    for name in read_names(folder):
        at = folder / name
        counters = parse_io_counters(read_text(at / "stat"), read_text(at / "inflight"), at_s=at_s)
        if counters is not None:
            yield name, counters


def hung(before: IoCounters, after: IoCounters, *, least_s: float) -> bool:
    """Tell whether a disk finished nothing in `least_s` or more while requests waited all along.

    Measured on a stopped disk: requests in flight, io_ticks running at a second a second, and not
    one completion. An idle disk has none in flight; a slow one completes something.
    """
    return (
        after.at_s - before.at_s >= least_s
        and before.in_flight > 0
        and after.in_flight > 0
        and after.completed == before.completed
    )
