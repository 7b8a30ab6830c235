# SPDX-License-Identifier: Apache-2.0
"""Moments in between: a worker lost at a turn, a reader that leaves, an entry that vanishes."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from scrigno.volumes.staging import Staging, StagingFailed
from scrigno.volumes.states import ErrorKind, VolumeError


async def _put(b, key: str, content: bytes) -> None:
    sealed = await b.sealed(content)
    try:
        await b.volumes.by_name("data").put(
            key, fd=sealed.fd, size=sealed.size, digest=sealed.digest
        )
    finally:
        sealed.close()


async def test_a_request_whose_turn_comes_with_the_loss_of_the_link_fails_in_words(
    box, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    async with box(data=tmp_path / "data") as b:
        link = b.volumes.by_name("data").link
        lane = link._lanes[0]
        waiting = [asyncio.create_task(link._turn(lane)) for _ in range(2)]
        call = asyncio.create_task(b.volumes.by_name("data").remove("studies/1/2/3.dcm"))
        lane.busy = lane.width
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        lane.free_one()  # its turn comes …
        link.lose(ErrorKind.OFFLINE, "it was let go")  # … with the loss, before it has run again
        with pytest.raises(VolumeError):
            await call


async def test_a_reader_that_leaves_at_the_last_moment_leaves_no_descriptor(
    box, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    async with box(data=tmp_path / "data") as b:
        await _put(b, "studies/1/2/3.dcm", b"x" * 5000)
        volume = b.volumes.by_name("data")
        await asyncio.sleep(0.1)  # the file of the put is closed in a thread
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            reading = asyncio.create_task(volume.read_memfd("studies/1/2/3.dcm"))
            await asyncio.sleep(0)
            # the answer and the cancellation meet in one round of the loop, in this order
            asyncio.get_running_loop().call_later(0.01, reading.cancel)
            time.sleep(0.2)
            with pytest.raises(asyncio.CancelledError):
                await reading
        assert len(os.listdir("/proc/self/fd")) == before


async def test_an_entry_of_the_journal_that_cannot_be_read_leaves_no_descriptor(
    staging: Staging, tmp_path: Path
) -> None:
    (tmp_path / "staging" / "journal" / "broken").mkdir()  # opens, and answers reads with an error
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(StagingFailed):
            await staging.open_entry("broken")
    assert len(os.listdir("/proc/self/fd")) == before


async def test_an_entry_released_while_the_journal_is_read_is_left_out(
    staging: Staging, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = tmp_path / "staging" / "journal"
    for name in ("1", "2"):
        (journal / name).write_bytes(b"object")
    getxattr = os.getxattr

    def released(path, name: str) -> bytes:
        (journal / "1").unlink(missing_ok=True)
        return getxattr(path, name)

    monkeypatch.setattr(os, "getxattr", released)
    assert [entry.name for entry in await staging.journal()] == ["2"]


async def test_a_journal_that_cannot_be_read_says_so(staging: Staging) -> None:
    folder, staging._folder_fd = staging._folder_fd, os.open("/dev/null", os.O_RDONLY)
    with pytest.raises(StagingFailed):
        await staging.journal()
    os.close(staging._folder_fd)
    staging._folder_fd = folder
