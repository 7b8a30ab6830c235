# SPDX-License-Identifier: Apache-2.0
"""One try to send an item: an association, its objects one after the other, each noted at once."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from scrigno.catalogue.catalogue import Catalogue
from scrigno.catalogue.records import StoredInstance
from scrigno.core.counters import Counters
from scrigno.core.errors import ScrignoError
from scrigno.dicomnet.client import connect
from scrigno.dicomnet.errors import AssociationLost
from scrigno.settings.schema import Peer

from .outgoing import Outgoing
from .retrieve import CONNECT_TIMEOUT_S, MAX_CONTEXTS, leave, proposal
from .send_book import SendBook
from .send_model import ObjectState, SendItem, SendObject
from .statuses import STORE_WARNINGS, Status, comment
from .suboperations import batches, send

log = logging.getLogger(__name__)

MOST_WORDS: Final = 200
# What a later try cannot mend: no context, an object that cannot be made what the node takes.
LASTING: Final = frozenset(
    {
        "no-presentation-context",
        "decode-failed",
        "not-dicom",
        "no-pixel-data",
        "unsupported-transfer-syntax",
        "object-unreadable",
    }
)
# Answers of a node that may be others tomorrow: out of resources (A7xx), processing failure.
OUT_OF_RESOURCES: Final = range(0xA700, 0xA800)
PROCESSING_FAILURE: Final = 0x0110


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """How a try ended; `code` is "" when every object has its answer."""

    code: str = ""
    words: str = ""
    taken: int = 0


class Ledger:
    """Notes each answer before the object after the next one leaves.

    So at most one object is sent anew when the power fails between an answer and its note.
    """

    def __init__(
        self, item: SendItem, book: SendBook, counters: Counters, stopped: Callable[[], bool]
    ) -> None:
        """Write into `book`; `stopped` tells that nothing more is to be sent."""
        self._item = item
        self._book = book
        self._counters = counters
        self._stopped = stopped
        self._writing: asyncio.Task[None] | None = None
        self.unwritten: list[SendObject] = []  # answers that the disk did not take
        self.taken = 0
        self.code = ""
        self.words = ""

    @property
    def cancelled(self) -> bool:
        """Tell whether to stop between two objects."""
        return self._stopped() or bool(self.unwritten)

    async def done(self, instance: StoredInstance, status: int, words: str = "") -> None:
        """Note the node's answer to one object."""
        if status == Status.SUCCESS or status in STORE_WARNINGS:
            self.taken += 1
            await self._note(instance, ObjectState.SENT, status, "", words)
            return
        code = f"status-{status:04x}"
        words = f"The node answered {status:04X} {comment(words)}".strip() + "."
        if status in OUT_OF_RESOURCES or status == PROCESSING_FAILURE:
            self.code, self.words = code, words
            await self._note(instance, ObjectState.WAITING, status, code, words)
        else:
            await self._note(instance, ObjectState.FAILED, status, code, words)

    async def failed(self, instance: StoredInstance, reason: str, code: str) -> None:
        """Note why an object did not leave."""
        log.warning("send item %d: object %s: %s", self._item.id, instance.sop_instance_uid, code)
        if code in LASTING:
            await self._note(instance, ObjectState.FAILED, None, code, reason)
        else:
            self.code, self.words = code, reason
            await self._note(instance, ObjectState.WAITING, None, code, reason)

    async def gone(self, uids: Sequence[str]) -> None:
        """Note objects that the archive has no more."""
        words = "The archive no longer has this object."
        failed = ObjectState.FAILED
        made = [
            SendObject(
                position=0, sop_instance_uid=uid, state=failed, code="object-gone", comment=words
            )
            for uid in uids
        ]
        await self._book.note(self._item.id, made)

    async def settle(self) -> None:
        """Wait until what was noted is written."""
        if self._writing is not None:
            await self._writing
            self._writing = None

    async def _note(
        self,
        instance: StoredInstance,
        state: ObjectState,
        status: int | None,
        code: str,
        words: str,
    ) -> None:
        self._counters.add("send_objects", outcome=state.name.lower())
        await self.settle()
        one = SendObject(
            position=0,
            sop_instance_uid=instance.sop_instance_uid,
            state=state,
            status=status,
            code=code,
            comment=words[:MOST_WORDS],
        )
        self._writing = asyncio.create_task(self._write(one), name="send-note")

    async def _write(self, one: SendObject) -> None:
        try:
            await self._book.note(self._item.id, [one])
        except ScrignoError as error:
            self.unwritten.append(one)
            self.code, self.words = error.code, error.reason


class Sending:
    """Tries items."""

    def __init__(
        self,
        *,
        book: SendBook,
        catalogue: Catalogue,
        outgoing: Outgoing,
        counters: Counters,
        on_read: Callable[[str], None],
    ) -> None:
        """Look objects up in `catalogue`, read them through `outgoing`."""
        self._book = book
        self._catalogue = catalogue
        self._outgoing = outgoing
        self._counters = counters
        self._on_read = on_read
        self._owed: dict[int, list[SendObject]] = {}  # answers not written yet, by item

    async def try_item(
        self, item: SendItem, peer: Peer, calling_ae: str, stopped: Callable[[], bool]
    ) -> Tried:
        """Send what waits of an item over as many associations as its contexts need, mostly one.

        Never raises for what the node, the archive or the disk does.
        """
        ledger = Ledger(item, self._book, self._counters, stopped)
        try:
            await self._pay(item)
            await self._try(item, peer, calling_ae, ledger)
        except ScrignoError as error:
            ledger.code, ledger.words = error.code, error.reason
        finally:
            await asyncio.shield(ledger.settle())
            if ledger.unwritten:
                self._owed.setdefault(item.id, []).extend(ledger.unwritten)
        return Tried(code=ledger.code, words=ledger.words[:MOST_WORDS], taken=ledger.taken)

    async def _pay(self, item: SendItem) -> None:
        """Write answers that the disk did not take before anything is sent again."""
        if owed := self._owed.get(item.id):
            await self._book.note(item.id, owed)
            del self._owed[item.id]

    async def _try(self, item: SendItem, peer: Peer, calling_ae: str, ledger: Ledger) -> None:
        uids = await self._book.waiting_uids(item.id)
        found = {each.sop_instance_uid: each for each in await self._instances(item.study_uid)}
        if gone := [uid for uid in uids if uid not in found]:
            await ledger.gone(gone)
        self._on_read(item.study_uid)
        instances = [found[uid] for uid in uids if uid in found]
        for batch in batches(instances, MAX_CONTEXTS):
            if ledger.cancelled:
                return
            association = await connect(
                host=peer.host,
                port=peer.port,
                called_ae=peer.ae_title,
                calling_ae=calling_ae,
                contexts=proposal(batch),
                timeout_s=CONNECT_TIMEOUT_S,
                counters=self._counters,
            )
            left = deque(batch)
            try:
                await send(left, association, self._outgoing, ledger)
            finally:
                await leave(association)
            if left and not ledger.code and association.end is not None:
                raise AssociationLost("The node ended the association.")

    async def _instances(self, study_uid: str) -> Sequence[StoredInstance]:
        return await self._catalogue.instances(study_uid)
