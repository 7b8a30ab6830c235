# SPDX-License-Identifier: Apache-2.0
"""Frames and metadata for our own viewer, corrected so that its loader never fails.

Every frame becomes 8 or 16 bit grey or 8 bit RGB in HTJ2K, and the metadata describe that frame,
not the stored one. What a loader of a browser trips over is left out or put right here, once.
Worker process only.
"""

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import imagecodecs
import numpy as np
from pydicom.dataset import Dataset

from . import luts
from .cells import Pixels
from .decode import Frame, PixelSource
from .dicomjson import Attributes, described
from .encode import HTJ2K_RPCL
from .errors import DecodeFailed, UnsupportedSyntax
from .palette import palette_of
from .render import automatic_window

MAX_SCALED_FRAMES: Final = 500  # of an object whose range must be known before it is told
_SPACINGS: Final = ("00280030", "00181164", "00182010")
_LEFT_OUT: Final = frozenset({
    "7FE00001", "7FE00002", "7FE00003", "7FE00008", "7FE00009", "7FE00010", "00880200",
    "00281101", "00281102", "00281103", "00281201", "00281202", "00281203",
    "00281221", "00281222", "00281223", "00282000", "00282110",
})  # fmt: skip
_BINARY: Final = frozenset({"OB", "OW", "OF", "OD", "OL", "OV", "UN"})


@dataclass(frozen=True, slots=True)
class Scale:
    """What brings wide numbers into 16 bits: value = stored × slope + intercept."""

    slope: float = 1.0
    intercept: float = 0.0

    @property
    def plain(self) -> bool:
        """Tell whether nothing is scaled."""
        return self.slope == 1.0 and not self.intercept


def viewer_frame(source: PixelSource, index: int, frame: Frame) -> bytes:
    """Return a frame as an HTJ2K codestream (lossless, RPCL) as the metadata describe it."""
    pixels = _for_viewer(frame, source)
    if pixels.ndim == 2 and (pixels.dtype.kind == "f" or pixels.dtype.itemsize > 2):
        pixels = _scaled(pixels, scale_of(source))
    whole = np.ascontiguousarray(pixels)
    return bytes(imagecodecs.htj2k_encode(whole, reversible=True, tlm=True))


def _for_viewer(frame: Frame, source: PixelSource) -> Pixels:
    array = frame.array
    if frame.photometric == "PALETTE COLOR" and array.ndim == 2:
        return palette_of(source.attributes).apply(array)
    if array.ndim != 3:
        return array
    if array.shape[2] == 1:
        return array[:, :, 0]
    array = array[:, :, :3]
    if array.dtype == np.uint8:
        return array
    shift = max(0, source.cells.stored - 8)
    colours: Pixels = np.clip(array >> shift, 0, 255).astype(np.uint8)
    return colours


def scale_of(source: PixelSource) -> Scale:
    """Return how the wide numbers of an object become 16 bits; the same for all its frames."""
    if source.scale is not None:
        found: Scale = source.scale
        return found
    step = 1 + (source.frames - 1) // MAX_SCALED_FRAMES
    low, high = float("inf"), float("-inf")
    whole = True
    for index in range(0, source.frames, step):
        array = source.frame(index).array
        whole = array.dtype.kind != "f"
        seen = array[np.isfinite(array)] if not whole else array
        if seen.size:
            low, high = min(low, float(seen.min())), max(high, float(seen.max()))
    if low > high:
        low, high = 0.0, 0.0
    if whole and low >= 0 and high <= 0xFFFF:
        scale = Scale()
    else:
        scale = Scale((high - low) / 0xFFFF or 1.0, low)
    source.scale = scale
    return scale


def _scaled(pixels: Pixels, scale: Scale) -> Pixels:
    if scale.plain:
        return np.clip(pixels, 0, 0xFFFF).astype(np.uint16)
    wide = (pixels.astype(np.float64) - scale.intercept) / scale.slope
    with np.errstate(invalid="ignore"):
        whole: Pixels = np.clip(np.rint(np.nan_to_num(wide)), 0, 0xFFFF).astype(np.uint16)
    return whole


def viewer_metadata(
    dataset: Dataset,
    source: PixelSource | None,
    first: Callable[[], Frame],
    bulk_uri: str | None,
) -> Attributes:
    """Return the attributes in DICOM JSON as the viewer's loader takes them.

    `first` gives the first frame of `source`; it may raise as PixelSource.frame.
    """
    said = described(dataset, bulk_uri)
    _put_right(said)
    if source is None:
        return said
    try:
        frame = first()
        pixels = _for_viewer(frame, source)
        wide = pixels.ndim == 2 and (pixels.dtype.kind == "f" or pixels.dtype.itemsize > 2)
        scale = scale_of(source) if wide else Scale()
    except (UnsupportedSyntax, DecodeFailed):
        return said  # a film, or broken: the attributes can be read all the same
    if wide:
        pixels = _scaled(pixels, scale)
    _describe_pixels(said, source, frame, pixels)
    if pixels.ndim == 2:
        _describe_values(said, source, frame, scale)
    return said


