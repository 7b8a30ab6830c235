# SPDX-License-Identifier: Apache-2.0
"""What webhooks still have to tell, what became of what was told, and studies that grow.

`<state_dir>/webhooks.db`, a file of its own: when it is lost, messages are lost and no image. On
return from a write what was written survives power loss.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from scrigno.db.engine import Database
from scrigno.db.migrations import Schema
from scrigno.db.sqlite import Connection

DATABASE_NAME: Final = "webhooks.db"
MOST_WAITING: Final = 10_000  # of one endpoint; the oldest become dead letters beyond it
MOST_KEPT: Final = 20_000  # of one state over all endpoints
DELIVERED_DAYS: Final = 14
DEAD_DAYS: Final = 90


class DeliveryState(StrEnum):
    """Where a message to one endpoint stands."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    DEAD = "dead"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One message to one endpoint. `status` is the last answer, None when there was none."""

    id: int
    message_id: str
    endpoint: str
    kind: str
    body: str
    created_at: datetime
    due_at: datetime
    attempts: int
    state: DeliveryState
    status: int | None
    reason: str
    finished_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try of a delivery."""

    number: int
    at: datetime
    status: int | None
    reason: str
    took_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What is to be told to whom."""

    message_id: str
    endpoint: str
    kind: str
    data: Mapping[str, Any]
    created_at: datetime

    def body(self) -> str:
        """Return the document that is posted, the same at each attempt."""
        document = {
            "type": self.kind,
            "timestamp": self.created_at.isoformat(timespec="milliseconds"),
            "data": dict(self.data),
        }
        return json.dumps(document, separators=(",", ":"))


@dataclass(slots=True, kw_only=True)
class Growing:
    """A study that images come for; UNIX seconds."""

    study_uid: str
    first_at: float
    last_at: float
    instances: int


def deliveries_and_growing_studies(database: Any) -> None:
    """Make the first tables."""
    database.execute(
        "CREATE TABLE delivery ("
        " id INTEGER PRIMARY KEY AUTOINCREMENT, message_id TEXT NOT NULL, endpoint TEXT NOT NULL,"
        " kind TEXT NOT NULL, body TEXT NOT NULL, created_at REAL NOT NULL, due_at REAL NOT NULL,"
        " attempts INTEGER NOT NULL DEFAULT 0, state TEXT NOT NULL, status INTEGER,"
        " reason TEXT NOT NULL DEFAULT '', finished_at REAL)"
    )
    database.execute("CREATE INDEX delivery_due ON delivery (endpoint, state, due_at)")
    database.execute("CREATE INDEX delivery_state ON delivery (state, id)")
    database.execute(
        "CREATE TABLE attempt ("
        " delivery_id INTEGER NOT NULL REFERENCES delivery (id) ON DELETE CASCADE,"
        " number INTEGER NOT NULL, at REAL NOT NULL, status INTEGER, reason TEXT NOT NULL,"
        " took_ms INTEGER NOT NULL, PRIMARY KEY (delivery_id, number)) WITHOUT ROWID"
    )
    database.execute(
        "CREATE TABLE growing (study_uid TEXT PRIMARY KEY, first_at REAL NOT NULL,"
        " last_at REAL NOT NULL, instances INTEGER NOT NULL) WITHOUT ROWID"
    )


SCHEMA: Final = Schema("webhooks", (deliveries_and_growing_studies,), compat=1)
_COLUMNS: Final = (
    "id, message_id, endpoint, kind, body, created_at, due_at, attempts, state, status, reason,"
    " finished_at"
)


