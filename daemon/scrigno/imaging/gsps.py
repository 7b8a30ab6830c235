# SPDX-License-Identifier: Apache-2.0
"""Softcopy presentation states, grayscale and colour (PS3.3 A.33.1, A.33.2). Worker only."""

from collections.abc import Callable
from typing import Any, Final

from PIL import ImageCms
from pydicom.dataset import Dataset

from .errors import DecodeFailed
from .srcontent import sop_item

GSPS: Final = "1.2.840.10008.5.1.4.1.1.11.1"
CSPS: Final = "1.2.840.10008.5.1.4.1.1.11.2"
ROTATIONS: Final = (0, 90, 180, 270)
Graphic = Callable[[dict[str, Any]], tuple[str, list[tuple[float, float]]]]


def presentation_state(
    dataset: Dataset, order: dict[str, Any], graphic_of: Graphic, *, colour: bool
) -> Dataset:
    """Return `dataset` with the views and annotations of the order; raises DecodeFailed."""
    views = order["views"]
    images = [each for view in views for each in view["images"]]
    if not images:
        raise DecodeFailed("A presentation state names at least one image.")
    dataset.PresentationCreationDate = dataset.ContentDate
    dataset.PresentationCreationTime = dataset.ContentTime
    del dataset.ContentDate, dataset.ContentTime
    dataset.Laterality = ""  # of the series, type 2C
    dataset.ContentLabel = _label(order["title"])
    dataset.ContentDescription = str(order["description"] or order["title"])[:64]
    dataset.ContentCreatorName = order["author"]
    dataset.ReferencedSeriesSequence = _by_series(images)
    dataset.DisplayedAreaSelectionSequence = [_area(view) for view in views]
    _transform(dataset, views[0])
    _graphics(dataset, order["annotations"], graphic_of)
    if colour:
        dataset.ICCProfile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        return dataset
    windows = [_window(view) for view in views if view["window"]]
    if windows:
        dataset.SoftcopyVOILUTSequence = windows
    dataset.PresentationLUTShape = "INVERSE" if views[0]["inverted"] else "IDENTITY"
    return dataset


def _label(title: str) -> str:
    """Return a code string: capitals, digits, spaces and underscores."""
    kept = "".join(
        each if each.isascii() and (each.isalnum() or each in " _") else "_"
        for each in title.upper()
    )
    return kept[:16].strip() or "PRESENTATION"


def _by_series(images: list[dict[str, Any]]) -> list[Dataset]:
    series: dict[str, dict[str, dict[str, Any]]] = {}
    for each in images:
        objects = series.setdefault(each["series_instance_uid"], {})
        objects[each["sop_instance_uid"]] = each
    found = []
    for uid, objects in series.items():
        item = Dataset()
        item.SeriesInstanceUID = uid
        item.ReferencedImageSequence = [sop_item(each, frame=False) for each in objects.values()]
        found.append(item)
    return found


def _area(view: dict[str, Any]) -> Dataset:
    """Return what part of the images is shown, and how large (PS3.3 C.10.4)."""
    first = view["images"][0]
    item = Dataset()
    item.ReferencedImageSequence = [sop_item(each) for each in view["images"]]
    item.DisplayedAreaTopLeftHandCorner = list(view["top_left"] or (1, 1))
    whole = (int(first["columns"]) or 1, int(first["rows"]) or 1)
    item.DisplayedAreaBottomRightHandCorner = list(view["bottom_right"] or whole)
    item.PresentationSizeMode = "MAGNIFY" if view["zoom"] else "SCALE TO FIT"
    if view["zoom"]:
        item.PresentationPixelMagnificationRatio = float(view["zoom"])
    item.PresentationPixelAspectRatio = [1, 1]
    return item


def _transform(dataset: Dataset, view: dict[str, Any]) -> None:
    if view["rotation"] not in ROTATIONS:
        raise DecodeFailed("A presentation state turns by 0, 90, 180 or 270 degrees.")
    if view["rotation"] or view["flipped"]:
        dataset.ImageRotation = view["rotation"]
        dataset.ImageHorizontalFlip = "Y" if view["flipped"] else "N"


def _window(view: dict[str, Any]) -> Dataset:
    item = Dataset()
    item.ReferencedImageSequence = [sop_item(each) for each in view["images"]]
    center, width = view["window"]
    item.WindowCenter, item.WindowWidth = f"{float(center):.10g}", f"{float(width):.10g}"
    if view["function"] != "LINEAR":
        item.VOILUTFunction = view["function"]
    return item


def _graphics(dataset: Dataset, annotations: list[dict[str, Any]], graphic_of: Graphic) -> None:
    """Add the layers and what is drawn on them (PS3.3 C.10.5, C.10.7)."""
    if not annotations:
        return
    layers = list(dict.fromkeys(_label(each["layer"]) for each in annotations))
    dataset.GraphicLayerSequence = [_layer(name, at) for at, name in enumerate(layers)]
    dataset.GraphicAnnotationSequence = [_annotation(each, graphic_of) for each in annotations]


def _layer(name: str, place: int) -> Dataset:
    item = Dataset()
    item.GraphicLayer = name
    item.GraphicLayerOrder = place + 1
    item.GraphicLayerRecommendedDisplayCIELabValue = [62000, 30000, 60000]  # yellow
    return item


def _annotation(annotation: dict[str, Any], graphic_of: Graphic) -> Dataset:
    item = Dataset()
    item.ReferencedImageSequence = [sop_item(annotation["image"])]
    item.GraphicLayer = _label(annotation["layer"])
    kind, points = graphic_of(annotation)
    # 0, 0 is the outer corner of the first pixel here as in a report (PS3.3 table C.10-5)
    if str(annotation["shape"]) != "text":
        item.GraphicObjectSequence = [_graphic(kind, points, annotation)]
    words = annotation["text"] or annotation["label"]
    if words:
        item.TextObjectSequence = [_words(words, points[-1])]
    return item


def _graphic(kind: str, points: list[tuple[float, float]], annotation: dict[str, Any]) -> Dataset:
    item = Dataset()
    item.GraphicAnnotationUnits = "PIXEL"
    item.GraphicDimensions = 2
    item.NumberOfGraphicPoints = len(points)
    item.GraphicData = [each for point in points for each in point]
    item.GraphicType = kind
    closed = kind in ("CIRCLE", "ELLIPSE") or (kind == "POLYLINE" and points[0] == points[-1])
    if closed:
        item.GraphicFilled = "Y" if annotation["filled"] else "N"
    return item


def _words(words: str, anchor: tuple[float, float]) -> Dataset:
    item = Dataset()
    item.UnformattedTextValue = words[:1024]
    item.AnchorPointAnnotationUnits = "PIXEL"
    item.AnchorPoint = list(anchor)
    item.AnchorPointVisibility = "N"
    return item
