# SPDX-License-Identifier: Apache-2.0
"""Who may come in, with which rights, and how many at once (SPEC DN-2, DN-3, DN-11, AD-8).

Decided once per association. A node is known by its AE title *and* its address; the same title
from elsewhere is an unknown node. AE titles in clear text can be forged: this keeps mistakes and
strangers out, TLS keeps forgers out.
"""

import logging
from collections import Counter
from dataclasses import dataclass
from typing import Final

from scrigno.core.counters import Counters
from scrigno.core.errors import ScrignoError
from scrigno.core.events import AssociationRefused, EventBus
from scrigno.dicomnet.service import AssociationRequest, Rejection
from scrigno.settings.peers import Peers
from scrigno.settings.schema import Peer, PeerState, Provider, Right, Unregistered
from scrigno.settings.store import SettingsStore

log = logging.getLogger(__name__)

# Guards that hold while the settings say "unlimited": they keep one machine from taking every
# descriptor and all memory, and are far above what a hospital's busiest sender opens.
GUARD_TOTAL: Final = 1000
GUARD_PER_PEER: Final = 64
GUARD_PER_HOST: Final = 256

# What a node that nobody approved may do while its images are held.
HELD_RIGHTS: Final = frozenset({Right.ECHO, Right.STORE})
HOLD_REASON: Final = "unapproved-node"


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """A node that was let in."""

    provider: str
    called_ae: str
    calling_ae: str
    host: str
    peer_name: str  # "" when it is on no list
    rights: frozenset[Right]
    hold: str | None  # keep its images in the inbox for this reason


@dataclass(frozen=True, slots=True)
class Refusal:
    """A node that was turned away, with the words for log, counters and the alert."""

    code: str
    reason: str
    rejection: Rejection


# PS3.8 table 9-21: (result, source, reason)
_CALLED_AE: Final = (1, 1, 7)
_CALLING_AE: Final = (1, 1, 3)
_LOCAL_LIMIT: Final = (2, 3, 2)
_NO_REASON: Final = (2, 1, 1)


def refusal(code: str, numbers: tuple[int, int, int], reason: str) -> Refusal:
    """Return a refusal; dicomnet logs the rejection and counts it by its words, hence the code.

    (A label must not hold what a stranger invents: it would make counters without end.)
    """
    return Refusal(code, reason, Rejection(*numbers, words=code))


