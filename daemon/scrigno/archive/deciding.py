# SPDX-License-Identifier: Apache-2.0
"""Carrying out what was decided about a kept object, and taking it back.

A decision is recorded before its first step and marked as done with its last, so that after a
crash it is carried out to its end. Every step can be repeated with the same result. Bytes are
never changed, and a place is given up only when the bytes stand durably in another.
"""

import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Final

from scrigno.catalogue.catalogue import Catalogue
from scrigno.catalogue.decisions import Decision, Kind
from scrigno.catalogue.records import InboxItem, NewInboxItem, StoredInstance
from scrigno.core.attributes import IndexAttributes
from scrigno.core.uids import object_key
from scrigno.imaging.errors import HeaderIncomplete, HeaderUnreadable
from scrigno.imaging.relabel import derived_uid, renamed
from scrigno.volumes.staging import Staging, StagingFailed
from scrigno.volumes.states import VolumeError
from scrigno.volumes.volume import Volumes

from .appraisal import Admit, Aside
from .arrivals import INBOX_PREFIX, sidecar_key
from .decision_files import WRITABLE
from .errors import (
    CapacityReached,
    InboxError,
    NoDurableStorage,
    NotNow,
    ObjectUnavailable,
    ShuttingDown,
)
from .failpoints import hit
from .ingest import Ingest, Receipt, StoreOutcome
from .kept import as_stored, indexed, of_plain
from .retrieve import Retrieval
from .taking import MAX_HEADER_BYTES, Judgement

log = logging.getLogger(__name__)

Turn = Callable[[str], AbstractAsyncContextManager[None]]
HEAD_BYTES: Final = 64 << 10


