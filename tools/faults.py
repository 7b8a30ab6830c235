# SPDX-License-Identifier: Apache-2.0
"""Break disks, processes and peers for real, under load, and judge by the senders' ledger.

Runs the rows of the fault plan, or those named, one after the other; each is a line of JSON in
build/faults and a line of the table that is printed. `--write` puts the table of the last run of
every row into docs/developer/faults.md.
"""

import argparse
import contextlib
import json
import os
import random
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests" / "support"), str(ROOT / "tests" / "faults")]

from fault_plan import ALL, matching, run_row  # noqa: E402 - the paths come first
from fault_report import line, write_page  # noqa: E402
from fault_run import Row, like  # noqa: E402

RESULTS = ROOT / "build" / "faults"


def main() -> int:
    """Run rows and return 1 when one of them is red."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", help="numbers, as 6 or 9a; none: all")
    parser.add_argument("--seed", type=int, default=0, help="0: a new one")
    parser.add_argument("--write", action="store_true", help="write the page of the last runs")
    parser.add_argument("--brief", action="store_true", help="as in the short tier, where it is")
    parser.add_argument(
        "--busy", action="store_true", help="do not judge the loop's lag: the machine is shared"
    )
    parser.add_argument("--only-write", action="store_true", help="run nothing, write the page")
    parser.add_argument("--times", type=int, default=1, metavar="N", help="run each so often")
    options = parser.parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    red = 0
    if not options.only_write:
        chosen = matching(options.rows) if options.rows else ALL
        store = RESULTS / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.jsonl"
        for row in [row for row in chosen for _ in range(options.times)]:
            if options.busy and isinstance(row, Row):
                row = replace(row, bars=like(row.bars, loop_lag_ms=None))
            seed = options.seed or random.randrange(1 << 30)  # noqa: S311 - not a secret
            place = Path(tempfile.mkdtemp(prefix="scrigno-fault-"))
            place.chmod(0o755)
            timing = getattr(row, "short", None) if options.brief else None
            result = run_row(row, place / "row", seed=seed, timing=timing)
            log = result.pop("daemon_log", "")
            if not result["green"]:
                log_path = store.with_name(f"{store.stem}-row{row.number}.log")
                log_path.write_text(log, encoding="utf-8")
            with store.open("a", encoding="utf-8") as file:
                file.write(json.dumps(result, ensure_ascii=False) + "\n")
            sys.stdout.write(line(result) + "\n")
            sys.stdout.flush()
            red += not result["green"]
            with contextlib.suppress(OSError):
                place.rmdir()
        sys.stdout.write(f"{len(chosen)} rows, {red} red; {store}\n")
    if options.write or options.only_write:
        write_page(RESULTS, ROOT / "docs" / "developer" / "faults.md", [row.number for row in ALL])
    return 1 if red else 0


if __name__ == "__main__":
    sys.exit(main())
