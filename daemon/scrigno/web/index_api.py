# SPDX-License-Identifier: Apache-2.0
"""The index: how it is, its backups on the volumes, and putting one of them into force."""

from typing import Any, Final

from aiohttp import web

from scrigno.archive.backups import IndexBackup
from scrigno.archive.index_state import RestoreReport

from .answers import moment
from .bodies import read_object, text
from .rooms import Rooms, author_of
from .routes import For, Route, fields

_ADMIN: Final = For.ADMINISTRATORS


async def get_index(request: web.Request, rooms: Rooms) -> Any:
    """Return how the index is, when it was last read through, and what a restore has left to do."""
    facts = rooms.keeper.facts
    return {
        "state": facts.state,
        "reason": facts.reason,
        "since": moment(facts.since),
        "checked_at": moment(facts.checked_at),
        "restored_from": facts.restored_from,
        "pending_volumes": facts.pending_volumes,
        "set_aside": facts.set_aside,
        "done": facts.done,
        "total": facts.total,
    }


def backup_json(backup: IndexBackup) -> dict[str, Any]:
    """Return one backup of the index; without `verified_at` it was not read back."""
    return {
        "volume": backup.volume,
        "name": backup.name,
        "made_at": moment(backup.made_at),
        "size_bytes": backup.size,
        "verified_at": moment(backup.verified_at),
        "studies": backup.studies,
        "objects": backup.instances,
    }


async def list_backups(request: web.Request, rooms: Rooms) -> Any:
    """List the backups of the index on every volume that can be read, the newest first."""
    return {"backups": [backup_json(each) for each in await rooms.backups.listed()]}


def restore_json(report: RestoreReport) -> dict[str, Any]:
    """Return what a restore did."""
    return {
        "backup": backup_json(report.backup),
        "set_aside": report.set_aside,
        "taken_in": report.taken_in,
        "from_journal": report.from_journal,
        "skipped_volumes": report.skipped,
    }


async def restore_index(request: web.Request, rooms: Rooms) -> Any:
    """Put a backup in the place of the index and take in what is newer; the box runs on."""
    body = await read_object(request)
    volume, name = text(body, "volume", most=32), text(body, "name", most=200)
    report = await rooms.keeper.restore(volume, name)
    rooms.audit.record(author_of(request), "index-restored", name, details={"volume": volume})
    return restore_json(report)


ROUTES: Final = (
    Route(
        method="GET", path="/index", work=get_index, allowed=_ADMIN,
        about="How the index is and what a restore has left to do",
    ),
    Route(
        method="GET", path="/index/backups", work=list_backups, allowed=_ADMIN,
        about="The backups of the index on every volume",
    ),
    Route(
        method="POST", path="/index/restore", work=restore_index, allowed=_ADMIN,
        about="Put a backup in the place of the index and take in what is newer",
        body=fields("volume", "name"), errors=("command-refused", "volume-error"),
    ),
)  # fmt: skip
