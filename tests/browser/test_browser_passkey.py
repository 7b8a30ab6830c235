# SPDX-License-Identifier: Apache-2.0
"""A passkey of a real browser: Chromium with a virtual authenticator makes one and uses it."""

from typing import Any

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.virtual_authenticator import VirtualAuthenticatorOptions

from running_box import RunningBox

PASSWORD = "corretto cavallo batteria"
# `localhost` is a secure context without https; scripts of the driver are no scripts of the page.
ASK = """
const [path, body, done] = arguments;
const init = {method: "POST", headers: {"Content-Type": "application/json"},
              body: JSON.stringify(body)};
fetch("/viewer/api" + path, init).then(async (answer) =>
    done({status: answer.status, body: await answer.json().catch(() => null)}));
"""
CREATE = """
const [options, done] = arguments;
const publicKey = PublicKeyCredential.parseCreationOptionsFromJSON(options);
navigator.credentials.create({publicKey}).then((made) => done(made.toJSON()),
                                               (error) => done({error: String(error)}));
"""
GET = """
const [options, done] = arguments;
const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(options);
navigator.credentials.get({publicKey}).then((made) => done(made.toJSON()),
                                            (error) => done({error: String(error)}));
"""


@pytest.mark.slow
@pytest.mark.spec("AD-7")
def test_chromium_makes_a_passkey_and_logs_in_by_it(chromium: Chrome, new_box: RunningBox) -> None:
    def ask(path: str, **body: Any) -> Any:
        answer = chromium.execute_async_script(ASK, path, body)
        assert answer["status"] < 300, (path, answer)
        return answer["body"]

    def credential(script: str, options: Any) -> Any:
        made = chromium.execute_async_script(script, options)
        assert "error" not in made, made
        return made

    assert new_box.cli("claim", "--user", "anna", stdin=PASSWORD + "\n").returncode == 0
    options = VirtualAuthenticatorOptions()
    options.has_resident_key = True
    options.has_user_verification = True
    options.is_user_verified = True
    chromium.get(f"http://localhost:{new_box.web_port}/viewer/")
    chromium.add_virtual_authenticator(options)
    try:
        login = {"user": "anna", "password": PASSWORD, "cookie": True}
        assert ask("/login", **login)["user"]["name"] == "anna"
        base = "/account/second-factor/passkeys"
        made = credential(CREATE, ask(f"{base}/options", password=PASSWORD)["options"])
        added = ask(base, credential=made, name="This computer")
        assert added["passkey"]["host"] == "localhost"
        ask("/logout")
        step = ask("/login", **login)
        assert step["methods"] == ["passkey", "recovery-code"]
        ticket = step["ticket"]
        answer = credential(GET, ask("/login/passkey-options", ticket=ticket)["options"])
        done = ask("/login/second-factor", ticket=ticket, passkey=answer)
        assert done["user"]["name"] == "anna"
    finally:
        chromium.remove_virtual_authenticator()
        chromium.delete_all_cookies()
