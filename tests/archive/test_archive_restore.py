# SPDX-License-Identifier: Apache-2.0
"""The index is damaged, deleted or put back by an operator: afterwards every object is known."""

import asyncio
import hashlib
import json
import shutil
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from archivebox import Box, Made, made

from loopfs import loop_filesystem
from scrigno.archive.backups import BackupRules, IndexBackup, superfluous
from scrigno.archive.index_state import IndexState
from scrigno.catalogue.schema import INDEX_SCHEMA
from scrigno.core.errors import CommandError, ScrignoError
from scrigno.db import file as database_file
from scrigno.db.errors import DatabaseDamaged, DatabaseError, DatabaseUnavailable
from scrigno.db.writer import Writer

# backups ---------------------------------------------------------------------------------------


def backup_at(hours: float, *, verified: bool = True) -> IndexBackup:
    """Return a backup made so many hours before the first of March."""
    at = datetime(2026, 3, 1, 12, tzinfo=UTC) - timedelta(hours=hours)
    return IndexBackup(
        "data", f"index-backups/{at:%Y%m%dT%H%M%SZ}.db", at, 5, at if verified else None
    )


@pytest.mark.spec("DB-3")
def test_the_newest_backups_and_one_a_day_and_one_a_week_are_kept() -> None:
    all_of_them = [backup_at(6 * number) for number in range(4 * 60)]
    gone = superfluous(all_of_them, BackupRules(last=8, daily=7, weekly=4))
    kept = [one for one in all_of_them if one not in gone]
    ages = [(all_of_them[0].made_at - one.made_at) / timedelta(hours=1) for one in kept]
    assert ages[:8] == [0, 6, 12, 18, 24, 30, 36, 42]
    assert len({one.made_at.date() for one in kept}) >= 7
    assert len({one.made_at.isocalendar()[:2] for one in kept}) == 4
    assert len(kept) <= 8 + 7 + 4
    assert superfluous(kept, BackupRules(last=8, daily=7, weekly=4)) == []
    # as time goes on a weekly one is there to be kept
    later = [backup_at(-24 * 30), *kept]
    assert len(superfluous(later, BackupRules(last=1, daily=0, weekly=4))) > 0


@pytest.mark.spec("DB-3")
def test_the_last_backup_that_was_verified_is_never_pruned() -> None:
    old = backup_at(1000)
    unsure = [backup_at(hours, verified=False) for hours in range(5)]
    assert old not in superfluous([*unsure, old], BackupRules(last=2, daily=0, weekly=0))


@pytest.mark.spec("DB-3")
async def test_a_backup_is_read_back_and_says_what_is_in_it(box: Box) -> None:
    await box.backups.make()
    listed = await box.backups.listed()
    assert {one.volume for one in listed} == {"data", "backup1"}
    for one in listed:
        assert one.verified_at is not None
        assert (one.instances, one.schema_version) == (0, INDEX_SCHEMA.version)
        assert one.size > 0
    again = await box.backups.named("data", listed[0].name)
    assert again.key == listed[0].key
    (note,) = (box.root / "data" / "index-backups").glob("*.json")
    for text in ("{", "[]", "{}", '{"size": "x"}', json.dumps({"size": 3})):
        note.write_text(text)
        box.backups._notes.clear()
        (one,) = [each for each in await box.backups.listed() if each.volume == "data"]
        assert one.verified_at is None


# the way back ----------------------------------------------------------------------------------


@pytest.fixture
async def kept_box(tmp_path: Path) -> AsyncIterator[Box]:
    """A box whose index is looked after."""
    one = await Box(tmp_path, keeping=True).open()
    try:
        yield one
    finally:
        await one.close()


async def store_some(box: Box, first: int, last: int) -> list[Made]:
    objects = [made(number, study=1 + number % 3) for number in range(first, last)]
    for one in objects:
        await box.store(one)
    return objects


async def counts(box: Box) -> tuple[int, int, int, int, int, dict[str, tuple[int, int]]]:
    totals = await box.catalogue.totals()
    tallies = await box.catalogue.volume_tallies()
    return (
        totals.patients,
        totals.studies,
        totals.series,
        totals.instances,
        totals.size_bytes,
        {
            name: (tally.held + tally.owed + tally.missing, tally.held)
            for name, tally in tallies.items()
        },
    )


