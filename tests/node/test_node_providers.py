# SPDX-License-Identifier: Apache-2.0
"""Providers come, change and go while the box runs."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from ports import free_port
from running_node import RunningNode
from scrigno.dicomnet.association import Association
from scrigno.dicomnet.errors import AssociationRejected, ConnectFailed
from scrigno.node.providers import ListenerState
from scrigno.settings.schema import Peer, Provider, Unregistered

Opener = Callable[..., Awaitable[RunningNode]]
Caller = Callable[..., Awaitable[Association]]


def second(port: int) -> Provider:
    return Provider(
        name="Second",
        ae_title="SECOND",
        port=port,
        host="127.0.0.1",
        unregistered=Unregistered.ACCEPT,
    )


@pytest.mark.spec("DN-1")
async def test_a_provider_is_added_and_removed_without_harm_to_another(
    open_box: Opener, call: Caller
) -> None:
    box = await open_box()
    (first,) = box.settings.current.providers
    standing = await call(box)
    port = free_port()
    await box.change(providers=(first, second(port)))
    other = await call(box, called_ae="SECOND", port=port)
    assert (await other.echo()).status == 0
    await other.release()
    await box.change(providers=(first,))
    with pytest.raises(ConnectFailed):
        await call(box, called_ae="SECOND", port=port)
    assert (await standing.echo()).status == 0


@pytest.mark.spec("DN-1")
async def test_title_and_policy_change_without_a_new_listener(
    open_box: Opener, call: Caller
) -> None:
    box = await open_box()
    (provider,) = box.settings.current.providers
    standing = await call(box)
    await box.change(
        providers=(replace(provider, ae_title="NEWNAME", unregistered=Unregistered.REJECT),)
    )
    assert (await standing.echo()).status == 0
    with pytest.raises(AssociationRejected):
        await call(box)
    with pytest.raises(AssociationRejected) as caught:
        await call(box, called_ae="NEWNAME", calling_ae="STRANGER")
    assert caught.value.reason_code == 3


@pytest.mark.spec("DN-1")
async def test_a_provider_moves_to_another_port_and_is_switched_off(
    open_box: Opener, call: Caller
) -> None:
    box = await open_box()
    (provider,) = box.settings.current.providers
    moved = replace(provider, port=free_port())
    await box.change(providers=(moved,))
    with pytest.raises(ConnectFailed):
        await call(box)
    assert (await (await call(box, port=moved.port)).echo()).status == 0
    await box.change(providers=(replace(moved, enabled=False),))
    with pytest.raises(ConnectFailed):
        await call(box, port=moved.port)
    (status,) = box.node.statuses()
    assert status.state is ListenerState.DISABLED


@pytest.mark.spec("DN-1")
async def test_providers_change_name_and_swap_ports_at_once(open_box: Opener, call: Caller) -> None:
    box = await open_box()
    (first,) = box.settings.current.providers
    other = second(free_port())
    await box.change(providers=(first, other))
    await box.change(
        providers=(
            replace(first, name="Renamed", port=other.port),
            replace(other, port=first.port),
        )
    )
    assert {each.state for each in box.node.statuses()} == {ListenerState.LISTENING}
    assert (await (await call(box, port=other.port)).echo()).status == 0
    assert (await (await call(box, called_ae="SECOND", port=first.port)).echo()).status == 0


@pytest.mark.spec("DN-1")
async def test_a_port_that_is_taken_is_told_and_tried_again(
    open_box: Opener, call: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scrigno.node.providers.RETRY_S", 0.05)
    box = await open_box()
    (first,) = box.settings.current.providers
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        await box.change(providers=(first, second(port)))
        failed = box.node.statuses()[1]
        assert failed.state is ListenerState.FAILED
        assert str(port) in failed.reason
        assert (await (await call(box)).echo()).status == 0
    async with asyncio.timeout(5):
        while box.node.statuses()[1].state is not ListenerState.LISTENING:
            await asyncio.sleep(0.02)
    assert (await (await call(box, called_ae="SECOND", port=port)).echo()).status == 0


@pytest.mark.spec("DN-2", "DN-9")
async def test_every_node_is_asked_whether_it_is_there(open_box: Opener) -> None:

    box = await open_box(unregistered=Unregistered.ACCEPT)
    here = Peer(name="here", ae_title="SCRIGNO", host="127.0.0.1", port=box.port)
    peers = (
        here,
        replace(here, name="wrong title", ae_title="WRONG"),
        replace(here, name="nobody", ae_title="NOBODY", port=1),
        replace(here, name="anywhere", host="*"),
    )
    await box.change(peers=peers)
    results = await box.remote.echo_all()
    assert [each.code for each in results] == [
        "ok",
        "dicom-association-rejected",
        "dicom-connect-failed",
        "no-address",
    ]
    assert [each.ok for each in results] == [True, False, False, False]
    assert all(each.words for each in results)
