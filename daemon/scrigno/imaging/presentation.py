# SPDX-License-Identifier: Apache-2.0
"""Writes structured reports, presentation states and key object notes. Worker process only.

From the plain values of `orders.Order`: Comprehensive SR by TID 1500, Grayscale or Color Softcopy
Presentation State (PS3.3 A.33), Key Object Selection Document by TID 2010. Texts are UTF-8.
"""

import hashlib
from collections.abc import Callable
from datetime import datetime
from io import BytesIO
from typing import Any, Final

from pydicom import dcmwrite
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

import scrigno

from .errors import DecodeFailed
from .gsps import CSPS, GSPS, presentation_state
from .srcontent import (
    CONTAINS,
    HAS_CONTEXT,
    HAS_MODIFIER,
    INFERRED_FROM,
    Coded,
    code,
    code_item,
    container,
    coordinates,
    image,
    measured,
    person,
    sop_item,
    template_item,
    text,
    uid,
)

COMPREHENSIVE_SR: Final = "1.2.840.10008.5.1.4.1.1.88.33"
KEY_OBJECTS: Final = "1.2.840.10008.5.1.4.1.1.88.59"
MAX_ANNOTATIONS: Final = 10_000
MAX_POINTS: Final = 10_000
_LANGUAGES: Final = {
    "en": "English", "it": "Italian", "fr": "French", "ja": "Japanese", "ko": "Korean",
    "vi": "Vietnamese", "de": "German", "es": "Spanish",
}  # fmt: skip
_OF_INTEREST: Final = ("113000", "DCM", "Of Interest")
_PROCEDURE: Final = ("363679005", "SCT", "Imaging procedure")

# what every object of a study repeats; type 2 ones get an empty value (PS3.3 C.7.1, C.7.2)
_PATIENT: Final = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex")
_STUDY: Final = (
    "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "StudyID",
)  # fmt: skip
_MORE: Final = frozenset({
    "IssuerOfPatientID", "PatientAge", "PatientSize", "PatientWeight", "PatientComments",
    "StudyDescription", "InstitutionName", "OtherPatientIDs",
})  # fmt: skip


def written(order: dict[str, Any]) -> bytes:
    """Return the object of an order's message as a Part 10 file; raises DecodeFailed."""
    writer = _WRITERS.get(str(order.get("kind")))
    if writer is None:
        raise DecodeFailed("There is no such kind of object to write.")
    if len(order["annotations"]) > MAX_ANNOTATIONS:
        raise DecodeFailed(f"More than {MAX_ANNOTATIONS} annotations do not go into one object.")
    try:
        dataset = writer(order)
    except (KeyError, TypeError, ValueError) as error:
        raise DecodeFailed(f"The order cannot be written: {type(error).__name__}.") from None
    return _part10(dataset)


def _part10(dataset: Dataset) -> bytes:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta = meta
    out = BytesIO()
    dcmwrite(out, dataset, enforce_file_format=True)
    return out.getvalue()


def common(order: dict[str, Any], sop_class_uid: str, modality: str) -> Dataset:
    """Return the attributes of patient, study, series and equipment."""
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = sop_class_uid
    dataset.SOPInstanceUID = order["sop_instance_uid"]
    dataset.StudyInstanceUID = order["study_instance_uid"]
    dataset.SeriesInstanceUID = order["series_instance_uid"]
    dataset.Modality = modality
    dataset.SeriesNumber = int(order["series_number"])
    dataset.InstanceNumber = int(order["instance_number"])
    dataset.Manufacturer = "Scrigno"
    dataset.ManufacturerModelName = "Scrigno"
    dataset.SoftwareVersions = scrigno.__version__
    if order.get("description"):
        dataset.SeriesDescription = str(order["description"])[:64]
    for keyword in (*_PATIENT, *_STUDY):
        setattr(dataset, keyword, "")
    for keyword, value in {**order["patient"], **order["study"]}.items():
        known = keyword in _PATIENT or keyword in _STUDY or keyword in _MORE
        if known and tag_for_keyword(keyword) is not None:
            setattr(dataset, keyword, str(value))
    created = datetime.fromisoformat(order["created_at"])
    dataset.InstanceCreationDate = dataset.ContentDate = f"{created:%Y%m%d}"
    dataset.InstanceCreationTime = dataset.ContentTime = f"{created:%H%M%S}"
    if created.tzinfo is not None:
        dataset.TimezoneOffsetFromUTC = f"{created:%z}"
    return dataset


