# SPDX-License-Identifier: Apache-2.0
"""The process dies at every step; what was acknowledged is there afterwards, once and whole."""

import asyncio
import hashlib
import random
import shutil
import sys
from pathlib import Path

import pytest
from archivebox import Box, Made, made
from crashdriver import cases

from scrigno.archive.failpoints import EXIT_CODE
from scrigno.archive.ingest import StoreOutcome
from scrigno.volumes.states import VolumeState

DRIVER = Path(__file__).with_name("crashdriver.py")


async def run_until_killed(root: Path, ledger: Path, kill_after: int) -> None:
    """Store under load; `kill_after` so many further acknowledgements comes SIGKILL."""
    before = _lines(ledger)
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(DRIVER), str(root), str(ledger), "many"
    )
    while process.returncode is None:
        if _lines(ledger) >= before + kill_after:
            process.kill()
            break
        await asyncio.sleep(0.001)
    await process.wait()


async def run_with_failpoints(what: str, jobs: list[str]) -> list[int]:
    """Let the driver do jobs in children; returns their exit codes."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(DRIVER), what, *jobs, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()
    return [int(code) for code in said.split()]


def _lines(ledger: Path) -> int:
    return len(ledger.read_text().split()) if ledger.exists() else 0


async def everything_is_well(box: Box, sent: list[Made], acknowledged: set[str]) -> None:
    """Compare index, volumes and staging with what was sent and what was acknowledged."""
    by_digest = {one.digest: one for one in sent}
    found: dict[str, int] = {}
    async for row in box.catalogue.all_keys():
        found[row.digest] = found.get(row.digest, 0) + 1
    for item in await box.inbox.items(limit=1000):
        found[item.item.digest] = found.get(item.item.digest, 0) + 1
    assert acknowledged <= set(found), "an acknowledged object is lost"
    assert all(count == 1 for count in found.values()), "an object is there twice"
    assert set(found) <= set(by_digest)
    for name in box.names:
        for key, content in box.on(name).items():
            if key.endswith(".dcm"):
                assert hashlib.sha256(content).hexdigest() in by_digest, f"{key} is not whole"
    known = {row.staged_as for row in await box.catalogue.staged()}
    assert {entry.name for entry in await box.staging.journal()} == known
    assert box.recovery.pending == 0


STEPS = {
    "plain": ["sealed", "placed", "recorded", "released"],
    "held": ["aside-placed", "aside-described", "aside-recorded"],
    "conflict": ["aside-placed", "aside-recorded"],
    "moved": ["aside-placed", "aside-recorded", "moved-aside"],
}


@pytest.mark.spec("ST-2", "ST-10")
@pytest.mark.parametrize("what", STEPS)
async def test_no_acknowledged_image_is_lost_whichever_step_the_process_dies_at(
    tmp_path: Path, what: str
) -> None:
    jobs = []
    for failpoint in STEPS[what]:
        (tmp_path / failpoint).mkdir()
        jobs.append(f"{tmp_path / failpoint / 'box'}:{tmp_path / failpoint / 'ledger'}:{failpoint}")
    assert await run_with_failpoints(what, jobs) == [EXIT_CODE] * len(jobs)
    for failpoint in STEPS[what]:
        root, ledger = tmp_path / failpoint / "box", tmp_path / failpoint / "ledger"
        acknowledged = set(ledger.read_text().split())
        shutil.copytree(root, tmp_path / failpoint / "other")  # with its extended attributes
        await _replay_alone(root, what, acknowledged)
        await _replay_beside_the_sender(tmp_path / failpoint / "other", what, acknowledged)


async def _replay_alone(root: Path, what: str, acknowledged: set[str]) -> None:
    box = await Box(root).open()
    try:
        box.recovery.start()
        await asyncio.sleep(0.1)
        await box.until(lambda: box.recovery.pending == 0)
        await everything_is_well(box, [one for one, _ in cases(what)], acknowledged)
        if what == "held":
            assert await box.inbox.counts() == {"unapproved-node": 1}
            assert (await box.catalogue.totals()).instances == 0
            (item,) = await box.inbox.items()
            assert item.item.origin.calling_ae == "CT1"
    finally:
        await box.close()


async def _replay_beside_the_sender(root: Path, what: str, acknowledged: set[str]) -> None:
    box = await Box(root).open()
    try:
        box.recovery.start()
        sent = cases(what)
        for one, more in sent:
            await box.store(one, **more)
        await asyncio.sleep(0.1)
        await box.until(lambda: box.recovery.pending == 0)
        everything = acknowledged | {one.digest for one, _ in sent}
        await everything_is_well(box, [one for one, _ in sent], everything)
        if what == "moved":
            assert list(box.on("data", "studies/1.2.826.0.1.2/")) == []
    finally:
        await box.close()


@pytest.mark.spec("ST-2")
async def test_killed_under_load_again_and_again_nothing_acknowledged_is_lost(
    tmp_path: Path,
) -> None:
    ledger, root = tmp_path / "ledger", tmp_path / "box"
    chance = random.Random(7)
    for _ in range(3):
        await run_until_killed(root, ledger, chance.randint(1, 40))
    box = await Box(root, replicating=True).open()
    try:
        box.recovery.start()
        await asyncio.sleep(0.1)
        await box.until(lambda: box.recovery.pending == 0)
        acknowledged = set(ledger.read_text().split())
        assert acknowledged
        await box.until(lambda: _no_debts(box), timeout_s=30)
        await box.until(lambda: _nothing_staged(box), timeout_s=30)
        await everything_is_well(box, [one for one, _ in cases("many")], acknowledged)
        # An object may have reached a volume and nothing else when the process died: it was never
        # acknowledged, is whole, and reconciliation takes it in.
        report = await box.reconciler.reconcile(fix=True)
        assert {one.kind for one in report.discrepancies} <= {"orphan", "unknown"}
        assert report.fixed == report.found <= 3 * 4 * 2
        await box.reconciler.reconcile(fix=True)  # now the other volume owes its copy
        await box.until(lambda: _no_debts(box), timeout_s=30)
        assert box.on("data", "studies") == box.on("backup1", "studies")
    finally:
        await box.close()


async def _no_debts(box: Box) -> bool:
    return not await box.catalogue.debt_counts()


async def _nothing_staged(box: Box) -> bool:
    return await box.staged() == 0


async def test_the_journal_is_replayed_into_an_empty_index(box: Box) -> None:
    """As after the loss of the index: what stands in staging comes back with its origin."""
    one = made()
    await box.store(one)
    await box.catalogue.forget_all()
    box.recovery.start()
    await box.until(lambda: _stored(box, one))
    row = await box.catalogue.instance(one.uid)
    assert row.held_by() == ("data",)
    assert row.staged_as == (await box.staging.journal())[0].name


async def _stored(box: Box, one: Made) -> bool:
    return await box.catalogue.instance(one.uid) is not None


async def test_an_entry_whose_bytes_changed_stays_and_is_told(
    box: Box, caplog: pytest.LogCaptureFixture
) -> None:
    await box.store(made())
    (entry,) = await box.staging.journal()
    content = bytearray(entry.path.read_bytes())
    content[-1] ^= 0xFF
    with entry.path.open("r+b") as file:
        file.write(content)
    await box.catalogue.forget_all()
    box.recovery.start()
    await box.until(lambda: box.counters.value("recovery_stuck_objects") == 1)
    assert box.recovery.pending == 1
    assert await box.staged() == 1
    assert (await box.catalogue.totals()).instances == 0
    assert "stays" in caplog.text


async def test_an_entry_that_is_no_dicom_file_stays_and_stops_nothing(box: Box) -> None:
    folder = (box.root / "staging").glob("*")
    journal = next(path for path in folder if path.is_dir())
    (journal / "00000000000000000001-aaaaaaaa").write_bytes(b"left by somebody")
    await box.store(made())
    await box.catalogue.forget_all()
    box.recovery.start()
    await box.until(lambda: _stored(box, made()))
    await box.until(lambda: box.recovery.pending == 1)
    assert await box.staged() == 2


async def test_without_a_volume_entries_wait_and_are_taken_in_when_one_is_back(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    await box.store(made())
    await box.catalogue.forget_all()
    with monkeypatch.context() as patch:
        patch.setattr(box.volumes, "healthy", list)
        box.recovery.start()
        await asyncio.sleep(0.5)
        assert box.recovery.pending == 1
        assert await box.staged() == 1
    await box.until(lambda: box.recovery.pending == 0)
    assert (await box.catalogue.instance(made().uid)).held_by() == ("data",)


async def test_a_replayed_conflict_is_judged_anew(box: Box) -> None:
    one, other = made(), made(PatientName="Other^Name")
    await box.store(one)
    await box.store(other)
    await box.catalogue.forget_all()
    box.recovery.start()
    await box.until(lambda: box.recovery.pending == 0 and _stored(box, one))
    await box.until(lambda: _one_conflict(box))
    assert (await box.catalogue.instance(one.uid)).digest == one.digest


async def _one_conflict(box: Box) -> bool:
    return await box.inbox.counts() == {"conflict": 1}


@pytest.mark.timing
async def test_replay_does_not_hold_up_the_start(tmp_path: Path) -> None:
    box = await Box(tmp_path).open()
    for number in range(1, 60):
        await box.store(made(number))
    await box.close()
    (tmp_path / "state" / "index.db").unlink()
    box = await Box(tmp_path).open()
    try:
        started = box.clock.monotonic()
        box.recovery.start()
        assert (await box.store(made(1000))).outcome is StoreOutcome.NEW
        assert box.clock.monotonic() - started < 2
        await box.until(lambda: _instances(box, 60))
        assert all(volume.state is VolumeState.ONLINE for volume in box.volumes.ordered)
    finally:
        await box.close()


async def _instances(box: Box, number: int) -> bool:
    return (await box.catalogue.totals()).instances == number
