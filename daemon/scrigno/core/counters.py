# SPDX-License-Identifier: Apache-2.0
"""Counters that rooms add to and the metrics page reads. Loop thread only."""

from collections.abc import Iterator


class Counters:
    """Named, labelled, ever-growing numbers; adding is one dictionary update."""

    def __init__(self) -> None:
        """Start with nothing counted."""
        self._values: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}

    def add(self, name: str, amount: float = 1, /, **labels: str) -> None:
        """Add `amount` to the counter `name` (snake case, with its unit) of these labels."""
        key = (name, tuple(sorted(labels.items())))
        self._values[key] = self._values.get(key, 0) + amount

    def value(self, name: str, /, **labels: str) -> float:
        """Return what was counted under exactly these labels."""
        return self._values.get((name, tuple(sorted(labels.items()))), 0)

    def __iter__(self) -> Iterator[tuple[str, dict[str, str], float]]:
        """Yield name, labels and value of every counter, by name."""
        for (name, labels), value in sorted(self._values.items()):
            yield name, dict(labels), value
