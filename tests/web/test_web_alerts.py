# SPDX-License-Identifier: Apache-2.0
"""Alerts by the API: raised by a volume that fails, in the reader's words, seen and silenced."""

import asyncio
import time
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import web


async def alert_of(anna, code: str, within_s: float = 10, language: str = "en") -> dict:
    ends = time.monotonic() + within_s
    while True:
        found = (await anna.json("GET", f"/alerts?language={language}"))["alerts"]
        for each in found:
            if each["code"] == code:
                return each
        assert time.monotonic() < ends, found
        await asyncio.sleep(0.1)


@pytest.mark.spec("AD-11", "ST-3")
async def test_a_volume_that_vanishes_is_an_alert_in_words_within_ten_seconds(box, anna):
    await asyncio.to_thread((box.root / "data").rename, box.root / "elsewhere")
    found = await alert_of(anna, "volume-absent")
    assert found["level"] == "critical"
    assert found["subject"] == "data"
    assert found["summary"]
    assert found["explanation"]
    assert found["next_step"]
    italian = await alert_of(anna, "volume-absent", language="it")
    assert italian["summary"] != found["summary"]
    seen = await anna.json(
        "POST", f"/alerts/{found['id']}/acknowledge", json={"comment": "on my way"}
    )
    assert seen["acknowledged_by"] == "anna"
    history = (await anna.json("GET", "/alerts/history"))["changes"]
    assert {"raised", "acknowledged"} <= {each["action"] for each in history}
    status = await anna.json("GET", "/status")
    assert any(each["code"] == "volume-absent" for each in status["conditions"])


async def test_silence_says_when_it_hides_a_danger(anna):
    until = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    made = await anna.json(
        "POST", "/alerts/silences", json={"until": until, "code": "volume-space"}
    )
    assert made["silence"]["code"] == "volume-space"
    assert len((await anna.json("GET", "/alerts/silences"))["silences"]) == 1
    await anna.ask("DELETE", f"/alerts/silences/{made['silence']['id']}", status=204)
    assert (await anna.json("GET", "/alerts/silences"))["silences"] == []


@pytest.mark.spec("AD-11")
async def test_a_webhook_of_the_settings_is_told_and_its_test_says_why_it_fails(box, anna):
    told: asyncio.Queue[dict] = asyncio.Queue()

    async def take(request: web.Request) -> web.Response:
        await told.put(await request.json())
        return web.Response()

    app = web.Application()
    app.router.add_post("/hook", take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    hooks = [{"name": "desk", "url": f"http://127.0.0.1:{port}/hook", "secret": "s3cret"}]
    changed = {"alerts": {"webhooks": hooks}, "outgoing": {"allowed": ["127.0.0.0/8"]}}
    await anna.json("PATCH", "/settings", json={"settings": changed})
    assert (await anna.json("POST", "/alerts/channels/desk/test"))["sent"]
    assert (await asyncio.wait_for(told.get(), 10))["test"]
    settings = await anna.json("GET", "/settings")
    assert "s3cret" not in str(settings)
    await runner.cleanup()
    failed = await anna.json("POST", "/alerts/channels/desk/test")
    assert not failed["sent"]
    assert failed["reason"]


async def test_the_machine_shows_its_disks_and_what_it_cannot_know(anna):
    found = await anna.json("GET", "/machine")
    assert found["processors"] is None or found["processors"] >= 1
    assert isinstance(found["disks"], list)
    assert isinstance(found["sensors_failing"], dict)


@pytest.mark.spec("AD-11")
async def test_log_ins_that_fail_again_and_again_are_an_event(box, anna):
    for _ in range(6):
        body = {"user": "anna", "password": "wrong"}
        async with box.http.post(box.api("/login"), json=body) as answer:
            assert answer.status in {401, 429}
    found = await alert_of(anna, "login-failures")
    assert found["subject"] == "127.0.0.1"
    assert found["kind"] == "event"


async def test_who_changed_the_settings_is_told(anna):
    await anna.json("PATCH", "/settings", json={"settings": {"language": "it"}})
    assert (await alert_of(anna, "settings-changed"))["subject"] == "anna"
