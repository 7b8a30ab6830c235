# SPDX-License-Identifier: Apache-2.0
"""Retrieve SCP: C-MOVE to registered nodes and C-GET on the same association (PS3.4 annex C)."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from scrigno.catalogue.catalogue import Catalogue
from scrigno.catalogue.records import StoredInstance
from scrigno.core.counters import Counters
from scrigno.core.errors import ScrignoError
from scrigno.core.events import Event, NodeRetrieved
from scrigno.dicomnet.association import Association
from scrigno.dicomnet.client import connect
from scrigno.dicomnet.errors import DicomNetError
from scrigno.dicomnet.service import Operation
from scrigno.settings.schema import Peer

from .admission import Admission
from .destinations import Destinations, UnknownDestination
from .identifier import IdentifierUnreadable, parse
from .matching import IdentifierMismatch
from .negotiation import Model, QueryOptions
from .outgoing import Outgoing
from .selection import plan_selection, select
from .statuses import Status, comment
from .suboperations import Tally, batches, send

log = logging.getLogger(__name__)

MAX_CONTEXTS: Final = 128  # PS3.8 section 9.3.2.2: odd ids up to 255
CONNECT_TIMEOUT_S: Final = 15.0
LEAVE_S: Final = 5.0
# A destination that loses the association this often in one C-MOVE gets the rest counted failed.
MAX_RECONNECTS: Final = 3
UNCOMPRESSED: Final = (str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian))


class RetrieveService:
    """Sends stored objects to those who may have them."""

    def __init__(
        self,
        catalogue: Catalogue,
        outgoing: Outgoing,
        destinations: Destinations,
        *,
        default_character_set: Callable[[], str],
        counters: Counters,
        on_read: Callable[[str], None] = lambda _study_uid: None,
        told: Callable[[Event], None] = lambda _event: None,
    ) -> None:
        """Look objects up in `catalogue` and read them through `outgoing`.

        `on_read` hears the UID of each study that is retrieved, `told` of each retrieval.
        """
        self._catalogue = catalogue
        self._outgoing = outgoing
        self._destinations = destinations
        self._default_character_set = default_character_set
        self._counters = counters
        self._on_read = on_read
        self._told = told

    async def get(self, operation: Operation, *, model: Model, options: QueryOptions) -> None:
        """Answer one C-GET; the peer must have taken the SCP role for what it wants."""
        instances = await self._selected(operation, model, options)
        if instances is None:
            return
        tally = Tally(operation, len(instances), counters=self._counters)
        try:
            await send(
                deque(instances),
                operation.association,
                self._outgoing,
                tally,
                priority=operation.command.priority,
            )
        finally:  # also when the node went away in the middle: what left the box has left it
            self._tell("get", operation, instances, tally)
        if operation.association.alive:
            await tally.finish()

    async def move(
        self, operation: Operation, *, model: Model, options: QueryOptions, admission: Admission
    ) -> None:
        """Answer one C-MOVE; the destination is a registered node, by its AE title only."""
        try:
            destination = self._destinations.find(operation.command.move_destination, admission)
        except UnknownDestination as error:
            await self._refuse(operation, Status.DESTINATION_UNKNOWN, error)
            return
        instances = await self._selected(operation, model, options)
        if instances is None:
            return
        tally = Tally(operation, len(instances), counters=self._counters)
        words = ""
        try:
            for batch in batches(instances, MAX_CONTEXTS):
                words = (
                    await self._deliver(deque(batch), destination, operation, tally, admission)
                    or words
                )
        finally:
            self._tell("move", operation, instances, tally, destination.ae_title)
        await tally.finish(words)

    def _tell(
        self,
        how: str,
        operation: Operation,
        instances: Sequence[StoredInstance],
        tally: Tally,
        destination: str = "",
    ) -> None:
        association = operation.association
        self._told(
            NodeRetrieved(
                calling_ae=association.request.calling_ae,
                host=association.peer.host,
                how=how,
                destination=destination,
                study_uids=tuple(dict.fromkeys(each.study_instance_uid for each in instances)),
                completed=tally.completed,
                failed=len(tally.failed_uids),
            )
        )

    async def _deliver(
        self,
        instances: deque[StoredInstance],
        destination: Peer,
        operation: Operation,
        tally: Tally,
        admission: Admission,
    ) -> str:
        """Send a batch over one association, a new one when it is lost; returns what went wrong."""
        words = ""
        for _ in range(1 + MAX_RECONNECTS):
            if not instances or tally.cancelled:
                return words
            try:
                association = await connect(
                    host=destination.host,
                    port=destination.port,
                    called_ae=destination.ae_title,
                    calling_ae=admission.called_ae,
                    contexts=proposal(instances),
                    timeout_s=CONNECT_TIMEOUT_S,
                    counters=self._counters,
                )
            except DicomNetError as error:
                words = error.reason
                log.warning("move to %r: %s", destination.ae_title, words)
                break
            try:
                await send(
                    instances,
                    association,
                    self._outgoing,
                    tally,
                    priority=operation.command.priority,
                    move_originator=(admission.calling_ae, operation.command.message_id),
                )
            finally:
                await leave(association)
        while instances and not tally.cancelled:
            instance = instances.popleft()
            await tally.failed(instance, words or "The association was lost.", "destination-lost")
        return words

    async def _selected(
        self, operation: Operation, model: Model, options: QueryOptions
    ) -> list[StoredInstance] | None:
        """Return the objects asked for, or None when the request was answered already."""
        try:
            identifier = parse(
                operation.data, operation.transfer_syntax, self._default_character_set()
            )
            selection = plan_selection(identifier, model, options)
            found = await select(self._catalogue, selection)
        except IdentifierUnreadable as error:
            await self._refuse(operation, Status.UNABLE_TO_PROCESS, error)
        except IdentifierMismatch as error:
            await self._refuse(operation, Status.MISMATCH, error, error.tags)
        except ScrignoError as error:
            await self._refuse(operation, Status.CANNOT_COUNT_MATCHES, error)
        else:
            for study_uid in {each.study_instance_uid for each in found}:
                self._on_read(study_uid)
            return found
        return None

    async def _refuse(
        self,
        operation: Operation,
        status: Status,
        error: ScrignoError,
        offending: tuple[int, ...] = (),
    ) -> None:
        self._counters.add("dicom_retrieve_refused", code=error.code, status=f"{status:04X}")
        log.warning(
            "retrieval from %r: refused with %04X: %s",
            operation.association.request.calling_ae,
            status,
            error.reason,
        )
        await operation.respond(status, comment=comment(error.reason), offending=offending)


def proposal(instances: Sequence[StoredInstance]) -> list[tuple[str, Sequence[str]]]:
    """Return the contexts to propose: each stored pair by itself, so that the peer can say yes to
    each, and per SOP class one in which everything can be sent after transcoding.
    """
    pairs = dict.fromkeys((each.sop_class_uid, each.transfer_syntax_uid) for each in instances)
    contexts: list[tuple[str, Sequence[str]]] = [
        (sop_class, (syntax,)) for sop_class, syntax in pairs
    ]
    for sop_class in dict.fromkeys(sop_class for sop_class, _ in pairs):
        others = tuple(each for each in UNCOMPRESSED if (sop_class, each) not in pairs)
        if others:
            contexts.append((sop_class, others))
    return contexts


async def leave(association: Association, *, wait_s: float = LEAVE_S) -> None:
    """Release what still works, so that the peer sees an orderly end.

    A peer that was told to stop gets `wait_s` to say that it has.
    """
    if association.alive:
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await association.answered()
                await association.release(timeout_s=wait_s)
    association.abort()
