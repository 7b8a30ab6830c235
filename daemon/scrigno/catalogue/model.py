# SPDX-License-Identifier: Apache-2.0
"""The Query/Retrieve information model as the tables hold it: levels, keywords, expressions."""

from collections.abc import Iterator, Mapping
from typing import Final

from .columns import INSTANCE, PATIENT, SERIES, STUDY, Column
from .query import Level
from .sql import ALWAYS

REQUESTS: Final = "RequestAttributesSequence"
PATIENT_COUNTS: Final = {
    "NumberOfPatientRelatedStudies": "count(*)",
    "NumberOfPatientRelatedSeries": "coalesce(sum(other.number_of_series), 0)",
    "NumberOfPatientRelatedInstances": "coalesce(sum(other.number_of_instances), 0)",
}
STUDY_COUNTS: Final = {
    "NumberOfStudyRelatedSeries": "study.number_of_series",
    "NumberOfStudyRelatedInstances": "study.number_of_instances",
}
STUDY_SETS: Final = {
    "ModalitiesInStudy": "study.modalities",
    "SOPClassesInStudy": "study.sop_classes",
}
SERIES_COUNTS: Final = {"NumberOfSeriesRelatedInstances": "series.number_of_instances"}

_LEVELS: Final = (Level.PATIENT, Level.STUDY, Level.SERIES, Level.IMAGE)
TABLES: Final = {
    Level.PATIENT: "patient",
    Level.STUDY: "study",
    Level.SERIES: "series",
    Level.IMAGE: "instance",
}
COLUMNS: Final[Mapping[Level, Mapping[str, Column]]] = {
    Level.PATIENT: PATIENT,
    Level.STUDY: STUDY,
    Level.SERIES: SERIES,
    Level.IMAGE: INSTANCE,
}
_COMPUTED: Final[Mapping[Level, frozenset[str]]] = {
    Level.PATIENT: frozenset(PATIENT_COUNTS),
    Level.STUDY: frozenset({*STUDY_COUNTS, *STUDY_SETS}),
    Level.SERIES: frozenset({*SERIES_COUNTS, REQUESTS}),
    Level.IMAGE: frozenset(),
}
UNIQUE: Final = {
    Level.PATIENT: "PatientID",
    Level.STUDY: "StudyInstanceUID",
    Level.SERIES: "SeriesInstanceUID",
    Level.IMAGE: "SOPInstanceUID",
}
# Pairs that are one moment when date and time are matched together (C.2.2.2.5.3).
MOMENTS: Final = (
    ("StudyDate", "StudyTime"),
    ("SeriesDate", "SeriesTime"),
    ("ContentDate", "ContentTime"),
    ("AcquisitionDate", "AcquisitionTime"),
    ("PerformedProcedureStepStartDate", "PerformedProcedureStepStartTime"),
)
FROM: Final = {
    Level.PATIENT: "patient",
    Level.STUDY: "study",
    Level.SERIES: "series JOIN study ON study.id = series.study",
    Level.IMAGE: (
        "instance JOIN series ON series.id = instance.series JOIN study ON study.id = series.study"
    ),
}


def levels_of(level: Level) -> tuple[Level, ...]:
    """Return the levels from PATIENT down to `level`."""
    return _LEVELS[: _LEVELS.index(level) + 1]


def keywords(level: Level) -> frozenset[str]:
    """Return the attributes that a query at `level` can match or have back."""
    found: set[str] = set()
    for upper in levels_of(level):
        found |= COLUMNS[upper].keys() | _COMPUTED[upper]
    return frozenset(found)


def uniques(level: Level) -> Iterator[str]:
    """Yield the unique keys from the root down to `level`; every answer has them."""
    for upper in levels_of(level):
        yield UNIQUE[upper]


def expression(level: Level, keyword: str, seen: str = ALWAYS.text) -> str:
    """Return what is selected for a keyword; our own texts only.

    `seen` is a test of one row of `study`, named alone: a patient's counts hold what passes it.
    """
    for upper in levels_of(level):
        column = COLUMNS[upper].get(keyword)
        if column is not None:
            # below PATIENT the study's own copy of the patient attributes is what was sent
            table = "study" if upper is Level.PATIENT and level is not upper else TABLES[upper]
            return f"{table}.{column.name}"
    if keyword in PATIENT_COUNTS:
        patient = "patient.id" if level is Level.PATIENT else "study.patient"
        count = PATIENT_COUNTS[keyword]
        if seen == ALWAYS.text:
            return f"(SELECT {count} FROM study AS other WHERE other.patient = {patient})"  # noqa: S608 - our texts
        among = f"SELECT id FROM study WHERE {seen}"  # noqa: S608 - our texts
        return (
            f"(SELECT {count} FROM study AS other "  # noqa: S608 - our texts
            f"WHERE other.patient = {patient} AND other.id IN ({among}))"
        )
    if keyword == REQUESTS:
        return "series.request_attributes"
    return (STUDY_COUNTS | STUDY_SETS | SERIES_COUNTS)[keyword]
