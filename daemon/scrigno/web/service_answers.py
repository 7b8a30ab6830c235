# SPDX-License-Identifier: Apache-2.0
"""What the pages see of the service and its parts; the app fills it in."""

from typing import Literal, Protocol

from .shapes import Answer, Moment

PartKind = Literal["dicom", "volume", "index", "pages", "background"]
PartState = Literal["running", "waiting", "failed", "stopped"]


class PartAnswer(Answer):
    """One part of the service; `reason` says why it does not run."""

    name: str
    kind: PartKind
    state: PartState
    reason: str
    restartable: bool


class ServiceAnswer(Answer):
    """The service and its parts."""

    version: str
    started_at: Moment
    uptime_s: float
    restartable: bool
    parts: list[PartAnswer]


class ServiceDesk(Protocol):
    """What can be asked of the service."""

    def state(self) -> ServiceAnswer:
        """Return how each part is."""

    async def restart_part(self, name: str) -> None:
        """End a part and begin it anew; raises for one that cannot be."""

    def restart(self) -> None:
        """End the whole service in order and begin it anew; returns at once."""
