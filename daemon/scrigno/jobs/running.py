# SPDX-License-Identifier: Apache-2.0
"""A job while it runs, as its runner sees it. Loop thread only."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

from scrigno.core.sight import Sight

from .book import Gained, JobBook, Progress
from .errors import ResultsFull
from .model import FailedItem, Grant, Job, JobState, JsonObject
from .spool import sealed

MOST_TEXT: Final = 1000
MOST_BUFFERED: Final = 10_000  # failed items between two checkpoints; more are only counted
TOLD_EVERY_S: Final = 1.0
BUSY_PAUSE_S: Final = 0.1  # before each step while images arrive from modalities
HOLD_LOOK_S: Final = 1.0


class JobStopped(Exception):
    """The job is to stop: cancelled, paused or the box goes down. A runner lets it pass."""


class Runner(Protocol):
    """Does the jobs of one kind.

    `needs` is the word of the permission that the author must still have when it begins or goes
    on, "" for none; `at_once` is how many of the kind may run side by side.
    """

    kind: str
    needs: str
    at_once: int

    async def run(self, job: "Running") -> None:
        """Do the job from `job.state`, the last checkpoint; `{}` at its first run.

        Returning ends it as done; a ScrignoError fails it with code and reason. What was counted
        since the last checkpoint is forgotten when it stops before the next one, because it is
        then done again.
        """


class Surroundings(Protocol):
    """What `Running` needs of the room around it."""

    book: JobBook

    def told(self, run: "Running") -> None:
        """Hear that something changed."""

    def pressed(self) -> tuple[bool, bool]:
        """Tell whether background work rests altogether, and whether images arrive now."""

    async def reserve(self, run: "Running", size: int) -> None:
        """Set space aside; raises ResultsFull."""

    async def folder_of(self, job_id: int) -> Path:
        """Make and return the folder of a job."""

    def results_expire(self) -> datetime:
        """Return until when a result made now is kept."""


class Running:
    """One run of a job."""

    def __init__(self, job: Job, around: Surroundings, sight: Sight | None) -> None:
        """Begin where the last checkpoint stood; `sight` is what the author sees now."""
        self.id = job.id
        self.kind = job.kind
        self.author = job.author
        self.title = job.title
        self.params: JsonObject = job.params
        self.grant: Grant = job.grant
        self.state: JsonObject = job.checkpoint
        self.started_at = job.started_at
        self.reserved = 0
        self.stop_as: JobState | None = None
        self._job = job
        self._around = around
        self._sight = sight
        self._gained = Gained()
        self._progress = Progress(done=job.done, total=job.total, note=job.note)
        self._stopped = asyncio.Event()
        self._told_at = float("-inf")
        loop = asyncio.get_running_loop()
        self._clock = loop.time
        self._began = (loop.time(), job.done)

    # what it is allowed --------------------------------------------------------------------------

    @property
    def sights(self) -> tuple[Sight, ...]:
        """Return what the author saw when it was started and sees now; both must be met."""
        now = self._sight
        return (self.grant.sight,) if now in (None, self.grant.sight) else (self.grant.sight, now)

    # how far it is -------------------------------------------------------------------------------

    def progress(self, done: int, total: int | None = None, note: str = "") -> None:
        """Say how far it is; `note` is a stable word for what it does now."""
        self._progress = Progress(done=done, total=total, note=note[:64])
        self._tell()

    def count(self, name: str, amount: int = 1) -> None:
        """Add to one of the counts; written with the next checkpoint."""
        self._gained.counts[name] = self._gained.counts.get(name, 0) + amount

    async def fail_item(self, name: str, code: str, reason: str, ref: str = "") -> None:
        """Note one thing that could not be done and why; written with the next checkpoint."""
        gained = self._gained
        gained.failed += 1
        gained.failed_by_code[code] = gained.failed_by_code.get(code, 0) + 1
        if len(gained.items) < MOST_BUFFERED:
            texts = [text[:MOST_TEXT] for text in (name, code, reason, ref)]
            texts = [text.encode("utf-8", "backslashreplace").decode() for text in texts]
            gained.items.append(
                FailedItem(seq=0, name=texts[0], code=texts[1], reason=texts[2], ref=texts[3])
            )

    async def checkpoint(self, state: JsonObject) -> None:
        """Write where to go on from, with all counts and items up to here, in one transaction.

        On return it survives power loss. Raises JobStopped when the job is to stop.
        """
        gained, self._gained = self._gained, Gained()
        writing = self._around.book.keep(self.id, state, gained, self._progress)
        await _to_its_end(writing)
        self.state = state
        self._job = replace(
            self._job,
            checkpoint=state,
            counts=_sum(self._job.counts, gained.counts),
            failed_by_code=_sum(self._job.failed_by_code, gained.failed_by_code),
            failed_items=self._job.failed_items + gained.failed,
        )
        self._tell()
        self.raise_if_stopped()

    # stopping and giving way ---------------------------------------------------------------------

    @property
    def cancelled(self) -> bool:
        """Tell whether the job is to stop, for whatever reason."""
        return self.stop_as is not None

    def raise_if_stopped(self) -> None:
        """Raise JobStopped when the job is to stop."""
        if self.stop_as is not None:
            raise JobStopped

    async def give_way(self) -> None:
        """Wait while clinical work needs the box; call between steps. Raises JobStopped."""
        self.raise_if_stopped()
        holds, busy = self._around.pressed()
        while holds:
            await self.sleep(HOLD_LOOK_S)
            holds, busy = self._around.pressed()
        if busy:
            await self.sleep(BUSY_PAUSE_S)

    async def sleep(self, seconds: float) -> None:
        """Wait; raises JobStopped as soon as the job is to stop."""
        try:
            async with asyncio.timeout(seconds):
                await self._stopped.wait()
        except TimeoutError:
            return
        self.raise_if_stopped()

    def stop(self, state: JobState) -> None:
        """Ask it to stop and be in `state` then."""
        self.stop_as = state
        self._stopped.set()

    # files ---------------------------------------------------------------------------------------

    async def folder(self) -> Path:
        """Return the job's own folder on the SSD; it goes when the job is deleted."""
        return await self._around.folder_of(self.id)

    async def reserve(self, size: int) -> None:
        """Set space for results aside until the run ends; raises ResultsFull."""
        await self._around.reserve(self, size)

    async def add_result(self, path: Path, *, name: str, media_type: str) -> int:
        """Offer a finished file of the job's folder for download; returns its number."""
        try:
            size, digest = await asyncio.to_thread(sealed, path)
        except OSError as error:
            raise ResultsFull(f"The result could not be written: {error.strerror}.") from error
        return await self._around.book.add_result(
            self.id,
            name=name,
            media_type=media_type,
            size=size,
            digest=digest,
            file=path.name,
            expires_at=self._around.results_expire(),
        )

    # for the room --------------------------------------------------------------------------------

    def now(self) -> Job:
        """Return the job as it is at this moment, with what is not written yet."""
        gained, progress = self._gained, self._progress
        return replace(
            self._job,
            counts=_sum(self._job.counts, gained.counts),
            failed_by_code=_sum(self._job.failed_by_code, gained.failed_by_code),
            failed_items=self._job.failed_items + gained.failed,
            done=progress.done,
            total=progress.total,
            note=progress.note,
            eta_s=self._eta(),
        )

    def unwritten(self) -> tuple[Gained, Progress]:
        """Return what was done since the last checkpoint."""
        return self._gained, self._progress

    def _eta(self) -> float | None:
        began, before = self._began
        done, total = self._progress.done, self._progress.total
        passed = self._clock() - began
        if total is None or done <= before or passed < 1.0:
            return None
        return max(0.0, (total - done) * passed / (done - before))

    def _tell(self) -> None:
        now = self._clock()
        if now - self._told_at >= TOLD_EVERY_S:
            self._told_at = now
            self._around.told(self)


def _sum(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    total = dict(one)
    for name, count in other.items():
        total[name] = total.get(name, 0) + count
    return total


async def _to_its_end(writing: Awaitable[None]) -> None:
    """Let a commit end though its caller is cancelled: memory and disk must say the same."""
    task = asyncio.ensure_future(writing)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


Standing = Callable[[Job], Awaitable[tuple[str, Sight | None]]]
