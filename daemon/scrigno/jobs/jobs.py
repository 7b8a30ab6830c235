# SPDX-License-Identifier: Apache-2.0
"""The one door of this room: starts jobs, runs them in their turn, goes on after a restart."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from scrigno.core.clock import Clock
from scrigno.core.counters import Counters
from scrigno.core.errors import ScrignoError
from scrigno.core.events import EventBus, JobChanged
from scrigno.core.sight import Sight
from scrigno.db.engine import Database
from scrigno.db.errors import DatabaseDamaged, DatabaseError
from scrigno.db.file import set_aside

from .book import JobBook
from .errors import JobRefused, ResultsFull, TooManyJobs, UnknownJob
from .model import ENDED, NEXT, FailedItem, Grant, Job, JobState, JsonObject, Result
from .running import JobStopped, Runner, Running, Standing
from .spool import Spool
from .tables import SCHEMA

log = logging.getLogger(__name__)

DATABASE_NAME: Final = "jobs.db"
MOST_OPEN: Final = 1000  # jobs that have not ended
MOST_PARAMS_BYTES: Final = 4 << 20
AT_ONCE: Final = 4  # of all kinds
MOST_RUNS: Final = 5  # without a checkpoint between them: then the job itself is the trouble
CANCEL_GRACE_S: Final = 10.0
CLOSE_GRACE_S: Final = 3.0
PURGE_EVERY_S: Final = 3600.0
AGAIN_S: Final = 5.0  # when the disk did not take how a job ended


async def _everybody(_job: Job) -> tuple[str, Sight | None]:
    return "", None


class Jobs:
    """Every job of the box. Loop thread only."""

    def __init__(
        self,
        state_dir: Path,
        spool_dir: Path,
        *,
        bus: EventBus,
        clock: Clock,
        counters: Counters,
        keep: Callable[[], timedelta] = lambda: timedelta(days=90),
        keep_results: Callable[[], timedelta] = lambda: timedelta(days=7),
        results_bytes: Callable[[], int] = lambda: 50 << 30,
    ) -> None:
        """Name the files; `open` makes them. The callables are asked anew each time."""
        self._database = Database(state_dir / DATABASE_NAME, SCHEMA, readers=1)
        self._spool = Spool(spool_dir)
        self.book = JobBook(self._database, spool_dir)
        self._bus = bus
        self._clock = clock
        self._counters = counters
        self._keep = keep
        self._keep_results = keep_results
        self._results_bytes = results_bytes
        self._runners: dict[str, Runner] = {}
        self._runs: dict[int, tuple[Running, asyncio.Task[None]]] = {}
        self._wake = asyncio.Event()
        self._keepers: list[asyncio.Task[None]] = []
        self._closing = False
        # what the app knows: may the author still do that, what does he see; rest; images arrive
        self.standing: Standing = _everybody
        self.rests: Callable[[], bool] = lambda: False
        self.busy: Callable[[], bool] = lambda: False
        self.also_purge: list[
            Callable[[], Awaitable[None]]
        ] = []  # by whoever keeps things for jobs

    # life ----------------------------------------------------------------------------------------

    def register(self, runner: Runner) -> None:
        """Know who does the jobs of a kind; before `start_all`."""
        self._runners[runner.kind] = runner

    def needs(self, kind: str) -> str:
        """Return the permission that jobs of a kind need, "" for none."""
        runner = self._runners.get(kind)
        return "" if runner is None else runner.needs

    async def open(self) -> None:
        """Open the file; one that cannot be read is set aside and a new one begun."""
        try:
            await self._database.open()
        except DatabaseDamaged as error:
            log.error("jobs: %s Jobs begin anew; the old file is set aside.", error.reason)  # noqa: TRY400
            await asyncio.to_thread(set_aside, self._database.path, self._clock.now())
            await self._database.open()
        await self.book.interrupted()
        await asyncio.to_thread(self._spool.open, await self.book.job_ids())

    def start_all(self) -> None:
        """Run what waits, from now on; what was interrupted goes on from its last checkpoint."""
        self._wake.set()
        for name, work in (("jobs", self._turns()), ("jobs-purge", self._purges())):
            self._keepers.append(asyncio.create_task(work, name=name))

    async def close(self) -> None:
        """Stop every run at its next step, at most CLOSE_GRACE_S; they go on after the start."""
        self._closing = True
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        tasks = [task for _, task in self._runs.values()]
        for run, _ in self._runs.values():
            if run.stop_as is None:
                run.stop(JobState.WAITING)
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSE_GRACE_S)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await self._database.close()

    # asking --------------------------------------------------------------------------------------

    async def start(
        self,
        kind: str,
        *,
        author: str,
        title: str,
        params: JsonObject,
        grant: Grant | None = None,
    ) -> Job:
        """Keep a new job and run it when its turn comes; on return it survives power loss.

        `title` is shown in lists and must hold no patient data. Raises TooManyJobs, JobRefused.
        """
        if kind not in self._runners:
            raise JobRefused(f"There are no jobs of the kind {kind!r}.")
        if len(json.dumps(params)) > MOST_PARAMS_BYTES:
            raise JobRefused("The job is about too many things at once.", next_step="Divide it.")
        if await self.book.open_count() >= MOST_OPEN:
            raise TooManyJobs(
                f"{MOST_OPEN} jobs wait or run already.", next_step="Wait, or cancel some."
            )
        job = await self.book.add(
            kind=kind,
            author=author,
            title=title[:200],
            params=params,
            grant=grant or Grant(),
            now=self._clock.now(),
        )
        self._counters.add("jobs_started_total", kind=kind)
        self._publish(job.id, job.state)
        self._wake.set()
        return job

    async def get(self, job_id: int, *, author: str | None = None) -> Job:
        """Return a job as it is now; with `author` only one of his. Raises UnknownJob."""
        job = await self.book.get(job_id)
        if job is None or author not in (None, job.author):
            raise UnknownJob("There is no such job.")
        return self._live(job)

    async def page(
        self,
        *,
        author: str | None = None,
        states: Sequence[JobState] = (),
        kinds: Sequence[str] = (),
        before: int | None = None,
        limit: int = 100,
    ) -> list[Job]:
        """Return jobs, the newest first; all authors' when `author` is None."""
        jobs = await self.book.page(
            author=author, states=states, kinds=kinds, before=before, limit=limit
        )
        return [self._live(job) for job in jobs]

    async def items(self, job_id: int, *, after: int = 0, limit: int = 100) -> list[FailedItem]:
        """Return what failed, from beyond item `after`; what a run has not written is not there."""
        return await self.book.items(job_id, after=after, limit=limit)

    async def results(self, job_id: int) -> list[Result]:
        """Return the files that a job made and that have not expired."""
        now = self._clock.now()
        return [each for each in await self.book.results(job_id) if each.expires_at > now]

    # changing ------------------------------------------------------------------------------------

    async def cancel(self, job_id: int) -> Job:
        """End a job; what it did stays done. Raises UnknownJob, JobRefused."""
        return await self._stop(job_id, JobState.CANCELLED)

    async def pause(self, job_id: int) -> Job:
        """Let a job rest until `retry`. Raises UnknownJob, JobRefused."""
        return await self._stop(job_id, JobState.PAUSED)

    async def _stop(self, job_id: int, state: JobState) -> Job:
        job = await self.get(job_id)
        if state not in NEXT[job.state]:
            raise JobRefused(f"The job is {job.state}.")
        if job_id in self._runs:
            run, task = self._runs[job_id]
            run.stop(state)
            await asyncio.wait([task], timeout=CANCEL_GRACE_S)
            task.cancel()
            await asyncio.wait([task])
        elif await self.book.move(job_id, state, now=self._clock.now(), since=job.state):
            self._publish(job_id, state)
        return await self.get(job_id)

    async def retry(self, job_id: int) -> Job:
        """Let a paused, failed or cancelled job go on from its last checkpoint."""
        job = await self.get(job_id)
        if job.state is JobState.RUNNING or JobState.WAITING not in NEXT[job.state]:
            raise JobRefused(f"The job is {job.state}.", next_step="Start a new one.")
        waiting = JobState.WAITING
        if await self.book.move(job_id, waiting, now=self._clock.now(), since=job.state):
            self._publish(job_id, waiting)
            self._wake.set()
        return await self.get(job_id)

    async def delete(self, job_id: int) -> None:
        """Forget a job that has ended and remove its results. Raises UnknownJob, JobRefused."""
        job = await self.get(job_id)
        if job.state not in ENDED:
            raise JobRefused(f"The job is {job.state}.", next_step="Cancel it first.")
        await self.book.delete(job_id)
        await asyncio.to_thread(self._spool.remove, job_id)
        self._bus.publish(JobChanged(job_id=job_id, state="deleted"))

    # running -------------------------------------------------------------------------------------

    async def _turns(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                for job in await self.book.waiting():
                    if self._may_run(job):
                        await self._begin(job)
            except DatabaseError as error:
                log.warning("jobs: what waits cannot be read now: %s", error.reason)
                await asyncio.sleep(AGAIN_S)
                self._wake.set()

    def _may_run(self, job: Job) -> bool:
        if len(self._runs) >= AT_ONCE or job.id in self._runs:
            return False
        runner = self._runners.get(job.kind)
        same = sum(run.kind == job.kind for run, _ in self._runs.values())
        return runner is None or same < runner.at_once

    async def _begin(self, job: Job) -> None:
        runner = self._runners.get(job.kind)
        code, reason, sight = await self._refusal(job, runner)
        if code or runner is None:
            await self.book.end(
                job.id, JobState.FAILED, now=self._clock.now(), code=code, reason=reason
            )
            self._publish(job.id, JobState.FAILED)
            return
        begun = await self.book.begin(job.id, self._clock.now())
        if begun is None:
            return
        run = Running(begun, self, sight)
        task = asyncio.create_task(self._run(runner, run), name=f"job-{job.id}")
        self._runs[job.id] = (run, task)
        self._publish(job.id, JobState.RUNNING)

    async def _refusal(self, job: Job, runner: Runner | None) -> tuple[str, str, Sight | None]:
        if runner is None:
            return "job-kind-unknown", f"This release does no jobs of the kind {job.kind!r}.", None
        if job.runs >= MOST_RUNS:
            reason = f"It was begun {job.runs} times and the box went down each time."
            return "job-interrupted", reason, None
        refused, sight = await self.standing(job)
        return ("not-allowed" if refused else ""), refused, sight

    async def _run(self, runner: Runner, run: Running) -> None:
        state, code, reason = JobState.DONE, "", ""
        try:
            await runner.run(run)
        except (JobStopped, asyncio.CancelledError):
            state = run.stop_as or JobState.WAITING
        except ScrignoError as error:
            state, code, reason = JobState.FAILED, error.code, error.sentence()
        except Exception as error:
            log.exception("job %d (%s): a fault of ours", run.id, run.kind)
            state, code = JobState.FAILED, "internal-fault"
            reason = f"Something went wrong in the box itself ({type(error).__name__})."
        else:
            state = run.stop_as or JobState.DONE
        if code:
            log.warning("job %d (%s): failed: %s", run.id, run.kind, code)
        try:
            await self._ended(run, state, code, reason)
        finally:
            del self._runs[run.id]
            self._wake.set()
            self._publish(run.id, state)

    async def _ended(self, run: Running, state: JobState, code: str, reason: str) -> None:
        """Write how a run ended, until the disk takes it."""
        # counts belong to checkpoints: what is done again must not be counted twice
        keep = state is JobState.DONE or (not run.state and state is not JobState.WAITING)
        gained, progress = run.unwritten() if keep else (None, None)
        self._counters.add("jobs_ended_total", kind=run.kind, state=state)
        while True:
            try:
                await self.book.end(
                    run.id,
                    state,
                    now=self._clock.now(),
                    gained=gained,
                    progress=progress,
                    code=code,
                    reason=reason,
                )
            except DatabaseError as error:
                log.warning("job %d: how it ended cannot be written: %s", run.id, error.reason)
                if self._closing:
                    return  # after the start it goes on from its last checkpoint
                await asyncio.sleep(AGAIN_S)
            else:
                return

    # for Running ---------------------------------------------------------------------------------

    def told(self, run: Running) -> None:
        """Hear of a run's progress."""
        self._publish(run.id, JobState.RUNNING)

    def pressed(self) -> tuple[bool, bool]:
        """Tell whether background work rests, and whether images arrive."""
        return self.rests(), self.busy()

    async def reserve(self, run: Running, size: int) -> None:
        """Set space for results aside; raises ResultsFull."""
        kept = sum(each.size for each in await self.book.results() if each.job_id != run.id)
        reserved = sum(each.reserved for each, _ in self._runs.values() if each is not run)
        if kept + reserved + size > self._results_bytes() or not await asyncio.to_thread(
            self._spool.has_room, size
        ):
            raise ResultsFull(
                f"There is no room for a result of {size >> 20} MiB.",
                next_step="Delete jobs whose results are no longer needed, or export less at once.",
            )
        run.reserved = size

    async def folder_of(self, job_id: int) -> Path:
        """Make and return the folder of a job."""
        return await asyncio.to_thread(self._spool.of, job_id)

    def results_expire(self) -> datetime:
        """Return until when a result made now is kept."""
        return self._clock.now() + self._keep_results()

    def _live(self, job: Job) -> Job:
        run = self._runs.get(job.id)
        return job if run is None or job.state is not JobState.RUNNING else run[0].now()

    def _publish(self, job_id: int, state: JobState) -> None:
        self._bus.publish(JobChanged(job_id=job_id, state=state))

    # growing old ---------------------------------------------------------------------------------

    async def _purges(self) -> None:
        while True:
            try:
                await self.purge()
                for purge in self.also_purge:
                    await purge()
            except (DatabaseError, OSError) as error:
                log.warning("jobs: old ones cannot be removed now: %s", error)
            await asyncio.sleep(PURGE_EVERY_S)

    async def purge(self) -> None:
        """Forget jobs that ended long ago and remove results that have expired."""
        now = self._clock.now()
        for job_id in await self.book.ended_before(now - self._keep()):
            with suppress(UnknownJob, JobRefused):
                await self.delete(job_id)
        for result in await self.book.results():
            if result.expires_at <= now:
                await asyncio.to_thread(result.path.unlink, missing_ok=True)
                await self.book.drop_result(result.id)
