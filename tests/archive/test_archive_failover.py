# SPDX-License-Identifier: Apache-2.0
"""Disks die under the whole archive: every image is acknowledged, and every acknowledged one is
there afterwards, byte for byte.
"""

import asyncio
import time
from pathlib import Path

import pytest
from archivebox import Box, Made, made

from loopfs import LoopFilesystem, loop_filesystem
from scrigno.volumes.staging import Patience

pytestmark = pytest.mark.timeout(120)


async def settled(box: Box) -> bool:
    return not await box.catalogue.debt_counts() and await box.staged() == 0


async def everything_is_there(box: Box, sent: list[Made]) -> None:
    """Every image has its row, and is right on every volume that the row names."""
    for one in sent:
        row = await box.catalogue.instance(one.uid)
        assert row is not None, one.uid
        assert row.digest == one.digest
        for name in row.held_by():
            assert (await box.volumes.by_name(name).digest(one.key))[0] == one.digest


def large(number: int) -> Made:
    return made(1000 + number, pixels=6 << 20)


@pytest.mark.spec("ST-2", "ST-3", "ST-5")
@pytest.mark.parametrize("how", ["dies", "hangs"])
async def test_no_image_fails_and_none_is_lost_when_staging_goes(tmp_path: Path, how: str) -> None:
    with loop_filesystem(tmp_path / "loops", "staging", size=200 << 20) as ssd:
        (tmp_path / "box").mkdir()
        (tmp_path / "box" / "staging").symlink_to(ssd.mount_point)
        box = await Box(tmp_path / "box", replicating=True).open()
        box.staging._patience = Patience(hang_s=3, retry_s=0.1, hold_s=0.3)
        box.recovery.start()
        sent = [made(1)]
        await box.store(sent[0])
        try:
            await _store_while(box, ssd, how, sent)
            await box.until(lambda: not box.staging.failure, 20)
            await box.until(lambda: settled(box), 30)
            await box.until(lambda: box.recovery.pending == 0)
            await everything_is_there(box, sent)
            assert box.on("data") == box.on("backup1")
            receipt = await box.store(made(5000))
            assert receipt.copies == ("data",)
        finally:
            ssd.thaw()
            await box.close()


async def _store_while(box: Box, ssd: LoopFilesystem, how: str, sent: list[Made]) -> None:
    longest = 0.0
    numbers = iter(range(2, 2000))

    async def store(one: Made) -> None:
        nonlocal longest
        started = time.monotonic()
        receipt = await box.store(one)
        longest = max(longest, time.monotonic() - started)
        assert not receipt.degraded
        sent.append(one)

    async def sender() -> None:
        for number in numbers:
            await store(made(number))
            if stop.is_set():
                return

    async def large_sender() -> None:
        for number in range(40):
            await store(large(number))
            if stop.is_set():
                return

    stop = asyncio.Event()
    sending = asyncio.gather(*(sender() for _ in range(3)), large_sender())
    await box.until(lambda: len(sent) > 30)
    if how == "dies":
        ssd.shutdown()
    else:
        ssd.freeze()
    await box.until(lambda: bool(box.staging.failure))
    await asyncio.sleep(0.5)
    stop.set()
    await sending
    assert longest < 15
    if how == "dies":
        await box.until(lambda: _unmounted(ssd))
        ssd.mount()
    else:
        ssd.thaw()


def _unmounted(ssd: LoopFilesystem) -> bool:
    try:
        ssd.unmount()
    except RuntimeError:
        return False
    return True


@pytest.mark.spec("ST-2", "ST-3")
async def test_no_image_fails_when_the_data_disk_dies_with_staging(tmp_path: Path) -> None:
    """Both on one disk, say: what is left takes the images, and says that it is too little."""
    with (
        loop_filesystem(tmp_path / "loops", "disk", size=200 << 20) as disk,
    ):
        for name in ("staging", "data"):
            (disk.mount_point / name).mkdir()
        (tmp_path / "box").mkdir()
        for name in ("staging", "data"):
            (tmp_path / "box" / name).symlink_to(disk.mount_point / name)
        box = await Box(tmp_path / "box", replicating=True).open()
        box.staging._patience = Patience(retry_s=0.1, hold_s=0.3)
        sent = [made(number) for number in range(1, 20)]
        try:
            for one in sent:
                await box.store(one)
            await box.until(lambda: settled(box))
            disk.shutdown()
            started = time.monotonic()
            more = [made(number) for number in range(100, 110)]
            receipts = [await box.store(one) for one in more]
            assert time.monotonic() - started < 5
            assert all(receipt.degraded for receipt in receipts)
            assert all(receipt.copies == ("backup1",) for receipt in receipts)
            for one in sent:
                row = await box.catalogue.instance(one.uid)
                read = b"".join([chunk async for chunk in box.retrieval.open(row).chunks])
                assert read == one.file
        finally:
            await box.close()
