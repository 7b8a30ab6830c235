# SPDX-License-Identifier: Apache-2.0
"""Pictures that will be asked for are made before: thumbnails of new series, their first frame.

One at a time, only while nobody waits for a picture, and slowly while images arrive: the modality
and the reader come first. What is not made here is made when it is asked for.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from scrigno.archive.errors import ObjectUnavailable
from scrigno.catalogue.catalogue import Catalogue
from scrigno.core.errors import ScrignoError
from scrigno.core.events import EventBus, InstanceStored
from scrigno.imaging.errors import ImagingClosed, ImagingError

from .pictures import Pictures, first_look, representative, thumbnail_look

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

QUIET_S: Final = 4.0  # without a new image of the series before its pictures are made
LONGEST_WAIT_S: Final = 60.0  # a series that goes on and on gets its first pictures
MOST_SERIES: Final = 5_000  # waiting; the oldest are left to be made when asked for
LARGEST_BYTES: Final = 256 << 20  # an object beyond is rendered when somebody wants it
REST: Final = 3.0  # times the work of a picture before the next, while images arrive


class Ahead:
    """Follows what arrives and makes pictures of it. Loop thread only."""

    def __init__(
        self,
        pictures: Pictures,
        catalogue: Catalogue,
        bus: EventBus,
        *,
        quiet_s: float = QUIET_S,
    ) -> None:
        """Make `pictures` of the new series in `catalogue`."""
        self._pictures = pictures
        self._catalogue = catalogue
        self._bus = bus
        self._quiet_s = quiet_s
        self._waiting: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()
        self._arrived = asyncio.Event()
        self._last_arrival = 0.0
        self._stop_listening: Callable[[], None] | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to listen and to work."""
        self._stop_listening = self._bus.subscribe(InstanceStored, self._note)
        self._task = asyncio.create_task(self._work())

    async def close(self) -> None:
        """Stop; what is being made is given up. Idempotent."""
        if self._stop_listening is not None:
            self._stop_listening()
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    def _note(self, event: InstanceStored) -> None:
        now = time.monotonic()
        self._last_arrival = now
        key = event.study_uid, event.series_uid
        first, _ = self._waiting.pop(key, (now, now))
        self._waiting[key] = first, now
        if len(self._waiting) > MOST_SERIES:
            self._waiting.popitem(last=False)
        self._arrived.set()

    def _due(self) -> tuple[str, str] | None:
        """Return a series that is complete by the look of it, or waits too long already."""
        now = time.monotonic()
        for key, (first, last) in self._waiting.items():
            if now - last >= self._quiet_s or now - first >= LONGEST_WAIT_S:
                del self._waiting[key]
                return key
        return None

    async def _work(self) -> None:
        while True:
            if not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
            due = self._due()
            if due is None:
                await asyncio.sleep(min(1.0, self._quiet_s / 4))
                continue
            try:
                await self._make(*due)
            except ImagingClosed:
                return
            except ScrignoError as error:
                log.debug("series %s: no pictures ahead of time: %s", due[1], error.code)

    async def _make(self, study_uid: str, series_uid: str) -> None:
        """Make the thumbnail of the series, and the first picture of its first object."""
        instances = await self._catalogue.instances(study_uid, series_uid)
        shown = [each for each in instances if each.rows and each.columns]
        middle = representative(instances)
        wanted = [(each, thumbnail_look(each)) for each in middle[:1]]
        wanted += [(each, first_look()) for each in shown[:1]]
        for instance, look in wanted:
            if instance.size > LARGEST_BYTES:
                continue
            await self._pictures.imaging.at_rest()
            started = time.monotonic()
            try:
                await self._pictures.get(instance, look)
            except ImagingClosed:
                raise
            except (ImagingError, ObjectUnavailable):
                continue  # whoever asks for it is told
            await self._rest(time.monotonic() - started)

    async def _rest(self, took_s: float) -> None:
        busy = time.monotonic() - self._last_arrival < 2 * QUIET_S
        await asyncio.sleep(min(10.0, took_s * REST) if busy else 0)
