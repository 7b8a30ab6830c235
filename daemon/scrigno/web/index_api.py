# SPDX-License-Identifier: Apache-2.0
"""The index: how it is, its backups on the volumes, and putting one of them into force."""

from typing import Annotated, Any, Final

from aiohttp import web
from msgspec import Meta

from scrigno.archive.backups import IndexBackup
from scrigno.archive.index_state import IndexState, RestoreReport

from .answers import at, moment
from .rooms import Rooms
from .routes import For, Route, audited
from .shapes import ONE_LINE, Answer, Body, Moment, read_body

_ADMIN: Final = For.ADMINISTRATORS


class IndexAnswer(Answer):
    """How the index is, when it was last read through, and what a restore has left to do."""

    state: IndexState
    reason: str
    since: Moment
    checked_at: Moment | None
    restored_from: str
    pending_volumes: list[str]
    set_aside: list[str]
    done: int
    total: int


class BackupAnswer(Answer):
    """One backup of the index; without `verified_at` it was not read back."""

    volume: str
    name: str
    made_at: Moment
    size_bytes: int
    verified_at: Moment | None
    studies: int | None
    objects: int | None


class BackupsAnswer(Answer):
    """The backups of the index on every volume that can be read, the newest first."""

    backups: list[BackupAnswer]


class RestoreAnswer(Answer):
    """What a restore did."""

    backup: BackupAnswer
    set_aside: str
    taken_in: int
    from_journal: int
    skipped_volumes: list[str]


class RestoreBody(Body):
    """Which backup of which volume."""

    volume: Annotated[str, Meta(min_length=1, max_length=32, pattern=ONE_LINE)]
    name: Annotated[str, Meta(min_length=1, max_length=200, pattern=ONE_LINE)]


async def get_index(_request: web.Request, rooms: Rooms) -> Any:
    """Return how the index is, when it was last read through, and what a restore has left to do."""
    facts = rooms.keeper.facts
    return IndexAnswer(
        state=facts.state,
        reason=facts.reason,
        since=at(facts.since),
        checked_at=moment(facts.checked_at),
        restored_from=facts.restored_from,
        pending_volumes=list(facts.pending_volumes),
        set_aside=list(facts.set_aside),
        done=facts.done,
        total=facts.total,
    )


def backup_json(backup: IndexBackup) -> BackupAnswer:
    """Return one backup of the index."""
    return BackupAnswer(
        volume=backup.volume,
        name=backup.name,
        made_at=at(backup.made_at),
        size_bytes=backup.size,
        verified_at=moment(backup.verified_at),
        studies=backup.studies,
        objects=backup.instances,
    )


async def list_backups(_request: web.Request, rooms: Rooms) -> Any:
    """List the backups of the index on every volume that can be read, the newest first."""
    return BackupsAnswer(backups=[backup_json(each) for each in await rooms.backups.listed()])


def restore_json(report: RestoreReport) -> RestoreAnswer:
    """Return what a restore did."""
    return RestoreAnswer(
        backup=backup_json(report.backup),
        set_aside=report.set_aside,
        taken_in=report.taken_in,
        from_journal=report.from_journal,
        skipped_volumes=list(report.skipped),
    )


async def restore_index(request: web.Request, rooms: Rooms) -> Any:
    """Put a backup in the place of the index and take in what is newer; the box runs on."""
    body = await read_body(request, RestoreBody)
    audited(request, body.name, volume=body.volume)
    return restore_json(await rooms.keeper.restore(body.volume, body.name))


ROUTES: Final = (
    Route(
        method="GET", path="/index", work=get_index, allowed=_ADMIN,
        about="How the index is and what a restore has left to do", answer=IndexAnswer,
    ),
    Route(
        method="GET", path="/index/backups", work=list_backups, allowed=_ADMIN,
        about="The backups of the index on every volume", answer=BackupsAnswer,
    ),
    Route(
        method="POST", path="/index/restore", work=restore_index, allowed=_ADMIN,
        about="Put a backup in the place of the index and take in what is newer",
        body=RestoreBody, answer=RestoreAnswer, audit="index-restored",
        errors=("command-refused", "volume-error"),
    ),
)  # fmt: skip
