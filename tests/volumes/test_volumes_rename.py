# SPDX-License-Identifier: Apache-2.0
"""Another name for an object on the same volume, in one step, also on a full one."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from loopfs import loop_filesystem
from scrigno.core.clock import SystemClock
from scrigno.core.counters import Counters
from scrigno.core.events import EventBus
from scrigno.volumes.states import ErrorKind, Role, VolumeError, VolumeSpec
from scrigno.volumes.volume import Volume, Volumes


@pytest.fixture
async def volume(tmp_path: Path) -> AsyncIterator[Volume]:
    (tmp_path / "data").mkdir()
    async with Volumes(
        [VolumeSpec(name="data", role=Role.DATA, path=tmp_path / "data")],
        state_dir=tmp_path,
        counters=Counters(),
        bus=EventBus(),
        clock=SystemClock(),
    ) as volumes:
        yield volumes.by_name("data")


@pytest.mark.spec("ST-7")
async def test_an_object_gets_another_name_and_empty_folders_go(
    volume: Volume, tmp_path: Path
) -> None:
    await volume.put_bytes("studies/1/2/3.dcm", b"object")
    assert await volume.move_within("studies/1/2/3.dcm", "trash/a/1/2/3.dcm")
    assert (tmp_path / "data/trash/a/1/2/3.dcm").read_bytes() == b"object"
    assert not (tmp_path / "data/studies/1").exists()
    assert (tmp_path / "data/studies").is_dir()


@pytest.mark.spec("ST-7")
async def test_nothing_is_renamed_over_what_is_there(volume: Volume, tmp_path: Path) -> None:
    await volume.put_bytes("studies/1/2/3.dcm", b"object")
    await volume.put_bytes("trash/a/1/2/3.dcm", b"other")
    assert not await volume.move_within("studies/1/2/3.dcm", "trash/a/1/2/3.dcm")
    assert (tmp_path / "data/trash/a/1/2/3.dcm").read_bytes() == b"other"
    assert (tmp_path / "data/studies/1/2/3.dcm").read_bytes() == b"object"


@pytest.mark.spec("ST-7")
async def test_an_object_that_is_not_there_is_told_and_makes_no_folder(
    volume: Volume, tmp_path: Path
) -> None:
    with pytest.raises(VolumeError) as told:
        await volume.move_within("studies/1/2/3.dcm", "trash/a/1/2/3.dcm")
    assert told.value.kind is ErrorKind.MISSING
    assert not (tmp_path / "data/trash").exists()


@pytest.mark.spec("ST-7")
async def test_many_names_of_one_folder_change_side_by_side(volume: Volume, tmp_path: Path) -> None:
    for round_ in range(3):
        for number in range(40):
            await volume.put_bytes(f"studies/1/2/{number}.dcm", b"object")
        moved = await asyncio.gather(
            *(
                volume.move_within(f"studies/1/2/{number}.dcm", f"trash/{round_}/1/2/{number}.dcm")
                for number in range(40)
            )
        )
        assert all(moved)
        back = await asyncio.gather(
            *(volume.remove(f"trash/{round_}/1/2/{number}.dcm") for number in range(40))
        )
        assert all(back)
    assert not (tmp_path / "data/studies/1").exists()
    assert list((tmp_path / "data/trash").iterdir()) == []


@pytest.mark.spec("ST-7")
async def test_a_full_volume_still_renames_and_takes_a_small_file_into_its_reserve(
    tmp_path: Path,
) -> None:
    with loop_filesystem(tmp_path, "full") as disk:
        async with Volumes(
            [VolumeSpec(name="data", role=Role.DATA, path=disk.mount_point)],
            state_dir=tmp_path,
            counters=Counters(),
            bus=EventBus(),
            clock=SystemClock(),
        ) as volumes:
            volume = volumes.by_name("data")
            await volume.put_bytes("studies/1/2/3.dcm", b"object")
            await asyncio.to_thread(_fill, disk.mount_point)
            with pytest.raises(VolumeError) as told:
                await volume.put_bytes("other", b"x")
            assert told.value.kind is ErrorKind.FULL
            await volume.put_bytes("trash/records/a.json", b"record", from_reserve=True)
            assert await volume.move_within("studies/1/2/3.dcm", "trash/a/1/2/3.dcm")
            assert await volume.stat("trash/a/1/2/3.dcm") == 6


def _fill(folder: Path) -> None:
    """Leave less than the reserve."""
    about = os.statvfs(folder)
    room = about.f_bavail * about.f_frsize - (256 << 10)
    fd = os.open(folder / ".filler", os.O_CREAT | os.O_WRONLY)
    try:
        os.posix_fallocate(fd, 0, room)
    finally:
        os.close(fd)
