# SPDX-License-Identifier: Apache-2.0
"""Version 3 of the index: protection of studies, and the trash."""

from sqlite_utils import Database


def lifecycle(database: Database) -> None:
    """Flags of studies stand apart, so that the list's own indexes stay as they are."""
    database.execute(
        "CREATE TABLE study_flag ("
        "study_instance_uid TEXT PRIMARY KEY, protected INTEGER NOT NULL DEFAULT 0, "
        "last_read_at INTEGER) WITHOUT ROWID"
    )
    database.execute(
        "CREATE TABLE trash ("
        "id INTEGER PRIMARY KEY, study_instance_uid TEXT NOT NULL, deleted_at INTEGER NOT NULL, "
        "account TEXT NOT NULL, reason TEXT NOT NULL, objects INTEGER NOT NULL, "
        "size_bytes INTEGER NOT NULL, purge_at INTEGER NOT NULL)"
    )
