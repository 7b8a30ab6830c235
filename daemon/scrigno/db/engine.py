# SPDX-License-Identifier: Apache-2.0
"""One database file: a writer with group commit, readers, backup and checks."""

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final, Generic, TypeVar

from .errors import (
    DatabaseClosed,
    DatabaseDamaged,
    DatabaseError,
    DatabaseFull,
    DatabaseUnavailable,
    QueryInterrupted,
    translated,
)
from .migrations import Schema
from .sqlite import (
    Connection,
    EngineError,
    open_plain,
    open_reader,
    open_writer,
    require_sound_engine,
)
from .writer import NoHooks, Writer, WriterHooks

T = TypeVar("T")
I = TypeVar("I")  # noqa: E741 - an item of a batch

DEFAULT_READERS: Final = 3
# A quick_check reads the whole file; larger files are checked by `check`, in the background.
CHECK_ON_OPEN_BYTES: Final = 32 * 1024 * 1024
GENTLE_STEPS: Final = 100_000  # of the engine between two short sleeps of a gentle check


class Database:
    """A file with one writer thread and `readers` reader threads, each with its connection.

    `write` and `read` are called on the event loop and never block it; the functions they are
    given run in a thread and see only the connection. Every method raises DatabaseError.
    """

    def __init__(
        self,
        path: Path,
        schema: Schema,
        *,
        readers: int = DEFAULT_READERS,
        hooks: WriterHooks | None = None,
    ) -> None:
        """Name the file; `open` makes or migrates it."""
        self.path = path
        self._schema = schema
        self._hooks = hooks or NoHooks()
        self._reader_count = readers
        # Told on the loop of each failure of the file itself, so that somebody looks at it.
        self.on_trouble: Callable[[DatabaseError], None] = lambda error: None
        self.why_closed = ""  # what callers are told while it is closed; empty: not started
        self._writer: Writer | None = None
        self._readers: ThreadPoolExecutor | None = None
        self._reading = _Readers(path)

    async def open(self) -> None:
        """Make, check and migrate the file and start the threads.

        Raises SchemaTooNew, DatabaseDamaged, DatabaseLocked, EngineTooOld.
        """
        loop = asyncio.get_running_loop()
        connection = await asyncio.to_thread(self._prepared)
        self._writer = Writer(connection, self.path, loop, self._hooks)
        self._readers = ThreadPoolExecutor(
            self._reader_count, thread_name_prefix=f"{self.path.stem}-reader"
        )

    async def close(self) -> None:
        """Finish what is queued, checkpoint and close; idempotent."""
        writer, self._writer = self._writer, None
        readers, self._readers = self._readers, None
        if readers is not None:
            await asyncio.to_thread(readers.shutdown)
            self._reading.close()
        if writer is not None:
            await asyncio.to_thread(writer.close)

    async def __aenter__(self) -> "Database":
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def write(self, change: Callable[[Connection], T]) -> T:
        """Run `change` in the writer's transaction; on return it is durable.

        What `change` raises undoes only its own part and comes out here. A caller that is
        cancelled may find the change made.
        """
        with self._heard():
            return await self._open_writer().submit(change)

    async def write_batched(
        self,
        change: Callable[[Connection, Sequence[I]], Sequence[T | Exception]],
        item: I,
        *,
        synced: bool = True,
    ) -> T:
        """Like `write`, but items that wait for the same `change` are handed over together.

        `change` answers one result per item, in order; an exception among them is raised to
        that item's caller and must have left nothing behind. Without `synced` the change is
        committed on return (no crash of ours undoes it), and durable after the next `sync`, the
        next synced write or a checkpoint; a power cut before that may undo it.
        """
        try:  # not `_heard`: it costs as much as all the rest, and each image comes by here
            return await self._open_writer().submit_batched(change, item, synced=synced)
        except DatabaseError as error:
            self._tell(error)
            raise

    async def sync(self) -> None:
        """Make every change that was returned before durable."""
        with self._heard():
            await self._open_writer().submit(lambda _: None)

    async def read(self, query: Callable[[Connection], T]) -> T:
        """Run `query` on one consistent snapshot; cancelling the caller stops it."""
        if self._readers is None:
            raise self._closed()
        job = _ReadJob(query)
        running = asyncio.get_running_loop().run_in_executor(self._readers, self._reading.run, job)
        try:
            return await running
        except asyncio.CancelledError:
            job.stop()
            raise
        except EngineError as error:
            told = translated(error, self.path)
            if isinstance(told, DatabaseError):
                self._tell(told)
            raise told from error

    async def check(self, *, thorough: bool = True) -> list[str]:
        """Return what the engine finds wrong with the file, in its words; empty when sound."""
        pragma = "integrity_check" if thorough else "quick_check"

        def run() -> list[str]:
            try:
                connection = open_reader(self.path)
            except EngineError as error:
                return [str(translated(error, self.path))]
            try:
                found = [str(row[0]) for row in connection.execute(f"PRAGMA {pragma}").fetchall()]
                broken = connection.execute("PRAGMA foreign_key_check").fetchmany(100)
            except EngineError as error:
                found, broken = [str(translated(error, self.path))], []
            finally:
                connection.close()
            found = [] if found == ["ok"] else found
            return found + [f"row {row[1]} of {row[0]} refers to nothing" for row in broken]

        self._open_writer()
        return await asyncio.to_thread(run)

    async def backup(self, path: Path) -> None:
        """Write a consistent, checked, synced copy to `path` while the database is in use.

        The copy replaces an older file only when it is whole. Readers and the writer go on; the
        write-ahead log cannot shrink meanwhile.
        """
        self._open_writer()
        await asyncio.to_thread(self._copy_to, path)

    def _open_writer(self) -> Writer:
        if self._writer is None:
            raise self._closed()
        return self._writer

    def _closed(self) -> DatabaseClosed:
        if self.why_closed:
            return DatabaseClosed(
                f"database {self.path.name}: it is not open now: {self.why_closed}.",
                next_step="Nothing is to be done: it is opened again as soon as that works.",
            )
        return DatabaseClosed(
            f"database {self.path.name}: it is closed.", next_step="Start Scrigno."
        )

    @property
    def is_open(self) -> bool:
        """Whether it can be asked."""
        return self._writer is not None

    @property
    def failed(self) -> bool:
        """Whether the writer takes nothing more until it is opened anew: its log was not synced."""
        return self._writer is not None and self._writer.failed

    @contextmanager
    def _heard(self) -> Iterator[None]:
        """Tell of a failure of the file that passes by."""
        try:
            yield
        except DatabaseError as error:
            self._tell(error)
            raise

    def _tell(self, error: DatabaseError) -> None:
        if isinstance(error, DatabaseDamaged | DatabaseUnavailable | DatabaseFull):
            self.on_trouble(error)

    async def can_be_read(self) -> bool:
        """Tell whether a fresh connection, which has nothing cached, can read from it."""

        def run() -> bool:
            try:
                connection = open_reader(self.path)
            except EngineError:
                return False
            try:
                connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            except EngineError:
                return False
            finally:
                connection.close()
            return True

        return await asyncio.to_thread(run)

    async def check_gently(self, pause_s: float) -> list[str]:
        """Check table by table by a connection of its own, with pauses; for a running daemon.

        Each table is a read of its own, so that the write-ahead log can shrink in between.
        """
        self._open_writer()
        found: list[str] = []
        for table in await self.read(_tables):
            found += await asyncio.to_thread(self._check_table, table, pause_s)
            await asyncio.sleep(pause_s)
        return found

    def _check_table(self, table: str, pause_s: float) -> list[str]:
        try:
            connection = open_reader(self.path)
        except EngineError as error:
            return [str(translated(error, self.path))]
        try:
            # Called in the middle of the check too (since 3.42): it sleeps there.
            connection.set_progress_handler(partial(_rest, pause_s / 50), GENTLE_STEPS)
            rows = connection.execute(f'PRAGMA quick_check("{table}")').fetchall()
        except EngineError as error:
            return [str(translated(error, self.path))]
        finally:
            connection.close()
        return [] if rows == [("ok",)] else [str(row[0]) for row in rows]

    async def rescue(self, path: Path) -> None:
        """Close, and leave a copy at `path` of all that was written, when the file itself is gone.

        Only the open connections still have it. Nothing comes between the copy and the close.
        Raises DatabaseError; it is closed in any case.
        """

        def copy(connection: Connection) -> None:
            path.unlink(missing_ok=True)
            target = open_plain(path)
            try:
                connection.backup(target, pages=-1)
                _require_sound(target, path)
            finally:
                target.close()
            _synced(path)

        writer = self._open_writer()
        writer.at_the_end = copy
        await self.close()
        if writer.end_error is not None:
            raise translated(writer.end_error, path) from writer.end_error

    def _prepared(self) -> Connection:
        require_sound_engine()
        connection: Connection | None = None
        try:
            connection = open_writer(self.path)
            if self.path.stat().st_size <= CHECK_ON_OPEN_BYTES:
                _require_sound(connection, self.path)
            self._schema.apply(connection)
        except BaseException as error:
            if connection is not None:
                connection.close()
            if isinstance(error, EngineError):
                raise translated(error, self.path) from error
            raise
        return connection

    def _copy_to(self, path: Path) -> None:
        temporary = path.with_name(f".{path.name}.part")
        temporary.unlink(missing_ok=True)
        try:
            source = open_reader(self.path)
            try:
                target = open_plain(temporary)
                try:
                    # All pages in one step read one snapshot; in several steps every commit of
                    # the writer would start the copy again (sqlite.org/c3ref/backup_finish.html).
                    source.backup(target, pages=-1)
                    _require_sound(target, temporary)
                finally:
                    target.close()
            finally:
                source.close()
            _synced(temporary)
            temporary.rename(path)
            _synced(path.parent)
        except EngineError as error:
            temporary.unlink(missing_ok=True)
            raise translated(error, self.path) from error
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


