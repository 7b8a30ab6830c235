# SPDX-License-Identifier: Apache-2.0
"""Specific Character Set (0008,0005): bytes to text (PS3.5 section 6.1, PS3.3 C.12.1.1.2).

Decoding never raises: what cannot be decoded becomes U+FFFD and is told. Terms are compared
without regard to case and punctuation, so the common misspellings (`ISO-IR 100`, `ISO_2022_IR_87`,
`UTF-8`) mean what they are meant to mean.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

ESCAPE: Final = 0x1B

# codec of each set, by its term with nothing but capital letters and digits left
_SETS: Final[dict[str, str]] = {
    "ISOIR6": "ascii",
    "ISOIR100": "latin_1",
    "ISOIR101": "iso8859_2",
    "ISOIR109": "iso8859_3",
    "ISOIR110": "iso8859_4",
    "ISOIR144": "iso8859_5",
    "ISOIR127": "iso8859_6",
    "ISOIR126": "iso8859_7",
    "ISOIR138": "iso8859_8",
    "ISOIR148": "iso8859_9",
    "ISOIR203": "iso8859_15",
    "ISOIR13": "shift_jis",  # JIS X 0201 is its single-byte part
    "ISOIR166": "tis_620",
    "ISOIR192": "utf_8",
    "GB18030": "gb18030",
    "GBK": "gbk",
    # multi-byte sets, reached by escape sequences; the codec is for text that forgets to escape
    "ISOIR87": "jisx0208",
    "ISOIR159": "jisx0212",
    "ISOIR149": "euc_kr",
    "ISOIR58": "gb2312",
    # seen in the wild, not defined terms
    "ASCII": "ascii",
    "USASCII": "ascii",
    "ISO646": "ascii",
    "UTF8": "utf_8",
    "UNICODE11UTF8": "utf_8",
    "ISO10646": "utf_8",
    "LATIN1": "latin_1",
    "ISO88591": "latin_1",
    "ISO88592": "iso8859_2",
    "ISO88595": "iso8859_5",
    "ISO88596": "iso8859_6",
    "ISO88597": "iso8859_7",
    "ISO88598": "iso8859_8",
    "ISO88599": "iso8859_9",
    "ISO885915": "iso8859_15",
    "WINDOWS1251": "cp1251",
    "CP1251": "cp1251",
    "WINDOWS1252": "cp1252",
    "CP1252": "cp1252",
    "SHIFTJIS": "shift_jis",
    "SJIS": "shift_jis",
    "EUCJP": "euc_jp",
    "EUCKR": "euc_kr",
    "KSC5601": "euc_kr",
    "KSX1001": "euc_kr",
    "GB2312": "gb2312",
    "GB": "gb18030",
    "BIG5": "big5",
    "TIS620": "tis_620",
}
_TWO_BYTE_G0: Final = {"jisx0208": b"\x1b$B", "jisx0212": b"\x1b$(D"}
# PS3.3 C.12.1.1.2: these shall not be used with code extensions
_WITHOUT_EXTENSIONS: Final = frozenset({"utf_8", "gb18030", "gbk", "big5", "cp1251", "cp1252"})

# PS3.3 tables C.12-3 and C.12-4: the escape sequence, the code element it fills, the codec
_ESCAPES: Final[dict[bytes, tuple[int, str]]] = {
    b"(B": (0, "ascii"),
    b"(J": (0, "ascii"),  # JIS X 0201 romaji; 5C stays the delimiter, as in Shift JIS
    b"$B": (0, "jisx0208"),
    b"$@": (0, "jisx0208"),
    b"$(D": (0, "jisx0212"),
    b")I": (1, "shift_jis"),
    b"$)C": (1, "euc_kr"),
    b"$)A": (1, "gb2312"),
    b"-A": (1, "latin_1"),
    b"-B": (1, "iso8859_2"),
    b"-C": (1, "iso8859_3"),
    b"-D": (1, "iso8859_4"),
    b"-L": (1, "iso8859_5"),
    b"-G": (1, "iso8859_6"),
    b"-F": (1, "iso8859_7"),
    b"-H": (1, "iso8859_8"),
    b"-M": (1, "iso8859_9"),
    b"-b": (1, "iso8859_15"),
    b"-T": (1, "tis_620"),
}
_ESCAPE_SEQUENCE: Final = re.compile(
    b"\x1b(" + b"|".join(re.escape(key) for key in sorted(_ESCAPES, key=len, reverse=True)) + b")"
)
# PS3.5 section 6.1.2.5.3: where the initial sets come back by themselves
_RESET_IN_NAME: Final = re.compile(rb"[\^=\\\r\n\f\t]")
_RESET_IN_TEXT: Final = re.compile(rb"[\\\r\n\f\t]")
_TWO_BYTE_PARTS: Final = re.compile(
    rb"(?P<pairs>(?:[\x21-\x7e]{2})+)|(?P<rest>[\x00-\x20\x7f]+|[\x21-\x7e]|[\x80-\xff]+)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextDecoder:
    """Decodes the texts of one data set."""

    codec: str  # of text before any escape sequence
    extended: bool  # whether escape sequences are honoured
    unnamed: bool  # the object names no set and there is no default: guess, and say so
    problem: str  # what is wrong with the term itself, "" when nothing

    def decode(self, raw: bytes, *, name: bool = False) -> tuple[str, str]:
        """Return the text and what was wrong with it ("" when nothing); never raises.

        `name` selects the delimiters of a person name. Values are split after decoding, because
        0x5C is the second byte of characters in GB 18030 and in the escaped Japanese sets.
        """
        if ESCAPE in raw and self.extended:
            return self._decode_extended(raw, _RESET_IN_NAME if name else _RESET_IN_TEXT)
        if raw.isascii():
            return raw.decode("ascii"), ""
        if self.unnamed:
            return _guess(raw)
        text, good = _decode(raw, self.codec)
        return text, "" if good else f"has bytes that are not {self.codec}"

    def _decode_extended(self, raw: bytes, reset: re.Pattern[bytes]) -> tuple[str, str]:
        g0, g1 = "ascii", self.codec
        parts: list[str] = []
        good = True
        pieces = _ESCAPE_SEQUENCE.split(raw)
        for number, piece in enumerate(pieces):
            if number % 2:
                code_element, codec = _ESCAPES[piece]
                g0, g1 = (codec, g1) if code_element == 0 else (g0, codec)
                continue
            if g0 in _TWO_BYTE_G0:
                text, fine = _decode_two_byte(piece, g0, g1)
            else:
                delimiter = reset.search(piece)
                if delimiter and self.codec != "ascii":
                    text, fine = _decode(piece[: delimiter.start()], g1)
                    parts.append(text)
                    good = good and fine
                    piece, g1 = piece[delimiter.start() :], self.codec
                text, fine = _decode(piece, g1)
            parts.append(text)
            good = good and fine
        text = "".join(parts)
        if "\x1b" in text:
            return text.replace("\x1b", "\ufffd"), "has an escape sequence that DICOM does not know"
        return text, "" if good else "has bytes that its character sets do not hold"


def _decode(raw: bytes, codec: str) -> tuple[str, bool]:
    if raw.isascii():
        return raw.decode("ascii"), True
    if codec in _TWO_BYTE_G0:
        codec = "shift_jis"  # what writers without escape sequences mean
    try:
        return raw.decode(codec), True
    except UnicodeDecodeError:
        return raw.decode(codec, "replace"), False


def _decode_two_byte(raw: bytes, g0: str, g1: str) -> tuple[str, bool]:
    parts: list[str] = []
    good = True
    for match in _TWO_BYTE_PARTS.finditer(raw):
        pairs = match["pairs"]
        if pairs is None:
            text, fine = _decode(match["rest"], g1)
        else:
            shifted = _TWO_BYTE_G0[g0] + pairs + b"\x1b(B"
            try:
                text, fine = shifted.decode("iso2022_jp_2"), True
            except UnicodeDecodeError:
                text, fine = shifted.decode("iso2022_jp_2", "replace"), False
        parts.append(text)
        good = good and fine
    return "".join(parts), good


def _guess(raw: bytes) -> tuple[str, str]:
    try:
        return raw.decode("utf_8"), "is not ASCII and no character set is named: read as UTF-8"
    except UnicodeDecodeError:
        text = raw.decode("latin_1")
        return text, "is not ASCII and no character set is named: read as ISO_IR 100"


@lru_cache(maxsize=256)
def decoder_for(terms: bytes, default_character_set: str = "") -> TextDecoder:
    """Return the decoder for the value of (0008,0005), empty when the object has none.

    `default_character_set` (the same terms, joined with a backslash) serves objects that name none.
    """
    named = terms.decode("ascii", "replace").strip("\0 ") or default_character_set
    if not named:
        return TextDecoder(codec="ascii", extended=True, unnamed=True, problem="")
    codecs: list[str] = []
    unknown = False
    for term in named[:512].split("\\"):
        codec = codec_of(term)
        unknown = unknown or codec is None
        codecs.append(codec or "ascii")
    problem = "Specific Character Set (0008,0005) holds a term that DICOM does not know"
    return TextDecoder(
        codec=_initial(codecs),
        extended=codecs[0] not in _WITHOUT_EXTENSIONS,
        unnamed=unknown and _initial(codecs) == "ascii",
        problem=problem if unknown else "",
    )


def codec_of(term: str) -> str | None:
    """Return the codec that a defined term, or a common misspelling of it, stands for."""
    if not term.strip():
        return "ascii"
    letters = re.sub(r"[^A-Z0-9]", "", term.upper()).replace("ISO2022IR", "ISOIR")
    if letters.startswith("ISOIR"):
        letters = "ISOIR" + letters[5:].lstrip("0")
    return _SETS.get(letters)


def _initial(codecs: list[str]) -> str:
    """Return the codec of text before any escape sequence.

    PS3.3 makes it the first value's. Where that is plain ASCII, 8 bit text without an escape
    sequence would mean nothing; Korean and Chinese writers mean their one other set by it.
    """
    if codecs[0] != "ascii":
        return codecs[0]
    others = {codec for codec in codecs[1:] if codec in ("euc_kr", "gb2312", "shift_jis")}
    return others.pop() if len(others) == 1 else "ascii"
