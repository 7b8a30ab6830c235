# SPDX-License-Identifier: Apache-2.0
"""Frames as pictures for a browser: from the cache, or rendered once for all who wait."""

import asyncio
import json
import math
import os
from dataclasses import dataclass
from typing import Any, Final, Literal

from aiohttp import web

from scrigno.access.permissions import Permission
from scrigno.archive.retrieve import Retrieval
from scrigno.catalogue.records import StoredInstance
from scrigno.imaging.cache import FrameCache
from scrigno.imaging.errors import ImagingClosed, ImagingError
from scrigno.imaging.results import Rendered
from scrigno.imaging.workers import ImagingPool

from .bodies import number
from .errors import NotFound, RequestRefused
from .rooms import Rooms
from .routes import Route
from .sight import looked, sight_of
from .studies_api import uid_of

THUMBNAIL_PX: Final = 192
QUALITY: Final = 88
SMALLEST_PX: Final = 16
LARGEST_PX: Final = 8192
LAST_FRAME: Final = 1_000_000

PictureFormat = Literal["jpeg", "png"]


@dataclass(frozen=True, slots=True)
class Look:
    """Which picture of an object: the frame (from 0), the window, the size, the file format."""

    frame: int
    window: tuple[float, float] | None
    max_size: int | None
    file_format: PictureFormat

    def variant(self) -> str:
        """Return the name under which the cache keeps it."""
        window = "-".join(f"{each:g}" for each in self.window) if self.window else "auto"
        return f"f{self.frame}-w{window}-s{self.max_size or 0}-{self.file_format}"


class Pictures:
    """Renders each picture once, however many ask for it at the same time. Loop thread only."""

    def __init__(self, retrieval: Retrieval, imaging: ImagingPool, frames: FrameCache) -> None:
        """Read through `retrieval`, decode in `imaging`, keep in `frames`."""
        self._retrieval = retrieval
        self._imaging = imaging
        self._frames = frames
        self._running: dict[tuple[str, str], asyncio.Task[Rendered]] = {}

    async def get(self, instance: StoredInstance, look: Look) -> Rendered:
        """Return the picture; raises ImagingError, ObjectUnavailable."""
        key = (instance.digest, look.variant())
        running = self._running.get(key)
        if running is None:
            running = asyncio.create_task(self._make(instance, look))
            self._running[key] = running
            running.add_done_callback(lambda _: self._running.pop(key, None))
        # shielded: one viewer that scrolls on must not take the picture from the others
        return await asyncio.shield(running)

    async def close(self) -> None:
        """Wait for what is being rendered."""
        await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def _make(self, instance: StoredInstance, look: Look) -> Rendered:
        kept = await self._frames.get(instance.digest, look.variant())
        if kept is not None:
            found = _unpacked(kept)
            if found is not None:
                return found
        descriptor = await self._retrieval.memfd(instance)
        try:
            made = await self._imaging.render(
                descriptor,
                frame=look.frame,
                window=look.window,
                max_size=look.max_size,
                format=look.file_format,
                quality=QUALITY,
            )
        finally:
            os.close(descriptor)
        await self._frames.put(instance.digest, look.variant(), _packed(made))
        return made


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
        return None  # a cache of another release: rendered again


def _response(made: Rendered) -> web.Response:
    headers = {"Scrigno-Frames": str(made.frames)}
    if made.window_center is not None and made.window_width is not None:
        headers["Scrigno-Window-Center"] = f"{made.window_center:g}"
        headers["Scrigno-Window-Width"] = f"{made.window_width:g}"
    return web.Response(body=made.content, content_type=made.content_type, headers=headers)


def _window(request: web.Request) -> tuple[float, float] | None:
    center, width = request.query.get("wc"), request.query.get("ww")
    if center is None and width is None:
        return None
    try:
        found = float(center or "nan"), float(width or "nan")
    except ValueError:
        found = math.nan, math.nan
    if not all(math.isfinite(each) and abs(each) < 1e9 for each in found) or found[1] < 1:
        raise RequestRefused("wc and ww go together: center and width (1 or more) of the window.")
    return found


def _look(request: web.Request) -> Look:
    frame = number(request.match_info, "frame", lowest=1, highest=LAST_FRAME) - 1
    size = None
    if "size" in request.query:
        size = number(request.query, "size", lowest=SMALLEST_PX, highest=LARGEST_PX)
    wanted = request.query.get("format", "jpeg")
    file_format: PictureFormat
    if wanted == "jpeg":
        file_format = "jpeg"
    elif wanted == "png":
        file_format = "png"
    else:
        raise RequestRefused("format must be jpeg or png.")
    return Look(frame=frame, window=_window(request), max_size=size, file_format=file_format)


def representative(instances: list[StoredInstance]) -> list[StoredInstance]:
    """Return the objects to try for a study's thumbnail, the best first, at most three.

    The middle one of the first series that has pictures, then those of later series.
    """
    by_series: dict[str, list[StoredInstance]] = {}
    for instance in instances:
        if instance.rows and instance.columns:
            by_series.setdefault(instance.series_instance_uid, []).append(instance)
    return [each[len(each) // 2] for each in by_series.values()][:3]


class PictureRoutes:
    """The handlers of this file; they share one `Pictures`."""

    def __init__(self, pictures: Pictures) -> None:
        """Serve these pictures."""
        self._pictures = pictures

    async def get_rendered_frame(self, request: web.Request, rooms: Rooms) -> Any:
        """Return one frame as JPEG or PNG."""
        look = _look(request)
        instance = await rooms.catalogue.instance(uid_of(request), within=sight_of(request))
        if instance is None:
            raise NotFound("There is no such object.")
        looked(request, rooms, instance.study_instance_uid)
        return _response(await self._pictures.get(instance, look))

    async def get_study_thumbnail(self, request: web.Request, rooms: Rooms) -> Any:
        """Return a small picture of the study, or 204 when nothing in it can be shown."""
        instances = await rooms.catalogue.instances(uid_of(request), within=sight_of(request))
        if not instances:
            raise NotFound("There is no such study.")
        for instance in representative(instances):
            frame = (instance.number_of_frames or 1) // 2
            look = Look(frame=frame, window=None, max_size=THUMBNAIL_PX, file_format="jpeg")
            try:
                return _response(await self._pictures.get(instance, look))
            except ImagingClosed:
                raise
            except ImagingError:
                continue  # the next series may have a picture
        return None

    def routes(self) -> tuple[Route, ...]:
        """Return the routes of pictures."""
        imaging_errors = ("no-pixel-data", "no-such-frame", "decode-failed", "decode-timeout")
        return (
            Route(
                method="GET", path="/studies/{uid}/thumbnail", work=self.get_study_thumbnail,
                allowed=Permission.VIEW,
                about="A small picture of the study; 204 when nothing in it can be shown",
                answers="image/jpeg", errors=("not-found", "object-unavailable"),
            ),
            Route(
                method="GET", path="/instances/{uid}/frames/{frame}/rendered",
                work=self.get_rendered_frame, allowed=Permission.VIEW, answers="image/jpeg",
                about="One frame (from 1) as a picture; window wc/ww, longest side size",
                query=("wc", "ww", "size", "format"),
                errors=("not-found", "object-unavailable", *imaging_errors),
            ),
        )  # fmt: skip
