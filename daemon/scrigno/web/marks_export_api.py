# SPDX-License-Identifier: Apache-2.0
"""What was drawn and marked, written into the study as DICOM objects: SR, GSPS, KO."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Annotated, Any, Final, Literal

from aiohttp import web
from msgspec import Meta

from scrigno.access.permissions import Permission
from scrigno.catalogue.query import FindKey, FindQuery, Level, Single
from scrigno.catalogue.records import Origin, StudyDetail
from scrigno.imaging.errors import DecodeFailed
from scrigno.imaging.orders import Order
from scrigno.reading import orders
from scrigno.reading.documents import Kind, Place, Version, short
from scrigno.reading.errors import ExportFailed
from scrigno.reading.reading import of_study
from scrigno.reading.shapes import Annotations, KeyImages, ViewerState

from .annotations_api import MINE, LayerId
from .dicomweb.incoming import received
from .errors import NotFound
from .reading_saves import require_account, shaped
from .rooms import Rooms, author_of
from .routes import Route, audited
from .shapes import Answer, Body, path_of, read_body
from .sight import NO_STUDY, sight_of

Format = Literal["sr", "gsps", "ko"]


class MarksExportBody(Body, kw_only=True):
    """Which objects of which layers; without `layers` the own one."""

    formats: Annotated[list[Format], Meta(min_length=1, max_length=3)]
    layers: Annotated[list[LayerId], Meta(max_length=50)] | None = None


class WrittenAnswer(Answer):
    """One object that stands in the study now; `outcome` same: it stood there already."""

    format: Format
    layer: str
    sop_instance_uid: str
    series_instance_uid: str
    outcome: str


class MarksExportAnswer(Answer):
    """What was written; `left_out`: marks on images that the study does not hold any more."""

    objects: list[WrittenAnswer]
    left_out: int


async def export_marks(request: web.Request, rooms: Rooms) -> Any:
    """Write annotations and key images of some layers into the study as DICOM objects."""
    uid, own = path_of(request)["uid"], require_account(request)
    detail = await rooms.catalogue.study(uid, within=sight_of(request))
    if detail is None:
        raise NotFound(NO_STUDY)
    body = await read_body(request, MarksExportBody)
    wanted = set(body.layers or [MINE])
    mine = short(of_study(uid, Kind.ANNOTATIONS, own).layer)
    wanted = {mine if each == MINE else each for each in wanted}
    colour = await _in_colour(rooms, uid)
    found: list[WrittenAnswer] = []
    left_out = 0
    for form in dict.fromkeys(body.formats):
        for version in await _layers(rooms, uid, form):
            layer = short(version.place.layer)
            if layer not in wanted:
                continue
            source = _source(rooms, detail, version, colour)
            made, gone = await _orders(rooms, form, source, version)
            left_out += gone
            for order in made:
                outcome = await _stored(request, rooms, order)
                found.append(_answer(form, layer, order, outcome))
    if not found:
        raise ExportFailed(
            "There is nothing to write: these layers hold no mark on an image of the study.",
            next_step="Draw or mark something first, or name other layers.",
        )
    audited(request, uid, objects=str(len(found)))
    return MarksExportAnswer(objects=found, left_out=left_out)


async def _layers(rooms: Rooms, uid: str, form: Format) -> list[Version]:
    kind = Kind.KEY_IMAGES if form == "ko" else Kind.ANNOTATIONS
    place = of_study(uid, kind)
    return await rooms.reading.documents.of_subject(place.scope, uid, kind)


def _source(
    rooms: Rooms, detail: StudyDetail, version: Version, colour: frozenset[str]
) -> orders.Source:
    return orders.Source(
        detail=detail,
        layer=version.place.layer,
        author=version.place.owner,
        saved_at=version.saved_at,
        language=rooms.settings.current.language,
        colour=colour,
    )


async def _orders(
    rooms: Rooms, form: Format, source: orders.Source, version: Version
) -> tuple[list[Order], int]:
    match form:
        case "sr":
            return orders.measurements(source, shaped(version.content, Annotations))
        case "ko":
            return orders.key_objects(source, shaped(version.content, KeyImages))
        case "gsps":
            place = Place(
                scope=version.place.scope,
                subject=version.place.subject,
                kind=Kind.VIEWER_STATE,
                layer=version.place.layer,
            )
            left = await rooms.reading.documents.get(place)
            views = shaped(left.content, ViewerState).viewports if left else []
            return orders.presentation(source, shaped(version.content, Annotations), views)


async def _in_colour(rooms: Rooms, uid: str) -> frozenset[str]:
    """Return the images of a study that have three samples a pixel."""
    keys = (
        FindKey(keyword="StudyInstanceUID", matching=Single(uid)),
        FindKey(keyword="SamplesPerPixel", matching=Single("3")),
        FindKey(keyword="SOPInstanceUID"),
    )
    query = FindQuery(level=Level.IMAGE, keys=keys)
    rows = [row async for row in rooms.catalogue.find(query)]
    return frozenset(str(row.values["SOPInstanceUID"]) for row in rows)


async def _stored(request: web.Request, rooms: Rooms, order: Order) -> str:
    """Write one object and take it in as any other; returns how that ended."""
    try:
        content = await rooms.imaging.write(order)
    except DecodeFailed as error:
        raise ExportFailed(error.reason) from error

    async def chunks() -> AsyncGenerator[bytes, None]:
        yield content

    origin = Origin(door="viewer", address=request.remote or "", user=author_of(request))
    _, reception = await received(rooms.ingest, origin, chunks(), order.study_instance_uid)
    receipt = await asyncio.shield(reception.commit())
    return str(receipt.outcome)


def _answer(form: Format, layer: str, order: Order, outcome: str) -> WrittenAnswer:
    return WrittenAnswer(
        format=form,
        layer=layer,
        sop_instance_uid=order.sop_instance_uid,
        series_instance_uid=order.series_instance_uid,
        outcome=outcome,
    )


ROUTES: Final = (
    Route(
        method="POST", path="/studies/{uid}/annotations/export", work=export_marks,
        allowed=Permission.ANNOTATE,
        about="Write annotations as SR (TID 1500) and GSPS, key images as KO, into the study",
        body=MarksExportBody, answer=MarksExportAnswer, success=201, audit="marks-exported",
        errors=(
            "annotation-export-failed", "bad-document", "no-durable-storage", "object-too-large",
            "shutting-down", "capacity-reached", "imaging-busy", "imaging-closed",
            "decode-timeout", "object-unreadable",
        ),
    ),
)  # fmt: skip
