# SPDX-License-Identifier: Apache-2.0
"""The study list: any column sorts, common filters and a search as one types, exact totals."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from scrigno.core.attributes import PersonName
from scrigno.core.phi import Phi
from scrigno.core.sight import EVERYTHING, Sight
from scrigno.core.uids import is_uid
from scrigno.db.sqlite import Connection

from . import conditions, dialect, fulltext, names, values
from . import within as within_sight
from .columns import INSTANCE, PATIENT, SERIES, SORTS, STUDY, Column, Kind, index_name
from .conditions import Condition
from .records import (
    FilterOperator,
    ListFilter,
    StudyListQuery,
    StudyPage,
    StudyRow,
    UnknownStudyColumn,
)
from .selection import Studies
from .sql import NEVER, Sql, both, either, negated

MOST_ROWS: Final = 1000  # of one page
_INSTITUTIONS_AT_MOST: Final = 500

_NUMBERS: Final = ("number_of_series", "number_of_instances", "size_bytes")
_MOMENTS: Final = ("received_first", "received_last")


def _columns() -> dict[str, tuple[str, Column]]:
    found: dict[str, tuple[str, Column]] = {}
    for table, columns in (
        ("instance", INSTANCE),
        ("series", SERIES),
        ("study", STUDY),
        ("study", PATIENT),
    ):
        found |= {column.name: (table, column) for column in columns.values()}
    for name in (*_NUMBERS, *_MOMENTS):
        found[name] = ("study", Column(name=name, kind=Kind.NUMBER, index=name))
    return found


_FIELDS: Final = _columns()
FILTERS: Final = frozenset(_FIELDS) | {"modalities"}

_SELECT: Final = (
    "study_instance_uid, patient_name, patient_id, issuer_of_patient_id, patient_birth_date, "
    "patient_sex, patient_age, patient_comments, study_date, study_time, study_id, "
    "accession_number, study_description, referring_physician_name, "
    "name_of_physicians_reading_study, institution_name, body_parts, modalities, sop_classes, "
    "number_of_series, number_of_instances, size_bytes, received_first, received_last, "
    "character_set, patient_conflict"
)


def page(connection: Connection, query: StudyListQuery, within: Sight = EVERYTHING) -> StudyPage:
    """Return one page and the exact total of what is seen; raises UnknownStudyColumn."""
    if query.sort not in SORTS:
        raise UnknownStudyColumn(f"The study list cannot be sorted by {query.sort!r}.")
    chosen = studies(connection, query, within)
    total = chosen.total()
    numbers = chosen.page(
        query.sort,
        descending=query.descending,
        offset=max(query.offset, 0),
        limit=min(query.limit, MOST_ROWS),
        total=total,
    )
    return StudyPage(total=total, rows=tuple(rows_of(connection, numbers)))


def studies(connection: Connection, query: StudyListQuery, within: Sight = EVERYTHING) -> Studies:
    """Return the studies that a list shows to somebody."""
    found = within_sight.conditions_of(connection, within)
    found += [_one_of(connection, each) for each in query.filters if _table(each) == "study"]
    below = [each for each in query.filters if _table(each) != "study"]
    if below:
        found.append(_below(below))
    words = names.search_words(query.search)
    if is_uid(query.search.strip()) and query.search.count(".") > 2:
        found.append(_with_index(STUDY["StudyInstanceUID"], query.search.strip()))
    elif words:
        select, parameter = fulltext.condition(words)
        arm = Sql(select, (parameter,))
        test = Sql(f"id IN ({select})", (parameter,))
        found.append(Condition(test=test, arms=(arm,), arms_of_study=False))
    elif query.search.strip():
        found.append(conditions.NOBODY)  # only signs that no word has
    return Studies(connection, found)


def rows_of(connection: Connection, numbers: Sequence[int]) -> list[StudyRow]:
    """Return the lines of these studies, in this order."""
    inside = dialect.numbers_in("id", numbers)
    found = {
        row[0]: _row(row[1:])
        for row in connection.execute(
            f"SELECT id, {_SELECT} FROM study WHERE {inside.text}",  # noqa: S608 - our texts
            inside.parameters,
        )
    }
    return [found[number] for number in numbers if number in found]


def _row(row: Sequence[Any]) -> StudyRow:
    return StudyRow(
        study_instance_uid=row[0],
        patient_name=PersonName.parse(row[1]),
        patient_id=Phi(row[2]),
        issuer_of_patient_id=row[3],
        patient_birth_date=Phi(row[4]),
        patient_sex=row[5],
        patient_age=row[6],
        patient_comments=Phi(row[7]),
        study_date=row[8],
        study_time=row[9],
        study_id=row[10],
        accession_number=row[11],
        study_description=row[12],
        referring_physician_name=PersonName.parse(row[13]),
        name_of_physicians_reading_study=PersonName.parse(row[14]),
        institution_name=row[15],
        body_parts=values.split(row[16]),
        modalities=values.split(row[17]),
        sop_classes=values.split(row[18]),
        number_of_series=row[19],
        number_of_instances=row[20],
        size_bytes=row[21],
        received_first=values.moment(row[22]),
        received_last=values.moment(row[23]),
        character_set=row[24],
        patient_conflict=bool(row[25]),
    )


# filters ---------------------------------------------------------------------------------------


def _table(one: ListFilter) -> str:
    """Return the table of a filter; `modality` is asked of the study, which knows its set."""
    if one.field in ("modalities", "modality"):
        return "study"
    if one.field not in _FIELDS:
        raise UnknownStudyColumn(f"The study list has no {one.field!r} to filter by.")
    return _FIELDS[one.field][0]


def _one_of(connection: Connection, one: ListFilter) -> Condition:
    """Return the condition that a filter or one of its alternatives holds."""
    if any(_table(each) != "study" for each in one.alternatives):
        raise UnknownStudyColumn("Alternatives are columns of the study.")
    parts = [_filter(connection, each) for each in (one, *one.alternatives)]
    return conditions.any_of(parts) or conditions.NOBODY


def _filter(connection: Connection, one: ListFilter) -> Condition:
    if one.field in ("modalities", "modality"):
        return _modality_filter(connection, one)
    if one.field == "institution_name":
        return _institution_filter(connection, one)
    column = _FIELDS[one.field][1]
    if column.name == "study_instance_uid" and one.operator is FilterOperator.EQUAL:
        parts = [_with_index(column, value) for value in one.values]
        return conditions.any_of(parts) or conditions.NOBODY
    if column.kind is Kind.NAME:
        return _name_filter(column, one)
    test = _test(column, one)
    if column.name in ("study_date", "patient_sex"):
        return Condition(test=test, carried=True)
    if not column.index:
        return Condition(test=test)
    return Condition(test=test, arms=(_arm(column, test),))


def _name_filter(column: Column, one: ListFilter) -> Condition:
    """Any component group may be the one that is meant; none of them, where it must not be."""
    if one.operator is FilterOperator.NOT_EQUAL:
        equal = _name_filter(column, ListFilter(field=one.field, values=one.values))
        return Condition(
            test=negated(equal.test),
            arms=(_arm(column, negated(equal.test)),),
        )
    return conditions.name_groups(
        "study",
        column,
        lambda key: _on_key(key, one, names.key),
        begins=one.operator is FilterOperator.EQUAL,
        piece=_piece(one),
    )


def _piece(one: ListFilter) -> str:
    if one.operator is not FilterOperator.CONTAINS or len(one.values) != 1:
        return ""
    return names.searched_piece(one.values[0])


def _arm(column: Column, test: Sql) -> Sql:
    using = dialect.using(index_name(column.index))
    return Sql(f"SELECT id FROM study{using} WHERE {test.text}", test.parameters)  # noqa: S608 - our texts


def _with_index(column: Column, value: str) -> Condition:
    test = Sql(f"{column.name} = ?", (value,))
    arm = Sql(f"SELECT id FROM study WHERE {test.text}", test.parameters)  # noqa: S608 - our texts
    return Condition(test=test, arms=(arm,))


def _below(filters: Sequence[ListFilter]) -> Condition:
    """One series, with one object, that satisfies all of these."""
    series = [_test(_FIELDS[f.field][1], f) for f in filters if _table(f) == "series"]
    instance = [_test(_FIELDS[f.field][1], f) for f in filters if _table(f) == "instance"]
    if instance:
        inside = both(instance)
        series.append(
            Sql(f"id IN (SELECT series FROM instance WHERE {inside.text})", inside.parameters)  # noqa: S608 - our texts
        )
    test = both(series)
    arm = Sql(f"SELECT DISTINCT study AS id FROM series WHERE {test.text}", test.parameters)  # noqa: S608 - our texts
    return Condition(
        test=Sql(f"id IN ({arm.text})", arm.parameters), arms=(arm,), arms_of_study=False
    )


def _modality_filter(connection: Connection, one: ListFilter) -> Condition:
    folded = [names.key(value) for value in one.values]

    def chosen(code: str) -> bool:
        if one.operator is FilterOperator.CONTAINS:
            return any(value in names.key(code) for value in folded)
        return names.key(code) in folded

    condition = conditions.modalities(connection, chosen)
    match one.operator:
        case FilterOperator.EQUAL | FilterOperator.CONTAINS:
            return condition
        case FilterOperator.NOT_EQUAL:
            return Condition(test=negated(condition.test), carried=condition.carried)
        case _:
            raise UnknownStudyColumn("Modalities have no order to compare by.")


def _institution_filter(connection: Connection, one: ListFilter) -> Condition:
    """Institutions are few: find their numbers first, every list index carries them."""
    test = _on_key("name_key", one, names.key)
    found = connection.execute(
        f"SELECT id FROM institution WHERE {test.text} LIMIT ?",  # noqa: S608 - our texts
        (*test.parameters, _INSTITUTIONS_AT_MOST + 1),
    ).fetchall()
    if not found:
        return conditions.NOBODY
    if len(found) <= _INSTITUTIONS_AT_MOST:
        marks = ",".join("?" * len(found))
        numbers = tuple(row[0] for row in found)
        return Condition(test=Sql(f"institution_id IN ({marks})", numbers), carried=True)
    column = STUDY["InstitutionName"]
    test = _on_key(column.key, one, names.key)
    return Condition(test=test, arms=(_arm(column, test),))


def _test(column: Column, one: ListFilter) -> Sql:
    """Return the test of one row of the column's table."""
    match column.kind:
        case Kind.NAME:
            return _name_test(column, one)
        case Kind.DATE if column.key:
            return _on_range(column.key, one, values.day, values.day)
        case Kind.TIME if column.key:
            return _on_range(
                column.key, one, values.micros, lambda text: values.micros(text, latest=True)
            )
        case Kind.NUMBER if column.name in _NUMBERS:
            return _on_key(column.name, one, values.order)
        case Kind.NUMBER if column.name in _MOMENTS:
            return _on_range(column.name, one, values.day_start, values.day_end)
        case Kind.NUMBER if one.operator is not FilterOperator.CONTAINS:
            return _on_key(f"CAST({column.name} AS INTEGER)", one, values.order)
        case _ if column.key:
            return _on_key(column.key, one, names.key)
        case _:
            return _on_key(column.name, one, str)


