# SPDX-License-Identifier: Apache-2.0
"""Sessions and tokens: 256 random bits, of which only the SHA-256 is kept.

All live sessions are in memory, so looking one up at every request costs a hash and a dictionary;
the table makes them outlive a restart. A session asks its account what it may do, at every
request, so a change of a role holds at once.
"""

import asyncio
import hashlib
import logging
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from scrigno.core.clock import Clock
from scrigno.core.errors import ScrignoError
from scrigno.core.sight import Sight
from scrigno.db.engine import Database
from scrigno.db.sqlite import Connection

from . import permissions as words
from . import roles
from .accounts import GUEST_PREFIX, Account, Accounts
from .errors import TooManyTokens
from .permissions import Permission

log = logging.getLogger(__name__)

TOKEN_BYTES: Final = 32
WRITE_USE_EVERY_S: Final = 60.0  # a session used all day makes a row per minute, not per request
ACTIVE_S: Final = 300.0  # who asked for something in the last five minutes is connected
MOST_PER_ACCOUNT: Final = 200
MOST_TOKENS: Final = 50  # of one account
MOST_GUESTS: Final = 10_000
MOST_TEXT: Final = 200
CLOCK_BACK_S: Final = 3600.0  # a clock that went back further ends what is younger than now
GUEST: Final = "guest"  # the role that is shown of a session without an account


class Kind(StrEnum):
    """How the token travels, and who made it."""

    COOKIE = "cookie"
    BEARER = "bearer"
    TOKEN = "token"  # noqa: S105 - made in the account page for a program, with scopes of its own


# seconds without use, seconds in all: a long working day for people, longer for programs;
# a token has its own end
LIFETIMES: Final[Mapping[Kind, tuple[float, float]]] = {
    Kind.COOKIE: (4 * 3600.0, 16 * 3600.0),
    Kind.BEARER: (7 * 86400.0, 90 * 86400.0),
    Kind.TOKEN: (float("inf"), float("inf")),
}


@dataclass(slots=True, kw_only=True)
class Session:
    """Somebody who came in. Times are UNIX seconds; `id` may be shown, the token may not.

    Of a guest, `account` is made up: it has no row and no number, and a name that no account has.
    """

    id: str
    account: Account
    kind: Kind
    created_at: float
    used_at: float
    address: str
    agent: str
    written_at: float = 0.0
    expires_at: float | None = None
    label: str = ""
    scopes: frozenset[Permission] | None = None  # a token can do no more than these

    @property
    def guest(self) -> bool:
        """Whether nobody's account is behind this."""
        return self.account.id == 0

    @property
    def permissions(self) -> frozenset[Permission]:
        """Return what this session may do now."""
        own = self.account.permissions
        return own if self.scopes is None else own & self.scopes

    @property
    def sight(self) -> Sight:
        """Return which studies this session sees."""
        return self.account.sight

    def expired(self, now: float, lifetimes: Mapping[Kind, tuple[float, float]]) -> bool:
        """Tell whether the session is over by disuse or by age, or the clock went back over it."""
        if self.expires_at is not None and now >= self.expires_at:
            return True
        idle, absolute = lifetimes[self.kind]
        age = now - self.created_at
        return not (now - self.used_at <= idle and -CLOCK_BACK_S <= age <= absolute)


