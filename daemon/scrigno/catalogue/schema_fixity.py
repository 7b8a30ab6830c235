# SPDX-License-Identifier: Apache-2.0
"""Version 2 of the index: how far the scrub of each volume has come."""

from sqlite_utils import Database


def fixity(database: Database) -> None:
    """One row a volume: where its scrub stands and how the last whole one ended."""
    database.execute(
        "CREATE TABLE scrub ("
        "volume TEXT PRIMARY KEY, started_at INTEGER, after INTEGER NOT NULL DEFAULT 0, "
        "checked INTEGER NOT NULL DEFAULT 0, bad INTEGER NOT NULL DEFAULT 0, "
        "repaired INTEGER NOT NULL DEFAULT 0, finished_at INTEGER"
        ") WITHOUT ROWID"
    )
