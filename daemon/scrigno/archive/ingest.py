# SPDX-License-Identifier: Apache-2.0
"""The one way into the archive: from the first byte to the moment it may be acknowledged.

A receipt means: the file (preamble, file meta of our making, the data set byte for byte as it
came) is durable on as many distinct devices as the policy asks for, and its row is committed, or
(`pending`) it stands in staging's journal, from which its row is made when the index works again.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import Final

from scrigno.catalogue.records import Origin
from scrigno.core.clock import Clock
from scrigno.core.counters import Counters
from scrigno.imaging.part10 import file_prefix
from scrigno.volumes import placement as placing
from scrigno.volumes import staging as staging_room
from scrigno.volumes.staging import StagedObject, Staging

from .arrivals import Arrival
from .errors import IngestError, InternalFault, NoDurableStorage, ObjectTooLarge, ShuttingDown
from .failpoints import hit
from .receipts import IngestRules, Receipt, StoreOutcome
from .taking import Judgement, Taking

# what a door needs stands in one place
__all__ = ["Ingest", "IngestRules", "Receipt", "Reception", "StoreOutcome"]

log = logging.getLogger(__name__)

# Headers of common objects end before; a longer one is read after the last byte.
EARLY_BYTES: Final = 16 << 10

_BELOW: Final = (
    staging_room.StagingFull,
    staging_room.StagingFailed,
    staging_room.ObjectTooLarge,
    placing.NoDurableStorage,
)


class Reception:
    """One object on its way in. Loop thread only; exactly one of commit and discard ends it."""

    __slots__ = ("_arrival", "_ended", "_ingest", "_judgement", "_offset", "_staged", "_unread")

    def __init__(
        self,
        ingest: "Ingest",
        arrival: Arrival,
        staged: StagedObject,
        offset: int,
        judgement: Judgement | None = None,
    ) -> None:
        """Made by `Ingest.begin`; the data set begins at `offset` of the file."""
        self._ingest = ingest
        self._arrival = arrival
        self._staged = staged
        self._offset = offset
        self._ended = False
        self._unread = judgement is None  # nobody has looked into the header yet
        self._judgement = judgement

    def write(self, fragment: memoryview | bytes) -> bool:
        """Take the next bytes of the data set; False asks to wait for `on_drain`. Never raises."""
        go_on = self._staged.write(fragment)
        if self._unread and self._staged.size > EARLY_BYTES:
            # While the rest is on its way the loop has time; after the last byte it is waited for.
            self._unread = False
            head = memoryview(self._staged.head)[self._offset :]
            self._judgement = self._ingest.judge_early(self._arrival, head)
        return go_on

    @property
    def on_drain(self) -> Callable[[], None] | None:
        """Called on the loop when `write` may go on after it returned False."""
        return self._staged.on_drain

    @on_drain.setter
    def on_drain(self, callback: Callable[[], None] | None) -> None:
        self._staged.on_drain = callback

    @property
    def size(self) -> int:
        """Bytes of the data set that have come so far."""
        return self._staged.size - self._offset

    async def pour(self, chunks: AsyncIterator[bytes]) -> None:
        """Write a whole data set, waiting whenever `write` asks to."""
        drained = asyncio.Event()
        self.on_drain = drained.set
        async for chunk in chunks:
            drained.clear()
            if not self.write(chunk):
                await drained.wait()

    async def commit(self) -> Receipt:
        """Make the object durable and recorded, or raise an IngestError and leave nothing.

        Cancelling the caller does not cut the work short: it ends in the background, as if the
        acknowledgement had been lost on its way.
        """
        if self._ended:
            raise RuntimeError("a reception is committed or discarded once")
        self._ended = True
        return await asyncio.shield(
            self._ingest.start(self._arrival, self._staged, self._offset, self._judgement)
        )

    def discard(self, reason: str) -> None:
        """Forget the object; leaves nothing behind. Idempotent, and nothing after commit."""
        if self._ended:
            return
        self._ended = True
        self._staged.discard()
        self._ingest.discarded(reason)


class Ingest:
    """Receives objects for every door. Loop thread only."""

    def __init__(
        self,
        *,
        staging: Staging,
        placement: placing.Placement,
        taking: Taking,
        rules: Callable[[], IngestRules],
        counters: Counters,
        clock: Clock,
    ) -> None:
        """`rules` is asked for each object, so that settings act at once."""
        self._staging = staging
        self._placement = placement
        self._taking = taking
        self._rules = rules
        self._counters = counters
        self._clock = clock
        self._commits: set[asyncio.Task[Receipt]] = set()
        self._closing = False
        self.power_failing: Callable[[], bool] = lambda: False  # the app knows the UPS
        self.last_commit_s = float("-inf")  # monotonic; replication gives way to fresh objects

    @property
    def active(self) -> int:
        """How many objects are being made durable at this moment."""
        return len(self._commits)

    @property
    def degraded(self) -> bool:
        """Tell whether the last object was acknowledged with fewer devices than the policy asks."""
        return self._taking.degraded

    def begin(
        self,
        *,
        origin: Origin,
        sop_class_uid: str,
        sop_instance_uid: str,
        transfer_syntax_uid: str,
        hold: str | None = None,
        received_at: datetime | None = None,
        judgement: Judgement | None = None,
    ) -> Reception:
        """Start one object; `hold` keeps it in the inbox under that reason. Raises IngestError.

        The UIDs are those of the command (or of the file meta); they need not be valid.
        `received_at` is given for an object that came at an earlier time, `judgement` when an
        operator decided what is to become of it.
        """
        if self._closing:
            raise self._refused(ShuttingDown("The archive is being stopped."))
        if self.power_failing():
            raise self._refused(
                ShuttingDown("The power is failing.", next_step="Send it again when it is back.")
            )
        prefix = file_prefix(
            sop_class_uid=sop_class_uid,
            sop_instance_uid=sop_instance_uid,
            transfer_syntax_uid=transfer_syntax_uid,
        )
        arrival = Arrival(
            origin=origin,
            sop_class_uid=sop_class_uid,
            sop_instance_uid=sop_instance_uid,
            transfer_syntax_uid=transfer_syntax_uid,
            received_at=received_at or self._clock.now(),
            hold=hold,
        )
        try:
            staged = self._staging.begin(prefix, limit_bytes=self._rules().max_object_bytes)
        except _BELOW as error:
            raise self._refused(_translated(error)) from error
        return Reception(self, arrival, staged, len(prefix), judgement)

    def refuse_new(self) -> None:
        """Refuse new objects (ShuttingDown) from now on; those on their way come to their end."""
        self._closing = True

    async def close(self, grace_s: float) -> None:
        """Refuse new objects (ShuttingDown) and wait for those on their way, at most `grace_s`."""
        self._closing = True
        if self._commits:
            await asyncio.wait(self._commits, timeout=grace_s)
        for commit in tuple(self._commits):
            commit.cancel()
        await asyncio.gather(*self._commits, return_exceptions=True)

    # for Reception -----------------------------------------------------------------------------

    def judge_early(self, arrival: Arrival, head: memoryview) -> Judgement | None:
        """Decide before the whole object has come; None when that has to wait for its end."""
        try:
            return self._taking.judge(arrival, head, None)
        except IngestError:
            return None  # said again, and answered, after the last byte

    def start(
        self,
        arrival: Arrival,
        staged: StagedObject,
        offset: int,
        judgement: Judgement | None = None,
    ) -> asyncio.Task[Receipt]:
        """Begin to commit one object, in a task of our own that outlives its caller."""
        commit = asyncio.create_task(self._commit(arrival, staged, offset, judgement))
        self._commits.add(commit)
        commit.add_done_callback(self._commits.discard)
        return commit

    def discarded(self, reason: str) -> None:
        """Count and log an object that never came to its end; the door knows no more of it."""
        self._counters.add("ingest_discarded_objects")
        log.info("object: given up before its end: %s", reason)

    async def _commit(
        self, arrival: Arrival, staged: StagedObject, offset: int, judgement: Judgement | None
    ) -> Receipt:
        try:
            receipt = await self._take(arrival, staged, offset, judgement)
        except IngestError as error:
            raise self._refused(error) from error.__cause__
        except _BELOW as error:
            raise self._refused(_translated(error)) from error
        except Exception as error:
            log.exception("object %s: a fault of ours", arrival.sop_instance_uid[:64])
            fault = InternalFault("A fault of the archive itself; the log says more.")
            raise self._refused(fault) from error
        finally:
            staged.discard()
            self.last_commit_s = self._clock.monotonic()
        self._counters.add("ingest_objects", outcome=receipt.outcome, door=arrival.origin.door)
        return receipt

    async def _take(
        self, arrival: Arrival, staged: StagedObject, offset: int, judgement: Judgement | None
    ) -> Receipt:
        size = staged.size - offset
        if judgement is None:
            # The head is asked for before seal(), which may let its memory go.
            head = memoryview(staged.head)[offset:]
            judgement = self._taking.judge(arrival, head, size)
            del head
        # What is to become of a small object is known: the job that keeps it writes it too.
        sealed = staged.seal_early() if judgement is not None else None
        if sealed is None:
            sealed = await staged.seal()
        hit("sealed")
        try:
            if judgement is None:
                judgement = await self._taking.judge_sealed(arrival, sealed, offset)
            self._counters.add("ingest_bytes", sealed.size)
            return await self._taking.take(sealed, arrival, judgement, place=self._placement.store)
        except (IngestError, *_BELOW):
            raise  # nothing is left, or recovery has been told
        except Exception:
            if judgement is not None:
                self._taking.attend(sealed, arrival, judgement)
            raise
        finally:
            sealed.close()

    def _refused(self, error: IngestError) -> IngestError:
        """Count a refusal; the door answers and logs it."""
        self._counters.add("ingest_refused_objects", code=error.code)
        return error


def _translated(error: Exception) -> IngestError:
    """Return the error of this room for one of the rooms below."""
    reason = getattr(error, "reason", "")
    next_step = getattr(error, "next_step", "")
    kind = ObjectTooLarge if isinstance(error, staging_room.ObjectTooLarge) else NoDurableStorage
    return kind(reason, next_step=next_step)
