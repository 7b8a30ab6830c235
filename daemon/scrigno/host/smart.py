# SPDX-License-Identifier: Apache-2.0
"""SMART of one disk: `smartctl --json=c -x -n standby,3` as one small value, ATA, SCSI or NVMe.

Keys are those of smartmontools' ataprint.cpp, scsiprint.cpp and nvmeprint.cpp (7.3 to 7.5). A
sleeping disk is left asleep. What the numbers mean is for `smart_judge`.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntFlag, StrEnum
from typing import Final

from .facts import FactsUnreadable, Json, whole
from .selftests import SelfTest, parse_self_tests

COMMAND: Final = ("smartctl", "--json=c", "-x", "-n", "standby,3")
_TOOL: Final = "smartctl"
_ASLEEP_EXIT: Final = 3  # what -n standby,3 asks for; no other case sets bits 0 and 1 alone
_LEADING: Final = re.compile(r"^\d+")
_RAW16: Final = 0xFFFF


class Exit(IntFlag):
    """smartctl's exit status (smartctl(8), EXIT STATUS)."""

    COMMAND_LINE = 1
    NOT_OPENED = 2  # or asleep
    COMMAND_FAILED = 4  # many healthy disks and bridges lack one of the logs -x asks for
    FAILING = 8
    PREFAIL_NOW = 16
    BELOW_IN_PAST = 32
    ERROR_LOG = 64  # stays for ever after one bad cable years ago
    SELF_TEST_LOG = 128


class DiskProtocol(StrEnum):
    """What the disk speaks."""

    ATA = "ATA"
    SCSI = "SCSI"
    NVME = "NVMe"
    OTHER = ""


class Counter(StrEnum):
    """A number that must not rise; the same name for every protocol."""

    REALLOCATED = "reallocated sectors"  # ATA 5, SCSI grown defect list
    REPORTED_UNCORRECTABLE = "reported uncorrectable errors"  # ATA 187
    COMMAND_TIMEOUTS = "command timeouts"  # ATA 188
    PENDING = "pending sectors"  # ATA 197
    OFFLINE_UNCORRECTABLE = "offline uncorrectable sectors"  # ATA 198
    CABLE_ERRORS = "cable (CRC) errors"  # ATA 199
    MEDIA_ERRORS = "media errors"  # NVMe; SCSI uncorrected reads, writes, verifies
    ERROR_LOG = "entries in the error log"  # ATA only


ATA_COUNTERS: Final = {
    5: Counter.REALLOCATED,
    187: Counter.REPORTED_UNCORRECTABLE,
    188: Counter.COMMAND_TIMEOUTS,
    197: Counter.PENDING,
    198: Counter.OFFLINE_UNCORRECTABLE,
    199: Counter.CABLE_ERRORS,
}
# Normalised life left of SSDs, 100 when new: 231 SSD life left, 233 media wear-out (Intel),
# 177 wear levelling (Samsung), 173 (Micron, Toshiba). smartmontools' drivedb names them so.
_LIFE_LEFT: Final = (231, 233, 177, 173)


@dataclass(frozen=True, slots=True, kw_only=True)
class Smart:
    """What a disk says of itself."""

    protocol: DiskProtocol
    model: str
    serial: str
    exit: Exit
    unread: str = ""  # why nothing was read (not opened, no SMART); "" when it was
    asleep: bool = False
    passed: bool | None = None  # the disk's own verdict; None: it gives none
    hours: int | None = None
    temperature_c: int | None = None
    warning_c: int | None = None  # the disk's own limits
    critical_c: int | None = None
    counters: Mapping[Counter, int] = field(default_factory=dict)
    wear_percent: int | None = None  # of the rated endurance, may pass 100
    below_now: tuple[str, ...] = ()  # ATA prefail attributes at or under their threshold
    self_tests: tuple[SelfTest, ...] = ()  # newest first
    critical_warning: int = 0  # NVMe, bits of SMART / Health log byte 0
    spare_percent: int | None = None
    spare_threshold_percent: int | None = None


def parse(content: bytes | str) -> Smart:
    """Return what smartctl told; raises FactsUnreadable when it is not smartctl's JSON."""
    told = Json.parse(content, _TOOL)
    status = told["smartctl"]["exit_status"].whole
    if status is None:
        raise FactsUnreadable(_TOOL, "no smartctl.exit_status")
    protocol = _protocol(told["device"]["protocol"].text)
    nvme = told["nvme_smart_health_information_log"]
    return Smart(
        protocol=protocol,
        model=told["model_name"].text or told["scsi_model_name"].text,
        serial=told["serial_number"].text,
        exit=Exit(status & 0xFF),
        unread=_unread(told, status),
        asleep=status == _ASLEEP_EXIT,
        passed=told["smart_status"]["passed"].truth,
        hours=told["power_on_time"]["hours"].whole,
        temperature_c=_temperature(told),
        warning_c=_positive(told["temperature"]["op_limit_max"]),
        critical_c=_critical(told),
        counters=dict(_counters(told, protocol)),
        wear_percent=_wear(told),
        below_now=_below_now(told),
        self_tests=tuple(parse_self_tests(told)),
        critical_warning=nvme["critical_warning"].whole or 0,
        spare_percent=nvme["available_spare"].whole,
        spare_threshold_percent=nvme["available_spare_threshold"].whole,
    )


