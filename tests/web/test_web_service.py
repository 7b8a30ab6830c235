# SPDX-License-Identifier: Apache-2.0
"""Service control, sending and remote queries by the API."""

import asyncio
from dataclasses import replace

import pytest

from ports import free_port


async def plain_user(box, anna, name: str = "bruno"):
    body = {"user": name, "password": "batteria cavallo corretto", "role": "user"}
    await anna.json("POST", "/accounts", status=201, json=body)
    made = await box.parts.access.login(name, body["password"], address="127.0.0.1")
    return replace(anna, token=made.token)


@pytest.mark.spec("AD-3")
async def test_the_service_tells_how_each_part_is_and_a_provider_begins_anew(box, anna):
    state = await anna.json("GET", "/service")
    parts = {each["name"]: each for each in state["parts"]}
    assert parts["dicom Scrigno"]["state"] == "running"
    assert parts["volume data"]["state"] == "running"
    assert parts["index"]["state"] == "running"
    assert not state["restartable"]  # this daemon lives inside a test
    again = await anna.json("POST", "/service/parts/dicom Scrigno/restart")
    assert {each["name"]: each["state"] for each in again["parts"]}["dicom Scrigno"] == "running"
    port = box.parts.node.statuses()[0].port
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.close()
    refused = await anna.json("POST", "/service/parts/index/restart", status=409)
    assert refused["code"] == "command-refused"
    assert refused["next_step"]
    await anna.ask("POST", "/service/restart", status=409)


@pytest.mark.spec("AD-3")
async def test_the_addresses_of_the_pages_have_qr_codes_and_nothing_else_has(box, anna):
    found = (await anna.json("GET", "/service/addresses"))["addresses"]
    assert found[0] == {"url": f"{box.url}/viewer/", "https": False, "here": True}
    answer = await anna.ask("GET", "/service/addresses/qr")
    assert answer.content_type == "image/svg+xml"
    assert (await answer.read()).startswith(b"<?xml")
    await anna.ask("GET", f"/service/addresses/qr?number={len(found) + 1}", status=404)
    refused = await anna.json("GET", "/service/addresses/qr?url=http://evil", status=400)
    assert refused["code"] == "unknown-parameter"


@pytest.mark.spec("DN-9")
async def test_studies_are_sent_watched_paused_and_cancelled_by_the_api(box, anna):
    await box.take_in(images=2)
    study = (await anna.json("GET", "/studies"))["rows"][0]["study_instance_uid"]
    nobody = {"to": ["nobody"], "studies": [study]}
    refused = await anna.json("POST", "/send", status=409, json=nobody)
    assert refused["code"] == "unusable-destination"
    away = {"name": "away", "ae_title": "AWAY", "host": "127.0.0.1", "port": free_port()}
    await anna.json("POST", "/peers", status=201, json=away)
    body = {"to": ["away"], "studies": [study]}
    (item,) = (await anna.json("POST", "/send", status=201, json=body))["items"]
    assert (item["destination"], item["total"], item["author"]) == ("away", 2, "anna")
    async with asyncio.timeout(20):
        while not item["attempts"]:
            await asyncio.sleep(0.05)
            item = await anna.json("GET", f"/send/{item['id']}")
    assert (item["state"], item["code"]) == ("waiting", "dicom-connect-failed")
    (course,) = (await anna.json("GET", "/send/destinations"))["destinations"]
    assert (course["usable"], course["waiting"], course["paused"]) == (True, 1, False)
    paused = await anna.json("POST", "/send/destinations/away/pause", json={"reason": "moving"})
    assert (paused["paused"], paused["reason"], paused["paused_by"]) == (True, "moving", "anna")
    assert not (await anna.json("POST", "/send/destinations/away/resume"))["paused"]
    objects = (await anna.json("GET", f"/send/{item['id']}/objects"))["objects"]
    assert [each["state"] for each in objects] == ["waiting", "waiting"]
    cancelled = await anna.json("POST", f"/send/{item['id']}/cancel")
    assert cancelled["state"] == "cancelled"
    await anna.json("POST", f"/send/{item['id']}/cancel", status=409)
    listed = (await anna.json("GET", "/send?state=cancelled&destination=away"))["items"]
    assert [each["id"] for each in listed] == [item["id"]]
    trail = await anna.json("GET", "/audit?action=send-asked")
    assert [each["outcome"] for each in trail["entries"]] == ["success", "failure"]
    await anna.ask("DELETE", f"/send/{item['id']}", status=204)
    await anna.ask("GET", f"/send/{item['id']}", status=404)


