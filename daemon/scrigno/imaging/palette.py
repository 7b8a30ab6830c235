# SPDX-License-Identifier: Apache-2.0
"""Palettes, plain, segmented and supplemental (PS3.3 C.7.6.3.1.5 to C.7.9.2). Worker only."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from pydicom.dataset import Dataset

from .cells import Pixels
from .errors import DecodeFailed

COLOURS: Final = ("Red", "Green", "Blue")
MAX_ENTRIES: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Palette:
    """Colours by stored value: entries × RGB of 8 bit, and the value of the first entry."""

    colours: Pixels
    first: int

    def apply(self, stored: Pixels) -> Pixels:
        """Return the colour of each value; values outside get the nearest one."""
        index = np.clip(stored.astype(np.int64) - self.first, 0, len(self.colours) - 1)
        found: Pixels = self.colours[index]
        return found


def palette_of(attributes: Dataset) -> Palette:
    """Return the object's palette; raises DecodeFailed."""
    planes, first = [], 0
    for colour in COLOURS:
        try:
            descriptor = attributes[f"{colour}PaletteColorLookupTableDescriptor"].value
            count, first, bits = (int(each) for each in descriptor)
        except (KeyError, TypeError, ValueError):
            raise DecodeFailed("The palette cannot be used: it is not described.") from None
        count = (count & 0xFFFF) or MAX_ENTRIES
        planes.append(_plane(attributes, colour, count, bits))
    if attributes.get("PixelRepresentation") == 1 and first > 32767:
        first -= 65536
    length = min(len(plane) for plane in planes)
    if not length:
        raise DecodeFailed("The palette cannot be used: it is empty.")
    wide = np.stack([plane[:length] for plane in planes], axis=1)
    # 16 bit palettes use the whole range (C.7.6.3.1.6), except those that only fill 8 bits
    shift = 8 if int(wide.max()) > 0xFF else 0
    return Palette((wide >> shift).astype(np.uint8), first)


def is_supplemental(attributes: Dataset, photometric: str) -> bool:
    """Tell whether a grey image has colours for its highest values (C.8.16.2.1.1.1)."""
    if photometric != "MONOCHROME2" or "RedPaletteColorLookupTableDescriptor" not in attributes:
        return False
    # without it the palette is a leftover: grey CT of real scanners have one
    return attributes.get("PixelPresentation") in ("COLOR", "MIXED")


def _plane(attributes: Dataset, colour: str, count: int, bits: int) -> Pixels:
    plain = attributes.get(f"{colour}PaletteColorLookupTableData")
    little = attributes.original_encoding[1] is not False
    if isinstance(plain, bytes) and plain:
        if len(plain) < 2 * count:  # 8 bit entries in bytes, or one per word with a zero
            return np.frombuffer(plain, np.uint8)[:count].astype(np.uint16)
        return np.frombuffer(plain[: 2 * count], "<u2" if little else ">u2").astype(np.uint16)
    if plain is not None and not isinstance(plain, bytes | str):
        words = np.atleast_1d(np.asarray(plain)).astype(np.int64) & 0xFFFF
        return words[:count].astype(np.uint16)
    segmented = attributes.get(f"Segmented{colour}PaletteColorLookupTableData")
    if not isinstance(segmented, bytes) or not segmented:
        raise DecodeFailed(f"The palette cannot be used: no {colour.lower()} in it.")
    if bits == 8 and str(attributes[f"Segmented{colour}PaletteColorLookupTableData"].VR) == "OB":
        words = np.frombuffer(segmented, np.uint8).astype(np.int64)
    else:
        even = segmented[: len(segmented) // 2 * 2]
        words = np.frombuffer(even, "<u2" if little else ">u2").astype(np.int64)
    return np.array(expand(words.tolist(), count), np.uint16)


def expand(words: Sequence[int], count: int) -> list[int]:
    """Return the entries of a segmented table, `count` at most (C.7.9.2); raises DecodeFailed.

    Discrete, linear and indirect segments; an indirect one may only name those that are not.
    """
    found: list[int] = []
    starts: list[int] = []
    position = 0
    while position + 1 < len(words) and len(found) < count:
        starts.append(position)
        position = _segment(words, position, found, count)
    return found[:count]


def _segment(words: Sequence[int], position: int, found: list[int], count: int) -> int:
    """Add one segment's entries; return where the next one begins."""
    kind, length = words[position], words[position + 1]
    position += 2
    if kind == 0:
        found += words[position : position + min(length, count)]
        return position + length
    if kind == 1:
        if position >= len(words) or not found:
            raise DecodeFailed("The palette cannot be used: a segment begins nowhere.")
        start, end = found[-1], words[position]
        steps = np.arange(1, min(length, count) + 1) / max(1, length)
        found += np.rint(start + (end - start) * steps).astype(int).tolist()
        return position + 1
    if kind == 2:
        _indirect(words, position, length, found, count)
        return position + 2
    raise DecodeFailed("The palette cannot be used: an unknown kind of segment.")


def _indirect(
    words: Sequence[int], position: int, copies: int, found: list[int], count: int
) -> None:
    if position + 1 >= len(words):
        raise DecodeFailed("The palette cannot be used: it is cut short.")
    # the offset counts bytes from the beginning of the table (C.7.9.2.3)
    target = (words[position] | words[position + 1] << 16) // 2
    for _ in range(copies):
        if len(found) >= count or target + 1 >= len(words):
            return
        if words[target] == 2:
            raise DecodeFailed("The palette cannot be used: segments go round in a circle.")
        target = _segment(words, target, found, count)
