# SPDX-License-Identifier: Apache-2.0
"""Frames of an object as arrays, one at a time. Worker process only: imports pydicom and numpy."""

import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from io import BytesIO
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import numpy as np
import pydicom
from pydicom import config
from pydicom.uid import UID

from . import codecs, rle
from .cells import Cells, Pixels, frame_of
from .colour import to_rgb
from .dataset import (
    DEFLATED_LE,
    EXPLICIT_BE,
    EXPLICIT_LE,
    UNDEFINED,
    Cut,
    Element,
    Encoding,
    element_at,
    encoding_of,
)
from .errors import DecodeFailed, NoPixels, NoSuchFrame, UnsupportedSyntax
from .frames import FrameTable, Span, frame_table
from .part10 import FileHead, file_prefix, split
from .recode import swapped

if TYPE_CHECKING:
    from .luts import Window

HEAD_BYTES: Final = 1 << 20
MAX_FRAME_BYTES: Final = 512 << 20
MAX_INFLATED_BYTES: Final = 1 << 30
DEFLATED_FRAMES: Final = "1.2.840.10008.1.2.8.1"  # PS3.5 annex A.4.13
RLE: Final = "1.2.840.10008.1.2.5"
# what a frame of it can be decoded; video (…4.100 to 4.108) and JPIP are for others to play
DECODED: Final = frozenset(
    f"1.2.840.10008.1.2.4.{number}"
    for number in (50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63, 64, 65, 66, 70,
                   80, 81, 90, 91, 92, 93, 110, 111, 112, 201, 202, 203)
)  # fmt: skip
_PIXELS: Final = {
    0x7FE00008: "FloatPixelData",
    0x7FE00009: "DoubleFloatPixelData",
    0x7FE00010: "PixelData",
}
# an object is taken as it is: values that break their representation are no reason to refuse it
config.settings.reading_validation_mode = config.IGNORE
config.settings.writing_validation_mode = config.IGNORE


@dataclass(slots=True)
class Frame:
    """One frame: rows × columns, or rows × columns × samples, and what its samples are."""

    array: Pixels
    photometric: str
    plugin: str


def open_object(fd: int) -> tuple[BinaryIO, FileHead]:
    """Return the Part 10 file as a stream at 0, a deflated one inflated, and what it is.

    Raises NotDicom, DecodeFailed.
    """
    stream: BinaryIO = os.fdopen(os.dup(fd), "rb")
    try:
        stream.seek(0)
        head = split(stream.read(HEAD_BYTES))
        if head.transfer_syntax_uid != DEFLATED_LE:
            stream.seek(0)
            return stream, head
        stream.seek(head.data_offset)
        deflated = stream.read()
    except BaseException:
        stream.close()
        raise
    stream.close()
    prefix = file_prefix(
        sop_class_uid=head.sop_class_uid,
        sop_instance_uid=head.sop_instance_uid,
        transfer_syntax_uid=EXPLICIT_LE,
    )
    inflated = FileHead(
        sop_class_uid=head.sop_class_uid,
        sop_instance_uid=head.sop_instance_uid,
        transfer_syntax_uid=EXPLICIT_LE,
        data_offset=len(prefix),
    )
    return BytesIO(prefix + _data_set(deflated)), inflated


def _data_set(deflated: bytes) -> bytes:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        data = inflater.decompress(deflated, MAX_INFLATED_BYTES)
    except zlib.error:
        raise DecodeFailed("The deflated data set cannot be inflated.") from None
    if inflater.unconsumed_tail:
        raise DecodeFailed(f"The deflated data set is larger than {MAX_INFLATED_BYTES} bytes.")
    return data


