# SPDX-License-Identifier: Apache-2.0
"""Disks that lie while an object is made durable: no copy counts that was made from bytes that may
have been lost.
"""

import asyncio
import contextlib
import hashlib
import os
from pathlib import Path

import pytest

from fault_disks import Disk
from loopfs import need_loop
from scrigno.core.counters import Counters
from scrigno.volumes.placement import NoDurableStorage, Placement
from scrigno.volumes.staging import Staging, StagingFailed


def lost_in_the_cache(fd: int) -> None:
    """Have the kernel write the file back, in vain, and forget what it has cached of it."""
    with contextlib.suppress(OSError):
        other = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
        try:
            os.fdatasync(other)
        finally:
            os.close(other)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


@pytest.mark.spec("ST-1", "ST-3")
@pytest.mark.parametrize("kept", [True, False], ids=["in memory too", "only in the file"])
async def test_copies_of_bytes_that_staging_has_lost_are_not_counted(
    box, tmp_path: Path, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Staging's disk has promised more than it has (thin): writing back fails, zeros are read."""
    need_loop()
    if not kept:
        monkeypatch.setattr("scrigno.volumes.arriving.KEPT_BYTES", 0)
    disk = Disk(tmp_path / "disks", "ssd", "ext4@tmpfs", size=256 << 20)
    staging = Staging(disk.path, capacity_bytes=1 << 30, counters=Counters())
    try:
        await staging.open()
        paths = {"data": tmp_path / "data", "backup1": tmp_path / "backup1"}
        for path in paths.values():
            path.mkdir()
        async with box(**paths) as here:
            placement = Placement(staging, here.volumes, lambda: here.policy)
            content = os.urandom(4 << 20)
            thing = staging.begin(content, limit_bytes=1 << 30)
            sealed = await thing.seal()
            disk.fill_below()
            lost_in_the_cache(sealed.fd)
            copies: tuple[str, ...] = ()
            try:
                copies = (await placement.store(sealed, "studies/1/2/3.dcm", {})).copies
            except NoDurableStorage:
                assert not kept
            finally:
                sealed.close()
            assert not kept or copies
            for name, path in paths.items():
                file = path / "studies/1/2/3.dcm"
                if name in copies:
                    assert hashlib.sha256(file.read_bytes()).hexdigest() == sealed.digest
                else:
                    assert not file.exists()
    finally:
        disk.make_room()
        await staging.close()
        disk.close()


@pytest.mark.spec("ST-3", "ST-6")
@pytest.mark.parametrize("kept", [True, False], ids=["in memory too", "only in the file"])
async def test_a_copy_from_another_volume_is_not_made_of_what_staging_has_lost(
    box, tmp_path: Path, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_loop()
    if not kept:
        monkeypatch.setattr("scrigno.volumes.arriving.KEPT_BYTES", 0)
    disk = Disk(tmp_path / "disks", "ssd", "ext4@tmpfs", size=256 << 20)
    staging = Staging(disk.path, capacity_bytes=1 << 30, counters=Counters())
    try:
        await staging.open()
        content, key = os.urandom(4 << 20), "studies/1/2/3.dcm"
        digest = hashlib.sha256(content).hexdigest()
        paths = {"data": tmp_path / "data", "backup1": tmp_path / "backup1"}
        for path in paths.values():
            path.mkdir()
        async with box(**paths) as here:
            (paths["data"] / key).parent.mkdir(parents=True)
            (paths["data"] / key).write_bytes(content)
            placement = Placement(staging, here.volumes, lambda: here.policy)
            fetch = placement._fetch

            async def fetched(*args):
                sealed = await fetch(*args)
                await asyncio.to_thread(disk.fill_below)
                await asyncio.to_thread(lost_in_the_cache, sealed.fd)
                return sealed

            monkeypatch.setattr(placement, "_fetch", fetched)
            with contextlib.suppress(StagingFailed):
                await placement.replicate(None, key, digest, sources=("data",), target="backup1")
                assert (paths["backup1"] / key).read_bytes() == content
            assert kept == (paths["backup1"] / key).exists()
    finally:
        disk.make_room()
        await staging.close()
        disk.close()
