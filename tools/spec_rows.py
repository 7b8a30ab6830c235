# SPDX-License-Identifier: Apache-2.0
"""Print which rows of the specification have a passing test, and which have none.

The tests are run and watched: a row counts as proved only when at least one test marked with it
passed and none failed. `--collect` only lists the marks without running (quick).
"""

import argparse
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROWS = ROOT / "docs" / "specification.md"


@dataclass
class Watcher:
    """A pytest plugin that keeps the outcome of each marked test by row."""

    tests: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    passed: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    failed: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    rows_of: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Note the rows of each collected test."""
        for item in items:
            rows = tuple(row for mark in item.iter_markers("spec") for row in mark.args)
            self.rows_of[item.nodeid] = rows
            for row in rows:
                self.tests[row].add(item.nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note how each test ended."""
        for row in self.rows_of.get(report.nodeid, ()):
            if report.failed:
                self.failed[row].add(report.nodeid)
            elif report.when == "call" and report.passed:
                self.passed[row].add(report.nodeid)


def rows_of_the_specification() -> dict[str, str]:
    """Return row id to its first words, in the order of docs/specification.md."""
    rows = {}
    for line in ROWS.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) >= 4 and "-" in cells[1] and cells[1].split("-")[-1].isdigit():
            rows[cells[1]] = cells[2]
    return rows


def main() -> int:
    """Print the table; return 1 when a marked row is unknown or a marked test failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--collect", action="store_true", help="list the marks, run nothing")
    options = parser.parse_args()
    watcher = Watcher()
    arguments = ["-q", "--no-header", "--tb=line", "-p", "no:cacheprovider", str(ROOT / "tests")]
    code = pytest.main(
        [*arguments, *(["--collect-only", "-qq"] if options.collect else [])], [watcher]
    )
    rows = rows_of_the_specification()
    out = sys.stdout.write
    out("\nrow     proved by                what\n")
    for row, what in rows.items():
        if options.collect:
            state = f"{len(watcher.tests[row])} tests" if watcher.tests[row] else "-"
        elif watcher.failed[row]:
            state = f"FAILED: {len(watcher.failed[row])} of {len(watcher.tests[row])} tests"
        elif watcher.passed[row]:
            state = f"{len(watcher.passed[row])} passing tests"
        else:
            state = "-"
        out(f"{row:7} {state:24} {what}\n")
    unknown = sorted(set(watcher.tests) - set(rows))
    for row in unknown:
        out(f"unknown row {row}: {', '.join(sorted(watcher.tests[row]))}\n")
    return int(bool(unknown) or code not in (0, pytest.ExitCode.NO_TESTS_COLLECTED))


if __name__ == "__main__":
    sys.exit(main())
