# SPDX-License-Identifier: Apache-2.0
"""From the numbers of matches to answers with the attributes that were asked for."""

from collections.abc import Sequence
from typing import Any, Final

from scrigno.core.attributes import PersonName
from scrigno.core.phi import Phi
from scrigno.db.sqlite import Connection

from . import copies, dialect, values
from .columns import Kind
from .model import (
    COLUMNS,
    FROM,
    PATIENT_COUNTS,
    REQUESTS,
    STUDY_SETS,
    TABLES,
    expression,
    keywords,
    uniques,
)
from .query import FindQuery, Level
from .records import CopyState, FindRow, FindValue
from .requests import requests_of_text
from .sql import ALWAYS, Sql


def rows_of(
    connection: Connection,
    query: FindQuery,
    numbers: Sequence[int],
    test: Sql = ALWAYS,
    seen: Sql = ALWAYS,
) -> list[FindRow]:
    """Return the answers for those of `numbers` that pass `test`, in the order of `numbers`.

    `test` is one of rows of `study`, and `query` then one of studies. What is counted of a patient
    are the studies that pass `seen`.
    """
    wanted = list(dict.fromkeys([*uniques(query.level), *(key.keyword for key in query.keys)]))
    wanted = [keyword for keyword in wanted if keyword in keywords(query.level)]
    table = TABLES[query.level]
    expressions = [expression(query.level, keyword, seen.text) for keyword in wanted]
    counted = seen.parameters * sum(keyword in PATIENT_COUNTS for keyword in wanted)
    inside = dialect.numbers_in(f"{table}.id", numbers)
    found = connection.execute(
        f"SELECT {table}.id, {table}.character_set, {', '.join(expressions)} "  # noqa: S608 - our texts
        f"FROM {FROM[query.level]} WHERE {inside.text} AND {test.text}",
        counted + inside.parameters + test.parameters,
    )
    held = copies.copies_of(connection, numbers) if query.level is Level.IMAGE else {}
    answers = {}
    for row in found:
        answers[row[0]] = FindRow(
            values={
                keyword: _value(keyword, stored)
                for keyword, stored in zip(wanted, row[2:], strict=True)
            },
            character_set=row[1],
            copies=tuple(
                copy.volume for copy in held.get(row[0], ()) if copy.state is CopyState.HELD
            ),
        )
    return [answers[number] for number in numbers if number in answers]


_KINDS: Final = {
    keyword: column.kind for columns in COLUMNS.values() for keyword, column in columns.items()
}
_PHI: Final = frozenset({"PatientID", "PatientBirthDate", "OtherPatientIDs", "PatientComments"})


def _value(keyword: str, stored: Any) -> FindValue:
    if keyword in STUDY_SETS:
        return values.split(stored)
    if keyword == REQUESTS:
        return requests_of_text(stored)
    if stored is None:
        return ""
    if _KINDS.get(keyword) is Kind.NAME:
        return PersonName.parse(stored)
    if keyword in _PHI:
        return Phi(stored)
    assert isinstance(stored, str | int)  # noqa: S101 - columns hold nothing else
    return stored
