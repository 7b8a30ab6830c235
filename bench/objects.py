# SPDX-License-Identifier: Apache-2.0
"""Makes the images that are sent: CT, MR, small ones for queries and large multi-frame ones.

Headers are as a scanner writes them, private groups included; pixels are a phantom with noise.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
MULTI_FRAME_GRAYSCALE_WORD = "1.2.840.10008.5.1.4.1.1.7.3"

# Rows x columns of MR series as scanners make them: 41, 51, 74, 98 and 131 KB of 16 bit pixels.
MR_SIZES = ((144, 144), (160, 160), (192, 192), (256, 192), (256, 256))
NAMES = ("Rossi^Maria", "Bianchi^Luca", "Müller^Jörg", "Nguyen^Thi Lan", "Smith^Anne^J", "Kim^Min")
PARTS = 4  # folders of one set, so that four associations send disjoint quarters of it


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSet:
    """Part 10 files in `folder`/0 … `folder`/3; `study` is the UID of the one (or last) study."""

    name: str
    folder: Path
    count: int
    size_bytes: int
    study: str

    def parts(self, associations: int) -> list[list[Path]]:
        """The folders that each of 1, 2 or 4 associations sends."""
        folders = [self.folder / str(index) for index in range(PARTS)]
        return [folders[index::associations] for index in range(associations)]

    def sizes(self) -> list[int]:
        return [path.stat().st_size for path in sorted(self.folder.rglob("*.dcm"))]


def make_ct(folder: Path, count: int) -> ImageSet:
    """One study with one series of 512 x 512 slices, 512 KB of pixels each."""
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    pixels = _phantom(512, 512)

    def image(number: int) -> Dataset:
        ds = _image("CT", CT_IMAGE, study, series, number, frame)
        ds.SliceThickness = 1.0
        ds.KVP, ds.XRayTubeCurrent, ds.ExposureTime = 120, 210 + number % 7, 500
        ds.ConvolutionKernel, ds.RescaleIntercept, ds.RescaleSlope = "Br40d", -1024, 1
        ds.WindowCenter, ds.WindowWidth = [40, 600], [400, 1500]
        return _with_pixels(ds, np.roll(pixels, number, axis=1))

    return _write(folder, "CT", count, image, study)


def make_mr(folder: Path, count: int) -> ImageSet:
    """One study of eight series, images of 41 to 131 KB."""
    study, frame = generate_uid(), generate_uid()
    series = [generate_uid() for _ in range(8)]
    phantoms = [_phantom(rows, columns) for rows, columns in MR_SIZES]

    def image(number: int) -> Dataset:
        which = number % len(series)
        ds = _image("MR", MR_IMAGE, study, series[which], number, frame)
        ds.SeriesNumber = which + 1
        ds.ScanningSequence, ds.SequenceVariant, ds.MRAcquisitionType = "SE", "SK", "2D"
        ds.MagneticFieldStrength, ds.EchoTime, ds.RepetitionTime = 3, 12.5, 550
        return _with_pixels(ds, np.roll(phantoms[which % len(phantoms)], number, axis=0))

    return _write(folder, "MR", count, image, study)


def make_studies(folder: Path, count: int) -> ImageSet:
    """Studies of one tiny image each, for queries: several thousand load in seconds."""
    pixels = _phantom(32, 32)
    last = ""

    def image(number: int) -> Dataset:
        nonlocal last
        last = generate_uid()
        ds = _image("MR", MR_IMAGE, last, generate_uid(), 1, generate_uid())
        family, _, given = NAMES[number % len(NAMES)].partition("^")
        ds.PatientName, ds.PatientID = f"{family}{number // 50:03d}^{given}", f"PID{number:06d}"
        ds.StudyDate = f"20{10 + number % 15:02d}{1 + number % 12:02d}{1 + number % 28:02d}"
        ds.AccessionNumber, ds.StudyID = f"ACC{number:07d}", str(number)
        return _with_pixels(ds, pixels)

    made = _write(folder, "studies", count, image, "")
    return ImageSet(
        name=made.name, folder=folder, count=count, size_bytes=made.size_bytes, study=last
    )


def make_multi_frame(path: Path, size_bytes: int) -> None:
    """A multi-frame object whose pixels are a hole in the file, so it takes no room on the disk."""
    rows = columns = 1024
    frames = max(1, size_bytes // (rows * columns * 2))
    ds = _image("OT", MULTI_FRAME_GRAYSCALE_WORD, generate_uid(), generate_uid(), 1, generate_uid())
    ds.Rows, ds.Columns, ds.NumberOfFrames = rows, columns, frames
    _pixel_attributes(ds)
    ds.save_as(path, enforce_file_format=True)
    length = frames * rows * columns * 2
    with path.open("ab") as file:
        file.write(struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, length))
        file.truncate(file.tell() + length)


def _write(
    folder: Path, name: str, count: int, image: Callable[[int], Dataset], study: str
) -> ImageSet:
    for part in range(PARTS):
        (folder / str(part)).mkdir(parents=True)
    size = 0
    for number in range(count):
        path = folder / str(number % PARTS) / f"{number:05d}.dcm"
        image(number).save_as(path, enforce_file_format=True)
        size += path.stat().st_size
    return ImageSet(name=name, folder=folder, count=count, size_bytes=size, study=study)


def _image(
    modality: str, sop_class: str, study: str, series: str, number: int, frame: str
) -> Dataset:
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.SOPClassUID, ds.SOPInstanceUID = sop_class, generate_uid()
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = "20240917"
    ds.StudyTime, ds.SeriesTime = "101500.000000", "101700.000000"
    ds.ContentTime = f"1017{number % 60:02d}.{number % 1000:03d}000"
    ds.AccessionNumber, ds.Modality, ds.Manufacturer = "ACC0009917", modality, "Bench Scanners"
    ds.InstitutionName, ds.StationName = "Clinica di Prova", "SCAN01"
    ds.ReferringPhysicianName, ds.PerformingPhysicianName = "Verdi^Giuseppe", "Neri^Ada"
    ds.StudyDescription, ds.SeriesDescription = "Addome con contrasto", f"{modality} 1.0 axial"
    ds.ManufacturerModelName, ds.DeviceSerialNumber, ds.SoftwareVersions = "Model X", "66051", "VB2"
    ds.PatientName, ds.PatientID, ds.IssuerOfPatientID = "Rossi^Maria", "BENCH0001", "CLINICA"
    ds.PatientBirthDate, ds.PatientSex, ds.PatientAge = "19600312", "F", "064Y"
    ds.PatientSize, ds.PatientWeight, ds.BodyPartExamined = 1.65, 62, "ABDOMEN"
    ds.ProtocolName, ds.PatientPosition = "Abdomen Routine", "HFS"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.StudyID = study, series, "9917"
    ds.SeriesNumber, ds.AcquisitionNumber, ds.InstanceNumber = 1, 1, number + 1
    ds.ImagePositionPatient = [-180.0, -180.0, float(number)]
    ds.ImageOrientationPatient = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    ds.FrameOfReferenceUID, ds.SliceLocation = frame, float(number)
    _referenced(ds)
    _private(ds, number)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


def _referenced(ds: Dataset) -> None:
    source = Dataset()
    source.ReferencedSOPClassUID, source.ReferencedSOPInstanceUID = CT_IMAGE, generate_uid()
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "113014", "DCM", "Study"
    source.PurposeOfReferenceCodeSequence = DicomSequence([code])
    ds.ReferencedImageSequence = DicomSequence([source])
    ds.ProcedureCodeSequence = DicomSequence([code])


def _private(ds: Dataset, number: int) -> None:
    """Groups 0019, 0029 and 0051 as vendors write them, a binary header of 1.5 KB included."""
    timing = ds.private_block(0x0019, "BENCH MED TIMING", create=True)
    timing.add_new(0x08, "CS", "IMAGE NUM 4")
    timing.add_new(0x0A, "DS", f"{number * 1.5:.2f}")
    timing.add_new(0x0B, "FD", [0.25, 0.5, number / 7])
    header = ds.private_block(0x0029, "BENCH CSA HEADER", create=True)
    header.add_new(0x10, "OB", bytes(range(256)) * 6)
    header.add_new(0x20, "UT", "ascconv begin\n" + "sProtConsistencyInfo.flNominalB0 = 2.89\n" * 12)
    display = ds.private_block(0x0051, "BENCH DISPLAY", create=True)
    display.add_new(0x0C, "LO", "FoV 360*360")
    display.add_new(0x0E, "LO", f"Tra>{number}")


def _pixel_attributes(ds: Dataset) -> None:
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0


def _with_pixels(ds: Dataset, pixels: np.ndarray) -> Dataset:
    ds.Rows, ds.Columns = pixels.shape
    ds.PixelSpacing = [0.703125, 0.703125]
    _pixel_attributes(ds)
    ds.PixelData = pixels.tobytes()
    return ds


def _phantom(rows: int, columns: int) -> np.ndarray:
    """A body of three densities with noise, 12 bits stored in 16."""
    y, x = np.mgrid[-1.0 : 1.0 : rows * 1j, -1.0 : 1.0 : columns * 1j]
    image = np.where((x / 0.9) ** 2 + (y / 0.7) ** 2 < 1, 1060.0, 0.0)
    image += np.where((x - 0.3) ** 2 + (y / 0.8) ** 2 < 0.05, 300.0, 0.0)
    image += np.where(x**2 + (y - 0.5) ** 2 < 0.02, 900.0, 0.0)
    noise = np.random.default_rng(7).normal(0.0, 18.0, image.shape)
    return np.clip(image + noise, 0, 4095).astype("<u2")
