# SPDX-License-Identifier: Apache-2.0
"""The pool: real worker processes, what they may not do, and what becomes of a bad one."""

import asyncio
import io
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import psutil
import pydicom
import pytest
from imaging_objects import ct, image, part10
from PIL import Image

from scrigno.core.counters import Counters
from scrigno.host.process import run
from scrigno.imaging.dataset import IMPLICIT_LE
from scrigno.imaging.errors import (
    DecodeFailed,
    DecodeTimeout,
    ImagingClosed,
    NoPixels,
    NoSuchFrame,
    NotDicom,
    UnsupportedSyntax,
)
from scrigno.imaging.workers import ImagingPool

pytestmark = pytest.mark.spec("DN-11")
SMALL = part10(image(np.arange(4096, dtype=np.uint16).reshape(64, 64), WindowCenter=2000,
                     WindowWidth=4000))  # fmt: skip


def heavy(side: int = 2000) -> bytes:
    noise = np.random.default_rng(3).integers(0, 255, (side, side, 3), np.uint8)
    return part10(image(noise))


@pytest.fixture
async def pool() -> AsyncIterator[ImagingPool]:
    made = ImagingPool(2, counters=Counters())
    yield made
    await made.close()
    assert made.workers == 0


async def test_a_frame_is_rendered_described_and_transcoded(pool: ImagingPool) -> None:
    rendered = await pool.render(SMALL, max_size=32)
    assert (rendered.width, rendered.height, rendered.frames) == (64, 64, 1)
    assert (rendered.window_center, rendered.window_width) == (2000, 4000)
    assert rendered.content_type == "image/jpeg"
    assert Image.open(io.BytesIO(rendered.content)).size == (32, 32)
    described = await pool.describe(SMALL)
    assert described["00100020"] == {"vr": "LO", "Value": ["4711"]}
    with await pool.transcode(SMALL, to_transfer_syntax=IMPLICIT_LE) as made, made.view() as view:
        assert made.size == len(view)
        assert pydicom.dcmread(io.BytesIO(view[:])).Rows == 64
    assert pool.workers == 1


@pytest.mark.spec("DN-12")
async def test_texts_of_objects_that_name_no_character_set_are_read_by_the_default(
    pool: ImagingPool,
) -> None:
    dataset = ct()
    dataset.add_new(0x00081030, "LO", "\x83\x41")  # half-width katakana in ISO_IR 13, as bytes
    content = part10(dataset).replace("\x83\x41".encode("latin_1"), b"\xb1\xb2")
    pool.default_character_set = lambda: "ISO_IR 13"
    described = await pool.describe(content)
    assert described["00081030"]["Value"] == ["ｱｲ"]


async def test_a_descriptor_is_read_from_its_beginning_and_left_alone(
    pool: ImagingPool, tmp_path: Path
) -> None:
    path = tmp_path / "image.dcm"
    path.write_bytes(SMALL)
    fd = os.open(path, os.O_RDWR)
    try:
        os.lseek(fd, 77, os.SEEK_SET)
        results = await asyncio.gather(*(pool.render(fd, format="png") for _ in range(6)))
        assert len({result.content for result in results}) == 1
        assert os.lseek(fd, 0, os.SEEK_CUR) == 77
    finally:
        os.close(fd)
    assert pool.workers <= 2
    assert path.read_bytes() == SMALL


async def test_each_failure_has_its_own_error_and_the_worker_lives_on(pool: ImagingPool) -> None:
    report = part10(ct())
    with pytest.raises(NotDicom):
        await pool.render(b"no image")
    with pytest.raises(NoPixels):
        await pool.render(report)
    with pytest.raises(NoSuchFrame):
        await pool.render(SMALL, frame=1)
    with pytest.raises(UnsupportedSyntax):
        await pool.transcode(SMALL, to_transfer_syntax="1.2.840.10008.1.2.4.90")
    with pytest.raises(DecodeFailed):
        await pool.render(SMALL[:-100])
    first = pool._idle[0].process.pid
    await pool.render(SMALL)
    assert pool._idle[0].process.pid == first


async def busy_worker(pool: ImagingPool) -> int:
    while not pool._busy:
        await asyncio.sleep(0.005)
    return next(iter(pool._busy)).process.pid


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL])
async def test_a_crash_fails_its_own_job_only(pool: ImagingPool, number: signal.Signals) -> None:
    await pool.render(SMALL)
    job = asyncio.create_task(pool.render(heavy(), format="png"))
    os.kill(await busy_worker(pool), number)
    other = asyncio.create_task(pool.render(SMALL))
    with pytest.raises(DecodeFailed, match=f"signal {int(number)}"):
        await job
    assert (await other).width == 64


async def test_a_job_that_hangs_is_ended_and_the_worker_replaced() -> None:
    pool = ImagingPool(1, counters=Counters(), timeout_s=0.3)
    try:
        await pool.render(SMALL)
        pid = pool._idle[0].process.pid
        os.kill(pid, signal.SIGSTOP)
        start = time.monotonic()
        with pytest.raises(DecodeTimeout):
            await pool.render(SMALL)
        assert time.monotonic() - start < 2
        assert (await pool.render(SMALL)).width == 64
        assert not psutil.pid_exists(pid)
    finally:
        await pool.close()


