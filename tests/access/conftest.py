# SPDX-License-Identifier: Apache-2.0
"""Access on a temporary state directory, with a clock that tests move."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from scrigno.access.access import Access, AccessRules
from scrigno.core.counters import Counters


@dataclass
class HeldClock:
    """A clock that stands still until it is moved."""

    moment: datetime = field(default_factory=lambda: datetime(2026, 3, 1, 8, 0, tzinfo=UTC))
    seconds: float = 1000.0

    def now(self) -> datetime:
        return self.moment

    def monotonic(self) -> float:
        return self.seconds

    def move(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)
        self.seconds += seconds


@dataclass
class Limit:
    most: int | None = None


@pytest.fixture
def clock() -> HeldClock:
    return HeldClock()


@pytest.fixture
def limit() -> Limit:
    return Limit()


@pytest.fixture
async def access(tmp_path: Path, clock: HeldClock, limit: Limit) -> AsyncIterator[Access]:
    rules = AccessRules(max_connections=lambda: limit.most)
    made = Access(tmp_path, clock=clock, counters=Counters(), rules=rules)
    await made.open()
    yield made
    await made.close()
