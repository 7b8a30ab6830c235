# SPDX-License-Identifier: Apache-2.0
"""SMART: what smartctl says of disks, and what of it is news."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from scrigno.host.selftests import SelfTestResult
from scrigno.host.smart import Counter, DiskProtocol, Exit, Smart, parse
from scrigno.host.smart_judge import Finding, Severity, conditions, judge

Capture = Callable[[str], str]


def _changed(text: str, change: Callable[[dict[str, Any]], object]) -> Smart:
    told = json.loads(text)
    change(told)
    return parse(json.dumps(told))


def _attribute(number: int, raw: int, string: str = "", **more: object) -> dict[str, Any]:
    return {
        "id": number,
        "name": "x",
        "value": 100,
        "worst": 100,
        "thresh": 10,
        "when_failed": "",
        "flags": {"prefailure": True},
        "raw": {"value": raw, "string": string or str(raw)},
        **more,
    }


def _with(*rows: dict[str, Any]) -> Callable[[dict[str, Any]], object]:
    return lambda told: told["ata_smart_attributes"].update(table=list(rows))


@pytest.fixture
def ata(capture: Capture) -> str:
    return capture("smartctl-7.3-qemu-ata.json")


@pytest.mark.spec("AD-11")
def test_a_missing_log_is_no_failure(ata: str) -> None:
    disk = parse(ata)
    assert disk.exit == Exit.COMMAND_FAILED
    assert (disk.protocol, disk.serial, disk.passed) == (DiskProtocol.ATA, "SATADISK01", True)
    assert (disk.temperature_c, disk.hours) == (31, 1)
    assert conditions(disk) == judge(None, disk) == ()


@pytest.mark.spec("AD-11")
def test_nvme_warnings_are_judged_bit_by_bit(capture: Capture) -> None:
    well = parse(capture("smartctl-7.3-qemu-nvme.json"))
    assert conditions(well) == ()
    assert (well.protocol, well.wear_percent, well.temperature_c) == (DiskProtocol.NVME, 0, 50)
    ill = parse(capture("smartctl-7.3-qemu-nvme-warning.json"))
    assert Exit.FAILING in ill.exit
    found = judge(well, ill)
    assert [(one.finding, one.severity) for one in found] == [
        (Finding.SPARE_LOW, Severity.CRITICAL),
        (Finding.UNRELIABLE, Severity.CRITICAL),
    ]
    assert judge(ill, ill) == ()


def test_a_hot_nvme_disk_is_not_called_failing(capture: Capture) -> None:
    def heat(told: dict[str, Any]) -> None:
        told["nvme_smart_health_information_log"]["critical_warning"] = 2
        told["smart_status"]["passed"] = False

    hot = _changed(capture("smartctl-7.3-qemu-nvme-warning.json"), heat)
    assert [one.finding for one in conditions(hot)] == [Finding.TOO_HOT]


@pytest.mark.parametrize(
    ("used", "severity"), [(89, None), (90, Severity.WARNING), (130, Severity.CRITICAL)]
)
def test_wear_is_told_at_ninety_and_at_a_hundred(
    capture: Capture, used: int, severity: Severity | None
) -> None:
    disk = _changed(
        capture("smartctl-7.3-qemu-nvme.json"),
        lambda told: told["nvme_smart_health_information_log"].update(percentage_used=used),
    )
    assert [one.severity for one in conditions(disk)] == ([severity] if severity else [])


@pytest.mark.spec("AD-11")
def test_an_old_scar_is_no_news_but_a_new_one_is(ata: str) -> None:
    before = _changed(ata, _with(_attribute(5, 304), _attribute(199, 108)))
    after = _changed(ata, _with(_attribute(5, 305), _attribute(199, 108)))
    assert judge(None, before) == judge(before, before) == ()
    (news,) = judge(before, after)
    assert (news.finding, news.subject, news.before, news.now) == (
        Finding.COUNTER_ROSE,
        Counter.REALLOCATED,
        304,
        305,
    )


def test_pending_sectors_are_news_at_first_sight(ata: str) -> None:
    disk = _changed(ata, _with(_attribute(197, 8)))
    (news,) = judge(None, disk)
    assert (news.finding, news.now) == (Finding.SCARS, 8)


def test_packed_raw_values_are_read_as_smartctl_unpacks_them(ata: str) -> None:
    packed = (3 << 32) | (2 << 16) | 12
    disk = _changed(
        ata, _with(_attribute(188, packed, "3 2 12"), _attribute(5, (7 << 16) | 4, "4 (0 7)"))
    )
    assert disk.counters[Counter.COMMAND_TIMEOUTS] == 12
    assert disk.counters[Counter.REALLOCATED] == 4


def test_another_disk_in_the_same_bay_is_not_compared_with_the_last_one(ata: str) -> None:
    before = _changed(ata, _with(_attribute(5, 0)))

    def other(told: dict[str, Any]) -> None:
        _with(_attribute(5, 900))(told)
        told["serial_number"] = "OTHER"

    assert judge(before, _changed(ata, other)) == ()


@pytest.mark.spec("AD-11")
def test_a_failing_disk_and_its_prefail_attribute_are_told(ata: str) -> None:
    def fail(told: dict[str, Any]) -> None:
        _with(_attribute(5, 1975, when_failed="now", value=1))(told)
        told["smart_status"]["passed"] = False
        told["smartctl"]["exit_status"] = 8 | 16

    found = conditions(_changed(ata, fail))
    assert [(one.finding, one.severity) for one in found] == [
        (Finding.FAILING, Severity.CRITICAL),
        (Finding.PREFAIL, Severity.WARNING),
    ]


def test_the_error_log_bit_alone_is_no_condition(ata: str) -> None:
    def log(told: dict[str, Any]) -> None:
        told["smartctl"]["exit_status"] = 64
        told["ata_smart_error_log"]["summary"]["count"] = 12

    disk = _changed(ata, log)
    assert disk.counters[Counter.ERROR_LOG] == 12
    assert judge(None, disk) == ()
    (news,) = judge(parse(ata), disk)
    assert (news.subject, news.severity) == (Counter.ERROR_LOG, Severity.NOTICE)


def _tests(*rows: tuple[str, int, bool | None]) -> Callable[[dict[str, Any]], object]:
    table = []
    for kind, value, passed in rows:
        status: dict[str, Any] = {"value": value, "string": ""}
        if passed is not None:
            status["passed"] = passed
        table.append({"type": {"string": kind}, "status": status, "lifetime_hours": 9})
    return lambda told: told["ata_smart_self_test_log"]["standard"].update(table=table)


@pytest.mark.parametrize(
    ("rows", "failed"),
    [
        ([("Short offline", 0x79, False)], True),
        ([("Short offline", 0x10, None), ("Short offline", 0x79, False)], True),
        ([("Short offline", 0xF9, True), ("Extended offline", 0x79, False)], True),
        ([("Short offline", 0, True), ("Extended offline", 0x79, False)], True),
        ([("Extended offline", 0, True), ("Extended offline", 0x79, False)], False),
        ([("Short offline", 0x10, None)], False),
    ],
)
def test_a_failed_self_test_stands_until_a_good_extended_one(
    ata: str, rows: list[tuple[str, int, bool | None]], failed: bool
) -> None:
    found = {one.finding for one in conditions(_changed(ata, _tests(*rows)))}
    assert (Finding.SELF_TEST_FAILED in found) is failed


def test_a_sas_disk_tells_defects_errors_and_self_tests(capture: Capture) -> None:
    disk = parse(capture("smartctl-written-sas.json"))
    assert (disk.protocol, disk.model, disk.critical_c) == (
        DiskProtocol.SCSI,
        "EXAMPLE SAS4000",
        65,
    )
    assert disk.counters == {Counter.REALLOCATED: 3, Counter.MEDIA_ERRORS: 2}
    assert [test.result for test in disk.self_tests] == [
        SelfTestResult.ABORTED,
        SelfTestResult.FAILED,
    ]
    assert [one.finding for one in conditions(disk)] == [Finding.SELF_TEST_FAILED]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("written-standby", "asleep"),
        ("7.3-qemu-absent", "Unable to detect device type"),
        ("7.3-qemu-scsi", "no SMART"),
    ],
)
def test_a_disk_that_was_not_read_is_unknown_and_not_failing(
    capture: Capture, ata: str, name: str, words: str
) -> None:
    disk = parse(capture(f"smartctl-{name}.json"))
    assert words in disk.unread
    assert conditions(disk) == judge(parse(ata), disk) == ()


def test_a_sleeping_disk_is_told_apart(capture: Capture) -> None:
    assert parse(capture("smartctl-written-standby.json")).asleep
    assert not parse(capture("smartctl-7.3-qemu-absent.json")).asleep


def test_a_sensor_that_says_nought_degrees_and_no_limit_is_none(capture: Capture) -> None:
    assert parse(capture("smartctl-7.3-qemu-scsi.json")).temperature_c is None
