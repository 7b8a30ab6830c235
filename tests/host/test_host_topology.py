# SPDX-License-Identifier: Apache-2.0
"""The remembered topology against what is seen, on captured machines and a simulated one."""

from collections.abc import Callable
from pathlib import Path

import pytest

from scrigno.host import lvm, mdraid
from scrigno.host.arrays import ArrayHealth, ArrayKind, MemberState
from scrigno.host.blockdevices import hung, read_block_tree
from scrigno.host.facts import FactsUnreadable, NotAvailable
from scrigno.host.filesystems import parse_mountinfo
from scrigno.host.simulated_machine import SimulatedMachine
from scrigno.host.storage import StorageMap
from scrigno.host.timesync import step_s
from scrigno.host.topology import (
    Difference,
    DifferenceKind,
    Topology,
    compare,
    from_json,
    observe,
    shared_disks,
    to_json,
)
from scrigno.host.ups import Ups, UpsPower

Sysfs = Callable[[str], Path]
DATA = Path("/mnt/data")
MOUNTS = parse_mountinfo(
    "1 1 0:2 / / rw - rootfs rootfs rw\n25 1 9:0 / /mnt/data rw,relatime - ext4 /dev/md0 rw\n"
)


def _seen(root: Path) -> Topology:
    storage = StorageMap(
        tree=read_block_tree(root, Path("/nonexistent")),
        mounts=MOUNTS,
        arrays=mdraid.read_arrays(root, {}),
    )
    return observe(storage, {"data": DATA})


def _kinds(differences: tuple[Difference, ...]) -> set[tuple[str, str]]:
    return {(one.kind.value, one.subject) for one in differences}


@pytest.mark.spec("ST-4")
def test_a_real_pull_and_replacement_are_told_by_serial(sysfs: Sysfs) -> None:
    expected = _seen(sysfs("md-clean"))
    assert [len(volume.disks) for volume in expected.volumes] == [2]
    assert compare(expected, expected) == ()
    pulled = compare(expected, _seen(sysfs("md-pulled")))
    assert _kinds(pulled) == {("disk-missing", "DISKB0001"), ("member-missing", "md0")}
    replaced = compare(expected, _seen(sysfs("md-replaced")))
    assert [one.details for one in replaced if one.kind is DifferenceKind.MEMBER_REPLACED] == [
        "DISKB0001 -> DISKC0001"
    ]
    assert not [one for one in replaced if one.kind is DifferenceKind.VOLUME_MOVED]


@pytest.mark.spec("ST-4")
def test_an_array_under_another_name_is_the_same_array(sysfs: Sysfs) -> None:
    expected = _seen(sysfs("md-clean"))
    root = sysfs("md-check")
    for folder in ("block", "class/block"):
        (root / folder / "md0").rename(root / folder / "md127")
    assert compare(expected, _seen(root)) == ()
    (root / "block/md127/md/uuid").write_text("00000000-0000-0000-0000-000000000001\n")
    assert _kinds(compare(expected, _seen(root))) == {
        ("array-missing", "md0"),
        ("array-foreign", "md127"),
    }


@pytest.mark.spec("ST-4")
def test_an_array_that_was_not_assembled_is_missing_with_its_disks(sysfs: Sysfs) -> None:
    expected = _seen(sysfs("md-clean"))
    found = compare(expected, Topology(disks=expected.disks))
    (missing,) = [one for one in found if one.kind is DifferenceKind.ARRAY_MISSING]
    assert (missing.subject, missing.details) == ("md0", "DISKA0001, DISKB0001")
    unasked = Topology(
        disks=expected.disks, volumes=expected.volumes, unasked=frozenset({ArrayKind.MD})
    )
    assert compare(expected, unasked) == ()


@pytest.mark.spec("ST-4")
def test_a_logical_volume_is_followed_to_its_disks(
    sysfs: Sysfs, capture: Callable[[str], str]
) -> None:
    tree = read_block_tree(sysfs("lvm"), Path("/nonexistent"))
    mounts = parse_mountinfo(
        "30 1 252:4 / /srv/data rw - ext4 /dev/mapper/vg0-mirror rw\n"
        "31 1 252:5 / /srv/backup rw - ext4 /dev/mapper/vg0-plain rw\n"
    )
    arrays = lvm.arrays(lvm.parse_lvs(capture("lvs-2.03.16-ok-all.json")))
    storage = StorageMap(tree=tree, mounts=mounts, arrays=arrays)
    behind = storage.behind(Path("/srv/data/studies"))
    assert [array.name for array in behind.arrays] == ["vg0/mirror"]
    assert len(behind.disks) == 2
    seen = observe(storage, {"data": Path("/srv/data"), "backup1": Path("/srv/backup")})
    assert list(shared_disks(seen).values()) == [("data", "backup1")]


