# SPDX-License-Identifier: Apache-2.0
"""Results of the fault plan for people: a line while it runs, a page to keep."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def line(result: Mapping[str, Any]) -> str:
    """Return one line, with what failed."""
    verdict = "green" if result["green"] else "RED  "
    figures = " ".join(
        f"{short}={result[name]}"
        for short, name in (
            ("acked", "acknowledged"), ("lost", "lost"), ("single", "single_copy"),
            ("partial", "partials"), ("wrong", "wrong_bytes_served"), ("detect", "detect_s"),
            ("next_ack", "next_ack_s"), ("refused", "refused"), ("reads", "reads_ok_pct"),
            ("web", "web_ok_pct"), ("lag_ms", "loop_lag_p99_ms"), ("settle", "settle_s"),
            ("s", "seconds"),
        )
        if name in result
    )  # fmt: skip
    text = f"{verdict} {result['row']:>4} {result['name']}\n        {figures}"
    if "broke" in result:
        return f"{text}\n        ✗ {result['broke'][:400]}"
    for name, bar in result.get("bars", {}).items():
        if not bar["ok"]:
            text += f"\n        ✗ {name}: {bar['measured']} (bar {bar['bar']})"
    for check in result.get("checks", ()):
        if not check["ok"]:
            text += f"\n        ✗ {check['what']}: {check['detail']}"
    return text


def write_page(results: Path, page: Path) -> None:
    """Write the page from the last result of every row."""
