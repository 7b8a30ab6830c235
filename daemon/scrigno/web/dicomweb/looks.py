# SPDX-License-Identifier: Apache-2.0
"""How a picture is asked for: rendering parameters of PS3.18 8.3.5.1 and of WADO-URI 9.1.2."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from scrigno.imaging.results import Look, PictureFormat, Viewport
from scrigno.web.errors import RequestRefused

LARGEST_PX: Final = 16384
QUALITY: Final = 88
_FUNCTIONS: Final = {"linear": "LINEAR", "linear-exact": "LINEAR_EXACT", "sigmoid": "SIGMOID"}
_ANNOTATIONS: Final = ("patient", "technique")
_PROFILES: Final = frozenset({"no", "yes", "srgb", "adobergb", "rommrgb", "displayp3"})
FORMATS: Final[dict[str, PictureFormat]] = {
    "image/jpeg": "jpeg",
    "image/png": "png",
    "image/gif": "gif",
    "image/webp": "webp",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A look, and what of the request is not done, for the Warning header."""

    look: Look
    ignored: tuple[str, ...] = ()


def look_of(query: Mapping[str, str], media: str, *, thumbnail: bool = False) -> Asked:
    """Return the picture that the parameters of WADO-RS describe; raises RequestRefused."""
    window, function = _window(query.get("window", ""))
    viewport, most = _viewport(query.get("viewport", ""), thumbnail=thumbnail)
    profile = query.get("iccprofile", "no").lower()
    if profile not in _PROFILES:
        raise RequestRefused(f"iccprofile must be one of {', '.join(sorted(_PROFILES))}.")
    look = Look(
        window=window,
        function=function,
        viewport=viewport,
        max_size=most,
        annotation=() if thumbnail else _annotation(query.get("annotation", "")),
        quality=_quality(query.get("quality", ""), "quality"),
        format=FORMATS[media],
    )
    ignored = ("iccprofile",) if profile not in ("no", "srgb") else ()
    return Asked(look=look, ignored=ignored)


def uri_look_of(query: Mapping[str, str], media: str) -> Asked:
    """Return the picture that the parameters of WADO-URI describe; raises RequestRefused."""
    window = None
    if query.get("windowCenter") or query.get("windowWidth"):
        center, width = query.get("windowCenter", ""), query.get("windowWidth", "")
        window, _ = _window(f"{center},{width},linear")
    rows, columns = _pixels(query, "rows"), _pixels(query, "columns")
    look = Look(
        window=window,
        annotation=_annotation(query.get("annotation", "")),
        quality=_quality(query.get("imageQuality", ""), "imageQuality"),
        format=FORMATS[media],
    )
    if query.get("region"):
        return Asked(look=replace(look, max_size=max(rows or 0, columns or 0) or None))
    if rows or columns:
        viewport = Viewport(width=columns or LARGEST_PX, height=rows or LARGEST_PX)
        look = replace(look, viewport=viewport)
    return Asked(look=look)


def region_of(text: str) -> tuple[float, float, float, float] | None:
    """Return the corners of a region, each from 0 to 1 of the frame (PS3.18 9.1.2.2.8)."""
    if not text:
        return None
    left, top, right, bottom = _numbers(text, "region", (4,))
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise RequestRefused("region is left,top,right,bottom, each from 0 to 1.")
    return left, top, right, bottom


def _numbers(text: str, name: str, counts: tuple[int, ...]) -> list[float]:
    parts = text.split(",")
    if len(parts) not in counts:
        raise RequestRefused(f"{name} takes {' or '.join(map(str, counts))} numbers.")
    try:
        numbers = [float(each) for each in parts]
    except ValueError:
        numbers = [math.nan]
    if not all(math.isfinite(each) and abs(each) < 1e9 for each in numbers):
        raise RequestRefused(f"{name} takes numbers, separated by commas.")
    return numbers


def _window(text: str) -> tuple[tuple[float, float] | None, str | None]:
    if not text:
        return None, None
    values, _, function = text.rpartition(",")
    if function.strip().lower() not in _FUNCTIONS:
        values, function = text, "linear"  # the function is asked for by the standard, not by all
    center, width = _numbers(values, "window", (2,))
    if width <= 0 or (function.strip().lower() == "linear" and width < 1):
        raise RequestRefused("The width of a window is above zero, of a linear one at least 1.")
    return (center, width), _FUNCTIONS[function.strip().lower()]


def _viewport(text: str, *, thumbnail: bool) -> tuple[Viewport | None, int | None]:
    if not text:
        return None, 192 if thumbnail else None
    parts = text.split(",")
    if len(parts) not in (2, 6):
        raise RequestRefused("viewport takes width,height or width,height,left,top,width,height.")
    width, height = _numbers(",".join(parts[:2]), "viewport", (2,))
    if not all(1 <= each <= LARGEST_PX and each == int(each) for each in (width, height)):
        raise RequestRefused(f"A viewport is 1 to {LARGEST_PX} pixels wide and high.")
    if len(parts) == 2 or thumbnail:
        return Viewport(width=int(width), height=int(height)), None
    # of the part each number may be left out (PS3.18 section 8.3.5.1.3)
    left, top, part_width, part_height = (
        _numbers(each, "viewport", (1,))[0] if each.strip() else None for each in parts[2:]
    )
    if (left or 0) < 0 or (top or 0) < 0 or part_width == 0 or part_height == 0:
        raise RequestRefused("The part of the image in a viewport lies inside the image.")
    viewport = Viewport(
        width=int(width), height=int(height), left=left or 0.0, top=top or 0.0,
        part_width=part_width, part_height=part_height,
    )  # fmt: skip
    return viewport, None


def _annotation(text: str) -> tuple[str, ...]:
    words = [each.strip() for each in text.split(",") if each.strip()]
    if any(each not in _ANNOTATIONS for each in words):
        raise RequestRefused("annotation must be patient, technique or both.")
    return tuple(dict.fromkeys(words))


def _quality(text: str, name: str) -> int:
    if not text:
        return QUALITY
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:4]) <= 100):
        raise RequestRefused(f"{name} must be a whole number from 1 to 100.")
    return int(text)


def _pixels(query: Mapping[str, str], name: str) -> int | None:
    text = query.get(name, "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:6]) <= LARGEST_PX):
        raise RequestRefused(f"{name} must be a whole number from 1 to {LARGEST_PX}.")
    return int(text)
