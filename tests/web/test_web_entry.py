# SPDX-License-Identifier: Apache-2.0
"""Claim, log-in and log-out over HTTP; who may do what; other sites may do nothing."""

import asyncio
import logging
from dataclasses import replace

import pytest

from scrigno.access.roles import BuiltIn

USER = "anna"
PASSWORD = "corretto cavallo batteria"


@pytest.mark.spec("AD-1")
async def test_an_unclaimed_box_is_claimed_with_its_code_and_then_never_again(box):
    async with box.http.get(box.api("/session")) as answer:
        assert await answer.json() == {
            "claimed": False,
            "language": "en",
            "languages": ["en", "it", "fr", "ja", "ko", "vi"],
            "user": None,
        }
    body = {"setup_code": "00000-00000", "user": USER, "password": PASSWORD, "cookie": True}
    async with box.http.post(box.api("/claim"), json=body) as answer:
        assert answer.status == 403
        assert answer.content_type == "application/problem+json"
        assert (await answer.json())["code"] == "wrong-setup-code"
    body["setup_code"] = await box.parts.access.setup_code()
    async with box.http.post(box.api("/claim"), json=body) as answer:
        assert answer.status == 200
        assert (await answer.json())["user"]["role"] == "administrator"
    async with box.http.get(box.api("/session")) as answer:
        assert (await answer.json())["user"]["name"] == USER
    async with box.http.post(box.api("/claim"), json=body) as answer:
        assert (answer.status, (await answer.json())["code"]) == (409, "already-claimed")


@pytest.mark.spec("AD-1", "AD-7")
async def test_nothing_but_the_entry_answers_without_a_log_in(box):
    paths = ["/studies", "/studies/1.2", "/status", "/settings", "/peers", "/providers", "/inbox"]
    paths += ["/volumes", "/accounts", "/sessions", "/studies/1.2/thumbnail", "/settings/export"]
    for path in paths:
        async with box.http.get(box.api(path)) as answer:
            assert answer.status == 401, path
            assert (await answer.json())["code"] == "not-logged-in"
            assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.spec("AD-7")
async def test_the_session_cookie_is_out_of_reach_of_scripts_and_other_sites(box, anna):
    body = {"user": USER, "password": PASSWORD, "cookie": True}
    async with box.http.post(box.api("/login"), json=body) as answer:
        cookie = answer.headers["Set-Cookie"]
        assert "token" not in await answer.json()
    assert cookie.startswith("scrigno-session=")
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert "Path=/" in cookie
    assert "Expires" not in cookie
    async with box.http.get(box.api("/status")) as answer:
        assert answer.status == 200


@pytest.mark.spec("AD-7", "IN-6")
async def test_a_program_gets_a_bearer_token_and_no_cookie(box, anna):
    body = {"id": USER, "password": PASSWORD}
    async with box.http.post(box.api("/login"), json=body) as answer:
        content = await answer.json()
        assert "Set-Cookie" not in answer.headers
    headers = {"Authorization": f"Bearer {content['token']}"}
    async with box.http.get(box.api("/status"), headers=headers) as answer:
        assert answer.status == 200
    async with box.http.get(box.api("/status")) as answer:
        assert answer.status == 401


@pytest.mark.spec("AD-7")
async def test_a_wrong_password_is_refused_and_soon_has_to_wait(box, anna):
    body = {"user": USER, "password": "guess number one"}
    for _ in range(3):
        async with box.http.post(box.api("/login"), json=body) as answer:
            assert (answer.status, (await answer.json())["code"]) == (401, "wrong-credentials")
    async with box.http.post(box.api("/login"), json=body) as answer:
        content = await answer.json()
        assert (answer.status, content["code"]) == (429, "too-many-attempts")
        assert answer.headers["Retry-After"] == str(content["retry_after_s"])


@pytest.mark.spec("AD-7")
async def test_a_page_of_another_site_cannot_change_anything_with_our_cookie(box, anna):
    body = {"user": USER, "password": PASSWORD, "cookie": True}
    await box.http.post(box.api("/login"), json=body)
    change = {"settings": {"language": "it"}}
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ):
        async with box.http.patch(box.api("/settings"), json=change, headers=headers) as answer:
            assert (answer.status, (await answer.json())["code"]) == (403, "cross-origin"), headers
    async with box.http.post(
        box.api("/login"), json=body, headers={"Origin": "https://evil.example"}
    ) as answer:
        assert answer.status == 403
    async with box.http.post(
        box.api("/logout"), headers={"Origin": "https://evil.example"}
    ) as answer:
        assert answer.status == 403
    async with box.http.patch(
        box.api("/settings"), json=change, headers={"Origin": box.url}
    ) as answer:
        assert answer.status == 200


