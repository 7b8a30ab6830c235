# SPDX-License-Identifier: Apache-2.0
"""Jobs on a folder, and runners that do something a test can look at."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from scrigno.core.clock import SystemClock
from scrigno.core.counters import Counters
from scrigno.core.events import EventBus, JobChanged
from scrigno.jobs.jobs import Jobs
from scrigno.jobs.model import ENDED, Job
from scrigno.jobs.running import Runner, Running


class Steps:
    """Goes through `params["steps"]` numbers; every tenth fails; a checkpoint after each five."""

    kind = "steps"
    needs = "view"
    at_once = 2

    def __init__(self, *, pause_s: float = 0.0, at_once: int = 2) -> None:
        self.pause_s = pause_s
        self.at_once = at_once
        self.walked: list[int] = []
        self.most_at_once = 0
        self._now = 0

    async def run(self, job: Running) -> None:
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            steps = job.params["steps"]
            for number in range(job.state.get("next", 0), steps):
                await job.give_way()
                self.walked.append(number)
                if number % 10 == 3:
                    await job.fail_item(f"step {number}", "odd", "It was a three.")
                else:
                    job.count("good")
                job.progress(number + 1, steps, "walking")
                if number % 5 == 4:
                    await job.checkpoint({"next": number + 1})
                await asyncio.sleep(self.pause_s)
        finally:
            self._now -= 1


@asynccontextmanager
async def running_jobs(
    root: Path, *runners: Runner, start: bool = True, **more
) -> AsyncIterator[Jobs]:
    (root / "state").mkdir(parents=True, exist_ok=True)
    jobs = Jobs(
        root / "state",
        root / "spool",
        bus=more.pop("bus", EventBus()),
        clock=SystemClock(),
        counters=Counters(),
        **more,
    )
    for runner in runners:
        jobs.register(runner)
    await jobs.open()
    try:
        if start:
            jobs.start_all()
        yield jobs
    finally:
        await jobs.close()


async def ended(jobs: Jobs, job_id: int) -> Job:
    async with asyncio.timeout(30):
        while (job := await jobs.get(job_id)).state not in ENDED:
            await asyncio.sleep(0.01)
    return job


async def reached(jobs: Jobs, job_id: int, done: int) -> Job:
    async with asyncio.timeout(30):
        while (job := await jobs.get(job_id)).done < done:
            await asyncio.sleep(0.005)
    return job


def heard(bus: EventBus) -> list[JobChanged]:
    events: list[JobChanged] = []
    bus.subscribe(JobChanged, events.append)
    return events
