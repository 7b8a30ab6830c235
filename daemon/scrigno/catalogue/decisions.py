# SPDX-License-Identifier: Apache-2.0
"""Decisions of operators as typed records, and their rows. Changes: writer thread only."""

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar, Final

from scrigno.core.attributes import PatientAttributes, PersonName
from scrigno.core.errors import ScrignoError
from scrigno.core.phi import Phi
from scrigno.db.sqlite import Connection, Value

from . import rows, values


class DecisionRefused(ScrignoError):
    """The decision cannot be made or taken back as things are."""

    code: ClassVar[str] = "decision-refused"


class DecisionOvertaken(DecisionRefused):
    """Somebody else decided about the same thing first."""

    code: ClassVar[str] = "decision-overtaken"

    def __init__(self) -> None:
        """Say what to do."""
        super().__init__(
            "Somebody else has decided about this meanwhile.",
            next_step="Load it again, look at what was decided, and decide anew if need be.",
        )


class Kind(StrEnum):
    """What was decided. The first five are about a kept object, the others about a study."""

    ACCEPT = "accept"
    REJECT = "reject"
    REPLACE = "replace"  # the kept one became the archived one and the other way round
    BESIDE = "beside"  # archived too, under a UID of its own
    INDEX = "index"  # archived as it is, found by attributes that an operator gave
    KEEP = "keep"  # both are right: no conflict
    MERGE = "merge"
    SPLIT = "split"
    FIX = "fix"


PATIENT_KINDS: Final = (Kind.KEEP, Kind.MERGE, Kind.SPLIT, Kind.FIX)


class Phase(StrEnum):
    """How far a decision is carried out. Only DOING and UNDOING have work left after a crash."""

    DOING = "doing"
    DONE = "done"
    UNDOING = "undoing"
    UNDONE = "undone"
    FINAL = "final"  # what was needed to undo it is gone


@dataclass(frozen=True, slots=True, kw_only=True)
class Demographics:
    """Who the patient is, as far as an operator can correct it."""

    patient_id: Phi = Phi("")
    issuer_of_patient_id: str = ""
    patient_name: PersonName = PersonName()
    patient_birth_date: Phi = Phi("")
    patient_sex: str = ""

    @staticmethod
    def of(person: PatientAttributes) -> "Demographics":
        """Return that part of all attributes."""
        return Demographics(**{name: getattr(person, name) for name in NAMES})

    @staticmethod
    def of_plain(plain: Mapping[str, Any]) -> "Demographics":
        """Return what `plain` gave; what is missing is empty."""
        return Demographics(
            patient_id=Phi(plain.get("patient_id", "")),
            issuer_of_patient_id=str(plain.get("issuer_of_patient_id", "")),
            patient_name=PersonName.parse(str(plain.get("patient_name", ""))),
            patient_birth_date=Phi(plain.get("patient_birth_date", "")),
            patient_sex=str(plain.get("patient_sex", "")),
        )

    def plain(self) -> dict[str, str]:
        """Return it as texts, for JSON."""
        return {
            name: str(value.text() if isinstance(value, PersonName) else value)
            for name in NAMES
            for value in (getattr(self, name),)
        }


