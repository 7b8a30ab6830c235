# SPDX-License-Identifier: Apache-2.0
"""Jobs: what long work does, how it ended, stopping it, going on, and fetching what it made.

People see their own jobs, administrators all. What a job made is given out only to whom may still
do that kind of work.
"""

import asyncio
import csv
import io
from typing import Any, Final
from urllib.parse import quote

from aiohttp import web

from scrigno.access.permissions import Permission
from scrigno.jobs.model import Job, JobState, Result

from .answers import moment
from .errors import NotAllowed, NotFound
from .rooms import Rooms, author_of, caller_of
from .routes import Own, Route, audited
from .shapes import Answer, Count, Id, Query, path_of, query_of

MOST_ROWS: Final = 10_000


class ResultAnswer(Answer):
    """A file that can be fetched until it expires."""

    id: int
    name: str
    media_type: str
    size_bytes: Count
    digest: str
    expires_at: str | None


class JobAnswer(Answer):
    """One job as it is now."""

    id: int
    kind: str
    state: JobState
    author: str
    title: str
    counts: dict[str, int]
    failed_items: Count
    failed_by_code: dict[str, int]
    done: Count
    total: Count | None
    eta_s: float | None
    note: str
    code: str
    reason: str
    created_at: str | None
    started_at: str | None
    finished_at: str | None
    results: list[ResultAnswer]


class JobsAnswer(Answer):
    """A page of jobs, the newest first."""

    jobs: list[JobAnswer]


class ItemAnswer(Answer):
    """One thing that could not be done."""

    seq: int
    name: str
    code: str
    reason: str


class ItemsAnswer(Answer):
    """A page of what failed; `total` counts all of it, also what is not kept."""

    total: Count
    items: list[ItemAnswer]


def result_answer(result: Result) -> ResultAnswer:
    """Return a result as the API shows it."""
    return ResultAnswer(
        id=result.id,
        name=result.name,
        media_type=result.media_type,
        size_bytes=result.size,
        digest=result.digest,
        expires_at=moment(result.expires_at),
    )


async def job_answer(rooms: Rooms, job: Job) -> JobAnswer:
    """Return a job as the API shows it."""
    results = await rooms.jobs.results(job.id) if job.state is JobState.DONE else []
    return JobAnswer(
        id=job.id,
        kind=job.kind,
        state=job.state,
        author=job.author,
        title=job.title,
        counts=dict(job.counts),
        failed_items=job.failed_items,
        failed_by_code=dict(job.failed_by_code),
        done=job.done,
        total=job.total,
        eta_s=job.eta_s,
        note=job.note,
        code=job.code,
        reason=job.reason,
        created_at=moment(job.created_at),
        started_at=moment(job.started_at),
        finished_at=moment(job.finished_at),
        results=[result_answer(each) for each in results],
    )


def _whose(request: web.Request) -> str | None:
    """Return whose jobs the caller may see: his own, or everybody's (None)."""
    permissions = caller_of(request).session.permissions
    return None if Permission.ADMIN in permissions else author_of(request)


async def job_of(request: web.Request, rooms: Rooms) -> Job:
    """Return the job of the path; raises UnknownJob for those of others."""
    return await rooms.jobs.get(path_of(request)["id"], author=_whose(request))


async def list_jobs(request: web.Request, rooms: Rooms) -> Any:
    """List jobs, the newest first."""
    query = query_of(request)
    jobs = await rooms.jobs.page(
        author=author_of(request) if query["mine"] else _whose(request),
        states=query["state"],
        kinds=query["kind"],
        before=query["before"],
        limit=query["limit"],
    )
    return JobsAnswer(jobs=[await job_answer(rooms, job) for job in jobs])


async def get_job(request: web.Request, rooms: Rooms) -> Any:
    """Return one job."""
    return await job_answer(rooms, await job_of(request, rooms))


async def list_job_items(request: web.Request, rooms: Rooms) -> Any:
    """List what a job could not do, with the reason of each."""
    job = await job_of(request, rooms)
    query = query_of(request)
    items = await rooms.jobs.items(job.id, after=query["after"], limit=query["limit"])
    return ItemsAnswer(
        total=job.failed_items,
        items=[
            ItemAnswer(seq=each.seq, name=each.name, code=each.code, reason=each.reason)
            for each in items
        ],
    )


async def job_items_csv(request: web.Request, rooms: Rooms) -> Any:
    """Return what a job could not do as a table for a spreadsheet."""
    job = await job_of(request, rooms)
    items = await rooms.jobs.items(job.id, limit=MOST_ROWS)
    rows = [(str(each.seq), each.name, each.code, each.reason) for each in items]
    content = await asyncio.to_thread(table, [("number", "name", "code", "reason"), *rows])
    return web.Response(
        body=content,
        content_type="text/csv",
        charset="utf-8",
        headers={"Content-Disposition": attachment(f"job-{job.id}-failed.csv")},
    )


