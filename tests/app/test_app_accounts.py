# SPDX-License-Identifier: Apache-2.0
"""An operator who is locked out of the pages gets in by the command line of the box."""

import json
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from running_box import RunningBox, running_box

PASSWORD = "corretto cavallo batteria"


def post(box: RunningBox, path: str, **body: str) -> tuple[int, Any]:
    """Ask the API of the box."""
    request = Request(
        f"http://127.0.0.1:{box.web_port}/viewer/api{path}",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urlopen(request) as answer:
            return answer.status, json.load(answer)
    except HTTPError as error:
        return error.code, json.load(error)


@pytest.mark.spec("AD-7")
def test_a_locked_out_operator_resets_password_and_second_factor(tmp_path: Path) -> None:
    with running_box(tmp_path / "box") as box:
        assert box.cli("claim", "--user", "anna", stdin=PASSWORD + "\n").returncode == 0
        (anna,) = box.ask("account", "list")["accounts"]
        assert (anna["name"], anna["role"], anna["totp"]) == ("anna", "administrator", False)
        temporary = box.ask("account", "reset-password", "anna")["temporary_password"]
        assert post(box, "/login", user="anna", password=PASSWORD)[0] == 401
        status, step = post(box, "/login", user="anna", password=temporary)
        assert (status, step["step"]) == (200, "new-password")
        status, done = post(box, "/login/new-password", ticket=step["ticket"], new=PASSWORD)
        assert status == 200
        assert done["user"]["name"] == "anna"
        added = box.cli("account", "add", "bruno", "--role", "viewer")
        assert added.returncode == 0, added.stderr
        assert "within three days" in added.stdout
        assert "bruno" in box.cli("account", "list").stdout
        refused = box.cli("account", "disable", "anna")
        assert refused.returncode == 1
        assert "nobody who may administer" in refused.stderr
        assert box.cli("account", "set-role", "bruno", "administrator").returncode == 0
        assert box.cli("account", "disable", "anna").returncode == 0
        assert post(box, "/login", user="anna", password=PASSWORD)[0] == 401
        assert "may log in" in box.cli("account", "enable", "anna").stdout
        assert box.cli("account", "reset-second-factor", "anna").returncode == 0
        assert box.cli("account", "reset-password", "nobody at all").returncode == 1
        assert PASSWORD not in box.cli("account", "list", "--json").stdout
