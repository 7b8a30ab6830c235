# SPDX-License-Identifier: Apache-2.0
"""What somebody may not see is not there: at every door of the API, whatever its UID."""

import json
import re
from dataclasses import replace
from typing import Any

import pytest

from scrigno.access.permissions import Permission
from scrigno.access.roles import BuiltIn
from scrigno.core.sight import Sight

PASSWORD = "corretto cavallo batteria"
NOWHERE = "1.2.826.0.1.3680043.9.9.9"
ALL = sorted(set(Permission) - {Permission.ADMIN})
UIDS = {"uid", "study", "series", "instance"}


async def somebody(anna, name: str, **sight: Any):
    """Return a client of an account that may do everything but sees only some studies."""
    role = {"name": f"role of {name}", "permissions": ALL, **sight}
    await anna.json("POST", "/roles", status=201, json=role)
    body = {"user": name, "password": PASSWORD, "role": role["name"]}
    await anna.json("POST", "/accounts", status=201, json=body)
    made = await anna.box.parts.access.login(name, PASSWORD, address="127.0.0.1")
    return replace(anna, token=made.token)


async def studies_of(client) -> list[str]:
    rows = (await client.json("GET", "/studies"))["rows"]
    return [row["study_instance_uid"] for row in rows]


def sample(schema: Any, document: dict[str, Any]) -> Any:
    """Return some value that a schema allows, as far as the bodies of this API need it."""
    if "$ref" in schema:
        return sample(document["components"]["schemas"][schema["$ref"].split("/")[-1]], document)
    for many in ("anyOf", "oneOf"):
        if many in schema:
            return sample(schema[many][0], document)
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            properties = schema.get("properties", {})
            return {name: sample(properties[name], document) for name in schema.get("required", ())}
        case "array":
            some = schema.get("minItems", 0)
            return [sample(schema["items"], document) for _ in range(some)]
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return False
        case "string":
            return "2026-01-01" if schema.get("format") else NOWHERE
    return None


@pytest.mark.spec("AD-7", "IN-6")
async def test_no_door_tells_an_unseen_study_from_one_that_does_not_exist(box, anna):
    """Every path of the OpenAPI document that takes a UID, so that a new one is tried too."""
    await box.take_in(images=1, patient=0)
    (study,) = await studies_of(anna)
    detail = await anna.json("GET", f"/studies/{study}")
    series = detail["series"][0]["series_instance_uid"]
    instance = detail["series"][0]["instances"][0]["sop_instance_uid"]
    bruno = await somebody(anna, "bruno", sources=["NOBODY"])
    assert await studies_of(bruno) == []
    async with box.http.get(box.api("/openapi.json")) as answer:
        document = await answer.json()
    tried = 0
    for path, operations in document["paths"].items():
        parts = set(re.findall(r"\{(\w+)\}", path))
        if not parts & UIDS:
            continue
        of_instance = path.startswith("/viewer/api/instances/")
        there = {"uid": instance if of_instance else study, "study": study, "series": series,
                 "instance": instance}  # fmt: skip
        others = dict.fromkeys(parts - UIDS, "1")
        for method, operation in operations.items():
            if operation.get("x-allowed") in {"administrators", "admin"}:
                continue
            answers = []
            for uids in (there, dict.fromkeys(UIDS, NOWHERE)):
                body = operation.get("requestBody", {}).get("content", {}).get("application/json")
                more = {} if body is None else {"json": sample(body["schema"], document)}
                url = f"{box.url}{path.format(**{**uids, **others})}"
                headers = {"Authorization": f"Bearer {bruno.token}"}
                async with box.http.request(method, url, headers=headers, **more) as answer:
                    text = re.sub(r'"request_id": ?"[^"]*"', "", await answer.text())
                    for uid in {*uids.values()}:
                        text = text.replace(uid, "UID")
                    answers.append((answer.status, text))
            assert answers[0] == answers[1], (method, path)
            assert answers[0][0] >= 400 or answers[0][1] in ("", "[]"), (method, path, answers[0])
            tried += 1
    assert tried > 20
    assert (await anna.json("GET", f"/studies/{study}"))["study"]["protected"] is False
    assert await studies_of(anna) == [study]


