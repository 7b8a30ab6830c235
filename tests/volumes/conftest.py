# SPDX-License-Identifier: Apache-2.0
"""A staging directory, and volumes where a test wants them."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest

from loopfs import LoopFilesystem, loop_filesystem
from scrigno.core.clock import SystemClock
from scrigno.core.counters import Counters
from scrigno.core.events import EventBus, VolumeChanged
from scrigno.volumes.placement import IngestPolicy, Placement
from scrigno.volumes.staging import Sealed, Staging
from scrigno.volumes.states import Role, VolumeSpec
from scrigno.volumes.volume import Volumes
from scrigno.volumes.warden import Timing

QUICK = Timing(
    op_timeout_s=2.0,
    probe_every_s=0.5,
    fresh_write_s=0.2,
    retry_s=0.1,
    retry_most_s=0.3,
    proof_every_s=0.1,
    hold_s=0.3,
)


@pytest.fixture
async def staging(tmp_path: Path) -> AsyncIterator[Staging]:
    made = Staging(tmp_path / "staging", capacity_bytes=1 << 30, counters=Counters())
    await made.open()
    yield made
    await made.close()


class Box:
    """Staging, volumes and placement as the daemon composes them."""

    def __init__(self, state: Path, staging: Staging, paths: dict[str, Path], timing: Timing):
        self.staging = staging
        self.bus = EventBus()
        self.changes: list[tuple[str, str]] = []
        self.bus.subscribe(VolumeChanged, lambda e: self.changes.append((e.volume, e.after)))
        self.policy = IngestPolicy()
        self.counters = Counters()
        self.volumes = Volumes(
            [
                VolumeSpec(name=name, role=Role.DATA if name == "data" else Role.BACKUP, path=path)
                for name, path in paths.items()
            ],
            state_dir=state,
            counters=self.counters,
            bus=self.bus,
            clock=SystemClock(),
            timing=timing,
        )
        self.placement = Placement(staging, self.volumes, lambda: self.policy)

    async def sealed(self, content: bytes) -> Sealed:
        thing = self.staging.begin(content, limit_bytes=1 << 30)
        return await thing.seal()

    async def store(self, key: str, content: bytes):
        thing = self.staging.begin(content, limit_bytes=1 << 30)
        sealed = thing.seal_early() or await thing.seal()  # as the daemon does
        try:
            return await self.placement.store(sealed, key, {"key": key})
        finally:
            sealed.close()


@pytest.fixture
def box(tmp_path: Path, staging: Staging) -> Callable[..., object]:
    @asynccontextmanager
    async def make(timing: Timing = QUICK, **paths: Path) -> AsyncIterator[Box]:
        made = Box(tmp_path / "state", staging, paths, timing)
        async with made.volumes:
            yield made

    return make


@pytest.fixture
def filesystem(tmp_path: Path) -> Iterator[Callable[..., LoopFilesystem]]:
    with ExitStack() as stack:
        yield lambda name, **how: stack.enter_context(
            loop_filesystem(tmp_path / "loops", name, **how)
        )
