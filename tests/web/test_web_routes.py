# SPDX-License-Identifier: Apache-2.0
"""What every route has: a type, a line of audit where it changes something, a guard of sight."""

import pytest

from scrigno.web.errors import STATUS

pytestmark = pytest.mark.asyncio(loop_scope="module")

READING = {"get", "head", "options"}
OF_STUDIES = {"{uid}", "{study}", "{series}", "{instance}"}
# Paths with a UID of something else, each with the reason.
NOT_STUDIES: dict[str, str] = {}


async def operations(archive) -> list[tuple[str, str, dict]]:
    async with archive.box.http.get(archive.box.api("/openapi.json")) as answer:
        document = await answer.json()
    return [
        (path, method, each)
        for path, methods in document["paths"].items()
        for method, each in methods.items()
    ]


@pytest.mark.spec("IN-6")
async def test_every_body_and_answer_has_a_schema(archive):
    untyped = []
    for path, method, each in await operations(archive):
        contents = [each.get("requestBody", {}).get("content", {})]
        contents += [
            answer.get("content", {})
            for status, answer in each["responses"].items()
            if status.startswith("2")
        ]
        untyped += [
            f"{method} {path} {kind}"
            for content in contents
            for kind, media in content.items()
            if kind == "application/json" and not media.get("schema")
        ]
    assert untyped == []


@pytest.mark.spec("AD-10")
async def test_every_route_that_changes_something_is_recorded_or_says_why_not(archive):
    silent = [
        f"{method} {path}"
        for path, method, each in await operations(archive)
        if method not in READING and not each.get("x-audit") and not each.get("x-unaudited")
    ]
    assert silent == []


@pytest.mark.spec("IN-6")
async def test_every_code_of_every_route_has_a_status(archive):
    unknown = set()
    for _, _, each in await operations(archive):
        for status, answer in each["responses"].items():
            problem = answer.get("content", {}).get("application/problem+json")
            if problem is None:
                continue
            for code in problem["schema"]["properties"]["code"]["enum"]:
                if STATUS.get(code, 500) != int(status) or (
                    code not in STATUS and code != "internal-error"
                ):
                    unknown.add((each["operationId"], code))
    assert unknown == set()


@pytest.mark.spec("AD-7")
async def test_no_route_that_names_a_study_answers_who_does_not_see_it(archive):
    """The role may do everything and sees MR only; the archive holds CT only."""
    found = (await archive.json("GET", "/studies"))["rows"][0]
    study = found["study_instance_uid"]
    detail = await archive.json("GET", f"/studies/{study}")
    series = detail["series"][0]
    values = {
        "{uid}": study,
        "{study}": study,
        "{series}": series["series_instance_uid"],
        "{instance}": series["instances"][0]["sop_instance_uid"],
        "{frame}": "1",
    }
    password = "batteria cavallo corretto"
    every = ["view", "annotate", "report", "share", "export", "import", "edit", "delete", "send"]
    role = {"name": "mr only", "permissions": [*every, "query"], "modalities": ["MR"]}
    await archive.json("POST", "/roles", status=201, json=role)
    account = {"user": "carla", "password": password, "role": "mr only"}
    await archive.json("POST", "/accounts", status=201, json=account)
    made = await archive.box.parts.access.login("carla", password, address="127.0.0.1")
    headers = {"Authorization": f"Bearer {made.token}"}
    seen, tried = [], 0
    for path, method, _ in await operations(archive):
        parts = {part for part in values if part in path}
        if not parts & OF_STUDIES or path in NOT_STUDIES:
            continue
        where = path
        for part in parts:
            value = values[part]
            if "/instances/{uid}" in path and part == "{uid}":
                value = values["{instance}"]
            where = where.replace(part, value)
        if "{" in where:
            continue  # a further part, such as the number of a version below a hidden study
        tried += 1
        async with archive.box.http.request(
            method, f"{archive.box.url}{where}", headers=headers, json={}
        ) as answer:
            if answer.status not in {400, 403, 404, 428}:
                seen.append((method, where, answer.status, await answer.text()))
    assert seen == []
    assert tried > 10
