# SPDX-License-Identifier: Apache-2.0
"""Patients, studies and series: found or made for an object, empty attributes filled in.

The first object defines a row; a later one fills in what was empty and never changes what was
not. A study whose patient an operator corrected shows the correction; what its objects say is kept
behind it. Writer thread only.
"""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from scrigno.core.attributes import IndexAttributes, PatientAttributes
from scrigno.db.sqlite import Connection, Value

from . import corrections, fulltext, names, rows, values
from .columns import Column
from .corrections import Correction
from .decisions import NAMES, Demographics
from .dictionaries import Dictionaries
from .gains import Gains, StudySets
from .records import CapacityReached, NewInstance
from .requests import insert_requests, requests_as_text

REMEMBERED: Final = 4096
_COMPARED: Final = frozenset({"patient_name", "patient_birth_date", "patient_sex"})


@dataclass(slots=True)
class Patient:
    """A patient row as the writer knows it; `empty` names the attributes it still lacks."""

    row: int
    empty: tuple[str, ...]
    name_key: str
    birth_date: str
    sex: str


@dataclass(slots=True)
class Study:
    """A study row as the writer knows it."""

    row: int
    uid: str
    patient_id: str  # as sent
    patient: Patient
    conflict: bool
    bits: int
    modalities: set[str]
    sop_classes: set[str]
    body_parts: set[str]
    empty: tuple[str, ...]
    patient_empty: tuple[str, ...]
    correction: Correction | None = None
    origins: set[int] = field(default_factory=set)  # those that are known to be recorded

    def sets(self) -> StudySets:
        """Return the sets as they are to stand in the row."""
        return StudySets(
            modality_bits=self.bits,
            modalities=values.joined(self.modalities),
            sop_classes=values.joined(self.sop_classes),
            body_parts=values.joined(self.body_parts),
        )


@dataclass(slots=True)
class Series:
    """A series row as the writer knows it."""

    row: int
    uid: str
    study: Study
    empty: tuple[str, ...]


