# SPDX-License-Identifier: Apache-2.0
"""Staging: unnamed until kept, the directory is the journal, memory and room are bounded."""

import asyncio
import hashlib
import os
from pathlib import Path

import pytest

from scrigno.core.counters import Counters
from scrigno.volumes.staging import ObjectTooLarge, Staging, StagingFailed, StagingFull


async def test_a_small_object_is_sealed_with_its_digest_and_has_no_name(
    staging: Staging, tmp_path: Path
) -> None:
    thing = staging.begin(b"PREFIX", limit_bytes=1 << 20)
    assert thing.write(memoryview(b"hello"))
    assert thing.head == b"PREFIXhello"
    sealed = await thing.seal()
    assert sealed.digest == hashlib.sha256(b"PREFIXhello").hexdigest()
    assert sealed.size == 11
    assert await sealed.read(6, 100) == b"hello"
    assert list((tmp_path / "staging/journal").iterdir()) == []
    sealed.close()
    sealed.close()
    assert staging.used_bytes == 0


async def test_a_kept_object_stands_in_the_journal_with_its_note_after_a_restart(
    tmp_path: Path,
) -> None:
    first = Staging(tmp_path, capacity_bytes=1 << 30, counters=Counters())
    await first.open()
    thing = first.begin(b"abc", limit_bytes=1 << 20)
    sealed = await thing.seal()
    name = await sealed.keep({"key": "studies/a/b/c.dcm", "from": "CT1 – ü"})
    sealed.close()
    await first.close()

    second = Staging(tmp_path, capacity_bytes=1 << 30, counters=Counters())
    await second.open()
    (entry,) = await second.journal()
    assert (entry.name, entry.size) == (name, 3)
    assert entry.note == {"key": "studies/a/b/c.dcm", "from": "CT1 – ü"}
    assert entry.path.read_bytes() == b"abc"  # still a plain file, nothing added
    assert second.used_bytes == 3
    again = await second.open_entry(name)
    assert again.digest == sealed.digest
    again.close()
    await second.release(name)
    await second.release(name)
    assert await second.journal() == []
    assert second.used_bytes == 0
    await second.close()


async def test_a_note_can_be_replaced_once_kept(staging: Staging) -> None:
    thing = staging.begin(b"abc", limit_bytes=1 << 20)
    sealed = await thing.seal()
    name = await sealed.keep({"key": "a"})
    assert await sealed.keep({"key": "b"}) == name
    assert [entry.note for entry in await staging.journal()] == [{"key": "b"}]
    sealed.close()


async def test_a_large_object_flows_through_bounded_memory(staging: Staging) -> None:
    drained = asyncio.Event()
    thing = staging.begin(b"", limit_bytes=1 << 30)
    thing.on_drain = drained.set
    block = os.urandom(1 << 16)
    stops = 0
    for _ in range(40 * 16):
        if not thing.write(block):
            stops += 1
            await drained.wait()
            drained.clear()
        assert len(thing._full) <= 1
    sealed = await thing.seal()
    assert stops
    assert sealed.size == 40 << 20
    assert sealed.digest == hashlib.sha256(block * 640).hexdigest()
    assert thing.head == (block * 4)
    sealed.close()


async def test_a_small_object_may_be_answered_before_it_is_written(
    staging: Staging, tmp_path: Path
) -> None:
    content = os.urandom(200_000)
    thing = staging.begin(b"", limit_bytes=1 << 30)
    thing.write(content)
    sealed = thing.seal_early()
    assert sealed is not None
    assert not sealed.written
    assert (sealed.size, sealed.digest) == (len(content), hashlib.sha256(content).hexdigest())
    seen: list[bytes] = []
    name = await sealed.keep({}, written=lambda fd: seen.append(os.pread(fd, 1 << 20, 0)))
    assert sealed.written
    assert seen == [content]
    assert (tmp_path / "staging/journal" / name).read_bytes() == content
    sealed.close()
    assert staging.used_bytes == len(content)
    large = staging.begin(bytes(3 << 20), limit_bytes=1 << 30)
    assert large.seal_early() is None
    large.discard()


async def test_an_object_that_is_never_written_leaves_nothing(staging: Staging) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for run in range(3):
        had = len(staging._buffers)
        sealed = staging.begin(b"abc", limit_bytes=1 << 30).seal_early()
        assert sealed is not None
        if run:
            writing = asyncio.ensure_future(sealed.write())
            await asyncio.sleep(0)
            if run > 1:
                writing.cancel()
        sealed.close()
        await asyncio.sleep(0.1)
        assert len(staging._buffers) == max(had, 1)
    assert staging.used_bytes == 0
    assert len(os.listdir("/proc/self/fd")) == before


