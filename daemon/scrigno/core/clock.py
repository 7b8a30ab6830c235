# SPDX-License-Identifier: Apache-2.0
"""Time as a thing that is passed in, so that tests can hold it."""

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Wall time (aware, UTC) for records and monotonic seconds for durations."""

    def now(self) -> datetime:
        """Return aware UTC time."""

    def monotonic(self) -> float:
        """Return seconds that never step back."""


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        """Return aware UTC time."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds that never step back."""
        return time.monotonic()