class Entities:
    """Remembers the rows that were just used; `forget` after anything else changed them."""

    def __init__(self, gains: Gains, dictionaries: Dictionaries) -> None:
        """Remember nothing yet."""
        self._gains = gains
        self._dictionaries = dictionaries
        self._series: dict[tuple[str, str], Series] = {}
        self._studies: dict[str, Study] = {}

    def forget(self) -> None:
        """Remember no row."""
        self._series.clear()
        self._studies.clear()

    def series_of(
        self, connection: Connection, new: NewInstance, max_studies: int | None
    ) -> tuple[Series, bool]:
        """Return the series of an object and whether its study is new; make what is missing.

        Raises CapacityReached before anything was made.
        """
        attributes = new.attributes
        where = (attributes.study.study_instance_uid, attributes.series.series_instance_uid)
        series = self._series.get(where)
        if series is not None:
            self._fill(connection, series, attributes)
            return series, False
        study, is_new = self._study_of(connection, new, max_studies)
        series = self._stored_series(connection, study, attributes)
        if series is None:
            series = self._new_series(connection, study, attributes)
        else:
            self._fill(connection, series, attributes)
        if len(self._series) >= REMEMBERED:
            self.forget()
            self._studies[study.uid] = study
        self._series[where] = series
        return series, is_new

    # series --------------------------------------------------------------------------------------

    def _stored_series(
        self, connection: Connection, study: Study, attributes: IndexAttributes
    ) -> Series | None:
        uid = attributes.series.series_instance_uid
        found = connection.execute(
            f"SELECT id, {', '.join(rows.SERIES_COLUMNS)} FROM series "  # noqa: S608 - our columns
            "WHERE series_instance_uid = ? AND study = ?",
            (uid, study.row),
        ).fetchone()
        if found is None:
            return None
        return Series(found[0], uid, study, _empty_names(rows.SERIES_COLUMNS, found[1:]))

    def _new_series(
        self, connection: Connection, study: Study, attributes: IndexAttributes
    ) -> Series:
        sent = attributes.series
        row = rows.insert(
            connection,
            "series",
            {
                "study": study.row,
                "series_order": values.order(sent.series_number),
                "number_of_instances": 0,
                "size_bytes": 0,
                "request_attributes": requests_as_text(sent.request_attributes),
                "character_set": attributes.character_set,
                **rows.columns_of(sent, rows.SERIES_COLUMNS),
            },
        )
        insert_requests(connection, row, sent.request_attributes)
        self._gains.series(study.row, 1)
        self._widen(connection, study, sent.modality, sent.body_part_examined)
        return Series(
            row, sent.series_instance_uid, study, rows.empty_of(sent, rows.SERIES_COLUMNS)
        )

    def _widen(self, connection: Connection, study: Study, modality: str, body_part: str) -> None:
        """Add to the sets of a study."""
        changed = False
        if modality and modality not in study.modalities:
            study.modalities.add(modality)
            study.bits = self._dictionaries.modality_bits(connection, study.modalities)
            changed = True
        if body_part and body_part not in study.body_parts:
            study.body_parts.add(body_part)
            changed = True
        if changed:
            self._gains.sets(study.row, study.sets())

    # studies -------------------------------------------------------------------------------------

    def _study_of(
        self, connection: Connection, new: NewInstance, max_studies: int | None
    ) -> tuple[Study, bool]:
        uid = new.attributes.study.study_instance_uid
        study = self._studies.get(uid) or self._stored_study(connection, uid)
        is_new = study is None
        if study is None:
            if max_studies is not None:
                _require_room(connection, max_studies, self._gains.new_studies)
            study = self._new_study(connection, new)
        self._studies[uid] = study
        return study, is_new

    def _stored_study(self, connection: Connection, uid: str) -> Study | None:
        columns = (*rows.PATIENT_COLUMNS, *rows.STUDY_COLUMNS)
        found = connection.execute(
            "SELECT id, patient, patient_conflict, modality_bits, modalities, sop_classes, "  # noqa: S608 - our columns
            f"body_parts, {', '.join(columns)} FROM study WHERE study_instance_uid = ?",
            (uid,),
        ).fetchone()
        if found is None:
            return None
        width = len(rows.PATIENT_COLUMNS)
        own = found[7:]
        correction = corrections.of_study(connection, uid)
        sent_id = own[tuple(rows.PATIENT_COLUMNS).index("patient_id")]
        if correction is not None and correction.sent is not None:
            sent_id = correction.sent.patient_id
        return Study(
            row=found[0],
            uid=uid,
            patient_id=sent_id,
            patient=_stored_patient(connection, found[1]),
            conflict=bool(found[2]),
            bits=found[3],
            modalities=set(values.split(found[4])),
            sop_classes=set(values.split(found[5])),
            body_parts=set(values.split(found[6])),
            empty=_empty_names(rows.STUDY_COLUMNS, own[width:]),
            patient_empty=_fillable(_empty_names(rows.PATIENT_COLUMNS, own[:width]), correction),
            correction=correction,
        )

    def _new_study(self, connection: Connection, new: NewInstance) -> Study:
        attributes = new.attributes
        sent, person = attributes.study, attributes.patient
        correction = self._corrected(connection, sent.study_instance_uid, person)
        identity = corrections.identity_of(person)
        dismissed = False
        if correction is not None:
            dismissed = correction.dismissed
            if correction.person is not None:
                person, identity = correction.shown(person), correction.identity
        patient = self._patient_of(connection, person, identity, attributes.character_set)
        study = Study(
            row=0,
            uid=sent.study_instance_uid,
            patient_id=attributes.patient.patient_id,
            patient=patient,
            conflict=_differs(patient, person) and not dismissed,
            bits=0,
            modalities={attributes.series.modality} - {""},
            sop_classes={attributes.instance.sop_class_uid},
            body_parts={attributes.series.body_part_examined} - {""},
            empty=rows.empty_of(sent, rows.STUDY_COLUMNS),
            patient_empty=_fillable(rows.empty_of(person, rows.PATIENT_COLUMNS), correction),
            correction=correction,
        )
        study.bits = self._dictionaries.modality_bits(connection, study.modalities)
        sets = study.sets()
        received = values.stamp(new.received_at)
        study.row = rows.insert(
            connection,
            "study",
            {
                "patient": patient.row,
                "modality_bits": sets.modality_bits,
                "modalities": sets.modalities,
                "sop_classes": sets.sop_classes,
                "body_parts": sets.body_parts,
                "institution_id": self._dictionaries.institution(connection, sent.institution_name),
                "number_of_series": 0,
                "number_of_instances": 0,
                "size_bytes": 0,
                "received_first": received,
                "received_last": received,
                "patient_conflict": int(study.conflict),
                "character_set": attributes.character_set,
                **rows.columns_of(person, rows.PATIENT_COLUMNS),
                **rows.columns_of(sent, rows.STUDY_COLUMNS),
            },
        )
        texts = rows.searched(person, sent)
        fulltext.put(connection, study.row, person.patient_name, texts)
        self._gains.entities(studies=1)
        return study

    # patients ------------------------------------------------------------------------------------

    def _corrected(
        self, connection: Connection, uid: str, sent: PatientAttributes
    ) -> Correction | None:
        """Return what operators decided of a study that comes for the first time, or again."""
        found = corrections.of_study(connection, uid)
        if found is None or found.person is None:
            return found
        identity = corrections.identity_of(sent)
        corrections.note_sent(connection, uid, Demographics.of(sent), identity)
        return corrections.of_study(connection, uid)

    def _patient_of(
        self,
        connection: Connection,
        person: PatientAttributes,
        identity: str,
        character_set: str,
    ) -> Patient:
        """Return the patient of these attributes: the same issuer and ID is the same patient.

        Without an ID nobody can be known again: name and birth date keep people apart.
        """
        found = connection.execute(
            "SELECT id FROM patient WHERE patient_id = ? AND issuer_of_patient_id = ? "
            "AND identity = ?",
            (person.patient_id, person.issuer_of_patient_id, identity),
        ).fetchone()
        if found is not None:
            patient = _stored_patient(connection, found[0])
            _fill_patient(connection, patient, person)
            return patient
        row = rows.insert(
            connection,
            "patient",
            {
                "identity": identity,
                "character_set": character_set,
                **rows.columns_of(person, rows.PATIENT_COLUMNS),
            },
        )
        self._gains.entities(patients=1)
        return _patient(row, person)

    # filling in ----------------------------------------------------------------------------------

    def _fill(self, connection: Connection, series: Series, attributes: IndexAttributes) -> None:
        """Fill in what the rows of an object still lack."""
        filled = _filled(series.empty, attributes.series)
        if filled:
            changes = _changes(filled, attributes.series, rows.SERIES_COLUMNS)
            if "series_number" in filled:
                changes["series_order"] = values.order(attributes.series.series_number)
            rows.update(connection, "series", series.row, changes)
            series.empty = _without(series.empty, filled)
            self._widen(
                connection,
                series.study,
                attributes.series.modality if "modality" in filled else "",
                attributes.series.body_part_examined if "body_part_examined" in filled else "",
            )
        study = series.study
        of_study = _filled(study.empty, attributes.study)
        # Another patient's object in the same study must not lend its attributes to it.
        same = attributes.patient.patient_id == study.patient_id
        of_patient = _filled(study.patient_empty, attributes.patient) if same else ()
        if of_study or of_patient:
            self._fill_study(connection, study, attributes, of_study, of_patient)
        if same and study.correction is not None:
            self._fill_sent(connection, study, study.correction, attributes.patient)

    def _fill_study(
        self,
        connection: Connection,
        study: Study,
        attributes: IndexAttributes,
        of_study: tuple[str, ...],
        of_patient: tuple[str, ...],
    ) -> None:
        changes = _changes(of_study, attributes.study, rows.STUDY_COLUMNS)
        changes |= _changes(of_patient, attributes.patient, rows.PATIENT_COLUMNS)
        if "institution_name" in of_study:
            changes["institution_id"] = self._dictionaries.institution(
                connection, attributes.study.institution_name
            )
        rows.update(connection, "study", study.row, changes)
        study.empty = _without(study.empty, of_study)
        study.patient_empty = _without(study.patient_empty, of_patient)
        if of_patient:
            _fill_patient(connection, study.patient, attributes.patient)
            if not _COMPARED.isdisjoint(of_patient):
                corrections.flag(connection, study.patient.row)
        if not rows.SEARCHED_NAMES.isdisjoint((*of_study, *of_patient)):
            fulltext.refresh(connection, study.row)

    @staticmethod
    def _fill_sent(
        connection: Connection, study: Study, correction: Correction, person: PatientAttributes
    ) -> None:
        """Fill in what is to be shown when the correction is taken back."""
        filled = _filled(correction.sent_empty(), person)
        if filled and correction.sent is not None:
            more = {name: getattr(person, name) for name in filled}
            sent = dataclasses.replace(correction.sent, **more)
            corrections.note_sent(connection, study.uid, sent, correction.sent_identity)
            study.correction = dataclasses.replace(correction, sent=sent)


