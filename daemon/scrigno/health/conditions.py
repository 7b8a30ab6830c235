# SPDX-License-Identifier: Apache-2.0
"""Conditions of the box, derived from facts by pure functions.

A condition holds as long as the facts that made it hold; nothing is remembered here. The texts
name volumes and numbers, never a patient. `code` is stable: alerts, translations and API clients
rely on it, `subject` tells two conditions of one code apart.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from .codes import Level

# TrueNAS's thresholds, reference of the space levels in the specification (ST-7)
SPACE_NOTICE: Final = 0.85
SPACE_WARNING: Final = 0.90
SPACE_CRITICAL: Final = 0.95
STAGING_WARNING: Final = 0.70
STAGING_CRITICAL: Final = 0.90
# A backup path that is away for a day is no longer a reboot or a network hiccup.
BACKUP_AWAY_CRITICAL_S: Final = 24 * 3600.0
LAG_WARNING_S: Final = 3600.0
INDEX_BACKUP_WARNING_S: Final = 2 * 24 * 3600.0
STUDIES_WARNING: Final = 0.95

_WRITABLE: Final = frozenset({"online", "suspect"})
_READABLE: Final = _WRITABLE | {"readonly", "full", "recovering"}
_PASSING: Final = frozenset({"starting"})


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeFacts:
    """One volume as its watcher sees it."""

    name: str
    role: str  # 'data' | 'backup'
    state: str  # volumes.states.VolumeState, in lower case
    reason: str = ""
    away_s: float = 0  # how long it has been in this state
    total_bytes: int | None = None
    free_bytes: int | None = None
    owed_objects: int = 0  # objects this volume has not got yet
    oldest_debt_s: float = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything that conditions are derived from; the app collects it."""

    volumes: tuple[VolumeFacts, ...]
    ack_copies: int = 2
    devices_available: int | None = None  # distinct devices that take writes, staging included
    staging_used_bytes: int = 0
    staging_capacity_bytes: int = 0
    staging_error: str = ""
    index_error: str = ""
    index_backup_age_s: float | None = None  # None: not known
    pending_objects: int = 0  # in staging, not yet in the index
    inbox_conflicts: int = 0
    inbox_unreadable: int = 0
    inbox_held: int = 0
    bad_copies: int = 0
    studies: int = 0
    max_studies: int | None = None
    stopping: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One thing an operator should know: state, reason, next step."""

    code: str
    level: Level
    subject: str = ""
    summary: str
    explanation: str
    next_step: str
    values: Mapping[str, str | int | float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether images can be stored and read now, and if not, why (code and sentence)."""

    ready: bool
    reasons: tuple[tuple[str, str], ...] = ()


def conditions(facts: Facts) -> tuple[Condition, ...]:
    """Return every condition that holds, the worst first, then by code and subject."""
    found = [
        *_volumes(facts),
        *_safety(facts),
        *_space(facts),
        *_replication(facts),
        *_staging(facts),
        *_index(facts),
        *_objects(facts),
        *_limits(facts),
    ]
    return tuple(sorted(found, key=lambda one: (-one.level.rank, one.code, one.subject)))


def worst(found: tuple[Condition, ...]) -> Level:
    """Return the worst level; INFO when nothing holds."""
    return max((one.level for one in found), key=lambda level: level.rank, default=Level.INFO)


def readiness(facts: Facts) -> Readiness:
    """Tell whether an image can be stored durably and a stored one be found and read."""
    reasons: list[tuple[str, str]] = []
    if facts.stopping:
        reasons.append(("stopping", "The archive is being stopped."))
    if facts.index_error:
        reasons.append(("index-failed", f"The index does not work: {facts.index_error}."))
    if facts.staging_error:
        reasons.append(("staging-failed", f"The staging disk fails: {facts.staging_error}."))
    elif _staging_share(facts) >= 1:
        reasons.append(("staging-full", "The staging disk is full."))
    if not any(volume.state in _WRITABLE for volume in facts.volumes):
        reasons.append(("no-volume-writable", "No volume can take an image."))
    if not any(volume.state in _READABLE for volume in facts.volumes):
        reasons.append(("no-volume-readable", "No volume can be read."))
    return Readiness(not reasons, tuple(reasons))


