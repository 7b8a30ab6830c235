# SPDX-License-Identifier: Apache-2.0
"""How the index is, and what is still to be done for it after a restore."""

import json
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from scrigno.host.files import write_durably

from .backups import IndexBackup


class IndexState(StrEnum):
    """How the index is."""

    CLOSED = "closed"
    OPEN = "open"
    WAITING = "waiting"  # for the system disk, or for another process that has the file
    RESTORING = "restoring"  # not open: a backup is fetched and checked
    REPLAYING = "replaying"  # open: what is newer than the backup is being taken in
    REBUILDING = "rebuilding"  # open: it is being filled from the volumes


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexFacts:
    """How the index is at this moment, for health and the pages."""

    state: IndexState
    reason: str
    since: datetime
    checked_at: datetime | None = None  # when every page was last read and found right
    restored_from: str = ""  # the backup in force, of which volume
    pending_volumes: tuple[str, ...] = ()  # not compared with the restored index yet
    set_aside: tuple[str, ...] = ()  # names of files in the state directory
    done: int = 0  # of the replay or rebuild
    total: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreReport:
    """What a restore did."""

    backup: IndexBackup
    set_aside: str  # the name of the index that was in force; empty when there was none
    taken_in: int  # objects of volumes and inbox that the backup did not know
    from_journal: int
    skipped: tuple[str, ...]  # volumes that were away: compared as soon as they are back


@dataclass(frozen=True, slots=True, kw_only=True)
class KeeperTiming:
    """Seconds."""

    poll_s: float = 5.0
    first_check_s: float = 120.0  # after the start, when the box has settled
    check_every_s: float = 24 * 3600.0
    check_pause_s: float = 0.5  # between two tables
    volumes_s: float = 20.0  # how long backups of volumes that are still starting are waited for
    canary_s: float = 10.0  # a disk that takes longer is hung


@dataclass(frozen=True, slots=True)
class Due:
    """A replay that is not at its end; kept in a file, so that a restart goes on."""

    rebuild: bool  # no backup was found: everything comes from the volumes
    restored_from: str
    volumes: tuple[str, ...]  # still to be compared


def read_due(path: Path) -> Due | None:
    """Return the replay that the last run did not end; one that cannot be read is a whole one."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return None
    with suppress(ValueError, TypeError, KeyError):
        fields: Any = json.loads(text)
        return Due(bool(fields["rebuild"]), str(fields["from"]), tuple(map(str, fields["volumes"])))
    return Due(rebuild=True, restored_from="", volumes=())


def write_due(path: Path, due: Due | None) -> None:
    """Keep it, durable on return; blocking."""
    if due is None:
        path.unlink(missing_ok=True)
        return
    fields = {"rebuild": due.rebuild, "from": due.restored_from, "volumes": due.volumes}
    write_durably(path, json.dumps(fields).encode())
