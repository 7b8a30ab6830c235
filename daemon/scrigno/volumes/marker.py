# SPDX-License-Identifier: Apache-2.0
"""The identity of a volume: a small file in its root, and the box's own memory of it.

Deciding is a pure function. The marker is read by workers only and written by `tree`; the memory
(`volumes.json` in the state directory) is `registry`'s.
"""

import json
import os
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

MARKER_NAME: Final = ".scrigno-volume.json"
HARMLESS_ENTRIES: Final = frozenset({"lost+found"})  # what an empty filesystem may hold


class BadMarkerError(ValueError):
    """The marker is there but is not one of ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Marker:
    """Who a volume is. `generation` grows each time the volume goes into service."""

    uuid: str
    generation: int
    created: str  # ISO 8601, UTC
    owner: str  # the box
    name: str
    role: str

    @staticmethod
    def new(*, owner: str, name: str, role: str, now: datetime) -> "Marker":
        """Make the marker of a fresh volume."""
        return Marker(
            uuid=str(uuid.uuid4()),
            generation=0,
            created=now.isoformat(timespec="seconds"),
            owner=owner,
            name=name,
            role=role,
        )

    @staticmethod
    def parse(document: dict[str, Any]) -> "Marker":
        """Read a marker; raises BadMarkerError naming the field."""
        found: dict[str, Any] = {}
        for field in ("uuid", "created", "owner", "name", "role"):
            value = document.get(field)
            if not isinstance(value, str) or not value:
                raise BadMarkerError(f"{MARKER_NAME}: {field} is missing")
            found[field] = value
        generation = document.get("generation")
        if not isinstance(generation, int) or isinstance(generation, bool) or generation < 0:
            raise BadMarkerError(f"{MARKER_NAME}: generation is not a number")
        return Marker(generation=generation, **found)

    def document(self) -> dict[str, Any]:
        """Return it as JSON knows it."""
        return asdict(self)

    def text(self) -> bytes:
        """Return the file's bytes."""
        return json.dumps(self.document(), indent=1).encode() + b"\n"

    def next_generation(self) -> "Marker":
        """Return it as it is after going into service once more."""
        return replace(self, generation=self.generation + 1)


def read_marker(root: int) -> tuple[dict[str, Any] | None, str]:
    """Return the marker in an open root, or None with what is wrong with it ("": there is none).

    Blocking; raises OSError.
    """
    try:
        fd = os.open(MARKER_NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=root)
    except FileNotFoundError:
        return None, ""
    try:
        document = json.loads(os.pread(fd, 1 << 16, 0))
        Marker.parse(document)
    except (ValueError, BadMarkerError, AttributeError) as error:
        return None, str(error)
    finally:
        os.close(fd)
    return document, ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """What the box knows of a volume from the last time it was in service."""

    uuid: str
    generation: int
    own_mount: bool = False  # its path was a mount point: the bare folder under it is not the disk
    fs_errors: int | None = None  # what ext4 had counted against itself and was accepted


@dataclass(frozen=True, slots=True, kw_only=True)
class Parted:
    """A disk that was a volume once and is not any more; known by its uuid."""

    name: str  # of the volume it was
    retired: bool  # else replaced by another disk
    on: str  # ISO 8601, UTC

    def sentence(self) -> str:
        """Return in words what it is."""
        done = "retired" if self.retired else "replaced"
        return f"this is the disk of volume {self.name} that was {done} on {self.on[:10]}"


class Verdict(StrEnum):
    """What stands at a volume's path."""

    OURS = "ours"
    EMPTY = "empty"  # never used: may be adopted without asking
    ABSENT = "absent"
    FOREIGN = "foreign"  # no volume, or the wrong one
    STALE = "stale"  # an old copy
    OTHER_BOX = "other box"
    PARTED = "parted"  # replaced or retired


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict and its reason in words."""

    verdict: Verdict
    reason: str = ""


def judge(
    *,
    name: str,
    owner: str,
    remembered: Remembered | None,
    found: Marker | None,
    empty: bool,
    taken: frozenset[str] = frozenset(),
    trouble: str = "",
    parted: Mapping[str, Parted] | None = None,
    forgotten: bool = False,
) -> Judgement:
    """Decide whether what was found at the path is the volume `name` of this box.

    `found` is the marker there or None, `empty` whether nothing else is there, `taken` the uuids
    that other volumes have in use, `trouble` what is wrong with an unreadable marker, `parted`
    the disks that were replaced or retired, `forgotten` that the box had a volume here and has lost
    its memory of it: then a folder without a marker may be a bare mount point, and without `owner`
    nobody can tell whose a marker is. A marker of ours that the box has forgotten (a crash
    between adoption and memory) is ours still.
    """
    if trouble:
        return Judgement(Verdict.FOREIGN, f"its marker cannot be understood: {trouble}")
    if found is None:
        return _without_marker(remembered, empty=empty, forgotten=forgotten)
    if found.uuid in taken:
        return Judgement(Verdict.FOREIGN, "this disk is already in use as another volume")
    gone = (parted or {}).get(found.uuid)
    if gone is not None:
        return Judgement(Verdict.PARTED, f"{gone.sentence()}; adopt it to use it again")
    if remembered is None:
        if not owner:
            return Judgement(
                Verdict.FOREIGN,
                "the box has lost its memory of its volumes and cannot tell whether this disk is "
                "its own; adopt it if it is",
            )
        if found.owner != owner:
            return Judgement(
                Verdict.OTHER_BOX, f"it is volume {found.name!r} of another box; adopt it first"
            )
        if found.name == name:
            return Judgement(Verdict.OURS)
        return Judgement(
            Verdict.FOREIGN, f"it is volume {found.name!r} of another path; adopt it first"
        )
    if found.uuid != remembered.uuid:
        return Judgement(Verdict.FOREIGN, "another volume stands at this path (wrong disk)")
    if found.generation < remembered.generation:
        return Judgement(
            Verdict.STALE,
            f"an old copy of this volume (generation {found.generation}, "
            f"last used {remembered.generation}) stands at this path",
        )
    if owner and found.owner != owner:
        return Judgement(Verdict.OTHER_BOX, "another box has taken this volume over")
    return Judgement(Verdict.OURS)


def _without_marker(remembered: Remembered | None, *, empty: bool, forgotten: bool) -> Judgement:
    if remembered is not None:
        return Judgement(
            Verdict.ABSENT, "its marker is not there: the disk is missing or not mounted"
        )
    if forgotten:
        return Judgement(
            Verdict.ABSENT,
            "its marker is not there, and the box has lost its memory of it: mount its disk, or "
            "adopt this one",
        )
    if empty:
        return Judgement(Verdict.EMPTY)
    return Judgement(
        Verdict.FOREIGN, "the folder is not empty and is no volume of Scrigno; adopt it first"
    )
