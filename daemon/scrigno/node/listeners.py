# SPDX-License-Identifier: Apache-2.0
"""One provider's port and who is in over it."""

import logging
from dataclasses import dataclass

from scrigno.dicomnet.association import Association
from scrigno.dicomnet.limits import Limits
from scrigno.dicomnet.server import DicomServer
from scrigno.dicomnet.service import Acceptance, AssociationRequest, Rejection
from scrigno.settings.schema import Provider

from .admission import Admission, Admissions, Refusal
from .negotiation import negotiate
from .visitors import Services, Visitor

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Admitted(Acceptance):
    """The acceptance of a node, and with which rights it came in."""

    admission: Admission


class Listener:
    """One provider's port; a `ServiceProvider` of dicomnet."""

    def __init__(
        self, provider: Provider, *, admissions: Admissions, services: Services, limits: Limits
    ) -> None:
        """Listen nowhere yet: `server.start` does."""
        self.address = (provider.host, provider.port)
        self.name = provider.name
        self.failure = ""
        self.visitors: set[Visitor] = set()
        self._admissions = admissions
        self._services = services
        self.server = DicomServer(
            host=provider.host,
            port=provider.port,
            provider=self,
            counters=services.counters,
            limits=limits,
        )

    async def negotiate(self, request: AssociationRequest) -> Acceptance | Rejection:
        """Decide who comes in and on which contexts."""
        decision = await self._admissions.decide(self.name, request)
        if isinstance(decision, Refusal):
            self._admissions.refused(self.name, request, decision)
            return decision.rejection
        accepted = negotiate(request)
        return _Admitted(
            contexts=accepted.contexts,
            roles=accepted.roles,
            extended=accepted.extended,
            async_ops=accepted.async_ops,
            user_identity_response=accepted.user_identity_response,
            admission=decision,
        )

    def established(self, association: Association) -> Visitor:
        """Return who serves the association."""
        accepted = association.acceptance
        if not isinstance(accepted, _Admitted):
            raise TypeError("the association was not accepted by this listener")
        admission = accepted.admission
        visitor = Visitor(association, admission, self._services, on_closed=self._left)
        self._admissions.entered(admission)
        self.visitors.add(visitor)
        return visitor

    def _left(self, visitor: Visitor) -> None:
        self.visitors.discard(visitor)
        self._admissions.left(visitor.admission)

    async def look_again(self) -> None:
        """Decide anew about everybody who is in; a node that was blocked is put out."""
        for visitor in tuple(self.visitors):
            association = visitor.association
            decision = await self._admissions.again(self.name, association.request)
            if isinstance(decision, Admission):
                visitor.admitted(decision)
            elif decision.code == "peer-blocked" and association.alive:
                log.warning("association %r: aborted, the node was blocked", association)
                self._admissions.refused(self.name, association.request, decision)
                association.abort()
