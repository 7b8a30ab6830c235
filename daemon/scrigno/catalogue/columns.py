# SPDX-License-Identifier: Apache-2.0
"""Which columns the tables have and which column answers for which DICOM attribute.

A text column `x` keeps what was sent; `x_key` is its folded form, which is compared, sorted and
indexed. A person name has `x_key`, `x_key2` (ideographic) and `x_key3` (phonetic). A column is
named as the attribute in `scrigno.core.attributes`.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

# Every index that the study list is read through carries these too, so that a page and its total
# under the common filters are answered from one index, without a look at the table.
CARRIED: Final = ("study_day", "id", "modality_bits", "institution_id", "patient_sex")

# name of a list column → the columns that it is sorted by, in front of CARRIED
SORTS: Final[dict[str, tuple[str, ...]]] = {
    "study_date": ("study_day", "study_micros"),
    "study_time": ("study_micros",),
    "patient_name": ("patient_name_key",),
    "patient_id": ("patient_id_key",),
    "patient_birth_date": ("patient_birth_date",),
    "patient_sex": ("patient_sex",),
    "patient_age": ("patient_age",),
    "patient_comments": ("patient_comments_key",),
    "study_id": ("study_id_key",),
    "accession_number": ("accession_number_key",),
    "study_description": ("study_description_key",),
    "referring_physician_name": ("referring_physician_name_key",),
    "name_of_physicians_reading_study": ("name_of_physicians_reading_study_key",),
    "institution_name": ("institution_name_key",),
    "body_parts": ("body_parts",),
    "modalities": ("modalities",),
    "number_of_series": ("number_of_series",),
    "number_of_instances": ("number_of_instances",),
    "size_bytes": ("size_bytes",),
    "received_first": ("received_first",),
    "received_last": ("received_last",),
}


# Lists that are sorted by a name: their index has the other component groups at its end, so that
# a pattern without a beginning is looked for in all groups by one walk.
NAMED: Final = ("patient_name", "referring_physician_name", "name_of_physicians_reading_study")


def index_columns(sort: str) -> tuple[str, ...]:
    """Return the columns of the index that serves `sort`, in order."""
    own = SORTS[sort]
    carried = tuple(column for column in CARRIED if column not in own)
    groups = (f"{sort}_key2", f"{sort}_key3") if sort in NAMED else ()
    return own + carried + groups


def index_name(sort: str) -> str:
    """Return the name of the index that serves `sort`."""
    return f"study_by_{sort}"


class Kind(StrEnum):
    """How values of an attribute compare (its VR, as far as matching is concerned)."""

    TEXT = "text"  # exactly as sent
    NAME = "name"  # folded, any component group
    DATE = "date"
    TIME = "time"
    NUMBER = "number"  # IS, US: compared as text after removing padding and leading zeros
    UID = "uid"
    COUNTED = "counted"  # computed; returned, never matched


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """The column behind one DICOM attribute."""

    name: str
    kind: Kind = Kind.TEXT
    key: str = ""  # the folded or numeric column beside it, when there is one
    index: str = ""  # the index that finds it, when there is one


def _text(name: str, *, index: str = "", key: bool = True) -> Column:
    return Column(name=name, key=f"{name}_key" if key else "", index=index)


def _name(name: str, *, index: str = "") -> Column:
    return Column(name=name, kind=Kind.NAME, key=f"{name}_key", index=index)


def _uid(name: str, *, index: str = "") -> Column:
    return Column(name=name, kind=Kind.UID, index=index)


def _date(name: str, day: str = "", *, index: str = "") -> Column:
    return Column(name=name, kind=Kind.DATE, key=day, index=index)


def _time(name: str, micros: str = "", *, index: str = "") -> Column:
    return Column(name=name, kind=Kind.TIME, key=micros, index=index)


def _number(name: str) -> Column:
    return Column(name=name, kind=Kind.NUMBER)


# The same columns stand in `patient` (the patient as first seen) and in `study` (as sent with it).
PATIENT: Final[dict[str, Column]] = {
    "PatientID": _text("patient_id", index="patient_id"),
    "IssuerOfPatientID": _text("issuer_of_patient_id", key=False),
    "PatientName": _name("patient_name", index="patient_name"),
    "PatientBirthDate": _date("patient_birth_date", index="patient_birth_date"),
    "PatientSex": _text("patient_sex", key=False, index="patient_sex"),
    "OtherPatientIDs": _text("other_patient_ids", key=False),
    "PatientComments": _text("patient_comments", index="patient_comments"),
}

STUDY: Final[dict[str, Column]] = {
    "StudyInstanceUID": _uid("study_instance_uid"),
    "StudyID": _text("study_id", index="study_id"),
    "StudyDate": _date("study_date", "study_day", index="study_date"),
    "StudyTime": _time("study_time", "study_micros", index="study_time"),
    "AccessionNumber": _text("accession_number", index="accession_number"),
    "StudyDescription": _text("study_description", index="study_description"),
    "ReferringPhysicianName": _name("referring_physician_name", index="referring_physician_name"),
    "NameOfPhysiciansReadingStudy": _name(
        "name_of_physicians_reading_study", index="name_of_physicians_reading_study"
    ),
    "InstitutionName": _text("institution_name", index="institution_name"),
    "PatientAge": _text("patient_age", key=False, index="patient_age"),
    "PatientSize": _text("patient_size", key=False),
    "PatientWeight": _text("patient_weight", key=False),
}

SERIES: Final[dict[str, Column]] = {
    "SeriesInstanceUID": _uid("series_instance_uid"),
    "Modality": _text("modality", key=False),
    "SeriesNumber": _number("series_number"),
    "SeriesDate": _date("series_date", "series_day"),
    "SeriesTime": _time("series_time", "series_micros"),
    "SeriesDescription": _text("series_description"),
    "BodyPartExamined": _text("body_part_examined", key=False),
    "ProtocolName": _text("protocol_name", key=False),
    "Laterality": _text("laterality", key=False),
    "PatientPosition": _text("patient_position", key=False),
    "StationName": _text("station_name", key=False),
    "Manufacturer": _text("manufacturer", key=False),
    "ManufacturerModelName": _text("manufacturer_model_name", key=False),
    "InstitutionalDepartmentName": _text("institutional_department_name", key=False),
    "PerformingPhysicianName": _name("performing_physician_name"),
    "OperatorsName": _name("operators_name"),
    "PerformedProcedureStepStartDate": _date("performed_procedure_step_start_date"),
    "PerformedProcedureStepStartTime": _time("performed_procedure_step_start_time"),
    "FrameOfReferenceUID": _uid("frame_of_reference_uid"),
}

INSTANCE: Final[dict[str, Column]] = {
    "SOPInstanceUID": _uid("sop_instance_uid"),
    "SOPClassUID": _uid("sop_class_uid"),
    "AvailableTransferSyntaxUID": _uid("transfer_syntax_uid"),
    "InstanceNumber": _number("instance_number"),
    "ContentDate": _date("content_date"),
    "ContentTime": _time("content_time"),
    "AcquisitionDate": _date("acquisition_date"),
    "AcquisitionTime": _time("acquisition_time"),
    "AcquisitionNumber": _number("acquisition_number"),
    "ImageType": _text("image_type", key=False),
    "ImageComments": _text("image_comments", key=False),
    "SliceLocation": _number("slice_location"),
    "ImagePositionPatient": _text("image_position_patient", key=False),
    "ImageOrientationPatient": _text("image_orientation_patient", key=False),
    "NumberOfFrames": _number("number_of_frames"),
    "Rows": _number("rows"),
    "Columns": _number("columns"),
    "BitsAllocated": _number("bits_allocated"),
    "BitsStored": _number("bits_stored"),
    "SamplesPerPixel": _number("samples_per_pixel"),
    "PhotometricInterpretation": _text("photometric_interpretation", key=False),
    "PixelSpacing": _text("pixel_spacing", key=False),
    "WindowCenter": _text("window_center", key=False),
    "WindowWidth": _text("window_width", key=False),
    "DocumentTitle": _text("document_title", key=False),
    "CompletionFlag": _text("completion_flag", key=False),
    "VerificationFlag": _text("verification_flag", key=False),
}
