# SPDX-License-Identifier: Apache-2.0
"""Identifiers: read as pydicom writes them, written as it reads them, hostile ones end soon."""

import io
import struct
import time
import zlib

import pytest
from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from scrigno.node.identifier import IdentifierUnreadable, Writer, parse

SYNTAXES = [
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
]


def encoded(data_set: Dataset, syntax: str) -> bytes:
    stream = DicomBytesIO()
    stream.is_implicit_VR = syntax == ImplicitVRLittleEndian
    stream.is_little_endian = syntax != ExplicitVRBigEndian
    write_dataset(stream, data_set)
    plain = stream.getvalue()
    if syntax != DeflatedExplicitVRLittleEndian:
        return plain
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflater.compress(plain) + deflater.flush()


def decoded(raw: bytes, syntax: str) -> Dataset:
    if syntax == DeflatedExplicitVRLittleEndian:
        raw = zlib.decompress(raw, -zlib.MAX_WBITS)
        syntax = ExplicitVRLittleEndian
    from pydicom.filereader import read_dataset

    return read_dataset(
        io.BytesIO(raw),
        is_implicit_VR=syntax == ImplicitVRLittleEndian,
        is_little_endian=syntax != ExplicitVRBigEndian,
    )


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_every_kind_of_key_is_read_in_every_syntax(syntax: str) -> None:
    request = Dataset()
    request.SpecificCharacterSet = "ISO_IR 192"
    request.QueryRetrieveLevel = "STUDY"
    request.PatientName = "山田^太郎"
    request.StudyDate = "20200101-20201231"
    request.StudyInstanceUID = ["1.2.3", "1.2.4"]
    request.Rows = 512
    request.InstanceNumber = "7"
    request.AccessionNumber = ""
    step = Dataset()
    step.RequestedProcedureID = "RP1"
    request.RequestAttributesSequence = [step]
    found = parse(encoded(request, syntax), syntax)
    keys = {key.keyword: key for key in found.keys}
    assert found.character_set == "ISO_IR 192"
    assert keys["QueryRetrieveLevel"].text == "STUDY"
    assert keys["PatientName"].text == "山田^太郎"
    assert keys["StudyDate"].text == "20200101-20201231"
    assert found.values(0x0020000D) == ("1.2.3", "1.2.4")
    assert keys["Rows"].text == "512"
    assert keys["InstanceNumber"].text == "7"
    assert keys["AccessionNumber"].empty
    assert keys["RequestAttributesSequence"].items[0][0].text == "RP1"
    assert not keys["RequestAttributesSequence"].empty


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_pydicom_reads_what_is_written(syntax: str) -> None:
    writer = Writer(syntax)
    item = writer.element(0x00400007, "LO", b"Head")
    raw = writer.data_set(
        {
            0x00400275: writer.sequence(0x00400275, [item, b""]),
            0x00100010: writer.element(0x00100010, "PN", b"DOE^JANE"),
            0x0020000D: writer.element(0x0020000D, "UI", b"1.2.3"),
            0x00280010: writer.element(0x00280010, "US", writer.number("US", "512")),
            0x00404052: writer.element(0x00404052, "UC", b"long"),
        }
    )
    answer = decoded(raw, syntax)
    assert answer.PatientName == "DOE^JANE"
    assert answer.StudyInstanceUID == "1.2.3"
    assert answer.Rows == 512
    assert answer.RequestAttributesSequence[0].ScheduledProcedureStepDescription == "Head"
    assert len(answer.RequestAttributesSequence) == 2


def test_the_representation_of_the_dictionary_counts_and_not_the_peers() -> None:
    raw = struct.pack("<HH2sH", 0x0010, 0x0010, b"US", 2) + b"AB"
    (key,) = parse(raw, ExplicitVRLittleEndian).keys
    assert (key.vr, key.text) == ("PN", "AB")


def test_a_key_never_shows_its_value_in_a_log() -> None:
    raw = struct.pack("<HH2sH", 0x0010, 0x0010, b"PN", 4) + b"DOE "
    found = parse(raw, ExplicitVRLittleEndian)
    assert "DOE" not in repr(found)


@pytest.mark.spec("DN-11")
@pytest.mark.parametrize(
    "hostile",
    [
        b"\x10\x00\x10\x00PN\xff\xff",
        b"\x10\x00\x10\x00UT\0\0\xff\xff\xff\x7f",
        b"\x10",
        (b"\x40\x00\x75\x02SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff") * 30_000,
        b"\x10\x00\x10\x00PN\0\0" * 100_000,
        b"\x10\x00\x10\x00LO\xff\xff\xff\xff" + b"x" * 100,
    ],
)
def test_a_hostile_identifier_is_refused_soon(hostile: bytes) -> None:
    started = time.monotonic()
    with pytest.raises(IdentifierUnreadable):
        parse(hostile, ExplicitVRLittleEndian)
    assert time.monotonic() - started < 1


@pytest.mark.spec("DN-11")
def test_a_deflated_bomb_is_refused() -> None:
    deflater = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    bomb = deflater.compress(bytes(64 << 20)) + deflater.flush()
    with pytest.raises(IdentifierUnreadable):
        parse(bomb, DeflatedExplicitVRLittleEndian)


def test_deep_nesting_is_refused_at_the_cap() -> None:
    within = b""
    for _ in range(12):
        item = struct.pack("<HHI", 0xFFFE, 0xE000, len(within)) + within
        within = struct.pack("<HH2sHI", 0x0040, 0x0275, b"SQ", 0, len(item)) + item
    with pytest.raises(IdentifierUnreadable):
        parse(within, ExplicitVRLittleEndian)
