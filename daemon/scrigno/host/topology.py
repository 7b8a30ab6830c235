# SPDX-License-Identifier: Apache-2.0
"""The topology that should be: remembered, so that what vanished can be told.

The kernel only knows what is there. An array that was not assembled at boot, or a disk that is
gone with its cable, is in no list any more; it is missing only against what was expected.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from .arrays import Array, ArrayKind
from .blockdevices import DiskId
from .facts import FactsUnreadable, Json
from .storage import StorageMap

FORMAT: Final = 1
_SOURCE: Final = "topology"


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownDisk:
    """One physical disk."""

    id: DiskId
    serial: str
    model: str
    size_bytes: int
    blank: bool = False  # holds nothing anybody knows


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownArray:
    """One array and the disks of its members."""

    kind: ArrayKind
    uuid: str  # "" where the source could not tell; then the name stands for it
    name: str
    level: str
    wanted: int
    disks: tuple[DiskId, ...]

    @property
    def key(self) -> tuple[ArrayKind, str]:
        """Return what makes it the same array after a reboot; md names change."""
        return self.kind, self.uuid or self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownVolume:
    """One volume and the disks its bytes lie on."""

    name: str
    disks: tuple[DiskId, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """Disks, arrays and volumes, expected or seen."""

    disks: tuple[KnownDisk, ...] = ()
    arrays: tuple[KnownArray, ...] = ()
    volumes: tuple[KnownVolume, ...] = ()
    unasked: frozenset[ArrayKind] = frozenset()  # seen only: kinds whose tool did not answer


class DifferenceKind(StrEnum):
    """How what is seen differs; stable, part of an alert's key."""

    DISK_MISSING = "disk-missing"
    DISK_BLANK = "disk-blank"  # new and empty: offer it, never format it unasked
    DISK_UNKNOWN = "disk-unknown"  # new, and holds something
    ARRAY_MISSING = "array-missing"
    ARRAY_FOREIGN = "array-foreign"  # not ours, or of a box before
    MEMBER_MISSING = "member-missing"
    MEMBER_REPLACED = "member-replaced"
    VOLUME_MOVED = "volume-moved"  # lies on other disks than before


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One difference, with what an operator needs to find the part in his hand."""

    kind: DifferenceKind
    subject: str  # serial of a disk, name of an array or volume
    details: str = ""
    before: tuple[str, ...] = ()  # serials of the disks that were expected and are not there
    after: tuple[str, ...] = ()  # serials of the disks in their place


def observe(
    storage: StorageMap,
    volumes: Mapping[str, Path],
    *,
    unasked: frozenset[ArrayKind] = frozenset(),
    places: tuple[Path, ...] = (),
) -> Topology:
    """Return the topology of a moment; `volumes` are absolute paths by name.

    Arrays under `places` count as the box's own too, whatever they are made of.
    """
    blank = {disk.name for disk in storage.tree.blank_disks()}
    disks = {
        disk.disk: KnownDisk(
            id=disk.disk,
            serial=disk.serial,
            model=disk.model,
            size_bytes=disk.size_bytes,
            blank=disk.name in blank,
        )
        for disk in storage.tree.disks()
        if disk.disk is not None and not disk.removable
    }
    return Topology(
        disks=tuple(disks.values()),
        arrays=tuple(
            _known(array, storage)
            for array in storage.arrays
            if storage.ours(array, (*volumes.values(), *places))
        ),
        volumes=tuple(
            KnownVolume(name=name, disks=tuple(sorted(storage.physical_devices(path))))
            for name, path in volumes.items()
        ),
        unasked=unasked,
    )


def _known(array: Array, storage: StorageMap) -> KnownArray:
    return KnownArray(
        kind=array.kind,
        uuid=array.uuid,
        name=array.name,
        level=array.level,
        wanted=array.wanted,
        disks=tuple(sorted(storage.disks_of(array))),
    )


def compare(expected: Topology, seen: Topology) -> tuple[Difference, ...]:
    """Return what is missing, new or other. Kinds that could not be asked say nothing."""
    return (
        *_compare_disks(expected, seen),
        *_compare_arrays(expected, seen),
        *_compare_volumes(expected, seen),
    )


def _compare_disks(expected: Topology, seen: Topology) -> Iterator[Difference]:
    there = {disk.id for disk in seen.disks}
    known = {disk.id for disk in expected.disks}
    for disk in expected.disks:
        if disk.id not in there:
            yield Difference(
                kind=DifferenceKind.DISK_MISSING, subject=disk.serial or disk.id, details=disk.model
            )
    for disk in seen.disks:
        if disk.id not in known:
            kind = DifferenceKind.DISK_BLANK if disk.blank else DifferenceKind.DISK_UNKNOWN
            yield Difference(kind=kind, subject=disk.serial or disk.id, details=disk.model)


def _compare_arrays(expected: Topology, seen: Topology) -> Iterator[Difference]:
    serials = {disk.id: disk.serial or disk.id for disk in (*expected.disks, *seen.disks)}
    there = {array.key: array for array in seen.arrays}
    known = {array.key for array in expected.arrays}
    for array in expected.arrays:
        if array.kind in seen.unasked:
            continue
        now = there.get(array.key)
        if now is None:
            yield Difference(
                kind=DifferenceKind.ARRAY_MISSING,
                subject=array.name,
                details=", ".join(serials[disk] for disk in array.disks if disk in serials),
                before=tuple(serials[disk] for disk in array.disks if disk in serials),
            )
        else:
            yield from _compare_members(array, now, serials)
    for array in seen.arrays:
        if array.key not in known:
            yield Difference(
                kind=DifferenceKind.ARRAY_FOREIGN, subject=array.name, details=array.level
            )


def _compare_members(
    expected: KnownArray, seen: KnownArray, serials: Mapping[DiskId, str]
) -> Iterator[Difference]:
    gone = [serials.get(disk, disk) for disk in expected.disks if disk not in seen.disks]
    new = [serials.get(disk, disk) for disk in seen.disks if disk not in expected.disks]
    for index, serial in enumerate(new):
        before = gone[index] if index < len(gone) else ""
        yield Difference(
            kind=DifferenceKind.MEMBER_REPLACED,
            subject=expected.name,
            details=f"{before} -> {serial}",
            before=(before,) if before else (),
            after=(serial,),
        )
    for serial in gone[len(new) :]:
        yield Difference(
            kind=DifferenceKind.MEMBER_MISSING,
            subject=expected.name,
            details=serial,
            before=(serial,),
        )


def _compare_volumes(expected: Topology, seen: Topology) -> Iterator[Difference]:
    there = {volume.name: set(volume.disks) for volume in seen.volumes}
    serials = {disk.id: disk.serial or disk.id for disk in (*expected.disks, *seen.disks)}
    arrays = [set(array.disks) for array in seen.arrays]
    for volume in expected.volumes:
        now = there.get(volume.name, set())
        strange = now - set(volume.disks)
        # a replaced member of its array is told as that, not as a volume that moved
        if strange and not any(strange <= disks and now & disks - strange for disks in arrays):
            yield Difference(
                kind=DifferenceKind.VOLUME_MOVED,
                subject=volume.name,
                before=tuple(sorted(serials.get(disk, disk) for disk in volume.disks)),
                after=tuple(sorted(serials.get(disk, disk) for disk in now)),
            )


def shared_disks(topology: Topology) -> Mapping[DiskId, tuple[str, ...]]:
    """Return each disk that more than one volume lies on, with their names: no redundancy there."""
    users: dict[DiskId, list[str]] = {}
    for volume in topology.volumes:
        for disk in volume.disks:
            users.setdefault(disk, []).append(volume.name)
    return {disk: tuple(names) for disk, names in users.items() if len(names) > 1}


def to_json(topology: Topology) -> bytes:
    """Return the topology as a file's content."""
    told = asdict(topology)
    del told["unasked"]
    return json.dumps({"format": FORMAT, **told}, indent=1, sort_keys=True).encode() + b"\n"


