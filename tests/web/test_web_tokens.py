# SPDX-License-Identifier: Apache-2.0
"""Tokens of programs over HTTP."""

from dataclasses import replace

import pytest

PASSWORD = "corretto cavallo batteria"


async def make(anna, *scopes: str, status: int = 201, **more) -> dict:
    body = {"name": "Bridge", "scopes": list(scopes), "password": PASSWORD, **more}
    return await anna.json("POST", "/account/tokens", status=status, json=body)


@pytest.mark.spec("AD-7", "IN-6")
async def test_a_token_does_what_its_scopes_say_and_nothing_for_the_account(box, anna):
    made = await make(anna, "view", "admin")
    program = replace(anna, token=made["token"])
    await program.json("GET", "/studies")
    await program.json("GET", "/settings")
    assert (await program.json("GET", "/trash", status=403))["code"] == "not-allowed"
    for method, path, body in (
        ("POST", "/account/tokens", {"name": "x", "scopes": ["view"], "password": PASSWORD}),
        ("GET", "/account/tokens", None),
        ("POST", "/account/password", {"old": PASSWORD, "new": "stolen by a program"}),
        ("POST", "/account/second-factor/totp", {"password": PASSWORD}),
        ("DELETE", "/account/sessions", None),
        ("POST", "/logout", None),
    ):
        await program.ask(method, path, status=403, json=body)
    (listed,) = (await anna.json("GET", "/account/tokens"))["tokens"]
    assert listed["used_at"]
    assert listed["scopes"] == ["view", "admin"]
    assert made["token"] not in str(listed)
    assert not any(each["kind"] == "token" for each in await sessions(anna))
    await anna.ask("DELETE", f"/account/tokens/{made['id']}", status=204)
    await program.ask("GET", "/studies", status=401)
    await anna.ask("DELETE", f"/account/tokens/{made['id']}", status=404)


async def sessions(anna) -> list[dict]:
    return (await anna.json("GET", "/sessions"))["sessions"]


@pytest.mark.spec("AD-7")
async def test_a_token_needs_the_password_an_end_and_rights_that_the_person_has(box, anna):
    assert (await make(anna, "view", status=403, password=""))["code"] == "confirm-password"
    wrong = await make(anna, "view", status=401, password="not this one")
    assert wrong["code"] == "wrong-credentials"
    await make(anna, status=400)
    await make(anna, "view", status=400, days=0)
    await make(anna, "view", "everything", status=400)
    assert (await make(anna, "view"))["expires_at"]
    assert (await make(anna, "view", days=None))["expires_at"] is None
    body = {"user": "bruno", "password": PASSWORD, "role": "viewer"}
    await anna.json("POST", "/accounts", status=201, json=body)
    logged_in = await box.parts.access.login("bruno", PASSWORD, address="127.0.0.1")
    bruno = replace(anna, token=logged_in.token)
    assert (await make(bruno, "view", "export", status=400))["code"] == "bad-request"
    made = await make(bruno, "view")
    # an administrator sees it and takes it away
    (listed,) = (await anna.json("GET", "/accounts/bruno/tokens"))["tokens"]
    assert listed["id"] == made["id"]
    await anna.ask("DELETE", f"/accounts/bruno/tokens/{made['id']}", status=204)
    await replace(anna, token=made["token"]).ask("GET", "/studies", status=401)


@pytest.mark.spec("AD-7")
async def test_a_token_cannot_be_used_as_a_cookie_from_another_site(box, anna):
    made = await make(anna, "view", "admin")
    headers = {"Cookie": f"scrigno-session={made['token']}", "Origin": "https://evil.example"}
    change = {"settings": {"language": "it"}}
    async with box.http.patch(box.api("/settings"), headers=headers, json=change) as answer:
        assert (answer.status, (await answer.json())["code"]) == (403, "cross-origin")
