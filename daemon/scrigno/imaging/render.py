# SPDX-License-Identifier: Apache-2.0
"""From stored values to a picture: modality, VOI and colour transformations (PS3.3 C.11, C.7.6.3).

Worker process only.
"""

from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from typing import Any, Final

import numpy as np
from PIL import Image, ImageCms
from pydicom.dataset import Dataset

from . import drawing, luts
from .cells import Pixels
from .decode import Frame, PixelSource
from .errors import DecodeFailed
from .luts import LINEAR, LINEAR_EXACT, Modality, Table, Window
from .overlays import overlay_mask, shutter_mask
from .palette import is_supplemental, palette_of
from .results import Look

# soft tissue: what a reader expects of a CT that brings no window
CT_WINDOW: Final = luts.PRESETS["soft-tissue"]
# of other modalities without a window: a few very bright or dark pixels shall not flatten the rest
LOW_PERCENT, HIGH_PERCENT = 0.5, 99.5
MAX_SAMPLE: Final = 1 << 19  # pixels that a window is made from
SPARE: Final = 3  # a small picture is made from this many times its pixels in each direction
MAX_ANIMATED: Final = 600
MAX_ANIMATED_PIXELS: Final = 256 << 20
MAX_PROFILE_BYTES: Final = 4 << 20
DEFAULT_FRAME_MS: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One frame as grey or RGB; `window` is what was applied, None for colour or a LUT."""

    pixels: Pixels
    window: Window | None


def picture(
    source: PixelSource, look: Look, frame: Frame | None = None, *, step: int = 1
) -> Picture:
    """Return a frame as it shall be shown, every `step`th pixel of it.

    Grey has 8 bits, or 16 when the look's format is png16. Raises as `PixelSource.frame`.
    """
    frame = frame or source.frame(look.frame)
    attributes = source.attributes
    array = frame.array[::step, ::step]
    if frame.photometric == "PALETTE COLOR" and array.ndim == 2:
        shown = Picture(pixels=palette_of(attributes).apply(array), window=None)
    elif array.ndim == 3:
        shown = _colour(array, attributes, look)
    elif array.ndim == 2:
        shown = _grey(array, frame.photometric, source, look)
    else:
        raise DecodeFailed("The frame is neither grey nor colour.")
    return _covered(shown, source, look, step)


def rendered(source: PixelSource, look: Look, frame: Frame | None = None) -> tuple[bytes, Picture]:
    """Return the picture as a file, and what was shown in it."""
    if look.frames > 1:
        return _animated(source, look)
    image, shown = _image(source, look, frame)
    content = drawing.saved([image], look.format, quality=look.quality, duration_ms=0)
    return content, shown


def _image(source: PixelSource, look: Look, frame: Frame | None) -> tuple[Image.Image, Picture]:
    step = _step(source, look)
    shown = picture(source, look, frame, step=step)
    groups = luts.functional_groups(source.attributes, look.frame)
    viewport = look.message().get("viewport")
    ratio = drawing.aspect(source.attributes, groups)
    image = drawing.as_image(shown.pixels)
    image = drawing.shaped(image, ratio, viewport, look.max_size)
    if image.mode == "RGB":
        image = _in_srgb(image, source.attributes)
    if look.annotation and image.mode in ("L", "RGB"):
        image = drawing.annotate(image, source.attributes, list(look.annotation), shown.window)
    return image, shown


def _step(source: PixelSource, look: Look) -> int:
    """Return how many pixels a small picture may leap over."""
    if look.max_size is None or look.viewport is not None:
        return 1
    longest = max(int(source.attributes.Rows), int(source.attributes.Columns))
    return max(1, longest // (SPARE * look.max_size))


def _animated(source: PixelSource, look: Look) -> tuple[bytes, Picture]:
    if look.format not in ("gif", "webp"):
        raise DecodeFailed("Several frames in one picture need the format gif or webp.")
    last = min(source.frames, look.frame + min(look.frames, MAX_ANIMATED))
    images: list[Image.Image] = []
    shown: Picture | None = None
    pixels = 0
    for index in range(look.frame, last):
        each = Look(**{**_fields(look), "frame": index, "frames": 1})
        image, shown = _image(source, each, None)
        pixels += image.width * image.height
        if pixels > MAX_ANIMATED_PIXELS:
            raise DecodeFailed("The film is too large for one picture: ask for fewer frames.")
        images.append(image)
    if shown is None:
        source.check_frame(look.frame)
        raise DecodeFailed("There is no frame to show.")
    duration = frame_time_ms(source.attributes)
    return drawing.saved(images, look.format, quality=look.quality, duration_ms=duration), shown


def _fields(look: Look) -> dict[str, Any]:
    return {name: getattr(look, name) for name in Look.__dataclass_fields__}


def frame_time_ms(attributes: Dataset) -> int:
    """Return how long a frame of a film is shown."""
    rate = luts.number(attributes.get("RecommendedDisplayFrameRate")) or luts.number(
        attributes.get("CineRate")
    )
    time = 1000 / rate if rate and rate > 0 else luts.number(attributes.get("FrameTime"))
    return round(min(2000.0, max(20.0, time))) if time else DEFAULT_FRAME_MS


def _colour(pixels: Pixels, attributes: Dataset, look: Look) -> Picture:
    if pixels.shape[2] == 1:
        pixels = np.repeat(pixels, 3, axis=2)
    if pixels.shape[2] < 3:
        raise DecodeFailed("A colour frame has fewer than three samples per pixel.")
    pixels = pixels[:, :, :3]
    if pixels.dtype != np.uint8:
        bits = int(attributes.get("BitsStored") or pixels.dtype.itemsize * 8)
        shift = max(0, min(bits, pixels.dtype.itemsize * 8) - 8)
        pixels = np.clip(pixels >> shift, 0, 255).astype(np.uint8)
    window = None
    if look.window is not None:
        window = Window(center=look.window[0], width=look.window[1], function=LINEAR_EXACT)
        table = luts.windowed(np.arange(256), window, 255.0)
        pixels = (table + 0.5).astype(np.uint8)[pixels]
    return Picture(pixels=255 - pixels if look.invert else pixels, window=window)


def _grey(stored: Pixels, photometric: str, source: PixelSource, look: Look) -> Picture:
    attributes = source.attributes
    groups = luts.functional_groups(attributes, look.frame)
    modality = luts.modality_of(attributes, groups)
    inverted = photometric == "MONOCHROME1" or attributes.get("PresentationLUTShape") == "INVERSE"
    inverted ^= look.invert
    chosen = _chosen(look, source, stored, modality, groups)
    top = 65535 if look.format == "png16" else 255

    def grey(values: Pixels) -> Pixels:
        values = modality.apply(values)
        if isinstance(chosen, Table):
            shown = chosen.look_up(values).astype(np.float32) * (top / ((1 << chosen.bits) - 1))
            shown = np.clip(shown, 0, top)
        else:
            shown = luts.windowed(values, chosen, float(top))
        if inverted:
            shown = top - shown
        return (shown + 0.5).astype(np.uint16 if top > 255 else np.uint8)

    pixels = mapped(stored, grey)
    if is_supplemental(attributes, photometric):
        pixels = _supplemented(stored, pixels, attributes)
    return Picture(pixels=pixels, window=None if isinstance(chosen, Table) else chosen)


def apply_window(values: Pixels, window: Window) -> Pixels:
    """Return 8 bit grey."""
    return mapped(values, lambda each: (luts.windowed(each, window, 255.0) + 0.5).astype(np.uint8))


def mapped(stored: Pixels, transfer: Any) -> Pixels:
    """Apply a function of values: to every value that can occur once, or to every pixel."""
    if stored.dtype.kind not in "iu" or stored.dtype.itemsize > 2 or stored.size < 1 << 12:
        out: Pixels = transfer(stored)
        return out
    unsigned = np.dtype(f"u{stored.dtype.itemsize}")
    every = np.arange(1 << (8 * stored.dtype.itemsize), dtype=np.uint32).astype(unsigned)
    table: Pixels = transfer(every.view(stored.dtype))
    return np.take(table, stored.view(unsigned) if stored.flags.c_contiguous else
                   stored.astype(stored.dtype, copy=True).view(unsigned))  # fmt: skip


def _supplemented(stored: Pixels, grey: Pixels, attributes: Dataset) -> Pixels:
    """Give the values of the supplemental palette their colours."""
    try:
        palette = palette_of(attributes)
    except DecodeFailed:
        return grey
    if grey.dtype != np.uint8:
        grey = (grey >> 8).astype(np.uint8)
    colours = np.repeat(grey[:, :, None], 3, axis=2)
    above = stored >= palette.first
    colours[above] = palette.apply(stored[above])
    return colours


def _chosen(
    look: Look, source: PixelSource, stored: Pixels, modality: Modality, groups: list[Dataset]
) -> Window | Table:
    """Return what the look asks for, else what the object says, else what fits the frame."""
    windows = luts.windows_of(source.attributes, groups)
    tables = luts.voi_tables_of(source.attributes, groups)
    if look.window is not None:
        function = look.function or (windows[0].function if windows else LINEAR)
        return Window(center=look.window[0], width=look.window[1], function=function)
    named = _named(look.voi, windows, tables)
    if named is not None:
        return named
    if look.voi not in (luts.AUTOMATIC, luts.FULL):
        if windows:
            return windows[0]
        if tables:
            return tables[0]
    return _automatic(source, stored, modality, look)


def _named(
    voi: int | str | None, windows: list[Window], tables: list[Table]
) -> Window | Table | None:
    """Return one of the object's windows or tables by place or explanation, or a preset."""
    offered: list[Window | Table] = [*windows, *tables]
    if voi is None:
        return None
    if isinstance(voi, int):
        return offered[voi] if 0 <= voi < len(offered) else None
    for each in offered:
        if each.explanation.casefold().strip() == voi.casefold().strip() != "":
            return each
    preset = luts.PRESETS.get(voi)
    return Window(center=preset[0], width=preset[1]) if preset else None


