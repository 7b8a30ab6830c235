# SPDX-License-Identifier: Apache-2.0
"""What reaches the pages before any handler: hosts, heads, slow and broken requests, headers."""

import asyncio
import json
import re

import pytest

from scrigno.core.counters import Counters
from scrigno.web.connections import Connections
from scrigno.web.door import behind_proxy

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.spec("AD-7")]


@pytest.fixture
def anna(claimed):
    return claimed


@pytest.fixture
def box(claimed, _proc_may_be_read):
    """One box for all: who changes something puts it back."""
    return claimed.box


async def raw(box, content: bytes, *, wait_s: float = 5) -> bytes:
    """Send bytes on a connection of their own; return all that comes back."""
    port = int(box.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(content)
    answer = b""
    try:
        async with asyncio.timeout(wait_s):
            while chunk := await reader.read(65536):
                answer += chunk
                if b"\r\n\r\n" in answer and b"Connection: close" not in answer:
                    await asyncio.sleep(0.1)
                    if not reader._buffer:
                        break
    except (TimeoutError, ConnectionError):
        pass
    writer.close()
    return answer


def statuses(answer: bytes) -> list[int]:
    return [int(each) for each in re.findall(rb"HTTP/1\.[01] (\d{3}) ", answer)]


async def test_every_answer_carries_the_headers_of_asvs(box, anna):
    for path, status in {
        "/viewer/": 200,
        "/viewer/api/session": 200,
        "/viewer/api/status": 401,
        "/viewer/api/nothing": 404,
        "/viewer/nothing": 404,
        "/healthz": None,
        "/metrics": None,
        "/dicom-web/studies": 401,
    }.items():
        async with box.http.get(box.url + path) as answer:
            assert status in (None, answer.status), path
            policy = answer.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "base-uri 'none'" in policy
            assert "*" not in policy
            scripts = re.search("script-src ([^;]*)", policy)[1]
            # decoders of the viewer are WebAssembly; nothing else is compiled, nothing inline runs
            assert set(scripts.split()) <= {"'self'", "'wasm-unsafe-eval'"}
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["X-Frame-Options"] == "DENY"
            assert answer.headers["Referrer-Policy"] == "no-referrer"
            assert answer.headers["Server"] == "Scrigno"
            assert re.fullmatch("[0-9a-f]{12}", answer.headers["X-Request-Id"])
            assert "Strict-Transport-Security" not in answer.headers  # this is http


async def test_no_page_that_holds_a_patient_is_kept_by_caches(box, anna):
    await box.take_in(images=1, patient=0)
    page = await anna.json("GET", "/studies")
    uid = page["rows"][0]["study_instance_uid"]
    image = (await anna.json("GET", f"/studies/{uid}"))["series"][0]["instances"][0]
    for path in (
        "/studies", f"/studies/{uid}", "/audit", f"/studies/{uid}/copies", "/logs/lines",
    ):  # fmt: skip
        answer = await anna.ask("GET", path)
        assert answer.headers["Cache-Control"] == "no-store", path
    picture = await anna.ask("GET", f"/instances/{image['sop_instance_uid']}/frames/1/rendered")
    assert "public" not in picture.headers["Cache-Control"]
    assert {"private", "no-store"} & set(re.split("[, ]+", picture.headers["Cache-Control"]))


@pytest.mark.parametrize(
    "host",
    [b"evil.example/x", b"a b", b"x\tX", b"", b"box:99999999", b"[::1", b"user@box", b"a,b",
     b"x" * 300],
)  # fmt: skip
async def test_a_host_that_is_none_is_refused(box, host):
    answer = await raw(box, b"GET /viewer/ HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
    assert statuses(answer) == [400], answer


async def test_two_hosts_or_none_are_refused(box):
    for head in (b"Host: a\r\nHost: b\r\n", b""):
        answer = await raw(box, b"GET /viewer/ HTTP/1.1\r\n" + head + b"\r\n")
        assert statuses(answer) == [400], answer


async def test_with_only_names_another_name_is_refused_and_addresses_are_not(box, anna):
    change = {"settings": {"web": {"only_names": True, "names": ["pacs.clinic.example"]}}}
    await anna.json("PATCH", "/settings", json=change)
    for host, status in {
        "evil.example": 421,
        "pacs.clinic.example": 200,
        "PACS.clinic.example.:8080": 200,
        "localhost": 200,
        "192.168.1.9": 200,
        "[fd00::1]:80": 200,
        "pacs.clinic.example.evil.example": 421,
    }.items():
        async with box.http.get(box.api("/session"), headers={"Host": host}) as answer:
            assert answer.status == status, host
    change = {"settings": {"web": {"only_names": False, "names": []}}}
    await anna.json("PATCH", "/settings", json=change)


async def test_a_method_in_a_header_changes_nothing(box, anna):
    made = {"name": "x"}
    for header in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"):
        answer = await anna.ask("GET", "/settings", headers={header: "DELETE"})
        assert "settings" in await answer.json()
    await anna.ask("POST", "/settings?_method=PATCH", status=405, json=made)
    for method in ("TRACE", "CONNECT", "PROPFIND", "GARBAGE"):
        answer = await raw(
            box, f"{method} /viewer/api/session HTTP/1.1\r\nHost: box\r\n\r\n".encode()
        )
        assert statuses(answer)[:1] in ([400], [405], [404], [501]), (method, answer)


SMUGGLED = b"GET /viewer/api/smuggled HTTP/1.1\r\nHost: box\r\n\r\n"


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: +5\r\n",
        b"Content-Length: 5_0\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length: 0x5\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        b" Content-Length: 5\r\n",
        b"Content-\x00Length: 5\r\n",
        b"X: a\nY: b\r\n",
    ],
)
async def test_a_request_whose_length_is_in_doubt_is_refused_and_nothing_after_it_is_heard(
    box, head
):
    content = (
        b"POST /viewer/api/login HTTP/1.1\r\nHost: box\r\n" + head + b"\r\n0\r\n\r\n" + SMUGGLED
    )
    answer = await raw(box, content)
    found = statuses(answer)
    assert found[:1] in ([400], []), answer
    assert b"smuggled" not in answer
    assert 404 not in found