def from_json(content: bytes) -> Topology:
    """Return the topology a file holds; raises FactsUnreadable."""
    told = Json.parse(content, _SOURCE)
    if told["format"].whole != FORMAT:
        raise FactsUnreadable(_SOURCE, "unknown format")
    return Topology(
        disks=tuple(
            KnownDisk(
                id=DiskId(row["id"].text),
                serial=row["serial"].text,
                model=row["model"].text,
                size_bytes=row["size_bytes"].whole or 0,
                blank=row["blank"].truth or False,
            )
            for row in told["disks"].rows()
        ),
        arrays=tuple(map(_array_from, told["arrays"].rows())),
        volumes=tuple(
            KnownVolume(name=row["name"].text, disks=_ids(row["disks"]))
            for row in told["volumes"].rows()
        ),
    )


def _array_from(row: Json) -> KnownArray:
    try:
        kind = ArrayKind(row["kind"].text)
    except ValueError as error:
        raise FactsUnreadable(_SOURCE, "an array of unknown kind") from error
    return KnownArray(
        kind=kind,
        uuid=row["uuid"].text,
        name=row["name"].text,
        level=row["level"].text,
        wanted=row["wanted"].whole or 0,
        disks=_ids(row["disks"]),
    )


def _ids(value: Json) -> tuple[DiskId, ...]:
    return tuple(DiskId(text) for text in value.texts())
