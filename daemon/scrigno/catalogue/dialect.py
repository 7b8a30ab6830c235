# SPDX-License-Identifier: Apache-2.0
"""The words of queries that only SQLite has; another engine brings its own file like this one.

`fulltext` holds the search index, `schema` the tables, `scrigno.db` the connection; every other
query of the room is plain SQL with `?` for its values.
"""

import json
import re
from collections.abc import Sequence

from .sql import Sql


def using(index: str) -> str:
    """Return the words after a table's name that make the engine walk this index."""
    return f" INDEXED BY {index}"


def numbers_in(column: str, numbers: Sequence[int]) -> Sql:
    """Return the test that `column` is one of these, with one parameter however many they are."""
    return Sql(f"{column} IN (SELECT value FROM json_each(?))", (json.dumps(list(numbers)),))  # noqa: S608 - a column of ours


def matches(expression: str, pattern: str) -> Sql:
    """Return the test that a text matches a pattern made of `literal`, `*` and `?`."""
    return Sql(f"{expression} GLOB ?", (pattern,))


def literal(text: str) -> str:
    """Return `text` as it stands for itself inside a pattern."""
    return re.sub(r"[*?\[]", lambda found: f"[{found.group()}]", text)


def pattern_of(text: str) -> str:
    """Return the pattern of a text in which `*` and `?` are wildcards and nothing else is."""
    return text.replace("[", "[[]")
