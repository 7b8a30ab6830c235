# SPDX-License-Identifier: Apache-2.0
"""Import of files and folders of this machine, with a reason for every file left out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Refused:
    """One file that was not taken in."""

    path: str
    code: str
    reason: str


@dataclass(slots=True)
class ImportReport:
    """What an import did so far."""

    found: int = 0
    new: int = 0
    same: int = 0
    conflict: int = 0
    unreadable_kept: int = 0
    cancelled: bool = False
    refused: list[Refused] = field(default_factory=list)


class Importer:
    """Takes files in through the same way as every other door."""

    async def import_paths(
        self,
        paths: Sequence[Path],
        *,
        recursive: bool = True,
        user: str = "",
        progress: Callable[[int, int], None] | None = None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> ImportReport:
        """Import files and folders; `progress(done, found)` is called on the loop."""
        raise NotImplementedError
