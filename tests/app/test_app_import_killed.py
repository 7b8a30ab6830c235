# SPDX-License-Identifier: Apache-2.0
"""A thousand files, a tenth of them damaged, in and out, and a daemon that is killed on the way."""

import io
import json
import time
import urllib.request
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from made_objects import write_series
from running_box import RunningBox

GOOD, DAMAGED, TWICE, CUT = 890, 100, 10, 25
PASSWORD = "corretto cavallo batteria"


class Api:
    """The daemon's API for the one account of the box."""

    def __init__(self, box: RunningBox) -> None:
        self.root = f"http://127.0.0.1:{box.web_port}/viewer/api"
        self.token = ""

    def __call__(self, method: str, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(self.root + path, method=method)
        request.add_header("Authorization", f"Bearer {self.token}")
        if body is not None:
            request.add_header("Content-Type", "application/json")
            request.data = json.dumps(body).encode()
        with urllib.request.urlopen(request, timeout=30) as answer:
            content = answer.read()
            return json.loads(content) if "json" in answer.headers["Content-Type"] else content


def _folder(root: Path) -> Path:
    """Write 890 images, ten of them twice, and among them a hundred damaged files of four kinds."""
    folder = root / "stick"
    made: list[Path] = []
    for patient in range(4):
        for series in range(2):
            paths = write_series(
                folder / f"p{patient}" / f"s{series}",
                images=112,
                patient=patient,
                size=16,
                seed=series,
            )
            made += paths.values()
    for path in made[GOOD:]:
        path.unlink()
    for number, path in enumerate(made[:TWICE]):
        (folder / "again").mkdir(exist_ok=True)
        (folder / "again" / f"{number}.dcm").write_bytes(path.read_bytes())
    content = made[0].read_bytes()
    for number in range(DAMAGED):
        path = folder / f"p{number % 4}" / f"damaged{number}.dcm"
        match number % 4:
            case 0:
                path.write_bytes(b"")
            case 1:
                path.write_bytes(b"no image at all " * 100)
            case 2:
                path.write_bytes(content[:600])
            case 3:
                path.write_bytes(bytes(reversed(content)))
    return folder


def _until(api: Api, job: int, enough: Any, seconds: float = 100) -> Any:
    end = time.monotonic() + seconds
    while not enough(seen := api("GET", f"/jobs/{job}")):
        assert time.monotonic() < end, seen
        time.sleep(0.02)
    return seen


def _export_killed(box: RunningBox, api: Api) -> bytes:
    """Export everything, kill the daemon on the way, and return what comes of it."""
    rows = api("GET", "/studies?limit=100")["rows"]
    studies = [row["study_instance_uid"] for row in rows]
    job = api("POST", "/exports", {"studies": studies})["id"]
    _until(api, job, lambda seen: seen["done"] >= 200)
    box.kill()
    box.start()
    done = _until(api, job, lambda seen: seen["state"] not in ("waiting", "running"))
    assert (done["state"], done["counts"]) == ("done", {"objects": GOOD}), done
    return api("GET", f"/jobs/{job}/results/{done['results'][0]['id']}")


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.spec("AD-4", "AD-5")
def test_an_import_ends_with_the_right_counts_and_reasons_though_the_daemon_is_killed(
    tmp_path: Path,
) -> None:
    folder = _folder(tmp_path)
    box = RunningBox(tmp_path / "box")
    config = box.config.read_text()
    box.config.write_text(
        config.replace("  language: en", f"  transfer: {{roots: [{folder}]}}\n  language: en")
    )
    try:
        box.start()
        assert box.cli("claim", "--user", "anna", stdin=PASSWORD).returncode == 0
        api = Api(box)
        api.token = api("POST", "/login", {"user": "anna", "password": PASSWORD})["token"]
        job = api("POST", "/imports", {"path": str(folder)})["id"]
        for far in (200, 640):
            seen = _until(api, job, lambda seen, far=far: seen["done"] >= far)
            assert seen["state"] == "running", seen
            box.kill()
            box.start()
        done = _until(api, job, lambda seen: seen["state"] not in ("waiting", "running"))
        items = api("GET", f"/jobs/{job}/items?limit=1000")
        status = box.ask("status")
        exported = _export_killed(box, api)
    finally:
        box.kill()
    assert done["state"] == "done", done
    assert (done["done"], done["total"]) == (1000, 1000)
    counts = {"new": GOOD, "duplicate": TWICE, "refused": DAMAGED - CUT, "kept-aside": CUT}
    assert done["counts"] == counts
    assert done["failed_items"] == items["total"] == DAMAGED
    assert {Path(item["name"]).name for item in items["items"]} == {
        f"damaged{number}.dcm" for number in range(DAMAGED)
    }
    codes = Counter(item["code"] for item in items["items"])
    assert codes == {"not-dicom": DAMAGED - CUT, "kept-aside": CUT}, codes
    assert all(item["reason"] for item in items["items"])
    assert done["failed_by_code"] == codes
    assert status["totals"]["instances"] == GOOD
    with zipfile.ZipFile(io.BytesIO(exported)) as archive:
        names = archive.namelist()
    assert sum(name.startswith("DICOM/") for name in names) == GOOD
    assert names[-3:] == ["DICOMDIR", "INDEX.HTM", "README.TXT"]
