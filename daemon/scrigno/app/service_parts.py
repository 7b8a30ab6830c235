# SPDX-License-Identifier: Apache-2.0
"""The service as its operators see it: every part with its state, and restarting (SPEC AD-3)."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Final

from scrigno import __version__
from scrigno.archive.index_state import IndexState
from scrigno.core.clock import Clock
from scrigno.core.errors import CommandError
from scrigno.node.providers import ListenerState, Node
from scrigno.volumes.states import READABLE_STATES, VolumeState
from scrigno.volumes.volume import Volumes
from scrigno.web.answers import at
from scrigno.web.rooms import SecurePort
from scrigno.web.service_answers import PartAnswer, PartKind, PartState, ServiceAnswer

from .archive_parts import ArchiveParts

DICOM: Final = "dicom "
ANSWER_FIRST_S: Final = 0.5  # for the answer to reach the browser that asked for the restart


class Service:
    """Knows the parts. Loop thread only; `on_restart` is set by whoever runs the process."""

    def __init__(
        self,
        *,
        node: Node,
        volumes: Volumes,
        archive: ArchiveParts,
        secure_port: SecurePort,
        clock: Clock,
    ) -> None:
        """Begin to count the time."""
        self._node = node
        self._volumes = volumes
        self._archive = archive
        self._secure_port = secure_port
        self._clock = clock
        self._started_at = clock.now()
        self._started_s = clock.monotonic()
        self.on_restart: Callable[[], None] | None = None

    def state(self) -> ServiceAnswer:
        """Return how each part is."""
        return ServiceAnswer(
            version=__version__,
            started_at=at(self._started_at),
            uptime_s=round(self._clock.monotonic() - self._started_s, 1),
            restartable=self.on_restart is not None,
            parts=list(self._parts()),
        )

    def _parts(self) -> Iterator[PartAnswer]:
        states: dict[ListenerState, PartState] = {
            ListenerState.LISTENING: "running",
            ListenerState.FAILED: "failed",
            ListenerState.DISABLED: "stopped",
        }
        for each in self._node.statuses():
            yield PartAnswer(
                name=f"{DICOM}{each.name}",
                kind="dicom",
                state=states[each.state],
                reason=each.reason,
                restartable=each.state is not ListenerState.DISABLED,
            )
        for volume in self._volumes.statuses():
            running = volume.state in READABLE_STATES and not volume.paused
            passing: PartState = "waiting" if volume.state is VolumeState.STARTING else "failed"
            yield PartAnswer(
                name=f"volume {volume.name}",
                kind="volume",
                state="stopped" if volume.paused else "running" if running else passing,
                reason=volume.reason,
                restartable=False,
            )
        yield _plain("index", "index", *self._index())
        port, error = self._secure_port.port, self._secure_port.error
        secure: PartState = "running" if port else "failed" if error else "stopped"
        yield _plain("https", "pages", secure, error)
        scrubber = self._archive.scrubber
        yield _plain("scrub", "background", "stopped" if scrubber.paused else "running", "")

    def _index(self) -> tuple[PartState, str]:
        facts = self._archive.keeper.facts
        if facts.state is IndexState.CLOSED:
            return "stopped", facts.reason
        return ("running" if facts.state is IndexState.OPEN else "waiting"), facts.reason

    async def restart_part(self, name: str) -> None:
        """End a part and begin it anew; raises CommandError for one that cannot be."""
        known = {part.name: part for part in self._parts()}
        if name not in known or not known[name].restartable:
            raise CommandError(
                f"“{name}” cannot be restarted by itself.",
                next_step="Restart the whole service, or see how the part is.",
            )
        await self._node.restart(name.removeprefix(DICOM))

    def restart(self) -> None:
        """End the whole service in order and begin it anew; returns at once."""
        if self.on_restart is None:
            raise CommandError(
                "The service was not started so that it could begin anew.",
                next_step="Restart it as it was started, such as `systemctl restart scrigno`.",
            )
        asyncio.get_running_loop().call_later(ANSWER_FIRST_S, self.on_restart)


def _plain(name: str, kind: PartKind, state: PartState, reason: str) -> PartAnswer:
    return PartAnswer(name=name, kind=kind, state=state, reason=reason, restartable=False)
