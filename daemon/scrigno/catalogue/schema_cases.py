# SPDX-License-Identifier: Apache-2.0
"""Version 4 of the index: what operators decided about kept objects and patients."""

from sqlite_utils import Database


def cases(database: Database) -> None:
    """One row a decision with what is needed to take it back; what holds for a study by them."""
    # phase: doing, done, undoing, undone, final. `sequence` counts the decisions on one subject.
    # `ran_s` is how long the box had run in all when it was decided (see `running`).
    database.execute(
        "CREATE TABLE decision ("
        "id INTEGER PRIMARY KEY, token TEXT NOT NULL UNIQUE, decided_at INTEGER NOT NULL, "
        "account TEXT NOT NULL, why TEXT NOT NULL, kind TEXT NOT NULL, subject TEXT NOT NULL, "
        "sequence INTEGER NOT NULL, phase TEXT NOT NULL, before TEXT NOT NULL, "
        "after TEXT NOT NULL, ran_s INTEGER NOT NULL DEFAULT 0, undone_at INTEGER, "
        "undone_by TEXT NOT NULL DEFAULT '', undone_why TEXT NOT NULL DEFAULT '')"
    )
    database.execute("CREATE INDEX decision_by_subject ON decision(subject, sequence)")
    database.execute(
        "CREATE INDEX decision_by_phase ON decision(phase, id) WHERE phase IN ('doing', 'undoing')"
    )
    # `sent` is what the objects of the study say, empty while the study is not there.
    database.execute(
        "CREATE TABLE correction ("
        "study_instance_uid TEXT PRIMARY KEY, decision INTEGER NOT NULL, "
        "dismissed INTEGER NOT NULL, person TEXT NOT NULL, identity TEXT NOT NULL, "
        "sent TEXT NOT NULL) WITHOUT ROWID"
    )
    # Seconds that the box has run: time that no clock can jump over.
    database.execute("CREATE TABLE running (id INTEGER PRIMARY KEY, seconds INTEGER NOT NULL)")
    database.execute("INSERT INTO running (id, seconds) VALUES (1, 0)")
    # Files of the inbox that could not be removed because their volume was away.
    database.execute(
        "CREATE TABLE leftover (volume TEXT NOT NULL, key TEXT NOT NULL, "
        "sop_instance_uid TEXT NOT NULL, PRIMARY KEY (volume, key)) WITHOUT ROWID"
    )
    # '' while nobody has decided, else the kind of the decision that hides it from the inbox.
    database.execute("ALTER TABLE inbox ADD COLUMN decided TEXT NOT NULL DEFAULT ''")
