# SPDX-License-Identifier: Apache-2.0
"""What waiting costs: 40 idle associations in processor time, 1,000 connections in memory."""

from __future__ import annotations

import resource
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .clients import open_associations
from .report import AtMost, Row

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from .peers import Peer
    from .run import Bench

ASSOCIATIONS = 40
CONNECTIONS = 1000


def rows(bench: Bench) -> Iterator[Row]:
    _raise_descriptor_limit()
    yield _processor_row(bench)
    yield _memory_row(bench)


def _processor_row(bench: Bench) -> Row:
    bench.say(f"{ASSOCIATIONS} idle associations")
    notes: list[str] = []

    def leg(peer: Peer) -> dict[str, float]:
        with bench.warm(peer, tuned=False) as server, _no_sockets() as sockets:
            opened, accepted = open_associations(
                server.port, server.ae_title, ASSOCIATIONS, wait_s=5
            )
            sockets += opened
            time.sleep(1)
            began, cpu = time.perf_counter(), server.program.cpu_s()
            time.sleep(bench.options.idle_s)
            used = (server.program.cpu_s() - cpu) / (time.perf_counter() - began)
        _note(notes, f"{peer.name}: {accepted} of {ASSOCIATIONS} associations accepted")
        return {"percent": used * 100}

    seen = bench.interleave(bench.peers, leg)
    return Row(
        group="Idle",
        name=f"processor of {ASSOCIATIONS} idle associations",
        unit="% of one core",
        values=seen.get("percent", {}),
        budgets=[AtMost(1, "%")],
        notes=notes,
    )


def _memory_row(bench: Bench) -> Row:
    bench.say(f"{CONNECTIONS} idle connections")
    notes: list[str] = []

    def leg(peer: Peer) -> dict[str, float]:
        with bench.warm(peer, tuned=False) as server, _no_sockets() as sockets:
            before = server.program.tree_pss_bytes()
            opened, accepted = open_associations(
                server.port, server.ae_title, CONNECTIONS, wait_s=5
            )
            sockets += opened
            growth = server.program.tree_pss_bytes() - before
        _note(notes, f"{peer.name}: {accepted} of {CONNECTIONS} asked for and got an association")
        return {"MB": growth / 1e6}

    able = [peer for peer in bench.peers if peer.name in {"scrigno", "orthanc"}]
    seen = bench.interleave(able, leg)
    return Row(
        group="Idle",
        name=f"memory growth of {CONNECTIONS} idle connections",
        unit="MB",
        values=seen.get("MB", {}),
        budgets=[AtMost(50, "MB")],
        notes=notes,
    )


def _note(notes: list[str], words: str) -> None:
    if words not in notes:
        notes.append(words)


@contextmanager
def _no_sockets() -> Iterator[list[socket.socket]]:
    """A list whose sockets are closed at the end, before the server stops."""
    sockets: list[socket.socket] = []
    try:
        yield sockets
    finally:
        for peer in sockets:
            peer.close()


def _raise_descriptor_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
