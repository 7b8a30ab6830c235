# SPDX-License-Identifier: Apache-2.0
"""Compressed frames to arrays: which decoder takes which codestream, and in what order.

The codestream is believed before the label: what a decoder allocates and which colours it makes
comes from the frame's own header, and that header must fit the object. Worker process only.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import imagecodecs
import numpy as np
from pydicom.dataset import Dataset

from . import jpeg
from .cells import Cells, in_range
from .codestream import Codestream, header_of
from .colour import UNDONE, to_rgb
from .errors import DecodeFailed, UnsupportedSyntax

Pixels = np.ndarray[Any, np.dtype[Any]]

JPEG_XL: Final = frozenset(f"1.2.840.10008.1.2.4.{number}" for number in (110, 111, 112))
_J2K_HT: Final = b"\xff\x50"  # CAP: the capabilities beyond part 1 (ITU-T T.814 A.3)


@dataclass(slots=True)
class Decoded:
    """One frame, the colour space it is in, and who decoded it."""

    array: Pixels
    photometric: str
    plugin: str


def decode(encoded: bytes, syntax: str, cells: Cells, attributes: Dataset, *, raw: bool) -> Decoded:
    """Decode one frame; `raw` leaves the stored colour space.

    Raises DecodeFailed, UnsupportedSyntax.
    """
    if syntax in JPEG_XL:
        return _jpeg_xl(encoded, cells)
    header = header_of(encoded)
    if header is None:
        raise DecodeFailed("The compressed frame has no header that a decoder knows.")
    _check(header, cells)
    photometric, as_rgb = _colours(header, cells, raw=raw)
    reasons = []
    for name, attempt in _attempts(encoded, header, as_rgb=as_rgb, cells=cells):
        try:
            array = attempt()
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - decoders raise whatever they like
            reasons.append(f"{name}: {str(error).rpartition(chr(10))[2].strip()}")
            continue
        if array.shape != cells.shape:
            reasons.append(f"{name}: another shape")
            continue
        return Decoded(_numbers(array, header, cells), photometric, name)
    if header.kind == "jpeg":
        array = jpeg.decode(encoded, attributes, syntax)
        return Decoded(_numbers(array, header, cells), cells.photometric, "gdcm")
    raise DecodeFailed("The frame cannot be decoded: " + "; ".join(reasons)[:400])


def _check(header: Codestream, cells: Cells) -> None:
    """Refuse a codestream that does not fit the object, before anything is allocated for it."""
    found = (header.rows, header.columns, header.components)
    if found != (cells.rows, cells.columns, cells.samples):
        raise DecodeFailed(
            f"The compressed frame has {header.columns} × {header.rows} × {header.components}"
            f" samples, the object says {cells.columns} × {cells.rows} × {cells.samples}."
        )
    if header.bits > 32:
        raise DecodeFailed(f"Samples of {header.bits} bits are not known.")


def _colours(header: Codestream, cells: Cells, *, raw: bool) -> tuple[str, bool]:
    """Return the colour space of the result, and whether the decoder shall make RGB of YCbCr.

    What devices write into the object is often wrong; the codestream's own marks come first.
    """
    named = cells.photometric
    if cells.samples != 3:
        return named, False
    if header.kind != "jpeg":
        # JPEG 2000 undoes its own transformation; what is called YCbCr without one is
        if named in UNDONE or header.colour_transform:
            return "RGB", False
        return named, False
    if header.process == 3:  # lossless: no decoder may convert, the object says what it is
        return named, False
    if not _is_ybr(header, named):
        return "RGB", False
    return ("YBR_FULL", False) if raw else ("RGB", True)


def _is_ybr(header: Codestream, named: str) -> bool:
    if header.adobe_transform is not None:
        return header.adobe_transform == 1
    if header.component_ids in (b"RGB", b"rgb"):
        return False
    # JFIF knows only YCbCr, and nobody halves the resolution of green and blue
    return header.jfif or header.subsampled or named != "RGB"


def _attempts(
    encoded: bytes, header: Codestream, *, as_rgb: bool, cells: Cells
) -> Iterator[tuple[str, Callable[[], Pixels]]]:
    match header.kind:
        case "jpeg":
            space = None
            if cells.samples == 3:
                space = "YCBCR" if as_rgb else "RGB"
            yield (
                "libjpeg-turbo",
                lambda: imagecodecs.jpeg8_decode(
                    encoded, colorspace=space, outcolorspace=None if space is None else "RGB"
                ),
            )
        case "jpeg-ls":
            yield "charls", lambda: imagecodecs.jpegls_decode(encoded)
        case _:
            # OpenJPH lets samples of lossy colours run over: 256 becomes 0
            if header.reversible and _J2K_HT in encoded[:4096]:
                yield "openjph", lambda: imagecodecs.htj2k_decode(encoded)
            yield "openjpeg", lambda: imagecodecs.jpeg2k_decode(encoded)


def _numbers(array: Pixels, header: Codestream, cells: Cells) -> Pixels:
    """Give the samples the sign and the range that the object says."""
    if array.dtype.kind == "f" or (header.kind == "jpeg" and cells.samples == 3):
        return array
    if array.dtype.kind == "i":
        return array
    stored = header.bits if header.kind == "j2k" else min(cells.stored, array.dtype.itemsize * 8)
    fitted = replace(cells, stored=stored, high_bit=stored - 1)
    return in_range(array, fitted)


def _jpeg_xl(encoded: bytes, cells: Cells) -> Decoded:
    """Decode into an array of the object's size: another one is refused before it is decoded."""
    kind = np.uint8 if cells.stored <= 8 else np.uint16
    shape = cells.shape if cells.samples > 1 else (cells.rows, cells.columns)
    out = np.empty(shape, kind)
    try:
        array = imagecodecs.jpegxl_decode(encoded, out=out)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - as above
        raise DecodeFailed(f"The JPEG XL frame cannot be decoded: {error}"[:300]) from None
    photometric = "RGB" if cells.samples == 3 else cells.photometric
    return Decoded(in_range(array, cells), photometric, "libjxl")


def rgb(decoded: Decoded, cells: Cells) -> Decoded:
    """Return the frame in RGB when it is in a colour space of the YBR family."""
    array = to_rgb(decoded.array, decoded.photometric, cells.stored)
    if array is decoded.array:
        return decoded
    return Decoded(array, "RGB", decoded.plugin)


def unsupported(syntax: str) -> UnsupportedSyntax:
    """Return the refusal of a transfer syntax."""
    return UnsupportedSyntax(f"No decoder for the transfer syntax {syntax}.")
