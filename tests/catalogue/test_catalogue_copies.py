# SPDX-License-Identifier: Apache-2.0
"""Copies, debts, staging and the inbox: what volumes hold, what they are owed."""

from datetime import UTC, datetime

import pytest

from scrigno.catalogue.records import CopyState, NewInboxItem, Origin
from scrigno.core.attributes import PersonName

AT = datetime(2026, 2, 3, tzinfo=UTC)


def held_aside(key: str = "inbox/aa.dcm", **changes) -> NewInboxItem:
    values = {
        "reason": "conflict",
        "key": key,
        "digest": "ab" * 32,
        "size": 50,
        "received_at": AT,
        "origin": Origin(door="dicom", calling_ae="CT1"),
        "sop_instance_uid": "1.2.3.1.1",
        "patient_name": PersonName.parse("Rossi^Ada=ロッシ"),
    }
    return NewInboxItem(**(values | changes))


async def test_debts_come_in_order_and_go_when_paid(catalogue, make) -> None:
    for number in range(5):
        await catalogue.add(make(sop=f"1.{number}", owed=("b1", "b2"), staged_as=f"j{number}"))
    first = await catalogue.debts("b1", limit=2)
    assert [debt.sop_instance_uid for debt in first] == ["1.0", "1.1"]
    assert first[0].held_by == ("data",)
    assert first[0].staged_as == "j0"
    rest = await catalogue.debts("b1", after=first[-1].debt_id)
    assert [debt.sop_instance_uid for debt in rest] == ["1.2", "1.3", "1.4"]
    assert await catalogue.paid("1.0", "b1")
    assert not await catalogue.paid("unknown", "b1")
    assert len(await catalogue.debts("b1")) == 4
    assert await catalogue.debt_counts() == {"b1": 4, "b2": 5}
    tally = (await catalogue.volume_tallies())["b1"]
    assert (tally.held, tally.held_bytes, tally.owed, tally.owed_bytes) == (1, 1000, 4, 4000)
    assert await catalogue.check() == []


async def test_a_lost_copy_is_owed_again(catalogue, make) -> None:
    await catalogue.add(make(copies=("data", "b1")))
    assert await catalogue.verified("1.2.3.1.1", "b1", AT)
    assert await catalogue.copy_missing("1.2.3.1.1", "b1")
    stored = await catalogue.instance("1.2.3.1.1")
    assert [(c.volume, c.state) for c in stored.copies] == [
        ("b1", CopyState.MISSING),
        ("data", CopyState.HELD),
    ]
    assert not await catalogue.verified("1.2.3.1.1", "b1", AT)
    assert [debt.volume for debt in await catalogue.debts("b1")] == ["b1"]
    assert await catalogue.debt_counts() == {"b1": 1}
    await catalogue.paid("1.2.3.1.1", "b1")
    await catalogue.verified("1.2.3.1.1", "b1", AT)
    stored = await catalogue.instance("1.2.3.1.1")
    assert stored.copies[0].verified_at == AT
    assert stored.copies[1].verified_at is None
    assert await catalogue.check() == []


async def test_a_new_volume_is_owed_everything_once(catalogue, make, monkeypatch) -> None:
    monkeypatch.setattr("scrigno.catalogue.catalogue.OBJECTS_AT_ONCE", 4)
    for number in range(10):
        await catalogue.add(make(sop=f"1.{number}"))
    await catalogue.inbox_add(held_aside(copies=("data",)))
    await catalogue.paid("1.3", "b9")
    assert await catalogue.owe_all("b9") == 10
    assert await catalogue.owe_all("b9") == 0
    assert await catalogue.debt_counts() == {"b9": 10}
    assert await catalogue.owe(["1.3", "1.4", "unknown"], "b8") == 2
    assert await catalogue.forget_volume("b9") == 11
    assert sorted(await catalogue.volume_tallies()) == ["b8", "data"]
    assert await catalogue.check() == []


async def test_what_stands_in_staging_is_known_until_it_is_let_go(catalogue, make) -> None:
    for number in range(3):
        await catalogue.add(make(sop=f"1.{number}", staged_as=f"j{number}"))
    await catalogue.add(make(sop="1.9"))
    await catalogue.inbox_add(held_aside(staged_as="j8", copies=("data",)))
    everything = await catalogue.staged()
    assert [row.staged_as for row in everything] == ["j0", "j1", "j2", "j8"]
    assert [row.sop_instance_uid for row in await catalogue.staged(["j1", "no"])] == ["1.1"]
    assert await catalogue.staged([]) == []
    await catalogue.unstaged(["1.1", everything[-1].sop_instance_uid])
    assert [row.staged_as for row in await catalogue.staged()] == ["j0", "j2"]