async def is_back(box: Box) -> bool:
    return (
        box.keeper.facts.state is IndexState.OPEN
        and not box.keeper.facts.pending_volumes
        and box.recovery.pending == 0
    )


def set_aside(box: Box) -> list[str]:
    found = (path.name for path in (box.root / "state").glob("index.db.aside-*"))
    return sorted(name for name in found if not name.endswith("-wal"))


def spoil(path: Path) -> None:
    """Overwrite pages in the middle of a database file."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        for place in range(8192, size, 3 * 4096):
            file.seek(place)
            file.write(b"\xa5" * 2048)


async def settled(box: Box) -> None:
    """Pay every debt and let staging go of what may go."""
    for volume in box.volumes.ordered:
        await box.replicator.pay(volume)
    await box.replicator.tidy()


@pytest.mark.spec("DB-3")
@pytest.mark.parametrize("damage", ["deleted", "all-deleted", "spoiled", "garbage", "empty"])
@pytest.mark.parametrize("backup", [True, False], ids=["backup", "no-backup"])
async def test_an_index_that_is_damaged_or_gone_at_the_start_comes_back_with_every_object(
    tmp_path: Path, damage: str, backup: bool
) -> None:
    box = await Box(tmp_path, keeping=True).open()
    await store_some(box, 1, 20)
    if backup:
        await box.backups.make()
    await store_some(box, 20, 30)
    await box.store(made(50), hold="unapproved-node")
    await settled(box)
    await store_some(box, 30, 33)  # stand in the journal too
    before = await counts(box)
    await box.close()
    path = tmp_path / "state" / "index.db"
    match damage:
        case "deleted":
            path.unlink()
        case "all-deleted":  # also what says that there was an index: the volumes say it too
            for each in path.parent.glob("index.db*"):
                each.unlink()
        case "spoiled":
            spoil(path)
        case "garbage":
            path.write_bytes(b"\x00no database\xff" * 5000)
        case "empty":
            path.write_bytes(b"x")
    box = await Box(tmp_path, keeping=True).open()
    try:
        await box.until(lambda: is_back(box), 20)
        await settled(box)
        after = await counts(box)
        assert after[:5] == before[:5]
        assert {name: pair[0] for name, pair in after[5].items()} == {
            name: pair[0] for name, pair in before[5].items()
        }
        assert await box.inbox.counts() == {"unapproved-node": 1}
        assert await box.catalogue.check() == []
        facts = box.keeper.facts
        assert bool(facts.restored_from) is backup
        gone = damage in ("deleted", "all-deleted")
        assert set_aside(box) == ([] if gone else list(facts.set_aside))
        assert len(set_aside(box)) == (0 if gone else 1)
        assert not (tmp_path / "state" / "index.db.replay").exists()
        assert (await box.reconciler.reconcile()).found == 0
        assert (await box.verifier.verify()).copies_bad == 0
    finally:
        await box.close()


@pytest.mark.spec("DB-3")
async def test_a_new_box_opens_an_empty_index_at_once(kept_box: Box) -> None:
    assert kept_box.keeper.facts.state is IndexState.OPEN
    assert (await kept_box.catalogue.totals()).instances == 0
    assert kept_box.counters.value("index_replacements") == 0


@pytest.mark.spec("DB-3")
async def test_an_index_that_is_damaged_while_in_use_is_restored_and_the_box_goes_on(
    kept_box: Box,
) -> None:
    box = kept_box
    await store_some(box, 1, 60)
    await settled(box)
    await box.backups.make()
    await store_some(box, 60, 70)
    before = await counts(box)
    await box.catalogue.close()
    await box.catalogue.open()  # everything is in the file and nothing in a cache
    box.keeper._inodes = await asyncio.to_thread(box.keeper._file_inodes)
    spoil(box.root / "state" / "index.db")
    with pytest.raises(DatabaseError):
        async for _ in box.catalogue.all_keys():
            pass
    await box.until(lambda: box.counters.value("index_replacements") == 1, 20)
    await box.until(lambda: is_back(box), 20)
    assert (await counts(box))[:5] == before[:5]
    assert len(set_aside(box)) == 1
    await store_some(box, 70, 75)
    assert (await box.catalogue.totals()).instances == 74


@pytest.mark.spec("DB-3")
async def test_an_index_that_is_deleted_while_in_use_loses_no_row(kept_box: Box) -> None:
    box = kept_box
    await store_some(box, 1, 30)
    before = await counts(box)
    for path in (box.root / "state").glob("index.db*"):
        if not path.name.endswith((".made",)):
            path.unlink()
    await box.until(lambda: box.counters.value("index_rescues") == 1)
    await box.until(lambda: is_back(box), 20)
    assert await counts(box) == before  # origins and times too: nothing was read from files
    row = await box.catalogue.instance(made(2, study=3).uid)
    assert row is not None
    await box.close()
    await box.open()
    assert await counts(box) == before


@pytest.mark.spec("DB-3")
async def test_an_index_is_not_thrown_away_while_the_disk_fails(
    kept_box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = kept_box
    await store_some(box, 1, 5)
    await box.backups.make()

    def fails(folder: Path) -> None:
        raise DatabaseUnavailable("The system disk does not do what it is asked (EIO).")

    with monkeypatch.context() as patch:
        patch.setattr(database_file, "canary", fails)
        box.keeper._heard(DatabaseDamaged("malformed, says a disk that reads badly"))
        await box.until(lambda: box.keeper.facts.state is IndexState.WAITING)
        await asyncio.sleep(0.3)
        assert "does not do" in box.keeper.facts.reason
        assert box.counters.value("index_replacements") == 0
    await box.until(lambda: is_back(box))
    assert box.counters.value("index_replacements") == 0
    assert box.counters.value("index_false_alarms") == 1
    assert (await box.catalogue.totals()).instances == 4
    assert set_aside(box) == []


@pytest.mark.spec("DB-3")
async def test_a_log_that_cannot_be_synced_is_opened_anew_and_the_journal_played_again(
    kept_box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = kept_box
    await store_some(box, 1, 5)

    def fails(self: Writer) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(Writer, "_sync_log", fails)
        await box.store(made(6))
        with pytest.raises(DatabaseError):
            await box.catalogue.sync()
    await box.until(lambda: box.counters.value("index_reopenings") >= 1)
    await box.until(lambda: is_back(box), 20)
    await box.store(made(7))
    await box.catalogue.sync()
    await box.until(lambda: is_back(box), 20)
    assert (await box.catalogue.totals()).instances == 6
    assert set_aside(box) == []


@asynccontextmanager
async def locked(path: Path) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Another process has the index; yields how it lets go."""
    program = (
        "import sys, fcntl, time\n"
        "file = open(sys.argv[1], 'r+b')\n"
        "fcntl.lockf(file, fcntl.LOCK_EX, 0, 0)\n"
        "print('locked', flush=True)\n"
        "sys.stdin.read()\n"
    )
    other = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", program, str(path)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )

    async def let_go() -> None:
        other.stdin.close()
        await other.wait()

    assert other.stdin is not None
    assert other.stdout is not None
    await other.stdout.readline()
    monkey = pytest.MonkeyPatch()
    monkey.setattr("scrigno.db.sqlite.BUSY_TIMEOUT_MS", 100)
    try:
        yield let_go
    finally:
        monkey.undo()
        await let_go()


