# SPDX-License-Identifier: Apache-2.0
"""Who may talk DICOM with the box: looking remote nodes up, and their first contact."""

import asyncio
import ipaddress
import logging
import re
import socket
from dataclasses import replace
from datetime import datetime
from typing import Final

from scrigno.core.clock import Clock
from scrigno.core.errors import CommandError
from scrigno.core.events import EventBus, PeerRegistered

from .kinds import is_address, is_network
from .schema import Peer, PeerState, Settings
from .shapes import AE_TITLE
from .store import SettingsStore

log = logging.getLogger(__name__)

# A hostile machine must not be able to fill the list with invented AE titles.
MAX_PENDING: Final = 200
NAME_TTL_S: Final = 60.0  # names are asked again after this, so that a moved device is found
NAME_TIMEOUT_S: Final = 2.0

FIRST_CONTACT: Final = "first contact"  # author of a revision that a node caused by calling


class UnknownPeerError(CommandError):
    """No remote node has that name."""

    code = "unknown-peer"


class Peers:
    """Remote nodes as the node room asks for them. Loop thread only."""

    def __init__(self, store: SettingsStore, *, bus: EventBus, clock: Clock) -> None:
        """Work on the settings of `store`."""
        self._store = store
        self._bus = bus
        self._clock = clock
        self._contacts: dict[str, datetime] = {}
        self._names: dict[str, tuple[float, frozenset[str]]] = {}

    async def find(self, ae_title: str, address: str) -> Peer | None:
        """Return the peer with this AE title whose host covers the address.

        The most exact host wins: the address itself, a host name, a network, then `*`.
        """
        known = [each for each in self._store.current.peers if each.ae_title == ae_title]
        for peer in sorted(known, key=lambda each: _exactness(each.host)):
            if await self._covers(peer.host, address):
                return peer
        return None

    async def _covers(self, host: str, address: str) -> bool:
        if host == "*" or host == address:
            return True
        if not is_address(address):
            return False
        caller = _plain_address(address)
        if is_address(host):
            return ipaddress.ip_address(host) == caller
        if is_network(host):
            return caller in ipaddress.ip_network(host, strict=False)
        return str(caller) in await self._addresses(host)

    async def _addresses(self, host: str) -> frozenset[str]:
        now = self._clock.monotonic()
        until, found = self._names.get(host, (0.0, frozenset()))
        if now < until:
            return found
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(NAME_TIMEOUT_S):
                answers = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            found = frozenset(str(answer[4][0]) for answer in answers)
        except (OSError, TimeoutError) as error:
            # the last good answer stays in use: a name server that rests must not stop images
            log.warning("peer host %s: the name cannot be resolved: %s", host, error)
        self._names[host] = (now + NAME_TTL_S, found)
        return found

    def seen(self, peer_name: str) -> None:
        """Note that the peer made contact now; cheap, kept in memory."""
        self._contacts[peer_name] = self._clock.now()

    def last_seen(self, peer_name: str) -> datetime | None:
        """Return when the peer last made contact since the box started."""
        return self._contacts.get(peer_name)

    async def register_contact(self, ae_title: str, address: str) -> Peer | None:
        """Put an unknown node on the pending list and publish `PeerRegistered`; idempotent.

        Returns the peer (the known one if there was one), or None when nothing was registered:
        the pending list is full, or the AE title is none.
        """
        known = await self.find(ae_title, address)
        if known is not None:
            return known
        if not re.fullmatch(AE_TITLE.pattern, ae_title) or not is_address(address):
            return None
        host = str(_plain_address(address))
        registered: list[Peer] = []

        def add(settings: Settings) -> Settings:
            pending = sum(each.state is PeerState.PENDING for each in settings.peers)
            same = (each.ae_title == ae_title and each.host == host for each in settings.peers)
            if pending >= MAX_PENDING or any(same):
                return settings
            peer = Peer(
                name=_free_name(settings, ae_title, host),
                ae_title=ae_title,
                host=host,
                state=PeerState.PENDING,
                first_seen=self._clock.now().replace(microsecond=0),
            )
            registered.append(peer)
            return replace(settings, peers=(*settings.peers, peer))

        await self._store.change(
            add, author=FIRST_CONTACT, why=f"{ae_title} at {host}", by_person=False
        )
        if registered:
            log.info("peer %s: first contact from %s, waits for approval", ae_title, host)
            self._bus.publish(PeerRegistered(peer_name=registered[0].name))
            return registered[0]
        return await self.find(ae_title, address)

    async def approve(self, name: str, *, author: str) -> Peer:
        """Let the peer in."""
        return await self._set_state(name, PeerState.APPROVED, author=author)

    async def block(self, name: str, *, author: str) -> Peer:
        """Refuse the peer from now on."""
        return await self._set_state(name, PeerState.BLOCKED, author=author)

    async def _set_state(self, name: str, state: PeerState, *, author: str) -> Peer:
        changed: list[Peer] = []

        def change(settings: Settings) -> Settings:
            before = settings.peer(name)
            if before is None:
                raise UnknownPeerError(f"peer {name}: there is no such node.")
            changed.append(replace(before, state=state))
            peers = (changed[0] if each is before else each for each in settings.peers)
            return replace(settings, peers=tuple(peers))

        await self._store.change(change, author=author, why=f"{name}: {state}")
        return changed[0]


def _plain_address(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return the address, an IPv4 one that came mapped into IPv6 as IPv4."""
    parsed = ipaddress.ip_address(address)
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return mapped or parsed


def _exactness(host: str) -> int:
    if host == "*":
        return 3
    if is_network(host):
        return 2
    return 0 if is_address(host) else 1


def _free_name(settings: Settings, ae_title: str, host: str) -> str:
    taken = {each.name for each in settings.peers}
    names = [ae_title, f"{ae_title} at {host}"]
    names += [f"{ae_title} at {host} ({n})" for n in range(2, len(taken) + 3)]
    return next(name for name in names if name not in taken)