def _put(said: Attributes, tag: str, vr: str, *values: Any) -> None:
    said[tag] = {"vr": vr, "Value": list(values)}


def _put_right(said: Attributes) -> None:
    """Mend what makes a loader fail, whatever the pixels are."""
    for tag in [tag for tag in said if tag in _LEFT_OUT or tag.startswith("60")]:
        del said[tag]
    # private binary values are long and nobody's business in a browser
    for tag in [tag for tag, each in said.items() if int(tag[:4], 16) & 1 and _heavy(each)]:
        del said[tag]
    if not said.get("00080060", {}).get("Value"):
        _put(said, "00080060", "CS", "OT")
    for tag in _SPACINGS:
        if tag in said and not _both_positive(said[tag].get("Value")):
            del said[tag]
    for group in ("52009229", "52009230"):
        for item in said.get(group, {}).get("Value", ()):
            for measures in item.get("00289110", {}).get("Value", ()):
                if not _both_positive(measures.get("00280030", {}).get("Value")):
                    measures.pop("00280030", None)
    _numeric_tables(said, "00283000")
    _numeric_tables(said, "00283010")


def _heavy(element: Attributes) -> bool:
    return element.get("vr") in _BINARY and not element.get("Value")


def _both_positive(values: Any) -> bool:
    return (
        isinstance(values, list)
        and len(values) == 2
        and all(isinstance(each, int | float) and each > 0 for each in values)
    )


def _numeric_tables(said: Attributes, tag: str) -> None:
    """Give look-up tables as numbers: a loader does not unpack them from base 64."""
    for item in said.get(tag, {}).get("Value", ()):
        table = item.get("00283006", {})
        packed = table.pop("InlineBinary", None)
        if packed is not None:
            content = base64.b64decode(packed)
            words = np.frombuffer(content[: len(content) // 2 * 2], "<u2").tolist()
            item["00283006"] = {"vr": "US", "Value": words}


def _describe_pixels(said: Attributes, source: PixelSource, frame: Frame, pixels: Pixels) -> None:
    """Say what the frames of `viewer_frame` are."""
    colour = pixels.ndim == 3
    bits = pixels.dtype.itemsize * 8
    stored = source.cells.stored
    same = frame.array.dtype == pixels.dtype and not colour and frame.array.dtype.kind in "iu"
    used = min(bits, stored) if same and stored > 1 else bits
    _put(said, "00280002", "US", 3 if colour else 1)
    mono = frame.photometric if frame.photometric.startswith("MONOCHROME") else "MONOCHROME2"
    _put(said, "00280004", "CS", "RGB" if colour else mono)
    if colour:
        _put(said, "00280006", "US", 0)
    else:
        said.pop("00280006", None)
    _put(said, "00280008", "IS", source.frames)
    _put(said, "00280010", "US", int(source.attributes.Rows))
    _put(said, "00280011", "US", int(source.attributes.Columns))
    _put(said, "00280100", "US", bits)
    _put(said, "00280101", "US", used)
    _put(said, "00280102", "US", used - 1)
    _put(said, "00280103", "US", int(pixels.dtype.kind == "i"))
    _put(said, "00083002", "UI", HTJ2K_RPCL)


def _describe_values(said: Attributes, source: PixelSource, frame: Frame, scale: Scale) -> None:
    """Say what the numbers mean and how they are first shown, so that both sides show the same."""
    attributes = source.attributes
    groups = luts.functional_groups(attributes, 0)
    modality = luts.modality_of(attributes, groups)
    enhanced = luts.macro(groups, "PixelValueTransformationSequence") is not None
    if modality.table is None and not (enhanced and scale.plain):
        slope, intercept = modality.slope, modality.intercept
        _put(said, "00281053", "DS", slope * scale.slope)
        _put(said, "00281052", "DS", slope * scale.intercept + intercept)
    windows = luts.windows_of(attributes, groups)
    if luts.macro(groups, "FrameVOILUTSequence") is not None and windows:
        return
    for tag in ("00281050", "00281051", "00281055", "00281056"):
        said.pop(tag, None)
    if not windows and luts.voi_tables_of(attributes, groups):
        return
    shown = windows or [automatic_window(source, frame)]
    _put(said, "00281050", "DS", *(each.center for each in shown))
    _put(said, "00281051", "DS", *(each.width for each in shown))
    _put(said, "00281056", "CS", shown[0].function)
    if any(each.explanation for each in shown):
        _put(said, "00281055", "LO", *(each.explanation for each in shown))