@pytest.mark.spec("ST-4")
def test_the_topology_survives_being_stored(sysfs: Sysfs) -> None:
    expected = _seen(sysfs("md-clean"))
    assert from_json(to_json(expected)) == expected


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"format": 2}', b'{"format": 1, "arrays": [{"kind": "tape"}]}']
)
def test_a_stored_topology_of_another_form_is_refused(content: bytes) -> None:
    with pytest.raises(FactsUnreadable):
        from_json(content)


# -- the simulated machine


@pytest.fixture
def machine() -> SimulatedMachine:
    made = SimulatedMachine()
    for serial in ("S1", "S2", "S3"):
        made.insert(serial)
    made.mirror("md0", "0123", "S1", "S2")
    made.mount(Path("/srv/data"), "md0")
    made.mount(Path("/srv/backup"), "S3")
    return made


VOLUMES = {"data": Path("/srv/data"), "backup1": Path("/srv/backup")}


@pytest.mark.spec("ST-4")
async def test_a_disk_is_pulled_and_replaced_and_rebuilt(machine: SimulatedMachine) -> None:
    expected = await machine.topology(VOLUMES)
    machine.pull("S2")
    (array,) = (await machine.arrays()).found
    assert (array.health, array.members[1].state) == (ArrayHealth.DEGRADED, MemberState.MISSING)
    assert _kinds(compare(expected, await machine.topology(VOLUMES))) == {
        ("disk-missing", "S2"),
        ("member-missing", "md0"),
    }
    machine.insert("S4")
    assert ("disk-blank", "S4") in _kinds(compare(expected, await machine.topology(VOLUMES)))
    machine.replace("md0", gone="S2", new="S4")
    machine.advance(60)
    (array,) = (await machine.arrays()).found
    assert array.members[1].state is MemberState.REBUILDING
    assert array.progress is not None
    assert 0 < array.progress.percent < 1
    machine.advance(array.progress.remaining_s or 0)
    (array,) = (await machine.arrays()).found
    assert (array.health, array.progress) == (ArrayHealth.WHOLE, None)
    assert compare(await machine.topology(VOLUMES), await machine.topology(VOLUMES)) == ()


@pytest.mark.spec("ST-4")
async def test_a_disk_keeps_its_name_when_its_letter_moves(machine: SimulatedMachine) -> None:
    expected = await machine.topology(VOLUMES)
    for serial in ("S1", "S2", "S3"):
        machine.pull(serial)
    assert ("array-missing", "md0") in _kinds(compare(expected, await machine.topology(VOLUMES)))
    for serial in ("S3", "S2", "S1"):
        machine.insert(serial)
    tree = await machine.block_tree()
    assert {disk.name: disk.serial for disk in tree.disks()}["sda"] == "S3"
    assert compare(expected, await machine.topology(VOLUMES)) == ()


@pytest.mark.spec("ST-4")
async def test_a_volume_that_lies_on_another_disk_is_told(machine: SimulatedMachine) -> None:
    expected = await machine.topology(VOLUMES)
    machine.insert("S9")
    machine.mount(Path("/srv/backup"), "S9")
    found = _kinds(compare(expected, await machine.topology(VOLUMES)))
    assert ("volume-moved", "backup1") in found


async def test_a_hung_disk_shows_the_signature(machine: SimulatedMachine) -> None:
    machine.disks["S3"].hung = True
    before = await machine.io_counters()
    machine.advance(10)
    after = await machine.io_counters()
    assert [name for name in after if hung(before[name], after[name], least_s=10)] == ["sdc"]


async def test_power_time_and_smart_are_scripted(machine: SimulatedMachine) -> None:
    assert isinstance(await machine.ups("ups"), NotAvailable)
    machine.set_power(UpsPower.BATTERY, charge_percent=15, low=True)
    ups = await machine.ups("ups")
    assert isinstance(ups, Ups)
    assert ups.battery_low
    before = machine.clock_sample()
    machine.advance(5)
    machine.step_clock(-3600)
    assert step_s(before, machine.clock_sample()) == pytest.approx(-3600)
    assert isinstance(await machine.smart(machine.disks["S1"].id), type(machine.disks["S1"].smart))
    machine.pull("S1")
    assert isinstance(await machine.smart(machine.disks["S1"].id), NotAvailable)
