# SPDX-License-Identifier: Apache-2.0
"""Which disk each volume was, and how far one that fell has been caught up."""

from datetime import timedelta

import pytest

from made_instances import EPOCH
from scrigno.catalogue.records import NewInboxItem, Origin


@pytest.mark.spec("ST-1", "ST-3")
async def test_the_index_remembers_which_disk_a_volume_was(catalogue) -> None:
    assert await catalogue.volume_uuids() == {}
    await catalogue.remember_volume("data", "one")
    await catalogue.remember_volume("backup", "two")
    await catalogue.remember_volume("data", "three")
    assert await catalogue.volume_uuids() == {"data": "three", "backup": "two"}
    await catalogue.forget_all()  # a rebuild changes no disk
    assert (await catalogue.volume_uuids())["data"] == "three"


@pytest.mark.spec("ST-3")
async def test_of_several_falls_the_earliest_counts_and_what_was_checked_stays(catalogue) -> None:
    await catalogue.begin_volume_recovery("data", EPOCH)
    await catalogue.note_volume_checked("data", 7)
    await catalogue.begin_volume_recovery("data", EPOCH + timedelta(hours=1))
    mark = (await catalogue.volume_recoveries())["data"]
    assert (mark.since, mark.checked) == (EPOCH, 7)
    await catalogue.end_volume_recovery("data")
    assert await catalogue.volume_recoveries() == {}


@pytest.mark.spec("ST-3")
async def test_what_a_volume_holds_since_a_moment_is_found_page_by_page(catalogue, make) -> None:
    for number in range(10):
        await catalogue.add(make(sop=f"1.{number}", minutes=number, owed=("b1",)))
    await catalogue.copy_missing("1.8", "data")
    await catalogue.inbox_add(
        NewInboxItem(
            reason="conflict",
            key="inbox/aa.dcm",
            digest="ab" * 32,
            size=50,
            received_at=EPOCH + timedelta(minutes=9),
            origin=Origin(door="dicom"),
            copies=("data",),
        )
    )
    since, after, names = EPOCH + timedelta(minutes=5), 0, []
    while found := await catalogue.held_since("data", since, after, 2):
        names += [key.sop_instance_uid for _, key in found]
        after = found[-1][0]
    assert names == ["1.5", "1.6", "1.7", "1.9", "inbox/aa.dcm"]
    assert await catalogue.held_since("b1", since, 0) == []
    assert await catalogue.owed_to("b1") == (10, 10_000)
    assert await catalogue.owed_to("data") == (1, 1000)
    assert await catalogue.owed_to("unknown") == (0, 0)
