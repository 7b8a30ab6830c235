# SPDX-License-Identifier: Apache-2.0
"""The study list and one study. Searches with a patient's name go by POST, not in the URL."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Annotated, Any, Final, Literal

from aiohttp import web
from msgspec import Meta, field

from scrigno.access.audit import Action
from scrigno.access.permissions import Permission
from scrigno.catalogue.columns import SORTS
from scrigno.catalogue.records import (
    FilterOperator,
    ListFilter,
    SeriesRow,
    StoredInstance,
    StudyListQuery,
    StudyRow,
    UnknownStudyColumn,
)
from scrigno.catalogue.studies import FILTERS
from scrigno.core.sight import Sight

from .answers import PersonNameAnswer, at, moment, person
from .errors import NotFound, NotPossible, RequestRefused
from .rooms import Rooms
from .routes import Own, Route, Unaudited
from .shapes import NO_NULL, Answer, Body, Moment, Query, path_of, query_of, read_body
from .sight import looked, sight_of

LARGEST_PAGE: Final = 500
FARTHEST_OFFSET: Final = 1_000_000_000
MOST_FILTERS: Final = 32
MOST_VALUES: Final = 200

SortColumn = Annotated[str, Meta(max_length=64, extra_json_schema={"enum": sorted(SORTS)})]
FilterColumn = Annotated[str, Meta(max_length=64, extra_json_schema={"enum": sorted(FILTERS)})]
FilterValue = Annotated[str, Meta(max_length=256, pattern=NO_NULL)]
Order = Literal["asc", "desc"]
Offset = Annotated[int, Meta(ge=0, le=FARTHEST_OFFSET)]
PageSize = Annotated[int, Meta(ge=0, le=LARGEST_PAGE)]


class StudyAnswer(Answer):
    """One line of the list; dates and times as DICOM writes them.

    `verified_on` is when the copy that was read back longest ago was read; null until all were.
    """

    study_instance_uid: str
    patient_name: PersonNameAnswer
    patient_id: str
    issuer_of_patient_id: str
    patient_birth_date: str
    patient_sex: str
    patient_age: str
    patient_comments: str
    patient_conflict: bool
    study_date: str
    study_time: str
    study_id: str
    accession_number: str
    study_description: str
    referring_physician_name: PersonNameAnswer
    name_of_physicians_reading_study: PersonNameAnswer
    institution_name: str
    body_parts: list[str]
    modalities: list[str]
    number_of_series: int
    number_of_instances: int
    size_bytes: int
    received_first: Moment
    received_last: Moment
    verified_on: Moment | None
    protected: bool


class StudyPageAnswer(Answer):
    """A page of the list, and how many studies the whole list has."""

    total: int
    offset: int
    rows: list[StudyAnswer]


class InstanceAnswer(Answer):
    """One object of a series; `copies` are the volumes that hold it."""

    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    instance_number: str
    number_of_frames: int | None
    rows: int | None
    columns: int | None
    size_bytes: int
    copies: list[str]


class SeriesAnswer(Answer):
    """One series with its objects."""

    series_instance_uid: str
    modality: str
    series_number: str
    series_date: str
    series_time: str
    series_description: str
    body_part_examined: str
    laterality: str
    number_of_instances: int
    size_bytes: int
    instances: list[InstanceAnswer]


class StudyDetailAnswer(Answer):
    """One study with its series and objects."""

    study: StudyAnswer
    series: list[SeriesAnswer]


class ColumnAnswer(Answer):
    """A name that studies can be sorted or filtered by."""

    name: str
    sorts: bool
    filters: bool


class StudyColumnsAnswer(Answer):
    """What the list can be sorted and filtered by."""

    columns: list[ColumnAnswer]
    operators: list[FilterOperator]


class PlainFilterBody(Body):
    """One condition; for `range` two values, an empty one is open."""

    field: FilterColumn
    values: Annotated[list[FilterValue], Meta(min_length=1, max_length=MOST_VALUES)]
    operator: FilterOperator = FilterOperator.EQUAL


class FilterBody(PlainFilterBody, kw_only=True):
    """One condition; one of its alternatives, which are columns of the study, is as good."""

    alternatives: Annotated[list[PlainFilterBody], Meta(max_length=MOST_FILTERS)] = field(
        default_factory=list
    )


class StudySearchBody(Body):
    """Which page of which list: every word of `search`, and every filter."""

    search: FilterValue = ""
    filters: Annotated[tuple[FilterBody, ...], Meta(max_length=MOST_FILTERS)] = ()
    sort: SortColumn = "study_date"
    order: Order = "desc"
    offset: Offset = 0
    limit: PageSize = 50


async def lines_of(rows: Sequence[StudyRow], rooms: Rooms) -> list[StudyAnswer]:
    """Return lines of the list with what the box knows of their copies."""
    uids = [row.study_instance_uid for row in rows]
    verified, flags = await asyncio.gather(
        rooms.catalogue.study_verified(uids), rooms.catalogue.study_flags(uids)
    )
    lines: list[StudyAnswer] = []
    for row in rows:
        one = verified.get(row.study_instance_uid)
        on = one.on if one is not None and not one.unverified else None
        lines.append(
            StudyAnswer(
                study_instance_uid=row.study_instance_uid,
                patient_name=person(row.patient_name),
                patient_id=row.patient_id,
                issuer_of_patient_id=row.issuer_of_patient_id,
                patient_birth_date=row.patient_birth_date,
                patient_sex=row.patient_sex,
                patient_age=row.patient_age,
                patient_comments=row.patient_comments,
                patient_conflict=row.patient_conflict,
                study_date=row.study_date,
                study_time=row.study_time,
                study_id=row.study_id,
                accession_number=row.accession_number,
                study_description=row.study_description,
                referring_physician_name=person(row.referring_physician_name),
                name_of_physicians_reading_study=person(row.name_of_physicians_reading_study),
                institution_name=row.institution_name,
                body_parts=list(row.body_parts),
                modalities=list(row.modalities),
                number_of_series=row.number_of_series,
                number_of_instances=row.number_of_instances,
                size_bytes=row.size_bytes,
                received_first=at(row.received_first),
                received_last=at(row.received_last),
                verified_on=moment(on),
                protected=flags[row.study_instance_uid].protected,
            )
        )
    return lines


def _series(row: SeriesRow) -> SeriesAnswer:
    attributes = row.attributes
    return SeriesAnswer(
        series_instance_uid=attributes.series_instance_uid,
        modality=attributes.modality,
        series_number=attributes.series_number,
        series_date=attributes.series_date,
        series_time=attributes.series_time,
        series_description=attributes.series_description,
        body_part_examined=attributes.body_part_examined,
        laterality=attributes.laterality,
        number_of_instances=row.number_of_instances,
        size_bytes=row.size_bytes,
        instances=[_instance(each) for each in row.instances],
    )


def _instance(instance: StoredInstance) -> InstanceAnswer:
    return InstanceAnswer(
        sop_instance_uid=instance.sop_instance_uid,
        sop_class_uid=instance.sop_class_uid,
        transfer_syntax_uid=instance.transfer_syntax_uid,
        instance_number=instance.instance_number,
        number_of_frames=instance.number_of_frames,
        rows=instance.rows,
        columns=instance.columns,
        size_bytes=instance.size,
        copies=list(instance.held_by()),
    )


async def list_studies(request: web.Request, rooms: Rooms) -> Any:
    """Return a page of the list; every other key of the query is a filter (`field` or
    `field[operator]`, repeated values mean any of them).
    """
    asked = query_of(request)
    return await _page(rooms, _filters(request), asked, sight_of(request))


def _filters(request: web.Request) -> Iterable[ListFilter]:
    keys = [key for key in dict.fromkeys(request.query) if key not in query_of(request)]
    if len(keys) > MOST_FILTERS:
        raise RequestRefused(f"At most {MOST_FILTERS} filters are possible.")
    for key in keys:
        field, bracket, given = key.partition("[")
        operator = given.removesuffix("]") if bracket else FilterOperator.EQUAL
        values = request.query.getall(key)
        if operator not in list(FilterOperator):
            raise RequestRefused(f"operator must be one of {', '.join(FilterOperator)}.")
        if len(values) > MOST_VALUES or any(len(each) > 256 or "\0" in each for each in values):
            raise RequestRefused(f"A filter has at most {MOST_VALUES} values of 256 characters.")
        yield ListFilter(field=field, operator=FilterOperator(operator), values=tuple(values))


def _filter_of(one: PlainFilterBody) -> ListFilter:
    return ListFilter(field=one.field, operator=one.operator, values=tuple(one.values))


async def search_studies(request: web.Request, rooms: Rooms) -> Any:
    """Return a page of the list, asked for by a body, so that no name stands in a URL."""
    body = await read_body(request, StudySearchBody)
    for each in (*body.filters, *(other for one in body.filters for other in one.alternatives)):
        if each.field not in FILTERS:
            raise UnknownStudyColumn(f"The study list has no {each.field!r} to filter by.")
        if each.operator is FilterOperator.RANGE and len(each.values) != len(("from", "to")):
            raise NotPossible("A range has two values; an empty one is open.")
    filters = [
        replace(
            _filter_of(each), alternatives=tuple(_filter_of(other) for other in each.alternatives)
        )
        for each in body.filters
    ]
    asked = {name: getattr(body, name) for name in body.__struct_fields__}
    return await _page(rooms, filters, asked, sight_of(request))


async def _page(
    rooms: Rooms, filters: Iterable[ListFilter], asked: dict[str, Any], within: Sight
) -> StudyPageAnswer:
    page = await rooms.catalogue.study_page(
        StudyListQuery(
            search=asked["search"],
            filters=tuple(filters),
            sort=asked["sort"],
            descending=asked["order"] == "desc",
            offset=asked["offset"],
            limit=asked["limit"],
        ),
        within=within,
    )
    rows = await lines_of(page.rows, rooms)
    return StudyPageAnswer(total=page.total, offset=asked["offset"], rows=rows)


async def list_columns(_request: web.Request, _rooms: Rooms) -> Any:
    """Return what the list can be sorted and filtered by."""
    return StudyColumnsAnswer(
        columns=[
            ColumnAnswer(name=name, sorts=name in SORTS, filters=name in FILTERS)
            for name in sorted({*SORTS, *FILTERS})
        ],
        operators=list(FilterOperator),
    )


async def get_study(request: web.Request, rooms: Rooms) -> Any:
    """Return one study with its series and objects."""
    found = await rooms.catalogue.study(path_of(request)["uid"], within=sight_of(request))
    if found is None:
        raise NotFound("There is no such study.")
    looked(request, rooms, found.study.study_instance_uid)
    (line,) = await lines_of([found.study], rooms)
    return StudyDetailAnswer(study=line, series=[_series(each) for each in found.series])


_PAGE: Final = (
    Query("search", FilterValue, "", "Every word must begin some word of the study"),
    Query("sort", SortColumn, "study_date", "The column to sort by"),
    Query("order", Order, "desc"),
    Query("offset", Offset, 0, "How many lines to leave out"),
    Query("limit", PageSize, 50, "Lines at most"),
)

ROUTES: Final = (
    Route(
        method="GET", path="/studies", work=list_studies, allowed=Permission.VIEW,
        about="A page of the study list; other query keys are filters: field or field[operator]",
        query=_PAGE, free_query=True, answer=StudyPageAnswer,
        errors=("bad-request", "unknown-study-column"),
    ),
    Route(
        method="POST", path="/studies/search", work=search_studies, allowed=Permission.VIEW,
        about="The same with the query in the body, so that no patient's name stands in a URL",
        body=StudySearchBody, answer=StudyPageAnswer,
        audit=Unaudited("a search changes nothing; looking at a study is recorded"),
        errors=("bad-request", "not-possible", "unknown-study-column"),
    ),
    Route(
        method="GET", path="/studies/columns", work=list_columns, allowed=Permission.VIEW,
        about="What the study list can be sorted and filtered by", answer=StudyColumnsAnswer,
    ),
    Route(
        method="GET", path="/studies/{uid}", work=get_study, allowed=Permission.VIEW,
        about="One study with its series and objects", answer=StudyDetailAnswer,
        audit=Own(Action.INSTANCES_ACCESSED), errors=("not-found",),
    ),
)  # fmt: skip
