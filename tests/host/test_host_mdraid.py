# SPDX-License-Identifier: Apache-2.0
"""md arrays, in every state a real array went through in a virtual machine."""

from collections.abc import Callable
from pathlib import Path

import pytest

from scrigno.host.arrays import Activity, Array, ArrayHealth, MemberState
from scrigno.host.mdraid import parse_detail_export, parse_mdstat, read_arrays

Sysfs = Callable[[str], Path]
UUID = "e6148f44f450698e2f9fcc5bec6c7cac"


def _only(root: Path) -> Array:
    (array,) = read_arrays(root, {})
    return array


def _states(array: Array) -> dict[str, MemberState]:
    return {member.device: member.state for member in array.members}


@pytest.mark.spec("ST-4")
def test_a_clean_mirror_is_whole(sysfs: Sysfs) -> None:
    array = _only(sysfs("md-clean"))
    assert (array.name, array.level, array.wanted, array.uuid) == ("md0", "raid1", 2, UUID)
    assert (array.state, array.health, array.degraded) == ("clean", ArrayHealth.WHOLE, 0)
    assert _states(array) == {"sda1": MemberState.IN_SYNC, "sdb1": MemberState.IN_SYNC}
    assert [member.role for member in array.members] == [0, 1]
    assert array.progress is None
    assert array.mismatches == 0


@pytest.mark.spec("ST-4")
def test_a_pulled_disk_is_missed_before_md_itself_notices(sysfs: Sysfs) -> None:
    root = sysfs("md-pulled-unnoticed")
    assert (root / "block/md0/md/degraded").read_text() == "0\n"
    assert (root / "block/md0/md/dev-sdb1/state").read_text() == "in_sync\n"
    array = _only(root)
    assert (array.health, array.degraded) == (ArrayHealth.DEGRADED, 1)
    assert _states(array)["sdb1"] is MemberState.MISSING


@pytest.mark.spec("ST-4")
def test_a_pulled_disk_is_faulty_after_the_next_write(sysfs: Sysfs) -> None:
    array = _only(sysfs("md-pulled"))
    assert (array.health, array.degraded) == (ArrayHealth.DEGRADED, 1)
    assert _states(array)["sdb1"] is MemberState.FAULTY
    assert [m.role for m in array.members if m.state is MemberState.MISSING] == [1]


@pytest.mark.spec("ST-4")
def test_a_removed_leg_leaves_an_empty_slot(sysfs: Sysfs) -> None:
    array = _only(sysfs("md-pulled-removed"))
    assert array.degraded == 1
    assert _states(array) == {"sda1": MemberState.IN_SYNC, "": MemberState.MISSING}


@pytest.mark.spec("ST-4")
def test_a_rebuild_tells_how_far_it_is_and_when_it_ends(sysfs: Sysfs) -> None:
    array = _only(sysfs("md-recover"))
    assert (array.health, array.degraded) == (ArrayHealth.DEGRADED, 1)
    assert _states(array)["sdc"] is MemberState.REBUILDING
    progress = array.progress
    assert progress is not None
    assert progress.activity is Activity.RECOVER
    assert (progress.done, progress.total) == (12160 * 512, 192512 * 512)
    assert progress.percent == pytest.approx(6.32, abs=0.01)
    assert progress.rate == 1493 * 1024
    assert progress.remaining_s == pytest.approx((192512 - 12160) / 2 / 1493)


@pytest.mark.spec("ST-4")
def test_after_the_rebuild_the_mirror_is_whole_with_the_new_disk(sysfs: Sysfs) -> None:
    array = _only(sysfs("md-replaced"))
    assert (array.health, array.degraded, array.progress) == (ArrayHealth.WHOLE, 0, None)
    assert _states(array) == {"sda1": MemberState.IN_SYNC, "sdc": MemberState.IN_SYNC}


@pytest.mark.spec("ST-4")
def test_a_check_leaves_the_mirror_whole_and_counts_mismatches(sysfs: Sysfs) -> None:
    running = _only(sysfs("md-check"))
    assert running.health is ArrayHealth.WHOLE
    assert running.progress is not None
    assert running.progress.activity is Activity.CHECK
    assert _only(sysfs("md-mismatch")).mismatches == 2048


