# SPDX-License-Identifier: Apache-2.0
"""C-MOVE to a destination that keeps nothing, and C-GET, of the study of 300 CT images."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from .clients import DESTINATION_AE, destination_argv, free_port, get, move, store, try_association
from .peers import Server
from .process import environment
from .report import Faster, Row
from .run import settle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .peers import Peer
    from .run import Bench


def move_rows(bench: Bench) -> Iterator[Row]:
    yield from _rows(bench, "move")


def get_rows(bench: Bench) -> Iterator[Row]:
    yield from _rows(bench, "get")


def _rows(bench: Bench, service: str) -> Iterator[Row]:
    for sender in bench.options.senders:
        tuned = sender == "tuned"
        name = f"C-{service.upper()} of {bench.ct.count} CT, {sender}"
        bench.say(name)
        with ExitStack() as stack:
            port = free_port()
            if service == "move":
                stack.enter_context(_destination(bench, port, tuned=tuned))
            servers = _loaded(bench, stack, service, port, tuned=tuned)

            def leg(peer: Peer) -> dict[str, float]:
                server = servers[peer.name]  # noqa: B023 - the legs end within this turn
                ask = move if service == "move" else get
                cpu = server.program.cpu_s()
                seconds = ask(server, bench.ct.study, tuned=tuned)  # noqa: B023 - as above
                cpu = server.program.cpu_s() - cpu
                return {"seconds": seconds, "cpu": cpu * 1000 / bench.ct.count}

            able = [peer for peer in bench.able(service) if peer.name in servers]
            seen = bench.interleave(able, leg)
        group = "C-MOVE and C-GET"
        yield Row(
            group=f"{group}, time until the final response",
            name=name,
            unit="s",
            values=seen.get("seconds", {}),
            budgets=[Faster("orthanc", 3)],
        )
        yield Row(
            group=f"{group}, processor time of the server",
            name=name,
            unit="ms per image",
            values=seen.get("cpu", {}),
        )


def _loaded(
    bench: Bench, stack: ExitStack, service: str, port: int, *, tuned: bool
) -> dict[str, Server]:
    """All servers of the row, each with the CT study in its archive and read once."""
    servers = {}
    for peer in bench.able(service):
        try:
            server = stack.enter_context(bench.warm(peer, tuned=tuned, destination=port))
            store(server, bench.ct.parts(1), tuned=True)
            bench.check(server, bench.ct.count, [])
            ask = move if service == "move" else get
            ask(server, bench.ct.study, tuned=tuned)
        except RuntimeError as error:
            bench.fail(f"{peer.name}: {error}")
            continue
        servers[peer.name] = server
    settle()
    return servers


@contextmanager
def _destination(bench: Bench, port: int, *, tuned: bool) -> Iterator[None]:
    with bench.folder("destination") as home:
        server = Server(
            name="destination",
            argv=destination_argv(port, tuned=tuned),
            env=environment(tuned=tuned, buffer_bytes=0),
            log=home / "storescp.log",
            port=port,
            ae_title=DESTINATION_AE,
            images=lambda: 0,
        )
        with server:
            try_association(port, DESTINATION_AE)
            yield
