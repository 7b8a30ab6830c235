# SPDX-License-Identifier: Apache-2.0
"""De-identified copies: nothing of the patient stays, what belongs together stays together."""

import io
import os
from pathlib import Path

import pydicom
import pydicom.data
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRLittleEndian

from made_objects import ct_series
from scrigno.imaging.deidentify import Deidentifier, Wishes, actions_for, burnt_in
from scrigno.imaging.errors import DecodeFailed

KEY = b"k" * 32


def made(number: int = 0) -> Dataset:
    _, image = list(ct_series(images=2, size=16))[number]
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.file_meta.SourceApplicationEntityTitle = "SECRETAE"
    return image


def copied(image: Dataset, *options: str, **more) -> tuple[Dataset, bytes, dict]:
    source = io.BytesIO()
    image.save_as(source, enforce_file_format=True)
    fd, target = os.memfd_create("source"), os.memfd_create("target")
    os.write(fd, source.getvalue())
    try:
        said = Deidentifier(Wishes(key=KEY, options=frozenset(options), **more)).copy(fd, target)
        content = os.pread(target, 1 << 24, 0)
    finally:
        os.close(fd)
        os.close(target)
    return pydicom.dcmread(io.BytesIO(content)), content, said


@pytest.mark.spec("AD-5")
def test_nothing_of_the_patient_stays_in_the_file() -> None:
    image = made()
    image.OperatorsName = "Verdi^Paola"
    image.PatientAddress = "Via Roma 1"
    item = Dataset()
    item.PersonName = "Neri^Ugo"
    item.PatientID = "IT-001"
    image.PatientComments = "lives alone"
    image.RequestAttributesSequence = Sequence([item])
    inner, outer = Dataset(), Dataset()
    inner.OperatorsName = "Gialli^Sara"
    inner.add_new(0x00091001, "LO", "hidden text")
    inner.ReferencedSOPInstanceUID = image.SOPInstanceUID
    outer.PlanePositionSequence = Sequence([inner])
    image.SharedFunctionalGroupsSequence = Sequence([outer])
    image.add_new(0x60000010, "US", 16)
    image.add_new(0x60004000, "LT", "Overlay of Rossi")
    result, content, _ = copied(image)
    for word in (
        b"Rossi", b"Anna", b"IT-001", b"19640312", b"Verdi", b"Roma", b"Neri", b"ACC00000",
        b"Bianchi", b"Clinica", b"private text", b"SECRETAE", b"lives alone", b"20240101",
        b"Gialli", b"hidden",
        image.StudyInstanceUID.encode(), image.SOPInstanceUID.encode(),
        image.FrameOfReferenceUID.encode(),
    ):  # fmt: skip
        assert word not in content, word
    assert result.PatientIdentityRemoved == "YES"
    assert [code.CodeValue for code in result.DeidentificationMethodCodeSequence] == ["113100"]
    assert result.LongitudinalTemporalInformationModified == "REMOVED"
    assert not [element.tag for element in result.iterall() if element.tag.is_private]
    assert result.PixelData == image.PixelData
    assert (result.Rows, result.Modality) == (16, "CT")
    assert result.file_meta.MediaStorageSOPInstanceUID == result.SOPInstanceUID


@pytest.mark.spec("AD-5")
def test_what_belongs_together_stays_together_and_only_within_the_job() -> None:
    first, second = ct_series(images=2, size=16)
    images = []
    for _, image in (first, second):
        image.file_meta = FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        images.append(copied(image)[0])
    one, two = images
    assert one.StudyInstanceUID == two.StudyInstanceUID
    assert one.SeriesInstanceUID == two.SeriesInstanceUID
    assert one.FrameOfReferenceUID == two.FrameOfReferenceUID
    assert one.SOPInstanceUID != two.SOPInstanceUID
    assert one.PatientID == two.PatientID
    assert all(UID(uid).is_valid for uid in (one.StudyInstanceUID, one.SOPInstanceUID))
    other = Wishes(key=b"o" * 32).uid(first[1].StudyInstanceUID)
    assert other != one.StudyInstanceUID


@pytest.mark.spec("AD-5")
def test_what_somebody_wishes_to_keep_is_kept_and_said() -> None:
    image = made()
    image.SeriesDescription = "Rossi: axial 5 mm, 12.03.1964"
    result, _, _ = copied(image, "dates", "uids", "descriptors", "device", "patient")
    assert result.StudyDate == image.StudyDate
    assert result.StudyInstanceUID == image.StudyInstanceUID
    assert result.Manufacturer == image.Manufacturer
    assert result.PatientSex == "F"
    assert "Rossi" not in result.SeriesDescription
    assert "1964" not in result.SeriesDescription
    assert "axial" in result.SeriesDescription
    assert result.LongitudinalTemporalInformationModified == "UNMODIFIED"
    codes = {code.CodeValue for code in result.DeidentificationMethodCodeSequence}
    assert codes == {"113100", "113105", "113106", "113108", "113109", "113110"}
    assert result.PatientName != image.PatientName


def test_dates_are_moved_by_the_same_days() -> None:
    image = made()
    result, _, _ = copied(image, "shifted", days=-10)
    assert (image.StudyDate, result.StudyDate) == ("20240101", "20231222")
    assert result.LongitudinalTemporalInformationModified == "MODIFIED"


def test_a_chosen_name_and_number_stand_in_every_copy() -> None:
    result, _, _ = copied(made(), patient_name="Trial^Seven", patient_id="T-7")
    assert (str(result.PatientName), result.PatientID) == ("Trial^Seven", "T-7")


def test_what_may_be_burnt_into_the_pixels_is_told() -> None:
    image = made()
    assert not burnt_in(image)
    image.Modality = "US"
    assert copied(image)[2]["burnt_in"]
    image.BurnedInAnnotation = "NO"
    assert not burnt_in(image)


def test_reports_and_documents_are_refused() -> None:
    image = made()
    image.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
    with pytest.raises(DecodeFailed, match="text"):
        copied(image)


@pytest.mark.parametrize("name", ["JPEG2000.dcm", "MR_small_RLE.dcm", "CT_small.dcm"])
def test_compressed_pixels_are_copied_as_they_stand(name: str) -> None:
    path = Path(pydicom.data.get_testdata_file(name))
    image = pydicom.dcmread(path)
    fd, target = os.open(path, os.O_RDONLY), os.memfd_create("target")
    try:
        Deidentifier(Wishes(key=KEY)).copy(fd, target)
        result = pydicom.dcmread(io.BytesIO(os.pread(target, 1 << 24, 0)))
    finally:
        os.close(fd)
        os.close(target)
    assert result.PixelData == image.PixelData
    assert result.file_meta.TransferSyntaxUID == image.file_meta.TransferSyntaxUID


def test_the_table_has_every_line_of_the_standard() -> None:
    actions = actions_for(())
    assert len(actions.exact) > 600
    assert set(actions.exact.values()) <= {"X", "Z", "D", "U"}
    assert actions.of(pydicom.tag.Tag(0x00100010)) == "Z"
    assert actions.of(pydicom.tag.Tag(0x50020010)) == "X"
    assert actions.of(pydicom.tag.Tag(0x60023000)) == "X"
    assert actions.of(pydicom.tag.Tag(0x60020010)) == ""
