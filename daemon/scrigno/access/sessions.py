# SPDX-License-Identifier: Apache-2.0
"""Sessions and bearer tokens: 256 random bits, of which only the SHA-256 is kept.

All live sessions are in memory, so looking one up at every request costs a hash and a dictionary;
the table makes them outlive a restart.
"""

import asyncio
import hashlib
import logging
import secrets
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from scrigno.core.clock import Clock
from scrigno.core.errors import ScrignoError
from scrigno.core.sight import EVERYTHING, Sight
from scrigno.db.engine import Database
from scrigno.db.sqlite import Connection

from .accounts import Account, Role
from .permissions import Permission

log = logging.getLogger(__name__)

TOKEN_BYTES: Final = 32
WRITE_USE_EVERY_S: Final = 60.0  # a session used all day makes a row per minute, not per request
ACTIVE_S: Final = 300.0  # who asked for something in the last five minutes is connected
MOST_PER_ACCOUNT: Final = 200


class Kind(StrEnum):
    """How the token travels."""

    COOKIE = "cookie"
    BEARER = "bearer"


# seconds without use, seconds in all: a long working day for people, longer for programs
LIFETIMES: Final = {
    Kind.COOKIE: (4 * 3600.0, 16 * 3600.0),
    Kind.BEARER: (7 * 86400.0, 90 * 86400.0),
}


@dataclass(slots=True, kw_only=True)
class Session:
    """Somebody who logged in. Times are UNIX seconds; `id` may be shown, the token may not."""

    id: str
    account: Account
    kind: Kind
    created_at: float
    used_at: float
    address: str
    agent: str
    written_at: float = 0.0

    @property
    def permissions(self) -> frozenset[Permission]:
        """Return what this session may do."""
        return self.account.permissions

    @property
    def sight(self) -> Sight:
        """Return which studies this session sees."""
        return EVERYTHING

    def expired(self, now: float) -> bool:
        """Tell whether the session is over by disuse or by age, or the clock went back over it."""
        idle, absolute = LIFETIMES[self.kind]
        return not (now - self.used_at <= idle and -3600.0 <= now - self.created_at <= absolute)


class Sessions:
    """Every live session. Loop thread only."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        """Use an open database with the access schema; `load` fills the memory."""
        self._database = database
        self._clock = clock
        self._live: dict[str, Session] = {}
        self._writes: set[asyncio.Task[None]] = set()

    async def load(self) -> None:
        """Read the sessions of before the restart."""
        query = (
            "SELECT digest, session.id, kind, session.created_at, used_at, address, agent,"
            " account.id, name, role, language, account.created_at FROM session"
            " JOIN account ON account.id = account_id WHERE disabled = 0"
        )
        for row in await self._database.read(lambda db: db.execute(query).fetchall()):
            account = Account(
                id=row[7],
                name=row[8],
                role=Role(row[9]),
                disabled=False,
                language=row[10] or "",
                created_at=row[11],
            )
            self._live[row[0]] = Session(
                id=row[1],
                account=account,
                kind=Kind(row[2]),
                created_at=row[3],
                used_at=row[4],
                address=row[5] or "",
                agent=row[6] or "",
                written_at=row[4],
            )

    async def begin(self, account: Account, kind: Kind, *, address: str, agent: str) -> str:
        """Start a session and return its token, which is kept nowhere."""
        await self._forget_expired()
        mine = [digest for digest, each in self._live.items() if each.account.id == account.id]
        if len(mine) >= MOST_PER_ACCOUNT:
            await self._end(sorted(mine, key=lambda digest: self._live[digest].used_at)[:1])
        token = secrets.token_urlsafe(TOKEN_BYTES)
        now = self._now()
        session = Session(
            id=secrets.token_hex(8),
            account=account,
            kind=kind,
            created_at=now,
            used_at=now,
            address=address,
            agent=agent[:200],
            written_at=now,
        )
        digest = _digest(token)
        values = (digest, session.id, account.id, kind, now, now, address, session.agent)
        statement = (
            "INSERT INTO session (digest, id, account_id, kind, created_at, used_at, address,"
            " agent) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
        )
        await self._database.write(lambda db: db.execute(statement, values).rowcount)
        self._live[digest] = session
        return token

    def find(self, token: str) -> Session | None:
        """Return the live session of a token and note its use."""
        digest = _digest(token)
        session = self._live.get(digest)
        now = self._now()
        if session is None or session.expired(now):
            return None
        return session

    def note_use(self, token: str, session: Session) -> None:
        """Note that the session was used now; written to disk at most once a minute."""
        now = self._now()
        session.used_at = now
        if now - session.written_at > WRITE_USE_EVERY_S:
            session.written_at = now
            task = asyncio.create_task(self._write_use(_digest(token), now))
            self._writes.add(task)
            task.add_done_callback(self._writes.discard)

    async def _write_use(self, digest: str, now: float) -> None:
        statement = "UPDATE session SET used_at = ? WHERE digest = ?"
        try:
            await self._database.write(lambda db: db.execute(statement, (now, digest)).rowcount)
        except ScrignoError as error:
            # the session goes on in memory; after a restart it may end a minute early
            log.warning("sessions: the last use could not be written: %s", error.reason)

    async def close(self) -> None:
        """Wait for uses on their way to the disk."""
        await asyncio.gather(*self._writes)

    def active(self) -> list[Session]:
        """Return the sessions that were used in the last five minutes."""
        since = self._now() - ACTIVE_S
        return [each for each in self._live.values() if each.used_at >= since]

    def is_active(self, session: Session) -> bool:
        """Tell whether the session was used in the last five minutes."""
        return session.used_at >= self._now() - ACTIVE_S

    def all(self) -> list[Session]:
        """Return all live sessions, the last used first."""
        now = self._now()
        live = (each for each in self._live.values() if not each.expired(now))
        return sorted(live, key=lambda each: each.used_at, reverse=True)

    async def end(self, token: str) -> None:
        """Log out."""
        await self._end([_digest(token)])

    async def end_by_id(self, session_id: str) -> bool:
        """End another session; False when there is none of that id."""
        found = [digest for digest, each in self._live.items() if each.id == session_id]
        await self._end(found)
        return bool(found)

    async def end_all_of(self, account_id: int, *, but: str | None = None) -> None:
        """End all sessions of an account but the one of the token `but`."""
        kept = _digest(but) if but else None
        mine = [digest for digest, each in self._live.items() if each.account.id == account_id]
        await self._end([digest for digest in mine if digest != kept])

    async def _forget_expired(self) -> None:
        now = self._now()
        await self._end([digest for digest, each in self._live.items() if each.expired(now)])

    async def _end(self, digests: list[str]) -> None:
        if not digests:
            return
        for digest in digests:
            self._live.pop(digest, None)

        def delete(db: Connection) -> None:
            rows = [(digest,) for digest in digests]
            db.executemany("DELETE FROM session WHERE digest = ?", rows)

        await self._database.write(delete)

    def _now(self) -> float:
        return self._clock.now().timestamp()


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
