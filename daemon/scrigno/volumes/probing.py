# SPDX-License-Identifier: Apache-2.0
"""Asking a volume how it is, and which disks it lies on."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from scrigno.core.errors import ScrignoError

from .files import fullness
from .kernel import Ear, Said
from .link import WorkerLink
from .protocol import Op, Space, unpack
from .states import ErrorKind, VolumeError, VolumeState
from .transitions import Fact

if TYPE_CHECKING:
    from .operations import Volume

log = logging.getLogger(__name__)

DEVICES_WAIT_S: Final = 1.0  # for its disks to be known before it is shown
DEVICES_LIMIT_S: Final = 10.0
DevicesOf = Callable[[Path], Awaitable[frozenset[str]]]
_OF_ERRORS: Final = {
    ErrorKind.FULL: Fact.PROBE_FULL,
    ErrorKind.READONLY: Fact.PROBE_READ_ONLY,
    ErrorKind.DENIED: Fact.PROBE_READ_ONLY,
    ErrorKind.ABSENT: Fact.IDENTITY_ABSENT,
    ErrorKind.FOREIGN: Fact.IDENTITY_FOREIGN,
}  # anything else is an error
_NOTHING_THERE: Final = frozenset({Fact.FS_SHUT_DOWN, Fact.DEVICE_GONE})


@dataclass(frozen=True, slots=True)
class Probed:
    """What a probe says together with the kernel."""

    said: Said
    vanished: int = 0  # folders that somebody else has removed since the last probe


async def probe(
    volume: "Volume", link: WorkerLink, *, ear: Ear | None, slow_s: float, flapping: bool
) -> Probed:
    """Write, fsync, read back uncached; the caller looks whether the link has failed by it."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    try:
        document = unpack((await link.call(Op.PROBE, b"")).body)
    except VolumeError as error:
        return Probed(_failed(error))
    seconds = loop.time() - started
    space = Space(**document["space"])
    volume.note_space(space)
    return Probed(_verdict(volume, space, seconds, ear, slow_s, flapping), document["vanished"])


def _verdict(
    volume: "Volume",
    space: Space,
    seconds: float,
    ear: Ear | None,
    slow_s: float,
    flapping: bool,  # noqa: FBT001 - passed on
) -> Said:
    complaint = None if ear is None else ear.standing
    if complaint is not None:
        dead = complaint.fact in _NOTHING_THERE
        return Said(Fact.PROBE_IO_ERROR, complaint.words) if dead else complaint
    if seconds > slow_s:
        return Said(Fact.PROBE_SLOW, f"a probe took {seconds:.1f} s")
    full = fullness(space, full=volume.state is VolumeState.FULL)
    if full:
        return Said(Fact.PROBE_FULL, full)
    if flapping:
        return Said(Fact.KEEPS_FAILING, "it has failed again and again, and is being watched")
    return Said(Fact.PROBE_GOOD, "it is well again and is being watched")


async def still_ours(link: WorkerLink) -> Said | None:
    """Ask the worker whether path and marker are as they were; None when they are.

    This is where a shut-down XFS fails, of which the kernel says nothing.
    """
    try:
        await link.call(Op.CHECK, b"")
    except VolumeError as error:
        return _failed(error)
    return None


def _failed(error: VolumeError) -> Said:
    return Said(_OF_ERRORS.get(error.kind, Fact.PROBE_IO_ERROR), error.what)


class DiskNames:
    """Learns which physical disks a volume lies on. Loop thread only."""

    def __init__(self, volume: "Volume", devices_of: DevicesOf | None) -> None:
        """`devices_of` is asked with the path without links."""
        self._volume = volume
        self._devices_of = devices_of
        self._task: asyncio.Task[None] | None = None

    async def learn(self, place: Path) -> None:
        """Ask, and wait a moment; what comes later is noted as well."""
        await self.close()
        if self._devices_of is not None:
            self._task = asyncio.get_running_loop().create_task(
                self._learn(place, self._devices_of), name=f"disks of {self._volume.name}"
            )
            await asyncio.wait([self._task], timeout=DEVICES_WAIT_S)

    async def close(self) -> None:
        """Ask no more; idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _learn(self, place: Path, devices_of: DevicesOf) -> None:
        try:
            async with asyncio.timeout(DEVICES_LIMIT_S):
                disks = await devices_of(place)
        except (TimeoutError, OSError, ScrignoError) as error:
            log.warning("volume %s: its disks are not known: %s", self._volume.name, error)
            return
        if disks:
            self._volume.devices = disks
