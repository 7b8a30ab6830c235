# SPDX-License-Identifier: Apache-2.0
"""Pieces of SQL that carry their values: texts are put together, values never become text."""

from collections.abc import Iterable
from dataclasses import dataclass

from scrigno.db.sqlite import Value


@dataclass(frozen=True, slots=True)
class Sql:
    """A piece of SQL and the values of its question marks, in order."""

    text: str
    parameters: tuple[Value, ...] = ()


ALWAYS = Sql("1 = 1")
NEVER = Sql("0 = 1")


def both(tests: Iterable[Sql]) -> Sql:
    """Return the test that all of these hold."""
    return _joined([each for each in tests if each is not ALWAYS], " AND ", ALWAYS)


def either(tests: Iterable[Sql]) -> Sql:
    """Return the test that one of these holds."""
    return _joined(list(tests), " OR ", NEVER)


def negated(test: Sql) -> Sql:
    """Return the opposite test; no column that is tested is ever NULL."""
    return Sql(f"NOT ({test.text})", test.parameters)


def _joined(parts: list[Sql], word: str, none: Sql) -> Sql:
    if not parts:
        return none
    if len(parts) == 1:
        return parts[0]
    return Sql(
        "(" + word.join(part.text for part in parts) + ")",
        tuple(value for part in parts for value in part.parameters),
    )
