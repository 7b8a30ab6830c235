# SPDX-License-Identifier: Apache-2.0
"""Notes, labels, report states, and where somebody was; who may, and who sees what."""

import asyncio
import json

import pytest

from scrigno.access.permissions import Permission
from scrigno.access.sessions import Kind
from scrigno.core.sight import Sight


async def first(anna) -> str:
    return (await anna.json("GET", "/studies"))["rows"][0]["study_instance_uid"]


def upon(revision: int) -> dict[str, dict[str, str]]:
    return {"headers": {"If-Match": f'"{revision}"'}}


async def limited(client, permissions, studies) -> type(None):
    """Return a client with a limited session."""
    token = await client.box.parts.access.begin_limited(
        "guest of a test",
        permissions,
        Sight(study_uids=frozenset(studies)),
        600,
        address="127.0.0.1",
        kind=Kind.BEARER,
    )
    return type(client)(client.box, token)


@pytest.mark.spec("VW-2")
async def test_a_note_is_saved_upon_its_revision_and_a_conflict_shows_both(box, anna):
    await box.take_in(images=1)
    path = f"/studies/{await first(anna)}/note"
    empty = await anna.ask("GET", path)
    assert empty.headers["ETag"] == '"0"'
    assert (await empty.json())["note"] == {"text": ""}
    refused = await anna.json("PUT", path, json={"text": "x"}, status=428)
    assert refused["code"] == "revision-needed"
    made = await anna.json("PUT", path, json={"text": "見た 1"}, **upon(0))
    assert made["revision"] == 1
    assert made["safe"] is True
    assert set(made["held_by"]) <= {"data", "backup1"}
    await anna.json("PUT", path, json={"text": "two, longer"}, **upon(1))
    clash = await anna.ask("PUT", path, json={"text": "mine"}, status=412, **upon(1))
    problem = await clash.json(content_type=None)
    assert problem["current"]["text"] == "two, longer"
    assert (problem["revision"], clash.headers["ETag"]) == (2, '"2"')
    again = await anna.json("PUT", path, json={"text": "as new"}, status=412,
                            headers={"If-None-Match": "*"})  # fmt: skip
    assert again["code"] == "revision-conflict"
    await anna.ask("PUT", path, json={"text": "s"}, **upon(2))
    versions = (await anna.json("GET", f"{path}/versions"))["versions"]
    assert [each["number"] for each in versions] == [2, 1]
    old = await anna.json("GET", f"{path}/versions/1")
    assert old["note"]["text"] == "two, longer"
    await anna.json("POST", f"{path}/restore", json={"version": 1}, **upon(3))
    assert (await anna.json("GET", path))["note"]["text"] == "two, longer"
    await anna.ask("POST", f"{path}/restore", json={"version": 9}, status=404, **upon(4))
    trail = [each["action"] for each in (await anna.json("GET", "/audit"))["entries"]]
    assert trail.count("note-saved") == 3  # a line for each version, none for each save
    for body in ({"text": "x" * 20_000}, {"text": 1}, {"other": 1}, {"text": "a\0"}):
        await anna.ask("PUT", path, json=body, status=400, **upon(4))


@pytest.mark.spec("VW-2", "VW-6")
async def test_a_page_of_the_list_is_told_what_was_added_to_its_studies(box, anna):
    await box.take_in(images=1)
    await box.take_in(images=2, patient=1)
    rows = (await anna.json("GET", "/studies"))["rows"]
    one, two = (row["study_instance_uid"] for row in rows)
    await anna.json("PUT", f"/studies/{one}/note", json={"text": "seen"}, **upon(0))
    await anna.json("PUT", f"/studies/{one}/labels", json={"labels": ["urgent", "至急"]}, **upon(0))
    await anna.json("PUT", f"/studies/{one}/report-state", json={"state": "draft"}, **upon(0))
    for body in ({"labels": ["a", "a"]}, {"labels": ["x" * 65]}, {"labels": [""]}):
        await anna.ask("PUT", f"/studies/{two}/labels", json=body, status=400, **upon(0))
    await anna.ask("PUT", f"/studies/{two}/report-state", json={"state": "done"}, status=400,
                   **upon(0))  # fmt: skip
    found = await anna.json("POST", "/studies/reading", json={"studies": [one, two, "1.2.3"]})
    assert found["studies"] == [
        {
            "study_instance_uid": one, "note": "seen", "labels": ["urgent", "至急"],
            "report_state": "draft", "annotations": 0, "key_images": 0,
        }
    ]  # fmt: skip
    guest = await limited(anna, {Permission.VIEW}, [two])
    hidden = await guest.json("POST", "/studies/reading", json={"studies": [one, two]})
    assert hidden["studies"] == []


