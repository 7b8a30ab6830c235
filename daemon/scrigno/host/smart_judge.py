# SPDX-License-Identifier: Apache-2.0
"""What SMART means: the conditions that hold now, and what is new since the last reading.

Judged by change, because disks live for years with an old scar: only a rising counter, a new
condition or one grown worse is news. Exit bits 0 to 2 are no failure of a disk: it was not opened,
or one of the many logs `-x` asks for is not there (smartctl(8), EXIT STATUS).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from .selftests import SelfTestResult
from .smart import Counter, DiskProtocol, Exit, Smart

WEAR_WARNING_PERCENT: Final = 90
WEAR_SPENT_PERCENT: Final = 100  # may go to 255 and still work (NVMe Base 2.0 5.16.1.3)


class Severity(StrEnum):
    """How much it matters."""

    NOTICE = "notice"
    WARNING = "warning"
    CRITICAL = "critical"


class Finding(StrEnum):
    """What was found; stable, part of an alert's key."""

    FAILING = "smart-failing"
    PREFAIL = "smart-prefail"
    SELF_TEST_FAILED = "smart-self-test-failed"
    COUNTER_ROSE = "smart-counter-rose"
    SCARS = "smart-scars"
    SPARE_LOW = "nvme-spare-low"
    TOO_HOT = "nvme-temperature"
    UNRELIABLE = "nvme-unreliable"
    READ_ONLY = "nvme-read-only"
    BACKUP_FAILED = "nvme-backup-failed"
    MEMORY_UNRELIABLE = "nvme-memory-unreliable"
    WORN = "ssd-worn"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """One finding with the numbers behind it."""

    finding: Finding
    severity: Severity
    subject: str = ""  # what within the disk: a counter, an attribute
    before: int | None = None
    now: int | None = None


# Critical Warning, byte 0 of the SMART / Health log (NVMe Base 2.0 figure 207)
_NVME_BITS: Final = (
    (0x01, Finding.SPARE_LOW, Severity.CRITICAL),
    (0x02, Finding.TOO_HOT, Severity.WARNING),
    (0x04, Finding.UNRELIABLE, Severity.CRITICAL),
    (0x08, Finding.READ_ONLY, Severity.CRITICAL),
    (0x10, Finding.BACKUP_FAILED, Severity.CRITICAL),
    (0x20, Finding.MEMORY_UNRELIABLE, Severity.WARNING),
)
# Backblaze's five (5, 187, 188, 197, 198) announce failures; 199 is nearly always the cable
COUNTER_SEVERITY: Final = {
    Counter.REALLOCATED: Severity.WARNING,
    Counter.REPORTED_UNCORRECTABLE: Severity.CRITICAL,
    Counter.COMMAND_TIMEOUTS: Severity.NOTICE,
    Counter.PENDING: Severity.CRITICAL,
    Counter.OFFLINE_UNCORRECTABLE: Severity.CRITICAL,
    Counter.CABLE_ERRORS: Severity.NOTICE,
    Counter.MEDIA_ERRORS: Severity.CRITICAL,
    Counter.ERROR_LOG: Severity.NOTICE,
}
# These stand for data that cannot be read now, whenever they came
_SCARS: Final = (Counter.PENDING, Counter.OFFLINE_UNCORRECTABLE)


def conditions(now: Smart) -> tuple[Judgement, ...]:
    """Return what holds now, however long it has; nothing for a disk that was not read."""
    return () if now.unread else tuple(_conditions(now))


def _conditions(now: Smart) -> Iterator[Judgement]:
    # NVMe: smartctl calls any critical warning failing (nvmeprint.cpp, print_critical_warning),
    # so a hot disk would be a dying one; the bits are judged one by one instead.
    nvme = now.protocol is DiskProtocol.NVME
    if not nvme and (now.passed is False or Exit.FAILING in now.exit):
        yield Judgement(finding=Finding.FAILING, severity=Severity.CRITICAL)
    if Exit.PREFAIL_NOW in now.exit or now.below_now:
        for subject in now.below_now or ("",):
            yield Judgement(finding=Finding.PREFAIL, severity=Severity.WARNING, subject=subject)
    if _self_test_failed(now):
        yield Judgement(finding=Finding.SELF_TEST_FAILED, severity=Severity.WARNING)
    for counter in _SCARS:
        if value := now.counters.get(counter, 0):
            yield Judgement(
                finding=Finding.SCARS, severity=Severity.WARNING, subject=counter, now=value
            )
    yield from _nvme(now)
    if now.wear_percent is not None and now.wear_percent >= WEAR_WARNING_PERCENT:
        spent = now.wear_percent >= WEAR_SPENT_PERCENT
        severity = Severity.CRITICAL if spent else Severity.WARNING
        yield Judgement(finding=Finding.WORN, severity=severity, now=now.wear_percent)


def _nvme(now: Smart) -> Iterator[Judgement]:
    for bit, finding, severity in _NVME_BITS:
        if now.critical_warning & bit:
            yield Judgement(finding=finding, severity=severity, now=now.spare_percent)
    spare, least = now.spare_percent, now.spare_threshold_percent
    if not now.critical_warning & 1 and spare is not None and least is not None and spare < least:
        yield Judgement(finding=Finding.SPARE_LOW, severity=Severity.CRITICAL, now=spare)


def _self_test_failed(now: Smart) -> bool:
    """Tell whether a failed test stands, newest first.

    A later good *extended* test outdates it, a short one does not (smartctl(8), bit 7). Aborted
    and running tests say nothing.
    """
    for test in now.self_tests:
        if test.result is SelfTestResult.FAILED:
            return True
        if test.result is SelfTestResult.PASSED and test.extended:
            return False
    # a log that could not be told in rows still sets the bit
    return not now.self_tests and Exit.SELF_TEST_LOG in now.exit


def judge(previous: Smart | None, now: Smart) -> tuple[Judgement, ...]:
    """Return what is new: conditions that came or grew worse, counters that rose.

    With no previous reading every condition is new and counters are only remembered. A disk that
    was asleep or unread says nothing new; keep the reading before it as `previous`. Another serial
    is another disk.
    """
    if now.unread:
        return ()
    if previous is not None and (previous.unread or previous.serial != now.serial):
        previous = None
    known = {} if previous is None else {(c.finding, c.subject): c for c in conditions(previous)}
    fresh = [one for one in conditions(now) if _worse(known.get((one.finding, one.subject)), one)]
    return (*fresh, *_risen(previous, now))


def _worse(before: Judgement | None, now: Judgement) -> bool:
    if before is None:
        return True
    return now.severity is Severity.CRITICAL and before.severity is not Severity.CRITICAL


def _risen(previous: Smart | None, now: Smart) -> Iterator[Judgement]:
    if previous is None:
        return
    for counter, value in now.counters.items():
        before = previous.counters.get(counter)
        # a counter that was not there before (other firmware, other tool) has not risen
        if before is not None and value > before:
            yield Judgement(
                finding=Finding.COUNTER_ROSE,
                severity=COUNTER_SEVERITY[counter],
                subject=counter,
                before=before,
                now=value,
            )
