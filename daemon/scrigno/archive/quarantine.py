# SPDX-License-Identifier: Apache-2.0
"""What was set aside on a volume because it is not what stands in the index (ST-6).

A file that is damaged, or stands where another object belongs, is never deleted on the spot: it
gets another name under `displaced/`, with a note beside it that says when, why and whose place it
held.
"""

import json
import logging
import secrets
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from pathlib import PurePosixPath
from typing import Final

from scrigno.catalogue.catalogue import Catalogue
from scrigno.catalogue.fixity import SetAside
from scrigno.core.clock import Clock
from scrigno.core.counters import Counters
from scrigno.core.errors import CommandError
from scrigno.volumes.states import ErrorKind, PutOutcome, VolumeError
from scrigno.volumes.volume import Volume, Volumes

from .arrivals import INBOX_PREFIX, from_sidecar

log = logging.getLogger(__name__)

DISPLACED_PREFIX: Final = "displaced"
DISPLACED_MOST: Final = 10  # names tried for one content
NOTE_BYTES: Final = 16 << 10
KNOWN_MOST: Final = 1_000_000  # rows of one volume; nobody looks through more


class Why(StrEnum):
    """Why a file was set aside."""

    CONFLICT = "conflict"  # other bytes stood where an object belongs
    CHANGED = "changed"  # the copy of an object is not what was received
    CUT = "cut"  # it is shorter or longer than what was received
    ZEROED = "zeroed"  # nothing but zeros is left of it
    UNREADABLE = "unreadable"  # the disk does not give it back


def note_key(key: str) -> str:
    """Return where the note about the displaced file `key` stands."""
    return key.removesuffix(".dcm") + ".json"


async def displace(volume: Volume, key: str, digest: str, why: Why = Why.CONFLICT) -> str:
    """Give what stands at `key` another name, so that the right object can take its place.

    Nothing is deleted: `digest` of what stands there names it under `displaced/`; without one
    (it cannot be read) the key does. Returns the new key. Raises VolumeError.
    """
    log.warning("volume %s: %s is not what was received, set aside", volume.spec.name, key)
    # What cannot be read can be compared with nothing, so its name is one that never was there.
    unread = f"unread-{sha256(key.encode()).hexdigest()[:32]}-{secrets.token_hex(4)}"
    stem = digest or unread
    for number in range(DISPLACED_MOST):
        target = f"{DISPLACED_PREFIX}/{stem}{f'-{number}' if number else ''}.dcm"
        done = await volume.copy_within(key, target)
        if done.outcome is not PutOutcome.CONFLICT:  # else it was set aside before, and rotted
            await _note(volume, target, key, why)
            await volume.remove(key)
            return target
    raise VolumeError(volume.spec.name, ErrorKind.IO, f"{key} cannot be set aside")


async def _note(volume: Volume, target: str, key: str, why: Why) -> None:
    """Say beside it what it is; a hint, so its absence stops nothing."""
    note = {"key": key, "why": why.value, "at": datetime.now(UTC).isoformat()}
    try:
        await volume.put_bytes(note_key(target), json.dumps(note, sort_keys=True).encode())
    except VolumeError as error:
        log.warning("volume %s: no note beside %s: %s", volume.spec.name, target, error.reason)


class Quarantine:
    """What stands under `displaced/` on every volume. Loop thread only."""

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        volumes: Volumes,
        counters: Counters,
        clock: Clock,
        is_good: Callable[[str], Awaitable[bool]],
    ) -> None:
        """`is_good` reads the copies of an object anew and tells whether one is right."""
        self._catalogue = catalogue
        self._volumes = volumes
        self._counters = counters
        self._clock = clock
        self._is_good = is_good

    async def items(self, volume: str | None = None, limit: int = 10_000) -> list[SetAside]:
        """Return what was set aside, the newest first; raises DatabaseError."""
        return await self._catalogue.set_aside(volume, limit)

    async def sweep(self, volume: Volume, days: int) -> int:
        """Bring the list of one volume up to date and remove what is older than `days`.

        A file goes only when a copy of the object whose place it held was read back right now and
        found good, and never when it was set aside because another object's bytes stood there: it
        may be one that was received. Returns how many were removed. Raises VolumeError,
        DatabaseError.
        """
        known = {row.key: row for row in await self.items(volume.name, KNOWN_MOST)}
        standing = await self._standing(volume, known)
        gone = [key for key in known if key not in standing]
        await self._catalogue.forget_set_aside([(volume.name, key) for key in gone])
        removed = 0
        limit = self._clock.now() - timedelta(days=days)
        for row in standing.values():
            if row.set_aside_at < limit and await self._may_go(row):
                await self._remove(volume, row)
                removed += 1
        return removed

    async def remove(self, volume: str, key: str) -> None:
        """Remove one file by an operator's word; raises CommandError, VolumeError."""
        for row in await self.items(volume, KNOWN_MOST):
            if row.key == key:
                await self._remove(self._volumes.by_name(volume), row)
                return
        raise CommandError(f"Nothing of this name was set aside on volume {volume}.")

    async def _standing(self, volume: Volume, known: dict[str, SetAside]) -> dict[str, SetAside]:
        """Return what stands on the volume now; what is new there is put on the list."""
        standing: dict[str, SetAside] = {}
        fresh: list[SetAside] = []
        async with aclosing(volume.walk(DISPLACED_PREFIX)) as walk:
            files = [(key, size) async for key, size in walk if key.endswith(".dcm")]
        for key, size in files:
            row = known.get(key)
            if row is None:
                row = await self._described(volume, key, size)
                fresh.append(row)
            standing[key] = row
        if fresh:
            await self._catalogue.save_set_aside(fresh)
        return standing

    async def _described(self, volume: Volume, key: str, size: int) -> SetAside:
        """Return what the note beside a file says of it; without one it was set aside now."""
        now = self._clock.now()
        try:
            note = from_sidecar(await volume.head(note_key(key), NOTE_BYTES))
        except VolumeError:
            note = {}
        try:
            at = min(datetime.fromisoformat(note.get("at", "")), now)
        except (ValueError, TypeError):  # no time, or one without a zone
            at = now
        return SetAside(
            volume=volume.name,
            key=key,
            object_key=note.get("key", ""),
            why=note.get("why", Why.CONFLICT.value),
            size=size,
            set_aside_at=at,
        )

    async def _may_go(self, row: SetAside) -> bool:
        if row.why == Why.CONFLICT.value or not row.object_key:
            return False
        inbox = row.object_key.startswith(f"{INBOX_PREFIX}/")
        return await self._is_good(row.object_key if inbox else PurePosixPath(row.object_key).stem)

    async def _remove(self, volume: Volume, row: SetAside) -> None:
        await volume.remove(row.key)
        await volume.remove(note_key(row.key))
        await self._catalogue.forget_set_aside([(volume.name, row.key)])
        self._counters.add("quarantine_removed_files", volume=volume.name)
        log.info("volume %s: %s was set aside and is removed now", volume.name, row.key)