@pytest.mark.spec("DB-3")
async def test_an_index_that_another_process_has_is_opened_when_it_lets_go(tmp_path: Path) -> None:
    box = await Box(tmp_path, keeping=True).open()
    await store_some(box, 1, 5)
    await box.close()
    async with locked(tmp_path / "state" / "index.db") as let_go:
        box = await Box(tmp_path, keeping=True).open()
        try:
            assert box.keeper.facts.state is IndexState.WAITING
            with pytest.raises(DatabaseError):
                await box.catalogue.totals()
            await let_go()
            await box.until(lambda: is_back(box))
            assert (await box.catalogue.totals()).instances == 4
            assert set_aside(box) == []
        finally:
            await box.close()


@pytest.mark.spec("DB-3", "ST-1")
async def test_the_journal_of_the_last_run_is_taken_in_as_soon_as_a_late_index_is_open(
    tmp_path: Path,
) -> None:
    box = await Box(tmp_path, keeping=True).open()
    await store_some(box, 1, 5)
    await box.close()
    async with locked(tmp_path / "state" / "index.db") as let_go:
        box = await Box(tmp_path, keeping=True).open()
        receipt = await box.store(made(7))
        assert receipt.pending
        await box.close()  # it stands in the journal and has no row
        box = await Box(tmp_path, keeping=True, recovery_retry_s=600).open()
        try:
            await asyncio.sleep(0.3)  # the journal cannot be compared with a closed index
            await let_go()

            async def known() -> bool:
                return box.catalogue.engine.is_open and await box.catalogue.instance(made(7).uid)

            await box.until(known, 20)
        finally:
            await box.close()


