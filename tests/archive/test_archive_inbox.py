# SPDX-License-Identifier: Apache-2.0
"""What an operator does with objects that were kept aside."""

import asyncio
import hashlib
import sys
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pydicom
import pytest
from archivebox import EXPLICIT_LE, IMPLICIT_LE, MODALITY, Box, Made, made
from casebox import CaseBox, opened
from casedriver import shape_of

from scrigno.archive.arrivals import Arrival, from_note, from_sidecar, to_note, to_sidecar
from scrigno.archive.errors import InboxError, ObjectUnavailable
from scrigno.archive.failpoints import EXIT_CODE
from scrigno.archive.ingest import StoreOutcome
from scrigno.catalogue.decisions import DecisionOvertaken, DecisionRefused, Kind, Phase
from scrigno.core.clock import SystemClock
from scrigno.imaging.relabel import derived_uid
from scrigno.volumes.staging import NOTE_LIMIT_BYTES
from scrigno.volumes.states import VolumeState

DRIVER = Path(__file__).with_name("casedriver.py")


@pytest.mark.spec("ST-10")
async def test_an_accepted_object_is_archived_as_it_came_and_leaves_the_inbox(box: Box) -> None:
    one = made()
    held = await box.store(one, hold="unapproved-node")
    (item,) = await box.inbox.items()
    receipt = await box.inbox.accept(held.inbox_id)
    assert receipt.outcome is StoreOutcome.NEW
    assert box.on("data") == {one.key: one.file}
    assert await box.inbox.counts() == {}
    assert await box.staged() == 1
    row = await box.catalogue.instance(one.uid)
    assert row.received_at == item.item.received_at


async def test_everything_of_an_approved_node_is_accepted_at_once(box: Box) -> None:
    for number in range(1, 5):
        await box.store(made(number), hold="unapproved-node")
    other = replace(MODALITY, calling_ae="OTHER")
    await box.store(made(9), hold="unapproved-node", origin=other)
    unreadable = Made("", "", "1.2.3.4", b"\xff" * 500)
    await box.store(unreadable, hold="unapproved-node")
    done = await box.inbox.accept_from("CT1", "127.0.0.1")
    assert done == {"accepted": 4, "kept": 1}
    assert await box.inbox.counts() == {"unapproved-node": 2}
    assert await box.inbox.accept_from("CT1", "10.0.0.1") == {"accepted": 0, "kept": 0}
    assert (await box.catalogue.totals()).instances == 4


@pytest.mark.spec("ST-10")
async def test_a_conflict_cannot_be_accepted_over_the_archived_object(box: Box) -> None:
    one, other = made(), made(PatientName="Other^Name")
    await box.store(one)
    receipt = await box.store(other)
    with pytest.raises(InboxError, match="another object"):
        await box.inbox.accept(receipt.inbox_id)
    assert await box.inbox.accept_from("CT1") == {"accepted": 0, "kept": 0}
    assert box.on("data")[one.key] == one.file
    assert await box.inbox.counts() == {"conflict": 1}
    # when the first one is gone, the other one may come in
    await box.catalogue.remove([one.uid])
    (box.root / "data" / one.key).unlink()
    assert (await box.inbox.accept(receipt.inbox_id)).outcome is StoreOutcome.NEW


async def test_a_held_object_that_is_archived_already_is_accepted_as_the_same(box: Box) -> None:
    held = await box.store(made(), hold="unapproved-node")
    await box.store(made())
    assert (await box.inbox.accept(held.inbox_id)).outcome is StoreOutcome.SAME
    assert await box.inbox.counts() == {}


async def test_an_unreadable_object_stays_when_it_is_accepted(box: Box) -> None:
    one = Made("", "", "1.2.3.4", b"\xff" * 500)
    kept = await box.store(one)
    with pytest.raises(InboxError, match="cannot be read"):
        await box.inbox.accept(kept.inbox_id)
    assert box.on("data")[f"inbox/{one.digest}.dcm"] == one.file
    assert await box.inbox.counts() == {"unreadable": 1}


