# SPDX-License-Identifier: Apache-2.0
"""Dates, times and patterns as columns and conditions, against plain references."""

import fnmatch
import re
from collections.abc import Iterator
from datetime import UTC, datetime, time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pysqlite3 import dbapi2

from scrigno.catalogue import conditions, values
from scrigno.catalogue.columns import Column, Kind
from scrigno.catalogue.names import fold
from scrigno.catalogue.sql import Sql, either


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("20240229", 20240229),
        ("2024.02.29", 20240229),
        ("20230229", 0),
        ("", 0),
        ("2024", 0),
        ("2024010a", 0),
        ("２０２４０１０１", 0),
    ],
)
def test_a_date_is_a_number_or_none(text: str, day: int) -> None:
    assert values.day(text) == day


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("10", "10:00:00.000000", "10:59:59.999999"),
        ("1011", "10:11:00.000000", "10:11:59.999999"),
        ("101112", "10:11:12.000000", "10:11:12.999999"),
        ("101112.5", "10:11:12.500000", "10:11:12.599999"),
        ("10:11:12", "10:11:12.000000", "10:11:12.999999"),
        ("235960", "23:59:59.999999", "23:59:59.999999"),
    ],
)
def test_a_time_is_a_stretch_of_the_day(text: str, first: str, last: str) -> None:
    def micros(clock: str) -> int:
        at = time.fromisoformat(clock)
        return ((at.hour * 60 + at.minute) * 60 + at.second) * 1_000_000 + at.microsecond

    assert values.micros(text) == micros(first)
    assert values.micros(text, latest=True) == micros(last)


@pytest.mark.parametrize("text", ["", "1", "24", "1060", "101161", "10.5.1", "abc", "101112.x"])
def test_what_is_no_time_is_none(text: str) -> None:
    assert values.micros(text) == values.NO_TIME


def test_moments_survive_the_column() -> None:
    at = datetime(2026, 7, 9, 1, 2, 3, 456789, tzinfo=UTC)
    assert values.moment(values.stamp(at)) == at
    assert values.moment(values.day_start("20260709")) == at.replace(
        hour=0, minute=0, second=0, microsecond=0
    )


# conditions on a real engine -------------------------------------------------------------------


@pytest.fixture(scope="module")
def engine() -> Iterator[object]:
    connection = dbapi2.connect(":memory:")
    yield connection
    connection.close()


def holds(engine, test: Sql, **row: object) -> bool:
    columns = ", ".join(f"? AS {name}" for name in row)
    query = f"SELECT 1 FROM (SELECT {columns}) WHERE {test.text}"
    return engine.execute(query, (*row.values(), *test.parameters)).fetchone() is not None


# few letters, so that patterns meet texts; what LIKE, GLOB and SQL treat as special; Japanese
LETTERS = st.sampled_from(list("aAbeé*?%_[]^\\' -z田ｱア山"))
TEXTS = st.text(LETTERS, max_size=8)


def reference(text: str, pattern: str) -> bool:
    """PS3.4 C.2.2.2.4: `*` any text, `?` one character, all else itself."""
    parts = [{"*": ".*", "?": "."}.get(c, re.escape(c)) for c in pattern]
    return re.fullmatch("".join(parts), text, re.DOTALL) is not None


@pytest.mark.spec("DN-5")
@given(text=TEXTS, pattern=TEXTS)
def test_a_pattern_matches_as_the_standard_says(engine, text: str, pattern: str) -> None:
    test = conditions.glob("value", pattern)
    assert holds(engine, test, value=text) == reference(text, pattern)


@given(text=TEXTS, pattern=TEXTS)
def test_a_keyed_text_matches_by_what_was_sent(engine, text: str, pattern: str) -> None:
    """The folded column only narrows: it never loses a match nor adds one."""
    column = Column(name="value", key="value_key", index="study_id")
    condition = conditions._wildcard("study", column, pattern)
    found = holds(engine, condition.test, value=text, value_key=fold(text))
    if text == text.strip(" ^") and "  " not in text:
        assert found == reference(text, pattern)
    else:
        assert not found or reference(text, pattern)
    if found:
        narrowed = conditions.folded_glob("value_key", pattern)
        assert holds(engine, narrowed, value=text, value_key=fold(text))


