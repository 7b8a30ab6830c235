# SPDX-License-Identifier: Apache-2.0
"""Native pixel data as numbers: pixel cells, planes, byte order (PS3.5 section 8). Worker only."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from .errors import DecodeFailed

Pixels = np.ndarray[Any, np.dtype[Any]]

HALF_CHROMA: Final = frozenset({"YBR_FULL_422", "YBR_PARTIAL_422"})  # PS3.3 C.7.6.3.1.2
_FLOATS: Final = {"FloatPixelData": "f4", "DoubleFloatPixelData": "f8"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """How the pixels of one frame are laid out, as the object says it."""

    rows: int
    columns: int
    samples: int
    allocated: int
    stored: int
    high_bit: int
    signed: bool
    planar: bool
    photometric: str
    keyword: str = "PixelData"
    little: bool = True
    swapped_pairs: bool = False  # 8 bit pixels in words of 16 bit, big endian

    @property
    def pixels(self) -> int:
        """Return the pixels of a frame, whatever a pixel takes."""
        return self.rows * self.columns

    @property
    def half_chroma(self) -> bool:
        """Tell whether two pixels share their colour in native data."""
        return self.samples == 3 and self.photometric in HALF_CHROMA

    @property
    def bits(self) -> int:
        """Return the length of a native frame in bits."""
        samples = 2 if self.half_chroma else self.samples
        return self.pixels * samples * self.allocated

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of the array of a frame."""
        shape = (self.rows, self.columns)
        return (*shape, self.samples) if self.samples > 1 else shape


def frame_of(content: bytes, cells: Cells, *, skip_bits: int = 0) -> Pixels:
    """Return the frame whose native bytes these are, `skip_bits` in; raises DecodeFailed."""
    if cells.keyword in _FLOATS:
        order = "<" if cells.little else ">"
        values = _whole(content, np.dtype(f"{order}{_FLOATS[cells.keyword]}"), cells)
        return _arranged(values.astype(values.dtype.newbyteorder("=")), cells)
    if cells.allocated % 8 or cells.allocated > 64:
        return _arranged(_packed(content, cells, skip_bits), cells)
    if cells.half_chroma:
        return _full_chroma(_whole(content, np.dtype(np.uint8), cells), cells)
    return _arranged(in_range(_words(content, cells), cells), cells)


def _words(content: bytes, cells: Cells) -> Pixels:
    """Return the pixel cells as unsigned numbers."""
    width = cells.allocated // 8
    if width == 1:
        values = _whole(content, np.dtype(np.uint8), cells)
        if cells.swapped_pairs:
            even = np.frombuffer(content[: len(content) // 2 * 2], np.uint16).byteswap()
            values = even.view(np.uint8)[: values.size]
        return values
    if width in (2, 4, 8):
        values = _whole(content, np.dtype(f"{'<' if cells.little else '>'}u{width}"), cells)
        values = values.astype(values.dtype.newbyteorder("="), copy=False)
        return values if cells.little or width != 4 else _long_words(values)
    # 24 bit and the like: put together byte by byte
    values = _whole(content, np.dtype((np.uint8, (width,))), cells).reshape(-1, width)
    if not cells.little:
        values = values[:, ::-1]
    wide = np.zeros((values.shape[0], 8 if width > 4 else 4), np.uint8)
    wide[:, :width] = values
    return wide.view(np.uint64 if width > 4 else np.uint32).reshape(-1)


def _long_words(values: Pixels) -> Pixels:
    """Return 32 bit cells that were read as big endian numbers in their right order.

    PS3.5 8.1.1 has words of 16 bit, the low one first; many writers put the whole number. The
    order in which neighbours are more alike is the one that was meant.
    """
    turned = values << np.uint32(16) | values >> np.uint32(16)
    if not turned.size:
        return values
    return turned if _roughness(turned) < _roughness(values) else values


def _roughness(values: Pixels) -> float:
    sample = values[: 1 << 16].astype(np.float64)
    return float(np.abs(np.diff(sample)).sum())


def _whole(content: bytes, kind: "np.dtype[Any]", cells: Cells) -> Pixels:
    needed = cells.bits // 8
    if len(content) < needed:
        raise DecodeFailed("The object holds fewer pixels than it says.")
    return np.frombuffer(content[:needed], kind)


def _packed(content: bytes, cells: Cells, skip_bits: int) -> Pixels:
    """Return cells that do not fill bytes, one bit each above all (PS3.5 8.1.1)."""
    bits = np.unpackbits(np.frombuffer(content, np.uint8), bitorder="little")
    bits = bits[skip_bits : skip_bits + cells.bits]
    if bits.size < cells.bits:
        raise DecodeFailed("The object holds fewer pixels than it says.")
    if cells.allocated == 1:
        return bits
    if cells.allocated > 32:
        raise DecodeFailed(f"Pixels of {cells.allocated} bits are not known.")
    weights = np.uint32(1) << np.arange(cells.allocated, dtype=np.uint32)
    values = (bits.reshape(-1, cells.allocated) * weights).sum(axis=1, dtype=np.uint32)
    return in_range(values if cells.allocated > 16 else values.astype(np.uint16), cells)


def in_range(values: Pixels, cells: Cells) -> Pixels:
    """Cut what is no part of the pixel out of its cell, and give it its sign.

    Embedded overlays and rubbish stand above the high bit, and in old objects below the pixel.
    """
    width = values.dtype.itemsize * 8
    stored = min(cells.stored, width)
    low = cells.high_bit + 1 - stored
    if not 0 <= low <= width - stored:
        low = 0
    signed = np.dtype(f"i{values.dtype.itemsize}")
    if stored == width:
        return values.view(signed) if cells.signed else values
    up = width - stored - low
    if cells.signed:
        left = values << up if up else values
        signed_values: Pixels = left.view(signed) >> (width - stored)
        return signed_values
    top = values.dtype.type((1 << stored) - 1)
    if low:
        shifted: Pixels = (values >> low) & top
        return shifted
    masked: Pixels = values & top
    return masked


def _arranged(values: Pixels, cells: Cells) -> Pixels:
    if cells.samples == 1:
        return values.reshape(cells.rows, cells.columns)
    if cells.planar:
        planes = values.reshape(cells.samples, cells.rows, cells.columns)
        return planes.transpose(1, 2, 0)
    return values.reshape(cells.rows, cells.columns, cells.samples)


def _full_chroma(values: Pixels, cells: Cells) -> Pixels:
    """Give each pixel its own colour: Y1 Y2 Cb Cr for two pixels (PS3.3 C.7.6.3.1.2)."""
    if cells.pixels % 2:
        raise DecodeFailed("Pixels that share their colours come in pairs.")
    pairs = values.reshape(-1, 4)
    full = np.empty((pairs.shape[0], 2, 3), np.uint8)
    full[:, 0, 0], full[:, 1, 0] = pairs[:, 0], pairs[:, 1]
    full[:, :, 1:] = pairs[:, None, 2:]
    return full.reshape(cells.rows, cells.columns, 3)
