# SPDX-License-Identifier: Apache-2.0
"""Rows of trashed studies as they stand: read whole, put in again, and what both ways share."""

from collections.abc import Iterable
from typing import Any, Final

from scrigno.db.sqlite import Connection, Value

from . import dialect, rows

RAN: Final = "ran_seconds"  # the meter of seconds that the daemon has run
COUNTERS: Final = ("number_of_series", "number_of_instances", "size_bytes")

Row = dict[str, Any]


def rows_as_they_are(connection: Connection, query: str, parameters: Iterable[Value]) -> list[Row]:
    cursor = connection.execute(query, tuple(parameters))
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def columns_of(connection: Connection, table: str) -> frozenset[str]:
    cursor = connection.execute(f"SELECT * FROM {table} WHERE 0 = 1")  # noqa: S608 - our tables
    return frozenset(column[0] for column in cursor.description)


def free_numbers(connection: Connection, table: str, wanted: list[int]) -> list[int]:
    """Return these numbers where they are still free, else new ones."""
    inside = dialect.numbers_in("id", wanted)
    taken = {
        row[0]
        for row in connection.execute(
            f"SELECT id FROM {table} WHERE {inside.text}",  # noqa: S608 - our tables
            inside.parameters,
        )
    }
    last = connection.execute(f"SELECT coalesce(max(id), 0) FROM {table}").fetchone()  # noqa: S608 - our tables
    assert last is not None  # noqa: S101 - an aggregate always answers
    fresh = max(int(last[0]), *wanted)
    found: list[int] = []
    for number in wanted:
        if number in taken:
            fresh += 1
            found.append(fresh)
        else:
            found.append(number)
    return found


def insert_again(connection: Connection, table: str, row: Row) -> int:
    """Insert a row that was there once, with its number where that is free."""
    usable = columns_of(connection, table)
    number = free_numbers(connection, table, [row["id"]])[0]
    kept = {name: value for name, value in row.items() if name in usable} | {"id": number}
    rows.insert(connection, table, kept)
    return number


def exists(connection: Connection, query: str, parameter: Value) -> bool:
    return connection.execute(query, (parameter,)).fetchone() is not None


def meter(connection: Connection, name: str) -> int:
    """Return a count that only grows."""
    row = connection.execute("SELECT value FROM lifecycle_meter WHERE name = ?", (name,)).fetchone()
    return 0 if row is None else int(row[0])


def insert_copies(connection: Connection, places: Iterable[tuple[Value, ...]]) -> None:
    """Insert rows of (object, volume, was, verified_at, place, owes)."""
    connection.executemany(
        "INSERT INTO trash_copy (object, volume, was, verified_at, place, owes) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        places,
    )