@pytest.mark.spec("AD-7")
async def test_lists_searches_and_totals_hold_only_what_is_seen(box, anna):
    for patient in range(3):
        await box.take_in(images=1, patient=patient)
    known = await studies_of(anna)
    assert len(known) == 3
    for sight, total in ({"modalities": ["CT"]}, 3), ({"modalities": ["MR"]}, 0):
        client = await somebody(anna, f"sees {total}", **sight)
        assert (await client.json("GET", "/studies"))["total"] == total
        assert (await client.json("POST", "/studies/search", json={}))["total"] == total
    token = await box.parts.access.begin_limited(
        "share", {Permission.VIEW}, Sight(study_uids=frozenset(known[:1])), 60, address="x"
    )
    guest = replace(anna, token=token)
    assert await studies_of(guest) == known[:1]
    await guest.ask("GET", f"/studies/{known[0]}")
    await guest.ask("GET", f"/studies/{known[1]}", status=404)


@pytest.mark.spec("AD-7")
async def test_what_cannot_be_told_apart_by_study_is_for_who_sees_everything(box, anna):
    bruno = await somebody(anna, "bruno", modalities=["CT"])
    for method, path in (("GET", "/trash"), ("POST", "/trash/1/restore")):
        assert (await bruno.json(method, path, status=403))["code"] == "not-allowed"
    clara = await somebody(anna, "clara")
    await clara.json("GET", "/trash")


@pytest.mark.spec("AD-7", "VW-7")
async def test_a_guest_gets_at_studies_and_at_nothing_that_belongs_to_accounts(box, anna):
    token = await box.parts.access.begin_limited(
        "share", {Permission.VIEW}, Sight(study_uids=frozenset()), 60, address="x"
    )
    guest = replace(anna, token=token)
    assert (await guest.json("GET", "/session"))["user"]["guest"] is True
    assert (await guest.json("GET", "/studies"))["total"] == 0
    for method, path, body in (
        ("GET", "/account/sessions", None),
        ("GET", "/account/tokens", None),
        ("GET", "/account/second-factor", None),
        ("POST", "/account/password", {"old": "x", "new": "y"}),
        ("POST", "/account/tokens", {"name": "x", "scopes": ["view"]}),
        ("PATCH", "/account", {"language": "it"}),
        ("GET", "/accounts", None),
        ("GET", "/roles", None),
        ("GET", "/settings", None),
        ("GET", "/status", None),
    ):
        answer = await guest.json(method, path, status=403, json=body)
        assert answer["code"] == "not-allowed", path
    await guest.ask("POST", "/logout", status=204)
    await guest.ask("GET", "/studies", status=401)


@pytest.mark.spec("AD-7")
async def test_a_running_event_stream_names_no_study_that_is_not_seen(box, anna):
    bruno = await somebody(anna, "bruno", sources=["NOBODY"])
    headers = {"Authorization": f"Bearer {bruno.token}"}
    async with box.http.get(box.api("/events"), headers=headers) as stream:
        await box.take_in(images=1, patient=0)
        told = b""
        while b"event: studies" not in told:
            told += await stream.content.readany()
        told += await stream.content.readany() if b"\n\n" not in told[-2:] else b""
    (study,) = await studies_of(anna)
    assert study.encode() not in told
    assert json.dumps({"many": True}).encode() in told


@pytest.mark.spec("AD-7")
async def test_a_changed_role_holds_for_the_next_request_of_a_running_session(box, anna):
    await box.take_in(images=1, patient=0)
    bruno = await somebody(anna, "bruno")
    assert len(await studies_of(bruno)) == 1
    role = {"permissions": ["view"], "modalities": ["MR"]}
    await anna.json("PUT", "/roles/role of bruno", json=role)
    assert await studies_of(bruno) == []
    await anna.json("PUT", "/roles/role of bruno", json={"permissions": ["export"]})
    assert (await bruno.json("GET", "/studies", status=403))["code"] == "not-allowed"
    await anna.json("PATCH", "/accounts/bruno", json={"role": BuiltIn.VIEWER})
    assert len(await studies_of(bruno)) == 1
    await anna.json("PATCH", "/accounts/bruno", json={"disabled": True})
    await bruno.ask("GET", "/studies", status=401)
