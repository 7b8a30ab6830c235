# SPDX-License-Identifier: Apache-2.0
"""Frames of an object as arrays, one at a time. Worker process only: imports pydicom and numpy."""

import os
import struct
import zlib
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import numpy as np
import pydicom
from pydicom import config
from pydicom.encaps import generate_frames, get_frame
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import as_pixel_options
from pydicom.uid import UID

from . import jpeg, rle
from .dataset import DEFLATED_LE, EXPLICIT_LE, UNDEFINED, element_at, encoding_of
from .errors import DecodeFailed, NoPixels, NoSuchFrame, UnsupportedSyntax
from .part10 import FileHead, file_prefix, split

if TYPE_CHECKING:
    import numpy.typing as npt

HEAD_BYTES: Final = 1 << 20
MAX_FRAME_BYTES: Final = 512 << 20
MAX_INFLATED_BYTES: Final = 1 << 30
DEFLATED_FRAMES: Final = "1.2.840.10008.1.2.8.1"  # PS3.5 annex A.4.13
RLE: Final = "1.2.840.10008.1.2.5"
_PIXELS: Final = {
    0x7FE00008: "FloatPixelData",
    0x7FE00009: "DoubleFloatPixelData",
    0x7FE00010: "PixelData",
}
# by quality of the result and speed, see docs/developer/imaging.md; others follow when these fail
_PREFERRED: Final = {
    "1.2.840.10008.1.2.4.50": ("pillow", "gdcm"),
    "1.2.840.10008.1.2.4.51": ("pillow", "gdcm"),
    "1.2.840.10008.1.2.4.90": ("pylibjpeg", "gdcm"),
    "1.2.840.10008.1.2.4.91": ("pylibjpeg", "gdcm"),
    "1.2.840.10008.1.2.5": ("pylibjpeg", "pydicom"),
}

# an object is taken as it is: values that break their representation are no reason to refuse it
config.settings.reading_validation_mode = config.IGNORE
config.settings.writing_validation_mode = config.IGNORE


