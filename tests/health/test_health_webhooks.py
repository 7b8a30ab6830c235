# SPDX-License-Identifier: Apache-2.0
"""Webhooks against a real server: signed, in order, tried again, kept over restarts, replayed."""

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from scrigno.core.clock import SystemClock
from scrigno.core.counters import Counters
from scrigno.health.outgoing import Outgoing
from scrigno.health.webhook_store import DeliveryState, WebhookStore
from scrigno.health.webhooks import (
    EndpointRules,
    UnknownDelivery,
    UnknownWebhook,
    WebhookPace,
    WebhookRules,
    Webhooks,
)

HURRY = WebhookPace(
    tick_s=0.05, flush_pause_s=0.01, retries_s=(0.05, 0.05, 0.1), rest_most_s=0.1,
    given_up_after_s=60,
)  # fmt: skip
SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()


class Desk:
    """The program at the other end."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[int] = []
        self.always = 0

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        if self.always:
            return web.Response(status=self.always)
        if self.answers:
            status = self.answers.pop(0)
            if status >= 300:
                return web.Response(status=status, headers={"Location": "/elsewhere"})
        self.got.append((dict(request.headers), body))
        return web.Response(status=204)

    def told(self) -> list[tuple[str, dict]]:
        documents = [json.loads(body) for _, body in self.got]
        return [(each["type"], each["data"]) for each in documents]


@asynccontextmanager
async def _served(desk: Desk) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/hook", desk.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def _webhooks(
    folder: Path, *endpoints: EndpointRules, after_s: float = 60, pace: WebhookPace = HURRY
) -> AsyncIterator[Webhooks]:
    made = Webhooks(
        store=WebhookStore(folder),
        rules=lambda: WebhookRules(endpoints=endpoints, complete_after_s=after_s),
        outgoing=Outgoing(allowed=lambda: ["127.0.0.0/8"], timeout_s=5),
        clock=SystemClock(),
        counters=Counters(),
        pace=pace,
    )
    await made.open()
    made.start()
    try:
        yield made
    finally:
        await made.close()


async def _until(condition, wait_s: float = 10) -> None:
    async with asyncio.timeout(wait_s):
        while not (await condition() if asyncio.iscoroutinefunction(condition) else condition()):
            await asyncio.sleep(0.01)


@pytest.mark.spec("IN-6")
@pytest.mark.parametrize("secret", ["plain words", SECRET])
async def test_a_message_is_signed_as_standard_webhooks_says(tmp_path, secret):
    desk = Desk()
    async with (
        _served(desk) as url,
        _webhooks(tmp_path, EndpointRules(name="desk", url=url, secret=secret)) as hooks,
    ):
        hooks.tell("inbox.held", {"inbox_id": 7, "reason": "conflict"})
        await _until(lambda: desk.got)
    headers, body = desk.got[0]
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    key = b"0123456789abcdef0123456789abcdef" if secret == SECRET else secret.encode()
    expected = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    document = json.loads(body)
    assert document["type"] == "inbox.held"
    assert document["data"] == {"inbox_id": 7, "reason": "conflict"}
    assert document["timestamp"].endswith("+00:00")


@pytest.mark.spec("IN-6")
async def test_a_study_is_told_when_it_comes_and_when_no_image_came_for_a_while(tmp_path):
    desk = Desk()
    async with (
        _served(desk) as url,
        _webhooks(tmp_path, EndpointRules(name="desk", url=url), after_s=0.4) as hooks,
    ):
        for _ in range(5):
            hooks.stored("1.2.3")
            await asyncio.sleep(0.1)
        assert [kind for kind, _ in desk.told()] == ["study.received"]
        await _until(lambda: len(desk.got) == 2)
        assert desk.told()[1] == (
            "study.complete", {"study_instance_uid": "1.2.3", "instances_received": 5},
        )  # fmt: skip
        hooks.stored("1.2.3")  # a late image begins anew
        await _until(lambda: len(desk.got) == 4)


@pytest.mark.spec("IN-6")
async def test_a_growing_study_and_waiting_messages_outlive_a_restart(tmp_path):
    desk = Desk()
    desk.always = 503
    async with _served(desk) as url:
        endpoint = EndpointRules(name="desk", url=url)
        async with _webhooks(tmp_path, endpoint, after_s=1.0) as hooks:
            hooks.stored("1.2.3")
            hooks.stored("1.2.3")
            await _until(lambda: hooks._courses["desk"].failures > 0)
        desk.always = 0
        async with _webhooks(tmp_path, endpoint, after_s=1.0):
            await _until(lambda: len(desk.got) == 2)
    assert [kind for kind, _ in desk.told()] == ["study.received", "study.complete"]
    assert desk.told()[1][1]["instances_received"] == 2


@pytest.mark.spec("IN-6")
async def test_an_endpoint_that_fails_is_tried_again_with_the_same_id_and_told_about(tmp_path):
    desk = Desk()
    desk.answers = [500, 503, 302, 429]
    async with (
        _served(desk) as url,
        _webhooks(tmp_path, EndpointRules(name="desk", url=url)) as hooks,
    ):
        hooks.tell("node.pending", {"node": "CT1"})
        await _until(lambda: desk.got)
        (one,) = await hooks.deliveries(before=None, limit=10)
        await _until(lambda: not hooks.conditions())
        found, attempts = await hooks.delivery(one.id)
        assert found.state is DeliveryState.DELIVERED
        assert [each.status for each in attempts] == [500, 503, 302, 429, 204]
        assert "not followed" in attempts[2].reason
    assert desk.got[0][0]["webhook-id"] == one.message_id


@pytest.mark.spec("IN-6")
async def test_what_is_refused_for_good_is_a_dead_letter_that_can_be_sent_again(tmp_path):
    desk = Desk()
    desk.answers = [410]
    async with (
        _served(desk) as url,
        _webhooks(tmp_path, EndpointRules(name="desk", url=url)) as hooks,
    ):
        hooks.tell("settings.changed", {"revision": 2})

        async def dead() -> bool:
            found = await hooks.deliveries(before=None, limit=10, state="dead")
            return bool(found)

        await _until(dead)
        assert desk.got == []
        assert await hooks.replay_dead("desk") == 1
        await _until(lambda: desk.got)
        (one,) = await hooks.deliveries(before=None, limit=10, endpoint="desk")

        async def delivered() -> bool:
            return (await hooks.delivery(one.id))[0].state is DeliveryState.DELIVERED

        await _until(delivered)
        await hooks.replay(one.id)
        await _until(lambda: len(desk.got) == 2)
        assert desk.got[0][0]["webhook-id"] == desk.got[1][0]["webhook-id"]
        (status,) = await hooks.statuses()
        assert (status.waiting, status.dead) == (0, 0)
        with pytest.raises(UnknownDelivery):
            await hooks.replay(999)
        with pytest.raises(UnknownWebhook):
            await hooks.replay_dead("nobody")


@pytest.mark.spec("IN-6")
async def test_what_is_too_old_is_given_up(tmp_path):
    desk = Desk()
    desk.always = 500
    pace = WebhookPace(
        tick_s=0.05, flush_pause_s=0.01, retries_s=(0.05,), rest_most_s=0.05, given_up_after_s=0.3
    )
    async with (
        _served(desk) as url,
        _webhooks(tmp_path, EndpointRules(name="desk", url=url), pace=pace) as hooks,
    ):
        hooks.tell("settings.changed", {"revision": 2})

        async def dead() -> bool:
            return bool(await hooks.deliveries(before=None, limit=10, state="dead"))

        await _until(dead)
        assert hooks.conditions()[0].code == "webhook-failed"


@pytest.mark.spec("IN-6")
async def test_each_endpoint_hears_what_it_wants_and_one_that_fails_holds_up_no_other(tmp_path):
    desk, broken = Desk(), Desk()
    broken.always = 500
    async with (
        _served(desk) as url,
        _served(broken) as other,
        _webhooks(
            tmp_path,
            EndpointRules(name="broken", url=other),
            EndpointRules(name="desk", url=url, kinds=frozenset({"volume.changed"})),
        ) as hooks,
    ):
        hooks.tell("settings.changed", {"revision": 2})
        hooks.tell("volume.changed", {"volume": "data"})
        await _until(lambda: desk.got)
        assert [kind for kind, _ in desk.told()] == ["volume.changed"]
        statuses = {each.name: each for each in await hooks.statuses()}
        assert statuses["broken"].waiting == 2


@pytest.mark.spec("IN-6")
async def test_a_message_that_is_refused_does_not_hold_up_the_next(tmp_path):
    desk = Desk()
    desk.answers = [422]
    pace = WebhookPace(tick_s=0.05, flush_pause_s=0.01, retries_s=(30.0,), rest_most_s=0.1)
    async with (
        _served(desk) as url,
        _webhooks(tmp_path, EndpointRules(name="desk", url=url), pace=pace) as hooks,
    ):
        hooks.tell("settings.changed", {"revision": 1})
        hooks.tell("settings.changed", {"revision": 2})
        await _until(lambda: desk.got)
        assert desk.told() == [("settings.changed", {"revision": 2})]


@pytest.mark.spec("IN-6")
async def test_the_box_itself_is_never_told(tmp_path):
    desk = Desk()
    async with _served(desk) as url:
        made = Webhooks(
            store=WebhookStore(tmp_path),
            rules=lambda: WebhookRules(endpoints=(EndpointRules(name="own", url=url),)),
            outgoing=Outgoing(timeout_s=5),
            clock=SystemClock(),
            counters=Counters(),
            pace=HURRY,
        )
        await made.open()
        made.start()
        assert (await made.test("own"))[1].endswith("is the box itself.")
        await made.close()
    assert desk.got == []


async def test_a_job_is_told_when_its_state_changes_and_not_for_its_progress(tmp_path):
    desk = Desk()
    async with (
        _served(desk) as url,
        _webhooks(tmp_path, EndpointRules(name="desk", url=url)) as hooks,
    ):
        for state in ("running", "running", "running", "done"):
            hooks.job("5", state)
        await _until(lambda: len(desk.got) == 2)
        await asyncio.sleep(0.2)
    assert [data["state"] for _, data in desk.told()] == ["running", "done"]
