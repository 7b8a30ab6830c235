# SPDX-License-Identifier: Apache-2.0
"""Accounts: who exists and what they may do."""

import unicodedata
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from scrigno.core.clock import Clock
from scrigno.db.engine import Database
from scrigno.db.sqlite import Connection, Row

from .errors import AlreadyClaimed, BadUserName, LastAdministrator, UnknownAccount
from .permissions import EVERY_PERMISSION, Permission


class Role(StrEnum):
    """What an account may do."""

    ADMINISTRATOR = "administrator"  # everything, settings and accounts included
    USER = "user"  # looks at studies


_OF_ROLE: Final = {
    Role.ADMINISTRATOR: EVERY_PERMISSION,
    Role.USER: EVERY_PERMISSION
    - {Permission.ADMIN, Permission.AUDIT, Permission.DELETE, Permission.EDIT},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One person or program; never holds the password."""

    id: int
    name: str
    role: Role
    disabled: bool
    language: str  # "" is the language of the box
    created_at: str  # ISO 8601, UTC

    @property
    def permissions(self) -> frozenset[Permission]:
        """Return what the account may do."""
        return _OF_ROLE[self.role]


_COLUMNS = "id, name, role, disabled, language, created_at"


def fold(name: str) -> str:
    """Return the name as it is compared: NFKC, without case."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def require_user_name(name: str) -> str:
    """Return the name, or raise BadUserName."""
    cleaned = unicodedata.normalize("NFC", name.strip())
    if not 1 <= len(cleaned) <= 64 or not cleaned.isprintable():
        raise BadUserName("A user name has 1 to 64 printable characters.")
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
        query = f"SELECT {_COLUMNS} FROM account ORDER BY folded"  # noqa: S608 - constants
        rows = await self._database.read(lambda db: db.execute(query).fetchall())
        return [_account(row) for row in rows]

    async def with_hash(self, name: str) -> tuple[Account, str] | None:
        """Return the account of that name with its password hash."""
        query = f"SELECT {_COLUMNS}, password_hash FROM account WHERE folded = ?"  # noqa: S608
        row = await self._database.read(lambda db: db.execute(query, (fold(name),)).fetchone())
        return None if row is None else (_account(row[:-1]), str(row[-1]))

    async def add(
        self, name: str, password_hash: str, role: Role, *, only_if_first: bool = False
    ) -> Account:
        """Add an account; with `only_if_first`, raise AlreadyClaimed when there is one.

        Raises BadUserName when the name cannot be used or is taken. Durable on return.
        """
        cleaned = require_user_name(name)
        now = self._clock.now().isoformat(timespec="seconds")

        def insert(db: Connection) -> Row:
            if only_if_first and db.execute("SELECT 1 FROM account").fetchone():
                raise AlreadyClaimed("The box has been claimed already.")
            if db.execute("SELECT 1 FROM account WHERE folded = ?", (fold(cleaned),)).fetchone():
                raise BadUserName("This user name is taken.")
            db.execute(
                "INSERT INTO account (name, folded, password_hash, role, disabled, language,"
                " created_at) VALUES (?, ?, ?, ?, 0, '', ?)",
                (cleaned, fold(cleaned), password_hash, role, now),
            )
            return _one(db, cleaned)

        return _account(await self._database.write(insert))

    async def set_password_hash(self, name: str, password_hash: str) -> Account:
        """Replace the password hash."""
        return await self._update(name, "password_hash", password_hash)

    async def set_language(self, name: str, language: str) -> Account:
        """Remember the language the person picked; "" is the language of the box."""
        return await self._update(name, "language", language)

    async def _update(self, name: str, column: str, value: str) -> Account:
        statement = f"UPDATE account SET {column} = ? WHERE folded = ?"  # noqa: S608 - our columns

        def update(db: Connection) -> Row:
            db.execute(statement, (value, fold(name)))
            return _one(db, name)

        return _account(await self._database.write(update))

    async def remove(self, name: str) -> int:
        """Remove an account and its sessions; returns its id. The last administrator stays."""

        def delete(db: Connection) -> int:
            account = _account(_one(db, name))
            others = "SELECT 1 FROM account WHERE role = ? AND disabled = 0 AND id <> ?"
            if (
                account.role is Role.ADMINISTRATOR
                and not db.execute(others, (Role.ADMINISTRATOR, account.id)).fetchone()
            ):
                raise LastAdministrator("This is the last administrator.")
            db.execute("DELETE FROM session WHERE account_id = ?", (account.id,))
            db.execute("DELETE FROM account WHERE id = ?", (account.id,))
            return account.id

        return await self._database.write(delete)


def _one(db: Connection, name: str) -> Row:
    query = f"SELECT {_COLUMNS} FROM account WHERE folded = ?"  # noqa: S608 - constants
    row = db.execute(query, (fold(name),)).fetchone()
    if row is None:
        raise UnknownAccount("There is no such account.")
    return row


def _account(row: Row) -> Account:
    number, name, role, disabled, language, created_at = row
    return Account(
        id=number,
        name=name,
        role=Role(role),
        disabled=bool(disabled),
        language=language or "",
        created_at=created_at,
    )