class Sessions:
    """Every live session. Loop thread only."""

    def __init__(
        self,
        database: Database,
        *,
        clock: Clock,
        lifetimes: Callable[[], Mapping[Kind, tuple[float, float]]] = lambda: LIFETIMES,
    ) -> None:
        """Use an open database with the access schema; `load` fills the memory."""
        self._database = database
        self._clock = clock
        self._lifetimes = lifetimes
        self._live: dict[str, Session] = {}
        self._writes: set[asyncio.Task[None]] = set()

    async def load(self, accounts: Accounts) -> None:
        """Read the sessions of before the restart."""
        known = {each.id: each for each in await accounts.all() if not each.disabled}
        query = (
            "SELECT digest, id, account_id, kind, created_at, used_at, expires_at, address, agent,"
            " label, permissions, sight FROM session"
        )
        for row in await self._database.read(lambda db: db.execute(query).fetchall()):
            digest, ident, number, kind, created_at, used_at, expires_at, *rest = row
            address, agent, label, scopes, sight = rest
            if number is None:
                account = _guest(label, words.read(scopes), roles.sight_of_text(sight))
            elif number in known:
                account = known[number]
            else:
                continue
            self._live[digest] = Session(
                id=ident,
                account=account,
                kind=Kind(kind),
                created_at=created_at,
                used_at=used_at,
                address=address,
                agent=agent,
                written_at=used_at,
                expires_at=expires_at,
                label=label,
                scopes=words.read(scopes) if Kind(kind) is Kind.TOKEN else None,
            )

    async def begin(self, account: Account, kind: Kind, *, address: str, agent: str) -> str:
        """Start a session and return its token, which is kept nowhere."""
        await self._forget_expired()
        mine = self._of(account.id, tokens=False)
        if len(mine) >= MOST_PER_ACCOUNT:
            await self._end(sorted(mine, key=lambda digest: self._live[digest].used_at)[:1])
        return await self._begin(account, kind, address=address, agent=agent)

    async def begin_limited(
        self,
        label: str,
        permissions: Iterable[Permission],
        sight: Sight,
        lifetime_s: float,
        *,
        address: str,
        agent: str,
        kind: Kind,
    ) -> str:
        """Start the session of somebody without an account; it ends after `lifetime_s`."""
        await self._forget_expired()
        guests = self._of(0, tokens=False)
        if len(guests) >= MOST_GUESTS:
            await self._end(sorted(guests, key=lambda digest: self._live[digest].used_at)[:1])
        account = _guest(label[:MOST_TEXT], frozenset(permissions), sight)
        until = self._now() + lifetime_s
        return await self._begin(
            account,
            kind,
            address=address,
            agent=agent,
            expires_at=until,
            label=label[:MOST_TEXT],
        )

    async def begin_token(
        self,
        account: Account,
        label: str,
        scopes: frozenset[Permission],
        *,
        expires_at: float | None,
        address: str,
    ) -> tuple[str, Session]:
        """Make a token for a program of this account; returns it, which is kept nowhere."""
        await self._forget_expired()
        if len(self._of(account.id, tokens=True)) >= MOST_TOKENS:
            raise TooManyTokens(
                f"An account has at most {MOST_TOKENS} tokens.",
                next_step="Revoke one that is not used.",
            )
        token = await self._begin(
            account,
            Kind.TOKEN,
            address=address,
            agent="",
            expires_at=expires_at,
            label=label,
            scopes=scopes,
        )
        return token, self._live[_digest(token)]

    async def _begin(
        self,
        account: Account,
        kind: Kind,
        *,
        address: str,
        agent: str,
        expires_at: float | None = None,
        label: str = "",
        scopes: frozenset[Permission] | None = None,
    ) -> str:
        token = secrets.token_urlsafe(TOKEN_BYTES)
        now = self._now()
        session = Session(
            id=secrets.token_hex(8),
            account=account,
            kind=kind,
            created_at=now,
            used_at=now,
            address=address,
            agent=agent[:MOST_TEXT],
            written_at=now,
            expires_at=expires_at,
            label=label,
            scopes=scopes,
        )
        digest = _digest(token)
        granted = account.permissions if session.guest else scopes or ()
        values = (
            *(digest, session.id, account.id or None, kind, now, now, expires_at),
            *(address, session.agent, session.label, words.written(granted)),
            roles.text_of_sight(account.sight) if session.guest else "",
        )
        statement = (
            "INSERT INTO session (digest, id, account_id, kind, created_at, used_at, expires_at,"
            " address, agent, label, permissions, sight)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        )
        await self._database.write(lambda db: db.execute(statement, values).rowcount)
        self._live[digest] = session
        return token

    def find(self, token: str) -> Session | None:
        """Return the live session of a token."""
        session = self._live.get(_digest(token))
        if session is None or session.expired(self._now(), self._lifetimes()):
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
        """Return the sessions that were used in the last five minutes, guests among them."""
        since, now, lifetimes = self._now() - ACTIVE_S, self._now(), self._lifetimes()
        return [
            each
            for each in self._live.values()
            if each.used_at >= since and not each.expired(now, lifetimes)
        ]

    def is_active(self, session: Session) -> bool:
        """Tell whether the session was used in the last five minutes."""
        return session.used_at >= self._now() - ACTIVE_S

    def all(self) -> list[Session]:
        """Return all live sessions but the tokens of programs, the last used first."""
        return self._listed(lambda each: each.kind is not Kind.TOKEN)

    def tokens_of(self, account_id: int) -> list[Session]:
        """Return the tokens of an account, the last used first."""
        return self._listed(lambda each: each.kind is Kind.TOKEN and each.account.id == account_id)

    def _listed(self, wanted: Callable[[Session], bool]) -> list[Session]:
        now, lifetimes = self._now(), self._lifetimes()
        live = (each for each in self._live.values() if not each.expired(now, lifetimes))
        return sorted(filter(wanted, live), key=lambda each: each.used_at, reverse=True)

    def refresh(self, accounts: Iterable[Account]) -> None:
        """Let every session know what its account has become."""
        known = {each.id: each for each in accounts}
        for session in self._live.values():
            session.account = known.get(session.account.id, session.account)

    async def end(self, token: str) -> None:
        """Log out."""
        await self._end([_digest(token)])

    async def end_by_id(self, session_id: str, *, of: int | None = None) -> bool:
        """End another session or token, of the account `of` only; False when there is none."""
        found = [
            digest
            for digest, each in self._live.items()
            if each.id == session_id and of in (None, each.account.id)
        ]
        await self._end(found)
        return bool(found)

    async def end_all_of(
        self, account_id: int, *, but: str | None = None, tokens: bool = True
    ) -> None:
        """End all sessions of an account but the one of the token `but`."""
        kept = _digest(but) if but else None
        mine = self._of(account_id, tokens=False)
        mine += self._of(account_id, tokens=True) if tokens else []
        await self._end([digest for digest in mine if digest != kept])

    def _of(self, account_id: int, *, tokens: bool) -> list[str]:
        return [
            digest
            for digest, each in self._live.items()
            if each.account.id == account_id and (each.kind is Kind.TOKEN) is tokens
        ]

    async def _forget_expired(self) -> None:
        now, lifetimes = self._now(), self._lifetimes()
        over = [digest for digest, each in self._live.items() if each.expired(now, lifetimes)]
        await self._end(over)

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


def _guest(label: str, permissions: frozenset[Permission], sight: Sight) -> Account:
    """Return the made-up account of somebody without one; he never administers the box."""
    return Account(
        id=0,
        name=f"{GUEST_PREFIX} {label}",
        role=GUEST,
        permissions=permissions - {Permission.ADMIN, Permission.AUDIT},
        sight=sight,
    )


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
