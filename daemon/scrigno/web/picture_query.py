# SPDX-License-Identifier: Apache-2.0
"""How a page asks for a picture: the keys of the query string, and the look that they mean."""

import hashlib
import json
from typing import Annotated, Any, Final, Literal

from aiohttp import web
from msgspec import Meta

from scrigno.imaging.luts import PRESETS
from scrigno.imaging.results import Look, PictureFormat, Viewport

from .errors import RequestRefused
from .shapes import Query, path_of, query_of

# A new number leaves every kept picture behind: they are named by it.
LOOKS: Final = 3
QUALITY: Final = 88
SMALLEST_PX: Final = 16
LARGEST_PX: Final = 8192
LAST_FRAME: Final = 1_000_000
MOST_FRAMES: Final = 600  # of an animation
FARTHEST: Final = 1e9

FrameNumber = Annotated[int, Meta(ge=1, le=LAST_FRAME)]
Function = Literal["LINEAR", "LINEAR_EXACT", "SIGMOID"]
Texts = Literal["none", "patient", "technique", "patient,technique"]

PICTURE: Final[tuple[Query, ...]] = (
    Query("wc", float, None, "Centre of the window in modality units", ge=-FARTHEST, le=FARTHEST),
    Query("ww", float, None, "Width of the window, with wc", ge=1e-6, le=FARTHEST),
    Query("function", Function, None, "How the window is applied; else as the object says"),
    Query("voi", str, None, "auto, full, a preset, or one of the object's windows by number or"
          " name", max_length=64),
    Query("invert", bool, default=False, about="Black for white"),
    Query("size", int, None, "Longest side", ge=SMALLEST_PX, le=LARGEST_PX),
    Query("width", int, None, "Width of the viewport, with height", ge=SMALLEST_PX, le=LARGEST_PX),
    Query("height", int, None, "Height of the viewport", ge=SMALLEST_PX, le=LARGEST_PX),
    Query("left", float, 0.0, "Left edge of the part shown, in pixels of the frame", ge=0, le=1e6),
    Query("top", float, 0.0, "Top edge of the part shown", ge=0, le=1e6),
    Query("part_width", float, None, "Width of the part shown; negative mirrors", ge=-1e6, le=1e6),
    Query("part_height", float, None, "Height of the part shown; negative flips", ge=-1e6, le=1e6),
    Query("format", PictureFormat, "jpeg", "The file"),
    Query("quality", int, QUALITY, "Of JPEG and WebP", ge=1, le=100),
    Query("overlays", bool, default=True, about="Draw overlay planes"),
    Query("annotation", Texts, "none", "Burn texts into the corners"),
    Query("frames", int, 1, "Frames of a film, as GIF or WebP", ge=1, le=MOST_FRAMES),
)  # fmt: skip


def look_of(request: web.Request) -> Look:
    """Return the look that is asked for; raises RequestRefused where keys do not fit together."""
    asked = query_of(request)
    frames, kind = asked["frames"], asked["format"]
    if frames > 1 and kind not in ("gif", "webp"):
        raise RequestRefused("Several frames need the format gif or webp.")
    texts = asked["annotation"]
    return Look(
        frame=path_of(request)["frame"] - 1,
        window=_window(asked),
        function=asked["function"],
        voi=_voi(asked["voi"]),
        invert=asked["invert"],
        viewport=_viewport(asked),
        max_size=asked["size"],
        overlays=asked["overlays"],
        annotation=() if texts == "none" else tuple(texts.split(",")),
        quality=asked["quality"],
        format=kind,
        frames=frames,
    )


def variant_of(look: Look) -> str:
    """Return the name under which the cache keeps a picture."""
    told = json.dumps(look.message(), sort_keys=True).encode()
    return f"{LOOKS}-{hashlib.blake2b(told, digest_size=12).hexdigest()}"


def _window(asked: dict[str, Any]) -> tuple[float, float] | None:
    center, width = asked["wc"], asked["ww"]
    if center is None and width is None:
        return None
    if center is None or width is None:
        raise RequestRefused("wc and ww go together: center and width of the window.")
    if width < 1 and asked["function"] in (None, "LINEAR"):
        raise RequestRefused("ww is 1 or more; narrower ones need the function LINEAR_EXACT.")
    return center, width


def _voi(asked: str | None) -> int | str | None:
    if asked is None:
        return None
    return int(asked) if asked.isascii() and asked.isdigit() and len(asked) <= 3 else asked


def _viewport(asked: dict[str, Any]) -> Viewport | None:
    width, height = asked["width"], asked["height"]
    part = asked["part_width"], asked["part_height"]
    if width is None and height is None:
        if any(each is not None for each in part) or asked["left"] or asked["top"]:
            raise RequestRefused("A part of the frame needs the viewport: width and height.")
        return None
    if width is None or height is None:
        raise RequestRefused("width and height go together: the size of the viewport.")
    if 0 in part:
        raise RequestRefused("part_width and part_height are not zero.")
    return Viewport(
        width=width,
        height=height,
        left=asked["left"],
        top=asked["top"],
        part_width=part[0],
        part_height=part[1],
    )


PRESET_NAMES: Final = tuple(PRESETS)
