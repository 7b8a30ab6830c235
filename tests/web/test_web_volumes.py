# SPDX-License-Identifier: Apache-2.0
"""Volumes by the API: rest, come back, join, leave; live, refused in words, written down."""

import asyncio
import time

import pytest


async def state_of(anna, name: str) -> dict:
    volumes = (await anna.json("GET", "/volumes"))["volumes"]
    return next((each for each in volumes if each["name"] == name), {})


async def until(anna, name: str, wanted: str, within_s: float = 15) -> dict:
    ends = time.monotonic() + within_s
    while (found := await state_of(anna, name)).get("state") != wanted:
        assert time.monotonic() < ends, found
        await asyncio.sleep(0.1)
    return found


@pytest.mark.spec("ST-3")
async def test_a_volume_rests_and_catches_up_when_it_is_resumed(box, anna):
    await box.take_in(images=2)
    paused = await anna.json("POST", "/volumes/backup1/pause", json={"reason": "new cable"})
    assert paused["paused"]
    assert paused["state"] == "offline"
    assert "new cable" in paused["reason"] + paused["operator_reason"]
    await box.take_in(images=3, patient=1)
    assert (await state_of(anna, "backup1"))["objects_held"] <= 2
    await anna.json("POST", "/volumes/backup1/resume", json={})
    await until(anna, "backup1", "online")
    ends = time.monotonic() + 15
    while (await state_of(anna, "backup1"))["objects_held"] < 5:
        assert time.monotonic() < ends
        await asyncio.sleep(0.1)
    trail = await box.parts.audit.entries()
    assert {"pause", "resume"} <= {each.details.get("act") for each in trail}


@pytest.mark.spec("ST-1", "AD-6")
async def test_a_volume_is_added_live_gets_everything_and_is_retired_again(box, anna):
    await box.take_in(images=3)
    path = box.root / "backup2"
    await asyncio.to_thread(path.mkdir)
    await anna.json("POST", "/volumes", status=201, json={"name": "backup2", "path": str(path)})
    await until(anna, "backup2", "online")
    ends = time.monotonic() + 20
    while (await state_of(anna, "backup2"))["objects_held"] < 3:
        assert time.monotonic() < ends
        await asyncio.sleep(0.1)
    await anna.ask("POST", "/volumes/backup2/retire", status=204)
    assert await state_of(anna, "backup2") == {}
    assert len(list(path.rglob("*.dcm"))) == 3  # its files stay as they are
    settings = (await anna.json("GET", "/settings"))["settings"]
    assert [each["name"] for each in settings["volumes"]] == ["data", "backup1"]


async def test_what_would_lose_images_is_refused_in_words(box, anna):
    await box.take_in(images=2)
    await anna.json("POST", "/volumes/backup1/pause", json={"reason": ""})
    await box.take_in(images=2, patient=1)
    refused = await anna.json("POST", "/volumes/data/retire", status=409)
    assert "no other volume" in refused["detail"] or "only" in refused["detail"]
    assert refused["next_step"]
    await anna.json("POST", "/volumes/nothing/pause", status=409, json={})


async def test_a_volume_taken_out_of_the_settings_leaves_at_once(box, anna):
    settings = (await anna.json("GET", "/settings"))["settings"]
    left = [each for each in settings["volumes"] if each["name"] == "data"]
    await anna.json("PATCH", "/settings", json={"settings": {"volumes": left}})
    ends = time.monotonic() + 10
    while await state_of(anna, "backup1"):
        assert time.monotonic() < ends
        await asyncio.sleep(0.1)
