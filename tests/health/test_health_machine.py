# SPDX-License-Identifier: Apache-2.0
"""The watch over real machines: a btrfs mirror here, captured md machines, real tools that fail."""

import asyncio
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from btrfsraid import BtrfsPair, btrfs_pair
from captured_sysfs import CAPTURES, build_captured
from loopfs import sh
from scrigno.health.codes import Level
from scrigno.health.conditions import Condition
from scrigno.health.disk_conditions import DiskFacts, DiskMemory, remember
from scrigno.health.machine_facts import (
    CertificateFacts,
    ClockFacts,
    MachineFacts,
    UpsFacts,
    machine_conditions,
)
from scrigno.health.storage_conditions import StorageFacts
from scrigno.health.storage_watch import WatchedVolume
from scrigno.health.watch import MachineRules, MachineWatch
from scrigno.host.arrays import Array, ArrayHealth, ArrayKind, Member, MemberState
from scrigno.host.linux_machine import LinuxMachine, run_here
from scrigno.host.process import Completed, run
from scrigno.host.smart import Counter, Smart, parse
from scrigno.host.ups import parse_upsc

NOW = datetime(2027, 3, 1, tzinfo=UTC)


def _one(found: Sequence[Condition], code: str) -> Condition:
    (one,) = [each for each in found if each.code == code]
    return one


def _codes(found: Sequence[Condition]) -> set[str]:
    return {one.code for one in found}


# -- a real mirror (fault row 26)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[BtrfsPair]:
    with btrfs_pair(tmp_path / "disks") as made:
        yield made


def _watch(machine: LinuxMachine, folder: Path, volume: Path) -> MachineWatch:
    return MachineWatch(
        machine,
        folder=folder / "health",
        volumes=lambda: {"data": WatchedVolume(path=volume, right=True)},
    )


def _here(watch: MachineWatch, *codes: str) -> set[str]:
    """Return which of these hold; the machine of the test may have conditions of its own."""
    return _codes(watch.conditions()) & {"raid-degraded", "raid-rebuilding", "raid-failed", *codes}


@pytest.mark.timing
@pytest.mark.spec("ST-4", "AD-11")
async def test_a_real_mirror_loses_a_leg_and_gets_another(pair: BtrfsPair, tmp_path: Path) -> None:
    watch = _watch(LinuxMachine(), tmp_path, pair.point)
    await watch.start()
    try:
        await watch.poll("storage", "tools")
        assert _here(watch) == set()
        pair.kill_second()
        died = time.monotonic()
        pair.write("after")  # the writer is told of no error: the volume stays as it is
        async with asyncio.timeout(10):
            while not _here(watch):
                await asyncio.sleep(0.05)
        assert time.monotonic() - died < 10
        degraded = _one(watch.conditions(), "raid-degraded")
        assert degraded.level is Level.CRITICAL
        assert (degraded.subject, degraded.values["present"]) == ("pair", 1)
        assert f"{pair.second} has failed (write_errs, flush_errs)" in degraded.explanation

        new = await asyncio.to_thread(pair.replace_second)
        await watch.poll("storage")
        assert _here(watch) == set()
        array = await asyncio.to_thread(pair.array)
        assert (array.health, array.notes) == (ArrayHealth.WHOLE, ())
        assert new != pair.second
        sh("btrfs", "scrub", "start", "-B", str(pair.point))
        assert "no errors found" in sh("btrfs", "scrub", "status", str(pair.point))
    finally:
        await watch.close()


@pytest.mark.spec("ST-4", "AD-11")
async def test_what_was_written_on_one_leg_is_told_until_it_has_a_second_copy(
    pair: BtrfsPair, tmp_path: Path
) -> None:
    watch = _watch(LinuxMachine(), tmp_path, pair.point)
    await watch.start()
    try:
        await watch.poll("storage", "tools")
        await asyncio.to_thread(pair.kill_second)
        await asyncio.to_thread(pair.write, "before")
        await asyncio.to_thread(pair.remount_degraded)
        for number in range(8):  # until a chunk is full and the next one is made with one copy
            await asyncio.to_thread(pair.write, f"degraded {number}")
            if (await asyncio.to_thread(pair.array)).notes:
                break
        await watch.poll("storage")
        degraded = _one(watch.conditions(), "raid-degraded")
        assert degraded.level is Level.CRITICAL
        assert "a disk is gone" in degraded.explanation

        await asyncio.to_thread(pair.replace_second)
        await watch.poll("storage")
        single = _one(watch.conditions(), "raid-degraded")
        assert single.level is Level.WARNING
        assert "more than one profile" in single.explanation
        await asyncio.to_thread(pair.balance_softly)
        await watch.poll("storage")
        assert _here(watch) == set()
    finally:
        await watch.close()


