# SPDX-License-Identifier: Apache-2.0
"""Large answers: flat memory before a slow reader, a clean break when a disk goes, failover."""

import asyncio
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from made_objects import write_series

pytestmark = [pytest.mark.spec("IN-5"), pytest.mark.timeout(180)]

EVERYTHING = 'multipart/related; type="application/dicom"; transfer-syntax=*'
MB = 1 << 20


def rss() -> int:
    return int(psutil.Process(os.getpid()).memory_info().rss)


async def study(box: Any, images: int, side: int) -> str:
    """Take in a study with images of side × side pixels of 16 bit; return its path."""
    folder = box.root / "large"
    await asyncio.to_thread(write_series, folder, images=images, size=side)
    report = await box.parts.importer.import_paths([folder])
    assert report.new == images
    await asyncio.to_thread(shutil.rmtree, folder)
    return f"/dicom-web/studies/{(await asyncio.to_thread(only_study, box)).name}"


def only_study(box: Any) -> Path:
    [found] = (box.root / "data" / "studies").iterdir()
    return found


@dataclass
class Reader:
    """One connection, read to its end, which closes it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def read(self, size: int) -> bytes:
        chunk = b""
        try:
            chunk = await self.reader.read(size)
        finally:
            if not chunk:
                self.writer.transport.abort()
                await asyncio.sleep(0)
        return chunk


async def request(box: Any, anna: Any, path: str, accept: str = EVERYTHING) -> tuple[Reader, int]:
    """Send a request by hand, with a small buffer; return the reader and the announced length."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", box.parts.web_ports[0], limit=64 << 10
    )
    writer.write(
        f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAccept: {accept}\r\n"
        f"Authorization: Bearer {anna.token}\r\n\r\n".encode()
    )
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    assert head.startswith("HTTP/1.1 200"), head
    lines = (line.lower().partition(":") for line in head.split("\r\n"))
    length = next((value for name, _, value in lines if name == "content-length"), "0")
    return Reader(reader, writer), int(length)


@pytest.mark.slow
async def test_a_slow_reader_of_a_large_study_costs_no_memory(box: Any, anna: Any) -> None:
    path = await study(box, images=12, side=2800)  # 188 MB
    reader, length = await request(box, anna, path)
    assert length > 170 * MB
    before, most, read = rss(), 0, 0
    while chunk := await reader.read(1 * MB):
        read += len(chunk)
        most = max(most, rss() - before)
        if read < 12 * MB:  # slower than the disk by far
            await asyncio.sleep(0.05)
    assert read == length
    assert most < 60 * MB, f"{most / MB:.0f} MB more while it went out"


async def test_a_study_whose_last_copy_breaks_in_the_middle_ends_as_an_error(
    box: Any, anna: Any
) -> None:
    path = await study(box, images=8, side=1400)  # 31 MB
    await settled(box)
    files = sorted(only_study(box).rglob("*.dcm"), key=lambda file: file.stat().st_mtime)
    uids = [each.sop_instance_uid for each in await instances(box, path)]
    for folder in ("data", "backup1"):
        [broken] = (box.root / folder / "studies").rglob(f"{uids[4]}.dcm")
        await asyncio.to_thread(spoil, broken)
    reader, length = await request(box, anna, path)
    read = 0
    while True:
        try:
            chunk = await reader.read(1 * MB)
        except ConnectionError:
            break
        if not chunk:
            break
        read += len(chunk)
    assert 0 < read < length
    assert len(files) == 8
    # an answer without a length announced has no last chunk then
    reader, _ = await request(box, anna, path, accept="application/zip")
    tail = b""
    while True:
        try:
            chunk = await reader.read(1 * MB)
        except ConnectionError:
            break
        if not chunk:
            break
        tail = (tail + chunk)[-16:]
    assert tail
    assert not tail.endswith(b"0\r\n\r\n")


async def test_a_copy_that_breaks_is_replaced_by_the_other_on_the_way(box: Any, anna: Any) -> None:
    path = await study(box, images=4, side=1400)
    await settled(box)
    for file in only_study(box).rglob("*.dcm"):
        await asyncio.to_thread(file.unlink)
    reader, length = await request(box, anna, path)
    read = 0
    while chunk := await reader.read(1 * MB):
        read += len(chunk)
    assert read == length
    # a frame alone too
    [first, *_] = await instances(box, path)
    url = (
        f"{box.url}{path}/series/{first.series_instance_uid}/instances/{first.sop_instance_uid}"
        "/frames/1"
    )
    headers = {"Authorization": f"Bearer {anna.token}", "Accept": "application/octet-stream"}
    async with box.http.get(url, headers=headers) as answer:
        assert answer.status == 200
        assert len(await answer.read()) == 1400 * 1400 * 2


async def test_a_deleted_object_is_not_given_from_memory(box: Any, anna: Any) -> None:
    path = await study(box, images=1, side=64)
    [one] = await instances(box, path)
    object_path = f"series/{one.series_instance_uid}/instances/{one.sop_instance_uid}"
    url = f"{box.url}{path}/{object_path}/frames/1"
    headers = {"Authorization": f"Bearer {anna.token}"}
    async with box.http.get(url, headers=headers) as answer:
        assert answer.status == 200
    async with box.http.delete(f"{box.url}{path}", headers=headers) as answer:
        assert answer.status == 204
    async with box.http.get(url, headers=headers) as answer:
        assert answer.status == 404
    trash = (await anna.json("GET", "/trash"))["items"]
    assert [each["reason"] for each in trash] == ["deleted by DICOMweb"]


async def instances(box: Any, path: str):
    return await box.parts.catalogue.instances(path.rpartition("/")[2])


async def settled(box: Any) -> None:
    """Wait until every volume has everything and staging has let it go."""
    for _ in range(300):
        owed = sum((await box.parts.catalogue.debt_counts()).values())
        if not owed and not await box.parts.catalogue.staged():
            return
        await asyncio.sleep(0.1)
    raise AssertionError("staging does not empty")


def spoil(file: Path) -> None:
    """Change one byte in the middle, as a bad disk does."""
    file.chmod(0o644)
    with file.open("r+b") as opened:
        opened.seek(file.stat().st_size // 2)
        byte = opened.read(1)
        opened.seek(-1, 1)
        opened.write(bytes([byte[0] ^ 0xFF]))
