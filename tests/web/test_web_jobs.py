# SPDX-License-Identifier: Apache-2.0
"""Jobs by the API: one's own, stopped, gone on, fetched, and nobody else's."""

import asyncio
import csv
import io

import pytest

from scrigno.access.roles import BuiltIn
from scrigno.jobs.running import Running

PASSWORD = "due cavalli batteria corretta"


class Makes:
    """Makes a file of `params["size"]` bytes; what is in `params["fail"]` fails."""

    kind = "makes"
    needs = "export"
    at_once = 2

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.go.set()

    async def run(self, job: Running) -> None:
        for name in job.params["fail"]:
            await job.fail_item(name, "odd", "It is odd.")
        await job.checkpoint({"next": 1})
        while not self.go.is_set():
            await job.sleep(0.02)
        path = await job.folder() / "out.bin"
        await asyncio.to_thread(path.write_bytes, bytes(range(256)) * (job.params["size"] // 256))
        await job.add_result(path, name="out put.bin", media_type="application/octet-stream")


@pytest.fixture
async def makes(box) -> Makes:
    runner = Makes()
    box.parts.jobs.register(runner)
    return runner


async def bruno(anna):
    box = anna.box
    await box.parts.access.add_account("bruno", PASSWORD, BuiltIn.USER)
    made = await box.parts.access.login("bruno", PASSWORD, address="127.0.0.1")
    return type(anna)(box, made.token)


async def start(box, author: str = "anna", *, size: int = 1024, fail: tuple[str, ...] = ()):
    params = {"size": size, "fail": list(fail)}
    job = await box.parts.jobs.start("makes", author=author, title="Made", params=params)
    return job.id


async def until(client, job_id: int, *states: str):
    async with asyncio.timeout(20):
        while (job := await client.json("GET", f"/jobs/{job_id}"))["state"] not in states:
            await asyncio.sleep(0.02)
    return job


@pytest.mark.spec("AD-5")
async def test_a_result_is_fetched_whole_and_in_parts(box, anna, makes: Makes) -> None:
    job = await until(anna, await start(box, size=100_096), "done")
    [result] = job["results"]
    assert (result["name"], result["size_bytes"]) == ("out put.bin", 100_096)
    path = f"/jobs/{job['id']}/results/{result['id']}"
    whole = await anna.ask("GET", path)
    content = await whole.read()
    assert len(content) == 100_096
    assert "attachment" in whole.headers["Content-Disposition"]
    part = await anna.ask("GET", path, status=206, headers={"Range": "bytes=1000-1999"})
    assert await part.read() == content[1000:2000]
    rest = await anna.ask(
        "GET",
        path,
        status=206,
        headers={"Range": "bytes=100000-", "If-Range": whole.headers["ETag"]},
    )
    assert await rest.read() == content[100_000:]
    await anna.ask("GET", path, status=416, headers={"Range": "bytes=200000-"})
    await anna.ask("GET", f"/jobs/{job['id']}/results/9999", status=404)


@pytest.mark.spec("AD-4")
async def test_what_failed_is_listed_and_comes_as_a_table_without_formulas(
    box, anna, makes: Makes
) -> None:
    fail = (*(f"file {n}" for n in range(5)), "=HYPERLINK(1)", 'a,"b"')
    job = await until(anna, await start(box, fail=fail), "done")
    assert (job["failed_items"], job["failed_by_code"]) == (7, {"odd": 7})
    page = await anna.json("GET", f"/jobs/{job['id']}/items?after=2&limit=2")
    assert (page["total"], [item["name"] for item in page["items"]]) == (7, ["file 2", "file 3"])
    answer = await anna.ask("GET", f"/jobs/{job['id']}/items.csv")
    rows = list(csv.reader(io.StringIO((await answer.read()).decode("utf-8-sig"))))
    assert rows[0] == ["number", "name", "code", "reason"]
    assert [row[1] for row in rows[6:]] == ["'=HYPERLINK(1)", 'a,"b"']


async def test_a_job_is_paused_goes_on_is_cancelled_and_deleted(box, anna, makes: Makes) -> None:
    makes.go.clear()
    job_id = await start(box)
    await until(anna, job_id, "running")
    await asyncio.sleep(0.1)
    assert (await anna.json("POST", f"/jobs/{job_id}/pause"))["state"] == "paused"
    await anna.ask("DELETE", f"/jobs/{job_id}", status=409)
    await anna.json("POST", f"/jobs/{job_id}/retry")
    await until(anna, job_id, "running")
    assert (await anna.json("POST", f"/jobs/{job_id}/cancel"))["state"] == "cancelled"
    assert (await anna.json("POST", f"/jobs/{job_id}/cancel", status=409))["code"] == "job-refused"
    await anna.ask("DELETE", f"/jobs/{job_id}", status=204)
    assert (await anna.json("GET", f"/jobs/{job_id}", status=404))["code"] == "unknown-job"


@pytest.mark.spec("AD-1")
async def test_the_jobs_of_others_are_not_there_and_administrators_see_all(
    box, anna, makes: Makes
) -> None:
    other = await bruno(anna)
    his, hers = await start(box, "bruno"), await start(box, "anna")
    await until(anna, his, "done")
    job = await until(anna, hers, "done")
    for method, path in (
        ("GET", ""), ("GET", "/items"), ("GET", "/items.csv"), ("POST", "/cancel"),
        ("POST", "/pause"), ("POST", "/retry"), ("DELETE", ""),
        ("GET", f"/results/{job['results'][0]['id']}"),
    ):  # fmt: skip
        answer = await other.json(method, f"/jobs/{hers}{path}", status=404)
        assert answer["code"] == "unknown-job"
    listed = await other.json("GET", "/jobs")
    assert [each["id"] for each in listed["jobs"]] == [his]
    assert {each["id"] for each in (await anna.json("GET", "/jobs"))["jobs"]} == {his, hers}
    mine = await anna.json("GET", "/jobs?mine=true&state=done&kind=makes")
    assert [each["id"] for each in mine["jobs"]] == [hers]


async def test_a_job_of_an_account_that_is_gone_is_not_done(box, anna, makes: Makes) -> None:
    job = await until(anna, await start(box, "nobody"), "failed")
    assert job["code"] == "not-allowed"


async def test_whoever_listens_hears_of_jobs(box, anna, makes: Makes) -> None:
    stream = await anna.ask("GET", "/events")
    job_id = await start(box)
    heard = b""
    async with asyncio.timeout(10):
        while b'"state": "done"' not in heard:
            heard += await stream.content.readany()
    assert f'event: job\ndata: {{"id": {job_id}, "state": "waiting"}}'.encode() in heard
    stream.close()
