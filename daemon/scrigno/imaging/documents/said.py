# SPDX-License-Identifier: Apache-2.0
"""What key objects, presentation states, RT structures and segmentations say, as JSON values.

Points are column, row in pixels with 0, 0 the outer corner of the first pixel, as in `orders`.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

from pydicom.dataset import Dataset

from scrigno.imaging.errors import NoDocument
from scrigno.imaging.luts import number

from .report import meaning

Said = dict[str, Any]

MAX_REFERENCES: Final = 100_000
MAX_SHAPES: Final = 20_000
MAX_POINTS: Final = 2_000_000  # numbers of all contours together
MAX_DEPTH: Final = 30


def said_by(dataset: Dataset) -> Said:
    """Return what the object says; raises NoDocument when it is of none of these kinds."""
    sop_class = str(dataset.get("SOPClassUID") or "")
    for prefix, reader in _READERS:
        if sop_class.startswith(prefix):
            return reader(dataset)
    raise NoDocument("The object is no key object, presentation state, structure or segmentation.")


def _text(dataset: Dataset, keyword: str) -> str:
    value = dataset.get(keyword)
    return "" if value is None else str(value)[:4096]


def _numbers(value: Any) -> list[float]:
    if value is None:
        return []
    if isinstance(value, str | float | int):
        value = [value]
    found = (number(each) for each in value)
    return [each for each in found if each is not None]


def _reference(item: Dataset) -> Said:
    return {
        "sop_class_uid": _text(item, "ReferencedSOPClassUID"),
        "sop_instance_uid": _text(item, "ReferencedSOPInstanceUID"),
        "frames": [int(each) for each in _numbers(item.get("ReferencedFrameNumber"))],
    }


def _references(items: Iterable[Dataset] | None) -> list[Said]:
    return [_reference(item) for item in list(items or ())[:MAX_REFERENCES]]


# key objects -----------------------------------------------------------------------------------


def _key_objects(dataset: Dataset) -> Said:
    found: list[Said] = []
    _images(dataset, found, 0)
    where = _places(dataset)
    for each in found:
        each |= where.get(each["sop_instance_uid"], {})
    description = next(
        (
            _text(item, "TextValue")
            for item in dataset.get("ContentSequence") or ()
            if item.get("ValueType") == "TEXT"
        ),
        "",
    )
    return {
        "kind": "key-objects",
        "title": meaning(dataset.get("ConceptNameCodeSequence")),
        "description": description,
        "references": found,
    }


def _images(parent: Dataset, found: list[Said], depth: int) -> None:
    for item in parent.get("ContentSequence") or ():
        if len(found) >= MAX_REFERENCES or depth > MAX_DEPTH:
            return
        if item.get("ValueType") in ("IMAGE", "COMPOSITE", "WAVEFORM"):
            found += _references(item.get("ReferencedSOPSequence"))
        _images(item, found, depth + 1)


def _places(dataset: Dataset) -> dict[str, Said]:
    """Return study and series of each object by the evidence sequences."""
    places: dict[str, Said] = {}
    for keyword in (
        "CurrentRequestedProcedureEvidenceSequence",
        "PertinentOtherEvidenceSequence",
    ):
        for study in dataset.get(keyword) or ():
            for series in study.get("ReferencedSeriesSequence") or ():
                for item in series.get("ReferencedSOPSequence") or ():
                    places[_text(item, "ReferencedSOPInstanceUID")] = {
                        "study_instance_uid": _text(study, "StudyInstanceUID"),
                        "series_instance_uid": _text(series, "SeriesInstanceUID"),
                    }
    return places


# presentation states ---------------------------------------------------------------------------


def _presentation(dataset: Dataset) -> Said:
    images = [
        reference | {"series_instance_uid": _text(series, "SeriesInstanceUID")}
        for series in dataset.get("ReferencedSeriesSequence") or ()
        for reference in _references(series.get("ReferencedImageSequence"))
    ]
    windows = []
    for item in dataset.get("SoftcopyVOILUTSequence") or ():
        centers, widths = _numbers(item.get("WindowCenter")), _numbers(item.get("WindowWidth"))
        windows.append(
            {
                "images": _references(item.get("ReferencedImageSequence")),
                "window": [centers[0], widths[0]] if centers and widths else None,
                "function": _text(item, "VOILUTFunction") or "LINEAR",
                "lut": bool(item.get("VOILUTSequence")),
            }
        )
    return {
        "kind": "presentation",
        "label": _text(dataset, "ContentLabel"),
        "description": _text(dataset, "ContentDescription"),
        "creator": _text(dataset, "ContentCreatorName"),
        "images": images,
        "windows": windows,
        "inverted": dataset.get("PresentationLUTShape") == "INVERSE",
        "rotation": int(number(dataset.get("ImageRotation")) or 0),
        "flipped": dataset.get("ImageHorizontalFlip") == "Y",
        "areas": [_area(item) for item in dataset.get("DisplayedAreaSelectionSequence") or ()],
        "layers": [
            {"name": _text(item, "GraphicLayer"), "order": int(number(item.get("GraphicLayerOrder"))
                                                               or 0)}
            for item in dataset.get("GraphicLayerSequence") or ()
        ],
        "shapes": _shapes(dataset),
        "shutter": _text(dataset, "ShutterShape"),
    }  # fmt: skip


def _area(item: Dataset) -> Said:
    return {
        "images": _references(item.get("ReferencedImageSequence")),
        "top_left": _numbers(item.get("DisplayedAreaTopLeftHandCorner")),
        "bottom_right": _numbers(item.get("DisplayedAreaBottomRightHandCorner")),
        "mode": _text(item, "PresentationSizeMode"),
        "zoom": number(item.get("PresentationPixelMagnificationRatio")),
    }


def _shapes(dataset: Dataset) -> list[Said]:
    found: list[Said] = []
    for annotation in dataset.get("GraphicAnnotationSequence") or ():
        common = {
            "images": _references(annotation.get("ReferencedImageSequence")),
            "layer": _text(annotation, "GraphicLayer"),
        }
        found += [common | _graphic(item) for item in annotation.get("GraphicObjectSequence") or ()]
        found += [common | _words(item) for item in annotation.get("TextObjectSequence") or ()]
        if len(found) > MAX_SHAPES:
            break
    return found[:MAX_SHAPES]


def _pairs(value: Any) -> list[list[float]]:
    flat = _numbers(value)
    return [list(pair) for pair in zip(flat[::2], flat[1::2], strict=False)]


def _graphic(item: Dataset) -> Said:
    return {
        "shape": _text(item, "GraphicType").lower(),
        "points": _pairs(item.get("GraphicData")),
        "units": _text(item, "GraphicAnnotationUnits").lower() or "pixel",
        "filled": item.get("GraphicFilled") == "Y",
        "text": "",
    }


def _words(item: Dataset) -> Said:
    anchored = "AnchorPoint" in item
    units = "AnchorPointAnnotationUnits" if anchored else "BoundingBoxAnnotationUnits"
    points = (
        _pairs(item.get("AnchorPoint"))
        if anchored
        else _pairs(item.get("BoundingBoxTopLeftHandCorner"))
        + _pairs(item.get("BoundingBoxBottomRightHandCorner"))
    )
    return {
        "shape": "text",
        "points": points,
        "units": _text(item, units).lower() or "pixel",
        "filled": False,
        "text": _text(item, "UnformattedTextValue"),
    }


# radiotherapy and segmentations ----------------------------------------------------------------


def _structures(dataset: Dataset) -> Said:
    names = {
        int(number(item.get("ROINumber")) or 0): _text(item, "ROIName")
        for item in dataset.get("StructureSetROISequence") or ()
    }
    left = MAX_POINTS
    regions = []
    for item in dataset.get("ROIContourSequence") or ():
        place = int(number(item.get("ReferencedROINumber")) or 0)
        contours = []
        for contour in item.get("ContourSequence") or ():
            points = _numbers(contour.get("ContourData"))
            left -= len(points)
            if left < 0:
                break
            contours.append(
                {
                    "type": _text(contour, "ContourGeometricType"),
                    "images": _references(contour.get("ContourImageSequence")),
                    "points": [points[at : at + 3] for at in range(0, len(points) - 2, 3)],
                }
            )
        regions.append(
            {
                "number": place,
                "name": names.get(place, ""),
                "colour": [int(each) for each in _numbers(item.get("ROIDisplayColor"))],
                "contours": contours,
            }
        )
    return {
        "kind": "structures",
        "label": _text(dataset, "StructureSetLabel"),
        "regions": regions,
        "complete": left >= 0,
    }


def _segmentation(dataset: Dataset) -> Said:
    segments = [
        {
            "number": int(number(item.get("SegmentNumber")) or 0),
            "label": _text(item, "SegmentLabel"),
            "algorithm": _text(item, "SegmentAlgorithmType"),
            "type": meaning(item.get("SegmentedPropertyTypeCodeSequence")),
            "colour": [int(each) for each in _numbers(item.get("RecommendedDisplayCIELabValue"))],
        }
        for item in dataset.get("SegmentSequence") or ()
    ]
    frames = []
    for group in list(dataset.get("PerFrameFunctionalGroupsSequence") or ())[:MAX_REFERENCES]:
        named = group.get("SegmentIdentificationSequence")
        plane = group.get("PlanePositionSequence")
        source = [
            reference
            for derivation in group.get("DerivationImageSequence") or ()
            for reference in _references(derivation.get("SourceImageSequence"))
        ]
        frames.append(
            {
                "segment": int(number(named[0].get("ReferencedSegmentNumber")) or 0)
                if named
                else 0,
                "position": _numbers(plane[0].get("ImagePositionPatient")) if plane else [],
                "images": source,
            }
        )
    return {
        "kind": "segmentation",
        "label": _text(dataset, "ContentLabel"),
        "type": _text(dataset, "SegmentationType"),
        "rows": int(number(dataset.get("Rows")) or 0),
        "columns": int(number(dataset.get("Columns")) or 0),
        "segments": segments,
        "frames": frames,
    }


def _segment_number(named: Any) -> int:
    return int(number(named[0].get("ReferencedSegmentNumber")) or 0) if named else 0


_CLASSES: Final = "1.2.840.10008.5.1.4.1.1."
_READERS: Final[tuple[tuple[str, Callable[[Dataset], Said]], ...]] = (
    (f"{_CLASSES}88.59", _key_objects),
    (f"{_CLASSES}11.", _presentation),
    (f"{_CLASSES}481.3", _structures),
    (f"{_CLASSES}66.4", _segmentation),
    (f"{_CLASSES}66.7", _segmentation),
)
