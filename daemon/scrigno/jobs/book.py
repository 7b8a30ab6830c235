# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: S608 - only constants of this file are put into statements
"""Jobs on the disk: each method is one query or one transaction."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from scrigno.core.sight import EVERYTHING, Sight
from scrigno.db.engine import Database
from scrigno.db.sqlite import Connection, Row, Value

from .model import ENDED, FailedItem, Grant, Job, JobState, JsonObject, Result

MOST_ITEMS: Final = 10_000  # kept with their reasons for each job; all are counted
_COLUMNS: Final = (
    "id, kind, state, author, title, params, grant_json, checkpoint, counts, failed_items,"
    " failed_by_code, done, total, note, code, reason, created_at, started_at, finished_at, runs"
)


@dataclass(slots=True)
class Gained:
    """What a run has done since its last checkpoint."""

    counts: dict[str, int] = field(default_factory=dict)
    failed_by_code: dict[str, int] = field(default_factory=dict)
    items: list[FailedItem] = field(default_factory=list)  # seq is given when they are written
    failed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run has come."""

    done: int = 0
    total: int | None = None
    note: str = ""


class JobBook:
    """The rows of `jobs.db`. Loop thread only."""

    def __init__(self, database: Database, folder: Path) -> None:
        """Use an open database; results stand below `folder`."""
        self._database = database
        self._folder = folder

    async def add(
        self, *, kind: str, author: str, title: str, params: JsonObject, grant: Grant, now: datetime
    ) -> Job:
        """Write a job that waits."""
        row = (kind, JobState.WAITING, author, title, _text(params), _grant_text(grant), _at(now))
        statement = (
            "INSERT INTO job (kind, state, author, title, params, grant_json, created_at)"
            f" VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING {_COLUMNS}"
        )
        return _job(await self._database.write(lambda db: _one(db, statement, row)))

    async def get(self, job_id: int) -> Job | None:
        """Return a job."""
        query = f"SELECT {_COLUMNS} FROM job WHERE id = ?"
        row = await self._database.read(lambda db: db.execute(query, (job_id,)).fetchone())
        return None if row is None else _job(row)

    async def page(
        self,
        *,
        author: str | None,
        states: Sequence[JobState] = (),
        kinds: Sequence[str] = (),
        before: int | None = None,
        limit: int = 100,
    ) -> list[Job]:
        """Return jobs, the newest first."""
        conditions, values = ["1"], list[Any]()
        if author is not None:
            conditions.append("author = ?")
            values.append(author)
        for column, words in (("state", states), ("kind", kinds)):
            if words:
                conditions.append(f"{column} IN ({', '.join('?' * len(words))})")
                values += words
        if before is not None:
            conditions.append("id < ?")
            values.append(before)
        query = (
            f"SELECT {_COLUMNS} FROM job WHERE {' AND '.join(conditions)} ORDER BY id DESC LIMIT ?"
        )
        values.append(limit)
        rows = await self._database.read(lambda db: db.execute(query, values).fetchall())
        return [_job(row) for row in rows]

    async def waiting(self) -> list[Job]:
        """Return the jobs that wait, the oldest first."""
        query = f"SELECT {_COLUMNS} FROM job WHERE state = ? ORDER BY id"
        rows = await self._database.read(
            lambda db: db.execute(query, (JobState.WAITING,)).fetchall()
        )
        return [_job(row) for row in rows]

    async def open_count(self) -> int:
        """Return how many jobs have not ended."""
        query = f"SELECT count(*) FROM job WHERE state NOT IN ({_marks(ENDED)})"
        row = await self._database.read(lambda db: _one(db, query, tuple(ENDED)))
        return int(row[0])

    async def interrupted(self) -> None:
        """Let what ran when the box went down wait for its turn."""
        statement = "UPDATE job SET state = ? WHERE state = ?"
        values = (JobState.WAITING, JobState.RUNNING)
        await self._database.write(lambda db: db.execute(statement, values).rowcount)

    async def begin(self, job_id: int, now: datetime) -> Job | None:
        """Let a waiting job run; None when it waits no more.

        Without a checkpoint it begins anew, and so do its counts.
        """

        def change(db: Connection) -> Row | None:
            db.execute(
                "DELETE FROM item WHERE job_id = (SELECT id FROM job"
                " WHERE id = ? AND state = ? AND checkpoint = '{}')",
                (job_id, JobState.WAITING),
            )
            db.execute(
                "UPDATE job SET counts = '{}', failed_items = 0, failed_by_code = '{}', done = 0"
                " WHERE id = ? AND state = ? AND checkpoint = '{}'",
                (job_id, JobState.WAITING),
            )
            return db.execute(
                "UPDATE job SET state = ?, runs = runs + 1, started_at = coalesce(started_at, ?),"
                " finished_at = NULL, code = '', reason = ''"
                f" WHERE id = ? AND state = ? RETURNING {_COLUMNS}",
                (JobState.RUNNING, _at(now), job_id, JobState.WAITING),
            ).fetchone()

        row = await self._database.write(change)
        return None if row is None else _job(row)

    async def keep(
        self, job_id: int, checkpoint: JsonObject | None, gained: Gained, progress: Progress
    ) -> None:
        """Write checkpoint, counts, failed items and progress in one transaction."""
        await self._database.write(lambda db: _keep(db, job_id, checkpoint, gained, progress))

    async def end(
        self,
        job_id: int,
        state: JobState,
        *,
        now: datetime,
        gained: Gained | None = None,
        progress: Progress | None = None,
        code: str = "",
        reason: str = "",
    ) -> None:
        """Write how a run ended, with what it gained since its last checkpoint if that counts."""

        def change(db: Connection) -> None:
            if gained is not None and progress is not None:
                _keep(db, job_id, None, gained, progress)
            db.execute(
                "UPDATE job SET state = ?, finished_at = ?, code = ?, reason = ?,"
                " runs = CASE WHEN ? THEN 0 ELSE runs END WHERE id = ?",
                (
                    state,
                    _at(now) if state in ENDED else None,
                    code[:64],
                    reason[:1000],
                    int(state is not JobState.FAILED),
                    job_id,
                ),
            )

        await self._database.write(change)

    async def move(self, job_id: int, state: JobState, *, now: datetime, since: JobState) -> bool:
        """Change the state of a job that does not run; False when it is not in `since` any more."""
        statement = (
            "UPDATE job SET state = ?, finished_at = ?, code = '', reason = '', runs = 0"
            " WHERE id = ? AND state = ?"
        )
        values = (state, _at(now) if state in ENDED else None, job_id, since)
        return await self._database.write(lambda db: db.execute(statement, values).rowcount) == 1

    async def delete(self, job_id: int) -> None:
        """Forget a job, its items and its results."""
        statement = "DELETE FROM job WHERE id = ?"
        await self._database.write(lambda db: db.execute(statement, (job_id,)).rowcount)

    async def ended_before(self, moment: datetime, limit: int = 500) -> list[int]:
        """Return jobs that ended before `moment`."""
        query = (
            f"SELECT id FROM job WHERE state IN ({_marks(ENDED)}) AND finished_at < ?"
            " ORDER BY id LIMIT ?"
        )
        values: Sequence[Value] = (*ENDED, _at(moment), limit)
        rows = await self._database.read(lambda db: db.execute(query, values).fetchall())
        return [int(row[0]) for row in rows]

    async def items(self, job_id: int, *, after: int = 0, limit: int = 100) -> list[FailedItem]:
        """Return what failed, in its order, from beyond the item `after`."""
        query = (
            "SELECT seq, name, code, reason, ref FROM item WHERE job_id = ? AND seq > ?"
            " ORDER BY seq LIMIT ?"
        )
        values = (job_id, after, limit)
        rows = await self._database.read(lambda db: db.execute(query, values).fetchall())
        return [
            FailedItem(seq=row[0], name=row[1], code=row[2], reason=row[3], ref=row[4])
            for row in rows
        ]

    # results -------------------------------------------------------------------------------------

    async def add_result(
        self,
        job_id: int,
        *,
        name: str,
        media_type: str,
        size: int,
        digest: str,
        file: str,
        expires_at: datetime,
    ) -> int:
        """Note a file of the job's folder as its result, in the place of one of the same name."""

        def change(db: Connection) -> int:
            db.execute("DELETE FROM result WHERE job_id = ? AND name = ?", (job_id, name))
            row = (job_id, name, media_type, size, digest, file, _at(expires_at))
            return db.execute(
                "INSERT INTO result (job_id, name, media_type, size, digest, file, expires_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                row,
            ).lastrowid

        return await self._database.write(change)

    async def results(self, job_id: int | None = None) -> list[Result]:
        """Return the results of one job, or of all."""
        query = (
            "SELECT id, job_id, name, media_type, size, digest, file, expires_at FROM result"
            " WHERE ? IS NULL OR job_id = ? ORDER BY id"
        )
        rows = await self._database.read(lambda db: db.execute(query, (job_id, job_id)).fetchall())
        return [
            Result(
                id=row[0],
                job_id=row[1],
                name=row[2],
                media_type=row[3],
                size=row[4],
                digest=row[5],
                path=self._folder / str(row[1]) / row[6],
                expires_at=datetime.fromtimestamp(row[7], UTC),
            )
            for row in rows
        ]

    async def drop_result(self, result_id: int) -> None:
        """Forget a result."""
        statement = "DELETE FROM result WHERE id = ?"
        await self._database.write(lambda db: db.execute(statement, (result_id,)).rowcount)

    async def job_ids(self) -> set[int]:
        """Return every job's number."""
        rows = await self._database.read(lambda db: db.execute("SELECT id FROM job").fetchall())
        return {int(row[0]) for row in rows}


