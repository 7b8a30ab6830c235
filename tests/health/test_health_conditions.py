# SPDX-License-Identifier: Apache-2.0
"""Facts to conditions, and whether the box is ready."""

from dataclasses import replace

import pytest

from scrigno.health.codes import Level
from scrigno.health.conditions import (
    BACKUP_AWAY_CRITICAL_S,
    LAG_CRITICAL_S,
    PAUSED_WARNING_S,
    Condition,
    Facts,
    VolumeFacts,
    conditions,
    readiness,
    worst,
)

DATA = VolumeFacts(name="data", role="data", state="online", total_bytes=1000, free_bytes=900)
BACKUP = VolumeFacts(name="backup1", role="backup", state="online")
WELL = Facts(volumes=(DATA, BACKUP), devices_available=3, staging_capacity_bytes=100)


def _codes(facts: Facts) -> dict[str, Level]:
    return {one.code: one.level for one in conditions(facts)}


def test_a_box_that_is_well_has_no_condition_and_is_ready() -> None:
    assert conditions(WELL) == ()
    assert worst(()) is Level.INFO
    assert readiness(WELL).ready


@pytest.mark.parametrize(
    ("state", "code", "level"),
    [
        ("suspect", "volume-suspect", Level.WARNING),
        ("offline", "volume-offline", Level.CRITICAL),
        ("readonly", "volume-readonly", Level.CRITICAL),
        ("full", "volume-full", Level.CRITICAL),
        ("recovering", "volume-recovering", Level.NOTICE),
        ("absent", "volume-absent", Level.CRITICAL),
        ("foreign", "volume-foreign", Level.CRITICAL),
    ],
)
def test_every_bad_state_of_the_data_volume_is_named(state: str, code: str, level: Level) -> None:
    facts = replace(WELL, volumes=(replace(DATA, state=state, reason="EIO on write"), BACKUP))
    found = conditions(facts)
    (one,) = [each for each in found if each.code != "data-failed-over"]
    assert (one.code, one.level, one.subject) == (code, level, "data")
    assert "data" in one.summary
    assert one.next_step
    if state != "recovering":
        assert "EIO on write" in one.explanation
        assert one.values == {"reason": "EIO on write"}
    failed_over = state not in {"suspect", "recovering"}
    assert [each.values["target"] for each in found if each is not one] == (
        ["backup1"] if failed_over else []
    )
    assert readiness(facts).ready  # the backup volume still takes and gives images


def test_a_backup_that_is_away_becomes_critical_after_a_day() -> None:
    away = replace(BACKUP, state="absent", away_s=60)
    assert _codes(replace(WELL, volumes=(DATA, away)))["volume-absent"] is Level.WARNING
    away = replace(away, away_s=BACKUP_AWAY_CRITICAL_S)
    assert _codes(replace(WELL, volumes=(DATA, away)))["volume-absent"] is Level.CRITICAL


def test_without_a_writable_volume_nothing_can_be_stored_and_the_box_says_so() -> None:
    dead = tuple(replace(one, state="offline") for one in (DATA, BACKUP))
    facts = replace(WELL, volumes=dead)
    assert _codes(facts)["no-storage"] is Level.CRITICAL
    ready = readiness(facts)
    assert not ready.ready
    assert [code for code, _ in ready.reasons] == ["no-volume-writable", "no-volume-readable"]


def test_a_read_only_box_can_be_read_but_is_not_ready() -> None:
    facts = replace(WELL, volumes=(replace(DATA, state="readonly"),))
    assert [code for code, _ in readiness(facts).reasons] == ["no-volume-writable"]


def test_while_volumes_start_no_alarm_is_raised() -> None:
    facts = replace(WELL, volumes=(replace(DATA, state="starting"),))
    assert conditions(facts) == ()
    assert not readiness(facts).ready


@pytest.mark.spec("ST-2")
def test_fewer_devices_than_the_policy_asks_for_is_critical() -> None:
    facts = replace(WELL, volumes=(DATA,), devices_available=1)
    (one,) = conditions(facts)
    assert (one.code, one.level) == ("copies-below-policy", Level.CRITICAL)
    assert "1 instead of 2" in one.summary


