# SPDX-License-Identifier: Apache-2.0
"""Puts that begin before their bytes are in a file: sent by the thread that writes them, or not."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from scrigno.volumes.placement import KeyConflict, NoDurableStorage
from scrigno.volumes.sealed import Sealed
from scrigno.volumes.staging import StagingFull
from scrigno.volumes.states import ErrorKind, VolumeError

KEY = "studies/1/2/3.dcm"


def _early(b, content: bytes) -> Sealed:
    sealed = b.staging.begin(content, limit_bytes=1 << 30).seal_early()
    assert sealed is not None
    return sealed


async def test_an_object_is_written_kept_and_copied_by_one_job(box, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    async with box(data=tmp_path / "data") as b:
        sealed = _early(b, b"x" * 5000)
        placed = await b.placement.store(sealed, KEY, {"key": KEY})
        assert (placed.copies, placed.staged_as) == (("data",), sealed.name)
        assert (tmp_path / "data" / KEY).read_bytes() == b"x" * 5000
        assert (tmp_path / "staging/journal" / str(sealed.name)).read_bytes() == b"x" * 5000
        sealed.close()
        assert b.volumes.by_name("data").link._lanes[0].busy == 0
        assert len(b.staging._hands._threads) == 1


async def test_a_worker_that_dies_before_the_bytes_come_is_replaced_and_asked_again(
    box, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    async with box(data=tmp_path / "data") as b:
        os.kill(b.volumes.by_name("data").link.process.pid, signal.SIGKILL)
        sealed = _early(b, b"x" * 5000)
        placed = await b.placement.store(sealed, KEY, {"key": KEY})
        assert placed.copies == ("data",)
        assert (tmp_path / "data" / KEY).read_bytes() == b"x" * 5000
        sealed.close()


async def test_a_lane_without_a_turn_makes_the_put_wait_for_the_bytes(box, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    async with box(data=tmp_path / "data") as b:
        lane = b.volumes.by_name("data").link._lanes[0]
        sealed = _early(b, b"x" * 5000)
        lane.busy = lane.width
        storing = asyncio.ensure_future(b.placement.store(sealed, KEY, {"key": KEY}))
        await asyncio.sleep(0.05)
        assert sealed.written
        lane.free_one()
        assert (await storing).copies == ("data",)
        sealed.close()
        assert lane.busy == lane.width - 1


async def test_bytes_that_staging_cannot_write_are_copied_from_memory(box, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    async with box(data=tmp_path / "data") as b:
        folder, b.staging._folder_fd = b.staging._folder_fd, os.open("/dev/null", os.O_RDONLY)
        sealed = _early(b, b"x" * 5000)
        placed = await b.placement.store(sealed, KEY, {"key": KEY})
        assert (placed.copies, placed.staged_as, placed.degraded) == (("data",), None, True)
        sealed.close()
        os.close(b.staging._folder_fd)
        b.staging._folder_fd = folder
        assert (tmp_path / "data" / KEY).read_bytes() == b"x" * 5000
        link = b.volumes.by_name("data").link
        assert link._lanes[0].busy == 0
        assert not link._pending
        assert b.staging.used_bytes == b.staging.spool.used_bytes == 0


async def test_bytes_that_neither_staging_nor_memory_takes_leave_no_put_behind(
    box, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    async with box(data=tmp_path / "data") as b:
        b.staging.spool._total_bytes = 1000
        folder, b.staging._folder_fd = b.staging._folder_fd, os.open("/dev/null", os.O_RDONLY)
        sealed = _early(b, b"x" * 5000)
        with pytest.raises(StagingFull, match="spare memory"):
            await b.placement.store(sealed, KEY, {"key": KEY})
        sealed.close()
        os.close(b.staging._folder_fd)
        b.staging._folder_fd = folder
        link = b.volumes.by_name("data").link
        assert link._lanes[0].busy == 0
        assert not link._pending
        assert b.staging.used_bytes == b.staging.spool.used_bytes == 0
        assert not (tmp_path / "data" / KEY).exists()


async def test_a_conflict_and_a_lack_of_volumes_are_told_of_early_objects_too(
    box, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    async with box(data=tmp_path / "data") as b:
        await b.store(KEY, b"first")
        sealed = _early(b, b"other")
        with pytest.raises(KeyConflict):
            await b.placement.store(sealed, KEY, {"key": KEY})
        placed = await b.placement.store(sealed, "inbox/a.dcm", {"key": "inbox/a.dcm"})
        assert placed.copies == ("data",)
        sealed.close()
    async with box() as b:
        before = len(await b.staging.journal())
        sealed = _early(b, b"x")
        with pytest.raises(NoDurableStorage):
            await b.placement.store(sealed, KEY, {"key": KEY})
        sealed.close()
        assert len(await b.staging.journal()) == before


async def test_a_posted_put_is_dropped_fails_with_its_link_and_is_not_timed_before_it_is_sent(
    box, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    async with box(data=tmp_path / "data") as b:
        volume = b.volumes.by_name("data")
        lane = volume.link._lanes[0]
        dropped = volume.post_put(KEY, size=3, digest="00" * 32)
        dropped.drop()
        dropped.drop()
        assert lane.busy == 0
        file = os.open(tmp_path, os.O_TMPFILE | os.O_RDWR)
        dropped.send(file)  # goes nowhere
        waiting = volume.post_put(KEY, size=3, digest="00" * 32)
        await asyncio.sleep(2.2)  # longer than an operation may be silent
        assert volume.link.failure is None
        volume.link.lose(ErrorKind.OFFLINE, "it was let go")
        waiting.send(file)  # the socket is closed, and this is noticed
        with pytest.raises(VolumeError):
            await volume.posted_put(waiting, size=3)
        os.close(file)