async def _no_debts(box: Box) -> bool:
    return not await box.catalogue.debt_counts()


async def test_an_item_whose_copies_are_away_waits(box: Box) -> None:
    held = await box.store(made(), hold="unapproved-node")
    (item,) = await box.inbox.items()
    await box.staging.release(item.item.staged_as)
    box.volumes.by_name("data").state = VolumeState.OFFLINE
    with pytest.raises(InboxError):
        await box.inbox.accept(held.inbox_id)
    assert await box.inbox.counts() == {"unapproved-node": 1}


async def test_a_kept_object_can_be_looked_at(box: Box) -> None:
    held = await box.store(made(), hold="unapproved-node")
    stream = await box.inbox.open(held.inbox_id)
    assert b"".join([chunk async for chunk in stream.chunks]) == made().file


def test_notes_and_sidecars_survive_every_text_and_fit_their_place() -> None:
    origin = replace(MODALITY, calling_ae="日" * 100, called_ae="\udcff" * 100, user="u" * 500)
    arrival = Arrival(
        origin=replace(origin, address="a" * 500),
        sop_class_uid="1" * 500,
        sop_instance_uid="../" * 100,
        transfer_syntax_uid="x",
        received_at=SystemClock().now(),
    )
    import json

    note = to_note(arrival, "0" * 64, "r" * 500)
    assert len(json.dumps(note)) < NOTE_LIMIT_BYTES
    back = from_note(
        note, sop_class_uid="", sop_instance_uid="", transfer_syntax_uid="", fallback=None
    )
    assert back.received_at == arrival.received_at
    assert back.origin.calling_ae == "日" * 64
    assert from_sidecar(to_sidecar(arrival, "0" * 64, "conflict", "why"))["comment"] == "why"


@pytest.mark.parametrize("sidecar", [b"", b"{", b"[1]", b"\xff", b'{"aside": 1}', b"[" * 100_000])
def test_a_sidecar_of_anything_is_no_error(sidecar: bytes) -> None:
    fields = from_sidecar(sidecar)
    assert fields == {}
    now = SystemClock().now()
    arrival = from_note(
        {"received": "yesterday"},
        sop_class_uid="",
        sop_instance_uid="",
        transfer_syntax_uid="",
        fallback=now,
    )
    assert arrival.received_at == now
    naive = from_note(
        {"received": "2026-01-01T10:00:00"},
        sop_class_uid="",
        sop_instance_uid="",
        transfer_syntax_uid="",
        fallback=now,
    )
    assert naive.received_at.tzinfo is not None


# decisions that can be taken back ----------------------------------------------------------------


@pytest.fixture
async def cased(tmp_path: Path) -> AsyncIterator[CaseBox]:
    one = await opened(tmp_path)
    yield one
    await one.close()


@pytest.fixture
async def live(tmp_path: Path) -> AsyncIterator[CaseBox]:
    one = await opened(tmp_path, replicating=True)
    yield one
    await one.close()


@pytest.mark.spec("ST-10")
async def test_a_rejected_object_can_be_had_back(live: CaseBox) -> None:
    await live.store(made(), hold="unapproved-node")
    await live.until(lambda: _no_debts(live))
    before = await live.truth()
    (item,) = await live.inbox.items()
    decision = await live.inbox.reject(item.inbox_id, user="anna", why="told by Rossi")
    assert await live.inbox.counts() == {}
    assert await live.inbox.items() == []
    assert len(live.objects("data")) == len(live.objects("backup1")) == 1
    with pytest.raises(InboxError, match="no item"):
        await live.inbox.reject(item.inbox_id)
    with pytest.raises(InboxError, match="no item"):
        await live.inbox.accept(item.inbox_id)
    (listed,) = await live.inbox.decided()
    assert (listed.kind, listed.phase, listed.account) == (Kind.REJECT, Phase.DONE, "anna")
    # the sender that does not know sends it again: it stays rejected
    await live.store(made(), hold="unapproved-node")
    assert await live.inbox.counts() == {}
    undone = await live.inbox.undo(decision.decision_id, user="bob")
    assert (undone.phase, undone.undone_by) == (Phase.UNDONE, "bob")
    assert await live.truth() == before
    assert [line[:3] for line in live.audited] == [
        ("anna", "inbox-rejected", made().uid),
        ("bob", "decision-undone", made().uid),
    ]
    assert "Rossi" not in str(live.audited)