@pytest.mark.spec("DN-5")
@given(text=TEXTS, pattern=TEXTS)
def test_a_name_pattern_matches_the_folded_name(engine, text: str, pattern: str) -> None:
    test = either(conditions.name_tests("value", pattern))
    folded = re.sub(r"\*+", "*", fold(pattern))
    wanted = reference(fold(text), folded)
    while folded.endswith(" *"):
        folded = folded.removesuffix(" *")
        wanted = wanted or (bool(folded) and reference(fold(text), folded))
        wanted = wanted or (bool(folded) and reference(fold(text), folded + " *"))
    assert holds(engine, test, value=fold(text)) == wanted


@given(text=TEXTS, prefix=st.text(max_size=4))
def test_a_prefix_range_holds_exactly_what_begins_so(engine, text: str, prefix: str) -> None:
    for candidate in (text, prefix, prefix + text, prefix + "\U0010ffff", prefix[:-1]):
        test = conditions.both(conditions.prefix_range("value", prefix))
        assert holds(engine, test, value=candidate) == candidate.startswith(prefix)


DATES = st.dates().map(lambda d: f"{d:%Y%m%d}".zfill(8)) | st.sampled_from(["", "20240101", "junk"])
ENDS = st.dates().map(lambda d: f"{d:%Y%m%d}".zfill(8)) | st.sampled_from(["", "20240101"])


@pytest.mark.spec("DN-5")
@given(value=DATES, low=ENDS, high=ENDS)
def test_a_date_range_is_inclusive_and_may_be_open(engine, value: str, low: str, high: str) -> None:
    wanted = value.isdigit() and (not low or low <= value) and (not high or value <= high)
    keyed = Column(name="value", kind=Kind.DATE, key="value_key")
    plain = Column(name="value", kind=Kind.DATE)
    row = {"value": value, "value_key": values.day(value)}
    assert holds(engine, conditions.date_range(keyed, low, high), **row) == wanted
    if value != "junk":
        assert holds(engine, conditions.date_range(plain, low, high), **row) == wanted


CLOCKS = st.from_regex(r"\A(2[0-3]|[01][0-9])([0-5][0-9]([0-5][0-9](\.[0-9]{1,6})?)?)?\Z")


@pytest.mark.spec("DN-5")
@given(value=CLOCKS, low=CLOCKS | st.just(""), high=CLOCKS | st.just(""))
def test_a_time_range_takes_short_ends_as_whole_stretches(
    engine, value: str, low: str, high: str
) -> None:
    at = values.micros(value)
    wanted = (not low or values.micros(low) <= at) and (
        not high or at <= values.micros(high, latest=True)
    )
    keyed = Column(name="value", kind=Kind.TIME, key="value_key")
    plain = Column(name="value", kind=Kind.TIME)
    row = {"value": value, "value_key": at}
    assert holds(engine, conditions.time_range(keyed, low, high), **row) == wanted
    assert holds(engine, conditions.time_range(plain, low, high), **row) == wanted


@pytest.mark.parametrize("text", ["7", "07", " 7", "7 ", "+7"])
def test_the_same_number_matches_however_it_is_written(engine, text: str) -> None:
    column = Column(name="value", kind=Kind.NUMBER)
    assert holds(engine, conditions._number(column, "7"), value=text)
    assert not holds(engine, conditions._number(column, "8"), value=text)
    assert not holds(engine, conditions._number(column, "7"), value="7a")
    assert not holds(engine, conditions._number(column, "0"), value="")


def test_the_reference_of_patterns_is_the_common_one() -> None:
    assert fnmatch.fnmatchcase("abc", "a*c") == reference("abc", "a*c")