def _staging_share(facts: Facts) -> float:
    if facts.staging_capacity_bytes <= 0:
        return 0
    return facts.staging_used_bytes / facts.staging_capacity_bytes


_VOLUME_STATES: Final = {
    # state: (code, level, summary, next step)
    "suspect": (
        "volume-suspect",
        Level.WARNING,
        "Volume {name} answers badly",
        "It is being watched; check its disk and cable if this stays.",
    ),
    "offline": (
        "volume-offline",
        Level.CRITICAL,
        "Volume {name} has failed",
        "Check power, cable and disk; replace the disk if it does not come back.",
    ),
    "readonly": (
        "volume-readonly",
        Level.CRITICAL,
        "Volume {name} can only be read",
        "Check the file system and the disk; images go to the other volumes meanwhile.",
    ),
    "full": (
        "volume-full",
        Level.CRITICAL,
        "Volume {name} is full",
        "Make room or add a larger disk; nothing is deleted by itself.",
    ),
    "recovering": (
        "volume-recovering",
        Level.NOTICE,
        "Volume {name} is back and catches up",
        "Nothing to do; leave it connected until it is done.",
    ),
    "absent": (
        "volume-absent",
        Level.CRITICAL,
        "Volume {name} is not there",
        "Connect or mount its disk.",
    ),
    "foreign": (
        "volume-foreign",
        Level.CRITICAL,
        "Another disk stands in the place of volume {name}",
        "Connect the right disk, or adopt this one if it shall replace it.",
    ),
}


def _volumes(facts: Facts) -> Iterator[Condition]:
    for volume in facts.volumes:
        known = _VOLUME_STATES.get(volume.state)
        if known is None:
            continue
        code, level, summary, next_step = known
        # A backup path may be away for a while (a share, a disk in the safe) without harm as
        # long as enough copies are made elsewhere; `_safety` says when they are not.
        briefly = volume.role == "backup" and volume.away_s < BACKUP_AWAY_CRITICAL_S
        if level is Level.CRITICAL and briefly:
            level = Level.WARNING
        yield Condition(
            code=code,
            level=level,
            subject=volume.name,
            summary=summary.format(name=volume.name) + ".",
            explanation=volume.reason or "No reason was reported.",
            next_step=next_step,
        )


def _safety(facts: Facts) -> Iterator[Condition]:
    writable = [volume for volume in facts.volumes if volume.state in _WRITABLE]
    starting = [volume for volume in facts.volumes if volume.state in _PASSING]
    if not writable and not starting:
        yield Condition(
            code="no-storage",
            level=Level.CRITICAL,
            summary="No image can be stored.",
            explanation="Every volume is failed, away, full or read-only; senders are refused.",
            next_step="Bring one volume back.",
        )
    elif facts.devices_available is not None and facts.devices_available < facts.ack_copies:
        yield Condition(
            code="copies-below-policy",
            level=Level.CRITICAL,
            summary=(
                f"New images stand on {facts.devices_available} instead of"
                f" {facts.ack_copies} devices."
            ),
            explanation="Images are still taken in, but one more failed disk could lose them.",
            next_step="Bring the failed volume back or add one on another disk.",
        )


def _space(facts: Facts) -> Iterator[Condition]:
    steps = (
        (SPACE_CRITICAL, Level.CRITICAL),
        (SPACE_WARNING, Level.WARNING),
        (SPACE_NOTICE, Level.NOTICE),
    )
    for volume in facts.volumes:
        if not volume.total_bytes or volume.free_bytes is None or volume.state == "full":
            continue
        used = 1 - volume.free_bytes / volume.total_bytes
        level = next((level for bound, level in steps if used >= bound), None)
        if level is not None:
            yield Condition(
                code="volume-space",
                level=level,
                subject=volume.name,
                summary=f"Volume {volume.name} is {used:.0%} full.",
                explanation="When it is full, images are refused; nothing is deleted by itself.",
                next_step="Plan a larger disk, or set rules of retention.",
            )


