# SPDX-License-Identifier: Apache-2.0
"""Staging dies, fills up or hangs under arriving objects: the volumes take them all the same."""

import asyncio
import hashlib
import os
import time
from pathlib import Path

import pytest

from scrigno.core.counters import Counters
from scrigno.volumes import arriving
from scrigno.volumes.attempt import HEDGE_S
from scrigno.volumes.placement import IngestPolicy
from scrigno.volumes.spool import Spool
from scrigno.volumes.staging import Patience, Staging, StagingFailed, StagingFull

pytestmark = pytest.mark.timeout(90)
QUICK = Patience(hang_s=1.0, retry_s=0.1, hold_s=0.3)


async def _opened(path: Path, **how) -> Staging:
    how = {"capacity_bytes": 1 << 30, "patience": QUICK} | how
    staging = Staging(path, counters=Counters(), **how)
    await staging.open()
    return staging


async def _until(condition, limit_s: float = 30.0) -> None:
    async with asyncio.timeout(limit_s):
        while not condition():
            await asyncio.sleep(0.02)


async def _poured(staging: Staging, content: bytes, midway=lambda: None):
    """Let an object arrive in pieces; `midway` is called at its half."""
    drained = asyncio.Event()
    thing = staging.begin(b"", limit_bytes=1 << 30)
    thing.on_drain = drained.set
    for place in range(0, len(content), 1 << 17):
        if place == (len(content) // 2) & ~((1 << 17) - 1):
            midway()
        drained.clear()
        if not thing.write(content[place : place + (1 << 17)]):
            await drained.wait()
    return thing


def _bytes_of(fd: int) -> bytes:
    return os.pread(fd, 1 << 30, 0)


@pytest.mark.spec("ST-3", "ST-5")
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
async def test_an_object_whose_staging_dies_under_it_is_whole_in_memory(
    filesystem, kind: str
) -> None:
    disk = filesystem("ssd", kind=kind)
    staging = await _opened(disk.mount_point)
    content = os.urandom(20 << 20)
    thing = await _poured(staging, content, disk.shutdown)
    sealed = await thing.seal()
    assert sealed.in_spare
    assert sealed.digest == hashlib.sha256(content).hexdigest()
    assert _bytes_of(sealed.fd) == content
    sealed.close()
    assert (staging.used_bytes, staging.spool.used_bytes, staging.kept_bytes) == (0, 0, 0)
    await staging.close()


@pytest.mark.spec("ST-3", "ST-5")
async def test_an_object_too_large_for_memory_is_read_back_from_a_disk_that_hangs(
    filesystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arriving, "KEPT_BYTES", 2 << 20)
    disk = filesystem("ssd")
    staging = await _opened(disk.mount_point)
    content = os.urandom(12 << 20)
    sealed = await (await _poured(staging, content, disk.freeze)).seal()
    assert sealed.in_spare
    assert _bytes_of(sealed.fd) == content
    sealed.close()
    assert "hang" in staging.failure
    disk.thaw()
    await _until(lambda: not staging.failure)
    assert (staging.used_bytes, staging.spool.used_bytes, staging.kept_bytes) == (0, 0, 0)
    await staging.close()


async def test_an_object_that_is_nowhere_any_more_is_refused_and_leaves_nothing(
    filesystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arriving, "KEPT_BYTES", 2 << 20)
    disk = filesystem("ssd")
    staging = await _opened(disk.mount_point)
    with pytest.raises(StagingFailed):
        await (await _poured(staging, os.urandom(12 << 20), disk.shutdown)).seal()
    assert (staging.used_bytes, staging.spool.used_bytes, staging.kept_bytes) == (0, 0, 0)
    await staging.close()


@pytest.mark.parametrize(
    ("spool", "words"),
    [
        (Spool(object_bytes=1 << 20), "up to 1 MiB"),
        (Spool(total_bytes=1 << 20), "1 MiB of spare memory are taken"),
    ],
)
async def test_what_the_spare_memory_does_not_take_is_refused_in_words(
    tmp_path: Path, spool: Spool, words: str
) -> None:
    staging = await _opened(tmp_path, capacity_bytes=1000, spool=spool)
    with pytest.raises(StagingFull, match=words):
        await (await _poured(staging, bytes(3 << 20))).seal()
    assert (staging.used_bytes, spool.used_bytes) == (0, 0)
    small = staging.begin(bytes(600_000), limit_bytes=1 << 30).seal_early()
    assert small is not None
    assert small.in_spare
    small.close()
    assert spool.used_bytes == 0
    await staging.close()


@pytest.mark.spec("ST-3", "ST-5")
async def test_when_staging_dies_objects_go_to_two_volumes_and_none_fails(
    box, filesystem, staging, tmp_path: Path
) -> None:
    disk = filesystem("ssd")
    dying = await _opened(disk.mount_point)
    data, backup = filesystem("data"), filesystem("backup")
    async with box(data=data.mount_point, backup=backup.mount_point) as b:
        b.staging = b.placement._staging = dying
        placed = {}

        async def sender(number: int) -> None:
            for i in range(40):
                key = f"studies/{number}/s/{i}.dcm"
                placed[key] = await b.store(key, key.encode() * 500)

        senders = asyncio.gather(*(sender(n) for n in range(4)))
        await _until(lambda: len(placed) > 20)
        disk.shutdown()
        await senders
        assert not any(p.degraded for p in placed.values())
        for key, p in placed.items():
            on = [data.mount_point.parent / name / key for name in p.copies]
            assert all(path.read_bytes() == key.encode() * 500 for path in on)
            assert len(on) + (p.staged_as is not None) == 2
        assert sum(p.staged_as is None for p in placed.values()) > 80
        # mended and mounted anew: it comes back, and what was in its journal with it
        entries = {p.staged_as for p in placed.values() if p.staged_as}
        await _until(lambda: _unmounted(disk))
        disk.mount()
        await _until(lambda: not dying.failure)
        assert entries <= {entry.name for entry in await dying.journal()}
        assert (await b.store("studies/x/y/z.dcm", b"x")).staged_as
        assert dying.spool.used_bytes == 0
        await dying.close()


def _unmounted(filesystem) -> bool:
    try:
        filesystem.unmount()
    except RuntimeError:
        return False
    return True


@pytest.mark.timing
@pytest.mark.spec("ST-3", "ST-5")
async def test_when_staging_hangs_objects_go_to_two_volumes_and_late_entries_are_told(
    box, filesystem, tmp_path: Path
) -> None:
    disk = filesystem("ssd")
    hanging = await _opened(
        disk.mount_point, patience=Patience(hang_s=4.0, retry_s=0.1, hold_s=0.3)
    )
    late: list[str] = []
    hanging.on_late = lambda name, note: late.append(note["key"])
    back = asyncio.Event()
    hanging.when_back(back.set)
    data, backup = filesystem("data"), filesystem("backup")
    async with box(data=data.mount_point, backup=backup.mount_point) as b:
        b.staging = b.placement._staging = hanging
        await b.store("studies/a/b/0.dcm", b"before")
        disk.freeze()
        started = time.monotonic()
        keys = [f"studies/a/b/{i}.dcm" for i in range(1, 13)]  # more than staging has threads
        results = await asyncio.gather(*(b.store(key, key.encode() * 500) for key in keys))
        assert time.monotonic() - started < HEDGE_S + 2
        for key, placed in zip(keys, results, strict=True):
            assert set(placed.copies) == {"data", "backup"}
            assert (placed.staged_as, placed.degraded) == (None, False)
            assert (data.mount_point / key).read_bytes() == key.encode() * 500
        await _until(lambda: hanging.failure)
        started = time.monotonic()
        assert not (await b.store("studies/a/b/quick.dcm", b"x")).degraded
        assert time.monotonic() - started < 1
        disk.thaw()
        async with asyncio.timeout(10):
            await back.wait()
        await _until(lambda: len(late) >= 4)  # those that a thread had in its hands
        await asyncio.sleep(0.2)
        assert set(late) <= set(keys)
        names = {entry.note["key"] for entry in await hanging.journal()}
        assert names == {"studies/a/b/0.dcm", *late}
        assert hanging.spool.used_bytes == 0
        await hanging.close()


@pytest.mark.timing
async def test_closing_never_waits_for_a_thread_that_hangs(filesystem) -> None:
    disk = filesystem("ssd")
    staging = await _opened(disk.mount_point)
    sealed = staging.begin(b"abc", limit_bytes=100).seal_early()
    disk.freeze()
    with pytest.raises(StagingFailed, match="hang"):
        await sealed.keep({})
    sealed.close()
    started = time.monotonic()
    await staging.close()
    assert time.monotonic() - started < 1
    disk.thaw()


async def test_a_staging_disk_that_is_dead_at_the_start_is_waited_for(filesystem) -> None:
    disk = filesystem("ssd")
    first = await _opened(disk.mount_point)
    sealed = await first.begin(b"abc", limit_bytes=100).seal()
    name = await sealed.keep({})
    sealed.close()
    await first.close()
    disk.shutdown(0)
    staging = await _opened(disk.mount_point)
    assert staging.failure
    disk.unmount()
    disk.mount()
    await _until(lambda: not staging.failure)
    assert [entry.name for entry in await staging.journal()] == [name]
    await staging.close()


async def test_a_staging_that_falls_again_and_again_is_trusted_later_and_later(
    filesystem,
) -> None:
    disk = filesystem("ssd")
    staging = await _opened(disk.mount_point, patience=Patience(retry_s=0.02, hold_s=0.4))
    away: list[float] = []
    for _ in range(3):
        staging._fail("as the test says")
        began = time.monotonic()
        await _until(lambda: not staging.failure)
        away.append(time.monotonic() - began)
    assert [round(seconds / 0.4) for seconds in away] == [1, 2, 4]
    await staging.close()


@pytest.mark.timing
@pytest.mark.spec("ST-3")
async def test_a_volume_that_hangs_is_joined_by_the_next_after_two_seconds(
    box, filesystem, tmp_path: Path
) -> None:
    from scrigno.volumes.warden import Timing

    data, backup = filesystem("data"), filesystem("backup")
    async with box(Timing(), data=data.mount_point, backup=backup.mount_point) as b:
        await b.store("studies/a/b/0.dcm", b"before")
        data.freeze()
        started = time.monotonic()
        large = os.urandom(3 << 20)
        results = await asyncio.gather(
            *(b.store(f"studies/a/b/{i}.dcm", b"during" * 1000) for i in range(1, 15)),
            b.store("studies/a/b/large.dcm", large),
        )
        assert HEDGE_S <= time.monotonic() - started < HEDGE_S + 2
        assert all(placed.copies == ("backup",) for placed in results)
        assert all(placed.owed == ("data",) for placed in results)
        assert not any(placed.degraded for placed in results)
        assert (backup.mount_point / "studies/a/b/large.dcm").read_bytes() == large
        assert b.placement._late
        data.thaw()  # before anybody calls it offline: the late copies come
        await _until(lambda: not b.placement._late)
        assert (data.mount_point / "studies/a/b/large.dcm").read_bytes() == large


async def test_two_places_on_one_disk_count_once() -> None:
    from scrigno.volumes.devices import count, disks_of, distinct

    class On:
        def __init__(self, *devices: str, device: int | None = 1) -> None:
            self.devices, self.device = frozenset(devices), device

    assert distinct([{"sda", "sdb"}, {"sdb", "sdc"}, {"sdc", "sdd"}]) == 2
    assert distinct([{"sda", "sdb"}, {"sda"}, {"sdb"}]) == 2  # the array is the one too many
    assert count([On("sda"), On("sda", "sdb")], shared=False) == 1
    assert count([On("sda"), On("sda", "sdb")], shared=True) == 2
    assert disks_of(On(device=7)) == {"dev:7"}
    assert count([On(device=7), On(device=7), On(device=8)], shared=False) == 2
    assert IngestPolicy().ack_copies == 2
