# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: S608 - only constants of this file are put into statements
"""The send queue on the disk: each method is one query or one transaction."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from scrigno.db.engine import Database
from scrigno.db.sqlite import Connection, Row

from .send_model import ENDED, Course, ObjectState, SendItem, SendObject, SendState

_COLUMNS: Final = (
    "id, destination, study_uid, author, state, created_at, ended_at, attempts, next_at, total,"
    " sent, warned, failed, code, comment"
)
_COUNTS: Final = (
    "UPDATE item SET"
    " sent = (SELECT count(*) FROM object WHERE item_id = item.id AND state = 1),"
    " warned = (SELECT count(*) FROM object WHERE item_id = item.id AND state = 1 AND status > 0),"
    " failed = (SELECT count(*) FROM object WHERE item_id = item.id AND state = 2) WHERE id = ?"
)
_WORDS: Final = ", ".join(f"'{each}'" for each in sorted(ENDED))


class SendBook:
    """The rows of `send.db`. Loop thread only."""

    def __init__(self, database: Database) -> None:
        """Use an open database."""
        self._database = database

    async def add(
        self, requests: Sequence[tuple[str, str, Sequence[str]]], *, author: str, now: datetime
    ) -> list[SendItem]:
        """Keep (destination, study, objects), all or none; on return they survive power loss."""

        def write(db: Connection) -> list[Row]:
            made = []
            for destination, study_uid, uids in requests:
                at = now.timestamp()
                row = (destination, study_uid, author, SendState.WAITING, at, at, len(uids))
                statement = (
                    "INSERT INTO item (destination, study_uid, author, state, created_at, since,"
                    f" total) VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING {_COLUMNS}"
                )
                (item,) = db.execute(statement, row).fetchall()
                made.append(item)
                db.executemany(
                    "INSERT INTO object (item_id, position, sop_instance_uid) VALUES (?, ?, ?)",
                    [(item[0], position, uid) for position, uid in enumerate(uids)],
                )
            return made

        return [_item(row) for row in await self._database.write(write)]

    async def get(self, item_id: int) -> SendItem | None:
        """Return an item."""
        query = f"SELECT {_COLUMNS} FROM item WHERE id = ?"
        row = await self._database.read(lambda db: db.execute(query, (item_id,)).fetchone())
        return None if row is None else _item(row)

    async def page(
        self,
        *,
        author: str | None = None,
        destination: str | None = None,
        states: Sequence[SendState] = (),
        before: int = 0,
        limit: int = 100,
    ) -> list[SendItem]:
        """Return items, the newest first."""
        conditions, values = ["1"], list[Any]()
        for column, value in (("author", author), ("destination", destination)):
            if value is not None:
                conditions.append(f"{column} = ?")
                values.append(value)
        if states:
            conditions.append(f"state IN ({', '.join('?' * len(states))})")
            values += states
        if before:
            conditions.append("id < ?")
            values.append(before)
        query = (
            f"SELECT {_COLUMNS} FROM item WHERE {' AND '.join(conditions)} ORDER BY id DESC LIMIT ?"
        )
        rows = await self._database.read(lambda db: db.execute(query, (*values, limit)).fetchall())
        return [_item(row) for row in rows]

    async def objects(
        self, item_id: int, *, states: Sequence[ObjectState] = (), after: int = -1, limit: int = 500
    ) -> list[SendObject]:
        """Return objects of an item in their order."""
        chosen = f" AND state IN ({', '.join(str(int(each)) for each in states)})" if states else ""
        query = (
            "SELECT position, sop_instance_uid, state, status, code, comment FROM object"
            f" WHERE item_id = ? AND position > ?{chosen} ORDER BY position LIMIT ?"
        )
        rows = await self._database.read(
            lambda db: db.execute(query, (item_id, after, limit)).fetchall()
        )
        return [
            SendObject(
                position=row[0],
                sop_instance_uid=row[1],
                state=ObjectState(row[2]),
                status=row[3],
                code=row[4],
                comment=row[5],
            )
            for row in rows
        ]

    async def waiting_uids(self, item_id: int) -> list[str]:
        """Return what is still to be sent, in its order."""
        query = (
            "SELECT sop_instance_uid FROM object WHERE item_id = ? AND state = 0 ORDER BY position"
        )
        rows = await self._database.read(lambda db: db.execute(query, (item_id,)).fetchall())
        return [row[0] for row in rows]

    async def note(self, item_id: int, objects: Iterable[SendObject]) -> None:
        """Write what became of objects; on return it survives power loss."""
        rows = [
            (int(each.state), each.status, each.code, each.comment, item_id, each.sop_instance_uid)
            for each in objects
        ]

        def write(db: Connection) -> None:
            # what was taken stays taken, whoever says otherwise later
            db.executemany(
                "UPDATE object SET state = ?, status = ?, code = ?, comment = ?"
                " WHERE item_id = ? AND sop_instance_uid = ? AND state <> 1",
                rows,
            )
            db.execute(_COUNTS, (item_id,))

        await self._database.write(write)

    async def begin(self, item_id: int) -> bool:
        """Take an item that waits in hand; False when it waits no more."""
        statement = "UPDATE item SET state = 'sending' WHERE id = ? AND state = 'waiting'"
        return await self._changed(statement, (item_id,))

    async def end(
        self, item_id: int, state: SendState, *, code: str, comment: str, now: datetime
    ) -> bool:
        """End an item that has not ended; False when it has."""
        statement = (
            "UPDATE item SET state = ?, code = ?, comment = ?, ended_at = ?, next_at = 0"
            f" WHERE id = ? AND state NOT IN ({_WORDS})"
        )
        return await self._changed(statement, (state, code, comment, now.timestamp(), item_id))

    async def put_off(
        self, item_id: int, *, until: datetime | None, attempts: int, code: str, comment: str
    ) -> None:
        """Let an item in hand wait again, until then."""
        statement = (
            "UPDATE item SET state = 'waiting', next_at = ?, attempts = ?, code = ?, comment = ?"
            " WHERE id = ? AND state = 'sending'"
        )
        at = 0.0 if until is None else until.timestamp()
        await self._changed(statement, (at, attempts, code, comment, item_id))

    async def again(self, item_id: int, now: datetime) -> bool:
        """Let an item be tried at once, with every object that was not taken."""

        def write(db: Connection) -> int:
            found = db.execute(
                "UPDATE item SET state = 'waiting', next_at = 0, attempts = 0, since = ?,"
                " ended_at = NULL, code = '', comment = ''"
                " WHERE id = ? AND state IN ('waiting', 'failed', 'cancelled')",
                (now.timestamp(), item_id),
            ).rowcount
            if found:
                db.execute(
                    "UPDATE object SET state = 0, status = NULL, code = '', comment = ''"
                    " WHERE item_id = ? AND state = 2",
                    (item_id,),
                )
                db.execute(_COUNTS, (item_id,))
            return found

        return bool(await self._database.write(write))

    async def interrupted(self) -> None:
        """Let what was in hand when the box stopped wait for its turn again."""
        await self._changed("UPDATE item SET state = 'waiting' WHERE state = 'sending'", ())

    async def delete(self, item_id: int) -> bool:
        """Forget an item that has ended."""
        return await self._changed(
            f"DELETE FROM item WHERE id = ? AND state IN ({_WORDS})", (item_id,)
        )

    async def purge(self, before: datetime) -> int:
        """Forget what ended before then."""
        statement = f"DELETE FROM item WHERE state IN ({_WORDS}) AND ended_at < ?"
        values = (before.timestamp(),)
        return await self._database.write(lambda db: db.execute(statement, values).rowcount)

    async def since(self, item_id: int) -> datetime:
        """Return since when it has been tried without somebody asking for it anew."""
        query = "SELECT since FROM item WHERE id = ?"
        row = await self._database.read(lambda db: db.execute(query, (item_id,)).fetchone())
        return datetime.fromtimestamp(0.0 if row is None else row[0], UTC)

    # turns -------------------------------------------------------------------------------------

    async def turns(self) -> list[tuple[str, int, datetime]]:
        """Return for each destination that is not paused its next item and when it may begin."""
        query = (
            "SELECT destination, id, next_at FROM item WHERE id IN (SELECT (SELECT id FROM item"
            " WHERE state = 'waiting' AND destination = name ORDER BY next_at, id LIMIT 1)"
            " FROM (SELECT DISTINCT destination AS name FROM item WHERE state = 'waiting')"
            " WHERE name NOT IN (SELECT name FROM course))"
        )
        rows = await self._database.read(lambda db: db.execute(query).fetchall())
        return [(row[0], row[1], datetime.fromtimestamp(row[2], UTC)) for row in rows]

    async def open_count(self) -> int:
        """Return how many items have not ended."""
        query = "SELECT count(*) FROM item WHERE state IN ('waiting', 'sending')"
        rows = await self._database.read(lambda db: db.execute(query).fetchall())
        return int(rows[0][0])

    async def courses(self) -> dict[str, Course]:
        """Return every destination that has items or is paused."""

        def read(db: Connection) -> tuple[list[Row], list[Row]]:
            counts = db.execute(
                "SELECT destination, state, count(*), min(next_at) FROM item"
                " WHERE state IN ('waiting', 'sending', 'failed') GROUP BY destination, state"
            ).fetchall()
            return counts, db.execute("SELECT name, paused_by, reason FROM course").fetchall()

        counts, paused = await self._database.read(read)
        found: dict[str, Course] = {}
        for name, state, count, next_at in counts:
            one = found.get(name, Course(name=name))
            if state == SendState.WAITING:
                one = replace(one, waiting=count, next_at=_moment(next_at))
            elif state == SendState.SENDING:
                one = replace(one, sending=count)
            else:
                one = replace(one, failed=count)
            found[name] = one
        for name, paused_by, reason in paused:
            one = found.get(name, Course(name=name))
            found[name] = replace(one, paused=True, paused_by=paused_by, reason=reason)
        return found

    async def pause(self, name: str, *, author: str, reason: str, now: datetime) -> None:
        """Send nothing to a destination until `resume`."""
        statement = "INSERT OR REPLACE INTO course VALUES (?, ?, ?, ?)"
        await self._changed(statement, (name, author, reason, now.timestamp()))

    async def resume(self, name: str) -> None:
        """Send to a destination again."""
        await self._changed("DELETE FROM course WHERE name = ?", (name,))

    async def _changed(self, statement: str, values: Sequence[Any]) -> bool:
        row = tuple(values)
        return bool(await self._database.write(lambda db: db.execute(statement, row).rowcount))


def _moment(seconds: float | None) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds else None


def _item(row: Row) -> SendItem:
    return SendItem(
        id=row[0],
        destination=row[1],
        study_uid=row[2],
        author=row[3],
        state=SendState(row[4]),
        created_at=datetime.fromtimestamp(row[5], UTC),
        ended_at=_moment(row[6]),
        attempts=row[7],
        next_at=_moment(row[8]),
        total=row[9],
        sent=row[10],
        warned=row[11],
        failed=row[12],
        code=row[13],
        comment=row[14],
    )
