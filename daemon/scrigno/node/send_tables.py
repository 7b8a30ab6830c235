# SPDX-License-Identifier: Apache-2.0
"""The tables of `<state_dir>/send.db`, a file of its own: it may be lost, the images may not."""

from typing import Any, Final

from scrigno.db.migrations import Schema


def items_objects_and_courses(database: Any) -> None:
    """Make the first tables."""
    database.execute(
        "CREATE TABLE item ("
        " id INTEGER PRIMARY KEY AUTOINCREMENT,"  # a number is never given twice
        " destination TEXT NOT NULL, study_uid TEXT NOT NULL, author TEXT NOT NULL,"
        " state TEXT NOT NULL, created_at REAL NOT NULL, since REAL NOT NULL, ended_at REAL,"
        " attempts INTEGER NOT NULL DEFAULT 0, next_at REAL NOT NULL DEFAULT 0,"
        " total INTEGER NOT NULL, sent INTEGER NOT NULL DEFAULT 0,"
        " warned INTEGER NOT NULL DEFAULT 0, failed INTEGER NOT NULL DEFAULT 0,"
        " code TEXT NOT NULL DEFAULT '', comment TEXT NOT NULL DEFAULT '')"
    )
    database.execute("CREATE INDEX item_by_turn ON item (state, destination, id)")
    database.execute("CREATE INDEX item_by_author ON item (author, id)")
    database.execute(
        "CREATE TABLE object ("
        " item_id INTEGER NOT NULL REFERENCES item (id) ON DELETE CASCADE,"
        " position INTEGER NOT NULL, sop_instance_uid TEXT NOT NULL,"
        " state INTEGER NOT NULL DEFAULT 0, status INTEGER,"
        " code TEXT NOT NULL DEFAULT '', comment TEXT NOT NULL DEFAULT '',"
        " PRIMARY KEY (item_id, sop_instance_uid)) WITHOUT ROWID"
    )
    database.execute(
        "CREATE TABLE course ("
        " name TEXT PRIMARY KEY, paused_by TEXT NOT NULL, reason TEXT NOT NULL,"
        " paused_at REAL NOT NULL) WITHOUT ROWID"
    )


SCHEMA: Final = Schema("send", (items_objects_and_courses,), compat=1)
