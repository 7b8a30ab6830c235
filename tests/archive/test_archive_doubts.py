# SPDX-License-Identifier: Apache-2.0
"""Doubtful moments of copies: unreadable files in the way, disks whose last writes are unsure,
entries of staging that are gone. Nothing acknowledged may hang, or be let go, on account of them.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from archivebox import Box, made

from scrigno.archive.receipts import IngestRules, StoreOutcome
from scrigno.archive.standing import held_by
from scrigno.catalogue.records import CopyState
from scrigno.db.errors import DatabaseUnavailable
from scrigno.volumes.states import ErrorKind, VolumeError, VolumeState


@pytest.fixture
async def filling_box(tmp_path: Path) -> AsyncIterator[Box]:
    """An archive whose staging is nearly full with a few objects."""
    one = await Box(tmp_path, replicating=True, staging_capacity=100_000).open()
    try:
        yield one
    finally:
        await one.close()


def cannot_be_read(path: Path) -> None:
    """Put something there that answers an error to whoever reads it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to("nowhere")


async def pull(box: Box, name: str) -> None:
    """Take a disk out."""
    volume = box.volumes.by_name(name)
    (box.root / name).rename(box.root / f"{name}-pulled")

    def away() -> bool:
        volume.doubt.set()
        return volume.state is VolumeState.ABSENT

    await box.until(away, 20)


def push(box: Box, name: str) -> None:
    """Put it in again."""
    (box.root / f"{name}-pulled").rename(box.root / name)


async def back(box: Box, name: str) -> None:
    await box.until(lambda: box.volumes.by_name(name).state is VolumeState.ONLINE, 30)


@pytest.mark.spec("ST-2", "ST-6")
async def test_what_cannot_be_read_makes_room_for_the_copy_that_is_owed(box: Box) -> None:
    first, second = made(1), made(2)
    await box.store(first)
    await box.store(second)
    cannot_be_read(box.root / "backup1" / first.key)
    box.replicator.start()
    await box.until(lambda: (box.root / "backup1" / second.key).is_file())
    await box.until(lambda: (box.root / "backup1" / first.key).is_file())
    assert (box.root / "backup1" / first.key).read_bytes() == first.file
    aside = [path for path in (box.root / "backup1/displaced").iterdir() if path.is_symlink()]
    assert len(aside) == 1
    await back(box, "backup1")


@pytest.mark.spec("ST-2")
async def test_a_debt_without_a_source_holds_no_other_up(box: Box) -> None:
    """Its only copy is gone, and what stands in its place on the other volume is unreadable."""
    lost, second = made(1), made(2)
    await box.store(lost)
    (box.root / "data" / lost.key).unlink()
    for entry in await box.staging.journal():
        await box.staging.release(entry.name)
    await box.catalogue.copy_missing(lost.uid, "data")
    cannot_be_read(box.root / "backup1" / lost.key)
    await box.store(second)
    box.replicator.start()
    await box.until(lambda: (box.root / "backup1" / second.key).is_file())
    assert (box.root / "backup1" / lost.key).is_symlink()


