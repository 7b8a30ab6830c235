# SPDX-License-Identifier: Apache-2.0
"""Which studies a rule of retention may take, and what speaks against each. Reads only."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from scrigno.db.sqlite import Connection, Value

from . import dialect, values
from .gains import HELD

_PAGE: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class RetirementQuery:
    """Studies by age and reading; every condition that is given must hold."""

    older_than: datetime | None = None  # by study date, by reception when there is none
    unread_since: datetime | None = None
    reads_noted_since: datetime  # a study is never taken for unread since before this time
    modalities: Collection[str] = ()  # a study of none but these; empty: any
    after: tuple[int, int] = (-1, 0)  # (study_day, id) of the last one, for the next page
    limit: int = _PAGE


@dataclass(frozen=True, slots=True, kw_only=True)
class Retiree:
    """One study that a rule may take."""

    study_instance_uid: str
    place: tuple[int, int]  # for `RetirementQuery.after`
    study_date: str
    received_last: datetime
    last_read_at: datetime | None
    objects: int
    size_bytes: int
    modalities: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyCounts:
    """How many objects of a study each volume holds, and how many of these were verified."""

    objects: int
    held: dict[str, int]
    verified: dict[str, int]
    debts: int  # copies that are owed or missing
    staged: int  # objects still on their way


def page(connection: Connection, query: RetirementQuery) -> list[Retiree]:
    """Return studies that are old and unread enough and not protected, the oldest first."""
    conditions = ["(study.study_day, study.id) > (?, ?)"]
    parameters: list[Value] = [*query.after]
    if query.older_than is not None:
        day = int(query.older_than.strftime("%Y%m%d"))
        conditions.append(
            "((study.study_day > 0 AND study.study_day < ?) "
            "OR (study.study_day = 0 AND study.received_last < ?))"
        )
        parameters += (day, values.stamp(query.older_than))
    if query.unread_since is not None:
        conditions.append("max(coalesce(study_read.last_read_at, 0), study.received_last, ?) < ?")
        parameters += (values.stamp(query.reads_noted_since), values.stamp(query.unread_since))
    found = connection.execute(
        "SELECT study.id, study.study_instance_uid, study.study_day, study.study_date, "  # noqa: S608 - texts of above
        "study.received_last, study_read.last_read_at, study.number_of_instances, "
        "study.size_bytes, study.modalities FROM study "
        "LEFT JOIN study_read ON study_read.study_instance_uid = study.study_instance_uid "
        "LEFT JOIN study_protection "
        "ON study_protection.study_instance_uid = study.study_instance_uid "
        f"WHERE {' AND '.join(conditions)} AND coalesce(study_protection.protected, 0) = 0 "
        "ORDER BY study.study_day, study.id LIMIT ?",
        (*parameters, query.limit),
    ).fetchall()
    return [
        Retiree(
            study_instance_uid=row[1],
            place=(row[2], row[0]),
            study_date=row[3],
            received_last=values.moment(row[4]),
            last_read_at=None if row[5] is None else values.moment(row[5]),
            objects=row[6],
            size_bytes=row[7],
            modalities=values.split(row[8]),
        )
        for row in found
    ]


def copy_counts(connection: Connection, study_uids: Sequence[str]) -> dict[str, CopyCounts]:
    """Return how the copies of each of these studies stand."""
    numbers: dict[int, str] = {}
    for uid in study_uids:
        row = connection.execute(
            "SELECT id FROM study WHERE study_instance_uid = ?", (uid,)
        ).fetchone()
        if row is not None:
            numbers[int(row[0])] = uid
    return {uid: _counts(connection, number) for number, uid in numbers.items()}


def _counts(connection: Connection, study: int) -> CopyCounts:
    series = [
        int(row[0])
        for row in connection.execute("SELECT id FROM series WHERE study = ?", (study,)).fetchall()
    ]
    inside = dialect.numbers_in("instance.series", series)
    whole = connection.execute(
        f"SELECT count(*), count(staged_as) FROM instance WHERE {inside.text}",  # noqa: S608 - our texts
        inside.parameters,
    ).fetchone()
    assert whole is not None  # noqa: S101 - an aggregate always answers
    counts = CopyCounts(objects=whole[0], held={}, verified={}, debts=0, staged=whole[1])
    debts = 0
    for volume, state, number, verified in connection.execute(
        "SELECT copy.volume, copy.state, count(*), count(copy.verified_at) FROM instance "  # noqa: S608 - our texts
        f"JOIN copy ON copy.object = instance.id WHERE {inside.text} "
        "GROUP BY copy.volume, copy.state",
        inside.parameters,
    ):
        if state == HELD:
            counts.held[volume] = number
            counts.verified[volume] = verified
        else:
            debts += number
    return CopyCounts(
        objects=counts.objects,
        held=counts.held,
        verified=counts.verified,
        debts=debts,
        staged=counts.staged,
    )


def in_inbox(connection: Connection) -> set[str]:
    """Return the studies of which something waits in the inbox."""
    return {
        row[0]
        for row in connection.execute(
            "SELECT DISTINCT study_instance_uid FROM inbox WHERE study_instance_uid <> ''"
        )
    }