class Deciding:
    """The steps behind the inbox. Loop thread only."""

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        volumes: Volumes,
        staging: Staging,
        ingest: Ingest,
        retrieval: Retrieval,
        turn: Turn,
        character_set: Callable[[], str] = lambda: "",
        forget_studies: Callable[[], None] = lambda: None,
    ) -> None:
        """`turn` keeps others off one object; `forget_studies` is told when some may be gone."""
        self._catalogue = catalogue
        self._volumes = volumes
        self._staging = staging
        self._ingest = ingest
        self._retrieval = retrieval
        self._turn = turn
        self._character_set = character_set
        self._forget_studies = forget_studies

    # archiving ---------------------------------------------------------------------------------

    async def accept(self, decision: Decision) -> Receipt:
        """Take the object into the archive; raises InboxError or IngestError."""
        kept = await self._kept(decision)
        existing = await self._catalogue.instance(kept.sop_instance_uid)
        if existing is not None and existing.digest != kept.digest:
            raise InboxError(
                "The archive has another object with this UID.",
                next_step="Replace that one, keep this one beside it, or reject it.",
            )
        receipt = await self.pour(kept)
        if receipt.inbox_id is not None:
            # It came back to where it was: the same bytes have the same place in the inbox.
            reason = "has a rival" if receipt.outcome is _CONFLICT else "still cannot be read"
            raise InboxError(
                f"The object {reason}.",
                next_step="Reject it, give what is missing, or leave it in the inbox.",
            )
        hit("accept-archived")
        await self._finish(decision, receipt, kept.digest, decided=None)
        return receipt

    async def index(self, decision: Decision) -> Receipt:
        """Archive an object as it is, to be found by what an operator gave.

        Raises InboxError or IngestError.
        """
        kept = await self._kept(decision)
        existing = await self._catalogue.instance(kept.sop_instance_uid)
        if existing is not None and existing.digest != kept.digest:
            raise InboxError(
                "The archive has another object with this UID.", next_step="Reject one of them."
            )
        given: Mapping[str, str] = decision.after.get("given", {})
        attributes = await self.attributes(as_stored(kept), kept, given)
        key = object_key(
            attributes.study.study_instance_uid,
            attributes.series.series_instance_uid,
            kept.sop_instance_uid,
        )
        receipt = await self.pour(kept, judgement=Admit(attributes, key))
        hit("index-archived")
        where = {
            "study": attributes.study.study_instance_uid,
            "series": attributes.series.series_instance_uid,
        }
        await self._finish(decision, receipt, kept.digest, decided=None, more=where)
        return receipt

    async def beside(self, decision: Decision) -> Receipt:
        """Archive a rival under a UID of its own; what came stays in the inbox, out of sight.

        Raises InboxError or IngestError.
        """
        kept = await self._kept(decision)
        uid = derived_uid(kept.digest)
        receipt = await self.pour(kept, uid=uid)
        if receipt.inbox_id is not None:
            raise InboxError("The object still cannot be read.", next_step="Reject it.")
        stored = await self._catalogue.instance(uid)
        digest = "" if stored is None else stored.digest
        hit("beside-archived")
        await self._finish(decision, receipt, digest, decided=Kind.BESIDE)
        return receipt

    async def _finish(
        self,
        decision: Decision,
        receipt: Receipt,
        digest: str,
        *,
        decided: str | None,
        more: Mapping[str, str] | None = None,
    ) -> None:
        after = {
            **decision.after,
            **(more or {}),
            "outcome": receipt.outcome,
            "sop_instance_uid": receipt.sop_instance_uid,
            "digest": digest,
        }
        async with self._turn(decision.subject):
            item = await self._catalogue.cases.kept(decision.subject)
            if item is not None and decided is None:
                await self.release(item.item.staged_as)
            await self._catalogue.cases.finish(decision.decision_id, after=after, decided=decided)
            hit("decision-recorded")
            if decided is None:
                await self.clear(item)

    async def _kept(self, decision: Decision) -> NewInboxItem:
        item = await self._catalogue.cases.kept(decision.subject)
        if item is None:
            raise InboxError("The object is not in the inbox any more.")
        return item.item

    # taking back -------------------------------------------------------------------------------

    async def unarchive(self, decision: Decision) -> None:
        """Take back `accept` and `index`: the object is in the inbox again, as it was before.

        Raises InboxError or IngestError.
        """
        kept = of_plain(decision.before["item"])
        if await self._still_archived(decision):
            stored = await self._catalogue.instance(str(decision.after["sop_instance_uid"]))
            if stored is not None:
                aside = Aside(kept.reason, kept.comment, await self._said(stored, kept))
                receipt = await self.pour(kept, source=stored, judgement=aside)
                if receipt.inbox_id is None:
                    raise InboxError("The object did not come back into the inbox.")
            hit("undo-kept")
            if decision.after.get("outcome") != StoreOutcome.SAME:
                await self._remove(decision)
        elif await self._catalogue.cases.kept(decision.subject) is None:
            raise InboxError(
                "The object is not in the archive any more.",
                next_step="Look for it in the trash of the archive.",
            )

    async def drop_beside(self, decision: Decision) -> None:
        """Take back `beside`: the object under the new UID goes; raises InboxError."""
        if await self._catalogue.cases.kept(decision.subject) is None:
            raise InboxError("What was received is not in the inbox any more.")
        if await self._still_archived(decision):
            await self._remove(decision)

    async def _still_archived(self, decision: Decision) -> bool:
        uid = str(decision.after.get("sop_instance_uid", ""))
        stored = await self._catalogue.instance(uid)
        if stored is not None and stored.digest != decision.after.get("digest"):
            raise InboxError(
                "The archived object was replaced since.",
                next_step="Take the replacement back first.",
            )
        return stored is not None

    async def _remove(self, decision: Decision) -> None:
        """Forget an archived object that has its place in the inbox, then remove its files."""
        uid = str(decision.after["sop_instance_uid"])
        async with self._turn(uid):
            stored = await self._catalogue.instance(uid)
            if stored is None or stored.digest != decision.after.get("digest"):
                return
            names = [copy.volume for copy in stored.copies]
            for name in names:
                await self._catalogue.cases.leave_over(name, stored.key, uid)
            await self.release(stored.staged_as)
            await self._catalogue.remove([uid])
            self._forget_studies()
            hit("undo-forgotten")
        for name in names:
            await self.tidy(name)

    # reading and pouring -----------------------------------------------------------------------

    async def pour(
        self,
        kept: NewInboxItem,
        *,
        source: StoredInstance | None = None,
        judgement: Judgement | None = None,
        uid: str = "",
    ) -> Receipt:
        """Bring an object through the door of the archive once more, without its hold.

        `source` is where it stands when it is not the inbox; `uid` gives it another name. Raises
        InboxError or IngestError.
        """
        try:
            stream = await self._retrieval.data_set(source or as_stored(kept))
        except ObjectUnavailable as error:
            raise InboxError(error.reason, next_step=error.next_step) from error
        async with aclosing(stream.chunks) as chunks:
            reception = self._ingest.begin(
                origin=kept.origin,
                sop_class_uid=kept.sop_class_uid,
                sop_instance_uid=uid or kept.sop_instance_uid,
                transfer_syntax_uid=kept.transfer_syntax_uid,
                received_at=kept.received_at,
                judgement=judgement,
            )
            try:
                if uid:
                    named = _renamed(chunks, kept.transfer_syntax_uid, uid)
                    async with aclosing(named) as chunks_of_other:
                        await reception.pour(chunks_of_other)
                else:
                    await reception.pour(chunks)
            except (ObjectUnavailable, HeaderUnreadable) as error:
                reception.discard("its copy in the inbox cannot be used")
                raise InboxError(error.reason, next_step=error.next_step) from error
            except BaseException:
                reception.discard("the decision was cut short")
                raise
        return await reception.commit()

    async def attributes(
        self, source: StoredInstance, kept: NewInboxItem, given: Mapping[str, str]
    ) -> IndexAttributes:
        """Read the header of an object and add what was given; raises InboxError."""
        wanted = HEAD_BYTES
        while True:
            head, size = await self._head(source, wanted)
            try:
                return indexed(head, kept, given, self._character_set(), size)
            except HeaderIncomplete as error:
                if len(head) < wanted or wanted >= MAX_HEADER_BYTES:
                    raise InboxError("The header is cut short or longer than 64 MiB.") from error
                wanted = min(max(error.needed_bytes, 4 * wanted), MAX_HEADER_BYTES)

    async def _said(self, stored: StoredInstance, kept: NewInboxItem) -> IndexAttributes | None:
        """Return what the header says of an object that was described when it was kept."""
        if not kept.study_instance_uid:
            return None
        try:
            return await self.attributes(stored, kept, {})
        except InboxError:
            return None

    async def _head(self, source: StoredInstance, wanted: int) -> tuple[bytes, int]:
        try:
            stream = await self._retrieval.data_set(source)
            head = b""
            async with aclosing(stream.chunks) as chunks:
                async for chunk in chunks:
                    head += chunk
                    if len(head) >= wanted:
                        break
        except ObjectUnavailable as error:
            raise InboxError(error.reason, next_step=error.next_step) from error
        return head[:wanted], stream.size

    # files that nobody needs any more ----------------------------------------------------------

    async def clear(self, item: InboxItem | None) -> None:
        """Remove the files of an item that was forgotten; what is away is removed later."""
        if item is None:
            return
        for name in {*item.item.copies, *item.item.owed}:
            await self._remove_files(name, [item.item.key])

    async def tidy(self, volume: str) -> None:
        """Remove what is left over on a volume, as far as it is not in use again."""
        for key, uid in await self._catalogue.cases.leftovers(volume):
            async with self._turn(uid or key):
                if await self._in_use(key, uid):
                    await self._catalogue.cases.left_over_no_more(volume, [key])
                else:
                    await self._remove_files(volume, [key])

    async def _in_use(self, key: str, uid: str) -> bool:
        if not uid:
            return await self._catalogue.cases.kept(key) is not None
        stored = await self._catalogue.instance(uid)
        return stored is not None and stored.key == key

    async def _remove_files(self, name: str, keys: list[str]) -> None:
        try:
            volume = self._volumes.by_name(name)
        except KeyError:
            await self._catalogue.cases.left_over_no_more(name, keys)  # it left the box
            return
        if volume.state not in WRITABLE:
            return
        for key in keys:
            try:
                await volume.remove(key)
                if key.startswith(INBOX_PREFIX):
                    await volume.remove(sidecar_key(key))
            except VolumeError as error:
                log.warning("volume %s: %s is left over: %s", name, key, error.what)
                return
        await self._catalogue.cases.left_over_no_more(name, keys)

    async def release(self, name: str | None) -> None:
        """Let staging forget an entry; before its row goes, or the next start takes it in again."""
        if name is None:
            return
        try:
            await self._staging.release(name)
        except StagingFailed as error:
            log.warning("staging: entry %s is left over: %s", name, error.reason)


async def _renamed(
    chunks: AsyncGenerator[bytes, None], transfer_syntax_uid: str, uid: str
) -> AsyncGenerator[bytes, None]:
    """Yield a data set with another SOP Instance UID; raises HeaderUnreadable."""
    head = b""
    done = False
    async for chunk in chunks:
        if done:
            yield chunk
            continue
        head += chunk
        try:
            begin, consumed = renamed(
                head, transfer_syntax_uid=transfer_syntax_uid, sop_instance_uid=uid
            )
        except HeaderIncomplete:
            if len(head) > MAX_HEADER_BYTES:
                raise HeaderUnreadable("The header is longer than 64 MiB.") from None
            continue
        done = True
        yield begin
        if len(head) > consumed:
            yield head[consumed:]
    if not done:
        raise HeaderUnreadable("The header is cut short.")


def failure_is_for_good(error: Exception) -> bool:
    """Tell whether a step that failed after a restart will fail again, whatever comes back."""
    waits = (NotNow, NoDurableStorage, CapacityReached, ShuttingDown)
    return not isinstance(error, waits) and not isinstance(error.__cause__, ObjectUnavailable)


_CONFLICT: Final = StoreOutcome.CONFLICT_KEPT