@pytest.mark.parametrize(
    "chunk", [b"5;\x00\r\nhello\r\n0\r\n\r\n", b"-5\r\nhello\r\n0\r\n\r\n", b"5\nhello\n0\n\n",
              b"0x5\r\nhello\r\n0\r\n\r\n", b"FFFFFFFFFFFFFFFFF\r\nhello"],
)  # fmt: skip
async def test_broken_chunks_are_refused(box, chunk):
    content = (
        b"POST /viewer/api/login HTTP/1.1\r\nHost: box\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n" + chunk + SMUGGLED
    )
    found = statuses(await raw(box, content))
    assert 200 not in found
    assert 404 not in found


async def test_heads_that_are_too_large_are_refused(box):
    for content in (
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: box\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: box\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: box\r\n" + b"X-A: b\r\n" * 50_000 + b"\r\n",
        b"GET /viewer/ HTTP/1.1\r\nHost: box\r\nCookie: " + b"a=b; " * 10_000 + b"\r\n\r\n",
    ):
        found = statuses(await raw(box, content))
        assert found in ([400], [431], [414], []), found


async def test_silent_and_slow_connections_are_ended_and_working_ones_are_not(
    box, anna, monkeypatch
):
    connections = box.parts.trust.connections
    monkeypatch.setattr(connections, "_idle_s", 0.5)
    port = int(box.url.rpartition(":")[2])
    silent = await asyncio.open_connection("127.0.0.1", port)
    dripping = await asyncio.open_connection("127.0.0.1", port)
    working = asyncio.create_task(anna.ask("GET", "/events"))  # a stream that lasts

    async def drip() -> None:
        for each in b"GET /viewer/ HTTP/1.1\r\nHost: box\r\nX-Slow: " + b"a" * 1000:
            dripping[1].write(bytes([each]))
            await asyncio.sleep(0.05)

    slow = asyncio.create_task(drip())
    for reader, writer in (silent, dripping):
        async with asyncio.timeout(10):
            await asyncio.gather(reader.read(), return_exceptions=True)  # ends, or is reset
        writer.close()
    slow.cancel()
    await asyncio.gather(slow, return_exceptions=True)
    stream = await working
    assert not stream.content.at_eof()
    stream.close()


async def test_a_thousand_idle_connections_do_not_keep_others_out():
    ended: list[int] = []

    class Transport:
        def __init__(self, number: int, address: str) -> None:
            self.number, self.address = number, address

        def get_write_buffer_size(self) -> int:
            return 0

        def get_extra_info(self, _name: str):
            return (self.address, 1)

        def abort(self) -> None:
            ended.append(self.number)

    class Connection:
        def __init__(self, number: int, address: str) -> None:
            self.transport = Transport(number, address)

    crowd = [Connection(n, "10.0.0.66") for n in range(95)]
    others = [Connection(100 + n, f"10.0.0.{n}") for n in range(15)]
    Connections(Counters(), most=100).look([*crowd, *others])
    assert len(ended) == 10
    assert all(number < 100 for number in ended)  # of the one who took so many


async def test_an_error_of_ours_shows_no_trace_and_is_found_in_the_log_by_its_id(
    box, anna, monkeypatch, caplog
):
    async def broken(*_args, **_more):
        raise KeyError("/work/secret path Rossi^Anna")

    monkeypatch.setattr(type(box.parts.catalogue), "study_page", broken)
    async with box.http.get(
        box.api("/studies"), headers={"Authorization": f"Bearer {anna.token}"}
    ) as answer:
        text = await answer.text()
        problem = json.loads(text)
        assert answer.status == 500
        assert problem["request_id"] == answer.headers["X-Request-Id"]
    for word in ("Traceback", "secret", "Rossi", ".py", "line "):
        assert word not in text
    records = [each for each in caplog.records if each.levelname == "ERROR"]
    assert records


