# SPDX-License-Identifier: Apache-2.0
"""One frame alone, in its stored transfer syntax or in another one. Worker process only."""

from typing import Any, Final

import imagecodecs
import numpy as np

from .cells import Pixels
from .dataset import DEFLATED_LE, EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE
from .decode import Frame, PixelSource
from .errors import DecodeFailed, UnsupportedSyntax

_NATIVE: Final = frozenset({IMPLICIT_LE, EXPLICIT_LE, EXPLICIT_BE, DEFLATED_LE})
JPEG_BASELINE: Final = "1.2.840.10008.1.2.4.50"
JPEG_LS: Final = "1.2.840.10008.1.2.4.80"
JPEG_2000: Final = "1.2.840.10008.1.2.4.90"
HTJ2K: Final = "1.2.840.10008.1.2.4.201"
HTJ2K_RPCL: Final = "1.2.840.10008.1.2.4.202"
JPEG_QUALITY: Final = 90
# PS3.18 table 8.7.3-4, and what our own viewer's loader goes by
_TYPES: Final = {
    EXPLICIT_LE: "application/octet-stream",
    "1.2.840.10008.1.2.5": "image/dicom-rle",
    "1.2.840.10008.1.2.8.1": "application/x-deflate",
    **dict.fromkeys((f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 53, 55, 57, 70)),
                    "image/jpeg"),
    **dict.fromkeys((f"1.2.840.10008.1.2.4.{number}" for number in (80, 81)), "image/jls"),
    **dict.fromkeys((f"1.2.840.10008.1.2.4.{number}" for number in (90, 91)), "image/jp2"),
    **dict.fromkeys((f"1.2.840.10008.1.2.4.{number}" for number in (92, 93)), "image/jpx"),
    **dict.fromkeys((f"1.2.840.10008.1.2.4.{number}" for number in (201, 202, 203)), "image/jphc"),
    **dict.fromkeys((f"1.2.840.10008.1.2.4.{number}" for number in (110, 111, 112)), "image/jxl"),
    "1.2.840.10008.1.2.4.100": "video/mpeg2",
    "1.2.840.10008.1.2.4.101": "video/mpeg2",
    **dict.fromkeys((f"1.2.840.10008.1.2.4.{number}" for number in range(102, 107)), "video/mp4"),
    **dict.fromkeys((f"1.2.840.10008.1.2.4.{number}" for number in (107, 108)), "video/H265"),
}  # fmt: skip


def frame_in(source: PixelSource, index: int, to: str | None) -> tuple[bytes, str]:
    """Return the bytes of a frame and their transfer syntax.

    Raises NoSuchFrame, UnsupportedSyntax, DecodeFailed.
    """
    stored = str(source.transfer_syntax)
    if to is None or to == stored or (to in _NATIVE and not source.encapsulated):
        return _as_stored(source, index)
    if to in _NATIVE:
        return native_bytes(source.frame(index), source), EXPLICIT_LE
    encoder = _ENCODERS.get(to)
    if encoder is None:
        raise UnsupportedSyntax(f"Frames are not compressed to the transfer syntax {to}.")
    return encoder(source.frame(index).array, source), to


def content_type_of(transfer_syntax: str) -> str:
    """Return the media type of a frame in this syntax."""
    return _TYPES.get(transfer_syntax, "application/octet-stream")


def _as_stored(source: PixelSource, index: int) -> tuple[bytes, str]:
    """Return a frame untouched: fragments put together, native ones in little endian."""
    source.check_frame(index)
    if source.encapsulated:
        return source.encoded(index), str(source.transfer_syntax)
    if source.cells.little and source.cells.bits % 8 == 0:
        content = source.native_bytes(index)
        if len(content) * 8 < source.cells.bits:
            raise DecodeFailed("The object holds fewer pixels than it says.")
        return content, EXPLICIT_LE
    return native_bytes(source.frame(index, raw=True), source), EXPLICIT_LE


def native_bytes(frame: Frame, source: PixelSource) -> bytes:
    """Return a decoded frame as native pixel data in little endian, colour by pixel."""
    array, allocated = frame.array, source.cells.allocated
    if allocated == 1:
        return np.packbits(array.reshape(-1).astype(np.uint8), bitorder="little").tobytes()
    if array.dtype.kind == "f":
        return array.astype(array.dtype.newbyteorder("<")).tobytes()
    width = max(8, allocated, array.dtype.itemsize * 8 if allocated % 8 else 0) // 8
    kind = "i" if array.dtype.kind == "i" else "u"
    return array.astype(np.dtype(f"<{kind}{width}"), casting="unsafe").tobytes()


def _sixteen_bits(array: Pixels) -> Pixels:
    """Return samples that every decoder of HTJ2K in a browser takes: 8 or 16 bit, or a refusal."""
    if array.dtype.kind == "f":
        raise UnsupportedSyntax("Floating point pixels are not compressed.")
    if array.dtype.itemsize <= 2:
        return array
    low, high = int(array.min()), int(array.max())
    if low >= 0 and high <= 0xFFFF:
        return array.astype(np.uint16)
    if low >= -0x8000 and high <= 0x7FFF:
        return array.astype(np.int16)
    raise UnsupportedSyntax("Pixels of more than 16 bits are not compressed.")


def _htj2k(array: Pixels, _: PixelSource) -> bytes:
    # RPCL with TLM is what openjph writes when asked so; a browser shows it while it loads
    whole = np.ascontiguousarray(_sixteen_bits(array))
    return bytes(imagecodecs.htj2k_encode(whole, reversible=True, tlm=True))


def _jpeg_2000(array: Pixels, _: PixelSource) -> bytes:
    whole = np.ascontiguousarray(_sixteen_bits(array))
    return bytes(imagecodecs.jpeg2k_encode(whole, reversible=True, codecformat="j2k"))


def _jpeg_ls(array: Pixels, _: PixelSource) -> bytes:
    whole = np.ascontiguousarray(_sixteen_bits(array))
    if whole.dtype.kind == "i":  # JPEG-LS has no sign: two's complement in the bits allocated
        whole = whole.view(f"u{whole.dtype.itemsize}")
    return bytes(imagecodecs.jpegls_encode(whole))


def _jpeg(array: Pixels, _: PixelSource) -> bytes:
    if array.dtype != np.uint8:
        raise UnsupportedSyntax("JPEG Baseline takes 8 bit pixels only.")
    return bytes(imagecodecs.jpeg8_encode(np.ascontiguousarray(array), level=JPEG_QUALITY))


_ENCODERS: Final[dict[str, Any]] = {
    HTJ2K: _htj2k,
    HTJ2K_RPCL: _htj2k,
    JPEG_2000: _jpeg_2000,
    JPEG_LS: _jpeg_ls,
    JPEG_BASELINE: _jpeg,
}


def warm_up(syntax: str) -> None:
    """Compress and decompress a tiny frame, so that the codec is loaded."""
    content = _ENCODERS[syntax](np.zeros((16, 16), np.uint8), None)
    match syntax:
        case "1.2.840.10008.1.2.4.50":
            imagecodecs.jpeg8_decode(content)
        case "1.2.840.10008.1.2.4.80":
            imagecodecs.jpegls_decode(content)
        case "1.2.840.10008.1.2.4.90":
            imagecodecs.jpeg2k_decode(content)
        case _:
            imagecodecs.htj2k_decode(content)
