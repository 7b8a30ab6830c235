# SPDX-License-Identifier: Apache-2.0
"""A reader does not wait for a disk that is silent: the next copy is asked beside it."""

import asyncio
import contextlib
import hashlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from archivebox import Box, Made, made

from scrigno.archive import retrieve
from scrigno.archive.errors import ObjectUnavailable
from scrigno.volumes.states import VolumeState


@contextlib.contextmanager
def silent(box: Box, *names: str) -> Iterator[None]:
    """Stop the workers of volumes, as a disk does that hangs."""
    pids = [box.volumes.by_name(name).link.process.pid for name in names]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
        while " T " not in Path(f"/proc/{pid}/stat").read_text():
            time.sleep(0.001)  # its threads stop one by one
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


async def stored(box: Box, one: Made, *, staged: bool = False):
    """Store an object on both volumes, and away from staging unless it is to stand there."""
    await box.store(one)
    if not staged:
        await box.replicator.pay(box.volumes.by_name("backup1"))
    row = await box.catalogue.instance(one.uid)
    assert (row.staged_as is not None) is staged
    await box.until(lambda: len(box.volumes.healthy()) == 2)
    return row


async def whole(box: Box, row) -> bytes:
    return b"".join([chunk async for chunk in box.retrieval.open(row).chunks])


SIZES = pytest.mark.parametrize("pixels", [50_000, 5 << 20], ids=["small", "large"])


@pytest.mark.timing
@pytest.mark.spec("ST-3")
@SIZES
@pytest.mark.parametrize("staged", [False, True], ids=["backup", "staging"])
async def test_a_silent_copy_is_joined_by_the_next(box: Box, pixels: int, staged: bool) -> None:
    one = made(pixels=pixels)
    row = await stored(box, one, staged=staged)
    with silent(box, "data"):
        started = time.monotonic()
        assert await whole(box, row) == one.file
        assert retrieve.HEDGE_S <= time.monotonic() - started < retrieve.HEDGE_S + 2
    assert box.counters.value("retrieve_failovers", volume="data", kind="silent") == 1


@pytest.mark.spec("ST-3")
@pytest.mark.parametrize("staged", [False, True], ids=["backup", "staging"])
async def test_a_memory_file_comes_from_the_next_copy_too(
    box: Box, monkeypatch: pytest.MonkeyPatch, staged: bool
) -> None:
    monkeypatch.setattr(retrieve, "HEDGE_S", 0.3)
    one = made(pixels=300_000)
    row = await stored(box, one, staged=staged)
    with silent(box, "data"):
        fd = await box.retrieval.memfd(row)
    assert os.pread(fd, 1 << 20, 0) == one.file
    os.close(fd)


@pytest.mark.spec("ST-3")
@SIZES
async def test_when_all_are_slow_the_first_to_answer_is_taken(
    box: Box, monkeypatch: pytest.MonkeyPatch, pixels: int
) -> None:
    monkeypatch.setattr(retrieve, "HEDGE_S", 0.2)
    one = made(pixels=pixels)
    row = await stored(box, one)
    with silent(box, "backup1"):
        with silent(box, "data"):
            reading = asyncio.ensure_future(whole(box, row))
            await asyncio.sleep(0.8)
            assert not reading.done()
        assert await reading == one.file


async def test_a_large_object_goes_on_where_the_silent_copy_stopped(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrieve, "HEDGE_S", 0.3)
    one = made(pixels=6 << 20)
    row = await stored(box, one)
    asked: list[int] = []
    backup = box.volumes.by_name("backup1")
    read = backup.read
    monkeypatch.setattr(
        backup, "read", lambda key, offset=0: (asked.append(offset), read(key, offset))[1]
    )
    chunks = box.retrieval.open(row).chunks
    got = [await anext(chunks)]
    with silent(box, "data"):
        got += [chunk async for chunk in chunks]
    assert b"".join(got) == one.file
    assert len(asked) == 1
    assert asked[0] >= 1 << 20


@pytest.mark.spec("ST-6")
async def test_the_next_copy_of_a_silent_one_is_checked_as_well(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrieve, "HEDGE_S", 0.2)
    one = made(pixels=50_000)
    row = await stored(box, one)
    path = box.root / "backup1" / one.key
    path.chmod(0o600)
    path.write_bytes(one.file[:-1] + bytes([one.file[-1] ^ 1]))
    with silent(box, "data"):
        reading = asyncio.ensure_future(whole(box, row))
        await asyncio.sleep(0.6)
        assert not reading.done()  # rather none than a wrong one
    assert await reading == one.file
    assert box.counters.value("retrieve_damaged_copies", volume="backup1") == 1


async def test_healthy_copies_come_first(box: Box) -> None:
    one = made()
    row = await stored(box, one)
    data, backup = box.volumes.by_name("data"), box.volumes.by_name("backup1")
    orders = {}
    for state in VolumeState:
        data.state = state
        orders[state] = [each.name for each in box.retrieval._sources(row)]
    data.state = VolumeState.ONLINE
    assert orders[VolumeState.ONLINE] == ["data", "backup1"]
    for state in (VolumeState.SUSPECT, VolumeState.RECOVERING, VolumeState.FULL):
        assert orders[state] == ["backup1", "data"]
    assert orders[VolumeState.OFFLINE] == ["backup1"]
    assert backup.state is VolumeState.ONLINE


async def test_an_object_larger_than_a_volume_hands_over_at_once_comes_as_memory_too(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the limit of one gigabyte, smaller
    monkeypatch.setattr(retrieve, "MEMORY_FILE_BYTES", 1 << 20)
    monkeypatch.setattr("scrigno.volumes.operations.MEMORY_LIMIT", 1 << 20)
    one = made(pixels=3 << 20)
    row = await stored(box, one)
    fd = await box.retrieval.memfd(row)
    assert hashlib.sha256(os.pread(fd, 4 << 20, 0)).hexdigest() == row.digest
    assert os.lseek(fd, 0, os.SEEK_CUR) == 0
    os.close(fd)
    assert box.counters.value("retrieve_damaged_copies", volume="data") == 0


async def test_a_memory_file_of_nothing_is_refused_in_words(box: Box) -> None:
    one = made()
    row = await stored(box, one)
    for name in box.names:
        (box.root / name / one.key).unlink()
    with pytest.raises(ObjectUnavailable):
        await box.retrieval.memfd(row)