def _keep(
    db: Connection,
    job_id: int,
    checkpoint: JsonObject | None,
    gained: Gained,
    progress: Progress,
) -> None:
    row = _one(db, "SELECT counts, failed_by_code, failed_items FROM job WHERE id = ?", (job_id,))
    counts = _added(json.loads(row[0]), gained.counts)
    by_code = _added(json.loads(row[1]), gained.failed_by_code)
    failed = int(row[2])
    room = max(0, MOST_ITEMS - failed)
    db.executemany(
        "INSERT INTO item (job_id, seq, name, code, reason, ref) VALUES (?, ?, ?, ?, ?, ?)",
        [
            (job_id, failed + number, each.name, each.code, each.reason, each.ref)
            for number, each in enumerate(gained.items[:room], start=1)
        ],
    )
    db.execute(
        "UPDATE job SET counts = ?, failed_by_code = ?, failed_items = ?,"
        " runs = CASE WHEN done < ? THEN 0 ELSE runs END, done = ?, total = ?,"  # it gets on
        " note = ?, checkpoint = coalesce(?, checkpoint) WHERE id = ?",
        (
            _text(counts),
            _text(by_code),
            failed + gained.failed,
            progress.done,
            progress.done,
            progress.total,
            progress.note,
            None if checkpoint is None else _text(checkpoint),
            job_id,
        ),
    )


