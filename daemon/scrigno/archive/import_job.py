# SPDX-License-Identifier: Apache-2.0
"""An import as a job: a plan of its files, batches with a checkpoint each, a reason per file.

All objects of a batch get one moment as their time of reception, which stands in the checkpoint
before the batch. When the box dies inside a batch, the batch is done again; an object that then
turns out to be there already, since that moment, came in by the lost run and counts as new. So
counts are right whatever happens in between.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from scrigno.access.permissions import Permission
from scrigno.catalogue.catalogue import Catalogue
from scrigno.core.clock import Clock
from scrigno.core.errors import ScrignoError
from scrigno.imaging.errors import NotDicom
from scrigno.jobs.running import JobStopped, Running

from .errors import IngestError, NoDurableStorage, ShuttingDown
from .import_errors import FileRefused
from .import_plan import Planned, read_plan, write_plan
from .import_trees import Tree, words
from .importer import FileTaker, Threads
from .ingest import Ingest
from .receipts import Receipt, StoreOutcome

log = logging.getLogger(__name__)

KIND: Final = "import"
PLAN: Final = "plan"
BATCH: Final = 50
AT_ONCE: Final = 4
MOST_STAMPS: Final = 10
NO_ROOM_TRIES: Final = 12
NO_ROOM_WAIT_S: Final = 5.0

TreeMaker = Callable[[dict[str, Any], Threads, Path], Awaitable[Tree]]
Forget = Callable[[dict[str, Any]], Awaitable[None]]

_COUNTED: Final = {
    StoreOutcome.NEW: "new",
    StoreOutcome.SAME: "duplicate",
    StoreOutcome.CONFLICT_KEPT: "conflict",
    StoreOutcome.UNREADABLE_KEPT: "kept-aside",
    StoreOutcome.HELD: "kept-aside",
}
DIRECTORY: Final = "directory"
# not in the archive, and not lost either
_ASIDE: Final = {
    "conflict": "The archive has other bytes under the same UID; this file is in the inbox.",
    "kept-aside": "Its header cannot be read to its end; it is kept in the inbox.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What became of one file: its receipt (None for a DICOMDIR), or why it was refused."""

    line: Planned
    receipt: Receipt | None = None
    code: str = ""
    reason: str = ""


@dataclass(slots=True)
class _Batch:
    """Files being taken in side by side; those taken so far are a run from the beginning."""

    lines: Sequence[Planned]
    stamps: Sequence[datetime]  # of the runs that began it; the last one is ours
    taken: int = 0
    done: list[Done] = field(default_factory=list)


