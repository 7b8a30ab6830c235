# SPDX-License-Identifier: Apache-2.0
"""Frames as pictures for a browser: from the cache, or made once for all who wait."""

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from aiohttp import hdrs, web

from scrigno.access.permissions import Permission
from scrigno.archive.retrieve import Retrieval
from scrigno.catalogue.records import StoredInstance
from scrigno.imaging.cache import FrameCache
from scrigno.imaging.errors import ImagingClosed, ImagingError
from scrigno.imaging.results import FrameBytes, Look, Rendered
from scrigno.imaging.workers import HTJ2K_RPCL, ImagingPool

from .errors import NotFound
from .picture_query import LOOKS, PICTURE, QUALITY, FrameNumber, look_of, variant_of
from .rooms import Rooms
from .routes import Route
from .shapes import Binary, Query, path_of
from .sight import looked, sight_of

THUMBNAIL_PX: Final = 192
FIRST_PX: Final = 1024  # what a page shows while the viewer loads; made ahead of time
# a browser may keep it, and asks each time whether it may still show it
PRIVATE: Final = "private, no-cache"
MOST_TRIED: Final = 3  # objects for one thumbnail

T = TypeVar("T")


def thumbnail_look(instance: StoredInstance) -> Look:
    """Return how an object is shown in lists."""
    frame = (instance.number_of_frames or 1) // 2
    return Look(frame=frame, max_size=THUMBNAIL_PX, quality=QUALITY)


def first_look() -> Look:
    """Return how the first picture of a series is shown before the viewer is there."""
    return Look(max_size=FIRST_PX, quality=QUALITY)


class Pictures:
    """Makes each picture once, however many ask for it at the same time. Loop thread only."""

    def __init__(self, retrieval: Retrieval, imaging: ImagingPool, frames: FrameCache) -> None:
        """Read through `retrieval`, decode in `imaging`, keep in `frames`."""
        self._retrieval = retrieval
        self.imaging = imaging
        self._frames = frames
        self._running: dict[tuple[str, str], asyncio.Task[Any]] = {}

    def source(self, instance: StoredInstance) -> Callable[[], Awaitable[int]]:
        """Return how a worker gets the object when none has it."""
        return lambda: self._retrieval.memfd(instance)

    async def get(self, instance: StoredInstance, look: Look) -> Rendered:
        """Return the picture; raises ImagingError, ObjectUnavailable."""
        variant = variant_of(look)

        async def make() -> Rendered:
            kept = await self._frames.get(instance.digest, variant)
            found = None if kept is None else _unpacked(kept)
            if found is not None:
                return found
            made = await self.imaging.render(self.source(instance), look, key=instance.digest)
            await self._frames.put(instance.digest, variant, _packed(made))
            return made

        return await self._once((instance.digest, variant), make)

    async def frame(self, instance: StoredInstance, frame: int) -> FrameBytes:
        """Return the whole frame for the viewer, in HTJ2K; raises as `get`."""
        variant = f"{LOOKS}-viewer-{frame}"

        async def make() -> FrameBytes:
            kept = await self._frames.get(instance.digest, variant)
            if kept is not None:
                return FrameBytes(content=kept, transfer_syntax_uid=HTJ2K_RPCL,
                                  content_type="image/jphc", frames=0)  # fmt: skip
            source = self.source(instance)
            made = await self.imaging.viewer_frame(source, frame=frame, key=instance.digest)
            await self._frames.put(instance.digest, variant, made.content)
            return made

        return await self._once((instance.digest, variant), make)

    async def metadata(self, instance: StoredInstance) -> bytes:
        """Return the metadata for the viewer; raises as `get`."""
        variant = f"{LOOKS}-viewer-metadata"

        async def make() -> bytes:
            kept = await self._frames.get(instance.digest, variant)
            if kept is not None:
                return kept
            source = self.source(instance)
            made = await self.imaging.viewer_metadata(source, bulk_uri=None, key=instance.digest)
            await self._frames.put(instance.digest, variant, made)
            return made

        return await self._once((instance.digest, variant), make)

    async def _once(self, key: tuple[str, str], make: Callable[[], Awaitable[T]]) -> T:
        running = self._running.get(key)
        if running is None:
            running = asyncio.ensure_future(make())
            self._running[key] = running
            running.add_done_callback(lambda _: self._running.pop(key, None))
        # shielded: one viewer that scrolls on must not take the picture from the others
        made: T = await asyncio.shield(running)
        return made

    async def close(self) -> None:
        """Wait for what is being made."""
        await asyncio.gather(*self._running.values(), return_exceptions=True)


