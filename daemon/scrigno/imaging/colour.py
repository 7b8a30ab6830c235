# SPDX-License-Identifier: Apache-2.0
"""Colour spaces of stored pixels to RGB (PS3.3 C.7.6.3.1.2). Worker process only."""

from typing import Any, Final

import numpy as np
from PIL import Image

Pixels = np.ndarray[Any, np.dtype[Any]]

FULL: Final = frozenset({"YBR_FULL", "YBR_FULL_422"})
PARTIAL: Final = frozenset({"YBR_PARTIAL_422", "YBR_PARTIAL_420"})
# what the wavelet's own transformation leaves behind is RGB once it is undone
UNDONE: Final = frozenset({"YBR_ICT", "YBR_RCT"})

_FULL_MATRIX: Final = ((1.0, 0.0, 1.402), (1.0, -0.344136286, -0.714136286), (1.0, 1.772, 0.0))
# ITU-R BT.601 in 8 bit: luminance from 16 to 235, colour from 16 to 240
_PARTIAL_MATRIX: Final = ((1.1644, 0.0, 1.5960), (1.1644, -0.3917, -0.8129), (1.1644, 2.0173, 0.0))


def to_rgb(pixels: Pixels, photometric: str, bits: int) -> Pixels:
    """Return the frame in RGB, its sample type kept; other colour spaces stay as they are."""
    if pixels.ndim != 3 or pixels.shape[2] != 3:
        return pixels
    if photometric in FULL:
        if pixels.dtype == np.uint8:
            image = Image.fromarray(np.ascontiguousarray(pixels), "YCbCr")
            return np.asarray(image.convert("RGB"))
        return _converted(pixels, _FULL_MATRIX, 0.0, bits)
    if photometric in PARTIAL:
        return _converted(pixels, _PARTIAL_MATRIX, 16.0, bits)
    return pixels


def _converted(pixels: Pixels, matrix: object, foot: float, bits: int) -> Pixels:
    scale = float(1 << max(0, bits - 8))
    offset = np.array([foot, 128.0, 128.0], np.float32) * scale
    colours = (pixels.astype(np.float32) - offset) @ np.array(matrix, np.float32).T
    top = 255 if pixels.dtype == np.uint8 else (1 << min(bits, pixels.dtype.itemsize * 8)) - 1
    rounded: Pixels = np.clip(np.rint(colours), 0, top).astype(pixels.dtype)
    return rounded