@pytest.mark.spec("VW-5", "VW-9")
async def test_where_somebody_was_is_his_own(box, anna):
    await box.take_in(images=1)
    uid = await first(anna)
    path = f"/studies/{uid}/viewer-state"
    state = {
        "layout": {"rows": 1, "columns": 2},
        "active": 1,
        "viewports": [{"window": {"center": 40, "width": 400}, "frame": 7, "zoom": 1.5}],
    }
    assert (await anna.json("PUT", path, json=state, **upon(0)))["revision"] == 1
    found = await anna.json("GET", path)
    assert found["state"]["viewports"][0]["window"] == {"center": 40, "width": 400}
    await anna.ask(
        "PUT",
        path,
        status=400,
        **upon(1),
        json={"viewports": [{"window": {"center": 0, "width": 0}}]},
    )
    account = {"user": "bruno", "password": "quattro parole ben scelte", "role": "user"}
    await anna.json("POST", "/accounts", status=201, json=account)
    login = await box.parts.access.login("bruno", account["password"], address="127.0.0.1")
    bruno = type(anna)(box, login.token)
    assert (await bruno.json("GET", path))["revision"] == 0
    await bruno.json("PUT", path, json={}, **upon(0))
    assert (await anna.json("GET", path))["revision"] == 1


@pytest.mark.spec("VW-7", "AD-7")
async def test_what_is_not_seen_has_no_note_and_who_may_not_write_does_not(box, anna):
    await box.take_in(images=1)
    await box.take_in(images=2, patient=1)
    one, two = (row["study_instance_uid"] for row in (await anna.json("GET", "/studies"))["rows"])
    await anna.json("PUT", f"/studies/{two}/note", json={"text": "secret"}, **upon(0))
    guest = await limited(anna, {Permission.VIEW}, [one])
    for part in (
        "note", "note/versions", "note/versions/1", "labels", "report-state", "annotations",
        "annotations/mine", "annotations/mine/versions", "key-images", "key-images/mine",
        "viewer-state", "shares",
    ):  # fmt: skip
        answer = await box.http.get(
            box.api(f"/studies/{two}/{part}"), headers={"Authorization": f"Bearer {guest.token}"}
        )
        text = await answer.text()
        assert answer.status in ({403} if part == "shares" else {404}), (part, text)
        assert "secret" not in text
    for part, body in (("note", {"text": "x"}), ("labels", {}), ("report-state", {})):
        await guest.ask("PUT", f"/studies/{one}/{part}", json=body, status=403, **upon(0))
    writer = await limited(anna, {Permission.VIEW, Permission.ANNOTATE}, [one])
    refused = await writer.json("PUT", f"/studies/{one}/note", json={"text": "x"}, status=403,
                                **upon(0))  # fmt: skip
    assert refused["code"] == "not-allowed"
    await writer.ask("GET", f"/studies/{one}/viewer-state", status=403)


@pytest.mark.spec("ST-7", "VW-5")
async def test_notes_go_with_their_study_into_the_trash_and_come_back_with_it(box, anna):
    await box.take_in(images=1)
    uid = await first(anna)
    await anna.json("PUT", f"/studies/{uid}/note", json={"text": "keep"}, **upon(0))
    item = await anna.json("DELETE", f"/studies/{uid}", json={"reason": "test"})
    await anna.ask("GET", f"/studies/{uid}/note", status=404)
    await anna.ask("PUT", f"/studies/{uid}/note", json={"text": "y"}, status=404, **upon(1))
    await anna.ask("POST", f"/trash/{item['id']}/restore")
    assert (await anna.json("GET", f"/studies/{uid}/note"))["note"]["text"] == "keep"


