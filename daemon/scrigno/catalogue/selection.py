# SPDX-License-Identifier: Apache-2.0
"""A set of studies: how many, which page in which order, at any size within milliseconds.

Three ways, chosen by what the conditions leave:

- few studies (at most `FEW`): their numbers are fetched, tested and sorted as they are;
- many, by conditions that every list index carries: the index of the order is walked to the page;
- many, by other conditions: their numbers become one bit each, the index of the order is walked
  as far as the page needs, and the bits say which of its numbers count.

A walk begins at the nearer end of the list. Nothing ever reads the table but for the lines shown.
"""

from collections.abc import Sequence
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from scrigno.db.sqlite import Connection

from . import dialect
from .columns import CARRIED, SORTS, index_name
from .conditions import Condition
from .sql import ALWAYS, Sql, both

FEW: Final = 2000
# A walk for a page takes some more than the page should need, and at least this many.
_STRETCH: Final = 1.25
_SHORTEST_WALK: Final = 512
_LONGER: Final = 4
# So many numbers are rather sorted by reading their rows than found by a long walk; to read and
# sort one costs as much as so many steps.
SORTED_AT_MOST: Final = 40_000
_STEPS_TO_SORT_ONE: Final = 15
_TESTED_AT_ONCE: Final = 10_000


