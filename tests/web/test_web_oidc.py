# SPDX-License-Identifier: Apache-2.0
"""Log-in by an OpenID provider: a real one on a loopback port, and one that lies."""

import time
from collections.abc import AsyncIterator
from functools import partial

import pytest

from oidc_provider import CLIENT, SECRET, OidcProvider, oidc_provider, signed_with, unsigned


@pytest.fixture
async def provider(anna) -> AsyncIterator[OidcProvider]:
    async with oidc_provider() as running:
        settings = {
            "outgoing": {"allowed": ["127.0.0.1/32"]},
            "access": {
                "oidc": {
                    "enabled": True,
                    "label": "Clinic",
                    "issuer": running.issuer,
                    "client_id": CLIENT,
                    "client_secret": SECRET,
                    "roles": [
                        {"value": "it", "role": "administrator"},
                        {"value": "radiology", "role": "user"},
                    ],
                }
            },
        }
        await anna.ask("PATCH", "/settings", json={"settings": settings})
        yield running


async def start(box) -> str:
    """Press the button; returns where the browser is sent."""
    async with box.http.get(box.api("/oidc/start"), allow_redirects=False) as answer:
        assert answer.status == 303, await answer.text()
        cookie = answer.headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Lax" in cookie
        return answer.headers["Location"]


async def come_back(box, answer: dict[str, str]) -> str:
    """Follow the provider back; returns where the box sends the browser then."""
    async with box.http.get(
        box.api("/oidc/callback"), params=answer, allow_redirects=False
    ) as response:
        assert response.status == 303
        return response.headers["Location"]


async def log_in(box, provider: OidcProvider) -> str:
    return await come_back(box, provider.authorise(await start(box)))


async def who(box) -> dict | None:
    async with box.http.get(box.api("/session")) as answer:
        return (await answer.json())["user"]


@pytest.mark.spec("AD-7")
async def test_whom_the_provider_knows_is_let_in_with_the_role_of_the_claim(box, anna, provider):
    async with box.http.get(box.api("/oidc")) as answer:
        assert await answer.json() == {"enabled": True, "label": "Clinic"}
    assert await log_in(box, provider) == "/viewer/"
    carla = await who(box)
    assert (carla["name"], carla["role"], carla["by_provider"]) == ("carla", "user", True)
    # the claim decides anew each time, and the keys were fetched once
    provider.claims = {"groups": ["it", "radiology"]}
    assert await log_in(box, provider) == "/viewer/"
    assert (await who(box))["role"] == "administrator"
    assert provider.asked["keys"] == provider.asked["discovery"] == 1
    # the local door knows no password of this account
    refused = {"user": "carla", "password": ""}
    async with box.http.post(box.api("/login"), json=refused) as answer:
        assert answer.status == 401
    await anna.json("POST", "/accounts/carla/password-reset", status=409)


@pytest.mark.spec("AD-7")
async def test_a_new_key_is_fetched_when_a_token_names_it_but_not_again_and_again(
    box, provider, monkeypatch
):
    monkeypatch.setattr("scrigno.access.oidc.KEYS_AGAIN_S", 0.0)
    assert await log_in(box, provider) == "/viewer/"
    provider.change_keys()
    monkeypatch.undo()
    assert await log_in(box, provider) == "/viewer/"
    assert provider.asked["keys"] == 2
    provider.change_keys()
    assert (await log_in(box, provider)).endswith("refused=provider-refused")
    assert provider.asked["keys"] == 2


@pytest.mark.spec("AD-7")
async def test_groups_may_come_from_the_user_info_endpoint_of_the_same_person(box, provider):
    provider.claims = {"groups": None}
    provider.userinfo = {"sub": "person-1", "groups": ["radiology"]}
    assert await log_in(box, provider) == "/viewer/"
    provider.userinfo = {"sub": "somebody-else", "groups": ["it"]}
    assert (await log_in(box, provider)).endswith("refused=provider-refused")


