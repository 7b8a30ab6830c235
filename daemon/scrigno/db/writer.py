# SPDX-License-Identifier: Apache-2.0
"""The writer thread: whatever waits when it is free shares one transaction and one fsync.

A commit itself only appends to the write-ahead log (synchronous=NORMAL: always consistent, not yet
durable). The log is synced before anybody is answered whose job asks for it; a job that is safe
without, because its caller can make it again after a crash, is answered at once.
"""

import asyncio
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from .errors import DatabaseClosed, DatabaseUnavailable, translated
from .sqlite import Connection, EngineError

log = logging.getLogger(__name__)

T = TypeVar("T")
I = TypeVar("I")  # noqa: E741 - an item of a batch

# A group ends early so that its first caller does not wait for an endless stream of others.
GROUP_JOBS: Final = 512
GROUP_SECONDS: Final = 0.05
BATCH_ITEMS: Final = 64
IDLE_BEFORE_CHECKPOINT_S: Final = 0.5


class WriterHooks(Protocol):
    """What a room does around the writer's transactions; called in the writer thread."""

    def before_commit(self, connection: Connection) -> None:
        """Write what was gathered in memory; raising undoes the whole group."""

    def job_done(self) -> None:
        """One job, or one batch, went through; its rows are kept unless the group fails."""

    def job_undone(self) -> None:
        """One job was rolled back: rows it had seen or made may not exist."""

    def group_undone(self) -> None:
        """Every job since the last commit was rolled back."""


class NoHooks:
    """Nothing is done around transactions."""

    def before_commit(self, connection: Connection) -> None:
        """Do nothing."""

    def job_done(self) -> None:
        """Do nothing."""

    def job_undone(self) -> None:
        """Do nothing."""

    def group_undone(self) -> None:
        """Do nothing."""


class _Job:
    """A change and who waits for it; a batched job has an item."""

    __slots__ = ("batched", "change", "future", "item", "synced")

    def __init__(
        self,
        change: Callable[..., Any],
        future: "asyncio.Future[Any]",
        item: object = None,
        *,
        batched: bool = False,
        synced: bool = True,
    ) -> None:
        self.change = change
        self.future = future
        self.item = item
        self.batched = batched
        self.synced = synced


_Outcome = tuple["asyncio.Future[Any]", object, Exception | None]


class _GroupLost(Exception):
    """The engine rolled the whole transaction back by itself."""


