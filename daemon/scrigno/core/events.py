# SPDX-License-Identifier: Apache-2.0
"""What happened, told to whoever listens in this process. Loop thread only."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """The root of all event types."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceStored(Event):
    """An instance was made durable and is in the catalogue."""

    study_uid: str
    series_uid: str
    sop_instance_uid: str
    source: str = field(default="", compare=False)  # calling AE title, or who brought it


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceHeld(Event):
    """An object was kept in the inbox instead of the archive."""

    inbox_id: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyRemoved(Event):
    """A study, or a part of it, went to the trash; lists no longer have it."""

    study_uid: str
    trash_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyReturned(Event):
    """What was in the trash is in the archive again."""

    study_uid: str
    trash_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyPurged(Event):
    """What was in the trash is being removed for good; `scope` is a word of the trash."""

    study_uid: str
    trash_id: int
    scope: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingChanged(Event):
    """Somebody added to a study, or changed what was added; `kind` is a word of `reading`."""

    study_uid: str
    kind: str
    layer: str  # a digest, "" for what all share
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingConflict(Event):
    """Two saved the same at the same time: one of them was refused, nothing was overwritten."""

    study_uid: str
    kind: str
    layer: str
    revision: int  # that stands


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareChanged(Event):
    """A link for guests was made, opened, refused, locked or revoked (`action`)."""

    share_id: str
    action: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerRegistered(Event):
    """An unknown node made contact and stands on the pending list."""

    peer_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociationRefused(Event):
    """A node asked for an association and was turned away; `code` is stable."""

    provider: str
    calling_ae: str
    called_ae: str
    host: str
    code: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectRefused(Event):
    """An image that a node sent was not kept; `code` is that of the error."""

    calling_ae: str
    host: str
    code: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsHandshakeFailed(Event):
    """A peer and the box did not agree on a secure connection."""

    host: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerReplaced(Event):
    """A worker process ended by itself and another one took its place."""

    worker: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexRebuilt(Event):
    """The index was made anew from the images themselves."""

    instances: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeQueried(Event):
    """A node asked what the archive holds and got so many answers."""

    calling_ae: str
    host: str
    answers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRetrieved(Event):
    """A node had objects sent: to itself (`get`) or to `destination` (`move`)."""

    calling_ae: str
    host: str
    how: str
    destination: str
    study_uids: tuple[str, ...]
    completed: int
    failed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeChanged(Event):
    """A volume went from one state to another."""

    volume: str
    before: str
    after: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertChanged(Event):
    """An alert was raised, changed, acknowledged, silenced or cleared (`action`)."""

    alert_id: int
    code: str
    level: str
    subject: str
    action: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyDamaged(Event):
    """A copy was read back and is not what was received.

    `name` is the SOP Instance UID, or the key of an object of the inbox; `problem` is a word of
    `archive.mend.Finding`; `repaired` tells whether a good copy stands in its place now.
    """

    volume: str
    name: str
    problem: str
    repaired: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NoGoodCopy(Event):
    """No good copy of an object could be read; `kind` is a word of `catalogue.fixity.LostKind`."""

    name: str
    kind: str
    away: tuple[str, ...]  # volumes that may have a good one


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsChanged(Event):
    """A new revision of the settings is in force."""

    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JobChanged(Event):
    """A job changed its state or made progress; `state` is a word of its states or "deleted"."""

    job_id: int
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SendChanged(Event):
    """An item of the send queue changed; number 0 speaks of the destination itself."""

    item_id: int
    destination: str
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StudySent(Event):
    """An item of the send queue has ended; `author` asked for it."""

    item_id: int
    destination: str
    study_uid: str
    author: str
    sent: int
    failed: int


E = TypeVar("E", bound=Event)


class EventBus:
    """Calls every subscriber of an event's type at once; a subscriber that raises is logged."""

    def __init__(self) -> None:
        """Start with no subscriber."""
        self._subscribers: dict[type[Event], list[Callable[..., None]]] = {}

    def subscribe(self, kind: type[E], callback: Callable[[E], None]) -> Callable[[], None]:
        """Call `callback` for each event of `kind`; the answer unsubscribes."""
        callbacks = self._subscribers.setdefault(kind, [])
        callbacks.append(callback)

        def unsubscribe() -> None:
            if callback in callbacks:
                callbacks.remove(callback)

        return unsubscribe

    def publish(self, event: Event) -> None:
        """Tell every subscriber; must be quick, subscribers hand longer work to their own task."""
        for callback in tuple(self._subscribers.get(type(event), ())):
            try:
                callback(event)
            except Exception:
                # One listener must not keep the others from hearing, nor harm the publisher.
                log.exception("event %s: a subscriber failed", type(event).__name__)
