# SPDX-License-Identifier: Apache-2.0
"""The engine on real files: group commit, readers, isolation of failures, backup, refusal."""

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import sqlite_utils
from pysqlite3 import dbapi2

from scrigno.db.engine import Database
from scrigno.db.errors import (
    DatabaseClosed,
    DatabaseDamaged,
    DatabaseFull,
    DatabaseLocked,
    DatabaseUnavailable,
)
from scrigno.db.migrations import Schema
from scrigno.db.sqlite import OLDEST_SOUND_ENGINE, Connection


def make_notes(database: sqlite_utils.Database) -> None:
    database.table("note").create({"id": int, "text": str}, pk="id", not_null={"text"})


SCHEMA = Schema("notes", (make_notes,), compat=1)


class Hooks:
    """Counts what the engine says; `fails` makes the next commit impossible."""

    def __init__(self) -> None:
        self.commits = self.undone_jobs = self.undone_groups = 0
        self.fails = False

    def before_commit(self, connection: Connection) -> None:
        if self.fails:
            self.fails = False
            raise ValueError("no commit")
        self.commits += 1

    def job_done(self) -> None:
        pass

    def job_undone(self) -> None:
        self.undone_jobs += 1

    def group_undone(self) -> None:
        self.undone_groups += 1


@pytest.fixture
def hooks() -> Hooks:
    return Hooks()


@pytest.fixture
async def database(tmp_path: Path, hooks: Hooks) -> AsyncIterator[Database]:
    async with Database(tmp_path / "notes.db", SCHEMA, hooks=hooks) as opened:
        yield opened


def insert(text: str | None) -> "Insert":
    return Insert(text)


class Insert:
    """A change that adds one note."""

    def __init__(self, text: str | None) -> None:
        self.text = text

    def __call__(self, connection: Connection) -> int:
        return connection.execute("INSERT INTO note (text) VALUES (?)", (self.text,)).lastrowid


def texts(connection: Connection) -> list[str]:
    return [row[0] for row in connection.execute("SELECT text FROM note ORDER BY id")]


