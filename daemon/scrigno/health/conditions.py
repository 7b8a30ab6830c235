# SPDX-License-Identifier: Apache-2.0
"""Conditions of the box, derived from facts by pure functions.

A condition holds as long as the facts that made it hold; nothing is remembered here. The texts
name volumes and numbers, never a patient. `code` is stable: alerts, translations and API clients
rely on it, `subject` tells two conditions of one code apart.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from .codes import CLASSES, Level
from .texts import Value, alert_text

# TrueNAS's thresholds, reference of the space levels in the specification (ST-7)
SPACE_NOTICE: Final = 0.85
SPACE_WARNING: Final = 0.90
SPACE_CRITICAL: Final = 0.95
STAGING_WARNING: Final = 0.70
STAGING_CRITICAL: Final = 0.90
# A backup path that is away for a day is no longer a reboot or a network hiccup.
BACKUP_AWAY_CRITICAL_S: Final = 24 * 3600.0
PAUSED_WARNING_S: Final = 24 * 3600.0  # by then somebody forgot to let it go on
LAG_WARNING_S: Final = 3600.0
LAG_CRITICAL_S: Final = 24 * 3600.0
INDEX_BACKUP_WARNING_S: Final = 2 * 24 * 3600.0
STUDIES_WARNING: Final = 0.95
SCRUB_GRACE: Final = 1.1  # of the interval: a pass that began late is not a fault

_WRITABLE: Final = frozenset({"online", "suspect"})
_READABLE: Final = _WRITABLE | {"readonly", "full", "recovering"}
_PASSING: Final = frozenset({"starting"})
_LOST_TO_WRITES: Final = frozenset({"offline", "readonly", "full", "absent", "foreign"})


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeFacts:
    """One volume as its watcher, the catch-up and the scrub see it. None is: not known."""

    name: str
    role: str  # 'data' | 'backup'
    state: str  # volumes.states.VolumeState, in lower case
    reason: str = ""
    away_s: float = 0  # how long it has been in this state
    paused: bool = False  # by the operator; `operator_reason` is what was said then
    operator_reason: str = ""
    total_bytes: int | None = None
    free_bytes: int | None = None
    total_inodes: int | None = None  # None or 0 where the file system makes them as needed
    free_inodes: int | None = None
    owed_objects: int = 0  # objects this volume has not got yet
    oldest_debt_s: float = 0
    catch_up_percent: float | None = None
    catch_up_per_s: float | None = None  # bytes
    catch_up_left_s: float | None = None
    scrub_age_s: float | None = None  # since the last whole pass, or since the volume is there
    scrub_bad: int = 0  # copies found damaged and not repaired yet


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
    index_damage: str = ""  # what the check of its integrity found
    index_mismatch: int = 0  # images on which index and volumes did not agree when last compared
    index_backup_age_s: float | None = None  # None: not known
    pending_objects: int = 0  # in staging, not yet in the index
    inbox_conflicts: int = 0
    inbox_unreadable: int = 0
    inbox_held: int = 0
    inbox_patients: int = 0  # patients with one id and different names or birth dates, undecided
    bad_copies: int = 0
    single_copy_objects: int = 0
    objects_without_good_copy: int = 0
    scrub_every_s: float | None = None  # None: copies are not read anew by themselves
    trash_error: str = ""
    retention_error: str = ""
    studies: int = 0
    max_studies: int | None = None
    audit_error: str = ""
    audit_dropped: int = 0
    audit_damage: str = ""
    settings_error: str = ""
    silent_providers: Mapping[str, str] = field(default_factory=dict)  # name -> reason
    unclaimed: bool = False  # the box has no administrator yet
    stopping: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One thing an operator should know: state, reason, next step. The texts are in English."""

    code: str
    level: Level
    subject: str = ""
    summary: str
    explanation: str
    next_step: str
    values: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether images can be stored and read now, and if not, why (code and sentence)."""

    ready: bool
    reasons: tuple[tuple[str, str], ...] = ()


def condition(
    code: str, *, subject: str = "", level: Level | None = None, **values: Value | None
) -> Condition:
    """Make a condition of a class of `codes`; its usual level unless `level` says otherwise.

    `values` fill the texts; None is a value that is not known. Raises KeyError for another code.
    """
    known = {name: value for name, value in values.items() if value is not None}
    text = alert_text(code, subject, known)
    return Condition(
        code=code,
        level=level or CLASSES[code].level,
        subject=subject,
        summary=text.summary,
        explanation=text.explanation,
        next_step=text.next_step,
        values=known,
    )


def conditions(facts: Facts) -> tuple[Condition, ...]:
    """Return every condition that holds, the worst first, then by code and subject."""
    return in_order(
        [
            *_volumes(facts),
            *_safety(facts),
            *_space(facts),
            *_replication(facts),
            *_staging(facts),
            *_index(facts),
            *_objects(facts),
            *_care(facts),
            *_limits(facts),
            *_box(facts),
        ]
    )


def in_order(found: Iterable[Condition]) -> tuple[Condition, ...]:
    """Return conditions with the worst first, then by code and subject."""
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
    # staging that fails or is full is gone past: images go straight to the volumes
    if not any(_takes(volume) for volume in facts.volumes):
        reasons.append(("no-volume-writable", "No volume can take an image."))
    if not any(volume.state in _READABLE for volume in facts.volumes):
        reasons.append(("no-volume-readable", "No volume can be read."))
    return Readiness(not reasons, tuple(reasons))


def _takes(volume: VolumeFacts) -> bool:
    return volume.state in _WRITABLE and not volume.paused


def _staging_share(facts: Facts) -> float:
    if facts.staging_capacity_bytes <= 0:
        return 0
    return facts.staging_used_bytes / facts.staging_capacity_bytes


_FAULTS: Final = {
    "suspect": "volume-suspect",
    "offline": "volume-offline",
    "readonly": "volume-readonly",
    "full": "volume-full",
    "absent": "volume-absent",
    "foreign": "volume-foreign",
}


def _volumes(facts: Facts) -> Iterator[Condition]:
    for volume in facts.volumes:
        if volume.paused:
            # Its disk may well be out: that is what it was paused for.
            yield condition(
                "volume-paused",
                subject=volume.name,
                level=Level.WARNING if volume.away_s >= PAUSED_WARNING_S else None,
                reason=volume.operator_reason,
            )
        elif volume.state == "recovering":
            yield condition(
                "volume-recovering",
                subject=volume.name,
                percent=volume.catch_up_percent,
                left_s=volume.catch_up_left_s,
                rate_per_s=volume.catch_up_per_s,
                owed=volume.owed_objects,
            )
        elif volume.state in _FAULTS:
            code = _FAULTS[volume.state]
            # A backup path may be away for a while (a share, a disk in the safe) without harm as
            # long as enough copies are made elsewhere; `_safety` says when they are not.
            briefly = volume.role == "backup" and volume.away_s < BACKUP_AWAY_CRITICAL_S
            yield condition(
                code,
                subject=volume.name,
                level=Level.WARNING if briefly else None,
                reason=volume.reason,
            )


def _safety(facts: Facts) -> Iterator[Condition]:
    taking = [volume for volume in facts.volumes if _takes(volume)]
    starting = [volume for volume in facts.volumes if volume.state in _PASSING]
    if not taking and not starting:
        yield condition("no-storage")
    elif facts.devices_available is not None and facts.devices_available < facts.ack_copies:
        yield condition(
            "copies-below-policy", devices=facts.devices_available, wanted=facts.ack_copies
        )
    for volume in facts.volumes:
        if volume.role == "data" and volume.state in _LOST_TO_WRITES and taking:
            yield condition("data-failed-over", subject=volume.name, target=taking[0].name)


def _level_of_use(used: float) -> Level | None:
    steps = (
        (SPACE_CRITICAL, Level.CRITICAL),
        (SPACE_WARNING, Level.WARNING),
        (SPACE_NOTICE, Level.NOTICE),
    )
    return next((level for bound, level in steps if used >= bound), None)


def _space(facts: Facts) -> Iterator[Condition]:
    for volume in facts.volumes:
        if volume.state == "full":
            continue
        if volume.total_bytes and volume.free_bytes is not None:
            used = 1 - volume.free_bytes / volume.total_bytes
            level = _level_of_use(used)
            if level is not None:
                yield condition(
                    "volume-space",
                    subject=volume.name,
                    level=level,
                    used_percent=100 * used,
                    free_bytes=volume.free_bytes,
                )
        if volume.total_inodes and volume.free_inodes is not None:
            used = 1 - volume.free_inodes / volume.total_inodes
            level = _level_of_use(used)
            if level is not None:
                yield condition(
                    "inodes-low",
                    subject=volume.name,
                    level=level,
                    used_percent=100 * used,
                    free=volume.free_inodes,
                )


def _replication(facts: Facts) -> Iterator[Condition]:
    for volume in facts.volumes:
        if volume.owed_objects and volume.oldest_debt_s >= LAG_WARNING_S:
            yield condition(
                "replication-lag",
                subject=volume.name,
                level=Level.CRITICAL if volume.oldest_debt_s >= LAG_CRITICAL_S else None,
                owed=volume.owed_objects,
                age_s=volume.oldest_debt_s,
            )


def _staging(facts: Facts) -> Iterator[Condition]:
    share = _staging_share(facts)
    if facts.staging_error:
        yield condition("staging-failed", reason=facts.staging_error)
    elif share >= STAGING_WARNING:
        level = Level.CRITICAL if share >= STAGING_CRITICAL else None
        yield condition("staging-high", level=level, used_percent=100 * share)


def _index(facts: Facts) -> Iterator[Condition]:
    if facts.index_error:
        yield condition("index-failed", reason=facts.index_error)
    if facts.index_damage:
        yield condition("index-damaged", reason=facts.index_damage)
    if facts.index_mismatch:
        yield condition("index-mismatch", count=facts.index_mismatch)
    age_s = facts.index_backup_age_s
    if age_s is not None and age_s >= INDEX_BACKUP_WARNING_S:
        yield condition("index-backup-old", age_s=age_s)


# code: the fact that counts it; a condition holds while the count is not zero
_COUNTED: Final = {
    "objects-pending": "pending_objects",
    "duplicate-uid-different-content": "inbox_conflicts",
    "objects-unreadable": "inbox_unreadable",
    "objects-held": "inbox_held",
    "patient-id-collision": "inbox_patients",
    "copies-bad": "bad_copies",
    "objects-single-copy": "single_copy_objects",
    "object-without-good-copy": "objects_without_good_copy",
}


def _objects(facts: Facts) -> Iterator[Condition]:
    for code, name in _COUNTED.items():
        count = getattr(facts, name)
        if count:
            yield condition(code, count=count)


def _care(facts: Facts) -> Iterator[Condition]:
    for volume in facts.volumes:
        if volume.scrub_bad:
            yield condition("scrub-bitrot", subject=volume.name, count=volume.scrub_bad)
        wanted_s, age_s = facts.scrub_every_s, volume.scrub_age_s
        if wanted_s is not None and age_s is not None and age_s > wanted_s * SCRUB_GRACE:
            yield condition("scrub-overdue", subject=volume.name, age_s=age_s, wanted_s=wanted_s)
    if facts.trash_error:
        yield condition("trash-failed", reason=facts.trash_error)
    if facts.retention_error:
        yield condition("retention-failed", reason=facts.retention_error)


def _limits(facts: Facts) -> Iterator[Condition]:
    limit = facts.max_studies
    if limit is None or facts.studies < limit * STUDIES_WARNING:
        return
    code = "capacity-reached" if facts.studies >= limit else "capacity-near"
    yield condition(code, studies=facts.studies, limit=limit)


def _box(facts: Facts) -> Iterator[Condition]:
    if facts.audit_error:
        yield condition("audit-write-failed", reason=facts.audit_error, dropped=facts.audit_dropped)
    if facts.audit_damage:
        yield condition("audit-trail-damaged", reason=facts.audit_damage)
    if facts.settings_error:
        yield condition("settings-damaged", reason=facts.settings_error)
    for name, reason in facts.silent_providers.items():
        yield condition("provider-not-listening", subject=name, reason=reason)
    if facts.unclaimed:
        yield condition("setup-code-unclaimed")
