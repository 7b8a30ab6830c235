# SPDX-License-Identifier: Apache-2.0
"""From the pixels of a frame to the bytes of a picture: size, flips, burnt-in texts, file format.

Worker process only.
"""

import unicodedata
from io import BytesIO
from typing import Any, Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps
from pydicom.dataset import Dataset

from .cells import Pixels
from .errors import DecodeFailed
from .luts import Window, macro, number

LANCZOS: Final = Image.Resampling.LANCZOS
BICUBIC: Final = Image.Resampling.BICUBIC
MAX_SIDE: Final = 16384
MAX_STRETCH: Final = 20.0
SQUARE: Final = 0.005  # pixels that differ less are square
_SPACINGS: Final = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
_TECHNIQUE: Final = (
    ("Modality", "{}"), ("BodyPartExamined", "{}"), ("SeriesDescription", "{}"),
    ("ProtocolName", "{}"), ("KVP", "{} kV"), ("XRayTubeCurrent", "{} mA"), ("Exposure", "{} mAs"),
    ("ExposureTime", "{} ms"), ("RepetitionTime", "TR {} ms"), ("EchoTime", "TE {} ms"),
    ("SliceThickness", "{} mm"), ("SliceLocation", "loc {} mm"),
)  # fmt: skip
_PATIENT: Final = (
    ("PatientName", "{}"), ("PatientID", "{}"), ("PatientBirthDate", "{}"), ("PatientSex", "{}"),
    ("StudyDate", "{}"), ("InstitutionName", "{}"),
)  # fmt: skip
LONGEST_LINE: Final = 64


def as_image(pixels: Pixels) -> Image.Image:
    """Return the pixels as an image: grey of 8 or 16 bit, or RGB."""
    return Image.fromarray(np.ascontiguousarray(pixels))


def aspect(attributes: Dataset, groups: list[Dataset]) -> float:
    """Return the height of a pixel by its width, 1 where it is not said or makes no sense."""
    ratio = attributes.get("PixelAspectRatio")
    found = _quotient(ratio)
    if found is None:
        measures = macro(groups, "PixelMeasuresSequence") or attributes
        for keyword in _SPACINGS:
            found = _quotient(measures.get(keyword))
            if found is not None:
                break
    if found is None or not 1 / MAX_STRETCH <= found <= MAX_STRETCH:
        return 1.0
    return 1.0 if abs(found - 1) < SQUARE else found


def _quotient(value: Any) -> float | None:
    try:
        first, second = (number(each) for each in value)
    except (TypeError, ValueError):
        return None
    return first / second if first and second and first > 0 and second > 0 else None


def shaped(
    image: Image.Image, ratio: float, viewport: dict[str, Any] | None, max_size: int | None
) -> Image.Image:
    """Return the image with square pixels, cut and scaled as asked."""
    box: tuple[float, float, float, float] = (0.0, 0.0, float(image.width), float(image.height))
    mirrored = flipped = False
    if viewport is not None:
        box, mirrored, flipped = _box(image, viewport)
    width, height = box[2] - box[0], box[3] - box[1]
    if ratio > 1:
        height *= ratio
    else:
        width /= ratio
    scale = 1.0
    if viewport is not None:
        scale = min(viewport["width"] / width, viewport["height"] / height)
    elif max_size is not None and max(width, height) > max_size:
        scale = max_size / max(width, height)
    elif max(width, height) > MAX_SIDE and ratio != 1:
        scale = MAX_SIDE / max(width, height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    if size != image.size or box != (0, 0, *image.size):
        smaller = size[0] < box[2] - box[0] and size[1] < box[3] - box[1]
        # reducing_gap: a box filter down to twice the size first; hardly seen and much quicker
        gap = 2.0 if smaller and image.mode in ("L", "RGB") else None
        image = image.resize(size, LANCZOS if smaller else BICUBIC, box=box, reducing_gap=gap)
    if mirrored:
        image = ImageOps.mirror(image)
    return ImageOps.flip(image) if flipped else image


def _box(
    image: Image.Image, viewport: dict[str, Any]
) -> tuple[tuple[float, float, float, float], bool, bool]:
    """Return the part of the frame to show, and whether it is mirrored and flipped."""
    left, top = float(viewport.get("left", 0.0)), float(viewport.get("top", 0.0))
    asked = viewport.get("part_width"), viewport.get("part_height")
    width = float(asked[0]) if asked[0] else image.width - left
    height = float(asked[1]) if asked[1] else image.height - top
    right, bottom = min(image.width, left + abs(width)), min(image.height, top + abs(height))
    left, top = max(0.0, left), max(0.0, top)
    if right - left < 1 or bottom - top < 1:
        raise DecodeFailed("The part asked for lies outside the frame.")
    return (left, top, right, bottom), width < 0, height < 0


def annotate(
    image: Image.Image, attributes: Dataset, kinds: list[str], window: Window | None
) -> Image.Image:
    """Burn texts into the corners: the patient top left, the technique bottom left."""
    corners = []
    if "patient" in kinds:
        corners.append((True, _lines(attributes, _PATIENT)))
    if "technique" in kinds:
        lines = _lines(attributes, _TECHNIQUE)
        if window is not None:
            lines.append(f"C {window.center:g} W {window.width:g}")
        corners.append((False, lines))
    image = image if image.mode == "RGB" else image.convert("L")
    white = 255 if image.mode == "L" else (255, 255, 255)
    black = 0 if image.mode == "L" else (0, 0, 0)
    size = max(9, min(28, image.height // 36))
    font = ImageFont.load_default(size)
    draw = ImageDraw.Draw(image)
    for top, lines in corners:
        y = size // 2 if top else image.height - size // 2 - len(lines) * round(size * 1.25)
        for line in lines:
            draw.text((size // 2, y), line, fill=white, font=font, stroke_width=1,
                      stroke_fill=black)  # fmt: skip
            y += round(size * 1.25)
    return image


def _lines(attributes: Dataset, table: tuple[tuple[str, str], ...]) -> list[str]:
    lines = []
    for keyword, pattern in table:
        value = attributes.get(keyword)
        if keyword == "PatientName" and value:
            value = str(value).partition("=")[0].replace("^", " ").strip() or str(value)
        text = _plain(str(value)) if value not in (None, "") else ""
        if text:
            lines.append(pattern.format(text)[:LONGEST_LINE])
    return lines


def _plain(text: str) -> str:
    """Return a text in what the built-in font can draw: Latin letters; others become marks."""
    folded = unicodedata.normalize("NFC", text)
    return "".join(each if each.isprintable() and ord(each) < 0x250 else "?" for each in folded)


def saved(images: list[Image.Image], kind: str, *, quality: int, duration_ms: int) -> bytes:
    """Return the picture as a file; several images only as GIF or WebP."""
    out = BytesIO()
    first, *rest = images
    match kind:
        case "png" | "png16":
            first.save(out, "PNG", compress_level=3)
        case "gif":
            first.save(out, "GIF", save_all=True, append_images=rest, duration=duration_ms, loop=0)
        case "webp":
            more: dict[str, Any] = {}
            if rest:
                more = {"save_all": True, "append_images": rest, "duration": duration_ms, "loop": 0}
            first.save(out, "WEBP", quality=quality, method=2, **more)
        case _:
            first.save(out, "JPEG", quality=quality)
    return out.getvalue()
