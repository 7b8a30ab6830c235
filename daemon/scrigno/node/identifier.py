# SPDX-License-Identifier: Apache-2.0
"""Identifier data sets of query and retrieve: read with caps, written from plain values.

Reading is a pure function from bytes to keys; it takes time linear in the bytes whatever a
peer sends. Writing covers what an answer holds: texts, numbers, UIDs, sequences of those.
"""

import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from pydicom.datadict import dictionary_VR, keyword_for_tag
from typing_extensions import override

from scrigno.core.errors import ScrignoError
from scrigno.imaging.dataset import (
    DEFLATED_LE,
    UNDEFINED,
    Broken,
    Budget,
    Cut,
    Element,
    Encoding,
    elements,
    encoding_of,
    inner,
    items_of,
)

from .texts import SET_DEPENDENT_VRS, CharacterSet, character_set

MAX_ELEMENTS: Final = 4096
MAX_DEPTH: Final = 8
MAX_INFLATED_BYTES: Final = 4 << 20  # four times what may arrive: identifiers are small texts

SPECIFIC_CHARACTER_SET: Final = 0x00080005
QUERY_RETRIEVE_LEVEL: Final = 0x00080052

_LONG_FORM: Final = frozenset(
    {"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"}
)
_BINARY: Final = {
    "US": "H",
    "SS": "h",
    "UL": "I",
    "SL": "i",
    "FL": "f",
    "FD": "d",
    "SV": "q",
    "UV": "Q",
}


class IdentifierUnreadable(ScrignoError):
    """The identifier's structure cannot be followed, or it is beyond the caps."""

    code = "identifier-unreadable"


@dataclass(frozen=True, slots=True)
class Key:
    """One element of an identifier. `repr` hides the value: it is about a patient."""

    tag: int
    keyword: str  # "" when the dictionary has none
    vr: str
    text: str  # decoded, padding removed, several values joined with a backslash
    items: tuple[tuple["Key", ...], ...] = ()  # of a sequence

    @override
    def __repr__(self) -> str:
        """Show what was asked for, never the value."""
        return f"Key({self.keyword or f'{self.tag:08X}'})"

    @property
    def empty(self) -> bool:
        """Tell whether no value was given (universal matching)."""
        return not self.text and not any(self.items)


@dataclass(frozen=True, slots=True)
class Identifier:
    """A parsed identifier."""

    keys: tuple[Key, ...]
    character_set: str  # SpecificCharacterSet as sent; "" when there was none

    def text(self, tag: int) -> str:
        """Return the value of `tag`, "" when absent."""
        return next((each.text for each in self.keys if each.tag == tag), "")

    def values(self, tag: int) -> tuple[str, ...]:
        """Return the values of `tag`, empty ones left out."""
        return tuple(each.strip() for each in self.text(tag).split("\\") if each.strip())


def parse(encoded: bytes, transfer_syntax: str, default_character_set: str = "") -> Identifier:
    """Read an identifier; one that names no character set is read with the default one."""
    if transfer_syntax == DEFLATED_LE:
        encoded = _inflate(encoded)
    encoding = encoding_of(transfer_syntax)
    try:
        found = list(elements(encoded, 0, len(encoded), encoding, Budget(MAX_ELEMENTS)))
        named = "".join(
            _plain(encoded, each) for each in found if each.tag == SPECIFIC_CHARACTER_SET
        )
        budget = Budget(MAX_ELEMENTS)
        decoder = character_set(named, default_character_set)
        keys = tuple(_keys(encoded, found, encoding, decoder, budget, depth=1))
    except (Cut, Broken) as error:
        raise IdentifierUnreadable("The identifier's elements cannot be followed.") from error
    return Identifier(keys, named)


def _inflate(encoded: bytes) -> bytes:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        plain = inflater.decompress(encoded, MAX_INFLATED_BYTES)
    except zlib.error as error:
        raise IdentifierUnreadable("The deflated identifier cannot be inflated.") from error
    if inflater.unconsumed_tail:
        raise IdentifierUnreadable("The deflated identifier is too large.")
    return plain


def _keys(
    encoded: bytes,
    found: Sequence[Element],
    encoding: Encoding,
    decoder: CharacterSet,
    budget: Budget,
    *,
    depth: int,
) -> Iterator[Key]:
    if depth > MAX_DEPTH:
        raise Broken("too deep")
    for element in found:
        tag = element.tag
        if tag & 0xFFFF == 0 or tag == SPECIFIC_CHARACTER_SET:  # group lengths mean nothing here
            continue
        keyword, dictionary_vr = dictionary_entry(tag)
        # The dictionary's VR counts, not the peer's: answers are written by it.
        vr = dictionary_vr if keyword else element.vr.decode("ascii", "replace")
        if element.length == UNDEFINED and vr not in ("SQ", "UN", ""):
            raise Broken("undefined length outside a sequence")
        if vr == "SQ" or element.length == UNDEFINED:
            yield Key(
                tag,
                keyword,
                "SQ",
                "",
                tuple(_items(encoded, element, encoding, decoder, budget, depth)),
            )
            continue
        yield Key(tag, keyword, vr, _value(encoded, element, encoding, vr, decoder))


