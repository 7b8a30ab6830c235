# SPDX-License-Identifier: Apache-2.0
"""A database file that nobody has open: told sound from damaged, set aside, replaced."""

import asyncio
import errno
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from scrigno.db import file as dbfile
from scrigno.db.engine import Database
from scrigno.db.errors import DatabaseClosed, DatabaseDamaged, DatabaseError, DatabaseUnavailable
from scrigno.db.migrations import Schema

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def _first(database) -> None:
    database.execute("CREATE TABLE word (id INTEGER PRIMARY KEY, text TEXT)")
    database.execute("CREATE INDEX word_by_text ON word(text)")


SCHEMA = Schema("words", (_first,), compat=1)


async def made(path: Path, words: int = 5000) -> None:
    async with Database(path, SCHEMA) as database:
        await database.write(
            lambda c: c.executemany(
                "INSERT INTO word (text) VALUES (?)", [(f"word {n}" * 5,) for n in range(words)]
            )
        )


def spoil(path: Path, *, page: int = 20) -> None:
    with path.open("r+b") as file:
        file.seek(page * 4096 + 100)
        file.write(b"\xa5" * 2000)


async def test_a_sound_file_is_told_from_a_damaged_one(tmp_path: Path) -> None:
    path = tmp_path / "words.db"
    await made(path)
    report = await asyncio.to_thread(dbfile.inspect, path, SCHEMA)
    assert (report.sound, report.version, report.compat) == (True, 1, 1)
    spoil(path)
    assert not (await asyncio.to_thread(dbfile.inspect, path, SCHEMA)).sound
    path.write_bytes(b"no database at all" * 1000)
    assert not (await asyncio.to_thread(dbfile.inspect, path, SCHEMA)).sound
    with pytest.raises(DatabaseDamaged):
        await asyncio.to_thread(dbfile.inspect, tmp_path / "nothing.db", SCHEMA)


def test_a_file_is_set_aside_with_its_log_and_never_overwrites_another(
    tmp_path: Path,
) -> None:
    path = tmp_path / "words.db"
    names = []
    for number in range(3):
        path.write_bytes(b"%d" % number)
        (tmp_path / "words.db-wal").write_bytes(b"log %d" % number)
        target = dbfile.set_aside(path, NOW)
        assert target is not None
        names.append(target.name)
        assert target.read_bytes() == b"%d" % number
        assert target.with_name(target.name + "-wal").read_bytes() == b"log %d" % number
    assert len(set(names)) == 3
    assert names[0] == "words.db.aside-20260301T120000Z"
    assert [each.name for each in dbfile.aside(path)] == sorted(names)
    assert dbfile.set_aside(path, NOW) is None
    path.write_bytes(b"in use")
    (tmp_path / "fresh").write_bytes(b"fresh")
    with pytest.raises(FileExistsError):
        dbfile.put_in_force(tmp_path / "fresh", path)
    path.unlink()
    dbfile.put_in_force(tmp_path / "fresh", path)
    assert path.read_bytes() == b"fresh"


def test_the_canary_sees_a_disk_that_is_full_or_gives_back_other_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dbfile.canary(tmp_path)
    assert list(tmp_path.iterdir()) == []

    def full(fd: int, content: bytes) -> int:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(DatabaseUnavailable, match="No space"):
            dbfile.canary(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", lambda fd, size, offset: b"other")
        with pytest.raises(DatabaseUnavailable, match="other bytes"):
            dbfile.canary(tmp_path)
    assert list(tmp_path.iterdir()) == []


async def test_trouble_with_the_file_is_told_to_whoever_listens(tmp_path: Path) -> None:
    path = tmp_path / "words.db"
    await made(path, 20_000)
    told: list[DatabaseError] = []
    database = Database(path, SCHEMA, readers=1)
    database.on_trouble = told.append
    await database.open()
    assert await database.check_gently(0.001) == []
    for page in range(10, 200):
        spoil(path, page=page)
    with pytest.raises(DatabaseDamaged):
        await database.read(lambda c: c.execute("SELECT count(text) FROM word").fetchall())
    assert [type(error) for error in told] == [DatabaseDamaged]
    assert await database.check_gently(0.001) != []
    await database.close()
    database.why_closed = "its disk is being looked at"
    with pytest.raises(DatabaseClosed, match="being looked at"):
        await database.read(lambda c: None)
    assert len(told) == 1


async def test_a_file_that_was_deleted_under_an_open_database_is_rescued(tmp_path: Path) -> None:
    path = tmp_path / "words.db"
    await made(path, 100)
    async with Database(path, SCHEMA) as database:
        await database.write(lambda c: c.execute("INSERT INTO word (text) VALUES ('last')"))
        for each in tmp_path.glob("words.db*"):
            each.unlink()
        await database.rescue(tmp_path / "rescued.db")
    (tmp_path / "rescued.db").rename(path)
    async with Database(path, SCHEMA) as database:
        (count,) = await database.read(lambda c: c.execute("SELECT count(*) FROM word").fetchone())
        assert count == 101