def _name_test(column: Column, one: ListFilter) -> Sql:
    keys = (column.key, f"{column.key}2", f"{column.key}3")
    first, *others = (_on_key(key, one, names.key) for key in keys)
    some = [both([Sql(f"{key} <> ''"), test]) for key, test in zip(keys[1:], others, strict=True)]
    return either([first, *some])


def _on_key(key: str, one: ListFilter, convert: Callable[[str], str | int]) -> Sql:
    """Compare one column with values that stand in it as `convert` makes them."""
    wanted = [convert(value) for value in one.values]
    match one.operator:
        case FilterOperator.EQUAL:
            return either(Sql(f"{key} = ?", (value,)) for value in wanted)
        case FilterOperator.NOT_EQUAL:
            return both(Sql(f"{key} <> ?", (value,)) for value in wanted)
        case FilterOperator.CONTAINS:
            return either(
                dialect.matches(key, f"*{dialect.literal(str(value))}*") for value in wanted
            )
        case FilterOperator.RANGE:
            low, high = _ends(one)
            tests = [Sql(f"{key} >= ?", (convert(low),))] if low else []
            tests += [Sql(f"{key} <= ?", (convert(high),))] if high else []
            return both(tests)
        case _:
            sign = _SIGNS[one.operator]
            return both(Sql(f"{key} {sign} ?", (value,)) for value in wanted)


