# SPDX-License-Identifier: Apache-2.0
"""The send queue, composed: who may still send, what is written down, how the pages see it."""

from collections.abc import Callable, Sequence
from typing import Final

from scrigno.access.access import Access
from scrigno.access.audit import Action, AuditTrail
from scrigno.access.permissions import Permission
from scrigno.archive.retrieve import Retrieval
from scrigno.catalogue.catalogue import Catalogue
from scrigno.core.events import EventBus, StudySent
from scrigno.imaging.workers import ImagingPool
from scrigno.node.outgoing import Outgoing
from scrigno.node.send_model import Course, ObjectState, SendItem, SendObject, SendState
from scrigno.node.send_queue import SendQueue, UnusableDestination
from scrigno.settings.schema import BootConfig, Peer
from scrigno.settings.store import SettingsStore
from scrigno.web.answers import at, moment
from scrigno.web.send_answers import DestinationAnswer, SendItemAnswer, SendObjectAnswer
from scrigno.web.send_answers import ObjectState as StateWord

from .jobs_parts import OPERATOR
from .starter import Starter
from .stores import Common

_WORDS: Final[dict[ObjectState, StateWord]] = {
    ObjectState.WAITING: "waiting",
    ObjectState.SENT: "sent",
    ObjectState.FAILED: "failed",
}


async def start_sending(
    config: BootConfig,
    settings: SettingsStore,
    catalogue: Catalogue,
    retrieval: Retrieval,
    imaging: ImagingPool,
    access: Access,
    audit: AuditTrail,
    common: Common,
    starter: Starter,
    *,
    on_read: Callable[[str], None],
) -> "SendDesk":
    """Open the queue and go on with what waits in it."""
    queue = SendQueue(
        config.state_dir,
        settings=settings,
        catalogue=catalogue,
        outgoing=Outgoing(retrieval, imaging),
        bus=common.bus,
        clock=common.clock,
        counters=common.counters,
        on_read=on_read,
    )

    async def standing(author: str) -> str:
        return await _standing(access, author)

    queue.standing = standing
    _record_ends(common.bus, audit)
    starter.on_stop("send queue", queue.close)
    await queue.open()
    queue.start()
    return SendDesk(queue, settings)


async def _standing(access: Access, author: str) -> str:
    if author == OPERATOR:
        return ""
    for account in await access.accounts.all():
        if account.name == author and not account.disabled:
            if Permission.SEND in account.permissions:
                return ""
            return f"Account {author} no longer has the right “{Permission.SEND}”."
    return f"Account {author} is gone or disabled."


def _record_ends(bus: EventBus, audit: AuditTrail) -> None:
    def sent(event: StudySent) -> None:
        audit.record(
            event.author,
            Action.INSTANCES_TRANSFERRED,
            event.study_uid,
            outcome="failure" if event.failed else "success",
            details={
                "destination": event.destination,
                "sent": str(event.sent),
                "failed": str(event.failed),
            },
        )

    bus.subscribe(StudySent, sent)


class SendDesk:
    """The queue as the API speaks of it."""

    def __init__(self, queue: SendQueue, settings: SettingsStore) -> None:
        """Speak for the queue."""
        self.queue = queue
        self._settings = settings

    async def add(
        self,
        wanted: Sequence[tuple[str, Sequence[str]]],
        destinations: Sequence[str],
        *,
        author: str,
    ) -> list[SendItemAnswer]:
        """Keep an item for each (study, objects) and destination."""
        made = await self.queue.add(wanted, destinations, author=author)
        return [_item(each) for each in made]

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
        found = await self.queue.book.page(
            author=author,
            destination=destination,
            states=[SendState(each) for each in states],
            before=before,
            limit=limit,
        )
        return [_item(each) for each in found]

    async def get(self, item_id: int, *, author: str | None) -> SendItemAnswer:
        """Return an item; with `author` only one of his."""
        return _item(await self.queue.get(item_id, author=author))

    async def objects(
        self, item_id: int, *, states: Sequence[str], after: int, limit: int
    ) -> list[SendObjectAnswer]:
        """Return objects of an item."""
        wanted = [state for state, word in _WORDS.items() if word in states]
        found = await self.queue.book.objects(item_id, states=wanted, after=after, limit=limit)
        return [_object(each) for each in found]

    async def cancel(self, item_id: int) -> SendItemAnswer:
        """Send nothing more of it."""
        return _item(await self.queue.cancel(item_id))

    async def retry(self, item_id: int) -> SendItemAnswer:
        """Try what was not taken, at once."""
        return _item(await self.queue.retry(item_id))

    async def delete(self, item_id: int) -> None:
        """Forget one that has ended."""
        await self.queue.delete(item_id)

    async def destinations(self) -> list[DestinationAnswer]:
        """Return every node of the settings, and those that are gone and still have items."""
        courses = await self.queue.book.courses()
        peers = {each.name: each for each in self._settings.current.peers}
        names = sorted({*peers, *courses}, key=str.casefold)
        return [self._destination(name, peers.get(name), courses.get(name)) for name in names]

    def _destination(
        self, name: str, peer: Peer | None, course: Course | None
    ) -> DestinationAnswer:
        course, reason = course or Course(name=name), ""
        try:
            self.queue.destination(name)
        except UnusableDestination as error:
            reason = error.sentence()
        return DestinationAnswer(
            name=name,
            ae_title=peer.ae_title if peer else "",
            usable=not reason,
            reason=course.reason or reason,
            paused=course.paused,
            paused_by=course.paused_by,
            waiting=course.waiting,
            sending=course.sending,
            failed=course.failed,
            next_at=moment(course.next_at),
        )

    async def pause(self, name: str, *, author: str, reason: str) -> None:
        """Send nothing to a node until `resume`."""
        await self.queue.pause(name, author=author, reason=reason)

    async def resume(self, name: str) -> None:
        """Send to a node again."""
        await self.queue.resume(name)


def _item(item: SendItem) -> SendItemAnswer:
    return SendItemAnswer(
        id=item.id,
        destination=item.destination,
        study_instance_uid=item.study_uid,
        author=item.author,
        state=item.state.value,
        created_at=at(item.created_at),
        ended_at=moment(item.ended_at),
        next_at=moment(item.next_at),
        attempts=item.attempts,
        total=item.total,
        sent=item.sent,
        warned=item.warned,
        failed=item.failed,
        code=item.code,
        comment=item.comment,
    )


def _object(one: SendObject) -> SendObjectAnswer:
    return SendObjectAnswer(
        position=one.position,
        sop_instance_uid=one.sop_instance_uid,
        state=_WORDS[one.state],
        status=one.status,
        code=one.code,
        comment=one.comment,
    )
