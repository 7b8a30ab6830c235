# SPDX-License-Identifier: Apache-2.0
"""From stored values to a picture: modality, VOI and colour transformations (PS3.3 C.11, C.7.6.3).

Worker process only.
"""

import math
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut

from .decode import Frame, PixelSource
from .errors import DecodeFailed

Pixels = np.ndarray[Any, np.dtype[Any]]

# soft tissue: what a reader expects of a CT that brings no window
CT_WINDOW: Final = (40.0, 400.0)
# of other modalities without a window: a few very bright or dark pixels shall not flatten the rest
LOW_PERCENT, HIGH_PERCENT = 0.5, 99.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Centre and width in modality units, and the function of PS3.3 C.11.2.1.3."""

    center: float
    width: float
    function: str = "LINEAR"


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One frame as 8 bit grey or RGB; `window` is what was applied, None for colour or a LUT."""

    pixels: Pixels
    window: Window | None


def picture(source: PixelSource, index: int, window: tuple[float, float] | None) -> Picture:
    """Return a frame as it shall be shown."""
    frame = source.frame(index)
    attributes = source.attributes
    if frame.photometric == "PALETTE COLOR" and frame.array.ndim == 2:
        return Picture(pixels=_palette(frame, attributes), window=None)
    if frame.array.ndim == 3:
        return Picture(pixels=_colour(frame, attributes), window=None)
    if frame.array.ndim != 2:
        raise DecodeFailed("The frame is neither grey nor colour.")
    return _grey(frame, attributes, index, window)


def encode(pixels: Pixels, *, max_size: int | None, kind: str, quality: int) -> bytes:
    """Return a JPEG or PNG at most `max_size` pixels wide and high."""
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if max_size is not None and max(image.size) > max_size:
        # reducing_gap: a box filter down to twice the size first; hardly seen and much quicker
        image.thumbnail((max_size, max_size), Image.Resampling.LANCZOS, reducing_gap=2.0)
    out = BytesIO()
    if kind == "png":
        image.save(out, "PNG", compress_level=3)
    else:
        image.save(out, "JPEG", quality=quality)
    return out.getvalue()


def _palette(frame: Frame, attributes: Dataset) -> Pixels:
    try:
        rgb = apply_color_lut(frame.array, attributes)
    except (ValueError, AttributeError, KeyError, IndexError) as error:
        raise DecodeFailed(f"The palette cannot be used: {type(error).__name__}.") from None
    if rgb.dtype == np.uint8:
        return rgb
    # PS3.3 C.7.6.3.1.6: 16 bit palettes use the whole range, except those that only fill 8 bits
    return (rgb >> 8).astype(np.uint8) if int(rgb.max(initial=0)) > 0xFF else rgb.astype(np.uint8)


def _colour(frame: Frame, attributes: Dataset) -> Pixels:
    pixels = frame.array
    if pixels.shape[2] == 1:
        pixels = np.repeat(pixels, 3, axis=2)
    if pixels.shape[2] < 3:
        raise DecodeFailed("A colour frame has fewer than three samples per pixel.")
    pixels = pixels[:, :, :3]
    if pixels.dtype == np.uint8:
        return pixels
    bits = int(attributes.get("BitsStored") or pixels.dtype.itemsize * 8)
    shift = max(0, min(bits, pixels.dtype.itemsize * 8) - 8)
    colours: Pixels = np.clip(pixels >> shift, 0, 255).astype(np.uint8)
    return colours


def _grey(
    frame: Frame, attributes: Dataset, index: int, asked: tuple[float, float] | None
) -> Picture:
    stored = frame.array
    functional = _functional_groups(attributes, index)
    values = _modality(stored, attributes, functional)
    inverted = frame.photometric == "MONOCHROME1"
    if attributes.get("PresentationLUTShape") == "INVERSE":
        inverted = frame.photometric != "MONOCHROME1" or inverted
    window = _window(attributes, functional, index)
    if asked is not None:
        function = window.function if window else "LINEAR"
        window = Window(center=asked[0], width=asked[1], function=function)
    pixels: Pixels | None = None
    if window is None and attributes.get("VOILUTSequence"):
        pixels = _voi_lut(values, attributes)
    if pixels is None:
        window = window or _default_window(stored, values, attributes)
        pixels = apply_window(values, window)
    return Picture(pixels=255 - pixels if inverted else pixels, window=window)


def _functional_groups(attributes: Dataset, index: int) -> list[Dataset]:
    """Return the per-frame and the shared functional groups of an enhanced object, near first."""
    groups: list[Dataset] = []
    per_frame = attributes.get("PerFrameFunctionalGroupsSequence")
    if per_frame and index < len(per_frame):
        groups.append(per_frame[index])
    shared = attributes.get("SharedFunctionalGroupsSequence")
    if shared:
        groups.append(shared[0])
    return groups


def _macro(groups: list[Dataset], keyword: str) -> Dataset | None:
    for group in groups:
        sequence = group.get(keyword)
        if sequence:
            item: Dataset = sequence[0]
            return item
    return None


def _modality(stored: Pixels, attributes: Dataset, groups: list[Dataset]) -> Pixels:
    """Apply the modality LUT or rescale slope and intercept (PS3.3 C.11.1)."""
    if attributes.get("ModalityLUTSequence"):
        table = _lut(attributes.ModalityLUTSequence[0], attributes)
        # a broken table is not applied: the stored values can still be looked at
        return stored if table is None else table.look_up(stored)
    transformation = _macro(groups, "PixelValueTransformationSequence") or attributes
    slope = _number(transformation.get("RescaleSlope"))
    intercept = _number(transformation.get("RescaleIntercept"))
    if slope in (None, 0.0):
        slope = 1.0
    if slope == 1.0 and not intercept:
        return stored
    return stored.astype(np.float32) * np.float32(slope) + np.float32(intercept or 0.0)


