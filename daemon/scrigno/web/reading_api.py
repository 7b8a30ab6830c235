# SPDX-License-Identifier: Apache-2.0
"""What people add to a study as a whole: its note, labels, state of the report, where one was."""

from typing import Annotated, Any, Final

from aiohttp import web
from msgspec import Meta

from scrigno.access.permissions import Permission
from scrigno.reading.documents import Kind, Place, Version
from scrigno.reading.reading import of_study
from scrigno.reading.shapes import Labels, Note, ReportState, Shape, Uid, ViewerState, plain

from .answers import moment
from .reading_saves import (
    MOST_BODY,
    SAVE_ERRORS,
    HistoryAnswer,
    RestoreBody,
    SavedAnswer,
    VersionAnswer,
    history,
    require_account,
    restore,
    save,
    shaped,
    version_json,
    with_tag,
)
from .rooms import Rooms
from .routes import For, Own, Route, Unaudited
from .shapes import Answer, Body, Moment, Query, path_of, query_of, read_body
from .sight import require_study, sight_of

MOST_AT_ONCE: Final = 500


class NoteAnswer(Answer):
    """The note of a study; revision 0 and nobody while there is none."""

    revision: int
    author: str
    saved_at: Moment | None
    note: Note


class NoteVersionAnswer(Answer):
    """One version of a note."""

    version: VersionAnswer
    note: Note


class LabelsAnswer(Answer):
    """The labels of a study."""

    revision: int
    author: str
    saved_at: Moment | None
    labels: Labels


class ReportStateAnswer(Answer):
    """How far the report of a study is."""

    revision: int
    author: str
    saved_at: Moment | None
    report: ReportState


class ViewerStateAnswer(Answer):
    """Where the caller left a study."""

    revision: int
    saved_at: Moment | None
    state: ViewerState


class StudiesBody(Body):
    """Which studies are asked for."""

    studies: Annotated[list[Uid], Meta(min_length=1, max_length=MOST_AT_ONCE)]


class AddedAnswer(Answer):
    """What was added to one study."""

    study_instance_uid: str
    note: str
    labels: list[str]
    report_state: str
    annotations: int
    key_images: int


class ReadingStateAnswer(Answer):
    """Whether every volume has what people added: `owed` files by volume, none when all is well."""

    owed: dict[str, int]
    backed_up_at: Moment | None
    restored_from: str


class AddedToAnswer(Answer):
    """What was added to each of the studies that the caller sees and that have something."""

    studies: list[AddedAnswer]


def _place(request: web.Request, kind: Kind) -> Place:
    return of_study(path_of(request)["uid"], kind)


async def _found(request: web.Request, rooms: Rooms, kind: Kind) -> Version | None:
    await require_study(request, rooms, path_of(request)["uid"])
    return await rooms.reading.documents.get(_place(request, kind))


async def _saved(
    request: web.Request, rooms: Rooms, kind: Kind, shape: type[Shape], action: str
) -> web.Response:
    await require_study(request, rooms, path_of(request)["uid"])
    require_account(request)
    body = await read_body(request, shape, limit=MOST_BODY)
    return await save(request, rooms, _place(request, kind), plain(body), action)


def _head(found: Version | None) -> dict[str, Any]:
    if found is None:
        return {"revision": 0, "author": "", "saved_at": None}
    return {
        "revision": found.revision,
        "author": found.author,
        "saved_at": moment(found.saved_at),
    }


async def get_note(request: web.Request, rooms: Rooms) -> Any:
    """Return the note of a study."""
    found = await _found(request, rooms, Kind.NOTE)
    note = shaped(found.content, Note) if found else Note()
    head = _head(found)
    return with_tag(NoteAnswer(**head, note=note), head["revision"])


async def save_note(request: web.Request, rooms: Rooms) -> Any:
    """Save the note of a study."""
    return await _saved(request, rooms, Kind.NOTE, Note, "note-saved")


async def list_note_versions(request: web.Request, rooms: Rooms) -> Any:
    """List the versions of the note of a study."""
    await require_study(request, rooms, path_of(request)["uid"])
    return await history(rooms, _place(request, Kind.NOTE), query_of(request))


async def get_note_version(request: web.Request, rooms: Rooms) -> Any:
    """Return one version of the note of a study."""
    await require_study(request, rooms, path_of(request)["uid"])
    found = await rooms.reading.documents.version(
        _place(request, Kind.NOTE), path_of(request)["number"]
    )
    return NoteVersionAnswer(version=version_json(found), note=shaped(found.content, Note))


