# SPDX-License-Identifier: Apache-2.0
"""Modality and VOI transformations and palettes as the object gives them (PS3.3 C.11, C.7.9).

Everything here is a description of how stored values become grey; `render` applies it. Worker only.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from pydicom.dataset import Dataset

from .cells import Pixels

LINEAR, LINEAR_EXACT, SIGMOID = "LINEAR", "LINEAR_EXACT", "SIGMOID"
FUNCTIONS: Final = frozenset({LINEAR, LINEAR_EXACT, SIGMOID})
MAX_ENTRIES: Final = 1 << 16
# centre and width in Hounsfield units: what readers of CT expect under these names
PRESETS: Final[dict[str, tuple[float, float]]] = {
    "soft-tissue": (40.0, 400.0),
    "abdomen": (60.0, 400.0),
    "lung": (-400.0, 1600.0),
    "mediastinum": (40.0, 400.0),
    "bone": (300.0, 1500.0),
    "brain": (40.0, 80.0),
    "chest": (40.0, 400.0),
    "angio": (300.0, 600.0),
    "liver": (80.0, 160.0),
    "stroke": (40.0, 40.0),
}
AUTOMATIC: Final = "auto"  # from what the frame holds
FULL: Final = "full"  # from the darkest to the brightest pixel


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Centre and width in modality units, and the function of PS3.3 C.11.2.1.3."""

    center: float
    width: float
    function: str = LINEAR
    explanation: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A look-up table (PS3.3 C.11.1.1.1): entries, the value of the first one, bits per entry."""

    entries: Pixels
    first: int
    bits: int
    explanation: str = ""

    def look_up(self, values: Pixels) -> Pixels:
        """Return the entry of each value; values outside get the nearest one."""
        whole = values if values.dtype.kind in "iu" else np.rint(values)
        index = np.clip(whole.astype(np.int64) - self.first, 0, self.entries.size - 1)
        found: Pixels = self.entries[index]
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Modality:
    """Stored values to modality units: a table, or slope and intercept (PS3.3 C.11.1)."""

    slope: float = 1.0
    intercept: float = 0.0
    table: Table | None = None

    @property
    def plain(self) -> bool:
        """Tell whether the values stay as they are."""
        return self.table is None and self.slope == 1.0 and not self.intercept

    def apply(self, stored: Pixels) -> Pixels:
        """Return the values in modality units."""
        if self.table is not None:
            return self.table.look_up(stored)
        if self.plain:
            return stored
        return stored.astype(np.float32) * np.float32(self.slope) + np.float32(self.intercept)


def functional_groups(attributes: Dataset, index: int) -> list[Dataset]:
    """Return the per-frame and the shared functional groups of an enhanced object, near first."""
    groups: list[Dataset] = []
    per_frame = attributes.get("PerFrameFunctionalGroupsSequence")
    if per_frame and index < len(per_frame):
        groups.append(per_frame[index])
    shared = attributes.get("SharedFunctionalGroupsSequence")
    if shared:
        groups.append(shared[0])
    return groups


def macro(groups: Iterable[Dataset], keyword: str) -> Dataset | None:
    """Return the first item of a functional group macro, None when no group has it."""
    for group in groups:
        sequence = group.get(keyword)
        if sequence:
            item: Dataset = sequence[0]
            return item
    return None


def modality_of(attributes: Dataset, groups: list[Dataset]) -> Modality:
    """Return how stored values become modality units; what is broken is not applied."""
    if attributes.get("ModalityLUTSequence"):
        table = table_of(attributes.ModalityLUTSequence[0], attributes)
        return Modality(table=table)
    transformation = macro(groups, "PixelValueTransformationSequence") or attributes
    slope = number(transformation.get("RescaleSlope"))
    intercept = number(transformation.get("RescaleIntercept"))
    return Modality(slope=slope or 1.0, intercept=intercept or 0.0)


def windows_of(attributes: Dataset, groups: list[Dataset]) -> list[Window]:
    """Return the usable windows of a frame in the object's order."""
    item = macro(groups, "FrameVOILUTSequence") or attributes
    function = str(item.get("VOILUTFunction") or LINEAR)
    if function not in FUNCTIONS:
        function = LINEAR
    centers, widths = _numbers(item.get("WindowCenter")), _numbers(item.get("WindowWidth"))
    named = item.get("WindowCenterWidthExplanation")
    names = [named] if isinstance(named, str) else list(named or ())
    found = []
    for at, (center, width) in enumerate(zip(centers, widths, strict=False)):
        if center is None or width is None or width < (1 if function == LINEAR else 1e-9):
            continue
        name = str(names[at]) if at < len(names) else ""
        found.append(Window(center=center, width=width, function=function, explanation=name))
    return found


def voi_tables_of(attributes: Dataset, groups: list[Dataset]) -> list[Table]:
    """Return the usable VOI LUTs of a frame in the object's order."""
    item = macro(groups, "FrameVOILUTSequence") or attributes
    sequence = item.get("VOILUTSequence") or attributes.get("VOILUTSequence") or ()
    tables = (table_of(each, attributes) for each in sequence)
    return [table for table in tables if table is not None]


def table_of(item: Dataset, attributes: Dataset) -> Table | None:
    """Read a look-up table as it is found in the field: in words, or 8 bit entries in bytes."""
    try:
        count, first, bits = (int(each) for each in item.LUTDescriptor)
        content = item.LUTData
    except (AttributeError, TypeError, ValueError):
        return None
    count = (count & 0xFFFF) or MAX_ENTRIES  # a count read as signed is one above 32767
    if attributes.get("PixelRepresentation") == 1 and first > 32767:
        first -= 65536
    if isinstance(content, bytes):
        little = item.original_encoding[1] is not False
        kind = "u1" if len(content) < 2 * count else "<u2" if little else ">u2"
        entries: Pixels = np.frombuffer(content[: len(content) // 2 * 2], kind)[:count]
    else:
        words = np.atleast_1d(np.asarray(content)).astype(np.int64) & 0xFFFF
        entries = words.astype(np.uint16)[:count]
    if not entries.size or not 1 <= bits <= 16:
        return None
    # some writers say 16 bits and use fewer: an image that stays black helps nobody
    if bits > 8 and int(entries.max()) < 1 << (bits - 8):
        bits = max(1, int(entries.max()).bit_length())
    return Table(entries.astype(np.uint16), first, bits, str(item.get("LUTExplanation") or ""))


def windowed(values: Pixels, window: Window, top: float) -> Pixels:
    """Return grey from 0 to `top` as float32, PS3.3 C.11.2.1.2 (linear), C.11.2.1.3 (others)."""
    values = values.astype(np.float32, copy=False)
    center, width = window.center, window.width
    if window.function == SIGMOID:
        with np.errstate(over="ignore"):
            grey = top / (1.0 + np.exp(-4.0 * (values - center) / width))
    elif window.function == LINEAR_EXACT:
        grey = ((values - center) / width + 0.5) * top
    elif width <= 1:
        grey = np.where(values > center - 0.5, top, 0.0)
    else:
        grey = ((values - (center - 0.5)) / (width - 1) + 0.5) * top
    grey = np.nan_to_num(grey, nan=0.0, posinf=top, neginf=0.0)
    clipped: Pixels = np.clip(grey, 0, top)
    return clipped


def number(value: Any) -> float | None:
    """Return a finite number, None for anything else."""
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def _numbers(value: Any) -> list[float | None]:
    if value is None:
        return []
    if isinstance(value, str | float | int):
        return [number(value)]
    return [number(each) for each in value]
