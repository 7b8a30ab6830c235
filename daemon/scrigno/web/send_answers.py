# SPDX-License-Identifier: Apache-2.0
"""What the pages see of the send queue, and what they ask of it; the app fills it in."""

from collections.abc import Sequence
from typing import Literal, Protocol

from .shapes import Answer, Moment

State = Literal["waiting", "sending", "done", "failed", "cancelled"]
ObjectState = Literal["waiting", "sent", "failed"]


class SendItemAnswer(Answer):
    """One study on its way to one node. `comment` says what happened last, `code` stably."""

    id: int
    destination: str
    study_instance_uid: str
    author: str
    state: State
    created_at: Moment
    ended_at: Moment | None
    next_at: Moment | None
    attempts: int
    total: int
    sent: int
    warned: int
    failed: int
    code: str
    comment: str


class SendItemsAnswer(Answer):
    """Items of the queue, the newest first."""

    items: list[SendItemAnswer]


class SendObjectAnswer(Answer):
    """One object of an item; `status` is the node's answer (PS3.7 annex C)."""

    position: int
    sop_instance_uid: str
    state: ObjectState
    status: int | None
    code: str
    comment: str


class SendObjectsAnswer(Answer):
    """Objects of an item in their order."""

    objects: list[SendObjectAnswer]


class DestinationAnswer(Answer):
    """A node that can be sent to, or has items, and how its course goes."""

    name: str
    ae_title: str
    usable: bool
    reason: str
    paused: bool
    paused_by: str
    waiting: int
    sending: int
    failed: int
    next_at: Moment | None


class DestinationsAnswer(Answer):
    """The nodes that can be sent to."""

    destinations: list[DestinationAnswer]


class SendDesk(Protocol):
    """What the queue does for the pages."""

    async def add(
        self,
        wanted: Sequence[tuple[str, Sequence[str]]],
        destinations: Sequence[str],
        *,
        author: str,
    ) -> list[SendItemAnswer]:
        """Keep an item for each (study, objects) and destination."""

    async def page(
        self,
        *,
        author: str | None,
        destination: str | None,
        states: Sequence[str],
        before: int,
        limit: int,
    ) -> list[SendItemAnswer]:
        """Return items, the newest first."""

    async def get(self, item_id: int, *, author: str | None) -> SendItemAnswer:
        """Return an item; with `author` only one of his."""

    async def objects(
        self, item_id: int, *, states: Sequence[str], after: int, limit: int
    ) -> list[SendObjectAnswer]:
        """Return objects of an item."""

    async def cancel(self, item_id: int) -> SendItemAnswer:
        """Send nothing more of it."""

    async def retry(self, item_id: int) -> SendItemAnswer:
        """Try what was not taken, at once."""

    async def delete(self, item_id: int) -> None:
        """Forget one that has ended."""

    async def destinations(self) -> list[DestinationAnswer]:
        """Return every node that can be sent to or has items."""

    async def pause(self, name: str, *, author: str, reason: str) -> None:
        """Send nothing to a node until `resume`."""

    async def resume(self, name: str) -> None:
        """Send to a node again."""