def _require_room(connection: Connection, limit: int, pending: int) -> None:
    row = connection.execute("SELECT studies FROM totals WHERE id = 1").fetchone()
    assert row is not None  # noqa: S101 - made with the table
    if row[0] + pending >= limit:
        raise CapacityReached(limit=limit)


def _patient(row: int, person: PatientAttributes) -> Patient:
    return Patient(
        row=row,
        empty=rows.empty_of(person, rows.PATIENT_COLUMNS),
        name_key=names.name_keys(person.patient_name)[0],
        birth_date=person.patient_birth_date,
        sex=person.patient_sex,
    )


def _stored_patient(connection: Connection, row: int) -> Patient:
    found = connection.execute(
        "SELECT patient_name_key, patient_birth_date, patient_sex, "  # noqa: S608 - our columns
        f"{', '.join(rows.PATIENT_COLUMNS)} FROM patient WHERE id = ?",
        (row,),
    ).fetchone()
    assert found is not None  # noqa: S101 - a foreign key leads here
    return Patient(
        row=row,
        empty=_empty_names(rows.PATIENT_COLUMNS, found[3:]),
        name_key=found[0],
        birth_date=found[1],
        sex=found[2],
    )


def _fill_patient(connection: Connection, patient: Patient, person: PatientAttributes) -> None:
    filled = _filled(patient.empty, person)
    if filled:
        rows.update(
            connection, "patient", patient.row, _changes(filled, person, rows.PATIENT_COLUMNS)
        )
        patient.empty = _without(patient.empty, filled)