@pytest.mark.spec("DB-3")
async def test_an_operator_restores_a_backup_on_the_running_box_and_no_object_is_missing(
    kept_box: Box,
) -> None:
    box = kept_box
    await store_some(box, 1, 10)
    await settled(box)
    (first, _) = await box.backups.make()
    await store_some(box, 10, 20)
    await settled(box)
    await store_some(box, 20, 25)  # stand in the journal too
    before = await counts(box)
    arriving = asyncio.create_task(store_some(box, 100, 120))
    report = await box.keeper.restore("data", first.name)
    outcome = await asyncio.gather(arriving, return_exceptions=True)
    assert report.set_aside in set_aside(box)
    assert report.skipped == ()
    assert report.taken_in >= 15
    await box.until(lambda: is_back(box))
    if isinstance(outcome[0], BaseException):  # refused while the index was exchanged
        assert isinstance(outcome[0], ScrignoError)
        await store_some(box, 100, 120)
    assert (await box.catalogue.totals()).instances == before[3] + 20
    await settled(box)
    assert await box.staged() == 0  # its rows know again what stands in the journal
    assert await box.catalogue.check() == []
    with pytest.raises(CommandError):
        await box.keeper.restore("data", "nothing.db")


@pytest.mark.spec("DB-3")
async def test_a_damaged_backup_is_passed_over_for_the_next_one(tmp_path: Path) -> None:
    box = await Box(tmp_path, keeping=True).open()
    await store_some(box, 1, 10)
    made_now = await box.backups.make()
    with (tmp_path / made_now[0].volume / made_now[0].key).open("r+b") as file:
        file.seek(5000)
        file.write(b"\xff" * 300)
    before = await counts(box)
    await box.close()
    (tmp_path / "state" / "index.db").unlink()
    box = await Box(tmp_path, keeping=True).open()
    try:
        await box.until(lambda: is_back(box), 20)
        assert box.keeper.facts.restored_from.endswith("of volume backup1")
        assert (await counts(box))[:5] == before[:5]
    finally:
        await box.close()


@pytest.mark.spec("DB-3")
async def test_a_backup_that_is_no_sound_index_changes_nothing(kept_box: Box) -> None:
    box = kept_box
    await store_some(box, 1, 5)
    content = b"SQLite format 3\0" + bytes(5000)
    name = f"20990101T000000Z-{hashlib.sha256(content).hexdigest()[:32]}.db"
    folder = box.root / "data" / "index-backups"
    folder.mkdir()
    (folder / name).write_bytes(content)
    with pytest.raises(CommandError, match="cannot be used"):
        await box.keeper.restore("data", name)
    assert box.keeper.facts.state is IndexState.OPEN
    assert (await box.catalogue.totals()).instances == 4
    assert set_aside(box) == []


@pytest.mark.spec("DB-3")
async def test_a_volume_that_was_away_is_compared_when_it_is_back(tmp_path: Path) -> None:
    box = await Box(tmp_path, keeping=True).open()
    await store_some(box, 1, 5)
    await settled(box)
    await box.backups.make()
    box.change(ack_copies=1)
    await store_some(box, 5, 9)
    before = await counts(box)
    await box.close()
    (tmp_path / "state" / "index.db").unlink()
    data = tmp_path / "data"
    data.rename(tmp_path / "unplugged")
    shutil.rmtree(tmp_path / "staging")  # the journal went with the system disk
    box = await Box(tmp_path, keeping=True, names=("data", "backup1")).open()
    try:
        await box.until(lambda: box.keeper.facts.pending_volumes == ("data",), 20)
        assert box.keeper.facts.state is IndexState.OPEN
        assert "data" in box.keeper.facts.reason
        shutil.rmtree(data)
        (tmp_path / "unplugged").rename(data)
        await box.until(lambda: is_back(box), 30)
        assert (await counts(box))[:5] == before[:5]
    finally:
        await box.close()