class Held:
    """A change that keeps the writer busy until it is let go."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.go_on = threading.Event()

    def __call__(self, connection: Connection) -> None:
        connection.execute("INSERT INTO note (text) VALUES ('held')")
        self.began.set()
        assert self.go_on.wait(10)


async def began(held: Held) -> None:
    await asyncio.to_thread(held.began.wait, 10)


def test_the_engine_is_free_of_the_wal_reset_defect() -> None:
    assert dbapi2.sqlite_version_info >= OLDEST_SOUND_ENGINE


async def test_a_write_is_there_after_the_file_is_opened_again(tmp_path: Path) -> None:
    async with Database(tmp_path / "notes.db", SCHEMA) as first:
        assert await first.write(insert("kept")) == 1
    async with Database(tmp_path / "notes.db", SCHEMA) as second:
        assert await second.read(texts) == ["kept"]


async def test_the_log_is_consistent_and_nothing_is_mapped(database: Database) -> None:
    await database.write(insert("one"))
    modes = await database.write(
        lambda connection: [
            connection.execute(f"PRAGMA {name}").fetchone()
            for name in ("journal_mode", "synchronous", "mmap_size")
        ]
    )
    assert modes == [("wal",), (1,), (0,)]  # the writer syncs the log, see the power cuts
    assert await database.read(lambda c: c.execute("PRAGMA mmap_size").fetchone()) == (0,)
    assert sorted(os.listdir(database.path.parent)) == ["notes.db", "notes.db-wal"]
    assert "notes.db" not in Path("/proc/self/maps").read_text()


async def test_readers_do_not_wait_for_the_writer(database: Database) -> None:
    await database.write(insert("before"))
    held = Held()
    writing = asyncio.create_task(database.write(held))
    await began(held)
    async with asyncio.timeout(5):
        assert await database.read(texts) == ["before"]
    held.go_on.set()
    await writing
    assert await database.read(texts) == ["before", "held"]


async def test_a_read_sees_one_snapshot(database: Database) -> None:
    await database.write(insert("one"))
    first, second = threading.Event(), threading.Event()

    def twice(connection: Connection) -> tuple[list[str], list[str]]:
        before = texts(connection)
        first.set()
        assert second.wait(10)
        return before, texts(connection)

    reading = asyncio.create_task(database.read(twice))
    await asyncio.to_thread(first.wait, 10)
    await database.write(insert("two"))
    second.set()
    assert await reading == (["one"], ["one"])


async def test_writes_that_wait_share_one_commit(database: Database, hooks: Hooks) -> None:
    held = Held()
    writing = asyncio.create_task(database.write(held))
    await began(held)
    others = [asyncio.create_task(database.write(insert(f"{n}"))) for n in range(100)]
    await asyncio.sleep(0)  # they are queued now
    before = hooks.commits
    held.go_on.set()
    numbers = await asyncio.gather(*others)
    await writing
    assert numbers == list(range(2, 102))
    assert hooks.commits - before <= 2


async def test_a_failing_write_undoes_only_itself(database: Database, hooks: Hooks) -> None:
    def halfway(connection: Connection) -> None:
        connection.execute("INSERT INTO note (text) VALUES ('half')")
        raise LookupError("my own reason")

    held = Held()
    writing = asyncio.create_task(database.write(held))
    await began(held)
    before = asyncio.create_task(database.write(insert("before")))
    failing = asyncio.create_task(database.write(halfway))
    after = asyncio.create_task(database.write(insert("after")))
    await asyncio.sleep(0)
    held.go_on.set()
    await asyncio.gather(writing, before, after)
    with pytest.raises(LookupError, match="my own reason"):
        await failing
    assert await database.read(texts) == ["held", "before", "after"]
    assert (hooks.undone_jobs, hooks.undone_groups) == (1, 0)


async def test_a_commit_that_fails_is_told_to_every_caller(
    database: Database, hooks: Hooks
) -> None:
    held = Held()
    writing = asyncio.create_task(database.write(held))
    await began(held)
    other = asyncio.create_task(database.write(insert("other")))
    await asyncio.sleep(0)
    hooks.fails = True
    held.go_on.set()
    outcomes = await asyncio.gather(writing, other, return_exceptions=True)
    assert all(isinstance(outcome, ValueError) for outcome in outcomes)
    assert hooks.undone_groups == 1
    assert await database.read(texts) == []
    await database.write(insert("works again"))
    assert await database.read(texts) == ["works again"]


async def test_items_of_one_change_are_handed_over_together(database: Database) -> None:
    batches: list[int] = []

    def add(connection: Connection, items: Sequence[str]) -> list[int | Exception]:
        batches.append(len(items))
        results: list[int | Exception] = []
        for item in items:
            if item == "refused":
                results.append(KeyError(item))
            else:
                results.append(insert(item)(connection))
        return results

    held = Held()
    writing = asyncio.create_task(database.write(held))
    await began(held)
    items = [asyncio.create_task(database.write_batched(add, f"{n}")) for n in range(10)]
    refused = asyncio.create_task(database.write_batched(add, "refused"))
    alone = asyncio.create_task(database.write(insert("alone")))
    later = asyncio.create_task(database.write_batched(add, "later"))
    await asyncio.sleep(0)
    held.go_on.set()
    assert await asyncio.gather(*items) == list(range(2, 12))
    with pytest.raises(KeyError, match="refused"):
        await refused
    await asyncio.gather(writing, alone, later)
    assert batches == [11, 1]
    assert await database.read(texts) == ["held", *map(str, range(10)), "alone", "later"]


async def test_a_batch_that_fails_is_tried_one_by_one(database: Database) -> None:
    def add(connection: Connection, items: Sequence[str | None]) -> list[int | Exception]:
        return [insert(item)(connection) for item in items]

    held = Held()
    writing = asyncio.create_task(database.write(held))
    await began(held)
    good = asyncio.create_task(database.write_batched(add, "good"))
    bad = asyncio.create_task(database.write_batched(add, None))
    fine = asyncio.create_task(database.write_batched(add, "fine"))
    await asyncio.sleep(0)
    held.go_on.set()
    await asyncio.gather(writing, good, fine)
    with pytest.raises(dbapi2.IntegrityError):
        await bad
    assert await database.read(texts) == ["held", "good", "fine"]


async def test_a_full_disk_is_told_and_nothing_is_lost(database: Database, hooks: Hooks) -> None:
    await database.write(insert("kept"))

    def shrink(connection: Connection) -> None:
        connection.execute("PRAGMA max_page_count = 12").fetchone()

    def much(connection: Connection) -> None:
        connection.execute("INSERT INTO note (text) VALUES (?)", ("x" * 100_000,))

    await database.write(shrink)
    with pytest.raises(DatabaseFull, match="disk is full") as told:
        await database.write(much)
    assert told.value.next_step
    await database.write(insert("small"))
    assert await database.read(texts) == ["kept", "small"]


async def test_a_reader_cannot_write(database: Database) -> None:
    with pytest.raises(DatabaseUnavailable, match="readonly"):
        await database.read(insert("never"))
    assert await database.read(texts) == []


async def test_a_cancelled_read_stops_and_leaves_its_reader_usable(tmp_path: Path) -> None:
    async with Database(tmp_path / "notes.db", SCHEMA, readers=1) as database:
        started = threading.Event()

        def endless(connection: Connection) -> None:
            started.set()
            connection.execute(
                "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) "
                "SELECT max(x) FROM n"
            ).fetchone()

        reading = asyncio.create_task(database.read(endless))
        await asyncio.to_thread(started.wait, 10)
        await asyncio.sleep(0.05)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        async with asyncio.timeout(5):
            assert await database.read(texts) == []


async def test_close_finishes_what_is_queued_and_may_be_called_twice(tmp_path: Path) -> None:
    database = Database(tmp_path / "notes.db", SCHEMA)
    await database.open()
    waiting = [asyncio.create_task(database.write(insert(f"{n}"))) for n in range(20)]
    await asyncio.sleep(0)
    await database.close()
    assert await asyncio.gather(*waiting) == list(range(1, 21))
    await database.close()
    for use in (database.write(insert("late")), database.read(texts), database.check()):
        with pytest.raises(DatabaseClosed):
            await use
    assert os.listdir(tmp_path) == ["notes.db"]  # the log was taken over


async def test_a_second_process_is_refused_in_words(database: Database) -> None:
    script = (
        "import asyncio, sys; from pathlib import Path; sys.path.insert(0, sys.argv[2])\n"
        "from scrigno.db import engine, errors, sqlite; from scrigno.db.migrations import Schema\n"
        "sqlite.BUSY_TIMEOUT_MS = 50\n"
        "async def main():\n"
        "    try:\n"
        "        await engine.Database(Path(sys.argv[1]), Schema('notes', (), compat=0)).open()\n"
        "    except errors.DatabaseLocked as error:\n"
        "        print(error.sentence())\n"
        "asyncio.run(main())\n"
    )
    source = str(Path(__file__).parents[2] / "daemon")
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, database.path, source, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await asyncio.wait_for(child.communicate(), 20)
    assert "another process has it open" in out.decode()
    assert DatabaseLocked.code == "database-locked"


async def test_a_backup_of_a_busy_database_is_whole(database: Database, tmp_path: Path) -> None:
    await asyncio.gather(*(database.write(insert("x" * 2000)) for _ in range(500)))
    stop = asyncio.Event()

    async def keep_writing() -> None:
        while not stop.is_set():
            await database.write(insert("meanwhile"))

    writing = asyncio.create_task(keep_writing())
    copy = tmp_path / "copy" / "notes.db"
    copy.parent.mkdir()
    copy.write_bytes(b"an older backup")
    await database.backup(copy)
    stop.set()
    await writing
    assert os.listdir(copy.parent) == ["notes.db"]
    async with Database(copy, SCHEMA) as restored:
        found = await restored.read(texts)
        assert found[:500] == ["x" * 2000] * 500
        assert await restored.check() == []


async def test_a_backup_that_fails_keeps_the_older_one(database: Database, tmp_path: Path) -> None:
    older = tmp_path / "older.db"
    older.write_bytes(b"an older backup")
    (tmp_path / ".older.db.part").mkdir()  # in the way of the new one
    with pytest.raises(OSError, match="older"):
        await database.backup(older)
    assert older.read_bytes() == b"an older backup"


async def test_a_damaged_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    async with Database(path, SCHEMA) as database:
        await asyncio.gather(*(database.write(insert("x" * 3000)) for _ in range(100)))
    damaged = bytearray(path.read_bytes())
    middle = len(damaged) // 2  # among the rows: the schema can still be read
    damaged[middle : middle + 32768] = os.urandom(32768)
    path.write_bytes(damaged)
    with pytest.raises(DatabaseDamaged) as told:
        await Database(path, SCHEMA).open()
    assert "rebuild-index" in told.value.sentence()
    assert "disk" in told.value.sentence()
    assert path.read_bytes() == damaged


async def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    path.write_bytes(b"this is no database at all" * 100)
    with pytest.raises(DatabaseDamaged):
        await Database(path, SCHEMA).open()
    assert path.read_bytes() == b"this is no database at all" * 100


async def test_check_names_what_is_wrong(database: Database) -> None:
    await asyncio.gather(*(database.write(insert("x" * 3000)) for _ in range(50)))
    assert await database.check() == []
    # another row behind the back of an index is what a check is for
    await database.write(lambda c: c.execute("CREATE INDEX note_by_text ON note (text)"))
    await database.write(lambda c: c.execute("PRAGMA writable_schema = ON"))
    await database.write(
        lambda c: c.execute(
            "UPDATE sqlite_master SET sql = 'CREATE INDEX note_by_text ON note (id)' "
            "WHERE name = 'note_by_text'"
        )
    )
    await database.close()
    await database.open()
    assert await database.check()
