# SPDX-License-Identifier: Apache-2.0
"""The attributes that searches match and answer (PS3.6): tag, keyword, value representation."""

import re
from dataclasses import dataclass
from typing import Final

_TABLE: Final = """
00080005 CS SpecificCharacterSet
00080008 CS ImageType
00080016 UI SOPClassUID
00080018 UI SOPInstanceUID
00080020 DA StudyDate
00080021 DA SeriesDate
00080022 DA AcquisitionDate
00080023 DA ContentDate
00080030 TM StudyTime
00080031 TM SeriesTime
00080032 TM AcquisitionTime
00080033 TM ContentTime
00080050 SH AccessionNumber
00080052 CS QueryRetrieveLevel
00080054 AE RetrieveAETitle
00080056 CS InstanceAvailability
00080060 CS Modality
00080061 CS ModalitiesInStudy
00080062 UI SOPClassesInStudy
00080070 LO Manufacturer
00080080 LO InstitutionName
00080090 PN ReferringPhysicianName
00080201 SH TimezoneOffsetFromUTC
00081010 SH StationName
00081030 LO StudyDescription
0008103E LO SeriesDescription
00081040 LO InstitutionalDepartmentName
00081050 PN PerformingPhysicianName
00081060 PN NameOfPhysiciansReadingStudy
00081070 PN OperatorsName
00081090 LO ManufacturerModelName
00081150 UI ReferencedSOPClassUID
00081155 UI ReferencedSOPInstanceUID
00081190 UR RetrieveURL
00081196 US WarningReason
00081197 US FailureReason
00081198 SQ FailedSOPSequence
00081199 SQ ReferencedSOPSequence
0008119A SQ OtherFailuresSequence
00083002 UI AvailableTransferSyntaxUID
00100010 PN PatientName
00100020 LO PatientID
00100021 LO IssuerOfPatientID
00100030 DA PatientBirthDate
00100040 CS PatientSex
00101000 LO OtherPatientIDs
00101010 AS PatientAge
00101020 DS PatientSize
00101030 DS PatientWeight
00104000 LT PatientComments
00180015 CS BodyPartExamined
00181030 LO ProtocolName
00185100 CS PatientPosition
0020000D UI StudyInstanceUID
0020000E UI SeriesInstanceUID
00200010 SH StudyID
00200011 IS SeriesNumber
00200012 IS AcquisitionNumber
00200013 IS InstanceNumber
00200032 DS ImagePositionPatient
00200037 DS ImageOrientationPatient
00200052 UI FrameOfReferenceUID
00200060 CS Laterality
00201041 DS SliceLocation
00201200 IS NumberOfPatientRelatedStudies
00201202 IS NumberOfPatientRelatedSeries
00201204 IS NumberOfPatientRelatedInstances
00201206 IS NumberOfStudyRelatedSeries
00201208 IS NumberOfStudyRelatedInstances
00201209 IS NumberOfSeriesRelatedInstances
00204000 LT ImageComments
00280002 US SamplesPerPixel
00280004 CS PhotometricInterpretation
00280008 IS NumberOfFrames
00280010 US Rows
00280011 US Columns
00280030 DS PixelSpacing
00280100 US BitsAllocated
00280101 US BitsStored
00281050 DS WindowCenter
00281051 DS WindowWidth
00321060 LO RequestedProcedureDescription
00400007 LO ScheduledProcedureStepDescription
00400009 SH ScheduledProcedureStepID
00400244 DA PerformedProcedureStepStartDate
00400245 TM PerformedProcedureStepStartTime
00400275 SQ RequestAttributesSequence
00401001 SH RequestedProcedureID
00401002 LO ReasonForTheRequestedProcedure
0040A491 CS CompletionFlag
0040A493 CS VerificationFlag
00420010 ST DocumentTitle
"""


@dataclass(frozen=True, slots=True)
class Attribute:
    """One data element: `tag` is 8 hex digits in upper case, as DICOM JSON writes it."""

    tag: str
    vr: str
    keyword: str


def _read(table: str) -> tuple[Attribute, ...]:
    lines = (line.split() for line in table.strip().split("\n"))
    return tuple(Attribute(tag, vr, keyword) for tag, vr, keyword in lines)


ATTRIBUTES: Final = _read(_TABLE)
BY_KEYWORD: Final = {each.keyword: each for each in ATTRIBUTES}
BY_TAG: Final = {each.tag: each for each in ATTRIBUTES}

_TAG: Final = re.compile(r"[0-9A-Fa-f]{8}")
_KEYWORD: Final = re.compile(r"[A-Z][A-Za-z0-9]{1,63}")


def named(text: str) -> Attribute | None:
    """Return the attribute of a tag or keyword, None when it is not in the table."""
    return BY_TAG.get(text.upper()) if _TAG.fullmatch(text) else BY_KEYWORD.get(text)


def could_name(text: str) -> bool:
    """Tell whether `text` is written as a tag or keyword is (PS3.18 section 8.3.4.1)."""
    return bool(_TAG.fullmatch(text) or _KEYWORD.fullmatch(text))
