# SPDX-License-Identifier: Apache-2.0
"""The lag of the loop is told as those feel it who wait for it."""

import asyncio
import time

import pytest

from scrigno.app.loop_lag import TICK_S, LoopLag


@pytest.mark.timing
async def test_a_loop_that_stood_still_is_seen_in_every_tick_it_missed() -> None:
    lag = LoopLag()
    lag.start()
    try:
        await asyncio.sleep(0.2)
        assert lag.most() < 0.2
        _stand_still(0.5)
        await asyncio.sleep(2 * TICK_S)
        assert 0.4 < lag.most() < 1.5
        assert lag.p99() > 0.3, "one long stop is more than one bad tick"
    finally:
        await lag.close()


def test_the_missed_ticks_wait_ever_shorter() -> None:
    lag = LoopLag()
    lag.note(0.0)
    assert (lag.p99(), lag.most()) == (0.0, 0.0)
    lag.note(0.1)
    assert lag.most() == pytest.approx(0.1)
    for _ in range(100_000):
        lag.note(0.001)
    assert lag.p99() == pytest.approx(0.001)


def _stand_still(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