@pytest.mark.spec("ST-10")
async def test_what_was_purged_is_gone_everywhere_and_final(live: CaseBox) -> None:
    held = await live.store(made(), hold="unapproved-node")
    await live.until(lambda: _no_debts(live))
    decision = await live.inbox.reject(held.inbox_id)
    await live.inbox.purge(decision.decision_id, user="anna")
    assert live.on("data", "inbox") == live.on("backup1", "inbox") == {}
    assert await live.staged() == 0
    assert await live.catalogue.check() == []
    with pytest.raises(DecisionRefused, match="final"):
        await live.inbox.undo(decision.decision_id)
    with pytest.raises(DecisionRefused, match="nothing to remove"):
        await live.inbox.purge(decision.decision_id)
    # the same object may come again and is shown again
    await live.store(made(), hold="unapproved-node")
    assert await live.inbox.counts() == {"unapproved-node": 1}


@pytest.mark.spec("ST-10")
async def test_a_clock_that_jumps_purges_nothing(cased: CaseBox) -> None:
    held = await cased.store(made(), hold="unapproved-node")
    decision = await cased.inbox.reject(held.inbox_id)
    cased.moved.wall = timedelta(days=3650)
    assert await cased.inbox.purge_due() == 0  # ten years by a wrong clock
    await cased.catalogue.cases.add_running(29 * 86400)
    assert await cased.inbox.purge_due() == 0
    cased.moved.wall = timedelta(days=-5)
    await cased.catalogue.cases.add_running(2 * 86400)
    assert await cased.inbox.purge_due() == 0  # long enough, but the clock went back
    cased.moved.wall = timedelta(days=31)
    assert await cased.inbox.purge_due() == 1
    assert (await cased.catalogue.cases.decision(decision.decision_id)).phase is Phase.FINAL
    assert cased.objects("data") == {}


async def test_the_time_that_the_box_runs_is_counted_over_restarts(tmp_path: Path) -> None:
    box = await opened(tmp_path, caring=True)
    box.moved.running_s = 5000
    await box.until(lambda: _ran(box, 5000))
    box.moved.running_s = 7000
    await box.close()
    box = await opened(tmp_path)
    assert await box.catalogue.cases.ran_s() >= 7000
    await box.close()


async def _ran(box: CaseBox, seconds: int) -> bool:
    return await box.catalogue.cases.ran_s() >= seconds


@pytest.mark.spec("ST-10")
@pytest.mark.parametrize("known_before", [False, True])
async def test_an_accepted_object_goes_back_into_the_inbox(
    live: CaseBox, known_before: bool
) -> None:
    held = await live.store(made(), hold="unapproved-node")
    if known_before:
        await live.store(made())
    await live.store(made(2))
    await live.until(lambda: _no_debts(live))
    before = await live.truth()
    await live.inbox.accept(held.inbox_id, user="anna")
    await live.until(lambda: _no_debts(live))
    assert await live.inbox.counts() == {}
    (decision,) = await live.inbox.decided()
    await live.inbox.undo(decision.decision_id, user="anna")
    await live.until(lambda: _no_debts(live))
    assert await live.truth() == before
    assert await live.catalogue.check() == []
    (again,) = await live.inbox.items()
    await live.inbox.accept(again.inbox_id)


