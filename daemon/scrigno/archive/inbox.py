# SPDX-License-Identifier: Apache-2.0
"""Objects that were kept aside, and what operators decide about them: all of it can be undone.

An item is accepted, rejected (it is in the trash of the inbox then), put in the place of its
archived rival, kept beside it under a UID of its own, or archived under attributes that an
operator gives because its header cannot be read. No decision changes a byte of what was received.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any, Final, TypeVar

from scrigno.catalogue.catalogue import Catalogue
from scrigno.catalogue.decisions import (
    Decision,
    DecisionRefused,
    Kind,
    NewDecision,
    Phase,
)
from scrigno.catalogue.records import InboxItem, StoredInstance
from scrigno.core.clock import Clock, SystemClock
from scrigno.core.uids import is_uid, object_key
from scrigno.volumes.staging import Staging
from scrigno.volumes.volume import Volumes

from .appraisal import CONFLICT
from .arrivals import inbox_key
from .deciding import Deciding, failure_is_for_good
from .decision_files import DecisionFiles
from .errors import InboxError, IngestError
from .failpoints import hit
from .ingest import Ingest, Receipt
from .kept import as_stored, of_plain, plain, require_known_names
from .retrieve import ObjectStream, Retrieval
from .swapping import Swapping

log = logging.getLogger(__name__)

INBOX_KINDS: Final = (Kind.ACCEPT, Kind.REJECT, Kind.REPLACE, Kind.BESIDE, Kind.INDEX)
MOST_AT_ONCE: Final = 1000
KEEP_DAYS: Final = 30  # as the trash of the archive
MOST_WHY: Final = 1000
DAY_S: Final = 24 * 3600
_AUDITED: Final[Mapping[Kind, str]] = {
    Kind.ACCEPT: "inbox-accepted",
    Kind.REJECT: "inbox-rejected",
    Kind.REPLACE: "inbox-replaced",
    Kind.BESIDE: "inbox-kept-beside",
    Kind.INDEX: "inbox-indexed",
}

Audit = Callable[..., None]
T = TypeVar("T")


def unheard(*_: object, **__: object) -> None:
    """Stand in for an audit trail where there is none."""


class Inbox:
    """The inbox as doors use it. Loop thread only.

    A decision that somebody else made first raises DecisionOvertaken, one that cannot be made or
    taken back as things are DecisionRefused or InboxError; the item is then as it was.
    """

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        volumes: Volumes,
        staging: Staging,
        ingest: Ingest,
        retrieval: Retrieval,
        turn: Callable[[str], AbstractAsyncContextManager[None]],
        clock: Clock | None = None,
        audit: Audit = unheard,
        keep_days: Callable[[], int] = lambda: KEEP_DAYS,
        character_set: Callable[[], str] = lambda: "",
        forget_studies: Callable[[], None] = lambda: None,
    ) -> None:
        """Hold the rooms below; accepting goes through `ingest` as any other door does.

        `turn` keeps others off one object, `keep_days` is how long a rejected object can be had
        back, `forget_studies` is told when studies may be gone.
        """
        self._catalogue = catalogue
        self._retrieval = retrieval
        self._clock = clock or SystemClock()
        self._audit = audit
        self._keep_days = keep_days
        self._turn = turn
        self._tasks: set[asyncio.Task[Any]] = set()
        self._at_work: set[int] = set()  # numbers of decisions; `_door` is held while one is added
        self._door = asyncio.Lock()
        self.files = DecisionFiles(catalogue=catalogue, volumes=volumes)
        self.deciding = Deciding(
            catalogue=catalogue,
            volumes=volumes,
            staging=staging,
            ingest=ingest,
            retrieval=retrieval,
            turn=turn,
            character_set=character_set,
            forget_studies=forget_studies,
        )
        self._swapping = Swapping(
            catalogue=catalogue, volumes=volumes, deciding=self.deciding, turn=turn
        )

    # looking -----------------------------------------------------------------------------------

    async def items(self, *, after: int = 0, limit: int = 100) -> list[InboxItem]:
        """List the items that wait for a decision, by id; raises DatabaseError."""
        return await self._catalogue.inbox_list(after, limit)

    async def counts(self) -> dict[str, int]:
        """Return how many objects wait, by reason; raises DatabaseError."""
        return await self._catalogue.inbox_count()

    async def decided(self, before: int = 0, limit: int = 100) -> list[Decision]:
        """Return what was decided about kept objects, newest first; DONE ones can be undone."""
        return await self._catalogue.cases.decisions(before, limit, kinds=INBOX_KINDS)

    async def open(self, inbox_id: int) -> ObjectStream:
        """Read a kept object as a whole Part 10 file; raises InboxError."""
        item = await self._catalogue.inbox_get(inbox_id)
        if item is None:
            raise _gone(inbox_id)
        return self._retrieval.open(as_stored(item.item))

    # deciding ----------------------------------------------------------------------------------

    async def accept(self, inbox_id: int, *, user: str = "", why: str = "") -> Receipt:
        """Take the object into the archive; raises InboxError or IngestError, item then stays.

        What is in the archive is never overwritten: an object whose UID is taken by other bytes
        is refused, and so is one that still cannot be read.
        """
        item = await self._get(inbox_id)
        return _receipt(await self._decide(item, Kind.ACCEPT, user, why))

    async def keep_beside(self, inbox_id: int, *, user: str = "", why: str = "") -> Receipt:
        """Archive a rival beside the object that has its UID, under a UID of its own.

        The bytes as received stay in the inbox, out of sight, until the decision is final.
        """
        item = await self._get(inbox_id)
        await self._rival(item)
        return _receipt(await self._decide(item, Kind.BESIDE, user, why))

    async def index(
        self, inbox_id: int, given: Mapping[str, str], *, user: str = "", why: str = ""
    ) -> Receipt:
        """Archive an object that cannot be read, or is labelled wrongly, as it is.

        `given` are attributes by their names in the index (`study_instance_uid`, `patient_name`,
        `transfer_syntax_uid` …); they only say how it is found, the stored bytes are not changed.
        """
        require_known_names(given)
        item = await self._get(inbox_id)
        texts = {name: str(text)[:MOST_WHY] for name, text in given.items()}
        return _receipt(await self._decide(item, Kind.INDEX, user, why, given=texts))

    async def replace(self, inbox_id: int, *, user: str = "", why: str = "") -> Decision:
        """Put the object in the place of its archived rival, which comes into the inbox."""
        item = await self._get(inbox_id)
        rival = await self._rival(item)
        made, _ = await self._decide(
            item,
            Kind.REPLACE,
            user,
            why,
            old_place=rival.key,
            kept_key=inbox_key(rival.digest),
        )
        return made

    async def reject(self, inbox_id: int, *, user: str = "", why: str = "") -> Decision:
        """Take the object out of the inbox; it can be had back for some days."""
        item = await self._get(inbox_id)
        made, _ = await self._decide(item, Kind.REJECT, user, why)
        return made

    async def accept_from(
        self, calling_ae: str, address: str | None = None, *, user: str = ""
    ) -> dict[str, int]:
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
                    await self.accept(one.inbox_id, user=user)
                except (InboxError, IngestError, DecisionRefused) as error:
                    log.warning("inbox item %d: stays: %s", one.inbox_id, error.reason)
                    done["kept"] += 1
                else:
                    done["accepted"] += 1
        return done

    async def undo(self, decision_id: int, *, user: str = "", why: str = "") -> Decision:
        """Take a decision about a kept object back; raises InboxError, DecisionRefused."""
        return await self._to_its_end(self._undo(decision_id, user, why))

    async def purge(self, decision_id: int, *, user: str = "") -> None:
        """Remove a rejected object, or what stayed of one kept beside, for good, now.

        Raises DecisionRefused.
        """
        decision = await self._catalogue.cases.decision(decision_id)
        purgeable = (Kind.REJECT, Kind.BESIDE)
        if decision is None or decision.kind not in purgeable or decision.phase is not Phase.DONE:
            raise DecisionRefused("There is nothing to remove of this decision.")
        async with self._turn(decision.subject):
            item = await self._catalogue.cases.kept(decision.subject)
            # Asked again in the turn: it may have been taken back a moment ago.
            again = await self._catalogue.cases.decision(decision_id)
            if item is not None and again is not None and again.phase is Phase.DONE:
                await self.deciding.release(item.item.staged_as)
            await self._catalogue.cases.finish(
                decision_id, decided=None, phase=Phase.FINAL, expected=Phase.DONE
            )
            hit("purge-recorded")
            await self.deciding.clear(item)
        self._tell(decision, "inbox-purged", user)

    async def purge_due(self) -> int:
        """Remove what was rejected long enough ago; return how many.

        Long enough is by the clock and by the time that the box has run since: a clock that
        jumps, or was wrong for a while, removes nothing.
        """
        days = self._keep_days()
        ran_s = await self._catalogue.cases.ran_s()
        latest = self._clock.now() - timedelta(days=days)
        purged = 0
        before = 0
        while found := await self._catalogue.cases.decisions(
            before, 100, phases=(Phase.DONE,), kinds=(Kind.REJECT, Kind.BESIDE)
        ):
            before = found[-1].decision_id
            for each in found:
                if each.decided_at <= latest and ran_s - each.ran_s >= days * DAY_S:
                    try:
                        await self.purge(each.decision_id, user="scrigno")
                    except DecisionRefused:
                        continue  # taken back at this moment
                    purged += 1
        return purged

    async def resume(self) -> int:
        """Carry out what a crash cut short; return how many decisions are still open.

        One that cannot be done because a volume is away is tried again later.
        """
        async with self._door:
            open_ones = await self._catalogue.cases.decisions(
                0, MOST_AT_ONCE, phases=(Phase.DOING, Phase.UNDOING)
            )
            mine = [each for each in open_ones if each.decision_id not in self._at_work]
            self._at_work.update(each.decision_id for each in mine)
        left = 0
        try:
            for decision in mine:
                left += not await self._to_its_end(self._resume_one(decision))
        finally:
            self._at_work.difference_update(each.decision_id for each in mine)
        return left

    async def _resume_one(self, decision: Decision) -> bool:
        doing = decision.phase is Phase.DOING
        try:
            if doing:
                await self._carry_out(decision, again=True)
            else:
                await self._take_back(decision, again=True)
        except (InboxError, IngestError) as error:
            log.warning("decision %d: not carried out: %s", decision.decision_id, error.reason)
            return failure_is_for_good(error)
        ended = await self._catalogue.cases.decision(decision.decision_id)
        if ended is not None:
            await self.files.write(ended)
            self._tell(ended, "decision-resumed", decision.account)
        return True

    async def close(self) -> None:
        """Stop what is being carried out; the next start brings it to its end. Idempotent."""
        work = tuple(self._tasks)
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)

    # steps -------------------------------------------------------------------------------------

    async def _get(self, inbox_id: int) -> InboxItem:
        item = await self._catalogue.inbox_get(inbox_id)
        if item is None or item.decided:
            raise _gone(inbox_id)
        return item

    async def _rival(self, item: InboxItem) -> StoredInstance:
        """Return the archived object that has the UID of this one; raises InboxError."""
        stored = await self._catalogue.instance(item.item.sop_instance_uid)
        if stored is None or stored.digest == item.item.digest:
            raise InboxError(
                "The archive has no other object with this UID.",
                next_step="Accept this one, or reject it.",
            )
        return stored

    async def _decide(
        self, item: InboxItem, kind: Kind, user: str, why: str, **after: Any
    ) -> tuple[Decision, Receipt | None]:
        new = NewDecision(
            kind=kind,
            subject=item.item.key,
            account=user,
            why=why[:MOST_WHY],
            at=self._clock.now(),
            before={"item": plain(item.item)},
            after=after,
        )
        return await self._to_its_end(self._begun(new))

    async def _begun(self, new: NewDecision) -> tuple[Decision, Receipt | None]:
        async with self._door:
            decision = await self._catalogue.cases.begin(new)
            self._at_work.add(decision.decision_id)
        hit("decision-begun")
        try:
            receipt = await self._carry_out(decision)
        finally:
            self._at_work.discard(decision.decision_id)
        done = await self._catalogue.cases.decision(decision.decision_id) or decision
        await self.files.write(done)
        self._tell(done, _AUDITED[done.kind], done.account)
        return done, receipt

    async def _undo(self, decision_id: int, user: str, why: str) -> Decision:
        async with self._door:
            decision = await self._catalogue.cases.undo_begin(
                decision_id, user, why[:MOST_WHY], self._clock.now()
            )
            self._at_work.add(decision_id)
        hit("undo-begun")
        try:
            await self._take_back(decision)
        finally:
            self._at_work.discard(decision_id)
        undone = await self._catalogue.cases.decision(decision_id) or decision
        await self.files.write(undone)
        self._tell(undone, "decision-undone", user)
        return undone

    async def _to_its_end(self, work: Coroutine[Any, Any, T]) -> T:
        """Do work to its end although its caller may go away meanwhile."""
        task = asyncio.create_task(work, name="inbox-decision")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def _carry_out(self, decision: Decision, *, again: bool = False) -> Receipt | None:
        """Do it to its end, or leave no trace of it; `again` after a crash."""
        try:
            match decision.kind:
                case Kind.ACCEPT:
                    return await self.deciding.accept(decision)
                case Kind.BESIDE:
                    return await self.deciding.beside(decision)
                case Kind.INDEX:
                    return await self.deciding.index(decision)
                case Kind.REJECT:
                    await self._catalogue.cases.finish(decision.decision_id, decided=Kind.REJECT)
                case Kind.REPLACE:
                    await self._replace(decision)
                case _:
                    raise DecisionRefused(f"{decision.kind} is no decision about an object.")
        except (InboxError, IngestError) as error:
            if not again or failure_is_for_good(error):
                await self._catalogue.cases.give_up(decision.decision_id)
            raise
        hit("decision-recorded")
        return None

    async def _replace(self, decision: Decision) -> None:
        stored = await self._catalogue.instance(decision.before["item"]["sop_instance_uid"])
        # After a crash it may have been done already, all but this last record.
        if stored is None or stored.digest != decision.before["item"]["digest"]:
            await self._swapping.swap(
                coming=decision.subject,
                old_place=decision.after["old_place"],
                leaves_as=Kind.REPLACE,
            )
        await self._catalogue.cases.finish(decision.decision_id, decided=Kind.REPLACE)

    async def _take_back(self, decision: Decision, *, again: bool = False) -> None:
        try:
            match decision.kind:
                case Kind.ACCEPT | Kind.INDEX:
                    await self.deciding.unarchive(decision)
                case Kind.BESIDE:
                    await self.deciding.drop_beside(decision)
                case Kind.REPLACE:
                    await self._replace_back(decision)
                case Kind.REJECT:
                    if await self._catalogue.cases.kept(decision.subject) is None:
                        raise InboxError("The object is not in the trash of the inbox any more.")
                case _:
                    raise DecisionRefused(f"{decision.kind} is no decision about an object.")
        except (InboxError, IngestError) as error:
            if not again or failure_is_for_good(error):
                await self._catalogue.cases.undo_end(decision.decision_id, done=False)
            raise
        await self._catalogue.cases.undo_end(decision.decision_id, done=True)
        hit("undo-recorded")

    async def _replace_back(self, decision: Decision) -> None:
        known_as = of_plain(decision.before["item"])
        if await self._catalogue.cases.kept(decision.subject) is not None:
            return  # after a crash: it is there already
        stored = await self._catalogue.instance(known_as.sop_instance_uid)
        if stored is None:
            raise InboxError("The archive has no object with this UID any more.")
        if stored.digest != known_as.digest:
            raise InboxError("The archived object was replaced since.")
        await self._swapping.swap(
            coming=decision.after["kept_key"],
            # Not its key of now: a crash may have left it pointed at its second name.
            old_place=object_key(
                stored.study_instance_uid, stored.series_instance_uid, stored.sop_instance_uid
            ),
            leaves_as="",
            known_as=known_as,
        )

    def _tell(self, decision: Decision, action: str, user: str) -> None:
        """Write the audit line: who, what, which object; nothing of what they wrote or saw."""
        uid = str(decision.before.get("item", {}).get("sop_instance_uid", ""))
        self._audit(
            user,
            action,
            uid if is_uid(uid) else decision.subject,
            details={"decision": decision.token, "kind": decision.kind.value},
        )


def _receipt(made: tuple[Decision, Receipt | None]) -> Receipt:
    if made[1] is None:
        raise InboxError("The object was not archived.")
    return made[1]


def _gone(inbox_id: int) -> InboxError:
    return InboxError(
        f"There is no item {inbox_id} in the inbox.",
        next_step="Somebody may have decided about it already; load the list again.",
    )