async def restore_note(request: web.Request, rooms: Rooms) -> Any:
    """Put an older version of the note in force again."""
    await require_study(request, rooms, path_of(request)["uid"])
    require_account(request)
    body = await read_body(request, RestoreBody)
    return await restore(request, rooms, _place(request, Kind.NOTE), body.version, "note-saved")


async def get_labels(request: web.Request, rooms: Rooms) -> Any:
    """Return the labels of a study."""
    found = await _found(request, rooms, Kind.LABELS)
    labels = shaped(found.content, Labels) if found else Labels()
    head = _head(found)
    return with_tag(LabelsAnswer(**head, labels=labels), head["revision"])


async def save_labels(request: web.Request, rooms: Rooms) -> Any:
    """Save the labels of a study."""
    return await _saved(request, rooms, Kind.LABELS, Labels, "labels-saved")


async def get_report_state(request: web.Request, rooms: Rooms) -> Any:
    """Return how far the report of a study is."""
    found = await _found(request, rooms, Kind.REPORT_STATE)
    report = shaped(found.content, ReportState) if found else ReportState()
    head = _head(found)
    return with_tag(ReportStateAnswer(**head, report=report), head["revision"])


async def save_report_state(request: web.Request, rooms: Rooms) -> Any:
    """Say how far the report of a study is."""
    return await _saved(request, rooms, Kind.REPORT_STATE, ReportState, "report-state-saved")


async def get_viewer_state(request: web.Request, rooms: Rooms) -> Any:
    """Return where the caller left a study."""
    await require_study(request, rooms, path_of(request)["uid"])
    place = of_study(path_of(request)["uid"], Kind.VIEWER_STATE, require_account(request))
    found = await rooms.reading.documents.get(place)
    revision = found.revision if found else 0
    answer = ViewerStateAnswer(
        revision=revision,
        saved_at=moment(found.saved_at) if found else None,
        state=shaped(found.content, ViewerState) if found else ViewerState(),
    )
    return with_tag(answer, revision)


async def save_viewer_state(request: web.Request, rooms: Rooms) -> Any:
    """Remember where the caller left a study."""
    await require_study(request, rooms, path_of(request)["uid"])
    place = of_study(path_of(request)["uid"], Kind.VIEWER_STATE, require_account(request))
    body = await read_body(request, ViewerState)
    return await save(request, rooms, place, plain(body))


async def added_to_studies(request: web.Request, rooms: Rooms) -> Any:
    """Return what was added to each study of a page of the list."""
    body = await read_body(request, StudiesBody)
    wanted = frozenset(body.studies)
    seen = await rooms.catalogue.seen(wanted, within=sight_of(request))
    found = await rooms.reading.documents.of_studies(
        sorted(seen),
        *(Kind.NOTE, Kind.LABELS, Kind.REPORT_STATE, Kind.ANNOTATIONS, Kind.KEY_IMAGES),
    )
    lines: dict[str, AddedAnswer] = {}
    for each in found:
        uid = each.place.subject
        line = lines.setdefault(
            uid,
            AddedAnswer(
                study_instance_uid=uid,
                note="",
                labels=[],
                report_state="none",
                annotations=0,
                key_images=0,
            ),
        )
        _add(line, each)
    return AddedToAnswer(studies=list(lines.values()))


def _add(line: AddedAnswer, one: Version) -> None:
    match one.place.kind:
        case Kind.NOTE:
            line.note = str(one.content.get("text", ""))
        case Kind.LABELS:
            line.labels = [str(each) for each in one.content.get("labels", ())]
        case Kind.REPORT_STATE:
            line.report_state = str(one.content.get("state", "none"))
        case Kind.ANNOTATIONS:
            line.annotations += len(one.content.get("annotations", ()))
        case Kind.KEY_IMAGES:
            line.key_images += len(one.content.get("images", ()))
        case _:
            pass


async def get_reading_state(_request: web.Request, rooms: Rooms) -> Any:
    """Tell whether every volume has what people added."""
    reading = rooms.reading
    return ReadingStateAnswer(
        owed=await reading.files.owed(),
        backed_up_at=moment(reading.backups.last_made),
        restored_from=reading.restored_from,
    )


