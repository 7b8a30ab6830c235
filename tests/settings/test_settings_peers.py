# SPDX-License-Identifier: Apache-2.0
"""Remote nodes: found by AE title and address, registered by first contact, approved, blocked."""

from dataclasses import replace

import pytest

from scrigno.core.clock import SystemClock
from scrigno.core.events import EventBus, PeerRegistered
from scrigno.settings import peers as peers_module
from scrigno.settings.peers import Peers, UnknownPeerError
from scrigno.settings.schema import Peer, PeerState, Settings
from scrigno.settings.store import SettingsStore


@pytest.fixture
def peers(store: SettingsStore, bus: EventBus) -> Peers:
    return Peers(store, bus=bus, clock=SystemClock())


async def add(store: SettingsStore, *new: Peer) -> None:
    await store.change(lambda before: replace(before, peers=new), author="test", why="")


@pytest.mark.spec("DN-2")
async def test_a_peer_is_found_by_ae_title_and_the_most_exact_host(
    store: SettingsStore, peers: Peers
):
    await add(
        store,
        Peer(name="anywhere", ae_title="CT", host="*"),
        Peer(name="net", ae_title="CT", host="192.168.1.0/24"),
        Peer(name="exact", ae_title="CT", host="192.168.1.9"),
        Peer(name="named", ae_title="MR", host="localhost"),
    )

    async def name(ae_title: str, address: str) -> str | None:
        found = await peers.find(ae_title, address)
        return found.name if found else None

    assert await name("CT", "192.168.1.9") == "exact"
    assert await name("CT", "::ffff:192.168.1.9") == "exact"
    assert await name("CT", "192.168.1.10") == "net"
    assert await name("CT", "10.0.0.1") == "anywhere"
    assert await name("MR", "127.0.0.1") == "named"
    assert await name("MR", "10.0.0.1") is None
    assert await name("ct", "192.168.1.9") is None


async def test_a_name_that_cannot_be_resolved_covers_nobody(store: SettingsStore, peers: Peers):
    await add(store, Peer(name="gone", ae_title="CT", host="no-such-host.invalid"))
    assert await peers.find("CT", "127.0.0.1") is None


@pytest.mark.spec("DN-3")
async def test_a_first_contact_registers_once_and_waits_for_approval(
    store: SettingsStore, peers: Peers, bus: EventBus
):
    heard: list[str] = []
    bus.subscribe(PeerRegistered, lambda event: heard.append(event.peer_name))
    first = await peers.register_contact("CT1", "10.1.2.3")
    again = await peers.register_contact("CT1", "10.1.2.3")
    assert first == again
    assert first is not None
    assert (first.state, first.host, heard) == (PeerState.PENDING, "10.1.2.3", ["CT1"])
    assert store.revision == 2
    assert (await peers.approve("CT1", author="anna")).state is PeerState.APPROVED
    found = await peers.find("CT1", "10.1.2.3")
    assert found is not None
    assert found.state is PeerState.APPROVED
    assert (await peers.block("CT1", author="anna")).state is PeerState.BLOCKED


@pytest.mark.spec("DN-3")
async def test_the_same_ae_title_from_another_machine_is_another_node(peers: Peers):
    await peers.register_contact("CT1", "10.1.2.3")
    other = await peers.register_contact("CT1", "10.1.2.4")
    assert other is not None
    assert other.name == "CT1 at 10.1.2.4"


@pytest.mark.spec("DN-11")
async def test_invented_nodes_cannot_fill_the_list(
    store: SettingsStore, peers: Peers, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(peers_module, "MAX_PENDING", 3)
    for i in range(5):
        await peers.register_contact(f"X{i}", "10.0.0.1")
    assert len(store.current.peers) == 3
    assert await peers.register_contact("X9", "10.0.0.1") is None


@pytest.mark.parametrize("ae_title", ["", "A" * 17, "back\\slash", "nul\0", " lead"])
async def test_what_is_no_ae_title_is_not_registered(ae_title: str, peers: Peers):
    assert await peers.register_contact(ae_title, "10.0.0.1") is None


async def test_nobody_approves_a_node_that_is_not_there(peers: Peers):
    with pytest.raises(UnknownPeerError):
        await peers.approve("nobody", author="anna")


async def test_the_last_contact_is_remembered(store: SettingsStore, peers: Peers):
    await add(store, Peer(name="ct", ae_title="CT", host="*"))
    assert peers.last_seen("ct") is None
    peers.seen("ct")
    assert peers.last_seen("ct") is not None
    assert isinstance(store.current, Settings)
