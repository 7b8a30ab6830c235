# SPDX-License-Identifier: Apache-2.0
"""The element structure of an encoded data set (PS3.5 section 7), walked without recursion.

Nothing here knows what an attribute means. Every length is checked against the bytes that are
there, nesting is limited to `MAX_DEPTH` and the number of elements to a cap, so the time is linear
in the bytes given whatever they hold.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

IMPLICIT_LE: Final = "1.2.840.10008.1.2"
EXPLICIT_LE: Final = "1.2.840.10008.1.2.1"
DEFLATED_LE: Final = "1.2.840.10008.1.2.1.99"
EXPLICIT_BE: Final = "1.2.840.10008.1.2.2"

MAX_DEPTH: Final = 32
MAX_ELEMENTS: Final = 50_000  # about 25 ms of scanning at the very worst
UNDEFINED: Final = 0xFFFFFFFF

DELIMITERS: Final = 0xFFFE  # the group of items and delimiters
ITEM: Final = 0xFFFEE000
ITEM_END: Final = 0xFFFEE00D
SEQUENCE_END: Final = 0xFFFEE0DD

# PS3.5 section 7.1.2: value representations with a 16 bit length and with a 32 bit one
SHORT_VRS: Final = frozenset(
    vr.encode()
    for vr in "AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split()  # noqa: SIM905 - reads as the table does
)
LONG_VRS: Final = frozenset(
    vr.encode()
    for vr in "OB OD OF OL OV OW SQ SV UC UN UR UT UV".split()  # noqa: SIM905 - reads as the table does
)


class Cut(Exception):
    """A value reaches past the end of the bytes given; `needed` bytes would hold it."""

    def __init__(self, needed: int) -> None:
        super().__init__()
        self.needed = needed


class Broken(Exception):
    """The element structure cannot be followed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """How elements are laid out: value representations written or not, and the byte order."""

    explicit: bool
    little: bool

    @property
    def order(self) -> str:
        """Return the byte order as `struct` writes it."""
        return "<" if self.little else ">"


IMPLICIT: Final = Encoding(explicit=False, little=True)
EXPLICIT: Final = Encoding(explicit=True, little=True)
BIG: Final = Encoding(explicit=True, little=False)


def encoding_of(transfer_syntax_uid: str) -> Encoding:
    """Return the layout of the data set proper: explicit little endian for all but two syntaxes."""
    if transfer_syntax_uid == IMPLICIT_LE:
        return IMPLICIT
    return BIG if transfer_syntax_uid == EXPLICIT_BE else EXPLICIT


class Element(NamedTuple):
    """One element's header: `tag` as 0xGGGGEEEE, `vr` empty when not written, value position."""

    tag: int
    vr: bytes
    start: int
    length: int  # UNDEFINED for a sequence, an item or fragments closed by a delimiter


_GROUP_ELEMENT_LENGTH: Final = {"<": struct.Struct("<HHI"), ">": struct.Struct(">HHI")}
_EXPLICIT_SHORT: Final = {"<": struct.Struct("<HH2sH"), ">": struct.Struct(">HH2sH")}
_LENGTH: Final = {"<": struct.Struct("<I"), ">": struct.Struct(">I")}


def element_at(data: bytes, position: int, encoding: Encoding) -> Element:
    """Return the element header at `position`; raise `Cut` when it is not all there.

    In an explicit data set an element whose value representation is not two capital letters is
    read as an implicit one: writers exist that mix both, and pydicom and DCMTK read them so.
    """
    if position + 8 > len(data):
        raise Cut(position + 8)
    order = encoding.order
    group, number, length = _GROUP_ELEMENT_LENGTH[order].unpack_from(data, position)
    tag = group << 16 | number
    if not encoding.explicit or group == DELIMITERS:
        return Element(tag, b"", position + 8, length)
    vr = data[position + 4 : position + 6]
    if vr in SHORT_VRS:
        return Element(tag, vr, position + 8, _EXPLICIT_SHORT[order].unpack_from(data, position)[3])
    if vr not in LONG_VRS:
        if not (vr.isalpha() and vr.isupper()):
            return Element(tag, b"", position + 8, length)
        # PS3.5 section 6.2: representations that are new to us have the long form, whose two
        # reserved bytes are zero
        if data[position + 6 : position + 8] != b"\0\0":
            length = _EXPLICIT_SHORT[order].unpack_from(data, position)[3]
            return Element(tag, vr, position + 8, length)
    if position + 12 > len(data):
        raise Cut(position + 12)
    return Element(tag, vr, position + 12, _LENGTH[order].unpack_from(data, position + 8)[0])


