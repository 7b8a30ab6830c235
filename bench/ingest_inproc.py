# SPDX-License-Identifier: Apache-2.0
"""Microseconds of our own CPU per image that goes through `Reception`, without any network.

    python bench/ingest_inproc.py [FOLDER] [--images 2000] [--bytes 130000] [--at-once 1]
        [--replicate] [--copies 2]

Staging, two volumes in folders and the index under FOLDER (default: a temporary one). CPU is that
of the main process (loop, staging threads, index writer; user and system), the volumes' workers are
not in it. Run it under `py-spy record` to see where it goes.
"""

import argparse
import asyncio
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "archive"))

from archivebox import Box, made


def cpu_s(who: int = resource.RUSAGE_SELF) -> float:
    """Return user and system seconds so far."""
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


async def run(options: argparse.Namespace, root: Path) -> None:
    """Store everything and print what it cost."""
    box = await Box(root, replicating=options.replicate, staging_capacity=16 << 30).open()
    box.change(ack_copies=options.copies)
    objects = [made(number, pixels=options.bytes) for number in range(1, options.images + 1)]
    for one in objects[:50]:
        await box.store(one)
    rest = iter(objects[50:])
    times: list[float] = []

    async def sender() -> None:
        for one in rest:
            started = time.perf_counter()
            await box.store(one)
            times.append(time.perf_counter() - started)

    cpu, loop, wall = cpu_s(), time.thread_time(), time.perf_counter()
    await asyncio.gather(*(sender() for _ in range(options.at_once)))
    loop = time.thread_time() - loop
    cpu, wall = cpu_s() - cpu, time.perf_counter() - wall
    times.sort()
    print(
        f"{len(times)} images of {len(objects[0].file)} bytes, {options.at_once} at once:"
        f" {cpu / len(times) * 1e6:.0f} us CPU each ({loop / len(times) * 1e6:.0f} of the loop),"
        f" {len(times) / wall:.0f} images/s,"
        f" median {statistics.median(times) * 1e3:.2f} ms,"
        f" p99 {times[int(len(times) * 0.99)] * 1e3:.2f} ms"
    )
    if options.replicate:
        cpu = cpu_s()
        while await box.catalogue.debt_counts():
            await asyncio.sleep(0.05)
        print(f"replication after that: {(cpu_s() - cpu) / len(times) * 1e6:.0f} us CPU each")
    await box.close()


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--bytes", type=int, default=130_000)
    parser.add_argument("--at-once", type=int, default=1)
    parser.add_argument("--copies", type=int, default=2)
    parser.add_argument("--replicate", action="store_true")
    options = parser.parse_args()
    if options.folder is not None:
        asyncio.run(run(options, options.folder))
        return
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(options, Path(folder)))


if __name__ == "__main__":
    main()
