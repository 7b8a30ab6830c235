# SPDX-License-Identifier: Apache-2.0
"""From what an attribute must match to SQL with parameters. Texts here are ours, values never.

A condition is a `test` of one row and, where an index of its own finds the rows, the `arms` that
select their numbers from it.
"""

import fnmatch
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from scrigno.db.sqlite import Connection

from . import dialect, fulltext, names, values
from .columns import Column, Kind, index_name
from .dictionaries import OTHER_BIT
from .query import (
    DateRange,
    Matching,
    SequenceMatch,
    Single,
    TimeRange,
    UidList,
    Universal,
    Wildcard,
)
from .sql import ALWAYS, NEVER, Sql, both, either

_STARS: Final = re.compile(r"\*+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """What rows must satisfy."""

    test: Sql
    # SELECT statements that end in a WHERE clause; together they name the rows, some twice
    arms: tuple[Sql, ...] = ()
    # whether the arms select from `study` itself, so that carried columns can be tested there
    arms_of_study: bool = True
    # whether every row that the arms name passes the test too; else the arms only narrow
    arms_suffice: bool = True
    # only columns that every list index carries
    carried: bool = False


NOBODY: Final = Condition(test=NEVER, carried=True)
EVERYBODY: Final = Condition(test=ALWAYS, carried=True)


# patterns --------------------------------------------------------------------------------------


def has_wildcard(text: str) -> bool:
    """Tell whether a text has a wildcard of PS3.4 C.2.2.2.4."""
    return "*" in text or "?" in text


def glob(column: str, pattern: str) -> Sql:
    """Return the test that `column` matches a pattern with `*` and `?`, case told apart.

    What begins the pattern literally becomes a range too, so that an index finds it.
    """
    pattern = _STARS.sub("*", pattern)
    prefix = re.split(r"[*?]", pattern, maxsplit=1)[0]
    if prefix == pattern:
        return Sql(f"{column} = ?", (pattern,))
    simple = pattern == f"{prefix}*"
    tests = [] if simple else [dialect.matches(column, dialect.pattern_of(pattern))]
    return both([*prefix_range(column, prefix), *tests])


def prefix_range(column: str, prefix: str) -> list[Sql]:
    """Return the tests that `column` begins with `prefix`; none when it is empty."""
    if not prefix:
        return []
    after = _after(prefix)
    low = Sql(f"{column} >= ?", (prefix,))
    return [low] if after is None else [low, Sql(f"{column} < ?", (after,))]


def _after(prefix: str) -> str | None:
    """Return the first text behind all that begin with `prefix` in the order of code points."""
    for place in range(len(prefix) - 1, -1, -1):
        point = ord(prefix[place]) + 1
        if 0xD800 <= point <= 0xDFFF:
            point = 0xE000
        if point <= 0x10FFFF:
            return prefix[:place] + chr(point)
    return None


# person names ----------------------------------------------------------------------------------


def name_tests(column: str, text: str) -> list[Sql]:
    """Return the tests of a folded name column for one component group, any of which suffices.

    Trailing components that are only `*` may be absent from the stored name: PS3.5 6.2.1 lets
    delimiters of trailing empty components be left out.
    """
    pattern = _STARS.sub("*", names.fold(text))
    bare = pattern
    while bare.endswith(" *"):
        bare = bare.removesuffix(" *").rstrip()
    if bare and bare != pattern:
        return [glob(column, f"{bare} *"), glob(column, bare)]
    return [glob(column, pattern)]


def fuzzy_tests(column: str, text: str) -> list[Sql]:
    """Return the tests that every word of `text` begins some word of the name, in any order."""
    words = names.fold(text.replace("*", " ").replace("?", " ")).split(" ")
    spaced = f"' ' || {column}"
    return [dialect.matches(spaced, f"* {dialect.literal(word)}*") for word in words]


def _name_condition(table: str, column: Column, text: str, *, fuzzy: bool) -> Condition:
    """Match each component group of the key against every group of the name."""
    groups = [group for group in text.split("=", 2) if group.strip(" ^")]
    if not groups:
        return EVERYBODY
    parts = [_group_condition(table, column, group, fuzzy=fuzzy) for group in groups]
    if len(parts) == 1:
        return parts[0]
    # The first group finds the rows, all of them are tested.
    tests = both(part.test for part in parts)
    first = parts[0]
    return Condition(
        test=tests, arms=first.arms, arms_of_study=first.arms_of_study, arms_suffice=False
    )


def _group_condition(table: str, column: Column, group: str, *, fuzzy: bool) -> Condition:
    def test(key: str) -> Sql:
        return both(fuzzy_tests(key, group)) if fuzzy else either(name_tests(key, group))

    begins = not fuzzy and not names.fold(group).startswith(("*", "?"))
    piece = "" if begins or fuzzy else names.searched_piece(group)
    return name_groups(table, column, test, begins=begins, piece=piece)


def name_groups(
    table: str, column: Column, test: Callable[[str], Sql], *, begins: bool, piece: str = ""
) -> Condition:
    """Return the condition that some component group of a name passes `test`.

    `begins` tells that the test fixes how the group begins: then the index of each group finds
    it. `piece` is a word of the search index that every such name has. Otherwise one walk over an
    index that has all of them finds it.
    """
    keys = (column.key, f"{column.key}2", f"{column.key}3")
    first = test(keys[0])
    others = [both([Sql(f"{key} <> ''"), test(key)]) for key in keys[1:]]
    whole = either([first, *others])
    if not column.index or table not in ("study", "patient"):
        return Condition(test=whole)
    if piece and table == "study" and column.name == "patient_name":
        select, parameter = fulltext.condition([piece])
        return Condition(
            test=whole,
            arms=(Sql(select, (parameter,)),),
            arms_of_study=False,
            arms_suffice=False,
        )
    if table == "study" and not (begins and column.name == "patient_name"):
        return Condition(
            test=whole,
            arms=(_arm(table, index_name(column.index), whole),),
        )
    arms = [_arm(table, f"{table}_by_{column.index}", first)]
    arms += [
        _arm(table, f"{table}_by_{key}", each) for key, each in zip(keys[1:], others, strict=True)
    ]
    return Condition(test=whole, arms=tuple(arms))


def _arm(table: str, index: str, test: Sql) -> Sql:
    using = dialect.using(index)
    return Sql(f"SELECT id FROM {table}{using} WHERE {test.text}", test.parameters)  # noqa: S608 - our names


# any attribute ---------------------------------------------------------------------------------


def of_matching(
    table: str, column: Column, matching: Matching, *, fuzzy: bool = False
) -> Condition | None:
    """Return the condition of one key of a query, or None when everything matches."""
    match matching:
        case Universal() | SequenceMatch():
            return None
        case Single(text) | Wildcard(text) if column.kind is Kind.NAME:
            return _name_condition(table, column, text, fuzzy=fuzzy)
        case UidList(uids):
            parts = [of_matching(table, column, _one(uid), fuzzy=fuzzy) for uid in uids]
            return any_of([part for part in parts if part is not None])
        case Single(text):
            return _single(table, column, text)
        case Wildcard(text) if set(text) <= {"*"}:
            return None
        case Wildcard(text):
            return _wildcard(table, column, text)
        case DateRange(low, high):
            return _indexed(table, column, date_range(column, low, high))
        case TimeRange(low, high):
            return _indexed(table, column, time_range(column, low, high))


def any_of(parts: Sequence[Condition]) -> Condition | None:
    """Return the condition that one of these holds, or None when there are none."""
    if not parts:
        return None
    if len(parts) == 1:
        return parts[0]
    arms = tuple(arm for part in parts for arm in part.arms)
    return Condition(
        test=either(part.test for part in parts),
        arms=arms if all(part.arms for part in parts) else (),
        arms_suffice=all(part.arms_suffice for part in parts),
        carried=all(part.carried for part in parts),
    )


def _one(text: str) -> Matching:
    return Wildcard(text) if has_wildcard(text) else Single(text)


def _indexed(table: str, column: Column, test: Sql, narrowed: Sql | None = None) -> Condition:
    """Return the condition with the index that finds it, by `narrowed` when the test needs more."""
    if not column.index or table not in ("study", "patient"):
        return Condition(test=test)
    if table == "patient":
        known = column.name in ("patient_id", "patient_name")
        return Condition(
            test=test, arms=(_arm(table, f"patient_by_{column.index}", test),) if known else ()
        )
    if column.name in ("study_date", "patient_sex"):
        return Condition(test=test, carried=True)
    arm = _arm(table, index_name(column.index), narrowed or test)
    return Condition(test=test, arms=(arm,), arms_suffice=narrowed is None)


def _single(table: str, column: Column, text: str) -> Condition:
    match column.kind:
        case Kind.DATE:
            return _indexed(table, column, date_range(column, text, text))
        case Kind.TIME:
            return _indexed(table, column, time_range(column, text, text))
        case Kind.NUMBER:
            return _indexed(table, column, _number(column, text))
        case Kind.TEXT if column.key:
            # The folded column is indexed; the text itself decides (C.2.2.2.1: case matters).
            folded = Sql(f"{column.key} = ?", (names.key(text),))
            test = both([folded, Sql(f"{column.name} = ?", (text,))])
            return _indexed(table, column, test, folded)
        case _:
            return _indexed(table, column, Sql(f"{column.name} = ?", (text,)))


def _number(column: Column, text: str) -> Sql:
    """`7`, ` 7` and `07` are the same number (PS3.5 section 6.2, IS)."""
    try:
        number = int(text)
    except ValueError:
        return Sql(f"{column.name} = ?", (text.strip(),))
    return Sql(
        f"{column.name} <> '' AND CAST({column.name} AS INTEGER) = ? "
        f"AND ltrim({column.name}, ' 0123456789+-') = ''",
        (number,),
    )


def _wildcard(table: str, column: Column, text: str) -> Condition:
    test = glob(column.name, text)
    if column.kind is not Kind.TEXT or not column.key or not column.index:
        return _indexed(table, column, test)
    narrowed = folded_glob(column.key, text)
    return _indexed(table, column, both([narrowed, test]), narrowed)


def folded_glob(key: str, text: str) -> Sql:
    """Return the test of a folded column that everything passes that matches a pattern as sent.

    Only ASCII pieces fold one by one as they do inside the whole text; the others, and `?`, may
    be anything here.
    """
    pieces = [
        dialect.literal(names.fold(piece)) if piece.isascii() else "*"
        for piece in re.split(r"[*?]", text)
    ]
    folded = _STARS.sub("*", "*".join(pieces))
    prefix = re.split(r"[*?]", text, maxsplit=1)[0]
    ranges = prefix_range(key, names.fold(prefix)) if prefix.isascii() else []
    return both([*ranges, *([] if folded == "*" else [dialect.matches(key, folded)])])


def date_range(column: Column, low: str, high: str) -> Sql:
    """Both ends inclusive, '' is open; what is no date matches no range."""
    if not column.key:  # compared as text: YYYYMMDD sorts as it should
        first, last = low.replace(".", ""), high.replace(".", "")
        tests = [Sql(f"{column.name} >= ?", (first or "0",))]
        return both([*tests, Sql(f"{column.name} <= ?", (last,))] if last else tests)
    first_day = values.day(low) if low else values.NO_DAY + 1
    if first_day == values.NO_DAY or (high and values.day(high) == values.NO_DAY):
        return NEVER
    tests = [Sql(f"{column.key} >= ?", (first_day,))]
    if high:
        tests.append(Sql(f"{column.key} <= ?", (values.day(high),)))
    return both(tests)


def time_range(column: Column, low: str, high: str) -> Sql:
    """Both ends inclusive, '' is open; `12` as an end means all of that hour."""
    first = values.micros(low) if low else 0
    last = values.micros(high, latest=True) if high else values.DAY_MICROS
    if first == values.NO_TIME or last == values.NO_TIME:
        return NEVER
    if column.key:
        return Sql(f"{column.key} BETWEEN ? AND ?", (first, last))
    # compared as text: what was sent may be shorter than the ends of the range
    shortest = values.shortest_time(first)
    return Sql(
        f"{column.name} <> '' AND {column.name} >= ? AND {column.name} <= ?",
        (shortest, values.longest_time(min(last, values.DAY_MICROS - 1))),
    )


def combined_range(dates: Column, times: Column, day: DateRange, time: TimeRange) -> Sql:
    """One range of moments from a date range and a time range (C.2.2.2.5.3)."""
    if not dates.key or not times.key:
        return both([date_range(dates, day.low, day.high), time_range(times, time.low, time.high)])
    tests = [Sql(f"{dates.key} > ?", (values.NO_DAY,))]
    if day.low:
        start = values.micros(time.low) if time.low else 0
        tests.append(Sql(f"({dates.key}, {times.key}) >= (?, ?)", (values.day(day.low), start)))
    if day.high:
        end = values.micros(time.high, latest=True) if time.high else values.DAY_MICROS
        tests.append(Sql(f"({dates.key}, {times.key}) <= (?, ?)", (values.day(day.high), end)))
    return both(tests)


# modalities of a study -------------------------------------------------------------------------


def modalities(connection: Connection, chosen: Callable[[str], bool]) -> Condition:
    """Return the condition that a study has a modality that `chosen` accepts."""
    mask, others = 0, []
    for bit, code in connection.execute("SELECT bit, code FROM modality"):
        if chosen(code):
            if bit < OTHER_BIT:
                mask |= 1 << bit
            else:
                others.append(code)
    common = Sql("modality_bits & ? <> 0", (mask,))
    if not others:
        return Condition(test=common, carried=True) if mask else NOBODY
    rare = [_holds("modalities", code) for code in others]
    test = either([common, *rare])
    return Condition(test=test, arms=(_arm("study", index_name("modalities"), test),))


def modality_chooser(matching: Matching) -> Callable[[str], bool] | None:
    """Return what decides whether a modality matches a key, or None when all do."""
    match matching:
        case Single(text):
            return lambda code: code == text
        case Wildcard(text):
            pattern = re.compile(fnmatch.translate(dialect.pattern_of(text)))
            return lambda code: pattern.match(code) is not None
        case UidList(codes):
            choosers = [modality_chooser(_one(code)) for code in codes]
            return lambda code: any(chosen is None or chosen(code) for chosen in choosers)
        case _:
            return None


def sop_classes(matching: Matching) -> Condition | None:
    """Return the condition that a study has an object of one of these classes."""
    match matching:
        case Single(uid):
            uids: tuple[str, ...] = (uid,)
        case UidList(several):
            uids = several
        case _:
            return None
    tests = [_holds("sop_classes", uid) for uid in uids]
    return Condition(test=either(tests))


def _holds(column: str, value: str) -> Sql:
    """Return the test that a column of several values has this one."""
    separated = rf"'\' || {column} || '\'"
    return dialect.matches(separated, f"*\\{dialect.literal(value)}\\*")
