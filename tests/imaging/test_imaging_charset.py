# SPDX-License-Identifier: Apache-2.0
"""Every character set of PS3.3 C.12.1.1.2, the ways it is misspelt, and bytes that break it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from imaging_objects import ct, encode, read
from pydicom.charset import python_encoding
from pydicom.data import get_charset_files

from scrigno.imaging.charset import decoder_for
from scrigno.imaging.part10 import split

# PS3.5 annexes H.3, I.2, J.3 and K.2: the standard's own examples, byte for byte
STANDARD = [
    (
        r"\ISO 2022 IR 87",
        b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
        "Yamada^Tarou=山田^太郎=やまだ^たろう",
    ),
    (
        r"ISO 2022 IR 13\ISO 2022 IR 87",
        b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J"
        b"=\x1b$B$d$^$@\x1b(J^\x1b$B$?$m$&\x1b(J",
        "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
    ),
    (
        r"\ISO 2022 IR 149",
        b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
        "Hong^Gildong=洪^吉洞=홍^길동",
    ),
    (
        r"\ISO 2022 IR 58",
        b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab=",
        "Zhang^XiaoDong=张^小东",
    ),
    ("ISO_IR 192", "Wang^XiaoDong=王^小东".encode(), "Wang^XiaoDong=王^小东"),
    ("GB18030", "Wang^XiaoDong=王^小东".encode("gb18030"), "Wang^XiaoDong=王^小东"),
    ("GBK", "Wang^XiaoDong=王^小东".encode("gbk"), "Wang^XiaoDong=王^小东"),
]


@pytest.mark.spec("DN-12")
@pytest.mark.parametrize(("terms", "raw", "text"), STANDARD)
def test_the_examples_of_the_standard_read_as_printed_there(
    terms: str, raw: bytes, text: str
) -> None:
    assert decoder_for(terms.encode()).decode(raw, name=True) == (
        text + "=" * raw.endswith(b"="),
        "",
    )


@pytest.mark.spec("DN-12")
@pytest.mark.parametrize(
    ("term", "text"),
    [
        ("ISO_IR 100", "Buc^Jérôme"),
        ("ISO_IR 101", "Wałęsa^Lech"),
        ("ISO_IR 109", "Ĉaĝ^Ĥ"),
        ("ISO_IR 110", "Āžuolas^Ķ"),
        ("ISO_IR 144", "Люкceмбypг"),
        ("ISO_IR 127", "قباني^لنزار"),
        ("ISO_IR 126", "Διονυσιος"),
        ("ISO_IR 138", "שרון^דבורה"),
        ("ISO_IR 148", "Çavuşoğlu^Işık"),
        ("ISO_IR 203", "Šœ^€"),
        ("ISO_IR 166", "นามสกุล"),
        ("ISO_IR 13", "ﾔﾏﾀﾞ^ﾀﾛｳ"),
    ],
)
def test_single_byte_sets_agree_with_pydicom_and_in_their_extended_form(
    term: str, text: str
) -> None:
    codec = {"ISO_IR 203": "iso8859_15", "ISO_IR 13": "shift_jis"}.get(term)
    raw = text.encode(codec or python_encoding[term])
    assert decoder_for(term.encode()).decode(raw, name=True) == (text, "")
    extended = term.replace("ISO_IR", "ISO 2022 IR")
    assert decoder_for(extended.encode()).decode(raw, name=True) == (text, "")


@pytest.mark.parametrize(
    "term",
    ["ISO-IR 100", "ISO IR 100", "iso_ir_100", "ISO_IR100", "ISO8859-1", "ISO 2022-IR 100",
     "ISO-2022-IR-100 ", "ISO_IR 0100", "Latin1"],
)  # fmt: skip
def test_common_misspellings_are_understood(term: str) -> None:
    decoder = decoder_for(term.encode())
    assert decoder.problem == ""
    assert decoder.decode("Jérôme".encode("latin_1")) == ("Jérôme", "")


@pytest.mark.parametrize("term", ["ISO-IR 192", "UTF-8", "utf8", "ISO 2022 IR 192"])
def test_utf_8_has_many_names(term: str) -> None:
    assert decoder_for(term.encode()).decode("山田".encode()) == ("山田", "")


def test_a_backslash_as_second_byte_is_no_delimiter() -> None:
    # 0x5C is the second byte of 昞 in GB 18030 and of 十 in the escaped JIS set
    gb = ct(StudyDescription="", SpecificCharacterSet="GB18030")
    gb.add_new(0x00081030, "LO", "昞 ".encode("gb18030"))
    assert "昞".encode("gb18030")[1] == 0x5C
    assert read(encode(gb)).study.study_description == "昞"
    jis = decoder_for(b"\\ISO 2022 IR 87").decode(b"\x1b$B==\x1b(B\\x")
    assert jis == ("十\\x", "")


@pytest.mark.spec("DN-12")
def test_the_default_set_serves_only_objects_that_name_none() -> None:
    raw = "山田".encode("shift_jis")
    assert decoder_for(b"", "ISO_IR 13").decode(raw) == ("山田", "")
    assert decoder_for(b"ISO_IR 100", "ISO_IR 13").decode(b"\xe9") == ("é", "")


def test_without_any_set_eight_bit_text_is_guessed_and_the_guess_is_told() -> None:
    assert decoder_for(b"").decode("é".encode())[0] == "é"
    text, problem = decoder_for(b"").decode(b"\xe9t\xe9")
    assert text == "été"
    assert "no character set" in problem


def test_korean_text_that_forgets_its_escape_sequence_is_still_korean() -> None:
    assert decoder_for(b"\\ISO 2022 IR 149").decode("길동".encode("euc_kr")) == ("길동", "")


def test_delimiters_bring_the_first_set_back() -> None:
    # PS3.5 section 6.1.2.5.3
    decoder = decoder_for(b"ISO 2022 IR 100\\ISO 2022 IR 126")
    assert decoder.decode(b"\x1b-F\xc1\xc2^\xe9", name=True) == ("ΑΒ^é", "")
    assert decoder.decode(b"\x1b-F\xc1\xc2^\xc3\\\xe9") == ("ΑΒ^Γ\\é", "")


def test_an_unknown_term_is_a_problem_and_no_failure() -> None:
    decoder = decoder_for(b"ISO_IR 999")
    assert "does not know" in decoder.problem
    assert decoder.decode("山".encode())[0] == "山"


def test_bytes_that_break_their_set_are_replaced_and_told() -> None:
    text, problem = decoder_for(b"ISO_IR 192").decode(b"ab\xc0\xafcd")
    assert text.startswith("ab\ufffd")
    assert "utf_8" in problem
    text, problem = decoder_for(b"\\ISO 2022 IR 87").decode(b"\x1b$B;3E\x1b(B")
    assert text.startswith("山")
    text, problem = decoder_for(b"ISO 2022 IR 100").decode(b"a\x1b%Gb")
    assert text == "a\ufffd%Gb"
    assert "escape" in problem


@given(
    terms=st.sampled_from([terms.encode() for terms, _, _ in STANDARD] + [b"", b"ISO_IR 13", b"?"]),
    raw=st.lists(
        st.sampled_from([b"\x1b", b"$B", b"(B", b"$)C", b"$(D", b"\\", b"^", b"=", b"\xb1\xe6"])
        | st.binary(max_size=6)
    ).map(b"".join),
    name=st.booleans(),
)
@settings(max_examples=300, deadline=None)
def test_decoding_never_raises(terms: bytes, raw: bytes, name: bool) -> None:
    text, _ = decoder_for(terms).decode(raw, name=name)
    assert text.encode("utf_8") is not None


@pytest.mark.spec("DN-12")
@pytest.mark.parametrize("path", [p for p in get_charset_files("chr*.dcm") if "SQ" not in p])
def test_the_charset_files_of_pydicom_read_without_a_problem(path: str) -> None:
    from pathlib import Path

    content = Path(path).read_bytes()
    head = split(content)
    attributes = read(content[head.data_offset :], head.transfer_syntax_uid)
    assert not [p for p in attributes.problems if "byte" in p or "escape" in p or "set" in p]
    name = attributes.patient.patient_name.text()
    assert name
    assert "\ufffd" not in name
    assert "\x1b" not in name
