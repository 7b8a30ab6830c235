# SPDX-License-Identifier: Apache-2.0
"""What fails once is tried again, and a copy that cannot be read counts for nothing."""

from pathlib import Path

import pytest
from archivebox import Box, made

from scrigno.archive import replicate
from scrigno.db.errors import DatabaseFull
from scrigno.volumes.states import VolumeState


async def settled(box: Box) -> bool:
    return not await box.catalogue.debt_counts() and await box.staged() == 0


async def test_replication_goes_on_after_the_index_failed_once(
    live_box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = live_box
    paid, failures = box.catalogue.paid, []

    async def fails_once(*names: str) -> bool:
        if not failures:
            failures.append(names)
            raise DatabaseFull("database index.db: the disk is full.")
        return await paid(*names)

    monkeypatch.setattr(replicate, "POLL_S", 0.2)
    monkeypatch.setattr(box.catalogue, "paid", fails_once)
    await box.store(made(1))
    await box.until(lambda: settled(box))
    assert failures
    assert box.on("data") == box.on("backup1")


async def test_replication_goes_on_while_staging_is_full(tmp_path: Path) -> None:
    """A copy from volume to volume goes through memory when staging has no room for it."""
    box = await Box(tmp_path, staging_capacity=4 << 20).open()
    try:
        one = made(1)
        await box.store(one)
        row = await box.catalogue.instance(one.uid)
        await box.staging.release(row.staged_as)
        await box.catalogue.unstaged([one.uid])
        assert box.staging.reserve(4 << 20)  # others fill it
        box.replicator.start()
        await box.until(lambda: settled(box))
        assert box.on("data") == box.on("backup1")
    finally:
        await box.close()


async def test_a_volume_that_left_the_settings_stops_no_replication(tmp_path: Path) -> None:
    box = await Box(tmp_path, names=("data", "backup1")).open()
    try:
        for number in (1, 2):
            await box.store(made(number))
        # backup1 holds the first one as well, and is taken out of the settings
        await box.placement.replicate(
            None, made(1).key, made(1).digest, sources=("data",), target="backup1"
        )
        await box.catalogue.paid(made(1).uid, "backup1")
        for number in (1, 2):
            row = await box.catalogue.instance(made(number).uid)
            await box.staging.release(row.staged_as)
            await box.catalogue.unstaged([made(number).uid])
        box.names, box.replicating = ("data", "usb"), True
        await box.reopened()
        await box.until(lambda: len(box.on("usb")) == 2)
    finally:
        await box.close()


@pytest.mark.spec("ST-2", "ST-3")
async def test_a_copy_on_a_dead_volume_lets_nothing_leave_staging(tmp_path: Path) -> None:
    box = await Box(tmp_path, staging_capacity=1 << 20).open()
    try:
        one = made(1, pixels=800_000)
        await box.store(one)  # on data and in staging, which is over its high-water mark
        (tmp_path / "data").rename(tmp_path / "elsewhere")
        data = box.volumes.by_name("data")
        data.doubt.set()
        await box.until(lambda: data.state is VolumeState.ABSENT)
        await box.replicator.tidy()
        assert await box.staged() == 1
    finally:
        await box.close()


@pytest.mark.spec("ST-2", "ST-3")
async def test_a_dead_volume_does_not_count_when_staging_lets_go(tmp_path: Path) -> None:
    box = await Box(tmp_path).open()
    try:
        one = made(1)
        await box.store(one)
        (tmp_path / "data").rename(tmp_path / "elsewhere")
        data = box.volumes.by_name("data")
        data.doubt.set()
        await box.until(lambda: data.state is VolumeState.ABSENT)
        await box.replicator.pay(box.volumes.by_name("backup1"))
        assert list(box.on("backup1")) == [one.key]
        # backup1 and staging are the two devices now
        assert await box.staged() == 1
    finally:
        await box.close()


async def test_an_entry_that_meets_a_fault_of_ours_stops_nothing(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error nobody thought of, in one entry, neither stops the others nor what comes later."""
    entries = []
    for number in (1, 2):
        await box.store(made(number))
        entries.append(made(number).key)
    await box.catalogue.forget_all()
    judge_sealed = box.taking.judge_sealed

    async def faulty(arrival, sealed, offset):
        if arrival.sop_instance_uid == made(1).uid:
            raise ZeroDivisionError
        return await judge_sealed(arrival, sealed, offset)

    monkeypatch.setattr(box.taking, "judge_sealed", faulty)
    box.recovery.start()
    await box.until(lambda: box.recovery.pending == 1)
    assert (await box.catalogue.instance(made(2).uid)) is not None
    assert await box.staged() == 2
    assert not box.recovery._task.done()


@pytest.mark.spec("ST-3")
async def test_a_volume_that_was_adopted_with_its_images_on_it_serves_them_again(
    tmp_path: Path,
) -> None:
    """The only volume: what it is owed it has, and nobody else could give it."""
    box = await Box(tmp_path, names=("data",)).open()
    try:
        one = made(1)
        await box.store(one)
        row = await box.catalogue.instance(one.uid)
        await box.staging.release(row.staged_as)
        await box.catalogue.unstaged([one.uid])
        await box.replicator.replaced("data")
        assert (await box.catalogue.instance(one.uid)).held_by() == ()
        await box.replicator.pay(box.volumes.by_name("data"))
        assert (await box.catalogue.instance(one.uid)).held_by() == ("data",)
        # and what is damaged there is not believed
        (tmp_path / "data" / one.key).write_bytes(b"rotten")
        await box.replicator.replaced("data")
        await box.replicator.pay(box.volumes.by_name("data"))
        assert (await box.catalogue.instance(one.uid)).held_by() == ()
        assert box.on("data")[one.key] == b"rotten"
    finally:
        await box.close()