class Studies:
    """The studies that satisfy all of some conditions, on one snapshot."""

    def __init__(self, connection: Connection, conditions: Sequence[Condition]) -> None:
        """Ask on `connection`."""
        self._connection = connection
        self._conditions = tuple(conditions)
        self._carried = both(each.test for each in conditions if each.carried)
        self._others = tuple(each for each in conditions if not each.carried)
        self._few: list[int] | None = None
        self._few_known = False
        self._bits: NDArray[np.bool_] | None = None

    def total(self) -> int:
        """Return how many there are."""
        if not self._conditions:
            return self._number(Sql("SELECT studies FROM totals WHERE id = 1"))
        few = self.few()
        if few is not None:
            return len(few)
        if not self._others:
            return self._number(self.total_query())
        return int(np.count_nonzero(self._chosen()))

    def page(
        self, sort: str, *, descending: bool, offset: int, limit: int, total: int
    ) -> list[int]:
        """Return the numbers of one page; `total` is what `total` said on this snapshot."""
        if offset >= total or limit < 1:
            return []
        limit = min(limit, total - offset)
        few = self.few()
        if few is not None:
            query = self.sorted_few(few, sort, descending=descending, offset=offset, limit=limit)
            return self._numbers(query)
        behind = total - offset - limit
        if offset <= behind:
            return self._walked(sort, descending=descending, offset=offset, limit=limit)
        # The page is nearer to the end: walk from there.
        return self._walked(sort, descending=not descending, offset=behind, limit=limit)[::-1]

    def few(self) -> list[int] | None:
        """Return the numbers of all when they are few, else None."""
        if not self._few_known:
            self._few = self._find_few()
            self._few_known = True
        return self._few

    @property
    def exact(self) -> bool:
        """Whether `newest` names only studies that pass all tests."""
        return (self._few_known and self._few is not None) or all(
            each.arms_suffice or not each.arms for each in self._others
        )

    @property
    def unconditional(self) -> bool:
        """Whether these are all studies."""
        return not self._conditions

    def newest(self) -> NDArray[np.int64]:
        """Return the numbers of all, the newest first; unless `exact`, of some more."""
        few = self.few()
        if few is not None:
            return np.sort(np.array(few, np.int64))[::-1]
        if self._others:
            return np.flatnonzero(self._named())[::-1]
        return np.sort(dialect.many_numbers(self._connection, self.walk("study_date")))[::-1]

    def select(self) -> Sql:
        """Return a query for the numbers, to stand inside another one."""
        walk = self.walk("study_date")
        sets = [self.set_query(condition) for condition in self._others]
        inside = [Sql(f"+id IN ({one.text})", one.parameters) for one in sets]
        tests = [each.test for each in self._others if not each.arms_suffice]
        more = both([*inside, *tests])
        return Sql(f"{walk.text} AND {more.text}", walk.parameters + more.parameters)

    def tests(self) -> Sql:
        """Return the test of one row of `study`."""
        return both(each.test for each in self._conditions)

    # queries, open to the tests that look at their plans -----------------------------------------

    def total_query(self) -> Sql:
        """Return the query that counts what carried columns decide."""
        walk = self.walk("study_date")
        return Sql(walk.text.replace("SELECT id", "SELECT count(*)", 1), walk.parameters)

    def page_query(self, sort: str, *, descending: bool, offset: int, limit: int) -> Sql:
        """Return the query that walks the index of an order, skipping to a place."""
        walk = self.walk(sort)
        return Sql(
            f"{walk.text} ORDER BY {_order(sort, descending=descending)} LIMIT ? OFFSET ?",
            (*walk.parameters, limit, offset),
        )

    def sorted_few(
        self, few: Sequence[int], sort: str, *, descending: bool, offset: int, limit: int
    ) -> Sql:
        """Return the query that sorts few numbers."""
        inside = dialect.numbers_in("id", few)
        return Sql(
            f"SELECT id FROM study WHERE {inside.text} "  # noqa: S608 - our texts
            f"ORDER BY {_order(sort, descending=descending)} LIMIT ? OFFSET ?",
            (*inside.parameters, limit, offset),
        )

    def walk(self, sort: str) -> Sql:
        """Return the walk over one list index under the conditions that it carries."""
        carried = self._carried
        using = dialect.using(index_name(sort))
        return Sql(
            f"SELECT id FROM study{using} WHERE {carried.text}",  # noqa: S608 - our texts
            carried.parameters,
        )

    def set_queries(self) -> list[Sql]:
        """Return the queries for the numbers of each condition that no list index carries."""
        return [self.set_query(condition) for condition in self._others]

    def set_query(self, condition: Condition) -> Sql:
        """Return the numbers that satisfy one condition, and those carried where it can be asked.

        A number may come more than once when the condition has several arms.
        """
        if not condition.arms:
            test = both([condition.test, self._carried])
            return Sql(f"SELECT id FROM study WHERE {test.text}", test.parameters)  # noqa: S608 - our texts
        arms = condition.arms
        if condition.arms_of_study and self._carried is not ALWAYS:
            carried = self._carried
            arms = tuple(
                Sql(f"{arm.text} AND {carried.text}", arm.parameters + carried.parameters)
                for arm in arms
            )
        return Sql(
            " UNION ALL ".join(arm.text for arm in arms),
            tuple(value for arm in arms for value in arm.parameters),
        )

    # finding -------------------------------------------------------------------------------------

    def _walked(self, sort: str, *, descending: bool, offset: int, limit: int) -> list[int]:
        """Return the numbers at a place of an order, walking from its beginning."""
        if not self._others:
            return self._numbers(
                self.page_query(sort, descending=descending, offset=offset, limit=limit)
            )
        chosen = self._chosen()
        size = max(1, int(np.count_nonzero(chosen)))
        stride = int((offset + limit) * chosen.size / size * _STRETCH) + _SHORTEST_WALK
        walk = partial(self._walked_among, chosen, sort, descending=descending)
        if size > SORTED_AT_MOST:
            found = walk(offset + limit, stride, _LONGER)
        else:
            found = walk(offset + limit, stride, 0) if stride < size * _STEPS_TO_SORT_ONE else None
            if found is None:
                numbers: list[int] = np.flatnonzero(chosen).tolist()
                return self._numbers(
                    self.sorted_few(
                        numbers, sort, descending=descending, offset=offset, limit=limit
                    )
                )
        assert found is not None  # noqa: S101 - a walk that may go on ends with the index
        page: list[int] = found[offset : offset + limit].tolist()
        return page

    def _walked_among(
        self, chosen: NDArray[np.bool_], sort: str, wanted: int, stride: int, longer: int,
        *, descending: bool,
    ) -> NDArray[np.int64] | None:  # fmt: skip
        """Return the first `wanted` of the chosen in an order.

        A walk of `stride` steps that did not find them is followed by one `longer` times as long;
        None when it must not be.
        """
        found: list[NDArray[np.int64]] = []
        have = walked = 0
        while True:
            step = dialect.many_numbers(
                self._connection,
                self.page_query(sort, descending=descending, offset=walked, limit=stride),
            )
            hits = step[chosen[step]]
            found.append(hits)
            have += hits.size
            walked += step.size
            if have >= wanted or step.size < stride:
                return np.concatenate(found)
            if not longer:
                return None
            stride *= longer  # what is wanted does not lie evenly in this order

    def _chosen(self) -> NDArray[np.bool_]:
        """Return a bit for each study that satisfies everything, by its number."""
        if self._bits is None:
            named = self._named()
            self._bits = named if self.exact else self._tested(named)
        return self._bits

    def _named(self) -> NDArray[np.bool_]:
        """Return a bit for each study that the conditions' own indexes name."""
        last = self._number(Sql("SELECT coalesce(max(id), 0) FROM study"))
        queries = self.set_queries()
        if self._carried is not ALWAYS and not any(each.arms_of_study for each in self._others):
            queries.append(self.walk("study_date"))
        bits: NDArray[np.bool_] | None = None
        for query in queries:
            one = np.zeros(last + 1, np.bool_)
            one[dialect.many_numbers(self._connection, query)] = True
            bits = one if bits is None else bits & one
        assert bits is not None  # noqa: S101 - only asked when there are other conditions
        return bits

    def _tested(self, named: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return the bits of those that pass all tests of their rows."""
        tests, passed = self.tests(), np.zeros_like(named)
        numbers = np.flatnonzero(named)
        for place in range(0, numbers.size, _TESTED_AT_ONCE):
            some = numbers[place : place + _TESTED_AT_ONCE].tolist()
            where = both([dialect.numbers_in("id", some), tests])
            query = Sql(f"SELECT id FROM study WHERE {where.text}", where.parameters)  # noqa: S608 - our texts
            passed[dialect.many_numbers(self._connection, query)] = True
        return passed

    def _find_few(self) -> list[int] | None:
        for condition in self._others:
            if not condition.arms:
                continue
            select = self.set_query(condition)
            # a study may be named by more than one arm, so look for some more
            most = FEW * len(condition.arms)
            numbers = self._numbers(Sql(f"{select.text} LIMIT ?", (*select.parameters, most + 1)))
            if len(numbers) > most:
                continue
            inside = dialect.numbers_in("id", numbers)
            tests = both([inside, self.tests()])
            return self._numbers(
                Sql(f"SELECT id FROM study WHERE {tests.text}", tests.parameters)  # noqa: S608 - our texts
            )
        return None

    def _numbers(self, query: Sql) -> list[int]:
        return [row[0] for row in self._connection.execute(query.text, query.parameters)]

    def _number(self, query: Sql) -> int:
        row = self._connection.execute(query.text, query.parameters).fetchone()
        return 0 if row is None else int(row[0])


def _order(sort: str, *, descending: bool) -> str:
    """Return the order of an index up to the number of the study, which makes it total."""
    own = SORTS[sort]
    columns = [*own, *(column for column in CARRIED[:2] if column not in own)]
    return ", ".join(f"{column} DESC" if descending else column for column in columns)
