# SPDX-License-Identifier: Apache-2.0
"""The beginning of a file: ours is readable and always the same, others' are understood."""

from io import BytesIO

import pydicom
import pytest
from imaging_objects import CT, ct, encode

from scrigno.core.uids import IMPLEMENTATION_CLASS_UID
from scrigno.imaging.dataset import EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE
from scrigno.imaging.errors import NotDicom
from scrigno.imaging.part10 import file_prefix, split

UIDS = {"sop_class_uid": CT, "sop_instance_uid": "1.2.3.4"}


@pytest.mark.spec("DN-4", "ST-8")
@pytest.mark.parametrize("syntax", [EXPLICIT_LE, IMPLICIT_LE, EXPLICIT_BE])
def test_a_stored_file_is_read_by_pydicom_with_its_data_set_untouched(syntax: str) -> None:
    data = encode(ct(), syntax)
    content = file_prefix(**UIDS, transfer_syntax_uid=syntax) + data
    dataset = pydicom.dcmread(BytesIO(content))
    assert dataset.PatientName == "Rossi^Maria"
    assert dataset.file_meta.TransferSyntaxUID == syntax
    assert dataset.file_meta.MediaStorageSOPInstanceUID == "1.2.3.4"
    assert dataset.file_meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID
    expected = len(content) - len(data) - 144
    assert dataset.file_meta.FileMetaInformationGroupLength == expected
    assert content[split(content).data_offset :] == data


def test_the_prefix_depends_on_nothing_but_the_three_uids() -> None:
    made = {file_prefix(**UIDS, transfer_syntax_uid=EXPLICIT_LE) for _ in range(3)}
    assert len(made) == 1
    for sop_instance in ("1.2.3", "1.2.3.4", "1" * 64, "no uid ../..", "\udcff\udcfe", ""):
        prefix = file_prefix(
            sop_class_uid=CT, sop_instance_uid=sop_instance, transfer_syntax_uid=EXPLICIT_LE
        )
        assert len(prefix) % 2 == 0
        assert split(prefix + encode(ct())).data_offset == len(prefix)


@pytest.mark.parametrize("syntax", [EXPLICIT_LE, IMPLICIT_LE, EXPLICIT_BE])
def test_a_bare_data_set_is_recognised_by_its_first_elements(syntax: str) -> None:
    head = split(encode(ct(), syntax))
    assert (head.sop_class_uid, head.sop_instance_uid) == (CT, "1.2.3.4")
    assert (head.transfer_syntax_uid, head.data_offset) == (syntax, 0)


def test_file_meta_without_preamble_without_length_or_without_uids_is_understood() -> None:
    whole = file_prefix(**UIDS, transfer_syntax_uid=IMPLICIT_LE) + encode(ct(), IMPLICIT_LE)
    assert split(whole[132:]).sop_instance_uid == "1.2.3.4"
    assert split(whole[128:]).sop_instance_uid == "1.2.3.4"
    without_length = whole[:132] + whole[144:]
    assert split(without_length).transfer_syntax_uid == IMPLICIT_LE
    only_magic = bytes(128) + b"DICM" + encode(ct(), IMPLICIT_LE)
    assert split(only_magic).sop_instance_uid == "1.2.3.4"
    assert split(only_magic).transfer_syntax_uid == IMPLICIT_LE


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 4096,
        b"%PDF-1.7\n" + b"x" * 500,
        b"PK\x03\x04" + b"\0" * 500,
        bytes(128) + b"DICM",
        bytes(128) + b"DICM" + b"\xff" * 200,
        b"version https://git-lfs.github.com/spec/v1\n",
    ],
)
def test_what_is_no_dicom_is_refused_in_words(content: bytes) -> None:
    with pytest.raises(NotDicom, match=r"[A-Z].*\."):
        split(content)


def test_a_file_cut_inside_its_meta_is_refused_at_every_length() -> None:
    prefix = file_prefix(**UIDS, transfer_syntax_uid=EXPLICIT_LE)
    for length in range(len(prefix)):
        with pytest.raises(NotDicom):
            split(prefix[:length])
