# SPDX-License-Identifier: Apache-2.0
"""Where each frame of encapsulated pixel data stands (PS3.5 annex A.4). No pydicom.

Offset tables are believed only where they fit the fragments: empty, wrong and missing ones are
common in the field. The order: as many fragments as frames, one frame, the extended offset table,
the basic one, and at last the end markers of the codestreams.
"""

import struct
from array import array
from dataclasses import dataclass
from typing import BinaryIO, Final

from .errors import DecodeFailed

MAX_FRAGMENTS: Final = 4 << 20
_ITEM: Final = b"\xfe\xff\x00\xe0"
_HEADER: Final = struct.Struct("<4sI")
_UNDEFINED: Final = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Span:
    """One fragment: where its value stands in the file, and its length."""

    start: int
    length: int


class FrameTable:
    """The fragments of every frame."""

    def __init__(self, starts: "array[int]", lengths: "array[int]", firsts: "array[int]") -> None:
        """`firsts` holds the number of each frame's first fragment."""
        self._starts, self._lengths, self._firsts = starts, lengths, firsts

    def __len__(self) -> int:
        return len(self._firsts)

    def spans(self, frame: int) -> list[Span]:
        """Return the fragments of a frame in order."""
        last = self._firsts[frame + 1] if frame + 1 < len(self) else len(self._starts)
        return [
            Span(self._starts[each], self._lengths[each])
            for each in range(self._firsts[frame], last)
        ]

    def read(self, stream: BinaryIO, frame: int) -> bytes:
        """Return the codestream of a frame, its fragments put together."""
        parts = []
        for span in self.spans(frame):
            stream.seek(span.start)
            parts.append(stream.read(span.length))
        return parts[0] if len(parts) == 1 else b"".join(parts)


def frame_table(
    stream: BinaryIO, start: int, frames: int, extended: tuple[bytes, bytes] | None = None
) -> FrameTable:
    """Walk the items that begin at `start` (with the basic offset table); raises DecodeFailed.

    A missing end of the sequence is forgiven, a fragment cut short is too: its decoder may cope.
    """
    offsets, starts, lengths = _walk(stream, start)
    if not starts:
        raise DecodeFailed("The pixel data hold no fragment.")
    if frames == 1:
        return FrameTable(starts, lengths, array("q", [0]))
    if len(starts) == frames:
        return FrameTable(starts, lengths, array("q", range(frames)))
    if len(starts) < frames:
        raise DecodeFailed(f"The object says {frames} frames and holds {len(starts)} fragments.")
    for table in (_extended(extended), offsets):
        firsts = _by_offsets(table, starts, frames)
        if firsts is not None:
            return FrameTable(starts, lengths, firsts)
    firsts = _by_end_markers(stream, starts, lengths, frames)
    if firsts is None:
        raise DecodeFailed("The frames cannot be told apart: no offset table fits the fragments.")
    return FrameTable(starts, lengths, firsts)


def _walk(stream: BinaryIO, start: int) -> tuple["array[int]", "array[int]", "array[int]"]:
    """Return the basic offset table, and start and length of every fragment."""
    starts, lengths, offsets = array("q"), array("q"), array("q")
    size = stream.seek(0, 2)
    position, first = start, True
    while position + 8 <= size:
        stream.seek(position)
        tag, length = _HEADER.unpack(stream.read(8))
        if tag != _ITEM or length == _UNDEFINED:
            break
        position += 8
        if first:
            content = stream.read(min(length, 4 * MAX_FRAGMENTS))
            content = content[: len(content) // 4 * 4]
            offsets.extend(struct.unpack(f"<{len(content) // 4}I", content))
            first = False
        else:
            starts.append(position)
            lengths.append(min(length, size - position))
            if len(starts) > MAX_FRAGMENTS:
                raise DecodeFailed("The pixel data are in more fragments than a worker follows.")
        position += length
    return offsets, starts, lengths


def _extended(tables: tuple[bytes, bytes] | None) -> "array[int]":
    found = array("q")
    if tables is not None:
        content = tables[0][: len(tables[0]) // 8 * 8]
        found.extend(
            each if each < 1 << 62 else -1
            for each in struct.unpack(f"<{len(content) // 8}Q", content)
        )
    return found


def _by_offsets(offsets: "array[int]", starts: "array[int]", frames: int) -> "array[int] | None":
    """Return the first fragment of each frame, None when the table does not fit."""
    if len(offsets) != frames or offsets[0] != 0:
        return None
    # offsets count from the first byte of the first fragment's item tag (PS3.5 A.4)
    number_at = {position - starts[0]: number for number, position in enumerate(starts)}
    firsts = array("q")
    for offset in offsets:
        number = number_at.get(offset)
        if number is None or (firsts and number <= firsts[-1]):
            return None
        firsts.append(number)
    return firsts


def _by_end_markers(
    stream: BinaryIO, starts: "array[int]", lengths: "array[int]", frames: int
) -> "array[int] | None":
    """Let a frame end with the fragment that ends with EOI or EOC (FF D9), padding aside."""
    firsts = array("q", [0])
    for number, (position, length) in enumerate(zip(starts, lengths, strict=True)):
        tail = min(length, 16)
        stream.seek(position + length - tail)
        ended = stream.read(tail).rstrip(b"\0").endswith(b"\xff\xd9")
        if ended and number + 1 < len(starts):
            firsts.append(number + 1)
    return firsts if len(firsts) == frames else None
