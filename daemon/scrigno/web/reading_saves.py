# SPDX-License-Identifier: Apache-2.0
"""How documents are saved by the API: upon a revision, and answered with who holds them by now."""

from typing import Any, Final, TypeVar

import msgspec
from aiohttp import hdrs, web

from scrigno.reading.documents import Content, Place, Version
from scrigno.reading.errors import BadDocument
from scrigno.reading.reading import Stored
from scrigno.reading.shapes import Shape

from .answers import at
from .errors import NotAllowed
from .rooms import Rooms, author_of, caller_of
from .shapes import Answer, Body, Id, Moment, encoded

SAVE_ERRORS: Final = (
    "bad-document", "revision-conflict", "revision-needed", "too-many", "bad-body",
    "body-too-large",
)  # fmt: skip
LARGEST_REVISION: Final = 2**53
MOST_BODY: Final = 640 << 10  # a document of 512 KiB as a page may write it

S = TypeVar("S", bound=Shape)


class SavedAnswer(Answer):
    """A save: its revision is what the next one is made upon.

    Status 200 says that it stands on the system disk and on a volume. 202 says that no volume
    could take it yet: it is owed to them, and the page should say so. The same save once more
    tells how it is by then.
    """

    revision: int
    version: int
    author: str
    saved_at: Moment
    changed: bool
    held_by: list[str]
    safe: bool


class VersionAnswer(Answer):
    """One version of a document, without its content."""

    number: int
    revision: int
    author: str
    began_at: Moment
    saved_at: Moment


class HistoryAnswer(Answer):
    """Versions, the newest first."""

    versions: list[VersionAnswer]


class RestoreBody(Body):
    """Which version is to be in force again."""

    version: Id


def require_account(request: web.Request) -> str:
    """Return the name of the account that asks; raises NotAllowed for a guest of a link."""
    session = caller_of(request).session
    if session.guest:
        raise NotAllowed("A guest keeps nothing on the box.")
    return session.account.name


def expected_of(request: web.Request) -> int | None:
    """Return the revision that a save was made from, by If-Match or If-None-Match (RFC 9110)."""
    if request.headers.get(hdrs.IF_NONE_MATCH, "").strip() == "*":
        return 0
    text = request.headers.get(hdrs.IF_MATCH, "").strip().removeprefix("W/").strip('"')
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and int(text[:18]) < LARGEST_REVISION):
        return LARGEST_REVISION  # equal to none: answered as a conflict
    return int(text[:18])


async def save(
    request: web.Request, rooms: Rooms, place: Place, content: Content, action: str = ""
) -> web.Response:
    """Save a document and answer; a new version of what belongs to a study is audited."""
    stored = await rooms.reading.save(
        place, content, author=author_of(request), expected=expected_of(request)
    )
    note_version(request, rooms, stored, action)
    return saved(stored)


async def restore(
    request: web.Request, rooms: Rooms, place: Place, number: int, action: str
) -> web.Response:
    """Put an older version in force again, as a new one."""
    stored = await rooms.reading.restore(
        place, number, author=author_of(request), expected=expected_of(request)
    )
    note_version(request, rooms, stored, action, restored=str(number))
    return saved(stored)


def note_version(
    request: web.Request, rooms: Rooms, stored: Stored, action: str, **details: str
) -> None:
    """Audit a save that began a version: saving as one draws would be a line each second."""
    version = stored.saved.version
    if action and stored.saved.changed and version.began_at == version.saved_at:
        rooms.audit.record(
            author_of(request),
            action,
            version.place.subject,
            details={"version": str(version.number), **details},
        )


def saved(stored: Stored) -> web.Response:
    """Return the answer to a save."""
    version = stored.saved.version
    answer = SavedAnswer(
        revision=version.revision,
        version=version.number,
        author=version.author,
        saved_at=at(version.saved_at),
        changed=stored.saved.changed,
        held_by=list(stored.held_by),
        safe=stored.safe,
    )
    unsafe = not stored.safe and version.place.kind != "viewer-state"
    return web.Response(
        body=encoded(answer),
        status=202 if unsafe else 200,
        content_type="application/json",
        headers={hdrs.ETAG: f'"{version.revision}"'},
    )


def with_tag(answer: Answer, revision: int) -> web.Response:
    """Return an answer with the revision as its ETag, to be sent back as If-Match."""
    return web.Response(
        body=encoded(answer),
        content_type="application/json",
        headers={hdrs.ETAG: f'"{revision}"'},
    )


def version_json(version: Version) -> VersionAnswer:
    """Return one version without its content."""
    return VersionAnswer(
        number=version.number,
        revision=version.revision,
        author=version.author,
        began_at=at(version.began_at),
        saved_at=at(version.saved_at),
    )


async def history(rooms: Rooms, place: Place, asked: dict[str, Any]) -> HistoryAnswer:
    """Return a page of the versions of a document."""
    before = asked["before"] or LARGEST_REVISION
    versions = await rooms.reading.documents.history(place, before, asked["limit"])
    return HistoryAnswer(versions=[version_json(each) for each in versions])


def shaped(content: Content, shape: type[S]) -> S:
    """Return a kept document as its type; raises BadDocument for one of another release."""
    try:
        return msgspec.convert(content, shape)
    except msgspec.ValidationError as error:
        raise BadDocument(
            "What is kept here was written by another release.",
            next_step="Look at its older versions.",
        ) from error
