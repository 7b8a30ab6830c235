# SPDX-License-Identifier: Apache-2.0
"""Accounts and roles over HTTP: who may change whom, and what it does at once."""

import pytest

from scrigno.access.permissions import Permission

PASSWORD = "corretto cavallo batteria"


async def log_in(box, user: str, password: str = PASSWORD, status: int = 200) -> dict:
    body = {"user": user, "password": password}
    async with box.http.post(box.api("/login"), json=body) as answer:
        assert answer.status == status, await answer.text()
        return await answer.json(content_type=None)


async def asked(box, token: str, path: str) -> int:
    headers = {"Authorization": f"Bearer {token}"}
    async with box.http.get(box.api(path), headers=headers) as answer:
        return answer.status


@pytest.mark.spec("AD-7")
async def test_an_account_is_made_changed_disabled_and_removed(box, anna):
    body = {"user": "bruno", "password": PASSWORD, "role": "technician"}
    made = await anna.json("POST", "/accounts", status=201, json=body)
    assert made["role"] == "technician"
    assert "edit" in made["permissions"]
    assert "temporary_password" not in made
    token = (await log_in(box, "bruno"))["token"]
    assert await asked(box, token, "/trash") == 403
    changed = await anna.json("PATCH", "/accounts/bruno", json={"added": ["delete"]})
    assert changed["added"] == ["delete"]
    assert await asked(box, token, "/trash") == 200
    await anna.json("PATCH", "/accounts/BRUNO", json={"disabled": True})
    assert await asked(box, token, "/trash") == 401
    refused = await log_in(box, "bruno", status=401)
    assert refused["code"] == "wrong-credentials"  # nobody hears that the account is disabled
    shown = await anna.json("GET", "/accounts/bruno")
    assert (shown["disabled"], shown["last_login"] is None) == (True, False)
    await anna.ask("DELETE", "/accounts/bruno", status=204)
    await anna.ask("GET", "/accounts/bruno", status=404)


@pytest.mark.spec("AD-7")
async def test_the_last_administrator_is_not_locked_out_over_http(box, anna):
    for method, body in (
        ("PATCH", {"role": "viewer"}),
        ("PATCH", {"disabled": True}),
        ("DELETE", None),
    ):
        answer = await anna.json(method, "/accounts/anna", status=409, json=body)
        assert answer["code"] == "last-administrator"
        assert answer["next_step"]
    fixed = {"permissions": ["view"]}
    answer = await anna.json("PUT", "/roles/administrator", status=422, json=fixed)
    assert answer["code"] == "bad-role"


@pytest.mark.spec("AD-7")
async def test_roles_are_made_changed_and_removed(box, anna):
    body = {
        "name": "Cardiology",
        "about": "Hearts only",
        "permissions": ["view", "report"],
        "modalities": ["XA", "US", "XA"],
        "institutions": ["Ospedale Nord"],
    }
    made = await anna.json("POST", "/roles", status=201, json=body)
    assert made["modalities"] == ["XA", "US"]
    assert made["built_in"] is False
    again = await anna.json("POST", "/roles", status=422, json=body)
    assert again["code"] == "bad-role"
    changed = {"permissions": ["view"], "sources": ["CATH1"]}
    answer = await anna.json("PUT", "/roles/Cardiology", json=changed)
    assert (answer["modalities"], answer["sources"]) == ([], ["CATH1"])
    await anna.json("PUT", "/roles/Nobody", status=404, json=changed)
    bad = {"name": "x", "permissions": ["everything"]}
    assert (await anna.json("POST", "/roles", status=400, json=bad))["code"] == "bad-body"
    who = {"user": "bruno", "password": PASSWORD, "role": "Cardiology"}
    await anna.json("POST", "/accounts", status=201, json=who)
    assert (await anna.json("DELETE", "/roles/Cardiology", status=409))["code"] == "role-in-use"
    await anna.json("PATCH", "/accounts/bruno", json={"role": "viewer"})
    await anna.ask("DELETE", "/roles/Cardiology", status=204)
    names = [each["name"] for each in (await anna.json("GET", "/roles"))["roles"]]
    assert names == ["administrator", "technician", "user", "viewer"]


@pytest.mark.spec("AD-7")
async def test_nobody_below_an_administrator_gives_himself_more(box, anna):
    everything = sorted(set(Permission) - {Permission.ADMIN})
    role = {"name": "almost", "permissions": everything}
    await anna.json("POST", "/roles", status=201, json=role)
    who = {"user": "bruno", "password": PASSWORD, "role": "almost"}
    await anna.json("POST", "/accounts", status=201, json=who)
    token = (await log_in(box, "bruno"))["token"]
    headers = {"Authorization": f"Bearer {token}"}
    for method, path, body in (
        ("PATCH", "/accounts/bruno", {"role": "administrator"}),
        ("POST", "/accounts", {"user": "eve", "password": PASSWORD, "role": "administrator"}),
        ("POST", "/accounts/anna/password-reset", None),
        ("DELETE", "/accounts/anna/second-factor", None),
        ("PUT", "/roles/almost", {"permissions": ["admin"]}),
        ("GET", "/accounts/anna/tokens", None),
        ("GET", "/sessions", None),
    ):
        async with box.http.request(method, box.api(path), headers=headers, json=body) as answer:
            assert answer.status == 403, path


@pytest.mark.spec("AD-7")
async def test_a_person_sees_and_ends_the_own_sessions_and_nobody_elses(box, anna):
    # ASVS 7.5.2
    await anna.json("POST", "/accounts", status=201, json={"user": "bruno", "password": PASSWORD})
    first, second = [(await log_in(box, "bruno"))["token"] for _ in range(2)]
    headers = {"Authorization": f"Bearer {first}"}
    async with box.http.get(box.api("/account/sessions"), headers=headers) as answer:
        mine = (await answer.json())["sessions"]
    assert {each["user"] for each in mine} == {"bruno"}
    other = next(each["id"] for each in mine if not each["own"])
    annas = (await anna.json("GET", "/account/sessions"))["sessions"][0]["id"]
    for ident, status in ((annas, 404), (other, 204)):
        path = box.api(f"/account/sessions/{ident}")
        async with box.http.delete(path, headers=headers) as answer:
            assert answer.status == status
    assert await asked(box, second, "/studies") == 401
    third = (await log_in(box, "bruno"))["token"]
    async with box.http.delete(box.api("/account/sessions"), headers=headers) as answer:
        assert answer.status == 204
    assert await asked(box, third, "/studies") == 401
    assert await asked(box, first, "/studies") == 200


@pytest.mark.spec("AD-7")
async def test_the_length_of_a_log_in_is_a_setting(box, anna):
    settings = {"access": {"idle_minutes": 5, "longest_hours": 1}}
    await anna.ask("PATCH", "/settings", json={"settings": settings})
    refused = {"access": {"idle_minutes": 0}}
    await anna.ask("PATCH", "/settings", status=422, json={"settings": refused})


@pytest.mark.spec("AD-7", "AD-11")
async def test_a_log_in_of_an_administrator_is_told(box, anna):
    await log_in(box, "anna")
    shown = (await anna.json("GET", "/alerts"))["alerts"]
    told = next(each for each in shown if each["code"] == "admin-login")
    assert told["subject"] == "anna"
    assert "127.0.0.1" in str(told["values"])
