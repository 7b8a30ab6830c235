# SPDX-License-Identifier: Apache-2.0
"""Which attributes the catalogue keeps, and where each goes: the table of the header scan."""

from enum import Enum, IntEnum, auto
from typing import Final, NamedTuple


class Kind(Enum):
    """How a value is decoded."""

    CODE = auto()  # CS, DA, TM, UI, DS, IS, AS: the default repertoire
    TEXT = auto()  # LO, SH: leading and trailing spaces mean nothing
    LONG = auto()  # LT, ST: leading spaces count, a backslash is no delimiter
    NAME = auto()  # PN
    SHORT = auto()  # US
    COUNT = auto()  # IS that is wanted as a number


class Room(IntEnum):
    """Which part of the index attributes holds a value: the index of a list."""

    PATIENT = 0
    STUDY = 1
    SERIES = 2
    INSTANCE = 3
    NONE = 4


class Wanted(NamedTuple):
    """One attribute: its field in `core.attributes`, and its name for people."""

    tag: int
    room: Room
    name: str
    kind: Kind
    label: str
    private: bool  # a text about the patient, masked in logs
    plain: bool  # a short ASCII value only needs its padding taken off


SPECIFIC_CHARACTER_SET: Final = 0x00080005
SERIES_INSTANCE_UID: Final = 0x0020000E
REQUEST_ATTRIBUTES: Final = 0x00400275
# Content Sequence: a report's tree, which can be very large; no wanted tag of a report is behind it
STOP_TAG: Final = 0x0040A730

_TABLE: Final = """
00080005 NONE     character_set                        CODE
00080008 INSTANCE image_type                           CODE
00080016 INSTANCE sop_class_uid                        CODE
00080018 INSTANCE sop_instance_uid                     CODE
00080020 STUDY    study_date                           CODE
00080021 SERIES   series_date                          CODE
00080022 INSTANCE acquisition_date                     CODE
00080023 INSTANCE content_date                         CODE
00080030 STUDY    study_time                           CODE
00080031 SERIES   series_time                          CODE
00080032 INSTANCE acquisition_time                     CODE
00080033 INSTANCE content_time                         CODE
00080050 STUDY    accession_number                     TEXT
00080060 SERIES   modality                             CODE
00080070 SERIES   manufacturer                         TEXT
00080080 STUDY    institution_name                     TEXT
00080090 STUDY    referring_physician_name             NAME
00081010 SERIES   station_name                         TEXT
00081030 STUDY    study_description                    TEXT
0008103E SERIES   series_description                   TEXT
00081040 SERIES   institutional_department_name        TEXT
00081050 SERIES   performing_physician_name            NAME
00081060 STUDY    name_of_physicians_reading_study     NAME
00081070 SERIES   operators_name                       NAME
00081090 SERIES   manufacturer_model_name              TEXT
00100010 PATIENT  patient_name                         NAME
00100020 PATIENT  patient_id                           TEXT private
00100021 PATIENT  issuer_of_patient_id                 TEXT
00100030 PATIENT  patient_birth_date                   CODE private
00100040 PATIENT  patient_sex                          CODE
00101000 PATIENT  other_patient_ids                    TEXT private
00101010 STUDY    patient_age                          CODE
00101020 STUDY    patient_size                         CODE
00101030 STUDY    patient_weight                       CODE
00104000 PATIENT  patient_comments                     LONG private
00180015 SERIES   body_part_examined                   CODE
00181030 SERIES   protocol_name                        TEXT
00185100 SERIES   patient_position                     CODE
0020000D STUDY    study_instance_uid                   CODE
0020000E SERIES   series_instance_uid                  CODE
00200010 STUDY    study_id                             TEXT
00200011 SERIES   series_number                        CODE
00200012 INSTANCE acquisition_number                   CODE
00200013 INSTANCE instance_number                      CODE
00200032 INSTANCE image_position_patient               CODE
00200037 INSTANCE image_orientation_patient            CODE
00200052 SERIES   frame_of_reference_uid               CODE
00200060 SERIES   laterality                           CODE
00201041 INSTANCE slice_location                       CODE
00204000 INSTANCE image_comments                       LONG
00280002 INSTANCE samples_per_pixel                    SHORT
00280004 INSTANCE photometric_interpretation           CODE
00280008 INSTANCE number_of_frames                     COUNT
00280010 INSTANCE rows                                 SHORT
00280011 INSTANCE columns                              SHORT
00280030 INSTANCE pixel_spacing                        CODE
00280100 INSTANCE bits_allocated                       SHORT
00280101 INSTANCE bits_stored                          SHORT
00281050 INSTANCE window_center                        CODE
00281051 INSTANCE window_width                         CODE
00400244 SERIES   performed_procedure_step_start_date  CODE
00400245 SERIES   performed_procedure_step_start_time  CODE
0040A491 INSTANCE completion_flag                      CODE
0040A493 INSTANCE verification_flag                    CODE
00420010 INSTANCE document_title                       LONG
"""


def _read(table: str) -> dict[int, Wanted]:
    wanted: dict[int, Wanted] = {}
    for line in table.split("\n"):
        if not line:
            continue
        number, room, name, kind, *private = line.split()
        tag = int(number, 16)
        label = f"{name.replace('_', ' ')} ({number[:4]},{number[4:]})"
        plain = Kind[kind] in (Kind.CODE, Kind.TEXT, Kind.NAME)
        wanted[tag] = Wanted(tag, Room[room], name, Kind[kind], label, bool(private), plain)
    return wanted


WANTED: Final = _read(_TABLE)
LAST_TAG: Final = max(WANTED)

# what is kept of each item of the Request Attributes Sequence (PS3.3 table 10-9)
REQUEST_KEYWORDS: Final[dict[int, str]] = {
    0x00080050: "AccessionNumber",
    0x0020000D: "StudyInstanceUID",
    0x00321060: "RequestedProcedureDescription",
    0x00400007: "ScheduledProcedureStepDescription",
    0x00400009: "ScheduledProcedureStepID",
    0x00401001: "RequestedProcedureID",
    0x00401002: "ReasonForTheRequestedProcedure",
}
