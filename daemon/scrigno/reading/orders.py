# SPDX-License-Identifier: Apache-2.0
"""What people drew and marked, as orders for DICOM objects: SR, presentation states, key objects.

An order of the same content has the same UIDs, so that exporting twice stores once. Pure.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import scrigno
from scrigno.catalogue.records import StoredInstance, StudyDetail, StudyRow
from scrigno.core.phi import Phi
from scrigno.imaging import orders

from .shapes import Annotation, Annotations, KeyImages, Viewport

SR_NUMBER, PR_NUMBER, KO_NUMBER = 9901, 9902, 9903  # behind what modalities number
_SERIES: Final = {
    orders.Kind.MEASUREMENTS: (SR_NUMBER, "Measurements"),
    orders.Kind.PRESENTATION: (PR_NUMBER, "Annotations"),
    orders.Kind.KEY_OBJECTS: (KO_NUMBER, "Key images"),
}


def _sct(value: str, meaning: str) -> orders.Code:
    return orders.Code(value=value, scheme="SCT", meaning=meaning)


# PS3.16 CID 7469, 7472, 7473, 7470 and TID 1419
CONCEPTS: Final[Mapping[str, orders.Code]] = {
    "length": _sct("410668003", "Length"),
    "long-axis": _sct("103339001", "Long Axis"),
    "short-axis": _sct("103340004", "Short Axis"),
    "angle": _sct("1483009", "Angle"),
    "area": _sct("42798000", "Area"),
    "perimeter": _sct("131191004", "Perimeter"),
    "radius": _sct("131190003", "Radius"),
    "mean": _sct("373098007", "Mean"),
    "standard-deviation": _sct("386136009", "Standard Deviation"),
    "minimum": _sct("255605001", "Minimum"),
    "maximum": _sct("56851009", "Maximum"),
}
# PS3.16 CID 7010
TITLES: Final[Mapping[str, tuple[str, str]]] = {
    "of-interest": ("113000", "Of Interest"),
    "for-referring-provider": ("113002", "For Referring Provider"),
    "for-surgery": ("113003", "For Surgery"),
    "for-teaching": ("113004", "For Teaching"),
    "for-conference": ("113005", "For Conference"),
    "for-therapy": ("113006", "For Therapy"),
    "for-patient": ("113007", "For Patient"),
    "for-peer-review": ("113008", "For Peer Review"),
    "for-research": ("113009", "For Research"),
    "quality-issue": ("113010", "Quality Issue"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Whose layer of which study is to be written; `colour` names images in colour."""

    detail: StudyDetail
    layer: str
    author: str
    saved_at: datetime
    language: str
    colour: frozenset[str] = frozenset()


class Images:
    """The objects of a study by their UID, as references."""

    def __init__(self, detail: StudyDetail) -> None:
        """Index them."""
        self._study = detail.study.study_instance_uid
        self._known = {
            each.sop_instance_uid: (series.attributes.series_instance_uid, each)
            for series in detail.series
            for each in series.instances
        }

    def of(self, sop_instance_uid: str, frame: int | None) -> orders.ImageReference | None:
        """Return a reference; None for what the study does not hold any more."""
        found = self._known.get(sop_instance_uid)
        if found is None:
            return None
        series_uid, instance = found
        frames = instance.number_of_frames or 1
        if frame is not None and frame > frames:
            return None
        return self._reference(series_uid, instance, frame if frames > 1 else None)

    def _reference(
        self, series_uid: str, instance: StoredInstance, frame: int | None
    ) -> orders.ImageReference:
        return orders.ImageReference(
            study_instance_uid=self._study,
            series_instance_uid=series_uid,
            sop_instance_uid=instance.sop_instance_uid,
            sop_class_uid=instance.sop_class_uid,
            rows=instance.rows or 0,
            columns=instance.columns or 0,
            number_of_frames=instance.number_of_frames or 1,
            frame=frame,
        )


def measurements(source: Source, layer: Annotations) -> tuple[list[orders.Order], int]:
    """Return the report of a layer, none when it is empty; and how many marks are left out."""
    marks, left_out = _marks(source, layer)
    if not marks:
        return [], left_out
    order = _order(source, orders.Kind.MEASUREMENTS, annotations=tuple(marks))
    return [order], left_out


def presentation(
    source: Source, layer: Annotations, viewports: Sequence[Viewport] = ()
) -> tuple[list[orders.Order], int]:
    """Return presentation states of a layer: one for grey images, one for those in colour."""
    marks, left_out = _marks(source, layer)
    found = []
    for colour in (False, True):
        some = [each for each in marks if (each.image.sop_instance_uid in source.colour) is colour]
        if some:
            views = tuple(_views(some, viewports, colour=colour))
            order = _order(source, orders.Kind.PRESENTATION, annotations=tuple(some), views=views)
            found.append(order)
    return found, left_out


def key_objects(source: Source, marked: KeyImages) -> tuple[list[orders.Order], int]:
    """Return the key object note of a layer, none when it is empty."""
    images = Images(source.detail)
    found = [images.of(each.sop_instance_uid, each.frame) for each in marked.images]
    known = tuple(each for each in found if each is not None)
    left_out = len(found) - len(known)
    if not known:
        return [], left_out
    value, meaning = TITLES[marked.title]
    notes = dict.fromkeys(each.note for each in marked.images if each.note)
    order = _order(
        source,
        orders.Kind.KEY_OBJECTS,
        images=known,
        title="; ".join(notes)[:1024],
        document_title=orders.Code(value=value, scheme="DCM", meaning=meaning),
    )
    return [order], left_out


