# SPDX-License-Identifier: Apache-2.0
"""From attributes to the values of a row, by the columns that `columns` names."""

import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from scrigno.core.attributes import (
    InstanceAttributes,
    PatientAttributes,
    PersonName,
    SeriesAttributes,
    StudyAttributes,
)
from scrigno.db.sqlite import Connection, Value

from . import names, values
from .columns import INSTANCE, PATIENT, SERIES, STUDY, Column, Kind

Attributes = PatientAttributes | StudyAttributes | SeriesAttributes
NO_NAME: Final = PersonName()
NOTHING: Final = ("", NO_NAME)

# What defines a row is never filled in later: it would be another row.
DEFINING: Final = frozenset(
    {"patient_id", "issuer_of_patient_id", "study_instance_uid", "series_instance_uid"}
)


def _by_name(columns: Mapping[str, Column]) -> dict[str, Column]:
    return {column.name: column for column in columns.values()}


PATIENT_COLUMNS: Final = _by_name(PATIENT)
STUDY_COLUMNS: Final = _by_name(STUDY)
SERIES_COLUMNS: Final = _by_name(SERIES)

# The search looks at the words of these.
SEARCHED_NAMES: Final = frozenset(
    {
        "patient_name",
        "patient_id",
        "other_patient_ids",
        "accession_number",
        "study_id",
        "study_description",
        "referring_physician_name",
    }
)

_INSTANCE_NAMES: Final = tuple(column.name for column in INSTANCE.values())
_of_instance = operator.attrgetter(*_INSTANCE_NAMES)
_INSTANCE_COLUMNS: Final = (
    "id",
    "series",
    "digest",
    "size",
    "received_at",
    "origin",
    "key",
    "staged_as",
    "character_set",
    "instance_order",
    *_INSTANCE_NAMES,
)
INSTANCE_WIDTH: Final = len(_INSTANCE_COLUMNS)
INSERT_INSTANCE: Final = f"INSERT INTO instance ({', '.join(_INSTANCE_COLUMNS)}) VALUES "  # noqa: S608 - names of our own columns
COPY_WIDTH: Final = 3
INSERT_COPY: Final = "INSERT INTO copy (object, volume, state) VALUES "


def instance_values(instance: InstanceAttributes) -> tuple[Value, ...]:
    """Return the last columns of an instance row, its order in the series first."""
    return (values.order(instance.instance_number), *_of_instance(instance))


def searched(person: PatientAttributes, study: StudyAttributes) -> tuple[str, ...]:
    """Return the texts whose words the search knows, as `fulltext.refresh` reads them back."""
    return (
        *_groups(person.patient_name),
        person.patient_id,
        person.other_patient_ids,
        study.accession_number,
        study.study_id,
        study.study_description,
        *_groups(study.referring_physician_name),
    )


def _groups(name: PersonName) -> tuple[str, str, str]:
    return name.alphabetic, name.ideographic, name.phonetic


def columns_of(attributes: Attributes, columns: Mapping[str, Column]) -> dict[str, Value]:
    """Return column → value for every attribute of `columns`."""
    found: dict[str, Value] = {}
    for name, column in columns.items():
        found.update(column_values(column, getattr(attributes, name)))
    return found


def column_values(column: Column, value: str | PersonName) -> dict[str, Value]:
    """Return the value of one attribute as it stands in its columns."""
    if isinstance(value, PersonName):
        first, second, third = names.name_keys(value)
        return {
            column.name: value.text(),
            column.key: first,
            f"{column.key}2": second,
            f"{column.key}3": third,
        }
    if not column.key:
        return {column.name: value}
    match column.kind:
        case Kind.DATE:
            return {column.name: value, column.key: values.day(value)}
        case Kind.TIME:
            return {column.name: value, column.key: values.micros(value)}
        case _:
            return {column.name: value, column.key: names.key(value)}


def empty_of(attributes: Attributes, columns: Iterable[str]) -> tuple[str, ...]:
    """Return the names of those attributes that a later object may still fill in."""
    return tuple(
        name for name in columns if name not in DEFINING and getattr(attributes, name) in NOTHING
    )


def insert(connection: Connection, table: str, row: Mapping[str, Value]) -> int:
    """Insert one row of a table of this room; return its number."""
    statement = f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})"  # noqa: S608 - names of our own columns
    return connection.execute(statement, tuple(row.values())).lastrowid


def update(connection: Connection, table: str, number: int, row: Mapping[str, Value]) -> None:
    """Change some columns of one row."""
    assignments = ", ".join(f"{column} = ?" for column in row)
    connection.execute(
        f"UPDATE {table} SET {assignments} WHERE id = ?",  # noqa: S608 - names of our own columns
        (*row.values(), number),
    )


# One statement for several rows: fewer steps through the engine. Few sizes, each prepared once.
_ROWS_AT_ONCE: Final = (32, 8, 4, 3, 2, 1)


def insert_many(
    connection: Connection, statement: str, width: int, rows: Sequence[tuple[Value, ...]]
) -> None:
    """Insert rows of `width` values with as few statements as may be."""
    place = 0
    one = f"({','.join('?' * width)})"
    for size in _ROWS_AT_ONCE:
        while len(rows) - place >= size:
            flat = [value for row in rows[place : place + size] for value in row]
            connection.execute(statement + ",".join([one] * size), flat)
            place += size