async def read_back(_request: web.Request, rooms: Rooms) -> Any:
    """Read what people added anew from every volume; what the box lacks is taken over."""
    await rooms.reading.files.forget_disks()


_READ: Final = ("not-found", "bad-document")
_OF_VERSION: Final = ("not-found", "unknown-version", "bad-document")
VERSIONS: Final = (
    Query("before", int, 0, "The number of the last version of the page before", ge=0, le=2**53),
    Query("limit", int, 50, "Lines at most", ge=1, le=500),
)
_VIEW, _ANNOTATE = Permission.VIEW, Permission.ANNOTATE
_STATE: Final = Unaudited("where somebody looked is told by the look itself")

ROUTES: Final = (
    Route(
        method="GET", path="/studies/{uid}/note", work=get_note, allowed=_VIEW,
        about="The note of a study; its ETag is the revision", answer=NoteAnswer, errors=_READ,
    ),
    Route(
        method="PUT", path="/studies/{uid}/note", work=save_note, allowed=_ANNOTATE,
        about='Save the note upon its revision: If-Match: "3", or "0" while there is none',
        body=Note, answer=SavedAnswer, also=(202,), audit=Own("note-saved"), errors=SAVE_ERRORS,
    ),
    Route(
        method="GET", path="/studies/{uid}/note/versions", work=list_note_versions,
        allowed=_VIEW, about="The versions of a note, the newest first", query=VERSIONS,
        answer=HistoryAnswer, errors=_READ,
    ),
    Route(
        method="GET", path=r"/studies/{uid}/note/versions/{number:\d+}", work=get_note_version,
        allowed=_VIEW, about="One version of a note", answer=NoteVersionAnswer,
        errors=_OF_VERSION,
    ),
    Route(
        method="POST", path="/studies/{uid}/note/restore", work=restore_note, allowed=_ANNOTATE,
        about="Put an older version of a note in force again", body=RestoreBody,
        answer=SavedAnswer, also=(202,), audit=Own("note-saved"),
        errors=(*SAVE_ERRORS, "unknown-version"),
    ),
    Route(
        method="GET", path="/studies/{uid}/labels", work=get_labels, allowed=_VIEW,
        about="The labels of a study", answer=LabelsAnswer, errors=_READ,
    ),
    Route(
        method="PUT", path="/studies/{uid}/labels", work=save_labels, allowed=_ANNOTATE,
        about="Save the labels of a study upon their revision", body=Labels, answer=SavedAnswer,
        also=(202,), audit=Own("labels-saved"), errors=SAVE_ERRORS,
    ),
    Route(
        method="GET", path="/studies/{uid}/report-state", work=get_report_state, allowed=_VIEW,
        about="How far the report of a study is", answer=ReportStateAnswer, errors=_READ,
    ),
    Route(
        method="PUT", path="/studies/{uid}/report-state", work=save_report_state,
        allowed=Permission.REPORT, about="Say how far the report of a study is",
        body=ReportState, answer=SavedAnswer, also=(202,), audit=Own("report-state-saved"),
        errors=SAVE_ERRORS,
    ),
    Route(
        method="GET", path="/studies/{uid}/viewer-state", work=get_viewer_state, allowed=_VIEW,
        about="Where the caller left a study", answer=ViewerStateAnswer, errors=_READ,
    ),
    Route(
        method="PUT", path="/studies/{uid}/viewer-state", work=save_viewer_state, allowed=_VIEW,
        about="Remember where the caller left a study", body=ViewerState, answer=SavedAnswer,
        audit=_STATE, errors=SAVE_ERRORS,
    ),
    Route(
        method="GET", path="/reading", work=get_reading_state, allowed=For.ADMINISTRATORS,
        about="Whether every volume has what people added", answer=ReadingStateAnswer,
    ),
    Route(
        method="POST", path="/reading/read-back", work=read_back, allowed=For.ADMINISTRATORS,
        about="Read what people added anew from every volume", answer=None,
        audit="reading-read-back",
    ),
    Route(
        method="POST", path="/studies/reading", work=added_to_studies, allowed=_VIEW,
        about="Notes, labels, report states and counts of annotations of a page of the list",
        body=StudiesBody, answer=AddedToAnswer, audit=Unaudited("a page of the list"),
        errors=("bad-body",),
    ),
)  # fmt: skip
