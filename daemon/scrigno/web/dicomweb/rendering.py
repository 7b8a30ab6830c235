# SPDX-License-Identifier: Apache-2.0
"""Pictures for the rendered resources: from the cache, or made once for all who wait."""

import asyncio
import json
from dataclasses import replace
from typing import Final

from scrigno.catalogue.records import StoredInstance
from scrigno.imaging.errors import ImagingClosed, ImagingError
from scrigno.imaging.results import Look, Rendered
from scrigno.web.rooms import Rooms

MOST_GIF_FRAMES: Final = 500


class Rendering:
    """Makes pictures. Loop thread only."""

    def __init__(self, rooms: Rooms) -> None:
        """Read, decode and keep in these rooms."""
        self._rooms = rooms
        self._running: dict[tuple[str, str], asyncio.Task[Rendered]] = {}

    async def get(self, instance: StoredInstance, look: Look) -> Rendered:
        """Return the picture; raises ImagingError, ObjectUnavailable."""
        if look.format == "gif":
            look = replace(look, frames=min(instance.number_of_frames or 1, MOST_GIF_FRAMES))
        variant = "dicomweb-1" + json.dumps(look.message(), sort_keys=True)
        key = (instance.digest, variant)
        running = self._running.get(key)
        if running is None:
            running = asyncio.create_task(self._make(instance, look, variant))
            self._running[key] = running
            running.add_done_callback(lambda _: self._running.pop(key, None))
        # shielded: one client that leaves must not take the picture from the others
        return await asyncio.shield(running)

    async def first(
        self, instances: list[StoredInstance], look: Look
    ) -> tuple[StoredInstance, Rendered] | None:
        """Return the first picture that can be made of these, by the middle frame of each."""
        for instance in instances:
            middle = replace(look, frame=(instance.number_of_frames or 1) // 2)
            try:
                return instance, await self.get(instance, middle)
            except ImagingClosed:
                raise
            except ImagingError:
                continue  # the next one may have a picture
        return None

    async def _make(self, instance: StoredInstance, look: Look, variant: str) -> Rendered:
        kept = await self._rooms.frames.get(instance.digest, variant)
        if kept is not None:
            found = _unpacked(kept)
            if found is not None:
                return found
        made = await self._rooms.imaging.render(
            lambda: self._rooms.retrieval.memfd(instance), look, key=instance.digest
        )
        await self._rooms.frames.put(instance.digest, variant, _packed(made))
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