def _differs(patient: Patient, person: PatientAttributes) -> bool:
    """Tell whether the same ID now comes with another name, birth date or sex."""
    pairs = (
        (patient.name_key, names.name_keys(person.patient_name)[0]),
        (patient.birth_date, person.patient_birth_date),
        (patient.sex, person.patient_sex),
    )
    return any(known and sent and known != sent for known, sent in pairs)


def _fillable(empty: tuple[str, ...], correction: Correction | None) -> tuple[str, ...]:
    """Return what an object may fill in of a study row: nothing that was decided about."""
    if correction is None or correction.person is None:
        return empty
    return _without(empty, NAMES)


def _filled(empty: tuple[str, ...], sent: rows.Attributes) -> tuple[str, ...]:
    """Return those of the empty attributes that this object has."""
    return tuple(name for name in empty if getattr(sent, name) not in rows.NOTHING)


def _without(empty: tuple[str, ...], filled: Iterable[str]) -> tuple[str, ...]:
    return tuple(name for name in empty if name not in filled)


def _changes(
    filled: Iterable[str], sent: rows.Attributes, columns: dict[str, Column]
) -> dict[str, Value]:
    changes: dict[str, Value] = {}
    for name in filled:
        changes.update(rows.column_values(columns[name], getattr(sent, name)))
    return changes


def _empty_names(columns: Iterable[str], stored: Iterable[object]) -> tuple[str, ...]:
    """Return the attributes that a stored row lacks."""
    return tuple(
        name
        for name, value in zip(columns, stored, strict=True)
        if value == "" and name not in rows.DEFINING
    )