async def test_a_form_cannot_pretend_to_be_json(box, anna):
    body = '{"user": "anna", "password": "corretto cavallo batteria"}'
    async with box.http.post(
        box.api("/login"), data=body, headers={"Content-Type": "text/plain"}
    ) as answer:
        assert (answer.status, (await answer.json())["code"]) == (400, "bad-body")


@pytest.mark.spec("AD-7")
async def test_a_log_out_ends_the_session_on_the_box(box, anna):
    body = {"user": USER, "password": PASSWORD, "cookie": True}
    await box.http.post(box.api("/login"), json=body)
    stolen = next(iter(box.http.cookie_jar)).value
    async with box.http.post(box.api("/logout")) as answer:
        assert answer.status == 204
    async with box.http.get(
        box.api("/status"), headers={"Authorization": f"Bearer {stolen}"}
    ) as answer:
        assert answer.status == 401


@pytest.mark.spec("AD-7")
async def test_a_user_who_is_no_administrator_sees_studies_and_nothing_else(box, anna):
    await anna.json("POST", "/accounts", status=201, json={"user": "bruno", "password": PASSWORD})
    assert [each["role"] for each in (await anna.json("GET", "/accounts"))["accounts"]] == [
        BuiltIn.ADMINISTRATOR,
        BuiltIn.USER,
    ]
    made = await box.parts.access.login("bruno", PASSWORD, address="127.0.0.1")
    bruno = replace(anna, token=made.token)
    assert (await bruno.json("GET", "/studies"))["total"] == 0
    await bruno.ask("GET", "/status")
    for path in ("/settings", "/peers", "/providers", "/inbox", "/accounts", "/sessions"):
        assert (await bruno.json("GET", path, status=403))["code"] == "not-allowed"
    await bruno.ask("DELETE", "/accounts/anna", status=403)
    await anna.ask("DELETE", "/accounts/bruno", status=204)
    await bruno.ask("GET", "/studies", status=401)


@pytest.mark.spec("AD-7")
async def test_an_administrator_sees_and_ends_sessions(box, anna):
    made = await box.parts.access.login(USER, PASSWORD, address="10.0.0.7", agent="tablet")
    sessions = (await anna.json("GET", "/sessions"))["sessions"]
    other = next(each for each in sessions if not each["own"])
    assert (other["address"], other["agent"]) == ("10.0.0.7", "tablet")
    await anna.ask("DELETE", f"/sessions/{other['id']}", status=204)
    assert box.parts.access.session(made.token) is None
    await anna.ask("DELETE", f"/sessions/{other['id']}", status=404)


@pytest.mark.spec("VW-8")
async def test_each_user_picks_a_language(box, anna):
    assert (await anna.json("PATCH", "/account", json={"language": "ja"}))["language"] == "ja"
    assert (await anna.json("GET", "/session"))["user"]["language"] == "ja"
    await anna.ask("PATCH", "/account", json={"language": "de"}, status=400)


@pytest.mark.spec("AD-8")
async def test_the_limit_of_web_connections_is_told_in_words_with_a_status(box, anna):
    await anna.ask("PATCH", "/settings", json={"settings": {"limits": {"max_web_connections": 1}}})
    async with box.http.post(
        box.api("/login"), json={"user": USER, "password": PASSWORD}
    ) as answer:
        content = await answer.json()
        assert (answer.status, content["code"]) == (503, "web-connections-exhausted")
        assert "All 1 web connections" in content["detail"]
        assert content["next_step"]


async def test_neither_password_nor_token_nor_search_reaches_the_log(box, anna, caplog):
    caplog.set_level(logging.DEBUG)
    secret = "Rossi never in a log"
    body = {"user": secret, "password": "a wrong password"}
    await box.http.post(box.api("/login"), json=body)
    await anna.json("POST", "/studies/search", json={"search": secret})
    await anna.ask("POST", "/studies/search", json={"sort": secret}, status=400)
    await asyncio.sleep(0)
    assert secret not in caplog.text
    assert "a wrong password" not in caplog.text
    assert anna.token not in caplog.text
