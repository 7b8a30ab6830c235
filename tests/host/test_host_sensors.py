# SPDX-License-Identifier: Apache-2.0
"""Heat, power and time."""

import subprocess  # noqa: TID251 - a test's own tool
from collections.abc import Callable
from pathlib import Path

import pytest

from scrigno.host.facts import FactsUnreadable
from scrigno.host.temperature import Heat, Temperature, read_temperatures
from scrigno.host.timesync import (
    ClockSample,
    parse_timedatectl,
    read_kernel_clock,
    sample_clock,
    step_s,
)
from scrigno.host.ups import UpsPower, parse_upsc

Sysfs = Callable[[str], Path]
Capture = Callable[[str], str]


@pytest.mark.spec("AD-11")
def test_an_nvme_sensor_tells_its_own_limits_and_its_disk(sysfs: Sysfs) -> None:
    (found,) = read_temperatures(sysfs("bare"))
    assert (found.sensor, found.label, found.device) == ("nvme", "Composite", "nvme0n1")
    assert (found.current_c, found.warning_c, found.critical_c) == (49.85, 69.85, 99.85)
    assert found.heat is Heat.FINE


def test_a_sata_disks_sensor_is_tied_to_its_disk(sysfs: Sysfs) -> None:
    # the tree drivetemp makes (drivers/hwmon/drivetemp.c); QEMU's disk has no sensor
    root = sysfs("bare")
    disk = (root / "block/sdf/device").resolve()
    at = disk / "hwmon/hwmon7"
    at.mkdir(parents=True)
    (at / "device").symlink_to(disk)
    for name, text in {"name": "drivetemp", "temp1_input": "52000", "temp1_max": "60000"}.items():
        (at / name).write_text(f"{text}\n")
    (root / "class/hwmon/hwmon7").symlink_to(at)
    found = {one.sensor: one for one in read_temperatures(root)}["drivetemp"]
    assert (found.device, found.current_c) == ("sdf", 52.0)
    assert found.heat is Heat.WARM


@pytest.mark.parametrize(
    ("sensor", "limits", "celsius", "heat"),
    [
        ("drivetemp", (None, None), 49, Heat.FINE),
        ("drivetemp", (None, None), 50, Heat.WARM),
        ("drivetemp", (None, None), 60, Heat.CRITICAL),
        ("drivetemp", (60.0, 70.0), 65, Heat.WARM),
        ("nvme", (None, None), 69, Heat.FINE),
        ("nvme", (None, None), 80, Heat.CRITICAL),
        ("nvme", (84.8, 84.8), 83, Heat.FINE),
        ("coretemp", (80.0, 100.0), 85, Heat.WARM),
    ],
)
def test_heat_is_judged_by_the_sensors_limits_or_ours(
    sensor: str, limits: tuple[float | None, float | None], celsius: float, heat: Heat
) -> None:
    found = Temperature(
        sensor=sensor, label="", current_c=celsius, warning_c=limits[0], critical_c=limits[1]
    )
    assert found.heat is heat


def test_a_limit_no_sensor_can_mean_is_no_limit(sysfs: Sysfs) -> None:
    root = sysfs("bare")
    (root / "class/hwmon/hwmon0/temp1_max").write_text("65261850\n")
    (root / "class/hwmon/hwmon0/temp1_crit").write_text("-273150\n")
    (found,) = read_temperatures(root)
    assert (found.warning_c, found.critical_c) == (None, None)


@pytest.mark.spec("AD-11")
def test_a_ups_on_mains_and_one_about_to_die_are_told_apart(capture: Capture) -> None:
    well = parse_upsc(capture("upsc-2.8.0-online.txt"))
    assert (well.power, well.battery_low, well.replace_battery) == (UpsPower.MAINS, False, False)
    assert (well.charge_percent, well.runtime_s) == (100, 2400)
    ill = parse_upsc(capture("upsc-2.8.0-low.txt"))
    assert (ill.power, ill.battery_low, ill.replace_battery) == (UpsPower.BATTERY, True, True)
    assert ill.alarm == "Replace battery!"
    assert ill.model == "Example Example 1500"


def test_a_forced_shutdown_is_as_urgent_as_a_low_battery() -> None:
    assert parse_upsc("ups.status: FSD OL\n").battery_low
    assert parse_upsc("ups.status: OL OB\n").power is UpsPower.BATTERY
    assert parse_upsc("ups.status: BYPASS\n").power is UpsPower.UNKNOWN


@pytest.mark.parametrize("text", ["", "Error: Data stale\n", "battery.charge: 100\n"])
def test_a_ups_that_does_not_answer_is_unknown(text: str) -> None:
    with pytest.raises(FactsUnreadable):
        parse_upsc(text)


def test_the_kernel_says_whether_the_clock_is_disciplined() -> None:
    state = read_kernel_clock()
    assert state.source == "kernel"
    assert state.error_s is not None
    assert 0 <= state.error_s <= 16.1  # NTP_PHASE_LIMIT, include/linux/timex.h


def test_timedatectl_is_understood() -> None:
    # the keys of `timedatectl show`, timedatectl(1)
    assert parse_timedatectl("Timezone=Etc/UTC\nNTP=yes\nNTPSynchronized=yes\n").synchronised
    assert not parse_timedatectl("NTPSynchronized=no\n").synchronised
    with pytest.raises(FactsUnreadable):
        parse_timedatectl("Failed to connect to bus\n")


@pytest.mark.spec("AD-11")
def test_a_clock_that_was_set_is_seen_and_one_that_slews_is_not() -> None:
    before = ClockSample(wall_s=1000.0, elapsed_s=50.0)
    assert step_s(before, ClockSample(wall_s=1060.03, elapsed_s=110.0)) is None
    assert step_s(before, ClockSample(wall_s=4660.0, elapsed_s=110.0)) == 3600
    assert step_s(before, ClockSample(wall_s=-2540.0, elapsed_s=110.0)) == -3600


def test_the_two_clocks_of_this_machine_run_together() -> None:
    before = sample_clock()
    subprocess.run(["sleep", "0.05"], check=True)
    after = sample_clock()
    assert after.elapsed_s - before.elapsed_s >= 0.05
    assert step_s(before, after) is None
