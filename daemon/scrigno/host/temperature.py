# SPDX-License-Identifier: Apache-2.0
"""Temperatures from hwmon (Documentation/hwmon/sysfs-interface.rst), without waking a disk.

`drivetemp` and `nvme` are the disks' own sensors; m°C in the files, °C here.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from .facts import read_names, read_text, whole

_INPUT: Final = re.compile(r"^temp(\d+)_input$")
_MILLI: Final = 1000
_SANE_C: Final = range(-40, 151)  # outside it a limit is a driver's "none" (−273, 65261.85 °C)
# Where the sensor tells no limit of its own: ours, as NAS makers choose them (host-facts.md)
DISK_WARNING_C: Final = 50
DISK_CRITICAL_C: Final = 60
NVME_WARNING_C: Final = 70
CHIP_WARNING_C: Final = 90
CHIP_CRITICAL_C: Final = 100


class Heat(StrEnum):
    """How hot it is for this sensor."""

    FINE = "fine"
    WARM = "warm"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True, kw_only=True)
class Temperature:
    """One sensor at one moment."""

    sensor: str  # "nvme", "drivetemp", "coretemp" …
    label: str  # "Composite", "Package id 0", or ""
    current_c: float
    warning_c: float | None = None  # the sensor's own
    critical_c: float | None = None
    device: str = ""  # kernel name of the block device, for a disk's sensor

    @property
    def limits(self) -> tuple[float, float]:
        """Return where it is warm and where critical: the sensor's own, else ours for its kind."""
        match self.sensor:
            case "nvme":
                usual: tuple[float, float] = (NVME_WARNING_C, NVME_WARNING_C + 10)
            case "drivetemp":
                usual = (DISK_WARNING_C, DISK_CRITICAL_C)
            case _:
                usual = (CHIP_WARNING_C, CHIP_CRITICAL_C)
        critical = self.critical_c if self.critical_c is not None else usual[1]
        warning = min(self.warning_c if self.warning_c is not None else usual[0], critical)
        if self.sensor == "drivetemp":  # spinning disks age long before their own 60 to 70 °C
            warning = min(warning, DISK_WARNING_C)
        return warning, critical

    @property
    def heat(self) -> Heat:
        """Judge by the limits."""
        warning, critical = self.limits
        if self.current_c >= critical:
            return Heat.CRITICAL
        return Heat.WARM if self.current_c >= warning else Heat.FINE


def read_temperatures(sys_root: Path) -> tuple[Temperature, ...]:
    """Return every sensor that answers. Blocking: drivetemp asks its disk, so in an executor."""
    folder = sys_root / "class" / "hwmon"
    return tuple(found for name in read_names(folder) for found in _chip(folder / name))


def _chip(at: Path) -> list[Temperature]:
    sensor = read_text(at / "name")
    device = _block_device(at / "device")
    found = []
    for name in read_names(at):
        match = _INPUT.match(name)
        current = _celsius(at / name) if match else None
        if match is None or current is None:
            continue
        stem = f"temp{match[1]}"
        found.append(
            Temperature(
                sensor=sensor,
                label=read_text(at / f"{stem}_label"),
                current_c=current,
                warning_c=_limit(at / f"{stem}_max"),
                critical_c=_limit(at / f"{stem}_crit"),
                device=device,
            )
        )
    return found


def _celsius(path: Path) -> float | None:
    value = whole(read_text(path))
    return None if value is None else value / _MILLI


def _limit(path: Path) -> float | None:
    value = _celsius(path)
    return value if value is not None and value > 0 and int(value) in _SANE_C else None


def _block_device(at: Path) -> str:
    """Return the disk of a sensor: a SCSI device holds `block/sdX`, a controller `nvmeXnY`."""
    for name in read_names(at / "block"):
        return name
    return next((name for name in read_names(at) if re.fullmatch(r"nvme\d+n\d+", name)), "")
