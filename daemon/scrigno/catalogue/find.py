# SPDX-License-Identifier: Apache-2.0
"""Queries on the DICOM information model (PS3.4 C.2.2.2, C.6; PS3.18 QIDO-RS) on one snapshot.

Matching of person names is blind to case, accents and width and looks at every component group;
all other texts match exactly, as C.2.2.2.1 wants it. The patient attributes of a study, and of
what is below it, are those that came with the study; at PATIENT level they are those of the
patient as first seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from scrigno.core.sight import EVERYTHING, Sight
from scrigno.db.sqlite import Connection

from . import answers, conditions, dialect, fulltext, names
from . import within as within_sight
from .columns import Column, Kind, index_name
from .conditions import Condition
from .model import COLUMNS, MOMENTS, REQUESTS, TABLES
from .model import keywords as keywords  # the node and the web ask for it here
from .query import DateRange, FindKey, FindQuery, Level, Matching, SequenceMatch, TimeRange
from .records import FindRow, UnsupportedKey
from .selection import Studies
from .sql import ALWAYS, Sql, both

# As many numbers are looked for at once; more come in further portions.
PORTION: Final = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Portion:
    """Numbers of matches; unless `exact` some may turn out to be none when they are read."""

    numbers: NDArray[np.int64]
    exact: bool
    last: bool


class Search:
    """One query on one snapshot: the numbers of what matches, portion by portion."""

    def __init__(
        self, connection: Connection, query: FindQuery, within: Sight = EVERYTHING
    ) -> None:
        """Find within what is seen; raise UnsupportedKey for a key that cannot be matched."""
        self._seen = within_sight.conditions_of(connection, within)
        self._connection = connection
        self._query = query
        self._table = TABLES[query.level]
        known = keywords(query.level)
        self._keys = [key for key in query.keys if query.relational or key.keyword in known]
        self._fuzzy = query.fuzzy_names

    def count(self) -> int:
        """Return how many match."""
        if self._query.level is Level.STUDY:
            return self.studies().total()
        where = self._where()
        row = self._connection.execute(
            f"SELECT count(*) FROM {self._table} WHERE {where.text}",  # noqa: S608 - our texts
            where.parameters,
        ).fetchone()
        return 0 if row is None else int(row[0])

    def portion(self, before: int | None) -> Portion:
        """Return up to PORTION matches below `before`, the newest first; of studies all of them.

        The first portion is looked for in whichever order is quickest; only when there is more
        than one are they walked in order.
        """
        if self._query.level is Level.STUDY:
            studies = self.studies()
            if studies.unconditional:
                return self._next(ALWAYS, before)
            return Portion(numbers=studies.newest(), exact=studies.exact, last=True)
        where = self._where()
        if before is None:
            found = self._numbers(where, "LIMIT ?", PORTION + 1)
            if len(found) <= PORTION:
                return Portion(numbers=np.sort(found)[::-1], exact=True, last=True)
        return self._next(where, before)

    def _next(self, where: Sql, before: int | None) -> Portion:
        """Walk from the newest, or from `before`, to the older ones."""
        below = both([where, Sql("id < ?", (1 << 62 if before is None else before,))])
        found = self._numbers(below, "ORDER BY id DESC LIMIT ?", PORTION)
        return Portion(numbers=found, exact=True, last=len(found) < PORTION)

    def answers(self, numbers: Sequence[int], *, exact: bool) -> list[FindRow]:
        """Return the answers of those of these that match, in this order."""
        test = ALWAYS if exact else self.studies().tests()
        seen = both(condition.test for condition in self._seen)
        return answers.rows_of(self._connection, self._query, numbers, test, seen)

    def _numbers(self, where: Sql, tail: str, limit: int) -> NDArray[np.int64]:
        return dialect.many_numbers(
            self._connection,
            Sql(
                f"SELECT id FROM {self._table} WHERE {where.text} {tail}",  # noqa: S608 - our texts
                (*where.parameters, limit),
            ),
        )

    # conditions ----------------------------------------------------------------------------------

    def studies(self) -> Studies:
        """Return the studies that satisfy the keys of PATIENT and STUDY, and of what is below."""
        found = self._on(Level.PATIENT, "study") + self._on(Level.STUDY, "study")
        found += self._seen
        below = self._below(Level.STUDY)
        if below is not None:
            found.append(Condition(test=below))
        return Studies(self._connection, found)

    def _where(self) -> Sql:
        match self._query.level:
            case Level.PATIENT:
                return self._patient_test()
            case Level.SERIES:
                below = self._below(Level.SERIES)
                tests = [self._in_studies(), self._series_test()]
                return both(tests if below is None else [*tests, below])
            case _:
                return self._instance_test()

    def _patient_test(self) -> Sql:
        tests: list[Sql] = []
        tests += map(_patient_condition, self._on(Level.PATIENT, "patient"))
        if self._query.relational or self._seen:
            keys = self._on(Level.STUDY, "study") if self._query.relational else []
            study = both(condition.test for condition in (*keys, *self._seen))
            below = self._below(Level.STUDY)
            test = study if below is None else both([study, below])
            if test is not ALWAYS:
                tests.append(_among("id", "patient", "study", test))
        return both(tests)

    def _in_studies(self) -> Sql:
        """Return the test of a series that its study satisfies the upper keys."""
        studies = self._upper_studies()
        if studies is None:
            return ALWAYS
        few = studies.few()
        if few is not None:
            return dialect.numbers_in("study", few)
        select = studies.select()
        return Sql(f"study IN ({select.text})", select.parameters)

    def _upper_studies(self) -> Studies | None:
        found = self._on(Level.PATIENT, "study") + self._on(Level.STUDY, "study") + self._seen
        return Studies(self._connection, found) if found else None

    def _series_test(self) -> Sql:
        tests = [condition.test for condition in self._on(Level.SERIES, "series")]
        tests += [
            _request_test(key.matching, fuzzy=self._fuzzy)
            for key in self._keys
            if key.keyword == REQUESTS and isinstance(key.matching, SequenceMatch)
        ]
        return both(tests)

    def _instance_test(self) -> Sql:
        upper = both([self._in_studies(), self._series_test()])
        tests = [condition.test for condition in self._on(Level.IMAGE, "instance")]
        if upper is not ALWAYS:
            tests.append(_among("series", "id", "series", upper))
        return both(tests)

    def _below(self, level: Level) -> Sql | None:
        """Return the test that something below satisfies its keys, when the query is relational."""
        if not self._query.relational:
            return None
        instance = both(condition.test for condition in self._on(Level.IMAGE, "instance"))
        in_series = ALWAYS if instance is ALWAYS else _among("id", "series", "instance", instance)
        if level is Level.SERIES:
            return None if in_series is ALWAYS else in_series
        series = both([self._series_test(), in_series])
        return None if series is ALWAYS else _among("id", "study", "series", series)

    def _on(self, level: Level, table: str) -> list[Condition]:
        """Return the conditions of the keys that belong to `level`."""
        columns = COLUMNS[level]
        moments = self._combined(level)
        found = [_moment_condition(table, test) for test in moments.values()]
        for key in self._keys:
            if any(key.keyword in pair for pair in moments):
                continue
            column = columns.get(key.keyword)
            condition = (
                self._set_condition(level, key)
                if column is None
                else self._column_condition(table, column, key.matching)
            )
            if condition is not None and condition.test is not ALWAYS:
                found.append(condition)
        return found

    def _column_condition(self, table: str, column: Column, matching: Matching) -> Condition | None:
        if column.kind is Kind.COUNTED:
            raise UnsupportedKey(f"{column.name} cannot be matched.")
        condition = conditions.of_matching(table, column, matching, fuzzy=self._fuzzy)
        if condition is None or not (self._fuzzy and column.kind is Kind.NAME and table == "study"):
            return condition
        return self._found_by_words(condition, column, matching)

    def _found_by_words(
        self, condition: Condition, column: Column, matching: Matching
    ) -> Condition:
        """Let the search index find the studies whose names a fuzzy key may mean."""
        text = getattr(matching, "text", "")
        words = names.search_words(text.replace("*", " ").replace("?", " "))
        if column.name not in ("patient_name", "referring_physician_name") or not words:
            return condition
        select, parameter = fulltext.condition(words)
        return Condition(
            test=condition.test,
            arms=(Sql(select, (parameter,)),),
            arms_of_study=False,
            arms_suffice=False,
        )

    def _set_condition(self, level: Level, key: FindKey) -> Condition | None:
        if level is not Level.STUDY:
            return None
        if key.keyword == "SOPClassesInStudy":
            return conditions.sop_classes(key.matching)
        if key.keyword == "ModalitiesInStudy":
            chooser = conditions.modality_chooser(key.matching)
            return None if chooser is None else conditions.modalities(self._connection, chooser)
        return None

    def _combined(self, level: Level) -> dict[tuple[str, str], Sql]:
        """Return the pairs of date and time ranges that are one range."""
        if not self._query.combined_datetime:
            return {}
        by_keyword = {key.keyword: key.matching for key in self._keys}
        found: dict[tuple[str, str], Sql] = {}
        for pair in MOMENTS:
            day, time = by_keyword.get(pair[0]), by_keyword.get(pair[1])
            columns = COLUMNS[level]
            if pair[0] in columns and isinstance(day, DateRange) and isinstance(time, TimeRange):
                test = conditions.combined_range(columns[pair[0]], columns[pair[1]], day, time)
                found[pair] = test
        return found


def _moment_condition(table: str, test: Sql) -> Condition:
    if table != "study":
        return Condition(test=test)
    using = dialect.using(index_name("study_date"))
    arm = Sql(f"SELECT id FROM study{using} WHERE {test.text}", test.parameters)  # noqa: S608 - our texts
    return Condition(test=test, arms=(arm,))


def _patient_condition(condition: Condition) -> Sql:
    if not condition.arms:
        return condition.test
    select = " UNION ALL ".join(arm.text for arm in condition.arms)
    parameters = tuple(value for arm in condition.arms for value in arm.parameters)
    named = Sql(f"id IN ({select})", parameters)
    return named if condition.arms_suffice else both([named, condition.test])


def _among(outer: str, inner: str, table: str, test: Sql) -> Sql:
    """Return the test that `outer` is among `inner` of the rows of a table that pass a test."""
    return Sql(f"{outer} IN (SELECT {inner} FROM {table} WHERE {test.text})", test.parameters)  # noqa: S608 - our texts


def _request_test(match: SequenceMatch, *, fuzzy: bool) -> Sql:
    """Return the test that one item of the sequence satisfies all keys (C.2.2.2.6)."""
    column = Column(name="value")
    tests: list[Sql] = []
    for key in match.keys:
        condition = conditions.of_matching("series_request", column, key.matching, fuzzy=fuzzy)
        if condition is not None:
            test = both([Sql("keyword = ?", (key.keyword,)), condition.test])
            items = f"SELECT series, item FROM series_request WHERE {test.text}"  # noqa: S608 - our texts
            tests.append(Sql(items, test.parameters))
    if not tests:
        return ALWAYS
    found = Sql(
        " INTERSECT ".join(test.text for test in tests),
        tuple(value for test in tests for value in test.parameters),
    )
    return Sql(f"id IN (SELECT series FROM ({found.text}))", found.parameters)  # noqa: S608 - our texts
