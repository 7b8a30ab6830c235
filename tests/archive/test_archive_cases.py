# SPDX-License-Identifier: Apache-2.0
"""What was decided about patients stands on every volume and survives crash and lost index."""

import asyncio
import json
import logging
import stat
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from archivebox import Made, made
from casebox import CaseBox, opened
from casedriver import shape_of

from scrigno.archive.decision_files import as_file, decision_key
from scrigno.archive.failpoints import EXIT_CODE
from scrigno.catalogue.decisions import Decision, DecisionOvertaken, DecisionRefused, Kind, Phase
from scrigno.catalogue.records import StudyListQuery
from scrigno.volumes.states import VolumeState

DRIVER = Path(__file__).with_name("casedriver.py")
OTHER: dict[str, Any] = {"study": 2, "PatientID": "P1", "PatientName": "Bianchi^Carla"}


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[CaseBox]:
    one = await opened(tmp_path)
    yield one
    await one.close()


async def in_conflict(box: CaseBox) -> str:
    """Return the study that is in conflict."""
    await box.store(made())
    await box.store(made(**OTHER))
    (case,) = await box.cases.patients()
    return case.study_uid


async def merged(box: CaseBox, **more: Any) -> Decision:
    (case,) = await box.cases.patients()
    return await box.cases.merge(
        case.study_uid,
        into=case.other_study_uid,
        version=case.version,
        **({"user": "anna", "why": "told by Rossi"} | more),
    )


async def shown(box: CaseBox) -> list[tuple[str, str, str, bool]]:
    page = await box.catalogue.study_page(StudyListQuery())
    return sorted(
        (
            row.study_instance_uid,
            str(row.patient_id),
            row.patient_name.text(),
            row.patient_conflict,
        )
        for row in page.rows
    )


async def without_index(box: CaseBox) -> None:
    """Lose the index and start again."""
    await box.close()
    for path in (box.root / "state").glob("index.db*"):
        path.unlink()
    await box.open()


