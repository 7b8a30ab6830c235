# SPDX-License-Identifier: Apache-2.0
"""Deleting by the API: a reason and a role, at once out of the list, and back exactly."""

import asyncio
import time

import pytest


async def first(anna) -> str:
    return (await anna.json("GET", "/studies"))["rows"][0]["study_instance_uid"]


def images(study: dict) -> list[dict]:
    """Return the images of a study; which volume has got its copy already does not matter."""
    return [
        {name: value for name, value in each.items() if name != "copies"}
        for series in study["series"]
        for each in series["instances"]
    ]


@pytest.mark.spec("ST-7")
async def test_a_study_is_deleted_with_a_reason_and_comes_back_as_it_was(box, anna):
    await box.take_in(images=3)
    study = await first(anna)
    before = await anna.json("GET", f"/studies/{study}")
    for body in ({}, {"json": {}}, {"json": {"reason": "  "}}):
        refused = await anna.json("DELETE", f"/studies/{study}", status=400, **body)
        assert refused["code"] == "bad-body"
        assert refused["next_step"]
    made = await anna.json("DELETE", f"/studies/{study}", json={"reason": "sent twice"})
    assert (made["scope"], made["objects"], made["reason"]) == ("study", 3, "sent twice")
    assert (await anna.json("GET", "/studies"))["total"] == 0
    await anna.ask("GET", f"/studies/{study}", status=404)
    trash = await anna.json("GET", "/trash")
    assert trash["totals"] == {"items": 1, "objects": 3, "size_bytes": made["size_bytes"]}
    (item,) = trash["items"]
    assert (item["id"], item["account"]) == (made["id"], "anna")
    assert item["kept_until"] > item["deleted_at"]
    back = await anna.json("POST", f"/trash/{item['id']}/restore")
    assert back["returned"] == {"back": 3, "merged": 0, "kept": 0, "lost": 0}
    after = await anna.json("GET", f"/studies/{study}")
    assert images(after) == images(before)
    await anna.ask("POST", f"/trash/{item['id']}/restore", status=409)
    trail = {each["action"] for each in (await anna.json("GET", "/audit"))["entries"]}
    assert {"study-delete", "study-restore"} <= trail
    await anna.ask("DELETE", "/studies/1.2.3", status=404, json={"reason": "x"})


@pytest.mark.spec("ST-7")
async def test_one_series_is_deleted_and_purged_only_when_its_number_is_repeated(box, anna):
    await box.take_in(images=2)
    study = await first(anna)
    detail = await anna.json("GET", f"/studies/{study}")
    series = detail["series"][0]["series_instance_uid"]
    path = f"/studies/{study}/series/{series}"
    made = await anna.json("DELETE", path, json={"reason": "wrong patient"})
    assert made["scope"] == "series"
    wrong = {"json": {"id": made["id"] + 1}}
    for body, status in (({}, 400), (wrong, 409), ({"json": {"id": True}}, 400)):
        refused = await anna.json("DELETE", f"/trash/{made['id']}", status=status, **body)
        assert str(made["id"]) in refused["next_step"]
    await anna.ask("DELETE", f"/trash/{made['id']}", status=204, json={"id": made["id"]})
    assert (await anna.json("GET", "/trash"))["items"] == []
    ends = time.monotonic() + 15
    while list((box.root / "data").rglob("*.dcm")):
        assert time.monotonic() < ends
        await asyncio.sleep(0.1)
    await anna.ask("DELETE", f"/trash/{made['id']}", status=409, json={"id": made["id"]})


@pytest.mark.spec("AD-1", "ST-7")
async def test_only_an_administrator_deletes(box, anna):
    await box.take_in(images=1)
    study = await first(anna)
    account = {"user": "bruno", "password": "quattro parole ben scelte", "role": "user"}
    await anna.json("POST", "/accounts", status=201, json=account)
    token = (await box.parts.access.login("bruno", account["password"], address="127.0.0.1")).token
    headers = {"Authorization": f"Bearer {token}"}
    for method, path in (
        ("DELETE", f"/studies/{study}"),
        ("PUT", f"/studies/{study}/protection"),
        ("POST", f"/studies/{study}/verify"),
        ("GET", "/trash"),
        ("GET", "/audit"),
        ("POST", "/scrub/run"),
        ("GET", "/patients/conflicts"),
        ("POST", "/index/restore"),
    ):
        body = {"reason": "x"}
        async with box.http.request(method, box.api(path), headers=headers, json=body) as answer:
            assert answer.status == 403, path
    assert (await anna.json("GET", "/studies"))["total"] == 1


@pytest.mark.spec("ST-7")
async def test_without_a_rule_nothing_is_planned_and_with_one_it_is_said_what_would_go(box, anna):
    await box.take_in(images=1)
    plan = await anna.json("GET", "/retention/plan")
    assert (plan["studies"], plan["refused"]) == ([], "There is no rule.")
    rule = {"name": "old", "older_than_days": 1, "copies_elsewhere": 1}
    settings = {"settings": {"care": {"retention": [rule]}}}
    await anna.json("PATCH", "/settings", json=settings)
    ends = time.monotonic() + 15
    while True:
        await anna.ask("POST", f"/studies/{await first(anna)}/verify")
        plan = await anna.json("GET", "/retention/plan")
        if plan["spared"].get("busy") == 1:
            break  # it came in a moment ago
        assert time.monotonic() < ends, plan
        await asyncio.sleep(0.1)
    assert plan["studies"] == []
    assert (await anna.json("GET", "/studies"))["total"] == 1
