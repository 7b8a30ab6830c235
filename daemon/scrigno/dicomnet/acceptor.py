# SPDX-License-Identifier: Apache-2.0
"""A connection that came in, until it is an association: PS3.8 section 7.1 from the acceptor."""

import asyncio
import logging
from typing import Final, Protocol

from scrigno.core.counters import Counters

from .association import Association
from .fsm import Event, State
from .limits import Limits
from .pdu import (
    APPLICATION_CONTEXT,
    CONTEXT_NAME_NOT_SUPPORTED,
    LEAST_MAX_PDU,
    LOCAL_LIMIT_EXCEEDED,
    TEMPORARY_CONGESTION,
    VERSION_NOT_SUPPORTED,
    ReceivedAcceptance,
    ReceivedRequest,
    encode_associate_ac,
    encode_associate_rj,
)
from .service import (
    Acceptance,
    AssociationRequest,
    CloseReason,
    Rejection,
    ServiceProvider,
)
from .upper import UpperLayer

log = logging.getLogger(__name__)

_TINY_PDU: Final = Rejection(1, 2, 1, "the peer's maximum PDU length is too small")


class Register(Protocol):
    """Who counts associations."""

    def has_room(self, request: AssociationRequest) -> bool:
        """Tell whether one more of this peer is within the limits; if so it is counted."""

    def established(self, association: Association) -> None:
        """The association is accepted."""

    def failed(self, request: AssociationRequest) -> None:
        """The request that was counted became no association."""

    def over(self, association: Association) -> None:
        """The association ended."""


class Acceptor:
    """The upper layer's user in Sta2 and Sta3."""

    busy = True
    inside_message = False

    def __init__(
        self,
        *,
        provider: ServiceProvider,
        register: Register,
        limits: Limits,
        counters: Counters,
    ) -> None:
        self.upper: UpperLayer | None = None  # set by the server as soon as there is one
        self._provider = provider
        self._register = register
        self._limits = limits
        self._counters = counters
        self._task: asyncio.Task[None] | None = None
        self._counted: AssociationRequest | None = None  # until an association uncounts itself

    @property
    def task(self) -> asyncio.Task[None] | None:
        """Return the negotiation while it runs."""
        return self._task

    def associate_indicated(self, received: ReceivedRequest) -> Rejection | None:
        """Start to negotiate, or say why the provider cannot (PS3.8 section 7.1.1.7)."""
        rejection = self._screen(received)
        if rejection is not None:
            self._note_rejection(received.request, rejection)
            return rejection
        self._counted = received.request
        self._task = asyncio.get_running_loop().create_task(self._negotiate(received))
        self._task.add_done_callback(self._negotiated)
        return None

    def _screen(self, received: ReceivedRequest) -> Rejection | None:
        if not received.version & 1:
            return VERSION_NOT_SUPPORTED
        if received.application_context != APPLICATION_CONTEXT:
            return CONTEXT_NAME_NOT_SUPPORTED
        if 0 < received.request.max_pdu < LEAST_MAX_PDU:
            return _TINY_PDU
        if not self._register.has_room(received.request):
            return LOCAL_LIMIT_EXCEEDED
        return None

    async def _negotiate(self, received: ReceivedRequest) -> None:
        request = received.request
        answer = await self._ask(request)
        upper = self.upper
        if upper is None or upper.state is not State.STA3:
            return
        if isinstance(answer, Rejection):
            self._note_rejection(request, answer)
            upper.fire(Event.ASSOCIATE_REJECT, encode_associate_rj(answer))
            return
        self._establish(upper, received, answer)
        self._counted = None

    async def _ask(self, request: AssociationRequest) -> Acceptance | Rejection:
        try:
            async with asyncio.timeout(self._limits.negotiate_s):
                return await self._provider.negotiate(request)
        except TimeoutError:
            return Rejection(2, 3, 1, "our negotiation took too long")
        except Exception:
            log.exception("association of %r: negotiation failed", request.calling_ae)
            return TEMPORARY_CONGESTION

    def _establish(
        self, upper: UpperLayer, received: ReceivedRequest, acceptance: Acceptance
    ) -> None:
        association = Association(
            upper=upper,
            request=received.request,
            acceptance=acceptance,
            peer_max_pdu=received.request.max_pdu,
            limits=self._limits,
            counters=self._counters,
            over=self._register.over,
        )
        pdu = encode_associate_ac(received, acceptance, max_pdu=self._limits.max_pdu)
        upper.user = association
        self._counters.add("dicom_associations_accepted")
        self._register.established(association)
        upper.fire(Event.ASSOCIATE_ACCEPT, pdu)
        try:
            association.attach(self._provider.established(association))
        except Exception:
            log.exception("association %r: nobody serves it", association)
            association.abort()

    def _negotiated(self, task: asyncio.Task[None]) -> None:
        self._task = None
        # Here, because a task that is cancelled before it has begun runs no `finally` of its own.
        if self._counted is not None:
            self._register.failed(self._counted)
            self._counted = None
        if task.cancelled() or task.exception() is None:
            return
        log.error("association: the negotiation failed", exc_info=task.exception())
        if self.upper is not None:
            self.upper.abort(CloseReason.ABORTED_BY_US, "the negotiation failed")

    def _note_rejection(self, request: AssociationRequest, rejection: Rejection) -> None:
        self._counters.add("dicom_associations_rejected", reason=rejection.words)
        log.warning(
            "association of %r at %s to %r: rejected, %s (%d/%d/%d)",
            request.calling_ae,
            request.peer.host,
            request.called_ae,
            rejection.words,
            rejection.result,
            rejection.source,
            rejection.reason,
        )

    def ended(self, reason: CloseReason, words: str) -> None:
        """The peer went away, or was sent away, before there was an association."""
        self._counters.add("dicom_connections_without_association", reason=reason.value)
        if self.upper is not None:
            # A port scan, a monitor's probe, a peer of another protocol: counted, not shouted.
            log.debug("connection of %s: %s, %s", self.upper.peer.host, reason.value, words)
        if self._task is not None:
            self._task.cancel()

    def associate_confirmed(self, received: ReceivedAcceptance) -> None:
        """Cannot happen: an acceptor is never in Sta5."""
        raise AssertionError

    def associate_refused(self, rejection: Rejection) -> None:
        """Cannot happen: an acceptor is never in Sta5."""
        raise AssertionError

    def data_indicated(
        self, context_id: int, control: int, piece: memoryview, *, complete: bool
    ) -> None:
        """Cannot happen: there is no data before Sta6."""
        raise AssertionError

    def release_indicated(self) -> None:
        """Cannot happen: there is no release before Sta6."""
        raise AssertionError

    def writable(self) -> None:
        """Nobody waits to write yet."""
