# SPDX-License-Identifier: Apache-2.0
"""Launching by an address: OpenSSL and a plain HTTP client as the other system."""

import asyncio
import base64
import json
import re
import subprocess  # noqa: TID251 - the other system's tool
import xml.etree.ElementTree as ET
from pathlib import Path
from urllib.parse import quote

import pytest

from scrigno.access import otp

USER, PASSWORD = "anna", "corretto cavallo batteria"


async def post(box, path, status=200, **body):
    answer = await box.http.post(box.api(path), json=body)
    assert answer.status == status, await answer.text()
    return await answer.json(content_type=None)


def encrypted(pem: str, tmp_path: Path, *options: str, text: str | None = None) -> bytes:
    path = tmp_path / "key.pem"
    path.write_text(pem)
    text = text or f"id={USER}&password={quote(PASSWORD)}"
    command = ["openssl", "pkeyutl", "-encrypt", "-pubin", "-inkey", str(path)]
    for option in options:
        command += ["-pkeyopt", option]
    return subprocess.run(command, input=text.encode(), capture_output=True, check=True).stdout


async def code_of(box, tmp_path, *options, method="POST", path="/otp/", **more) -> str:
    key = await box.http.request(method, box.api(path))
    assert key.status == 200
    assert key.content_type == "text/plain"
    raw = await asyncio.to_thread(encrypted, await key.text(), tmp_path, *options, **more)
    return base64.b64encode(raw).decode()


@pytest.mark.spec("IN-3")
async def test_a_code_made_by_openssl_logs_in_once(box, anna, tmp_path):
    for options, method, path in (
        ((), "POST", "/otp/"),
        (("rsa_padding_mode:oaep",), "GET", "/otp/"),
        (("rsa_padding_mode:oaep", "rsa_oaep_md:sha256", "rsa_mgf1_md:sha256"), "GET", "/otp"),
        (("rsa_padding_mode:pkcs1",), "POST", "/otp"),
    ):
        code = await code_of(box, tmp_path, *options, method=method, path=path)
        made = await post(box, "/otp/login", code=code)
        assert made["user"]["name"] == USER
        await type(anna)(box, made["token"]).ask("GET", "/studies")
        again = await post(box, "/otp/login", code=code, status=401)
        assert again["code"] == "wrong-credentials"
    code = await code_of(box, tmp_path)
    percent = quote(code, safe="")
    answer = await box.http.post(box.api("/otp/login"), json={"code": percent, "cookie": True})
    assert answer.status == 200
    assert "token" not in await answer.json()
    assert (await box.http.get(box.api("/studies"))).status == 200  # by its cookie


@pytest.mark.spec("IN-3")
async def test_the_public_key_comes_in_the_forms_that_callers_know(box, anna):
    pem = await (await box.http.get(box.api("/otp/"))).text()
    assert pem.startswith("-----BEGIN PUBLIC KEY-----\n")
    xml = await (await box.http.post(box.api("/otp/"), params={"format": "xml"})).text()
    modulus = base64.b64decode(ET.fromstring(xml).findtext("Modulus"))
    assert len(modulus) == 256
    jwk = await (await box.http.get(box.api("/otp/"), params={"format": "jwk"})).json()
    assert (jwk["kty"], jwk["e"]) == ("RSA", "AQAB")
    document = await (await box.http.get(box.api("/otp/"), params={"format": "json"})).json()
    assert document["expires_in_s"] == 60
    assert document["public_key"] != pem


@pytest.mark.spec("IN-3")
async def test_whatever_is_wrong_with_a_code_the_answer_is_the_same(box, anna, tmp_path):
    wrong_password = await code_of(box, tmp_path, text=f"id={USER}&password=nope nope")
    unknown_user = await code_of(box, tmp_path, text="id=nobody&password=nope nope")
    nonsense = await code_of(box, tmp_path, text="hello")
    answers = []
    for code in (wrong_password, unknown_user, nonsense, "", "%", "AAAA", "x" * 4000):
        answer = await post(box, "/otp/login", code=code, status=401)
        answer.pop("request_id", None)
        answers.append(json.dumps(answer, sort_keys=True))
    assert len(set(answers)) == 1
    assert "nope" not in json.dumps((await anna.json("GET", "/audit"))["entries"])