class PixelSource:
    """The attributes of an object and the way to each of its frames."""

    def __init__(self, stream: BinaryIO, head: FileHead) -> None:
        """Read everything up to the pixel data.

        Raises NoPixels, UnsupportedSyntax, DecodeFailed.
        """
        self.stream = stream
        self.transfer_syntax = UID(head.transfer_syntax_uid)
        stream.seek(head.data_offset)
        encoding = encoding_of(head.transfer_syntax_uid)
        self.attributes = pydicom.filereader.read_dataset(
            stream,
            is_implicit_VR=not encoding.explicit,
            is_little_endian=encoding.little,
            stop_when=lambda tag, _vr, _length: int(tag) in _PIXELS,
        )
        position = stream.tell()
        element = _pixel_element(stream.read(12), encoding)
        if element is None:
            raise NoPixels("The object has no pixel data.")
        self.keyword = _PIXELS[element.tag]
        self.value_at = position + element.start
        self.pixel_vr = "OB" if element.vr == b"OB" else "OW"
        self.encapsulated = element.length == UNDEFINED
        self.value_length = 0 if self.encapsulated else element.length
        if self.encapsulated != self._compressed():
            raise DecodeFailed("Pixel data and transfer syntax do not fit together.")
        self._conform()
        self._table: FrameTable | None = None
        self.automatic: Window | None = None  # of a film without a window of its own
        self.scale: Any = None  # of wide numbers, see viewerdata

    def _compressed(self) -> bool:
        if self.transfer_syntax == DEFLATED_FRAMES or self.transfer_syntax in DECODED:
            return True
        try:
            return self.transfer_syntax.is_encapsulated
        except ValueError:  # one that pydicom does not know, private ones included
            raise UnsupportedSyntax(
                f"No decoder for the transfer syntax {self.transfer_syntax}."
            ) from None

    def _conform(self) -> None:
        """Give the image pixel attributes values that can be, and check the size of a frame.

        What is missing gets what the objects mean that lack it: one sample, unsigned, every bit.
        """
        rows, columns, bits = (self._whole(name) for name in ("Rows", "Columns", "BitsAllocated"))
        for keyword, number in (("Rows", rows), ("Columns", columns), ("BitsAllocated", bits)):
            if number is None or number <= 0:
                raise DecodeFailed(f"{keyword} is missing or no number above zero.")
            setattr(self.attributes, keyword, number)
        samples = self._whole("SamplesPerPixel") or 1
        stored = self._whole("BitsStored") or 0
        self.attributes.SamplesPerPixel = samples
        self.attributes.BitsStored = stored if 0 < stored <= self.attributes.BitsAllocated else bits
        self.attributes.NumberOfFrames = max(1, self._whole("NumberOfFrames") or 1)
        if self._whole("PixelRepresentation") not in (0, 1):
            self.attributes.PixelRepresentation = 0
        if not self.attributes.get("PhotometricInterpretation"):
            self.attributes.PhotometricInterpretation = "RGB" if samples == 3 else "MONOCHROME2"
        area = self.attributes.Rows * self.attributes.Columns
        if area * samples * self.attributes.BitsAllocated // 8 > MAX_FRAME_BYTES:
            raise DecodeFailed("One frame is larger than a worker takes.")

    def _whole(self, keyword: str) -> int | None:
        try:
            return int(self.attributes.get(keyword))
        except (TypeError, ValueError, OverflowError):
            return None

    def value(self) -> bytes:
        """Return the whole value: native in little endian, or the codestreams one after another."""
        if self.encapsulated:
            whole = range(min(self.frames, len(self.table)))
            return b"".join(self.encoded(index) for index in whole)
        self.stream.seek(self.value_at)
        content = self.stream.read(self.value_length)
        width = 2 if self.pixel_vr == "OW" else 1
        if self.keyword != "PixelData":
            width = 4 if self.keyword == "FloatPixelData" else 8
        return content if self.cells.little else swapped(content, width)

    @property
    def frames(self) -> int:
        """Return the number of frames that the object claims, at least 1."""
        return int(self.attributes.NumberOfFrames)

    @property
    def cells(self) -> Cells:
        """Return how a frame is laid out."""
        ds = self.attributes
        stored = int(ds.BitsStored)
        high_bit = self._whole("HighBit")
        return Cells(
            rows=ds.Rows,
            columns=ds.Columns,
            samples=ds.SamplesPerPixel,
            allocated=ds.BitsAllocated,
            stored=stored,
            high_bit=stored - 1 if high_bit is None else high_bit,
            signed=bool(ds.PixelRepresentation),
            planar=ds.SamplesPerPixel > 1 and self._whole("PlanarConfiguration") == 1,
            photometric=str(ds.PhotometricInterpretation),
            keyword=self.keyword,
            little=self.transfer_syntax != EXPLICIT_BE,
            swapped_pairs=(
                self.transfer_syntax == EXPLICIT_BE
                and self.pixel_vr == "OW"
                and ds.BitsAllocated == 8
            ),
        )

    def frame(self, index: int, *, raw: bool = False) -> Frame:
        """Decode one frame and no other; `raw` leaves colours as stored.

        Raises NoSuchFrame, UnsupportedSyntax, DecodeFailed.
        """
        self.check_frame(index)
        if self.encapsulated:
            if self.transfer_syntax not in (RLE, DEFLATED_FRAMES, *DECODED):
                raise codecs.unsupported(str(self.transfer_syntax))
            return self._decode(self.encoded(index), raw=raw)
        return self._native(self.native_bytes(index), raw=raw, skip=self._skip_bits(index))

    def check_frame(self, index: int) -> None:
        """Raise NoSuchFrame unless the object says that it has this frame."""
        if not 0 <= index < self.frames:
            raise NoSuchFrame(f"The object has {self.frames} frames.")

    def _skip_bits(self, index: int) -> int:
        """Return where in its first byte a frame begins that does not fill bytes (PS3.5 8.1.1)."""
        return index * self.cells.bits % 8

    def native_bytes(self, index: int) -> bytes:
        """Return the bytes of a frame of native pixel data, the neighbours' bits in them."""
        bits = self.cells.bits
        first, skip = divmod(index * bits, 8)
        length = (skip + bits + 7) // 8
        if self.cells.swapped_pairs:  # whole words, and the one before for an odd start
            return self._swapped(first, length)
        self.stream.seek(self.value_at + first)
        return self.stream.read(length)

    def _swapped(self, first: int, length: int) -> bytes:
        start, end = first // 2 * 2, (first + length + 1) // 2 * 2
        self.stream.seek(self.value_at + start)
        words = np.frombuffer(self.stream.read(end - start), np.uint16).byteswap().tobytes()
        return words[first - start : first - start + length]

    def _native(self, content: bytes, *, raw: bool, skip: int = 0) -> Frame:
        cells = self.cells
        array = frame_of(content, replace(cells, swapped_pairs=False), skip_bits=skip)
        photometric = cells.photometric
        if cells.half_chroma:
            photometric = photometric.removesuffix("_422")
        return self._shown(array, photometric, "", cells, raw=raw)

    def _shown(
        self, array: Pixels, photometric: str, plugin: str, cells: Cells, *, raw: bool
    ) -> Frame:
        if not raw and array.ndim == 3:
            space = "YBR_PARTIAL_422" if photometric == "YBR_PARTIAL" else photometric
            colours = to_rgb(array, space, cells.stored)
            if colours is not array:
                return Frame(colours, "RGB", plugin)
        return Frame(array, photometric, plugin)

    def iterate(self, *, raw: bool, start: int = 0) -> Iterator[Frame]:
        """Decode the frames from `start` on in turn."""
        for index in range(start, self.frames):
            yield self.frame(index, raw=raw)

    def _decode(self, encoded: bytes, *, raw: bool) -> Frame:
        """Decode one encapsulated frame."""
        syntax, cells = str(self.transfer_syntax), self.cells
        if syntax == DEFLATED_FRAMES:
            return self._native(_inflated(encoded), raw=raw)
        if syntax == RLE:
            content = rle.decode(encoded, cells)
            planes = replace(cells, planar=True, photometric=_full(cells.photometric))
            array = frame_of(content, planes)
            return self._shown(array, planes.photometric, "rle", cells, raw=raw)
        found = codecs.decode(encoded, syntax, cells, self.attributes, raw=raw)
        return self._shown(found.array, found.photometric, found.plugin, cells, raw=raw)

    @property
    def table(self) -> FrameTable:
        """Return where the encapsulated frames stand, worked out once; raises DecodeFailed."""
        if self._table is None:
            self._table = frame_table(self.stream, self.value_at, self.frames, self._extended())
        return self._table

    def fragments(self) -> list[Span]:
        """Return every fragment in order, whatever frames there are; raises DecodeFailed."""
        return frame_table(self.stream, self.value_at, 1).spans(0)

    def encoded(self, index: int) -> bytes:
        """Return the codestream of one encapsulated frame; raises DecodeFailed."""
        return self.table.read(self.stream, index)

    def _extended(self) -> tuple[bytes, bytes] | None:
        table = self.attributes.get("ExtendedOffsetTable")
        if not isinstance(table, bytes):
            return None
        return table, self.attributes.get("ExtendedOffsetTableLengths") or b""


def pixel_header(stream: BinaryIO, head: FileHead) -> tuple[int, str] | None:
    """Return tag and value representation of the pixel data where they stand, None without any.

    `stream` stands where a reading of everything before them ended.
    """
    encoding = encoding_of(head.transfer_syntax_uid)
    element = _pixel_element(stream.read(12), encoding)
    if element is None:
        return None
    return element.tag, (element.vr or b"OW").decode("ascii", "replace")


def _pixel_element(header: bytes, encoding: Encoding) -> Element | None:
    if len(header) < 8:
        return None
    try:
        element = element_at(header, 0, encoding)
    except Cut:
        return None
    return element if element.tag in _PIXELS else None


def _full(photometric: str) -> str:
    """Return the colour space of compressed pixels, whose samples all have full resolution."""
    return photometric.replace("_422", "")


def _inflated(encoded: bytes) -> bytes:
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(encoded, MAX_FRAME_BYTES)
    except zlib.error:
        raise DecodeFailed("The deflated frame cannot be inflated.") from None
