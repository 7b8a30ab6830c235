# SPDX-License-Identifier: Apache-2.0
"""The study list of the web pages at 1,000,000 studies: Scrigno alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .report import Row
    from .run import Bench


def rows(bench: Bench) -> Iterator[Row]:
    """Rows of bench/list_million.py, on the same disk as everything else."""
    bench.fail("list: not measured yet")
    yield from ()
