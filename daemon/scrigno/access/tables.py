# SPDX-License-Identifier: Apache-2.0
"""The tables of `<state_dir>/access.db`, a file of its own so that the index can be rebuilt."""

from typing import Final

import sqlite_utils

from scrigno.db.migrations import Schema

from . import permissions
from .roles import built_in_roles


def accounts_and_sessions(database: sqlite_utils.Database) -> None:
    """Make the first tables."""
    accounts = database.table("account")
    accounts.create(
        {
            "id": int,
            "name": str,
            "folded": str,
            "password_hash": str,
            "role": str,
            "disabled": int,
            "language": str,
            "created_at": str,
        },
        pk="id",
        not_null={"name", "folded", "password_hash", "role", "disabled", "created_at"},
    )
    accounts.create_index(["folded"], unique=True)
    database.table("session").create(
        {
            "digest": str,
            "id": str,
            "account_id": int,
            "kind": str,
            "created_at": float,
            "used_at": float,
            "address": str,
            "agent": str,
        },
        pk="digest",
        not_null={"id", "account_id", "kind", "created_at", "used_at"},
        foreign_keys=[("account_id", "account", "id")],
    )


def roles_and_factors(database: sqlite_utils.Database) -> None:
    """Roles as rows, second factors, temporary passwords, guests and tokens among the sessions."""
    database.execute(
        "CREATE TABLE role (name TEXT PRIMARY KEY, folded TEXT NOT NULL UNIQUE, "
        "about TEXT NOT NULL, permissions TEXT NOT NULL, sight TEXT NOT NULL, "
        "built_in INTEGER NOT NULL) WITHOUT ROWID"
    )
    for role in built_in_roles():
        database.execute(
            "INSERT INTO role (name, folded, about, permissions, sight, built_in) "
            "VALUES (?, ?, ?, ?, '', 1)",
            (role.name, role.name.casefold(), role.about, permissions.written(role.permissions)),
        )
    # The roles of before are called as the built-in ones are; whatever else stood there sees only.
    database.execute(
        "UPDATE account SET role = 'viewer' WHERE role NOT IN ('administrator', 'user')"
    )
    for column in (
        "added TEXT NOT NULL DEFAULT ''",  # permissions beside those of the role
        "must_change INTEGER NOT NULL DEFAULT 0",  # a new password is asked for at log-in
        "password_until REAL",  # UNIX seconds; a temporary password ends by itself
        "provider TEXT NOT NULL DEFAULT ''",  # issuer of who logs in by a provider
        "subject TEXT NOT NULL DEFAULT ''",  # and how the issuer calls him
        "used_at REAL",  # the last log-in
    ):
        database.execute(f"ALTER TABLE account ADD COLUMN {column}")
    database.execute(
        "CREATE UNIQUE INDEX account_by_subject ON account(provider, subject) WHERE provider <> ''"
    )
    # Without an account it is a guest's: label, permissions and sight are its own. A token of an
    # account has its name in `label` and its scopes in `permissions`.
    database.execute(
        "CREATE TABLE session_anew (digest TEXT PRIMARY KEY, id TEXT NOT NULL, "
        "account_id INTEGER REFERENCES account(id), kind TEXT NOT NULL, created_at REAL NOT NULL, "
        "used_at REAL NOT NULL, expires_at REAL, address TEXT NOT NULL, agent TEXT NOT NULL, "
        "label TEXT NOT NULL, permissions TEXT NOT NULL, sight TEXT NOT NULL) WITHOUT ROWID"
    )
    database.execute(
        "INSERT INTO session_anew SELECT digest, id, account_id, kind, created_at, used_at, NULL, "
        "coalesce(address, ''), coalesce(agent, ''), '', '', '' FROM session"
    )
    database.execute("DROP TABLE session")
    database.execute("ALTER TABLE session_anew RENAME TO session")
    database.execute(
        "CREATE TABLE totp (account_id INTEGER PRIMARY KEY REFERENCES account(id), "
        "secret TEXT NOT NULL, confirmed INTEGER NOT NULL, counter INTEGER NOT NULL, "
        "created_at REAL NOT NULL)"
    )
    database.execute(
        "CREATE TABLE recovery_code (id INTEGER PRIMARY KEY, "
        "account_id INTEGER NOT NULL REFERENCES account(id), hash TEXT NOT NULL)"
    )
    database.execute("CREATE INDEX recovery_code_by_account ON recovery_code(account_id)")
    database.execute(
        "CREATE TABLE passkey (id TEXT PRIMARY KEY, "
        "account_id INTEGER NOT NULL REFERENCES account(id), name TEXT NOT NULL, "
        "public_key BLOB NOT NULL, sign_count INTEGER NOT NULL, host TEXT NOT NULL, "
        "created_at REAL NOT NULL, used_at REAL) WITHOUT ROWID"
    )
    database.execute("CREATE INDEX passkey_by_account ON passkey(account_id)")


SCHEMA: Final = Schema("access", (accounts_and_sessions, roles_and_factors), compat=2)
