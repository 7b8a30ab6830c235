# SPDX-License-Identifier: Apache-2.0
"""What is to be sent: one study, or some of its objects, to one node, with what became of it."""

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import Final


class SendState(StrEnum):
    """Where an item of the queue is. The words stand in the database and the API."""

    WAITING = "waiting"  # for its turn, or for the next try
    SENDING = "sending"
    DONE = "done"
    FAILED = "failed"  # some objects were not taken and will not be tried again by itself
    CANCELLED = "cancelled"


ENDED: Final = frozenset({SendState.DONE, SendState.FAILED, SendState.CANCELLED})


class ObjectState(IntEnum):
    """What became of one object, as it stands in the table."""

    WAITING = 0
    SENT = 1  # the node said success, or success with a warning: never sent again
    FAILED = 2  # the node, or the object itself, says never


@dataclass(frozen=True, slots=True, kw_only=True)
class SendItem:
    """One item at one moment. `comment` says in words what happened last, `code` stably."""

    id: int
    destination: str  # the name of the node
    study_uid: str
    author: str
    state: SendState
    created_at: datetime
    ended_at: datetime | None
    attempts: int  # in a row without an object that was taken
    next_at: datetime | None  # when it is tried next; None: at once, or never
    total: int
    sent: int
    warned: int  # of the sent ones
    failed: int
    code: str = ""
    comment: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SendObject:
    """One object of an item; `status` is the answer of the node (PS3.7 annex C)."""

    position: int
    sop_instance_uid: str
    state: ObjectState
    status: int | None = None
    code: str = ""
    comment: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """One destination as the queue sees it."""

    name: str
    paused: bool = False
    paused_by: str = ""
    reason: str = ""
    waiting: int = 0
    sending: int = 0
    failed: int = 0
    next_at: datetime | None = None
