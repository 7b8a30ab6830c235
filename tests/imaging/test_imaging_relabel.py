# SPDX-License-Identifier: Apache-2.0
"""Another SOP Instance UID in the same data set, every other byte as it was."""

import io

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from scrigno.core.uids import is_uid
from scrigno.imaging.dataset import DEFLATED_LE, EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE
from scrigno.imaging.errors import HeaderIncomplete, HeaderUnreadable
from scrigno.imaging.relabel import derived_uid, renamed

SYNTAXES = {EXPLICIT_LE: (False, True), IMPLICIT_LE: (True, True), EXPLICIT_BE: (False, False)}


def data_set(syntax: str, uid: str = "1.2.3.4") -> bytes:
    one = Dataset()
    one.SpecificCharacterSet = "ISO_IR 100"
    one.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    one.SOPInstanceUID = uid
    one.PatientName = "Rossi^Anna"
    item = Dataset()
    item.ReferencedSOPInstanceUID = uid
    one.ReferencedImageSequence = [item]
    out = DicomBytesIO()
    out.is_implicit_VR, out.is_little_endian = SYNTAXES[syntax]
    write_dataset(out, one)
    return out.getvalue()


def read(content: bytes, syntax: str) -> Dataset:
    implicit, little = SYNTAXES[syntax]
    return pydicom.filereader.read_dataset(io.BytesIO(content), implicit, little)


@pytest.mark.spec("ST-10")
@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("uid", ["2.25.1", "2.25.123456789012345678901234567890123456789"])
def test_only_the_uid_changes(syntax: str, uid: str) -> None:
    before = data_set(syntax)
    begin, consumed = renamed(before, transfer_syntax_uid=syntax, sop_instance_uid=uid)
    after = begin + before[consumed:]
    changed = read(after, syntax)
    assert changed.SOPInstanceUID == uid
    assert changed.ReferencedImageSequence[0].ReferencedSOPInstanceUID == "1.2.3.4"
    back, gone = renamed(after, transfer_syntax_uid=syntax, sop_instance_uid="1.2.3.4")
    assert back + after[gone:] == before


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_group_length_stays_right(syntax: str) -> None:
    plain = data_set(syntax)
    little = SYNTAXES[syntax][1]
    order = "little" if little else "big"
    tag = (8).to_bytes(2, order) + (0).to_bytes(2, order)
    middle = (4).to_bytes(4, order) if syntax == IMPLICIT_LE else b"UL" + (4).to_bytes(2, order)
    before = tag + middle + (500).to_bytes(4, order) + plain
    begin, consumed = renamed(before, transfer_syntax_uid=syntax, sop_instance_uid="2.25.123456")
    assert int.from_bytes(begin[8:12], order) == 500 + len(begin) - consumed
    assert before[consumed:] == plain[consumed - 12 :]


def test_what_is_too_short_is_asked_for_and_what_is_none_is_refused() -> None:
    whole = data_set(EXPLICIT_LE)
    for length in range(68):
        with pytest.raises(HeaderIncomplete) as told:
            renamed(whole[:length], transfer_syntax_uid=EXPLICIT_LE, sop_instance_uid="2.25.1")
        assert told.value.needed_bytes > length
    renamed(whole[:68], transfer_syntax_uid=EXPLICIT_LE, sop_instance_uid="2.25.1")
    with pytest.raises(HeaderUnreadable, match="deflated"):
        renamed(whole, transfer_syntax_uid=DEFLATED_LE, sop_instance_uid="2.25.1")
    with pytest.raises(HeaderUnreadable):
        renamed(b"\xff" * 500, transfer_syntax_uid=EXPLICIT_LE, sop_instance_uid="2.25.1")
    other = read(whole, EXPLICIT_LE)
    del other.SOPInstanceUID
    out = DicomBytesIO()
    out.is_implicit_VR, out.is_little_endian = False, True
    write_dataset(out, other)
    with pytest.raises(HeaderUnreadable, match="no SOP Instance"):
        renamed(out.getvalue(), transfer_syntax_uid=EXPLICIT_LE, sop_instance_uid="2.25.1")


def test_one_digest_gives_one_uid() -> None:
    uid = derived_uid("ab" * 32)
    assert uid == derived_uid("ab" * 32) != derived_uid("ac" * 32)
    assert uid.startswith("2.25.")
    assert is_uid(uid)
    assert not uid.startswith("2.25.0")
