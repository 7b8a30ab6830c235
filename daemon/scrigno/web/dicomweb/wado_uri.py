# SPDX-License-Identifier: Apache-2.0
"""WADO-URI: one object by query parameters (PS3.18 section 9), for those who know no other way."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from aiohttp import web

from scrigno.catalogue.records import StoredInstance
from scrigno.core.uids import is_uid
from scrigno.imaging.results import Viewport
from scrigno.web.errors import RequestRefused
from scrigno.web.rooms import Rooms

from .frame_source import FrameSource
from .looks import FORMATS, LARGEST_PX, region_of, uri_look_of
from .media import AS_STORED, DICOM, JPEG, NotAcceptable, Range, acceptable, fits
from .rendered import RenderedResources
from .retrieve import Retrieve
from .target import Target, frame_numbers, instance_of

_KNOWN: Final = frozenset(
    {"requesttype", "studyuid", "seriesuid", "objectuid", "contenttype", "charset", "anonymize",
     "annotation", "rows", "columns", "region", "windowcenter", "windowwidth", "imagequality",
     "framenumber", "presentationuid", "presentationseriesuid", "transfersyntax"}
)  # fmt: skip


class WadoUri:
    """The handler of /wado."""

    def __init__(
        self, source: FrameSource, retrieve: Retrieve, rendered: RenderedResources
    ) -> None:
        """Answer by the handlers of WADO-RS."""
        self._source = source
        self._retrieve = retrieve
        self._rendered = rendered

    async def get(self, request: web.Request, rooms: Rooms) -> web.StreamResponse:
        """Answer the object as DICOM, as a picture, or as a document."""
        query = _checked(request.query)
        target = Target(
            study=_uid(query, "studyUID"),
            series=_uid(query, "seriesUID"),
            instance=_uid(query, "objectUID"),
        )
        instance = await instance_of(request, rooms, target)
        wanted = _content_types(query)
        if any(fits(each, DICOM) for each in wanted if each != "*/*"):
            return await self._retrieve.one(request, rooms, instance, _ranges(query))
        if not (instance.rows and instance.columns):
            if wanted and not any(each.startswith(("text/", "application/")) for each in wanted):
                raise NotAcceptable("The object is no picture.")
            return await self._rendered.document(request, rooms, instance)
        for each in wanted or [JPEG]:
            for media in FORMATS:
                if fits(each, media):
                    return await self._picture(request, rooms, instance, query, media)
        raise NotAcceptable("The object cannot be given as any of these content types.")

    async def _picture(
        self,
        request: web.Request,
        rooms: Rooms,
        instance: StoredInstance,
        query: Mapping[str, str],
        media: str,
    ) -> web.StreamResponse:
        asked = uri_look_of(query, media)
        frame = frame_numbers(query["frameNumber"])[0] if query.get("frameNumber") else 0
        look = replace(asked.look, frame=frame)
        region = region_of(query.get("region", ""))
        if region is not None:
            rows, columns = instance.rows or 1, instance.columns or 1
            left, top, right, bottom = region
            width, height = (right - left) * columns, (bottom - top) * rows
            most = look.max_size or min(LARGEST_PX, max(1, round(max(width, height))))
            scale = most / max(width, height)
            viewport = Viewport(
                width=max(1, round(width * scale)), height=max(1, round(height * scale)),
                left=left * columns, top=top * rows, part_width=width, part_height=height,
            )  # fmt: skip
            look = replace(look, viewport=viewport, max_size=None)
        return await self._rendered.look(request, rooms, instance, replace(asked, look=look))


def _checked(query: Mapping[str, str]) -> Mapping[str, str]:
    if query.get("requestType", "").upper() != "WADO":
        raise RequestRefused("requestType must be WADO.")
    for name in query:
        if name.lower() not in _KNOWN and name != "accept":
            raise RequestRefused(f"{name[:64]!r} is no parameter of WADO-URI.")
    if query.get("anonymize"):
        raise RequestRefused(
            "Objects are not anonymised here.",
            next_step="Export them anonymised, and retrieve those.",
        )
    if query.get("presentationUID"):
        raise RequestRefused("Presentation states are not applied here.")
    return query


def _uid(query: Mapping[str, str], name: str) -> str:
    found = query.get(name, "")
    if not is_uid(found):
        raise RequestRefused(f"{name} must be a UID.")
    return found


def _content_types(query: Mapping[str, str]) -> list[str]:
    text = query.get("contentType", "").replace(" ", "+")
    return [each.media for each in acceptable([], [text])] if text.strip("+") else []


def _ranges(query: Mapping[str, str]) -> list[Range]:
    """Return the syntaxes to try: the one asked for, else Explicit VR LE (PS3.18 9.1.2.2.4.2)."""
    wanted = query.get("transferSyntax", "").strip()
    if wanted and wanted != AS_STORED and not is_uid(wanted):
        raise RequestRefused("transferSyntax must be a UID.")
    first = [Range(media=DICOM, transfer_syntax=wanted)] if wanted else []
    return [*first, Range(media=DICOM)]
