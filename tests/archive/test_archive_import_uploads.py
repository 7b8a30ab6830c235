# SPDX-License-Identifier: Apache-2.0
"""Uploads stand on the disk: they outlive the daemon, expire, and what is not theirs is removed."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from scrigno.archive.import_uploads import (
    UnknownUpload,
    UploadConflict,
    UploadDamaged,
    Uploads,
    UploadsFull,
)
from scrigno.core.clock import SystemClock


async def uploads(folder: Path, *, hours: float = 24, capacity: int = 1 << 30) -> Uploads:
    made = Uploads(
        folder,
        clock=SystemClock(),
        capacity_bytes=lambda: capacity,
        keep=lambda: timedelta(hours=hours),
    )
    await made.open()
    return made


async def pieces(*content: bytes) -> AsyncIterator[bytes]:
    for each in content:
        yield each


async def broken(*content: bytes) -> AsyncIterator[bytes]:
    for each in content:
        yield each
    raise ConnectionResetError


@pytest.mark.spec("AD-4")
async def test_what_came_before_a_broken_connection_and_a_restart_is_kept(tmp_path: Path) -> None:
    content = os.urandom(3_500_000)
    total = hashlib.sha256(content).hexdigest()
    first = await uploads(tmp_path)
    made = await first.begin(author="anna", name="../../a", size=len(content), sha256=total)
    with pytest.raises(ConnectionResetError):
        await first.append(
            made.id,
            author="anna",
            offset=0,
            chunks=broken(content[:2_000_000], content[2_000_000:][:77]),
        )
    assert first.get(made.id, author="anna").offset == 2_000_077
    second = await uploads(tmp_path)
    assert second.get(made.id, author="anna").offset == 2_000_077
    done = await second.append(
        made.id, author="anna", offset=2_000_077, chunks=pieces(content[2_000_077:])
    )
    assert done.complete
    assert second.path(made.id).read_bytes() == content
    assert sorted(path.name for path in tmp_path.iterdir()) == [made.id, f"{made.id}.json"]


async def test_damage_that_was_there_before_a_restart_is_noticed(tmp_path: Path) -> None:
    content = os.urandom(1000)
    first = await uploads(tmp_path)
    made = await first.begin(
        author="anna", name="a", size=1000, sha256=hashlib.sha256(content).hexdigest()
    )
    await first.append(made.id, author="anna", offset=0, chunks=pieces(b"x" + content[1:500]))
    second = await uploads(tmp_path)
    with pytest.raises(UploadDamaged):
        await second.append(made.id, author="anna", offset=500, chunks=pieces(content[500:]))
    with pytest.raises(UnknownUpload):
        second.get(made.id, author="anna")
    assert list(tmp_path.iterdir()) == []


async def test_two_cannot_send_one_file_at_the_same_time(tmp_path: Path) -> None:
    one = await uploads(tmp_path)
    made = await one.begin(author="anna", name="a", size=10)
    go = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"12345"
        await go.wait()

    first = asyncio.create_task(one.append(made.id, author="anna", offset=0, chunks=slow()))
    await asyncio.sleep(0.05)
    with pytest.raises(UploadConflict):
        await one.append(made.id, author="anna", offset=0, chunks=pieces(b"1"))
    go.set()
    assert (await first).offset == 5


async def test_uploads_expire_and_strange_files_go(tmp_path: Path) -> None:
    one = await uploads(tmp_path)
    made = await one.begin(author="anna", name="a", size=10)
    (tmp_path / "strange").write_bytes(b"x")
    (tmp_path / ("0" * 32)).write_bytes(b"no note")
    two = await uploads(tmp_path, hours=0)
    with pytest.raises(UnknownUpload):
        two.get(made.id, author="anna")
    await two.purge()
    assert list(tmp_path.iterdir()) == []


async def test_there_is_room_for_so_much_and_no_more(tmp_path: Path) -> None:
    one = await uploads(tmp_path, capacity=1000)
    await one.begin(author="anna", name="a", size=900)
    with pytest.raises(UploadsFull):
        await one.begin(author="bruno", name="b", size=200)
