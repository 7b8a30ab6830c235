# SPDX-License-Identifier: Apache-2.0
"""RLE frames of one bit per pixel, which pydicom's decoders do not take (PS3.5 annex G)."""

from .errors import DecodeFailed


def decode_bytes(frame: bytes, limit_bytes: int) -> bytes:
    """Return the only segment of an RLE frame decoded, at most `limit_bytes`; raises DecodeFailed.

    Such a frame is the packed bits of the native one, as bytes.
    """
    if len(frame) < 64 or int.from_bytes(frame[:4], "little") != 1:
        raise DecodeFailed("An RLE frame of one bit per pixel must have one segment.")
    position = int.from_bytes(frame[4:8], "little")
    out = bytearray()
    while position < len(frame) and len(out) < limit_bytes:
        control = frame[position]
        if control < 128:  # PS3.5 annex G.3.1: this many bytes and one more follow as they are
            out += frame[position + 1 : position + 2 + control]
            position += control + 2
        elif control > 128:
            out += frame[position + 1 : position + 2] * (257 - control)
            position += 2
        else:
            position += 1
    return bytes(out)
