# SPDX-License-Identifier: Apache-2.0
"""Version 5 of the index: which disk each volume was when its copies were recorded."""

from sqlite_utils import Database


def volume_identity(database: Database) -> None:
    """One row a volume: the uuid in its marker."""
    database.execute(
        "CREATE TABLE volume_identity (volume TEXT PRIMARY KEY, uuid TEXT NOT NULL) WITHOUT ROWID"
    )
