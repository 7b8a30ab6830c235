# SPDX-License-Identifier: Apache-2.0
"""C-STORE: stock and tuned senders, one and four associations, big and small images; the disk."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from .clients import store
from .report import Either, Faster, Row, Within
from .run import settle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from .objects import ImageSet
    from .peers import Peer
    from .report import Budget, Values
    from .run import Bench

DEBTS_S = 60.0  # the copies that are made after the answer


def rows(bench: Bench) -> Iterator[Row]:
    for set_name in bench.options.sets:
        images = bench.image_set(set_name)
        for associations in bench.options.associations:
            disk = _disk(bench, images, writers=associations)
            for sender in bench.options.senders:
                yield from _row(bench, images, sender, associations, disk)


def _row(
    bench: Bench, images: ImageSet, sender: str, associations: int, disk: Values
) -> Iterator[Row]:
    tuned = sender == "tuned"
    name = f"{images.count} {images.name}, {sender}, {associations} association" + (
        "s" if associations > 1 else ""
    )
    bench.say(f"C-STORE {name}")
    notes: list[str] = []

    def leg(peer: Peer) -> dict[str, float]:
        with bench.warm(peer, tuned=tuned) as server:
            cpu = server.program.cpu_s()
            seconds = store(
                server,
                images.parts(associations),
                tuned=tuned,
                buffer_bytes=bench.options.buffer_bytes,
            )
            cpu = server.program.cpu_s() - cpu
            total = images.count + bench.warm_up.count
            bench.check(server, total, notes)
            measured = {"seconds": seconds, "cpu": cpu * 1000 / images.count}
            if server.owed_images:
                measured["all copies"] = seconds + _wait_until(server.owed_images, total, notes)
        return measured

    seen = bench.interleave(bench.able("store"), leg)
    values = seen.get("seconds", {})
    yield Row(
        group="C-STORE, time until the last Success",
        name=name,
        unit="s",
        values={**values, **disk},
        budgets=_budgets(images, tuned=tuned, associations=associations),
        notes=notes,
    )
    yield Row(
        group="C-STORE, processor time of the server",
        name=name,
        unit="ms per image",
        values=seen.get("cpu", {}),
    )
    yield Row(
        group="C-STORE, time until every volume has every image",
        name=name,
        unit="s",
        values=seen.get("all copies", {}),
    )


def _wait_until(count: Callable[[], int], total: int, notes: list[str]) -> float:
    """Seconds until `count` reaches `total`; gives up after DEBTS_S and notes it."""
    began = time.perf_counter()
    while count() < total:
        if time.perf_counter() - began > DEBTS_S:
            notes.append(f"scrigno: {total - count()} copies still owed after {DEBTS_S:.0f} s")
            break
        time.sleep(0.05)
    return time.perf_counter() - began


def _budgets(images: ImageSet, *, tuned: bool, associations: int) -> list[Budget]:
    if associations > 1:
        # The budget: 80 % of the disk, or the sender is the limit, which storescp shows.
        return [Either(Within("disk x2", 1 / 0.8), Within("storescp", 1 / 0.8))]
    if tuned:
        return [Faster("orthanc", 3), Within("storescp", 1.5)]
    return [Faster("orthanc", 20)] if images.name == "MR" else []


def _disk(bench: Bench, images: ImageSet, *, writers: int) -> Values:
    """What the disk can do: files of the same sizes, each written and fsynced, once and twice."""
    sizes = images.sizes()
    values: Values = {"disk x1": [], "disk x2": []}
    for _ in range(bench.options.pairs):
        for copies, name in ((1, "disk x1"), (2, "disk x2")):
            values[name].append(_write_all(bench, sizes, writers=writers, copies=copies))
    bench.say(f"disk, {images.name}, {writers} writers: {values}")
    return values


def _write_all(bench: Bench, sizes: Sequence[int], *, writers: int, copies: int) -> float:
    """Seconds to write and fsync every file; the copies of a file are written at the same time."""
    data = os.urandom(max(sizes))
    with bench.folder("disk") as folder:
        homes = [folder / str(copy) for copy in range(copies)]
        for home in homes:
            home.mkdir()
        settle()
        with ThreadPoolExecutor(writers) as outer, ThreadPoolExecutor(writers * copies) as inner:
            began = time.perf_counter()

            def one(number: int) -> None:
                jobs = [
                    inner.submit(_write_synced, home / str(number), data[: sizes[number]])
                    for home in homes
                ]
                for job in jobs:
                    job.result()

            list(outer.map(one, range(len(sizes))))
            return time.perf_counter() - began


def _write_synced(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        os.write(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
