# SPDX-License-Identifier: Apache-2.0
"""The study list against a plain reference in Python, and the plans of its queries."""

import asyncio
import itertools
import random
from collections.abc import Callable, Iterator
from pathlib import Path  # noqa: TC003 - the fixture annotates with it

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from made_instances import make_instance
from scrigno.catalogue import selection, studies
from scrigno.catalogue.catalogue import Catalogue
from scrigno.catalogue.columns import SORTS
from scrigno.catalogue.names import fold, search_words, words
from scrigno.catalogue.records import (
    FilterOperator,
    ListFilter,
    StudyListQuery,
    StudyRow,
    UnknownStudyColumn,
)
from scrigno.core.clock import SystemClock
from scrigno.core.counters import Counters
from scrigno.db.sqlite import Connection, open_reader

NAMES = [
    "Yamada^Tarou=山田^太郎=やまだ^たろう",
    "TANAKA^Ken=田中^健",
    "Müller^Jürgen",
    "Rossi",
    "=金^喜中",
]
DESCRIPTIONS = ["胸部単純CT", "CT HEAD", "ct head", "Röntgen", "", "RX TORACE 2P"]
PLACES = ["Clinica", "病院", "", "clinica"]
COUNT = 240


@pytest.fixture(scope="module")
def filled(tmp_path_factory) -> Iterator[tuple[Connection, list[StudyRow]]]:
    """An index of some hundred studies, open for reading, and all its lines."""
    path: Path = tmp_path_factory.mktemp("list") / "index.db"
    dice = random.Random(7)

    async def fill() -> None:
        async with Catalogue(path, counters=Counters(), clock=SystemClock()) as catalogue:
            await asyncio.gather(*(catalogue.add(one(number)) for number in range(COUNT)))

    def one(number: int):
        return make_instance(
            f"1.2.3.4.{number}",
            patient_id=f"{dice.randrange(60):03}",
            patient_name=dice.choice(NAMES),
            patient_birth_date=f"19{dice.randrange(10, 99)}0101",
            patient_sex=dice.choice(["M", "F", "O", ""]),
            patient_age=dice.choice(["050Y", "003M", ""]),
            patient_comments=dice.choice(["", "Note"]),
            study_date=dice.choice(["20240101", "20240102", "20230601", "", "junk"]),
            study_time=dice.choice(["0800", "101500", ""]),
            study_id=str(dice.randrange(20)),
            accession_number=f"a-{number}",
            study_description=dice.choice(DESCRIPTIONS),
            referring_physician_name=dice.choice(NAMES),
            name_of_physicians_reading_study=dice.choice(NAMES),
            institution_name=dice.choice(PLACES),
            modality=dice.choice(["CT", "MR", "US", ""]),
            body_part_examined=dice.choice(["HEAD", "CHEST", ""]),
            series_description=dice.choice(["AP", "Lateral"]),
            series_number=str(dice.randrange(3)),
            size=dice.randrange(10_000),
            minutes=dice.randrange(10_000),
        )

    asyncio.run(fill())
    connection = open_reader(path)
    everything = studies.page(connection, StudyListQuery(limit=1000)).rows
    assert len(everything) == COUNT
    yield connection, list(everything)
    connection.close()


def value_of(row: StudyRow, column: str) -> object:
    value = getattr(row, column)
    if column in ("study_date", "study_time"):
        return value
    if hasattr(value, "text"):
        return fold(value.alphabetic or value.ideographic or value.phonetic)
    if isinstance(value, tuple):
        return "\\".join(value)
    if isinstance(value, str) and column not in (
        "patient_birth_date",
        "patient_sex",
        "patient_age",
    ):
        return fold(value)
    return value