def _replication(facts: Facts) -> Iterator[Condition]:
    for volume in facts.volumes:
        if volume.owed_objects and volume.oldest_debt_s >= LAG_WARNING_S:
            hours = volume.oldest_debt_s / 3600
            yield Condition(
                code="replication-lag",
                level=Level.WARNING,
                subject=volume.name,
                summary=f"Volume {volume.name} misses {volume.owed_objects} images.",
                explanation=f"The oldest has been waiting for {hours:.0f} h.",
                next_step="Connect the volume; missing copies are made by themselves.",
            )


def _staging(facts: Facts) -> Iterator[Condition]:
    share = _staging_share(facts)
    if facts.staging_error:
        yield Condition(
            code="staging-failed",
            level=Level.CRITICAL,
            summary="The staging disk fails; no image can be taken in.",
            explanation=facts.staging_error,
            next_step="Check the system disk.",
        )
    elif share >= STAGING_WARNING:
        yield Condition(
            code="staging-high",
            level=Level.CRITICAL if share >= STAGING_CRITICAL else Level.WARNING,
            summary=f"The staging space is {share:.0%} full.",
            explanation="Images wait there until the volumes have their copies.",
            next_step="Bring volumes that are away back, or enlarge the staging space.",
        )


def _index(facts: Facts) -> Iterator[Condition]:
    if facts.index_error:
        yield Condition(
            code="index-failed",
            level=Level.CRITICAL,
            summary="The index does not work; no image can be taken in or found.",
            explanation=facts.index_error,
            next_step="Check the system disk; then restore a backup of the index or rebuild it.",
        )
    if facts.pending_objects:
        yield Condition(
            code="objects-pending",
            level=Level.WARNING,
            summary=f"{facts.pending_objects} images are safe but not in the index yet.",
            explanation="They were left by a failure and are taken in as soon as that works.",
            next_step="Nothing to do unless this stays; then look at the log.",
        )
    age_s = facts.index_backup_age_s
    if age_s is not None and age_s >= INDEX_BACKUP_WARNING_S:
        yield Condition(
            code="index-backup-old",
            level=Level.WARNING,
            summary=f"The last backup of the index is {age_s / 86400:.0f} days old.",
            explanation="Without one a lost index has to be rebuilt from a volume, which is slow.",
            next_step="Look at the volumes' states and the log.",
        )


def _objects(facts: Facts) -> Iterator[Condition]:
    if facts.inbox_conflicts:
        yield Condition(
            code="duplicate-uid-different-content",
            level=Level.CRITICAL,
            summary=f"{facts.inbox_conflicts} images came again with other content.",
            explanation="The first ones are unchanged; the others are kept aside in the inbox.",
            next_step="Compare them in the inbox and decide.",
        )
    if facts.inbox_unreadable:
        yield Condition(
            code="objects-unreadable",
            level=Level.WARNING,
            summary=f"{facts.inbox_unreadable} images cannot be read.",
            explanation="They are kept as received in the inbox, but cannot be found by a query.",
            next_step="Look at their sender.",
        )
    if facts.inbox_held:
        yield Condition(
            code="objects-held",
            level=Level.NOTICE,
            summary=f"{facts.inbox_held} images wait in the inbox.",
            explanation="Their sender is not approved yet.",
            next_step="Approve or block the sender.",
        )
    if facts.bad_copies:
        yield Condition(
            code="copies-bad",
            level=Level.CRITICAL,
            summary=f"{facts.bad_copies} copies are damaged or missing.",
            explanation="They are rewritten from a good copy where there is one.",
            next_step="Check the disk; run a verification.",
        )


def _limits(facts: Facts) -> Iterator[Condition]:
    limit = facts.max_studies
    if limit is None or facts.studies < limit * STUDIES_WARNING:
        return
    reached = facts.studies >= limit
    yield Condition(
        code="capacity-reached" if reached else "capacity-near",
        level=Level.CRITICAL if reached else Level.WARNING,
        summary=f"{facts.studies} of {limit} studies are used.",
        explanation="At the limit, images of new studies are refused.",
        next_step="Raise the limit or remove studies.",
    )
