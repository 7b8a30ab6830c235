# SPDX-License-Identifier: Apache-2.0
"""The study list and one study. Searches with a patient's name go by POST, not in the URL."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from aiohttp import web

from scrigno.access.permissions import Permission
from scrigno.catalogue.records import (
    FilterOperator,
    ListFilter,
    SeriesRow,
    StoredInstance,
    StudyListQuery,
    StudyRow,
)
from scrigno.core.sight import Sight
from scrigno.core.uids import is_uid

from .answers import moment, person
from .bodies import number, read_object
from .errors import NotFound, RequestRefused
from .rooms import Rooms
from .routes import Route
from .sight import sight_of

LARGEST_PAGE: Final = 500
FARTHEST_OFFSET: Final = 1_000_000_000
MOST_FILTERS: Final = 32
MOST_VALUES: Final = 200
_OWN_KEYS: Final = frozenset({"search", "sort", "order", "offset", "limit", "filters"})


def _study(row: StudyRow) -> dict[str, Any]:
    """Return one line of the list as JSON values; dates and times as DICOM writes them."""
    return {
        "study_instance_uid": row.study_instance_uid,
        "patient_name": person(row.patient_name),
        "patient_id": row.patient_id,
        "issuer_of_patient_id": row.issuer_of_patient_id,
        "patient_birth_date": row.patient_birth_date,
        "patient_sex": row.patient_sex,
        "patient_age": row.patient_age,
        "patient_comments": row.patient_comments,
        "patient_conflict": row.patient_conflict,
        "study_date": row.study_date,
        "study_time": row.study_time,
        "study_id": row.study_id,
        "accession_number": row.accession_number,
        "study_description": row.study_description,
        "referring_physician_name": person(row.referring_physician_name),
        "institution_name": row.institution_name,
        "body_parts": row.body_parts,
        "modalities": row.modalities,
        "number_of_series": row.number_of_series,
        "number_of_instances": row.number_of_instances,
        "size_bytes": row.size_bytes,
        "received_first": row.received_first.isoformat(timespec="seconds"),
        "received_last": row.received_last.isoformat(timespec="seconds"),
    }


async def _with_care(rows: Sequence[StudyRow], rooms: Rooms) -> list[dict[str, Any]]:
    """Return lines with what the box knows of their copies.

    `verified_on` is when the copy that was read back longest ago was read; null until all were.
    """
    uids = [row.study_instance_uid for row in rows]
    verified, flags = await asyncio.gather(
        rooms.catalogue.study_verified(uids), rooms.catalogue.study_flags(uids)
    )
    lines: list[dict[str, Any]] = []
    for row in rows:
        one = verified.get(row.study_instance_uid)
        on = one.on if one is not None and not one.unverified else None
        lines.append(
            _study(row)
            | {"verified_on": moment(on), "protected": flags[row.study_instance_uid].protected}
        )
    return lines


def _series(row: SeriesRow) -> dict[str, Any]:
    attributes = row.attributes
    return {
        "series_instance_uid": attributes.series_instance_uid,
        "modality": attributes.modality,
        "series_number": attributes.series_number,
        "series_date": attributes.series_date,
        "series_time": attributes.series_time,
        "series_description": attributes.series_description,
        "body_part_examined": attributes.body_part_examined,
        "laterality": attributes.laterality,
        "number_of_instances": row.number_of_instances,
        "size_bytes": row.size_bytes,
        "instances": [_instance(each) for each in row.instances],
    }


def _instance(instance: StoredInstance) -> dict[str, Any]:
    return {
        "sop_instance_uid": instance.sop_instance_uid,
        "sop_class_uid": instance.sop_class_uid,
        "transfer_syntax_uid": instance.transfer_syntax_uid,
        "instance_number": instance.instance_number,
        "number_of_frames": instance.number_of_frames,
        "rows": instance.rows,
        "columns": instance.columns,
        "size_bytes": instance.size,
        "copies": instance.held_by(),
    }


async def list_studies(request: web.Request, rooms: Rooms) -> Any:
    """Return a page of the list; every other key of the query is a filter (`field` or
    `field[operator]`, repeated values mean any of them).
    """
    query = request.query
    filters = [
        {"field": field, "operator": operator, "values": query.getall(key)}
        for key in dict.fromkeys(query)
        if key not in _OWN_KEYS
        for field, operator in [_split(key)]
    ]
    return await _page(rooms, {**query, "filters": filters}, sight_of(request))


def _split(key: str) -> tuple[str, str]:
    field, bracket, operator = key.partition("[")
    return field, operator.removesuffix("]") if bracket else FilterOperator.EQUAL


async def search_studies(request: web.Request, rooms: Rooms) -> Any:
    """Return a page of the list, asked for by a body, so that no name stands in a URL."""
    return await _page(rooms, await read_object(request), sight_of(request))


async def _page(rooms: Rooms, asked: Mapping[str, Any], within: Sight) -> Any:
    order = asked.get("order", "desc")
    if order not in {"asc", "desc"}:
        raise RequestRefused("order must be asc or desc.")
    offset = number(asked, "offset", lowest=0, highest=FARTHEST_OFFSET, default=0)
    page = await rooms.catalogue.study_page(
        StudyListQuery(
            search=_text(asked.get("search", ""), "search"),
            filters=tuple(_filters(asked.get("filters", ()))),
            sort=_text(asked.get("sort", "study_date"), "sort"),
            descending=order == "desc",
            offset=offset,
            limit=number(asked, "limit", lowest=0, highest=LARGEST_PAGE, default=50),
        ),
        within=within,
    )
    return {
        "total": page.total,
        "offset": offset,
        "rows": await _with_care(page.rows, rooms),
    }


def _filters(asked: object) -> Iterable[ListFilter]:
    if not isinstance(asked, Sequence) or isinstance(asked, str) or len(asked) > MOST_FILTERS:
        raise RequestRefused(f"filters must be a list of at most {MOST_FILTERS}.")
    for each in asked:
        if not isinstance(each, Mapping):
            raise RequestRefused("A filter has field, operator and values.")
        values = each.get("values", ())
        if not isinstance(values, Sequence) or isinstance(values, str):
            raise RequestRefused("The values of a filter are a list of texts.")
        operator = each.get("operator", FilterOperator.EQUAL)
        if operator not in list(FilterOperator) or not 0 < len(values) <= MOST_VALUES:
            raise RequestRefused(f"operator must be one of {', '.join(FilterOperator)}.")
        yield ListFilter(
            field=_text(each.get("field"), "field"),
            operator=FilterOperator(operator),
            values=tuple(_text(value, "values") for value in values),
        )


def _text(value: object, name: str) -> str:
    if not isinstance(value, str) or len(value) > 256 or "\0" in value:
        raise RequestRefused(f"{name} must be a text of at most 256 characters.")
    return value


def uid_of(request: web.Request, name: str = "uid") -> str:
    """Return the UID in the path; raises NotFound for what is none."""
    uid = request.match_info[name]
    if not is_uid(uid):
        raise NotFound("This is no DICOM UID.")
    return uid


async def get_study(request: web.Request, rooms: Rooms) -> Any:
    """Return one study with its series and objects."""
    found = await rooms.catalogue.study(uid_of(request), within=sight_of(request))
    if found is None:
        raise NotFound("There is no such study.")
    rooms.on_read(found.study.study_instance_uid)
    (line,) = await _with_care([found.study], rooms)
    return {"study": line, "series": [_series(each) for each in found.series]}


ROUTES: Final = (
    Route(
        method="GET", path="/studies", work=list_studies, allowed=Permission.VIEW,
        about="A page of the study list; other query keys are filters: field or field[operator]",
        query=("search", "sort", "order", "offset", "limit"), free_query=True,
        errors=("bad-request", "unknown-study-column"),
    ),
    Route(
        method="POST", path="/studies/search", work=search_studies, allowed=Permission.VIEW,
        about="The same with the query in the body, so that no patient's name stands in a URL",
        body={"type": "object"}, errors=("bad-request", "unknown-study-column"),
    ),
    Route(
        method="GET", path="/studies/{uid}", work=get_study, allowed=Permission.VIEW,
        about="One study with its series and objects", errors=("not-found",),
    ),
)  # fmt: skip