@pytest.mark.spec("IN-3")
async def test_a_key_is_of_no_use_after_its_lifetime(box, anna, tmp_path, monkeypatch):
    monkeypatch.setattr(otp, "LIFETIME_S", 0.2)
    code = await code_of(box, tmp_path)
    await asyncio.sleep(0.3)
    await post(box, "/otp/login", code=code, status=401)


@pytest.mark.spec("IN-1")
async def test_a_password_in_an_address_logs_in_only_where_somebody_wanted_that(box, anna):
    off = await post(box, "/launch/login", id=USER, password=PASSWORD, status=403)
    assert off["code"] == "launch-off"
    switch = {"settings": {"launch": {"password_in_address": True}}}
    await anna.json("PATCH", "/settings", json=switch)
    made = await post(box, "/launch/login", id=USER, password=PASSWORD)
    assert made["user"]["name"] == USER
    wrong = await post(box, "/launch/login", id=USER, password="nope", status=401)
    assert wrong["code"] == "wrong-credentials"
    codes = {"settings": {"launch": {"one_time_codes": False, "tokens": False}}}
    await anna.json("PATCH", "/settings", json=codes)
    assert (await box.http.get(box.api("/otp/"))).status == 403
    assert (await post(box, "/otp/login", code="AAAA", status=403))["code"] == "launch-off"
    await anna.ask("POST", "/launch", json={"studies": ["1.2.3"]}, status=403)


@pytest.mark.spec("IN-1")
async def test_another_site_cannot_log_somebody_in(box, anna):
    doors = {
        "/launch/login": {"id": "a", "password": "b"},
        "/otp/login": {"code": "x"},
        "/launch/enter": {"token": "x"},
        "/otp/": {},
    }
    for path, body in doors.items():
        answer = await box.http.post(
            box.api(path), json=body, headers={"Origin": "https://evil.example"}
        )
        assert answer.status == 403, path


@pytest.mark.spec("IN-2")
async def test_the_page_is_told_what_an_address_asks_for(box, anna):
    for patient in range(3):
        await box.take_in(images=1 + patient, patient=patient, size=32)
    rows = (await anna.json("GET", "/studies"))["rows"]

    async def parsed(route: str, query: str, status=200):
        body = {"route": route, "query": query}
        return await anna.json("POST", "/launch/parse", json=body, status=status)

    found = await parsed("list", "PatientID=IT-001&patientid=**JP&studydate=>=2000/01/01&foo=1")
    assert found["ignored"] == ["foo"]
    assert found["studies"] is None
    patient = next(each for each in found["filters"] if each["field"] == "patient_id")
    assert patient["alternatives"][0]["operator"] == "contains"
    search = {"filters": found["filters"]}
    shown = (await anna.json("POST", "/studies/search", json=search))["rows"]
    assert {row["patient_id"] for row in shown} == {"IT-001", "JP-7001"}
    one = rows[0]
    opened = await parsed("viewer", f"studyinstanceuid={one['study_instance_uid']}")
    assert opened["studies"] == [one["study_instance_uid"]]
    by_accession = await parsed("viewer", f"accessionnumber==={one['accession_number']}")
    assert one["study_instance_uid"] in by_accession["studies"]
    assert (await parsed("viewer", "patientid=IT-001&patientid=JP-7001"))["more"] == 0
    assert (await parsed("viewer", ""))["studies"] == []
    refused = await parsed("list", "studydate=2013/99/99", status=400)
    assert refused["code"] == "bad-launch"
    assert "2013/99/99" not in json.dumps(refused)
    await parsed("viewer", "patientid=**1", status=400)


