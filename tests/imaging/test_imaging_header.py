# SPDX-License-Identifier: Apache-2.0
"""The header scan: what it reads, where it stops, and how it says that it cannot go on."""

import struct
import zlib

import pytest
from imaging_objects import CT, ct, encode, read
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from scrigno.core.phi import Phi
from scrigno.imaging.dataset import (
    DEFLATED_LE,
    EXPLICIT_BE,
    EXPLICIT_LE,
    IMPLICIT_LE,
    MAX_DEPTH,
    MAX_ELEMENTS,
)
from scrigno.imaging.errors import HeaderIncomplete, HeaderUnreadable

SYNTAXES = [EXPLICIT_LE, IMPLICIT_LE, EXPLICIT_BE, DEFLATED_LE]


def deflated(content: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(content) + compressor.flush()


def encoded(dataset: Dataset, syntax: str) -> bytes:
    if syntax == DEFLATED_LE:
        return deflated(encode(dataset, EXPLICIT_LE))
    return encode(dataset, syntax)


def requested(*ids: str) -> Sequence:
    items = []
    for number in ids:
        item = Dataset()
        item.RequestedProcedureID = number
        item.ScheduledProcedureStepDescription = "Testa"
        items.append(item)
    return Sequence(items)


@pytest.mark.spec("DN-4")
@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("undefined", [False, True])
def test_every_encoding_gives_the_same_attributes(syntax: str, undefined: bool) -> None:
    sequence = requested("RP1", "RP2")
    dataset = ct(
        StudyDate="20240229",
        StudyTime="101112.5",
        Rows=512,
        Columns=256,
        NumberOfFrames="3",
        WindowCenter=["40", "300"],
        PixelSpacing=["0.5", "0.75"],
        RequestAttributesSequence=sequence,
        DocumentTitle="Referto",
        PixelData=b"\0\0" * 8,
    )
    dataset["PixelData"].VR = "OW"
    dataset["RequestAttributesSequence"].is_undefined_length = undefined
    for item in sequence:
        item.is_undefined_length_sequence_item = undefined
    attributes = read(encoded(dataset, syntax), syntax)
    assert attributes.problems == ()
    assert attributes.patient.patient_name.alphabetic == "Rossi^Maria"
    assert attributes.study.study_instance_uid == "1.2.3"
    assert (attributes.study.study_date, attributes.study.study_time) == ("20240229", "101112.5")
    assert attributes.series.modality == "CT"
    assert attributes.series.request_attributes == (
        {"RequestedProcedureID": "RP1", "ScheduledProcedureStepDescription": "Testa"},
        {"RequestedProcedureID": "RP2", "ScheduledProcedureStepDescription": "Testa"},
    )
    instance = attributes.instance
    assert (instance.rows, instance.columns, instance.number_of_frames) == (512, 256, 3)
    assert (instance.window_center, instance.pixel_spacing) == ("40\\300", "0.5\\0.75")
    assert instance.document_title == "Referto"
    assert (instance.sop_class_uid, instance.sop_instance_uid) == (CT, "1.2.3.4")
    assert instance.transfer_syntax_uid == syntax


def test_patient_texts_are_masked_when_printed() -> None:
    attributes = read(encode(ct(PatientBirthDate="19600102", PatientComments="fragile")))
    for text in (attributes.patient.patient_id, attributes.patient.patient_birth_date,
                 attributes.patient.patient_comments):  # fmt: skip
        assert isinstance(text, Phi)
    shown = repr(attributes)
    assert not [word for word in ("Rossi", "4711", "1960", "fragile") if word in shown]


def test_several_names_keep_their_groups_apart() -> None:
    dataset = ct(SpecificCharacterSet="ISO_IR 192")
    dataset.OperatorsName = ["Yamada^T=山田", "Bianchi"]
    name = read(encode(dataset)).series.operators_name
    assert (name.alphabetic, name.ideographic, name.phonetic) == ("Yamada^T\\Bianchi", "山田\\", "")


def test_uids_that_the_data_set_lacks_come_from_the_command_and_are_told() -> None:
    dataset = ct()
    del dataset.SOPInstanceUID
    attributes = read(encode(dataset))
    assert attributes.instance.sop_instance_uid == "9.9.9"
    assert attributes.problems == ("the object names no SOP Instance UID",)


def test_an_object_without_study_is_read_and_the_lack_is_told() -> None:
    dataset = ct()
    del dataset.StudyInstanceUID
    attributes = read(encode(dataset))
    assert attributes.study.study_instance_uid == ""
    assert "the object names no Study Instance UID" in attributes.problems


def test_the_scan_stops_before_the_pixel_data_and_does_not_need_them() -> None:
    dataset = ct(PixelData=bytes(100_000))
    dataset["PixelData"].VR = "OW"
    content = encode(dataset)
    assert read(content[:-100_000], size=len(content)).problems == ()


@pytest.mark.parametrize("syntax", SYNTAXES[:3])
def test_a_head_cut_anywhere_is_incomplete_and_says_how_much_is_needed(syntax: str) -> None:
    sequence = requested("RP1")
    content = encode(ct(RequestAttributesSequence=sequence, DocumentTitle="x"), syntax)
    for length in range(len(content)):
        with pytest.raises(HeaderIncomplete) as caught:
            read(content[:length], syntax, size=len(content))
        assert length < caught.value.needed_bytes <= len(content)
    assert read(content, syntax, size=len(content)).problems == ()


def test_reading_exactly_what_is_asked_for_comes_to_an_end() -> None:
    content = encode(ct(PatientComments="x" * 9000, DocumentTitle="y" * 1000))
    length, tries = 8, 0
    while True:
        try:
            attributes = read(content[:length], size=len(content))
        except HeaderIncomplete as incomplete:
            length, tries = incomplete.needed_bytes, tries + 1
        else:
            break
    assert attributes.instance.document_title == "y" * 1000
    assert tries < 40


def test_a_truncated_object_is_told_when_nothing_can_follow() -> None:
    content = encode(ct(DocumentTitle="y" * 1000))
    attributes = read(content[:-10], size=len(content) - 10)
    assert attributes.series.series_instance_uid == "1.2.3.1"
    assert "reaches past the end" in attributes.problems[0]
    with pytest.raises(HeaderUnreadable, match="past the end of the object"):
        read(content[:63], size=63)
    with pytest.raises(HeaderUnreadable, match="empty"):
        read(b"", size=0)


@pytest.mark.parametrize(
    ("written", "labelled"),
    [(a, b) for a in SYNTAXES[:3] for b in SYNTAXES[:3] if a != b],
)
def test_a_wrong_transfer_syntax_label_is_found_out(written: str, labelled: str) -> None:
    with pytest.raises(HeaderUnreadable, match="labelled") as caught:
        read(encode(ct(), written), labelled)
    assert caught.value.likely_transfer_syntax == written


def test_a_length_that_reaches_past_the_whole_object_is_known_from_its_head() -> None:
    content = encode(ct(PatientComments="x" * 200))
    at = content.index(b"\x10\0\x10\0PN")
    liar = content[:at] + b"\x10\0\x10\0UT\0\0\xff\xff\xff\x7f" + content[at + 12 :]
    with pytest.raises(HeaderUnreadable, match="past the end"):
        read(liar[: at + 40], size=len(liar))
    with pytest.raises(HeaderIncomplete):
        read(liar[: at + 40])


def test_a_deflated_object_that_is_none_or_is_a_bomb_is_refused() -> None:
    with pytest.raises(HeaderUnreadable, match="inflated"):
        read(encode(ct()), DEFLATED_LE)
    bomb = deflated(b"\x08\0\x05\0UN\0\0\xf0\xff\xff\x7f" + bytes(64 << 20))
    with pytest.raises(HeaderUnreadable, match="larger than"):
        read(bomb, DEFLATED_LE, size=len(bomb))
    content = deflated(encode(ct(ImageComments="é" * 500 + str(list(range(900))))))
    with pytest.raises(HeaderIncomplete):
        read(content[:100], DEFLATED_LE, size=len(content))


def nested(depth: int, *, closed: bool) -> bytes:
    opening = b"\x08\0\x15\x11SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\0\xe0\xff\xff\xff\xff"
    closing = b"\xfe\xff\x0d\xe0\0\0\0\0" + b"\xfe\xff\xdd\xe0\0\0\0\0"
    return opening * depth + (closing * depth if closed else b"")


def test_nesting_up_to_the_limit_is_skipped_and_beyond_it_refused() -> None:
    tail = encode(ct())
    tail = tail[tail.index(b"\x10\0\x10\0PN") :]
    assert read(nested(MAX_DEPTH, closed=True) + tail).study.study_instance_uid == "1.2.3"
    for depth in (MAX_DEPTH + 1, 20_000):
        with pytest.raises(HeaderUnreadable, match="nested"):
            read(nested(depth, closed=True) + tail)


def test_a_million_empty_elements_do_not_hold_the_loop() -> None:
    empty = struct.pack("<HH2sH", 0x0009, 0x0001, b"LO", 0)
    with pytest.raises(HeaderUnreadable, match="too many"):
        read(empty * (MAX_ELEMENTS + 1))
    items = b"\x08\0\x15\x11SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\0\xe0\0\0\0\0" * (MAX_ELEMENTS + 1)
    with pytest.raises(HeaderUnreadable, match="too many"):
        read(items)


def test_a_private_sequence_in_un_holds_implicit_items() -> None:
    # PS3.5 section 6.2.2 note 4: a UN of undefined length is implicit little endian inside
    # a length whose bytes spell LO: read as explicit, the value would be of no length
    inside = b"\x09\0\x02\x10LO\0\0" + b"a" * int.from_bytes(b"LO\0\0", "little")
    un = (
        b"\x09\0\x01\x10UN\0\0\xff\xff\xff\xff"
        + b"\xfe\xff\0\xe0\xff\xff\xff\xff" + inside
        + b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"
    )  # fmt: skip
    content = encode(ct())
    at = content.index(b"\x10\0\x10\0PN")
    attributes = read(content[:at] + un + content[at:])
    assert attributes.problems == ()
    assert attributes.patient.patient_id == "4711"


def test_a_tag_that_occurs_twice_counts_with_its_last_value_and_is_told() -> None:
    extra = b"\x10\0\x20\0LO\x04\0OTHR"
    attributes = read(encode(ct()) + extra)
    assert attributes.patient.patient_id == "OTHR"
    assert "twice" in attributes.problems[0]


def test_numbers_that_are_none_are_told_and_left_out() -> None:
    dataset = ct(Rows=5)
    content = encode(dataset) + b"\x28\0\x08\0IS\x04\0many"
    attributes = read(content)
    assert attributes.instance.number_of_frames is None
    assert "no number" in attributes.problems[-1]


def test_a_value_of_great_length_is_cut_and_told() -> None:
    content = encode(ct())
    content += b"\x20\0\0\x40LT\xf0\xff" + b"x" * 0xFFF0
    attributes = read(content)
    assert len(attributes.instance.image_comments) == 40_960
    assert "is cut" in attributes.problems[-1]


def test_an_item_left_outside_a_sequence_is_stepped_over() -> None:
    content = encode(ct())
    at = content.index(b"\x10\0\x10\0PN")
    stray = b"\xfe\xff\0\xe0\x04\0\0\0abcd" + b"\xfe\xff\xdd\xe0\0\0\0\0"
    attributes = read(content[:at] + stray + content[at:])
    assert attributes.patient.patient_id == "4711"
    assert "outside a sequence" in attributes.problems[0]
