# SPDX-License-Identifier: Apache-2.0
"""After a stop that was not clean, objects that were put and never acknowledged get their row."""

import asyncio
from pathlib import Path

import pytest
from archivebox import Box, made

from scrigno.archive import unclean
from scrigno.archive.unclean import FILE_NAME, CleanStop


async def opened(box: Box) -> CleanStop:
    mark = CleanStop(
        state_dir=box.root / "state",
        taking=box.taking,
        recovery=box.recovery,
        reconciler=box.reconciler,
        counters=box.counters,
    )
    await mark.open()
    box.recovery.start()
    mark.start()
    return mark


async def test_a_clean_stop_leaves_no_mark_and_the_next_start_looks_into_nothing(box: Box) -> None:
    mark = await opened(box)
    await box.store(made(1))
    await box.store(made(2))
    text = (box.root / "state" / FILE_NAME).read_text()
    assert text == made(1).key.rpartition("/")[0] + "\n"  # once a series
    await mark.close()
    assert not (box.root / "state" / FILE_NAME).exists()
    mark = await opened(box)
    assert not mark.pending
    await mark.close()


@pytest.mark.spec("DB-3", "ST-2")
async def test_what_was_put_and_never_acknowledged_gets_its_row(box: Box) -> None:
    mark = await opened(box)
    for number in range(1, 4):
        await box.store(made(number))
    # the power went when these were on one volume and nowhere else, the last one not recorded there
    put = [made(8), made(9)]
    for one, volume in zip(put, ("data", "backup1"), strict=True):
        path = box.root / volume / one.key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(one.file)
    (box.root / "data" / made(2).key).unlink()
    (box.root / "backup1" / made(3).key).write_bytes(made(3).file)
    alien = box.root / "data" / put[0].key.replace(put[0].uid, "1.2.3.99")
    alien.write_bytes(b"no image")
    del mark  # no close
    box.replicating = True
    await box.reopened()
    mark = await opened(box)
    assert mark.pending
    await box.until(lambda: not mark.pending, 20)
    for one in put:
        assert await box.catalogue.instance(one.uid) is not None
    await box.until(lambda: _no_debts(box), 20)
    for number in (1, 2, 3, 8, 9):
        one = made(number)
        for volume in box.names:
            assert (box.root / volume / one.key).read_bytes() == one.file
    assert alien.read_bytes() == b"no image"
    await mark.close()
    assert not (box.root / "state" / FILE_NAME).exists()


async def _no_debts(box: Box) -> bool:
    return not await box.catalogue.debt_counts()


async def test_a_stop_on_a_dead_system_disk_is_a_stop_all_the_same(
    box: Box, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    mark = await opened(box)
    await box.store(made(1))

    def dead(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", dead)
        await mark.close()
    assert "cannot be removed: Input/output error" in caplog.text


async def test_a_stop_before_it_was_done_leaves_the_mark(box: Box) -> None:
    mark = await opened(box)
    await box.store(made(1))
    del mark
    await box.reopened()
    mark = await opened(box)
    await box.store(made(1, study=2))
    await mark.close()
    folders = (box.root / "state" / FILE_NAME).read_text().splitlines()
    assert folders == [made(1, study=n).key.rpartition("/")[0] for n in (1, 2)]


async def test_the_mark_stays_small_and_names_the_newest(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unclean, "FOLDERS", 4)
    mark = await opened(box)
    for number in range(1, 31):
        await asyncio.gather(box.store(made(1, study=number)), box.store(made(2, study=number)))
    folders = (box.root / "state" / FILE_NAME).read_text().splitlines()
    assert len(folders) <= 8
    newest = [made(1, study=n).key.rpartition("/")[0] for n in range(27, 31)]
    assert list(dict.fromkeys(folders))[-4:] == newest
    await mark.close()


async def test_a_state_directory_that_cannot_be_written_holds_no_image_up(
    box: Box, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    mark = await opened(box)
    mark._path = tmp_path / "nowhere" / FILE_NAME
    await box.store(made(1))
    assert "is not kept now" in caplog.text
    await box.store(made(2))
    assert caplog.text.count("is not kept now") == 1
    await mark.close()
