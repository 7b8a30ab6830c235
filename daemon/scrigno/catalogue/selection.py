# SPDX-License-Identifier: Apache-2.0
"""A set of studies: how many, which page in which order, at any size within milliseconds.

Three ways, chosen by how many rows the conditions leave:

- few (at most `FEW`): their numbers are fetched, tested and sorted as they are;
- many, in some order: the index of that order is walked, skipping to the page; it carries the
  columns of the common filters, other conditions are a look into a set of numbers;
- the total: counted in one index, without a look at the table.
"""

from collections.abc import Sequence
from typing import Final

from scrigno.db.sqlite import Connection

from . import dialect
from .columns import index_columns, index_name
from .conditions import Condition
from .sql import ALWAYS, Sql, both

FEW: Final = 2000


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

    def total(self) -> int:
        """Return how many there are."""
        if not self._conditions:
            return self._number(Sql("SELECT studies FROM totals WHERE id = 1"))
        few = self.few()
        if few is not None:
            return len(few)
        return self._number(self.total_query())

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
        if offset <= total - offset - limit:
            return self._numbers(
                self.page_query(sort, descending=descending, offset=offset, limit=limit)
            )
        # The page is nearer to the end: walk from there.
        behind = total - offset - limit
        query = self.page_query(sort, descending=not descending, offset=behind, limit=limit)
        return self._numbers(query)[::-1]

    def few(self) -> list[int] | None:
        """Return the numbers of all when they are few, else None."""
        if not self._few_known:
            self._few = self._find_few()
            self._few_known = True
        return self._few

    def up_to(self, limit: int) -> list[int]:
        """Return at most `limit` of the numbers, in no order."""
        few = self.few()
        if few is not None:
            return few[:limit]
        walk = self._walk("study_date")
        return self._numbers(Sql(f"{walk.text} LIMIT ?", (*walk.parameters, limit)))

    def before(self, number: int, limit: int) -> list[int]:
        """Return at most `limit` numbers below `number`, the highest first."""
        tests = self.tests()
        return self._numbers(
            Sql(
                f"SELECT id FROM study WHERE id < ? AND {tests.text} ORDER BY id DESC LIMIT ?",  # noqa: S608 - our texts
                (number, *tests.parameters, limit),
            )
        )

    def select(self) -> Sql:
        """Return a query for the numbers, to stand inside another one."""
        if not self._conditions:
            return Sql("SELECT id FROM study")
        return self._walk("study_date")

    def tests(self) -> Sql:
        """Return the test of one row of `study`."""
        return both(each.test for each in self._conditions)

    # queries, open to the tests that look at their plans -----------------------------------------

    def total_query(self) -> Sql:
        """Return the query that counts many."""
        if len(self._others) == 1 and self._counts_by_itself(self._others[0]):
            select = self._of(self._others[0])
            return Sql(f"SELECT count(*) FROM ({select.text})", select.parameters)  # noqa: S608 - our texts
        walk = self._walk("study_date")
        return Sql(walk.text.replace("SELECT id", "SELECT count(*)", 1), walk.parameters)

    def _counts_by_itself(self, condition: Condition) -> bool:
        """Tell whether the arms of a condition name each study once and all else can be tested."""
        return len(condition.arms) == 1 and (condition.arms_of_study or self._carried is ALWAYS)

    def page_query(self, sort: str, *, descending: bool, offset: int, limit: int) -> Sql:
        """Return the query that walks the index of an order to a page."""
        walk = self._walk(sort)
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

    def _walk(self, sort: str) -> Sql:
        """Return a walk over one list index; what it does not carry is looked up in sets."""
        tests = [self._carried]
        for condition in self._others:
            if condition.covered_by == sort:
                tests.append(condition.test)
                continue
            select = self._of(condition)
            # the plus keeps the engine from walking the set instead of the index
            tests.append(Sql(f"+id IN ({select.text})", select.parameters))
        where = both(tests)
        return Sql(
            f"SELECT id FROM study{dialect.using(index_name(sort))} WHERE {where.text}",  # noqa: S608 - our texts
            where.parameters,
        )

    def _of(self, condition: Condition) -> Sql:
        """Return the numbers that satisfy one condition and those that every index carries.

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

    def _find_few(self) -> list[int] | None:
        for condition in self._others:
            if not condition.arms:
                continue
            select = self._of(condition)
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
    columns = index_columns(sort)
    columns = columns[: columns.index("id") + 1]
    return ", ".join(f"{column} DESC" if descending else column for column in columns)
