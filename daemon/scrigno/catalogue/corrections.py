# SPDX-License-Identifier: Apache-2.0
"""What decisions make of the patient of a study: an overlay on what its objects say.

The row of a study shows the corrected patient, so every list and query does; what the objects say
is kept beside it and comes back when the decision is taken back. A patient row is always what its
studies say, and a study is in conflict exactly when it disagrees with its patient row and nobody
decided that both are right. Writer thread only.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from scrigno.core.attributes import PatientAttributes, PersonName
from scrigno.core.phi import Phi
from scrigno.db.sqlite import Connection, Value

from . import fulltext, names, rows
from .columns import Kind as ColumnKind
from .decisions import NAMES, PATIENT_KINDS, Demographics
from .gains import Gains

# What tells patients apart; what a patient row shows of its studies is the rest.
_KEY: Final = ("patient_id", "issuer_of_patient_id")
_SHOWN: Final = tuple(name for name in rows.PATIENT_COLUMNS if name not in _KEY)
_COMPARED: Final = ("patient_name_key", "patient_birth_date", "patient_sex")

PatientKey = tuple[str, str, str]  # ID, issuer, identity


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """What holds for one study: `person` instead of what was `sent`; None: as it was sent.

    `sent` is None too while the study is not there.
    """

    decision: int
    dismissed: bool
    person: Demographics | None
    identity: str
    sent: Demographics | None
    sent_identity: str

    def shown(self, person: PatientAttributes) -> PatientAttributes:
        """Return attributes of an object as they are to be shown."""
        if self.person is None:
            return person
        return PatientAttributes(
            **{name: getattr(self.person, name) for name in NAMES},
            other_patient_ids=person.other_patient_ids,
            patient_comments=person.patient_comments,
        )

    def sent_empty(self) -> tuple[str, ...]:
        """Return the names that an object of the study may still fill in behind the correction."""
        if self.sent is None or self.person is None:
            return ()
        return tuple(
            name
            for name in NAMES
            if name not in rows.DEFINING and getattr(self.sent, name) in rows.NOTHING
        )


def identity_of(person: PatientAttributes | Demographics) -> str:
    """Return what keeps people without an ID apart; empty when there is an ID."""
    if person.patient_id:
        return ""
    return f"{names.name_keys(person.patient_name)[0]}|{person.patient_birth_date}"


def of_study(connection: Connection, study_uid: str) -> Correction | None:
    """Return what holds for a study, or None."""
    row = connection.execute(
        "SELECT decision, dismissed, person, identity, sent FROM correction "
        "WHERE study_instance_uid = ?",
        (study_uid,),
    ).fetchone()
    if row is None:
        return None
    sent = json.loads(row[4]) if row[4] else None
    return Correction(
        decision=row[0],
        dismissed=bool(row[1]),
        person=Demographics.of_plain(json.loads(row[2])) if row[2] else None,
        identity=row[3],
        sent=None if sent is None else Demographics.of_plain(sent),
        sent_identity="" if sent is None else sent["identity"],
    )


def note_sent(connection: Connection, study_uid: str, sent: Demographics, identity: str) -> None:
    """Keep what the objects of a corrected study say."""
    connection.execute(
        "UPDATE correction SET sent = ? WHERE study_instance_uid = ?",
        (json.dumps({**sent.plain(), "identity": identity}), study_uid),
    )


# carrying out ----------------------------------------------------------------------------------


def apply(
    connection: Connection,
    gains: Gains,
    study_uid: str,
    preferred: Mapping[PatientKey, Mapping[str, str]] | None = None,
) -> None:
    """Make the rows what the decisions in force say of a study; `preferred` see `settle`."""
    force = in_force(connection, study_uid)
    before = of_study(connection, study_uid)
    if force is None and before is None:
        return
    study = connection.execute(
        "SELECT study.id, study.patient, patient.identity, study.character_set FROM study "
        "JOIN patient ON patient.id = study.patient WHERE study_instance_uid = ?",
        (study_uid,),
    ).fetchone()
    if study is None:
        _store(connection, study_uid, force, None, "")
        return
    number, patient, identity, character_set = study
    shown = of_row(connection, "study", number)
    if before is None or before.sent is None or before.person is None:
        sent, sent_identity = Demographics.of(shown), str(identity)
    else:
        sent, sent_identity = before.sent, before.sent_identity
    _store(connection, study_uid, force, sent, sent_identity)
    person, target_identity = sent, sent_identity
    if force is not None and force.person is not None:
        person, target_identity = force.person, force.identity
    wanted = _with(shown, person)
    target = patient_of(connection, gains, wanted, target_identity, character_set)
    changes: dict[str, Value] = {"patient": target}
    for name in NAMES:
        changes |= rows.column_values(rows.PATIENT_COLUMNS[name], getattr(wanted, name))
    rows.update(connection, "study", number, changes)
    fulltext.refresh(connection, number)
    for each in dict.fromkeys((int(patient), target)):
        settle(connection, gains, each, preferred or {})


def in_force(connection: Connection, study_uid: str) -> Correction | None:
    """Return what the newest decision that stands says of a study."""
    marks = ",".join("?" * len(PATIENT_KINDS))
    row = connection.execute(
        "SELECT id, after FROM decision WHERE subject = ? AND phase IN ('done', 'final') "  # noqa: S608 - question marks only
        f"AND kind IN ({marks}) ORDER BY sequence DESC, decided_at DESC, token DESC LIMIT 1",
        (study_uid, *PATIENT_KINDS),
    ).fetchone()
    if row is None:
        return None
    after = json.loads(row[1])
    person = after.get("person")
    return Correction(
        decision=row[0],
        dismissed=bool(after.get("dismissed")),
        person=None if person is None else Demographics.of_plain(person),
        identity=str(after.get("identity", "")),
        sent=None,
        sent_identity="",
    )


def _store(
    connection: Connection,
    study_uid: str,
    force: Correction | None,
    sent: Demographics | None,
    sent_identity: str,
) -> None:
    connection.execute("DELETE FROM correction WHERE study_instance_uid = ?", (study_uid,))
    if force is None:
        return
    # Where nothing is corrected the row itself says what was sent.
    said = (
        ""
        if sent is None or force.person is None
        else json.dumps({**sent.plain(), "identity": sent_identity})
    )
    person = "" if force.person is None else json.dumps(force.person.plain())
    connection.execute(
        "INSERT INTO correction (study_instance_uid, decision, dismissed, person, identity, sent) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        (study_uid, force.decision, int(force.dismissed), person, force.identity, said),
    )


def _with(shown: PatientAttributes, person: Demographics) -> PatientAttributes:
    return PatientAttributes(
        **{name: getattr(person, name) for name in NAMES},
        other_patient_ids=shown.other_patient_ids,
        patient_comments=shown.patient_comments,
    )


def patient_of(
    connection: Connection,
    gains: Gains,
    person: PatientAttributes,
    identity: str,
    character_set: str,
) -> int:
    """Return the row of a patient, made from `person` when there is none."""
    found = connection.execute(
        "SELECT id FROM patient WHERE patient_id = ? AND issuer_of_patient_id = ? AND identity = ?",
        (person.patient_id, person.issuer_of_patient_id, identity),
    ).fetchone()
    if found is not None:
        return int(found[0])
    gains.entities(patients=1)
    return rows.insert(
        connection,
        "patient",
        {
            "identity": identity,
            "character_set": character_set,
            **rows.columns_of(person, rows.PATIENT_COLUMNS),
        },
    )


def settle(
    connection: Connection,
    gains: Gains,
    patient: int,
    preferred: Mapping[PatientKey, Mapping[str, str]],
) -> None:
    """Make a patient row what its studies say, and say which of them disagree with it.

    A value stays as long as a study has it; of the others the one of the first study counts,
    before it the one that `preferred` had (how it was before a decision that is taken back). A
    patient with no study is forgotten.
    """
    studies = connection.execute(
        f"SELECT {', '.join(_SHOWN)} FROM study WHERE patient = ? ORDER BY id",  # noqa: S608 - our columns
        (patient,),
    ).fetchall()
    if not studies:
        connection.execute("DELETE FROM patient WHERE id = ?", (patient,))
        gains.entities(patients=-1)
        return
    row = connection.execute(
        "SELECT patient_id, issuer_of_patient_id, identity, "  # noqa: S608 - our columns
        f"{', '.join(_SHOWN)} FROM patient WHERE id = ?",
        (patient,),
    ).fetchone()
    assert row is not None  # noqa: S101 - a foreign key leads here
    earlier = preferred.get((row[0], row[1], row[2]), {})
    changes: dict[str, Value] = {}
    for place, name in enumerate(_SHOWN):
        said = [study[place] for study in studies if study[place]]
        current = row[3 + place]
        best = _best(said, earlier.get(name, ""), current)
        if best != current:
            changes |= _columns(name, best)
    if changes:
        rows.update(connection, "patient", patient, changes)
    flag(connection, patient)


def _best(said: Sequence[str], earlier: str, current: str) -> str:
    for value in (earlier, current):
        if value and value in said:
            return value
    return said[0] if said else ""


def _columns(name: str, value: str) -> dict[str, Value]:
    column = rows.PATIENT_COLUMNS[name]
    typed = PersonName.parse(value) if column.kind is ColumnKind.NAME else value
    return rows.column_values(column, typed)


def flag(connection: Connection, patient: int) -> None:
    """Mark those studies of a patient that disagree with it."""
    differs = " OR ".join(
        f"(study.{name} <> '' AND patient.{name} <> '' AND study.{name} <> patient.{name})"
        for name in _COMPARED
    )
    found = connection.execute(
        f"SELECT study.id, study.patient_conflict, ({differs}) AND "  # noqa: S608 - our columns
        "NOT coalesce(correction.dismissed, 0) FROM study "
        "JOIN patient ON patient.id = study.patient LEFT JOIN correction "
        "ON correction.study_instance_uid = study.study_instance_uid WHERE study.patient = ?",
        (patient,),
    ).fetchall()
    for number, was, conflict in found:
        if was != conflict:
            rows.update(connection, "study", number, {"patient_conflict": int(conflict)})


def snapshot(connection: Connection, patient: int) -> dict[str, Any]:
    """Return a patient row as texts, to prefer its values when a decision is taken back."""
    row = connection.execute(
        "SELECT patient_id, issuer_of_patient_id, identity, "  # noqa: S608 - our columns
        f"{', '.join(_SHOWN)} FROM patient WHERE id = ?",
        (patient,),
    ).fetchone()
    if row is None:
        return {}
    return {"key": list(row[:3]), "values": dict(zip(_SHOWN, row[3:], strict=True))}


def of_row(connection: Connection, table: str, number: int) -> PatientAttributes:
    """Return the patient attributes that a study or patient row shows."""
    row = connection.execute(
        f"SELECT {', '.join(rows.PATIENT_COLUMNS)} FROM {table} WHERE id = ?",  # noqa: S608 - our columns
        (number,),
    ).fetchone()
    assert row is not None  # noqa: S101 - the caller has just seen it
    found: dict[str, Any] = dict(zip(rows.PATIENT_COLUMNS, row, strict=True))
    for name, column in rows.PATIENT_COLUMNS.items():
        if column.kind is ColumnKind.NAME:
            found[name] = PersonName.parse(found[name])
        elif name in ("patient_id", "patient_birth_date", "other_patient_ids", "patient_comments"):
            found[name] = Phi(found[name])
    return PatientAttributes(**found)
