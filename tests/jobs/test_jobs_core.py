# SPDX-License-Identifier: Apache-2.0
"""Jobs begin, end, stop and go on, and their numbers always belong together."""

import asyncio
import signal
import sqlite3
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from jobsbox import Steps, ended, heard, reached, running_jobs

from scrigno.core.errors import CommandError
from scrigno.core.events import EventBus
from scrigno.core.sight import Sight
from scrigno.jobs.errors import JobRefused, ResultsFull, UnknownJob
from scrigno.jobs.model import Grant, JobState
from scrigno.jobs.running import Running


async def start(jobs, steps=20, **more):
    return await jobs.start("steps", author="anna", title="Steps", params={"steps": steps}, **more)


@pytest.mark.spec("AD-4")
async def test_a_job_ends_with_its_counts_its_failed_items_and_its_reasons(tmp_path: Path) -> None:
    bus = EventBus()
    told = heard(bus)
    async with running_jobs(tmp_path, Steps(), bus=bus) as jobs:
        job = await ended(jobs, (await start(jobs)).id)
        items = await jobs.items(job.id)
    assert (job.state, job.done, job.total) == (JobState.DONE, 20, 20)
    assert job.counts == {"good": 18}
    assert (job.failed_items, job.failed_by_code) == (2, {"odd": 2})
    assert [(each.name, each.code, each.reason) for each in items] == [
        ("step 3", "odd", "It was a three."),
        ("step 13", "odd", "It was a three."),
    ]
    assert [event.state for event in told][:2] == ["waiting", "running"]
    assert told[-1].state == "done"


@pytest.mark.spec("AD-4")
async def test_a_job_goes_on_after_a_restart_from_its_checkpoint(tmp_path: Path) -> None:
    first = Steps(pause_s=0.005)
    async with running_jobs(tmp_path, first) as jobs:
        job = await start(jobs, 60, grant=Grant(sight=Sight(study_uids=frozenset({"1.2"}))))
        await reached(jobs, job.id, 23)
    second = Steps()
    async with running_jobs(tmp_path, second) as jobs:
        after = await ended(jobs, job.id)
    assert after.state is JobState.DONE
    assert after.grant.sight.study_uids == frozenset({"1.2"})
    assert second.walked[0] % 5 == 0
    assert second.walked[0] >= 20
    assert (after.counts, after.failed_items) == ({"good": 54}, 6)
    assert (after.done, after.total) == (60, 60)