@pytest.mark.spec("VW-5", "IN-6")
async def test_other_pages_hear_of_a_save_and_both_of_a_conflict(box, anna):
    await box.take_in(images=1)
    await box.take_in(images=2, patient=1)
    one, two = (row["study_instance_uid"] for row in (await anna.json("GET", "/studies"))["rows"])
    guest = await limited(anna, {Permission.VIEW}, [one])

    async def heard(answer, wanted: int) -> list[tuple[str, dict]]:
        found, name = [], ""
        async with asyncio.timeout(10):
            while len(found) < wanted:
                line = (await answer.content.readline()).decode().strip("\n")
                if line.startswith("event: "):
                    name = line.removeprefix("event: ")
                elif line.startswith("data: ") and name.startswith("reading"):
                    found.append((name, json.loads(line.removeprefix("data: "))))
        return found

    other, outside = await anna.ask("GET", "/events"), await guest.ask("GET", "/events")
    for uid in (one, two):
        await anna.json("PUT", f"/studies/{uid}/note", json={"text": "x"}, **upon(0))
    await anna.json("PUT", f"/studies/{one}/note", json={"text": "y"}, status=412, **upon(0))
    note = {"study_instance_uid": one, "kind": "note", "layer": "", "revision": 1}
    assert await heard(other, 3) == [
        ("reading", note),
        ("reading", note | {"study_instance_uid": two}),
        ("reading-conflict", note),
    ]
    assert [content for _, content in await heard(outside, 3)] == [note, {"many": True}, note]
    other.close()
    outside.close()


@pytest.mark.spec("ST-7", "VW-5")
async def test_a_study_that_is_gone_for_good_takes_what_was_added_with_it(box, anna):
    await box.take_in(images=1)
    uid = await first(anna)
    await anna.json("PUT", f"/studies/{uid}/note", json={"text": "private"}, **upon(0))
    item = await anna.json("DELETE", f"/studies/{uid}", json={"reason": "test"})
    await anna.ask("DELETE", f"/trash/{item['id']}", status=204, json={"id": item["id"]})
    async with asyncio.timeout(15):
        while list((box.root / "data" / "reading").rglob("*.json")):
            await asyncio.sleep(0.05)
    entries = (await anna.json("GET", "/audit"))["entries"]
    (purged,) = [each for each in entries if each["action"] == "reading-purged"]
    assert (purged["subject"], purged["details"]["why"]) == (uid, "purged")


@pytest.mark.spec("VW-9")
async def test_an_account_that_goes_takes_its_preferences_with_it(box, anna):
    account = {"user": "bruno", "password": "quattro parole ben scelte", "role": "user"}
    for name in ("first", "second"):
        await anna.json("POST", "/accounts", status=201, json=account)
        made = await box.parts.access.login("bruno", account["password"], address="127.0.0.1")
        bruno = type(anna)(box, made.token)
        assert (await bruno.json("GET", "/preferences"))["preferences"] == [], name
        await bruno.json("PUT", "/preferences/ui-x", json={"a": name}, **upon(0))
        await anna.ask("DELETE", "/accounts/bruno", status=204)


@pytest.mark.spec("VW-5", "ST-8")
async def test_what_the_box_has_lost_is_read_back_from_its_volumes(box, anna):
    await box.take_in(images=1)
    uid = await first(anna)
    await anna.json("PUT", f"/studies/{uid}/note", json={"text": "kept"}, **upon(0))
    database = box.parts.reading.database
    async with asyncio.timeout(15):
        while (await anna.json("GET", "/reading"))["owed"]:
            await asyncio.sleep(0.05)
    for table in ("version", "document"):
        await database.write(lambda db, table=table: db.execute(f"DELETE FROM {table}").rowcount)
    assert (await anna.json("GET", f"/studies/{uid}/note"))["revision"] == 0
    await anna.ask("POST", "/reading/read-back", status=204)
    async with asyncio.timeout(15):
        while (await anna.json("GET", f"/studies/{uid}/note"))["note"]["text"] != "kept":
            await asyncio.sleep(0.05)
