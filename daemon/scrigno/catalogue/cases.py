# SPDX-License-Identifier: Apache-2.0
"""What waits for an operator and what operators decided: the part of the catalogue about cases."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, TypeVar

from scrigno.db.engine import Database
from scrigno.db.sqlite import Connection

from . import copies, corrections, decisions, inbox, maintenance, values
from .corrections import identity_of
from .decisions import (
    NAMES,
    Decision,
    DecisionOvertaken,
    DecisionRefused,
    Demographics,
    Kind,
    NewDecision,
    Phase,
)
from .gains import HELD, OWED
from .intake import Intake
from .records import AddOutcome, CopyState, InboxItem, NewInboxItem, NewInstance, Origin

T = TypeVar("T")
MOST_ROWS: Final = 1000  # of one page
_NEWEST: Final = 1 << 62


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientCase:
    """A study whose patient has the ID of another one but not the same name, birth date or sex."""

    study_uid: str
    case_id: int  # pass the last one as `after` for the next page
    shown: Demographics  # how the study is shown now
    known: Demographics  # the patient it is compared with
    other_study_uid: str  # one of that patient's, "" when there is none
    studies_of_patient: int  # with this one
    received_first: datetime
    version: int  # to be given back with the decision
    conflict: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """How much waits for an operator and since when."""

    patients: int
    objects: int
    oldest: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What an operator says about the patient of a study.

    MERGE: `into` is a study of the patient it belongs to. SPLIT: `issuer` tells the new patient
    apart, without one it gets an identity of its own. FIX: `changes` are names of `Demographics`
    with their new values.
    """

    kind: Kind
    study_uid: str
    version: int
    account: str
    why: str = field(default="", repr=False)
    into: str = ""
    issuer: str = ""
    changes: Mapping[str, Any] = field(default_factory=dict, repr=False)