@pytest.mark.spec("ST-7")
@pytest.mark.parametrize(
    ("used", "level"),
    [(84, None), (85, Level.NOTICE), (90, Level.WARNING), (95, Level.CRITICAL)],
)
def test_space_has_three_levels(used: int, level: Level | None) -> None:
    volume = replace(DATA, total_bytes=100, free_bytes=100 - used)
    assert _codes(replace(WELL, volumes=(volume, BACKUP))).get("volume-space") is level


def test_a_volume_that_misses_images_for_an_hour_lags() -> None:
    late = replace(BACKUP, owed_objects=12, oldest_debt_s=7200)
    assert _codes(replace(WELL, volumes=(DATA, late))) == {"replication-lag": Level.WARNING}


def test_after_a_day_missing_copies_are_critical() -> None:
    late = replace(BACKUP, owed_objects=12, oldest_debt_s=LAG_CRITICAL_S)
    assert _codes(replace(WELL, volumes=(DATA, late))) == {"replication-lag": Level.CRITICAL}


@pytest.mark.spec("ST-3")
def test_it_is_said_where_images_go_when_the_data_volume_is_lost_to_writes() -> None:
    for state in ("offline", "readonly", "full", "absent", "foreign"):
        facts = replace(WELL, volumes=(replace(DATA, state=state), BACKUP))
        one = next(each for each in conditions(facts) if each.code == "data-failed-over")
        assert one.summary == "Images go to backup1 instead of volume data."
    nobody = replace(WELL, volumes=(replace(DATA, state="offline"),))
    assert "data-failed-over" not in _codes(nobody)
    backup_only = replace(WELL, volumes=(DATA, replace(BACKUP, state="offline")))
    assert "data-failed-over" not in _codes(backup_only)


@pytest.mark.spec("ST-3")
def test_catching_up_says_how_far_how_fast_and_how_long() -> None:
    back = replace(
        DATA, state="recovering", owed_objects=500, catch_up_percent=41.7,
        catch_up_per_s=52_000_000.0, catch_up_left_s=1500,
    )  # fmt: skip
    (one,) = conditions(replace(WELL, volumes=(back, BACKUP)))
    assert one.explanation == (
        "Done: 42%; copies still missing: 500; speed: 52 MB/s; time left: 25 min."
    )


def test_a_paused_volume_is_a_notice_takes_nothing_and_is_not_forgotten() -> None:
    paused = replace(DATA, paused=True, operator_reason="new cable", state="absent")
    facts = replace(WELL, volumes=(paused, BACKUP))
    assert _codes(facts)["volume-paused"] is Level.NOTICE
    assert "volume-absent" not in _codes(facts)
    assert readiness(facts).ready
    alone = replace(WELL, volumes=(replace(paused, state="online"),))
    assert _codes(alone)["no-storage"] is Level.CRITICAL
    assert not readiness(alone).ready
    long = replace(paused, away_s=PAUSED_WARNING_S)
    assert _codes(replace(facts, volumes=(long, BACKUP)))["volume-paused"] is Level.WARNING


@pytest.mark.spec("ST-7")
@pytest.mark.parametrize(
    ("used", "level"),
    [(84, None), (85, Level.NOTICE), (90, Level.WARNING), (95, Level.CRITICAL)],
)
def test_the_table_of_files_has_the_same_levels_as_the_space(
    used: int, level: Level | None
) -> None:
    volume = replace(DATA, total_inodes=100, free_inodes=100 - used)
    assert _codes(replace(WELL, volumes=(volume, BACKUP))).get("inodes-low") is level
    made_as_needed = replace(DATA, total_inodes=0, free_inodes=0)
    assert _codes(replace(WELL, volumes=(made_as_needed, BACKUP))) == {}


@pytest.mark.spec("ST-6")
def test_scrub_speaks_of_damage_and_of_being_late() -> None:
    volume = replace(DATA, scrub_bad=2, scrub_age_s=40 * 86400.0)
    facts = replace(WELL, volumes=(volume, BACKUP), scrub_every_s=30 * 86400.0)
    assert _codes(facts) == {"scrub-bitrot": Level.CRITICAL, "scrub-overdue": Level.WARNING}
    assert _codes(replace(facts, scrub_every_s=None)) == {"scrub-bitrot": Level.CRITICAL}
    soon = replace(DATA, scrub_age_s=31 * 86400.0)
    assert _codes(replace(facts, volumes=(soon, BACKUP))) == {}


