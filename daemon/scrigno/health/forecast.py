# SPDX-License-Identifier: Apache-2.0
"""When a volume will be full, from how it filled in the last weeks. Pure.

One value for each day (the last of it), then Theil and Sen's estimator: the median of the slopes
between all pairs of days (Sen 1968, J. Am. Stat. Assoc. 63:1379). Almost a third of the days may
be anything (an import, a purge) without moving it, and quiet week-ends only make it milder.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import combinations, pairwise
from statistics import median
from typing import Final

DAY_S: Final = 86400.0
WINDOW_S: Final = 28 * DAY_S  # four weeks: every day of the week four times
LEAST_SPAN_S: Final = 3 * DAY_S
LEAST_DAYS: Final = 4  # values of three days' growth
FARTHEST_S: Final = 5 * 365 * DAY_S  # beyond that a date is a guess nobody plans by
EMPTIED_SHARE: Final = 0.05  # of the volume, less from one day to the next: another life begins
PERCENTS: Final = (90, 95, 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpaceSample:
    """How full a volume was at a moment."""

    at_s: float  # wall clock, seconds since 1970
    used_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """How a volume fills, and when it reaches which share of itself."""

    growth_bytes_per_day: float
    reaches: Mapping[int, datetime]  # per cent -> moment; the past moment `now` when it is there

    @property
    def full_at(self) -> datetime | None:
        """Return when nothing fits any more, None when that is too far to tell."""
        return self.reaches.get(100)


def forecast(samples: Iterable[SpaceSample], now_s: float) -> Forecast | None:
    """Return the trend, None when there is none: under three days known, or it does not grow.

    Samples may come in any order, twice, or from the future (a clock that was wrong); those of the
    future count for nothing. After a volume was emptied or enlarged only the days since count.
    """
    days = _since_emptied(_daily(samples, now_s))
    if len(days) < LEAST_DAYS or days[-1].at_s - days[0].at_s < LEAST_SPAN_S:
        return None
    per_second = _slope(days)
    if per_second <= 0:
        return None
    last = days[-1]
    reaches = {}
    for percent in PERCENTS:
        left = last.total_bytes * percent / 100 - last.used_bytes
        seconds = max(0.0, left / per_second - (now_s - last.at_s))
        if seconds <= FARTHEST_S:
            reaches[percent] = datetime.fromtimestamp(now_s, UTC) + timedelta(seconds=seconds)
    return Forecast(growth_bytes_per_day=per_second * DAY_S, reaches=reaches)


def _daily(samples: Iterable[SpaceSample], now_s: float) -> list[SpaceSample]:
    """Return the last sample of each day of the window, oldest first."""
    days: dict[int, SpaceSample] = {}
    for sample in sorted(samples, key=lambda one: one.at_s):
        if now_s - WINDOW_S <= sample.at_s <= now_s and sample.total_bytes > 0:
            days[int(sample.at_s // DAY_S)] = sample
    return list(days.values())


def _since_emptied(days: Sequence[SpaceSample]) -> Sequence[SpaceSample]:
    start = 0
    for index, (before, after) in enumerate(pairwise(days), start=1):
        if before.used_bytes - after.used_bytes > EMPTIED_SHARE * before.total_bytes:
            start = index
    return days[start:]


def _slope(days: Sequence[SpaceSample]) -> float:
    """Return bytes per second."""
    return median(
        (after.used_bytes - before.used_bytes) / (after.at_s - before.at_s)
        for before, after in combinations(days, 2)
    )
