# SPDX-License-Identifier: Apache-2.0
"""Settings, providers and remote nodes over HTTP: live, versioned, revertible."""

import asyncio
import socket

import pytest

from made_objects import write_series


@pytest.mark.spec("AD-6")
async def test_settings_are_changed_by_a_merge_patch_with_history_and_revert(anna):
    start = await anna.json("GET", "/settings")
    assert start["revision"] == 1
    patch = {"settings": {"language": "fr", "limits": {"max_studies": 9}}, "why": "trial"}
    after = await anna.json("PATCH", "/settings", json=patch)
    assert after["revision"] == 2
    assert after["settings"]["limits"]["max_studies"] == 9
    assert after["settings"]["volumes"] == start["settings"]["volumes"]
    newest = (await anna.json("GET", "/settings/history"))["revisions"][0]
    assert (newest["number"], newest["author"], newest["why"]) == (2, "anna", "trial")
    assert (await anna.json("GET", "/settings/history/1"))["settings"]["language"] == "en"
    back = await anna.json("POST", "/settings/revert", json={"revision": 1})
    assert (back["revision"], back["settings"]) == (3, start["settings"])
    await anna.ask("POST", "/settings/revert", json={"revision": 77}, status=404)


@pytest.mark.spec("AD-6")
async def test_wrong_settings_are_refused_with_every_reason_and_nothing_changes(anna):
    patch = {"settings": {"language": "de", "ingest": {"ack_copies": 0, "ack_copys": 1}}}
    content = await anna.json("PATCH", "/settings", json=patch, status=422)
    assert content["code"] == "bad-configuration"
    assert sorted(each["key"] for each in content["problems"]) == [
        "ingest.ack_copies",
        "ingest.ack_copys",
        "language",
    ]
    assert (await anna.json("GET", "/settings"))["revision"] == 1


async def test_a_change_of_what_somebody_else_changed_meanwhile_is_refused(anna):
    await anna.json("PATCH", "/settings", json={"settings": {"language": "it"}})
    late = {"settings": {"language": "ko"}, "based_on": 1}
    content = await anna.json("PATCH", "/settings", json=late, status=409)
    assert content["code"] == "settings-changed-meanwhile"


@pytest.mark.spec("AD-6")
async def test_the_whole_configuration_is_exported_and_restored(anna):
    answer = await anna.ask("GET", "/settings/export")
    exported = await answer.text()
    assert "attachment" in answer.headers["Content-Disposition"]
    await anna.json("PATCH", "/settings", json={"settings": {"language": "vi"}})
    headers = {"Content-Type": "application/yaml"}
    back = await anna.json("POST", "/settings/import", data=exported, headers=headers)
    assert back["settings"]["language"] == "en"
    wrong = await anna.json(
        "POST", "/settings/import", data="language: xx\n", headers=headers, status=422
    )
    assert "line 1" in wrong["detail"]


@pytest.mark.spec("DN-1")
async def test_a_provider_listens_and_goes_away_without_a_restart(anna):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    new = {"name": "Second", "ae_title": "SECOND", "port": port, "host": "127.0.0.1"}
    await anna.json("POST", "/providers", json=new, status=201)

    async def listening() -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        writer.close()
        await writer.wait_closed()
        return True

    async def until(wanted: bool) -> None:
        async with asyncio.timeout(5):
            while await listening() is not wanted:
                await asyncio.sleep(0.05)

    await until(True)
    providers = (await anna.json("GET", "/providers"))["providers"]
    assert [each["listening_port"] for each in providers][1] == port
    changed = await anna.json("PATCH", "/providers/Second", json={"enabled": False})
    assert changed["enabled"] is False
    await until(False)
    twice = await anna.json("POST", "/providers", json={**new, "name": "Scrigno"}, status=422)
    assert twice["problems"][0]["key"] == "dicom.providers[2].name"
    await anna.ask("DELETE", "/providers/Second", status=204)
    await anna.ask("DELETE", "/providers/Second", status=404)


