# SPDX-License-Identifier: Apache-2.0
"""The whole box as its operator and its modalities see it: one process, real tools."""

import json
import os
import re
import shutil
import signal
import subprocess  # noqa: TID251 - real peers
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from made_objects import write_series
from ports import free_port
from running_box import RunningBox, data_set_digest, running_box

ROOT = Path(__file__).resolve().parents[2]
FINDSCU = "/usr/bin/findscu"
KEYS = {
    "PATIENT": ("PatientName", "PatientID", "PatientBirthDate", "NumberOfPatientRelatedStudies"),
    "STUDY": (
        "StudyInstanceUID", "PatientName", "PatientID", "StudyDate", "AccessionNumber",
        "ModalitiesInStudy", "NumberOfStudyRelatedInstances", "StudyDescription",
    ),
    "SERIES": ("StudyInstanceUID", "SeriesInstanceUID", "Modality", "SeriesNumber"),
    "IMAGE": ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "InstanceNumber"),
}  # fmt: skip


@pytest.fixture
def box(tmp_path: Path) -> Iterator[RunningBox]:
    with running_box(tmp_path / "box") as running:
        yield running


def find(box: RunningBox, level: str, **keys: str) -> list[str]:
    """Return the answers of a query as sorted dumps, without the message counter."""
    arguments = ["-k", f"QueryRetrieveLevel={level}", "-k", "SpecificCharacterSet=ISO_IR 192"]
    for key in KEYS[level]:
        arguments += ["-k", f"{key}={keys.get(key, '')}"]
    done = subprocess.run(
        [FINDSCU, "-S", "-aec", "SCRIGNO", "127.0.0.1", str(box.dicom_port), *arguments]
        if level != "PATIENT"
        else [FINDSCU, "-P", "-aec", "SCRIGNO", "127.0.0.1", str(box.dicom_port), *arguments],
        capture_output=True,
        timeout=60,
        check=True,
    )
    answers = done.stderr.decode("utf-8", "replace") + done.stdout.decode("utf-8", "replace")
    blocks, current = [], None
    for line in answers.splitlines():
        if "Find Response:" in line:
            current = []
            blocks.append(current)
        elif current is not None and "(" in line:
            current.append(line.split("I: ", 1)[-1])
    return sorted("\n".join(sorted(block)) for block in blocks)


def everything(box: RunningBox, studies: list[str]) -> list[list[str]]:
    """Ask at every level; what the archive says about everything it has."""
    answers = [find(box, "PATIENT"), find(box, "STUDY")]
    for study in studies:
        answers.append(find(box, "SERIES", StudyInstanceUID=study))
    return answers


@pytest.mark.spec("DN-4", "ST-1", "ST-2", "ST-8", "BX-2")
def test_every_image_stands_byte_for_byte_on_both_volumes(box: RunningBox, tmp_path: Path) -> None:
    sent = write_series(tmp_path / "a", images=20) | write_series(
        tmp_path / "b", images=5, patient=1
    )
    box.store(tmp_path / "a", tmp_path / "b")
    box.wait_until_replicated()
    for volume in ("data", "backup1"):
        stored = {path.stem: path for path in (box.root / volume).rglob("studies/**/*.dcm")}
        assert set(stored) == set(sent)
        assert all(data_set_digest(stored[uid]) == data_set_digest(sent[uid]) for uid in sent)
    assert box.ask("status")["totals"] == {"patients": 2, "studies": 2, "series": 2} | {
        "instances": 25,
        "bytes": sum(path.stat().st_size for path in (box.root / "data").rglob("*.dcm")),
    }


