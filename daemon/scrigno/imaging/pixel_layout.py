# SPDX-License-Identifier: Apache-2.0
"""Where the pixel data of an object begin and where each frame stands, from its first bytes.

Main process: a walk over element headers that decodes nothing. With it one frame of a large object
is read without the rest of it.
"""

import struct
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from .dataset import (
    DEFLATED_LE,
    UNDEFINED,
    Broken,
    Budget,
    Cut,
    Element,
    Encoding,
    element_at,
    elements,
    encoding_of,
)
from .errors import NotDicom
from .part10 import split

MAX_HEADER_ELEMENTS: Final = 20_000  # about 10 ms at the very worst
MAX_FRAMES: Final = 1_000_000
_PIXELS: Final = {0x7FE00008: 32, 0x7FE00009: 64, 0x7FE00010: 0}
_ROWS, _COLUMNS, _SAMPLES, _ALLOCATED = 0x00280010, 0x00280011, 0x00280002, 0x00280100
_FRAMES: Final = 0x00280008
_EXTENDED, _EXTENDED_LENGTHS = 0x7FE00001, 0x7FE00002
_NUMBERS: Final = frozenset({_ROWS, _COLUMNS, _SAMPLES, _ALLOCATED})
_ITEM: Final = 0xFFFEE000


class NoLayout(Exception):
    """The pixel data, or a frame of them, cannot be found this way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """`spans` holds start and end of each encapsulated frame, its item headers included."""

    transfer_syntax_uid: str
    pixels_at: int  # where the element begins: the header of the object ends here
    value_at: int
    little: bool
    bits_allocated: int
    frames: int
    frame_bytes: int  # of a native frame; 0 when encapsulated or of single bits
    spans: tuple[tuple[int, int], ...] = ()

    @property
    def encapsulated(self) -> bool:
        """Tell whether frames are codestreams."""
        return bool(self.spans)

    def span(self, frame: int) -> tuple[int, int]:
        """Return start and end of a frame in the file; raises NoLayout when it has none of it."""
        if not 0 <= frame < self.frames:
            raise NoLayout
        if self.spans:
            return self.spans[frame]
        if not self.frame_bytes:
            raise NoLayout
        start = self.value_at + frame * self.frame_bytes
        return start, start + self.frame_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What stands before the pixel data; `offsets` are those of the extended table, if any."""

    transfer_syntax_uid: str
    data_offset: int
    pixels: Element
    pixels_at: int
    numbers: dict[int, int]
    offsets: tuple[int, ...]
    lengths: tuple[int, ...]

    @property
    def encapsulated(self) -> bool:
        """Tell whether the pixel data are fragments."""
        return self.pixels.length == UNDEFINED

    @property
    def frames(self) -> int:
        """Return the number of frames, at least 1."""
        return min(max(1, self.numbers.get(_FRAMES, 1)), MAX_FRAMES)


