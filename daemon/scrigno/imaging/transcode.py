# SPDX-License-Identifier: Apache-2.0
"""An object in a transfer syntax that its receiver takes (PS3.5 annex A, PS3.3 C.7.6.3).

Between uncompressed syntaxes no value changes. Decompressing changes what PS3.3 and PS3.5 ask for:
Photometric Interpretation and Planar Configuration say what the native pixels are, offset tables
go, Lossy Image Compression stays (and is set where a lossy syntax forgot it). UIDs never change.
Worker process only.
"""

import zlib
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, BinaryIO, Final

import numpy as np

from .dataset import (
    DEFLATED_LE,
    EXPLICIT_BE,
    EXPLICIT_LE,
    IMPLICIT_LE,
    Broken,
    Cut,
    encoding_of,
)
from .decode import Frame, PixelSource, open_object
from .errors import DecodeFailed, NoPixels, UnsupportedSyntax
from .part10 import FileHead, file_prefix
from .recode import PIXEL_DATA, Changes, Recoder, Writable, swapped

UNCOMPRESSED: Final = frozenset({IMPLICIT_LE, EXPLICIT_LE, DEFLATED_LE, EXPLICIT_BE})
# the length of native pixel data has 32 bits and 0xFFFFFFFF means something else (PS3.5 7.1.1)
MAX_PIXEL_BYTES: Final = 0xFFFFFFFE

_PHOTOMETRIC, _PLANAR, _BITS_ALLOCATED = 0x00280004, 0x00280006, 0x00280100
_LOSSY: Final = 0x00282110
_OFFSET_TABLES: Final = (0x7FE00001, 0x7FE00002, 0x7FE00003)
_ICON: Final = 0x00880200
# syntaxes that have no lossless form
_ALWAYS_LOSSY: Final = frozenset(
    f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 53, 55, 81)
)  # fmt: skip
# JPEG's own colour transformation was applied for compression's sake: undone with it
_TO_RGB: Final = frozenset(
    f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 53, 55, 90, 91, 201, 202, 203)
)


def transcode(fd: int, target: BinaryIO, to: str) -> int:
    """Write the Part 10 file in `fd` to `target` in the syntax `to`; return the data set's offset.

    Raises NotDicom, UnsupportedSyntax, DecodeFailed.
    """
    if to not in UNCOMPRESSED:
        raise UnsupportedSyntax(f"Objects are not compressed on the way out (to {to}).")
    stream, head = open_object(fd)
    with stream:
        prefix = file_prefix(
            sop_class_uid=head.sop_class_uid,
            sop_instance_uid=head.sop_instance_uid,
            transfer_syntax_uid=to,
        )
        target.write(prefix)
        if to == DEFLATED_LE:
            deflating = _Deflating(target)
            _copy(stream, head, deflating, to)
            deflating.finish()
        else:
            _copy(stream, head, target, to)
        target.flush()
    return len(prefix)


def _copy(stream: BinaryIO, head: FileHead, target: Writable, to: str) -> None:
    changes = None
    if head.transfer_syntax_uid not in UNCOMPRESSED:
        try:
            changes = _decompressing(PixelSource(stream, head), head.transfer_syntax_uid)
        except NoPixels:
            changes = None  # a report may be labelled with any syntax
    recoder = Recoder(
        stream,
        target,
        encoding=encoding_of(head.transfer_syntax_uid),
        to=encoding_of(to),
        changes=changes,
    )
    try:
        recoder.copy(head.data_offset)
    except Cut:
        raise DecodeFailed("The object ends too early.") from None
    except Broken as broken:
        raise DecodeFailed(f"The object's elements cannot be followed: {broken}.") from None