class CaseBook:
    """Reached as `Catalogue.cases`. Loop thread only; every method raises DatabaseError too."""

    def __init__(self, database: Database, intake: Intake) -> None:
        """Use the catalogue's own database and writer hooks."""
        self._db = database
        self._intake = intake
        self.replaced = 0  # see Catalogue.replaced_objects

    async def _change(self, change: Callable[[Connection], T]) -> T:
        """Make a change by which an object may go or take the place of another."""
        try:
            return await self._db.write(change)
        finally:
            self.replaced += 1

    # patients ----------------------------------------------------------------------------------

    async def patients(self, after: int = 0, limit: int = 100) -> list[PatientCase]:
        """Return studies in conflict, in the order they came."""
        return await self._db.read(
            lambda connection: _cases(
                connection, "study.patient_conflict = 1 AND study.id > ?", after, limit
            )
        )

    async def patient(self, study_uid: str) -> PatientCase | None:
        """Return how any study compares with its patient, or None when it is not there."""
        found = await self._db.read(
            lambda connection: _cases(connection, "study.study_instance_uid = ? ", study_uid, 1)
        )
        return found[0] if found else None

    async def sent(self, study_uid: str) -> Demographics | None:
        """Return what the objects of a corrected study say; None when it is shown as sent."""
        found = await self._db.read(lambda connection: corrections.of_study(connection, study_uid))
        return None if found is None or found.person is None else found.sent

    async def corrected(self, study_uids: Sequence[str]) -> dict[str, Demographics]:
        """Return those of the studies that are shown under another patient than was sent."""

        def query(connection: Connection) -> dict[str, Demographics]:
            found = {uid: corrections.of_study(connection, uid) for uid in study_uids}
            return {
                uid: each.person
                for uid, each in found.items()
                if each is not None and each.person is not None
            }

        return await self._db.read(query)

    async def waiting(self) -> Waiting:
        """Return how many cases are open and how old the oldest is."""
        return await self._db.read(_waiting)

    async def decide(self, verdict: Verdict, at: datetime) -> Decision:
        """Carry out what was decided about a patient; durable on return.

        Raises DecisionOvertaken when `version` is not that of the study now, DecisionRefused.
        """

        def change(connection: Connection) -> Decision:
            self._intake.forget()
            return _decide(connection, self._intake, verdict, at)

        return await self._db.write(change)

    # decisions ---------------------------------------------------------------------------------

    async def decisions(
        self,
        before: int = 0,
        limit: int = 100,
        *,
        subject: str = "",
        phases: Sequence[Phase] = (),
        kinds: Sequence[Kind] = (),
    ) -> list[Decision]:
        """Return decisions newest first; `before` is the last number seen (0: the newest)."""
        return await self._db.read(
            lambda connection: decisions.page(
                connection, before or _NEWEST, min(limit, MOST_ROWS), subject, phases, kinds
            )
        )

    async def decision(self, decision_id: int) -> Decision | None:
        """Return one decision, or None."""
        return await self._db.read(lambda connection: decisions.get(connection, decision_id))

    async def by_token(self, token: str) -> Decision | None:
        """Return the decision of this name, or None."""
        return await self._db.read(lambda connection: decisions.by_token(connection, token))

    async def version(self, subject: str) -> int:
        """Return what changes with every decision on the subject."""
        return await self._db.read(lambda connection: decisions.version(connection, subject))

    async def names(self) -> dict[str, Phase]:
        """Return token and phase of every decision that belongs on the volumes."""
        return await self._db.read(decisions.names)

    async def begin(self, new: NewDecision) -> Decision:
        """Record that a decision about a kept object is being carried out.

        Raises DecisionOvertaken when somebody decides about it, or has decided, already.
        """

        def change(connection: Connection) -> Decision:
            item = inbox.by_key(connection, new.subject)
            last = decisions.last_standing(connection, new.subject)
            busy = last is not None and last.phase in (Phase.DOING, Phase.UNDOING)
            if item is None or item.decided or busy:
                raise DecisionOvertaken
            return decisions.add(connection, new, Phase.DOING)

        return await self._db.write(change)

    async def finish(
        self,
        decision_id: int,
        *,
        after: Mapping[str, Any] | None = None,
        decided: str | None = None,
        phase: Phase = Phase.DONE,
        expected: Phase = Phase.DOING,
    ) -> None:
        """Record that it is done; its item is hidden as `decided`, or forgotten (None).

        The files of an item that is forgotten are left over until they are removed. Raises
        DecisionOvertaken when the decision is not in the `expected` phase.
        """

        def change(connection: Connection) -> None:
            decision = _standing(connection, decision_id)
            if decision.phase is not expected:
                raise DecisionOvertaken
            decisions.change(connection, decision_id, phase, after=after or decision.after)
            item = inbox.by_key(connection, decision.subject)
            if item is not None and decided is not None:
                inbox.mark(connection, decision.subject, decided)
            elif item is not None:
                _forget_item(connection, self._intake, item)

        await self._change(change)

    async def forget_item(self, key: str) -> None:
        """Forget a kept object; its files are left over until they are removed."""

        def change(connection: Connection) -> None:
            item = inbox.by_key(connection, key)
            if item is not None:
                _forget_item(connection, self._intake, item)

        await self._change(change)

    async def give_up(self, decision_id: int) -> None:
        """Forget a decision that could not be carried out; the item is as it was."""
        await self._db.write(lambda connection: decisions.drop(connection, decision_id))

    async def undo_begin(self, decision_id: int, account: str, why: str, at: datetime) -> Decision:
        """Record that a decision about a kept object is being taken back.

        Raises DecisionRefused when it cannot be, DecisionOvertaken when somebody was faster.
        """

        def change(connection: Connection) -> Decision:
            decision = _undoable(connection, decision_id)
            decisions.change(connection, decision_id, Phase.UNDOING, undone=(at, account, why))
            return replace(decision, phase=Phase.UNDOING, undone_at=at, undone_by=account)

        return await self._db.write(change)

    async def undo_end(self, decision_id: int, *, done: bool) -> None:
        """Record that it was taken back, or could not be; its item is shown again."""

        def change(connection: Connection) -> None:
            decision = _standing(connection, decision_id)
            decisions.change(connection, decision_id, Phase.UNDONE if done else Phase.DONE)
            if done:
                inbox.mark(connection, decision.subject, "")

        await self._db.write(change)

    async def undo_patient(
        self, decision_id: int, account: str, why: str, at: datetime
    ) -> Decision:
        """Take a decision about a patient back; durable on return.

        Raises DecisionRefused, DecisionOvertaken.
        """

        def change(connection: Connection) -> Decision:
            self._intake.forget()
            decision = _undoable(connection, decision_id)
            decisions.change(connection, decision_id, Phase.UNDONE, undone=(at, account, why))
            corrections.apply(connection, self._intake.gains, decision.subject, _earlier(decision))
            undone = decisions.get(connection, decision_id)
            assert undone is not None  # noqa: S101 - it was there a moment ago
            return undone

        return await self._db.write(change)

    async def learn(self, known: Decision) -> bool:
        """Take over a decision that was found on a volume; tell whether anything was new."""

        def change(connection: Connection) -> bool:
            self._intake.forget()
            if not decisions.learn(connection, known):
                return False
            if known.kind in decisions.PATIENT_KINDS:
                earlier = _earlier(known) if known.phase is Phase.UNDONE else {}
                corrections.apply(connection, self._intake.gains, known.subject, earlier)
            elif known.kind in (Kind.REJECT, Kind.BESIDE):
                hidden = known.phase in (Phase.DONE, Phase.FINAL)
                inbox.mark(connection, known.subject, known.kind if hidden else "")
            return True

        return await self._db.write(change)

    # kept objects ------------------------------------------------------------------------------

    async def kept(self, key: str) -> InboxItem | None:
        """Return the object kept under this key, decided about or not."""
        return await self._db.read(lambda connection: inbox.by_key(connection, key))

    async def redirect(self, sop_instance_uid: str, key: str, copies: Sequence[str]) -> bool:
        """Say that an archived object stands under another key, on these volumes for now."""

        def change(connection: Connection) -> bool:
            return _redirect(connection, self._intake, sop_instance_uid, key, copies)

        return await self._change(change)

    async def swap(
        self, *, archived: NewInstance, kept: NewInboxItem, leaving: str, decided: str
    ) -> None:
        """Put `archived` in the place of the object of its UID, and that one into the inbox.

        One transaction. The item with the key `leaving` leaves the inbox; the one that comes
        there is marked as `decided`.
        """

        def change(connection: Connection) -> None:
            self._intake.forget()
            gains = self._intake.gains
            maintenance.remove(connection, gains, [archived.attributes.instance.sop_instance_uid])
            (result,) = self._intake.add_many(connection, [(archived, None)])
            if isinstance(result, Exception):
                raise result
            assert result.outcome is AddOutcome.NEW  # noqa: S101 - removed above
            gone = inbox.by_key(connection, leaving)
            if gone is not None:
                _forget_item(connection, self._intake, gone)
            inbox.add(connection, gains, kept)
            inbox.mark(connection, kept.key, decided)

        await self._change(change)

    async def origin(self, sop_instance_uid: str) -> Origin:
        """Return by which door and from whom an archived object came."""

        def query(connection: Connection) -> Origin:
            row = connection.execute(
                "SELECT door, calling_ae, called_ae, address, account FROM instance "
                "JOIN origin ON origin.id = instance.origin WHERE sop_instance_uid = ?",
                (sop_instance_uid,),
            ).fetchone()
            if row is None:
                return Origin(door="rebuild")
            door, calling_ae, called_ae, address, user = row
            return Origin(
                door=door, calling_ae=calling_ae, called_ae=called_ae, address=address, user=user
            )

        return await self._db.read(query)

    # time and left-over files ------------------------------------------------------------------

    async def ran_s(self) -> int:
        """Return how long the box has run in all."""
        return await self._db.read(decisions.ran_s)

    async def add_running(self, seconds: int) -> None:
        """Add to the time that the box has run."""
        await self._db.write(lambda connection: decisions.add_running(connection, seconds))

    async def leave_over(self, volume: str, key: str, sop_instance_uid: str = "") -> None:
        """Remember a file that is to be removed, now or when its volume is back.

        `sop_instance_uid` for one of the archive, without it for one of the inbox.
        """
        await self._db.write(
            lambda connection: _leave_over(connection, [(volume, key, sop_instance_uid)])
        )

    async def leftovers(self, volume: str) -> list[tuple[str, str]]:
        """Return the files that are to be removed from a volume, each with its SOP Instance UID."""
        return await self._db.read(
            lambda connection: [
                (row[0], row[1])
                for row in connection.execute(
                    "SELECT key, sop_instance_uid FROM leftover WHERE volume = ? ORDER BY key",
                    (volume,),
                ).fetchall()
            ]
        )

    async def left_over_no_more(self, volume: str, keys: Sequence[str]) -> None:
        """Forget files that were removed."""

        def change(connection: Connection) -> None:
            for key in keys:
                connection.execute(
                    "DELETE FROM leftover WHERE volume = ? AND key = ?", (volume, key)
                )

        await self._db.write(change)


