# SPDX-License-Identifier: Apache-2.0
"""Forgetting objects, and comparing the counters with what they count."""

from collections.abc import Iterable
from typing import Final

from scrigno.db.sqlite import Connection

from . import corrections, fulltext, values
from .dictionaries import OTHER_BIT
from .gains import Gains

# Children first, so that nothing ever refers to a row that is gone.
_TABLES: Final = (
    "copy",
    "inbox_copy",
    "inbox",
    "instance",
    "series_request",
    "series",
    "study_origin",
    "study",
    "patient",
    "modality",
    "institution",
    "origin",
    "volume_tally",
    "volume_recovery",
    "study_protection",
    "study_read",
    "protection_copy",
    "lifecycle_volume",
    "trash",
    "trash_object",
    "trash_copy",
    "trash_record",
    "scrub",
    "lost_object",
    "alien_file",
    "quarantine",
    "correction",
    "decision",
    "leftover",
)

# What each counter should say, and what it does say where it does not.
_CHECKS: Final = (
    (
        "the number of studies",
        "SELECT count(*) FROM (SELECT 1 FROM totals WHERE studies <> (SELECT count(*) FROM study))",
    ),
    (
        "the number of patients",
        "SELECT count(*) FROM "
        "(SELECT 1 FROM totals WHERE patients <> (SELECT count(*) FROM patient))",
    ),
    (
        "the number of series",
        "SELECT count(*) FROM (SELECT 1 FROM totals WHERE series <> (SELECT count(*) FROM series))",
    ),
    (
        "the number or size of all objects",
        "SELECT count(*) FROM (SELECT 1 FROM totals, "
        "(SELECT count(*) AS objects, coalesce(sum(size), 0) AS bytes FROM instance) "
        "WHERE instances <> objects OR size_bytes <> bytes)",
    ),
    (
        "the number or size of the objects of a series",
        "SELECT count(*) FROM series WHERE number_of_instances <> "
        "(SELECT count(*) FROM instance WHERE instance.series = series.id) OR size_bytes <> "
        "(SELECT coalesce(sum(size), 0) FROM instance WHERE instance.series = series.id)",
    ),
    (
        "the number of series or objects of a study",
        "SELECT count(*) FROM study WHERE number_of_series <> "
        "(SELECT count(*) FROM series WHERE series.study = study.id) "
        "OR (number_of_instances, size_bytes) <> (SELECT coalesce(sum(number_of_instances), 0), "
        "coalesce(sum(size_bytes), 0) FROM series WHERE series.study = study.id)",
    ),
    (
        "the copies of a volume",
        "SELECT count(*) FROM volume_tally WHERE (held, owed, missing) <> (SELECT "
        "coalesce(sum(state = 1), 0), coalesce(sum(state = 2), 0), coalesce(sum(state = 3), 0) "
        "FROM (SELECT state FROM copy WHERE copy.volume = volume_tally.volume UNION ALL "
        "SELECT state FROM inbox_copy WHERE inbox_copy.volume = volume_tally.volume))",
    ),
)


def differences(connection: Connection) -> list[str]:
    """Return which counters do not say what they should, in words; reads every row."""
    found = []
    for what, query in _CHECKS:
        row = connection.execute(query).fetchone()
        if row is not None and row[0]:
            found.append(f"{what} is not what it should be ({row[0]} times)")
    return found


def remove(connection: Connection, gains: Gains, sop_uids: Iterable[str]) -> int:
    """Forget objects and what is left empty above them; return how many were known."""
    removed = 0
    emptied: set[tuple[int, int]] = set()
    for uid in sop_uids:
        row = connection.execute(
            "SELECT instance.id, instance.size, series.id, series.study FROM instance "
            "JOIN series ON series.id = instance.series WHERE instance.sop_instance_uid = ?",
            (uid,),
        ).fetchone()
        if row is None:
            continue
        number, size, series, study = (int(each) for each in row)
        for volume, state in connection.execute(
            "DELETE FROM copy WHERE object = ? RETURNING volume, state", (number,)
        ).fetchall():
            gains.copy(volume, int(state), -1, -size)
        connection.execute("DELETE FROM instance WHERE id = ?", (number,))
        gains.instances(study, series, -1, -size)
        emptied.add((study, series))
        removed += 1
    for study, series in emptied:
        _drop_empty(connection, gains, study, series)
    return removed


def _drop_empty(connection: Connection, gains: Gains, study: int, series: int) -> None:
    if _any(connection, "SELECT 1 FROM instance WHERE series = ? LIMIT 1", series):
        return
    connection.execute("DELETE FROM series_request WHERE series = ?", (series,))
    connection.execute("DELETE FROM series WHERE id = ?", (series,))
    gains.series_gone(series)
    gains.series(study, -1)
    if _any(connection, "SELECT 1 FROM series WHERE study = ? LIMIT 1", study):
        narrow(connection, study)
        return
    row = connection.execute("SELECT patient FROM study WHERE id = ?", (study,)).fetchone()
    assert row is not None  # noqa: S101 - its series was there a moment ago
    fulltext.drop(connection, study)
    forget_origins(connection, study)
    connection.execute("DELETE FROM study WHERE id = ?", (study,))
    gains.study_gone(study)
    gains.entities(studies=-1)
    corrections.settle(connection, gains, int(row[0]), {})


def forget_origins(connection: Connection, study: int) -> None:
    """Forget from whom the objects of a study came; its number may be given to another one."""
    connection.execute("DELETE FROM study_origin WHERE study = ?", (study,))


def narrow(connection: Connection, study: int) -> None:
    """Make the sets of a study what its remaining series say."""
    bits, codes, parts = 0, set(), set()
    for bit, code, part in connection.execute(
        "SELECT modality.bit, series.modality, series.body_part_examined FROM series "
        "LEFT JOIN modality ON modality.code = series.modality WHERE series.study = ?",
        (study,),
    ):
        bits |= 0 if bit is None else 1 << min(bit, OTHER_BIT)
        codes.add(code)
        parts.add(part)
    classes = [
        row[0]
        for row in connection.execute(
            "SELECT DISTINCT instance.sop_class_uid FROM instance "
            "JOIN series ON series.id = instance.series WHERE series.study = ?",
            (study,),
        )
    ]
    connection.execute(
        "UPDATE study SET modality_bits = ?, modalities = ?, body_parts = ?, sop_classes = ? "
        "WHERE id = ?",
        (bits, values.joined(codes), values.joined(parts), values.joined(classes), study),
    )
    forget_origins(connection, study)
    connection.execute(
        "INSERT INTO study_origin (origin, study) SELECT DISTINCT instance.origin, series.study "
        "FROM instance JOIN series ON series.id = instance.series WHERE series.study = ?",
        (study,),
    )


def _any(connection: Connection, query: str, number: int) -> bool:
    return connection.execute(query, (number,)).fetchone() is not None


def forget_all(connection: Connection) -> None:
    """Forget every row; the schema stays."""
    fulltext.drop_all(connection)
    for table in _TABLES:
        connection.execute(f"DELETE FROM {table}")  # noqa: S608 - names of our own tables
    connection.execute(
        "UPDATE totals SET patients = 0, studies = 0, series = 0, instances = 0, size_bytes = 0"
    )
