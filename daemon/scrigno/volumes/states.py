# SPDX-License-Identifier: Apache-2.0
"""The words of this room: states of a volume, what can go wrong with it, what a put answers."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import ClassVar

from scrigno.core.errors import ScrignoError


class VolumeState(StrEnum):
    """How a volume is; only ONLINE takes new images as a matter of course."""

    STARTING = "starting"
    ONLINE = "online"
    SUSPECT = "suspect"  # one error or a slow probe; used only when nothing better is there
    OFFLINE = "offline"  # errors confirmed, or no completion in time
    READONLY = "readonly"  # readable, refuses writes
    FULL = "full"  # readable, under its reserve
    RECOVERING = "recovering"  # answers again, must prove itself before it is ONLINE
    ABSENT = "absent"  # no path, or a bare mount point: the disk is not there
    FOREIGN = "foreign"  # something else stands at the path: never written to


READABLE_STATES = frozenset(
    {
        VolumeState.ONLINE,
        VolumeState.SUSPECT,
        VolumeState.READONLY,
        VolumeState.FULL,
        VolumeState.RECOVERING,
    }
)


class Role(StrEnum):
    """What a volume is for; data comes first in every order."""

    DATA = "data"
    BACKUP = "backup"


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeSpec:
    """One configured volume; `name` is unique and stable, `path` a folder or mount point."""

    name: str
    role: Role
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeStatus:
    """A volume at one moment, for pages and alerts. Bytes are None while unknown."""

    name: str
    role: Role
    path: Path
    state: VolumeState
    reason: str
    uuid: str | None
    device: int | None
    generation: int
    total_bytes: int | None
    free_bytes: int | None
    devices: frozenset[str] = frozenset()  # physical disks it lies on, or `dev:ST_DEV`
    paused: bool = False
    operator_reason: str = ""  # why an operator paused it
    total_inodes: int | None = None  # 0: the file system makes them as it needs them
    free_inodes: int | None = None
    since: datetime | None = None  # when it came into this state


class ErrorKind(StrEnum):
    """Why a volume did not do what was asked."""

    IO = "io"
    FULL = "full"
    READONLY = "readonly"
    TIMEOUT = "timeout"
    ABSENT = "absent"
    FOREIGN = "foreign"
    BUSY = "busy"
    OFFLINE = "offline"  # the volume is known to be down; nothing was tried
    MISSING = "missing"  # no such key: the volume itself is well
    NO_ROOM = "no-room"  # not for this object; a smaller one may fit
    DENIED = "denied"  # the service has not the right: owner, mode, immutable


class VolumeError(ScrignoError):
    """One operation on one volume failed; `kind` says which way."""

    code: ClassVar[str] = "volume-error"

    def __init__(self, volume: str, kind: ErrorKind, reason: str) -> None:
        """Keep the name of the volume, the kind and the reason in words."""
        super().__init__(f"volume {volume}: {reason}")
        self.volume = volume
        self.kind = kind
        self.what = reason


class PutOutcome(StrEnum):
    """What a put found."""

    STORED = "stored"
    SAME = "same"  # the key is there with the same digest, and is durable
    CONFLICT = "conflict"  # the key is there with another digest; nothing was changed


@dataclass(frozen=True, slots=True)
class PutResult:
    """The answer to a put; `existing_digest` (hex) is set for CONFLICT."""

    outcome: PutOutcome
    existing_digest: str = ""
