# SPDX-License-Identifier: Apache-2.0
"""How late the event loop comes to what is due: the one figure that tells that something blocks it.

A tick is due every TICK_S; how much later it comes is the lag. A loop that stood still for a second
missed ten ticks, and each of them counts with the time it would have waited, or one long stop
would pass for one bad tick among six hundred (coordinated omission, G. Tene, HdrHistogram).
"""

import asyncio
from collections import deque
from typing import Final

TICK_S: Final = 0.1  # ten wake-ups a second are 0.1 % of a processor, fifty were 0.6 %
WINDOW_S: Final = 60.0
TICKS: Final = int(WINDOW_S / TICK_S)


class LoopLag:
    """The lags of the last minute, in seconds. Loop thread only."""

    def __init__(self) -> None:
        """Know nothing yet; `start` begins to tick."""
        self._lags: deque[float] = deque(maxlen=TICKS)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to tick."""
        self._task = asyncio.get_running_loop().create_task(self._tick(), name="loop lag")

    async def close(self) -> None:
        """Stop; idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    def note(self, late_s: float) -> None:
        """Count one tick that came so late, and those that were due meanwhile."""
        for missed in range(min(int(late_s / TICK_S), TICKS - 1), -1, -1):
            self._lags.append(late_s - missed * TICK_S)

    def p99(self) -> float:
        """Return the lag that 99 of 100 ticks of the last minute kept; 0 before the first tick."""
        ordered = sorted(self._lags)
        return ordered[int(len(ordered) * 0.99)] if ordered else 0.0

    def most(self) -> float:
        """Return the worst of the last minute."""
        return max(self._lags, default=0.0)

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + TICK_S
        while True:
            await asyncio.sleep(due - loop.time())
            late = max(loop.time() - due, 0.0)
            self.note(late)
            due += TICK_S * (1 + int(late / TICK_S))