@pytest.mark.spec("IN-4")
async def test_a_launch_token_opens_exactly_its_studies_once(box, anna):
    for patient in range(2):
        await box.take_in(images=1 + patient, patient=patient, size=32)
    one, two = (row["study_instance_uid"] for row in (await anna.json("GET", "/studies"))["rows"])
    made = await anna.json("POST", "/launch", json={"studies": [one]}, status=201)
    assert made["expires_in_s"] == 60
    assert made["path"] == f"/viewer/#/viewer?studyinstanceuid={one}&token={made['token']}"
    entered = await post(box, "/launch/enter", token=made["token"])
    assert (entered["studies"], entered["permissions"]) == ([one], ["view"])
    launched = type(anna)(box, entered["token"])
    await launched.ask("GET", f"/studies/{one}")
    await launched.ask("GET", f"/studies/{two}", status=404)
    await launched.ask("PUT", f"/studies/{one}/note", json={"text": "x"}, status=403)
    again = await post(box, "/launch/enter", token=made["token"], status=410)
    assert again["code"] == "launch-over"
    twice = await anna.json("POST", "/launch", json={"studies": [one]}, status=201)
    statuses = await asyncio.gather(
        *(box.http.post(box.api("/launch/enter"), json={"token": twice["token"]}) for _ in range(4))
    )
    assert sorted(each.status for each in statuses) == [200, 410, 410, 410]
    late = await anna.json("POST", "/launch", json={"studies": [one], "lifetime_s": 1}, status=201)
    await asyncio.sleep(1.1)
    await post(box, "/launch/enter", token=late["token"], status=410)
    for forged in ("", "x", late["token"][:-2] + "AA", base64.b64encode(b"\0" * 40).decode()):
        await post(box, "/launch/enter", token=forged, status=410)
    await anna.ask("POST", "/launch", json={"studies": ["1.2.3"]}, status=404)
    await anna.ask("POST", "/launch", json={"studies": [one], "lifetime_s": 61}, status=400)
    wide = {"studies": [one, two], "permissions": ["view", "annotate"], "session_s": 60}
    both = await anna.json("POST", "/launch", json=wide, status=201)
    entered = await post(box, "/launch/enter", token=both["token"])
    assert set(entered["studies"]) == {one, two}
    trail = [each["action"] for each in (await anna.json("GET", "/audit"))["entries"]]
    assert {"launch-made", "launch-used"} <= set(trail)


@pytest.mark.spec("IN-4", "AD-7")
async def test_nobody_launches_what_he_does_not_see_or_may_not_do(box, anna):
    await box.take_in(images=1)
    one = (await anna.json("GET", "/studies"))["rows"][0]["study_instance_uid"]
    account = {"user": "bruno", "password": "quattro parole ben scelte", "role": "user"}
    await anna.json("POST", "/accounts", status=201, json=account)
    made = await box.parts.access.login("bruno", account["password"], address="127.0.0.1")
    bruno = type(anna)(box, made.token)
    if "share" not in made.account.permissions:
        await bruno.ask("POST", "/launch", json={"studies": [one]}, status=403)
        await box.parts.access.change_account("bruno", added=frozenset({"share"}))
    token = (await bruno.json("POST", "/launch", json={"studies": [one]}, status=201))["token"]
    launched = type(anna)(box, (await post(box, "/launch/enter", token=token))["token"])
    await launched.ask("POST", "/launch", json={"studies": [one]}, status=403)
    await launched.ask("GET", "/preferences", status=403)


@pytest.mark.spec("IN-3")
async def test_the_example_of_the_documents_works_as_it_stands(box, anna, tmp_path):
    page = Path(__file__).parents[2] / "docs" / "admin" / "integration.md"
    (script,) = re.findall(r"```sh\n(#!/bin/sh.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    script = script.replace("https://scrigno.local", box.url)
    script = script.replace('"ris" "correct%20horse%20battery"', f'"{USER}" "{quote(PASSWORD)}"')
    command = ["sh", "-c", script, "open-in-scrigno.sh", "ACC-1"]
    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, check=True
    )
    address = re.fullmatch(
        r"http://[^#]+/viewer/#/viewer\?code=([^&]+)&accessionnumber=ACC-1\n", done.stdout
    )
    assert address is not None, done
    made = await post(box, "/otp/login", code=address[1])
    assert made["user"]["name"] == USER
