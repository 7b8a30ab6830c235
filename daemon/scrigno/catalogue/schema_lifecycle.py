# SPDX-License-Identifier: Apache-2.0
"""Version 3 of the index: protection of studies, when they were read, and the trash."""

from sqlite_utils import Database


def lifecycle(database: Database) -> None:
    """Everything stands apart from the list's own tables, whose indexes stay as they are."""
    _flags(database)
    _trash(database)
    # Counts that only grow, by name: seconds that the daemon has run, and the like.
    database.execute(
        "CREATE TABLE lifecycle_meter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID"
    )


def _flags(database: Database) -> None:
    # `revision` grows with each decision; a volume whose file has an older one is owed the newer.
    database.execute(
        "CREATE TABLE study_protection ("
        "study_instance_uid TEXT PRIMARY KEY, protected INTEGER NOT NULL, "
        "revision INTEGER NOT NULL, changed_at INTEGER NOT NULL) WITHOUT ROWID"
    )
    database.execute(
        "CREATE TABLE study_read ("
        "study_instance_uid TEXT PRIMARY KEY, last_read_at INTEGER NOT NULL) WITHOUT ROWID"
    )
    database.execute(
        "CREATE TABLE protection_copy ("
        "volume TEXT NOT NULL, study_instance_uid TEXT NOT NULL, revision INTEGER NOT NULL, "
        "PRIMARY KEY (volume, study_instance_uid)) WITHOUT ROWID"
    )
    # Which disk each volume was when these small files were written: another one has none.
    database.execute(
        "CREATE TABLE lifecycle_volume (volume TEXT PRIMARY KEY, uuid TEXT NOT NULL) WITHOUT ROWID"
    )


def _trash(database: Database) -> None:
    # state: 1 in the trash, 2 coming back, 3 back (files of absent volumes follow), 4 being purged.
    # `token` names the item on the volumes. `ran_at`: seconds that the daemon had run.
    # `entities` and `line` hold the rows as they were, as JSON.
    database.execute(
        "CREATE TABLE trash ("
        "id INTEGER PRIMARY KEY, token TEXT NOT NULL, study_instance_uid TEXT NOT NULL, "
        "scope TEXT NOT NULL, state INTEGER NOT NULL, revision INTEGER NOT NULL, "
        "deleted_at INTEGER NOT NULL, ran_at INTEGER NOT NULL, keep_days INTEGER NOT NULL, "
        "account TEXT NOT NULL, reason TEXT NOT NULL, rule TEXT NOT NULL, "
        "objects INTEGER NOT NULL, size_bytes INTEGER NOT NULL, entities TEXT NOT NULL)"
    )
    database.execute("CREATE UNIQUE INDEX trash_by_token ON trash(token)")
    database.execute("CREATE INDEX trash_by_study ON trash(study_instance_uid)")
    database.execute(
        "CREATE TABLE trash_object ("
        "id INTEGER PRIMARY KEY, item INTEGER NOT NULL, sop_instance_uid TEXT NOT NULL, "
        "key TEXT NOT NULL, digest BLOB NOT NULL, size INTEGER NOT NULL, staged_as TEXT, "
        "kept INTEGER NOT NULL DEFAULT 0, line TEXT NOT NULL)"
    )
    database.execute("CREATE INDEX trash_object_by_item ON trash_object(item, id)")
    database.execute("CREATE INDEX trash_object_by_uid ON trash_object(sop_instance_uid)")
    database.execute(
        "CREATE INDEX trash_object_by_staged_as ON trash_object(staged_as) "
        "WHERE staged_as IS NOT NULL"
    )
    # was: state of the copy in the archive, 0 when none was known. place: 1 among the studies,
    # 2 in the trash, 3 nowhere. owes: the volume has yet to bring it where the item's state says.
    database.execute(
        "CREATE TABLE trash_copy ("
        "object INTEGER NOT NULL, volume TEXT NOT NULL, was INTEGER NOT NULL, "
        "verified_at INTEGER, place INTEGER NOT NULL, owes INTEGER NOT NULL, "
        "PRIMARY KEY (object, volume)) WITHOUT ROWID"
    )
    database.execute("CREATE INDEX trash_copy_by_debt ON trash_copy(volume, object) WHERE owes = 1")
    database.execute(
        "CREATE TABLE trash_record ("
        "item INTEGER NOT NULL, volume TEXT NOT NULL, revision INTEGER NOT NULL, "
        "PRIMARY KEY (item, volume)) WITHOUT ROWID"
    )
