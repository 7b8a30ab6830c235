# SPDX-License-Identifier: Apache-2.0
"""RLE frames to native ones (PS3.5 annex G). Worker process only."""

import struct
from typing import Final

from rle.rle import decode_frame

from .cells import Cells
from .errors import DecodeFailed

HEADER_BYTES: Final = 64
MAX_SEGMENTS: Final = 15


def decode(frame: bytes, cells: Cells) -> bytes:
    """Return the native frame, planes one after the other, little endian; raises DecodeFailed.

    A run makes 128 bytes of two: the decoder stops at the length that the object says.
    """
    if len(frame) < HEADER_BYTES:
        raise DecodeFailed("An RLE frame is shorter than its header.")
    count = struct.unpack_from("<I", frame)[0]
    width = max(1, cells.allocated // 8)
    expected = cells.samples * width
    if count != expected or count > MAX_SEGMENTS:
        raise DecodeFailed(f"An RLE frame of {expected} planes has {count} segments.")
    # fewer than eight bits: the packed bytes of the native frame are what was compressed
    plane = cells.pixels if cells.allocated >= 8 else -(-cells.pixels * cells.allocated // 8)
    try:
        content = bytes(decode_frame(frame, plane, 8 * width, "<"))
    except ValueError as error:
        raise DecodeFailed(f"An RLE frame cannot be decoded: {error}") from None
    if len(content) != plane * width * cells.samples:
        raise DecodeFailed("An RLE frame holds fewer pixels than the object says.")
    return content