# fmt: off
CONDITIONS: dict[str, tuple[ListFilter, Callable[[StudyRow], bool]]] = {
    "CT": (ListFilter(field="modality", values=("CT",)), lambda r: "CT" in r.modalities),
    "ct or us": (
        ListFilter(field="modalities", values=("ct", "US")),
        lambda r: bool({"CT", "US"} & set(r.modalities)),
    ),
    "not CT": (
        ListFilter(field="modality", operator=FilterOperator.NOT_EQUAL, values=("CT",)),
        lambda r: "CT" not in r.modalities,
    ),
    "date": (ListFilter(field="study_date", values=("20240101",)), lambda r: r.study_date == "20240101"),
    "range": (
        ListFilter(field="study_date", operator=FilterOperator.RANGE, values=("20230101", "20240101")),
        lambda r: r.study_date in ("20240101", "20230601"),
    ),
    "until": (
        ListFilter(field="study_date", operator=FilterOperator.LESS, values=("20240101",)),
        lambda r: r.study_date == "20230601",
    ),
    "time": (
        ListFilter(field="study_time", operator=FilterOperator.GREATER_OR_EQUAL, values=("09",)),
        lambda r: r.study_time == "101500",
    ),
    "place": (
        ListFilter(field="institution_name", values=("CLINICA",)),
        lambda r: fold(r.institution_name) == "clinica",
    ),
    "no place": (
        ListFilter(field="institution_name", operator=FilterOperator.CONTAINS, values=("xyz",)),
        lambda r: False,
    ),
    "sex": (ListFilter(field="patient_sex", values=("F", "O")), lambda r: r.patient_sex in ("F", "O")),
    "name": (
        ListFilter(field="patient_name", operator=FilterOperator.CONTAINS, values=("田",)),
        lambda r: "田" in r.patient_name.text(),
    ),
    "exact name": (
        ListFilter(field="patient_name", values=("mULLER^jurgen",)),
        lambda r: r.patient_name.alphabetic == "Müller^Jürgen",
    ),
    "not name": (
        ListFilter(field="patient_name", operator=FilterOperator.NOT_EQUAL, values=("rossi",)),
        lambda r: r.patient_name.alphabetic != "Rossi",
    ),
    "description": (
        ListFilter(field="study_description", operator=FilterOperator.CONTAINS, values=("ct",)),
        lambda r: "ct" in fold(r.study_description),
    ),
    "id": (
        ListFilter(field="patient_id", operator=FilterOperator.GREATER, values=("030",)),
        lambda r: r.patient_id > "030",
    ),
    "uid": (
        ListFilter(field="study_instance_uid", values=("1.2.3.4.7", "1.2.3.4.8")),
        lambda r: r.study_instance_uid in ("1.2.3.4.7", "1.2.3.4.8"),
    ),
    "many objects": (
        ListFilter(field="number_of_instances", operator=FilterOperator.GREATER, values=("1",)),
        lambda r: r.number_of_instances > 1,
    ),
    "comments": (ListFilter(field="patient_comments", values=("note",)), lambda r: r.patient_comments == "Note"),
    "part": (ListFilter(field="body_part_examined", values=("HEAD",)), lambda r: "HEAD" in r.body_parts),
    "received": (
        ListFilter(field="received_first", operator=FilterOperator.RANGE, values=("20260102", "20260103")),
        lambda r: r.received_first.day in (2, 3) and r.received_first.month == 1,
    ),
}  # fmt: skip
# ruff: noqa: E501 - the table of conditions reads better in lines
SEARCHES = ["", "yama", "ya ta", "山", "太郎", "やまだ", "単純", "ct", "CT h", "mull", "rön", "a-1", "007",
            "1.2.3.4.7", "zzz", "---", '"']  # fmt: skip


def found_by_search(row: StudyRow, search: str) -> bool:
    if search.count(".") == 4:
        return row.study_instance_uid == search
    if search and not search_words(search):
        return not search.strip()
    known = words(
        [
            *row.patient_name.text().split("="),
            row.patient_id,
            row.accession_number,
            row.study_id,
            row.study_description,
            *row.referring_physician_name.text().split("="),
        ]
    )
    return all(any(each.startswith(word) for each in known) for word in search_words(search))


@pytest.mark.spec("VW-2", "DB-1")
@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    sort=st.sampled_from(sorted(SORTS)),
    descending=st.booleans(),
    chosen=st.lists(st.sampled_from(sorted(CONDITIONS)), max_size=3, unique=True),
    search=st.sampled_from(SEARCHES),
    offset=st.integers(0, COUNT + 10),
    limit=st.integers(0, 60),
    few=st.sampled_from([0, 10, 2000]),
    sorted_at_most=st.sampled_from([0, 40_000]),
    shortest=st.sampled_from([1, 512]),
)
def test_a_page_is_what_sorting_everything_would_give(
    filled, sort, descending, chosen, search, offset, limit, few, sorted_at_most, shortest
) -> None:
    connection, everything = filled
    query = StudyListQuery(
        search=search,
        filters=tuple(CONDITIONS[name][0] for name in chosen),
        sort=sort,
        descending=descending,
        offset=offset,
        limit=limit,
    )
    expected = [
        row
        for row in everything
        if all(CONDITIONS[name][1](row) for name in chosen) and found_by_search(row, search)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection, "FEW", few)
        patch.setattr(selection, "SORTED_AT_MOST", sorted_at_most)
        patch.setattr(selection, "_SHORTEST_WALK", shortest)
        page = studies.page(connection, query)
        whole = studies.page(
            connection, StudyListQuery(**{**_fields(query), "offset": 0, "limit": 1000})
        )
    assert page.total == len(expected)
    assert list(page.rows) == list(whole.rows[offset : offset + limit])
    assert {row.study_instance_uid for row in whole.rows} == {
        row.study_instance_uid for row in expected
    }
    if sort in ("study_date", "study_time"):
        return  # what is no date or time sorts as none: tested below
    keys = [value_of(row, sort) for row in whole.rows]
    assert keys == sorted(keys, reverse=descending)  # type: ignore[type-var]


