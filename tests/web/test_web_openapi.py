# SPDX-License-Identifier: Apache-2.0
"""The document of the API: complete, and true."""

import pytest

from scrigno.access.permissions import Permission
from scrigno.web.routes import For

pytestmark = pytest.mark.asyncio(loop_scope="module")

ALLOWED = {*map(str, For), *map(str, Permission)}


async def _document(archive) -> dict:
    async with archive.box.http.get(archive.box.api("/openapi.json")) as answer:
        return await answer.json()


@pytest.mark.spec("IN-6")
async def test_the_openapi_document_names_every_route_with_who_may_use_it(archive):
    document = await _document(archive)
    operations = [
        (path, method, each)
        for path, methods in document["paths"].items()
        for method, each in methods.items()
    ]
    assert len(operations) > 30
    assert len({each["operationId"] for _, _, each in operations}) == len(operations)
    for path, _, each in operations:
        assert path.startswith("/viewer/api/")
        assert each["summary"]
        assert each["x-allowed"] in ALLOWED
        assert "500" in each["responses"], path
    free = {path for path, _, each in operations if each["x-allowed"] == "anybody"}
    assert {f"/viewer/api/{name}" for name in ("session", "claim", "login")} <= free


@pytest.mark.spec("IN-6")
@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("nothing=1", "unknown-parameter"),
        ("limit=1&limit=2", "bad-request"),
        ("limit=0", "bad-request"),
        ("limit=", "bad-request"),
        ("language=%00", "bad-request"),
    ],
)
async def test_a_query_string_that_is_not_the_declared_one_is_refused(archive, query, code):
    content = await archive.json("GET", f"/alerts/history?{query}", status=400)
    assert content["code"] == code