def rivals(where: str) -> tuple[Made, Made]:
    first = made()
    if where == "same study":
        return first, made(PatientName="Other^Name")
    if where == "other study":
        return first, made(1, study=2, SOPInstanceUID=first.uid)
    return made(pixels=3_000_000), made(pixels=2_500_000, PatientName="Other^Name")


@pytest.mark.spec("ST-10")
@pytest.mark.parametrize("where", ["same study", "other study", "large"])
@pytest.mark.parametrize("others", [False, True])
async def test_a_rival_takes_the_place_of_the_archived_object_and_gives_it_back(
    live: CaseBox, where: str, others: bool
) -> None:
    first, second = rivals(where)
    await live.store(first)
    kept = await live.store(second)
    if others:
        await live.store(made(2))
    await live.until(lambda: _no_debts(live))
    before = await live.truth()
    decision = await live.inbox.replace(kept.inbox_id, user="anna")
    await live.until(lambda: _no_debts(live))
    for name in live.names:
        assert live.objects(name)[second.key] == second.file
        assert live.objects(name)[f"inbox/{first.digest}.dcm"] == first.file
        assert len(live.objects(name)) == 2 + others
        assert set(live.on(name, "inbox")) == {
            f"inbox/{first.digest}.dcm",
            f"inbox/{first.digest}.json",
        }
    row = await live.catalogue.instance(first.uid)
    assert row.digest == second.digest
    stream = live.retrieval.open(row)
    assert b"".join([chunk async for chunk in stream.chunks]) == second.file
    assert await live.inbox.counts() == {}  # it is kept, but nobody is asked about it
    assert await live.catalogue.check() == []
    # both senders may come again
    assert (await live.store(first)).outcome is StoreOutcome.CONFLICT_KEPT
    assert (await live.store(second)).outcome is StoreOutcome.SAME
    await live.until(lambda: _no_debts(live))
    assert await live.inbox.counts() == {}
    await live.inbox.undo(decision.decision_id, user="bob")
    await live.until(lambda: _no_debts(live))
    assert await live.truth() == before
    assert await live.catalogue.check() == []
    with pytest.raises(DecisionOvertaken):
        await live.inbox.undo(decision.decision_id)


@pytest.mark.spec("ST-10")
async def test_reads_never_see_the_wrong_rival_while_they_change_places(live: CaseBox) -> None:
    first, second = rivals("same study")
    await live.store(first)
    kept = await live.store(second)
    await live.until(lambda: _no_debts(live))
    seen: Counter[str] = Counter()
    done = asyncio.Event()

    async def reader() -> None:
        while not done.is_set():
            row = await live.catalogue.instance(first.uid)
            try:
                data = b"".join([chunk async for chunk in live.retrieval.open(row).chunks])
            except ObjectUnavailable:
                seen["late"] += 1  # it was about to read what has just gone elsewhere
                continue
            assert hashlib.sha256(data).hexdigest() == row.digest
            seen[row.digest] += 1

    async def operator() -> None:
        inbox_id = kept.inbox_id
        for _ in range(4):
            decision = await live.inbox.replace(inbox_id)
            await asyncio.sleep(0.02)
            await live.inbox.undo(decision.decision_id)
            (item,) = await live.inbox.items()
            inbox_id = item.inbox_id
        done.set()

    await asyncio.gather(operator(), reader(), reader())
    assert seen[first.digest] > 3
    assert seen[second.digest] > 3
    assert seen["late"] * 5 < seen.total()