def _packed(made: Rendered) -> bytes:
    head = {
        "content_type": made.content_type,
        "width": made.width,
        "height": made.height,
        "window_center": made.window_center,
        "window_width": made.window_width,
        "frames": made.frames,
    }
    return json.dumps(head).encode() + b"\n" + made.content


def _unpacked(kept: bytes) -> Rendered | None:
    head, _, content = kept.partition(b"\n")
    try:
        return Rendered(content=content, **json.loads(head))
    except (ValueError, TypeError):
        return None  # a cache of another release: made again


def etag_of(instance: StoredInstance, variant: str) -> str:
    """Return what changes when the bytes behind an address do."""
    seed = f"{instance.digest}/{variant}/{LOOKS}".encode()
    return hashlib.blake2b(seed, digest_size=12).hexdigest()


def known(request: web.Request, etag: str) -> bool:
    """Tell whether the browser has these bytes already."""
    return any(each.value in (etag, "*") for each in request.if_none_match or ())


def answered(content: bytes, content_type: str, etag: str, **headers: str) -> web.Response:
    """Return bytes that a browser may keep for its user."""
    response = web.Response(body=content, content_type=content_type, headers=headers)
    response.headers[hdrs.CACHE_CONTROL] = PRIVATE
    response.etag = etag
    return response


def unchanged(etag: str) -> web.Response:
    """Return that the browser's copy still holds."""
    response = web.Response(status=304, headers={hdrs.CACHE_CONTROL: PRIVATE})
    response.etag = etag
    return response


def pictured(made: Rendered, etag: str) -> web.Response:
    """Return a picture and what it is of."""
    headers = {"Scrigno-Frames": str(made.frames), "Scrigno-Rows": str(made.height),
               "Scrigno-Columns": str(made.width)}  # fmt: skip
    if made.window_center is not None and made.window_width is not None:
        headers["Scrigno-Window-Center"] = f"{made.window_center:g}"
        headers["Scrigno-Window-Width"] = f"{made.window_width:g}"
    return answered(made.content, made.content_type, etag, **headers)


async def seen_instance(request: web.Request, rooms: Rooms) -> StoredInstance:
    """Return the object of the address; raises NotFound, also when the caller may not see it."""
    uid = path_of(request)["uid"]
    instance = await rooms.catalogue.instance(uid, within=sight_of(request))
    if instance is None:
        raise NotFound("There is no such object.")
    return instance