def _fields(query: StudyListQuery) -> dict[str, object]:
    return {name: getattr(query, name) for name in StudyListQuery.__dataclass_fields__}


def test_dates_sort_by_day_and_time_and_what_is_none_comes_first(filled) -> None:
    connection, _ = filled
    query = StudyListQuery(sort="study_date", descending=False, limit=1000)
    rows = studies.page(connection, query).rows
    keys = [(r.study_date if r.study_date.isdigit() else "", r.study_time) for r in rows]
    assert [day for day, _ in keys] == sorted(day for day, _ in keys)
    same_day = [time for day, time in keys if day == "20240101"]
    assert same_day == sorted(same_day)


def test_every_page_together_is_every_study_once(filled) -> None:
    connection, everything = filled
    for sort in SORTS:
        for descending in (False, True):
            seen: list[str] = []
            for offset in range(0, COUNT, 50):
                query = StudyListQuery(sort=sort, descending=descending, offset=offset, limit=50)
                seen += [row.study_instance_uid for row in studies.page(connection, query).rows]
            assert len(seen) == len(set(seen)) == len(everything)


def test_series_and_object_filters_must_hold_for_one_series(filled) -> None:
    connection, _ = filled

    def total(*filters: ListFilter) -> int:
        return studies.page(connection, StudyListQuery(filters=filters)).total

    lateral = ListFilter(field="series_description", values=("LATERAL",))
    number = ListFilter(field="series_number", values=("1",))
    sop = ListFilter(field="sop_instance_uid", values=("1.2.3.4.5.1.1",))
    both = total(lateral, number)
    assert 0 < both < min(total(lateral), total(number))
    assert total(sop) == 1
    assert (
        total(sop, lateral) + total(sop, ListFilter(field="series_description", values=("ap",)))
        == 1
    )


def test_what_the_list_does_not_have_is_refused(filled) -> None:
    connection, _ = filled
    with pytest.raises(UnknownStudyColumn, match="sorted"):
        studies.page(connection, StudyListQuery(sort="id; DROP TABLE study"))
    with pytest.raises(UnknownStudyColumn, match="filter"):
        studies.page(
            connection, StudyListQuery(filters=(ListFilter(field="1 = 1 --", values=("x",)),))
        )


def test_every_filter_with_every_operator_answers(filled) -> None:
    connection, everything = filled
    for field in sorted(studies.FILTERS):
        for operator in FilterOperator:
            values = ("1", "2") if operator is FilterOperator.RANGE else ("1",)
            one = ListFilter(field=field, operator=operator, values=values)
            try:
                total = studies.page(connection, StudyListQuery(filters=(one,), limit=1)).total
            except UnknownStudyColumn:
                assert field in ("modality", "modalities")
                continue
            assert 0 <= total <= len(everything), one


# plans -----------------------------------------------------------------------------------------


def plan(connection: Connection, sql: selection.Sql) -> list[str]:
    return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql.text}", sql.parameters)]


def chosen(connection: Connection, *names: str, search: str = "") -> selection.Studies:
    query = StudyListQuery(search=search, filters=tuple(CONDITIONS[name][0] for name in names))
    return studies.studies(connection, query)


CARRIED = ["CT", "not CT", "date", "range", "until", "place", "no place", "sex"]


@pytest.mark.spec("DB-1")
def test_a_page_is_read_from_one_index_without_sorting(filled) -> None:
    connection, _ = filled
    several = ([], CARRIED, *([name] for name in CONDITIONS))
    for names, sort, descending in itertools.product(several, SORTS, (False, True)):
        query = chosen(connection, *names).page_query(
            sort, descending=descending, offset=100, limit=50
        )
        steps = plan(connection, query)
        assert len(steps) == 1, (names, steps)
        assert f"study USING COVERING INDEX study_by_{sort}" in steps[0], (names, steps)


@pytest.mark.spec("DB-1")
def test_a_total_is_counted_in_indexes(filled) -> None:
    connection, _ = filled
    for name in CONDITIONS:
        some = chosen(connection, "range", name, search="ya")
        for query in [some.total_query(), *some.set_queries()]:
            for step in plan(connection, query):
                assert step != "SCAN study", (name, step)
                assert "study USING INDEX" not in step or name == "uid", (name, step)
    for name in CARRIED:
        assert chosen(connection, name).set_queries() == []


def test_the_total_of_everything_is_a_counter(filled) -> None:
    connection, _ = filled
    seen: list[str] = []

    class Watched:
        def execute(self, sql, parameters=()):
            seen.append(sql)
            return connection.execute(sql, parameters)

    assert selection.Studies(Watched(), ()).total() == COUNT  # type: ignore[arg-type]
    assert seen == ["SELECT studies FROM totals WHERE id = 1"]