# -- captured md machines


class Captured:
    """A machine whose sysfs is that of a capture, and becomes another one's."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.machine = LinuxMachine(root=folder / "now", runner=self._no_tool)

    async def _no_tool(self, argv: Sequence[str], timeout_s: float) -> Completed:
        if argv[0] == "mdadm":
            path = CAPTURES / "mdadm-4.2-detail-export-md-inactive.txt"
            text = await asyncio.to_thread(path.read_bytes)
            return Completed(argv=tuple(argv), returncode=0, stdout=text, stderr=b"")
        return await run_here(("no-such-tool",), timeout_s)

    def become(self, name: str) -> None:
        root = self._folder / name
        build_captured(name, root)
        table = root / "proc/self/mountinfo"
        table.parent.mkdir(parents=True)
        table.write_text(
            "1 1 0:2 / / rw - rootfs rootfs rw\n"
            "25 1 9:0 / /mnt/data rw,relatime - ext4 /dev/md0 rw\n"
        )
        now = self._folder / "now"
        now.unlink(missing_ok=True)
        now.symlink_to(root)


@pytest.mark.spec("ST-4", "AD-11")
async def test_a_captured_md_mirror_goes_through_its_whole_story(tmp_path: Path) -> None:
    captured = Captured(tmp_path / "machines")
    await asyncio.to_thread(captured.become, "md-clean")
    watch = _watch(captured.machine, tmp_path, Path("/mnt/data"))
    await watch.start()
    story: dict[str, set[str]] = {}
    said: dict[str, tuple[Condition, ...]] = {}
    try:
        for name in (
            "md-clean",
            "md-pulled-unnoticed",
            "md-pulled",
            "md-pulled-removed",
            "md-recover",
            "md-replaced",
            "md-check",
            "md-mismatch",
            "md-failed",
            "md-inactive",
        ):
            if name != "md-clean":
                await asyncio.to_thread(captured.become, name)
            await watch.poll("storage", "tools")
            kept = [one for one in watch.conditions() if one.subject != "SMART"]
            said[name] = tuple(kept)
            story[name] = {
                code for code in _codes(kept) if code.startswith(("raid", "member", "array"))
            }
    finally:
        await watch.close()
    assert story["md-clean"] == set()
    for name in ("md-pulled-unnoticed", "md-pulled", "md-pulled-removed"):
        assert story[name] == {"raid-degraded"}
        assert "DISKB0001" in _one(said[name], "raid-degraded").explanation
    assert story["md-recover"] >= {"raid-degraded", "raid-rebuilding"}
    assert 0 < float(_one(said["md-recover"], "raid-rebuilding").values["percent"]) < 100
    assert story["md-replaced"] == {"member-replaced"}
    assert "DISKB0001 -> DISKC0001" in _one(said["md-replaced"], "member-replaced").explanation
    assert "raid-mismatch" in story["md-mismatch"]
    assert "raid-degraded" in story["md-failed"]
    assert "sdc has failed" in _one(said["md-failed"], "raid-degraded").explanation
    assert story["md-inactive"] == {"raid-failed", "member-replaced"}


# -- tools that fail (fault row 49)


class Tools:
    """Runs scripts of the test in the place of real tools, as real processes."""

    def __init__(self, folder: Path, limit_s: float) -> None:
        self._folder = folder
        self._limit_s = limit_s

    def put(self, name: str, script: str) -> None:
        """Install a tool. Blocking."""
        self._folder.mkdir(exist_ok=True)
        path = self._folder / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def says(self, name: str, capture: str, *, code: int = 0) -> None:
        """Install a tool that prints a capture. Blocking."""
        self.put(name, f"cat {CAPTURES / capture}; exit {code}")

    async def __call__(self, argv: Sequence[str], timeout_s: float) -> Completed:
        tool = self._folder / argv[0]
        return await run((str(tool), *argv[1:]), timeout_s=min(timeout_s, self._limit_s))


@pytest.mark.timing
@pytest.mark.spec("AD-11")
async def test_within_one_poll_a_failing_disk_heat_and_a_dying_battery_are_told(
    tmp_path: Path,
) -> None:
    root = tmp_path / "machine"
    sysfs = await asyncio.to_thread(build_captured, "bare", root)
    tools = Tools(tmp_path / "tools", 5)
    await asyncio.to_thread(tools.says, "smartctl", "smartctl-7.3-qemu-nvme-warning.json", code=8)
    await asyncio.to_thread(tools.says, "upsc", "upsc-2.8.0-low.txt")
    await asyncio.to_thread((sysfs / "class/hwmon/hwmon0/temp1_input").write_text, "70000\n")
    table = root / "proc/self/mountinfo"
    await asyncio.to_thread(table.parent.mkdir, parents=True)
    await asyncio.to_thread(table.write_text, "1 1 0:2 / / rw - rootfs rootfs rw\n")
    watch = MachineWatch(
        LinuxMachine(root=root, runner=tools),
        folder=tmp_path / "health",
        volumes=dict,
        rules=lambda: MachineRules(ups="ups@localhost"),
    )
    await watch.start()
    try:
        await watch.poll("storage", "smart", "heat", "ups")
        found = watch.conditions()
        assert {"nvme-critical", "disk-temperature-warning", "ups-on-battery", "ups-low"} <= _codes(
            found
        )
        assert watch.power_failing()
        assert "sensor-failed" not in _codes(found)

        # rubbish, and tools that hang: told within one poll, and the rest goes on meanwhile
        tools._limit_s = 0.5
        await asyncio.to_thread(tools.put, "smartctl", "echo '{\"smartctl\": 7'")
        await asyncio.to_thread(tools.put, "upsc", "sleep 600")
        await watch.poll("smart", "ups")
        found = watch.conditions()
        assert {"nvme-critical", "ups-unreachable", "sensor-failed"} <= _codes(found)
        await asyncio.to_thread(tools.put, "smartctl", "sleep 600")
        started = time.monotonic()
        polling = asyncio.create_task(watch.poll("smart"))
        await watch.sources["heat"].poll()
        await watch.sources["storage"].poll()
        assert not polling.done()
        assert time.monotonic() - started < 0.5
        await polling
        failed = [one for one in watch.conditions() if one.code == "sensor-failed"]
        assert failed
        assert all("no end after 0.5 s" in one.explanation for one in failed)
    finally:
        await watch.close()


# -- the rules, alone


def _machine(**facts: object) -> tuple[Condition, ...]:
    return machine_conditions(MachineFacts(now=NOW, **facts))  # type: ignore[arg-type]


def test_nothing_known_is_nothing_told() -> None:
    assert _machine() == ()


@pytest.mark.parametrize(
    ("capture", "expected"),
    [
        ("smartctl-7.3-qemu-ata.json", set()),
        ("smartctl-7.3-qemu-scsi.json", set()),
        ("smartctl-7.3-qemu-nvme.json", set()),
        ("smartctl-7.3-qemu-nvme-warning.json", {"nvme-critical"}),
        ("smartctl-written-standby.json", set()),
    ],
)
def test_what_real_tools_said_of_disks(capture: str, expected: set[str]) -> None:
    smart = parse((CAPTURES / capture).read_text())
    told = _machine(disks=(DiskFacts(serial="X", smart=None if smart.unread else smart),))
    assert _codes(told) - {"disk-temperature-warning"} == expected


def _smart(**counters: int) -> Smart:
    smart = parse((CAPTURES / "smartctl-7.3-qemu-ata.json").read_text())
    named = {Counter[name.upper()]: value for name, value in counters.items()}
    return replace(smart, counters=named, hours=100)


def test_a_counter_that_falls_or_comes_anew_has_not_risen() -> None:
    memory = remember(None, _smart(reallocated=50))
    memory = remember(memory, _smart(reallocated=0, pending=7))
    assert memory.risen == {}
    memory = remember(memory, _smart(reallocated=1, pending=7))
    assert (memory.risen[Counter.REALLOCATED].before, len(memory.risen)) == (0, 1)
    # a reading without the counter (another tool) forgets nothing
    memory = remember(memory, _smart())
    assert memory.counters[Counter.PENDING] == 7
    assert remember(DiskMemory(), _smart(pending=3)).risen == {}


def test_the_worst_of_several_rises_gives_the_level() -> None:
    memory = remember(None, _smart(cable_errors=1, media_errors=0))
    memory = remember(memory, _smart(cable_errors=9, media_errors=1))
    (told,) = _machine(disks=(DiskFacts(serial="X", risen=memory.risen),))
    assert (told.code, told.level) == ("disk-errors-rising", Level.CRITICAL)
    assert "cable (CRC) errors: 1 -> 9; media errors: 0 -> 1" in told.explanation


def test_wear_is_told_at_ninety_and_again_at_a_hundred() -> None:
    levels = []
    for percent in (89, 90, 100, 130):
        smart = replace(_smart(), wear_percent=percent)
        levels += [one.level for one in _machine(disks=(DiskFacts(serial="X", smart=smart),))]
    assert levels == [Level.WARNING, Level.CRITICAL, Level.CRITICAL]


def test_low_while_charging_is_no_emergency_and_a_forced_shutdown_is() -> None:
    def codes(status: str) -> set[str]:
        ups = parse_upsc(f"ups.status: {status}\nbattery.charge: 20\nbattery.runtime: 600\n")
        return _codes(_machine(ups=UpsFacts(name="ups", last=ups)))

    assert codes("OL CHRG LB") == set()
    assert codes("OB DISCHRG") == {"ups-on-battery"}
    assert codes("OB LB") == {"ups-on-battery", "ups-low"}
    assert codes("FSD OL") == {"ups-low"}
    assert codes("OL RB OVER") == {"ups-replace-battery", "ups-overloaded"}


def test_a_ups_that_never_answered_is_unreachable_and_no_reason_to_stop() -> None:
    ups = UpsFacts(name="ups", silence="Error: Driver not connected", silent_s=9999)
    assert _codes(_machine(ups=ups)) == {"ups-unreachable"}
    assert not ups.low


def test_certificates_are_not_judged_by_a_clock_nobody_believes() -> None:
    old = (CertificateFacts(name="tls", expires_at=datetime(2026, 1, 1, tzinfo=UTC)),)
    jumped = ClockFacts(synchronised=False, unsynchronised_s=5, doubt_s=10 * 365 * 86400)
    assert _codes(_machine(certificates=old, clock=jumped)) == set()
    assert _codes(_machine(certificates=old)) == {"certificate-expired"}


def _array(**changes: object) -> Array:
    members = (
        Member(device="sda", state=MemberState.IN_SYNC, role=0),
        Member(device="sdb", state=MemberState.IN_SYNC, role=1),
    )
    usual: Mapping[str, object] = {
        "kind": ArrayKind.ZFS,
        "name": "tank",
        "uuid": "1",
        "level": "mirror",
        "state": "ONLINE",
        "health": ArrayHealth.WHOLE,
        "wanted": 2,
        "degraded": 0,
        "members": members,
    }
    return Array(**{**usual, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, set()),
        ({"health": ArrayHealth.DEGRADED, "degraded": 1, "state": "DEGRADED"}, {"raid-degraded"}),
        ({"health": ArrayHealth.FAILED, "state": "UNAVAIL"}, {"raid-failed"}),
        ({"health": ArrayHealth.INACTIVE, "state": "inactive"}, {"raid-failed"}),
        ({"mismatches": 0}, set()),
        ({"mismatches": 12}, {"raid-mismatch"}),
    ],
)
@pytest.mark.spec("ST-4")
def test_arrays_of_every_kind_are_told_the_same_way(
    changes: dict[str, object], expected: set[str]
) -> None:
    for kind in ArrayKind:
        told = _machine(storage=StorageFacts(arrays=(_array(kind=kind, **changes),)))
        assert _codes(told) == expected
        assert all("unknown" not in one.explanation for one in told)


async def test_what_is_not_there_at_all_costs_one_notice(tmp_path: Path) -> None:
    watch = MachineWatch(
        LinuxMachine(root=tmp_path / "nothing"), folder=tmp_path / "health", volumes=dict
    )
    await watch.start()
    try:
        await watch.poll("storage", "smart", "heat", "tools")
        failed = [one for one in watch.conditions() if one.code == "sensor-failed"]
        assert [one.subject for one in failed] == ["the disks and arrays"]
    finally:
        await watch.close()