class Admissions:
    """Decides and counts, over all providers together. Loop thread only."""

    def __init__(
        self, *, settings: SettingsStore, peers: Peers, bus: EventBus, counters: Counters
    ) -> None:
        """Start with nobody in."""
        self._settings = settings
        self._peers = peers
        self._bus = bus
        self._counters = counters
        self._per_peer: Counter[tuple[str, str]] = Counter()
        self._per_host: Counter[str] = Counter()

    @property
    def count(self) -> int:
        """Return how many associations are in now."""
        return self._per_peer.total()

    async def decide(self, provider_name: str, request: AssociationRequest) -> Admission | Refusal:
        """Let the node in or turn it away; a stranger may be put on the pending list."""
        provider = self._settings.current.provider(provider_name)
        if provider is None or not provider.enabled:
            return refusal("provider-closed", _NO_REASON, "This provider is being closed.")
        if request.called_ae != provider.ae_title:
            return refusal(
                "called-ae-unknown",
                _CALLED_AE,
                f"{request.called_ae!r} is not the AE title of this provider.",
            )
        peer = await self._peers.find(request.calling_ae, request.peer.host)
        decision = await self._judge(provider, request, peer)
        # Counted last and without a wait in between, so that two callers cannot share a place.
        return decision if isinstance(decision, Refusal) else self._limited(decision)

    async def _judge(
        self, provider: Provider, request: AssociationRequest, peer: Peer | None
    ) -> Admission | Refusal:
        calling, host = request.calling_ae, request.peer.host
        if peer is None and provider.unregistered is not Unregistered.REJECT:
            peer = await self._register(calling, host)
        if peer is not None and peer.state is PeerState.BLOCKED:
            return refusal("peer-blocked", _CALLING_AE, f"The node {calling!r} is blocked.")
        approved = peer is not None and peer.state is PeerState.APPROVED
        if not approved and provider.unregistered is Unregistered.REJECT:
            return refusal(
                "calling-ae-unknown",
                _CALLING_AE,
                f"No approved node {calling!r} is registered at {host}.",
            )
        rights, hold = HELD_RIGHTS, None
        if approved or provider.unregistered is Unregistered.ACCEPT:
            rights = peer.rights if peer is not None else HELD_RIGHTS
        else:
            hold = HOLD_REASON
        return Admission(
            provider=provider.name,
            called_ae=provider.ae_title,
            calling_ae=calling,
            host=host,
            peer_name=peer.name if peer is not None else "",
            rights=rights,
            hold=hold,
        )

    async def _register(self, calling_ae: str, host: str) -> Peer | None:
        """Put a stranger on the pending list; a list that cannot be written keeps no image out."""
        try:
            return await self._peers.register_contact(calling_ae, host)
        except (ScrignoError, OSError) as error:
            self._counters.add("dicom_peers_not_registered")
            log.warning("peer %r at %s: cannot be registered: %s", calling_ae, host, error)
            return None

    def _limited(self, admission: Admission) -> Admission | Refusal:
        limits = self._settings.current.limits
        if limits.max_dicom_connections is not None and self.count >= limits.max_dicom_connections:
            return refusal(
                "dicom-connections-reached",
                _LOCAL_LIMIT,
                f"All {limits.max_dicom_connections} DICOM connections are in use.",
            )
        of_peer = self._per_peer[admission.calling_ae, admission.host]
        most = limits.max_associations_per_peer or GUARD_PER_PEER
        if of_peer >= most:
            return refusal(
                "peer-connections-reached",
                _LOCAL_LIMIT,
                f"The node {admission.calling_ae!r} has {of_peer} associations, the most it may.",
            )
        if self.count >= GUARD_TOTAL or self._per_host[admission.host] >= GUARD_PER_HOST:
            return refusal(
                "too-many-connections", _LOCAL_LIMIT, "Too many associations are open at once."
            )
        return admission

    async def again(self, provider_name: str, request: AssociationRequest) -> Admission | Refusal:
        """Decide anew about a node that is in, after the settings changed; limits do not count."""
        provider = self._settings.current.provider(provider_name)
        if provider is None:
            return refusal("provider-closed", _NO_REASON, "This provider is being closed.")
        peer = await self._peers.find(request.calling_ae, request.peer.host)
        return await self._judge(provider, request, peer)

    def refused(self, provider_name: str, request: AssociationRequest, why: Refusal) -> None:
        """Count and publish that a node was turned away; dicomnet logs what is rejected."""
        self._counters.add("dicom_associations_refused", code=why.code)
        self._bus.publish(
            AssociationRefused(
                provider=provider_name,
                calling_ae=request.calling_ae,
                called_ae=request.called_ae,
                host=request.peer.host,
                code=why.code,
                reason=why.reason,
            )
        )

    def entered(self, admission: Admission) -> None:
        """Count an association in; `left` must follow."""
        self._per_peer[admission.calling_ae, admission.host] += 1
        self._per_host[admission.host] += 1
        self._counters.add("dicom_associations", provider=admission.provider)
        if admission.peer_name:
            self._peers.seen(admission.peer_name)

    def left(self, admission: Admission) -> None:
        """Count it out."""
        key = (admission.calling_ae, admission.host)
        self._per_peer[key] -= 1
        if self._per_peer[key] <= 0:
            del self._per_peer[key]
        self._per_host[admission.host] -= 1
        if self._per_host[admission.host] <= 0:
            del self._per_host[admission.host]
