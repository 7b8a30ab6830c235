# SPDX-License-Identifier: Apache-2.0
"""Accounts: who exists, which role they have, what they may do and see."""

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from scrigno.core.clock import Clock
from scrigno.core.sight import EVERYTHING, Sight
from scrigno.db.engine import Database
from scrigno.db.sqlite import Connection, Row, Value

from . import permissions, roles
from .errors import AlreadyClaimed, BadUserName, LastAdministrator, UnknownAccount
from .permissions import Permission
from .roles import Role

T = TypeVar("T")

MOST_ACCOUNTS: Final = 10_000
# who acts without an account, as the audit trail and the history of the settings name them
RESERVED: Final = frozenset({"operator", "scrigno", "nobody", "guest"})
GUEST_PREFIX: Final = "guest:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One person or program; never holds the password. A guest has the number 0 and no row."""

    id: int
    name: str
    role: str
    disabled: bool = False
    language: str = ""  # "" is the language of the box
    created_at: str = ""  # ISO 8601, UTC
    permissions: frozenset[Permission] = frozenset()  # of the role, and those added
    added: frozenset[Permission] = frozenset()
    sight: Sight = EVERYTHING
    must_change: bool = False
    password_until: float | None = None
    provider: str = ""  # the issuer of who logs in by a provider
    used_at: float | None = None  # the last log-in, UNIX seconds

    @property
    def administers(self) -> bool:
        """Whether the account may administer the box."""
        return Permission.ADMIN in self.permissions


_COLUMNS: Final = (
    "account.id, account.name, account.role, disabled, language, created_at, added, must_change, "
    "password_until, provider, used_at, role.permissions, role.sight"
)
# A role that is gone, which cannot be, gives nothing.
_FROM: Final = "FROM account LEFT JOIN role ON role.name = account.role"


def fold(name: str) -> str:
    """Return the name as it is compared: NFKC, without case."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def require_user_name(name: str) -> str:
    """Return the name, or raise BadUserName."""
    cleaned = unicodedata.normalize("NFC", name.strip())
    if not 1 <= len(cleaned) <= 64 or not cleaned.isprintable():
        raise BadUserName("A user name has 1 to 64 printable characters.")
    if fold(cleaned) in RESERVED or fold(cleaned).startswith(GUEST_PREFIX):
        raise BadUserName("This name means the box itself or a guest in the audit trail.")
    return cleaned


class Accounts:
    """The account table."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        """Use an open database with the access schema."""
        self._database = database
        self._clock = clock

    async def any(self) -> bool:
        """Tell whether the box has an account: whether it is claimed."""
        query = "SELECT EXISTS (SELECT 1 FROM account)"
        row = await self._database.read(lambda db: db.execute(query).fetchone())
        return bool(row and row[0])

    async def all(self) -> list[Account]:
        """Return all accounts by name."""
        query = f"SELECT {_COLUMNS} {_FROM} ORDER BY account.folded"
        rows = await self._database.read(lambda db: db.execute(query).fetchall())
        return [account_of(row) for row in rows]

    async def named(self, name: str) -> Account:
        """Return one account; raises UnknownAccount."""
        return await self._database.read(lambda db: by_name(db, name))

    async def by_id(self, number: int) -> Account:
        """Return one account; raises UnknownAccount."""
        return await self._database.read(lambda db: by_number(db, number))

    async def with_hash(self, name: str) -> tuple[Account, str] | None:
        """Return the account of that name with its password hash."""
        query = f"SELECT {_COLUMNS}, password_hash {_FROM} WHERE account.folded = ?"
        row = await self._database.read(lambda db: db.execute(query, (fold(name),)).fetchone())
        return None if row is None else (account_of(row[:-1]), str(row[-1]))

    async def of_subject(self, provider: str, subject: str) -> Account | None:
        """Return the account of somebody whom a provider knows."""
        query = f"SELECT {_COLUMNS} {_FROM} WHERE provider = ? AND subject = ?"
        row = await self._database.read(
            lambda db: db.execute(query, (provider, subject)).fetchone()
        )
        return None if row is None else account_of(row)

    async def add(
        self,
        name: str,
        password_hash: str,
        role: str,
        *,
        only_if_first: bool = False,
        must_change: bool = False,
        password_until: float | None = None,
        identity: tuple[str, str] = ("", ""),
    ) -> Account:
        """Add an account; with `only_if_first`, raise AlreadyClaimed when there is one.

        Raises BadUserName when the name cannot be used or is taken, UnknownRole. Durable on
        return. `identity` is the issuer and subject of who logs in by a provider.
        """
        cleaned = require_user_name(name)
        now = self._clock.now().isoformat(timespec="seconds")

        def insert(db: Connection) -> Account:
            count = db.execute("SELECT count(*) FROM account").fetchone()
            if only_if_first and count and count[0]:
                raise AlreadyClaimed("The box has been claimed already.")
            if count and count[0] >= MOST_ACCOUNTS:
                raise BadUserName(f"There are {MOST_ACCOUNTS} accounts already.")
            if db.execute("SELECT 1 FROM account WHERE folded = ?", (fold(cleaned),)).fetchone():
                raise BadUserName("This user name is taken.")
            wanted = roles.one(db, role)
            db.execute(
                "INSERT INTO account (name, folded, password_hash, role, disabled, language,"
                " created_at, must_change, password_until, provider, subject)"
                " VALUES (?, ?, ?, ?, 0, '', ?, ?, ?, ?, ?)",
                (
                    *(cleaned, fold(cleaned), password_hash, wanted.name, now),
                    *(int(must_change), password_until, *identity),
                ),
            )
            return by_name(db, cleaned)

        return await self._database.write(insert)

    async def set_password_hash(
        self,
        name: str,
        password_hash: str,
        *,
        must_change: bool = False,
        until: float | None = None,
    ) -> Account:
        """Replace the password hash; a temporary password ends at `until` and must be changed."""
        return await self._update(
            name, password_hash=password_hash, must_change=int(must_change), password_until=until
        )

    async def renew_hash(self, number: int, password_hash: str) -> None:
        """Replace the hash of the same password by one of today's cost."""
        statement = "UPDATE account SET password_hash = ? WHERE id = ?"
        await self._database.write(
            lambda db: db.execute(statement, (password_hash, number)).rowcount
        )

    async def set_language(self, name: str, language: str) -> Account:
        """Remember the language the person picked; "" is the language of the box."""
        return await self._update(name, language=language)

    async def note_use(self, number: int, at: float) -> None:
        """Note a log-in."""
        statement = "UPDATE account SET used_at = ? WHERE id = ?"
        await self._database.write(lambda db: db.execute(statement, (at, number)).rowcount)

    async def change(
        self,
        name: str,
        *,
        role: str | None = None,
        added: frozenset[Permission] | None = None,
        disabled: bool | None = None,
        must_change: bool | None = None,
    ) -> Account:
        """Change what an account may do; the last administrator stays one.

        Raises UnknownAccount, UnknownRole, LastAdministrator.
        """

        def change(db: Connection) -> Account:
            values: dict[str, Value] = {}
            if role is not None:
                values["role"] = roles.one(db, role).name
            if added is not None:
                values["added"] = permissions.written(added)
            if disabled is not None:
                values["disabled"] = int(disabled)
            if must_change is not None:
                values["must_change"] = int(must_change)
            return _set(db, by_name(db, name), values)

        return await self._guarded(change)

    async def _update(self, name: str, **values: Value) -> Account:
        return await self._database.write(lambda db: _set(db, by_name(db, name), values))

    async def remove(self, name: str) -> Account:
        """Remove an account with all that is its own; the last administrator stays."""

        def delete(db: Connection) -> Account:
            account = by_name(db, name)
            for table in ("session", "totp", "recovery_code", "passkey"):
                db.execute(f"DELETE FROM {table} WHERE account_id = ?", (account.id,))  # noqa: S608 - constants
            db.execute("DELETE FROM account WHERE id = ?", (account.id,))
            return account

        return await self._guarded(delete)

    # roles, which decide who is an administrator --------------------------------------------------

    async def add_role(self, role: Role) -> Role:
        """Add a role; raises BadRole."""
        wanted = roles.require_role(role)
        await self._database.write(lambda db: roles.insert(db, wanted))
        return wanted

    async def change_role(self, role: Role) -> Role:
        """Change a role; raises BadRole, UnknownRole, LastAdministrator."""
        wanted = roles.require_role(role)

        def change(db: Connection) -> Role:
            known = roles.one(db, wanted.name)
            roles.update(
                db,
                Role(
                    name=known.name,
                    about=wanted.about,
                    permissions=wanted.permissions,
                    sight=wanted.sight,
                ),
            )
            return roles.one(db, known.name)

        return await self._guarded(change)

    async def remove_role(self, name: str) -> None:
        """Remove a role that nobody has; raises BadRole, RoleInUse, UnknownRole."""
        await self._database.write(lambda db: roles.delete(db, name))

    async def _guarded(self, change: Callable[[Connection], T]) -> T:
        """Run a change, and undo it when it would leave nobody who may administer the box."""

        def guarded(db: Connection) -> T:
            done = change(db)
            if not _administered(db):
                raise LastAdministrator(
                    "This would leave nobody who may administer the box.",
                    next_step="Make somebody else an administrator first.",
                )
            return done

        return await self._database.write(guarded)