def _added(before: dict[str, int], more: Mapping[str, int]) -> dict[str, int]:
    for name, count in more.items():
        before[name] = before.get(name, 0) + count
    return before


def _one(db: Connection, sql: str, values: Sequence[Any]) -> Row:
    row = db.execute(sql, values).fetchone()
    assert row is not None  # noqa: S101 - each of these statements answers one row
    return row


def _marks(words: frozenset[JobState]) -> str:
    return ", ".join("?" * len(words))


def _text(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _at(moment: datetime) -> float:
    return moment.timestamp()


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _grant_text(grant: Grant) -> str:
    sight = {
        each.name: sorted(value) if isinstance(value, frozenset) else value
        for each in fields(Sight)
        if (value := getattr(grant.sight, each.name)) != getattr(EVERYTHING, each.name)
    }
    return _text({"permissions": sorted(grant.permissions), "sight": sight})


def _grant(text: str) -> Grant:
    value = json.loads(text)
    sight = value["sight"]
    uids = sight.pop("study_uids", None)
    conditions = {name: tuple(words) for name, words in sight.items()}
    # a condition that this release does not know raises here: nobody sees more than he may
    return Grant(
        permissions=frozenset(value["permissions"]),
        sight=Sight(study_uids=None if uids is None else frozenset(uids), **conditions),
    )


def _job(row: Row) -> Job:
    return Job(
        id=row[0],
        kind=row[1],
        state=JobState(row[2]),
        author=row[3],
        title=row[4],
        params=json.loads(row[5]),
        grant=_grant(row[6]),
        checkpoint=json.loads(row[7]),
        counts=json.loads(row[8]),
        failed_items=row[9],
        failed_by_code=json.loads(row[10]),
        done=row[11],
        total=row[12],
        note=row[13],
        code=row[14],
        reason=row[15],
        created_at=datetime.fromtimestamp(row[16], UTC),
        started_at=_moment(row[17]),
        finished_at=_moment(row[18]),
        runs=row[19],
    )