def _automatic(source: PixelSource, stored: Pixels, modality: Modality, look: Look) -> Window:
    """Return a window for an object that brings none."""
    attributes = source.attributes
    bits = int(attributes.get("BitsStored") or 16)
    asked = look.voi in (luts.AUTOMATIC, luts.FULL)
    if not asked and modality.plain and bits <= 8 and stored.dtype.kind == "u":
        top = float((1 << bits) - 1)
        return Window(center=top / 2, width=max(top, 1e-6), function=LINEAR_EXACT)
    if not asked and attributes.get("Modality") == "CT" and not modality.plain:
        return Window(center=CT_WINDOW[0], width=CT_WINDOW[1])
    if asked or source.frames == 1:
        return _fitting(stored, modality, attributes, whole=look.voi == luts.FULL)
    # a film keeps one window: its middle frame's
    if source.automatic is None:
        middle = source.frame(source.frames // 2).array
        source.automatic = _fitting(middle, modality, attributes, whole=False)
    return source.automatic


def automatic_window(source: PixelSource, first: Frame) -> Window:
    """Return the window in which an object without one is shown, by its first frame."""
    groups = luts.functional_groups(source.attributes, 0)
    modality = luts.modality_of(source.attributes, groups)
    return _automatic(source, first.array, modality, Look())


def _fitting(stored: Pixels, modality: Modality, attributes: Dataset, *, whole: bool) -> Window:
    seen = stored.reshape(-1)[:: 1 + stored.size // MAX_SAMPLE]
    low_pad, high_pad = padding_of(attributes)
    if low_pad is not None and high_pad is not None:
        kept = seen[(seen < low_pad) | (seen > high_pad)]
        seen = kept if kept.size else seen
    seen = modality.apply(seen)
    if seen.dtype.kind == "f":
        seen = seen[np.isfinite(seen)]
    if not seen.size:
        return Window(center=0.0, width=1.0)
    low, high = float(seen.min()), float(seen.max())
    if not whole:
        inner = [float(each) for each in np.percentile(seen, (LOW_PERCENT, HIGH_PERCENT))]
        if inner[1] > inner[0]:
            low, high = inner
    return Window(center=(low + high) / 2, width=max(high - low, 1e-6), function=LINEAR_EXACT)


def padding_of(attributes: Dataset) -> tuple[int | None, int | None]:
    """Return the range of stored values that are no image (PS3.3 C.7.5.1.1.2), None without."""
    value = _padding(attributes.get("PixelPaddingValue"), attributes)
    if value is None:
        return None, None
    limit = _padding(attributes.get("PixelPaddingRangeLimit"), attributes)
    other = value if limit is None else limit
    return min(value, other), max(value, other)


def _padding(value: Any, attributes: Dataset) -> int | None:
    if not isinstance(value, int):
        return None
    bits = int(attributes.BitsAllocated)
    if attributes.get("PixelRepresentation") == 1 and value >= 1 << (bits - 1):
        return value - (1 << bits)
    return value


def _covered(shown: Picture, source: PixelSource, look: Look, step: int) -> Picture:
    """Draw overlays and close the shutter."""
    cover = shutter_mask(source.attributes) if look.shutter else None
    overlay = overlay_mask(source, look.frame) if look.overlays else None
    if cover is None and overlay is None:
        return shown
    pixels = shown.pixels.copy()
    top = np.iinfo(pixels.dtype).max
    if cover is not None:
        pixels[cover[::step, ::step]] = 0
    if overlay is not None:
        pixels[overlay[::step, ::step]] = top
    return Picture(pixels=pixels, window=shown.window)


def _in_srgb(image: Image.Image, attributes: Dataset) -> Image.Image:
    """Convert colours by the object's ICC profile (PS3.3 C.11.15); a broken one is ignored."""
    profile = attributes.get("ICCProfile")
    if profile is None and attributes.get("OpticalPathSequence"):
        profile = attributes.OpticalPathSequence[0].get("ICCProfile")
    if not isinstance(profile, bytes) or not 128 <= len(profile) <= MAX_PROFILE_BYTES:
        return image
    transform = _transform(profile)
    if transform is None:
        return image
    try:
        found = ImageCms.applyTransform(image, transform)
    except (ValueError, ImageCms.PyCMSError):
        return image
    return image if found is None else found


@lru_cache(maxsize=4)
def _transform(profile: bytes) -> Any:
    try:
        given = ImageCms.ImageCmsProfile(BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(given).casefold():
            return None
        return ImageCms.buildTransform(given, ImageCms.createProfile("sRGB"), "RGB", "RGB")
    except (OSError, TypeError, ValueError, ImageCms.PyCMSError):
        return None
