# SPDX-License-Identifier: Apache-2.0
"""Texts of identifiers to Unicode and back (PS3.5 section 6.1, PS3.3 C.12.1.1.2)."""

import warnings
from functools import lru_cache
from typing import Final

from pydicom import charset

from scrigno.imaging.charset import ESCAPE, decoder_for

UTF_8: Final = "ISO_IR 192"

# VRs whose text depends on the character set; the others are of the default repertoire.
SET_DEPENDENT_VRS: Final = frozenset({"SH", "LO", "ST", "LT", "PN", "UT", "UC"})


class CharacterSet:
    """One value of SpecificCharacterSet (0008,0005), ready to decode and encode.

    Terms that are misspelled are read as they are meant and never written.
    """

    def __init__(self, named: str, default: str = "") -> None:
        """Take the defined terms, joined with a backslash; `default` reads what names none."""
        self._decoder = decoder_for(named.encode("latin-1", "replace"), default)
        terms = [each.strip() for each in named.split("\\")]
        known = all(each in charset.python_encoding for each in terms)
        self.named = named if known else ""  # what an answer may name
        self._codecs: list[str] = []
        if known:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._codecs = charset.convert_encodings(terms)

    def decode(self, value: bytes, vr: str) -> str:
        """Return the text; bytes that mean nothing here become U+FFFD, nothing is raised."""
        return self._decoder.decode(value, name=vr == "PN")[0]

    def encode(self, text: str, vr: str) -> bytes | None:
        """Return the bytes of `text`, or None when this set cannot hold it."""
        if text.isascii():
            return text.encode("ascii")
        if not self.named:
            return None
        if self._codecs == ["UTF8"]:
            return text.encode("utf-8", "replace")
        try:
            with warnings.catch_warnings():
                # pydicom warns and writes `?` where it should refuse
                warnings.simplefilter("error")
                encoded = self._encode(text, vr)
        except (UserWarning, ValueError, LookupError):
            return None
        # Round trip: the Python codecs know more characters than the sets they stand for, and the
        # peer must read what we meant.
        return encoded if self.decode(encoded, vr) == text else None

    def _encode(self, text: str, vr: str) -> bytes:
        if vr != "PN":
            return self._extended(text)
        # Code extensions end at each delimiter of a person name (PS3.5 section 6.2.1.2).
        groups = (
            b"^".join(self._extended(part) for part in group.split("^"))
            for group in text.split("=")
        )
        return b"=".join(groups)

    def _extended(self, part: str) -> bytes:
        encoded = charset.encode_string(part, self._codecs)
        if "iso_ir_58" in self._codecs[1:] and not encoded.isascii() and ESCAPE not in encoded:
            # pydicom 3.0.2 takes this codec for one that writes its own escape sequence
            return charset.ENCODINGS_TO_CODES["iso_ir_58"] + encoded
        return encoded


@lru_cache(maxsize=64)
def character_set(named: str, default: str = "") -> CharacterSet:
    """Return the set of these terms; peers repeat themselves, so the last ones are kept."""
    return CharacterSet(named[:512], default)
