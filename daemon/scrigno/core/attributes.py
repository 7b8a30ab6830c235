# SPDX-License-Identifier: Apache-2.0
"""The index attributes of one object, decoded: what imaging reads and the catalogue keeps.

Names are DICOM keywords (PS3.6) in snake case. Texts are decoded to Unicode, padding removed,
several values joined with a backslash. Dates are `YYYYMMDD`, times `HHMMSS.FFFFFF` as sent. An
absent or empty attribute is the empty string, an absent number is None.
"""

from dataclasses import dataclass, field
from typing import Any

from scrigno.core.phi import Phi


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonName:
    """A person name (PN, PS3.5 section 6.2.1) with its component groups as sent."""

    alphabetic: Phi = Phi("")
    ideographic: Phi = Phi("")
    phonetic: Phi = Phi("")

    def text(self) -> str:
        """Return the groups joined with `=`, trailing empty groups left out."""
        return "=".join((self.alphabetic, self.ideographic, self.phonetic)).rstrip("=")

    @staticmethod
    def parse(text: str) -> "PersonName":
        """Split a decoded PN value at `=`; further groups than three are joined to the third."""
        groups = [*text.split("=", 2), "", ""][:3]
        return PersonName(
            alphabetic=Phi(groups[0]), ideographic=Phi(groups[1]), phonetic=Phi(groups[2])
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientAttributes:
    """PS3.3 C.7.1.1, the part that is indexed."""

    patient_id: Phi = Phi("")
    issuer_of_patient_id: str = ""
    patient_name: PersonName = PersonName()
    patient_birth_date: Phi = Phi("")
    patient_sex: str = ""
    other_patient_ids: Phi = Phi("")
    patient_comments: Phi = Phi("")


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyAttributes:
    """PS3.3 C.7.2.1, the part that is indexed."""

    study_instance_uid: str
    study_id: str = ""
    study_date: str = ""
    study_time: str = ""
    accession_number: str = ""
    study_description: str = ""
    referring_physician_name: PersonName = PersonName()
    name_of_physicians_reading_study: PersonName = PersonName()
    institution_name: str = ""
    patient_age: str = ""
    patient_size: str = ""
    patient_weight: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesAttributes:
    """PS3.3 C.7.3.1, the part that is indexed."""

    series_instance_uid: str
    modality: str = ""
    series_number: str = ""
    series_date: str = ""
    series_time: str = ""
    series_description: str = ""
    body_part_examined: str = ""
    protocol_name: str = ""
    laterality: str = ""
    patient_position: str = ""
    station_name: str = ""
    manufacturer: str = ""
    manufacturer_model_name: str = ""
    institutional_department_name: str = ""
    performing_physician_name: PersonName = PersonName()
    operators_name: PersonName = PersonName()
    performed_procedure_step_start_date: str = ""
    performed_procedure_step_start_time: str = ""
    frame_of_reference_uid: str = ""
    # RequestAttributesSequence (0040,0275): each item keyword -> text
    request_attributes: tuple[dict[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceAttributes:
    """What is indexed of one SOP Instance, the image level of PS3.4 C.6.2.1.5 included."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    instance_number: str = ""
    content_date: str = ""
    content_time: str = ""
    acquisition_date: str = ""
    acquisition_time: str = ""
    acquisition_number: str = ""
    image_type: str = ""
    image_comments: str = ""
    slice_location: str = ""
    image_position_patient: str = ""
    image_orientation_patient: str = ""
    number_of_frames: int | None = None
    rows: int | None = None
    columns: int | None = None
    bits_allocated: int | None = None
    bits_stored: int | None = None
    samples_per_pixel: int | None = None
    photometric_interpretation: str = ""
    pixel_spacing: str = ""
    window_center: str = ""
    window_width: str = ""
    document_title: str = ""
    completion_flag: str = ""
    verification_flag: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexAttributes:
    """Everything the catalogue keeps of one object."""

    patient: PatientAttributes
    study: StudyAttributes
    series: SeriesAttributes
    instance: InstanceAttributes
    # SpecificCharacterSet (0008,0005) as sent, values joined with a backslash; "" when absent
    character_set: str = ""
    # what could not be read or decoded, in words without patient data; empty when all is well
    problems: tuple[str, ...] = field(default=())


def as_plain(value: Any) -> Any:
    """Return an attribute for JSON: PersonName becomes its text, everything else stays."""
    return value.text() if isinstance(value, PersonName) else value