# in the threads of the database ----------------------------------------------------------------


def _cases(connection: Connection, where: str, value: object, limit: int) -> list[PatientCase]:
    found = connection.execute(
        "SELECT study.id, study.study_instance_uid, study.patient, study.received_first, "  # noqa: S608 - our texts
        f"study.patient_conflict FROM study WHERE {where} ORDER BY study.id LIMIT ?",
        (value, min(limit, MOST_ROWS)),  # type: ignore[arg-type]
    ).fetchall()
    return [_case(connection, *row) for row in found]


def _case(
    connection: Connection, number: int, uid: str, patient: int, received: int, conflict: int
) -> PatientCase:
    other = connection.execute(
        "SELECT study_instance_uid FROM study WHERE patient = ? AND id <> ? "
        "ORDER BY patient_conflict, id LIMIT 1",
        (patient, number),
    ).fetchone()
    count = connection.execute(
        "SELECT count(*) FROM study WHERE patient = ?", (patient,)
    ).fetchone()
    assert count is not None  # noqa: S101 - an aggregate always answers
    return PatientCase(
        study_uid=uid,
        case_id=number,
        shown=Demographics.of(corrections.of_row(connection, "study", number)),
        known=Demographics.of(corrections.of_row(connection, "patient", patient)),
        other_study_uid="" if other is None else other[0],
        studies_of_patient=count[0],
        received_first=values.moment(received),
        version=decisions.version(connection, uid),
        conflict=bool(conflict),
    )


