# SPDX-License-Identifier: Apache-2.0
"""`python -m bench [ROW…]`: measure, print the table, keep the figures as JSON."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from . import (
    machine,
    rows_find,
    rows_idle,
    rows_list,
    rows_memory,
    rows_retrieve,
    rows_start,
    rows_store,
)
from .clients import DCMTK_TOOLS
from .own import Scrigno
from .peers import Dcmqrscp, Orthanc, Storescp
from .report import table, write_json
from .run import Bench, Options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .peers import Peer
    from .report import Row

REPOSITORY = Path(__file__).resolve().parent.parent
RESULTS = REPOSITORY / "bench" / "results"
ROWS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "store": rows_store.rows,
    "find": rows_find.rows,
    "move": rows_retrieve.move_rows,
    "get": rows_retrieve.get_rows,
    "idle": rows_idle.rows,
    "memory": rows_memory.rows,
    "start": rows_start.rows,
    "list": rows_list.rows,
}
PEERS: dict[str, type[Peer]] = {
    "scrigno": Scrigno,
    "orthanc": Orthanc,
    "dcmqrscp": Dcmqrscp,
    "storescp": Storescp,
}
PEER_NAMES = tuple(name for name in PEERS if name != "scrigno")
# A look at the harness in about a minute; its figures say little.
QUICK = {"pairs": 1, "ct": 24, "mr": 80, "studies": 60, "memory_mb": 8, "idle_s": 2.0}


def main(arguments: Sequence[str]) -> int:
    options = _parser().parse_args(arguments)
    absent = [tool for tool in DCMTK_TOOLS if not Path(tool).exists()]
    if absent:
        sys.exit(f"bench: {', '.join(absent)} missing: apt-get install dcmtk")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that every folder and server goes
    chosen = [PEERS[name]() for name in PEERS if name in options.peers]
    missing = [words for peer in chosen if (words := peer.missing())]
    peers = [peer for peer in chosen if not peer.missing()]
    options.place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.place) as place:
        bench = Bench(place=Path(place), peers=peers, options=_options(options))
        seen = machine.facts(bench.place)
        seen["servers"] = {peer.name: peer.describe() for peer in peers}
        rows = _measure(bench, options.rows or list(ROWS))
        seen["load_after"] = round(os.getloadavg()[0], 2)
    seen["missing"], seen["failed"] = missing, bench.failures
    result = options.results / f"{datetime.now(UTC):%Y%m%d-%H%M%S}.json"
    write_json(result, facts=seen, rows=rows)
    print(f"{machine.words(seen)}\nmedians of {bench.options.pairs} interleaved rounds; (…x): time")
    print("or amount of the peer as a multiple of Scrigno's, median of the rounds\n")
    print("\n".join(f"{name}: {words}" for name, words in seen["servers"].items()))
    print("".join(f"\n{words}" for words in missing))
    print(table(rows))
    print("".join(f"\nFAILED {words}" for words in bench.failures))
    print(f"\nfigures: {result}")
    # a peer that fails is told, and no fault of ours
    ours = [words for words in bench.failures if not words.startswith(PEER_NAMES)]
    return 1 if ours else 0


def _measure(bench: Bench, names: Sequence[str]) -> list[Row]:
    """The rows in order; Ctrl-C ends the run and keeps what was measured."""
    rows: list[Row] = []
    try:
        for name in names:
            try:
                rows.extend(ROWS[name](bench))
            except (RuntimeError, OSError) as error:
                bench.fail(f"{name}: {error}")
    except KeyboardInterrupt:
        bench.fail("interrupted: the rows after this point were not measured")
    return rows


def _options(options: argparse.Namespace) -> Options:
    given = {
        name: getattr(options, name)
        for name in Options.__dataclass_fields__
        if getattr(options, name, None) is not None
    }
    return Options(**({**QUICK, **given} if options.quick else given))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("rows", nargs="*", choices=[*ROWS, []], metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--pairs", type=int, help="interleaved rounds, 3 or more to publish")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument("--sets", nargs="+", choices=("ct", "mr"))
    parser.add_argument("--senders", nargs="+", choices=("stock", "tuned"))
    parser.add_argument("--associations", nargs="+", type=int, choices=(1, 2, 4))
    parser.add_argument("--ct", type=int, help="CT images of 512 KB (300)")
    parser.add_argument("--mr", type=int, help="MR images of 41 to 131 KB (1000)")
    parser.add_argument("--studies", type=int, help="studies of the C-FIND rows (500)")
    parser.add_argument("--buffer-bytes", type=int, help="TCP_BUFFER_LENGTH of the tuned rows")
    parser.add_argument("--memory-mb", type=int, help="one multi-frame object (64; 2048 is full)")
    parser.add_argument("--million", type=int, help="studies of the list rows (1,000,000)")
    parser.add_argument("--place", type=Path, default=REPOSITORY / "var", help="the measured disk")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--quick", action="store_true", help="a minute's look, not for publication")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
