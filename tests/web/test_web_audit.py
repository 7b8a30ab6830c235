# SPDX-License-Identifier: Apache-2.0
"""The audit trail by the API: paged, filtered, and its chain checked."""

import asyncio

import pytest


@pytest.mark.spec("AD-10")
async def test_the_trail_is_paged_and_filtered(box, anna):
    await anna.json("POST", "/scrub/pause")
    await anna.json("POST", "/scrub/resume")
    entries = (await anna.json("GET", "/audit"))["entries"]
    numbers = [each["number"] for each in entries]
    assert numbers == sorted(numbers, reverse=True)
    (page,) = (await anna.json("GET", "/audit?limit=1"))["entries"]
    following = await anna.json("GET", f"/audit?limit=1&after={page['number']}")
    assert following["entries"][0]["number"] == page["number"] - 1
    mine = (await anna.json("GET", "/audit?who=anna&action=scrub-pause"))["entries"]
    assert [(each["who"], each["action"]) for each in mine] == [("anna", "scrub-pause")]
    assert (await anna.json("GET", "/audit?since=2100-01-01T00:00:00Z"))["entries"] == []
    at = mine[0]["at"]
    assert at.endswith("+00:00")
    one = await anna.json("GET", f"/audit?action=scrub-pause&since={at}&until={at}")
    assert len(one["entries"]) == 1
    await anna.ask("GET", "/audit?since=yesterday", status=400)
    used = await anna.json("GET", "/audit?action=audit-log-used")
    assert used["entries"]  # looking is recorded too


@pytest.mark.spec("AD-10")
async def test_a_line_that_was_changed_is_found(box, anna):
    await anna.json("POST", "/scrub/pause")
    assert await anna.json("GET", "/audit/verify") == {"whole": True, "problems": []}

    def forge() -> None:
        (path,) = (box.root / "state" / "audit").glob("audit-*.jsonl")
        path.write_text(path.read_text().replace("scrub-pause", "scrub-peace"))

    await asyncio.to_thread(forge)
    found = await anna.json("GET", "/audit/verify")
    assert not found["whole"]
    assert found["problems"]