@pytest.mark.spec("ST-10")
async def test_each_decision_is_on_every_volume_and_in_the_trail_and_in_no_log(
    box: CaseBox, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    study = await in_conflict(box)
    before = await shown(box)
    assert (await box.cases.waiting()).patients == 1
    decision = await merged(box)
    assert (await box.cases.waiting()).patients == 0
    for name in box.names:
        path = box.root / name / decision_key(decision.token)
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        assert json.loads(path.read_text())["decision"]["after"]["person"]["patient_id"] == "P1"
    assert {row[2] for row in await shown(box)} == {"Rossi^Anna"}
    sent = await box.cases.sent(study)
    assert sent is not None
    assert sent.patient_name.text() == "Bianchi^Carla"
    undone = await box.cases.undo(decision.decision_id, user="bob", why="wrong")
    assert undone.phase is Phase.UNDONE
    assert await shown(box) == before
    assert box.on("data", "decisions") == box.on("backup1", "decisions")
    assert len(box.on("data", "decisions")) == 2
    assert [line[:3] for line in box.audited] == [
        ("anna", "patient-merged", study),
        ("bob", "decision-undone", study),
    ]
    for text in ("Rossi", "Bianchi", "19700101", "told by"):
        assert text not in str(box.audited)
        assert text not in caplog.text
    history = await box.cases.history(subject=study)
    assert [(one.kind, one.account, one.undone_by) for one in history] == [
        (Kind.MERGE, "anna", "bob")
    ]


@pytest.mark.spec("ST-10")
async def test_every_kind_of_decision_is_offered_and_cleaned(box: CaseBox) -> None:
    study = await in_conflict(box)
    kept = await box.cases.keep(study, version=0, user="anna")
    with pytest.raises(DecisionOvertaken):
        await box.cases.keep(study, version=0, user="bob")
    split = await box.cases.split(study, version=1, user="anna", issuer=" B ")
    assert await box.cases.patients() == []
    fixed = await box.cases.fix(
        study,
        changes={"patient_name": " Bianchi^Karla = \\\x00", "patient_id": "X" * 99},
        version=2,
        user="anna",
    )
    assert ("1.2.826.0.1.2", "X" * 64, "Bianchi^Karla", False) in await shown(box)
    for decision in (fixed, split, kept):
        await box.cases.undo(decision.decision_id, user="anna")
    assert len(await box.cases.patients()) == 1
    with pytest.raises(DecisionRefused, match="no decision"):
        await box.cases.undo(99, user="anna")
    assert await box.cases.patient("9.9") is None


@pytest.mark.spec("ST-10", "ST-8")
@pytest.mark.parametrize("rebuilt_first", [False, True])
async def test_a_lost_index_loses_no_decision(box: CaseBox, rebuilt_first: bool) -> None:
    study = await in_conflict(box)
    first = await box.cases.fix(
        study, changes={"patient_name": "Bianchi^Karla"}, version=0, user="anna"
    )
    await merged(box)
    rejected = await box.store(made(3, PatientName="C^D"), hold="unapproved-node")
    await box.inbox.reject(rejected.inbox_id)
    broken = await box.store(Made("", "", "1.2.3.4", b"\xff" * 500))
    given = {"study_instance_uid": "1.9.1", "series_instance_uid": "1.9.2"}
    await box.inbox.index(broken.inbox_id, given | {"patient_name": "A^B"}, user="anna")
    undone = await box.cases.fix("1.9.1", changes={"patient_sex": "O"}, version=0, user="anna")
    await box.cases.undo(undone.decision_id, user="anna")
    wanted = await shown(box)
    history = [(one.token, one.phase) for one in await box.cases.history()]
    await without_index(box)
    if rebuilt_first:
        await box.rebuilder.rebuild()
        assert await box.cases.sync() == 5
    else:
        assert await box.cases.sync() == 5
        await box.rebuilder.rebuild()
        assert await box.cases.sync() == 0
    assert await shown(box) == wanted
    assert [(one.token, one.phase) for one in await box.cases.history()] == history
    assert await box.inbox.counts() == {}
    assert await box.catalogue.check() == []
    # and all of it can still be taken back, newest first
    for one in await box.cases.history():
        if one.phase is Phase.DONE:
            await box.cases.undo(one.decision_id, user="anna")
    assert [row[2:] for row in await shown(box)] == [
        ("Rossi^Anna", False),
        ("Bianchi^Carla", True),
    ]
    assert await box.inbox.counts() == {"unapproved-node": 1, "unreadable": 1}
    assert first.token in dict(history)


@pytest.mark.spec("ST-10")
async def test_a_volume_that_was_away_learns_and_tells(tmp_path: Path) -> None:
    box = await opened(tmp_path, caring=True)
    try:
        await in_conflict(box)
        away = box.volumes.by_name("backup1")
        await box.until(lambda: not box.inbox.files.behind)
        (tmp_path / "backup1").rename(tmp_path / "gone")
        await box.until(lambda: not away.readable)
        decision = await merged(box)
        assert box.inbox.files.behind == {"backup1"}
        # somebody else's box decided something on the disk meanwhile, and a file there is damaged
        foreign = as_file(decision).replace(b"told by Rossi", b"told by anybody")
        folder = tmp_path / "gone" / "decisions"
        folder.mkdir()
        (folder / f"{'a' * 32}.json").write_bytes(foreign)
        (folder / f"{'b' * 32}.json").write_bytes(b"[")
        (folder / f"{'c' * 32}.json").write_bytes(b'{"decision": {}, "digest": ""}')
        (folder / f"{'d' * 32}-undone.json").write_bytes(b"{}")
        (tmp_path / "gone").rename(tmp_path / "backup1")
        await box.until(lambda: away.state is VolumeState.ONLINE)
        key = decision_key(decision.token)
        await box.until(lambda: key in box.on("backup1"))
        assert box.on("backup1")[key] == box.on("data")[key]
        assert len(await box.cases.history()) == 1
    finally:
        await box.close()


async def test_what_one_volume_knows_comes_to_the_others(box: CaseBox) -> None:
    await in_conflict(box)
    decision = await merged(box)
    await box.cases.undo(decision.decision_id, user="anna")
    files = box.on("data", "decisions")
    for key in files:
        (box.root / "backup1" / key).unlink()
    await without_index(box)
    assert await box.cases.sync() == 1
    await box.cases.sync()
    assert box.on("backup1", "decisions") == files
    ((one,)) = await box.cases.history()
    assert (one.phase, one.account, one.undone_by) == (Phase.UNDONE, "anna", "anna")
    assert one.decided_at == decision.decided_at


async def test_no_volume_is_no_reason_to_lose_a_decision(box: CaseBox) -> None:
    await in_conflict(box)
    for volume in box.volumes.ordered:
        volume.state = VolumeState.READONLY
    decision = await merged(box)
    assert box.on("data", "decisions") == {}
    for volume in box.volumes.ordered:
        volume.state = VolumeState.ONLINE
    await box.cases.sync()
    assert set(box.on("data", "decisions")) == {decision_key(decision.token)}
    assert box.on("data", "decisions") == box.on("backup1", "decisions")


@pytest.mark.spec("ST-10")
async def test_a_decision_about_a_patient_is_whole_whichever_step_the_process_dies_at(
    tmp_path: Path,
) -> None:
    steps = [
        ("merge", "decision-recorded"),
        ("merge", "decision-filed"),
        ("undo-merge", "undo-recorded"),
        ("undo-merge", "decision-filed"),
    ]
    jobs = [f"{tmp_path / f'{what}-{step}'}:{what}:{step}" for what, step in steps]
    process = await asyncio.create_subprocess_exec(sys.executable, str(DRIVER), *jobs, stdout=-1)
    said, _ = await process.communicate()
    assert [int(code) for code in said.split()] == [EXIT_CODE] * len(jobs)
    for what, step in steps:
        box = await opened(tmp_path / f"{what}-{step}", caring=True, **shape_of("merge"))
        try:
            box.recovery.start()
            await box.until(lambda box=box: _same_everywhere(box), 25)
            (decision,) = await box.cases.history()
            names = {row[2] for row in await shown(box)}
            if what == "merge":
                assert decision.phase is Phase.DONE
                assert names == {"Rossi^Anna"}
            else:
                assert decision.phase is Phase.UNDONE
                assert names == {"Rossi^Anna", "Other^Name"}
            assert await box.catalogue.check() == []
        finally:
            await box.close()


async def _same_everywhere(box: CaseBox) -> bool:
    names = await box.catalogue.cases.names()
    wanted = {decision_key(token) for token in names} | {
        decision_key(token, undone=True) for token, phase in names.items() if phase is Phase.UNDONE
    }
    there = [set(box.on(name, "decisions")) for name in box.names]
    return bool(wanted) and all(each == wanted for each in there) and not box.recovery.pending


async def test_undo_from_one_place_serves_inbox_decisions_too(box: CaseBox) -> None:
    held = await box.store(made(), hold="unapproved-node")
    decision = await box.inbox.reject(held.inbox_id, user="anna")
    await box.cases.undo(decision.decision_id, user="bob")
    assert await box.inbox.counts() == {"unapproved-node": 1}
    waiting = await box.cases.waiting()
    assert (waiting.patients, waiting.objects) == (0, 1)
    assert waiting.oldest is not None
