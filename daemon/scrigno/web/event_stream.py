# SPDX-License-Identifier: Apache-2.0
"""What happens in the box, as server-sent events (HTML Living Standard, section 9.2).

An event holds identifiers and states, never a name or a value of a patient: whoever hears one asks
the API for what he may see. A listener that is slow loses its stream and asks anew: nothing is
kept for it beyond `MOST_WAITING`.
"""

import asyncio
import json
from collections.abc import Callable
from typing import Any, Final

from aiohttp import web

from scrigno.access.sessions import Session
from scrigno.core.events import (
    AlertChanged,
    Event,
    EventBus,
    InstanceHeld,
    InstanceStored,
    JobChanged,
    PeerRegistered,
    ReadingChanged,
    ReadingConflict,
    SendChanged,
    SettingsChanged,
    ShareChanged,
    StudyRemoved,
    StudyReturned,
    VolumeChanged,
)
from scrigno.core.sight import Sight

from .errors import TooManyListeners
from .guard import caller
from .rooms import Rooms
from .routes import For, Route

MOST_LISTENERS: Final = 256
MOST_WAITING: Final = 64
BEAT_S: Final = 5.0  # something is sent at least so often, and ended sessions are noticed
STUDIES_EVERY_S: Final = 1.0  # a study being received is told once in this time
MOST_STUDIES: Final = 100  # named at once; more are told as "many"

Message = tuple[str, dict[str, Any]]
_OF_STUDIES: Final = frozenset({"studies", "reading", "reading-conflict"})
Heard = Callable[[Any], None]


class EventHub:
    """Hands events of the bus to every open stream. Loop thread only."""

    def __init__(self, bus: EventBus) -> None:
        """Listen from now on."""
        self._streams: set[asyncio.Queue[Message | None]] = set()
        self._studies: dict[str, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        told: tuple[tuple[type[Event], Heard], ...] = (
            (VolumeChanged, self._volume),
            (AlertChanged, self._alert),
            (InstanceStored, self._study_changed),
            (StudyRemoved, self._study_changed),
            (StudyReturned, self._study_changed),
            (InstanceHeld, lambda event: self._tell("inbox", {"id": event.inbox_id})),
            (PeerRegistered, lambda event: self._tell("peers", {"name": event.peer_name})),
            (SettingsChanged, lambda event: self._tell("settings", {"revision": event.revision})),
            (
                JobChanged,
                lambda event: self._tell("job", {"id": event.job_id, "state": event.state}),
            ),
            (SendChanged, self._send),
            (ReadingChanged, lambda event: self._reading("reading", event)),
            (ReadingConflict, lambda event: self._reading("reading-conflict", event)),
            (
                ShareChanged,
                lambda event: self._tell("share", {"id": event.share_id, "action": event.action}),
            ),
        )
        self._unsubscribe = [bus.subscribe(kind, heard) for kind, heard in told]

    def close(self) -> None:
        """End every stream; idempotent."""
        for unsubscribe in self._unsubscribe:
            unsubscribe()
        if self._timer is not None:
            self._timer.cancel()
        for stream in tuple(self._streams):
            self._end(stream)

    def open(self) -> asyncio.Queue[Message | None]:
        """Begin a stream; None in it means that it has ended. Raises TooManyListeners."""
        if len(self._streams) >= MOST_LISTENERS:
            raise TooManyListeners(f"{MOST_LISTENERS} pages listen already.")
        stream: asyncio.Queue[Message | None] = asyncio.Queue(MOST_WAITING + 1)
        self._streams.add(stream)
        return stream

    def leave(self, stream: asyncio.Queue[Message | None]) -> None:
        """Forget a stream."""
        self._streams.discard(stream)

    def _end(self, stream: asyncio.Queue[Message | None]) -> None:
        self._streams.discard(stream)
        while stream.full():
            stream.get_nowait()
        stream.put_nowait(None)

    def _tell(self, name: str, content: dict[str, Any]) -> None:
        for stream in tuple(self._streams):
            if stream.qsize() >= MOST_WAITING:
                self._end(stream)
            else:
                stream.put_nowait((name, content))

    def _volume(self, event: VolumeChanged) -> None:
        self._tell("volume", {"name": event.volume, "state": event.after})

    def _send(self, event: SendChanged) -> None:
        content = {"id": event.item_id, "destination": event.destination, "state": event.state}
        self._tell("send", content)

    def _reading(self, name: str, event: ReadingChanged | ReadingConflict) -> None:
        content = {
            "study_instance_uid": event.study_uid,
            "kind": event.kind,
            "layer": event.layer,
            "revision": event.revision,
        }
        self._tell(name, content)

    def _alert(self, event: AlertChanged) -> None:
        content = {
            "id": event.alert_id,
            "code": event.code,
            "level": event.level,
            "action": event.action,
        }
        self._tell("alert", content)

    def _study_changed(self, event: InstanceStored | StudyRemoved | StudyReturned) -> None:
        if not self._streams:
            return
        self._studies[event.study_uid] = None
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(STUDIES_EVERY_S, self._tell_studies)

    def _tell_studies(self) -> None:
        self._timer = None
        studies, self._studies = list(self._studies), {}
        self._tell("studies", {"uids": studies} if len(studies) <= MOST_STUDIES else {"many": True})


def _as_heard(message: Message, session: Session) -> Message:
    """Return an event as a session may hear it: studies that it may not see are not named."""
    name, content = message
    if name in _OF_STUDIES and not session.sight.everything:
        uids = session.sight.study_uids or frozenset()
        named = (
            session.sight == Sight(study_uids=uids) and content.get("study_instance_uid") in uids
        )
        return name, content if named else {"many": True}
    if name == "share" and session.guest:
        return name, {"many": True}
    return name, content


def event_route(hub: EventHub) -> Route:
    """Return the route of the stream."""

    async def listen(request: web.Request, rooms: Rooms) -> Any:
        stream = hub.open()
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}
        )
        try:
            await response.prepare(request)
            await response.write(b"retry: 2000\n\n")
            # a session that has ended hears no more
            while (heard_by := caller(request, rooms)) is not None:
                try:
                    async with asyncio.timeout(BEAT_S):
                        message = await stream.get()
                except TimeoutError:
                    await response.write(b": still here\n\n")
                    continue
                if message is None:
                    break
                name, content = _as_heard(message, heard_by.session)
                await response.write(f"event: {name}\ndata: {json.dumps(content)}\n\n".encode())
        except ConnectionError:
            pass  # the listener has gone, which is how most streams end
        finally:
            hub.leave(stream)
        return response

    return Route(
        method="GET",
        path="/events",
        work=listen,
        allowed=For.SESSIONS,
        about="Server-sent events, ids only: volume, alert, studies, inbox, peers, settings, job, "
        "send, reading, reading-conflict, share",
        answers="text/event-stream",
        errors=("too-many-listeners",),
    )