@pytest.mark.spec("ST-10")
async def test_a_rival_is_kept_beside_under_a_uid_of_its_own(live: CaseBox) -> None:
    first, second = rivals("same study")
    await live.store(first)
    kept = await live.store(second)
    await live.until(lambda: _no_debts(live))
    before = await live.truth()
    receipt = await live.inbox.keep_beside(kept.inbox_id, user="anna")
    assert receipt.outcome is StoreOutcome.NEW
    assert receipt.sop_instance_uid.startswith("2.25.")
    assert receipt.sop_instance_uid == derived_uid(second.digest)
    row = await live.catalogue.instance(receipt.sop_instance_uid)
    made_of_it = pydicom.dcmread(live.root / "data" / row.key)
    assert made_of_it.file_meta.MediaStorageSOPInstanceUID == receipt.sop_instance_uid
    assert made_of_it.SOPInstanceUID == receipt.sop_instance_uid
    original = pydicom.dcmread(live.root / "data" / f"inbox/{second.digest}.dcm")
    made_of_it.SOPInstanceUID = original.SOPInstanceUID
    assert made_of_it.to_json() == original.to_json()
    assert await live.inbox.counts() == {}
    assert (await live.catalogue.instance(first.uid)).digest == first.digest
    (decision,) = await live.inbox.decided()
    await live.until(lambda: _no_debts(live))
    await live.inbox.undo(decision.decision_id)
    assert await live.truth() == before
    (item,) = await live.inbox.items()
    await live.inbox.keep_beside(item.inbox_id)
    (decision, *_) = await live.inbox.decided()
    await live.inbox.purge(decision.decision_id)  # now what came is gone, what was made stays
    assert await live.catalogue.instance(receipt.sop_instance_uid) is not None
    assert live.on("data", "inbox") == {}


GIVEN = {
    "study_instance_uid": "1.9.1",
    "series_instance_uid": "1.9.2",
    "patient_name": "Rossi^Anna",
    "patient_id": "P1",
    "modality": "CT",
}


@pytest.mark.spec("ST-10")
async def test_an_unreadable_object_is_archived_under_what_an_operator_gives(
    live: CaseBox,
) -> None:
    one = Made("", "", "1.2.3.4", b"\xff" * 500)
    kept = await live.store(one)
    await live.until(lambda: _no_debts(live))
    before = await live.truth()
    with pytest.raises(InboxError, match="no study"):
        await live.inbox.index(kept.inbox_id, {"patient_name": "X"})
    with pytest.raises(InboxError, match="no study"):
        await live.inbox.index(kept.inbox_id, GIVEN | {"study_instance_uid": "../x"})
    with pytest.raises(InboxError, match="cannot be given"):
        await live.inbox.index(kept.inbox_id, GIVEN | {"sop_instance_uid": "1"})
    assert await live.truth() == before
    receipt = await live.inbox.index(kept.inbox_id, GIVEN, user="anna")
    assert receipt.outcome is StoreOutcome.NEW
    assert live.objects("data") == {"studies/1.9.1/1.9.2/1.2.3.4.dcm": one.file}
    study = await live.catalogue.study("1.9.1")
    assert study.study.patient_name.text() == "Rossi^Anna"
    (decision,) = await live.inbox.decided()
    await live.until(lambda: _no_debts(live))
    await live.inbox.undo(decision.decision_id)
    await live.until(lambda: _no_debts(live))
    assert await live.truth() == before


async def test_an_object_with_a_wrong_label_is_found_by_its_own_header(cased: CaseBox) -> None:
    right = made()
    wrong = Made(right.study, right.series, right.uid, right.data, transfer_syntax=IMPLICIT_LE)
    kept = await cased.store(wrong)
    assert kept.outcome is StoreOutcome.UNREADABLE_KEPT
    await cased.inbox.index(kept.inbox_id, {"transfer_syntax_uid": EXPLICIT_LE})
    row = await cased.catalogue.instance(right.uid)
    assert (row.study_instance_uid, row.digest) == (right.study, wrong.digest)
    assert row.transfer_syntax_uid == EXPLICIT_LE
    assert cased.objects("data") == {right.key: wrong.file}


