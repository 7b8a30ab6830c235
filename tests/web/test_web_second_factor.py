# SPDX-License-Identifier: Apache-2.0
"""The second factor over HTTP: codes, recovery codes, passkeys, and what has to be confirmed."""

import time
from dataclasses import replace

import pytest

from factor_codes import code_of
from scrigno.access.errors import LoginUnfinished
from scrigno.access.roles import BuiltIn
from software_passkey import SoftwarePasskey

USER = "anna"
PASSWORD = "corretto cavallo batteria"


async def ask(box, path: str, status: int = 200, *, host: str = "", **body) -> dict:
    headers = {"Host": host} if host else {}
    async with box.http.post(box.api(path), json=body, headers=headers) as answer:
        content = await answer.json(content_type=None)
        assert answer.status == status, content
        return content


async def log_in(box, **more) -> dict:
    return await ask(box, "/login", user=USER, password=PASSWORD, **more)


@pytest.mark.spec("AD-7")
async def test_an_app_is_set_up_confirmed_used_and_taken_away(box, anna):
    assert (await anna.json("GET", "/account/second-factor"))["totp"] is False
    base = "/account/second-factor"
    refused = await anna.json("POST", f"{base}/totp", status=403)
    assert refused["code"] == "confirm-password"  # ASVS 7.5.1
    wrong = {"password": "not the password"}
    assert (await anna.json("POST", f"{base}/totp", status=401, json=wrong))["code"]
    made = await anna.json("POST", f"{base}/totp", json={"password": PASSWORD})
    assert made["uri"].startswith("otpauth://totp/Scrigno%3Aanna?secret=")
    assert made["qr"].startswith('<svg xmlns="http://www.w3.org/2000/svg"')
    bad = await anna.json("POST", f"{base}/totp/confirm", status=401, json={"code": "000000"})
    assert bad["code"] == "wrong-code"
    now = time.time()
    code = {"code": code_of(made["secret"], now - 30)}
    recovery = (await anna.json("POST", f"{base}/totp/confirm", json=code))["recovery_codes"]
    assert len(recovery) == 10
    assert (await anna.json("GET", base))["recovery_codes_left"] == 10

    # a browser
    step = await log_in(box, cookie=True)
    assert (step["step"], step["methods"]) == ("second-factor", ["totp", "recovery-code"])
    assert "user" not in step
    assert not list(box.http.cookie_jar)
    ticket = step["ticket"]
    await ask(box, "/login/second-factor", 401, ticket=ticket, code="000000")
    await ask(box, "/login/second-factor", 400, ticket=ticket)
    done = await ask(box, "/login/second-factor", ticket=ticket, code=code_of(made["secret"], now))
    assert done["user"]["name"] == USER
    assert "token" not in done
    async with box.http.get(box.api("/settings")) as answer:
        assert answer.status == 200
    box.http.cookie_jar.clear()
    # a program, with the code used already and then a recovery code
    step = await log_in(box)
    code = code_of(made["secret"], now)
    await ask(box, "/login/second-factor", 401, ticket=step["ticket"], code=code)
    done = await ask(box, "/login/second-factor", ticket=step["ticket"], recovery_code=recovery[0])
    assert done["token_type"] == "Bearer"
    await ask(box, "/login/second-factor", 401, ticket=step["ticket"], recovery_code=recovery[1])
    await anna.ask("DELETE", f"{base}/totp", status=204, json={"password": PASSWORD})
    assert (await anna.json("GET", base))["recovery_codes_left"] == 0
    assert "token" in await log_in(box)


@pytest.mark.spec("AD-7")
async def test_a_passkey_is_made_and_asked_for_and_each_answer_counts_once(box, anna):
    # a passkey needs a name: the box is called as its certificate would name it
    port = box.url.rsplit(":", 1)[1]
    named = replace(box, url=f"http://localhost:{port}")
    anna = replace(anna, box=named)
    base = "/account/second-factor/passkeys"
    confirmed = {"password": PASSWORD}
    passkey = SoftwarePasskey(origin=named.url)
    options = (await anna.json("POST", f"{base}/options", json=confirmed))["options"]
    assert options["rp"]["id"] == "localhost"
    foreign = SoftwarePasskey(origin="https://evil.example").create(options)
    body = {"credential": foreign, "name": "Thief"}
    assert (await anna.json("POST", base, status=401, json=body))["code"] == "wrong-code"
    # the challenge is used up, whatever came
    body = {"credential": passkey.create(options), "name": "YubiKey"}
    await anna.json("POST", base, status=403, json=body)
    options = (await anna.json("POST", f"{base}/options", json=confirmed))["options"]
    body = {"credential": passkey.create(options), "name": "YubiKey"}
    made = await anna.json("POST", base, status=201, json=body)
    assert (made["passkey"]["name"], made["passkey"]["host"]) == ("YubiKey", "localhost")
    assert len(made["recovery_codes"]) == 10

    step = await log_in(named)
    assert step["methods"] == ["passkey", "recovery-code"]
    ticket = step["ticket"]
    unasked = passkey.get({"rpId": "localhost", "challenge": "AAAA"})
    await ask(named, "/login/second-factor", 401, ticket=ticket, passkey=unasked)
    asked = (await ask(named, "/login/passkey-options", ticket=ticket))["options"]
    assert [each["id"] for each in asked["allowCredentials"]] == [made["passkey"]["id"]]
    other = SoftwarePasskey(origin=named.url, ident=passkey.ident)
    await ask(named, "/login/second-factor", 401, ticket=ticket, passkey=other.get(asked))
    asked = (await ask(named, "/login/passkey-options", ticket=ticket))["options"]
    answer = passkey.get(asked)
    assert (await ask(named, "/login/second-factor", ticket=ticket, passkey=answer))["token"]
    # the same answer again, and an authenticator whose counter stands still: a copy of it
    step = await log_in(named)
    asked = (await ask(named, "/login/passkey-options", ticket=step["ticket"]))["options"]
    await ask(named, "/login/second-factor", 401, ticket=step["ticket"], passkey=answer)
    passkey.counter -= 1
    asked = (await ask(named, "/login/passkey-options", ticket=step["ticket"]))["options"]
    copied = passkey.get(asked)
    await ask(named, "/login/second-factor", 401, ticket=step["ticket"], passkey=copied)
    # under another name of the box there is no passkey to ask for
    refused = await ask(box, "/login/passkey-options", 409, ticket=step["ticket"])
    assert refused["code"] == "second-factor-refused"
    key = made["passkey"]["id"]
    await anna.ask("DELETE", f"{base}/{key}", status=204, json=confirmed)
    assert "token" in await log_in(named)