def header_of(head: bytes) -> Header:
    """Walk the beginning of a Part 10 file up to its pixel data.

    Raises Cut with the bytes that are needed, NoLayout when there are no pixel data to be found.
    """
    try:
        file = split(head)
    except NotDicom:
        raise NoLayout from None
    if file.transfer_syntax_uid == DEFLATED_LE:
        raise NoLayout
    encoding = encoding_of(file.transfer_syntax_uid)
    numbers: dict[int, int] = {}
    tables: dict[int, tuple[int, ...]] = {}
    position = file.data_offset
    budget = Budget(MAX_HEADER_ELEMENTS)
    try:
        for element in elements(head, file.data_offset, 1 << 62, encoding, budget):
            tag = element.tag
            if tag in _PIXELS:
                return Header(
                    transfer_syntax_uid=file.transfer_syntax_uid,
                    data_offset=file.data_offset,
                    pixels=element,
                    pixels_at=_begin(element, encoding),
                    numbers=numbers,
                    offsets=tables.get(_EXTENDED, ()),
                    lengths=tables.get(_EXTENDED_LENGTHS, ()),
                )
            if tag > 0x7FE00010:
                raise NoLayout
            end = element.start + element.length
            if tag in _NUMBERS and element.length >= 2 and end <= len(head):
                numbers[tag] = int.from_bytes(
                    head[element.start : element.start + 2], "little" if encoding.little else "big"
                )
            elif tag == _FRAMES and element.length <= 16:
                text = head[element.start : end].strip(b"\0 ")
                numbers[tag] = int(text) if text.isdigit() else 1
            elif tag in (_EXTENDED, _EXTENDED_LENGTHS) and end <= len(head):
                content = head[element.start : element.start + element.length // 8 * 8]
                tables[tag] = struct.unpack(f"<{len(content) // 8}Q", content)
            position = end
    except Broken:
        raise NoLayout from None
    del position
    raise NoLayout


def _begin(element: Element, encoding: Encoding) -> int:
    long_form = encoding.explicit and element.vr in (b"OB", b"OW", b"OF", b"OD", b"UN")
    return element.start - (12 if long_form else 8)


def layout_of(head: bytes, size: int) -> Layout:
    """Return where the frames stand as far as the first bytes tell.

    `size` is that of the file. Raises Cut with the bytes that are needed, NoLayout when only a
    walk over all fragments would tell.
    """
    header = header_of(head)
    if header.encapsulated:
        return _encapsulated(head, header, size)
    allocated = _PIXELS[header.pixels.tag] or header.numbers.get(_ALLOCATED, 0)
    samples = header.numbers.get(_SAMPLES, 1) or 1
    pixels = header.numbers.get(_ROWS, 0) * header.numbers.get(_COLUMNS, 0) * samples
    if not pixels or not allocated:
        raise NoLayout
    whole = allocated % 8 == 0
    layout = _layout(header, frame_bytes=pixels * allocated // 8 if whole else 0)
    needed = header.frames * pixels * allocated // 8
    if header.pixels.length < needed or header.pixels.start + needed > size:
        raise NoLayout  # fewer pixels than it says, or YBR_FULL_422, which has its own size
    return layout


def _layout(
    header: Header, *, frame_bytes: int = 0, spans: tuple[tuple[int, int], ...] = ()
) -> Layout:
    return Layout(
        transfer_syntax_uid=header.transfer_syntax_uid,
        pixels_at=header.pixels_at,
        value_at=header.pixels.start,
        little=encoding_of(header.transfer_syntax_uid).little,
        bits_allocated=_PIXELS[header.pixels.tag] or header.numbers.get(_ALLOCATED, 0),
        frames=header.frames,
        frame_bytes=frame_bytes,
        spans=spans,
    )


def _encapsulated(head: bytes, header: Header, size: int) -> Layout:
    """Find frames by the offset tables; whoever reads a frame checks that items stand there."""
    encoding = encoding_of(header.transfer_syntax_uid)
    table = element_at(head, header.pixels.start, encoding)
    if table.tag != _ITEM or table.length == UNDEFINED:
        raise NoLayout
    first = table.start + table.length
    if header.frames == 1:
        return _layout(header, spans=((first, size),))
    offsets, lengths = header.offsets, header.lengths
    if len(offsets) == len(lengths) == header.frames:
        spans = tuple(
            (first + at, first + at + 8 + length + length % 2)
            for at, length in zip(offsets, lengths, strict=True)
        )
    else:
        if table.length != 4 * header.frames:
            raise NoLayout
        if first > len(head):
            raise Cut(first)
        basic = struct.unpack(f"<{header.frames}I", head[table.start : first])
        ends = [*(first + each for each in basic[1:]), size]
        spans = tuple((first + at, end) for at, end in zip(basic, ends, strict=True))
    if spans[0][0] != first or not all(a < b <= size for a, b in spans):
        raise NoLayout
    if any(one[1] > two[0] for one, two in pairwise(spans)):
        raise NoLayout
    return _layout(header, spans=spans)


def codestream(content: bytes) -> bytes:
    """Return the codestream of a frame from the bytes of its span; raises NoLayout.

    What follows the fragments (the delimiter of the sequence and what is behind it) is left out.
    """
    parts = []
    position = 0
    while position + 8 <= len(content):
        tag, length = struct.unpack_from("<4sI", content, position)
        if tag != b"\xfe\xff\x00\xe0":
            break
        start = position + 8
        if length == UNDEFINED or start + length > len(content):
            raise NoLayout
        parts.append((start, start + length))
        position = start + length
    if not parts:
        raise NoLayout
    return b"".join([content[start:end] for start, end in parts])
