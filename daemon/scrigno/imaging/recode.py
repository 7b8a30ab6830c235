# SPDX-License-Identifier: Apache-2.0
"""A data set from one uncompressed encoding to another, element by element (PS3.5 section 7).

Values are never interpreted: texts, numbers and private elements keep their bytes (only their order
changes between little and big endian), so nothing that a library would find invalid gets lost. Only
element headers change. Lengths of sequences and items become undefined, group lengths (retired,
PS3.5 section 7.2) are left out. Memory does not grow with the object. Worker process only.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import BinaryIO, Final, Protocol

import numpy as np
from pydicom.datadict import dictionary_VR, private_dictionary_VR

from .dataset import (
    DELIMITERS,
    IMPLICIT,
    ITEM,
    ITEM_END,
    LONG_VRS,
    MAX_DEPTH,
    SEQUENCE_END,
    UNDEFINED,
    Broken,
    Cut,
    Element,
    Encoding,
    element_at,
    inner,
)

PIXEL_DATA: Final = 0x7FE00010
PIXEL_REPRESENTATION: Final = 0x00280103
BITS_ALLOCATED: Final = 0x00280100
CHUNK_BYTES: Final = 4 << 20
# bytes of one number, for the change between little and big endian (PS3.5 section 7.3)
_WORD_BYTES: Final = {
    b"US": 2, b"SS": 2, b"OW": 2, b"AT": 2,
    b"UL": 4, b"SL": 4, b"FL": 4, b"OL": 4, b"OF": 4,
    b"FD": 8, b"OD": 8, b"SV": 8, b"UV": 8, b"OV": 8,
}  # fmt: skip


class Writable(Protocol):
    """Where a data set goes."""

    def write(self, content: bytes, /) -> int:
        """Take all of `content`."""


@dataclass(slots=True, kw_only=True)
class Changes:
    """What becomes of single top-level elements on the way.

    `values` replaces (or adds) elements by tag, as value representation and value in little endian;
    None leaves the element out. `pixels`, when given, writes the native pixel data in place of the
    encapsulated ones.
    """

    values: dict[int, tuple[bytes, bytes] | None] = field(default_factory=dict)
    pixels: Callable[["Recoder"], None] | None = None


class Recoder:
    """Copies one data set from `source` to `target`, changing how it is encoded."""

    def __init__(
        self,
        source: BinaryIO,
        target: Writable,
        *,
        encoding: Encoding,
        to: Encoding,
        changes: Changes | None = None,
    ) -> None:
        """`source` stands anywhere, `target` where the data set shall begin."""
        self._source = source
        self._target = target
        self._from = encoding
        self.to = to
        self._changes = changes or Changes()
        self._added = sorted(tag for tag, value in self._changes.values.items() if value)
        self._size = source.seek(0, 2)
        self._swap = encoding.little != to.little
        self._bits_allocated = 16
        self._creators: dict[tuple[int, int], str] = {}

    def copy(self, start: int) -> None:
        """Copy everything from `start` to the end; raises `Cut` and `Broken`."""
        self._elements(start, self._size, self._from, self.to, depth=0, signed=False)
        self._add(UNDEFINED)

    def header(self, tag: int, vr: bytes, length: int, to: Encoding | None = None) -> None:
        """Write an element header."""
        to = to or self.to
        group, number = tag >> 16, tag & 0xFFFF
        if not to.explicit or group == DELIMITERS:
            self._target.write(struct.pack(f"{to.order}HHI", group, number, length))
        elif vr in LONG_VRS:
            self._target.write(struct.pack(f"{to.order}HH2sHI", group, number, vr, 0, length))
        else:
            self._target.write(struct.pack(f"{to.order}HH2sH", group, number, vr, length))

    def write(self, content: bytes) -> None:
        """Write a part of a value."""
        self._target.write(content)

    def _elements(
        self, start: int, end: int, encoding: Encoding, to: Encoding, *, depth: int, signed: bool
    ) -> int:
        """Copy elements up to `end` or an item delimiter; return the position after it."""
        if depth > MAX_DEPTH:
            raise Broken(f"sequences are nested more than {MAX_DEPTH} deep")
        position = start
        while position < end:
            element = self._element(position, encoding)
            if element.tag == ITEM_END and depth:
                return element.start
            if element.tag >> 16 == DELIMITERS:
                # outside a sequence: has no meaning, and no place in what we write
                position = element.start + (0 if element.length == UNDEFINED else element.length)
                continue
            if depth == 0:
                self._add(element.tag)
            if element.tag == PIXEL_REPRESENTATION and element.length == 2:
                signed = self._read(element) not in (b"\0\0",)
            position = self._one(element, encoding, to, depth=depth, signed=signed)
        return position

    def _one(
        self, element: Element, encoding: Encoding, to: Encoding, *, depth: int, signed: bool
    ) -> int:
        """Copy one element; return the position after it."""
        tag, length = element.tag, element.length
        if depth == 0 and tag in self._changes.values:
            return self._after(element)
        if tag == PIXEL_DATA and length == UNDEFINED:
            if depth or self._changes.pixels is None:
                raise Broken("compressed pixel data stand where native ones should")
            self._changes.pixels(self)
            return self._after_fragments(element)
        if tag & 0xFFFF == 0 and tag >> 16 > 6:
            return self._after(element)
        self._note(element)
        vr = self._vr(element, encoding, signed=signed)
        if vr == b"SQ" or length == UNDEFINED:
            return self._sequence(element, vr, encoding, to, depth=depth, signed=signed)
        if vr not in LONG_VRS and length > 0xFFFE:
            vr = b"UN"  # PS3.5 section 6.2.2: too long for the 16 bit length of its own
        self.header(tag, vr, length, to)
        self._value(element, 1 if not self._swap or to is encoding else _WORD_BYTES.get(vr, 1))
        return element.start + length

    def _sequence(
        self,
        element: Element,
        vr: bytes,
        encoding: Encoding,
        to: Encoding,
        *,
        depth: int,
        signed: bool,
    ) -> int:
        """Copy a sequence with its items; a UN of undefined length stays implicit inside."""
        source_inside = inner(element, encoding)
        inside = IMPLICIT if element.vr == b"UN" or not to.explicit else to
        self.header(element.tag, b"UN" if element.vr == b"UN" else b"SQ", UNDEFINED, to)
        position = element.start
        end = self._size if element.length == UNDEFINED else self._after(element)
        while position < end:
            item = self._element(position, source_inside)
            position = item.start
            if item.tag == SEQUENCE_END:
                break
            if item.tag != ITEM:
                raise Broken("something else than an item stands in a sequence")
            self.header(ITEM, b"", UNDEFINED, inside)
            item_end = end if item.length == UNDEFINED else self._after(item)
            position = self._elements(
                position, item_end, source_inside, inside, depth=depth + 1, signed=signed
            )
            self.header(ITEM_END, b"", 0, inside)
        self.header(SEQUENCE_END, b"", 0, inside)
        return position if element.length == UNDEFINED else end

    def _vr(self, element: Element, encoding: Encoding, *, signed: bool) -> bytes:
        """Return the value representation as written, else the dictionary's (PS3.6)."""
        tag = element.tag
        if tag == PIXEL_DATA and self._bits_allocated > 8:
            return b"OW"  # PS3.5 annex A.2, also where a writer put OB
        if element.vr and encoding.explicit:
            return element.vr
        if tag == PIXEL_DATA:
            return b"OB"
        try:
            vr = self._private_vr(tag) if tag >> 16 & 1 else dictionary_VR(tag)
        except KeyError:
            return b"SQ" if element.length == UNDEFINED else b"UN"
        if " or " not in vr:
            return vr.encode()
        if "OW" in vr:
            return b"OW"
        return b"SS" if signed else b"US"

    def _private_vr(self, tag: int) -> str:
        group, number = tag >> 16, tag & 0xFFFF
        if 0x10 <= number <= 0xFF:
            return "LO"  # Private Creator, PS3.5 section 7.8.1
        creator = self._creators.get((group, number >> 8))
        if creator is None:
            raise KeyError(tag)
        return private_dictionary_VR(tag, creator)

    def _note(self, element: Element) -> None:
        """Remember what later elements depend on."""
        group, number = element.tag >> 16, element.tag & 0xFFFF
        if element.tag == BITS_ALLOCATED and element.length == 2:
            (self._bits_allocated,) = struct.unpack(f"{self._from.order}H", self._read(element))
        elif group & 1 and 0x10 <= number <= 0xFF and element.length <= 64:
            self._creators[group, number] = self._read(element).decode("latin_1").strip("\0 ")

    def _add(self, before: int) -> None:
        """Write the replaced and added elements whose place is before the tag `before`."""
        while self._added and self._added[0] <= before:
            tag = self._added.pop(0)
            change = self._changes.values[tag]
            if change is not None:
                vr, value = change
                self.header(tag, vr, len(value))
                if not self.to.little:
                    value = swapped(value, _WORD_BYTES.get(vr, 1))
                self._target.write(value)

    def _element(self, position: int, encoding: Encoding) -> Element:
        self._source.seek(position)
        header = self._source.read(12)
        try:
            element = element_at(header, 0, encoding)
        except Cut:
            raise Cut(position + 12) from None
        return element._replace(start=position + element.start)

    def _after(self, element: Element) -> int:
        if element.length == UNDEFINED:
            raise Broken("an element has no length")
        end = element.start + element.length
        if end > self._size:
            raise Cut(end)
        return end

    def _after_fragments(self, element: Element) -> int:
        """Return the position after encapsulated pixel data; their missing end is forgiven."""
        position = element.start
        while position + 8 <= self._size:
            item = self._element(position, self._from)
            if item.tag != ITEM or item.length == UNDEFINED:
                return item.start if item.tag == SEQUENCE_END else self._size
            position = item.start + item.length
        return self._size

    def _read(self, element: Element) -> bytes:
        self._source.seek(element.start)
        return self._source.read(element.length)

    def _value(self, element: Element, word_bytes: int) -> None:
        self._after(element)
        self._source.seek(element.start)
        left = element.length
        while left:
            chunk = self._source.read(min(left, CHUNK_BYTES))
            if not chunk:
                raise Cut(element.start + element.length)
            left -= len(chunk)
            self._target.write(swapped(chunk, word_bytes))


def swapped(content: bytes, word_bytes: int) -> bytes:
    """Return the bytes with each number turned round; a rest that is no number stays."""
    if word_bytes == 1:
        return content
    whole = len(content) - len(content) % word_bytes
    words = np.frombuffer(content[:whole], f"u{word_bytes}")
    return words.byteswap().tobytes() + content[whole:]
