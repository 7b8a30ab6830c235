# SPDX-License-Identifier: Apache-2.0
"""Patients in conflict as doors use them, and the care for everything that was decided.

The care: what a crash cut short is carried out, decisions are brought to volumes that were away
and learned from them, files left over are removed, rejected objects go when their time is over.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from scrigno.catalogue.cases import PatientCase, Verdict, Waiting
from scrigno.catalogue.catalogue import Catalogue
from scrigno.catalogue.decisions import (
    Decision,
    DecisionRefused,
    Demographics,
    Kind,
    Phase,
)
from scrigno.catalogue.records import AddOutcome, NewInstance
from scrigno.core.clock import Clock
from scrigno.core.counters import Counters
from scrigno.core.events import EventBus, VolumeChanged
from scrigno.core.uids import object_key
from scrigno.db.errors import DatabaseError
from scrigno.volumes.states import READABLE_STATES, VolumeError, VolumeState
from scrigno.volumes.volume import Volume, Volumes

from .decision_files import WRITABLE
from .errors import InboxError
from .failpoints import hit
from .inbox import INBOX_KINDS, MOST_WHY, Audit, Inbox, unheard
from .kept import as_stored, of_plain

log = logging.getLogger(__name__)

ROUND_S: Final = 300.0
RETRY_S: Final = 15.0
ALL_AGAIN_S: Final = 6 * 3600.0  # every volume is compared again, whatever was thought of it
PURGE_EVERY_S: Final = 3600.0
_AUDITED: Final[Mapping[Kind, str]] = {
    Kind.KEEP: "patient-conflict-kept",
    Kind.MERGE: "patient-merged",
    Kind.SPLIT: "patient-split",
    Kind.FIX: "patient-fixed",
}


class Cases:
    """Loop thread only; every method raises DatabaseError too."""

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        volumes: Volumes,
        inbox: Inbox,
        bus: EventBus,
        counters: Counters,
        clock: Clock,
        audit: Audit = unheard,
        round_s: float = ROUND_S,
    ) -> None:
        """`inbox` carries out what is about kept objects."""
        self._catalogue = catalogue
        self._volumes = volumes
        self._inbox = inbox
        self._files = inbox.files
        self._bus = bus
        self._counters = counters
        self._clock = clock
        self._audit = audit
        self._round_s = round_s
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._unsubscribe: Callable[[], None] = lambda: None
        self._one_sync = asyncio.Lock()
        self._counted_s = clock.monotonic()  # up to here the running time is recorded
        self._all_again_s = clock.monotonic() + ALL_AGAIN_S
        self._purge_s = clock.monotonic()
        self._open = 0  # decisions that wait for a volume

    # life --------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to care; returns at once. After the volumes, the ingest and the replication."""
        self._unsubscribe = self._bus.subscribe(VolumeChanged, self._volume_changed)
        self._task = asyncio.create_task(self._run(), name="decisions")

    async def close(self) -> None:
        """Stop; before the ingest is closed. Idempotent."""
        self._unsubscribe()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
            try:
                await self._count_time()
            except DatabaseError as error:
                log.warning("decisions: the running time is not recorded: %s", error.reason)
        await self._inbox.close()

    # asking ------------------------------------------------------------------------------------

    async def patients(self, after: int = 0, limit: int = 100) -> list[PatientCase]:
        """Return studies whose patient is in conflict, in the order they came."""
        return await self._catalogue.cases.patients(after, limit)

    async def patient(self, study_uid: str) -> PatientCase | None:
        """Return how any study compares with its patient; a decision needs its `version`."""
        return await self._catalogue.cases.patient(study_uid)

    async def waiting(self) -> Waiting:
        """Return how many cases are open and since when (for health)."""
        return await self._catalogue.cases.waiting()

    async def history(
        self, before: int = 0, limit: int = 100, *, subject: str = ""
    ) -> list[Decision]:
        """Return what was decided, newest first; a DONE decision can be undone."""
        return await self._catalogue.cases.decisions(before, limit, subject=subject)

    async def sent(self, study_uid: str) -> Demographics | None:
        """Return what the objects of a corrected study say, None when it is shown as sent."""
        return await self._catalogue.cases.sent(study_uid)

    # deciding ----------------------------------------------------------------------------------

    async def keep(self, study_uid: str, *, version: int, user: str, why: str = "") -> Decision:
        """Say that both are right: the study is no conflict any more."""
        return await self._decide(Kind.KEEP, study_uid, version, user, why)

    async def merge(
        self, study_uid: str, *, into: str, version: int, user: str, why: str = ""
    ) -> Decision:
        """Show the study under the patient of the study `into`: it is the same person."""
        return await self._decide(Kind.MERGE, study_uid, version, user, why, into=into)

    async def split(
        self, study_uid: str, *, version: int, user: str, issuer: str = "", why: str = ""
    ) -> Decision:
        """Give the study a patient of its own: it is another person.

        Told apart by `issuer` (Issuer of Patient ID), without one by the study itself.
        """
        return await self._decide(
            Kind.SPLIT, study_uid, version, user, why, issuer=issuer.strip()[:64]
        )

    async def fix(
        self,
        study_uid: str,
        *,
        changes: Mapping[str, str],
        version: int,
        user: str,
        why: str = "",
    ) -> Decision:
        """Correct patient_id, issuer_of_patient_id, patient_name, patient_birth_date, patient_sex.

        A name is given as text with its groups joined by `=`. Raises DecisionRefused.
        """
        clean = {name: _clean(text) for name, text in changes.items()}
        return await self._decide(Kind.FIX, study_uid, version, user, why, changes=clean)

    async def undo(self, decision_id: int, *, user: str, why: str = "") -> Decision:
        """Take any decision back; raises DecisionRefused, DecisionOvertaken, InboxError."""
        decision = await self._catalogue.cases.decision(decision_id)
        if decision is None:
            raise DecisionRefused(
                f"There is no decision {decision_id}.", next_step="Load the list again."
            )
        if decision.kind in INBOX_KINDS:
            return await self._inbox.undo(decision_id, user=user, why=why)
        undone = await self._catalogue.cases.undo_patient(
            decision_id, user, why[:MOST_WHY], self._clock.now()
        )
        hit("undo-recorded")
        await self._told(undone, "decision-undone", user)
        return undone

    async def _decide(
        self,
        kind: Kind,
        study_uid: str,
        version: int,
        user: str,
        why: str,
        *,
        into: str = "",
        issuer: str = "",
        changes: Mapping[str, str] | None = None,
    ) -> Decision:
        verdict = Verdict(
            kind=kind,
            study_uid=study_uid,
            version=version,
            account=user,
            why=why[:MOST_WHY],
            into=into,
            issuer=issuer,
            changes=changes or {},
        )
        made = await self._catalogue.cases.decide(verdict, self._clock.now())
        hit("decision-recorded")
        await self._told(made, _AUDITED[kind], user)
        return made

    async def _told(self, decision: Decision, action: str, user: str) -> None:
        """Bring a decision that is durable in the index to the volumes, and tell of it."""
        self._counters.add("decisions", kind=decision.kind.value, action=action)
        if not await self._files.write(decision):
            log.warning("decision %d: no volume has it yet", decision.decision_id)
        details = {"decision": decision.token, "kind": decision.kind.value}
        self._audit(user, action, decision.subject, details=details)

    # care --------------------------------------------------------------------------------------

    async def sync(self) -> int:
        """Compare every volume with the index now (after a rebuild); returns how many were learned.

        A volume that fails is left for later.
        """
        self._files.behind |= {volume.name for volume in self._volumes.ordered}
        return await self._sync_behind()

    async def _run(self) -> None:
        while True:
            pause_s = self._round_s
            self._wake.clear()
            try:
                await self._round()
            except (DatabaseError, VolumeError) as error:
                log.warning("decisions: care waits: %s", error.reason)
                pause_s = RETRY_S
            except Exception:  # a fault of ours must not end the care for ever
                log.exception("decisions: care failed and goes on")
            usable = {each.name for each in self._volumes.ordered if each.state in WRITABLE}
            if self._open or self._files.behind & usable:
                pause_s = min(pause_s, RETRY_S)
            try:
                async with asyncio.timeout(pause_s):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _round(self) -> None:
        await self._count_time()
        now_s = self._clock.monotonic()
        if now_s >= self._all_again_s:
            self._all_again_s = now_s + ALL_AGAIN_S
            self._files.behind |= {volume.name for volume in self._volumes.ordered}
        await self._sync_behind()
        self._open = await self._inbox.resume()
        if now_s >= self._purge_s:
            self._purge_s = now_s + PURGE_EVERY_S
            purged = await self._inbox.purge_due()
            if purged:
                log.info("inbox: %d rejected objects were removed, their time was over", purged)

    async def _count_time(self) -> None:
        """Record whole seconds that the box ran; what is lost by a crash delays a purge."""
        elapsed = int(self._clock.monotonic() - self._counted_s)
        if elapsed > 0:
            await self._catalogue.cases.add_running(elapsed)
            self._counted_s += elapsed

    async def _sync_behind(self) -> int:
        learned = 0
        async with self._one_sync:
            for volume in self._volumes.ordered:
                if volume.name not in self._files.behind or not volume.readable:
                    continue
                try:
                    found, written = await self._files.sync(volume)
                    await self._index_again(volume)
                    await self._inbox.deciding.tidy(volume.name)
                except VolumeError as error:
                    self._files.behind.add(volume.name)
                    log.warning("volume %s: decisions wait: %s", volume.name, error.what)
                    continue
                if found or written:
                    log.info(
                        "volume %s: %d decisions learned, %d written", volume.name, found, written
                    )
                learned += found
            names = {volume.name for volume in self._volumes.ordered}
            self._files.behind &= names  # of volumes that left the box nothing is expected
        return learned

    async def _index_again(self, volume: Volume) -> None:
        """Make objects known that only a decision says how to find (after a lost index)."""
        before = 0
        while found := await self._catalogue.cases.decisions(
            before, 100, phases=(Phase.DONE,), kinds=(Kind.INDEX,)
        ):
            before = found[-1].decision_id
            for decision in found:
                await self._index_one(volume, decision)

    async def _index_one(self, volume: Volume, decision: Decision) -> None:
        item = of_plain(decision.before["item"])
        if await self._catalogue.instance(item.sop_instance_uid) is not None:
            return
        given: Mapping[str, str] = decision.after.get("given", {})
        study, series = str(decision.after.get("study", "")), str(decision.after.get("series", ""))
        key = object_key(study, series, item.sop_instance_uid)
        if await volume.stat(key) != item.size or (await volume.digest(key))[0] != item.digest:
            return
        there = replace(item, key=key, copies=(volume.name,))
        try:
            attributes = await self._inbox.deciding.attributes(as_stored(there), there, given)
        except InboxError as error:
            log.warning("decision %d: %s", decision.decision_id, error.reason)
            return
        others = tuple(each.name for each in self._volumes.ordered if each is not volume)
        result = await self._catalogue.add(
            NewInstance(
                attributes=attributes,
                key=key,
                digest=item.digest,
                size=item.size,
                received_at=item.received_at,
                origin=item.origin,
                copies=(volume.name,),
                owed=others,
            )
        )
        if result.outcome is AddOutcome.NEW:
            log.info("decision %d: its object is in the index again", decision.decision_id)

    def _volume_changed(self, event: VolumeChanged) -> None:
        fresh = event.before not in READABLE_STATES or event.after == VolumeState.ONLINE
        if event.after in READABLE_STATES and fresh:
            self._files.behind.add(event.volume)
            self._wake.set()


def _clean(text: str) -> str:
    """Return a value as DICOM can hold it: no control characters, no delimiter, 64 characters."""
    shown = "".join(each for each in str(text) if each.isprintable() and each != "\\")
    return "=".join(group.strip()[:64] for group in shown.split("=")[:3])
