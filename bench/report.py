# SPDX-License-Identifier: Apache-2.0
"""Rows, budgets and the table: pure functions of what was measured."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

OURS = "scrigno"
COLUMNS = ("scrigno", "orthanc", "dcmqrscp", "storescp", "disk x1", "disk x2")

Values = dict[str, list[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """`met` is None when one of the two sides was not measured."""

    budget: str
    measured: str
    met: bool | None

    def words(self) -> str:
        state = {True: "met", False: "NOT MET", None: "not measured"}[self.met]
        return f"{self.budget}: {self.measured + ', ' if self.measured else ''}{state}"


class Budget(Protocol):
    def judge(self, values: Values) -> Verdict: ...


@dataclass(frozen=True, slots=True)
class Faster:
    """The peer takes at least `times` as long as Scrigno: median of the ratios of the pairs."""

    peer: str
    times: float

    def judge(self, values: Values) -> Verdict:
        ratio = paired_ratio(values, over=self.peer, under=OURS)
        return _verdict(f">= {self.times:g} x {self.peer}", ratio, " x", "at least", self.times)


@dataclass(frozen=True, slots=True)
class Within:
    """Scrigno takes at most `times` as long as the peer."""

    peer: str
    times: float

    def judge(self, values: Values) -> Verdict:
        ratio = paired_ratio(values, over=OURS, under=self.peer)
        words = f"<= {self.times:g} x the time of {self.peer}"
        return _verdict(words, ratio, " x", "at most", self.times)


@dataclass(frozen=True, slots=True)
class AtMost:
    """Scrigno's median is at most `limit`."""

    limit: float
    unit: str

    def judge(self, values: Values) -> Verdict:
        ours = values.get(OURS)
        words = f"<= {self.limit:g} {self.unit}"
        return _verdict(
            words, median(ours) if ours else None, f" {self.unit}", "at most", self.limit
        )


@dataclass(frozen=True, slots=True)
class Either:
    """One of two budgets is enough."""

    first: Budget
    second: Budget

    def judge(self, values: Values) -> Verdict:
        one, other = self.first.judge(values), self.second.judge(values)
        met = None if one.met is None and other.met is None else bool(one.met or other.met)
        measured = " / ".join(part for part in (one.measured, other.measured) if part)
        return Verdict(budget=f"{one.budget} or {other.budget}", measured=measured, met=met)


@dataclass(slots=True, kw_only=True)
class Row:
    """One line of the table: what each server took, pair by pair in the order of the run."""

    group: str
    name: str
    unit: str
    values: Values
    budgets: Sequence[Budget] = ()
    notes: list[str] = field(default_factory=list)

    def verdicts(self) -> list[Verdict]:
        return [budget.judge(self.values) for budget in self.budgets]

    def as_json(self) -> dict[str, Any]:
        return {
            "group": self.group,
            "name": self.name,
            "unit": self.unit,
            "values": self.values,
            "medians": {peer: median(seen) for peer, seen in self.values.items() if seen},
            "ratios": {
                peer: paired_ratio(self.values, over=peer, under=OURS)
                for peer in self.values
                if peer != OURS
            },
            "budgets": [
                {"budget": seen.budget, "measured": seen.measured, "met": seen.met}
                for seen in self.verdicts()
            ],
            "notes": self.notes,
        }


def paired_ratio(values: Values, *, over: str, under: str) -> float | None:
    """Median of over/under, pair by pair; None when one side has no value."""
    pairs = zip(values.get(over, ()), values.get(under, ()), strict=False)
    ratios = [one / other for one, other in pairs if other > 0]
    return median(ratios) if ratios else None


def _verdict(budget: str, value: float | None, unit: str, side: str, limit: float) -> Verdict:
    if value is None:
        return Verdict(budget=budget, measured="", met=None)
    met = value >= limit if side == "at least" else value <= limit
    return Verdict(budget=budget, measured=f"{value:.3g}{unit}", met=met)


def table(rows: Iterable[Row]) -> str:
    """The rows as plain text, one block per group, budgets under the row they judge."""
    blocks: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if not (row.values or row.budgets):
            continue
        blocks.setdefault((row.group, row.unit), []).append(row)
    return "\n\n".join(_block(*key, seen) for key, seen in blocks.items())


def _block(group: str, unit: str, rows: Sequence[Row]) -> str:
    columns = [name for name in COLUMNS if any(row.values.get(name) for row in rows)]
    width = max(44, *(len(row.name) + 2 for row in rows))
    lines = [f"{group} [{unit}]", " " * width + "".join(f"{name:>18}" for name in columns)]
    for row in rows:
        cells = "".join(f"{_cell(row.values, name):>18}" for name in columns)
        lines.append(f"{row.name:<{width}}{cells}".rstrip())
        lines += [f"    {verdict.words()}" for verdict in row.verdicts()]
        lines += [f"    note: {note}" for note in row.notes]
    return "\n".join(lines)


def _cell(values: Mapping[str, list[float]], name: str) -> str:
    seen = values.get(name)
    if not seen:
        return "-"
    middle = median(seen)
    text = f"{middle:.4g}" if middle < 1000 else f"{middle:.0f}"
    if name == OURS:
        return text
    ratio = paired_ratio(dict(values), over=name, under=OURS)
    return text if ratio is None else f"{text} ({ratio:.3g}x)"


def write_json(path: Path, *, facts: Mapping[str, Any], rows: Iterable[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figures = {"facts": dict(facts), "rows": [row.as_json() for row in rows]}
    path.write_text(json.dumps(figures, indent=1) + "\n")