class WebhookStore:
    """The file. Loop thread only; every method raises DatabaseError."""

    def __init__(self, state_dir: Path) -> None:
        """Name the file; `open` makes it."""
        self._database = Database(state_dir / DATABASE_NAME, SCHEMA, readers=1)

    async def open(self) -> None:
        """Open or make it."""
        await self._database.open()

    async def close(self) -> None:
        """Finish and close; idempotent."""
        await self._database.close()

    async def growing(self) -> list[Growing]:
        """Return the studies that were not complete yet."""
        rows = await self._database.read(
            lambda db: db.execute(
                "SELECT study_uid, first_at, last_at, instances FROM growing"
            ).fetchall()
        )
        return [
            Growing(study_uid=row[0], first_at=row[1], last_at=row[2], instances=row[3])
            for row in rows
        ]

    async def put(
        self,
        messages: Sequence[Message],
        *,
        grown: Iterable[Growing] = (),
        complete: Iterable[str] = (),
    ) -> int:
        """Queue messages and note how studies grow, in one step.

        Returns how many older messages became dead letters because too many wait.
        """
        rows_grown = [
            (each.study_uid, each.first_at, each.last_at, each.instances) for each in grown
        ]
        done = [(uid,) for uid in complete]
        rows = [
            (
                each.message_id, each.endpoint, each.kind, each.body(),
                each.created_at.timestamp(), each.created_at.timestamp(), DeliveryState.WAITING,
            )
            for each in messages
        ]  # fmt: skip

        def write(db: Connection) -> int:
            db.executemany(
                "INSERT INTO delivery (message_id, endpoint, kind, body, created_at, due_at, state)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                rows,
            )
            db.executemany(
                "INSERT INTO growing (study_uid, first_at, last_at, instances) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (study_uid) DO UPDATE SET last_at = excluded.last_at,"
                " instances = excluded.instances",
                rows_grown,
            )
            db.executemany("DELETE FROM growing WHERE study_uid = ?", done)
            return sum(_bury_surplus(db, name) for name in {row[1] for row in rows})

        return await self._database.write(write)

    async def due(self, endpoint: str, now: float, limit: int) -> list[Delivery]:
        """Return what is to be sent now, the oldest first."""
        return await self._deliveries(
            "endpoint = ? AND state = 'waiting' AND due_at <= ? ORDER BY id LIMIT ?",
            (endpoint, now, limit),
        )

    async def next_due(self, endpoint: str) -> float | None:
        """Return when the next message of an endpoint is to be tried, None when none waits."""
        row = await self._database.read(
            lambda db: db.execute(
                "SELECT MIN(due_at) FROM delivery WHERE endpoint = ? AND state = 'waiting'",
                (endpoint,),
            ).fetchone()
        )
        return None if row is None or row[0] is None else float(row[0])

    async def counts(self) -> dict[tuple[str, str], int]:
        """Return how many messages there are, by endpoint and state."""
        rows = await self._database.read(
            lambda db: db.execute(
                "SELECT endpoint, state, COUNT(*) FROM delivery GROUP BY endpoint, state"
            ).fetchall()
        )
        return {(row[0], row[1]): row[2] for row in rows}

    async def page(
        self, *, before: int | None, limit: int, endpoint: str = "", state: str = "", kind: str = ""
    ) -> list[Delivery]:
        """Return deliveries, the newest first."""
        conditions, values = ["id < ?"], [before if before is not None else 1 << 62]
        wanted: list[Any] = list(values)
        for column, value in (("endpoint", endpoint), ("state", state), ("kind", kind)):
            if value:
                conditions.append(f"{column} = ?")
                wanted.append(value)
        wanted.append(limit)
        return await self._deliveries(
            f"{' AND '.join(conditions)} ORDER BY id DESC LIMIT ?", tuple(wanted)
        )

    async def one(self, delivery_id: int) -> tuple[Delivery, list[Attempt]] | None:
        """Return a delivery with its attempts, None when there is none."""
        found = await self._deliveries("id = ?", (delivery_id,))
        if not found:
            return None
        rows = await self._database.read(
            lambda db: db.execute(
                "SELECT number, at, status, reason, took_ms FROM attempt WHERE delivery_id = ?"
                " ORDER BY number",
                (delivery_id,),
            ).fetchall()
        )
        return found[0], [
            Attempt(number=row[0], at=_at(row[1]), status=row[2], reason=row[3], took_ms=row[4])
            for row in rows
        ]

    async def tried(
        self,
        delivery: Delivery,
        *,
        at: float,
        status: int | None,
        reason: str,
        took_ms: int,
        state: DeliveryState,
        due_at: float,
    ) -> None:
        """Note how an attempt ended and when the next one is."""
        finished = None if state is DeliveryState.WAITING else at

        def write(db: Connection) -> None:
            db.execute(
                "INSERT INTO attempt (delivery_id, number, at, status, reason, took_ms)"
                " SELECT ?, COALESCE(MAX(number), 0) + 1, ?, ?, ?, ? FROM attempt"
                " WHERE delivery_id = ?",
                (delivery.id, at, status, reason, took_ms, delivery.id),
            )
            db.execute(
                "UPDATE delivery SET attempts = attempts + 1, status = ?, reason = ?, state = ?,"
                " due_at = ?, finished_at = ? WHERE id = ?",
                (status, reason, state, due_at, finished, delivery.id),
            )

        await self._database.write(write)

    async def replay(
        self, now: float, *, delivery_id: int | None = None, endpoint: str = ""
    ) -> int:
        """Send one again, or every dead letter of an endpoint; returns how many."""
        statement = (
            "UPDATE delivery SET state = 'waiting', attempts = 0, due_at = ?, created_at = ?,"
            " finished_at = NULL WHERE "
        )
        if delivery_id is not None:
            where, values = "id = ? AND state <> 'waiting'", (now, now, delivery_id)
        else:
            where, values = "endpoint = ? AND state = 'dead'", (now, now, endpoint)  # type: ignore[assignment]
        return await self._database.write(lambda db: db.execute(statement + where, values).rowcount)

    async def bury(self, *, keep: Iterable[str], now: float) -> int:
        """Let what waits for endpoints that are no more become dead letters; returns how many."""
        names = list(keep)
        marks = ", ".join("?" for _ in names) or "''"
        statement = (
            "UPDATE delivery SET state = 'dead', reason = 'the endpoint was taken away',"  # noqa: S608
            f" finished_at = ? WHERE state = 'waiting' AND endpoint NOT IN ({marks})"
        )
        values: tuple[float | str, ...] = (now, *names)
        return await self._database.write(lambda db: db.execute(statement, values).rowcount)

    async def tidy(self, now: float) -> None:
        """Forget what was told long ago."""

        def write(db: Connection) -> None:
            for state, days in (
                (DeliveryState.DELIVERED, DELIVERED_DAYS),
                (DeliveryState.DEAD, DEAD_DAYS),
            ):
                db.execute(
                    "DELETE FROM delivery WHERE state = ? AND (finished_at < ? OR id <= ("
                    "SELECT id FROM delivery WHERE state = ? ORDER BY id DESC LIMIT 1 OFFSET ?))",
                    (state, now - days * 86400.0, state, MOST_KEPT),
                )
            db.execute("DELETE FROM attempt WHERE delivery_id NOT IN (SELECT id FROM delivery)")

        await self._database.write(write)

    async def _deliveries(self, where: str, values: tuple[Any, ...]) -> list[Delivery]:
        statement = f"SELECT {_COLUMNS} FROM delivery WHERE {where}"  # noqa: S608 - our own texts
        rows = await self._database.read(lambda db: db.execute(statement, values).fetchall())
        return [_delivery(row) for row in rows]


def _bury_surplus(db: Connection, endpoint: str) -> int:
    return db.execute(
        "UPDATE delivery SET state = 'dead', reason = 'too many messages wait',"
        " finished_at = created_at WHERE state = 'waiting' AND endpoint = ? AND id <= ("
        "SELECT id FROM delivery WHERE state = 'waiting' AND endpoint = ?"
        " ORDER BY id DESC LIMIT 1 OFFSET ?)",
        (endpoint, endpoint, MOST_WAITING),
    ).rowcount


def _delivery(row: Sequence[Any]) -> Delivery:
    return Delivery(
        id=row[0],
        message_id=row[1],
        endpoint=row[2],
        kind=row[3],
        body=row[4],
        created_at=_at(row[5]),
        due_at=_at(row[6]),
        attempts=row[7],
        state=DeliveryState(row[8]),
        status=row[9],
        reason=row[10],
        finished_at=None if row[11] is None else _at(row[11]),
    )


def _at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