@pytest.mark.spec("DN-9", "AD-7")
async def test_a_part_of_a_study_is_sent_and_what_is_not_there_is_not_found(box, anna):
    uids = await box.take_in(images=3)
    study = (await anna.json("GET", "/studies"))["rows"][0]["study_instance_uid"]
    away = {"name": "away", "ae_title": "AWAY", "host": "127.0.0.1", "port": free_port()}
    await anna.json("POST", "/peers", status=201, json=away)
    part = {"study": study, "instances": uids[:1]}
    body = {"to": ["away"], "parts": [part]}
    (item,) = (await anna.json("POST", "/send", status=201, json=body))["items"]
    assert item["total"] == 1
    for wrong in ({"study": "1.2.3"}, {"study": study, "series": "1.2.3"}):
        await anna.ask("POST", "/send", status=404, json={"to": ["away"], "parts": [wrong]})
    await anna.ask("POST", "/send", status=404, json={"to": ["away"]})
    await anna.ask("POST", "/send", status=404, json={"to": ["away"], "studies": ["1.2.3"]})


@pytest.mark.spec("DN-9")
async def test_other_nodes_are_asked_and_studies_fetched_by_the_api(box, anna):
    # the box itself stands in for the other node: it answers queries as any archive does
    await box.take_in(images=2)
    own = box.parts.node.statuses()[0]
    node = {"name": "self", "ae_title": own.ae_title, "host": "127.0.0.1", "port": own.port}
    await anna.json("POST", "/peers", status=201, json=node)
    asked = {"nodes": ["self"], "keys": {"PatientName": "rossi*"}}
    (answer,) = (await anna.json("POST", "/remote/find", json=asked))["answers"]
    assert (answer["code"], answer["complete"]) == ("", True), answer
    (row,) = answer["rows"]
    assert row["in_archive"]
    assert row["values"]["PatientID"] == "IT-001"
    wrong = asked | {"keys": {"PixelData": "1"}}
    refused = await anna.json("POST", "/remote/find", status=422, json=wrong)
    assert refused["code"] == "remote-query-refused"
    await anna.ask("POST", "/remote/find", status=409, json=asked | {"nodes": ["nobody"]})
    wanted = {"node": "self", "wanted": [{"study": row["values"]["StudyInstanceUID"]}]}
    job = await anna.json("POST", "/remote/retrieve", status=201, json=wanted)
    assert job["kind"] == "retrieve"
    async with asyncio.timeout(30):
        while job["state"] in {"waiting", "running"}:
            await asyncio.sleep(0.05)
            job = await anna.json("GET", f"/jobs/{job['id']}")
    assert job["state"] == "done", job
    trail = await anna.json("GET", "/audit?action=remote-query")
    assert "rossi" not in str(trail).lower()


@pytest.mark.spec("AD-7")
async def test_who_may_not_send_or_query_is_refused_and_sees_nothing_of_others(box, anna):
    bruno = await plain_user(box, anna)
    for method, path in (
        ("GET", "/service"),
        ("POST", "/service/restart"),
        ("POST", "/send/destinations/x/pause"),
    ):
        refused = await bruno.json(method, path, status=403)
        assert refused["code"] == "not-allowed"
