# SPDX-License-Identifier: Apache-2.0
"""Version 6 of the index: from whom the objects of each study came, found from either side."""

from sqlite_utils import Database


def study_origin(database: Database) -> None:
    """One row for each study and each origin that one of its objects has."""
    database.execute(
        "CREATE TABLE study_origin (origin INTEGER NOT NULL, study INTEGER NOT NULL, "
        "PRIMARY KEY (origin, study)) WITHOUT ROWID"
    )
    database.execute("CREATE INDEX study_origin_by_study ON study_origin(study)")
    database.execute(
        "INSERT INTO study_origin (origin, study) SELECT DISTINCT instance.origin, series.study "
        "FROM instance JOIN series ON series.id = instance.series"
    )