def _report_of(order: dict[str, Any], sop_class_uid: str, modality: str) -> Dataset:
    dataset = common(order, sop_class_uid, modality)
    dataset.ReferencedPerformedProcedureStepSequence = []
    dataset.PerformedProcedureCodeSequence = []
    dataset.CurrentRequestedProcedureEvidenceSequence = _evidence(_all_images(order))
    return dataset


def _all_images(order: dict[str, Any]) -> list[dict[str, Any]]:
    return [*order["images"], *(each["image"] for each in order["annotations"])]


def _evidence(images: list[dict[str, Any]]) -> list[Dataset]:
    """Return the images by study and series, each once (PS3.3 C.17.2.3)."""
    if not images:
        raise DecodeFailed("Such an object names at least one image.")
    studies: dict[str, dict[str, dict[str, dict[str, Any]]]] = {}
    for each in images:
        series = studies.setdefault(each["study_instance_uid"], {})
        series.setdefault(each["series_instance_uid"], {})[each["sop_instance_uid"]] = each
    found = []
    for study_uid, by_series in studies.items():
        study = Dataset()
        study.ReferencedSeriesSequence = []
        for series_uid, objects in by_series.items():
            one = Dataset()
            one.SeriesInstanceUID = series_uid
            one.ReferencedSOPSequence = [sop_item(each, frame=False) for each in objects.values()]
            study.ReferencedSeriesSequence.append(one)
        study.StudyInstanceUID = study_uid
        found.append(study)
    return found


# measurements ----------------------------------------------------------------------------------


def _measurements(order: dict[str, Any]) -> Dataset:
    dataset = _report_of(order, COMPREHENSIVE_SR, "SR")
    verified = bool(order["final"] and order["author"])
    dataset.CompletionFlag = "COMPLETE" if order["final"] else "PARTIAL"
    dataset.VerificationFlag = "VERIFIED" if verified else "UNVERIFIED"
    if verified:
        dataset.VerifyingObserverSequence = [_verifier(order, dataset)]
    dataset.ValueType = "CONTAINER"
    dataset.ConceptNameCodeSequence = [code_item(("126000", "DCM", "Imaging Measurement Report"))]
    dataset.ContinuityOfContent = "SEPARATE"
    dataset.ContentTemplateSequence = [template_item("1500")]
    groups = [_group(each, order) for each in order["annotations"]]
    dataset.ContentSequence = [
        *_context(order),
        code(HAS_MODIFIER, ("121058", "DCM", "Procedure reported"), _PROCEDURE),
        container(CONTAINS, ("111028", "DCM", "Image Library"), []),
        container(CONTAINS, ("126010", "DCM", "Imaging Measurements"), groups),
    ]
    return dataset


def _verifier(order: dict[str, Any], dataset: Dataset) -> Dataset:
    item = Dataset()
    item.VerifyingObserverName = order["author"]
    item.VerifyingObserverIdentificationCodeSequence = []
    item.VerifyingOrganization = str(order["study"].get("InstitutionName") or "unknown")[:64]
    item.VerificationDateTime = dataset.ContentDate + dataset.ContentTime
    return item


def _context(order: dict[str, Any]) -> list[Dataset]:
    """Return language and observer (TID 1204, 1001)."""
    language = order["language"]
    tongue = (language, "RFC5646", _LANGUAGES.get(language, language))
    name = order["author"]
    context = [
        code(
            HAS_MODIFIER,
            ("121049", "DCM", "Language of Content Item and Descendants"),
            tongue,
        )
    ]
    if name:
        observer = ("121006", "DCM", "Person")
        context.append(code(HAS_CONTEXT, ("121005", "DCM", "Observer Type"), observer))
        context.append(person(HAS_CONTEXT, ("121008", "DCM", "Person Observer Name"), name))
    return context


