# SPDX-License-Identifier: Apache-2.0
"""The whole API, driven from its own document: valid and invalid data, by all checks.

Schemathesis runs as a process of its own against a box that is thrown away afterwards. `make test`
makes a few examples of each operation as an administrator; with `SCRIGNO_API_EXAMPLES=25` (or any
number) every boundary of every schema is tried too, also as a plain user and as nobody. That takes
a quarter of an hour.
"""

import asyncio
import json
import os
import re
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    # volumes are paused, adopted and retired while the box runs: a worker that was given up may
    # still be ending when its object is collected
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

WHOLE = "SCRIGNO_API_EXAMPLES" in os.environ
EXAMPLES = int(os.environ.get("SCRIGNO_API_EXAMPLES", "1"))
whole_only = pytest.mark.skipif(not WHOLE, reason="takes minutes: set SCRIGNO_API_EXAMPLES")

# What ends the session that the run goes by, or the run itself, or never ends; each has tests of
# its own.
LEFT_OUT = (
    "POST /logout",
    "POST /account/password",
    "GET /events",
    "POST /service/restart",
)
# Requests of the right shape that are refused with 400 for what they say.
SAYS_NOTHING = {
    "POST /login": "a user or an id is named",
    "POST /login/factor": "one factor of three is given",
    "POST /claim": "a user or an id is named",
    "POST /account/tokens": "only rights that the account has",
    "GET /audit": "times are times",
    "GET /audit/export": "times are times",
    "GET /instances/{uid}/frames/{frame}/rendered": "the center of a window with its width",
}
CONFIG = """
seed = {seed}
continue-on-failure = true
request-timeout = 60
hooks = "bytes_of_uploads.py"

[generation]
mode = "all"
max-examples = {examples}

[parameters]
{parameters}

[phases.examples]
enabled = false
[phases.coverage]
enabled = {coverage}
[phases.stateful]
enabled = false

# A request that is as the document says may still not be possible: 404 for what is not there,
# 409 and 422 for what cannot be done so, 410 for what is over, 428 for a save that says no
# revision, 503 and 507 for a box that cannot do it now. 303 leads a browser on.
[checks.positive_data_acceptance]
expected-statuses = {possible}
[checks.negative_data_rejection]
expected-statuses = [303, 400, 401, 403, 404, 405, 409, 410, 413, 415, 422, 428, 429, 503]
[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", 501, 503, 504, 507]
"""
POSSIBLE = ["2xx", 303, 401, 403, 404, 409, 410, 422, 428, 429, 503, 507]
ALSO_400 = """
[[operations]]
include-name = "{name}"
[operations.checks.positive_data_acceptance]
expected-statuses = {possible}
"""
HOOKS = """
import schemathesis

@schemathesis.serializer("application/offset+octet-stream", "application/octet-stream")
def as_bytes(ctx, value):
    return value if isinstance(value, bytes) else str(value).encode()
"""


def _api(operation: str) -> str:
    return operation.replace(" /", " /viewer/api/")


async def _drive(box, folder: Path, token: str | None, parameters: dict[str, object]) -> str:
    """Return what schemathesis found wrong, in its own words; "" for nothing."""
    written = "\n".join(f'"{name}" = {json.dumps(value)}' for name, value in parameters.items())
    config = CONFIG.format(
        seed=int(os.environ.get("SCRIGNO_API_SEED", "1")),
        examples=EXAMPLES,
        parameters=written,
        coverage=str(WHOLE).lower(),
        possible=json.dumps(POSSIBLE),
    )
    for operation in SAYS_NOTHING:
        possible = json.dumps([*POSSIBLE, 400])
        config += ALSO_400.format(name=_api(operation), possible=possible)
    (folder / "schemathesis.toml").write_text(config)
    (folder / "bytes_of_uploads.py").write_text(HOOKS)
    left_out = "|".join(re.escape(_api(each)) for each in LEFT_OUT)
    command = [sys.executable, "-m", "schemathesis.cli"]
    command += ["--config-file", str(folder / "schemathesis.toml")]
    command += ["run", box.api("/openapi.json"), "--no-color", "--suppress-health-check", "all"]
    command += ["--warnings", "off", "--checks", "all"]
    command += ["--exclude-name-regex", f"^({left_out})$"]
    if token:
        command += ["-H", f"Authorization: Bearer {token}"]
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=folder,
        env={**os.environ, "COLUMNS": "200"},
    )
    output, _ = await process.communicate()
    return "" if process.returncode == 0 else output.decode(errors="replace")


@pytest.fixture
async def parameters(box, anna) -> dict[str, object]:
    """Fill the box, so that valid requests find what they ask for."""
    await box.take_in(images=2, size=64)
    await box.take_in(images=1, patient=1)
    study = (await anna.json("GET", "/studies"))["rows"][0]["study_instance_uid"]
    return {"path.uid": study, "path.frame": 1, "path.number": 1}


@pytest.mark.spec("IN-6")
async def test_an_administrator_finds_the_api_as_its_document_says(box, anna, parameters, tmp_path):
    found = await _drive(box, tmp_path, anna.token, parameters)
    assert not found, found


@whole_only
@pytest.mark.spec("IN-6")
async def test_a_plain_user_finds_the_api_as_its_document_says(box, anna, parameters, tmp_path):
    body = {"user": "bruno", "password": "batteria cavallo corretto"}
    await anna.json("POST", "/accounts", status=201, json=body)
    made = await box.parts.access.login(body["user"], body["password"], address="127.0.0.1")
    found = await _drive(box, tmp_path, made.token, parameters)
    assert not found, found


@whole_only
@pytest.mark.spec("IN-6")
async def test_nobody_finds_the_api_as_its_document_says(box, anna, parameters, tmp_path):
    found = await _drive(box, tmp_path, None, parameters)
    assert not found, found