@dataclass(slots=True)
class Frame:
    """One frame: rows × columns, or rows × columns × samples, and what its samples are."""

    array: "npt.NDArray[Any]"
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
        self._pixels_at = stream.tell()
        header = stream.read(12)
        if len(header) < 8:
            raise NoPixels("The object has no pixel data.")
        element = element_at(header, 0, encoding)
        if element.tag not in _PIXELS:
            raise NoPixels("The object has no pixel data.")
        self.keyword = _PIXELS[element.tag]
        self.value_at = self._pixels_at + element.start
        self.pixel_vr = "OB" if element.vr == b"OB" else "OW"
        self.encapsulated = element.length == UNDEFINED
        self.value_length = 0 if self.encapsulated else element.length
        if self.encapsulated != self._compressed():
            raise DecodeFailed("Pixel data and transfer syntax do not fit together.")
        self._conform()

    def _compressed(self) -> bool:
        if self.transfer_syntax == DEFLATED_FRAMES:
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

    @property
    def frames(self) -> int:
        """Return the number of frames that the object claims, at least 1."""
        return int(self.attributes.NumberOfFrames)

    def frame(self, index: int, *, raw: bool = False) -> Frame:
        """Decode one frame and no other; `raw` leaves colours as stored.

        Raises NoSuchFrame, UnsupportedSyntax, DecodeFailed.
        """
        if not 0 <= index < self.frames:
            raise NoSuchFrame(f"The object has {self.frames} frames.")
        if self.encapsulated:
            return self._decode(self._encoded(index), raw=raw)
        if self.attributes.BitsAllocated == 1:
            return self._bit_frame(self.stream, self.value_at, index)
        self.stream.seek(self.value_at)
        decoder = get_decoder(self.transfer_syntax)
        return self._by_pydicom(decoder, self.stream, index, self._options(), raw=raw)

    def _bit_frame(self, stream: BinaryIO, value_at: int, index: int) -> Frame:
        """Unpack a frame of one bit per pixel, which may begin inside a byte (PS3.5 8.1.1)."""
        shape = (self.attributes.Rows, self.attributes.Columns)
        pixels = shape[0] * shape[1]
        first, skip = divmod(index * pixels, 8)
        stream.seek(value_at + first)
        content = stream.read((skip + pixels + 7) // 8)
        bits = np.unpackbits(np.frombuffer(content, np.uint8), bitorder="little")
        if self.attributes.SamplesPerPixel != 1 or bits.size < skip + pixels:
            raise DecodeFailed("The object holds fewer pixels than it says.")
        frame = bits[skip : skip + pixels].reshape(shape)
        return Frame(frame, str(self.attributes.PhotometricInterpretation), "")

    def iterate(self, *, raw: bool, start: int = 0) -> Iterator[Frame]:
        """Decode the frames from `start` on in turn, in one pass over the pixel data."""
        if not self.encapsulated:
            for index in range(start, self.frames):
                yield self.frame(index, raw=raw)
            return
        self.stream.seek(self.value_at)
        encoded = generate_frames(
            self.stream, number_of_frames=self.frames, extended_offsets=self._extended()
        )
        for index in range(self.frames):
            try:
                frame = bytes(next(encoded))
                position = self.stream.tell()
            except StopIteration:
                raise DecodeFailed("The object holds fewer frames than it says.") from None
            except (ValueError, IndexError, OSError) as error:
                raise DecodeFailed(f"The frames cannot be told apart: {error}") from None
            if index >= start:
                yield self._decode(frame, raw=raw)
                self.stream.seek(position)  # whoever takes the frames may read elsewhere

    def _decode(self, encoded: bytes, *, raw: bool) -> Frame:
        """Decode one encapsulated frame."""
        syntax = str(self.transfer_syntax)
        if syntax == DEFLATED_FRAMES:
            return self._native_frame(_inflated(encoded), raw=raw)
        if syntax == RLE and self.attributes.BitsAllocated == 1:
            return self._native_frame(rle.decode_bytes(encoded, MAX_FRAME_BYTES), raw=raw)
        if syntax in jpeg.SPECIAL or (syntax == jpeg.EXTENDED and jpeg.precision(encoded) > 8):
            array = jpeg.decode(encoded, self.attributes, syntax)
            return Frame(array, str(self.attributes.PhotometricInterpretation), "gdcm")
        try:
            decoder = get_decoder(self.transfer_syntax)
        except NotImplementedError:
            raise UnsupportedSyntax(f"No decoder for the transfer syntax {syntax}.") from None
        # the frame alone, as the only one: an empty offset table, its item, the delimiter
        size = len(encoded) + len(encoded) % 2
        header = struct.pack("<HHIHHI", 0xFFFE, 0xE000, 0, 0xFFFE, 0xE000, size)
        end = b"\0" * (size - len(encoded)) + b"\xfe\xff\xdd\xe0\0\0\0\0"
        single = BytesIO(header + encoded + end)
        return self._by_pydicom(decoder, single, 0, self._options(frames=1), raw=raw)

    def _options(self, frames: int | None = None) -> dict[str, Any]:
        options: dict[str, Any] = as_pixel_options(self.attributes, pixel_keyword=self.keyword)
        options.pop("extended_offsets", None)
        options["number_of_frames"] = frames or self.frames
        if self.keyword == "PixelData" and not self.encapsulated:
            options["pixel_vr"] = self.pixel_vr
        return options

    def _by_pydicom(
        self, decoder: Any, source: BinaryIO, index: int, options: dict[str, Any], *, raw: bool
    ) -> Frame:
        preferred: tuple[str, ...] = ("",)
        if self.encapsulated:
            syntax = str(self.transfer_syntax)
            preferred = _PREFERRED.get(syntax, tuple(decoder.available_plugins))
        start = source.tell()
        reasons = []
        for plugin in preferred:
            source.seek(start)
            try:
                array, meta = decoder.as_array(
                    source, index=index, raw=raw, decoding_plugin=plugin, **options
                )
            except MemoryError:
                raise
            except Exception as error:  # noqa: BLE001 - plug-ins raise whatever they like
                reasons.append(str(error).rpartition("\n")[2].strip())
            else:
                return Frame(array, str(meta["photometric_interpretation"]), plugin)
        # messages of the pixel decoders speak of lengths and markers, never of patients
        raise DecodeFailed("The pixel data cannot be decoded: " + "; ".join(reasons)[:400])

    def _native_frame(self, content: bytes, *, raw: bool) -> Frame:
        """Read the bytes of one frame as native pixel data."""
        if self.attributes.BitsAllocated == 1:
            return self._bit_frame(BytesIO(content), 0, 0)
        single = copy(self)
        single.encapsulated = False
        options = single._options(frames=1)
        decoder = get_decoder(UID(EXPLICIT_LE))
        return single._by_pydicom(decoder, BytesIO(content), 0, options, raw=raw)

    def _extended(self) -> tuple[bytes, bytes] | None:
        if not self.attributes.get("ExtendedOffsetTable"):
            return None
        lengths = self.attributes.get("ExtendedOffsetTableLengths") or b""
        return self.attributes.ExtendedOffsetTable, lengths

    def _encoded(self, index: int) -> bytes:
        """Return the codestream of one frame."""
        try:
            self.stream.seek(self.value_at)
            frame = get_frame(
                self.stream, index, number_of_frames=self.frames, extended_offsets=self._extended()
            )
        except (ValueError, IndexError, OSError, struct.error) as error:
            raise DecodeFailed(f"The frame cannot be found in the pixel data: {error}") from None
        return bytes(frame)


def _inflated(encoded: bytes) -> bytes:
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(encoded, MAX_FRAME_BYTES)
    except zlib.error:
        raise DecodeFailed("The deflated frame cannot be inflated.") from None
