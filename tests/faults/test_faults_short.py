# SPDX-License-Identifier: Apache-2.0
"""The most telling rows of the fault plan, briefly; `make faults` runs all of them at full length.

What a test here asserts is what the whole row asserts: every bar, by the senders' own ledger.
"""

import os
import random
from pathlib import Path

import pytest

from fault_plan import SHORT
from fault_report import line
from fault_run import Row, run
from loopfs import need_loop

# About images that were acknowledged a row gets no second chance. All else (times, a mount that is
# let go late, a sender that is stopped with the box) a busy machine may miss, but not three times.
FINAL = {"lost", "single_copy", "partials", "wrong_bytes_served", "unexpected_exits"}
TRIES = 3

SEED = int(os.environ.get("SCRIGNO_TEST_SEED", "0"))


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.spec("ST-1", "ST-2", "ST-3", "ST-6", "ST-7")
@pytest.mark.parametrize("row", SHORT, ids=lambda row: f"row {row.number}")
def test_what_was_acknowledged_is_there_after(row: Row, tmp_path: Path) -> None:
    need_loop()
    seed = SEED or random.randrange(1 << 30)
    for number in range(TRIES):
        result = run(row, tmp_path / f"row{number}", seed=seed, timing=row.short)
        log = result.pop("daemon_log")
        print(line(result), f"seed {seed}")
        wrong = {
            name
            for name, bar in result["bars"].items()
            if not bar["ok"] and bar["measured"] is not None
        }
        if result["green"] or wrong & FINAL:
            break
    assert result["green"], f"{line(result)}\nseed {seed}\n{log[-4000:]}"
