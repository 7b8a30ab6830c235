# SPDX-License-Identifier: Apache-2.0
"""What the box calls, and what it refuses to call however the address is written."""

import asyncio
import ipaddress
import socket

import pytest
from aiohttp import web

from scrigno.health.outgoing import (
    Lookups,
    Outgoing,
    OutgoingFailed,
    OutgoingRefused,
    networks,
    why_refused,
)


@pytest.fixture
async def server():
    """A web server on loopback that counts its visitors."""
    seen: list[str] = []

    async def handle(request: web.Request) -> web.StreamResponse:
        seen.append(request.path)
        if request.path == "/there":
            return web.Response(status=302, headers={"Location": "/secret"})
        if request.path == "/endless":
            response = web.StreamResponse()
            await response.prepare(request)
            for _ in range(200):
                await response.write(b"x" * 65536)
            return response
        if request.path == "/slow":
            await asyncio.sleep(30)
        return web.Response(text="hello")

    app = web.Application()
    app.router.add_route("*", "/{name:.*}", handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield runner.addresses[0][1], seen
    await runner.cleanup()


@pytest.mark.spec("IN-6")
@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0",
        "[::1]", "[::ffff:127.0.0.1]", "１２７.0.0.1", "0.0.0.0", "127.0.0.1.",
    ],
)  # fmt: skip
async def test_the_box_does_not_call_itself_however_the_address_is_written(server, host):
    port, seen = server
    with pytest.raises((OutgoingRefused, OutgoingFailed)):
        await Outgoing(timeout_s=5).request("GET", f"http://{host}:{port}/")
    assert seen == []


@pytest.mark.spec("IN-6")
def test_special_addresses_are_refused_and_private_ones_are_not():
    for text in (
        "169.254.169.254", "169.254.1.1", "100.100.100.200", "fe80::1", "fd00:ec2::254", "::",
        "::ffff:169.254.169.254", "64:ff9b::7f00:1", "2002:7f00:1::", "224.0.0.1",
        "255.255.255.255",
    ):  # fmt: skip
        assert why_refused(ipaddress.ip_address(text), ()), text
    for text in ("10.0.0.5", "192.168.1.20", "172.16.0.1", "fd12::5", "8.8.8.8", "2001:4860::1"):
        assert why_refused(ipaddress.ip_address(text), ()) == "", text
    allowed = networks(["127.0.0.0/8", "169.254.7.7"])
    assert why_refused(ipaddress.ip_address("127.0.0.9"), allowed) == ""
    assert why_refused(ipaddress.ip_address("169.254.7.7"), allowed) == ""
    assert why_refused(ipaddress.ip_address("169.254.7.8"), allowed)


@pytest.mark.spec("IN-6")
async def test_a_name_that_changes_its_address_after_it_was_looked_at_gains_nothing(
    server, monkeypatch
):
    port, seen = server
    answers = ["192.0.2.1", "127.0.0.1", "127.0.0.1", "127.0.0.1"]

    def rebinding(host, port, *_):
        address = answers.pop(0)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr("scrigno.health.outgoing.socket.getaddrinfo", rebinding)
    outgoing = Outgoing(timeout_s=1)
    for _ in range(2):
        with pytest.raises((OutgoingRefused, OutgoingFailed)):
            await outgoing.request("GET", f"http://rebinding.example:{port}/")
    assert seen == []


@pytest.mark.spec("IN-6")
@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd", "ftp://10.0.0.1/", "http://user:pass@10.0.0.1/", "http://",
        "gopher://10.0.0.1/", "http://10.0.0.1/\r\nX: y", "javascript:alert(1)",
        "http:\\\\10.0.0.1",
    ],
)  # fmt: skip
async def test_only_plain_web_addresses_are_called(url):
    with pytest.raises(OutgoingRefused):
        await Outgoing(timeout_s=1).request("GET", url)


@pytest.mark.spec("IN-6")
async def test_what_was_allowed_is_called_without_following_redirects(server):
    port, seen = server
    outgoing = Outgoing(allowed=lambda: ["127.0.0.0/8"], timeout_s=5)
    answer = await outgoing.request("GET", f"http://127.0.0.1:{port}/there")
    assert (answer.status, answer.headers["Location"]) == (302, "/secret")
    assert seen == ["/there"]
    answer = await outgoing.request("POST", f"http://localhost:{port}/", body=b"{}")
    assert (answer.status, answer.body) == (200, b"hello")


@pytest.mark.spec("IN-6")
async def test_a_long_or_slow_answer_is_cut_off(server):
    port, _ = server
    outgoing = Outgoing(allowed=lambda: ["127.0.0.1"], timeout_s=30)
    with pytest.raises(OutgoingFailed, match="more than"):
        await outgoing.request("GET", f"http://127.0.0.1:{port}/endless")
    with pytest.raises(OutgoingFailed, match="no answer in 1 s"):
        await outgoing.request("GET", f"http://127.0.0.1:{port}/slow", timeout_s=1)


async def test_a_name_that_does_not_exist_is_told_in_words():
    with pytest.raises(OSError, match="was not found"):
        await Lookups().resolve("no-such-name.invalid", 80)