async def test_what_is_not_http_gets_no_trace_either(box):
    for content in (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100,
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: <script>alert(1)</script>\r\n\r\n",
        b"<script>alert(1)</script> / HTTP/1.1\r\nHost: box\r\n\r\n",
    ):
        answer = await raw(box, content, wait_s=2)
        assert b"Traceback" not in answer
        assert b"<script>" not in answer
        assert b"aiohttp" not in answer
        assert b"Python" not in answer


@pytest.mark.parametrize(
    "path",
    ["//evil.example", "/\\evil.example", "/viewer//evil.example", "///evil.example/..",
     "/%2f%2fevil.example", "/viewer?next=https://evil.example", "/https:/evil.example"],
)  # fmt: skip
async def test_no_address_leads_to_another_site(box, path):
    answer = await raw(box, f"GET {path} HTTP/1.1\r\nHost: box\r\n\r\n".encode())
    for location in re.findall(rb"(?i)\r\nLocation: ([^\r]*)", answer):
        assert location == b"/viewer/"


@pytest.mark.parametrize(
    "path",
    [
        "/viewer/../../../../etc/passwd", "/viewer/..%2f..%2f..%2fetc/passwd",
        "/viewer/%2e%2e/%2e%2e/etc/passwd", "/viewer/....//....//etc/passwd",
        "/viewer/..\\..\\etc\\passwd", "/viewer//etc/passwd",
        "/viewer/locales/../../pyproject.toml",
        "/viewer/%00", "/viewer/index.html%00.js", "/viewer/.git/config", "/viewer/api/logs/..%2fx",
        "/viewer/scripts/%c0%ae%c0%ae/x",
    ],
)  # fmt: skip
async def test_no_path_leads_out_of_the_pages(box, path):
    answer = await raw(box, f"GET {path} HTTP/1.1\r\nHost: box\r\n\r\n".encode())
    assert statuses(answer)[:1] in ([404], [400], [401]), answer
    assert b"root:" not in answer
    assert b"[project]" not in answer


async def test_nothing_said_by_a_client_becomes_a_header_of_the_answer(box, anna):
    for path in (
        "/logs/scrigno.log%0d%0aX-Evil:%201",
        "/studies/1.2%0d%0aX-Evil:%201",
        "/audit/export?format=csv%0d%0aX-Evil:%201",
        "/logs/scrigno.log%22;%20filename=evil.exe",
    ):
        answer = await raw(
            box,
            f"GET /viewer/api{path} HTTP/1.1\r\nHost: box\r\n"
            f"Authorization: Bearer {anna.token}\r\n\r\n".encode(),
        )
        head = answer.partition(b"\r\n\r\n")[0]
        assert b"X-Evil" not in head
        assert b"evil.exe" not in head
        assert statuses(answer)[:1] in ([404], [400])


class _Asked:
    """As much of a request as the proxy rule looks at."""

    def __init__(self, remote: str, **headers: str) -> None:
        self.remote, self.scheme = remote, "http"
        self.headers = {name.replace("_", "-"): text for name, text in headers.items()}

    def clone(self, *, remote: str, scheme: str):
        made = _Asked(remote)
        made.scheme = scheme
        return made


@pytest.mark.parametrize(
    ("remote", "forwarded", "seen"),
    [
        ("10.0.0.1", "203.0.113.7", "203.0.113.7"),
        ("10.0.0.1", "6.6.6.6, 203.0.113.7", "203.0.113.7"),  # the first one is the caller's own
        ("10.0.0.1", "6.6.6.6, 203.0.113.7, 10.0.0.2", "203.0.113.7"),
        ("192.168.1.5", "203.0.113.7", "192.168.1.5"),  # no proxy of ours: nothing is believed
        ("10.0.0.1", "rubbish", "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
    ],
)
async def test_only_a_trusted_proxy_may_say_where_a_request_comes_from(remote, forwarded, seen):
    asked = _Asked(remote, X_Forwarded_For=forwarded, X_Forwarded_Proto="https")
    found = behind_proxy(asked, ["10.0.0.0/24"])
    assert found.remote == seen
    assert found.scheme == ("http" if remote == "192.168.1.5" else "https")


async def test_without_trusted_proxies_no_header_moves_the_back_off_to_another_address(box, anna):
    for number in range(4):
        headers = {"X-Forwarded-For": f"203.0.113.{number}", "Forwarded": f"for=203.0.113.{number}"}
        body = {"user": "somebody", "password": "wrong"}
        async with box.http.post(box.api("/login"), json=body, headers=headers) as answer:
            last = answer.status
    assert last == 429
