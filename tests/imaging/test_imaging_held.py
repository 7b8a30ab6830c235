# SPDX-License-Identifier: Apache-2.0
"""Objects stay open between pictures: fetched once, parsed once, let go when nobody asks."""

import asyncio
import os
from collections.abc import AsyncIterator

import numpy as np
import pytest
from imaging_objects import image, part10

from scrigno.core.counters import Counters
from scrigno.imaging import held, shelf
from scrigno.imaging.errors import NoSuchFrame
from scrigno.imaging.held import Held
from scrigno.imaging.protocol import memory_file
from scrigno.imaging.shelf import Shelf
from scrigno.imaging.workers import ImagingPool

pytestmark = pytest.mark.spec("VW-4")

FILM = part10(image(np.random.default_rng(1).integers(0, 255, (20, 32, 32), np.uint8)))
KEY = "ab" * 32


@pytest.fixture
async def pool() -> AsyncIterator[ImagingPool]:
    made = ImagingPool(2, counters=Counters())
    yield made
    await made.close()


async def test_a_film_is_fetched_once_for_all_its_frames(pool: ImagingPool) -> None:
    fetched = 0

    async def fetch() -> int:
        nonlocal fetched
        fetched += 1
        await asyncio.sleep(0.05)
        return memory_file(FILM)

    before = len(os.listdir("/proc/self/fd"))
    frames = await asyncio.gather(*(pool.render(fetch, frame=each, key=KEY) for each in range(20)))
    assert len({each.content for each in frames}) == 20
    assert fetched == 1
    with pytest.raises(NoSuchFrame):
        await pool.render(fetch, frame=20, key=KEY)
    await pool.close()
    assert len(os.listdir("/proc/self/fd")) <= before


async def test_a_fetch_that_fails_is_told_and_tried_again(pool: ImagingPool) -> None:
    async def failing() -> int:
        raise NoSuchFrame("gone")

    async def fetch() -> int:
        return memory_file(FILM)

    with pytest.raises(NoSuchFrame):
        await pool.render(failing, key=KEY)
    assert (await pool.render(fetch, key=KEY)).frames == 20


async def test_the_shelf_holds_no_more_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelf, "SHELF_BYTES", 3000)
    monkeypatch.setattr(shelf, "IDLE_S", 0.2)
    shelved = Shelf()

    async def fetch() -> int:
        return memory_file(bytes(1000))

    try:
        for name in "abcdef":
            os.close(await shelved.get(name, fetch))
        assert list(shelved._kept) == ["d", "e", "f"]
        await asyncio.sleep(0.5)
        assert not shelved._kept
    finally:
        await shelved.close()


def test_a_worker_lets_go_what_nobody_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    fds = [memory_file(FILM) for _ in range(6)]
    open_now = Held()
    first = open_now.get("0", fds[0])
    assert open_now.get("0", fds[0]) is first
    frame = first.frame(3)
    assert first.frame(3) is frame
    for each in range(1, 6):
        open_now.get(str(each), fds[each])
    assert len(open_now._open) == held.MOST
    assert first.stream.closed
    monkeypatch.setattr(held, "IDLE_S", -1.0)
    open_now.sweep()
    assert not open_now._open
    for fd in fds:
        os.close(fd)