def table(rows: list[tuple[str, ...]]) -> bytes:
    """Return rows as CSV (RFC 4180) in UTF-8 with its mark, which Excel asks for.

    A cell that begins like a formula gets an apostrophe: spreadsheets would run it (CWE-1236).
    """
    text = io.StringIO()
    writer = csv.writer(text)
    for row in rows:
        writer.writerow(["'" + cell if cell[:1] in "=+-@\t\r" else cell for cell in row])
    return text.getvalue().encode("utf-8-sig", "replace")


def attachment(name: str) -> str:
    """Return the header that makes a browser keep a file under `name` (RFC 6266)."""
    plain = "".join(each if each.isalnum() or each in "._- " else "_" for each in name)
    plain = plain.encode("ascii", "replace").decode().replace("?", "_")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


async def cancel_job(request: web.Request, rooms: Rooms) -> Any:
    """End a job; what it did stays done."""
    job = await job_of(request, rooms)
    audited(request, kind=job.kind)
    return await job_answer(rooms, await rooms.jobs.cancel(job.id))


async def pause_job(request: web.Request, rooms: Rooms) -> Any:
    """Let a job rest until it is told to go on."""
    job = await job_of(request, rooms)
    audited(request, kind=job.kind)
    return await job_answer(rooms, await rooms.jobs.pause(job.id))


async def retry_job(request: web.Request, rooms: Rooms) -> Any:
    """Let a paused, failed or cancelled job go on from where it stood."""
    job = await job_of(request, rooms)
    audited(request, kind=job.kind)
    return await job_answer(rooms, await rooms.jobs.retry(job.id))


async def delete_job(request: web.Request, rooms: Rooms) -> Any:
    """Forget a job that has ended, with what it made."""
    job = await job_of(request, rooms)
    audited(request, kind=job.kind)
    await rooms.jobs.delete(job.id)


async def get_job_result(request: web.Request, rooms: Rooms) -> web.StreamResponse:
    """Give out a file that a job made; a part of it when Range asks for one."""
    job = await job_of(request, rooms)
    needs = rooms.jobs.needs(job.kind)
    if needs and needs not in caller_of(request).session.permissions:
        raise NotAllowed(f"Your account may not do this: it needs the right “{needs}”.")
    wanted = path_of(request)["number"]
    result = next((one for one in await rooms.jobs.results(job.id) if one.id == wanted), None)
    if result is None or not await asyncio.to_thread(result.path.is_file):
        raise NotFound("There is no such result, or it has expired.")
    rooms.audit.record(
        author_of(request), "export", f"job {job.id}", details={"result": str(result.id)}
    )
    return web.FileResponse(
        result.path,
        headers={
            "Content-Type": result.media_type,
            "Content-Disposition": attachment(result.name),
            "Digest": f"sha-256={result.digest}",
        },
    )


_ONE: Final = ("unknown-job",)
_STATE: Final = ("unknown-job", "job-refused")

ROUTES: Final = (
    Route(
        method="GET", path="/jobs", work=list_jobs, answer=JobsAnswer,
        about="Long work, the newest first: one's own, or everybody's for administrators",
        query=(
            Query("mine", bool, default=False),
            Query("state", JobState, many=True),
            Query("kind", str, many=True, max_length=64),
            Query("before", Id),
            Query("limit", int, 50, ge=1, le=500),
        ),
    ),
    Route(
        method="GET", path=r"/jobs/{id:\d+}", work=get_job, answer=JobAnswer, errors=_ONE,
        about="One job as it is now",
    ),
    Route(
        method="GET", path=r"/jobs/{id:\d+}/items", work=list_job_items, answer=ItemsAnswer,
        errors=_ONE, about="What it could not do, with the reason of each",
        query=(Query("after", int, 0, ge=0, le=2**53 - 1), Query("limit", int, 100, ge=1, le=1000)),
    ),
    Route(
        method="GET", path=r"/jobs/{id:\d+}/items.csv", work=job_items_csv, errors=_ONE,
        about="What it could not do, as a table", answers="text/csv",
    ),
    Route(
        method="POST", path=r"/jobs/{id:\d+}/cancel", work=cancel_job, answer=JobAnswer,
        about="End it; what it did stays done", audit="job-cancelled", errors=_STATE,
    ),
    Route(
        method="POST", path=r"/jobs/{id:\d+}/pause", work=pause_job, answer=JobAnswer,
        about="Let it rest", audit="job-paused", errors=_STATE,
    ),
    Route(
        method="POST", path=r"/jobs/{id:\d+}/retry", work=retry_job, answer=JobAnswer,
        about="Let it go on from where it stood", audit="job-retried", errors=_STATE,
    ),
    Route(
        method="DELETE", path=r"/jobs/{id:\d+}", work=delete_job, answer=None,
        about="Forget it and remove what it made", audit="job-deleted", errors=_STATE,
    ),
    Route(
        method="GET", path=r"/jobs/{id:\d+}/results/{number:\d+}", work=get_job_result,
        about="A file that it made, whole or in parts (Range)", audit=Own("export"),
        answers=("application/zip", "application/x-iso9660-image", "application/octet-stream"),
        also=(206, 304, 416),
        errors=("unknown-job", "not-found", "not-allowed"),
    ),
)  # fmt: skip