@pytest.mark.parametrize(
    ("fact", "value", "code", "level"),
    [
        ("index_damage", "row 7 missing", "index-damaged", Level.CRITICAL),
        ("index_mismatch", 3, "index-mismatch", Level.WARNING),
        ("inbox_patients", 2, "patient-id-collision", Level.WARNING),
        ("single_copy_objects", 9, "objects-single-copy", Level.CRITICAL),
        ("objects_without_good_copy", 1, "object-without-good-copy", Level.CRITICAL),
        ("trash_error", "EIO", "trash-failed", Level.WARNING),
        ("retention_error", "EIO", "retention-failed", Level.WARNING),
        ("audit_error", "disk full", "audit-write-failed", Level.CRITICAL),
        ("audit_damage", "entry 7", "audit-trail-damaged", Level.CRITICAL),
        ("settings_error", "truncated", "settings-damaged", Level.CRITICAL),
        ("silent_providers", {"CT": "in use"}, "provider-not-listening", Level.CRITICAL),
        ("unclaimed", True, "setup-code-unclaimed", Level.NOTICE),
    ],
)
def test_every_other_fact_has_its_condition(
    fact: str, value: object, code: str, level: Level
) -> None:
    facts = replace(WELL, **{fact: value})  # type: ignore[arg-type]  # one of many types
    assert _codes(facts) == {code: level}
    assert readiness(facts).ready


def test_staging_fills_fails_and_is_full() -> None:
    assert _codes(replace(WELL, staging_used_bytes=69)) == {}
    assert _codes(replace(WELL, staging_used_bytes=70)) == {"staging-high": Level.WARNING}
    full = replace(WELL, staging_used_bytes=100)
    assert _codes(full) == {"staging-high": Level.CRITICAL}
    assert readiness(full).ready  # images go straight to the volumes meanwhile
    failed = replace(full, staging_error="EIO")
    assert _codes(failed) == {"staging-failed": Level.CRITICAL}
    assert readiness(failed).ready


def test_the_index_speaks_up() -> None:
    facts = replace(WELL, index_error="disk full", pending_objects=3, index_backup_age_s=3e5)
    assert _codes(facts) == {
        "index-failed": Level.CRITICAL,
        "objects-pending": Level.WARNING,
        "index-backup-old": Level.WARNING,
    }
    assert readiness(facts).reasons[0][0] == "index-failed"
    assert readiness(replace(WELL, stopping=True)).reasons[0][0] == "stopping"


@pytest.mark.spec("ST-10")
def test_what_is_kept_aside_is_shown() -> None:
    facts = replace(WELL, inbox_conflicts=1, inbox_unreadable=2, inbox_held=3, bad_copies=4)
    assert _codes(facts) == {
        "duplicate-uid-different-content": Level.CRITICAL,
        "objects-unreadable": Level.WARNING,
        "objects-held": Level.NOTICE,
        "copies-bad": Level.CRITICAL,
    }


@pytest.mark.spec("AD-8")
def test_a_limit_of_studies_is_announced_and_named() -> None:
    assert _codes(replace(WELL, studies=10, max_studies=None)) == {}
    assert _codes(replace(WELL, studies=94, max_studies=100)) == {}
    assert _codes(replace(WELL, studies=95, max_studies=100)) == {"capacity-near": Level.WARNING}
    assert _codes(replace(WELL, studies=100, max_studies=100)) == {
        "capacity-reached": Level.CRITICAL
    }


def test_the_worst_comes_first() -> None:
    facts = replace(WELL, inbox_held=1, inbox_conflicts=1, inbox_unreadable=1)
    found: tuple[Condition, ...] = conditions(facts)
    assert [one.level for one in found] == [Level.CRITICAL, Level.WARNING, Level.NOTICE]
    assert worst(found) is Level.CRITICAL
