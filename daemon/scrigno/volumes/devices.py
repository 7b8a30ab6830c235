# SPDX-License-Identifier: Apache-2.0
"""How many disks hold a thing: the one count behind acknowledging, letting go and warning.

Two places whose sets of physical disks overlap die together, so they count once. Pure functions.
"""

from collections.abc import Collection, Iterable
from typing import Protocol


class Place(Protocol):
    """Whatever stands on a device: a volume, or staging."""

    @property
    def device(self) -> int | None:
        """The device number (`st_dev`), None while it is not known."""
        ...


def disks_of(place: Place) -> frozenset[str]:
    """Return the physical disks of a place, or one name for a device not understood further."""
    disks: frozenset[str] = getattr(place, "devices", frozenset())
    return disks or frozenset({f"dev:{place.device}"})


def distinct(sets: Iterable[Collection[str]]) -> int:
    """Count places that share no disk, greedily: the one on the fewest disks first."""
    count = 0
    seen: set[str] = set()
    for disks in sorted(sets, key=len):
        if seen.isdisjoint(disks):
            count += 1
            seen.update(disks)
    return count


def count(places: Iterable[Place], *, shared: bool) -> int:
    """Count the devices under `places`; `shared` counts two folders of one disk as two."""
    sets = [disks_of(place) for place in places]
    return len(sets) if shared else distinct(sets)
