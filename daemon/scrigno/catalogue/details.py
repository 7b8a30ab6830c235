# SPDX-License-Identifier: Apache-2.0
"""Stored objects one by one and a study with everything below it."""

from collections.abc import Sequence
from typing import Any, Final

from scrigno.core.attributes import PersonName, SeriesAttributes
from scrigno.core.sight import EVERYTHING, Sight
from scrigno.core.uids import object_key
from scrigno.db.sqlite import Connection, Value

from . import copies, rows, studies, values
from .columns import Kind
from .records import Copy, SeriesRow, StoredInstance, StudyDetail
from .requests import requests_of_text
from .within import sees

_SELECT: Final = (
    "SELECT instance.id, study.study_instance_uid, series.series_instance_uid, "
    "instance.sop_instance_uid, instance.sop_class_uid, instance.transfer_syntax_uid, "
    "instance.key, instance.digest, instance.size, instance.instance_number, "
    "instance.number_of_frames, instance.rows, instance.columns, instance.received_at, "
    "instance.staged_as FROM instance JOIN series ON series.id = instance.series "
    "JOIN study ON study.id = series.study "
)
_ORDER: Final = "ORDER BY series.series_order, series.id, instance.instance_order, instance.id"
_UIDS_AT_ONCE: Final = 500


def instance(
    connection: Connection, sop_uid: str, within: Sight = EVERYTHING
) -> StoredInstance | None:
    """Return one object, or None; what is not seen is not there."""
    found = _instances(connection, "WHERE instance.sop_instance_uid = ?", [sop_uid])
    if not found or not sees(connection, found[0].study_instance_uid, within):
        return None
    return found[0]


def instances(
    connection: Connection,
    study_uid: str,
    series_uid: str | None,
    sop_uids: Sequence[str] | None,
    within: Sight = EVERYTHING,
) -> list[StoredInstance]:
    """Return the objects of a study, of one of its series, of these UIDs in it."""
    if not sees(connection, study_uid, within):
        return []
    where, parameters = "WHERE study.study_instance_uid = ?", [study_uid]
    if series_uid is not None:
        where += " AND series.series_instance_uid = ?"
        parameters.append(series_uid)
    if sop_uids is None:
        return _instances(connection, f"{where} {_ORDER}", parameters)
    if len(sop_uids) > _UIDS_AT_ONCE:
        wanted = frozenset(sop_uids)
        everything = _instances(connection, f"{where} {_ORDER}", parameters)
        return [each for each in everything if each.sop_instance_uid in wanted]
    where += f" AND instance.sop_instance_uid IN ({','.join('?' * len(sop_uids))})"
    return _instances(connection, f"{where} {_ORDER}", [*parameters, *sop_uids])


def study(connection: Connection, study_uid: str, within: Sight = EVERYTHING) -> StudyDetail | None:
    """Return one study with its series and objects, or None; what is not seen is not there."""
    if not sees(connection, study_uid, within):
        return None
    found = connection.execute(
        "SELECT id FROM study WHERE study_instance_uid = ?", (study_uid,)
    ).fetchone()
    if found is None:
        return None
    lines = studies.rows_of(connection, [found[0]])
    by_series: dict[str, list[StoredInstance]] = {}
    for each in instances(connection, study_uid, None, None):
        by_series.setdefault(each.series_instance_uid, []).append(each)
    columns = ", ".join(rows.SERIES_COLUMNS)
    stored = connection.execute(
        f"SELECT number_of_instances, size_bytes, character_set, request_attributes, {columns} "  # noqa: S608 - our columns
        "FROM series WHERE study = ? ORDER BY series_order, id",
        (found[0],),
    ).fetchall()
    series = tuple(_series(row, by_series) for row in stored)
    return StudyDetail(study=lines[0], series=series)


def _series(row: Sequence[Any], by_series: dict[str, list[StoredInstance]]) -> SeriesRow:
    attributes: dict[str, Any] = {
        name: PersonName.parse(stored) if column.kind is Kind.NAME else stored
        for (name, column), stored in zip(rows.SERIES_COLUMNS.items(), row[4:], strict=True)
    }
    requests = tuple(dict(item) for item in requests_of_text(row[3]))
    return SeriesRow(
        attributes=SeriesAttributes(**attributes, request_attributes=requests),
        number_of_instances=row[0],
        size_bytes=row[1],
        character_set=row[2],
        instances=tuple(by_series.get(attributes["series_instance_uid"], ())),
    )


def _instances(
    connection: Connection, where: str, parameters: Sequence[Value]
) -> list[StoredInstance]:
    found = connection.execute(f"{_SELECT} {where}", parameters).fetchall()
    held = copies.copies_of(connection, [row[0] for row in found])
    return [_stored(row, held[row[0]]) for row in found]


def _stored(row: Sequence[Any], held: Sequence[Copy]) -> StoredInstance:
    return StoredInstance(
        study_instance_uid=row[1],
        series_instance_uid=row[2],
        sop_instance_uid=row[3],
        sop_class_uid=row[4],
        transfer_syntax_uid=row[5],
        key=row[6] or object_key(row[1], row[2], row[3]),
        digest=row[7].hex(),
        size=row[8],
        instance_number=row[9],
        number_of_frames=row[10],
        rows=row[11],
        columns=row[12],
        received_at=values.moment(row[13]),
        staged_as=row[14],
        copies=tuple(held),
    )