@pytest.mark.spec("ST-10")
@pytest.mark.parametrize(
    ("first", "second"), [("accept", "reject"), ("reject", "accept"), ("accept", "accept")]
)
async def test_of_two_operators_one_decides_and_the_other_is_told(
    cased: CaseBox, first: str, second: str
) -> None:
    held = await cased.store(made(), hold="unapproved-node")
    answers = await asyncio.gather(
        getattr(cased.inbox, first)(held.inbox_id, user="anna"),
        getattr(cased.inbox, second)(held.inbox_id, user="bob"),
        return_exceptions=True,
    )
    failed = [each for each in answers if isinstance(each, Exception)]
    assert len(failed) == 1
    assert isinstance(failed[0], InboxError | DecisionOvertaken)
    (decision,) = await cased.inbox.decided()
    assert decision.kind == (first if decision.account == "anna" else second)
    undone = await asyncio.gather(
        *(cased.inbox.undo(decision.decision_id) for _ in range(3)), return_exceptions=True
    )
    assert sorted(type(each).__name__ for each in undone) == [
        "Decision",
        "DecisionOvertaken",
        "DecisionOvertaken",
    ]


async def test_a_decision_whose_caller_goes_away_is_carried_out(cased: CaseBox) -> None:
    held = await cased.store(made(), hold="unapproved-node")
    task = asyncio.create_task(cased.inbox.accept(held.inbox_id))
    while not await cased.inbox.decided():
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await cased.until(lambda: _nothing_open(cased))
    assert (await cased.catalogue.totals()).instances == 1


async def _nothing_open(box: CaseBox) -> bool:
    phases = (Phase.DOING, Phase.UNDOING)
    return not await box.catalogue.cases.decisions(phases=phases)


async def test_what_makes_no_sense_in_the_inbox_is_refused(cased: CaseBox) -> None:
    held = await cased.store(made(), hold="unapproved-node")
    with pytest.raises(InboxError, match="no other object"):
        await cased.inbox.replace(held.inbox_id)
    with pytest.raises(InboxError, match="no other object"):
        await cased.inbox.keep_beside(held.inbox_id)
    with pytest.raises(DecisionRefused, match="no decision"):
        await cased.inbox.undo(77)
    await cased.store(made(PatientName="Other^Name"))
    with pytest.raises(InboxError, match="has another object"):
        await cased.inbox.index(held.inbox_id, {})
    assert await cased.inbox.decided() == []


@pytest.mark.spec("ST-10")
async def test_undo_is_refused_when_the_archive_went_on_without_it(cased: CaseBox) -> None:
    held = await cased.store(made(), hold="unapproved-node")
    await cased.inbox.accept(held.inbox_id)
    (accepted,) = await cased.inbox.decided()
    kept = await cased.store(made(PatientName="Other^Name"))
    replaced = await cased.inbox.replace(kept.inbox_id)
    before = await cased.truth()
    with pytest.raises(InboxError, match="replaced since"):
        await cased.inbox.undo(accepted.decision_id)
    assert await cased.truth() == before
    assert (await cased.catalogue.cases.decision(accepted.decision_id)).phase is Phase.DONE
    await cased.inbox.undo(replaced.decision_id)
    await cased.inbox.undo(accepted.decision_id)
    await cased.catalogue.remove([made().uid])
    assert await cased.inbox.counts() == {"conflict": 1, "unapproved-node": 1}


@pytest.mark.spec("ST-10")
async def test_a_volume_that_was_away_during_a_replacement_follows(tmp_path: Path) -> None:
    live = await opened(tmp_path, replicating=True, caring=True)
    try:
        await _away_while_replaced(live, tmp_path)
    finally:
        await live.close()


async def _away_while_replaced(live: CaseBox, tmp_path: Path) -> None:
    first, second = rivals("same study")
    await live.store(first)
    kept = await live.store(second)
    await live.until(lambda: _no_debts(live))
    await live.until(lambda: not live.inbox.files.behind)
    (tmp_path / "backup1").rename(tmp_path / "gone")
    away = live.volumes.by_name("backup1")
    await live.until(lambda: not away.readable)
    await live.inbox.replace(kept.inbox_id)
    (tmp_path / "gone").rename(tmp_path / "backup1")
    await live.until(lambda: away.state is VolumeState.ONLINE)
    await live.until(lambda: _no_debts(live))
    await live.until(lambda: _calm(live))
    assert live.objects("data") == {
        name: content
        for name, content in live.objects("backup1").items()
        if not name.startswith("displaced/")
    }
    assert live.on("data", "decisions") == live.on("backup1", "decisions") != {}


