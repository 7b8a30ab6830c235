# SPDX-License-Identifier: Apache-2.0
"""The event stream: what happens is told at once, by identifiers only, to whoever is logged in."""

import asyncio
import json

import pytest

from scrigno.core.events import VolumeChanged


class Listener:
    """Reads server-sent events of one stream."""

    def __init__(self, answer) -> None:
        self.answer = answer

    async def next(self) -> tuple[str, dict]:
        name = ""
        async with asyncio.timeout(10):
            while True:
                line = (await self.answer.content.readline()).decode().strip("\n")
                if line.startswith("event: "):
                    name = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    return name, json.loads(line.removeprefix("data: "))


@pytest.mark.spec("IN-6", "ST-3")
async def test_a_page_hears_of_a_volume_and_of_a_new_study(box, anna):
    listener = Listener(await anna.ask("GET", "/events"))
    rooms = box.parts
    rooms.bus.publish(VolumeChanged(volume="data", before="online", after="offline", reason="test"))
    assert await listener.next() == ("volume", {"name": "data", "state": "offline"})
    await box.take_in(images=3)
    name, content = await listener.next()
    assert name == "studies"
    assert len(content["uids"]) == 1
    listener.answer.close()


async def test_nobody_hears_anything_without_a_log_in(box):
    async with box.http.get(box.api("/events")) as answer:
        assert answer.status == 401


async def test_a_slow_listener_loses_its_stream_and_not_the_box_its_memory(box, anna):
    answer = await anna.ask("GET", "/events")
    for number in range(100):
        event = VolumeChanged(volume="data", before="a", after=f"b{number}", reason="")
        box.parts.bus.publish(event)
    told = await asyncio.wait_for(answer.content.read(), 10)
    assert told.count(b"event: volume") < 100


async def test_a_session_that_ends_ends_its_stream(box, anna):
    answer = await anna.ask("GET", "/events")
    await anna.ask("POST", "/logout", status=204)
    box.parts.bus.publish(VolumeChanged(volume="data", before="a", after="b", reason=""))
    told = await asyncio.wait_for(answer.content.read(), 10)
    assert told.count(b"event:") <= 1
