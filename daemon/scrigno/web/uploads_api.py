# SPDX-License-Identifier: Apache-2.0
"""Files on their way from a browser, in pieces that can be sent again (after tus.io, 1.0).

`POST` announces a file, `PATCH` with `Upload-Offset` sends what comes next, `HEAD` tells how far it
is. What is complete is imported by `POST /imports`.
"""

from collections.abc import AsyncIterator
from typing import Annotated, Any, Final

from aiohttp import web
from msgspec import Meta

from scrigno.access.permissions import Permission
from scrigno.archive.import_uploads import Upload

from .errors import NotPossible, RequestRefused
from .import_api import UploadId
from .rooms import Rooms, author_of
from .routes import Route, Unaudited
from .shapes import NO_NULL, Answer, Body, Count, Query, path_of, query_of, read_body

OFFSET_HEADER: Final = "Upload-Offset"
LENGTH_HEADER: Final = "Upload-Length"
PIECE_TYPE: Final = "application/offset+octet-stream"
READ_BYTES: Final = 256 << 10
LARGEST_BYTES: Final = 1 << 40
MOST_LISTED: Final = 20_000

Sum = Annotated[str, Meta(pattern=r"^[0-9a-fA-F]{64}$(?!\n)", max_length=64)]


class UploadBody(Body):
    """A file that is going to be sent. The name is for people; it may have folders before it."""

    name: Annotated[str, Meta(min_length=1, max_length=1024, pattern=NO_NULL)]
    size: Annotated[int, Meta(ge=0, le=LARGEST_BYTES)]
    sha256: Sum | None = None
    batch: Annotated[str, Meta(max_length=64, pattern=NO_NULL)] = ""


class UploadAnswer(Answer):
    """How far a file is."""

    id: str
    name: str
    batch: str
    size: Count
    offset: Count
    complete: bool


class UploadsAnswer(Answer):
    """One's own files on their way."""

    uploads: list[UploadAnswer]


def _answer(upload: Upload) -> UploadAnswer:
    return UploadAnswer(
        id=upload.id,
        name=upload.name,
        batch=upload.batch,
        size=upload.size,
        offset=upload.offset,
        complete=upload.complete,
    )


def _headers(upload: Upload) -> dict[str, str]:
    return {OFFSET_HEADER: str(upload.offset), LENGTH_HEADER: str(upload.size)}


def _mine(request: web.Request, rooms: Rooms) -> Upload:
    return rooms.imports.uploads.get(path_of(request)["upload"], author=author_of(request))


async def begin_upload(request: web.Request, rooms: Rooms) -> Any:
    """Announce a file."""
    body = await read_body(request, UploadBody)
    upload = await rooms.imports.uploads.begin(
        author=author_of(request),
        name=body.name,
        size=body.size,
        sha256=body.sha256 or "",
        batch=body.batch,
    )
    return _answer(upload)


async def list_uploads(request: web.Request, rooms: Rooms) -> Any:
    """List one's own files on their way, so that a page that was closed can go on."""
    batch = query_of(request)["batch"]
    uploads = rooms.imports.uploads.of(author_of(request), batch)
    return UploadsAnswer(uploads=[_answer(each) for each in uploads[:MOST_LISTED]])


async def get_upload(request: web.Request, rooms: Rooms) -> Any:
    """Tell how far a file is."""
    return _answer(_mine(request, rooms))


async def head_upload(request: web.Request, rooms: Rooms) -> web.Response:
    """Tell how far a file is, by headers alone."""
    return web.Response(headers=_headers(_mine(request, rooms)), content_type="application/json")


async def append_upload(request: web.Request, rooms: Rooms) -> web.Response:
    """Take the next piece of a file; what arrives before a broken connection is kept."""
    offset = request.headers.get(OFFSET_HEADER, "")
    if request.content_type != PIECE_TYPE:
        raise RequestRefused(f"The content type of a piece is {PIECE_TYPE}.")
    if not (offset.isascii() and offset.isdigit()) or len(offset) > 15:
        raise NotPossible(f"{OFFSET_HEADER} says from which byte on the piece is.")
    upload = await rooms.imports.uploads.append(
        path_of(request)["upload"],
        author=author_of(request),
        offset=int(offset),
        chunks=_pieces(request),
    )
    return web.Response(status=204, headers=_headers(upload))


async def _pieces(request: web.Request) -> AsyncIterator[bytes]:
    async for chunk in request.content.iter_chunked(READ_BYTES):
        yield chunk


async def remove_upload(request: web.Request, rooms: Rooms) -> Any:
    """Throw a file away."""
    await rooms.imports.uploads.remove([_mine(request, rooms).id])


_IMPORT: Final = Permission.IMPORT
_ONE: Final = {"upload": UploadId}
_WHY: Final = Unaudited("the import of the files is recorded, their way is not")

ROUTES: Final = (
    Route(
        method="POST", path="/uploads", work=begin_upload, body=UploadBody, answer=UploadAnswer,
        success=201, allowed=_IMPORT, about="Announce a file that is going to be sent", audit=_WHY,
        errors=("uploads-full",),
    ),
    Route(
        method="GET", path="/uploads", work=list_uploads, answer=UploadsAnswer, allowed=_IMPORT,
        about="One's own files on their way", query=(Query("batch", str, max_length=64),),
    ),
    Route(
        method="GET", path="/uploads/{upload}", work=get_upload, params=_ONE, answer=UploadAnswer,
        allowed=_IMPORT, about="How far a file is", errors=("unknown-upload",),
    ),
    Route(
        method="HEAD", path="/uploads/{upload}", work=head_upload, params=_ONE, answer=None,
        success=200, allowed=_IMPORT, about="How far a file is, in headers",
        errors=("unknown-upload",),
    ),
    Route(
        method="PATCH", path="/uploads/{upload}", work=append_upload, params=_ONE, answer=None,
        allowed=_IMPORT, about="Send the next piece of a file, from Upload-Offset on", audit=_WHY,
        body={"type": "string", "format": "binary"}, body_types=(PIECE_TYPE,),
        errors=(
            "unknown-upload", "upload-conflict", "upload-damaged", "uploads-full", "not-possible",
        ),
    ),
    Route(
        method="DELETE", path="/uploads/{upload}", work=remove_upload, params=_ONE, answer=None,
        allowed=_IMPORT, about="Throw a file away", audit=_WHY, errors=("unknown-upload",),
    ),
)  # fmt: skip
