# SPDX-License-Identifier: Apache-2.0
"""Who may come in: called and calling titles, policies for strangers, rights, limits."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import pytest

from made_objects import ct_series
from running_node import RunningNode, encoded
from scrigno.core.events import AssociationRefused, PeerRegistered
from scrigno.dicomnet.association import Association
from scrigno.dicomnet.errors import AssociationRejected
from scrigno.dicomnet.service import Response
from scrigno.settings.schema import LimitSettings, Peer, PeerState, Right, Unregistered

Opener = Callable[..., Awaitable[RunningNode]]
Caller = Callable[..., Awaitable[Association]]

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
STUDY_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
FIND_STUDIES = b"\x08\x00\x52\x00CS\x06\x00STUDY \x20\x00\x0d\x00UI\x00\x00"
SELF = Peer(name="tester", ae_title="TESTER", host="127.0.0.1")


async def once(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def store_one(association: Association, seed: int = 0) -> Response:
    """Send one CT image."""
    ((uid, image),) = ct_series(images=1, size=16, seed=seed)
    context = association.context_for(CT)
    assert context is not None
    return await association.store(
        context_id=context,
        sop_class_uid=CT,
        sop_instance_uid=uid,
        chunks=once(encoded(image, EXPLICIT)),
    )


async def find_status(association: Association) -> int:
    context = association.context_for(STUDY_FIND)
    assert context is not None
    return [each.status async for each, _ in association.find(context, FIND_STUDIES)][-1]


def rejected(caught: pytest.ExceptionInfo[AssociationRejected]) -> tuple[int, int, int]:
    return caught.value.result, caught.value.source, caught.value.reason_code


@pytest.mark.spec("DN-1")
async def test_another_called_title_is_rejected(open_box: Opener, call: Caller) -> None:
    box = await open_box(peers=[SELF])
    with pytest.raises(AssociationRejected) as caught:
        await call(box, called_ae="OTHER")
    assert rejected(caught) == (1, 1, 7)
    assert box.counters.value("dicom_associations_refused", code="called-ae-unknown") == 1


@pytest.mark.spec("DN-2")
async def test_an_approved_node_may_do_what_its_rights_say(open_box: Opener, call: Caller) -> None:
    may_ask = replace(SELF, rights=frozenset({Right.QUERY}))
    box = await open_box(peers=[may_ask], unregistered=Unregistered.REJECT)
    association = await call(box)
    assert (await association.echo()).status == 0x0124
    answer = await store_one(association)
    assert (answer.status, answer.comment) == (0x0124, "Node TESTER may not store.")
    assert await find_status(association) == 0
    assert box.counters.value("dicom_store_refused", code="not-allowed", status="0124") == 1
    # and as soon as the settings say otherwise, in the same association
    await box.change(peers=(replace(SELF, rights=frozenset({Right.STORE})),))
    assert (await store_one(association)).status == 0
    assert await find_status(association) == 0x0124


@pytest.mark.spec("DN-3")
async def test_accept_takes_a_stranger_and_puts_it_on_the_pending_list(
    open_box: Opener, call: Caller
) -> None:
    box = await open_box(unregistered=Unregistered.ACCEPT)
    registered: list[str] = []
    box.bus.subscribe(PeerRegistered, lambda event: registered.append(event.peer_name))
    association = await call(box)
    assert (await association.echo()).status == 0
    assert (await store_one(association)).status == 0
    assert (await box.catalogue.totals()).instances == 1
    (peer,) = box.settings.current.peers
    assert (peer.ae_title, peer.host, peer.state) == ("TESTER", "127.0.0.1", PeerState.PENDING)
    assert registered == [peer.name]
    await call(box)
    assert len(box.settings.current.peers) == 1


@pytest.mark.spec("DN-3")
async def test_hold_keeps_a_strangers_images_aside_until_it_is_approved(
    open_box: Opener, call: Caller
) -> None:
    box = await open_box(unregistered=Unregistered.HOLD)
    association = await call(box)
    assert (await association.echo()).status == 0
    assert await find_status(association) == 0x0124
    assert (await store_one(association, 1)).status == 0
    assert (await box.catalogue.totals()).instances == 0
    assert len(await box.inbox()) == 1
    (peer,) = box.settings.current.peers
    await box.peers.approve(peer.name, author="test")
    await box.node.settled()
    assert (await store_one(association, 2)).status == 0
    assert (await box.catalogue.totals()).instances == 1
    assert await find_status(association) == 0


@pytest.mark.spec("DN-3")
async def test_reject_turns_a_stranger_away_and_tells_of_it(
    open_box: Opener, call: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    box = await open_box(unregistered=Unregistered.REJECT)
    refused: list[AssociationRefused] = []
    box.bus.subscribe(AssociationRefused, refused.append)
    with pytest.raises(AssociationRejected) as caught:
        await call(box)
    assert rejected(caught) == (1, 1, 3)
    assert box.settings.current.peers == ()
    (event,) = refused
    assert (event.calling_ae, event.host, event.code) == (
        "TESTER",
        "127.0.0.1",
        "calling-ae-unknown",
    )
    assert event.reason == "No approved node 'TESTER' is registered at 127.0.0.1."
    assert "calling-ae-unknown" in caplog.text


@pytest.mark.spec("DN-2", "DN-3")
async def test_a_known_title_from_another_host_is_a_stranger(
    open_box: Opener, call: Caller
) -> None:
    box = await open_box(peers=[replace(SELF, host="192.0.2.7")], unregistered=Unregistered.REJECT)
    with pytest.raises(AssociationRejected) as caught:
        await call(box)
    assert rejected(caught) == (1, 1, 3)


@pytest.mark.spec("DN-2")
async def test_a_blocked_node_is_rejected_and_put_out(open_box: Opener, call: Caller) -> None:
    box = await open_box(peers=[SELF])
    association = await call(box)
    await box.change(peers=(replace(SELF, state=PeerState.BLOCKED),))
    async with asyncio.timeout(5):
        while association.alive:
            await asyncio.sleep(0.01)
    with pytest.raises(AssociationRejected) as caught:
        await call(box)
    assert rejected(caught) == (1, 1, 3)
    assert box.counters.value("dicom_associations_refused", code="peer-blocked") == 2


@pytest.mark.spec("AD-8", "DN-11")
async def test_over_the_limit_of_connections_a_node_is_told_to_come_back(
    open_box: Opener, call: Caller
) -> None:
    box = await open_box(
        peers=[SELF, replace(SELF, name="other", ae_title="OTHER")],
        limits=LimitSettings(max_dicom_connections=3, max_associations_per_peer=2),
    )
    first = await call(box)
    await call(box)
    with pytest.raises(AssociationRejected) as caught:
        await call(box)
    assert rejected(caught) == (2, 3, 2)
    await call(box, calling_ae="OTHER")
    with pytest.raises(AssociationRejected) as caught:
        await call(box, calling_ae="OTHER")
    assert rejected(caught) == (2, 3, 2)
    assert box.node.association_count == 3
    refusals = ("peer-connections-reached", "dicom-connections-reached")
    for code in refusals:
        assert box.counters.value("dicom_associations_refused", code=code) == 1
    await first.release()
    async with asyncio.timeout(5):
        while box.node.association_count == 3:
            await asyncio.sleep(0.01)
    await call(box)


@pytest.mark.spec("DN-11")
async def test_many_callers_at_once_do_not_slip_past_the_limit(
    open_box: Opener, call: Caller
) -> None:
    box = await open_box(peers=[SELF], limits=LimitSettings(max_dicom_connections=5))
    results = await asyncio.gather(*(call(box) for _ in range(20)), return_exceptions=True)
    assert sum(isinstance(each, Association) for each in results) == 5
    assert sum(isinstance(each, AssociationRejected) for each in results) == 15
