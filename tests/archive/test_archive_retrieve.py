# SPDX-License-Identifier: Apache-2.0
"""What is stored comes back, from whichever copy is good."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from archivebox import EXPLICIT_LE, Box, Made, made

from scrigno.archive.errors import ObjectUnavailable
from scrigno.catalogue.records import StoredInstance
from scrigno.volumes.states import ErrorKind, VolumeError, VolumeState

SMALL = made(1, pixels=100_000)
LARGE = made(2, pixels=5 << 20)


async def stored_twice(box: Box, one: Made) -> StoredInstance:
    """Store an object and bring it to both volumes; staging lets it go."""
    await box.store(one)
    for volume in box.volumes.ordered:
        await box.replicator.pay(volume)
    await box.replicator.tidy()
    assert await box.staged() == 0
    row = await box.catalogue.instance(one.uid)
    assert len(row.held_by()) == 2
    return row


async def whole(chunks: AsyncIterator[bytes]) -> bytes:
    parts = [chunk async for chunk in chunks]
    assert all(0 < len(part) <= 1 << 20 for part in parts)
    return b"".join(parts)


def damage(path: Path, offset: int = -1) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 0xFF
    path.write_bytes(content)


@pytest.mark.parametrize("one", [SMALL, LARGE], ids=["small", "large"])
async def test_the_whole_file_and_the_data_set_come_back(box: Box, one: Made) -> None:
    row = await stored_twice(box, one)
    stream = box.retrieval.open(row)
    assert stream.size == len(one.file)
    assert await whole(stream.chunks) == one.file
    stream = await box.retrieval.data_set(row)
    assert (stream.transfer_syntax_uid, stream.size) == (EXPLICIT_LE, len(one.data))
    assert await whole(stream.chunks) == one.data
    assert await box.retrieval.read(row, limit_bytes=1 << 30) == one.file
    with pytest.raises(ObjectUnavailable):
        await box.retrieval.read(row, limit_bytes=100)
    fd = await box.retrieval.memfd(row)
    try:
        assert os.pread(fd, 1 << 30, 0) == one.file
    finally:
        os.close(fd)


@pytest.mark.spec("ST-3")
@pytest.mark.parametrize("one", [SMALL, LARGE], ids=["small", "large"])
async def test_a_missing_copy_is_passed_over(box: Box, one: Made) -> None:
    row = await stored_twice(box, one)
    (box.root / "data" / one.key).unlink()
    suspects: list[StoredInstance] = []
    box.retrieval.on_suspect = suspects.append
    assert await whole(box.retrieval.open(row).chunks) == one.file
    assert suspects == [row]
    fd = await box.retrieval.memfd(row)
    os.close(fd)


@pytest.mark.spec("ST-3")
@pytest.mark.parametrize("one", [SMALL, LARGE], ids=["small", "large"])
async def test_a_volume_that_is_away_is_not_asked(box: Box, one: Made) -> None:
    row = await stored_twice(box, one)
    box.volumes.by_name("data").state = VolumeState.OFFLINE
    assert await whole(box.retrieval.open(row).chunks) == one.file


@pytest.mark.spec("ST-3")
async def test_a_volume_that_fails_in_the_middle_is_replaced_at_the_same_byte(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = await stored_twice(box, LARGE)
    data = box.volumes.by_name("data")
    reading = data.read

    async def breaks(key: str, offset: int = 0, length: int | None = None):
        sent = 0
        async for chunk in reading(key, offset, length):
            if sent >= 2 << 20:
                raise VolumeError("data", ErrorKind.IO, "Input/output error")
            sent += len(chunk)
            yield chunk

    monkeypatch.setattr(data, "read", breaks)
    assert await whole(box.retrieval.open(row).chunks) == LARGE.file
    assert box.counters.value("retrieve_failovers", volume="data", kind="io") == 1


@pytest.mark.spec("ST-6")
async def test_a_damaged_small_copy_never_leaves_the_box(box: Box) -> None:
    row = await stored_twice(box, SMALL)
    damage(box.root / "data" / SMALL.key)
    suspects: list[StoredInstance] = []
    box.retrieval.on_suspect = suspects.append
    assert await whole(box.retrieval.open(row).chunks) == SMALL.file
    assert suspects == [row]
    damage(box.root / "backup1" / SMALL.key)
    with pytest.raises(ObjectUnavailable):
        await whole(box.retrieval.open(row).chunks)


@pytest.mark.spec("ST-6")
async def test_a_damaged_large_copy_breaks_the_stream_before_its_end(box: Box) -> None:
    row = await stored_twice(box, LARGE)
    damage(box.root / "data" / LARGE.key, 1_000_000)
    got: list[bytes] = []

    async def reader() -> None:
        got.extend([chunk async for chunk in box.retrieval.open(row).chunks])

    with pytest.raises(ObjectUnavailable):
        await reader()
    assert sum(map(len, got)) < len(LARGE.file)


async def test_a_copy_that_is_cut_short_is_completed_from_the_next(box: Box) -> None:
    row = await stored_twice(box, LARGE)
    path = box.root / "data" / LARGE.key
    path.write_bytes(LARGE.file[: 3 << 20])
    assert await whole(box.retrieval.open(row).chunks) == LARGE.file


@pytest.mark.parametrize("one", [SMALL, LARGE], ids=["small", "large"])
async def test_staging_is_read_when_no_volume_can_be(box: Box, one: Made) -> None:
    await box.store(one)
    row = await box.catalogue.instance(one.uid)
    for volume in box.volumes.ordered:
        volume.state = VolumeState.OFFLINE
    assert await whole(box.retrieval.open(row).chunks) == one.file
    fd = await box.retrieval.memfd(row)
    try:
        assert os.pread(fd, 1 << 30, 0) == one.file
    finally:
        os.close(fd)
    await box.staging.release(row.staged_as)
    with pytest.raises(ObjectUnavailable):
        await whole(box.retrieval.open(row).chunks)
    with pytest.raises(ObjectUnavailable):
        await box.retrieval.data_set(row)
    with pytest.raises(ObjectUnavailable):
        await box.retrieval.memfd(row)


@pytest.mark.spec("ST-3")
@pytest.mark.parametrize("one", [SMALL, LARGE], ids=["small", "large"])
async def test_a_retrieval_that_began_before_the_copies_were_made_finds_them(
    box: Box, one: Made
) -> None:
    await box.store(one)
    before = await box.catalogue.instance(one.uid)
    assert before is not None
    first, *others = before.held_by()
    assert not others
    assert before.staged_as is not None
    for volume in box.volumes.ordered:
        await box.replicator.pay(volume)
    await box.replicator.tidy()
    assert await box.staged() == 0
    (box.root / first / before.key).unlink()  # the one copy that it knows of is lost
    assert await whole(box.retrieval.open(before).chunks) == one.file
    os.close(await box.retrieval.memfd(before))


async def test_without_any_copy_the_reader_is_told_why(box: Box) -> None:
    row = await stored_twice(box, SMALL)
    for volume in box.volumes.ordered:
        volume.state = VolumeState.ABSENT
    with pytest.raises(ObjectUnavailable) as caught:
        await box.retrieval.data_set(row)
    assert caught.value.next_step


async def test_a_reader_that_leaves_early_leaves_nothing_open(box: Box) -> None:
    row = await stored_twice(box, LARGE)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        stream = box.retrieval.open(row)
        async for _chunk in stream.chunks:
            break
        await stream.chunks.aclose()
        stream = await box.retrieval.data_set(row)
        await stream.chunks.aclose()
    assert len(os.listdir("/proc/self/fd")) <= before + 1
