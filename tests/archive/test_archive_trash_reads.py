# SPDX-License-Identifier: Apache-2.0
"""Reads wait for nobody's turn: what goes to the trash and comes again is right, or not to be had.

A reader holds the row of an object while that is deleted and sent again with other bytes. What it
gets is what its row says, whole, or an error before the last byte; never a mixture of the two.
"""

import asyncio
import hashlib
from pathlib import Path

import pytest
from archivebox import Made, made
from trashbox import BOTH, STUDY, open_box

from scrigno.archive.errors import ObjectUnavailable

TURNS = 6


@pytest.mark.spec("ST-1", "ST-10")
@pytest.mark.parametrize("size", [4096, 5 << 20], ids=["one chunk", "many chunks"])
async def test_a_reader_never_gets_a_mixture_of_what_was_deleted_and_what_came_again(
    tmp_path: Path, size: int
) -> None:
    box = await open_box(tmp_path)
    versions: dict[str, Made] = {}
    outcomes: list[str] = []
    ended = asyncio.Event()

    async def reader(whole: bool) -> None:
        while not ended.is_set():
            row = await box.catalogue.instance(made(1).uid)
            if row is None:
                await asyncio.sleep(0)
                continue
            wanted = versions[row.digest].file
            got = bytearray()
            try:
                if whole:
                    got += await box.retrieval.read(row, limit_bytes=1 << 30)
                else:
                    async for chunk in box.retrieval.open(row).chunks:
                        got += chunk
                        await asyncio.sleep(0.001)  # a slow peer
            except ObjectUnavailable:
                assert len(got) < row.size  # told before it was whole
                outcomes.append("not to be had")
            else:
                assert hashlib.sha256(got).hexdigest() == row.digest
                assert bytes(got) == wanted
                outcomes.append("right")

    try:
        one = made(1, pixels=size)
        versions[one.digest] = one
        await box.store(one)
        await box.replicated()
        async with asyncio.TaskGroup() as group:
            for whole in (True, False, False):
                group.create_task(reader(whole))
            for turn in range(TURNS):
                await asyncio.sleep(0.05)
                await box.delete(STUDY)
                await box.settled()
                one = made(1, pixels=size, SeriesDescription=f"again {turn}")
                versions[one.digest] = one
                await box.store(one)
                await box.replicated()
            ended.set()
        assert outcomes.count("right") >= TURNS
        for volume in BOTH:
            assert box.objects_on(volume, "studies") == [f"{one.uid}.dcm"]
    finally:
        await box.close()
