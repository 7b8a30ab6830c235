# SPDX-License-Identifier: Apache-2.0
"""Imports: from where, beginning one, and the files that it refused."""

from typing import Annotated, Any, Final

from aiohttp import web
from msgspec import Meta

from scrigno.access.permissions import Permission
from scrigno.jobs.model import Grant

from .jobs_api import JobAnswer, attachment, job_answer, job_of
from .rooms import Rooms, author_of, caller_of
from .routes import Route, Unaudited, audited
from .shapes import Answer, Body, Count, Query, query_of, read_body

MOST_PATH: Final = 4096
MOST_UPLOADS: Final = 20_000

PathText = Annotated[str, Meta(min_length=1, max_length=MOST_PATH, pattern=r"^/[^\x00]*$")]
UploadId = Annotated[str, Meta(pattern=r"^[0-9a-f]{32}$(?!\n)", max_length=32)]


class ImportBody(Body):
    """What to import: a path of the box, or uploads, or all uploads of a batch."""

    path: PathText | None = None
    uploads: Annotated[list[UploadId], Meta(max_length=MOST_UPLOADS)] | None = None
    batch: Annotated[str, Meta(max_length=64)] | None = None
    recursive: bool = True


class PlaceAnswer(Answer):
    """A folder that may be imported from and exported to."""

    path: str
    kind: str
    read_only: bool
    device: str


class PlacesAnswer(Answer):
    """All of them."""

    places: list[PlaceAnswer]


class ListedAnswer(Answer):
    """One line of a folder."""

    name: str
    folder: bool
    size_bytes: Count


class FolderAnswer(Answer):
    """What stands in a folder, sub-folders first."""

    path: str
    entries: list[ListedAnswer]


def grant_of(request: web.Request) -> Grant:
    """Return what the caller may do and see, for the job that he starts."""
    session = caller_of(request).session
    words = frozenset(permission.value for permission in session.permissions)
    return Grant(permissions=words, sight=session.sight)


async def list_places(_request: web.Request, rooms: Rooms) -> Any:
    """List where one may import from and export to."""
    places = await rooms.imports.seen_places()
    return PlacesAnswer(
        places=[
            PlaceAnswer(
                path=each.path, kind=each.kind, read_only=each.read_only, device=each.device
            )
            for each in places
        ]
    )


async def list_folder(request: web.Request, rooms: Rooms) -> Any:
    """List a folder of the box, to choose from."""
    path = query_of(request)["path"]
    entries = await rooms.imports.folder(path)
    return FolderAnswer(
        path=path,
        entries=[
            ListedAnswer(
                name=each.name.encode("utf-8", "backslashreplace").decode(),
                folder=each.folder,
                size_bytes=each.size,
            )
            for each in entries
        ],
    )


async def start_import(request: web.Request, rooms: Rooms) -> Any:
    """Begin an import."""
    body = await read_body(request, ImportBody, limit=2 << 20)
    author = author_of(request)
    uploads = list(body.uploads) if body.uploads is not None else None
    if body.batch is not None:
        uploads = [
            *(uploads or []),
            *(each.id for each in rooms.imports.uploads.of(author, body.batch)),
        ]
    job = await rooms.imports.start(
        author=author,
        grant=grant_of(request),
        path=body.path,
        uploads=uploads,
        recursive=body.recursive,
    )
    audited(request, f"job {job.id}", source="uploads" if body.path is None else "path")
    return await job_answer(rooms, job)


async def failed_files(request: web.Request, rooms: Rooms) -> web.StreamResponse:
    """Send the files that an import refused, as a ZIP."""
    job = await job_of(request, rooms)
    chunks = rooms.imports.failed_files(job)
    first = await anext(chunks, b"")
    response = web.StreamResponse(
        headers={
            "Content-Type": "application/zip",
            "Content-Disposition": attachment(f"import-{job.id}-failed.zip"),
        }
    )
    await response.prepare(request)
    try:
        await response.write(first)
        async for chunk in chunks:
            await response.write(chunk)
        await response.write_eof()
    finally:
        await chunks.aclose()
    return response


_IMPORT: Final = Permission.IMPORT

ROUTES: Final = (
    Route(
        method="GET", path="/imports/places", work=list_places, answer=PlacesAnswer,
        allowed=_IMPORT, about="Folders, sticks and discs of the box that may be imported from",
    ),
    Route(
        method="GET", path="/imports/folder", work=list_folder, answer=FolderAnswer,
        allowed=_IMPORT, about="What stands in one of them",
        query=(Query("path", str, required=True, max_length=MOST_PATH),),
        errors=("place-not-allowed", "source-gone"),
    ),
    Route(
        method="POST", path="/imports", work=start_import, body=ImportBody, answer=JobAnswer,
        success=201, allowed=_IMPORT, about="Import a folder, a ZIP, a disc image or uploads",
        audit="import",
        errors=("place-not-allowed", "unknown-upload", "source-refused", "too-many-jobs"),
    ),
    Route(
        method="GET", path=r"/imports/{id:\d+}/failed.zip", work=failed_files, allowed=_IMPORT,
        about="The files that an import refused, and a list of them", answers="application/zip",
        audit=Unaudited("the files are the importer's own and are not in the archive"),
        errors=("unknown-job", "source-refused"),
    ),
)  # fmt: skip
