# SPDX-License-Identifier: Apache-2.0
"""Content items of structured reports (PS3.3 C.17.3), as small functions. Worker process only."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from pydicom.dataset import Dataset

Coded = tuple[str, str, str]  # value, scheme, meaning

CONTAINS: Final = "CONTAINS"
HAS_CONTEXT: Final = "HAS OBS CONTEXT"
HAS_MODIFIER: Final = "HAS CONCEPT MOD"
INFERRED_FROM: Final = "INFERRED FROM"
SELECTED_FROM: Final = "SELECTED FROM"
MAX_NUMBER: Final = 16  # characters of a decimal string


def code_item(code: Coded) -> Dataset:
    """Return a coded entry (PS3.3 8.8)."""
    value, scheme, meaning = code
    item = Dataset()
    if len(value) <= 16:
        item.CodeValue = value
    else:
        item.LongCodeValue = value
    item.CodingSchemeDesignator = scheme
    item.CodeMeaning = meaning[:64]
    return item


def content(
    relation: str, kind: str, concept: Coded | None, children: Sequence[Dataset] = ()
) -> Dataset:
    """Return a content item without its value."""
    item = Dataset()
    item.RelationshipType = relation
    item.ValueType = kind
    if concept is not None:
        item.ConceptNameCodeSequence = [code_item(concept)]
    if children:
        item.ContentSequence = list(children)
    return item


def container(
    relation: str, concept: Coded, children: Sequence[Dataset], *, template: str = ""
) -> Dataset:
    """Return a container of separate items, by a template of PS3.16 when it is named."""
    item = content(relation, "CONTAINER", concept, children)
    item.ContinuityOfContent = "SEPARATE"
    if template:
        item.ContentTemplateSequence = [template_item(template)]
    return item


def template_item(identifier: str) -> Dataset:
    """Return the name of a template of PS3.16."""
    item = Dataset()
    item.MappingResource = "DCMR"
    item.TemplateIdentifier = identifier
    return item


def text(relation: str, concept: Coded, value: str) -> Dataset:
    """Return a text."""
    item = content(relation, "TEXT", concept)
    item.TextValue = value
    return item


def code(relation: str, concept: Coded, value: Coded) -> Dataset:
    """Return a coded value."""
    item = content(relation, "CODE", concept)
    item.ConceptCodeSequence = [code_item(value)]
    return item


def uid(relation: str, concept: Coded, value: str) -> Dataset:
    """Return a UID."""
    item = content(relation, "UIDREF", concept)
    item.UID = value
    return item


def person(relation: str, concept: Coded, name: str) -> Dataset:
    """Return a person's name."""
    item = content(relation, "PNAME", concept)
    item.PersonName = name
    return item


def decimal(number: float) -> str:
    """Return a number as a decimal string, as exact as its sixteen characters allow."""
    shown = repr(float(number))
    if shown.endswith(".0"):
        shown = shown[:-2]
    digits = MAX_NUMBER
    while len(shown) > MAX_NUMBER:
        digits -= 1
        shown = f"{number:.{digits}g}"
    return shown


def measured(concept: Coded, number: float, unit: str, children: Sequence[Dataset]) -> Dataset:
    """Return a number with its unit in UCUM and what it was measured on."""
    item = content(CONTAINS, "NUM", concept, children)
    value = Dataset()
    value.NumericValue = decimal(number)
    value.FloatingPointValue = float(number)
    value.MeasurementUnitsCodeSequence = [code_item((unit, "UCUM", UNITS.get(unit, unit)))]
    item.MeasuredValueSequence = [value]
    return item


def image(relation: str, reference: dict[str, Any]) -> Dataset:
    """Return a reference to an image or one of its frames."""
    item = content(relation, "IMAGE", None)
    item.ReferencedSOPSequence = [sop_item(reference)]
    return item


def sop_item(reference: dict[str, Any], *, frame: bool = True) -> Dataset:
    """Return class and instance of an object, and its frame."""
    item = Dataset()
    item.ReferencedSOPClassUID = reference["sop_class_uid"]
    item.ReferencedSOPInstanceUID = reference["sop_instance_uid"]
    if frame and reference.get("frame") and int(reference.get("number_of_frames") or 1) > 1:
        item.ReferencedFrameNumber = int(reference["frame"])
    return item


def coordinates(
    relation: str, kind: str, points: Iterable[tuple[float, float]], reference: dict[str, Any]
) -> Dataset:
    """Return spatial coordinates on an image (PS3.3 C.18.6)."""
    item = content(relation, "SCOORD", None, [image(SELECTED_FROM, reference)])
    item.GraphicType = kind
    item.GraphicData = [float(each) for point in points for each in point]
    return item


UNITS: Final = {
    "mm": "mm",
    "mm2": "mm2",
    "cm": "cm",
    "cm2": "cm2",
    "deg": "degree",
    "1": "no units",
    "[hnsf'U]": "Hounsfield unit",
    "{pixels}": "pixels",
    "{SUVbw}g/ml": "Standardized Uptake Value body weight",
    "Bq/ml": "Becquerels/milliliter",
}
