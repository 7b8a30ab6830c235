# SPDX-License-Identifier: Apache-2.0
"""Exports: as jobs whose result is fetched, into a folder of the box, or at once as a ZIP."""

from typing import Annotated, Any, Final, Literal

import msgspec
from aiohttp import web
from msgspec import Meta

from scrigno.access.audit import Action
from scrigno.access.permissions import Permission
from scrigno.archive.export_job import KIND, ExportOrder, NothingToExport, manner_of
from scrigno.archive.export_sinks import ZipSink
from scrigno.core.errors import ScrignoError

from .errors import NotPossible, RequestRefused
from .import_api import PathText, grant_of
from .jobs_api import JobAnswer, attachment, job_answer
from .rooms import Rooms, author_of
from .routes import Own, Route
from .shapes import Body, Line, Query, Uid, query_of, read_body
from .sight import require_studies, sight_of

MOST_STUDIES: Final = 10_000
MOST_SERIES: Final = 10_000
AT_ONCE_BYTES: Final = 4 << 30
AT_ONCE_OBJECTS: Final = 10_000
AT_ONCE_STUDIES: Final = 100


class ExportTooLarge(RequestRefused):
    """Too much to be sent at once."""

    code = "export-too-large"


class AnonymiseBody(Body):
    """De-identification by the Basic Profile of PS3.15 and the options of its annex E."""

    retain_uids: bool = False
    retain_dates: bool = False
    shift_dates: bool = False
    retain_device: bool = False
    retain_institution: bool = False
    retain_patient_characteristics: bool = False
    clean_descriptors: bool = False
    patient_name: Line = ""
    patient_id: Annotated[str, Meta(max_length=64)] = ""

    def options(self) -> tuple[str, ...]:
        """Return the columns of the table."""
        chosen = {
            "uids": self.retain_uids,
            "dates": self.retain_dates,
            "shifted": self.shift_dates and not self.retain_dates,
            "device": self.retain_device,
            "institution": self.retain_institution,
            "patient": self.retain_patient_characteristics,
            "descriptors": self.clean_descriptors,
        }
        return tuple(name for name, wanted in chosen.items() if wanted)


class ExportBody(Body):
    """What to export, to where and how."""

    studies: Annotated[list[Uid], Meta(min_length=1, max_length=MOST_STUDIES)]
    series: Annotated[list[Uid], Meta(max_length=MOST_SERIES)] = msgspec.field(default_factory=list)
    to: Literal["zip", "iso", "folder"] = "zip"
    path: PathText | None = None
    pictures: Literal["none", "jpeg", "png"] = "none"
    uncompressed: bool = False
    anonymise: AnonymiseBody | None = None


def _order(body: ExportBody) -> ExportOrder:
    how = body.anonymise
    return ExportOrder(
        studies=tuple(dict.fromkeys(body.studies)),
        series=tuple(dict.fromkeys(body.series)),
        to=body.to,
        path=body.path or "",
        pictures="" if body.pictures == "none" else body.pictures,
        uncompressed=body.uncompressed,
        anonymise=how is not None,
        options=() if how is None else how.options(),
        patient_name="" if how is None else how.patient_name,
        patient_id="" if how is None else how.patient_id,
    )


async def start_export(request: web.Request, rooms: Rooms) -> Any:
    """Begin an export."""
    body = await read_body(request, ExportBody, limit=2 << 20)
    if (body.to == "folder") != (body.path is not None):
        raise NotPossible("A path is given for an export to a folder, and only then.")
    if body.path is not None:
        rooms.imports.places().require(body.path)
    order = _order(body)
    await require_studies(request, rooms, order.studies)
    what = "1 study" if len(order.studies) == 1 else f"{len(order.studies)} studies"
    job = await rooms.jobs.start(
        KIND,
        author=author_of(request),
        title=f"{what} as {order.pictures or 'DICOM'}, {order.to}"
        f"{', de-identified' if order.anonymise else ''}",
        params=order.params(),
        grant=grant_of(request),
    )
    _record(request, rooms, order, {"job": str(job.id)})
    return await job_answer(rooms, job)


def _record(
    request: web.Request, rooms: Rooms, order: ExportOrder, details: dict[str, str]
) -> None:
    """Write one line for each study: the trail is asked by study."""
    more = {**details, "to": order.to, "de-identified": "yes" if order.anonymise else "no"}
    for study in order.studies:
        rooms.audit.record(author_of(request), Action.EXPORT, study, details=more)


class _Told:
    """Nobody looks at the progress of an answer; what cannot leave breaks it off."""

    async def give_way(self) -> None:
        pass

    def done(self, count: int, total: int) -> None:
        pass

    def counted(self, name: str) -> None:
        pass

    async def failed(self, name: str, code: str, reason: str) -> None:
        raise _Broken(f"An object cannot be sent: {reason}")


class _Broken(ScrignoError):
    code = "object-unavailable"


async def send_zip(request: web.Request, rooms: Rooms) -> web.StreamResponse:
    """Send studies at once as a ZIP with a DICOMDIR; what is too large is a job."""
    query = query_of(request)
    order = ExportOrder(studies=tuple(dict.fromkeys(query["study"])), series=query["series"])
    if not 0 < len(order.studies) <= AT_ONCE_STUDIES:
        raise NotPossible(f"1 to {AT_ONCE_STUDIES} studies can be sent at once.")
    await require_studies(request, rooms, order.studies)
    leaving = await rooms.exporter.leaving(order.studies, order.series, [sight_of(request)])
    if not leaving.objects:
        raise NothingToExport("Nothing of what was named is there.")
    if leaving.size > AT_ONCE_BYTES or len(leaving.objects) > AT_ONCE_OBJECTS:
        raise ExportTooLarge(
            f"{leaving.size >> 20} MiB are too much to be sent at once.",
            next_step="Start an export (POST /viewer/api/exports) and fetch its result.",
        )
    _record(request, rooms, order, {"at-once": "yes"})
    response = web.StreamResponse(
        headers={
            "Content-Type": "application/zip",
            "Content-Disposition": attachment("studies.zip"),
        }
    )
    await response.prepare(request)
    sink = ZipSink(response.write)
    try:
        await rooms.exporter.write(leaving, manner_of(order.params()), sink, _Told())
    except ScrignoError:
        # the headers are out: only a broken connection says that the archive is not whole
        if request.transport is not None:
            request.transport.abort()
        return response
    await response.write_eof()
    return response


_EXPORT: Final = Permission.EXPORT

ROUTES: Final = (
    Route(
        method="POST", path="/exports", work=start_export, body=ExportBody, answer=JobAnswer,
        success=201, allowed=_EXPORT, audit=Own("export"),
        about="Export studies as ZIP, disc image, pictures, or into a folder of the box",
        errors=("place-not-allowed", "not-found", "not-possible", "too-many-jobs"),
    ),
    Route(
        method="GET", path="/exports/studies.zip", work=send_zip, allowed=_EXPORT,
        about="Studies as a ZIP with DICOMDIR, at once", answers="application/zip",
        audit=Own("export"),
        query=(
            Query("study", Uid, many=True, required=True),
            Query("series", Uid, many=True),
        ),
        errors=("not-found", "not-possible", "nothing-to-export", "export-too-large"),
    ),
)  # fmt: skip