@pytest.mark.spec("ST-2", "ST-3")
async def test_staging_lets_nothing_go_for_a_copy_that_may_not_have_survived(
    filling_box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last writes of a disk that fell are unsure until they are read back."""
    box = filling_box
    await pull(box, "backup1")
    objects = [made(number, pixels=8000) for number in range(1, 8)]
    for one in objects:
        await box.store(one)
    await pull(box, "data")
    for one in objects:  # the fsyncs had lied
        path = box.root / "data-pulled" / one.key
        path.chmod(0o600)
        path.write_bytes(bytes(len(one.file)))
    hurry = box.replicator.tidy
    checked = box.replicator._catch_up.verify

    async def verify(*args: object) -> None:
        """Staging fills up just before the copies are read back."""
        monkeypatch.setattr("scrigno.archive.replicate.STAGING_HIGH", 0.1)
        monkeypatch.setattr("scrigno.archive.replicate.STAGING_LOW", 0.05)
        await hurry()
        await checked(*args)

    monkeypatch.setattr(box.replicator._catch_up, "verify", verify)
    push(box, "data")
    await back(box, "data")
    push(box, "backup1")
    await back(box, "backup1")
    await box.until(lambda: box.on("backup1", "studies"))

    async def paid() -> bool:
        return not await box.catalogue.debt_counts()

    await box.until(paid, 20)
    for one in objects:
        assert (box.root / "data" / one.key).read_bytes() == one.file
        assert (box.root / "backup1" / one.key).read_bytes() == one.file


@pytest.mark.spec("ST-3", "ST-6")
async def test_the_only_copy_is_not_taken_from_its_place_because_it_reads_badly(
    live_box: Box,
) -> None:
    box = live_box
    await pull(box, "backup1")
    one = made(1, pixels=5000)
    await box.store(one)
    for entry in await box.staging.journal():
        await box.staging.release(entry.name)
    await box.catalogue.unstaged([one.uid])
    await pull(box, "data")
    good = (box.root / "data-pulled" / one.key).read_bytes()
    cannot_be_read(box.root / "data-pulled" / one.key)
    push(box, "data")
    await back(box, "data")
    stored = await box.catalogue.stored_key(one.uid)
    assert stored is not None
    assert held_by(stored) == ("data",)
    path = box.root / "data" / one.key
    assert path.is_symlink()
    path.unlink()  # the sector can be read again
    path.write_bytes(good)
    found = await box.catalogue.instance(one.uid)
    assert found is not None
    assert await box.retrieval.read(found, limit_bytes=1 << 20) == one.file


@pytest.mark.spec("ST-1", "ST-3")
async def test_an_object_sent_again_to_a_new_staging_disk_stands_on_two_devices(
    box: Box,
) -> None:
    one = made(1)
    await box.store(one)
    for entry in await box.staging.journal():  # the staging disk was replaced
        await box.staging.release(entry.name)
    box.recovery.start()
    await box.until(lambda: box.recovery.listed)
    receipt = await box.store(one)
    assert not receipt.degraded
    row = await box.catalogue.instance(one.uid)
    assert row is not None
    held = [copy for copy in row.copies if copy.state is CopyState.HELD]
    assert len(held) + await box.staged() >= 2


@pytest.mark.spec("ST-1", "ST-3")
async def test_an_object_sent_again_stays_in_staging_while_its_other_copy_is_in_doubt(
    live_box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = live_box
    one = made(1)
    await box.store(one)

    async def let_go() -> bool:
        return await box.staged() == 0

    await box.until(let_go)
    reading, read = asyncio.Event(), asyncio.Event()
    verify = box.replicator._catch_up.verify

    async def slowly(*args: object) -> None:
        reading.set()
        await read.wait()
        await verify(*args)

    monkeypatch.setattr(box.replicator._catch_up, "verify", slowly)
    await pull(box, "data")
    push(box, "data")
    await reading.wait()
    await box.store(one)
    assert await box.staged() == 1
    read.set()
    await box.until(let_go)


@pytest.mark.spec("DB-3", "ST-8")
async def test_a_file_that_cannot_be_read_keeps_no_other_out_of_the_index(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a file of no row, nor one whose row has another size, nor one of the inbox."""
    objects = [made(number) for number in range(1, 6)]
    for one in objects:
        await box.store(one)
    await box.catalogue.forget_all()
    await box.store(made(6))
    cannot_be_read(box.root / "data" / objects[0].key)
    cannot_be_read(box.root / "data" / made(6).key)
    cannot_be_read(box.root / "data/inbox" / f"{'0' * 64}.dcm")
    data = box.volumes.by_name("data")
    digest = data.digest

    async def with_a_bad_sector(key: str) -> tuple[str, int]:
        if key == objects[1].key:
            raise VolumeError("data", ErrorKind.IO, "Input/output error (EIO)")
        return await digest(key)

    monkeypatch.setattr(data, "digest", with_a_bad_sector)
    report = await box.reconciler.reconcile(fix=True)
    assert report.skipped == []
    assert (await box.catalogue.totals()).instances == 4
    assert [one.key for one in report.discrepancies if not one.fixed] == [objects[1].key]
    assert (await box.catalogue.owed_to("data"))[0] == 1
    assert await box.rebuilder.take_in_kept(data) == 0


@pytest.mark.spec("ST-6", "ST-1")
async def test_an_object_that_is_sent_again_takes_the_place_of_its_damaged_copy(box: Box) -> None:
    """It is no rival of what the disk made of it."""
    one = made(1, pixels=5000)
    await box.store(one)
    path = box.root / "data" / one.key
    path.chmod(0o600)
    path.write_bytes(bytes(len(one.file)))  # the digest of reception is still beside it
    receipt = await box.store(one)
    assert receipt.outcome is StoreOutcome.SAME
    assert path.read_bytes() == one.file
    assert box.set_aside("data") == [bytes(len(one.file))]
    assert await box.inbox.counts() == {}
    row = await box.catalogue.instance(one.uid)
    assert row is not None
    assert row.held_by() == ("data",)


@pytest.mark.spec("ST-6", "ST-1")
async def test_after_a_power_cut_the_journal_wins_over_a_copy_that_did_not_survive(
    box: Box,
) -> None:
    one = made(1, pixels=5000)
    await box.store(one)
    path = box.root / "data" / one.key
    path.chmod(0o600)
    path.write_bytes(bytes(len(one.file)))
    await box.catalogue.forget_all()  # and its row was not yet synced
    box.recovery.start()
    await box.until(lambda: box.recovery.listed and not box.recovery.pending)
    assert path.read_bytes() == one.file
    row = await box.catalogue.instance(one.uid)
    assert row is not None
    assert await box.retrieval.read(row, limit_bytes=1 << 20) == one.file


@pytest.mark.spec("ST-5")
async def test_an_entry_that_the_index_kept_in_staging_is_let_go_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = IngestRules(max_object_bytes=64 << 20, ack_copies=1)
    box = await Box(tmp_path, rules=rules, names=("data",)).open()
    try:
        box.recovery.start()
        await box.until(lambda: box.recovery.listed)
        sync, failures = box.catalogue.sync, [1]

        async def failing_once() -> None:
            if failures:
                failures.pop()
                raise DatabaseUnavailable("The system disk does not answer.")
            await sync()

        monkeypatch.setattr(box.catalogue, "sync", failing_once)
        await box.store(made(1))
        assert await box.staged() == 1

        async def let_go() -> bool:
            return await box.staged() == 0

        await box.until(let_go)
        assert box.on("data", "studies") == {made(1).key: made(1).file}
    finally:
        await box.close()


@pytest.mark.spec("ST-1", "ST-5")
async def test_a_full_staging_lets_go_only_of_what_was_read_back(filling_box: Box) -> None:
    """With one copy left besides, that one must be there in truth."""
    box = filling_box
    await pull(box, "backup1")
    objects = [made(number, pixels=8000) for number in range(1, 8)]
    for one in objects:
        await box.store(one)
    for one in objects[:3]:  # nobody has noticed
        path = box.root / "data" / one.key
        path.chmod(0o600)
        path.write_bytes(bytes(len(one.file)))
    for number in range(20, 24):
        await box.store(made(number, pixels=8000))
    box.replicator._sweep.set()

    async def let_go() -> bool:
        return box.counters.value("staging_released_objects") >= 3

    await box.until(let_go)
    rows = [await box.catalogue.instance(one.uid) for one in objects[:4]]
    assert [row is not None and row.staged_as is not None for row in rows] == [
        *(True, True, True),
        False,
    ]
