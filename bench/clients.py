# SPDX-License-Identifier: Apache-2.0
"""The clients: DCMTK's command-line tools, and bare associations that only wait."""

from __future__ import annotations

import random
import select
import socket
import struct
import time
from typing import TYPE_CHECKING

from .process import environment, run_together

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from .peers import Server

# By full path: pynetdicom installs programs of the same names into a virtual environment.
STORESCU = "/usr/bin/storescu"
STORESCP = "/usr/bin/storescp"
MOVESCU = "/usr/bin/movescu"
GETSCU = "/usr/bin/getscu"
FINDSCU = "/usr/bin/findscu"
DCMTK_TOOLS = (STORESCU, STORESCP, MOVESCU, GETSCU, FINDSCU)

CALLING_AE = "BENCH"
DESTINATION_AE = "BENCHDEST"
VERIFICATION = "1.2.840.10008.1.1"
APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
CONNECTIONS_PER_NODE = 8
IMPLICIT_LITTLE = "1.2.840.10008.1.2"


def free_port() -> int:
    """Return a port of loopback that is free now, below those the system hands out by itself.

    A client that knocks at such a one before its server listens can meet itself (TCP simultaneous
    open), and then holds the port that the server wants.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("0.0.0.0", port))
            except OSError:
                continue
            return port


def store(
    server: Server, parts: Sequence[Sequence[Path]], *, tuned: bool, buffer_bytes: int = 0
) -> float:
    """Seconds until every `storescu`, one per part, has had its last Success and released."""
    commands = [
        [*_peer(STORESCU, server), "+sd", "+r", *(str(path) for path in part)] for part in parts
    ]
    return run_together(commands, env=environment(tuned=tuned, buffer_bytes=buffer_bytes))


def store_files(server: Server, files: Sequence[Path]) -> float:
    """One association per file, all at the same time, stock sender."""
    commands = [[*_peer(STORESCU, server), "--required", str(path)] for path in files]
    return run_together(commands, env=environment(tuned=False, buffer_bytes=0))


def move(server: Server, study: str, *, tuned: bool) -> float:
    command = [*_peer(MOVESCU, server), "-aem", DESTINATION_AE, *_study_keys(study)]
    return run_together([command], env=environment(tuned=tuned, buffer_bytes=0))


def get(server: Server, study: str, *, tuned: bool) -> float:
    pdu = ["-pdu", "131072"] if tuned else []
    command = [*_peer(GETSCU, server), *pdu, "--ignore", *_study_keys(study)]
    return run_together([command], env=environment(tuned=tuned, buffer_bytes=0))


def find(server: Server, keys: Sequence[str], *, repeat: int) -> float:
    """Seconds of one C-FIND, the mean of `repeat` on one association."""
    command = [*_peer(FINDSCU, server), "-S", "-sr", "--repeat", str(repeat)]
    command += ["-k", "QueryRetrieveLevel=STUDY"]
    for key in keys:
        command += ["-k", key]
    return run_together([command], env=environment(tuned=True, buffer_bytes=0)) / repeat


def destination_argv(port: int, *, tuned: bool) -> list[str]:
    """A C-MOVE destination that reads every byte and keeps none."""
    pdu = ["-pdu", "131072"] if tuned else []
    return [STORESCP, "--fork", "--ignore", "-aet", DESTINATION_AE, *pdu, str(port)]


def _peer(tool: str, server: Server) -> list[str]:
    peer = ["-aet", CALLING_AE, "-aec", server.ae_title, "127.0.0.1", str(server.port)]
    return [tool, *peer]


def _study_keys(study: str) -> list[str]:
    return ["-S", "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study}"]


def association_request(called: str) -> bytes:
    """A-ASSOCIATE-RQ that proposes Verification only (PS3.8 9.3.2)."""
    context = bytes((1, 0, 0, 0))
    context += _item(0x30, VERIFICATION.encode()) + _item(0x40, IMPLICIT_LITTLE.encode())
    user = _item(0x51, struct.pack(">I", 16384)) + _item(0x52, b"2.25.1")
    items = _item(0x10, APPLICATION_CONTEXT.encode()) + _item(0x20, context) + _item(0x50, user)
    titles = called.ljust(16).encode() + CALLING_AE.ljust(16).encode()
    body = struct.pack(">HH", 1, 0) + titles + bytes(32) + items
    return struct.pack(">BBI", 1, 0, len(body)) + body


def _item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(value)) + value


def try_association(port: int, called: str, *, timeout_s: float = 5.0) -> bool:
    """True when the server at `port` accepts an association, which is then aborted."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as peer:
            peer.sendall(association_request(called))
            return peer.recv(1) == b"\x02"
    except OSError:
        return False


def open_associations(
    port: int, called: str, count: int, *, wait_s: float
) -> tuple[list[socket.socket], int]:
    """Ask for an association on each of `count` connections: they, and how many got one in time."""
    peers = []
    request = association_request(called)
    for number in range(count):
        # from many addresses, as in a clinic: servers guard against a node that opens them all
        source = (f"127.0.1.{1 + number // CONNECTIONS_PER_NODE}", 0)
        peer = socket.create_connection(("127.0.0.1", port), timeout=10, source_address=source)
        peer.sendall(request)
        peers.append(peer)
    poll = select.poll()
    waiting = {}
    for peer in peers:
        waiting[peer.fileno()] = peer
        poll.register(peer, select.POLLIN)
    accepted = 0
    deadline = time.perf_counter() + wait_s
    while waiting and time.perf_counter() < deadline:
        for descriptor, _ in poll.poll(100):
            poll.unregister(descriptor)
            accepted += _is_accept(waiting.pop(descriptor))
    return peers, accepted


def _is_accept(peer: socket.socket) -> bool:
    try:
        return peer.recv(4096)[:1] == b"\x02"
    except OSError:
        return False
