# SPDX-License-Identifier: Apache-2.0
"""Settings of import, export and the jobs that do them, and what each may say."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .kinds import Folder, Group, Key, ListOf, Whole


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferSettings:
    """Where files may come from and go to, and how much room they take on the system disk.

    `roots` are the folders of the box below which people may import and export; sticks and discs
    are mounted below the first two by most systems.
    """

    roots: tuple[Path, ...] = (Path("/media"), Path("/run/media"))
    uploads_gib: int = 20
    uploads_hours: int = 24
    results_gib: int = 20
    results_days: int = 7
    jobs_days: int = 90


_GIB: Final = Whole(lowest=1, highest=100_000)
TRANSFER: Final = Group(
    build=TransferSettings,
    keys={
        "roots": Key(
            kind=ListOf(item=Folder(), most=32),
            about="Folders of the box that may be imported from and exported to; empty is none",
        ),
        "uploads_gib": Key(kind=_GIB, about="Room for uploads on their way into the archive"),
        "uploads_hours": Key(
            kind=Whole(lowest=1, highest=8760), about="Hours for which an idle upload is kept"
        ),
        "results_gib": Key(kind=_GIB, about="Room for what jobs made and somebody may fetch"),
        "results_days": Key(
            kind=Whole(lowest=1, highest=3650), about="Days for which results are kept"
        ),
        "jobs_days": Key(
            kind=Whole(lowest=1, highest=3650), about="Days for which jobs that ended are listed"
        ),
    },
)
