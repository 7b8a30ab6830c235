# SPDX-License-Identifier: Apache-2.0
"""What the viewer needs to know of all objects of a series, in one answer sent as it grows."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Any, Final

from aiohttp import web

from scrigno.access.permissions import Permission
from scrigno.catalogue.records import StoredInstance
from scrigno.imaging.errors import ImagingClosed, ImagingError

from .errors import NotFound
from .pictures import Pictures
from .rooms import Rooms
from .routes import Route
from .shapes import Binary, path_of
from .sight import looked, sight_of

AT_ONCE: Final = 4  # objects asked of the imaging workers ahead of what is sent
UNREADABLE: Final = b"null"  # stands for an object whose attributes cannot be read


class SeriesMetadata:
    """The handler of this file."""

    def __init__(self, pictures: Pictures) -> None:
        """Ask these pictures, which keep what was made."""
        self._pictures = pictures

    async def get_series_metadata(self, request: web.Request, rooms: Rooms) -> Any:
        """Return the objects' attributes as a JSON array, in the order of their numbers."""
        study, series = path_of(request)["study"], path_of(request)["series"]
        instances = await rooms.catalogue.instances(study, series, within=sight_of(request))
        if not instances:
            raise NotFound("There is no such series.")
        looked(request, rooms, study)
        response = web.StreamResponse(headers={"Content-Type": "application/dicom+json"})
        response.enable_compression()
        await response.prepare(request)
        before = b"["
        async for one in self._all(instances):
            await response.write(before + one)
            before = b",\n"
        await response.write(b"]")
        return response

    async def _all(self, instances: list[StoredInstance]) -> AsyncIterator[bytes]:
        """Yield each object's metadata in order, the next ones being made meanwhile."""
        ahead: deque[asyncio.Task[bytes]] = deque()
        left = iter(instances)
        try:
            for instance in left:
                ahead.append(asyncio.ensure_future(self._one(instance)))
                if len(ahead) >= AT_ONCE:
                    yield await ahead.popleft()
            while ahead:
                yield await ahead.popleft()
        finally:
            for task in ahead:
                task.cancel()
            await asyncio.gather(*ahead, return_exceptions=True)

    async def _one(self, instance: StoredInstance) -> bytes:
        try:
            return await self._pictures.metadata(instance)
        except ImagingClosed:
            raise
        except ImagingError:
            return UNREADABLE

    def routes(self) -> tuple[Route, ...]:
        """Return the one route."""
        return (
            Route(
                method="GET", path="/studies/{study}/series/{series}/metadata",
                work=self.get_series_metadata, allowed=Permission.VIEW, answer=Binary,
                answers="application/dicom+json",
                about="What the viewer needs to know of a whole series: an array of DICOM JSON, "
                "null for an object that cannot be read",
                errors=("not-found", "object-unavailable", "imaging-busy"),
            ),
        )  # fmt: skip