@pytest.mark.spec("DB-3")
async def test_a_check_of_the_open_index_finds_what_no_query_met(kept_box: Box) -> None:
    box = kept_box
    await store_some(box, 1, 60)
    await settled(box)
    await box.backups.make()
    box.keeper._check_at_s = 0
    await box.until(lambda: box.keeper.facts.checked_at is not None)
    before = await counts(box)
    await box.catalogue.close()
    await box.catalogue.open()
    box.keeper._inodes = await asyncio.to_thread(box.keeper._file_inodes)
    spoil(box.root / "state" / "index.db")
    box.keeper._check_at_s = 0
    await box.until(lambda: box.counters.value("index_replacements") == 1, 20)
    await box.until(lambda: is_back(box), 20)
    assert (await counts(box))[:5] == before[:5]


# the disk of the index -------------------------------------------------------------------------


@pytest.mark.spec("DB-3")
async def test_an_index_on_a_full_disk_answers_and_takes_up_again_when_there_is_room(
    tmp_path: Path,
) -> None:
    with loop_filesystem(tmp_path, "state") as disk:
        box = await Box(tmp_path, keeping=True).open()
        try:
            acknowledged = await store_some(box, 1, 10)
            await box.catalogue.close()
            await box.catalogue.open()  # with a log that has to grow
            box.keeper._inodes = await asyncio.to_thread(box.keeper._file_inodes)
            ballast = tmp_path / "state" / "ballast"
            with ballast.open("wb") as file, suppress(OSError):
                while True:
                    file.write(bytes(1 << 16))
                    file.flush()
            for number in range(10, 60):
                with suppress(ScrignoError):
                    await box.store(made(number))
                    acknowledged.append(made(number))
                if box.keeper.facts.state is IndexState.WAITING:
                    break
            await box.until(lambda: box.keeper.facts.state is IndexState.WAITING)
            assert "No space" in box.keeper.facts.reason
            assert (await box.catalogue.totals()).instances > 0  # still answers
            ballast.unlink()
            box.keeper._wake.set()
            await box.until(lambda: is_back(box), 20)
            await box.store(made(2000))
            for one in (*acknowledged, made(2000)):
                assert await box.catalogue.instance(one.uid) is not None
            assert box.counters.value("index_replacements") == 0
            assert disk.mounted
        finally:
            await box.close()


@pytest.mark.spec("DB-3")
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
async def test_an_index_whose_disk_dies_is_opened_again_when_the_disk_is_back(
    tmp_path: Path, kind: str
) -> None:
    with loop_filesystem(tmp_path, "state", kind=kind) as disk:
        box = await Box(tmp_path, keeping=True).open()
        try:
            acknowledged = await store_some(box, 1, 20)
            await box.catalogue.sync()
            disk.shutdown(2)
            for number in range(20, 25):
                with suppress(ScrignoError):
                    await box.store(made(number))
                    acknowledged.append(made(number))
            with suppress(DatabaseError):
                await box.catalogue.sync()
            await box.until(lambda: not box.catalogue.engine.is_open, 20)
            with pytest.raises(DatabaseError, match="not open now"):
                await box.catalogue.totals()
            await asyncio.to_thread(disk.unmount)
            await asyncio.sleep(0.5)  # a bare mount point is no place for a new index
            assert list((tmp_path / "state").iterdir()) == []
            await asyncio.to_thread(disk.mount)
            await box.until(lambda: is_back(box), 20)
            for one in acknowledged:
                assert await box.catalogue.instance(one.uid) is not None
            assert await box.catalogue.check() == []
            assert set_aside(box) == []
        finally:
            await box.close()