@pytest.mark.spec("AD-7")
async def test_a_passkey_is_not_made_under_an_address(box, anna):
    path = "/account/second-factor/passkeys/options"
    refused = await anna.json("POST", path, status=409, json={"password": PASSWORD})
    assert refused["code"] == "second-factor-refused"
    assert "scrigno.local" in refused["next_step"]


@pytest.mark.spec("AD-7")
async def test_the_settings_may_ask_everybody_for_a_second_factor(box, anna):
    # ASVS 6.3.3
    settings = {"access": {"second_factor": "everybody"}}
    await anna.ask("PATCH", "/settings", json={"settings": settings})
    step = await log_in(box, cookie=True)
    assert step["step"] == "enrol-second-factor"
    made = await ask(box, "/login/enrol", ticket=step["ticket"])
    now = time.time()
    await ask(box, "/login/enrol/confirm", 401, ticket=step["ticket"], code="000000")
    code = code_of(made["secret"], now)
    done = await ask(box, "/login/enrol/confirm", ticket=step["ticket"], code=code)
    assert len(done["recovery_codes"]) == 10
    async with box.http.get(box.api("/settings")) as answer:
        assert answer.status == 200
    assert (await log_in(box))["step"] == "second-factor"
    # who lost it has it taken away by another administrator
    await anna.json("DELETE", "/accounts/anna/second-factor")
    assert (await log_in(box))["step"] == "enrol-second-factor"


@pytest.mark.spec("AD-7")
async def test_a_temporary_password_is_replaced_before_anything_else(box, anna):
    # ASVS 6.4.1, 6.4.6
    made = await anna.json("POST", "/accounts", status=201, json={"user": "bruno"})
    assert made["must_change_password"] is True
    temporary = made["temporary_password"]
    body = {"user": "bruno", "password": temporary, "cookie": True}
    step = await ask(box, "/login", **body)
    assert step["step"] == "new-password"
    path = "/login/new-password"
    await ask(box, path, 422, ticket=step["ticket"], new="bruno")
    done = await ask(box, path, ticket=step["ticket"], new="his own long sentence")
    assert done["user"]["name"] == "bruno"
    await ask(box, path, 401, ticket=step["ticket"], new="once more is too much")
    again = await anna.json("POST", "/accounts/bruno/password-reset")
    assert again["temporary_password"] != temporary
    async with box.http.get(box.api("/account/sessions")) as answer:
        assert answer.status == 401
    shown = await anna.json("GET", "/accounts/bruno")
    assert "temporary_password" not in shown


@pytest.mark.spec("AD-7", "AD-10")
async def test_log_ins_are_in_the_trail_without_what_was_typed(box, anna):
    # ASVS 16.3.1
    secret = "typed into the wrong field"
    await ask(box, "/login", 401, user=secret, password="also wrong")
    await log_in(box)
    await box.parts.audit.settle()
    shown = await anna.json("GET", "/audit?limit=50")
    lines = [each for each in shown["entries"] if each["action"] == "login"]
    assert {(each["who"], each["outcome"]) for each in lines} >= {
        ("nobody", "failure"),
        (USER, "success"),
    }
    assert secret not in str(shown)


@pytest.mark.spec("AD-7")
async def test_the_launch_by_name_and_password_does_not_go_around_the_second_factor(box, anna):
    account = await box.parts.access.accounts.named(USER)
    made = await box.parts.access.factors.begin_totp(account)
    await box.parts.access.factors.confirm_totp(account.id, code_of(made.secret, time.time()))
    with pytest.raises(LoginUnfinished):
        await box.parts.access.login(USER, PASSWORD, address="127.0.0.1")
    await box.parts.access.add_account("bruno", PASSWORD, BuiltIn.USER)
    assert await box.parts.access.login("bruno", PASSWORD, address="127.0.0.1")