def _window(attributes: Dataset, groups: list[Dataset], index: int) -> Window | None:
    """Return the object's window for this frame, None when it has none that can be used."""
    item = _macro(groups, "FrameVOILUTSequence") or attributes
    center = _first(item.get("WindowCenter"))
    width = _first(item.get("WindowWidth"))
    function = str(item.get("VOILUTFunction") or "LINEAR")
    if center is None or width is None or width < (1 if function == "LINEAR" else 1e-9):
        return None
    return Window(center=center, width=width, function=function)


def _first(value: Any) -> float | None:
    if value is not None and not isinstance(value, str | float | int):
        value = value[0] if len(value) else None
    return _number(value)


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _default_window(stored: Pixels, values: Pixels, attributes: Dataset) -> Window:
    """Return a window for an object that brings none."""
    bits = int(attributes.get("BitsStored") or 16)
    if values is stored and bits <= 8 and stored.dtype.kind == "u":
        top = float((1 << bits) - 1)
        return Window(center=top / 2, width=max(top, 1e-6), function="LINEAR_EXACT")
    if attributes.get("Modality") == "CT" and values is not stored:
        return Window(center=CT_WINDOW[0], width=CT_WINDOW[1])
    seen = values
    padding = attributes.get("PixelPaddingValue")
    if isinstance(padding, int):
        kept = values[stored != padding]
        seen = kept if kept.size else values
    if seen.dtype.kind == "f":
        seen = seen[np.isfinite(seen)]
    if not seen.size:
        return Window(center=0.0, width=1.0)
    low, high = (float(number) for number in np.percentile(seen, (LOW_PERCENT, HIGH_PERCENT)))
    if high <= low:
        low, high = float(seen.min()), float(seen.max())
    return Window(center=(low + high) / 2, width=max(high - low, 1e-6), function="LINEAR_EXACT")


def apply_window(values: Pixels, window: Window) -> Pixels:
    """Return 8 bit grey by PS3.3 C.11.2.1.2 (linear) and C.11.2.1.3 (sigmoid, exact)."""
    if values.dtype.kind in "iu" and values.dtype.itemsize <= 2:
        # every value that can occur, once: 65536 at most, then one look-up per pixel
        bits = np.iinfo(values.dtype)
        table = _windowed(np.arange(bits.min, bits.max + 1, dtype=np.float32), window)
        shown: Pixels = table[values.astype(np.int32) - bits.min]
        return shown
    return _windowed(values.astype(np.float32, copy=False), window)


def _windowed(values: Pixels, window: Window) -> Pixels:
    center, width = window.center, window.width
    if window.function == "SIGMOID":
        with np.errstate(over="ignore"):
            grey = 255.0 / (1.0 + np.exp(-4.0 * (values - center) / width))
    elif window.function == "LINEAR_EXACT":
        grey = ((values - center) / width + 0.5) * 255.0
    elif width <= 1:
        grey = np.where(values > center - 0.5, 255.0, 0.0)
    else:
        grey = ((values - (center - 0.5)) / (width - 1) + 0.5) * 255.0
    grey = np.nan_to_num(grey, nan=0.0, posinf=255.0, neginf=0.0)
    return (np.clip(grey, 0, 255) + 0.5).astype(np.uint8)


def _voi_lut(values: Pixels, attributes: Dataset) -> Pixels | None:
    """Return the first VOI LUT's output on 8 bits, None when it cannot be used."""
    table = _lut(attributes.VOILUTSequence[0], attributes)
    if table is None:
        return None
    whole = values if values.dtype.kind in "iu" else np.rint(values).astype(np.int32)
    output = table.look_up(whole)
    grey: Pixels = np.clip(output >> max(0, table.bits - 8), 0, 255).astype(np.uint8)
    return grey


@dataclass(frozen=True, slots=True)
class _Table:
    """A look-up table (PS3.3 C.11.1.1.1): entries, the value of the first one, bits per entry."""

    entries: Pixels
    first: int
    bits: int

    def look_up(self, values: Pixels) -> Pixels:
        index = np.clip(values.astype(np.int64) - self.first, 0, self.entries.size - 1)
        found: Pixels = self.entries[index]
        return found


def _lut(item: Dataset, attributes: Dataset) -> _Table | None:
    """Read a look-up table as it is found in the field: in words, or 8 bit entries in bytes."""
    try:
        count, first, bits = (int(number) for number in item.LUTDescriptor)
        content = item.LUTData
    except (AttributeError, TypeError, ValueError):
        return None
    count = count or 65536
    if attributes.get("PixelRepresentation") == 1 and first > 32767:
        first -= 65536
    if isinstance(content, bytes):
        little = item.original_encoding[1] is not False
        kind = "u1" if len(content) < 2 * count else "<u2" if little else ">u2"
        entries = np.frombuffer(content[: len(content) // 2 * 2], kind)[:count]
    else:
        entries = np.atleast_1d(np.asarray(content, dtype=np.uint16))[:count]
    return _Table(entries, first, bits) if entries.size and 1 <= bits <= 16 else None