async def test_an_object_over_its_limit_is_refused_and_leaves_nothing(staging: Staging) -> None:
    thing = staging.begin(b"", limit_bytes=3 << 20)
    for _ in range(64):
        thing.write(bytes(1 << 16))
        await asyncio.sleep(0)
    with pytest.raises(ObjectTooLarge):
        await thing.seal()
    assert staging.used_bytes == 0


async def test_a_full_staging_hands_objects_to_the_spare_memory_and_keeps_none(
    tmp_path: Path,
) -> None:
    staging = Staging(tmp_path, capacity_bytes=1000, counters=Counters())
    await staging.open()
    first = await staging.begin(bytes(600), limit_bytes=1 << 20).seal()
    assert not staging.full
    spare = await staging.begin(bytes(600), limit_bytes=1 << 20).seal()
    assert spare.in_spare
    assert await spare.read(0, 600) == bytes(600)
    with pytest.raises(StagingFull):
        await spare.keep({})
    assert (staging.used_bytes, staging.spool.used_bytes) == (600, 600)
    second = await staging.begin(bytes(400), limit_bytes=1 << 20).seal()
    assert staging.full
    assert not second.in_spare
    for each in (first, second, spare):
        each.close()
    assert staging.used_bytes == staging.spool.used_bytes == 0
    await staging.close()


async def test_a_discarded_object_leaves_neither_bytes_nor_descriptors(staging: Staging) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for size in (10, 5 << 20):
        thing = staging.begin(bytes(size), limit_bytes=1 << 30)
        thing.discard()
        thing.discard()
        with pytest.raises(StagingFailed):
            await thing.seal()
    sealing = asyncio.ensure_future(staging.begin(bytes(9 << 20), limit_bytes=1 << 30).seal())
    await asyncio.sleep(0.001)
    sealing.cancel()
    await asyncio.wait([sealing])
    await asyncio.sleep(0.2)
    assert staging.used_bytes == 0
    assert len(os.listdir("/proc/self/fd")) == before


async def test_a_place_that_cannot_be_a_staging_directory_is_refused_in_words(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").write_bytes(b"")
    staging = Staging(tmp_path / "file", capacity_bytes=1, counters=Counters())
    with pytest.raises(StagingFailed, match="Not a directory"):
        await staging.open()


@pytest.mark.spec("ST-5")
@pytest.mark.parametrize("how", [1, 2])
async def test_a_staging_disk_that_dies_fails_the_object_and_not_the_daemon(
    filesystem, how: int
) -> None:
    disk = filesystem("ssd")
    staging = Staging(disk.mount_point, capacity_bytes=1 << 30, counters=Counters())
    await staging.open()
    before = await staging.begin(b"before", limit_bytes=1 << 20).seal()
    disk.shutdown(how)
    with pytest.raises(StagingFailed):
        await before.keep({"key": "a"})
    assert staging.failure == "Input/output error"
    assert os.pread(await before.to_spare(), 100, 0) == b"before"
    before.close()
    with pytest.raises(StagingFailed):
        await staging.journal()
    after = await staging.begin(b"after", limit_bytes=1 << 20).seal()
    with pytest.raises(StagingFailed):
        await after.keep({})
    after.close()
    large = await staging.begin(bytes(5 << 20), limit_bytes=1 << 30).seal()
    assert large.in_spare
    large.close()
    assert staging.used_bytes == staging.spool.used_bytes == 0
    await staging.close()


@pytest.mark.spec("ST-7")
async def test_a_staging_disk_without_room_is_full_and_not_broken(filesystem) -> None:
    disk = filesystem("ssd")
    staging = Staging(disk.mount_point, capacity_bytes=1 << 40, counters=Counters())
    await staging.open()
    large = await staging.begin(bytes(80 << 20), limit_bytes=1 << 30).seal()
    assert large.in_spare
    with pytest.raises(StagingFull):
        await large.keep({})
    large.close()
    assert staging.failure == ""
    await asyncio.sleep(0.3)  # what was written there is closed in the executor
    small = await staging.begin(b"fits", limit_bytes=1 << 30).seal()
    assert await small.keep({})
    small.close()
    await staging.close()
