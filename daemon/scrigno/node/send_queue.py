# SPDX-License-Identifier: Apache-2.0
"""The send queue: durable, one course per destination, tried again until the node takes it (DN-9).

An item goes on where it stopped, after a restart too; an object that the node took is never sent
again within the item. A destination that does not answer delays only its own items.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import ClassVar, Final

from scrigno.catalogue.catalogue import Catalogue
from scrigno.core.clock import Clock
from scrigno.core.counters import Counters
from scrigno.core.errors import ScrignoError
from scrigno.core.events import EventBus, SendChanged, StudySent
from scrigno.db.engine import Database
from scrigno.db.errors import DatabaseDamaged
from scrigno.db.file import set_aside
from scrigno.settings.schema import Peer, PeerState
from scrigno.settings.store import SettingsStore

from .outgoing import Outgoing
from .remote import own_ae_title
from .send_book import SendBook
from .send_model import ENDED, SendItem, SendState
from .send_tables import SCHEMA
from .sending import Sending, Tried

log = logging.getLogger(__name__)

DATABASE_NAME: Final = "send.db"
AT_ONCE: Final = 4  # destinations; each has one association at a time
MOST_OPEN: Final = 10_000  # items that have not ended
MOST_REQUESTED: Final = 2_000  # items in one request
FIRST_WAIT_S: Final = 10.0
LONGEST_WAIT_S: Final = 900.0
GIVE_UP: Final = timedelta(days=3)  # a weekend and a day
KEEP: Final = timedelta(days=30)
CLOSE_GRACE_S: Final = 3.0
LOOK_S: Final = 60.0
PURGE_EVERY_S: Final = 3600.0
TELL_EVERY_S: Final = 1.0


class SendRefused(ScrignoError):
    """The queue cannot do this with the item as it is."""

    code: ClassVar[str] = "send-refused"


class UnknownSendItem(ScrignoError):
    """The queue has no such item."""

    code: ClassVar[str] = "unknown-send-item"


class UnusableDestination(ScrignoError):
    """The node is not known, not approved, or has no address of its own."""

    code: ClassVar[str] = "unusable-destination"


class SendQueueFull(ScrignoError):
    """As many items wait as the queue takes."""

    code: ClassVar[str] = "send-queue-full"


def usable_peer(settings: SettingsStore, name: str) -> Peer:
    """Return the node that can be asked or sent to; raises UnusableDestination."""
    peer = settings.current.peer(name)
    if peer is None:
        raise UnusableDestination(f"There is no node {name}.")
    if peer.state is not PeerState.APPROVED:
        raise UnusableDestination(
            f"Node {name} is {peer.state}.", next_step="An administrator can approve it."
        )
    if peer.host == "*" or "/" in peer.host:
        raise UnusableDestination(
            f"Node {name} is registered without an address of its own.",
            next_step="Enter its address among the nodes.",
        )
    return peer


async def _everybody(_author: str) -> str:
    return ""


class SendQueue:
    """Every item of the box. Loop thread only."""

    def __init__(
        self,
        state_dir: Path,
        *,
        settings: SettingsStore,
        catalogue: Catalogue,
        outgoing: Outgoing,
        bus: EventBus,
        clock: Clock,
        counters: Counters,
        on_read: Callable[[str], None] = lambda _study_uid: None,
        waits: tuple[float, float] = (FIRST_WAIT_S, LONGEST_WAIT_S),
    ) -> None:
        """Name the file; `open` makes it. `waits` are the first and the longest back-off."""
        self._database = Database(state_dir / DATABASE_NAME, SCHEMA, readers=1)
        self.book = SendBook(self._database)
        self._settings = settings
        self._bus = bus
        self._clock = clock
        self._waits = waits
        self._sending = Sending(
            book=self.book,
            catalogue=catalogue,
            outgoing=outgoing,
            counters=counters,
            on_read=on_read,
        )
        self._runs: dict[str, tuple[int, asyncio.Task[None]]] = {}  # by destination
        self._stopping: set[int] = set()  # items that are to stop after the object in hand
        self._stuck: set[int] = set()  # items whose end the queue's own disk did not take
        self._rests: dict[str, datetime] = {}  # destinations that did not answer, until when
        self._wake = asyncio.Event()
        self._keepers: list[asyncio.Task[None]] = []
        self._closing = False
        # what the app knows: why the author may not send (any more), "" when he may
        self.standing: Callable[[str], Awaitable[str]] = _everybody

    # life --------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Open the file; one that cannot be read is set aside and a new one begun."""
        try:
            await self._database.open()
        except DatabaseDamaged as error:
            log.error("send queue: %s It begins anew; the old file is set aside.", error.reason)  # noqa: TRY400
            await asyncio.to_thread(set_aside, self._database.path, self._clock.now())
            await self._database.open()
        await self.book.interrupted()

    def start(self) -> None:
        """Send what waits, from now on."""
        self._wake.set()
        turns = asyncio.create_task(self._turns(), name="send queue")
        purges = asyncio.create_task(self._purges(), name="send queue purge")
        self._keepers = [turns, purges]

    async def close(self) -> None:
        """Stop each course after the object in hand, at most CLOSE_GRACE_S. Idempotent."""
        self._closing = True
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        tasks = [task for _, task in self._runs.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSE_GRACE_S)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await self._database.close()

    # asking ------------------------------------------------------------------------------------

    async def add(
        self,
        wanted: Sequence[tuple[str, Sequence[str]]],
        destinations: Sequence[str],
        *,
        author: str,
    ) -> list[SendItem]:
        """Keep an item for each (study, objects) and destination; they survive power loss.

        Raises UnusableDestination, SendQueueFull.
        """
        for name in destinations:
            self.destination(name)
        requests = [(name, study, uids) for name in destinations for study, uids in wanted]
        if len(requests) > MOST_REQUESTED:
            raise SendQueueFull(
                f"At most {MOST_REQUESTED} items can be asked for at once.",
                next_step="Send fewer studies, or to fewer nodes, at a time.",
            )
        if await self.book.open_count() + len(requests) > MOST_OPEN:
            raise SendQueueFull(
                f"{MOST_OPEN} items wait already.", next_step="Wait, or cancel some."
            )
        made = await self.book.add(requests, author=author, now=self._clock.now())
        for item in made:
            self._tell(item.id, item.destination, item.state)
        self._wake.set()
        return made

    def destination(self, name: str) -> Peer:
        """Return the node that can be sent to; raises UnusableDestination."""
        return usable_peer(self._settings, name)

    async def get(self, item_id: int, *, author: str | None = None) -> SendItem:
        """Return an item; with `author` only one of his. Raises UnknownSendItem."""
        item = await self.book.get(item_id)
        if item is None or author not in (None, item.author):
            raise UnknownSendItem("There is no such item in the send queue.")
        return item

    # changing ----------------------------------------------------------------------------------

    async def cancel(self, item_id: int) -> SendItem:
        """Send nothing more of an item; what the node took it keeps."""
        item = await self.get(item_id)
        if item.state in ENDED:
            raise SendRefused(f"The item is {item.state}.")
        now = self._clock.now()
        words = "Cancelled."
        self._stopping.add(item_id)
        await self.book.end(item_id, SendState.CANCELLED, code="cancelled", comment=words, now=now)
        self._tell(item_id, item.destination, SendState.CANCELLED)
        return await self.get(item_id)

    async def retry(self, item_id: int) -> SendItem:
        """Try every object of an item that was not taken, at once."""
        item = await self.get(item_id)
        if item.state is SendState.DONE or not await self.book.again(item_id, self._clock.now()):
            raise SendRefused(f"The item is {item.state}.", next_step="Send the study again.")
        self._tell(item_id, item.destination, SendState.WAITING)
        self._hurry(item.destination)
        return await self.get(item_id)

    async def delete(self, item_id: int) -> None:
        """Forget an item that has ended."""
        item = await self.get(item_id)
        if not await self.book.delete(item_id):
            raise SendRefused(f"The item is {item.state}.", next_step="Cancel it first.")
        self._bus.publish(
            SendChanged(item_id=item_id, destination=item.destination, state="deleted")
        )

    async def pause(self, name: str, *, author: str, reason: str) -> None:
        """Send nothing to a destination until `resume`; the object in hand is sent."""
        await self.book.pause(name, author=author, reason=reason, now=self._clock.now())
        if name in self._runs:
            self._stopping.add(self._runs[name][0])
        self._bus.publish(SendChanged(item_id=0, destination=name, state="paused"))

    async def resume(self, name: str) -> None:
        """Send to a destination again."""
        await self.book.resume(name)
        self._bus.publish(SendChanged(item_id=0, destination=name, state="resumed"))
        self._hurry(name)

    def _hurry(self, name: str) -> None:
        self._rests.pop(name, None)
        self._wake.set()

    # sending -----------------------------------------------------------------------------------

    async def _turns(self) -> None:
        while True:
            self._wake.clear()
            pause = LOOK_S
            try:
                pause = await self._begin_due()
            except ScrignoError as error:
                log.warning("send queue: %s", error.reason)
            try:
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _begin_due(self) -> float:
        """Begin every course whose turn it is; return seconds until the next look."""
        for item_id in tuple(self._stuck):
            await self.book.put_off(item_id, until=None, attempts=0, code="", comment="")
            self._stuck.discard(item_id)
        pause, now = LOOK_S, self._clock.now()
        for name, item_id, at in sorted(await self.book.turns(), key=lambda turn: turn[2]):
            if name in self._runs or len(self._runs) >= AT_ONCE:
                continue  # its end wakes us
            wait = (max(at, self._rests.get(name, at)) - now).total_seconds()
            if wait > 0:
                pause = min(pause, wait)
            elif await self.book.begin(item_id):
                task = asyncio.create_task(self._run(name, item_id), name=f"send to {name}")
                self._runs[name] = (item_id, task)
        return pause

    async def _run(self, name: str, item_id: int) -> None:
        try:
            await self._try(await self.get(item_id))
        except ScrignoError as error:
            # the queue's own disk: what the node answered is kept in memory and written later
            log.warning("send item %d: %s", item_id, error.reason)
            self._stuck.add(item_id)
            self._rests[name] = self._clock.now() + self._wait(1)
        finally:
            self._stopping.discard(item_id)
            self._runs.pop(name, None)
            self._wake.set()

    async def _try(self, item: SendItem) -> None:
        self._tell(item.id, item.destination, SendState.SENDING)
        refusal = await self.standing(item.author)
        if refusal:
            await self._end(item, SendState.FAILED, "not-allowed", refusal)
            return
        try:
            peer = self.destination(item.destination)
        except UnusableDestination as error:
            await self._end(item, SendState.FAILED, error.code, error.sentence())
            return
        teller = asyncio.create_task(self._tell_progress(item), name="send progress")
        try:
            tried = await self._sending.try_item(
                item, peer, own_ae_title(self._settings), lambda: self._stops(item.id)
            )
        finally:
            teller.cancel()
            await asyncio.gather(teller, return_exceptions=True)
        await self._settle(item, tried)

    async def _settle(self, item: SendItem, tried: Tried) -> None:
        """Decide what becomes of an item after a try."""
        left = await self.book.waiting_uids(item.id)
        if not left:
            now = await self.get(item.id)
            if now.failed:
                words = f"{now.failed} of {now.total} objects were not taken."
                await self._end(item, SendState.FAILED, "objects-failed", words)
            else:
                await self._end(item, SendState.DONE, "", "")
            return
        if not tried.code:  # stopped between two objects: by an operator, or with the box
            await self.book.put_off(item.id, until=None, attempts=0, code="", comment="")
            self._tell(item.id, item.destination, SendState.WAITING)
            return
        moment = self._clock.now()
        if moment - await self.book.since(item.id) > GIVE_UP:
            words = f"Given up after {GIVE_UP.days} days: {tried.words}"
            await self._end(item, SendState.FAILED, tried.code, words)
            return
        attempts = 1 if tried.taken else item.attempts + 1
        if tried.code.startswith("dicom-") and not tried.taken:
            # nobody answers there: the other items need not find out one by one
            self._rests[item.destination] = moment + self._wait(attempts)
        await self.book.put_off(
            item.id,
            until=moment + self._wait(attempts),
            attempts=attempts,
            code=tried.code,
            comment=tried.words,
        )
        self._tell(item.id, item.destination, SendState.WAITING)

    def _wait(self, attempts: int) -> timedelta:
        first, longest = self._waits
        return timedelta(seconds=min(longest, first * 2 ** min(attempts - 1, 20)))

    async def _end(self, item: SendItem, state: SendState, code: str, words: str) -> None:
        if not await self.book.end(item.id, state, code=code, comment=words, now=self._clock.now()):
            return  # cancelled meanwhile, and told then
        now = await self.get(item.id)
        self._tell(item.id, item.destination, state)
        self._bus.publish(
            StudySent(
                item_id=item.id,
                destination=item.destination,
                study_uid=item.study_uid,
                author=item.author,
                sent=now.sent,
                failed=now.total - now.sent,
            )
        )
        log.info(
            "send item %d to %s: %s, %d of %d objects",
            *(item.id, item.destination, state, now.sent, now.total),
        )

    def _stops(self, item_id: int) -> bool:
        return self._closing or item_id in self._stopping

    def _tell(self, item_id: int, destination: str, state: str) -> None:
        self._bus.publish(SendChanged(item_id=item_id, destination=destination, state=state))

    async def _tell_progress(self, item: SendItem) -> None:
        while True:
            await asyncio.sleep(TELL_EVERY_S)
            self._tell(item.id, item.destination, SendState.SENDING)

    async def _purges(self) -> None:
        while True:
            before: datetime = self._clock.now() - KEEP
            try:
                await self.book.purge(before)
            except ScrignoError as error:
                log.warning("send queue: old items stay: %s", error.reason)
            await asyncio.sleep(PURGE_EVERY_S)