_SIGNS: Final = {
    FilterOperator.GREATER: ">",
    FilterOperator.GREATER_OR_EQUAL: ">=",
    FilterOperator.LESS: "<",
    FilterOperator.LESS_OR_EQUAL: "<=",
}


def _on_range(
    key: str, one: ListFilter, first: Callable[[str], int], last: Callable[[str], int]
) -> Sql:
    """Compare a number that a value names a stretch of: a day, an hour, a minute."""
    some = Sql(f"{key} > ?", (0,)) if first is values.day else Sql(f"{key} >= ?", (0,))
    match one.operator:
        case FilterOperator.EQUAL | FilterOperator.CONTAINS:
            return either(_between(key, first(value), last(value)) for value in one.values)
        case FilterOperator.NOT_EQUAL:
            return negated(either(_between(key, first(v), last(v)) for v in one.values))
        case FilterOperator.GREATER:
            return both([some, *(Sql(f"{key} > ?", (last(value),)) for value in one.values)])
        case FilterOperator.GREATER_OR_EQUAL:
            return both([some, *(Sql(f"{key} >= ?", (first(value),)) for value in one.values)])
        case FilterOperator.LESS:
            return both([some, *(Sql(f"{key} < ?", (first(value),)) for value in one.values)])
        case FilterOperator.LESS_OR_EQUAL:
            return both([some, *(Sql(f"{key} <= ?", (last(value),)) for value in one.values)])
        case FilterOperator.RANGE:
            low, high = _ends(one)
            tests = [some]
            tests += [Sql(f"{key} >= ?", (first(low),))] if low else []
            tests += [Sql(f"{key} <= ?", (last(high),))] if high else []
            return both(tests)


def _between(key: str, first: int, last: int) -> Sql:
    if first <= 0 and key == "study_day":
        return NEVER
    return Sql(f"{key} BETWEEN ? AND ?", (first, last))


def _ends(one: ListFilter) -> tuple[str, str]:
    if len(one.values) != 2:
        raise UnknownStudyColumn(f"A range of {one.field!r} has two ends.")
    return one.values[0], one.values[1]
