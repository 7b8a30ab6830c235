# SPDX-License-Identifier: Apache-2.0
"""Objects that were kept aside: listed, accepted into the archive or rejected by an operator."""

import logging
from collections.abc import Callable, Collection
from contextlib import AbstractAsyncContextManager, aclosing

from scrigno.catalogue.catalogue import Catalogue
from scrigno.catalogue.records import Copy, CopyState, InboxItem, NewInboxItem, StoredInstance
from scrigno.volumes.staging import Staging
from scrigno.volumes.states import VolumeError
from scrigno.volumes.volume import Volumes

from .appraisal import CONFLICT
from .arrivals import sidecar_key
from .errors import InboxError, IngestError, ObjectUnavailable
from .ingest import Ingest
from .receipts import Receipt, StoreOutcome
from .retrieve import ObjectStream, Retrieval

log = logging.getLogger(__name__)


class Inbox:
    """The inbox as doors use it. Loop thread only."""

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        volumes: Volumes,
        staging: Staging,
        ingest: Ingest,
        retrieval: Retrieval,
        turn: Callable[[str], AbstractAsyncContextManager[None]],
    ) -> None:
        """Hold the rooms below; accepting goes through `ingest` as any other door does.

        `turn` keeps others off one object while it is removed.
        """
        self._catalogue = catalogue
        self._volumes = volumes
        self._staging = staging
        self._ingest = ingest
        self._retrieval = retrieval
        self._turn = turn

    async def items(self, *, after: int = 0, limit: int = 100) -> list[InboxItem]:
        """List items by id; raises DatabaseError."""
        return await self._catalogue.inbox_list(after, limit)

    async def counts(self) -> dict[str, int]:
        """Return how many objects are kept, by reason; raises DatabaseError."""
        return await self._catalogue.inbox_count()

    async def open(self, inbox_id: int) -> ObjectStream:
        """Read a kept object as a whole Part 10 file; raises InboxError."""
        return self._retrieval.open(_as_stored((await self._get(inbox_id)).item))

    async def accept(self, inbox_id: int) -> Receipt:
        """Take the object into the archive; raises InboxError or IngestError, item then stays.

        What is in the archive is never overwritten: an object whose UID is taken by other bytes
        is refused, and so is one that still cannot be read.
        """
        kept = (await self._get(inbox_id)).item
        existing = await self._catalogue.instance(kept.sop_instance_uid)
        if existing is not None and existing.digest != kept.digest:
            raise InboxError(
                "The archive has another object with this UID.",
                next_step="Reject this one, or remove the archived one first.",
            )
        receipt = await self._take_in(kept)
        if receipt.inbox_id is not None:
            # It came back to where it was: the same bytes have the same place in the inbox.
            reason = "still cannot be read" if receipt.outcome is not _CONFLICT else "has a rival"
            raise InboxError(
                f"The object {reason}.", next_step="Reject it, or leave it in the inbox."
            )
        await self._drop(inbox_id, kept)
        return receipt

    async def accept_from(self, calling_ae: str, address: str | None = None) -> dict[str, int]:
        """Accept everything held of one sender, as when an operator approves it.

        Returns how many were `accepted` and how many had to stay (`kept`).
        """
        done = {"accepted": 0, "kept": 0}
        after = 0
        while items := await self._catalogue.inbox_list(after, 100):
            after = items[-1].inbox_id
            for one in items:
                origin = one.item.origin
                if origin.calling_ae != calling_ae or address not in (None, origin.address):
                    continue
                if one.item.reason == CONFLICT:
                    continue
                try:
                    await self.accept(one.inbox_id)
                except (InboxError, IngestError) as error:
                    log.warning("inbox item %d: stays: %s", one.inbox_id, error.reason)
                    done["kept"] += 1
                else:
                    done["accepted"] += 1
        return done

    async def reject(self, inbox_id: int) -> None:
        """Delete the object everywhere, for good; raises InboxError."""
        kept = (await self._get(inbox_id)).item
        log.info("inbox item %d: rejected by an operator and deleted", inbox_id)
        await self._drop(inbox_id, kept)

    async def _get(self, inbox_id: int) -> InboxItem:
        item = await self._catalogue.inbox_get(inbox_id)
        if item is None:
            raise InboxError(
                f"There is no item {inbox_id} in the inbox.",
                next_step="Somebody may have decided about it already; load the list again.",
            )
        return item

    async def _take_in(self, kept: NewInboxItem) -> Receipt:
        """Bring the object through the door once more, without the hold."""
        try:
            stream = await self._retrieval.data_set(_as_stored(kept))
        except ObjectUnavailable as error:
            raise InboxError(error.reason, next_step=error.next_step) from error
        async with aclosing(stream.chunks) as chunks:
            reception = self._ingest.begin(
                origin=kept.origin,
                sop_class_uid=kept.sop_class_uid,
                sop_instance_uid=kept.sop_instance_uid,
                transfer_syntax_uid=kept.transfer_syntax_uid,
                received_at=kept.received_at,
            )
            try:
                await reception.pour(chunks)
            except ObjectUnavailable as error:
                reception.discard("its copy in the inbox cannot be read")
                raise InboxError(error.reason, next_step=error.next_step) from error
            except BaseException:
                reception.discard("accepting was cut short")
                raise
        return await reception.commit()

    async def _drop(self, inbox_id: int, kept: NewInboxItem) -> None:
        """Forget the item, then its files: left-over files come back at the next rebuild only."""
        async with self._turn(kept.key):
            item = await self._catalogue.inbox_get(inbox_id)
            kept = kept if item is None else item.item  # it may have come again meanwhile
            await self._catalogue.inbox_remove(inbox_id)
            volumes = {*kept.copies, *kept.owed}
            await _remove(self._volumes, (kept.key, sidecar_key(kept.key)), volumes)
            if kept.staged_as is not None:
                await self._staging.release(kept.staged_as)


async def _remove(volumes: Volumes, keys: Collection[str], names: Collection[str]) -> None:
    for volume in volumes.ordered:
        if volume.spec.name not in names or not volume.readable:
            continue
        for key in keys:
            try:
                await volume.remove(key)
            except VolumeError as error:
                log.warning("volume %s: %s is left over: %s", volume.spec.name, key, error.reason)


def _as_stored(kept: NewInboxItem) -> StoredInstance:
    """Return the item as the reader of objects wants it."""
    return StoredInstance(
        study_instance_uid=kept.study_instance_uid,
        series_instance_uid=kept.series_instance_uid,
        sop_instance_uid=kept.sop_instance_uid,
        sop_class_uid=kept.sop_class_uid,
        transfer_syntax_uid=kept.transfer_syntax_uid,
        key=kept.key,
        digest=kept.digest,
        size=kept.size,
        instance_number="",
        number_of_frames=None,
        rows=None,
        columns=None,
        received_at=kept.received_at,
        staged_as=kept.staged_as,
        copies=tuple(Copy(volume=name, state=CopyState.HELD) for name in kept.copies),
    )


_CONFLICT = StoreOutcome.CONFLICT_KEPT
