# SPDX-License-Identifier: Apache-2.0
"""The rows of the fault plan, whichever file holds them, and how to run one."""

import re
from pathlib import Path
from typing import Any

import fault_rows_disks

from fault_run import Row, Timing, run

ALL: tuple[Row, ...] = tuple(
    sorted(
        fault_rows_disks.ROWS,
        key=lambda row: (int(re.match(r"\d+", row.number).group()), row.number),  # type: ignore[union-attr]
    )
)
SHORT: tuple[Row, ...] = tuple(row for row in ALL if row.short)


def matching(numbers: list[str]) -> tuple[Row, ...]:
    """Return the rows of these numbers; "9" names 9a and 9b. Raises SystemExit for an unknown."""
    found = tuple(
        row
        for row in ALL
        if any(
            row.number == n or re.fullmatch(rf"{re.escape(n)}[a-z]", row.number) for n in numbers
        )
    )
    for number in numbers:
        if not any(row.number.startswith(number) for row in found):
            raise SystemExit(f"there is no row {number}")
    return found


def run_row(row: Row, folder: Path, *, seed: int, timing: Timing | None = None) -> dict[str, Any]:
    """Run one row of any kind."""
    return run(row, folder, seed=seed, timing=timing)
