# SPDX-License-Identifier: Apache-2.0
"""Who may talk DICOM with the box: looking remote nodes up, and their first contact."""

from datetime import datetime

from scrigno.core.clock import Clock
from scrigno.core.events import EventBus

from .schema import Peer
from .store import SettingsStore


class Peers:
    """Remote nodes as the node room asks for them. Loop thread only."""

    def __init__(self, store: SettingsStore, *, bus: EventBus, clock: Clock) -> None:
        """Work on the settings of `store`."""
        raise NotImplementedError

    async def find(self, ae_title: str, address: str) -> Peer | None:
        """Return the peer with this AE title whose host covers the address."""
        raise NotImplementedError

    def seen(self, peer_name: str) -> None:
        """Note that the peer made contact now; cheap, kept in memory."""
        raise NotImplementedError

    def last_seen(self, peer_name: str) -> datetime | None:
        """Return when the peer last made contact since the box started."""
        raise NotImplementedError

    async def register_contact(self, ae_title: str, address: str) -> Peer | None:
        """Put an unknown node on the pending list and publish `PeerRegistered`; idempotent.

        Returns the peer (the known one if there was one), or None when the pending list is full.
        """
        raise NotImplementedError

    async def approve(self, name: str, *, author: str) -> Peer:
        """Let the peer in."""
        raise NotImplementedError

    async def block(self, name: str, *, author: str) -> Peer:
        """Refuse the peer from now on."""
        raise NotImplementedError
