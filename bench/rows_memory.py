# SPDX-License-Identifier: Apache-2.0
"""Memory: idle, and while 16 senders push large multi-frame objects at the same time."""

from __future__ import annotations

import shutil
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .clients import store_files
from .objects import make_multi_frame
from .report import AtMost, Row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .peers import Peer
    from .process import Program
    from .run import Bench

SENDERS = 16
COPIES_ON_DISK = 3  # staging, data and backup of one object may stand at the same time
SAMPLE_S = 0.1


def rows(bench: Bench) -> Iterator[Row]:
    bench.say("idle memory")

    def idle(peer: Peer) -> dict[str, float]:
        with bench.warm(peer, tuned=False) as server:
            time.sleep(3)
            program = server.program
            return {
                "main": program.main_rss_bytes() / 1e6,
                "tree": program.tree_pss_bytes() / 1e6,
            }

    seen = bench.interleave(bench.able("store"), idle)
    yield _row("idle, main process (RSS)", seen, "main", 150)
    yield _row("idle, with its children (PSS)", seen, "tree", None)
    yield from _large(bench)


def _large(bench: Bench) -> Iterator[Row]:
    size = min(bench.options.memory_mb << 20, (1 << 31) - (1 << 22))
    free = shutil.disk_usage(bench.place).free
    if size * SENDERS * COPIES_ON_DISK > free * 0.9:
        bench.fail(f"memory: {SENDERS} x {size >> 20} MB in three copies do not fit on the disk")
        return
    bench.say(f"{SENDERS} multi-frame objects of {size >> 20} MB at the same time")
    with bench.folder("multi-frame") as folder:
        files = [folder / f"{number}.dcm" for number in range(SENDERS)]
        for path in files:
            make_multi_frame(path, size)

        def leg(peer: Peer) -> dict[str, float]:
            with bench.warm(peer, tuned=False) as server, _peak(server.program) as peak:
                seconds = store_files(server, files)
                main = server.program.peak_main_rss_bytes()
            return {"main": main / 1e6, "tree": peak[0] / 1e6, "seconds": seconds}

        seen = bench.interleave(bench.able("store"), leg)
    what = f"{SENDERS} x {size >> 20} MB"
    yield _row(f"{what} in parallel, peak of main process (RSS)", seen, "main", 512)
    yield _row(f"{what} in parallel, peak with children (PSS)", seen, "tree", 512)
    yield Row(group="Memory, time", name=what, unit="s", values=seen.get("seconds", {}))


def _row(
    name: str, seen: dict[str, dict[str, list[float]]], measure: str, limit: int | None
) -> Row:
    return Row(
        group="Memory",
        name=name,
        unit="MB",
        values=seen.get(measure, {}),
        budgets=[] if limit is None else [AtMost(limit, "MB")],
    )


@contextmanager
def _peak(program: Program) -> Iterator[list[int]]:
    """Sample the memory of the whole tree from a thread of our own; the list holds the peak."""
    peak = [0]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(SAMPLE_S):
            peak[0] = max(peak[0], program.tree_pss_bytes())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()
