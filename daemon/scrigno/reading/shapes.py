# SPDX-License-Identifier: Apache-2.0
r"""What each kind of document may say; the API reads and documents the same types.

Points are image coordinates as in a structured report (PS3.3 C.18.6.1.2, SCOORD): column and row,
0.0\0.0 is the outer corner of the first pixel, 0.5\0.5 its middle. Frames count from 1. Units are
UCUM codes (`mm`, `deg`, `mm2`, `[hnsf'U]`, `1`).
"""

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from scrigno.catalogue.records import FilterOperator

MOST_ANNOTATIONS: Final = 2000  # of one author in one study
MOST_POINTS: Final = 2000
LINE: Final = r"^[^\x00-\x1f\x7f]*$(?!\n)"
NO_NULL: Final = r"^[^\x00]*$(?!\x00)"

Word = Annotated[str, Meta(min_length=1, max_length=64, pattern=LINE)]
Line = Annotated[str, Meta(max_length=256, pattern=LINE)]
Text = Annotated[str, Meta(max_length=1024, pattern=NO_NULL)]
Uid = Annotated[
    str, Meta(min_length=1, max_length=64, pattern=r"^[0-9A-Za-z][0-9A-Za-z._-]*$(?!\n)")
]
Frame = Annotated[int, Meta(ge=1, le=1_000_000)]
Coordinate = Annotated[float, Meta(ge=-1e6, le=1e6)]
Number = Annotated[float, Meta(ge=-1e12, le=1e12)]
Colour = Annotated[str, Meta(pattern=r"^#[0-9a-f]{6}$(?!\n)", min_length=7, max_length=7)]
Name = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9-]{0,39}$(?!\n)", min_length=1, max_length=40)]
Width = Annotated[float, Meta(ge=1e-6, le=1e9)]


