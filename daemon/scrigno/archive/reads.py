# SPDX-License-Identifier: Apache-2.0
"""When studies were last read: noted by every door, written in batches, once an hour each."""

import asyncio
import logging
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from scrigno.catalogue.catalogue import Catalogue
from scrigno.catalogue.values import stamp
from scrigno.core.clock import Clock
from scrigno.db.errors import DatabaseError

if TYPE_CHECKING:
    from datetime import datetime

log = logging.getLogger(__name__)

WRITE_EVERY_S: Final = 60.0
AGAIN_S: Final = 3600.0  # a study that is read all day is written this often
REMEMBERED: Final = 10_000  # a forgotten study costs one write that changes nothing
SINCE: Final = "reads_noted_since"  # the meter; microseconds, as the index counts time


class LastReads:
    """Gathers what is read. `note` is one look into a dictionary. Loop thread only."""

    def __init__(self, *, catalogue: Catalogue, clock: Clock) -> None:
        """Remember nothing yet."""
        self._book = catalogue.lifecycle
        self._clock = clock
        self._noted: OrderedDict[str, float] = OrderedDict()  # study, monotonic
        self._waiting: dict[str, datetime] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to write; returns at once."""
        self._task = asyncio.create_task(self._run(), name="last-reads")

    async def close(self) -> None:
        """Write what is waiting and stop. Idempotent."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        try:
            await self.write()
        except DatabaseError as error:
            log.warning("reading times: the last ones are not noted: %s", error.reason)

    def note(self, study_uid: str) -> None:
        """Say that something of a study is being retrieved or viewed."""
        now = self._clock.monotonic()
        if now - self._noted.get(study_uid, -AGAIN_S) < AGAIN_S:
            return
        self._noted[study_uid] = now
        self._noted.move_to_end(study_uid)
        if len(self._noted) > REMEMBERED:
            self._noted.popitem(last=False)
        self._waiting[study_uid] = self._clock.now()

    async def write(self) -> None:
        """Write what is waiting; raises DatabaseError and keeps it then."""
        waiting, self._waiting = self._waiting, {}
        if not waiting:
            return
        try:
            await self._book.note_reads(waiting)
        except DatabaseError:
            self._waiting = waiting | self._waiting
            raise

    async def _run(self) -> None:
        begun = False
        while True:
            await asyncio.sleep(WRITE_EVERY_S)
            try:
                if not begun:
                    await self._book.set_meter_once(SINCE, stamp(self._clock.now()))
                    begun = True
                await self.write()
            except DatabaseError as error:
                log.warning("reading times: they are noted later: %s", error.reason)