def _items(
    encoded: bytes,
    element: Element,
    encoding: Encoding,
    decoder: CharacterSet,
    budget: Budget,
    depth: int,
) -> Iterator[tuple[Key, ...]]:
    within = inner(element, encoding)
    for start, end in items_of(encoded, element, within, budget):
        found = list(elements(encoded, start, end, within, budget, depth=depth + 1))
        yield tuple(_keys(encoded, found, within, decoder, budget, depth=depth + 1))


def _value(
    encoded: bytes, element: Element, encoding: Encoding, vr: str, decoder: CharacterSet
) -> str:
    if vr in _BINARY:
        code = struct.Struct(encoding.order + _BINARY[vr])
        raw = encoded[element.start : element.start + element.length]
        usable = len(raw) - len(raw) % code.size
        return "\\".join(str(number) for (number,) in code.iter_unpack(raw[:usable]))
    if vr in SET_DEPENDENT_VRS:
        raw = encoded[element.start : element.start + element.length]
        return decoder.decode(raw.rstrip(b"\0 "), vr).strip(" ")
    return _plain(encoded, element)


def _plain(encoded: bytes, element: Element) -> str:
    raw = encoded[element.start : element.start + element.length]
    return raw.decode("latin-1").strip("\0 ")


@lru_cache(maxsize=4096)
def dictionary_entry(tag: int) -> tuple[str, str]:
    """Return keyword and VR of PS3.6; "" and UN for what it does not name."""
    try:
        vr = dictionary_VR(tag)
    except KeyError:
        return "", "UN"
    return keyword_for_tag(tag), vr.split(" or ", maxsplit=1)[0]


class Writer:
    """Writes data sets in one transfer syntax."""

    def __init__(self, transfer_syntax: str) -> None:
        """Write for a context with this transfer syntax (one of the four of identifiers)."""
        encoding = encoding_of(transfer_syntax)
        self._deflated = transfer_syntax == DEFLATED_LE
        self._order = encoding.order
        self._explicit = encoding.explicit
        self._tag = struct.Struct(encoding.order + "HH")
        self._short = struct.Struct(encoding.order + "HH2sH")
        self._long = struct.Struct(encoding.order + "HH2sHI")
        self._implicit = struct.Struct(encoding.order + "HHI")

    def element(self, tag: int, vr: str, value: bytes) -> bytes:
        """Return one element, its value padded to even length (PS3.5 section 6.2)."""
        if len(value) % 2:
            value += b"\0" if vr in ("UI", "OB", "UN") else b" "
        if not self._explicit:
            return self._implicit.pack(tag >> 16, tag & 0xFFFF, len(value)) + value
        if vr in _LONG_FORM:
            return self._long.pack(tag >> 16, tag & 0xFFFF, vr.encode(), 0, len(value)) + value
        # A value beyond the 16 bit length of its VR cannot be written; it is cut, not dropped.
        value = value[:0xFFFE]
        return self._short.pack(tag >> 16, tag & 0xFFFF, vr.encode(), len(value)) + value

    def number(self, vr: str, text: str) -> bytes:
        """Return the value bytes of a binary VR; `text` holds numbers joined with a backslash."""
        code = struct.Struct(self._order + _BINARY[vr])
        cast = float if vr in ("FL", "FD") else int
        try:
            return b"".join(code.pack(cast(each)) for each in text.split("\\") if each)
        except (ValueError, struct.error):
            return b""  # what an object holds there is no such number; the key stays, empty

    def sequence(self, tag: int, items: Sequence[bytes]) -> bytes:
        """Return a sequence of defined length with these items' encoded elements."""
        parts = [self._implicit.pack(0xFFFE, 0xE000, len(each)) + each for each in items]
        return self.element(tag, "SQ", b"".join(parts))

    def data_set(self, encoded: Mapping[int, bytes]) -> bytes:
        """Join elements in the order of their tags; deflates where the syntax asks for it."""
        joined = b"".join(encoded[tag] for tag in sorted(encoded))
        if not self._deflated:
            return joined
        deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        squeezed = deflater.compress(joined) + deflater.flush()
        return squeezed + b"\0" if len(squeezed) % 2 else squeezed


def is_binary(vr: str) -> bool:
    """Tell whether the VR holds binary numbers."""
    return vr in _BINARY
