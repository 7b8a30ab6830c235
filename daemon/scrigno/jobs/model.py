# SPDX-License-Identifier: Apache-2.0
"""What a job is: its states, its items that failed, its results."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from scrigno.core.sight import EVERYTHING, Sight

JsonObject = dict[str, Any]


class JobState(StrEnum):
    """Where a job is in its life. The words stand in the database and the API."""

    WAITING = "waiting"  # for its turn, also after a restart
    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


# what may become of a job in each state; DONE is final
NEXT: Final[Mapping[JobState, frozenset[JobState]]] = {
    JobState.WAITING: frozenset(
        {JobState.RUNNING, JobState.PAUSED, JobState.CANCELLED, JobState.FAILED}
    ),
    JobState.RUNNING: frozenset(JobState) - {JobState.RUNNING},
    JobState.PAUSED: frozenset({JobState.WAITING, JobState.CANCELLED}),
    JobState.FAILED: frozenset({JobState.WAITING}),
    JobState.CANCELLED: frozenset({JobState.WAITING}),
    JobState.DONE: frozenset(),
}
ENDED: Final = frozenset({JobState.DONE, JobState.FAILED, JobState.CANCELLED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What the author was allowed when the job was started."""

    permissions: frozenset[str] = frozenset()
    sight: Sight = EVERYTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job at one moment. `title` holds no patient data; `params` are its runner's own."""

    id: int
    kind: str
    state: JobState
    author: str
    title: str
    params: JsonObject
    grant: Grant
    checkpoint: JsonObject
    counts: Mapping[str, int]
    failed_items: int  # all of them; the first `book.MOST_ITEMS` are kept with their reasons
    failed_by_code: Mapping[str, int]
    done: int
    total: int | None  # None while it is not known
    note: str  # what it does now, a stable word of its runner
    code: str  # why it failed; stable
    reason: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    runs: int  # without a checkpoint between them
    eta_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedItem:
    """One thing that a job could not do. `ref` is its runner's way to find it again."""

    seq: int
    name: str
    code: str
    reason: str
    ref: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A file that a job made, until it expires."""

    id: int
    job_id: int
    name: str
    media_type: str
    size: int
    digest: str  # SHA-256, hex
    path: Path
    expires_at: datetime