def _waiting(connection: Connection) -> Waiting:
    studies = connection.execute(
        "SELECT count(*), min(received_first) FROM study WHERE patient_conflict = 1"
    ).fetchone()
    items = connection.execute(
        "SELECT count(*), min(received_at) FROM inbox WHERE decided = ''"
    ).fetchone()
    assert studies is not None  # noqa: S101 - an aggregate always answers
    assert items is not None  # noqa: S101 - an aggregate always answers
    times = [row[1] for row in (studies, items) if row[1] is not None]
    return Waiting(
        patients=studies[0],
        objects=items[0],
        oldest=values.moment(min(times)) if times else None,
    )


def _standing(connection: Connection, decision_id: int) -> Decision:
    decision = decisions.get(connection, decision_id)
    if decision is None:
        raise DecisionRefused(f"There is no decision {decision_id}.")
    return decision


def _undoable(connection: Connection, decision_id: int) -> Decision:
    decision = _standing(connection, decision_id)
    match decision.phase:
        case Phase.DONE:
            pass
        case Phase.UNDONE | Phase.UNDOING:
            raise DecisionOvertaken
        case Phase.FINAL:
            raise DecisionRefused(
                "This decision is final: what was needed to take it back is gone.",
                next_step="Decide anew.",
            )
        case Phase.DOING:
            raise DecisionRefused(
                "This decision is still being carried out.", next_step="Try again in a minute."
            )
    last = decisions.last_standing(connection, decision.subject)
    if last is not None and last.decision_id != decision_id:
        raise DecisionRefused(
            "There is a later decision about the same thing.",
            next_step="Take the later one back first.",
        )
    return decision


def _decide(connection: Connection, intake: Intake, verdict: Verdict, at: datetime) -> Decision:
    row = connection.execute(
        "SELECT id, patient FROM study WHERE study_instance_uid = ?", (verdict.study_uid,)
    ).fetchone()
    if row is None:
        raise DecisionRefused("There is no such study.", next_step="Load the list again.")
    if decisions.version(connection, verdict.study_uid) != verdict.version:
        raise DecisionOvertaken
    number, patient = int(row[0]), int(row[1])
    shown = Demographics.of(corrections.of_row(connection, "study", number))
    force = corrections.in_force(connection, verdict.study_uid)
    own = connection.execute("SELECT identity FROM patient WHERE id = ?", (patient,)).fetchone()
    assert own is not None  # noqa: S101 - a foreign key leads here
    person, identity = _corrected(connection, verdict, shown, str(own[0]))
    dismissed = verdict.kind is Kind.KEEP
    if dismissed and (force is None or force.person is None):
        person = None
    after = {
        "person": None if person is None else person.plain(),
        "identity": identity,
        "dismissed": dismissed,
    }
    patients = [corrections.snapshot(connection, patient)]
    if person is not None:
        target = connection.execute(
            "SELECT id FROM patient WHERE patient_id = ? AND issuer_of_patient_id = ? "
            "AND identity = ?",
            (person.patient_id, person.issuer_of_patient_id, identity),
        ).fetchone()
        if target is not None and int(target[0]) != patient:
            patients.append(corrections.snapshot(connection, int(target[0])))
    made = decisions.add(
        connection,
        NewDecision(
            kind=verdict.kind,
            subject=verdict.study_uid,
            account=verdict.account,
            why=verdict.why,
            at=at,
            before={"shown": shown.plain(), "patients": patients},
            after=after,
        ),
        Phase.DONE,
    )
    corrections.apply(connection, intake.gains, verdict.study_uid)
    return made


