# SPDX-License-Identifier: Apache-2.0
"""What is still to be told, by channel: survives a restart, bounded. Loop thread only.

An entry is written to the disk soon after it was put in; one that was sent is taken out. After a
crash a message may go out twice, never not at all once it stood on the disk.
"""

import asyncio
import json
import logging
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from scrigno.core.counters import Counters
from scrigno.host.facts import NotAvailable
from scrigno.host.files import write_durably
from scrigno.host.reader import Reader

from .alerts import Change, LineDamaged, from_plain, to_plain

log = logging.getLogger(__name__)

FILE_NAME: Final = "outbox.json"
MOST_OF_A_CHANNEL: Final = 500
WRITE_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One change that a channel has not told yet."""

    change: Change
    queued_at: datetime


class Outbox:
    """Queues of changes, one for each channel."""

    def __init__(self, folder: Path, *, counters: Counters, most: int = MOST_OF_A_CHANNEL) -> None:
        """`folder` is made in the state directory."""
        self._folder = folder
        self._path = folder / FILE_NAME
        self._counters = counters
        self._most = most
        self._queues: dict[str, deque[Item]] = {}
        self._disk = Reader("alert-outbox", at_once=1, timeout_s=WRITE_TIMEOUT_S)
        self._unwritten = asyncio.Event()
        self._failed = False

    async def open(self) -> None:
        """Read what the last run left. Never raises: what cannot be read is logged and lost."""
        content = await self._disk.read("alert outbox", self._read_file)
        if isinstance(content, NotAvailable):
            log.error("alert outbox in %s: %s", self._folder, content.reason)
        elif content is not None:
            try:
                self._queues = _queues(json.loads(content))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                log.error("alert outbox in %s is damaged: %s", self._folder, error)  # noqa: TRY400 - the reason says it all
                self._counters.add("alert_outbox_damaged")

    def put(self, channel: str, item: Item) -> int:
        """Queue one; return how many of the oldest had to go for it."""
        queue = self._queues.setdefault(channel, deque())
        queue.append(item)
        dropped = 0
        while len(queue) > self._most:
            queue.popleft()
            dropped += 1
        self._unwritten.set()
        return dropped

    def waiting(self, channel: str) -> tuple[Item, ...]:
        """Return what is queued, oldest first."""
        return tuple(self._queues.get(channel, ()))

    def done(self, channel: str, items: Iterable[Item]) -> None:
        """Take out what was told or given up."""
        gone = {item.change.sequence for item in items}
        kept = deque(
            item for item in self._queues.get(channel, ()) if item.change.sequence not in gone
        )
        if kept:
            self._queues[channel] = kept
        else:
            self._queues.pop(channel, None)
        self._unwritten.set()

    def keep_only(self, channels: Iterable[str]) -> dict[str, int]:
        """Forget channels that are no more; return how many messages each of them had."""
        gone = self._queues.keys() - set(channels)
        if gone:
            self._unwritten.set()
        return {channel: len(self._queues.pop(channel)) for channel in gone}

    def touch(self) -> None:
        """Have it written once more."""
        self._unwritten.set()

    async def changed(self) -> None:
        """Wait until there is something to write."""
        await self._unwritten.wait()

    async def write(self) -> bool:
        """Write it if something changed; on True it survives power loss. Never raises."""
        if not self._unwritten.is_set():
            return True
        self._unwritten.clear()
        content = json.dumps(self._plain(), ensure_ascii=False).encode("utf-8", "backslashreplace")
        done = await self._disk.read("alert outbox", lambda: self._write_file(content))
        if not isinstance(done, NotAvailable):
            self._failed = False
            return True
        self._unwritten.set()
        self._counters.add("alert_outbox_failures")
        if not self._failed:
            log.error("alert outbox in %s: %s", self._folder, done.reason)
        self._failed = True
        return False

    def _plain(self) -> dict[str, list[dict[str, Any]]]:
        return {
            channel: [
                {"change": to_plain(item.change), "queued_at": item.queued_at.isoformat()}
                for item in queue
            ]
            for channel, queue in self._queues.items()
        }

    def _read_file(self) -> bytes | None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self._path.read_bytes() if self._path.exists() else None

    def _write_file(self, content: bytes) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_durably(self._path, content)


def _queues(plain: Any) -> dict[str, deque[Item]]:
    queues: dict[str, deque[Item]] = {}
    for channel, items in plain.items():
        queue = queues[channel] = deque[Item]()
        for item in items:
            try:
                change = from_plain(item["change"])
            except LineDamaged as error:
                log.warning("alert outbox: an entry of %s is left out: %s", channel, error)
                continue
            queued_at = datetime.fromisoformat(item["queued_at"]).astimezone(UTC)
            queue.append(Item(change=change, queued_at=queued_at))
    return queues
