# SPDX-License-Identifier: Apache-2.0
"""How long somebody who guessed wrong must wait: 1, 2, 4 … 60 s, and never for good."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from scrigno.core.clock import Clock

LONGEST_S: Final = 60.0
FORGET_AFTER_S: Final = 3600.0
MOST_KEYS: Final = 20_000  # an attacker with many addresses must not fill the memory


@dataclass(slots=True)
class _Failures:
    count: int
    last: float


class Backoff:
    """Counts failures per key; an attempt counts as failed until it succeeds.

    So a thousand attempts at the same moment are not a thousand free guesses.
    """

    def __init__(self, *, free: int, clock: Clock) -> None:
        """Let `free` failures pass before anybody waits."""
        self._free = free
        self._clock = clock
        self._failures: OrderedDict[str, _Failures] = OrderedDict()

    def wait_s(self, key: str) -> float:
        """Return how many seconds this key has still to wait; 0 is go on."""
        found = self._failures.get(key)
        if found is None:
            return 0.0
        passed = self._clock.monotonic() - found.last
        if passed > FORGET_AFTER_S:
            del self._failures[key]
            return 0.0
        over = found.count - self._free
        delay = min(LONGEST_S, 2.0 ** min(over - 1, 10)) if over > 0 else 0.0
        return max(0.0, delay - passed)

    def attempt(self, key: str) -> None:
        """Count an attempt as failed."""
        found = self._failures.setdefault(key, _Failures(0, 0.0))
        found.count += 1
        found.last = self._clock.monotonic()
        self._failures.move_to_end(key)
        while len(self._failures) > MOST_KEYS:
            self._failures.popitem(last=False)

    def success(self, key: str) -> None:
        """Forget the failures of this key."""
        self._failures.pop(key, None)

    def uncount(self, key: str) -> None:
        """Take back one attempt that succeeded, keeping the others' failures."""
        found = self._failures.get(key)
        if found is not None:
            found.count -= 1
