# SPDX-License-Identifier: Apache-2.0
"""What was set aside on a volume because it is not what stands in the index (ST-6).

A file that is damaged, or stands where another object belongs, is never deleted on the spot: it
gets another name under `displaced/`, with a note beside it that says when, why and whose place it
held.
"""

import json
import logging
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256
from typing import Final

from scrigno.volumes.states import ErrorKind, PutOutcome, VolumeError
from scrigno.volumes.volume import Volume

log = logging.getLogger(__name__)

DISPLACED_PREFIX: Final = "displaced"
DISPLACED_MOST: Final = 10  # names tried for one content


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
    stem = digest or f"unread-{sha256(key.encode()).hexdigest()[:32]}"
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
