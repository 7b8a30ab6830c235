# SPDX-License-Identifier: Apache-2.0
"""The tables of `<state_dir>/jobs.db`, a file of its own: it may be lost, the images may not."""

from typing import Final

import sqlite_utils

from scrigno.db.migrations import Schema


def jobs_items_and_results(database: sqlite_utils.Database) -> None:
    """Make the first tables."""
    database.execute(
        "CREATE TABLE job ("
        " id INTEGER PRIMARY KEY AUTOINCREMENT,"  # a number is never given twice
        " kind TEXT NOT NULL, state TEXT NOT NULL, author TEXT NOT NULL, title TEXT NOT NULL,"
        " params TEXT NOT NULL, grant_json TEXT NOT NULL,"
        " checkpoint TEXT NOT NULL DEFAULT '{}', counts TEXT NOT NULL DEFAULT '{}',"
        " failed_items INTEGER NOT NULL DEFAULT 0, failed_by_code TEXT NOT NULL DEFAULT '{}',"
        " done INTEGER NOT NULL DEFAULT 0, total INTEGER, note TEXT NOT NULL DEFAULT '',"
        " code TEXT NOT NULL DEFAULT '', reason TEXT NOT NULL DEFAULT '',"
        " created_at REAL NOT NULL, started_at REAL, finished_at REAL,"
        " runs INTEGER NOT NULL DEFAULT 0)"
    )
    database.execute("CREATE INDEX job_by_state ON job (state, id)")
    database.execute("CREATE INDEX job_by_author ON job (author, id)")
    database.execute(
        "CREATE TABLE item ("
        " job_id INTEGER NOT NULL REFERENCES job (id) ON DELETE CASCADE, seq INTEGER NOT NULL,"
        " name TEXT NOT NULL, code TEXT NOT NULL, reason TEXT NOT NULL, ref TEXT NOT NULL,"
        " PRIMARY KEY (job_id, seq)) WITHOUT ROWID"
    )
    database.execute(
        "CREATE TABLE result ("
        " id INTEGER PRIMARY KEY AUTOINCREMENT,"
        " job_id INTEGER NOT NULL REFERENCES job (id) ON DELETE CASCADE,"
        " name TEXT NOT NULL, media_type TEXT NOT NULL, size INTEGER NOT NULL,"
        " digest TEXT NOT NULL, file TEXT NOT NULL, expires_at REAL NOT NULL)"
    )
    database.execute("CREATE INDEX result_by_job ON result (job_id)")


SCHEMA: Final = Schema("jobs", (jobs_items_and_results,), compat=1)
