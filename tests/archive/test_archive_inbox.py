# SPDX-License-Identifier: Apache-2.0
"""What an operator does with objects that were kept aside."""

from dataclasses import replace

import pytest
from archivebox import MODALITY, Box, Made, made

from scrigno.archive.arrivals import Arrival, from_note, from_sidecar, to_note, to_sidecar
from scrigno.archive.errors import InboxError
from scrigno.archive.ingest import StoreOutcome
from scrigno.core.clock import SystemClock
from scrigno.volumes.staging import NOTE_LIMIT_BYTES
from scrigno.volumes.states import VolumeState


@pytest.mark.spec("ST-10")
async def test_an_accepted_object_is_archived_as_it_came_and_leaves_the_inbox(box: Box) -> None:
    one = made()
    held = await box.store(one, hold="unapproved-node")
    (item,) = await box.inbox.items()
    receipt = await box.inbox.accept(held.inbox_id)
    assert receipt.outcome is StoreOutcome.NEW
    assert box.on("data") == {one.key: one.file}
    assert await box.inbox.counts() == {}
    assert await box.staged() == 1
    row = await box.catalogue.instance(one.uid)
    assert row.received_at == item.item.received_at


async def test_everything_of_an_approved_node_is_accepted_at_once(box: Box) -> None:
    for number in range(1, 5):
        await box.store(made(number), hold="unapproved-node")
    other = replace(MODALITY, calling_ae="OTHER")
    await box.store(made(9), hold="unapproved-node", origin=other)
    unreadable = Made("", "", "1.2.3.4", b"\xff" * 500)
    await box.store(unreadable, hold="unapproved-node")
    done = await box.inbox.accept_from("CT1", "127.0.0.1")
    assert done == {"accepted": 4, "kept": 1}
    assert await box.inbox.counts() == {"unapproved-node": 2}
    assert await box.inbox.accept_from("CT1", "10.0.0.1") == {"accepted": 0, "kept": 0}
    assert (await box.catalogue.totals()).instances == 4


@pytest.mark.spec("ST-10")
async def test_a_conflict_cannot_be_accepted_over_the_archived_object(box: Box) -> None:
    one, other = made(), made(PatientName="Other^Name")
    await box.store(one)
    receipt = await box.store(other)
    with pytest.raises(InboxError, match="another object"):
        await box.inbox.accept(receipt.inbox_id)
    assert await box.inbox.accept_from("CT1") == {"accepted": 0, "kept": 0}
    assert box.on("data")[one.key] == one.file
    assert await box.inbox.counts() == {"conflict": 1}
    # when the first one is gone, the other one may come in
    await box.catalogue.remove([one.uid])
    (box.root / "data" / one.key).unlink()
    assert (await box.inbox.accept(receipt.inbox_id)).outcome is StoreOutcome.NEW


async def test_a_held_object_that_is_archived_already_is_accepted_as_the_same(box: Box) -> None:
    held = await box.store(made(), hold="unapproved-node")
    await box.store(made())
    assert (await box.inbox.accept(held.inbox_id)).outcome is StoreOutcome.SAME
    assert await box.inbox.counts() == {}


async def test_an_unreadable_object_stays_when_it_is_accepted(box: Box) -> None:
    one = Made("", "", "1.2.3.4", b"\xff" * 500)
    kept = await box.store(one)
    with pytest.raises(InboxError, match="cannot be read"):
        await box.inbox.accept(kept.inbox_id)
    assert box.on("data")[f"inbox/{one.digest}.dcm"] == one.file
    assert await box.inbox.counts() == {"unreadable": 1}


async def test_a_rejected_object_is_gone_everywhere(live_box: Box) -> None:
    box = live_box
    held = await box.store(made(), hold="unapproved-node")
    await box.until(lambda: _no_debts(box))
    assert box.on("data") == box.on("backup1") != {}
    await box.inbox.reject(held.inbox_id)
    assert box.on("data") == box.on("backup1") == {}
    assert await box.staged() == 0
    with pytest.raises(InboxError, match="no item"):
        await box.inbox.reject(held.inbox_id)


async def _no_debts(box: Box) -> bool:
    return not await box.catalogue.debt_counts()


async def test_an_item_whose_copies_are_away_waits(box: Box) -> None:
    held = await box.store(made(), hold="unapproved-node")
    (item,) = await box.inbox.items()
    await box.staging.release(item.item.staged_as)
    box.volumes.by_name("data").state = VolumeState.OFFLINE
    with pytest.raises(InboxError):
        await box.inbox.accept(held.inbox_id)
    assert await box.inbox.counts() == {"unapproved-node": 1}


async def test_a_kept_object_can_be_looked_at(box: Box) -> None:
    held = await box.store(made(), hold="unapproved-node")
    stream = await box.inbox.open(held.inbox_id)
    assert b"".join([chunk async for chunk in stream.chunks]) == made().file


def test_notes_and_sidecars_survive_every_text_and_fit_their_place() -> None:
    origin = replace(MODALITY, calling_ae="日" * 100, called_ae="\udcff" * 100, user="u" * 500)
    arrival = Arrival(
        origin=replace(origin, address="a" * 500),
        sop_class_uid="1" * 500,
        sop_instance_uid="../" * 100,
        transfer_syntax_uid="x",
        received_at=SystemClock().now(),
    )
    import json

    note = to_note(arrival, "0" * 64, "r" * 500)
    assert len(json.dumps(note)) < NOTE_LIMIT_BYTES
    back = from_note(
        note, sop_class_uid="", sop_instance_uid="", transfer_syntax_uid="", fallback=None
    )
    assert back.received_at == arrival.received_at
    assert back.origin.calling_ae == "日" * 64
    assert from_sidecar(to_sidecar(arrival, "0" * 64, "conflict", "why"))["comment"] == "why"


@pytest.mark.parametrize("sidecar", [b"", b"{", b"[1]", b"\xff", b'{"aside": 1}', b"[" * 100_000])
def test_a_sidecar_of_anything_is_no_error(sidecar: bytes) -> None:
    fields = from_sidecar(sidecar)
    assert fields == {}
    now = SystemClock().now()
    arrival = from_note(
        {"received": "yesterday"},
        sop_class_uid="",
        sop_instance_uid="",
        transfer_syntax_uid="",
        fallback=now,
    )
    assert arrival.received_at == now
    naive = from_note(
        {"received": "2026-01-01T10:00:00"},
        sop_class_uid="",
        sop_instance_uid="",
        transfer_syntax_uid="",
        fallback=now,
    )
    assert naive.received_at.tzinfo is not None