def _corrected(
    connection: Connection, verdict: Verdict, shown: Demographics, identity: str
) -> tuple[Demographics | None, str]:
    """Return under whom the study is to be shown."""
    match verdict.kind:
        case Kind.KEEP:
            return shown, identity
        case Kind.MERGE:
            return _of_other(connection, verdict)
        case Kind.SPLIT if verdict.issuer:
            if verdict.issuer == shown.issuer_of_patient_id:
                raise DecisionRefused(
                    "The patient has this issuer already.", next_step="Name another issuer."
                )
            return replace(shown, issuer_of_patient_id=verdict.issuer), ""
        case Kind.SPLIT:
            return shown, f"study {verdict.study_uid}"
        case Kind.FIX:
            return _fixed(verdict, shown, identity)
        case _:
            raise DecisionRefused(f"{verdict.kind} is no decision about a patient.")


def _of_other(connection: Connection, verdict: Verdict) -> tuple[Demographics, str]:
    other = connection.execute(
        "SELECT study.id, patient.id, patient.identity FROM study "
        "JOIN patient ON patient.id = study.patient WHERE study_instance_uid = ?",
        (verdict.into,),
    ).fetchone()
    if other is None or verdict.into == verdict.study_uid:
        raise DecisionRefused(
            "There is no such study to merge into.", next_step="Choose a study of the patient."
        )
    theirs = Demographics.of(corrections.of_row(connection, "study", int(other[0])))
    known = Demographics.of(corrections.of_row(connection, "patient", int(other[1])))
    merged = {name: getattr(theirs, name) or getattr(known, name) for name in NAMES}
    if not theirs.patient_name.text():
        merged["patient_name"] = known.patient_name
    return Demographics(**merged), str(other[2])


def _fixed(verdict: Verdict, shown: Demographics, identity: str) -> tuple[Demographics, str]:
    unknown = set(verdict.changes) - set(NAMES)
    if unknown:
        raise DecisionRefused(f"{sorted(unknown)[0]} cannot be corrected.")
    fixed = Demographics.of_plain({**shown.plain(), **verdict.changes})
    if fixed == shown:
        raise DecisionRefused("Nothing would change.", next_step="Give at least one other value.")
    same = (fixed.patient_id, fixed.issuer_of_patient_id) == (
        shown.patient_id,
        shown.issuer_of_patient_id,
    )
    return fixed, identity if same and fixed.patient_id else identity_of(fixed)


def _forget_item(connection: Connection, intake: Intake, found: InboxItem) -> None:
    kept = found.item
    _leave_over(connection, [(name, kept.key, "") for name in {*kept.copies, *kept.owed}])
    inbox.remove(connection, intake.gains, found.inbox_id)


def _leave_over(connection: Connection, files: Iterable[tuple[str, str, str]]) -> None:
    connection.executemany(
        "INSERT INTO leftover (volume, key, sop_instance_uid) VALUES (?, ?, ?) "
        "ON CONFLICT DO NOTHING",
        list(files),
    )


def _earlier(decision: Decision) -> dict[corrections.PatientKey, Mapping[str, str]]:
    """Return how the patients were that a decision touched."""
    found: dict[corrections.PatientKey, Mapping[str, str]] = {}
    for each in decision.before.get("patients", ()):
        if each:
            patient_id, issuer, identity = each["key"]
            found[patient_id, issuer, identity] = each["values"]
    return found


def _redirect(
    connection: Connection, intake: Intake, uid: str, key: str, held: Sequence[str]
) -> bool:
    row = connection.execute(
        "SELECT id, size FROM instance WHERE sop_instance_uid = ?", (uid,)
    ).fetchone()
    if row is None:
        return False
    number, size = int(row[0]), int(row[1])
    connection.execute("UPDATE instance SET key = ? WHERE id = ?", (key, number))
    for copy in copies.copies_of(connection, [number])[number]:
        if copy.state is CopyState.HELD and copy.volume not in held:
            copies.set_state(connection, intake.gains, number, copy.volume, OWED, size)
    for volume in held:
        copies.set_state(connection, intake.gains, number, volume, HELD, size)
    return True
