# SPDX-License-Identifier: Apache-2.0
"""Who stands at a volume's path: the whole table."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from scrigno.volumes.marker import BadMarkerError, Marker, Remembered, Verdict, judge
from scrigno.volumes.registry import Registry

OURS = Marker.new(owner="box", name="data", role="data", now=datetime(2024, 1, 1, tzinfo=UTC))
KNOWN = Remembered(uuid=OURS.uuid, generation=0)
NOW = datetime(2024, 5, 1, tzinfo=UTC)


@pytest.mark.spec("ST-1")
@pytest.mark.parametrize(
    ("found", "remembered", "empty", "verdict"),
    [
        (OURS, KNOWN, False, Verdict.OURS),
        (OURS.next_generation(), KNOWN, False, Verdict.OURS),
        (OURS, None, False, Verdict.OURS),  # forgotten in a crash
        (OURS, replace(KNOWN, generation=1), False, Verdict.STALE),  # an old clone
        (OURS, replace(KNOWN, uuid="other"), False, Verdict.FOREIGN),  # the wrong disk
        (replace(OURS, owner="other box"), None, False, Verdict.OTHER_BOX),
        (replace(OURS, owner="other box"), KNOWN, False, Verdict.OTHER_BOX),
        (replace(OURS, name="backup1"), None, False, Verdict.FOREIGN),
        (None, KNOWN, True, Verdict.ABSENT),  # the bare mount point
        (None, KNOWN, False, Verdict.ABSENT),
        (None, None, True, Verdict.EMPTY),
        (None, None, False, Verdict.FOREIGN),
    ],
)
def test_a_volume_is_judged_by_marker_and_memory(found, remembered, empty, verdict) -> None:
    judged = judge(name="data", owner="box", remembered=remembered, found=found, empty=empty)
    assert judged.verdict is verdict
    assert judged.reason or verdict in (Verdict.OURS, Verdict.EMPTY)


def test_a_disk_in_use_or_a_damaged_marker_is_foreign() -> None:
    common = {"name": "data", "owner": "box", "remembered": KNOWN, "empty": False}
    taken = judge(found=OURS, taken=frozenset({OURS.uuid}), **common)
    assert taken.verdict is Verdict.FOREIGN
    damaged = judge(found=None, trouble="not JSON", **common)
    assert damaged.verdict is Verdict.FOREIGN


@pytest.mark.spec("ST-1", "ST-3")
def test_a_disk_that_was_replaced_or_retired_is_named_when_it_comes_back(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    registry.remember("data", KNOWN, NOW)
    registry.remember("data", replace(KNOWN, uuid="new"), NOW)
    registry.remember("backup1", replace(KNOWN, uuid="old"), NOW)
    registry.retire("backup1", NOW)
    again = Registry(tmp_path)
    for uuid, words in ((OURS.uuid, "data that was replaced"), ("old", "backup1 that was retired")):
        judged = judge(
            name="data",
            owner=OURS.owner,
            remembered=again.remembered("data"),
            found=replace(OURS, uuid=uuid),
            empty=False,
            parted=again.parted,
        )
        assert judged.verdict is Verdict.PARTED
        assert words in judged.reason
    assert again.standing("backup1").retired
    again.remember("data", KNOWN, NOW)  # the operator took the old disk in again
    assert set(again.parted) == {"new", "old"}


def test_orders_are_remembered_until_they_are_lifted(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    registry.pause("data", "moving house", NOW)
    registry.pause("gone", "moving house", NOW)
    assert Registry(tmp_path).standing("data").reason == "moving house"
    registry.release("data")
    registry.release("data")
    assert Registry(tmp_path).standing("data") is None
    registry.release_all_but(["data"])
    assert Registry(tmp_path).standing("gone") is None


@pytest.mark.parametrize(
    "change", [{"uuid": ""}, {"generation": -1}, {"generation": True}, {"owner": 3}]
)
def test_a_marker_with_a_bad_field_is_refused(change) -> None:
    with pytest.raises(BadMarkerError, match=next(iter(change))):
        Marker.parse({**OURS.document(), **change})


def test_the_memory_of_volumes_survives(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    registry.remember("data", KNOWN, NOW)
    again = Registry(tmp_path, used_before=True)
    assert again.owner == registry.owner
    assert again.remembered("data") == KNOWN
    assert again.remembered("backup1") is None
    assert again.damage == ""


@pytest.mark.spec("ST-1", "ST-3")
@pytest.mark.parametrize("torn", ["volumes.json", "volumes.copy.json"])
@pytest.mark.parametrize("rubbish", [b"{", b"", b"\0" * 300, b"[]", b"\xff", None])
def test_one_torn_memory_costs_nothing(tmp_path: Path, torn: str, rubbish: bytes | None) -> None:
    registry = Registry(tmp_path)
    registry.remember("data", KNOWN, NOW)
    registry.retire("backup1", NOW)
    if rubbish is None:
        (tmp_path / torn).unlink()
    else:
        (tmp_path / torn).write_bytes(rubbish)
    again = Registry(tmp_path, used_before=True)
    assert again.owner == registry.owner
    assert again.remembered("data") == KNOWN
    assert again.standing("backup1").retired
    assert not again.is_forgotten("data")
    if rubbish is not None and torn == "volumes.json":
        assert "volumes.json.damaged" in again.damage
        assert (tmp_path / "volumes.json.damaged").read_bytes() == rubbish
    whole = [(tmp_path / name).read_bytes() for name in ("volumes.json", "volumes.copy.json")]
    again.pause("data", "", NOW)
    after = [(tmp_path / name).read_bytes() for name in ("volumes.json", "volumes.copy.json")]
    assert whole[0] != after[0] == after[1]
    assert Registry(tmp_path, used_before=True).damage == ""


@pytest.mark.spec("ST-1", "ST-3")
def test_a_memory_that_is_lost_is_no_first_start(tmp_path: Path) -> None:
    first = Registry(tmp_path)
    assert first.owner
    for name in ("volumes.json", "volumes.copy.json"):
        (tmp_path / name).unlink()
    lost = Registry(tmp_path, used_before=True)
    assert lost.owner == ""
    assert lost.is_forgotten("data")
    assert "gone" in lost.damage
    lost.forget(["data", "backup1"])
    lost.settle_owner("box")
    lost.remember("data", KNOWN, NOW)
    again = Registry(tmp_path, used_before=True)
    assert (again.owner, again.forgotten) == ("box", {"backup1"})
    empty = {"name": "backup1", "owner": "box", "remembered": None, "found": None, "empty": True}
    assert judge(**empty, forgotten=again.is_forgotten("backup1")).verdict is Verdict.ABSENT
    assert judge(**empty, forgotten=again.is_forgotten("data")).verdict is Verdict.EMPTY