DRIVER = """
import asyncio, sys
from pathlib import Path
sys.path[:0] = {path!r}
from jobsbox import Steps, running_jobs

async def main():
    async with running_jobs(Path({root!r}), Steps(pause_s=0.004)) as jobs:
        await jobs.start("steps", author="anna", title="Steps", params={{"steps": 1000}})
        print("started", flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.spec("AD-4")
@pytest.mark.parametrize("after_s", [0.15, 0.4, 0.9])
async def test_a_kill_in_the_middle_loses_no_count_and_counts_nothing_twice(
    tmp_path: Path, after_s: float
) -> None:
    path = [str(Path(__file__).parent)]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        DRIVER.format(path=path, root=str(tmp_path)),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    await process.stdout.readline()
    await asyncio.sleep(after_s)
    process.send_signal(signal.SIGKILL)
    await process.wait()
    async with running_jobs(tmp_path, start=False) as jobs:
        [before] = await jobs.page()
    assert before.state is JobState.WAITING
    assert before.counts.get("good", 0) + before.failed_items == before.checkpoint.get("next", 0)
    async with running_jobs(tmp_path, Steps()) as jobs:
        job = await ended(jobs, before.id)
        items = await jobs.items(job.id, limit=1000)
    assert (job.counts, job.failed_items, job.done) == ({"good": 900}, 100, 1000)
    assert [each.name for each in items] == [f"step {number}" for number in range(3, 1000, 10)]


async def test_a_job_can_be_cancelled_and_later_goes_on(tmp_path: Path) -> None:
    runner = Steps(pause_s=0.005)
    async with running_jobs(tmp_path, runner) as jobs:
        job = await start(jobs, 100)
        await reached(jobs, job.id, 12)
        stopped = await jobs.cancel(job.id)
        assert stopped.state is JobState.CANCELLED
        assert stopped.finished_at is not None
        at = len(runner.walked)
        await asyncio.sleep(0.05)
        assert len(runner.walked) == at
        with pytest.raises(JobRefused):
            await jobs.cancel(job.id)
        runner.pause_s = 0
        await jobs.retry(job.id)
        done = await ended(jobs, job.id)
    assert (done.state, done.counts, done.failed_items) == (JobState.DONE, {"good": 90}, 10)


async def test_a_waiting_job_is_cancelled_and_a_paused_one_waits_for_a_word(tmp_path: Path) -> None:
    async with running_jobs(tmp_path, Steps(pause_s=0.005, at_once=1)) as jobs:
        first, second, third = [await start(jobs, 60) for _ in range(3)]
        await reached(jobs, first.id, 2)
        assert (await jobs.cancel(second.id)).state is JobState.CANCELLED
        assert (await jobs.pause(first.id)).state is JobState.PAUSED
        assert (await ended(jobs, third.id)).state is JobState.DONE
        assert (await jobs.get(first.id)).state is JobState.PAUSED
        await jobs.retry(first.id)
        assert (await ended(jobs, first.id)).counts == {"good": 54}


async def test_only_so_many_of_a_kind_run_side_by_side(tmp_path: Path) -> None:
    runner = Steps(pause_s=0.001, at_once=2)
    async with running_jobs(tmp_path, runner) as jobs:
        for job in [await start(jobs) for _ in range(6)]:
            await ended(jobs, job.id)
    assert runner.most_at_once == 2


async def test_what_the_author_may_no_longer_do_is_not_done(tmp_path: Path) -> None:
    async with running_jobs(tmp_path, Steps(), start=False) as jobs:
        job = await start(jobs)
    runner = Steps()
    async with running_jobs(tmp_path, runner, start=False) as jobs:

        async def refuses(_job):
            return "The account is gone.", None

        jobs.standing = refuses
        jobs.start_all()
        after = await ended(jobs, job.id)
    assert (after.state, after.code) == (JobState.FAILED, "not-allowed")
    assert after.reason == "The account is gone."
    assert runner.walked == []


class Fails:
    kind = "steps"
    needs = ""
    at_once = 1

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def run(self, job: Running) -> None:
        job.count("tried")
        await job.fail_item("a", "b", "c")
        raise self.error


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CommandError("No.", next_step="Yes."), "command-refused"),
        (ValueError("x"), "internal-fault"),
    ],
)
async def test_a_job_that_fails_says_why_and_counts_anew_when_tried_again(
    tmp_path: Path, error: Exception, code: str
) -> None:
    async with running_jobs(tmp_path, Fails(error)) as jobs:
        job = await start(jobs)
        for _ in range(2):
            failed = await ended(jobs, job.id)
            assert (failed.state, failed.code) == (JobState.FAILED, code)
            assert (failed.counts, failed.failed_items) == ({"tried": 1}, 1)
            assert len(await jobs.items(job.id)) == 1
            await jobs.retry(job.id)


async def test_a_job_that_takes_the_box_down_each_time_is_given_up(tmp_path: Path) -> None:
    async with running_jobs(tmp_path, Steps(), start=False) as jobs:
        job = await start(jobs)
        for _ in range(5):
            await jobs.book.begin(job.id, jobs._clock.now())
            await jobs.book.interrupted()
        jobs.start_all()
        after = await ended(jobs, job.id)
    assert (after.state, after.code) == (JobState.FAILED, "job-interrupted")


async def test_a_kind_that_nobody_does_fails_in_words(tmp_path: Path) -> None:
    async with running_jobs(tmp_path, Steps(), start=False) as jobs:
        job = await start(jobs)
        with pytest.raises(JobRefused):
            await jobs.start("other", author="anna", title="", params={})
    async with running_jobs(tmp_path) as jobs:
        assert (await ended(jobs, job.id)).code == "job-kind-unknown"


class Writes:
    kind = "writes"
    needs = ""
    at_once = 1

    async def run(self, job: Running) -> None:
        await job.reserve(job.params["size"])
        path = await job.folder() / "result.bin"
        await asyncio.to_thread(path.write_bytes, b"x" * job.params["size"])
        await job.add_result(path, name="résumé.zip", media_type="application/zip")


async def test_results_are_kept_until_they_expire_or_the_job_is_deleted(tmp_path: Path) -> None:
    keep = [timedelta(days=1)]
    async with running_jobs(tmp_path, Writes(), keep_results=lambda: keep[0]) as jobs:

        async def make():
            job = await jobs.start("writes", author="anna", title="", params={"size": 1000})
            return await ended(jobs, job.id)

        one = await make()
        [result] = await jobs.results(one.id)
        assert (result.name, result.size) == ("résumé.zip", 1000)
        assert result.path.is_file()
        await jobs.delete(one.id)
        assert not result.path.exists()
        with pytest.raises(UnknownJob):
            await jobs.get(one.id)
        keep[0] = timedelta(0)
        two = await make()
        path = tmp_path / "spool" / str(two.id) / "result.bin"
        assert path.is_file()
        assert await jobs.results(two.id) == []
        await jobs.purge()
        assert not path.exists()


async def test_results_have_a_space_of_their_own_and_no_more(tmp_path: Path) -> None:
    async with running_jobs(tmp_path, Writes(), results_bytes=lambda: 1500) as jobs:
        first = await jobs.start("writes", author="anna", title="", params={"size": 1000})
        assert (await ended(jobs, first.id)).state is JobState.DONE
        second = await jobs.start("writes", author="anna", title="", params={"size": 1000})
        after = await ended(jobs, second.id)
    assert (after.state, after.code) == (JobState.FAILED, ResultsFull.code)


async def test_old_jobs_go_and_so_do_folders_without_a_job(tmp_path: Path) -> None:
    (tmp_path / "spool" / "77").mkdir(parents=True)
    (tmp_path / "spool" / "77" / "left").write_bytes(b"x")
    async with running_jobs(tmp_path, Steps(), keep=lambda: timedelta(0)) as jobs:
        assert not (tmp_path / "spool" / "77").exists()
        job = await ended(jobs, (await start(jobs)).id)
        await jobs.purge()
        with pytest.raises(UnknownJob):
            await jobs.get(job.id)


async def test_a_file_of_jobs_that_is_damaged_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "jobs.db").write_bytes(b"no database" * 1000)
    async with running_jobs(tmp_path, Steps()) as jobs:
        assert (await ended(jobs, (await start(jobs)).id)).state is JobState.DONE
    assert list((tmp_path / "state").glob("jobs.db.aside-*"))


async def test_work_rests_while_it_is_told_to(tmp_path: Path) -> None:
    runner = Steps()
    async with running_jobs(tmp_path, runner, start=False) as jobs:
        rests = [True]
        jobs.rests = lambda: rests[0]
        jobs.start_all()
        job = await start(jobs)
        await asyncio.sleep(0.2)
        assert runner.walked == []
        assert (await jobs.get(job.id)).state is JobState.RUNNING
        rests[0] = False
        assert (await ended(jobs, job.id)).state is JobState.DONE


async def test_only_the_authors_own_jobs_are_his(tmp_path: Path) -> None:
    async with running_jobs(tmp_path, Steps()) as jobs:
        job = await start(jobs)
        assert (await jobs.get(job.id, author="anna")).id == job.id
        with pytest.raises(UnknownJob):
            await jobs.get(job.id, author="bruno")
        assert await jobs.page(author="bruno") == []
        assert [each.id for each in await jobs.page(kinds=["steps"])] == [job.id]
        await ended(jobs, job.id)


async def test_the_items_of_a_job_are_bounded_and_all_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scrigno.jobs.book.MOST_ITEMS", 3)
    async with running_jobs(tmp_path, Steps()) as jobs:
        job = await ended(jobs, (await start(jobs, 100)).id)
        assert job.failed_items == 10
        assert [each.seq for each in await jobs.items(job.id)] == [1, 2, 3]
        assert [each.seq for each in await jobs.items(job.id, after=2)] == [3]
    with sqlite3.connect(tmp_path / "state" / "jobs.db") as db:
        assert db.execute("SELECT count(*) FROM item").fetchone() == (3,)
