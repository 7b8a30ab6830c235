# SPDX-License-Identifier: Apache-2.0
"""The self-test log of a disk, from smartctl's JSON."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from .facts import Json


class SelfTestResult(StrEnum):
    """How a self-test ended."""

    PASSED = "passed"
    FAILED = "failed"
    ABORTED = "aborted"  # says nothing about the disk
    RUNNING = "running"


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfTest:
    """One entry of the self-test log."""

    result: SelfTestResult
    extended: bool
    hours: int | None
    words: str


def parse_self_tests(told: Json) -> Iterator[SelfTest]:
    """Return the log, newest first as every protocol keeps it."""
    log = told["ata_smart_self_test_log"]
    yield from map(_ata_test, log["extended" if "extended" in log else "standard"]["table"].rows())
    yield from map(_nvme_test, told["nvme_self_test_log"]["table"].rows())
    for index in range(20):  # SCSI log page 0x10 keeps twenty
        test = told[f"scsi_self_test_{index}"]
        if test["result"]["value"].whole is not None:
            yield _scsi_test(test)


def _ata_test(row: Json) -> SelfTest:
    code = (
        row["status"]["value"].whole or 0
    ) >> 4  # high half: how it ended (ACS, SMART self-test log)
    result = SelfTestResult.ABORTED  # smartctl leaves `passed` out for aborted ones (ataprint.cpp)
    if code == 0xF:
        result = SelfTestResult.RUNNING
    elif (passed := row["status"]["passed"].truth) is not None:
        result = SelfTestResult.PASSED if passed else SelfTestResult.FAILED
    return SelfTest(
        result=result,
        extended="extended" in row["type"]["string"].text.lower(),
        hours=row["lifetime_hours"].whole,
        words=row["status"]["string"].text,
    )


def _nvme_test(row: Json) -> SelfTest:
    """Read a result (NVMe Base 2.0 figure 215): 0 good, 5 to 7 failed, the others aborted."""
    value = row["self_test_result"]["value"].whole
    return SelfTest(
        result=_by_number(value, failed=range(5, 8)),
        extended=row["self_test_code"]["value"].whole == 2,
        hours=row["power_on_hours"].whole,
        words=row["self_test_result"]["string"].text,
    )


def _scsi_test(row: Json) -> SelfTest:
    """Read a result (SPC-5 7.3.20): 0 good, 1 and 2 aborted, 3 to 7 failed, 15 in progress."""
    value = row["result"]["value"].whole
    if row["self_test_in_progress"].truth or value == 15:
        result = SelfTestResult.RUNNING
    else:
        result = _by_number(value, failed=range(3, 8))
    return SelfTest(
        result=result,
        extended="long" in row["code"]["string"].text.lower(),
        hours=row["power_on_time"]["hours"].whole,
        words=row["result"]["string"].text,
    )


def _by_number(value: int | None, *, failed: range) -> SelfTestResult:
    if value == 0:
        return SelfTestResult.PASSED
    return SelfTestResult.FAILED if value in failed else SelfTestResult.ABORTED
