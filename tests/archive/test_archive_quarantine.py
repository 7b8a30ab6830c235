# SPDX-License-Identifier: Apache-2.0
"""What was set aside: listed with when and why, and removed late and never too early."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from archivebox import Box, Made, made

from scrigno.archive.quarantine import Why, displace
from scrigno.core.errors import CommandError

DAYS = 90


async def stored(box: Box, number: int) -> list[Made]:
    objects = [made(place) for place in range(1, number + 1)]
    for one in objects:
        await box.store(one)
    for volume in box.volumes.ordered:
        await box.replicator.pay(volume)
    return objects


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 0xFF
    path.write_bytes(content)


def make_old(box: Box, days: int = DAYS + 1) -> None:
    """Let everything that was set aside look as if that was long ago."""
    at = (datetime.now(UTC) - timedelta(days=days)).isoformat()
    for path in (box.root / "data" / "displaced").glob("*.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"at": at}))


async def swept(box: Box) -> int:
    """Look through the quarantine of the data volume with nothing remembered."""
    rows = await box.quarantine.items()
    await box.catalogue.forget_set_aside([(row.volume, row.key) for row in rows])
    return await box.quarantine.sweep(box.volumes.by_name("data"), DAYS)


@pytest.mark.spec("ST-6")
async def test_what_was_set_aside_is_listed_with_when_why_and_whose_place_it_held(
    box: Box,
) -> None:
    objects = await stored(box, 3)
    damage(box.root / "data" / objects[0].key)
    (box.root / "data" / objects[1].key).write_bytes(b"short")
    before = box.clock.now()
    await box.verifier.verify()
    rows = await box.quarantine.items()
    assert {(row.volume, row.object_key, row.why) for row in rows} == {
        ("data", objects[0].key, "changed"),
        ("data", objects[1].key, "cut"),
    }
    assert all(before <= row.set_aside_at <= box.clock.now() for row in rows)
    # as after a lost index: the notes on the volume tell the same
    assert await swept(box) == 0
    again = await box.quarantine.items()
    assert {(row.key, row.object_key, row.why, row.size) for row in again} == {
        (row.key, row.object_key, row.why, row.size) for row in rows
    }
    (box.root / "data" / rows[0].key).unlink()
    await box.quarantine.sweep(box.volumes.by_name("data"), DAYS)
    assert [row.key for row in await box.quarantine.items()] == [rows[1].key]


@pytest.mark.spec("ST-6")
async def test_it_goes_after_its_days_and_not_a_day_before(box: Box) -> None:
    objects = await stored(box, 2)
    damage(box.root / "data" / objects[0].key)
    await box.verifier.verify()
    make_old(box, DAYS - 1)
    assert await swept(box) == 0
    make_old(box, DAYS + 1)
    assert await swept(box) == 1
    assert box.on("data", "displaced") == {}
    assert await box.quarantine.items() == []


@pytest.mark.spec("ST-6")
async def test_it_stays_for_ever_while_no_good_copy_can_be_read(box: Box) -> None:
    objects = await stored(box, 2)
    damage(box.root / "data" / objects[0].key)
    await box.verifier.verify()
    make_old(box)
    for name in box.names:
        damage(box.root / name / objects[0].key)
    assert await swept(box) == 0
    assert len(box.set_aside("data")) == 1
    damage(box.root / "backup1" / objects[0].key)  # it is good again
    assert await swept(box) == 1


@pytest.mark.spec("ST-6")
async def test_the_bytes_of_another_object_are_never_removed_by_themselves(box: Box) -> None:
    objects = await stored(box, 2)
    other = made(1, PatientName="Other^Name")
    path = box.root / "data" / objects[0].key
    path.write_bytes(other.file)
    data = box.volumes.by_name("data")
    key = await displace(data, objects[0].key, other.digest, Why.CONFLICT)
    make_old(box, 1000)
    assert await swept(box) == 0
    assert box.set_aside("data") == [other.file]
    # nor a file that nobody has described
    (box.root / "data" / "displaced" / "notes.json").unlink(missing_ok=True)
    (box.root / "data" / "displaced" / "abc.dcm").write_bytes(b"whose?")
    assert await swept(box) == 0
    assert {row.object_key for row in await box.quarantine.items()} == {objects[0].key, ""}
    # an operator may
    await box.quarantine.remove("data", key)
    assert box.set_aside("data") == [b"whose?"]
    with pytest.raises(CommandError):
        await box.quarantine.remove("data", key)


async def test_a_note_that_is_nonsense_does_no_harm(box: Box) -> None:
    objects = await stored(box, 1)
    damage(box.root / "data" / objects[0].key)
    await box.verifier.verify()
    (note,) = (box.root / "data" / "displaced").glob("*.json")
    for text in ("{", "[]", '{"at": "never"}', '{"at": "2020-01-01T00:00:00"}', '{"at": 5}'):
        note.write_text(text)
        assert await swept(box) == 0
    assert len(box.set_aside("data")) == 1
