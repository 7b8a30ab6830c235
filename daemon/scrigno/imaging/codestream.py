# SPDX-License-Identifier: Apache-2.0
"""What the header of a compressed frame says, before anything is decoded. Pure functions of bytes.

JPEG and JPEG-LS (ITU-T T.81 B.2.2, T.87 C.2.2), JPEG 2000 and HTJ2K (T.800 A.5.1). The sizes found
here are what a decoder would allocate, so they are checked against the object's before it runs.
"""

from dataclasses import dataclass
from typing import Final

_SOF: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_LS: Final = 0xF7
_ALONE: Final = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length
_SOI: Final = b"\xff\xd8"
_SOC: Final = b"\xff\x4f\xff\x51"
_JP2: Final = b"\0\0\0\x0cjP  \r\n\x87\n"
MAX_COMPONENTS: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Codestream:
    """Size, precision and colour of one compressed frame; `kind` is jpeg, jpeg-ls or j2k."""

    kind: str
    rows: int
    columns: int
    components: int
    bits: int
    signed: bool = False
    process: int = 0  # of JPEG: the low byte of its start-of-frame marker
    component_ids: bytes = b""
    subsampled: bool = False
    jfif: bool = False
    adobe_transform: int | None = None  # T.872: 0 none, 1 YCbCr, 2 YCCK
    colour_transform: bool = False  # of JPEG 2000: RCT or ICT is used
    reversible: bool = False  # of JPEG 2000: the 5-3 wavelet, which may be lossless


def header_of(frame: bytes | memoryview) -> Codestream | None:
    """Return what the frame says of itself, None when it is no codestream known here."""
    start = bytes(frame[:12])
    if start[:2] == _SOI:
        return _jpeg(bytes(frame[: 1 << 20]))
    if start[:4] == _SOC:
        return _jpeg_2000(bytes(frame[: 1 << 16]), 0)
    if start == _JP2:
        head = bytes(frame[: 1 << 20])
        position = head.find(_SOC)
        return _jpeg_2000(head, position) if position > 0 else None
    return None


def _jpeg(head: bytes) -> Codestream | None:
    position, jfif, adobe = 2, False, None
    while position + 4 <= len(head):
        if head[position] != 0xFF:
            return None
        marker = head[position + 1]
        if marker == 0xFF or marker in _ALONE:  # fill bytes
            position += 1 if marker == 0xFF else 2
            continue
        length = int.from_bytes(head[position + 2 : position + 4], "big")
        segment = head[position + 4 : position + 2 + length]
        if marker in _SOF or marker == _JPEG_LS:
            return _start_of_frame(marker, segment, jfif=jfif, adobe=adobe)
        if marker == 0xE0 and segment[:5] == b"JFIF\0":
            jfif = True
        elif marker == 0xEE and segment[:5] == b"Adobe" and len(segment) >= 12:
            adobe = segment[11]
        elif marker in (0xDA, 0xD9) or length < 2:
            return None
        position += 2 + length
    return None


def _start_of_frame(
    marker: int, segment: bytes, *, jfif: bool, adobe: int | None
) -> Codestream | None:
    if len(segment) < 6 or len(segment) < 6 + 3 * segment[5]:
        return None
    components = segment[5]
    parts = [segment[6 + 3 * each : 9 + 3 * each] for each in range(components)]
    return Codestream(
        kind="jpeg-ls" if marker == _JPEG_LS else "jpeg",
        rows=int.from_bytes(segment[1:3], "big"),
        columns=int.from_bytes(segment[3:5], "big"),
        components=components,
        bits=segment[0],
        process=marker & 0x0F,
        component_ids=bytes(part[0] for part in parts),
        subsampled=len({part[1] for part in parts}) > 1,
        jfif=jfif,
        adobe_transform=adobe,
    )


def _jpeg_2000(head: bytes, position: int) -> Codestream | None:
    """Read the segments of size and coding style (A.5.1, A.6.1)."""
    size = head[position + 6 : position + 42]
    if len(size) < 36:
        return None
    # Rsiz comes first and has two bytes
    words = [int.from_bytes(size[2 + 4 * at : 6 + 4 * at], "big") for at in range(8)]
    columns, rows, left, top = words[:4]
    components = int.from_bytes(size[34:36], "big")
    first = head[position + 42 : position + 45]
    style = _coding_style(head, position)
    if len(first) < 3 or not 0 < components <= MAX_COMPONENTS:
        return None
    return Codestream(
        kind="j2k",
        rows=rows - top,
        columns=columns - left,
        components=components,
        bits=(first[0] & 0x7F) + 1,
        signed=bool(first[0] & 0x80),
        subsampled=_subsampled(head, position + 42, components),
        colour_transform=style[8:9] == b"\1",
        reversible=style[13:14] == b"\1",
    )


def _subsampled(head: bytes, position: int, components: int) -> bool:
    steps = {head[position + 3 * each + 1 : position + 3 * each + 3] for each in range(components)}
    return len(steps) > 1


def _coding_style(head: bytes, position: int) -> bytes:
    """Return the COD segment from its marker on, empty without one (ITU-T T.800 A.6.1)."""
    position += 2
    while position + 4 <= len(head) and head[position] == 0xFF:
        marker = head[position + 1]
        length = int.from_bytes(head[position + 2 : position + 4], "big")
        if marker == 0x52:
            return head[position : position + 2 + length]
        if marker == 0x90:
            break
        position += 2 + length
    return b""
