# SPDX-License-Identifier: Apache-2.0
"""Whole stories of a machine, told by the watch: alerts come once, change and go."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from scrigno.core.errors import CommandError
from scrigno.health.codes import CLASSES, Kind, Level
from scrigno.health.conditions import Condition
from scrigno.health.storage_watch import WatchedVolume
from scrigno.health.watch import USUAL, MachineRules, MachineWatch, Paces
from scrigno.health.watched_source import Pace
from scrigno.host.arrays import ArrayKind
from scrigno.host.facts import NotAvailable
from scrigno.host.resources import Resources
from scrigno.host.simulated_machine import SimulatedMachine
from scrigno.host.smart import Counter
from scrigno.host.ups import UpsPower

DATA, BACKUP = Path("/srv/data"), Path("/srv/backup")
BROKEN = NotAvailable(source="sysfs", reason="no answer in 5 s")
DAY_S = 86400.0


class Story:
    """A machine, the watch over it, and what was told."""

    def __init__(self, folder: Path) -> None:
        self.machine = SimulatedMachine()
        for serial in ("S1", "S2", "S3"):
            self.machine.insert(serial)
        self.machine.mirror("md0", "0123", "S1", "S2")
        self.machine.mount(DATA, "md0")
        self.machine.mount(BACKUP, "S3")
        self.folder = folder
        self.volumes = {
            "data": WatchedVolume(path=DATA, right=True),
            "backup1": WatchedVolume(path=BACKUP, right=True),
        }
        self.rules = MachineRules()
        self.changes = 0
        self.events: list[tuple[str, Mapping[str, object]]] = []
        self.subjects: list[tuple[str, str]] = []  # code and subject of each event
        self.told: list[tuple[str, str]] = []  # conditions in the order they came
        self.watch = self.new_watch()

    def new_watch(self, paces: Paces = USUAL) -> MachineWatch:
        """Return a watch as after a start of the daemon."""
        return MachineWatch(
            self.machine,
            folder=self.folder,
            volumes=lambda: self.volumes,
            rules=lambda: self.rules,
            on_change=self._changed,
            on_event=self._event,
            paces=paces,
        )

    def _event(self, code: str, subject: str, values: Mapping[str, object]) -> None:
        self.events.append((code, values))
        self.subjects.append((code, subject))

    def _changed(self) -> None:
        self.changes += 1
        for key in self.shown():
            if key not in self.told:
                self.told.append(key)

    def shown(self) -> set[tuple[str, str]]:
        return {(one.code, one.subject) for one in self.watch.conditions()}

    def one(self, code: str) -> Condition:
        (found,) = [one for one in self.watch.conditions() if one.code == code]
        return found

    async def begin(self, paces: Paces | None = None) -> None:
        """Start, remembering what an earlier watch left; only polls when told to."""
        await self.watch.close()
        self.watch = self.new_watch(paces or _never())
        await self.watch.start()
        await self.watch.poll()

    async def pass_time(self, seconds: float, *sources: str) -> None:
        self.machine.advance(seconds)
        await self.watch.poll(*sources)


def _never(**other: Pace | float) -> Paces:
    """Return the usual limits without the usual repetition."""
    quiet = {
        name: Pace(every_s=3600, timeout_s=getattr(USUAL, name).timeout_s)
        for name in USUAL.__dataclass_fields__
        if name != "one_smart_s"
    }
    return Paces(**{**quiet, "one_smart_s": 70.0, **other})  # type: ignore[arg-type]


@pytest_asyncio.fixture
async def story(tmp_path: Path) -> AsyncIterator[Story]:
    made = Story(tmp_path / "health")
    await made.begin()
    yield made
    await made.watch.close()
    for one in made.watch.conditions():
        assert one.subject or not CLASSES[one.code].subject
        assert set(one.values) <= CLASSES[one.code].values, one.code
        assert "unknown" not in one.summary
    for code, _ in made.events:
        assert CLASSES[code].kind is Kind.EVENT


# -- disks and arrays


@pytest.mark.spec("ST-4", "AD-11")
async def test_a_disk_is_pulled_replaced_and_rebuilt_to_the_end(story: Story) -> None:
    assert story.shown() == set()
    story.machine.pull("S2")
    await story.watch.poll("storage")
    assert story.shown() == {("raid-degraded", "md0"), ("disk-missing", "S2")}
    degraded = story.one("raid-degraded")
    assert (degraded.level, degraded.values["present"], degraded.values["wanted"]) == (
        Level.CRITICAL,
        1,
        2,
    )
    assert "S2" in str(degraded.values["reason"])
    assert "RAID md0, volume data" in story.one("disk-missing").explanation
    changes = story.changes
    await story.pass_time(60, "storage")
    assert story.changes == changes  # told once

    story.machine.insert("S4")
    await story.watch.poll("storage")
    assert ("disk-blank", "S4") in story.shown()

    story.machine.replace("md0", gone="S2", new="S4")
    await story.pass_time(60, "storage")
    # the new member explains both disks
    assert story.shown() == {
        ("raid-degraded", "md0"),
        ("raid-rebuilding", "md0"),
        ("member-replaced", "md0"),
    }
    assert "S2 -> S4" in story.one("member-replaced").explanation
    percents = []
    for _ in range(4):
        percents.append(float(story.one("raid-rebuilding").values["percent"]))
        await story.pass_time(6000, "storage")
    assert percents == sorted(set(percents))
    await story.pass_time(30_000, "storage")
    assert story.shown() == {("member-replaced", "md0")}

    accepted = await story.watch.accept_topology()
    assert {one.subject for one in accepted} == {"md0", "S2", "S4"}
    assert story.shown() == set()
    pulled, inserted, event = story.events
    assert (pulled[0], inserted[0], event[0]) == (
        "disk-pulled",
        "disk-inserted",
        "topology-changed",
    )
    assert "member-replaced md0" in str(event[1]["reason"])
    await story.begin()
    assert story.shown() == set()
    assert len(story.told) == 5


@pytest.mark.spec("ST-4")
async def test_a_spare_steps_in_and_is_missed_afterwards(story: Story) -> None:
    story.machine.insert("S5")
    story.machine.mirrors["md0"].spares.append("S5")
    story.machine.disks["S5"].blank = False
    await story.watch.poll("storage")
    await story.watch.accept_topology()
    story.machine.pull("S1")
    await story.pass_time(10, "storage")
    assert ("raid-rebuilding", "md0") in story.shown()
    await story.pass_time(40_000, "storage")
    assert story.shown() == {("disk-missing", "S1"), ("raid-spare-missing", "md0")}
    assert story.one("raid-spare-missing").values == {"present": 0, "wanted": 1}


@pytest.mark.spec("ST-4")
async def test_what_vanished_while_the_box_was_off_is_missing(story: Story) -> None:
    await story.watch.close()
    for serial in ("S1", "S2"):
        story.machine.pull(serial)
    del story.machine.volumes[DATA]
    story.volumes["data"] = WatchedVolume(path=DATA, right=False)
    await story.begin()
    assert story.shown() == {
        ("raid-missing", "md0"),
        ("disk-missing", "S1"),
        ("disk-missing", "S2"),
    }
    assert "S1, S2" in story.one("raid-missing").explanation


@pytest.mark.spec("ST-4")
async def test_disks_that_swap_their_letters_are_the_same_disks(story: Story) -> None:
    for serial in ("S1", "S2", "S3"):
        story.machine.pull(serial)
    for serial in ("S3", "S2", "S1"):
        story.machine.insert(serial)
    await story.watch.poll("storage")
    assert story.shown() == set()


@pytest.mark.spec("ST-4")
async def test_a_volume_on_another_disk_is_told_and_one_not_yet_right_is_not_learned(
    story: Story,
) -> None:
    story.machine.insert("S8")
    story.machine.mount(BACKUP, "S8")
    await story.watch.poll("storage")
    assert story.one("volume-moved").subject == "backup1"
    assert "S3 -> S8" in story.one("volume-moved").explanation
    third = Path("/srv/third")
    story.volumes["third"] = WatchedVolume(path=third, right=False)
    await story.watch.poll("storage")
    story.machine.insert("S9")
    story.machine.mount(third, "S9")
    story.volumes["third"] = WatchedVolume(path=third, right=True)
    await story.watch.poll("storage")
    assert story.shown() == {("volume-moved", "backup1")}  # S9 came with its volume


@pytest.mark.spec("ST-4")
async def test_members_that_disagree_are_told_after_the_check_and_not_during_it(
    story: Story,
) -> None:
    story.machine.check("md0")
    story.machine.mirrors["md0"].mismatches = 128
    await story.watch.poll("storage")
    assert story.shown() == set()
    await story.pass_time(40_000, "storage")
    assert story.one("raid-mismatch").values == {"count": 128}


@pytest.mark.spec("ST-4")
async def test_a_failed_member_that_still_sits_in_its_bay_is_named(story: Story) -> None:
    story.machine.fail_member("md0", "S2")
    await story.watch.poll("storage")
    assert story.shown() == {("raid-degraded", "md0")}
    assert "sdb has failed" in story.one("raid-degraded").explanation
    story.machine.fail_member("md0", "S1")
    await story.watch.poll("storage")
    assert ("raid-failed", "md0") in story.shown()


@pytest.mark.spec("ST-4", "AD-11")
async def test_a_file_system_that_takes_no_writes_is_told_once_for_its_volume(
    story: Story,
) -> None:
    story.machine.super_options[DATA] = "rw,emergency_ro"
    story.machine.errors[DATA] = 2
    await story.watch.poll("storage")
    found = story.one("filesystem-errors")
    assert (found.subject, found.values["count"]) == ("data", 2)
    assert "takes no writes" in found.explanation


async def test_the_watch_is_woken_when_something_is_pulled(story: Story) -> None:
    await asyncio.sleep(0.05)
    story.machine.pull("S2")
    async with asyncio.timeout(5):
        while ("raid-degraded", "md0") not in story.shown():
            await asyncio.sleep(0.01)


# -- what disks say


@pytest.mark.spec("AD-11")
async def test_a_disk_grows_old_step_by_step(story: Story) -> None:
    machine = story.machine
    machine.count("S3", Counter.REALLOCATED, 8)  # an old scar, first seen now
    await story.watch.poll("smart")
    assert story.shown() == set()
    machine.count("S3", Counter.REALLOCATED, 16)
    await story.watch.poll("smart")
    rising = story.one("disk-reallocations-rising")
    assert (rising.subject, rising.values) == ("S3", {"before": 8, "count": 16})
    changes = story.changes
    await story.watch.poll("smart")
    assert story.changes == changes
    machine.count("S3", Counter.REALLOCATED, 24)
    await story.watch.poll("smart")
    assert story.one("disk-reallocations-rising").values == {"before": 8, "count": 24}

    await story.begin()  # the daemon restarts: still told, still by change
    assert story.one("disk-reallocations-rising").values == {"before": 8, "count": 24}
    machine.count("S3", Counter.PENDING, 3)
    await story.watch.poll("smart")
    assert "3 pending sectors" in story.one("disk-smart-prefail").explanation
    machine.set_smart("S3", replace(machine.disks["S3"].smart, passed=False))
    await story.watch.poll("smart")
    failing = story.one("disk-smart-failing")
    assert failing.level is Level.CRITICAL
    assert "SIMULATED, sdc, volume backup1" in failing.explanation

    await story.watch.accept_disk("S3")
    assert ("disk-reallocations-rising", "S3") not in story.shown()
    assert ("disk-smart-failing", "S3") in story.shown()
    with pytest.raises(CommandError):
        await story.watch.accept_disk("S3")


@pytest.mark.spec("AD-11")
async def test_a_rise_is_told_for_two_weeks_of_the_disks_own_time(story: Story) -> None:
    machine = story.machine
    machine.count("S1", Counter.CABLE_ERRORS, 1)
    await story.watch.poll("smart")
    machine.count("S1", Counter.CABLE_ERRORS, 5)
    await story.watch.poll("smart")
    assert story.one("disk-errors-rising").level is Level.NOTICE
    smart = machine.disks["S1"].smart
    machine.step_clock(10 * 365 * DAY_S)
    await story.watch.poll("smart")
    assert ("disk-errors-rising", "S1") in story.shown()
    machine.set_smart("S1", replace(smart, hours=(smart.hours or 0) + 14 * 24))
    await story.watch.poll("smart")
    assert ("disk-errors-rising", "S1") not in story.shown()


@pytest.mark.spec("AD-11")
async def test_a_sleeping_disk_is_left_asleep_and_keeps_what_it_said(story: Story) -> None:
    smart = story.machine.disks["S3"].smart
    story.machine.set_smart("S3", replace(smart, passed=False))
    await story.watch.poll("smart")
    story.machine.set_smart("S3", replace(smart, unread="asleep", asleep=True, passed=None))
    await story.watch.poll("smart")
    assert story.shown() == {("disk-smart-failing", "S3")}


@pytest.mark.spec("AD-11")
async def test_heat_comes_and_goes(story: Story) -> None:
    disk = story.machine.disks["S1"]
    disk.celsius = 53
    story.machine.chips["coretemp"] = 101
    await story.watch.poll("heat")
    assert story.shown() == {
        ("disk-temperature-warning", "S1"),
        ("temperature-critical", "coretemp"),
    }
    assert story.one("disk-temperature-warning").values == {"temperature_c": 53, "limit_c": 50}
    disk.celsius = 70
    await story.watch.poll("heat")
    assert story.one("disk-temperature-critical").values["limit_c"] == 60
    disk.celsius, story.machine.chips["coretemp"] = 40, 60
    await story.watch.poll("heat")
    assert story.shown() == set()


async def test_a_new_disk_is_asked_at_once(story: Story) -> None:
    story.machine.insert("S7")
    bad = replace(story.machine.disks["S7"].smart, passed=False)
    story.machine.set_smart("S7", bad)
    async with asyncio.timeout(5):
        while ("disk-smart-failing", "S7") not in story.shown():
            await asyncio.sleep(0.01)


# -- power


@pytest.mark.spec("AD-11")
async def test_the_power_fails_and_comes_back(story: Story) -> None:
    story.rules = MachineRules(ups="ups@localhost")
    story.machine.set_power(UpsPower.MAINS, charge_percent=100)
    await story.watch.poll("ups")
    assert (story.shown(), story.watch.hold_background()) == (set(), False)

    story.machine.set_power(UpsPower.BATTERY, charge_percent=80)
    await story.watch.poll("ups")
    assert story.shown() == {("ups-on-battery", "ups@localhost")}
    assert (story.watch.hold_background(), story.watch.power_failing()) == (True, False)

    story.machine.set_power(UpsPower.BATTERY, charge_percent=15, low=True)
    await story.watch.poll("ups")
    assert story.watch.power_failing()
    assert story.one("ups-low").level is Level.CRITICAL

    # charging after the outage: still low, but there is power
    story.machine.set_power(UpsPower.MAINS, charge_percent=15, low=True, replace_battery=True)
    await story.watch.poll("ups")
    assert story.shown() == {("ups-replace-battery", "ups@localhost")}
    assert (story.watch.hold_background(), story.watch.power_failing()) == (False, False)

    story.rules = MachineRules()
    await story.watch.poll("ups")
    assert story.shown() == set()


@pytest.mark.spec("AD-11")
async def test_a_ups_that_falls_silent_on_battery_counts_as_low(story: Story) -> None:
    story.rules = MachineRules(ups="ups@localhost")
    story.machine.set_power(UpsPower.MAINS, charge_percent=100)
    await story.watch.poll("ups")
    story.machine.lose_ups()
    await story.pass_time(5, "ups")
    await story.pass_time(60, "ups")
    assert story.shown() == {("ups-unreachable", "ups@localhost")}
    assert not story.watch.power_failing()  # it was on mains

    story.machine.set_power(UpsPower.BATTERY, charge_percent=70)
    await story.watch.poll("ups")
    story.machine.lose_ups()
    await story.pass_time(5, "ups")
    assert (story.watch.hold_background(), story.watch.power_failing()) == (True, False)
    await story.pass_time(15, "ups")
    assert story.watch.power_failing()
    assert ("ups-low", "ups@localhost") in story.shown()


# -- time


def _certificate(path: Path, until: datetime) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "box")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(until - timedelta(days=400))
        .not_valid_after(until)
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM))


@pytest.mark.spec("AD-11")
@pytest.mark.parametrize("step_s", [10 * 365 * DAY_S, -3600.0])
async def test_a_step_of_the_clock_is_told_once_and_expires_nothing(
    story: Story, tmp_path: Path, step_s: float
) -> None:
    now = datetime.fromtimestamp(story.machine.clock_sample().wall_s, UTC)
    await asyncio.to_thread(_certificate, tmp_path / "web.pem", now + timedelta(days=300))
    story.rules = MachineRules(certificates={"web": tmp_path / "web.pem"})
    await story.pass_time(30, "clock", "certificates")
    assert (story.shown(), story.events) == (set(), [])

    story.machine.step_clock(step_s)
    await story.pass_time(30)
    assert story.events == [("clock-step", {"step_s": step_s})]
    assert story.shown() == set()  # no storm of what has expired
    await story.pass_time(1200)
    assert story.shown() == {("clock-unsynchronised", "")}
    assert len(story.events) == 1

    story.machine.step_clock(-step_s)
    story.machine.synchronised = True
    await story.pass_time(30)
    await story.pass_time(30)
    assert (story.shown(), len(story.events)) == (set(), 2)


@pytest.mark.spec("AD-11")
async def test_a_clock_that_lost_the_time_while_the_box_was_off_is_told(story: Story) -> None:
    story.machine.step_clock(-20 * 365 * DAY_S)
    story.machine.synchronised = True
    await story.begin()
    assert [code for code, _ in story.events] == ["clock-step"]


@pytest.mark.spec("AD-11")
async def test_certificates_are_told_a_month_ahead(story: Story, tmp_path: Path) -> None:
    path = tmp_path / "tls.pem"
    now = datetime.fromtimestamp(story.machine.clock_sample().wall_s, UTC)
    await asyncio.to_thread(_certificate, path, now + timedelta(days=40))
    story.rules = MachineRules(certificates={"tls": path})
    await story.watch.poll("certificates")
    assert story.shown() == set()
    await story.pass_time(11 * DAY_S, "certificates")
    assert story.one("certificate-expiring").level is Level.NOTICE
    await story.pass_time(23 * DAY_S, "certificates")
    assert story.one("certificate-expiring").level is Level.WARNING
    await story.pass_time(7 * DAY_S, "certificates")
    assert story.shown() == {("certificate-expired", "tls")}
    await asyncio.to_thread(path.write_text, "-----BEGIN CERTIFICATE-----\nrubbish\n")
    await story.watch.poll("certificates")
    assert story.shown() == {("sensor-failed", "the certificate tls")}


# -- space


@pytest.mark.spec("ST-7")
async def test_a_volume_that_fills_is_told_with_its_date(story: Story) -> None:
    total = 10**12

    def fill(used: float) -> None:
        story.volumes["data"] = WatchedVolume(
            path=DATA, right=True, total_bytes=total, free_bytes=round(total * (1 - used))
        )

    for day in range(10):
        fill(0.60 + 0.01 * day)
        await story.pass_time(DAY_S, "space")
    found = story.one("volume-space-forecast")
    assert found.level is Level.NOTICE
    assert float(found.values["left_s"]) == pytest.approx(31 * DAY_S, rel=0.02)
    await story.begin()  # remembered
    assert ("volume-space-forecast", "data") in story.shown()
    story.machine.step_clock(10 * 365 * DAY_S)
    story.machine.synchronised = True
    await story.pass_time(30)
    await story.pass_time(30)
    assert ("volume-space-forecast", "data") in story.shown()  # the samples moved along
    fill(0.10)
    await story.pass_time(DAY_S, "space")
    assert story.shown() == set()


@pytest.mark.spec("AD-11")
async def test_memory_load_and_descriptors_are_told(story: Story) -> None:
    story.machine.in_use = Resources(
        memory_used_percent=98, load=40, processors=4, descriptors=900, descriptor_limit=1024
    )
    await story.watch.poll("resources")
    assert {code for code, _ in story.shown()} == {"memory-high", "load-high", "descriptors-high"}
    assert story.one("memory-high").level is Level.CRITICAL


async def test_a_damaged_index_is_told_until_it_is_whole(story: Story) -> None:
    story.watch.note_index("row 5 missing")
    assert "row 5 missing" in story.one("index-damaged").explanation
    story.watch.note_index("")
    assert story.shown() == set()


# -- sources that fail


SOURCES = {
    "storage": ("kernel_view", "the disks and arrays"),
    "smart": ("smart", "SMART of S1"),
    "heat": ("temperatures", "temperatures"),
    "clock": ("clock", "the clock"),
    "resources": ("resources", "memory and load"),
}


@pytest.mark.spec("AD-11")
@pytest.mark.parametrize("source", sorted(SOURCES))
async def test_a_source_that_fails_is_told_and_what_was_known_stays(
    story: Story, source: str
) -> None:
    method, subject = SOURCES[source]
    story.machine.fail_member("md0", "S2")
    story.machine.set_smart("S3", replace(story.machine.disks["S3"].smart, passed=False))
    story.machine.disks["S1"].celsius = 70
    await story.watch.poll()
    known = story.shown()
    assert len(known) == 3
    story.machine.broken[method] = BROKEN
    await story.watch.poll(source)
    assert ("sensor-failed", subject) in story.shown()
    assert known < story.shown()
    del story.machine.broken[method]
    await story.watch.poll(source)
    assert story.shown() == known


@pytest.mark.timing
@pytest.mark.spec("AD-11")
@pytest.mark.parametrize("source", [*sorted(SOURCES), "ups"])
async def test_a_source_that_hangs_keeps_no_other_waiting(story: Story, source: str) -> None:
    method = SOURCES.get(source, ("ups", ""))[0]
    await story.begin()  # everything known before
    story.rules = MachineRules(ups="ups@localhost")
    story.machine.set_power(UpsPower.MAINS, charge_percent=100)
    story.machine.hanging.add(method)
    fast = Pace(every_s=0.02, timeout_s=0.2)
    names = [name for name in USUAL.__dataclass_fields__ if name != "one_smart_s"]
    paces = Paces(one_smart_s=0.1, **dict.fromkeys(names, fast))
    await story.watch.close()
    story.watch = story.new_watch(paces)
    started = time.monotonic()
    await story.watch.start()
    assert time.monotonic() - started < 1
    try:
        async with asyncio.timeout(10):
            while not story.shown() & {
                ("sensor-failed", SOURCES.get(source, ("", ""))[1]),
                ("ups-unreachable", "ups@localhost"),
            }:
                await asyncio.sleep(0.01)
            before = list(story.machine.asked)
            await asyncio.sleep(0.3)
        others = {"temperatures", "clock", "resources", "kernel_view", "ups"} - {method}
        asked = story.machine.asked[len(before) :]
        assert all(asked.count(other) >= 2 for other in others)
        story.machine.hanging.clear()
        async with asyncio.timeout(10):
            while story.shown():
                await asyncio.sleep(0.01)
    finally:
        await story.watch.close()


@pytest.mark.spec("AD-11")
async def test_a_tool_that_was_never_installed_is_told_more_softly(story: Story) -> None:
    absent = NotAvailable(source="smartctl", reason="cannot be started", absent=True)
    story.machine.broken["smart"] = absent
    await story.watch.poll("smart")
    assert story.shown() == {("sensor-failed", "SMART")}  # once, not for each disk
    assert story.one("sensor-failed").level is Level.NOTICE


async def test_arrays_that_cannot_be_asked_keep_what_was_known_of_them(story: Story) -> None:
    story.machine.fail_member("md0", "S2")
    await story.watch.poll("storage")
    story.machine.unknown[ArrayKind.MD] = BROKEN
    await story.watch.poll("storage")
    assert story.shown() == {("raid-degraded", "md0"), ("sensor-failed", "md arrays")}


async def test_a_watch_that_fails_itself_is_told(
    story: Story, caplog: pytest.LogCaptureFixture
) -> None:
    story.machine.pull("S2")
    await story.watch.poll("storage")
    known, right = story.shown(), story.volumes
    story.volumes = None  # type: ignore[assignment]
    await story.watch.poll("space")
    assert story.shown() == known | {("sensor-failed", "the space of volumes")}
    assert "the watch failed" in caplog.text
    story.volumes = right
    story.machine.step_clock(1e18)  # beyond any date
    await story.watch.poll("space")
    assert ("sensor-failed", "the machine") in story.shown()
    assert "could not be derived" in caplog.text
    story.machine.step_clock(-1e18)
    await story.watch.poll("space")
    assert story.shown() == known


# -- what is remembered


@pytest.mark.spec("ST-4")
@pytest.mark.parametrize("content", [b"", b"{", b'{"format": 9}', b"\xff" * 100])
async def test_a_memory_that_cannot_be_read_starts_anew_and_says_so(
    story: Story, content: bytes
) -> None:
    await story.watch.close()
    path = story.folder / "topology.json"
    before = await asyncio.to_thread(path.read_bytes)
    assert json.loads(before)["format"] == 1
    await asyncio.to_thread(path.write_bytes, content)
    await story.begin()
    assert story.shown() == {("machine-memory-damaged", "topology")}
    assert await asyncio.to_thread((story.folder / "topology.bad").read_bytes) == content
    assert await asyncio.to_thread(path.read_bytes) == before
    await story.watch.accept_topology()
    assert story.shown() == set()


async def test_a_folder_that_cannot_be_written_is_told_and_the_watch_goes_on(
    tmp_path: Path,
) -> None:
    blocked = tmp_path / "file"
    await asyncio.to_thread(blocked.write_text, "not a folder")
    story = Story(blocked / "health")
    await story.begin()
    try:
        assert {code for code, _ in story.shown()} == {"sensor-failed", "machine-memory-damaged"}
        story.machine.pull("S2")
        await story.watch.poll("storage")
        assert ("raid-degraded", "md0") in story.shown()
    finally:
        await story.watch.close()


async def test_disks_that_cannot_be_seen_are_not_accepted(tmp_path: Path) -> None:
    story = Story(tmp_path / "health")
    story.machine.broken["kernel_view"] = BROKEN
    await story.begin()
    try:
        with pytest.raises(CommandError):
            await story.watch.accept_topology()
    finally:
        await story.watch.close()
        await story.watch.close()


@pytest.mark.spec("AD-11", "ST-3")
async def test_disks_that_are_taken_out_and_put_in_are_told_once(story: Story) -> None:
    assert story.events == []  # what was there at the start came from nowhere
    story.machine.pull("S2")
    await story.pass_time(5, "storage")
    await story.pass_time(5, "storage")
    assert story.subjects == [("disk-pulled", "S2")]
    ((_, values),) = story.events
    assert "md0" in str(values["reason"])
    story.machine.insert("S7")
    await story.pass_time(5, "storage")
    assert story.subjects[1:] == [("disk-inserted", "S7")]
    story.machine.pull("S7")  # nobody used it
    await story.pass_time(5, "storage")
    assert len(story.events) == 2
    await story.begin()  # a start of the daemon is no disk put in
    assert len(story.events) == 2


@pytest.mark.spec("AD-11")
async def test_the_last_warning_of_the_ups_is_told_once(story: Story) -> None:
    story.rules = replace(story.rules, ups="ups@localhost")
    story.machine.set_power(UpsPower.BATTERY, charge_percent=8, low=True)
    await story.pass_time(5, "ups")
    assert story.events == []  # low, and not asked to stop yet
    state = story.machine.ups_state
    story.machine.ups_state = replace(state, words=frozenset({"OB", "LB", "FSD"}))
    await story.pass_time(5, "ups")
    await story.pass_time(5, "ups")
    assert story.events == [("ups-shutdown", {"reason": "FSD LB OB"})]
    assert story.subjects == [("ups-shutdown", "ups@localhost")]
    assert story.watch.power_failing()
