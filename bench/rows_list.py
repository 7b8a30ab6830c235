# SPDX-License-Identifier: Apache-2.0
"""The study list and C-FIND at 1,000,000 studies, asked of the index itself: Scrigno alone.

The index is generated once (some minutes) and kept in the measured place for the next run.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from .report import OURS, AtMost, Row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .run import Bench

BUDGET_MS = 200


def rows(bench: Bench) -> Iterator[Row]:
    """One row per group of questions: the slowest of them, with how many are over the budget."""
    from . import list_million, million

    index = bench.place.parent / f"million-{bench.options.million}.db"
    if not index.exists():
        bench.say(f"generating {bench.options.million} studies into {index}")
        million.fill(index, bench.options.million)
    bench.say("asking for lists")
    figures = asyncio.run(list_million.measure(index))
    for group in dict.fromkeys(figure.group for figure in figures):
        asked = sorted((f for f in figures if f.group == group), key=lambda f: -f.median_ms)
        over = [figure for figure in asked if figure.median_ms > BUDGET_MS]
        yield Row(
            group=f"Index of {bench.options.million:,} studies, slowest question of each group",
            name=f"{group}: {asked[0].what}",
            unit="ms",
            values={OURS: [asked[0].median_ms]},
            budgets=[AtMost(BUDGET_MS, "ms")],
            notes=[f"{len(over)} of {len(asked)} questions are over {BUDGET_MS} ms"],
        )