# the process dies ----------------------------------------------------------------------------

STEPS = {
    "reject": ["decision-begun", "decision-recorded", "decision-filed"],
    "accept": ["decision-begun", "accept-archived", "decision-recorded"],
    "replace": [
        "decision-begun",
        "swap-named",
        "swap-redirected",
        "swap-placed",
        "swap-recorded",
        "decision-recorded",
        "decision-filed",
    ],
    "elsewhere": ["swap-redirected", "swap-placed", "swap-recorded"],
    "beside": ["decision-begun", "beside-archived", "decision-recorded", "decision-filed"],
    "index": ["decision-begun", "index-archived", "decision-recorded", "decision-filed"],
    "undo-reject": ["undo-begun", "undo-recorded"],
    "undo-accept": ["undo-begun", "undo-kept", "undo-forgotten", "undo-recorded"],
    "undo-replace": [
        "undo-begun",
        "swap-named",
        "swap-redirected",
        "swap-placed",
        "swap-recorded",
        "undo-recorded",
    ],
    "undo-beside": ["undo-begun", "undo-forgotten", "undo-recorded"],
    "undo-index": ["undo-begun", "undo-kept", "undo-forgotten", "undo-recorded"],
    "purge-reject": ["purge-recorded"],
}


@pytest.mark.spec("ST-10")
@pytest.mark.parametrize("what", STEPS)
async def test_a_decision_is_whole_whichever_step_the_process_dies_at(
    tmp_path: Path, what: str
) -> None:
    jobs = [f"{tmp_path / step}:{what}:{step}" for step in STEPS[what]]
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(DRIVER), *jobs, f"{tmp_path / 'whole'}:{what}:", stdout=-1
    )
    said, _ = await process.communicate()
    assert [int(code) for code in said.split()] == [EXIT_CODE] * len(jobs) + [0]
    shape = {"caring": True, "replicating": True} | shape_of(what)
    whole = await opened(tmp_path / "whole", **shape)
    await whole.until(lambda: _calm(whole), 25)
    wanted = await whole.truth()
    await whole.close()
    for step in STEPS[what]:
        box = await opened(tmp_path / step, **(shape | {"caring": False}))
        try:
            await _all_is_read_right(box)
            box.recovery.start()
            box.cases.start()
            await box.until(lambda box=box: _calm(box), 25)
            assert await box.truth() == wanted, step
            assert await box.catalogue.check() == [], step
            await box.until(lambda box=box: _alike(box))
        finally:
            await box.close()


async def _all_is_read_right(box: CaseBox) -> None:
    """Read every archived object as the index says it is, whatever was cut short."""
    async for row in box.catalogue.all_keys():
        stored = await box.catalogue.instance(row.sop_instance_uid)
        data = b"".join([chunk async for chunk in box.retrieval.open(stored).chunks])
        assert hashlib.sha256(data).hexdigest() == row.digest


def _alike(box: CaseBox) -> bool:
    last = box.names[-1]
    return all(box.on("data", each) == box.on(last, each) for each in ("decisions", "inbox"))


async def _calm(box: CaseBox) -> bool:
    if box.recovery.pending or box.inbox.files.behind or not await _nothing_open(box):
        return False
    left = [await box.catalogue.cases.leftovers(name) for name in box.names]
    return not any(left) and await _no_debts(box) and await _staging_is_known(box)


async def _staging_is_known(box: CaseBox) -> bool:
    """Tell whether nothing stands in staging that the next start would take in again."""
    known = {row.staged_as for row in await box.catalogue.staged()}
    return {entry.name for entry in await box.staging.journal()} <= known
