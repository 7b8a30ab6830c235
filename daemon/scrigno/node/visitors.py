# SPDX-License-Identifier: Apache-2.0
"""One association inside: which service each request goes to, with the rights of the node."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from scrigno.archive.ingest import Ingest
from scrigno.core.counters import Counters
from scrigno.core.events import EventBus
from scrigno.dicomnet import dimse
from scrigno.dicomnet.association import Association
from scrigno.dicomnet.service import CloseReason, Command, Operation, Response, StoreSink
from scrigno.settings.schema import Right
from scrigno.settings.store import SettingsStore

from .admission import Admission
from .negotiation import QUERY_RETRIEVE, QueryOptions, Service, service_of
from .query import QueryService
from .retrieve import RetrieveService
from .statuses import Status, comment
from .storage import Storage
from .verification import serve_echo

log = logging.getLogger(__name__)

# Which right and which kind of presentation context each request needs.
_REQUESTS: Final = {
    dimse.C_ECHO_RQ: (Right.ECHO, Service.VERIFICATION),
    dimse.C_FIND_RQ: (Right.QUERY, Service.FIND),
    dimse.C_MOVE_RQ: (Right.RETRIEVE, Service.MOVE),
    dimse.C_GET_RQ: (Right.RETRIEVE, Service.GET),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What every association is served with."""

    ingest: Ingest
    query: QueryService
    retrieve: RetrieveService
    settings: SettingsStore
    counters: Counters
    bus: EventBus


class Visitor:
    """Serves one association; an `AssociationHandler` of dicomnet."""

    def __init__(
        self,
        association: Association,
        admission: Admission,
        services: Services,
        *,
        on_closed: Callable[["Visitor"], None],
    ) -> None:
        """Serve the node that was admitted; `on_closed` is called once."""
        self.association = association
        self.admission = admission
        self._services = services
        self._on_closed = on_closed
        self._storage = Storage(
            admission,
            ingest=services.ingest,
            settings=services.settings,
            counters=services.counters,
            bus=services.bus,
        )
        self.store_sink: Callable[[Command, str, Callable[[], None]], StoreSink | Response] = (
            self._storage.sink
        )

    def admitted(self, admission: Admission) -> None:
        """Use these rights from the next request on (the settings changed)."""
        self.admission = admission
        self._storage.admitted(admission)

    async def serve(self, operation: Operation) -> None:
        """Answer one request other than C-STORE."""
        needed = _REQUESTS.get(operation.command.field)
        if needed is None:
            await self._refuse(
                operation, Status.UNRECOGNISED_OPERATION, "This operation is not offered here."
            )
            return
        right, kind = needed
        context = self.association.contexts[operation.command.context_id]
        if service_of(context.abstract_syntax) is not kind:
            await self._refuse(
                operation,
                Status.SOP_CLASS_NOT_SUPPORTED,
                "This operation does not belong to its presentation context.",
            )
            return
        if right not in self.admission.rights:
            await self._refuse(
                operation,
                Status.NOT_AUTHORISED,
                f"Node {self.admission.calling_ae} may not {right}.",
            )
            return
        self._services.counters.add("dicom_requests", service=kind)
        if kind is Service.VERIFICATION:
            await serve_echo(operation)
            return
        await self._serve_information_model(operation, context.abstract_syntax)

    async def _serve_information_model(self, operation: Operation, sop_class: str) -> None:
        model, kind = QUERY_RETRIEVE[sop_class]
        options = self._options(sop_class)
        match kind:
            case Service.FIND:
                await self._services.query.serve(
                    operation, model=model, options=options, retrieve_ae=self.admission.called_ae
                )
            case Service.MOVE:
                await self._services.retrieve.move(
                    operation, model=model, options=options, admission=self.admission
                )
            case _:
                await self._services.retrieve.get(operation, model=model, options=options)

    def _options(self, sop_class: str) -> QueryOptions:
        return QueryOptions.parse(self.association.acceptance.extended.get(sop_class, b""))

    async def _refuse(self, operation: Operation, status: Status, reason: str) -> None:
        self._services.counters.add("dicom_requests_refused", status=f"{status:04X}")
        log.warning(
            "request %04X from %r: refused with %04X: %s",
            operation.command.field,
            self.admission.calling_ae,
            status,
            reason,
        )
        await operation.respond(status, comment=comment(reason))

    def closed(self, reason: CloseReason) -> None:
        """Count the association out; dicomnet has logged and counted why."""
        self._on_closed(self)
