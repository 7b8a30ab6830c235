# SPDX-License-Identifier: Apache-2.0
"""The words of queries that only SQLite has; another engine brings its own file like this one.

`fulltext` holds the search index, `schema` the tables, `scrigno.db` the connection; every other
query of the room is plain SQL with `?` for its values.
"""

import json
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from scrigno.db.sqlite import Connection

from .sql import Sql


def using(index: str) -> str:
    """Return the words after a table's name that make the engine walk this index."""
    return f" INDEXED BY {index}"


def numbers_in(column: str, numbers: Sequence[int]) -> Sql:
    """Return the test that `column` is one of these, with one parameter however many they are."""
    return Sql(f"{column} IN (SELECT value FROM json_each(?))", (json.dumps(list(numbers)),))  # noqa: S608 - a column of ours


def texts_in(column: str, texts: Sequence[str]) -> Sql:
    """Return the test that `column` is one of these texts, with one parameter for all of them."""
    return Sql(f"{column} IN (SELECT value FROM json_each(?))", (json.dumps(list(texts)),))  # noqa: S608 - a column of ours


def matches(expression: str, pattern: str) -> Sql:
    """Return the test that a text matches a pattern made of `literal`, `*` and `?`."""
    return Sql(f"{expression} GLOB ?", (pattern,))


def many_numbers(connection: Connection, query: Sql) -> NDArray[np.int64]:
    """Return the one column `id` of a query, in its order.

    A million numbers come as one text in a tenth of the time that a row each would take.
    """
    row = connection.execute(
        f"SELECT group_concat(id) FROM ({query.text})",  # noqa: S608 - our texts
        query.parameters,
    ).fetchone()
    if row is None or row[0] is None:
        return np.empty(0, np.int64)
    return np.fromstring(row[0] if isinstance(row[0], str) else str(row[0]), np.int64, sep=",")


def literal(text: str) -> str:
    """Return `text` as it stands for itself inside a pattern."""
    return re.sub(r"[*?\[]", lambda found: f"[{found.group()}]", text)


def pattern_of(text: str) -> str:
    """Return the pattern of a text in which `*` and `?` are wildcards and nothing else is."""
    return text.replace("[", "[[]")
