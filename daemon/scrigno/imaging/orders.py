# SPDX-License-Identifier: Apache-2.0
"""What a new object shall say: plain values for the writers of SR, GSPS and KO. No pydicom here.

`ImagingPool.write(order)` makes the Part 10 file in a worker (`presentation.py`). Everything is
JSON values, so an order can be kept, audited and written again later with the same UIDs.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """Which object."""

    MEASUREMENTS = "measurements"  # Comprehensive or Comprehensive 3D SR, TID 1500
    PRESENTATION = "presentation"  # Grayscale or Color Softcopy Presentation State
    KEY_OBJECTS = "key-objects"  # Key Object Selection Document, TID 2010


class Shape(StrEnum):
    """The geometry of an annotation, as GSPS and SCOORD have it."""

    POINT = "point"
    POLYLINE = "polyline"  # two points: a line; first = last: a closed one
    CIRCLE = "circle"  # centre, a point on it
    ELLIPSE = "ellipse"  # both ends of the major axis, then of the minor axis
    RECTANGLE = "rectangle"  # top left, bottom right
    TEXT = "text"  # its anchor


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """A coded concept (PS3.3 section 8)."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageReference:
    """One stored image that is spoken of."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    rows: int = 0
    columns: int = 0
    number_of_frames: int = 1
    frame: int | None = None  # from 1; None: the whole object


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """A measured number with its unit in UCUM ("mm", "mm2", "deg", "[hnsf'U]", "1")."""

    concept: Code
    number: float
    unit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotation:
    """A mark on one frame; `points` are column, row in pixels, (0, 0) the top left corner's edge.

    So the centre of the first pixel is (0.5, 0.5), as SCOORD counts.
    """

    image: ImageReference
    shape: Shape
    points: tuple[tuple[float, float], ...]
    label: str = ""
    text: str = ""  # drawn beside it
    values: tuple[Value, ...] = ()
    finding: Code | None = None
    site: Code | None = None
    uid: str = ""  # of the annotation; made when empty
    layer: str = "MEASUREMENTS"
    filled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """How one image was shown when the presentation state was saved."""

    images: tuple[ImageReference, ...]
    window: tuple[float, float] | None = None
    function: str = "LINEAR"
    inverted: bool = False
    rotation: int = 0  # 0, 90, 180, 270 degrees clockwise, after the flip
    flipped: bool = False  # left to right
    top_left: tuple[int, int] | None = None  # column, row from 1 of the part shown
    bottom_right: tuple[int, int] | None = None
    zoom: float | None = None  # magnification, None: fitted
    colour: bool = False  # the images are in colour: a Color Softcopy Presentation State


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One object to write. The study's and the patient's attributes are copied as given.

    `patient` and `study` are values by keyword of PS3.6 ("PatientName", "StudyDate" …), texts in
    Unicode, names with their three component groups.
    """

    kind: Kind
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    patient: Mapping[str, str]
    study: Mapping[str, str]
    created_at: datetime
    author: str = ""  # a person name; the observer or the content creator
    title: str = ""
    description: str = ""
    series_number: int = 1
    instance_number: int = 1
    annotations: tuple[Annotation, ...] = ()
    views: tuple[View, ...] = ()
    images: tuple[ImageReference, ...] = ()  # the key images, or all that the order speaks of
    document_title: Code | None = None  # of key objects (CID 7010)
    language: str = "en"
    final: bool = False  # of a report: complete and verified

    def message(self) -> dict[str, Any]:
        """Return the order as JSON values."""
        said = asdict(self)
        said["patient"], said["study"] = dict(self.patient), dict(self.study)
        said["created_at"] = self.created_at.isoformat()
        return said