def _decompressing(source: PixelSource, transfer_syntax: str) -> Changes:
    """Decide by the first frame what the native object will say of its pixels."""
    raw = transfer_syntax not in _TO_RGB
    first = source.frame(0, raw=raw)
    attributes = source.attributes
    samples = first.array.shape[2] if first.array.ndim == 3 else 1
    changes = Changes()
    changes.values = dict.fromkeys(_OFFSET_TABLES)
    if samples > 1:
        changes.values[_PHOTOMETRIC] = (b"CS", _padded(first.photometric))
        changes.values[_PLANAR] = (b"US", b"\0\0")
    if transfer_syntax in _ALWAYS_LOSSY and not attributes.get("LossyImageCompression"):
        changes.values[_LOSSY] = (b"CS", b"01")
    allocated = int(attributes.BitsAllocated)
    if first.array.dtype.itemsize * 8 > max(allocated, 8):
        allocated = first.array.dtype.itemsize * 8
        changes.values[_BITS_ALLOCATED] = (b"US", allocated.to_bytes(2, "little"))
    if _icon_is_compressed(source):
        # optional (PS3.3 C.7.6.1.1.6), and native syntaxes have no place for a compressed one
        changes.values[_ICON] = None

    def write(recoder: Recoder) -> None:
        _write_pixels(recoder, source, first, raw=raw, allocated=allocated)

    changes.pixels = write
    return changes


def _write_pixels(
    recoder: Recoder, source: PixelSource, first: Frame, *, raw: bool, allocated: int
) -> None:
    """Write native pixel data, decoding one frame at a time."""
    bits = first.array.size * allocated * source.frames
    length = -(-bits // 8)
    padded = length + length % 2
    if padded > MAX_PIXEL_BYTES:
        raise UnsupportedSyntax("Decompressed, the object would be larger than 4 GiB.")
    recoder.header(PIXEL_DATA, b"OB" if allocated <= 8 else b"OW", padded)
    frames = _same_shape(chain([first], source.iterate(raw=raw, start=1)), first)
    written = 0
    for content in _bits(frames) if allocated == 1 else _words(frames, allocated, recoder, source):
        written += len(content)
        recoder.write(content)
    if written != length:
        raise DecodeFailed("The pixel data hold fewer frames than the object says.")
    recoder.write(b"\0" * (padded - written))


def _same_shape(frames: Iterable[Frame], first: Frame) -> Iterator[Frame]:
    for frame in frames:
        if frame.array.shape != first.array.shape or frame.photometric != first.photometric:
            raise DecodeFailed("The frames of the object are not alike.")
        yield frame


def _words(
    frames: Iterator[Frame], allocated: int, recoder: Recoder, source: PixelSource
) -> Iterator[bytes]:
    kind = "i" if int(source.attributes.PixelRepresentation) else "u"
    word = np.dtype(f"<{kind}{allocated // 8}")
    # OW is words of 16 bit, low word first, whatever a pixel takes (PS3.5 sections 7.3 and 8.1.1)
    word_bytes = 2 if allocated > 8 and not recoder.to.little else 1
    for frame in frames:
        yield swapped(frame.array.astype(word, casting="unsafe").tobytes(), word_bytes)


def _bits(frames: Iterator[Frame]) -> Iterator[bytes]:
    """Pack one bit per pixel; frames follow each other without a gap (PS3.5 section 8.1.1)."""
    rest: np.ndarray[Any, Any] = np.zeros(0, np.uint8)
    for frame in frames:
        bits = np.concatenate((rest, frame.array.reshape(-1).astype(np.uint8)))
        whole = bits.size - bits.size % 8
        yield np.packbits(bits[:whole], bitorder="little").tobytes()
        rest = bits[whole:]
    if rest.size:
        yield np.packbits(rest, bitorder="little").tobytes()


def _icon_is_compressed(source: PixelSource) -> bool:
    icon = source.attributes.get("IconImageSequence")
    if not icon:
        return False
    return any("PixelData" in item and item["PixelData"].is_undefined_length for item in icon)


def _padded(text: str) -> bytes:
    value = text.encode("ascii", "replace")
    return value + b" " if len(value) % 2 else value


class _Deflating:
    """A stream that deflates what is written to it (PS3.5 annex A.5)."""

    def __init__(self, target: BinaryIO) -> None:
        self._target = target
        self._compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        self._written = 0

    def write(self, content: bytes, /) -> int:
        self._written += self._target.write(self._compressor.compress(content))
        return len(content)

    def finish(self) -> None:
        """Write the rest; the deflated stream is padded to even length (PS3.5 annex A.5)."""
        self._written += self._target.write(self._compressor.flush())
        if self._written % 2:
            self._target.write(b"\0")
