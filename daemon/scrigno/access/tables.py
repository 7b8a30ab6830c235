# SPDX-License-Identifier: Apache-2.0
"""The tables of `<state_dir>/access.db`, a file of its own so that the index can be rebuilt."""

from typing import Final

import sqlite_utils

from scrigno.db.migrations import Schema


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


SCHEMA: Final = Schema("access", (accounts_and_sessions,), compat=1)
