# SPDX-License-Identifier: Apache-2.0
"""The index anew from what stands on a volume, while the box goes on working."""

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True)
class RebuildReport:
    """What a rebuild did so far."""

    volumes: list[str] = field(default_factory=list)
    scanned: int = 0
    added: int = 0
    known: int = 0
    inbox: int = 0
    unreadable: list[str] = field(default_factory=list)  # keys on the volume
    conflicts: list[str] = field(default_factory=list)  # keys on the volume
    cancelled: bool = False


class Rebuilder:
    """Reads volumes and writes the index."""

    async def rebuild(
        self,
        *,
        volume: str | None = None,
        progress: Callable[[int, int], None] | None = None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> RebuildReport:
        """Rebuild from one volume, or from all; raises CommandError for a volume that is away."""
        raise NotImplementedError