class ImportRunner:
    """Does imports. `make_tree` opens a source, `forget` lets go of one that is all in."""

    kind = KIND
    needs = Permission.IMPORT.value
    at_once = 2

    def __init__(
        self,
        *,
        ingest: Ingest,
        catalogue: Catalogue,
        clock: Clock,
        make_tree: TreeMaker,
        forget: Forget,
    ) -> None:
        """Use the one way into the archive."""
        self._ingest = ingest
        self._catalogue = catalogue
        self._clock = clock
        self._make_tree = make_tree
        self._forget = forget

    async def run(self, job: Running) -> None:
        """Import what `job.params["source"]` names; see Runner."""
        folder = await job.folder()
        with Threads() as threads:
            tree = await self._make_tree(job.params, threads, folder)
            try:
                await self._plan(job, tree, threads, folder / PLAN)
                await self._batches(job, tree, threads, folder / PLAN)
            finally:
                await asyncio.shield(threads.run(tree.close))
        if not job.now().failed_items and not job.cancelled:
            await self._forget(job.params)

    async def _plan(self, job: Running, tree: Tree, threads: Threads, path: Path) -> None:
        """List the files once, so that N is known and a restart finds the same list."""
        if "total" in job.state and await threads.run(path.is_file):
            return
        loop = asyncio.get_running_loop()

        def told(count: int) -> bool:
            loop.call_soon_threadsafe(job.progress, count, None, "looking")
            return not job.cancelled

        job.progress(0, None, "looking")
        try:
            total = await threads.run(write_plan, path, tree, told)
        except (ScrignoError, OSError):
            job.raise_if_stopped()
            raise
        job.progress(0, total, "importing")
        await job.checkpoint({"total": total, "done": 0, "at": 0, "stamps": []})

    def _stamp(self) -> str:
        return self._clock.now().isoformat()

    async def _batches(self, job: Running, tree: Tree, threads: Threads, path: Path) -> None:
        taker = FileTaker(self._ingest, threads, job.author)
        # the first batch may have been begun by a run that was cut off
        stamps = [*job.state["stamps"][-MOST_STAMPS:], self._stamp()]
        await job.checkpoint({**job.state, "stamps": stamps})
        while lines := await threads.run(read_plan, path, job.state["at"], BATCH):
            batch = _Batch(lines, [datetime.fromisoformat(text) for text in job.state["stamps"]])
            await self._take_all(job, tree, threads, taker, batch)
            await self._count(job, batch)
            done = job.state["done"] + len(batch.done)
            at = max((each.line.end for each in batch.done), default=job.state["at"])
            job.progress(done, job.state["total"], "importing")
            await job.checkpoint({**job.state, "done": done, "at": at, "stamps": [self._stamp()]})

    async def _take_all(
        self, job: Running, tree: Tree, threads: Threads, taker: FileTaker, batch: _Batch
    ) -> None:
        """Take a batch in; when the job is to stop, those that were begun come to their end."""

        async def some() -> None:
            while batch.taken < len(batch.lines):
                await job.give_way()
                if batch.taken >= len(batch.lines):
                    return
                line = batch.lines[batch.taken]
                batch.taken += 1
                batch.done.append(
                    await self._one(job, tree, threads, taker, line, batch.stamps[-1])
                )
                job.progress(job.state["done"] + len(batch.done), job.state["total"], "importing")

        tasks = [asyncio.ensure_future(some()) for _ in range(AT_ONCE)]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            if not job.cancelled:
                for task in tasks:
                    if not task.done():
                        task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        except asyncio.CancelledError:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise
        faults = [each for each in ended if isinstance(each, BaseException)]
        real = [
            each for each in faults if not isinstance(each, JobStopped | asyncio.CancelledError)
        ]
        if real:
            raise real[0]
        if faults and len(batch.done) < batch.taken:
            raise faults[0]

    async def _one(
        self,
        job: Running,
        tree: Tree,
        threads: Threads,
        taker: FileTaker,
        line: Planned,
        stamp: datetime,
    ) -> Done:
        if line.code:
            return Done(line=line, code=line.code, reason=line.reason)
        refusal: IngestError | None = None
        for _ in range(NO_ROOM_TRIES):
            try:
                return Done(line=line, receipt=await _taken(tree, threads, taker, line, stamp))
            except (NoDurableStorage, ShuttingDown) as error:
                refusal = error
            except FileRefused as error:
                return Done(line=line, code=error.why, reason=error.reason)
            except (IngestError, NotDicom) as error:
                return Done(line=line, code=error.code, reason=error.reason)
            except OSError as error:
                await threads.run(tree.require_there)
                return Done(line=line, code="not-readable", reason=words(error))
            await job.sleep(NO_ROOM_WAIT_S)  # images of modalities meet the same, and so does this
        raise refusal or NoDurableStorage("It was not taken in.")

    async def _count(self, job: Running, batch: _Batch) -> None:
        ours: set[str] = set()
        batch.done.sort(key=lambda each: each.line.at)
        for each in batch.done:
            if each.code:
                job.count("refused")
                await job.fail_item(each.line.name, each.code, each.reason, str(each.line.at))
                continue
            outcome = await self._outcome(each.receipt, batch.stamps[:-1], ours)
            job.count(outcome)
            if outcome in _ASIDE:
                await job.fail_item(each.line.name, outcome, _ASIDE[outcome], str(each.line.at))

    async def _outcome(
        self, receipt: Receipt | None, before: Sequence[datetime], ours: set[str]
    ) -> str:
        if receipt is None:
            return DIRECTORY
        uid = receipt.sop_instance_uid
        if receipt.outcome is StoreOutcome.NEW:
            if uid in ours:
                return _COUNTED[StoreOutcome.SAME]  # its twin of this batch was counted as new
            ours.add(uid)
        elif receipt.outcome is StoreOutcome.SAME and before and uid not in ours:
            stored = await self._catalogue.instance(uid)
            # later than the batch began: a file whose row was lost is taken in again by whoever
            # tidies up after the crash, with the time of that
            if stored is not None and stored.received_at >= before[0]:
                ours.add(uid)
                return _COUNTED[StoreOutcome.NEW]
        return _COUNTED[receipt.outcome]


async def _taken(
    tree: Tree, threads: Threads, taker: FileTaker, line: Planned, stamp: datetime
) -> Receipt | None:
    file = await threads.run(tree.open, line.ref)
    try:
        return await taker.take(file, stamp)
    finally:
        await asyncio.shield(threads.run(file.close))
