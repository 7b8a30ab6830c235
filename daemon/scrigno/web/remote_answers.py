# SPDX-License-Identifier: Apache-2.0
"""What the pages ask of other nodes; the app fills it in."""

from collections.abc import Mapping
from typing import Protocol

from scrigno.catalogue.query import Level

from .shapes import Answer


class RemoteRowAnswer(Answer):
    """One match: its attributes by keyword (PS3.6), and whether the study is in the archive."""

    values: dict[str, str]
    in_archive: bool


class RemoteNodeAnswer(Answer):
    """What one node answered; `code` is "" when it did, `complete` false when there is more."""

    node: str
    rows: list[RemoteRowAnswer]
    complete: bool
    code: str
    detail: str
    seconds: float


class RemoteAnswer(Answer):
    """What each node answered."""

    answers: list[RemoteNodeAnswer]


class RemoteDesk(Protocol):
    """Asks other nodes."""

    async def find(
        self, node: str, level: Level, keys: Mapping[str, str], *, limit: int
    ) -> RemoteNodeAnswer:
        """Ask one node; never raises for what it does, `in_archive` is left false."""

    def check(self, level: Level, keys: Mapping[str, str]) -> None:
        """Raise for keys that the level has not."""

    def require_node(self, name: str) -> None:
        """Raise for a node that cannot be asked."""