class Writer:
    """Owns the writing connection and its thread."""

    def __init__(
        self,
        connection: Connection,
        path: Path,
        loop: asyncio.AbstractEventLoop,
        hooks: WriterHooks,
    ) -> None:
        """Start the thread."""
        self._connection = connection
        self._path = path
        self._loop = loop
        self._hooks = hooks
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._held: _Job | None = None  # taken from the queue but belongs to the next step
        self._log = -1  # the write-ahead log, open for syncing since the first time
        self._must_sync = False  # somebody in the running group waits for more than the commit
        self._synced_changes = 0  # how many of the connection's changes are durable
        self._failed: DatabaseUnavailable | None = None  # a sync failed: what it lost is unknown
        self._closing = False
        # Done with the connection when nothing more can be written, before it is closed.
        self.at_the_end: Callable[[Connection], None] = lambda connection: None
        self.end_error: Exception | None = None  # what that ended with
        self._thread = threading.Thread(target=self._run, name=f"{path.stem}-writer", daemon=True)
        self._thread.start()

    @property
    def failed(self) -> bool:
        """Whether a sync failed, after which nothing more is taken."""
        return self._failed is not None

    async def submit(self, change: Callable[[Connection], T]) -> T:
        """Queue `change`; return its result once it is durable."""
        future: asyncio.Future[T] = self._loop.create_future()
        self._jobs.put(_Job(change, future))
        return await future

    async def submit_batched(
        self,
        change: Callable[[Connection, Sequence[I]], Sequence[T | Exception]],
        item: I,
        *,
        synced: bool = True,
    ) -> T:
        """Queue `item` for `change`; return its result once it is committed, `synced`: durable."""
        future: asyncio.Future[T] = self._loop.create_future()
        self._jobs.put(_Job(change, future, item, batched=True, synced=synced))
        return await future

    def close(self) -> None:
        """Finish what is queued and close the connection; blocks, idempotent."""
        if not self._closing:
            self._closing = True
            self._jobs.put(None)
        self._thread.join()

    # in the writer thread ------------------------------------------------------------------------

    def _run(self) -> None:
        dirty = False
        while True:
            try:
                job = self._jobs.get(timeout=IDLE_BEFORE_CHECKPOINT_S if dirty else None)
            except queue.Empty:
                self._checkpoint("PASSIVE")
                dirty = False
                continue
            if job is None:
                break
            self._answer(self._group(job))
            dirty = True
            if self._closing and self._jobs.empty():
                break
        self._refuse_the_rest()
        self._checkpoint("TRUNCATE")
        try:
            self.at_the_end(self._connection)
        except Exception as error:  # noqa: BLE001 - whoever closes is told
            self.end_error = error
        self._connection.close()
        if self._log >= 0:
            os.close(self._log)
            self._log = -1

    def _group(self, first: _Job) -> list[_Outcome]:
        """Run `first` and whatever waits in one transaction; return who is to be told what."""
        done: list[_Outcome] = []
        self._must_sync = False
        try:
            if self._failed is not None:
                raise self._failed
            self._connection.execute("BEGIN IMMEDIATE")
            self._run_jobs(first, done)
            self._hooks.before_commit(self._connection)
            self._connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - every caller of the group is told
            return self._undo_group(first, done, error)
        if self._must_sync and self._connection.total_changes != self._synced_changes:
            try:
                self._sync_log()
            except OSError as error:
                self._failed = DatabaseUnavailable(
                    f"database {self._path.name}: its log cannot be made durable "
                    f"({os.strerror(error.errno or 0)}); it is used no more.",
                    next_step="Check the system disk, then start the daemon again.",
                )
                log.error("%s", self._failed.reason)  # noqa: TRY400 - the reason says it all
                return [(future, None, self._failed) for future, _, _ in done]
        return done

    def _sync_log(self) -> None:
        """Make every commit so far durable; a failed sync is never repeated (fsync(2))."""
        if self._log < 0:
            # The log lives as long as the connection. Its name is made durable once.
            self._log = os.open(f"{self._path}-wal", os.O_RDWR | os.O_CLOEXEC)
            folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        os.fdatasync(self._log)
        self._synced_changes = self._connection.total_changes

    def _undo_group(self, first: _Job, done: list[_Outcome], error: Exception) -> list[_Outcome]:
        cause = error.__cause__ if isinstance(error, _GroupLost) else error
        assert isinstance(cause, Exception)  # noqa: S101 - _GroupLost is always chained
        if self._connection.in_transaction:
            try:
                self._connection.execute("ROLLBACK")
            except EngineError:
                log.exception("database %s: a rollback failed", self._path.name)
        self._hooks.group_undone()
        told = translated(cause, self._path)
        lost = done or [(first.future, None, None)]
        if self._held is not None:
            lost.append((self._held.future, None, None))
            self._held = None
        return [(future, None, own or told) for future, _, own in lost]

    def _run_jobs(self, first: _Job, done: list[_Outcome]) -> None:
        job: _Job | None = first
        ends = time.monotonic() + GROUP_SECONDS
        while job is not None:
            batch = [job]
            if job.batched:
                self._fill(batch)
            # listed before they run, so that a lost group tells every one of them
            start = len(done)
            done.extend((each.future, None, None) for each in batch)
            done[start:] = self._run_batch(batch)
            if len(done) >= GROUP_JOBS or time.monotonic() >= ends:
                break
            job = self._next()
        if self._held is not None:
            # It was taken from the queue to see whether it belonged to the batch: run it here.
            last, self._held = self._held, None
            start = len(done)
            done.append((last.future, None, None))
            done[start:] = self._run_batch([last])

    def _next(self) -> _Job | None:
        held, self._held = self._held, None
        if held is not None:
            return held
        try:
            job = self._jobs.get_nowait()
        except queue.Empty:
            return None
        if job is None:
            self._closing = True
        return job

    def _fill(self, batch: list[_Job]) -> None:
        """Add the jobs that wait for the same change, in order."""
        while len(batch) < BATCH_ITEMS:
            job = self._next()
            if job is None:
                return
            if not job.batched or job.change != batch[0].change:
                self._held = job
                return
            batch.append(job)

    def _run_batch(self, batch: list[_Job]) -> list[_Outcome]:
        """Run one job, or the jobs of one batch; a batch that fails is run one by one."""
        self._must_sync = self._must_sync or any(job.synced for job in batch)
        try:
            results = self._in_savepoint(batch)
        except _GroupLost:
            raise
        except Exception as error:  # noqa: BLE001 - the caller gets it
            if len(batch) == 1:
                return [(batch[0].future, None, translated(error, self._path))]
            return [outcome for job in batch for outcome in self._run_batch([job])]
        return [
            (job.future, None, result)
            if isinstance(result, Exception)
            else (job.future, result, None)
            for job, result in zip(batch, results, strict=True)
        ]

    def _in_savepoint(self, batch: list[_Job]) -> Sequence[object]:
        execute = self._connection.execute
        execute("SAVEPOINT job")
        try:
            if batch[0].batched:
                results: Sequence[object] = batch[0].change(
                    self._connection, [job.item for job in batch]
                )
            else:
                results = [batch[0].change(self._connection)]
        except BaseException as error:
            if not self._connection.in_transaction:
                # Full disk, I/O error, damage: the engine has already undone everything.
                raise _GroupLost from error
            execute("ROLLBACK TO job")
            execute("RELEASE job")
            self._hooks.job_undone()
            raise
        execute("RELEASE job")
        self._hooks.job_done()
        return results

    def _checkpoint(self, kind: str) -> None:
        try:
            self._connection.execute(f"PRAGMA wal_checkpoint({kind})").fetchall()
        except EngineError as error:
            # Committed rows stand in the log; the next checkpoint or open takes them over.
            log.warning("database %s: checkpoint not possible now: %s", self._path.name, error)

    def _refuse_the_rest(self) -> None:
        refusal = DatabaseClosed(f"database {self._path.name}: it is being closed.")
        rest: list[_Outcome] = []
        while True:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                break
            if job is not None:
                rest.append((job.future, None, refusal))
        self._answer(rest)

    def _answer(self, outcomes: list[_Outcome]) -> None:
        if outcomes:
            self._loop.call_soon_threadsafe(_resolve, outcomes)


def _resolve(outcomes: list[_Outcome]) -> None:
    """On the loop: tell every caller that still waits."""
    for future, result, error in outcomes:
        if future.done():
            continue
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)