_LIES = {
    "another issuer": {"iss": "https://evil.example"},
    "another program": {"aud": "another-program"},
    "several programs and none named": {"aud": [CLIENT, "another-program"]},
    "made out to another": {"aud": [CLIENT, "x"], "azp": "x"},
    "another log-in": {"nonce": "of another log-in"},
    "no nonce": {"nonce": None},
    "over": {"exp": int(time.time()) - 120},
    "without an end": {"exp": None},
    "from the future": {"iat": int(time.time()) + 600, "exp": int(time.time()) + 900},
    "an old one": {"iat": int(time.time()) - 3600, "exp": int(time.time()) + 900},
    "nobody": {"sub": ""},
    "a number": {"sub": 7},
    "of no role": {"groups": ["kitchen"]},
    "a name that is taken": {"preferred_username": "ANNA"},
    "a name of the box itself": {"preferred_username": "operator"},
}


@pytest.mark.spec("AD-7")
async def test_a_token_that_is_not_right_lets_nobody_in(box, provider):
    for lie, claims in _LIES.items():
        provider.claims = claims
        assert (await log_in(box, provider)).endswith("refused=provider-refused"), lie
        assert await who(box) is None, lie


@pytest.mark.spec("AD-7")
async def test_a_token_that_the_provider_did_not_sign_lets_nobody_in(box, provider):
    provider.forge = unsigned
    assert (await log_in(box, provider)).endswith("refused=provider-refused")
    # signed with the public key as if it were a secret that both sides know
    provider.forge = partial(signed_with, provider.signing.as_pem(private=False))
    assert (await log_in(box, provider)).endswith("refused=provider-refused")
    # signed with another key under the name of the right one
    honest, provider.forge = provider.signing, None
    provider.change_keys()
    provider.key, provider.signing = provider.signing, honest
    assert (await log_in(box, provider)).endswith("refused=provider-refused")
    assert await who(box) is None


@pytest.mark.spec("AD-7")
async def test_an_answer_of_another_browser_another_time_or_twice_is_refused(box, provider):
    answer = provider.authorise(await start(box))
    stolen = dict(answer)
    box.http.cookie_jar.clear()
    assert (await come_back(box, stolen)).endswith("refused=provider-refused")
    first = provider.authorise(await start(box))
    assert (await come_back(box, {**first, "state": "made-up"})).endswith("provider-refused")
    second = provider.authorise(await start(box))
    assert (await come_back(box, {**second, "iss": "https://evil.example"})).endswith("refused")
    third = provider.authorise(await start(box))
    assert await come_back(box, third) == "/viewer/"
    assert (await come_back(box, third)).endswith("refused=provider-refused")
    # the code is bound to the secret that never left the box (PKCE)
    fourth = provider.authorise(await start(box))
    fifth = provider.authorise(await start(box))
    mixed = {**fifth, "code": fourth["code"]}
    assert (await come_back(box, mixed)).endswith("refused=provider-unavailable")


@pytest.mark.spec("AD-7")
async def test_a_disabled_account_stays_out_and_the_last_administrator_stays_one(
    box, anna, provider
):
    provider.claims = {"groups": ["it"]}
    await log_in(box, provider)
    await anna.ask("PATCH", "/accounts/carla", json={"disabled": True})
    assert await who(box) is None
    assert (await log_in(box, provider)).endswith("refused=provider-refused")
    await anna.ask("PATCH", "/accounts/carla", json={"disabled": False})
    await anna.ask("DELETE", "/accounts/anna", status=204)
    provider.claims = {"groups": ["radiology"]}
    assert await log_in(box, provider) == "/viewer/"
    assert (await who(box))["role"] == "administrator"


@pytest.mark.spec("AD-7")
async def test_a_provider_that_is_off_or_calls_itself_another_is_not_asked(box, anna, provider):
    provider.issuer_said = "https://evil.example"
    async with box.http.get(box.api("/oidc/start"), allow_redirects=False) as answer:
        assert (answer.status, (await answer.json())["code"]) == (503, "provider-unavailable")
    off = {"access": {"oidc": {"enabled": False}}}
    await anna.ask("PATCH", "/settings", json={"settings": off})
    async with box.http.get(box.api("/oidc/start"), allow_redirects=False) as answer:
        assert (answer.status, (await answer.json())["code"]) == (503, "provider-unavailable")
    shown = await anna.json("GET", "/settings")
    assert SECRET not in str(shown)
