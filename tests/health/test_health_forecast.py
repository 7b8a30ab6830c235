# SPDX-License-Identifier: Apache-2.0
"""When a volume is full, from series as they are in life."""

import random
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrigno.health.forecast import DAY_S, Forecast, SpaceSample, forecast

GB = 10**9
TOTAL = 1000 * GB
NOW = datetime(2027, 3, 1, 12, tzinfo=UTC).timestamp()


def _series(days: int, used: Callable[[int], float], *, every_h: int = 24) -> list[SpaceSample]:
    """Return samples up to now; `used` tells GB by the number of the day, 0 is the oldest."""
    hours = range(days * 24, -1, -every_h)
    return [
        SpaceSample(
            at_s=NOW - hour * 3600,
            used_bytes=round(used(days - (hour + 23) // 24) * GB),
            total_bytes=TOTAL,
        )
        for hour in hours
    ]


def _days_left(found: Forecast | None, percent: int = 100) -> float:
    assert found is not None
    return (found.reaches[percent].timestamp() - NOW) / DAY_S


@pytest.mark.spec("ST-7")
def test_a_steady_growth_gives_the_three_dates() -> None:
    found = forecast(_series(28, lambda day: 500 + 10 * day), NOW)  # 780 GB now
    assert found is not None
    assert found.growth_bytes_per_day == pytest.approx(10 * GB)
    assert [_days_left(found, percent) for percent in (90, 95, 100)] == pytest.approx([12, 17, 22])


def test_hourly_samples_say_the_same_as_daily_ones() -> None:
    hourly = forecast(_series(20, lambda day: 500 + 10 * day, every_h=1), NOW)
    assert _days_left(hourly) == pytest.approx(30, abs=0.5)


@pytest.mark.parametrize("days", [0, 1, 2])
def test_less_than_three_days_give_no_date(days: int) -> None:
    assert forecast(_series(days, lambda day: 500 + 100 * day, every_h=1), NOW) is None


def test_three_days_give_one() -> None:
    assert _days_left(forecast(_series(3, lambda day: 500 + 100 * day), NOW)) == pytest.approx(2)


@pytest.mark.parametrize("per_day", [0, -1, -30])
def test_a_volume_that_does_not_grow_gives_no_date(per_day: int) -> None:
    assert forecast(_series(28, lambda day: 900 + per_day * day), NOW) is None


def test_one_great_import_does_not_spoil_the_trend() -> None:
    found = forecast(_series(28, lambda day: 300 + 5 * day + (200 if day >= 20 else 0)), NOW)
    assert _days_left(found) == pytest.approx((1000 - 640) / 5, rel=0.4)
    assert found is not None
    assert found.growth_bytes_per_day < 8 * GB


def test_quiet_week_ends_are_part_of_the_trend() -> None:
    def used(day: int) -> float:
        return 300 + 10 * sum(1 for one in range(1, day + 1) if one % 7 < 5)

    found = forecast(_series(28, used), NOW)
    assert found is not None
    assert found.growth_bytes_per_day == pytest.approx(50 / 7 * GB, rel=0.1)


def test_noise_moves_the_date_only_a_little() -> None:
    noise = random.Random(7)
    found = forecast(_series(28, lambda day: 500 + 10 * day + noise.uniform(-15, 15)), NOW)
    assert _days_left(found) == pytest.approx(22, rel=0.25)


def test_after_a_purge_only_the_days_since_count() -> None:
    def used(day: int) -> float:
        return 900 + day if day < 20 else 400 + 10 * (day - 20)

    found = forecast(_series(28, used), NOW)
    assert found is not None
    assert found.growth_bytes_per_day == pytest.approx(10 * GB)
    assert forecast(_series(28, lambda day: 950 if day < 27 else 100 + day), NOW) is None


def test_a_larger_disk_is_measured_by_its_own_size() -> None:
    samples = _series(28, lambda day: 500 + 10 * day)
    grown = [
        SpaceSample(at_s=one.at_s, used_bytes=one.used_bytes, total_bytes=2 * TOTAL)
        for one in samples[-5:]
    ]
    assert _days_left(forecast([*samples[:-5], *grown], NOW)) == pytest.approx(122)


def test_a_share_that_is_reached_already_is_reached_now() -> None:
    found = forecast(_series(28, lambda day: 700 + 9 * day), NOW)  # 952 GB
    assert [_days_left(found, percent) for percent in (90, 95)] == [0, 0]


def test_a_date_beyond_five_years_is_not_told() -> None:
    found = forecast(_series(28, lambda day: 100 + 0.4 * day), NOW)
    assert found is not None
    assert found.full_at is None


def test_samples_of_a_wrong_clock_count_for_nothing() -> None:
    right = _series(28, lambda day: 500 + 10 * day)
    future = [
        SpaceSample(at_s=NOW + (3650 + day) * DAY_S, used_bytes=0, total_bytes=TOTAL)
        for day in range(9)
    ]
    assert forecast([*future, *right, *right], NOW) == forecast(right, NOW)
    assert forecast(right, NOW - 3650 * DAY_S) is None
    assert forecast(right, NOW + 3650 * DAY_S) is None


@given(
    st.lists(
        st.builds(
            SpaceSample,
            at_s=st.floats(NOW - 40 * DAY_S, NOW + 40 * DAY_S),
            used_bytes=st.integers(0, 10**15),
            total_bytes=st.integers(0, 10**15),
        ),
        max_size=40,
    )
)
def test_whatever_the_series_a_date_lies_ahead_and_in_order(samples: list[SpaceSample]) -> None:
    found = forecast(samples, NOW)
    if found is not None:
        assert found.growth_bytes_per_day > 0
        dates = [found.reaches[percent].timestamp() for percent in sorted(found.reaches)]
        assert dates == sorted(dates)
        assert all(date >= NOW - 1e-3 for date in dates)
