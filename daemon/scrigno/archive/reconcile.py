# SPDX-License-Identifier: Apache-2.0
"""What the index says against what stands on the volumes."""

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """One difference between index and volume."""

    volume: str
    key: str
    kind: str  # 'orphan' | 'missing' | 'wrong-size'
    fixed: bool
    note: str = ""


@dataclass(slots=True)
class ReconcileReport:
    """What a reconciliation found so far."""

    volumes: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)  # volumes that are away
    files: int = 0
    instances: int = 0
    discrepancies: list[Discrepancy] = field(default_factory=list)
    cancelled: bool = False


class Reconciler:
    """Compares, and on demand repairs."""

    async def reconcile(
        self,
        *,
        fix: bool = False,
        progress: Callable[[int, int], None] | None = None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> ReconcileReport:
        """Compare every volume with the index; `fix` takes orphans in and repairs copies."""
        raise NotImplementedError
