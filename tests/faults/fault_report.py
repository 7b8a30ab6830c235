# SPDX-License-Identifier: Apache-2.0
"""Results of the fault plan for people: a line while it runs, a page to keep."""

import json
import platform
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

SHOWN = (
    ("acked", "acknowledged"), ("lost", "lost"), ("single", "single_copy"),
    ("partial", "partials"), ("wrong", "wrong_bytes_served"), ("detect", "detect_s"),
    ("next_ack", "next_ack_s"), ("refused", "refused"), ("reads", "reads_ok_pct"),
    ("web", "web_ok_pct"), ("lag_ms", "loop_lag_p99_ms"), ("settle", "settle_s"),
    ("passed", "passed"), ("s", "seconds"),
)  # fmt: skip

MARK = "<!-- what follows is written by tools/faults.py --write -->\n"


def line(result: Mapping[str, Any]) -> str:
    """Return one line, with what failed."""
    verdict = "green" if result["green"] else "RED  "
    figures = " ".join(f"{short}={result[name]}" for short, name in SHOWN if name in result)
    text = f"{verdict} {result['row']:>4} {result['name']}\n        {figures}"
    return "\n        ✗ ".join([text, *problems(result)])


def problems(result: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with a result, in words."""
    if "broke" in result:
        return [str(result["broke"])[:400]]
    found = [
        f"{name}: {bar['measured']} (bar {bar['bar']})"
        for name, bar in result.get("bars", {}).items()
        if not bar["ok"]
    ]
    return found + [
        f"{check['what']}: {check['detail']}" for check in result["checks"] if not check["ok"]
    ]


_PATH = re.compile(r"(?<![\w.<])/(?:[^\s/'\",;:()\[\]{}|]+/)+([^\s/'\",;:()\[\]{}|]*)")
_STAMP = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d\S*")
_NUMBERED = re.compile(r"\b(?:0x[0-9a-f]{6,}|pid \d+|process \d+|/dev/loop\d+)\b")
REASON_MOST = 160


def plain(reason: str) -> str:
    """Return a reason fit for a page: one line, no path of this machine, no line of a log.

    The repository's own files keep their path, since that is where a reader looks.
    """
    line = next((each.strip() for each in reason.splitlines() if each.strip()), "")
    line = _STAMP.sub("…", line)
    line = _PATH.sub(lambda match: match[1] or "…", line)
    line = _NUMBERED.sub("…", line).replace("|", "/")
    return line if len(line) <= REASON_MOST else f"{line[: REASON_MOST - 1]}…"


def last_results(results: Path) -> dict[str, dict[str, Any]]:
    """Return the newest result of every row that was ever run here."""
    newest: dict[str, dict[str, Any]] = {}
    for path in sorted(results.glob("*.jsonl")):
        for text in path.read_text(encoding="utf-8").splitlines():
            result = json.loads(text)
            newest[result["row"]] = {**result, "on": path.name[:8]}
    return newest


def write_page(results: Path, page: Path, order: Iterable[str]) -> None:
    """Write the tables after MARK from the last result of every row, in the order of the plan."""
    newest = last_results(results)
    rows = [newest[number] for number in order if number in newest]
    under_load = [row for row in rows if "tests" not in row]
    proved = [row for row in rows if "tests" in row]
    green = sum(row["green"] for row in rows)
    text = page.read_text(encoding="utf-8").partition(MARK)[0] + MARK
    text += (
        f"\n## Rows under load\nLinux {platform.release().split('-')[0]}, 2 cores; times are those"
        f" of that machine, shared with other work. {green} of {len(rows)} rows are green.\n\n"
        "| row | fault | acked | lost | single copy | partial | wrong | detect s | next ack s |"
        " reads % | web % | lag ms | whole after s | |\n" + "|---" * 14 + "|\n"
    )
    for row in under_load:
        cells = [
            _cell(row.get(name))
            for name in (
                "acknowledged", "lost", "single_copy", "partials", "wrong_bytes_served",
                "detect_s", "next_ack_s", "reads_ok_pct", "web_ok_pct", "loop_lag_p99_ms",
                "settle_s",
            )
        ]  # fmt: skip
        text += f"| {row['row']} | {row['name']} | {' | '.join(cells)} | {_verdict(row)} |\n"
    text += (
        "\n## Rows that tests of the rooms prove\n\n| row | fault | tests | |\n|---|---|---|---|\n"
    )
    for row in proved:
        names = ", ".join(f"`{name}`" for name in sorted({t.split("::")[0] for t in row["tests"]}))
        text += f"| {row['row']} | {row['name']} | {row['passed']} in {names} | {_verdict(row)} |\n"
    notes = [f"- **{row['row']}** {row['note']}" for row in rows if row["note"]]
    text += "\n## Notes\n" + "\n".join(notes) + "\n"
    red = [row for row in rows if not row["green"]]
    if red:
        text += "\n## Red\n" + "\n".join(
            f"- **{row['row']}** {row['name']}: {'; '.join(map(plain, problems(row)))}"
            for row in red
        )
        text += "\n"
    page.write_text(text, encoding="utf-8")


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _verdict(row: Mapping[str, Any]) -> str:
    return "green" if row["green"] else "**red**"