def _views(
    marks: Iterable[orders.Annotation], viewports: Sequence[Viewport], *, colour: bool
) -> Iterator[orders.View]:
    """Yield a view for each series and size; with the window in which the author left it."""
    groups: dict[tuple[str, int, int], dict[tuple[str, int | None], orders.ImageReference]] = {}
    for mark in marks:
        image = mark.image
        group = groups.setdefault((image.series_instance_uid, image.rows, image.columns), {})
        group[image.sop_instance_uid, image.frame] = image
    for (series, _, _), images in groups.items():
        view = orders.View(images=tuple(images.values()), colour=colour)
        seen = next((each for each in viewports if each.series_instance_uid == series), None)
        if seen is not None and seen.window is not None:
            view = replace(view, window=(seen.window.center, seen.window.width))
        yield view


def _marks(source: Source, layer: Annotations) -> tuple[list[orders.Annotation], int]:
    images = Images(source.detail)
    found: list[orders.Annotation] = []
    left_out = 0
    for each in layer.annotations:
        image = images.of(each.sop_instance_uid, each.frame)
        if image is None:
            left_out += 1
            continue
        found += _drawn(each, image, source)
    return found, left_out


def _drawn(
    one: Annotation, image: orders.ImageReference, source: Source
) -> Iterator[orders.Annotation]:
    """Yield what one annotation is in DICOM's geometry; two lines are two of them."""
    values = [_value(each.name, each.value, each.unit) for each in one.measurements]
    points = tuple((float(x), float(y)) for x, y in one.points)
    if one.tool in ("bidirectional", "cobb"):
        for place, pair in enumerate((points[:2], points[2:])):
            yield _mark(one, image, source, "polyline", pair, _share(one, values, place), place)
        return
    match one.tool:
        case "rectangle":
            (x0, y0), (x1, y1) = points
            corners = ((min(x0, x1), min(y0, y1)), (max(x0, x1), max(y0, y1)))
            yield _mark(one, image, source, "rectangle", corners, values, 0)
        case "ellipse" | "circle" | "text":
            yield _mark(one, image, source, one.tool, points, values, 0)
        case "probe":
            yield _mark(one, image, source, "point", points, values, 0)
        case "freehand":
            closed = points if points[0] == points[-1] else (*points, points[0])
            yield _mark(one, image, source, "polyline", closed, values, 0)
        case _:
            yield _mark(one, image, source, "polyline", points, values, 0)


def _share(one: Annotation, values: list[orders.Value], place: int) -> list[orders.Value]:
    """Return the values of the first or second line: a width is that of the short axis."""
    if one.tool == "cobb":
        return values if place == 0 else []
    wanted = ("length", "width")[place]
    axis = CONCEPTS[("long-axis", "short-axis")[place]]
    return [
        replace(value, concept=axis)
        for value, measured in zip(values, one.measurements, strict=True)
        if measured.name == wanted
    ]


def _mark(
    one: Annotation,
    image: orders.ImageReference,
    source: Source,
    shape: str,
    points: tuple[tuple[float, float], ...],
    values: Sequence[orders.Value],
    place: int,
) -> orders.Annotation:
    study = image.study_instance_uid
    return orders.Annotation(
        image=image,
        shape=orders.Shape(shape),
        points=points,
        label=one.label,
        text=one.text,
        values=tuple(values),
        uid=_uid(study, source.layer, one.id, str(place)),
    )


def _value(name: str, number: float, unit: str) -> orders.Value:
    known = CONCEPTS.get(name)
    own = orders.Code(value=name[:16].upper(), scheme="99SCRIGNO", meaning=name)
    return orders.Value(concept=known or own, number=number, unit=unit or "1")


def _order(
    source: Source,
    kind: orders.Kind,
    *,
    annotations: tuple[orders.Annotation, ...] = (),
    views: tuple[orders.View, ...] = (),
    images: tuple[orders.ImageReference, ...] = (),
    title: str = "",
    document_title: orders.Code | None = None,
) -> orders.Order:
    row = source.detail.study
    number, description = _SERIES[kind]
    order = orders.Order(
        kind=kind,
        study_instance_uid=row.study_instance_uid,
        series_instance_uid=_uid(row.study_instance_uid, "series", kind, source.layer),
        sop_instance_uid="",
        patient=_patient(row),
        study=_study(row),
        created_at=source.saved_at,
        author=source.author,
        title=title,
        description=description,
        series_number=number,
        annotations=annotations,
        views=views,
        images=images,
        document_title=document_title,
        language=source.language,
    )
    content = json.dumps(order.message(), sort_keys=True, default=str)
    return replace(order, sop_instance_uid=_uid(scrigno.__version__, content))


def _uid(*parts: str) -> str:
    """Return the UID that these texts always give (PS3.5 B.2)."""
    digest = hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def _patient(row: StudyRow) -> dict[str, str]:
    return {
        "PatientName": row.patient_name.text(),
        "PatientID": _plain(row.patient_id),
        "IssuerOfPatientID": row.issuer_of_patient_id,
        "PatientBirthDate": _plain(row.patient_birth_date),
        "PatientSex": row.patient_sex,
        "PatientAge": row.patient_age,
    }


def _study(row: StudyRow) -> dict[str, str]:
    return {
        "StudyDate": row.study_date,
        "StudyTime": row.study_time,
        "StudyID": row.study_id,
        "AccessionNumber": row.accession_number,
        "StudyDescription": row.study_description,
        "ReferringPhysicianName": row.referring_physician_name.text(),
        "InstitutionName": row.institution_name,
    }


def _plain(text: Phi) -> str:
    """Return a patient's text as it stands in an object: that is where it belongs."""
    return str.__str__(text)
