# SPDX-License-Identifier: Apache-2.0
"""Schemas grow step by step, and a newer one is refused or used as its author allowed."""

from pathlib import Path

import pytest
import sqlite_utils

from scrigno.db.engine import Database
from scrigno.db.errors import SchemaTooNew
from scrigno.db.migrations import Schema
from scrigno.db.sqlite import Connection


def first(database: sqlite_utils.Database) -> None:
    database.table("note").create({"id": int, "text": str}, pk="id")


def second(database: sqlite_utils.Database) -> None:
    database.table("note").add_column("colour", str)
    database.execute("UPDATE note SET colour = 'red'")


def third(database: sqlite_utils.Database) -> None:
    database.table("note").create_index(["colour"])


def broken(database: sqlite_utils.Database) -> None:
    database.table("note").add_column("size", int)
    raise RuntimeError("half of a step")


def notes(connection: Connection) -> list[tuple[object, ...]]:
    return connection.execute("SELECT * FROM note").fetchall()


async def make(path: Path, *steps: object, compat: int = 1) -> None:
    async with Database(path, Schema("notes", steps, compat=compat)):  # type: ignore[arg-type]
        pass


async def test_an_old_database_is_brought_up_step_by_step(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    async with Database(path, Schema("notes", (first,), compat=1)) as database:
        await database.write(lambda c: c.execute("INSERT INTO note (text) VALUES ('old')"))
    schema = Schema("notes", (first, second, third), compat=2)
    async with Database(path, schema) as database:
        assert await database.read(notes) == [(1, "old", "red")]
        assert await database.read(schema.recorded) == (3, 2)
    async with Database(path, schema) as database:  # again: nothing is done twice
        assert await database.read(notes) == [(1, "old", "red")]


async def test_a_step_that_fails_leaves_the_version_before_it(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    with pytest.raises(RuntimeError, match="half of a step"):
        await make(path, first, second, broken)
    schema = Schema("notes", (first, second), compat=1)
    async with Database(path, schema) as database:
        columns = await database.read(
            lambda c: [row[1] for row in c.execute("PRAGMA table_info(note)")]
        )
        assert columns == ["id", "text", "colour"]
        assert (await database.read(schema.recorded))[0] == 2


async def test_a_newer_database_that_would_be_harmed_is_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    await make(path, first, second, third, compat=3)
    before = path.read_bytes()
    with pytest.raises(SchemaTooNew) as told:
        await make(path, first)
    assert "schema 3" in told.value.reason
    assert "newer" in told.value.reason
    assert told.value.next_step
    assert path.read_bytes() == before


async def test_a_newer_database_that_allows_it_is_used_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    await make(path, first, second, third, compat=1)
    schema = Schema("notes", (first,), compat=1)
    async with Database(path, schema) as database:
        assert await database.read(schema.recorded) == (3, 1)
