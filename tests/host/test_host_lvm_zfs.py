# SPDX-License-Identifier: Apache-2.0
"""LVM as a real volume group told it, ZFS as its manual and source say."""

from collections.abc import Callable

import pytest

from scrigno.host import lvm, zfs
from scrigno.host.arrays import Activity, ArrayHealth, MemberState

Capture = Callable[[str], str]


@pytest.mark.spec("ST-4")
def test_a_mirrored_volume_is_whole_on_two_disks(capture: Capture) -> None:
    mirror, plain = lvm.arrays(lvm.parse_lvs(capture("lvs-2.03.16-ok-all.json")))
    assert (mirror.name, mirror.level, mirror.health) == ("vg0/mirror", "raid1", ArrayHealth.WHOLE)
    assert [member.device for member in mirror.members] == ["sdd", "sde"]
    assert mirror.mismatches == 0
    assert (plain.level, plain.health) == ("linear", ArrayHealth.WHOLE)
    assert [member.device for member in plain.members] == ["sdd"]


@pytest.mark.spec("ST-4")
def test_a_pulled_disk_degrades_only_the_volume_that_had_a_leg_on_it(capture: Capture) -> None:
    mirror, plain = lvm.arrays(lvm.parse_lvs(capture("lvs-2.03.16-partial-all.json")))
    assert (mirror.health, mirror.state, mirror.degraded) == (ArrayHealth.DEGRADED, "partial", 1)
    assert [member.state for member in mirror.members] == [
        MemberState.IN_SYNC,
        MemberState.MISSING,
    ]
    assert plain.health is ArrayHealth.WHOLE


def test_a_volume_without_copies_that_lost_its_disk_has_failed(capture: Capture) -> None:
    text = capture("lvs-2.03.16-partial-all.json").replace("/dev/sdd(9)", "[unknown](9)")
    plain = lvm.arrays(lvm.parse_lvs(text))[1]
    assert (plain.health, plain.degraded) == (ArrayHealth.FAILED, 1)


def test_a_recovering_volume_tells_how_far_it_is(capture: Capture) -> None:
    text = capture("lvs-2.03.16-ok-all.json")
    text = text.replace('"100.00"', '"12.50"').replace('"idle"', '"recover"')
    progress = lvm.arrays(lvm.parse_lvs(text))[0].progress
    assert progress is not None
    assert (progress.activity, progress.percent) == (Activity.RECOVER, 12.5)


def test_a_volume_that_is_not_active_is_told_so(capture: Capture) -> None:
    text = capture("lvs-2.03.16-ok-all.json").replace('"rwi-a-r---"', '"rwi---r---"')
    assert lvm.arrays(lvm.parse_lvs(text))[0].health is ArrayHealth.INACTIVE


@pytest.mark.spec("ST-4")
def test_a_pool_being_resilvered_names_who_is_gone_and_how_far_it_is(capture: Capture) -> None:
    (pool,) = zfs.parse_json(capture("zpool-written-2.3-resilver.json"))
    assert (pool.name, pool.health, pool.degraded) == ("tank", ArrayHealth.DEGRADED, 1)
    assert pool.uuid == "3920273586464696295"
    assert pool.level == "mirror+replacing"
    assert [(member.device, member.state) for member in pool.members] == [
        ("sda1", MemberState.ERRORS),
        ("", MemberState.MISSING),
        ("sdc1", MemberState.IN_SYNC),
        ("sdd1", MemberState.SPARE),
    ]
    assert pool.progress is not None
    assert (pool.progress.activity, pool.progress.percent) == (Activity.RECOVER, 25.0)


@pytest.mark.spec("ST-4")
def test_the_text_form_of_older_zfs_tells_the_same(capture: Capture) -> None:
    tank, other = zfs.parse_text(capture("zpool-written-2.1-degraded.txt"))
    assert (tank.name, tank.health, tank.degraded) == ("tank", ArrayHealth.DEGRADED, 1)
    assert [(member.device, member.state) for member in tank.members] == [
        ("sda1", MemberState.IN_SYNC),
        ("", MemberState.MISSING),
        ("nvme0n1p1", MemberState.IN_SYNC),
        ("sdd1", MemberState.SPARE),
    ]
    assert tank.progress is not None
    assert (tank.progress.activity, tank.progress.percent) == (Activity.CHECK, 25.0)
    assert (other.health, other.level, other.wanted) == (ArrayHealth.WHOLE, "raidz1", 3)
    assert other.members[2].state is MemberState.ERRORS
    assert zfs.parse_text("no pools available\n") == ()
