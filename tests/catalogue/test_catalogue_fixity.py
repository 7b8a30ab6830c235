# SPDX-License-Identifier: Apache-2.0
"""When copies were verified, how far scrubs have come, and what they met."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from scrigno.catalogue.catalogue import Catalogue
from scrigno.catalogue.fixity import (
    INBOX_AFTER,
    AlienFile,
    LostKind,
    LostObject,
    Mark,
    ScrubRow,
    SetAside,
    Verified,
)
from scrigno.catalogue.records import NewInboxItem, NewInstance, Origin

Make = Callable[..., NewInstance]
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


async def verified(catalogue: Catalogue, *names: str, at: datetime = NOW) -> int:
    """Note that the copies on `data` were right."""
    return await catalogue.copies_verified([Mark(name=n, volume="data", at=at) for n in names])


@pytest.mark.spec("ST-6")
async def test_a_study_is_verified_on_the_day_of_its_oldest_copy(
    catalogue: Catalogue, make: Make
) -> None:
    for study in ("1.1", "1.2"):
        for number in range(3):
            await catalogue.add(
                make(
                    study=study,
                    series=f"{study}.{number % 2}",
                    sop=f"{study}.9.{number}",
                    copies=("data", "backup1"),
                    owed=("backup2",),
                )
            )
    assert await catalogue.study_verified(["1.1", "1.2", "unknown"]) == {
        study: Verified(on=None, copies=6, unverified=6) for study in ("1.1", "1.2")
    }
    assert await verified(catalogue, "1.1.9.0", "1.1.9.1", "1.1.9.2", "nothing") == 3
    later = NOW + timedelta(days=3)
    assert await verified(catalogue, "1.1.9.1", at=later) == 1
    found = await catalogue.study_verified(["1.1", "1.2"])
    assert found["1.1"] == Verified(on=NOW, copies=6, unverified=3)
    assert found["1.2"].unverified == 6
    owed = Mark(name="1.1.9.0", volume="backup2", at=NOW)
    assert await catalogue.copies_verified([owed]) == 0  # it is not there at all
    assert await catalogue.study_verified([]) == {}


@pytest.mark.spec("ST-6")
async def test_a_copy_that_was_written_anew_is_not_verified(
    catalogue: Catalogue, make: Make
) -> None:
    await catalogue.add(make(study="1.1", sop="1.5"))
    await verified(catalogue, "1.5")
    await catalogue.copy_missing("1.5", "data")
    assert await catalogue.study_verified(["1.1"]) == {}
    await catalogue.paid("1.5", "data")
    assert await catalogue.study_verified(["1.1"]) == {
        "1.1": Verified(on=None, copies=1, unverified=1)
    }


@pytest.mark.spec("ST-6")
async def test_a_scrub_goes_on_where_it_was(catalogue: Catalogue, make: Make) -> None:
    assert await catalogue.scrubs() == {}
    await catalogue.add(make(study="1.1", sop="1.5"))
    row = ScrubRow(volume="data", known_since=NOW, started_at=NOW, after=17, checked=3)
    await catalogue.save_scrub(row, [Mark(name="1.5", volume="data", at=NOW)])
    assert await catalogue.scrubs() == {"data": row}
    assert (await catalogue.study_verified(["1.1"]))["1.1"].on == NOW
    done = replace(row, started_at=None, last_started=NOW, last_finished=NOW)
    await catalogue.save_scrub(done)
    assert await catalogue.scrubs() == {"data": done}


async def test_what_a_volume_holds_comes_in_order_and_the_inbox_last(
    catalogue: Catalogue, make: Make
) -> None:
    for number in range(5):
        copies = ("data",) if number != 2 else ("backup1",)
        await catalogue.add(make(sop=f"1.{number}", copies=copies, owed=("backup2",)))
    await catalogue.inbox_add(
        NewInboxItem(
            reason="conflict",
            key="inbox/ab.dcm",
            digest="ab" * 32,
            size=5,
            received_at=NOW,
            origin=Origin(door="dicom"),
            copies=("data",),
        )
    )
    seen: list[str] = []
    after = 0
    page = []
    while found := await catalogue.held_after("data", after, 2):
        page = found
        assert [one.instance_id for one in page] == sorted(one.instance_id for one in page)
        seen += [one.sop_instance_uid for one in page]
        after = page[-1].instance_id
    assert seen == ["1.0", "1.1", "1.3", "1.4", "inbox/ab.dcm"]
    assert after > INBOX_AFTER
    assert await catalogue.stored_key("inbox/ab.dcm") == page[-1]
    assert (await catalogue.stored_key("1.3")).size == 1000
    assert await catalogue.stored_key("nothing") is None
    assert await catalogue.held_after("backup2", 0, 10) == []


async def test_keys_of_known_objects_are_told_from_others(catalogue: Catalogue, make: Make) -> None:
    await catalogue.add(make(study="1.1", series="1.2", sop="1.3"))
    keys = ["studies/1.1/1.2/1.3.dcm", "studies/1.1/1.9/1.3.dcm", "studies/1.1/1.2/1.4.dcm"]
    assert await catalogue.known_keys(keys) == {"studies/1.1/1.2/1.3.dcm"}


@pytest.mark.spec("ST-6")
async def test_objects_without_a_good_copy_are_listed_with_their_study_until_one_comes(
    catalogue: Catalogue, make: Make
) -> None:
    for number in range(4):
        await catalogue.add(make(study="1.1", sop=f"1.{number}"))
    lost = [
        LostObject(name=f"1.{number}", kind=LostKind.LOST, found_at=NOW, away=())
        for number in range(3)
    ]
    lost.append(LostObject(name="inbox/ab.dcm", kind=LostKind.WAITING, found_at=NOW, away=("b1",)))
    assert [await catalogue.note_lost(one) for one in (*lost, lost[0])] == [True] * 4 + [False]
    listed = await catalogue.lost_objects()
    assert listed == [*(replace(one, study_uid="1.1") for one in lost[:3]), lost[3]]
    assert await catalogue.lost_objects(after="1.1", limit=1) == [listed[2]]
    assert await catalogue.lost_counts() == {LostKind.LOST: 3, LostKind.WAITING: 1}
    await verified(catalogue, "1.0")
    await catalogue.paid("1.1", "data")
    await catalogue.found_good(["inbox/ab.dcm"])
    await catalogue.copy_missing("1.2", "data")
    assert [one.name for one in await catalogue.lost_objects()] == ["1.2"]


async def test_alien_files_and_what_was_set_aside_are_listed(catalogue: Catalogue) -> None:
    files = [
        AlienFile(volume=volume, key=f"studies/{n}.dcm", size=n, found_at=NOW)
        for volume in ("backup1", "data")
        for n in (1, 2)
    ]
    await catalogue.save_aliens(files)
    await catalogue.save_aliens(files[:1])
    assert await catalogue.aliens() == files
    await catalogue.forget_aliens("backup1")
    assert await catalogue.aliens() == files[2:]
    aside = [
        SetAside(
            volume=volume,
            key="displaced/a.dcm",
            object_key="studies/1/2/3.dcm",
            why="changed",
            size=7,
            set_aside_at=NOW + timedelta(hours=hours),
        )
        for hours, volume in enumerate(("data", "backup1"))
    ]
    await catalogue.save_set_aside(aside)
    assert await catalogue.set_aside() == [aside[1], aside[0]]
    assert await catalogue.set_aside("data") == [aside[0]]
    await catalogue.forget_set_aside([("data", "displaced/a.dcm")])
    assert await catalogue.set_aside() == [aside[1]]
    await catalogue.forget_all()
    assert await catalogue.set_aside() == []