async def test_objects_of_the_inbox_are_owed_and_paid_by_their_key(catalogue, make) -> None:
    await catalogue.add(make(owed=("b1",)))
    await catalogue.inbox_add(held_aside(copies=("data",), owed=("b1",)))
    debts = await catalogue.debts("b1")
    assert [debt.key for debt in debts] == ["studies/1.2.3/1.2.3.1/1.2.3.1.1.dcm", "inbox/aa.dcm"]
    assert debts[1].held_by == ("data",)
    assert await catalogue.debts("b1", after=debts[0].debt_id) == debts[1:]
    assert await catalogue.debts("b1", after=debts[1].debt_id) == []
    await catalogue.paid(debts[1].sop_instance_uid, "b1")
    assert await catalogue.debt_counts() == {"b1": 1}
    assert await catalogue.debts("b1") == debts[:1]
    assert await catalogue.check() == []


async def test_the_inbox_keeps_what_was_put_aside(catalogue) -> None:
    number = await catalogue.inbox_add(held_aside(comment="why"))
    assert await catalogue.inbox_add(held_aside(copies=("data",))) == number
    other = await catalogue.inbox_add(held_aside("inbox/bb.dcm", reason="held"))
    kept = await catalogue.inbox_get(number)
    assert kept.item == held_aside(comment="why", copies=("data",))
    assert [each.inbox_id for each in await catalogue.inbox_list()] == [number, other]
    assert [each.inbox_id for each in await catalogue.inbox_list(after=number)] == [other]
    assert await catalogue.inbox_count() == {"conflict": 1, "held": 1}
    assert await catalogue.inbox_remove(number)
    assert not await catalogue.inbox_remove(number)
    assert await catalogue.inbox_get(number) is None
    assert (await catalogue.volume_tallies())["data"].held == 0
    assert await catalogue.check() == []


async def test_all_keys_walks_over_every_object(catalogue, make, monkeypatch) -> None:
    monkeypatch.setattr("scrigno.catalogue.catalogue.KEYS_PAGE", 3)
    for number in range(8):
        await catalogue.add(make(sop=f"1.{number}"))
    keys = [key async for key in catalogue.all_keys()]
    assert [key.sop_instance_uid for key in keys] == [f"1.{n}" for n in range(8)]
    assert keys[0].copies[0].volume == "data"
    rest = [key async for key in catalogue.all_keys(keys[5].instance_id)]
    assert rest == keys[6:]


async def test_objects_of_a_study_come_by_series_and_number(catalogue, make) -> None:
    for series, number in (("2", "10"), ("2", "9"), ("1", "x"), ("1", "1")):
        await catalogue.add(
            make(
                series=f"1.{series}",
                sop=f"1.{series}.{number}",
                series_number=series,
                instance_number=number,
            )
        )
    found = await catalogue.instances("1.2.3")
    assert [each.sop_instance_uid for each in found] == ["1.1.1", "1.1.x", "1.2.9", "1.2.10"]
    assert len(await catalogue.instances("1.2.3", "1.2")) == 2
    some = await catalogue.instances("1.2.3", None, ["1.2.9", "1.1.1", "no"])
    assert [each.sop_instance_uid for each in some] == ["1.1.1", "1.2.9"]
    many = ["1.2.9", *(f"no.{n}" for n in range(2000))]
    assert len(await catalogue.instances("1.2.3", None, many)) == 1
    assert await catalogue.instances("1.2.3", None, []) == []
    assert await catalogue.instances("no") == []
    detail = await catalogue.study("1.2.3")
    assert [each.attributes.series_number for each in detail.series] == ["1", "2"]
    assert [len(each.instances) for each in detail.series] == [2, 2]
    assert await catalogue.study("no") is None
    assert await catalogue.instance("no") is None


@pytest.mark.spec("DB-3")
async def test_a_backup_answers_like_the_original(catalogue, make, tmp_path) -> None:
    from scrigno.catalogue.catalogue import Catalogue
    from scrigno.core.clock import SystemClock
    from scrigno.core.counters import Counters

    await catalogue.add(make(patient_name="Rossi^Ada", owed=("b1",)))
    await catalogue.backup(tmp_path / "copy.db")
    async with Catalogue(tmp_path / "copy.db", counters=Counters(), clock=SystemClock()) as copy:
        assert await copy.totals() == await catalogue.totals()
        assert await copy.study("1.2.3") == await catalogue.study("1.2.3")
        assert await copy.debts("b1") == await catalogue.debts("b1")
        assert await copy.check() == []
