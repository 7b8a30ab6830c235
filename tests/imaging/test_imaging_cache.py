# SPDX-License-Identifier: Apache-2.0
"""The frame cache keeps to its size, forgets the oldest first, and survives its own loss."""

import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from scrigno.core.counters import Counters
from scrigno.imaging.cache import BLOCK_BYTES, FrameCache

pytestmark = pytest.mark.spec("ST-5")
A, B, C = ("a" * 64, "b" * 64, "c" * 64)
BLOCKS = 16


@pytest.fixture
async def cache(tmp_path: Path) -> AsyncIterator[FrameCache]:
    made = FrameCache(tmp_path / "frames", capacity_bytes=BLOCKS * BLOCK_BYTES, counters=Counters())
    await made.open()
    yield made
    await made.close()


def files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


async def test_what_was_kept_comes_back_and_other_variants_do_not(cache: FrameCache) -> None:
    await cache.put(A, "frame=0", b"picture")
    assert await cache.get(A, "frame=0") == b"picture"
    assert await cache.get(A, "frame=1") is None
    assert await cache.get(B, "frame=0") is None


async def test_the_least_recently_used_leaves_first_and_the_size_holds(
    cache: FrameCache, tmp_path: Path
) -> None:
    for number in range(BLOCKS):
        await cache.put(A, str(number), bytes(100))
    assert await cache.get(A, "0") is not None  # used: now 1 is the oldest
    await cache.put(B, "new", bytes(BLOCK_BYTES))
    assert await cache.get(A, "0") is not None
    assert await cache.get(A, "1") is None
    assert await cache.get(A, "2") is None
    assert await cache.get(A, "3") is not None
    assert cache.used_bytes <= BLOCKS * BLOCK_BYTES
    assert sum(-(-p.stat().st_size // 4096) * 4096 for p in files(tmp_path)) == cache.used_bytes


async def test_it_survives_a_restart_with_its_order(tmp_path: Path) -> None:
    for round_ in range(2):
        cache = FrameCache(tmp_path, capacity_bytes=2 * 8 * BLOCK_BYTES, counters=Counters())
        await cache.open()
        if not round_:
            await cache.put(A, "x", b"first")
            await cache.put(B, "x", b"second")
            old = [path for path in files(tmp_path) if path.parent.name == B]
            os.utime(old[0], (1, 1))
            (old[0].parent / ".new-half").write_bytes(b"torn")
        else:
            assert not list(tmp_path.rglob(".new-*"))
            for number in range(15):
                await cache.put(C, str(number), b"fill")
            assert await cache.get(B, "x") is None
            assert await cache.get(A, "x") == b"first"
        await cache.close()


@pytest.mark.parametrize("harm", ["truncate", "flip", "unlink", "everything"])
async def test_loss_and_damage_are_misses_and_no_failures(
    cache: FrameCache, tmp_path: Path, harm: str
) -> None:
    await cache.put(A, "x", b"picture" * 100)
    [path] = files(tmp_path)
    match harm:
        case "truncate":
            os.truncate(path, 50)
        case "flip":
            path.write_bytes(path.read_bytes()[:-1] + b"!")
        case "unlink":
            path.unlink()
        case _:
            shutil.rmtree(tmp_path / "frames")
    assert await cache.get(A, "x") is None
    await cache.put(A, "x", b"again")
    assert await cache.get(A, "x") == b"again"


async def test_a_disk_that_refuses_costs_only_the_cache(cache: FrameCache, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "frames")
    (tmp_path / "frames").write_bytes(b"a file where the folder was")
    await cache.put(A, "x", b"picture")
    assert await cache.get(A, "x") is None
    assert cache.used_bytes == 0


async def test_an_object_can_be_forgotten_with_everything_made_of_it(
    cache: FrameCache, tmp_path: Path
) -> None:
    await cache.put(A, "x", b"1")
    await cache.put(A, "y", b"2")
    await cache.put(B, "x", b"3")
    await cache.forget(A)
    assert await cache.get(A, "x") is None
    assert await cache.get(B, "x") == b"3"
    assert [path.parent.name for path in files(tmp_path)] == [B]


async def test_one_picture_cannot_push_everything_else_out(cache: FrameCache) -> None:
    await cache.put(A, "x", b"small")
    await cache.put(B, "x", bytes(BLOCKS * BLOCK_BYTES // 2))
    assert await cache.get(B, "x") is None
    assert await cache.get(A, "x") == b"small"


async def test_nothing_but_a_digest_reaches_a_path(cache: FrameCache) -> None:
    for digest in ("../../../../etc/passwd", "A" * 64, "", "a/b" * 20):
        with pytest.raises(ValueError, match="hex"):
            await cache.get(digest, "x")
    await cache.put(A, "../../x\0", b"fine")
    assert await cache.get(A, "../../x\0") == b"fine"
