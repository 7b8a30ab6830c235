# SPDX-License-Identifier: Apache-2.0
"""How SQLite is opened here, and everything that only SQLite understands."""

import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Protocol, cast

from pysqlite3 import dbapi2

from .errors import EngineTooOld

# The WAL-reset defect of 3.7.0 - 3.51.2 loses commits when several connections share a WAL file
# (https://sqlite.org/wal.html#walresetbug).
OLDEST_SOUND_ENGINE: Final = (3, 51, 3)
BUSY_TIMEOUT_MS: Final = 5_000
WRITER_CACHE_KIB: Final = 32 * 1024
READER_CACHE_KIB: Final = 8 * 1024  # per connection; the page cache of the system does the rest
CHECKPOINT_PAGES: Final = 16_000  # 64 MiB; the writer checkpoints when idle, this is the limit
JOURNAL_SIZE_LIMIT: Final = 64 * 1024 * 1024
STATEMENTS_KEPT: Final = 256

Value = str | int | float | bytes | None
Row = tuple[Any, ...]


class Cursor(Protocol):
    """The part of a DB-API cursor that is used here."""

    lastrowid: int
    rowcount: int
    description: Sequence[tuple[str, ...]]

    def fetchone(self) -> Row | None: ...
    def fetchall(self) -> list[Row]: ...
    def fetchmany(self, size: int) -> list[Row]: ...
    def __iter__(self) -> Iterator[Row]: ...


class Connection(Protocol):
    """The part of a DB-API connection that is used here; transactions belong to the engine."""

    in_transaction: bool
    total_changes: int

    def execute(self, sql: str, parameters: Sequence[Value] = ..., /) -> Cursor: ...
    def executemany(self, sql: str, rows: Iterable[Sequence[Value]], /) -> Cursor: ...
    def interrupt(self) -> None: ...
    def close(self) -> None: ...
    def backup(self, target: "Connection", *, pages: int = ...) -> None: ...
    def set_progress_handler(self, handler: Callable[[], int], steps: int, /) -> None: ...


EngineError: Final[type[Exception]] = dbapi2.Error


def require_sound_engine() -> None:
    """Raise EngineTooOld unless the library is free of the WAL-reset defect."""
    found = tuple(dbapi2.sqlite_version_info)
    if found < OLDEST_SOUND_ENGINE:
        wanted = ".".join(map(str, OLDEST_SOUND_ENGINE))
        raise EngineTooOld(
            f"SQLite {dbapi2.sqlite_version} can lose committed rows.",
            next_step=f"Install a pysqlite3 that carries SQLite {wanted} or newer.",
        )


def open_writer(path: Path) -> Connection:
    """Open the one connection that writes, making the file when there is none.

    `unix-excl` keeps the index of the write-ahead log in heap memory: no `-shm` file is mapped,
    so a filesystem that shuts down gives an error instead of SIGBUS, and a second process is
    refused, while the readers of this process share the log.
    """
    connection = _connect(path, mode="rwc")
    execute = connection.execute
    execute("PRAGMA journal_mode = WAL").fetchall()
    # Commits are consistent in any order of events; the writer syncs the log for those who wait.
    execute("PRAGMA synchronous = NORMAL")
    execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}").fetchall()
    execute(f"PRAGMA journal_size_limit = {JOURNAL_SIZE_LIMIT}").fetchall()
    execute(f"PRAGMA cache_size = -{WRITER_CACHE_KIB}")
    execute("PRAGMA foreign_keys = ON")
    return connection


def open_reader(path: Path) -> Connection:
    """Open a connection that cannot write."""
    connection = _connect(path, mode="rw")
    connection.execute("PRAGMA query_only = ON")
    connection.execute(f"PRAGMA cache_size = -{READER_CACHE_KIB}")
    return connection


def open_plain(path: Path) -> Connection:
    """Open a file nobody else uses, with no write-ahead log: the target of a backup."""
    connection = _connect(path, mode="rwc")
    connection.execute("PRAGMA synchronous = OFF")  # the caller syncs the finished file once
    return connection


def _connect(path: Path, *, mode: str) -> Connection:
    quoted = urllib.parse.quote(str(path.absolute()))
    connection = cast(
        "Connection",
        dbapi2.connect(
            f"file:{quoted}?mode={mode}&vfs=unix-excl",
            uri=True,
            timeout=BUSY_TIMEOUT_MS / 1000,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=STATEMENTS_KEPT,
        ),
    )
    connection.execute("PRAGMA mmap_size = 0").fetchall()
    return connection


def like_escaped(text: str) -> str:
    r"""Return `text` as a literal inside a LIKE pattern with `ESCAPE '\'`."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
