# SPDX-License-Identifier: Apache-2.0
"""Start: to the first association, and from kill -9 in mid-reception to the next Success."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from .clients import store
from .process import ProgramFailed
from .report import AtMost, Row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .objects import ImageSet
    from .peers import Peer, Server
    from .run import Bench

GIVE_UP_S = 60.0
KILL_AFTER_S = 0.7


def rows(bench: Bench) -> Iterator[Row]:
    bench.say("start")

    def start(peer: Peer) -> dict[str, float]:
        with bench.warm(peer, tuned=False) as server:
            server.stop()
            return {"seconds": server.start()}

    seen = bench.interleave(bench.able("store"), start)
    yield _row("process start to first association", seen, 2)

    bench.say("kill -9 in mid-reception")
    unacknowledged = bench.mr

    def crash(peer: Peer) -> dict[str, float]:
        with bench.warm(peer, tuned=True) as server:
            sender = threading.Thread(target=_send_until_killed, args=(server, unacknowledged))
            sender.start()
            time.sleep(KILL_AFTER_S)
            children = server.program.processes()[1:]
            began = time.perf_counter()
            server.kill()
            server.launch()
            _first_success(bench, server, began)
            seconds = time.perf_counter() - began
            sender.join()
        for child in children:
            if child.is_running():
                child.kill()
        return {"seconds": seconds}

    # The others fork: a child of the killed one keeps their port, and they keep no promise anyway.
    lasting = [peer for peer in bench.able("store") if peer.name in {"scrigno", "orthanc"}]
    seen = bench.interleave(lasting, crash)
    yield _row("kill -9 to first acknowledged image", seen, 10)


def _row(name: str, seen: dict[str, dict[str, list[float]]], limit: int) -> Row:
    return Row(
        group="Start",
        name=name,
        unit="s",
        values=seen.get("seconds", {}),
        budgets=[AtMost(limit, "s")],
    )


def _send_until_killed(server: Server, images: ImageSet) -> None:
    try:
        store(server, images.parts(1), tuned=True)
    except ProgramFailed:
        return  # the point of this leg: the server died under the sender


def _first_success(bench: Bench, server: Server, began: float) -> None:
    """Send the warm-up images again and again, as a modality with its retry button held would."""
    while True:
        try:
            store(server, bench.warm_up.parts(4)[:1], tuned=True)
        except ProgramFailed:
            if time.perf_counter() - began > GIVE_UP_S:
                raise
            time.sleep(0.01)
        else:
            return