class Shape(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A document, or a part of one."""


Tool = Literal[
    "length",  # two points
    "bidirectional",  # four: the long axis, then the short one
    "angle",  # three: end, vertex, end
    "cobb",  # four: two lines
    "polyline",  # two or more, open
    "freehand",  # three or more, closed
    "rectangle",  # two opposite corners
    "ellipse",  # four: ends of the major axis, ends of the minor one
    "circle",  # two: the middle, a point on it
    "probe",  # one
    "arrow",  # two: the head, the tail
    "text",  # one: where the text begins
    "calibration",  # two, with the true length as a measurement
]
POINTS: Final[dict[str, tuple[int, int]]] = {
    "length": (2, 2), "bidirectional": (4, 4), "angle": (3, 3), "cobb": (4, 4),
    "polyline": (2, MOST_POINTS), "freehand": (3, MOST_POINTS), "rectangle": (2, 2),
    "ellipse": (4, 4), "circle": (2, 2), "probe": (1, 1), "arrow": (2, 2), "text": (1, 1),
    "calibration": (2, 2),
}  # fmt: skip


class Measurement(Shape):
    """One measured value, as the page that drew it says it."""

    name: Word  # length, area, mean, standard-deviation, minimum, maximum, angle, perimeter …
    value: Number
    unit: Annotated[str, Meta(max_length=16, pattern=LINE)] = "1"


class Style(Shape):
    """How an annotation is drawn."""

    colour: Colour = "#ffd34d"
    width: Annotated[float, Meta(ge=0.5, le=20)] = 1.5
    dashed: bool = False
    hidden: bool = False
    locked: bool = False
    text_at: tuple[Coordinate, Coordinate] | None = None


class Annotation(Shape):
    """One annotation on one frame of one image."""

    id: Word  # made by the page, unique in its layer
    tool: Tool
    sop_instance_uid: Uid
    points: Annotated[
        list[tuple[Coordinate, Coordinate]], Meta(min_length=1, max_length=MOST_POINTS)
    ]
    frame: Frame = 1
    label: Line = ""
    text: Text = ""
    measurements: Annotated[list[Measurement], Meta(max_length=16)] = []
    style: Style = msgspec.field(default_factory=Style)

    def __post_init__(self) -> None:
        """Raise ValueError when the tool has other points; msgspec says where."""
        least, most = POINTS[self.tool]
        if not least <= len(self.points) <= most:
            raise ValueError(f"{self.tool} has {least} to {most} points")


class Annotations(Shape):
    """The layer of one author in one study."""

    annotations: Annotated[list[Annotation], Meta(max_length=MOST_ANNOTATIONS)] = []

    def __post_init__(self) -> None:
        """Raise ValueError when an id is there twice."""
        if len({each.id for each in self.annotations}) < len(self.annotations):
            raise ValueError("the ids of a layer are unique")


class KeyImage(Shape):
    """One image, or one frame of it, that somebody marked."""

    sop_instance_uid: Uid
    frame: Frame | None = None
    note: Text = ""


class KeyImages(Shape):
    """The key images of one author in one study, in their order. `title`: PS3.16 CID 7010."""

    title: Literal[
        "of-interest", "for-referring-provider", "for-surgery", "for-teaching", "for-conference",
        "for-therapy", "for-patient", "for-peer-review", "for-research", "quality-issue",
    ] = "of-interest"  # fmt: skip
    images: Annotated[list[KeyImage], Meta(max_length=1000)] = []


class Note(Shape):
    """The free note of a study."""

    text: Annotated[str, Meta(max_length=16384, pattern=NO_NULL)] = ""


class Labels(Shape):
    """The labels of a study."""

    labels: Annotated[list[Word], Meta(max_length=50)] = []

    def __post_init__(self) -> None:
        """Raise ValueError when a label is there twice."""
        if len(set(self.labels)) < len(self.labels):
            raise ValueError("each label is there once")


class ReportState(Shape):
    """How far the report of a study is; the reports themselves stand elsewhere."""

    state: Literal["none", "draft", "final", "addendum"] = "none"


class Window(Shape):
    """Centre and width (PS3.3 C.11.2.1.2)."""

    center: Number
    width: Width


class Viewport(Shape):
    """What one part of the layout shows and how."""

    series_instance_uid: Uid | None = None
    sop_instance_uid: Uid | None = None
    frame: Frame = 1
    window: Window | None = None
    invert: bool = False
    rotation: Annotated[float, Meta(ge=-360, le=360)] = 0
    flip_horizontal: bool = False
    flip_vertical: bool = False
    zoom: Annotated[float, Meta(ge=0.01, le=1000)] = 1
    pan: tuple[Coordinate, Coordinate] = (0, 0)
    mode: Word = "stack"


class Layout(Shape):
    """Rows and columns of viewports."""

    rows: Annotated[int, Meta(ge=1, le=8)] = 1
    columns: Annotated[int, Meta(ge=1, le=8)] = 1


class ViewerState(Shape):
    """Where somebody left a study."""

    layout: Layout = msgspec.field(default_factory=Layout)
    active: Annotated[int, Meta(ge=0, le=63)] = 0
    viewports: Annotated[list[Viewport], Meta(max_length=64)] = []


class HangingPart(Shape):
    """One viewport of a hanging: which series it takes, by number of order or by its words."""

    series_description: Line = ""  # contains
    modality: Annotated[str, Meta(max_length=16, pattern=LINE)] = ""
    order: Annotated[int, Meta(ge=0, le=999)] = 0
    prior: Annotated[int, Meta(ge=0, le=20)] = 0  # 0: the study itself, 1: the prior before it
    window: Window | None = None
    invert: bool = False
    rotation: Annotated[float, Meta(ge=-360, le=360)] = 0
    flip_horizontal: bool = False
    flip_vertical: bool = False
    zoom: Literal["fit", "true-size", "pixels"] = "fit"
    mode: Word = "stack"


class Hanging(Shape):
    """What is shown first for a modality and body part; an empty body part is any."""

    layout: Layout
    parts: Annotated[list[HangingPart], Meta(max_length=64)] = []
    linked_scroll: bool = False
    reference_lines: bool = False


class Column(Shape):
    """One column of the study list."""

    name: Name
    width: Annotated[int, Meta(ge=20, le=2000)] | None = None
    shown: bool = True


class ListPreference(Shape):
    """How somebody wants the study list."""

    columns: Annotated[list[Column], Meta(max_length=64)] = []
    sort: Annotated[str, Meta(max_length=64, pattern=LINE)] = "study_date"
    order: Literal["asc", "desc"] = "desc"
    page_size: Annotated[int, Meta(ge=10, le=500)] = 50
    compact: bool = False


class FilterPart(Shape):
    """One condition, as `POST /studies/search` takes it."""

    field: Word
    values: Annotated[list[Line], Meta(min_length=1, max_length=100)]
    operator: FilterOperator = FilterOperator.EQUAL


class SavedFilter(Shape):
    """A search with a name. `period` is a word that moves with the day."""

    id: Word
    name: Word
    search: Line = ""
    filters: Annotated[list[FilterPart], Meta(max_length=32)] = []
    period: Literal["", "today", "yesterday", "week", "month", "year"] = ""
    sort: Annotated[str, Meta(max_length=64, pattern=LINE)] = ""
    order: Literal["", "asc", "desc"] = ""
    first: bool = False  # what the list shows when it is opened


class FiltersPreference(Shape):
    """The saved filters of somebody, in their order."""

    filters: Annotated[list[SavedFilter], Meta(max_length=100)] = []


class WindowPreset(Shape):
    """A window with a name, and the modality it is offered for."""

    name: Word
    window: Window
    modality: Annotated[str, Meta(max_length=16, pattern=LINE)] = ""
    shortcut: Annotated[str, Meta(max_length=32, pattern=LINE)] = ""


class OverlayTexts(Shape):
    """What stands in the corners of a picture: keywords of PS3.6 and words of the page."""

    top_left: Annotated[list[Word], Meta(max_length=16)] = []
    top_right: Annotated[list[Word], Meta(max_length=16)] = []
    bottom_left: Annotated[list[Word], Meta(max_length=16)] = []
    bottom_right: Annotated[list[Word], Meta(max_length=16)] = []


class ViewerPreference(Shape):
    """How somebody wants the viewer."""

    presets: Annotated[list[WindowPreset], Meta(max_length=100)] = []
    overlay: OverlayTexts | None = None
    overlay_shown: bool = True
    left_button: Word = "window"
    right_button: Word = "zoom"
    wheel: Word = "scroll"
    cine_fps: Annotated[float, Meta(ge=0.5, le=120)] = 15
    smooth: bool = True


class Shortcut(Shape):
    """One command and the keys that call it, as `aria-keyshortcuts` writes them."""

    command: Name
    keys: Annotated[str, Meta(max_length=64, pattern=LINE)]


class ShortcutsPreference(Shape):
    """The keys that somebody changed."""

    shortcuts: Annotated[list[Shortcut], Meta(max_length=200)] = []


PREFERENCES: Final[dict[str, type[Shape]]] = {
    "list": ListPreference,
    "filters": FiltersPreference,
    "viewer": ViewerPreference,
    "shortcuts": ShortcutsPreference,
}
FREE_PREFIX: Final = "ui-"  # what a page keeps for itself, any object of at most 32 KiB
MOST_FREE_BYTES: Final = 32 << 10


def plain(shape: Shape) -> dict[str, Any]:
    """Return a document as JSON values."""
    found: dict[str, Any] = msgspec.to_builtins(shape)
    return found
