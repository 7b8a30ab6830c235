# SPDX-License-Identifier: Apache-2.0
"""What of a database is left after the power went: FS_IOC_SHUTDOWN without a flush."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import sqlite_utils

from loopfs import loop_filesystem
from scrigno.db.engine import Database
from scrigno.db.errors import DatabaseError
from scrigno.db.migrations import Schema
from scrigno.db.sqlite import Connection


def make_table(database: sqlite_utils.Database) -> None:
    database.table("n").create({"t": str})


SCHEMA = Schema("power", (make_table,), compat=1)


def insert(text: str) -> Callable[[Connection], object]:
    return lambda connection: connection.execute("INSERT INTO n VALUES (?)", (text,)).fetchall()


def insert_all(connection: Connection, items: Sequence[str]) -> list[str | Exception]:
    connection.executemany("INSERT INTO n VALUES (?)", [(item,) for item in items])
    return list(items)


def texts(connection: Connection) -> set[str]:
    return {str(row[0]) for row in connection.execute("SELECT t FROM n").fetchall()}


@pytest.mark.spec("DB-1")
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
async def test_what_a_write_answered_survives_a_power_cut(tmp_path: Path, kind: str) -> None:
    with loop_filesystem(tmp_path, "state", kind=kind) as disk:
        database = Database(disk.mount_point / "notes.db", SCHEMA)
        await database.open()
        for number in range(20):
            await database.write(insert(f"written {number}"))
            await database.write_batched(insert_all, f"committed {number}", synced=False)
        await database.sync()
        disk.shutdown(2)
        with pytest.raises(DatabaseError):
            await database.write(insert("after the end"))
        await database.close()
        disk.unmount()
        disk.mount()
        async with Database(disk.mount_point / "notes.db", SCHEMA) as again:
            found = await again.read(texts)
            assert await again.check() == []
    assert found == {
        f"{kind} {number}" for kind in ("written", "committed") for number in range(20)
    }


async def test_after_a_sync_that_failed_the_database_is_used_no_more(tmp_path: Path) -> None:
    with loop_filesystem(tmp_path, "state") as disk:
        database = Database(disk.mount_point / "notes.db", SCHEMA)
        await database.open()
        await database.write(insert("first"))
        disk.shutdown(2)
        for _ in range(3):
            with pytest.raises(DatabaseError) as refused:
                await database.write(insert("lost"))
            assert refused.value.next_step
        await database.close()