def _protocol(name: str) -> DiskProtocol:
    return next((one for one in DiskProtocol if one.value == name), DiskProtocol.OTHER)


def _unread(told: Json, status: int) -> str:
    if status == _ASLEEP_EXIT:
        return "asleep"
    messages = [row["string"].text for row in told["smartctl"]["messages"].rows()]
    if status & (Exit.COMMAND_LINE | Exit.NOT_OPENED):
        return "; ".join(filter(None, messages)) or "the disk could not be opened"
    if told["smart_support"]["available"].truth is False:
        return "the disk has no SMART"
    return ""


def _temperature(told: Json) -> int | None:
    """Return °C. 0 with no limit beside it is a device that has no sensor (SCSI log page 0x0D)."""
    current = told["temperature"]["current"].whole
    return None if current == 0 and _critical(told) is None else current


def _critical(told: Json) -> int | None:
    temperature = told["temperature"]
    for limit in (
        temperature["critical_limit_max"],
        temperature["drive_trip"],
        told["scsi_temperature"]["drive_trip"],  # until 7.3
        told["nvme_composite_temperature_threshold"]["critical"],
    ):
        if found := _positive(limit):
            return found
    return None


def _positive(value: Json) -> int | None:
    found = value.whole
    return found if found is not None and found > 0 else None


def _attributes(told: Json) -> Iterator[Json]:
    return told["ata_smart_attributes"]["table"].rows()


def _counters(told: Json, protocol: DiskProtocol) -> Iterator[tuple[Counter, int]]:
    match protocol:
        case DiskProtocol.ATA:
            for row in _attributes(told):
                counter = ATA_COUNTERS.get(row["id"].whole or 0)
                value = _raw(row)
                if counter is not None and value is not None:
                    yield counter, value
            # -x reads the extended log where there is one, else the summary
            for log in ("summary", "extended"):
                count = told["ata_smart_error_log"][log]["count"].whole
                if count is not None:
                    yield Counter.ERROR_LOG, count
        case DiskProtocol.SCSI:
            grown = told["scsi_grown_defect_list"].whole
            if grown is not None:
                yield Counter.REALLOCATED, grown
            logs = told["scsi_error_counter_log"]
            lost = [log["total_uncorrected_errors"].whole for log in logs.values()]
            if lost:
                yield Counter.MEDIA_ERRORS, sum(filter(None, lost))
        case DiskProtocol.NVME:
            media = told["nvme_smart_health_information_log"]["media_errors"].whole
            if media is not None:
                yield Counter.MEDIA_ERRORS, media
        case DiskProtocol.OTHER:
            return


def _raw(row: Json) -> int | None:
    """Return a counter of an ATA attribute.

    The 48 raw bits may pack several numbers; `raw.string` is unpacked by smartmontools' drive
    database and starts with the one that counts. Attribute 188 is three 16-bit words on Seagate
    disks (drivedb.h: `-v 188,raw16`); the lowest one counts every time-out.
    """
    value = row["raw"]["value"].whole
    if row["id"].whole == 188:
        return None if value is None else value & _RAW16
    leading = _LEADING.match(row["raw"]["string"].text)
    return whole(leading[0]) if leading else value


def _wear(told: Json) -> int | None:
    for place in (
        told["endurance_used"]["current_percent"],  # 7.4 on, every protocol
        told["nvme_smart_health_information_log"]["percentage_used"],
        told["scsi_percentage_used_endurance_indicator"],  # until 7.3
    ):
        if place.whole is not None:
            return place.whole
    if told["rotation_rate"].whole:  # attribute numbers mean other things on spinning disks
        return None
    left = {row["id"].whole: row["value"].whole for row in _attributes(told)}
    told_left = next((left[number] for number in _LIFE_LEFT if left.get(number) is not None), None)
    return None if told_left is None else max(0, 100 - told_left)


def _below_now(told: Json) -> tuple[str, ...]:
    return tuple(
        f"{row['id'].whole} {row['name'].text}"
        for row in _attributes(told)
        if row["when_failed"].text == "now" and row["flags"]["prefailure"].truth
    )