def representative(instances: list[StoredInstance]) -> list[StoredInstance]:
    """Return the objects to try for a study's thumbnail, the best first.

    The middle one of the first series that has pictures, then those of later series.
    """
    by_series: dict[str, list[StoredInstance]] = {}
    for instance in instances:
        if instance.rows and instance.columns:
            by_series.setdefault(instance.series_instance_uid, []).append(instance)
    return [each[len(each) // 2] for each in by_series.values()][:MOST_TRIED]


class PictureRoutes:
    """The handlers of this file; they share one `Pictures`."""

    def __init__(self, pictures: Pictures) -> None:
        """Serve these pictures."""
        self._pictures = pictures

    async def get_rendered_frame(self, request: web.Request, rooms: Rooms) -> Any:
        """Return one frame as a picture."""
        look = look_of(request)
        instance = await seen_instance(request, rooms)
        looked(request, rooms, instance.study_instance_uid)
        etag = etag_of(instance, variant_of(look))
        if known(request, etag):
            return unchanged(etag)
        return pictured(await self._pictures.get(instance, look), etag)

    async def get_viewer_frame(self, request: web.Request, rooms: Rooms) -> Any:
        """Return one frame with all its values, in HTJ2K."""
        frame = path_of(request)["frame"] - 1
        instance = await seen_instance(request, rooms)
        looked(request, rooms, instance.study_instance_uid)
        etag = etag_of(instance, f"viewer-{frame}")
        if known(request, etag):
            return unchanged(etag)
        made = await self._pictures.frame(instance, frame)
        response = answered(made.content, made.content_type, etag)
        # with this label the viewer's loader shows it while it comes in
        response.headers[hdrs.CONTENT_TYPE] = f"image/jphc; transfer-syntax={HTJ2K_RPCL}"
        return response

    async def get_viewer_metadata(self, request: web.Request, rooms: Rooms) -> Any:
        """Return the object's attributes as the viewer takes them (DICOM JSON)."""
        instance = await seen_instance(request, rooms)
        looked(request, rooms, instance.study_instance_uid)
        etag = etag_of(instance, "viewer-metadata")
        if known(request, etag):
            return unchanged(etag)
        return answered(await self._pictures.metadata(instance), "application/dicom+json", etag)

    async def get_study_thumbnail(self, request: web.Request, rooms: Rooms) -> Any:
        """Return a small picture of the study, or 204 when nothing in it can be shown."""
        uid = path_of(request)["uid"]
        instances = await rooms.catalogue.instances(uid, within=sight_of(request))
        if not instances:
            raise NotFound("There is no such study.")
        return await self._thumbnail(request, representative(instances))

    async def get_series_thumbnail(self, request: web.Request, rooms: Rooms) -> Any:
        """Return a small picture of the series, or 204 when nothing in it can be shown."""
        study, series = path_of(request)["study"], path_of(request)["series"]
        instances = await rooms.catalogue.instances(study, series, within=sight_of(request))
        if not instances:
            raise NotFound("There is no such series.")
        return await self._thumbnail(request, representative(instances))

    async def get_instance_thumbnail(self, request: web.Request, rooms: Rooms) -> Any:
        """Return a small picture of the object, or 204 when it cannot be shown."""
        return await self._thumbnail(request, [await seen_instance(request, rooms)])

    async def _thumbnail(self, request: web.Request, tried: list[StoredInstance]) -> Any:
        for instance in tried:
            look = thumbnail_look(instance)
            etag = etag_of(instance, variant_of(look))
            if known(request, etag):
                return unchanged(etag)
            try:
                return pictured(await self._pictures.get(instance, look), etag)
            except ImagingClosed:
                raise
            except ImagingError:
                continue  # the next series may have a picture
        return None

    def routes(self) -> tuple[Route, ...]:
        """Return the routes of pictures."""
        errors = ("not-found", "object-unavailable", "imaging-busy", "no-pixel-data",
                  "no-such-frame", "decode-failed", "decode-timeout",
                  "unsupported-transfer-syntax", "not-dicom")  # fmt: skip
        pictures = ("image/jpeg", "image/png", "image/webp", "image/gif")
        thumbnail: dict[str, Any] = {
            "method": "GET", "allowed": Permission.VIEW, "answer": Binary,
            "answers": "image/jpeg", "also": (204, 304),
            "errors": ("not-found", "object-unavailable", "imaging-busy"),
        }  # fmt: skip
        framed: dict[str, Any] = {
            "method": "GET", "allowed": Permission.VIEW, "answer": Binary,
            "params": {"frame": FrameNumber}, "also": (304,), "errors": errors,
        }  # fmt: skip
        keys: tuple[Query, ...] = PICTURE
        return (
            Route(
                path="/studies/{uid}/thumbnail", work=self.get_study_thumbnail,
                about="A small picture of the study; 204 when nothing in it can be shown",
                **thumbnail,
            ),
            Route(
                path="/studies/{study}/series/{series}/thumbnail", work=self.get_series_thumbnail,
                about="A small picture of the series; 204 when nothing in it can be shown",
                **thumbnail,
            ),
            Route(
                path="/instances/{uid}/thumbnail", work=self.get_instance_thumbnail,
                about="A small picture of the object; 204 when it cannot be shown", **thumbnail,
            ),
            Route(
                path="/instances/{uid}/frames/{frame}/rendered", work=self.get_rendered_frame,
                about="One frame (from 1) as a picture", query=keys, answers=pictures, **framed,
            ),
            Route(
                path="/instances/{uid}/frames/{frame}/pixels", work=self.get_viewer_frame,
                about="One frame (from 1) with all its values, HTJ2K lossless",
                answers="image/jphc", **framed,
            ),
            Route(
                method="GET", path="/instances/{uid}/metadata", work=self.get_viewer_metadata,
                allowed=Permission.VIEW, answer=Binary, answers="application/dicom+json",
                about="What the viewer needs to know of an object, corrected; DICOM JSON",
                also=(304,), errors=errors,
            ),
        )  # fmt: skip