class Budget:
    """How many elements may still be looked at."""

    __slots__ = ("left",)

    def __init__(self, elements: int = MAX_ELEMENTS) -> None:
        self.left = elements

    def take(self) -> None:
        """Count one element; raise `Broken` when the cap is reached."""
        self.left -= 1
        if self.left < 0:
            raise Broken("it has too many elements")


def skip_undefined(
    data: bytes,
    position: int,
    encoding: Encoding,
    budget: Budget,
    *,
    depth: int = 1,
    item: bool = False,
) -> int:
    """Return the position after a sequence (or an item) of undefined length that begins here.

    Works for encapsulated fragments too. `depth` is how deep the sequence itself is nested.
    """
    # what is open: True for a sequence (holds items), False for an item (holds elements)
    stack = [not item]
    while stack:
        budget.take()
        element = element_at(data, position, encoding)
        tag, length = element.tag, element.length
        position = element.start
        if stack[-1]:
            if tag == SEQUENCE_END:
                stack.pop()
                continue
            if tag != ITEM:
                raise Broken("something else than an item stands in a sequence")
            if length == UNDEFINED:
                stack.append(False)
                continue
        elif tag == ITEM_END:
            stack.pop()
            continue
        elif tag in (SEQUENCE_END, ITEM):
            raise Broken("a delimiter stands where an element should")
        elif length == UNDEFINED:
            if depth + len(stack) // 2 > MAX_DEPTH:
                raise Broken(f"sequences are nested more than {MAX_DEPTH} deep")
            stack.append(True)
            continue
        position += length
        if position > len(data):
            raise Cut(position)
    return position


def items_of(
    data: bytes, element: Element, encoding: Encoding, budget: Budget
) -> Iterator[tuple[int, int]]:
    """Yield start and end of each item's elements; after the last one nothing is checked.

    Of a sequence that is cut short everything that is there is given before `Cut` is raised.
    """
    position = element.start
    end = len(data) if element.length == UNDEFINED else position + element.length
    while position < min(end, len(data)):
        budget.take()
        item = element_at(data, position, encoding)
        if item.tag == SEQUENCE_END:
            return
        if item.tag != ITEM:
            raise Broken("something else than an item stands in a sequence")
        start = item.start
        if item.length == UNDEFINED:
            position = skip_undefined(data, start, encoding, budget, depth=2, item=True)
            yield start, position - 8
        else:
            position = start + item.length  # past the sequence's end alone is forgiven
            yield start, min(position, len(data))
    if max(position, end) > len(data):
        raise Cut(max(position, end))


def after(data: bytes, element: Element, encoding: Encoding, budget: Budget, *, depth: int) -> int:
    """Return the position after `element`, walking through it when its length is undefined."""
    if element.length == UNDEFINED:
        item = element.tag == ITEM  # one that stands outside a sequence
        inside = inner(element, encoding)
        return skip_undefined(data, element.start, inside, budget, depth=depth, item=item)
    end = element.start + element.length
    if end > len(data):
        raise Cut(end)
    return end


def inner(element: Element, encoding: Encoding) -> Encoding:
    """Return the encoding inside `element`.

    A UN of undefined length holds items in implicit little endian (PS3.5 section 6.2.2 note 4).
    """
    return IMPLICIT if element.vr == b"UN" else encoding


def elements(
    data: bytes, start: int, end: int, encoding: Encoding, budget: Budget, *, depth: int = 1
) -> Iterator[Element]:
    """Yield the elements between `start` and `end` in order, sequences not entered."""
    position = start
    while position < end:
        budget.take()
        element = element_at(data, position, encoding)
        yield element
        position = after(data, element, encoding, budget, depth=depth)


def looks_like(data: bytes) -> Encoding | None:
    """Guess from its first element how a data set is encoded; None when nothing fits.

    A data set begins with a group of 0x0002 to 0x00FF in practice, nearly always 0x0008, and the
    length of its first value is small.
    """
    if len(data) < 8:
        return None
    vr = data[4:6]
    known = vr in SHORT_VRS or vr in LONG_VRS
    little, big = int.from_bytes(data[:2], "little"), int.from_bytes(data[:2], "big")
    if little <= 0xFF:
        if known:
            return EXPLICIT
        length = int.from_bytes(data[4:8], "little")
        return IMPLICIT if length < 0x10000 or length == UNDEFINED else None
    return BIG if big <= 0xFF and known else None
