# SPDX-License-Identifier: Apache-2.0
"""Links for guests: exactly the chosen studies, for a while, some times, behind a gate.

Of the secret in a link only its digest is kept; a link names nobody and nothing. Wrong answers at
the gate cost time, and after MOST_WRONG of them the link is locked: a birth date is one of 40,000.
"""

import hashlib
import json
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from scrigno.access.accounts import fold
from scrigno.access.backoff import Backoff
from scrigno.access.errors import TooManyAttempts
from scrigno.access.passwords import Hasher
from scrigno.access.permissions import Permission
from scrigno.core.clock import Clock
from scrigno.core.counters import Counters
from scrigno.core.events import EventBus, ShareChanged
from scrigno.db.engine import Database
from scrigno.db.sqlite import Connection, Row

from .errors import BadDocument, ShareOver, ShareRefused, TooMany

TOKEN_BYTES: Final = 24  # 192 bits
MOST_STUDIES: Final = 200
MOST_OF_OWNER: Final = 2000
MOST_WRONG: Final = 30
MOST_USES_KEPT: Final = 1000  # lines of the access log of one link
LEAST_PASSWORD: Final = 6
SESSION_S: Final = 8 * 3600.0
NOBODY: Final = "scrigno"


class Gate(StrEnum):
    """What a guest is asked before anything is shown."""

    NONE = "none"
    PASSWORD = "password"  # noqa: S105 - a word of the API
    BIRTH_DATE = "birth-date"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What an owner wants a link to be."""

    studies: tuple[str, ...]
    expires_at: datetime
    permissions: frozenset[Permission] = frozenset({Permission.VIEW})
    gate: Gate = Gate.NONE
    password: str = field(default="", repr=False)
    most_uses: int = 0  # 0: as often as wanted
    title: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One link; `revoked_by` says who ended it, `locked` and `restored` when the box did."""

    id: str
    owner: str
    title: str = field(repr=False)
    created_at: datetime
    expires_at: datetime
    studies: tuple[str, ...]
    permissions: frozenset[Permission]
    gate: Gate
    most_uses: int
    uses: int
    wrong: int
    revoked_at: datetime | None
    revoked_by: str

    @property
    def label(self) -> str:
        """Return the name of its guests in sessions and in the audit trail."""
        return f"guest of link {self.id}"

    def state(self, now: datetime) -> str:
        """Return open, revoked, expired or used-up."""
        if self.revoked_at is not None:
            return "revoked"
        if now >= self.expires_at:
            return "expired"
        return "used-up" if self.most_uses and self.uses >= self.most_uses else "open"


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """One line of the access log of a link."""

    at: datetime
    address: str
    agent: str
    outcome: str  # opened, wrong, or why not


BirthDates = Callable[[Share], Awaitable[set[str]]]
_COLUMNS: Final = (
    "id, owner, title, created_at, expires_at, studies, permissions, gate, most_uses, uses, wrong,"
    " revoked_at, revoked_by"
)
_OVER: Final = "This link is not good any more, or never was."
_ASK: Final = "Ask for a new one."