def _group(annotation: dict[str, Any], order: dict[str, Any]) -> Dataset:
    """Return one measurement group: TID 1501 with numbers, TID 1410 for a region alone."""
    label = annotation["label"] or annotation["text"] or str(annotation["shape"])
    children = [
        text(HAS_CONTEXT, ("112039", "DCM", "Tracking Identifier"), label),
        uid(HAS_CONTEXT, ("112040", "DCM", "Tracking Unique Identifier"),
            annotation["uid"] or _derived(order, annotation)),
    ]  # fmt: skip
    if annotation["finding"]:
        children.append(code(CONTAINS, ("121071", "DCM", "Finding"), _coded(annotation["finding"])))
    if annotation["site"]:
        site = code(HAS_MODIFIER, ("363698007", "SCT", "Finding Site"), _coded(annotation["site"]))
        children.append(site)
    kind, points = graphic_of(annotation)
    values = annotation["values"]
    for value in values:
        region = coordinates(INFERRED_FROM, kind, points, annotation["image"])
        children.append(
            measured(_coded(value["concept"]), value["number"], value["unit"], [region])
        )
    if not values:
        region = coordinates(CONTAINS, kind, points, annotation["image"])
        region.ConceptNameCodeSequence = [code_item(("111030", "DCM", "Image Region"))]
        children.append(region)
    if annotation["text"]:
        children.append(text(CONTAINS, ("121106", "DCM", "Comment"), annotation["text"]))
    template = "1501" if values else "1410"
    return container(CONTAINS, ("125007", "DCM", "Measurement Group"), children, template=template)


def _coded(said: dict[str, str]) -> Coded:
    return said["value"], said["scheme"], said["meaning"]


def _derived(order: dict[str, Any], annotation: dict[str, Any]) -> str:
    """Return a UID that the same order always gives (PS3.5 B.2)."""
    place = next(at for at, each in enumerate(order["annotations"]) if each is annotation)
    seed = f"{order['sop_instance_uid']}/{place}".encode()
    return f"2.25.{int.from_bytes(hashlib.sha256(seed).digest()[:16], 'big')}"


def graphic_of(annotation: dict[str, Any]) -> tuple[str, list[tuple[float, float]]]:
    """Return an annotation's graphic type and points (PS3.3 C.18.6.1.2); raises DecodeFailed."""
    points = [(float(column), float(row)) for column, row in annotation["points"]]
    shape = str(annotation["shape"])
    wanted = {"point": 1, "text": 1, "circle": 2, "ellipse": 4, "rectangle": 2}.get(shape)
    if not points or len(points) > MAX_POINTS or (wanted is not None and len(points) != wanted):
        raise DecodeFailed(f"An annotation of the shape {shape} has {len(points)} points.")
    match shape:
        case "point" | "text":
            return "POINT", points
        case "polyline":
            if len(points) < 2:
                raise DecodeFailed("A line has two points at least.")
            return "POLYLINE", points
        case "circle":
            return "CIRCLE", points
        case "ellipse":
            return "ELLIPSE", points
        case "rectangle":
            (left, top), (right, bottom) = points
            corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
            return "POLYLINE", corners
        case _:
            raise DecodeFailed(f"There is no shape {shape!r}.")


# key objects -----------------------------------------------------------------------------------


def _key_objects(order: dict[str, Any]) -> Dataset:
    dataset = _report_of(order, KEY_OBJECTS, "KO")
    del dataset.PerformedProcedureCodeSequence  # no part of the Key Object Document Module
    title = _coded(order["document_title"]) if order["document_title"] else _OF_INTEREST
    dataset.ValueType = "CONTAINER"
    dataset.ConceptNameCodeSequence = [code_item(title)]
    dataset.ContinuityOfContent = "SEPARATE"
    dataset.ContentTemplateSequence = [template_item("2010")]
    children = _context(order)
    if order["title"]:
        children.append(text(CONTAINS, ("113012", "DCM", "Key Object Description"), order["title"]))
    children += [image(CONTAINS, each) for each in order["images"]]
    dataset.ContentSequence = children
    return dataset


def _presentation(order: dict[str, Any]) -> Dataset:
    colour = any(view.get("colour") for view in order["views"])
    dataset = common(order, CSPS if colour else GSPS, "PR")
    return presentation_state(dataset, order, graphic_of, colour=colour)


_WRITERS: Final[dict[str, Callable[[dict[str, Any]], Dataset]]] = {
    "measurements": _measurements,
    "key-objects": _key_objects,
    "presentation": _presentation,
}
