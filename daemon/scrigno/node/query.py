# SPDX-License-Identifier: Apache-2.0
"""Query SCP: C-FIND of the three information models (PS3.4 annex C)."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Final

from scrigno.catalogue.catalogue import Catalogue
from scrigno.catalogue.query import FindQuery
from scrigno.catalogue.records import FindRow
from scrigno.core.counters import Counters
from scrigno.core.errors import ScrignoError
from scrigno.core.events import Event, NodeQueried
from scrigno.dicomnet.service import Operation

from .answers import AnswerWriter
from .identifier import IdentifierUnreadable, parse
from .matching import IdentifierMismatch, plan_query
from .negotiation import Model, QueryOptions
from .statuses import Status, comment

log = logging.getLogger(__name__)

# Answers are written without waiting while the peer keeps up; the loop, and with it a C-CANCEL,
# gets its turn after this many (about 1 ms of work).
ANSWERS_PER_TURN: Final = 16


class QueryService:
    """Answers C-FIND from the catalogue."""

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        default_character_set: Callable[[], str],
        counters: Counters,
        told: Callable[[Event], None] = lambda _event: None,
    ) -> None:
        """Ask `catalogue`; requests that name no character set are read with the default one.

        `told` hears of each query that was answered.
        """
        self._catalogue = catalogue
        self._default_character_set = default_character_set
        self._counters = counters
        self._told = told

    async def serve(
        self, operation: Operation, *, model: Model, options: QueryOptions, retrieve_ae: str
    ) -> None:
        """Answer one C-FIND; `retrieve_ae` is where the answers can be retrieved from."""
        try:
            identifier = parse(
                operation.data, operation.transfer_syntax, self._default_character_set()
            )
            plan = plan_query(identifier, model, options)
        except IdentifierUnreadable as error:
            await self._refuse(operation, Status.UNABLE_TO_PROCESS_QUERY, error)
            return
        except IdentifierMismatch as error:
            await self._refuse(operation, Status.MISMATCH, error, error.tags)
            return
        writer = AnswerWriter(
            plan,
            transfer_syntax=operation.transfer_syntax,
            character_set=identifier.character_set,
            retrieve_ae=retrieve_ae,
        )
        pending = Status.PENDING_KEYS_UNSUPPORTED if plan.unsupported else Status.PENDING
        try:
            answers = await self._stream(operation, plan.query, writer, pending)
        except ScrignoError as error:
            if operation.association.alive:
                await self._refuse(operation, Status.OUT_OF_RESOURCES, error)
            return
        self._counters.add("dicom_find_answers", answers)
        association = operation.association
        self._told(
            NodeQueried(
                calling_ae=association.request.calling_ae,
                host=association.peer.host,
                answers=answers,
            )
        )

    async def _stream(
        self, operation: Operation, query: FindQuery, writer: AnswerWriter, pending: Status
    ) -> int:
        """Send every match, then the final answer; returns how many were sent."""
        count = 0
        async with aclosing(_rows(self._catalogue, query)) as rows:
            async for row in rows:
                if operation.cancelled.is_set():
                    await operation.respond(Status.CANCELLED)
                    return count
                await operation.respond(pending, data=writer.encode(row))
                count += 1
                if count % ANSWERS_PER_TURN == 0:
                    await asyncio.sleep(0)
        await operation.respond(Status.SUCCESS)
        return count

    async def _refuse(
        self,
        operation: Operation,
        status: Status,
        error: ScrignoError,
        offending: tuple[int, ...] = (),
    ) -> None:
        self._counters.add("dicom_find_refused", code=error.code, status=f"{status:04X}")
        log.warning(
            "query from %r: refused with %04X: %s",
            operation.association.request.calling_ae,
            status,
            error.reason,
        )
        await operation.respond(status, comment=comment(error.reason), offending=offending)


async def _rows(catalogue: Catalogue, query: FindQuery) -> AsyncGenerator[FindRow, None]:
    async for row in catalogue.find(query):
        yield row
