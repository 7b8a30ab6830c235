# SPDX-License-Identifier: Apache-2.0
"""No name, id or birth date of a patient in log, audit trail, metrics, support bundle or URL."""

import http.client
import io
import json
import re
import subprocess  # noqa: TID251 - DCMTK's tools are the peers
import zipfile
from pathlib import Path

import pydicom
import pytest

from made_objects import write_series
from running_box import RunningBox

USER, PASSWORD = "anna", "corretto cavallo batteria"
MOST_REAL = 60
# what real data sets write in the place of a name, and words that logs use themselves
COMMON = {
    "anonymous", "anonymized", "anonymised", "patient", "phantom", "unknown", "series", "study",
    "image", "testing", "tester", "volume", "scrigno", "viewer", "server", "none", "null", "head",
    "chest", "brain", "knee", "data", "backup", "storage", "dicom", "compressed", "jpeg",
    "lossless",
}  # fmt: skip


class Api:
    """A small client over plain http."""

    def __init__(self, box: RunningBox) -> None:
        self.port = box.web_port
        self.token = ""
        self.urls: list[str] = []

    def __call__(self, method: str, path: str, body=None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {"Content-Type": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        content = None if body is None else json.dumps(body)
        connection.request(method, f"/viewer/api{path}", body=content, headers=headers)
        answer = connection.getresponse()
        found = answer.status, answer.read()
        connection.close()
        self.urls.append(path)
        return found


def secrets_of(files: list[Path]) -> set[str]:
    """Return the texts that must not be found: names, ids and birth dates of the patients."""
    found: set[str] = set()
    for path in files:
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True, force=True)
        except Exception:
            continue
        for keyword in ("PatientName", "PatientID", "PatientBirthDate", "OtherPatientIDs"):
            text = str(header.get(keyword, "") or "")
            found |= set(re.split(r"[\^= \\,;'\[\]]+", text)) | {text}
    return {
        each
        for each in found
        if len(each) >= (2 if not each.isascii() else 5)
        and each.lower() not in COMMON
        and not re.fullmatch(r"[0-9]{1,5}|[0.]+", each)
    }


def leaks(text: str, secrets: set[str]) -> list[str]:
    """Return which secrets stand in a text by themselves, not inside a UID or a longer number."""
    small = text.lower()
    return [
        each
        for each in sorted(secrets)
        if each.lower() in small
        and re.search(rf"(?<![\w.]){re.escape(each.lower())}(?![\w.]\w)", small)
    ]


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.spec("AD-10")
def test_nothing_about_a_patient_is_logged_recorded_counted_or_bundled(tmp_path, real_data):
    box = RunningBox(tmp_path / "box")
    made = [
        path
        for patient in range(4)
        for path in write_series(tmp_path / f"in{patient}", images=2, patient=patient).values()
    ]
    real = sorted(p for p in real_data.rglob("*") if p.is_file())[:MOST_REAL] if real_data else []
    secrets = secrets_of([*made, *real])
    assert {"Yamada", "Tarou", "19640312", "JP-7001", "Gildong", "Rossi"} <= secrets
    box.config.write_text(
        box.config.read_text().replace("{level: info}", f"{{level: debug, dir: {tmp_path}/log}}")
    )
    box.start(wait_s=40)
    try:
        api = Api(box)
        assert box.cli("claim", "--user", USER, stdin=PASSWORD).returncode == 0
        status, content = api("POST", "/login", {"user": USER, "password": PASSWORD})
        assert status == 200
        api.token = json.loads(content)["token"]
        _everything_happens(box, api, tmp_path, real)
        _, metrics = _get(box, "/metrics")
        _, bundle = api("POST", "/support-bundle")
        packed = box.cli("support-bundle", "--output", str(tmp_path / "bundle.zip"))
        assert packed.returncode == 0, packed.stderr
    finally:
        box.kill(15)  # type: ignore[arg-type]
    places = {
        "log": box.log,
        "log file": "".join(p.read_text() for p in (tmp_path / "log").iterdir()),
        "audit": "".join(p.read_text() for p in (box.root / "state" / "audit").glob("*.jsonl")),
        "metrics": metrics.decode(),
        "urls": "\n".join(api.urls),
    }
    for name, packed_bytes in {
        "bundle": bundle, "bundle by command": (tmp_path / "bundle.zip").read_bytes(),
    }.items():  # fmt: skip
        with zipfile.ZipFile(io.BytesIO(packed_bytes)) as archive:
            assert {
                "about.json",
                "settings.json",
                "volumes.json",
                "host.json",
                "database.json",
                "alerts.json",
                "metrics.json",
                "logs/scrigno.log",
            } <= set(archive.namelist())
            for part in archive.namelist():
                places[f"{name} {part}"] = archive.read(part).decode()
    settings = json.loads(places["bundle settings.json"])
    assert settings["webhooks"]["endpoints"][0]["secret"] == "********"
    for name, text in places.items():
        assert "hush hush" not in text, name
        assert PASSWORD not in text, name
        if name.startswith("bundle"):
            assert "192.0.2.77" not in text, name
            assert "pacs.clinic.example" not in text, name
        found = leaks(text, secrets)
        assert not found, f"{name}: {found}"
    assert leaks("… patient rossi, born 19640312.", {"Rossi", "19640312"}) == ["19640312", "Rossi"]
    assert "DEBUG" in places["log"]
    assert len(places["log"]) > 2000


def _get(box: RunningBox, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", box.web_port, timeout=30)
    connection.request("GET", path)
    answer = connection.getresponse()
    found = answer.status, answer.read()
    connection.close()
    return found


def _everything_happens(box: RunningBox, api: Api, folder: Path, real: list[Path]) -> None:
    """Let images come in by each door, be looked for by name, shown, sent, damaged and deleted."""
    hook = {
        "name": "desk", "url": "http://pacs.clinic.example/hook", "secret": "hush hush",
        "enabled": False,
    }  # fmt: skip
    change = {"webhooks": {"endpoints": [hook]}, "log_levels": [{"part": "web", "level": "debug"}]}
    status, answer = api("PATCH", "/settings", {"settings": change})
    assert status == 200, answer
    for patient in range(3):
        box.store(folder / f"in{patient}")
    box.cli("import", str(folder / "in3"))
    if real:
        links = folder / "real"
        links.mkdir()
        for number, path in enumerate(real):
            (links / f"{number}.dcm").write_bytes(path.read_bytes())
        box.cli("import", str(links))
    damaged = folder / "damaged.dcm"
    content = next((folder / "in0").iterdir()).read_bytes()
    damaged.write_bytes(content[: len(content) // 2])
    box.cli("import", str(damaged))
    # another patient under an id that is known, and an object that differs
    other = pydicom.dcmread(next((folder / "in1").iterdir()))
    other.PatientName, other.SeriesDescription = "Yamada^Hanako", "other bytes"
    other.save_as(folder / "other.dcm")
    box.cli("import", str(folder / "other.dcm"))
    for search in ("Rossi", "Yamada^Tarou", "JP-7001", "19640312", "Lefèvre", "山田"):
        status, content = api("POST", "/studies/search", {"search": search})
        assert status == 200
    for wrong in ({"search": ["Rossi"]}, {"filters": [{"field": "Rossi^Anna Lucia"}]}):
        assert api("POST", "/studies/search", wrong)[0] == 400
    rows = json.loads(api("POST", "/studies/search", {"search": ""})[1])["rows"]
    for row in rows[:8]:
        uid = row["study_instance_uid"]
        _, content = api("GET", f"/studies/{uid}")
        for series in json.loads(content)["series"][:2]:
            for image in series["instances"][:2]:
                api("GET", f"/instances/{image['sop_instance_uid']}/frames/1/rendered")
        api("GET", f"/studies/{uid}/copies")
    api("DELETE", f"/studies/{rows[0]['study_instance_uid']}", {"reason": "sent twice"})
    for path in ("/inbox", "/patients/conflicts", "/trash", "/alerts", "/audit", "/audit/verify"):
        api("GET", path)
    for tool in (
        ["findscu", "-S", "-aec", "SCRIGNO", "-k", "0008,0052=STUDY", "-k", "PatientName=Rossi*",
         "-k", "PatientID=IT-001", "-k", "StudyInstanceUID"],
        ["getscu", "-S", "-aec", "SCRIGNO", "-od", str(folder), "-k", "0008,0052=PATIENT", "-P",
         "-k", "PatientID=KR-3"],
        ["movescu", "-S", "-aec", "SCRIGNO", "-aem", "NOBODY", "-k", "0008,0052=STUDY",
         "-k", "PatientID=FR-88", "-k", "PatientName=Lefevre^Zoe"],
    ):  # fmt: skip
        subprocess.run(
            [f"/usr/bin/{tool[0]}", *tool[1:], "127.0.0.1", str(box.dicom_port)],
            capture_output=True, timeout=60, check=False,
        )  # fmt: skip