@pytest.mark.spec("ST-8", "DB-3")
def test_the_index_made_anew_from_the_backup_alone_answers_the_same(tmp_path: Path) -> None:
    for patient in range(4):
        write_series(tmp_path / "send" / str(patient), images=6, patient=patient)
    box = RunningBox(tmp_path / "box")
    try:
        box.start()
        box.store(tmp_path / "send")
        box.wait_until_replicated()
        studies = sorted(path.name for path in (box.root / "data" / "studies").iterdir())
        before = everything(box, studies)
        assert len(before[1]) == 4
        box.kill(signal.SIGTERM)
        for path in (box.root / "state").glob("index.db*"):
            path.unlink()
        shutil.rmtree(box.root / "data")
        (box.root / "data").mkdir()
        box.start()
        assert find(box, "STUDY") == []
        done = box.cli("rebuild-index", "--from", "backup1", "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        assert everything(box, studies) == before
    finally:
        box.kill(signal.SIGTERM)


@pytest.mark.spec("AD-1")
def test_the_box_is_claimed_once_with_its_setup_code_and_has_no_account_before(
    box: RunningBox,
) -> None:
    code = box.cli("setup-code").stdout.strip()
    assert len(code.replace("-", "")) >= 8
    claimed = box.cli("claim", "--user", "admin", stdin="correct horse battery\n")
    assert claimed.returncode == 0, claimed.stderr
    again = box.cli("claim", "--user", "second", stdin="correct horse battery\n")
    assert again.returncode == 1
    assert "claimed" in again.stderr
    assert box.cli("setup-code").returncode == 1


def test_a_second_daemon_on_the_same_state_is_refused_in_words(box: RunningBox) -> None:
    second = box.cli("serve")
    assert second.returncode == 1
    assert "already running" in second.stderr


def test_a_bad_configuration_names_key_line_and_what_is_allowed(tmp_path: Path) -> None:
    box = RunningBox(tmp_path / "box")
    box.config.write_text(box.config.read_text().replace("unregistered: accept", "unregistered: x"))
    done = box.cli("serve")
    assert done.returncode == 2
    assert "unregistered" in done.stderr
    assert "line 12" in done.stderr
    assert "accept" in done.stderr
    assert "hold" in done.stderr
    assert not (box.root / "state" / "settings").exists(), "nothing is made from a bad file"


@pytest.mark.spec("AD-4")
def test_import_takes_folders_without_extensions_and_gives_a_reason_for_each_refusal(
    box: RunningBox, tmp_path: Path
) -> None:
    sent = write_series(tmp_path / "cd" / "sub", images=3)
    for number, path in enumerate(sent.values()):
        path.rename(path.with_name(f"IM{number}"))
    (tmp_path / "cd" / "readme.txt").write_text("hello")
    done = box.cli("import", str(tmp_path / "cd"), "--json")
    answer = json.loads(done.stdout)
    assert answer["counts"]["new"] == 3
    assert [Path(each["path"]).name for each in answer["refused"]] == ["readme.txt"]
    assert answer["refused"][0]["reason"]
    again = json.loads(box.cli("import", str(tmp_path / "cd" / "sub"), "--json").stdout)
    assert again["counts"]["same"] == 3


@pytest.mark.spec("IN-6")
def test_health_and_metrics_speak_to_machines(box: RunningBox, tmp_path: Path) -> None:
    write_series(tmp_path / "a", images=2)
    box.store(tmp_path / "a")
    base = f"http://127.0.0.1:{box.web_port}"
    with urllib.request.urlopen(f"{base}/healthz") as answer:
        assert answer.status == 200
    with urllib.request.urlopen(f"{base}/metrics") as answer:
        assert b"scrigno_" in answer.read()
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{base}/viewer/api/studies")
    assert refused.value.code == 401
    refused.value.close()


@pytest.mark.timing
def test_the_daemon_ends_by_itself_when_asked_and_leaves_nothing_in_its_way(
    box: RunningBox, tmp_path: Path
) -> None:
    write_series(tmp_path / "a", images=2)
    box.store(tmp_path / "a")
    process = box.process
    assert process is not None
    box.kill(signal.SIGTERM)
    assert process.returncode == 0, box.log[-3000:]
    assert " ERROR " not in box.log, box.log
    assert "Traceback" not in box.log, box.log
    assert box.start() < 10
    assert len(find(box, "STUDY")) == 1


@pytest.mark.spec("BX-4")
def test_what_make_run_prints_is_all_one_needs_to_send_the_first_image(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    for name in ("daemon", "tools", "webui/dist"):
        shutil.copytree(ROOT / name, checkout / name)
    environment = {
        **os.environ,
        "PYTHONPATH": str(checkout / "daemon"),
        "DICOM_PORT": str(free_port()),
        "WEB_PORT": str(free_port()),
    }
    process = subprocess.Popen(
        [sys.executable, "tools/run_box.py"],
        cwd=checkout,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        said: list[str] = []
        while not said or not said[-1].strip().startswith("stop"):
            said.append(process.stdout.readline())
            assert said[-1], "it ended before it was ready"
        text = "".join(said)
        url = re.search(r"http://localhost:[0-9]+/viewer/", text)
        code = re.search(r"setup code +([0-9A-Z]{5}-[0-9A-Z]{5})", text)
        send = re.search(r"(storescu .*) FOLDER", text)
        assert url
        assert code
        assert send
        with urllib.request.urlopen(url.group()) as page:
            assert page.status == 200
        write_series(tmp_path / "send", images=2)
        line = ["/usr/bin/" + send.group(1).split()[0], *send.group(1).split()[1:]]
        sent = subprocess.run(
            [*line, str(tmp_path / "send")], capture_output=True, timeout=60, check=False
        )
        assert sent.returncode == 0, sent.stderr
        assert len(list((checkout / "var" / "data").rglob("studies/**/*.dcm"))) == 2
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
    assert process.returncode == 0
