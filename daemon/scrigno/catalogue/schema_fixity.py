# SPDX-License-Identifier: Apache-2.0
"""Version 2 of the index: how far the scrub of each volume has come, and what it met."""

from sqlite_utils import Database


def fixity(database: Database) -> None:
    """Scrubs, objects without a good copy, files of no row, files that were set aside.

    Objects are named as `Debt` names them: by SOP Instance UID, those of the inbox by key.
    """
    # One row a volume. `started_at` is NULL while no pass is under way; `after` is where it goes
    # on; the numbers are those of the pass that runs or ended last.
    database.execute(
        "CREATE TABLE scrub ("
        "volume TEXT PRIMARY KEY, known_since INTEGER NOT NULL, started_at INTEGER, "
        "after INTEGER NOT NULL DEFAULT 0, "
        "checked INTEGER NOT NULL DEFAULT 0, checked_bytes INTEGER NOT NULL DEFAULT 0, "
        "bad INTEGER NOT NULL DEFAULT 0, repaired INTEGER NOT NULL DEFAULT 0, "
        "unrepairable INTEGER NOT NULL DEFAULT 0, alien INTEGER NOT NULL DEFAULT 0, "
        "last_started INTEGER, last_finished INTEGER"
        ") WITHOUT ROWID"
    )
    # `kind`: lost (every copy was read and is bad), waiting (a volume with a copy is away),
    # index (all copies agree among themselves and not with the index).
    database.execute(
        "CREATE TABLE lost_object ("
        "name TEXT PRIMARY KEY, kind TEXT NOT NULL, found_at INTEGER NOT NULL, "
        "away TEXT NOT NULL) WITHOUT ROWID"
    )
    database.execute(
        "CREATE TABLE alien_file ("
        "volume TEXT NOT NULL, key TEXT NOT NULL, size INTEGER NOT NULL, "
        "found_at INTEGER NOT NULL, PRIMARY KEY (volume, key)) WITHOUT ROWID"
    )
    database.execute(
        "CREATE TABLE quarantine ("
        "volume TEXT NOT NULL, key TEXT NOT NULL, object_key TEXT NOT NULL, why TEXT NOT NULL, "
        "size INTEGER NOT NULL, set_aside_at INTEGER NOT NULL, PRIMARY KEY (volume, key)"
        ") WITHOUT ROWID"
    )