async def test_memory_is_limited_and_the_worker_that_reached_it_is_replaced() -> None:
    content = part10(image(np.zeros((6000, 6000, 3), np.uint8)))
    pool = ImagingPool(1, counters=Counters(), memory_limit_bytes=240 << 20)
    try:
        with pytest.raises(DecodeFailed, match="memory"):
            await pool.render(content, format="png")
        assert pool.workers == 0
        assert (await pool.render(SMALL)).width == 64
    finally:
        await pool.close()


BURNING = """
import sys, time
from scrigno.imaging.sandbox import allow_cpu
def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
for _ in range(4):
    allow_cpu(1)
    burn(0.6)
print("lives", flush=True)
burn(4)
"""


async def test_cpu_time_is_limited_per_job_and_does_not_add_up() -> None:
    daemon = str(Path(sys.modules["scrigno"].__path__[0]).parent)
    done = await run(
        [sys.executable, "-c", BURNING], timeout_s=40, environment={"PYTHONPATH": daemon}
    )
    assert done.stdout == b"lives\n"
    assert done.returncode == -signal.SIGXCPU


async def test_cancelling_a_job_ends_its_worker_and_frees_its_place(pool: ImagingPool) -> None:
    await pool.render(SMALL)
    job = asyncio.create_task(pool.render(heavy(), format="png"))
    pid = await busy_worker(pool)
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job
    await pool.render(SMALL)
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


async def test_closing_fails_what_is_under_way_and_leaves_no_process() -> None:
    pool = ImagingPool(1, counters=Counters())
    await pool.render(SMALL)
    jobs = [asyncio.create_task(pool.render(heavy(), format="png")) for _ in range(3)]
    pid = await busy_worker(pool)
    await pool.close()
    await pool.close()
    for result in await asyncio.gather(*jobs, return_exceptions=True):
        assert isinstance(result, ImagingClosed)
    with pytest.raises(ImagingClosed):
        await pool.render(SMALL)
    assert not psutil.pid_exists(pid)


async def test_workers_start_in_the_background_and_retire_when_idle() -> None:
    pool = ImagingPool(2, counters=Counters(), idle_s=0.2)
    try:
        pool.warm(2)
        async with asyncio.timeout(20):
            while pool.workers < 2:
                await asyncio.sleep(0.02)
            while pool.workers:
                await asyncio.sleep(0.02)
        assert (await pool.render(SMALL)).width == 64
    finally:
        await pool.close()


async def test_no_descriptor_is_lost(pool: ImagingPool) -> None:
    await asyncio.gather(pool.render(SMALL), pool.render(SMALL))
    before = psutil.Process().num_fds()
    for _ in range(5):
        await pool.render(SMALL)
        with pytest.raises(DecodeFailed):
            await pool.render(SMALL[:-100])
        (await pool.transcode(SMALL, to_transfer_syntax=IMPLICIT_LE)).close()
    assert psutil.Process().num_fds() == before


CONFINED = """
import json, os, socket, sys
from scrigno.imaging.sandbox import confine
done = confine(memory_limit_bytes=1 << 30, output_limit_bytes=1 << 20)
found = {"measures": done}
def tried(name, work):
    try:
        work()
        found[name] = "allowed"
    except Exception as error:
        found[name] = type(error).__name__
tried("read", lambda: open("/etc/hostname").read())
tried("list", lambda: os.listdir("/etc"))
tried("write", lambda: open(sys.argv[1] + "/x", "w"))
tried("memory file", lambda: os.write(os.memfd_create("x"), b"x"))
tried("connect", lambda: socket.create_connection(("127.0.0.1", int(sys.argv[2])), 1))
tried("library", lambda: __import__("wave"))
tried("memory", lambda: bytearray(2 << 30))
found["interfaces"] = [name for _, name in socket.if_nameindex() if name != "lo"]
print(json.dumps(found))
"""


async def test_a_confined_process_can_do_nothing_but_compute(tmp_path: Path) -> None:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        daemon = str(Path(sys.modules["scrigno"].__path__[0]).parent)
        done = await run(
            [sys.executable, "-c", CONFINED, str(tmp_path), str(port)],
            timeout_s=20,
            environment={"PYTHONPATH": daemon},
        )
    assert done.returncode == 0, done.stderr.decode()
    found = json.loads(done.stdout)
    assert found["memory"] == "MemoryError"
    assert found["memory file"] == "allowed"
    assert found["library"] == "allowed"
    if "no-network" in found["measures"]:
        assert found["connect"] != "allowed"
        assert found["interfaces"] == []
    if "no-files" in found["measures"]:
        assert {found[name] for name in ("read", "list", "write")} == {"PermissionError"}
    assert "limits" in found["measures"]


@pytest.mark.spec("DN-11")
async def test_no_malformed_file_ends_a_worker(real_data: Path | None) -> None:
    folder = (real_data / "malformed-pwnlab") if real_data else None
    if folder is None or not folder.is_dir():
        pytest.skip("the collection of malformed files is not on this machine")
    counters = Counters()
    pool = ImagingPool(2, counters=counters, memory_limit_bytes=1 << 30)
    try:
        for path in sorted(folder.rglob("*.dcm")):
            content = path.read_bytes()
            for job in (pool.render(content), pool.describe(content),
                        pool.transcode(content, to_transfer_syntax=IMPLICIT_LE)):  # fmt: skip
                try:
                    made = await job
                except (DecodeFailed, NotDicom, NoPixels, UnsupportedSyntax):
                    continue
                if hasattr(made, "close"):
                    made.close()
    finally:
        await pool.close()
    assert counters.value("imaging_workers_started") == 1
