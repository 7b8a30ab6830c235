# SPDX-License-Identifier: Apache-2.0
"""The C-STORE sub-operations of a retrieval: sent one after another, counted, told to the peer."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from scrigno.catalogue.records import StoredInstance
from scrigno.core.counters import Counters
from scrigno.core.errors import ScrignoError
from scrigno.dicomnet.association import Association
from scrigno.dicomnet.service import Operation

from .identifier import Writer
from .outgoing import Outgoing, targets
from .statuses import STORE_WARNINGS, Status, comment

log = logging.getLogger(__name__)

FAILED_SOP_INSTANCE_UID_LIST: Final = 0x00080058
MAX_LISTED_BYTES: Final = 0xFFFE  # UI has a 16 bit length (PS3.5 section 7.1.2)
COUNT_MAX: Final = 0xFFFF  # the counts of PS3.7 section 9.3.3 are US


class NoContext(ScrignoError):
    """The peer accepted no presentation context in which the object can be sent."""

    code = "no-presentation-context"


class Ledger(Protocol):
    """Hears what became of each object of a transfer."""

    @property
    def cancelled(self) -> bool:
        """Tell whether to stop between two objects."""

    async def done(self, instance: StoredInstance, status: int, words: str = "") -> None:
        """Hear the peer's answer to one object, with its comment."""

    async def failed(self, instance: StoredInstance, reason: str, code: str) -> None:
        """Hear why one object was not sent."""


class Tally:
    """The counts of one retrieval (PS3.7 section 9.1.3.1)."""

    def __init__(self, operation: Operation, total: int, *, counters: Counters) -> None:
        """Expect `total` sub-operations."""
        self._operation = operation
        self._counters = counters
        self.remaining = total
        self.completed = 0
        self.warning = 0
        self.failed_uids: list[str] = []

    @property
    def cancelled(self) -> bool:
        """Tell whether the peer cancelled."""
        return self._operation.cancelled.is_set()

    async def done(self, instance: StoredInstance, status: int, words: str = "") -> None:
        """Count the answer to one sub-operation and tell the peer."""
        if status == Status.SUCCESS:
            self.completed += 1
            outcome = "completed"
        elif status in STORE_WARNINGS:
            self.warning += 1
            outcome = "warning"
        else:
            self.failed_uids.append(instance.sop_instance_uid)
            outcome = "failed"
        self.remaining -= 1
        self._counters.add("dicom_sub_operations", outcome=outcome)
        await self._respond(Status.PENDING, with_remaining=True)

    async def failed(self, instance: StoredInstance, reason: str, code: str) -> None:
        """Count a sub-operation that could not be carried out."""
        log.warning("object %s: not sent: %s", instance.sop_instance_uid, reason)
        self._counters.add("dicom_sub_operations_failed", code=code)
        await self.done(instance, Status.UNABLE_TO_PROCESS)

    async def finish(self, words: str = "") -> None:
        """Send the final response (PS3.4 sections C.4.2.3, C.4.3.3)."""
        failed = len(self.failed_uids)
        if self.cancelled and self.remaining:
            await self._respond(Status.CANCELLED, with_remaining=True, words=words)
            return
        status = Status.SUCCESS
        if failed and not self.completed and not self.warning:
            status = Status.CANNOT_PERFORM_SUB_OPERATIONS
        elif failed or self.warning:
            status = Status.SUB_OPERATIONS_FAILED
        await self._respond(status, words=words)

    async def _respond(
        self, status: Status, *, with_remaining: bool = False, words: str = ""
    ) -> None:
        await self._operation.respond(
            status,
            data=None if status is Status.PENDING else self._failed_list(),
            comment=comment(words),
            remaining=min(self.remaining, COUNT_MAX) if with_remaining else None,
            completed=min(self.completed, COUNT_MAX),
            failed=min(len(self.failed_uids), COUNT_MAX),
            warning=min(self.warning, COUNT_MAX),
        )

    def _failed_list(self) -> bytes | None:
        if not self.failed_uids:
            return None
        listed = "\\".join(self.failed_uids)
        if len(listed) > MAX_LISTED_BYTES:
            listed = listed[:MAX_LISTED_BYTES].rpartition("\\")[0]
        writer = Writer(self._operation.transfer_syntax)
        element = writer.element(
            FAILED_SOP_INSTANCE_UID_LIST, "UI", listed.encode("ascii", "replace")
        )
        return writer.data_set({FAILED_SOP_INSTANCE_UID_LIST: element})


