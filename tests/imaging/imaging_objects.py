# SPDX-License-Identifier: Apache-2.0
"""Objects made for the imaging tests: data sets written by pydicom, Part 10 files around them."""

from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from scrigno.core.attributes import IndexAttributes
from scrigno.imaging.dataset import EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE
from scrigno.imaging.header import read_index_attributes

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
