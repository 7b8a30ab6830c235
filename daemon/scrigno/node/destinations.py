# SPDX-License-Identifier: Apache-2.0
"""Where a C-MOVE may send to: registered nodes with a known address, by AE title (PS3.4 C.4.2)."""

from dataclasses import replace

from scrigno.core.errors import ScrignoError
from scrigno.settings.schema import Peer, PeerState, Unregistered
from scrigno.settings.store import SettingsStore

from .admission import Admission


class UnknownDestination(ScrignoError):
    """The move destination is on no list, or may not be sent to (A801)."""

    code = "move-destination-unknown"


class Destinations:
    """Looks destinations up in the settings in force."""

    def __init__(self, settings: SettingsStore) -> None:
        """Read the peers from `settings`, anew for each move."""
        self._settings = settings

    def find(self, ae_title: str, requester: Admission) -> Peer:
        """Return the node of this AE title with an address to connect to.

        Where several share the title, the one at the requester's own address wins. A node that is
        registered for a network or for any address can only be reached when it asks for itself.
        """
        settings = self._settings.current
        provider = settings.provider(requester.provider)
        accepts_all = provider is not None and provider.unregistered is Unregistered.ACCEPT
        usable = {PeerState.APPROVED, PeerState.PENDING} if accepts_all else {PeerState.APPROVED}
        known = [each for each in settings.peers if each.ae_title == ae_title]
        allowed = [each for each in known if each.state in usable]
        if not allowed:
            raise UnknownDestination(
                f"Node {ae_title!r} is not approved."
                if known
                else f"No node {ae_title!r} is known."
            )
        for each in allowed:
            if each.host == requester.host or each.name == requester.peer_name:
                return replace(each, host=requester.host)
        for each in allowed:
            if each.host != "*" and "/" not in each.host:
                return each
        raise UnknownDestination(f"Node {ae_title!r} is registered without an address of its own.")