class _Loading:
    """One object whose first bytes are being read while the one before is being sent."""

    def __init__(
        self, outgoing: Outgoing, association: Association, instance: StoredInstance
    ) -> None:
        self.instance = instance
        self.context_id = association.context_for(instance.sop_class_uid, targets(instance))
        self._first: asyncio.Task[bytes | None] | None = None
        if self.context_id is not None:
            syntax = association.contexts[self.context_id].transfer_syntax
            self._source = outgoing.data_set(instance, syntax)
            self._first = asyncio.ensure_future(anext(self._source, None))
        self.chunks = self._chunks()

    async def _chunks(self) -> AsyncGenerator[bytes, None]:
        if self._first is None:
            return
        first = await self._first
        if first is None:
            return
        yield first
        async for chunk in self._source:
            yield chunk

    async def aclose(self) -> None:
        await self.chunks.aclose()
        if self._first is None:
            return
        self._first.cancel()
        # its error, if any, was raised by `chunks` or belongs to an object that is not sent
        await asyncio.gather(self._first, return_exceptions=True)
        await self._source.aclose()


async def send(
    instances: deque[StoredInstance],
    association: Association,
    outgoing: Outgoing,
    tally: Ledger,
    *,
    priority: int = 0,
    move_originator: tuple[str, int] | None = None,
) -> None:
    """Send objects from the left of `instances` until none is left, the peer cancels, or the
    association is gone; each is taken off when its sub-operation is counted.
    """
    ahead: _Loading | None = None
    current: _Loading | None = None
    try:
        while instances and association.alive and not tally.cancelled:
            current = ahead or _Loading(outgoing, association, instances[0])
            ahead = _Loading(outgoing, association, instances[1]) if len(instances) > 1 else None
            await _send_one(
                current, association, tally, priority=priority, move_originator=move_originator
            )
            instances.popleft()
            await current.aclose()
    finally:
        for each in (current, ahead):
            if each is not None:
                await each.aclose()


async def _send_one(
    loading: _Loading,
    association: Association,
    tally: Ledger,
    *,
    priority: int,
    move_originator: tuple[str, int] | None,
) -> None:
    instance = loading.instance
    try:
        if loading.context_id is None:
            raise NoContext(
                f"The peer takes SOP class {instance.sop_class_uid} in no syntax that can be made."
            )
        response = await association.store(
            context_id=loading.context_id,
            sop_class_uid=instance.sop_class_uid,
            sop_instance_uid=instance.sop_instance_uid,
            chunks=loading.chunks,
            priority=priority,
            move_originator=move_originator,
        )
    except ScrignoError as error:
        await tally.failed(instance, error.reason, error.code)
        return
    if response.status != Status.SUCCESS:
        log.warning(
            "object %s: the peer answered %04X %s",
            instance.sop_instance_uid,
            response.status,
            comment(response.comment),
        )
    await tally.done(instance, response.status, response.comment)


@dataclass(slots=True)
class _Batch:
    """Objects that go over one association."""

    pairs: set[tuple[str, str]]
    members: list[StoredInstance]

    def fits(self, pair: tuple[str, str], most_contexts: int) -> bool:
        pairs = self.pairs | {pair}
        # one context per pair, and one per SOP class for what must be transcoded
        return len(pairs) + len({sop_class for sop_class, _ in pairs}) <= most_contexts


def batches(instances: Sequence[StoredInstance], most_contexts: int) -> list[list[StoredInstance]]:
    """Split so that no batch needs more than `most_contexts` presentation contexts.

    Objects keep their order within a batch; nearly always there is one batch.
    """
    made: list[_Batch] = []
    for instance in instances:
        pair = (instance.sop_class_uid, instance.transfer_syntax_uid)
        batch = next((each for each in made if each.fits(pair, most_contexts)), None)
        if batch is None:
            batch = _Batch(set(), [])
            made.append(batch)
        batch.pairs.add(pair)
        batch.members.append(instance)
    return [each.members for each in made]
