# SPDX-License-Identifier: Apache-2.0
"""What the page of the faults says of a red row: a reason for people, nothing of this machine."""

import json
from pathlib import Path

import pytest

from fault_report import MARK, plain, write_page


@pytest.mark.parametrize(
    ("reason", "wanted"),
    [
        ("alert index-failed: never raised (bar raised and cleared)", None),
        ("loop_lag_p99_ms: 255.88 (bar <= 250)", None),
        ("reads 4.2 % of 1/2 asked", None),
        (
            "TimeoutExpired: Command '['strace', '-o', '/tmp/x-fault-3/row/strace.txt', '-p']'",
            "TimeoutExpired: Command '['strace', '-o', 'strace.txt', '-p']'",
        ),
        (
            "AssertionError: the daemon ended at start:\nTraceback (most recent call last):",
            "AssertionError: the daemon ended at start:",
        ),
        ("2026-11-22T17:00:14.174Z INFO closed /dev/loop7", "… INFO closed loop7"),
        ("[Errno 5] no: '/home/a/state/settings'", "[Errno 5] no: 'settings'"),
        ("a | b", "a / b"),
        ("", ""),
    ],
)  # fmt: skip
def test_a_reason_holds_no_path_and_no_line_of_a_log(reason: str, wanted: str | None) -> None:
    assert plain(reason) == (reason if wanted is None else wanted)
    assert len(plain(reason * 50)) <= 160


def test_the_page_is_written_with_plain_reasons(tmp_path: Path) -> None:
    result = {
        "row": "1", "name": "a row", "note": "", "green": False, "checks": [],
        "broke": "Refused: '/tmp/of-this-machine/row/box'\n2026-11-22T17:00:14Z INFO secret",
    }  # fmt: skip
    (tmp_path / "20260101-1.jsonl").write_text(json.dumps(result) + "\n")
    page = tmp_path / "page.md"
    page.write_text(f"# Head\n{MARK}old")
    write_page(tmp_path, page, ["1"])
    text = page.read_text()
    assert "- **1** a row: Refused: 'box'\n" in text
    for word in ("of-this-machine", "INFO", "secret", "old"):
        assert word not in text
