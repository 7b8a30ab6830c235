# SPDX-License-Identifier: Apache-2.0
"""What is known of studies besides their attributes: protection, and when they were last read."""

from collections.abc import Mapping, Sequence
from typing import Final

from scrigno.db.sqlite import Connection

from . import values
from .trash_items import Protection, StudyFlags

HOUR: Final = 3_600_000_000  # microseconds
_UIDS_AT_ONCE: Final = 500


def protect(connection: Connection, study_uid: str, *, on: bool, at: int) -> Protection:
    """Note a decision. Writer only."""
    connection.execute(
        "INSERT INTO study_protection (study_instance_uid, protected, revision, changed_at) "
        "VALUES (?, ?, 1, ?) ON CONFLICT (study_instance_uid) DO UPDATE SET "
        "protected = excluded.protected, revision = study_protection.revision + 1, "
        "changed_at = excluded.changed_at WHERE study_protection.protected <> excluded.protected",
        (study_uid, int(on), at),
    )
    row = connection.execute(
        "SELECT study_instance_uid, protected, revision, changed_at FROM study_protection "
        "WHERE study_instance_uid = ?",
        (study_uid,),
    ).fetchone()
    assert row is not None  # noqa: S101 - just written
    return _protection(row)


def learn(connection: Connection, found: Sequence[Protection]) -> int:
    """Take decisions over that were read from volumes and are newer; return how many. Writer."""
    learnt = 0
    for each in found:
        made = connection.execute(
            "INSERT INTO study_protection (study_instance_uid, protected, revision, changed_at) "
            "VALUES (?, ?, ?, ?) ON CONFLICT (study_instance_uid) DO UPDATE SET "
            "protected = excluded.protected, revision = excluded.revision, "
            "changed_at = excluded.changed_at "
            "WHERE excluded.revision > study_protection.revision",
            (
                each.study_instance_uid,
                int(each.protected),
                each.revision,
                values.stamp(each.changed_at),
            ),
        )
        learnt += made.rowcount
    return learnt


def owed(connection: Connection, volume: str, limit: int) -> list[Protection]:
    """Return decisions whose file on a volume is missing or older."""
    return [
        _protection(row)
        for row in connection.execute(
            "SELECT study_protection.study_instance_uid, protected, study_protection.revision, "
            "changed_at FROM study_protection LEFT JOIN protection_copy "
            "ON protection_copy.study_instance_uid = study_protection.study_instance_uid "
            "AND protection_copy.volume = ? "
            "WHERE study_protection.revision > coalesce(protection_copy.revision, 0) LIMIT ?",
            (volume, limit),
        )
    ]


def written(connection: Connection, volume: str, one: Protection) -> None:
    """Note that the file of a decision stands on a volume. Writer only."""
    connection.execute(
        "INSERT INTO protection_copy (volume, study_instance_uid, revision) VALUES (?, ?, ?) "
        "ON CONFLICT (volume, study_instance_uid) DO UPDATE SET revision = excluded.revision",
        (volume, one.study_instance_uid, one.revision),
    )


def volume_is(connection: Connection, volume: str, uuid: str) -> bool:
    """Note which disk a volume is; False when it is another one, which then has no small files."""
    row = connection.execute(
        "SELECT uuid FROM lifecycle_volume WHERE volume = ?", (volume,)
    ).fetchone()
    if row is not None and row[0] == uuid:
        return True
    connection.execute(
        "INSERT INTO lifecycle_volume (volume, uuid) VALUES (?, ?) "
        "ON CONFLICT (volume) DO UPDATE SET uuid = excluded.uuid",
        (volume, uuid),
    )
    connection.execute("DELETE FROM protection_copy WHERE volume = ?", (volume,))
    connection.execute("DELETE FROM trash_record WHERE volume = ?", (volume,))
    return False


def note_reads(connection: Connection, reads: Mapping[str, int]) -> None:
    """Note when studies were read, at most once an hour each. Writer only."""
    for study_uid, at in reads.items():
        connection.execute(
            "INSERT INTO study_read (study_instance_uid, last_read_at) VALUES (?, ?) "
            "ON CONFLICT (study_instance_uid) DO UPDATE SET last_read_at = excluded.last_read_at "
            "WHERE study_read.last_read_at <= excluded.last_read_at - ? "
            "OR study_read.last_read_at > excluded.last_read_at",  # the clock was wrong then
            (study_uid, at, HOUR),
        )


def study_flags(connection: Connection, study_uids: Sequence[str]) -> dict[str, StudyFlags]:
    """Return the flags of each study that was asked for."""
    protected: set[str] = set()
    read: dict[str, int] = {}
    for place in range(0, len(study_uids), _UIDS_AT_ONCE):
        some = study_uids[place : place + _UIDS_AT_ONCE]
        marks = ",".join("?" * len(some))
        protected |= {
            row[0]
            for row in connection.execute(
                "SELECT study_instance_uid FROM study_protection WHERE protected = 1 "  # noqa: S608 - question marks only
                f"AND study_instance_uid IN ({marks})",
                some,
            )
        }
        read |= dict(
            connection.execute(
                "SELECT study_instance_uid, last_read_at FROM study_read "  # noqa: S608 - question marks only
                f"WHERE study_instance_uid IN ({marks})",
                some,
            ).fetchall()
        )
    return {
        uid: StudyFlags(
            protected=uid in protected,
            last_read_at=values.moment(read[uid]) if uid in read else None,
        )
        for uid in study_uids
    }


def add_to_meter(connection: Connection, name: str, number: int) -> int:
    """Let a count grow; return what it is now. Writer only."""
    connection.execute(
        "INSERT INTO lifecycle_meter (name, value) VALUES (?, ?) "
        "ON CONFLICT (name) DO UPDATE SET value = lifecycle_meter.value + excluded.value",
        (name, number),
    )
    row = connection.execute("SELECT value FROM lifecycle_meter WHERE name = ?", (name,)).fetchone()
    assert row is not None  # noqa: S101 - just written
    return int(row[0])


def set_meter_once(connection: Connection, name: str, number: int) -> int:
    """Set a number at its first use; return what it is. Writer only."""
    connection.execute(
        "INSERT INTO lifecycle_meter (name, value) VALUES (?, ?) ON CONFLICT DO NOTHING",
        (name, number),
    )
    return add_to_meter(connection, name, 0)


def _protection(row: tuple[str, int, int, int]) -> Protection:
    return Protection(
        study_instance_uid=row[0],
        protected=bool(row[1]),
        revision=row[2],
        changed_at=values.moment(row[3]),
    )