def _administered(db: Connection) -> bool:
    query = f"SELECT {_COLUMNS} {_FROM} WHERE disabled = 0"
    return any(account_of(row).administers for row in db.execute(query))


def _set(db: Connection, account: Account, values: dict[str, Value]) -> Account:
    if values:
        columns = ", ".join(f"{column} = ?" for column in values)
        db.execute(
            f"UPDATE account SET {columns} WHERE id = ?",  # noqa: S608 - our columns
            (*values.values(), account.id),
        )
    return by_number(db, account.id)


def by_name(db: Connection, name: str) -> Account:
    """Return the account of that name; raises UnknownAccount."""
    query = f"SELECT {_COLUMNS} {_FROM} WHERE account.folded = ?"
    return _found(db.execute(query, (fold(name),)).fetchone())


def by_number(db: Connection, number: int) -> Account:
    """Return the account of that number; raises UnknownAccount."""
    query = f"SELECT {_COLUMNS} {_FROM} WHERE account.id = ?"
    return _found(db.execute(query, (number,)).fetchone())


def _found(row: Row | None) -> Account:
    if row is None:
        raise UnknownAccount("There is no such account.")
    return account_of(row)


def _sight(permissions: frozenset[Permission], text: str | None) -> Sight:
    if Permission.ADMIN in permissions:
        return EVERYTHING
    return roles.NOTHING if text is None else roles.sight_of_text(text)


def account_of(row: Row) -> Account:
    """Return the account of a row, with what its role and its additions come to."""
    number, name, role, disabled, language, created_at, added, must_change, until = row[:9]
    provider, used_at, words, sight = row[9:]
    own = permissions.read(added)
    every = own | permissions.read(words or "")
    return Account(
        id=number,
        name=name,
        role=role,
        disabled=bool(disabled),
        language=language or "",
        created_at=created_at,
        permissions=every,
        added=own,
        sight=_sight(every, sight),
        must_change=bool(must_change),
        password_until=until,
        provider=provider,
        used_at=used_at,
    )
