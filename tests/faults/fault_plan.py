# SPDX-License-Identifier: Apache-2.0
"""The rows of the fault plan, whichever file holds them, and how to run one."""

import re
from pathlib import Path
from typing import Any

import fault_rows_around
import fault_rows_bytes
import fault_rows_disks
import fault_rows_processes
import fault_rows_proofs
import fault_rows_staging
from fault_run import Proof, Row, Timing, prove, run

AnyRow = Row | Proof

ALL: tuple[AnyRow, ...] = tuple(
    sorted(
        (
            *fault_rows_disks.ROWS,
            *fault_rows_staging.ROWS,
            *fault_rows_bytes.ROWS,
            *fault_rows_around.ROWS,
            *fault_rows_processes.ROWS,
            *fault_rows_proofs.ROWS,
        ),
        key=lambda row: (int(re.match(r"\d+", row.number).group()), row.number),  # type: ignore[union-attr]
    )
)
SHORT: tuple[Row, ...] = tuple(row for row in ALL if isinstance(row, Row) and row.short)


def matching(numbers: list[str]) -> tuple[AnyRow, ...]:
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


def run_row(
    row: AnyRow, folder: Path, *, seed: int, timing: Timing | None = None
) -> dict[str, Any]:
    """Run one row of any kind."""
    if isinstance(row, Proof):
        return prove(row, folder)
    return run(row, folder, seed=seed, timing=timing)
