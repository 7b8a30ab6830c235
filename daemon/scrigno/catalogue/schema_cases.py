# SPDX-License-Identifier: Apache-2.0
"""Version 4 of the index: what operators decided about kept objects and patients."""

from sqlite_utils import Database


def cases(database: Database) -> None:
    """One row a decision, with what is needed to take it back."""
    database.execute(
        "CREATE TABLE decision ("
        "id INTEGER PRIMARY KEY, decided_at INTEGER NOT NULL, account TEXT NOT NULL, "
        "kind TEXT NOT NULL, subject TEXT NOT NULL, before TEXT NOT NULL, after TEXT NOT NULL, "
        "undone_at INTEGER)"
    )
