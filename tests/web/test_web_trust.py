# SPDX-License-Identifier: Apache-2.0
"""Logs, audit state, webhooks and the support bundle by the API; request ids."""

import asyncio
import logging

import pytest
from aiohttp import web

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def anna(claimed):
    return claimed


@pytest.fixture
def box(claimed, _proc_may_be_read):
    return claimed.box


async def _until(condition, wait_s: float = 15) -> None:
    async with asyncio.timeout(wait_s):
        while not condition():
            await asyncio.sleep(0.02)


@pytest.mark.spec("AD-10", "AD-6")
async def test_the_log_is_read_filtered_and_made_louder_live(box, anna):
    files = await anna.json("GET", "/logs")
    assert files["files"][0]["name"] == "scrigno.log"
    logging.getLogger("scrigno.node").debug("not yet heard")
    change = {"settings": {"log_levels": [{"part": "node", "level": "debug"}]}}
    await anna.json("PATCH", "/settings", json=change)
    logging.getLogger("scrigno.node.query").debug("heard from the node\nX: y")
    logging.getLogger("scrigno.web").debug("not heard from the web")
    await asyncio.sleep(0.3)
    found = await anna.json("GET", "/logs/lines?room=node&text=HEARD")
    assert [each["text"] for each in found["lines"]] == ["heard from the node\\nX: y"]
    assert found["lines"][0]["level"] == "DEBUG"
    assert (await anna.json("GET", "/logs/lines?level=ERROR&text=heard"))["lines"] == []
    text = await (await anna.ask("GET", "/logs/scrigno.log")).text()
    assert "heard from the node" in text
    assert "not yet heard" not in text
    await anna.json("PATCH", "/settings", json={"settings": {"log_levels": []}})
    logging.getLogger("scrigno.node").debug("silent again")
    await asyncio.sleep(0.3)
    assert (await anna.json("GET", "/logs/lines?text=silent%20again"))["lines"] == []
    for path in ("/logs/passwd", "/logs/scrigno.log.9999", "/logs/..%2f..%2fetc%2fpasswd"):
        await anna.ask("GET", path, status=404)
    await anna.ask("GET", "/logs/lines?file=../x", status=400)


@pytest.mark.spec("AD-10")
async def test_a_refusal_and_its_log_line_have_the_same_id(box, anna):
    body = {"user": "mallory", "password": "guess"}
    async with box.http.post(box.api("/login"), json=body) as answer:
        found = await answer.json(content_type=None)
        assert found["request_id"] == answer.headers["X-Request-Id"]
    await asyncio.sleep(0.3)
    lines = (await anna.json("GET", f"/logs/lines?text={found['request_id']}"))["lines"]
    assert any("failed log-in" in each["text"] for each in lines)


@pytest.mark.spec("AD-10")
async def test_the_state_of_the_trail_is_told(box, anna):
    state = await anna.json("GET", "/audit/state")
    assert state["first"] == 1
    assert state["last"] >= 1  # lines are written down a moment after they are said
    assert 0 < state["size_bytes"] < state["quota_bytes"]
    assert state["syslog"] == {
        "enabled": False, "sent": 0, "waiting": 0, "failures": 0, "reason": "",
    }  # fmt: skip
    await anna.ask("GET", "/audit/export?format=exe", status=400)


@pytest.mark.spec("IN-6")
async def test_a_study_that_arrives_is_told_to_a_webhook_of_the_settings(box, anna):
    told: list[dict] = []

    async def take(request: web.Request) -> web.Response:
        told.append(await request.json())
        return web.Response()

    app = web.Application()
    app.router.add_post("/hook", take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    hooks = {
        "endpoints": [{"name": "ris", "url": url, "secret": "s3cret", "events": [
            "study.received", "study.complete"]}],
        "study_complete_after_s": 1,
    }  # fmt: skip
    change = {"settings": {"webhooks": hooks, "outgoing": {"allowed": ["127.0.0.0/8"]}}}
    changed = await anna.json("PATCH", "/settings", json=change)
    assert changed["settings"]["webhooks"]["endpoints"][0]["secret"] == "********"
    await box.take_in(images=2, patient=0)
    await _until(lambda: len(told) == 2)
    assert [each["type"] for each in told] == ["study.received", "study.complete"]
    assert told[1]["data"]["instances_received"] == 2
    assert "Rossi" not in str(told)
    (status,) = (await anna.json("GET", "/webhooks"))["webhooks"]
    assert (status["name"], status["dead"]) == ("ris", 0)
    assert (await anna.json("POST", "/webhooks/ris/test"))["sent"]
    listed = (await anna.json("GET", "/webhooks/deliveries?state=delivered"))["deliveries"]
    assert {each["event"] for each in listed} == {"study.received", "study.complete"}
    one = await anna.json("GET", f"/webhooks/deliveries/{listed[0]['id']}")
    assert one["tried"][0]["status"] == 200
    await anna.json("POST", f"/webhooks/deliveries/{listed[0]['id']}/replay")
    await _until(lambda: len(told) == 4)  # and the test
    await anna.ask("POST", "/webhooks/nobody/test", status=404)
    await anna.ask("POST", "/webhooks/deliveries/99999/replay", status=404)
    hidden = {
        "settings": {"webhooks": changed["settings"]["webhooks"], "outgoing": {"allowed": []}}
    }
    await anna.json("PATCH", "/settings", json=hidden)
    assert box.parts.settings.current.webhooks.endpoints[0].secret == "s3cret"
    refused = await anna.json("POST", "/webhooks/ris/test")
    assert not refused["sent"]
    assert "the box itself" in refused["reason"]
    moved = {"endpoints": [{"name": "ris", "url": "http://10.9.9.9/x", "secret": "********"}]}
    await anna.json("PATCH", "/settings", json={"settings": {"webhooks": moved}})
    assert box.parts.settings.current.webhooks.endpoints[0].secret == ""  # it stays where it was
    await runner.cleanup()


@pytest.mark.spec("AD-10")
async def test_the_support_bundle_is_a_download_for_administrators(box, anna):
    answer = await anna.ask("POST", "/support-bundle")
    assert answer.content_type == "application/zip"
    assert (await answer.read())[:2] == b"PK"
    recorded = await box.parts.audit.entries(action="support-bundle")
    assert recorded[0].who == "anna"
