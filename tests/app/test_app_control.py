# SPDX-License-Identifier: Apache-2.0
"""The control socket, the state lock, the log and the notifications, each with its real part."""

import asyncio
import json
import logging
import os
import socket
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from scrigno.app.control import SOCKET_NAME, ControlServer, Progress
from scrigno.app.lock import AlreadyRunning, StateLock
from scrigno.app.logs import Logs
from scrigno.app.notify import notify
from scrigno.cli.client import NotRunning, RefusedByDaemon, call
from scrigno.core.errors import CommandError
from scrigno.settings.schema import LogConfig, LogLevel


async def _echo(arguments: Mapping[str, Any], progress: Progress) -> Any:
    progress(1, 2, "halfway")
    return {"said": arguments["text"]}


async def _refuse(_arguments: Mapping[str, Any], _progress: Progress) -> Any:
    raise CommandError("It is not there.", next_step="Make it.")


async def _stumble(arguments: Mapping[str, Any], _progress: Progress) -> Any:
    return arguments["missing"]


COMMANDS = {"echo": _echo, "refuse": _refuse, "stumble": _stumble}


async def test_a_command_answers_with_progress_and_a_result(tmp_path: Path) -> None:
    server = ControlServer(tmp_path, COMMANDS)
    await server.start()
    steps: list[Mapping[str, Any]] = []
    answer = await asyncio.to_thread(call, tmp_path, "echo", {"text": "è 日本"}, steps.append)
    await server.close()
    assert answer == {"said": "è 日本"}
    assert steps == [{"done": 1, "total": 2, "what": "halfway"}]


async def test_a_refusal_comes_with_code_reason_and_next_step(tmp_path: Path) -> None:
    server = ControlServer(tmp_path, COMMANDS)
    await server.start()
    with pytest.raises(RefusedByDaemon) as refused:
        await asyncio.to_thread(call, tmp_path, "refuse", {})
    with pytest.raises(RefusedByDaemon, match="does not know") as unknown:
        await asyncio.to_thread(call, tmp_path, "nonsense", {})
    await server.close()
    assert refused.value.remote_code == "command-refused"
    assert refused.value.sentence() == "It is not there. Make it."
    assert unknown.value.remote_code == "unknown-command"


async def test_a_command_that_fails_inside_is_answered_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = ControlServer(tmp_path, COMMANDS)
    await server.start()
    with pytest.raises(RefusedByDaemon, match="KeyError"):
        await asyncio.to_thread(call, tmp_path, "stumble", {})
    await server.close()
    assert "command stumble failed" in caplog.text


async def test_a_caller_that_leaves_ends_its_command(tmp_path: Path) -> None:
    ended = asyncio.Event()
    began = asyncio.Event()

    async def forever(_arguments: Mapping[str, Any], _progress: Progress) -> Any:
        began.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    server = ControlServer(tmp_path, {"forever": forever})
    await server.start()
    folder = os.open(tmp_path, os.O_RDONLY)
    _reader, writer = await asyncio.open_unix_connection(f"/proc/self/fd/{folder}/{SOCKET_NAME}")
    os.close(folder)
    writer.write(json.dumps({"command": "forever", "arguments": {}}).encode() + b"\n")
    await began.wait()
    writer.close()
    async with asyncio.timeout(5):
        await ended.wait()
    await server.close()


async def test_the_socket_is_for_its_owner_and_works_below_a_very_long_path(
    tmp_path: Path,
) -> None:
    state_dir = tmp_path / ("long-" * 12) / ("deep-" * 12)
    state_dir.mkdir(parents=True)
    server = ControlServer(state_dir, COMMANDS)
    await server.start()
    mode = stat.S_IMODE((state_dir / SOCKET_NAME).stat().st_mode)
    answer = await asyncio.to_thread(call, state_dir, "echo", {"text": "x"})
    await server.close()
    assert mode == 0o600
    assert answer == {"said": "x"}


def test_without_a_daemon_the_client_says_so_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NotRunning, match="No daemon is running") as error:
        call(tmp_path, "status", {})
    assert "scrigno serve" in error.value.next_step
    with pytest.raises(NotRunning, match="no state directory"):
        call(tmp_path / "nowhere", "status", {})


def test_a_second_daemon_on_the_same_state_directory_is_refused_in_words(tmp_path: Path) -> None:
    with (
        StateLock(tmp_path),
        pytest.raises(AlreadyRunning, match=f"process {os.getpid()}"),
        StateLock(tmp_path),
    ):
        pass
    with StateLock(tmp_path):
        pass


def test_one_log_record_is_one_line_whatever_a_peer_put_into_it(tmp_path: Path) -> None:
    logs = Logs(LogConfig(level=LogLevel.INFO, dir=tmp_path))
    try:
        logging.getLogger("scrigno.node").info("peer %s: refused", "EVIL\n2026 CRITICAL \x1b[31m")
        logging.getLogger("scrigno.node").debug("not said at this level")
    finally:
        logs.close()
    lines = (tmp_path / "scrigno.log").read_text().splitlines()
    assert len(lines) == 1
    assert "EVIL\\n2026 CRITICAL \\x1b[31m" in lines[0]


def test_systemd_hears_that_the_box_is_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "n"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "n"))
        notify("READY=1")
        assert systemd.recv(100) == b"READY=1"
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    notify("READY=1")
