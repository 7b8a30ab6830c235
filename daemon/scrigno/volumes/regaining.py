# SPDX-License-Identifier: Apache-2.0
"""Finding out who this box is and which disks are its own, when it has lost its memory of them.

Every marker names the box that it belongs to. A disk whose uuid somebody else remembers (the index
does) settles it; else a majority of all configured volumes does. Without either nothing is let in
by itself: the disk of another box may stand at a path, and an operator knows it.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Final

from .marker import Marker
from .registry import Registry

log = logging.getLogger(__name__)

WAIT_S: Final = 5.0  # for the other volumes and for the index, once


class Regaining:
    """Hears what stands at every path and settles the owner. Loop thread only."""

    def __init__(self, registry: Registry, names: Iterable[str], *, wait_s: float = WAIT_S) -> None:
        """`names` are all configured volumes."""
        self._registry = registry
        self._names = frozenset(names)
        self._wait_s = wait_s
        self._heard: dict[str, Marker | None] = {}
        self._reminded = False
        self._done = asyncio.Event()
        if registry.owner:
            self._done.set()

    def remind(self, uuids: Mapping[str, str]) -> None:
        """Hear which disks others remember, by the name of the volume; {} when nobody does."""
        self._registry.recall(uuids)
        self._reminded = True
        self._settle()

    async def hear(self, name: str, found: Marker | None) -> None:
        """Note what stands at a path; returns when the owner is settled, or after a while."""
        if self._registry.owner and not self._registry.is_forgotten(name):
            return
        self._heard[name] = found
        self._settle()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._wait_s):
                await self._done.wait()
        self._reminded = True  # nobody will
        self._settle()
        self._done.set()  # is waited for once only

    def _settle(self) -> None:
        if not self._reminded:
            return
        found = {name: marker for name, marker in self._heard.items() if marker is not None}
        owner = self._registry.owner or self._known(found) or self._majority(found)
        if owner and not self._registry.owner:
            log.warning("volumes: the memory of them is made anew from their markers")
            self._registry.settle_owner(owner)
        if owner or self._names <= self._heard.keys():
            self._done.set()

    def _known(self, found: Mapping[str, Marker]) -> str:
        for name, marker in found.items():
            remembered = self._registry.remembered(name)
            if remembered is not None and remembered.uuid == marker.uuid:
                return marker.owner
        return ""

    def _majority(self, found: Mapping[str, Marker]) -> str:
        right = [marker.owner for name, marker in found.items() if marker.name == name]
        if len({marker.uuid for marker in found.values()}) < len(found) or not right:
            return ""  # two paths show one disk
        owner, count = Counter(right).most_common(1)[0]
        return owner if count > len(self._names) / 2 else ""