@pytest.mark.spec("DN-2", "DN-3")
async def test_nodes_are_listed_added_changed_approved_blocked_and_removed(anna):
    new = {"name": "CT 1 / ground", "ae_title": "CT1", "host": "192.168.1.20", "state": "pending"}
    await anna.json("POST", "/peers", json=new, status=201)
    path = "/peers/CT%201%20%2F%20ground"
    assert (await anna.json("POST", f"{path}/approve"))["state"] == "approved"
    assert (await anna.json("PATCH", path, json={"port": 11112}))["port"] == 11112
    assert (await anna.json("POST", f"{path}/block"))["state"] == "blocked"
    (listed,) = (await anna.json("GET", "/peers"))["peers"]
    assert (listed["name"], listed["state"], listed["last_seen"]) == (
        "CT 1 / ground",
        "blocked",
        None,
    )
    wrong = await anna.json("POST", "/peers", json={"name": "x", "ae_title": "y"}, status=422)
    assert wrong["problems"][0]["key"] == "host"
    await anna.ask("DELETE", path, status=204)
    await anna.ask("POST", f"{path}/approve", status=404)


@pytest.mark.spec("DN-2")
async def test_an_echo_tells_who_answers_and_who_does_not(anna):
    port = (await anna.json("GET", "/status"))["providers"][0]["port"]
    own = {"name": "self", "ae_title": "SCRIGNO", "host": "127.0.0.1", "port": port}
    dead = {"name": "dead", "ae_title": "DEAD", "host": "127.0.0.1", "port": 1}
    anybody = {"name": "any", "ae_title": "ANY", "host": "10.0.0.0/8"}
    for each in (own, dead, anybody):
        await anna.json("POST", "/peers", json=each, status=201)
    answers = (await anna.json("POST", "/peers/echo"))["answers"]
    by_name = {each["name"]: each for each in answers}
    assert by_name["self"]["ok"] is True, by_name
    assert by_name["dead"]["ok"] is False
    assert by_name["dead"]["detail"]
    assert by_name["any"]["ok"] is False
    assert (await anna.json("POST", "/peers/self/echo"))["seconds"] < 5


async def test_the_status_says_where_to_send_images_and_what_is_there(box, anna):
    before = await anna.json("GET", "/status")
    assert before["totals"]["studies"] == 0
    (provider,) = before["providers"]
    assert (provider["ae_title"], provider["unregistered"]) == ("SCRIGNO", "hold")
    assert provider["port"] > 0
    await box.take_in(images=2)
    after = await anna.json("GET", "/status")
    assert (after["totals"]["studies"], after["totals"]["instances"]) == (1, 2)
    assert {each["state"] for each in after["volumes"]} == {"online"}
    assert after["ready"] is True
    volumes = (await anna.json("GET", "/volumes"))["volumes"]
    assert [each["name"] for each in volumes] == ["data", "backup1"]
    assert (await anna.json("GET", "/inbox"))["items"] == []
    await anna.ask("POST", "/inbox/99/accept", status=404)


@pytest.mark.spec("DN-3")
async def test_the_approval_of_a_node_lets_its_held_images_in(box, anna, tmp_path):
    images = await asyncio.to_thread(write_series, tmp_path / "new", images=2)
    port = (await anna.json("GET", "/status"))["providers"][0]["port"]
    sender = await asyncio.create_subprocess_exec(
        "/usr/bin/storescu", "-aet", "NEWCT", "-aec", "SCRIGNO", "127.0.0.1", str(port),
        *map(str, images.values()),
    )  # fmt: skip
    assert await sender.wait() == 0
    assert (await anna.json("GET", "/studies"))["total"] == 0
    inbox = await anna.json("GET", "/inbox")
    assert [each["calling_ae"] for each in inbox["items"]] == ["NEWCT", "NEWCT"]
    (peer,) = (await anna.json("GET", "/peers"))["peers"]
    assert (peer["name"], peer["state"], peer["host"]) == ("NEWCT", "pending", "127.0.0.1")
    answer = await anna.json("POST", "/peers/NEWCT/approve")
    assert answer["released"] == {"accepted": 2, "kept": 0}
    assert (await anna.json("GET", "/studies"))["total"] == 1
    assert (await anna.json("GET", "/inbox"))["items"] == []
