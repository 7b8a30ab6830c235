# SPDX-License-Identifier: Apache-2.0
"""Answers of a query in an order that was asked for (`FindQuery.order`), at any level.

Studies come by the indexes of the study list, at any size. What is below them is sorted when at
most MOST_SORTED match.
"""

from typing import Final

from scrigno.db.sqlite import Connection

from . import dialect
from .columns import SORTS, Column
from .find import Search
from .model import COLUMNS, FROM, STUDY_COUNTS, TABLES, levels_of
from .query import FindQuery, Level, Order
from .records import UnsupportedKey

MOST_SORTED: Final = 20_000
_COUNTS: Final = {
    "NumberOfStudyRelatedSeries": "number_of_series",
    "NumberOfStudyRelatedInstances": "number_of_instances",
    "ModalitiesInStudy": "modalities",
}
# these are kept as sorted numbers beside the text
_AS_NUMBERS: Final = {
    "SeriesNumber": "series.series_order",
    "InstanceNumber": "instance.instance_order",
}


class TooManyToSort(UnsupportedKey):
    """More matches than are sorted at this level."""

    code = "too-many-to-sort"


def page(connection: Connection, search: Search, query: FindQuery) -> list[int]:
    """Return the numbers of the query's page in its order, at most MOST_SORTED of them.

    Raises UnsupportedKey for an attribute that nothing is sorted by, TooManyToSort.
    """
    limit = MOST_SORTED if query.limit is None else min(query.limit, MOST_SORTED)
    if query.level is Level.STUDY:
        first = query.order[0]
        studies = search.studies()
        return studies.page(
            _sort(first), descending=first.descending, offset=query.offset, limit=limit,
            total=studies.total(),
        )  # fmt: skip
    portion = search.portion(None)
    if not portion.last or portion.numbers.size > MOST_SORTED:
        raise TooManyToSort(
            f"More than {MOST_SORTED} match, which are not sorted.",
            next_step="Narrow the search, or leave the order out.",
        )
    inside = dialect.numbers_in(f"{TABLES[query.level]}.id", portion.numbers.tolist())
    order = ", ".join(_expression(query.level, each) for each in query.order)
    found = connection.execute(
        f"SELECT {TABLES[query.level]}.id FROM {FROM[query.level]} WHERE {inside.text} "  # noqa: S608 - our texts
        f"ORDER BY {order}, {TABLES[query.level]}.id LIMIT ? OFFSET ?",
        (*inside.parameters, limit, query.offset),
    )
    return [row[0] for row in found]


def _sort(order: Order) -> str:
    column = _column(Level.STUDY, order.keyword)
    name = column.name if column is not None else _COUNTS.get(order.keyword, "")
    if name not in SORTS:
        raise UnsupportedKey(f"Studies cannot be sorted by {order.keyword}.")
    return name


def _expression(level: Level, order: Order) -> str:
    direction = " DESC" if order.descending else ""
    if order.keyword in _AS_NUMBERS:
        return _AS_NUMBERS[order.keyword] + direction
    if order.keyword in STUDY_COUNTS:
        return STUDY_COUNTS[order.keyword] + direction
    for upper in levels_of(level):
        column = COLUMNS[upper].get(order.keyword)
        if column is not None:
            table = "study" if upper is Level.PATIENT and level is not upper else TABLES[upper]
            return f"{table}.{column.key or column.name}{direction}"
    raise UnsupportedKey(f"Nothing is sorted by {order.keyword} here.")


def _column(level: Level, keyword: str) -> Column | None:
    for upper in levels_of(level):
        column = COLUMNS[upper].get(keyword)
        if column is not None:
            return column
    return None
