# SPDX-License-Identifier: Apache-2.0
"""Objects made for the imaging tests: data sets written by pydicom, Part 10 files around them."""

from io import BytesIO
from typing import TYPE_CHECKING, Any

from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from scrigno.core.attributes import IndexAttributes
from scrigno.imaging.dataset import EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE
from scrigno.imaging.decode import PixelSource
from scrigno.imaging.header import read_index_attributes
from scrigno.imaging.part10 import file_prefix, split

if TYPE_CHECKING:
    import numpy as np

CT = "1.2.840.10008.5.1.4.1.1.2"


def encode(dataset: Dataset, transfer_syntax: str = EXPLICIT_LE) -> bytes:
    """Return the data set's bytes in an uncompressed syntax, written by pydicom."""
    stream = DicomBytesIO()
    stream.is_little_endian = transfer_syntax != EXPLICIT_BE
    stream.is_implicit_VR = transfer_syntax == IMPLICIT_LE
    write_dataset(stream, dataset)
    return bytes(stream.getvalue())


def ct(**more: object) -> Dataset:
    """Return a small CT header, with further attributes by keyword."""
    dataset = Dataset()
    dataset.SOPClassUID = CT
    dataset.SOPInstanceUID = "1.2.3.4"
    dataset.StudyInstanceUID = "1.2.3"
    dataset.SeriesInstanceUID = "1.2.3.1"
    dataset.Modality = "CT"
    dataset.PatientName = "Rossi^Maria"
    dataset.PatientID = "4711"
    for keyword, value in more.items():
        setattr(dataset, keyword, value)
    return dataset


def read(content: bytes, transfer_syntax: str = EXPLICIT_LE, **more: object) -> IndexAttributes:
    """Scan the data set `content`."""
    return read_index_attributes(
        content,
        transfer_syntax_uid=transfer_syntax,
        sop_class_uid=CT,
        sop_instance_uid="9.9.9",
        **more,  # type: ignore[arg-type] - keyword arguments of the test
    )


def part10(dataset: Dataset, transfer_syntax: str = EXPLICIT_LE) -> bytes:
    """Return a whole file in an uncompressed syntax."""
    prefix = file_prefix(
        sop_class_uid=dataset.SOPClassUID,
        sop_instance_uid=dataset.SOPInstanceUID,
        transfer_syntax_uid=transfer_syntax,
    )
    return prefix + encode(dataset, transfer_syntax)


def image(pixels: "np.ndarray[Any, Any]", **more: object) -> Dataset:
    """Return an image of `pixels`: rows × columns (grey), × 3 (RGB), or frames × rows × columns."""
    dataset = ct(Modality="OT")
    colour = pixels.ndim == 3 and pixels.shape[2] == 3
    dataset.SamplesPerPixel = 3 if colour else 1
    dataset.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        dataset.PlanarConfiguration = 0
    elif pixels.ndim == 3:
        dataset.NumberOfFrames = pixels.shape[0]
    shape = pixels.shape[:2] if colour or pixels.ndim == 2 else pixels.shape[1:]
    dataset.Rows, dataset.Columns = shape
    bits = pixels.dtype.itemsize * 8
    dataset.BitsAllocated = dataset.BitsStored = bits
    dataset.HighBit = bits - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    for keyword, value in more.items():
        setattr(dataset, keyword, value)
    content = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    dataset.PixelData = content + b"\0" * (len(content) % 2)
    dataset["PixelData"].VR = "OB" if bits <= 8 else "OW"
    return dataset


def opened(content: bytes) -> PixelSource:
    """Return the pixels of a Part 10 file."""
    return PixelSource(BytesIO(content), split(content))
