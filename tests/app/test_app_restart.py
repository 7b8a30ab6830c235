# SPDX-License-Identifier: Apache-2.0
"""The service restarted from its pages: the same process begins anew, in order."""

import json
import signal
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from running_box import RunningBox


def ask(url: str, token: str = "", method: str = "GET", body: object = None) -> dict:
    request = urllib.request.Request(
        url, method=method, data=None if body is None else json.dumps(body).encode()
    )
    request.add_header("Content-Type", "application/json")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.loads(answer.read() or b"{}")


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.spec("AD-3")
def test_the_service_begins_anew_when_it_is_asked_to_and_keeps_its_sessions(tmp_path: Path):
    box = RunningBox(tmp_path / "box")
    box.start(wait_s=90)
    try:
        assert box.process is not None
        before = box.process.pid
        api = f"http://127.0.0.1:{box.web_port}/viewer/api"
        password = "corretto cavallo batteria"
        code = box.cli("setup-code").stdout.strip()
        claimed = ask(
            f"{api}/claim",
            method="POST",
            body={"setup_code": code, "user": "anna", "password": password},
        )
        token = claimed["token"]
        state = ask(f"{api}/service", token)
        assert state["restartable"]
        assert ask(f"{api}/service/restart", token, "POST")["restarting"]
        ends = time.monotonic() + 90
        while time.monotonic() < ends:
            time.sleep(0.2)
            try:
                after = ask(f"{api}/service", token)
            except (OSError, urllib.error.URLError):
                continue
            if after["uptime_s"] < state["uptime_s"] or after["started_at"] != state["started_at"]:
                break
        else:
            raise AssertionError(box.log[-3000:])
        assert box.process.poll() is None
        assert box.process.pid == before
        assert "scrigno has stopped" in box.log
        assert "crashed" not in box.log
    finally:
        box.kill(signal.SIGTERM)
