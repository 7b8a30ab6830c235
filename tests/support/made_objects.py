# SPDX-License-Identifier: Apache-2.0
"""Objects made for tests of the whole box: realistic headers, invented patients."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

PATIENTS = (
    ("Rossi^Anna Lucia", "ISO_IR 100", "IT-001", "19640312", "F"),
    ("Yamada^Tarou=山田^太郎=やまだ^たろう", "\\ISO 2022 IR 87", "JP-7001", "19710908", "M"),
    ("Hong^Gildong=洪^吉洞=홍^길동", "\\ISO 2022 IR 149", "KR-3", "19850101", "M"),
    ("Lefèvre^Zoé", "ISO_IR 192", "FR-88", "20010229", "F"),
)


def ct_series(
    *, images: int, patient: int = 0, size: int = 64, seed: int = 0
) -> Iterator[tuple[str, Dataset]]:
    """Yield SOP Instance UID and data set of one new CT series in a new study."""
    name, charset, patient_id, birth_date, sex = PATIENTS[patient % len(PATIENTS)]
    study, series, frame_of_reference = generate_uid(), generate_uid(), generate_uid()
    pixels = np.random.default_rng(seed).integers(0, 4096, (size, size), dtype=np.uint16)
    for number in range(1, images + 1):
        image = Dataset()
        image.SpecificCharacterSet = charset.split("\\") if "\\" in charset else charset
        image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        image.SOPClassUID = CTImageStorage
        image.SOPInstanceUID = generate_uid()
        image.StudyDate, image.StudyTime = f"202401{patient % 28 + 1:02}", "101530.123000"
        image.ContentDate, image.ContentTime = image.StudyDate, "101602"
        image.AccessionNumber = f"ACC{patient:05}"
        image.Modality = "CT"
        image.Manufacturer = "Scrigno Test Works"
        image.InstitutionName = "Clinica di Prova"
        image.ReferringPhysicianName = "Bianchi^Carlo"
        image.StudyDescription = "Thorax"
        image.SeriesDescription = "Axial 5 mm"
        image.PatientName = name
        image.PatientID = patient_id
        image.PatientBirthDate = birth_date
        image.PatientSex = sex
        image.BodyPartExamined = "CHEST"
        image.StudyInstanceUID = study
        image.SeriesInstanceUID = series
        image.StudyID = str(patient + 1)
        image.SeriesNumber = 2
        image.InstanceNumber = number
        image.FrameOfReferenceUID = frame_of_reference
        image.ImagePositionPatient = [-120.0, -120.0, 5.0 * number]
        image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        image.SliceLocation = 5.0 * number
        image.SamplesPerPixel = 1
        image.PhotometricInterpretation = "MONOCHROME2"
        image.Rows = image.Columns = size
        image.PixelSpacing = [0.7, 0.7]
        image.BitsAllocated, image.BitsStored, image.HighBit = 16, 12, 11
        image.PixelRepresentation = 0
        image.WindowCenter, image.WindowWidth = 1040, 400
        image.RescaleIntercept, image.RescaleSlope = -1024, 1
        private = image.private_block(0x0043, "SCRIGNO TEST", create=True)
        private.add_new(1, "LO", "private text")
        private.add_new(2, "OB", bytes(range(256)))
        item = Dataset()
        item.ScheduledProcedureStepID = f"SPS{patient}"
        item.RequestedProcedureID = f"RP{patient}"
        image.RequestAttributesSequence = Sequence([item])
        image.PixelData = np.roll(pixels, number).tobytes()
        yield image.SOPInstanceUID, image


def write_series(
    folder: Path, *, images: int, patient: int = 0, size: int = 64, seed: int = 0
) -> dict[str, Path]:
    """Write a new series as Part 10 files; returns SOP Instance UID to path."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for uid, image in ct_series(images=images, patient=patient, size=size, seed=seed):
        image.file_meta = FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
        image.file_meta.MediaStorageSOPInstanceUID = uid
        paths[uid] = folder / f"{uid}.dcm"
        image.save_as(paths[uid], enforce_file_format=True)
    return paths
