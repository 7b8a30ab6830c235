# SPDX-License-Identifier: Apache-2.0
"""Version 5 of the index: which disk each volume was when its copies were recorded."""

from sqlite_utils import Database


def volume_identity(database: Database) -> None:
    """One row a volume: the uuid in its marker; and one for each that is being caught up.

    `since` (microseconds) is from when on its copies are doubted, `checked` the number of the last
    object that was read back, so that a restart goes on there.
    """
    database.execute(
        "CREATE TABLE volume_identity (volume TEXT PRIMARY KEY, uuid TEXT NOT NULL) WITHOUT ROWID"
    )
    database.execute(
        "CREATE TABLE volume_recovery (volume TEXT PRIMARY KEY, since INTEGER NOT NULL, "
        "checked INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID"
    )
