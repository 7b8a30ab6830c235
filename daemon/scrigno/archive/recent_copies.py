# SPDX-License-Identifier: Apache-2.0
"""Which copies were made lately on each volume, whenever their objects came.

When a volume falls, the copies of its last minutes are doubted (`catchup`). Those of objects that
had just come are found by the time of reception; a copy that was owed for hours, or made by an
import, is found here. Noted in memory, which costs nothing for each copy; written to a small file
when the volume falls and at the end of a run, so that a restart does not forget them.
"""

import asyncio
import json
import logging
from collections import deque
from collections.abc import Collection
from hashlib import sha256
from pathlib import Path
from typing import Final

from scrigno.core.clock import Clock
from scrigno.host.files import write_durably

log = logging.getLogger(__name__)

KEPT_S: Final = 600.0  # as catchup.DOUBTED_BEFORE
MOST: Final = 20_000  # for each volume; the newest


class RecentCopies:
    """Notes copies by volume. Loop thread only; the file is written in a thread."""

    def __init__(self, clock: Clock, folder: Path | None = None) -> None:
        """Without a folder nothing outlives the process."""
        self._clock = clock
        self._folder = folder
        self._made: dict[str, deque[tuple[float, str]]] = {}
        self._left: dict[str, tuple[str, ...]] = {}  # doubted by a fall, not all read back yet

    def note(self, volume: str, sop_instance_uid: str) -> None:
        """Note that a copy was made now."""
        made = self._made.setdefault(volume, deque(maxlen=MOST))
        now = self._clock.monotonic()
        made.append((now, sop_instance_uid))
        while made and now - made[0][0] > KEPT_S:
            made.popleft()

    def fell(self, volume: str) -> None:
        """Doubt what was copied to it in the last minutes, until `believe`."""
        now = self._clock.monotonic()
        made = self._made.pop(volume, deque())
        fresh = (uid for at, uid in made if now - at <= KEPT_S)
        left = dict.fromkeys((*self._left.get(volume, ()), *fresh))
        if left:
            self._left[volume] = tuple(left)[-MOST:]

    def doubted(self, volume: str) -> tuple[str, ...]:
        """Return the UIDs whose copy on it is doubted, the oldest first."""
        return self._left.get(volume, ())

    def believe(self, volume: str, sop_instance_uids: Collection[str]) -> None:
        """Doubt these no more: they were read back, or are owed again."""
        left = tuple(uid for uid in self.doubted(volume) if uid not in sop_instance_uids)
        if left:
            self._left[volume] = left
        else:
            self._left.pop(volume, None)

    # over restarts ------------------------------------------------------------------------------

    async def learn(self, volume: str) -> None:
        """Take in what the last run left."""
        path = self._path(volume)
        if path is None:
            return
        try:
            uids = json.loads(await asyncio.to_thread(path.read_bytes))
            left = [str(uid) for uid in uids][-MOST:]
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError) as error:
            log.warning("volume %s: which copies were new is not known: %s", volume, error)
            return
        self._left[volume] = tuple(dict.fromkeys((*left, *self.doubted(volume))))

    async def keep(self, volume: str) -> None:
        """Keep what is doubted for a restart; one that cannot be kept is told and stops nothing."""
        path, left = self._path(volume), self.doubted(volume)
        if path is None:
            return
        try:
            if left:
                await asyncio.to_thread(_write, path, left)
            else:
                await asyncio.to_thread(path.unlink, missing_ok=True)
        except OSError as error:
            log.warning("volume %s: doubted copies are not kept: %s", volume, error.strerror)

    def _path(self, volume: str) -> Path | None:
        if self._folder is None:
            return None
        # a name is free text of the settings; a path never is
        return self._folder / f"{sha256(volume.encode()).hexdigest()[:16]}.json"


def _write(path: Path, uids: Collection[str]) -> None:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    write_durably(path, json.dumps(list(uids)).encode())