def test_a_new_mirror_is_whole_while_its_legs_are_made_equal(sysfs: Sysfs) -> None:
    array = _only(sysfs("md-resync"))
    assert array.health is ArrayHealth.WHOLE
    assert array.progress is not None
    assert array.progress.activity is Activity.RESYNC


def test_a_disk_failed_by_hand_is_faulty_though_it_is_there(sysfs: Sysfs) -> None:
    array = _only(sysfs("md-failed"))
    assert (array.health, _states(array)["sdc"]) == (ArrayHealth.DEGRADED, MemberState.FAULTY)


@pytest.mark.spec("ST-4")
def test_an_array_with_too_few_legs_is_inactive(
    sysfs: Sysfs, capture: Callable[[str], str]
) -> None:
    root = sysfs("md-inactive")
    array = _only(root)
    # an inactive array has no UUID in sysfs, only mdadm reads it from the disk
    assert (array.name, array.health, array.uuid) == ("md127", ArrayHealth.INACTIVE, "")
    record = parse_detail_export(capture("mdadm-4.2-detail-export-md-inactive.txt"))
    assert read_arrays(root, {"md127": record.uuid})[0].uuid == UUID


def test_a_striped_array_that_lost_a_member_has_failed(sysfs: Sysfs) -> None:
    root = sysfs("md-clean")
    (root / "block/md0/md/array_state").write_text("broken\n")
    assert _only(root).health is ArrayHealth.FAILED


@pytest.mark.parametrize(
    ("state", "health", "degraded"),
    [
        ("clean", ArrayHealth.WHOLE, 0),
        ("check", ArrayHealth.WHOLE, 0),
        ("pulled", ArrayHealth.DEGRADED, 1),
        ("recover", ArrayHealth.DEGRADED, 1),
        ("replaced", ArrayHealth.WHOLE, 0),
        ("inactive", ArrayHealth.INACTIVE, 0),
    ],
)
def test_mdstat_tells_the_same(
    capture: Callable[[str], str], state: str, health: ArrayHealth, degraded: int
) -> None:
    (array,) = parse_mdstat(capture(f"mdstat-linux6.1-md-{state}.txt"))
    assert (array.health, array.degraded) == (health, degraded)


def test_mdstat_tells_progress_in_bytes(capture: Callable[[str], str]) -> None:
    (array,) = parse_mdstat(capture("mdstat-linux6.1-md-recover.txt"))
    assert array.progress is not None
    assert array.progress.activity is Activity.RECOVER
    assert (array.progress.done, array.progress.rate) == (4992 * 1024, 1248 * 1024.0)


def test_mdstat_tells_what_waits_and_what_is_read_only() -> None:
    # the forms of md_seq_show and status_resync, drivers/md/md.c
    text = """Personalities : [raid1] [raid6] [raid5] [raid4]
md2 : active (auto-read-only) raid1 sdb2[0] sdc2[1] sdd2[2](S)
      4190208 blocks super 1.2 [2/2] [UU]
      \tresync=PENDING

md3 : active raid5 sdb3[0] sdc3[1] sdd3[3]
      8380416 blocks super 1.2 level 5, 512k chunk, algorithm 2 [3/2] [UU_]
      \trecovery=DELAYED

unused devices: <none>
"""
    first, second = parse_mdstat(text)
    assert first.state == "active (auto-read-only)"
    assert [m.state for m in first.members].count(MemberState.SPARE) == 1
    assert first.progress is not None
    assert first.progress.waiting == "pending"
    assert (second.level, second.degraded) == ("raid5", 1)
    assert second.progress is not None
    assert second.progress.waiting == "delayed"
    assert second.progress.remaining_s is None


def test_mdadm_tells_uuid_and_name(capture: Callable[[str], str]) -> None:
    record = parse_detail_export(capture("mdadm-4.2-detail-export-md-recover.txt"))
    assert (record.uuid, record.name, record.level, record.devices) == (
        UUID,
        "box:data",
        "raid1",
        2,
    )
