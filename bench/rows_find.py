# SPDX-License-Identifier: Apache-2.0
"""C-FIND at study level over some hundred studies: the whole list, one patient, one month."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from .clients import find, store
from .report import Row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .peers import Peer, Server
    from .run import Bench

COLUMNS = (
    "StudyInstanceUID",
    "PatientID",
    "StudyTime",
    "AccessionNumber",
    "StudyDescription",
    "ModalitiesInStudy",
    "NumberOfStudyRelatedInstances",
)
QUERIES = (
    ("every study, eight columns", ("PatientName", "StudyDate"), 5),
    ("patient name Rossi*", ("PatientName=Rossi*", "StudyDate"), 20),
    ("studies of one month", ("PatientName", "StudyDate=20150101-20150131"), 20),
    ("one patient ID", ("PatientName", "StudyDate", "PatientID=PID000042"), 40),
)


def rows(bench: Bench) -> Iterator[Row]:
    with ExitStack() as stack:
        servers = _loaded(bench, stack)
        for name, keys, repeat in QUERIES:
            wanted = [*keys, *(key for key in COLUMNS if not any(key in seen for seen in keys))]
            bench.say(f"C-FIND {name}")

            def leg(peer: Peer) -> dict[str, float]:
                return {"ms": find(servers[peer.name], wanted, repeat=repeat) * 1000}  # noqa: B023 - used in this turn

            able = [peer for peer in bench.able("find") if peer.name in servers]
            seen = bench.interleave(able, leg)
            yield Row(
                group=f"C-FIND, {bench.studies.count} studies",
                name=name,
                unit="ms per query",
                values=seen.get("ms", {}),
            )


def _loaded(bench: Bench, stack: ExitStack) -> dict[str, Server]:
    servers = {}
    for peer in bench.able("find"):
        try:
            server = stack.enter_context(bench.warm(peer, tuned=True))
            store(server, bench.studies.parts(1), tuned=True)
            bench.check(server, bench.studies.count, [])
            find(server, ["PatientName", "StudyInstanceUID"], repeat=1)
        except RuntimeError as error:
            bench.fail(f"{peer.name}: {error}")
            continue
        servers[peer.name] = server
    return servers
