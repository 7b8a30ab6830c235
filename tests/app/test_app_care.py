# SPDX-License-Identifier: Apache-2.0
"""Looking after images from the command line, on a running box; a lone volume without one."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from made_objects import write_series
from running_box import RunningBox, running_box


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBox]:
    """One box for all of them, with two studies; each test leaves it as it was."""
    root = tmp_path_factory.mktemp("care")
    with running_box(root / "box", unregistered="hold") as running:
        for patient in range(2):
            write_series(root / str(patient), images=2, patient=patient)
            running.ask("import", str(root / str(patient)))
        running.wait_until_replicated()
        yield running


def studies(box: RunningBox) -> list[str]:
    return sorted(path.name for path in (box.root / "data" / "studies").iterdir())


@pytest.mark.spec("ST-7")
def test_a_study_is_deleted_listed_and_restored_from_the_command_line(box: RunningBox) -> None:
    study = studies(box)[0]
    assert box.cli("delete-study", study).returncode == 2  # without a reason
    blank = box.cli("delete-study", study, "--reason", " ")
    assert blank.returncode == 1
    assert "reason" in blank.stderr
    deleted = box.cli("delete-study", study, "--reason", "sent twice")
    assert deleted.returncode == 0, deleted.stderr
    (item,) = box.ask("trash", "list")["items"]
    assert f"scrigno trash restore {item['id']}" in deleted.stdout
    assert "sent twice" in box.cli("trash", "list").stdout
    assert "Rossi" not in box.cli("trash", "list").stdout
    purge = box.cli("trash", "purge", str(item["id"]))
    assert purge.returncode == 1
    assert "--confirm" in purge.stderr
    restored = box.cli("trash", "restore", str(item["id"]))
    assert "2 images are back" in restored.stdout
    assert box.ask("status")["totals"]["studies"] == 2
    assert box.cli("trash", "list").stdout.strip() == "The trash is empty."
    assert box.cli("trash", "restore", str(item["id"])).returncode == 1


@pytest.mark.spec("ST-7")
def test_a_protected_study_cannot_be_deleted_from_the_command_line(box: RunningBox) -> None:
    study = studies(box)[1]
    assert "is protected" in box.cli("protect", study).stdout
    refused = box.cli("delete-study", study, "--reason", "old")
    assert refused.returncode == 1
    assert "protected" in refused.stderr
    assert box.ask("protect", study, "--off") == {"study_instance_uid": study, "protected": False}
    assert box.cli("protect", "1.2.3").returncode == 1


@pytest.mark.spec("ST-6")
def test_a_scrub_runs_when_it_is_asked_for_and_says_what_it_found(box: RunningBox) -> None:
    paused = box.cli("scrub", "pause")
    assert "scrigno scrub resume" in paused.stdout
    assert not box.ask("scrub", "resume")["paused"]
    assert box.cli("scrub", "run").returncode == 0
    ends = time.monotonic() + 30
    while not all(each["last_finished"] for each in box.ask("scrub", "status")["volumes"]):
        assert time.monotonic() < ends, box.cli("scrub", "status").stdout
        time.sleep(0.2)
    (data, _) = box.ask("scrub", "status")["volumes"]
    assert data["checked_objects"] >= 4  # what is in the inbox is read too
    assert (data["bad"], data["overdue"]) == (0, False)
    assert f"{data['checked_objects']} of" in box.cli("scrub", "status").stdout
    assert box.cli("scrub", "run", "nothing").returncode == 1
    assert box.cli("quarantine").stdout.startswith("0 files")


@pytest.mark.spec("ST-10")
def test_a_held_image_is_accepted_and_the_decision_taken_back(
    box: RunningBox, tmp_path: Path
) -> None:
    write_series(tmp_path / "held", images=2, patient=2)
    box.store(tmp_path / "held")
    items = box.ask("inbox", "list")["items"]
    assert len(items) == 2
    assert "Hong" not in box.cli("inbox", "list").stdout
    assert box.cli("inbox", "accept", str(items[0]["id"])).stdout.startswith("Taken into study")
    rejected = box.cli("inbox", "reject", str(items[1]["id"]), "--why", "wrong box")
    assert "scrigno inbox undo" in rejected.stdout
    decisions = box.ask("inbox", "list")["decisions"]
    assert [each["kind"] for each in decisions] == ["reject", "accept"]
    for each in decisions:
        undone = box.cli("inbox", "undo", str(each["id"]))
        assert "taken back" in undone.stdout, undone.stderr
    assert len(box.ask("inbox", "list")["items"]) == 2
    assert box.cli("inbox", "reject", "999").returncode == 1


@pytest.mark.spec("AD-10", "AD-11", "DB-3")
def test_alerts_backups_and_the_audit_trail_are_told_in_words(box: RunningBox) -> None:
    unclaimed = box.cli("alerts")
    assert "Next step:" in unclaimed.stdout
    assert any(each["code"] == "setup-code-unclaimed" for each in box.ask("alerts")["alerts"])
    ends = time.monotonic() + 20
    while not (backups := box.ask("index", "backups")["backups"]):
        assert time.monotonic() < ends
        time.sleep(0.2)
    assert backups[0]["name"] in box.cli("index", "backups").stdout
    restored = box.cli("index", "restore", backups[0]["volume"], backups[0]["name"])
    assert "is in force" in restored.stdout, restored.stderr
    assert box.ask("status")["totals"]["studies"] == 2
    assert box.cli("audit", "verify").stdout.startswith("The audit trail is whole")
    assert box.ask("audit", "verify") == {"whole": True, "problems": []}


@pytest.mark.spec("ST-6")
def test_a_study_is_verified_and_the_answer_says_since_when(box: RunningBox) -> None:
    study = studies(box)[0]
    found = box.ask("verify", "--study", study)
    assert (found["instances"], found["copies_bad"], found["unverified"]) == (2, 0, 0)
    assert found["verified_on"]
    assert "Every copy was read back" in box.cli("verify", "--study", study).stdout


@pytest.mark.spec("ST-6", "ST-8")
def test_a_lone_volume_is_checked_without_a_daemon(box: RunningBox) -> None:
    volume = box.root / "backup1"
    good = box.ask("verify", "--path", str(volume), "--study", studies(box)[0])
    assert (good["counts"]["good"], good["counts"]["changed"]) == (2, 0)
    path = next((volume / "studies" / studies(box)[1]).rglob("*.dcm"))
    before = path.read_bytes()
    path.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    try:
        found = box.cli("verify", "--path", str(volume))
        assert found.returncode == 1
        assert f"changed: {path.relative_to(volume)}" in found.stdout
    finally:
        path.write_bytes(before)
    assert box.cli("verify", "--path", str(volume / "nothing")).returncode == 1
