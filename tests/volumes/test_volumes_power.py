# SPDX-License-Identifier: Apache-2.0
"""What is left after the power went, on real filesystems: FS_IOC_SHUTDOWN without a flush."""

from pathlib import Path

import pytest

from scrigno.core.counters import Counters
from scrigno.volumes.staging import Staging


@pytest.mark.spec("ST-2", "ST-5")
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
async def test_what_staging_keeps_survives_a_power_cut(filesystem, kind: str) -> None:
    disk = filesystem("staging", kind=kind)
    kept: dict[str, bytes] = {}
    staging = Staging(disk.mount_point, capacity_bytes=1 << 30, counters=Counters())
    await staging.open()
    for number in range(10):
        content = f"object {number} ".encode() * 3000
        arriving = staging.begin(content, limit_bytes=1 << 20)
        sealed = await arriving.seal()
        kept[await sealed.keep({"number": str(number)})] = content
        sealed.close()
    disk.shutdown(2)
    await staging.close()
    disk.unmount()
    disk.mount()
    again = Staging(disk.mount_point, capacity_bytes=1 << 30, counters=Counters())
    await again.open()
    entries = await again.journal()
    assert [entry.note["number"] for entry in entries] == [str(number) for number in range(10)]
    assert {entry.name: Path(entry.path).read_bytes() for entry in entries} == kept
    await again.close()


@pytest.mark.spec("ST-2")
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
async def test_what_a_volume_took_survives_a_power_cut_of_its_disk(
    box, filesystem, kind: str
) -> None:
    disk = filesystem("data", kind=kind)
    stored: dict[str, bytes] = {}
    async with box(data=disk.mount_point) as b:
        for number in range(10):
            key = f"studies/1.{number}/2/3.dcm"
            stored[key] = f"object {number} ".encode() * 3000
            await b.store(key, stored[key])
        disk.shutdown(2)
    disk.unmount()
    disk.mount()
    for key, content in stored.items():
        assert (disk.mount_point / key).read_bytes() == content