class _ReadJob(Generic[T]):
    """One query; `stop` reaches it only while it runs, never the next one on its connection."""

    def __init__(self, query: Callable[[Connection], T]) -> None:
        self.query = query
        self._lock = threading.Lock()  # protects _running and _stopped
        self._running: Connection | None = None
        self._stopped = False

    def begin(self, connection: Connection) -> None:
        with self._lock:
            if self._stopped:
                raise QueryInterrupted("The query was stopped before it began.")
            self._running = connection

    def end(self) -> None:
        with self._lock:
            self._running = None

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            if self._running is not None:
                self._running.interrupt()


class _Readers:
    """A connection per reader thread, made at its first query."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._local = threading.local()
        self._connections: list[Connection] = []

    def run(self, job: "_ReadJob[T]") -> T:
        connection: Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = open_reader(self._path)
            self._connections.append(connection)
        connection.execute("BEGIN")
        try:
            job.begin(connection)
            return job.query(connection)
        finally:
            job.end()
            if connection.in_transaction:
                connection.execute("COMMIT")

    def close(self) -> None:
        while self._connections:
            self._connections.pop().close()
        self._local = threading.local()


def _require_sound(connection: Connection, path: Path) -> None:
    found = connection.execute("PRAGMA quick_check(3)").fetchall()
    if found != [("ok",)]:
        words = "; ".join(str(row[0]) for row in found)
        raise DatabaseDamaged(
            f"database {path.name}: it is damaged ({words}); nothing was changed.",
            next_step="Check the system disk, then run `scrigno rebuild-index`.",
        )


def _synced(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _rest(seconds: float) -> int:
    time.sleep(seconds)
    return 0  # go on


def _tables(connection: Connection) -> list[str]:
    return [
        str(row[0])
        for row in connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%'"
        )
    ]
