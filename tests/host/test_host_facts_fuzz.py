# SPDX-License-Identifier: Apache-2.0
"""Cut, mixed and garbled output never raises anything but the typed error."""

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scrigno.host import btrfs, lvm, mdraid, smart, timesync, topology, ups, zfs
from scrigno.host.blockdevices import parse_io_counters
from scrigno.host.facts import FactsUnreadable
from scrigno.host.filesystems import parse_mountinfo
from scrigno.host.smart_judge import judge

CAPTURES = Path(__file__).parent.parent / "captures"


def _judged(text: str) -> object:
    found = smart.parse(text)
    return judge(None, found), judge(found, found)


PARSERS: dict[str, tuple[str, Callable[[str], object]]] = {
    "mdstat": ("mdstat-linux6.1-md-recover.txt", mdraid.parse_mdstat),
    "mdadm": ("mdadm-4.2-detail-export-md-recover.txt", mdraid.parse_detail_export),
    "btrfs stats": ("btrfs-6.2-stats-dead-leg.json", btrfs.parse_device_stats),
    "btrfs counters": ("btrfs-6.2-stats-dead-leg.json", btrfs.parse_error_stats),
    "lvs": ("lvs-2.03.16-partial-all.json", lambda text: lvm.arrays(lvm.parse_lvs(text))),
    "zpool json": ("zpool-written-2.3-resilver.json", zfs.parse_json),
    "zpool text": ("zpool-written-2.1-degraded.txt", zfs.parse_text),
    "smart ata": ("smartctl-7.3-qemu-ata.json", _judged),
    "smart nvme": ("smartctl-7.3-qemu-nvme-warning.json", _judged),
    "smart sas": ("smartctl-written-sas.json", _judged),
    "upsc": ("upsc-2.8.0-low.txt", ups.parse_upsc),
    "timedatectl": ("upsc-2.8.0-low.txt", timesync.parse_timedatectl),
    "mountinfo": ("mdstat-linux6.1-md-recover.txt", parse_mountinfo),
    "topology": ("btrfs-6.2-stats-whole.json", lambda text: topology.from_json(text.encode())),
    "stat": ("mdstat-linux6.1-md-clean.txt", lambda t: parse_io_counters(t, t, at_s=0)),
}


@pytest.mark.parametrize("name", PARSERS)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_garbled_text_raises_only_the_typed_error(name: str, data: st.DataObject) -> None:
    file, parse = PARSERS[name]
    text = (CAPTURES / file).read_text()
    start = data.draw(st.integers(0, len(text)))
    length = data.draw(st.integers(0, 40))
    noise = data.draw(st.text(max_size=20) | st.sampled_from(["9" * 400, "NaN", "\0", "[", "{"]))
    for broken in (text[:start], text[:start] + noise + text[start + length :]):
        with contextlib.suppress(FactsUnreadable):
            parse(broken)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
JSON_PARSERS = [name for name, (file, _) in PARSERS.items() if file.endswith(".json")]


@pytest.mark.parametrize("name", JSON_PARSERS)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_json_with_values_of_other_kinds_raises_only_the_typed_error(
    name: str, data: st.DataObject
) -> None:
    file, parse = PARSERS[name]

    def spoil(value: object) -> object:
        if data.draw(st.integers(0, 19)) == 0:
            return data.draw(VALUES)
        if isinstance(value, dict):
            return {key: spoil(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [spoil(inner) for inner in value[:4]]
        return value

    whole = json.loads((CAPTURES / file).read_text())
    with contextlib.suppress(FactsUnreadable):
        parse(json.dumps(spoil(whole)))


def test_numbers_beyond_all_measure_are_not_believed() -> None:
    huge = "9" * 5000
    text = (CAPTURES / "zpool-written-2.1-degraded.txt").read_text()
    assert zfs.parse_text(text.replace("25.00%", f"{huge}%"))[0].progress is None
    mdstat = (CAPTURES / "mdstat-linux6.1-md-recover.txt").read_text()
    (array,) = mdraid.parse_mdstat(mdstat.replace("4992", huge))
    assert array.progress is None
    pool = (CAPTURES / "zpool-written-2.3-resilver.json").read_text()
    (array,) = zfs.parse_json(pool.replace('"issued":250000', f'"issued":1{"0" * 400}'))
    assert array.progress is not None
    assert array.progress.percent == 0


def test_deeply_nested_json_is_refused() -> None:
    with pytest.raises(FactsUnreadable):
        smart.parse("[" * 100_000)


def test_every_smart_capture_at_hand_is_understood() -> None:
    """Also those of a folder of yours, named by SCRIGNO_TEST_CAPTURES."""
    folders = [CAPTURES]
    if named := os.environ.get("SCRIGNO_TEST_CAPTURES"):
        folders.append(Path(named))
    files = [file for folder in folders for file in sorted(folder.glob("smartctl-*.json"))]
    assert files
    for file in files:
        found = smart.parse(file.read_bytes())
        assert found.unread or found.model, file.name
