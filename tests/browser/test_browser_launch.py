# SPDX-License-Identifier: Apache-2.0
"""Launching by an address in a real browser: what logs in vanishes before anything else."""

import base64
import json
import subprocess  # noqa: TID251 - OpenSSL as the other system
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from window import PASSWORD, USER, Browser

from running_box import RunningBox

PATIENTS = "[...document.querySelectorAll('.col-patient .mono')].map((each) => each.textContent)"
# what any script of the page sees of its own address, from its first moment on
ADDRESSES = """
  window.__seen = [];
  for (const name of ['replaceState', 'pushState']) {
    const real = history[name].bind(history);
    history[name] = (...rest) => { real(...rest); window.__seen.push(location.href); };
  }
  const fetched = window.fetch;
  window.fetch = (...rest) => { window.__seen.push(location.href); return fetched(...rest); };
"""


def ask(box: RunningBox, method: str, path: str, body: object = None, token: str = "") -> bytes:
    request = urllib.request.Request(
        f"http://127.0.0.1:{box.web_port}/viewer/api{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"}
        | ({"Authorization": f"Bearer {token}"} if token else {}),
    )
    with urllib.request.urlopen(request) as answer:
        return answer.read()


def token_of(box: RunningBox) -> str:
    return json.loads(ask(box, "POST", "/login", {"user": USER, "password": PASSWORD}))["token"]


@pytest.fixture
def launching(browser: Browser) -> Iterator[Browser]:
    """The shared box with every way in switched on, and a browser that notes addresses."""
    token = token_of(browser.box)
    settings = {"settings": {"launch": {"password_in_address": True}}}
    ask(browser.box, "PATCH", "/settings", settings, token)
    added = browser.driver.execute_cdp_cmd(
        "Page.addScriptToEvaluateOnNewDocument", {"source": ADDRESSES}
    )
    browser.expected.append("Autofocus processing was blocked")  # the heading has the focus
    yield browser
    browser.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)
    settings["settings"]["launch"]["password_in_address"] = False
    ask(browser.box, "PATCH", "/settings", settings, token)


def until_patients(browser: Browser, *wanted: str) -> None:
    browser.until(f"JSON.stringify({PATIENTS}) === JSON.stringify(arguments[0])", list(wanted))


def nothing_left_of(browser: Browser, *secrets: str) -> None:
    """Assert that no address of this page, of its history or of its requests holds a secret."""
    seen = browser.script("return window.__seen")
    seen += browser.script("return performance.getEntriesByType('resource').map((e) => e.name)")
    history = browser.driver.execute_cdp_cmd("Page.getNavigationHistory", {})
    seen += [each["url"] for each in history["entries"][-3:]]
    seen.append(browser.driver.current_url)
    for secret in secrets:
        assert not [each for each in seen if secret in each], seen


@pytest.mark.spec("IN-1")
def test_id_and_password_of_an_address_log_in_and_vanish(launching: Browser) -> None:
    secret = quote(PASSWORD)
    launching.open(f"#/list?ID={USER}&Password={secret}&patientid=IT-001&patientid=**KR")
    until_patients(launching, "KR-3", "IT-001")
    assert launching.driver.current_url.endswith("#/list?patientid=IT-001&patientid=**KR")
    nothing_left_of(launching, "assword", secret, "ID=")
    launching.driver.refresh()  # still logged in, and nothing is sent again
    until_patients(launching, "KR-3", "IT-001")


@pytest.mark.spec("IN-1")
def test_a_wrong_password_of_an_address_ends_at_the_log_in_and_vanishes_too(
    launching: Browser,
) -> None:
    launching.expected.append("401")
    launching.open(f"#/list?id={USER}&password=guessed-wrong&modality=CT")
    launching.until_text("form [role=alert]", "ID or password is wrong")
    assert launching.driver.current_url.endswith("#/list?modality=CT")
    nothing_left_of(launching, "guessed-wrong")
    launching.log_in(here=True)
    until_patients(launching, "FR-88", "KR-3", "JP-7001", "IT-001")


@pytest.mark.spec("IN-3")
def test_a_one_time_code_logs_in_once_and_vanishes(launching: Browser, tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_bytes(ask(launching.box, "POST", "/otp/", {}))
    code = base64.b64encode(
        subprocess.run(
            ["openssl", "pkeyutl", "-encrypt", "-pubin", "-inkey", str(tmp_path / "key.pem")],
            input=f"id={USER}&password={quote(PASSWORD)}".encode(),
            capture_output=True,
            check=True,
        ).stdout
    ).decode()
    address = f"#/list?Code={quote(code, safe='')}&patientname=**ros"
    launching.open(address)
    until_patients(launching, "IT-001")
    nothing_left_of(launching, "Code", code[:40], quote(code, safe="")[:40])
    launching.forget()
    launching.expected.append("401")
    launching.open(address)
    launching.until_text("form [role=alert]", "wrong")
    nothing_left_of(launching, code[:40])


@pytest.mark.spec("IN-2")
def test_the_viewer_opens_by_accession_number_and_shows_only_the_uid(launching: Browser) -> None:
    token = token_of(launching.box)
    rows = json.loads(ask(launching.box, "GET", "/studies", token=token))["rows"]
    row = next(each for each in rows if each["patient_id"] == "IT-001")
    launching.open(
        f"#/viewer?id={USER}&password={quote(PASSWORD)}&patientid={quote(row['patient_id'])}"
    )
    launching.until_text("h1", "Rossi")
    uid = row["study_instance_uid"]
    assert launching.driver.current_url.endswith(f"#/viewer?studyinstanceuid={uid}")
    launching.open(f"#/viewer?accessionnumber==={quote(row['accession_number'])}")
    launching.until_text("h1", "Rossi")


@pytest.mark.spec("IN-4")
def test_a_launch_token_shows_its_study_and_no_other(launching: Browser) -> None:
    token = token_of(launching.box)
    rows = json.loads(ask(launching.box, "GET", "/studies", token=token))["rows"]
    row = next(each for each in rows if each["patient_id"] == "IT-001")
    body = {"studies": [row["study_instance_uid"]]}
    made = json.loads(ask(launching.box, "POST", "/launch", body, token))
    launching.open(made["path"].removeprefix("/viewer/"))
    launching.until_text("h1", "Rossi")
    nothing_left_of(launching, made["token"])
    launching.open("#/list")
    until_patients(launching, "IT-001")


@pytest.mark.spec("VW-7")
def test_a_guest_comes_in_by_a_link_and_its_password(launching: Browser) -> None:
    token = token_of(launching.box)
    rows = json.loads(ask(launching.box, "GET", "/studies", token=token))["rows"]
    studies = [row["study_instance_uid"] for row in rows if row["patient_id"] in ("IT-001", "KR-3")]
    body = {"studies": studies, "gate": "password", "password": "acqua e sale"}
    made = json.loads(ask(launching.box, "POST", "/shares", body, token))
    launching.open(made["path"].removeprefix("/viewer/"))
    launching.until_text(".entry", "password that came with the link")
    nothing_left_of(launching, made["token"])
    launching.expected.append("403")
    launching.fill("input[name=secret]", "guess")
    launching.click("form button[type=submit]")
    launching.until_text("form [role=alert]", "not what the link asks for")
    launching.fill("input[name=secret]", "acqua e sale")
    launching.click("form button[type=submit]")
    until_patients(launching, "KR-3", "IT-001")
    launching.expected.append("status of 401")  # its pictures may still be on their way
    ask(launching.box, "POST", f"/shares/{made['share']['id']}/revoke", {}, token)
