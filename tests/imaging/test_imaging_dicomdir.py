# SPDX-License-Identifier: Apache-2.0
"""A DICOMDIR gives every file it names, whatever its links say, and nothing outside its medium."""

from pathlib import Path

import pydicom
import pytest
from imaging_objects import encode
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from scrigno.imaging.dataset import EXPLICIT_LE
from scrigno.imaging.dicomdir import read_directory, referenced_files
from scrigno.imaging.errors import NotDicom
from scrigno.imaging.part10 import file_prefix

MEDIA_STORAGE_DIRECTORY = "1.2.840.10008.1.3.10"
TEST_FILES = Path(pydicom.__file__).parent / "data" / "test_files"


def directory(*names: str) -> bytes:
    dataset = Dataset()
    dataset.FileSetID = "TEST"
    records = []
    for name in names:
        record = Dataset()
        record.OffsetOfTheNextDirectoryRecord = 0xFFFFFF00  # leads nowhere
        record.DirectoryRecordType = "IMAGE"
        if name:
            record.add_new(0x00041500, "LO", name)
        records.append(record)
    dataset.DirectoryRecordSequence = Sequence(records)
    prefix = file_prefix(
        sop_class_uid=MEDIA_STORAGE_DIRECTORY,
        sop_instance_uid="1.2.3",
        transfer_syntax_uid=EXPLICIT_LE,
    )
    return prefix + encode(dataset)


def test_files_come_in_order_each_once_and_records_without_a_file_are_passed_over() -> None:
    content = directory("", "IMAGES\\IM1", "IMAGES\\IM2 ", "IMAGES\\IM1", "A/B/C", "ONE.DCM")
    assert referenced_files(content) == [
        ("IMAGES", "IM1"), ("IMAGES", "IM2"), ("A", "B", "C"), ("ONE.DCM",)
    ]  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        "..\\..\\etc\\passwd", "/etc/passwd", "\\\\host\\share", "C:\\WINDOWS", "A\\..\\B",
        "A\\.hidden", "A\\\\B", "A\\B\0C", "\\".join("ABCDEFGHIJKLMNOPQ"), "A" * 200, "A\\..",
        "~root\\x", "A\nB", ".",
    ],
)  # fmt: skip
def test_no_name_leads_out_of_the_medium(name: str) -> None:
    found = read_directory(directory("GOOD", name))
    assert found.files == (("GOOD",),)
    assert found.refused == 1


def test_a_directory_cut_short_gives_what_it_has_and_says_so() -> None:
    content = directory(*(f"D\\F{number}" for number in range(50)))
    found = read_directory(content[:-1500])
    assert 10 < len(found.files) < 50
    assert "too early" in found.problem
    with pytest.raises(NotDicom):
        read_directory(content[:150])
    with pytest.raises(NotDicom):
        read_directory(b"no directory")


def test_pydicoms_directories_name_what_pydicom_finds_in_them() -> None:
    paths = [path for path in TEST_FILES.rglob("DICOMDIR*") if path.is_file()]
    assert len(paths) > 3
    for path in paths:
        found = read_directory(path.read_bytes())
        records = pydicom.dcmread(path).get("DirectoryRecordSequence", [])
        named = [record.ReferencedFileID for record in records if "ReferencedFileID" in record]
        wanted = {(name,) if isinstance(name, str) else tuple(name) for name in named if name}
        assert set(found.files) == wanted
        assert found.refused == 0
