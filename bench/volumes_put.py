# SPDX-License-Identifier: Apache-2.0
"""The durable step alone: staging (write, hash, fsync, link) beside one volume's copy.

    .venv/bin/python bench/volumes_put.py [--folder DIR] [--count N]

Prints the median and the 95th percentile in milliseconds, and objects per second, for 130 KB and
512 KB objects at concurrency 1 and 4, next to the bare recipe in one thread (the floor).
Nothing is judged here: it depends on the disk.
"""

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

from scrigno.core.clock import SystemClock
from scrigno.core.counters import Counters
from scrigno.core.events import EventBus
from scrigno.volumes.placement import IngestPolicy, Placement
from scrigno.volumes.staging import Staging
from scrigno.volumes.states import Role, VolumeSpec
from scrigno.volumes.volume import Volumes

SIZES = {"130 KB": 130_000, "512 KB": 524_800}


def recipe(folder: int, content: bytes, name: str) -> None:
    """Do the bare durable step once: no hash, no note, no other process."""
    fd = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o640, dir_fd=folder)
    os.write(fd, content)
    os.fsync(fd)
    os.link(f"/proc/self/fd/{fd}", name, dst_dir_fd=folder, follow_symlinks=True)
    os.fsync(folder)
    os.close(fd)


def floor_ms(base: Path, size: int, count: int) -> tuple[float, float]:
    """Time the bare step alone, and two of them side by side in two folders of one disk."""
    content = os.urandom(size)
    folders = []
    for name in ("floor-a", "floor-b"):
        (base / name).mkdir(exist_ok=True)
        folders.append(os.open(base / name, os.O_RDONLY))
    alone, pair = [], []
    with ThreadPoolExecutor(2) as executor:
        for i in range(count):
            started = time.perf_counter()
            recipe(folders[0], content, f"alone-{size}-{i}")
            alone.append((time.perf_counter() - started) * 1000)
            started = time.perf_counter()
            jobs = [executor.submit(recipe, f, content, f"pair-{size}-{i}") for f in folders]
            for job in jobs:
                job.result()
            pair.append((time.perf_counter() - started) * 1000)
    for folder in folders:
        os.close(folder)
    return statistics.median(alone), statistics.median(pair)


async def measure(
    base: Path, size: int, concurrency: int, count: int
) -> tuple[float, float, float, float, float]:
    """Store `count` objects: median ms, 95th percentile ms, per second, our ms CPU, worker's."""
    (base / "data").mkdir(parents=True)
    (base / "backup").mkdir()
    counters = Counters()
    staging = Staging(base / "staging", capacity_bytes=8 << 30, counters=counters)
    await staging.open()
    specs = [
        VolumeSpec(name="data", role=Role.DATA, path=base / "data"),
        VolumeSpec(name="backup", role=Role.BACKUP, path=base / "backup"),
    ]
    volumes = Volumes(
        specs, state_dir=base / "state", counters=counters, bus=EventBus(), clock=SystemClock()
    )
    times: list[float] = []
    async with volumes:
        placement = Placement(staging, volumes, lambda: IngestPolicy(count_shared_device=True))
        content = os.urandom(size)
        chunks = [memoryview(content)[i : i + 32768] for i in range(0, size, 32768)]

        async def sender(number: int) -> None:
            for i in range(count // concurrency):
                thing = staging.begin(f"{number}/{i}".encode(), limit_bytes=1 << 30)
                for chunk in chunks:
                    thing.write(chunk)
                key = f"studies/1.{number}/2/{i}.dcm"
                started = time.perf_counter()
                sealed = thing.seal_early() or await thing.seal()
                await placement.store(sealed, key, {"key": key, "calling": "CT1"})
                sealed.close()
                times.append((time.perf_counter() - started) * 1000)

        worker = psutil.Process(volumes.by_name("data").link.process.pid)
        before = sum(worker.cpu_times()[:2])
        cpu, started = time.process_time(), time.perf_counter()
        await asyncio.gather(*(sender(number) for number in range(concurrency)))
        rate = len(times) / (time.perf_counter() - started)
        cpu_ms = (time.process_time() - cpu) / len(times) * 1000
        worker_ms = (sum(worker.cpu_times()[:2]) - before) / len(times) * 1000
        for entry in await staging.journal():
            await staging.release(entry.name)
    await staging.close()
    high = sorted(times)[int(len(times) * 0.95)]
    return statistics.median(times), high, rate, cpu_ms, worker_ms


def main() -> None:
    """Run everything in a temporary folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--count", type=int, default=400)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for label, size in SIZES.items():
            alone, pair = floor_ms(Path(folder), size, 100)
            print(f"{label}  bare recipe: one copy {alone:.2f} ms, two at once {pair:.2f} ms")
            for concurrency in (1, 4):
                base = Path(folder) / f"{size}-{concurrency}"
                median, high, rate, ours, theirs = asyncio.run(
                    measure(base, size, concurrency, arguments.count)
                )
                print(
                    f"{label}  concurrency {concurrency}  median {median:.2f} ms  "
                    f"p95 {high:.2f} ms  {rate:.0f}/s  "
                    f"CPU ms: main {ours:.2f}, worker {theirs:.2f}"
                )


if __name__ == "__main__":
    main()
