# SPDX-License-Identifier: Apache-2.0
"""Links for guests: exactly the chosen studies on every door, gates, uses, and their end."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from scrigno.core.events import ShareChanged
from scrigno.reading import shares as shares_module


@pytest.fixture
async def studies(box, anna) -> list[str]:
    """Three studies of three patients, the first of them first."""
    for patient in range(3):
        await box.take_in(images=1 + patient, patient=patient, size=32)
    rows = (await anna.json("GET", "/studies", params={"sort": "number_of_instances"}))["rows"]
    return [row["study_instance_uid"] for row in rows][::-1]


async def made(anna, studies, status=201, **more):
    return await anna.json("POST", "/shares", json={"studies": studies, **more}, status=status)


async def look(box, token, status=200):
    answer = await box.http.post(box.api("/shared/look"), json={"token": token})
    assert answer.status == status, await answer.text()
    return await answer.json(content_type=None)


async def entered(box, token, secret="", status=200):
    body = {"token": token, "secret": secret}
    answer = await box.http.post(box.api("/shared/enter"), json=body)
    assert answer.status == status, await answer.text()
    return await answer.json(content_type=None)


async def guest_of(anna, token, secret=""):
    return type(anna)(anna.box, (await entered(anna.box, token, secret))["token"])


async def instance_of(anna, uid) -> str:
    study = await anna.json("GET", f"/studies/{uid}")
    return study["series"][0]["instances"][0]["sop_instance_uid"]


@pytest.mark.spec("VW-7")
async def test_a_guest_sees_exactly_the_chosen_studies_on_every_door(box, anna, studies):
    chosen, hidden = studies[:2], studies[2]
    link = await made(anna, chosen, title="for Mrs. Rossi")
    assert link["path"] == f"/viewer/#/shared/{link['token']}"
    assert link["link"].startswith(f"http://127.0.0.1:{box.parts.web_ports[0]}/viewer/#/shared/")
    assert link["qr_svg"].startswith("<svg")
    assert len(link["token"]) >= 22  # 128 bits as base64 are 22 characters
    for phi in ("rossi", "IT-001", *chosen):
        assert phi.lower() not in link["link"].lower()
    asked = await look(box, link["token"])
    assert (asked["gate"], asked["download"]) == ("none", False)
    guest = await guest_of(anna, link["token"])
    rows = (await guest.json("GET", "/studies"))["rows"]
    assert {row["study_instance_uid"] for row in rows} == set(chosen)
    seen, unseen = await instance_of(anna, chosen[0]), await instance_of(anna, hidden)
    await guest.ask("GET", f"/studies/{chosen[0]}")
    await guest.ask("GET", f"/instances/{seen}/frames/1/rendered")
    for path in (
        f"/studies/{hidden}", f"/studies/{hidden}/thumbnail", f"/studies/{hidden}/note",
        f"/studies/{hidden}/annotations", f"/studies/{hidden}/key-images",
        f"/instances/{unseen}/frames/1/rendered",
    ):  # fmt: skip
        answer = await guest.json("GET", path, status=404)
        unknown = await guest.json("GET", path.replace(hidden, "1.2.3").replace(unseen, "1.2.3"),
                                   status=404)  # fmt: skip
        same = {key: value for key, value in answer.items() if key != "request_id"}
        assert same == {key: value for key, value in unknown.items() if key != "request_id"}
    web = f"{box.url}/dicom-web/studies"
    headers = {"Authorization": f"Bearer {guest.token}", "Accept": "application/dicom+json"}
    listed = await (await box.http.get(web, headers=headers)).json(content_type=None)
    assert {each["0020000D"]["Value"][0] for each in listed} == set(chosen)
    gone = await box.http.get(f"{web}/{hidden}/metadata", headers=headers)
    assert gone.status == 404
    address = {"route": "viewer", "query": f"studyinstanceuid={hidden}"}
    found = await guest.json("POST", "/launch/parse", json=address)
    assert found["studies"] == []
    for method, path in (
        ("GET", "/shares"), ("POST", "/shares"), ("GET", "/preferences"), ("GET", "/audit"),
        ("GET", "/settings"), ("POST", "/launch"), ("GET", "/accounts"), ("GET", "/trash"),
        ("PUT", f"/studies/{chosen[0]}/note"), ("DELETE", f"/studies/{chosen[0]}"),
    ):  # fmt: skip
        await guest.ask(method, path, status=403, **({"json": {}} if method != "GET" else {}))


@pytest.mark.spec("VW-7")
async def test_the_secret_of_a_link_is_kept_nowhere(box, anna, studies):
    link = await made(anna, studies[:1], gate="password", password="acqua e sale")
    await box.parts.audit.settle()
    await anna.json("GET", "/shares")
    held = b"".join(
        [path.read_bytes() for path in (box.root / "state").rglob("*") if path.is_file()]
    )
    assert link["token"].encode() not in held
    assert b"acqua e sale" not in held
    assert "token" not in (await anna.json("GET", f"/shares/{link['share']['id']}"))


@pytest.mark.spec("VW-7")
async def test_a_password_is_asked_for_and_guessing_is_slowed_and_then_ended(
    box, anna, studies, monkeypatch
):
    heard: list[str] = []
    box.parts.bus.subscribe(ShareChanged, lambda event: heard.append(event.action))
    link = await made(anna, studies[:1], gate="password", password="acqua e sale")
    assert (await look(box, link["token"]))["gate"] == "password"
    for _ in range(4):
        refused = await entered(box, link["token"], "guess", status=403)
        assert refused["code"] == "share-refused"
    waits = await entered(box, link["token"], "acqua e sale", status=429)
    assert waits["retry_after_s"] >= 1
    await asyncio.sleep(1.1)
    await entered(box, link["token"], "acqua e sale")
    monkeypatch.setattr(shares_module, "MOST_WRONG", 5)
    await entered(box, link["token"], "guess", status=403)
    over = await entered(box, link["token"], "acqua e sale", status=404)
    assert over["code"] == "share-over"
    found = await anna.json("GET", f"/shares/{link['share']['id']}")
    assert (found["state"], found["revoked_by"], found["wrong"]) == ("revoked", "locked", 5)
    uses = (await anna.json("GET", f"/shares/{link['share']['id']}/uses"))["uses"]
    assert [each["outcome"] for each in uses] == ["wrong", "opened", *["wrong"] * 4]
    assert heard == ["made", *["refused"] * 4, "opened", "revoked", "locked"]
    await made(anna, studies[:1], gate="password", password="short", status=422)


@pytest.mark.spec("VW-7")
async def test_a_birth_date_is_asked_for_however_it_is_written(box, anna, studies):
    row = (await anna.json("GET", f"/studies/{studies[0]}"))["study"]
    born = row["patient_birth_date"]
    assert len(born) == 8
    link = await made(anna, studies[:1], gate="birth-date")
    await entered(box, link["token"], "19000101", status=403)
    for written in (
        born,
        f"{born[:4]}-{born[4:6]}-{born[6:]}",
        f"{born[:4]}/{born[4:6]}/{born[6:]}",
    ):
        await entered(box, link["token"], written)
    several = await made(anna, studies[:2], gate="birth-date", status=422)
    assert "birth date" in several["detail"]


@pytest.mark.spec("VW-7")
async def test_a_link_is_used_up_also_when_many_come_at_once(box, anna, studies):
    link = await made(anna, studies[:1], most_uses=2)
    answers = await asyncio.gather(
        *(box.http.post(box.api("/shared/enter"), json={"token": link["token"]}) for _ in range(6))
    )
    statuses = sorted(answer.status for answer in answers)
    assert statuses.count(200) == 2
    assert set(statuses) <= {200, 404, 429}
    assert (await anna.json("GET", f"/shares/{link['share']['id']}"))["state"] == "used-up"
    await look(box, link["token"], status=404)


@pytest.mark.spec("VW-7")
async def test_revoking_a_link_ends_whoever_is_in_by_it(box, anna, studies):
    link, other = await made(anna, studies[:1]), await made(anna, studies[:1])
    guest, stays = await guest_of(anna, link["token"]), await guest_of(anna, other["token"])
    await guest.ask("GET", "/studies")
    revoked = await anna.json("POST", f"/shares/{link['share']['id']}/revoke")
    assert (revoked["state"], revoked["revoked_by"]) == ("revoked", "anna")
    await guest.ask("GET", "/studies", status=401)
    await stays.ask("GET", "/studies")
    await entered(box, link["token"], status=404)
    trail = [each["action"] for each in (await anna.json("GET", "/audit"))["entries"]]
    assert {"study-shared", "link-opened", "link-revoked"} <= set(trail)


@pytest.mark.spec("VW-7")
async def test_a_link_ends_with_its_time_and_is_never_longer_than_the_settings_say(
    box, anna, studies
):
    soon = (datetime.now(UTC) + timedelta(seconds=2)).isoformat()
    link = await made(anna, studies[:1], expires_at=soon)
    session = await entered(box, link["token"])
    assert session["expires_in_s"] <= 2
    guest = type(anna)(box, session["token"])
    await asyncio.sleep(2.2)
    await entered(box, link["token"], status=404)
    await guest.ask("GET", "/studies", status=401)
    await made(anna, studies[:1], days=91, status=422)
    for wrong in (
        "2020-01-01T00:00:00Z",
        "tomorrow",
        "2099-01-01T00:00:00",
        "9999-12-31T23:59:59-14:00",
    ):
        await made(anna, studies[:1], expires_at=wrong, status=422)
    settings = {"settings": {"share": {"secret_required": True, "longest_days": 365}}}
    await anna.json("PATCH", "/settings", json=settings)
    await made(anna, studies[:1], days=91, status=422)
    await made(anna, studies[:1], days=91, gate="password", password="acqua e sale")
    await anna.json("PATCH", "/settings", json={"settings": {"share": {"enabled": False}}})
    await made(anna, studies[:1], gate="password", password="acqua e sale", status=403)
    await look(box, link["token"], status=404)


@pytest.mark.spec("VW-7", "ST-7")
async def test_a_deleted_study_is_not_behind_its_link_and_is_again_when_it_comes_back(
    box, anna, studies
):
    link = await made(anna, studies[:2])
    guest = await guest_of(anna, link["token"])
    item = await anna.json("DELETE", f"/studies/{studies[0]}", json={"reason": "test"})
    await guest.ask("GET", f"/studies/{studies[0]}", status=404)
    await guest.ask("GET", f"/studies/{studies[1]}")
    other = await anna.json("DELETE", f"/studies/{studies[1]}", json={"reason": "test"})
    over = await entered(box, link["token"], status=404)
    assert over["code"] == "share-over"
    await anna.ask("POST", f"/trash/{item['id']}/restore")
    await guest.ask("GET", f"/studies/{studies[0]}")
    await entered(box, link["token"])
    await anna.ask("POST", f"/trash/{other['id']}/restore")


@pytest.mark.spec("VW-7", "AD-7")
async def test_links_are_listed_to_their_owner_and_to_administrators(box, anna, studies):
    account = {"user": "bruno", "password": "quattro parole ben scelte", "role": "user"}
    await anna.json("POST", "/accounts", status=201, json=account)
    login = await box.parts.access.login("bruno", account["password"], address="127.0.0.1")
    bruno = type(anna)(box, login.token)
    await box.parts.access.change_account("bruno", added=frozenset({"share"}))
    mine, his = await made(anna, studies[:1]), await made(bruno, studies[:2])
    listed = (await bruno.json("GET", "/shares"))["shares"]
    assert [each["id"] for each in listed] == [his["share"]["id"]]
    await bruno.ask("GET", "/shares", params={"everybody": "true"}, status=403)
    everybody = (await anna.json("GET", "/shares", params={"everybody": "true"}))["shares"]
    assert {each["owner"] for each in everybody} == {"anna", "bruno"}
    for path in ("", "/uses"):
        await bruno.ask("GET", f"/shares/{mine['share']['id']}{path}", status=404)
        await anna.ask("GET", f"/shares/{his['share']['id']}{path}")
    await bruno.ask("POST", f"/shares/{mine['share']['id']}/revoke", status=404)
    of_study = (await bruno.json("GET", f"/studies/{studies[0]}/shares"))["shares"]
    assert [each["id"] for each in of_study] == [his["share"]["id"]]
    await anna.ask("DELETE", "/accounts/bruno", status=204)
    over = await entered(box, his["token"], status=404)  # who made it is no longer there
    assert over["code"] == "share-over"


@pytest.mark.spec("VW-7")
async def test_unknown_links_cannot_be_tried_out(box, anna, studies):
    answers = [
        (await box.http.post(box.api("/shared/look"), json={"token": f"guess {number}"})).status
        for number in range(14)
    ]
    assert answers[:10] == [404] * 10
    assert answers[-1] == 429
    for body in ({}, {"token": ""}, {"token": "x" * 300}, {"token": "a\nb"}, {"token": 1}):
        answer = await box.http.post(box.api("/shared/look"), json=body)
        assert answer.status == 400
    await made(anna, ["1.2.3"], status=404)
    await made(anna, [], status=400)
    await made(anna, ["../x"], status=400)