class Shares:
    """All links. Loop thread only; every method raises DatabaseError."""

    def __init__(
        self, database: Database, *, bus: EventBus, clock: Clock, counters: Counters
    ) -> None:
        """Use the open database of this room."""
        self._database = database
        self._bus = bus
        self._clock = clock
        self._counters = counters
        self._hasher = Hasher()
        self._link = Backoff(free=3, clock=clock)
        self._address = Backoff(free=10, clock=clock)

    async def open(self) -> None:
        """Make the hash that stands in for one that is not there."""
        await self._hasher.prepare()

    async def close(self) -> None:
        """End the threads."""
        self._hasher.close()

    async def make(self, owner: str, wish: Wish) -> tuple[Share, str]:
        """Make a link; returns it with its secret, which is kept nowhere.

        Raises BadDocument, TooMany. The caller has seen to it that the owner sees the studies.
        """
        now = self._clock.now()
        if not 0 < len(wish.studies) <= MOST_STUDIES:
            raise BadDocument(f"A link is for 1 to {MOST_STUDIES} studies.")
        if wish.expires_at <= now:
            raise BadDocument("A link ends in the future.")
        if wish.gate is Gate.PASSWORD and len(wish.password) < LEAST_PASSWORD:
            raise BadDocument(f"The password of a link has at least {LEAST_PASSWORD} characters.")
        kept = await self._hasher.hash(wish.password) if wish.gate is Gate.PASSWORD else ""
        token = secrets.token_urlsafe(TOKEN_BYTES)
        share_id = secrets.token_hex(6)
        values = (
            share_id,
            _digest(token),
            owner,
            fold(owner),
            wish.title,
            now.isoformat(timespec="seconds"),
            wish.expires_at.isoformat(timespec="seconds"),
            json.dumps(sorted(set(wish.studies))),
            json.dumps(sorted(wish.permissions)),
            wish.gate,
            kept,
            wish.most_uses,
            0,
            0,
            "",
            "",
        )

        def insert(db: Connection) -> None:
            mine = "SELECT count(*) FROM share WHERE folded_owner = ?"
            row = db.execute(mine, (fold(owner),)).fetchone()
            if row is not None and row[0] >= MOST_OF_OWNER:
                raise TooMany(f"You have {MOST_OF_OWNER} links.", next_step="Remove old ones.")
            marks = ", ".join("?" * len(values))
            db.execute(f"INSERT INTO share VALUES ({marks})", values)  # noqa: S608 - marks only

        await self._database.write(insert)
        self._tell(share_id, "made")
        return await self.get(share_id), token

    async def get(self, share_id: str) -> Share:
        """Return a link by its number; raises ShareOver."""
        found = await self._find("id = ?", (share_id,))
        if not found:
            raise ShareOver("There is no such link.")
        return found[0]

    async def listed(self, owner: str | None, before: str, limit: int) -> list[Share]:
        """Return links, the newest first; of one owner, or of all. `before` is a time."""
        where, values = "created_at < ?", [before or "9"]
        if owner is not None:
            where, values = f"{where} AND folded_owner = ?", [*values, fold(owner)]
        return await self._find(f"{where} ORDER BY created_at DESC, id LIMIT {limit}", values)

    async def of_study(self, study_uid: str) -> list[Share]:
        """Return the links that show a study and are still good."""
        now = self._clock.now().isoformat(timespec="seconds")
        found = await self._find(
            "revoked_at = '' AND expires_at > ? AND instr(studies, ?) > 0",
            (now, json.dumps(study_uid)),
        )
        return [each for each in found if each.state(self._clock.now()) == "open"]

    async def _find(self, where: str, values: Sequence[Any]) -> list[Share]:
        query = f"SELECT {_COLUMNS} FROM share WHERE {where}"  # noqa: S608 - our texts
        rows = await self._database.read(lambda db: db.execute(query, values).fetchall())
        return [_share(row) for row in rows]

    async def uses(self, share_id: str, limit: int) -> list[Use]:
        """Return the access log of a link, the newest first."""
        query = (
            "SELECT at, address, agent, outcome FROM share_use WHERE share = ?"
            " ORDER BY id DESC LIMIT ?"
        )
        key = (share_id, limit)
        rows = await self._database.read(lambda db: db.execute(query, key).fetchall())
        return [
            Use(at=datetime.fromisoformat(row[0]), address=row[1], agent=row[2], outcome=row[3])
            for row in rows
        ]

    async def revoke(self, share_id: str, who: str) -> Share:
        """End a link now; raises ShareOver when there is none."""
        at = self._clock.now().isoformat(timespec="seconds")
        statement = (
            "UPDATE share SET revoked_at = ?, revoked_by = ? WHERE id = ? AND revoked_at = ''"
        )
        values = (at, who, share_id)
        changed = await self._database.write(lambda db: db.execute(statement, values).rowcount)
        share = await self.get(share_id)
        if changed:
            self._tell(share_id, "revoked")
        return share

    async def revoke_all(self, who: str) -> None:
        """End every link that is still good."""
        at = self._clock.now().isoformat(timespec="seconds")
        statement = "UPDATE share SET revoked_at = ?, revoked_by = ? WHERE revoked_at = ''"
        await self._database.write(lambda db: db.execute(statement, (at, who)).rowcount)

    # a guest ---------------------------------------------------------------------------------

    async def look(self, token: str, *, address: str) -> Share:
        """Return the link of a secret while it is good; raises ShareOver, TooManyAttempts."""
        self._require_patience(self._address, address)
        share = await self._of_token(token)
        if share is None:
            self._address.attempt(address)
            raise ShareOver(_OVER, next_step=_ASK)
        return share

    async def enter(
        self,
        token: str,
        secret: str,
        *,
        address: str,
        agent: str,
        birth_dates: BirthDates,
    ) -> tuple[Share, float]:
        """Pass the gate and count a use; returns the link and the seconds a session may last.

        `birth_dates` answers those of the link's studies, `YYYYMMDD`. Raises ShareOver,
        ShareRefused, TooManyAttempts.
        """
        share = await self.look(token, address=address)
        self._require_patience(self._link, share.id)
        self._link.attempt(share.id)
        self._address.attempt(address)
        if not await self._is_right(share, secret, birth_dates):
            await self._note(share.id, address, agent, "wrong")
            await self._count_wrong(share)
            raise ShareRefused(
                "This is not what the link asks for.",
                next_step="Ask whoever gave you the link.",
            )
        self._link.success(share.id)
        self._address.uncount(address)
        now = self._clock.now()
        statement = (
            "UPDATE share SET uses = uses + 1 WHERE id = ? AND revoked_at = '' AND expires_at > ?"
            " AND (most_uses = 0 OR uses < most_uses)"
        )
        values = (share.id, now.isoformat(timespec="seconds"))
        if not await self._database.write(lambda db: db.execute(statement, values).rowcount):
            raise ShareOver(_OVER, next_step=_ASK)  # another guest took the last use
        await self._note(share.id, address, agent, "opened")
        self._counters.add("share_uses_total")
        self._tell(share.id, "opened")
        left = max(1.0, min(SESSION_S, (share.expires_at - now) / timedelta(seconds=1)))
        return share, left

    async def _of_token(self, token: str) -> Share | None:
        found = await self._find("digest = ?", (_digest(token[:256]),))
        if not found or found[0].state(self._clock.now()) != "open":
            return None
        return found[0]

    async def _is_right(self, share: Share, secret: str, birth_dates: BirthDates) -> bool:
        match share.gate:
            case Gate.NONE:
                return True
            case Gate.PASSWORD:
                query = "SELECT secret_hash FROM share WHERE id = ?"
                row = await self._database.read(
                    lambda db: db.execute(query, (share.id,)).fetchone()
                )
                right, _ = await self._hasher.verify(row[0] if row else None, secret)
                return right
            case Gate.BIRTH_DATE:
                given = "".join(character for character in secret if character.isdigit())
                known = await birth_dates(share)
                return len(known) == 1 and secrets.compare_digest(
                    given.encode(), next(iter(known)).encode()
                )

    async def _count_wrong(self, share: Share) -> None:
        def count(db: Connection) -> bool:
            db.execute("UPDATE share SET wrong = wrong + 1 WHERE id = ?", (share.id,))
            row = db.execute("SELECT wrong FROM share WHERE id = ?", (share.id,)).fetchone()
            return row is not None and row[0] >= MOST_WRONG

        self._counters.add("share_refused_total")
        if await self._database.write(count):
            await self.revoke(share.id, "locked")
            self._tell(share.id, "locked")
        else:
            self._tell(share.id, "refused")

    async def _note(self, share_id: str, address: str, agent: str, outcome: str) -> None:
        values = (
            share_id,
            self._clock.now().isoformat(timespec="seconds"),
            address[:64],
            agent[:200],
            outcome,
        )
        insert = "INSERT INTO share_use (share, at, address, agent, outcome) VALUES (?, ?, ?, ?, ?)"
        prune = (
            "DELETE FROM share_use WHERE share = ? AND id <= (SELECT max(id) FROM share_use) - ?"
            " AND id NOT IN (SELECT id FROM share_use WHERE share = ? ORDER BY id DESC LIMIT ?)"
        )

        def write(db: Connection) -> None:
            db.execute(insert, values)
            db.execute(prune, (share_id, MOST_USES_KEPT, share_id, MOST_USES_KEPT))

        await self._database.write(write)

    def _require_patience(self, backoff: Backoff, key: str) -> None:
        wait_s = backoff.wait_s(key)
        if wait_s > 0:
            self._counters.add("share_refused_total")
            raise TooManyAttempts(wait_s)

    def _tell(self, share_id: str, action: str) -> None:
        self._bus.publish(ShareChanged(share_id=share_id, action=action))


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def _share(row: Row) -> Share:
    ident, owner, title, created_at, expires_at, studies, permissions, gate, *rest = row
    most_uses, uses, wrong, revoked_at, revoked_by = rest
    return Share(
        id=ident,
        owner=owner,
        title=title or "",
        created_at=datetime.fromisoformat(created_at),
        expires_at=datetime.fromisoformat(expires_at),
        studies=tuple(json.loads(studies)),
        permissions=frozenset(Permission(each) for each in json.loads(permissions)),
        gate=Gate(gate),
        most_uses=most_uses,
        uses=uses,
        wrong=wrong,
        revoked_at=datetime.fromisoformat(revoked_at) if revoked_at else None,
        revoked_by=revoked_by,
    )
