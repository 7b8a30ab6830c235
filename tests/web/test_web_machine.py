# SPDX-License-Identifier: Apache-2.0
"""What machines ask, what every answer carries, what is served as a page and what is not."""

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

# one box for all of them: nothing here changes it
pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.usefixtures("_proc_may_be_read"),
]
PAGES = Path(__file__).resolve().parents[2] / "webui" / "dist"


@pytest.mark.spec("IN-6")
async def test_health_is_200_while_images_can_be_stored_and_read(archive):
    async with archive.box.http.get(f"{archive.box.url}/healthz") as answer:
        assert (answer.status, await answer.json()) == (200, {"status": "ok", "reasons": []})


@pytest.mark.spec("IN-6")
async def test_metrics_are_what_prometheus_reads(archive):
    await archive.json("GET", "/studies")
    async with archive.box.http.get(f"{archive.box.url}/metrics") as answer:
        text = await answer.text()
    families = {each.name: each for each in text_string_to_metric_families(text)}
    assert all(name.startswith("scrigno_") for name in families)
    (sample,) = [
        each
        for each in families["scrigno_web_requests"].samples
        if each.labels == {"method": "GET", "status": "200"}
    ]
    assert sample.value >= 1
    assert any(each.type == "gauge" for each in families.values())


@pytest.mark.spec("AD-7")
@pytest.mark.parametrize("path", ["/viewer/", "/viewer/api/session", "/healthz", "/nothing"])
async def test_every_answer_carries_the_security_headers(archive, path: str):
    async with archive.box.http.get(f"{archive.box.url}{path}") as answer:
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe-eval" not in policy.replace("'wasm-unsafe-eval'", "")
        scripts = next(part for part in policy.split("; ") if part.startswith("script-src"))
        if path == "/viewer/":  # decoders are WebAssembly; the engine styles marks in place
            assert scripts == "script-src 'self' 'wasm-unsafe-eval'"
        else:
            assert scripts == "script-src 'self'"
            assert "unsafe" not in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Server"] == "Scrigno"


@pytest.mark.spec("VW-1")
async def test_the_pages_are_served_and_asked_again_each_time(archive):
    async with archive.box.http.get(f"{archive.box.url}/") as answer:
        assert str(answer.url).endswith("/viewer/")
        assert answer.content_type == "text/html"
        assert answer.headers["Cache-Control"] == "no-cache"
        tag = answer.headers["ETag"]
        assert await answer.text() == (PAGES / "index.html").read_text()
    headers = {"If-None-Match": tag}
    async with archive.box.http.get(f"{archive.box.url}/viewer/", headers=headers) as answer:
        assert answer.status == 304
    script = next(PAGES.glob("assets/index-*.js")).name
    async with archive.box.http.get(f"{archive.box.url}/viewer/assets/{script}") as answer:
        assert answer.content_type == "text/javascript"
        assert "immutable" in answer.headers["Cache-Control"]
    async with archive.box.http.get(f"{archive.box.url}/viewer/locales/ja.json") as answer:
        assert (await answer.json())["loading"]


@pytest.mark.parametrize(
    "name",
    [
        "../pyproject.toml",
        "%2e%2e/pyproject.toml",
        "..%2fpyproject.toml",
        "%2fetc%2fpasswd",
        "scripts",
        "scripts/",
        "x.js",
    ],
)
async def test_nothing_but_the_pages_is_served(archive, name: str):
    async with archive.box.http.get(f"{archive.box.url}/viewer/{name}") as answer:
        assert answer.status == 404
        assert "[project]" not in await answer.text()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"[]", 400),
        (b'"x"', 400),
        (b"[" * 60_000, 400),
        (b"\xff", 400),
        (b" " * 70_000, 413),
    ],
)
async def test_a_body_that_is_not_what_it_should_be_is_refused(archive, body: bytes, status: int):
    headers = {"Content-Type": "application/json"}
    async with archive.box.http.post(
        archive.box.api("/login"), data=body, headers=headers
    ) as answer:
        assert answer.status == status
        assert answer.content_type == "application/problem+json"


async def test_a_body_without_a_length_is_capped_too(archive):
    async def endless():
        for _ in range(1000):
            yield b" " * 10_000

    headers = {"Content-Type": "application/json"}
    async with archive.box.http.post(
        archive.box.api("/login"), data=endless(), headers=headers
    ) as answer:
        assert (answer.status, (await answer.json())["code"]) == (413, "body-too-large")


async def test_a_wrong_method_and_a_wrong_address_are_problem_documents(archive):
    async with archive.box.http.delete(archive.box.api("/session")) as answer:
        assert (answer.status, (await answer.json())["code"]) == (405, "method-not-allowed")
        assert "GET" in answer.headers["Allow"]
    async with archive.box.http.get(archive.box.api("/nothing")) as answer:
        assert (answer.status, (await answer.json())["code"]) == (404, "not-found")
    async with archive.box.http.request("PROPFIND", f"{archive.box.url}/metrics") as answer:
        assert answer.status == 405
    async with archive.box.http.get(f"{archive.box.url}/metrics") as answer:
        text = await answer.text()
    assert "PROPFIND" not in text
    assert 'method="other"' in text
