# SPDX-License-Identifier: Apache-2.0
"""Overlay planes and display shutters of an image (PS3.3 C.9.2, C.7.6.11). Worker process only."""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from PIL import Image, ImageDraw
from pydicom.dataset import Dataset

from .cells import Pixels
from .decode import PixelSource

_GROUPS: Final = range(0x6000, 0x6020, 2)
MAX_OVERLAY_PIXELS: Final = 64 << 20
MAX_VERTICES: Final = 10_000


def overlay_mask(source: PixelSource, index: int) -> Pixels | None:
    """Return where the frame's overlays are set, None when it has none."""
    mask: Pixels | None = None
    attributes = source.attributes
    for group in _GROUPS:
        plane = _plane(source, group, index)
        if plane is None:
            continue
        if mask is None:
            mask = np.zeros((attributes.Rows, attributes.Columns), bool)
        _lay(mask, plane, _origin(attributes, group))
    return mask


def _whole(attributes: Dataset, group: int, element: int) -> int:
    try:
        return int(attributes[group, element].value)
    except (KeyError, TypeError, ValueError):
        return 0


def _origin(attributes: Dataset, group: int) -> tuple[int, int]:
    """Return row and column, from 0, of the overlay's first pixel in the frame."""
    try:
        row, column = (int(each) for each in attributes[group, 0x50].value)
    except (KeyError, TypeError, ValueError):
        return 0, 0
    return row - 1, column - 1


def _plane(source: PixelSource, group: int, index: int) -> Pixels | None:
    attributes = source.attributes
    rows, columns = _whole(attributes, group, 0x10), _whole(attributes, group, 0x11)
    if not 0 < rows * columns <= MAX_OVERLAY_PIXELS:
        return None
    frames = max(1, _whole(attributes, group, 0x15))
    first = max(1, _whole(attributes, group, 0x51)) - 1
    if (group, 0x3000) in attributes:
        # one plane for all frames, or one for each from its first on (PS3.3 C.9.2.1.4)
        place = 0 if frames == 1 and first == 0 else index - first
        if not 0 <= place < frames:
            return None
        return _own_bits(attributes[group, 0x3000].value, rows, columns, place, source)
    return _embedded(source, index, _whole(attributes, group, 0x102), rows, columns)


def _own_bits(
    content: Any, rows: int, columns: int, place: int, source: PixelSource
) -> Pixels | None:
    if not isinstance(content, bytes):
        return None
    if not source.cells.little:  # words of 16 bit
        even = content[: len(content) // 2 * 2]
        content = np.frombuffer(even, np.uint16).byteswap().tobytes()
    start, length = place * rows * columns, rows * columns
    part = np.frombuffer(content[start // 8 : (start + length + 7) // 8], np.uint8)
    bits = np.unpackbits(part, bitorder="little")[start % 8 :][:length]
    return bits.reshape(rows, columns).astype(bool) if bits.size == length else None


def _embedded(
    source: PixelSource, index: int, position: int, rows: int, columns: int
) -> Pixels | None:
    """Return a plane from the unused bits of the pixels (retired, PS3.5 8.1.2 of 2004)."""
    cells = source.cells
    used = range(cells.high_bit + 1 - cells.stored, cells.high_bit + 1)
    fits = (rows, columns) == (cells.rows, cells.columns) and cells.samples == 1
    if source.encapsulated or not fits or cells.allocated not in (8, 16) or position in used:
        return None
    if not 0 < position < cells.allocated:
        return None
    kind = f"{'<' if cells.little else '>'}u{cells.allocated // 8}"
    words = np.frombuffer(source.native_bytes(index), kind)
    if words.size != rows * columns:
        return None
    plane: Pixels = (words >> position & 1).reshape(rows, columns).astype(bool)
    return plane


def _lay(mask: Pixels, plane: Pixels, origin: tuple[int, int]) -> None:
    """Set what the plane sets where it lies on the frame."""
    row, column = origin
    top, left = max(0, row), max(0, column)
    part = plane[top - row : mask.shape[0] - row, left - column : mask.shape[1] - column]
    if part.size:
        mask[top : top + part.shape[0], left : left + part.shape[1]] |= part


def shutter_mask(attributes: Dataset) -> Pixels | None:
    """Return which pixels the display shutter covers, None without one."""
    shapes = list(_shapes(attributes))
    if not shapes:
        return None
    open_part = np.ones((attributes.Rows, attributes.Columns), bool)
    for shape in shapes:
        open_part &= shape
    return ~open_part if open_part.any() else None  # what would hide everything is a mistake


def _shapes(attributes: Dataset) -> Iterator[Pixels]:
    named = attributes.get("ShutterShape")
    names = [named] if isinstance(named, str) else list(named or ())
    for name in names:
        try:
            yield from _shape(str(name), attributes)
        except (TypeError, ValueError, AttributeError, OverflowError):
            continue


def _shape(name: str, attributes: Dataset) -> Iterator[Pixels]:
    size = (int(attributes.Columns), int(attributes.Rows))
    image = Image.new("1", size)
    draw = ImageDraw.Draw(image)
    if name == "RECTANGULAR":
        left = int(attributes.ShutterLeftVerticalEdge)
        right = int(attributes.ShutterRightVerticalEdge)
        top = int(attributes.ShutterUpperHorizontalEdge)
        bottom = int(attributes.ShutterLowerHorizontalEdge)
        # the edges themselves are covered (PS3.3 C.7.6.11)
        draw.rectangle((left, top, right - 2, bottom - 2), fill=1)
    elif name == "CIRCULAR":
        row, column = (float(each) - 1 for each in attributes.CenterOfCircularShutter)
        radius = float(attributes.RadiusOfCircularShutter)
        draw.ellipse((column - radius, row - radius, column + radius, row + radius), fill=1)
    elif name == "POLYGONAL":
        flat = [float(each) - 1 for each in attributes.VerticesOfThePolygonalShutter]
        if not 6 <= len(flat) <= 2 * MAX_VERTICES:
            return
        draw.polygon(list(zip(flat[1::2], flat[::2], strict=False)), fill=1)
    else:
        return
    yield np.asarray(image, dtype=bool)