NAMES: Final = (
    "patient_id",
    "issuer_of_patient_id",
    "patient_name",
    "patient_birth_date",
    "patient_sex",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One decision. `before` and `after` hold patient data and are never shown by a repr."""

    decision_id: int
    token: str  # its name on the volumes
    kind: Kind
    subject: str  # SOP or Study Instance UID's study, or the key of a kept object
    sequence: int  # among those on the same subject
    phase: Phase
    decided_at: datetime
    account: str
    why: str = field(default="", repr=False)
    before: Mapping[str, Any] = field(default_factory=dict, repr=False)
    after: Mapping[str, Any] = field(default_factory=dict, repr=False)
    ran_s: int = 0
    undone_at: datetime | None = None
    undone_by: str = ""
    undone_why: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDecision:
    """What is to be recorded."""

    kind: Kind
    subject: str
    account: str
    why: str
    at: datetime
    before: Mapping[str, Any] = field(default_factory=dict, repr=False)
    after: Mapping[str, Any] = field(default_factory=dict, repr=False)


_SELECT: Final = (
    "SELECT id, token, kind, subject, sequence, phase, decided_at, account, why, before, after, "
    "ran_s, undone_at, undone_by, undone_why FROM decision "
)


def _decision(row: Sequence[Any]) -> Decision:
    return Decision(
        decision_id=row[0],
        token=row[1],
        kind=Kind(row[2]),
        subject=row[3],
        sequence=row[4],
        phase=Phase(row[5]),
        decided_at=values.moment(row[6]),
        account=row[7],
        why=row[8],
        before=json.loads(row[9]),
        after=json.loads(row[10]),
        ran_s=row[11],
        undone_at=None if row[12] is None else values.moment(row[12]),
        undone_by=row[13],
        undone_why=row[14],
    )


# changes ---------------------------------------------------------------------------------------


def add(connection: Connection, new: NewDecision, phase: Phase) -> Decision:
    """Record a decision and return it."""
    last = connection.execute(
        "SELECT coalesce(max(sequence), 0) FROM decision WHERE subject = ?", (new.subject,)
    ).fetchone()
    assert last is not None  # noqa: S101 - an aggregate always answers
    number = rows.insert(
        connection,
        "decision",
        {
            "token": uuid.uuid4().hex,
            "kind": new.kind,
            "subject": new.subject,
            "sequence": last[0] + 1,
            "phase": phase,
            "decided_at": values.stamp(new.at),
            "account": new.account,
            "why": new.why,
            "before": json.dumps(new.before),
            "after": json.dumps(new.after),
            "ran_s": ran_s(connection),
        },
    )
    made = get(connection, number)
    assert made is not None  # noqa: S101 - inserted above
    return made


def learn(connection: Connection, known: Decision) -> bool:
    """Record a decision that was found on a volume; False when nothing was new about it."""
    here = connection.execute(
        "SELECT id, phase FROM decision WHERE token = ?", (known.token,)
    ).fetchone()
    undone: dict[str, Value] = {
        "phase": known.phase,
        "undone_at": None if known.undone_at is None else values.stamp(known.undone_at),
        "undone_by": known.undone_by,
        "undone_why": known.undone_why,
    }
    if here is not None:
        if known.phase is not Phase.UNDONE or here[1] in (Phase.UNDONE, Phase.UNDOING):
            return False
        rows.update(connection, "decision", int(here[0]), undone)
        return True
    rows.insert(
        connection,
        "decision",
        {
            "token": known.token,
            "kind": known.kind,
            "subject": known.subject,
            "sequence": known.sequence,
            "decided_at": values.stamp(known.decided_at),
            "account": known.account,
            "why": known.why,
            "before": json.dumps(known.before),
            "after": json.dumps(known.after),
            # How long the box ran since is not known: the time to undo it begins anew.
            "ran_s": ran_s(connection),
            **undone,
        },
    )
    return True


def change(
    connection: Connection,
    number: int,
    phase: Phase,
    *,
    after: Mapping[str, Any] | None = None,
    undone: tuple[datetime, str, str] | None = None,
) -> None:
    """Bring a decision to another phase; `undone` is when, by whom and why."""
    changes: dict[str, Value] = {"phase": phase}
    if after is not None:
        changes["after"] = json.dumps(after)
    if undone is not None:
        at, account, why = undone
        changes |= {"undone_at": values.stamp(at), "undone_by": account, "undone_why": why}
    if phase is Phase.DONE and after is None:  # taken back was not possible: as if never asked
        changes |= {"undone_at": None, "undone_by": "", "undone_why": ""}
    rows.update(connection, "decision", number, changes)


def drop(connection: Connection, number: int) -> None:
    """Forget a decision that could not be carried out."""
    connection.execute("DELETE FROM decision WHERE id = ?", (number,))


def add_running(connection: Connection, seconds: int) -> None:
    """Add to the time that the box has run."""
    connection.execute("UPDATE running SET seconds = seconds + ? WHERE id = 1", (seconds,))


# questions -------------------------------------------------------------------------------------


def ran_s(connection: Connection) -> int:
    """Return how long the box has run in all, in seconds."""
    row = connection.execute("SELECT seconds FROM running WHERE id = 1").fetchone()
    return 0 if row is None else int(row[0])


def get(connection: Connection, number: int) -> Decision | None:
    """Return one decision, or None."""
    row = connection.execute(f"{_SELECT} WHERE id = ?", (number,)).fetchone()
    return None if row is None else _decision(row)


def page(
    connection: Connection,
    before: int,
    limit: int,
    subject: str,
    phases: Sequence[Phase],
    kinds: Sequence[Kind],
) -> list[Decision]:
    """Return decisions newest first with a smaller number than `before`."""
    where = "id < ?"
    parameters: list[Value] = [before]
    if subject:
        where += " AND subject = ?"
        parameters.append(subject)
    for column, wanted in (("phase", phases), ("kind", kinds)):
        if wanted:
            where += f" AND {column} IN ({','.join('?' * len(wanted))})"
            parameters.extend(wanted)
    found = connection.execute(
        f"{_SELECT} WHERE {where} ORDER BY id DESC LIMIT ?", [*parameters, limit]
    )
    return [_decision(row) for row in found.fetchall()]


def version(connection: Connection, subject: str) -> int:
    """Return a number that changes with every decision on the subject and every undo."""
    row = connection.execute(
        "SELECT count(*), count(undone_at) FROM decision WHERE subject = ?", (subject,)
    ).fetchone()
    assert row is not None  # noqa: S101 - an aggregate always answers
    return int(row[0]) + int(row[1])


def last_standing(connection: Connection, subject: str) -> Decision | None:
    """Return the newest decision on the subject that was not taken back."""
    row = connection.execute(
        f"{_SELECT} WHERE subject = ? AND phase <> ? "
        "ORDER BY sequence DESC, decided_at DESC, token DESC LIMIT 1",
        (subject, Phase.UNDONE),
    ).fetchone()
    return None if row is None else _decision(row)


def names(connection: Connection) -> dict[str, Phase]:
    """Return token and phase of every decision that belongs on the volumes too."""
    return {
        token: Phase(phase)
        for token, phase in connection.execute(
            "SELECT token, phase FROM decision WHERE kind <> ? AND phase <> ?",
            (Kind.ACCEPT, Phase.DOING),
        )
    }


def by_token(connection: Connection, token: str) -> Decision | None:
    """Return the decision of this name, or None."""
    row = connection.execute(f"{_SELECT} WHERE token = ?", (token,)).fetchone()
    return None if row is None else _decision(row)
