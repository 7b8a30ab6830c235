# SPDX-License-Identifier: Apache-2.0
"""Every class of alert as data: its code, what it is about, how bad it is, what its texts need.

A code is stable: texts, the API, rules of silence and the operator's own tools rely on it. Two
alerts are the same one when code and subject are equal. The texts stand in `texts/<lang>.json`.

Names of values say their unit, so that each language can write them: `…_percent` 0 to 100,
`…_bytes`, `…_per_s` bytes per second, `…_s` seconds, `…_c` degrees Celsius, `…_day` an ISO date;
any other number is a count. A value is never a patient's name, id or birth date.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Level(StrEnum):
    """How bad it is, in rising order."""

    INFO = "info"
    NOTICE = "notice"
    WARNING = "warning"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """Return 0 for the mildest level and more for a worse one."""
        return _RANK[self]


_RANK: Final = {level: rank for rank, level in enumerate(Level)}


class Category(StrEnum):
    """What an alert is about."""

    VOLUME = "volume"
    IMAGES = "images"
    INDEX = "index"
    DISK = "disk"
    MACHINE = "machine"
    POWER = "power"
    NODE = "node"
    SECURITY = "security"
    SYSTEM = "system"


class Kind(StrEnum):
    """How an alert ends."""

    CONDITION = "condition"  # holds as long as the facts say so, then it is cleared
    EVENT = "event"  # happened once; ages out


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertClass:
    """One class of alert. `level` is the usual one; whoever raises it may name another."""

    code: str
    category: Category
    level: Level
    kind: Kind
    subject: str  # what `subject` names; "" when there is only one of its kind
    values: frozenset[str]  # what its texts may name besides `subject`
    data_at_risk: bool  # images could be lost: silencing a critical one is said aloud


def _line(kind: Kind, category: Category, level: Level, code: str, names: str) -> AlertClass:
    """Read `[!][subject:] value value`, the short form of the table below."""
    subject, _, values = names.removeprefix("!").rpartition(":")
    return AlertClass(
        code=code,
        category=category,
        level=level,
        kind=kind,
        subject=subject.strip(),
        values=frozenset(values.split()),
        data_at_risk=names.startswith("!"),
    )


_INFO, _NOTICE, _WARNING, _CRITICAL = Level
# code: (level, names); "!" marks data at risk, the word before ":" says what the subject names
_CONDITIONS: Final[dict[Category, dict[str, tuple[Level, str]]]] = {
    Category.VOLUME: {
        "volume-suspect": (_WARNING, "volume: reason"),
        "volume-offline": (_CRITICAL, "!volume: reason"),
        "volume-readonly": (_CRITICAL, "volume: reason"),
        "volume-full": (_CRITICAL, "volume: reason"),
        "volume-recovering": (_NOTICE, "volume: percent left_s rate_per_s owed"),
        "volume-absent": (_CRITICAL, "!volume: reason"),
        "volume-foreign": (_CRITICAL, "!volume: reason"),
        "volume-paused": (_NOTICE, "volume: reason"),
        "data-failed-over": (_CRITICAL, "volume: target"),
        "copies-below-policy": (_CRITICAL, "!devices wanted"),
        "no-storage": (_CRITICAL, "!"),
        "volume-space": (_NOTICE, "volume: used_percent free_bytes"),
        "volume-space-forecast": (_NOTICE, "volume: full_day left_s"),
        "inodes-low": (_WARNING, "volume: used_percent free"),
        "replication-lag": (_WARNING, "!volume: owed age_s"),
        "staging-failed": (_CRITICAL, "!reason"),
        "staging-high": (_WARNING, "used_percent"),
        "system-space-low": (_WARNING, "folder: used_percent free_bytes"),
    },
    Category.IMAGES: {
        "objects-single-copy": (_CRITICAL, "!count"),
        "object-without-good-copy": (_CRITICAL, "!count"),
        "copies-bad": (_CRITICAL, "!count"),
        "scrub-bitrot": (_CRITICAL, "!volume: count"),
        "scrub-overdue": (_WARNING, "volume: age_s wanted_s"),
        "objects-pending": (_WARNING, "count"),
        "duplicate-uid-different-content": (_CRITICAL, "!count"),
        "objects-unreadable": (_WARNING, "count"),
        "objects-held": (_NOTICE, "count"),
        "patient-id-collision": (_WARNING, "count"),
        "trash-failed": (_WARNING, "reason"),
        "retention-failed": (_WARNING, "reason"),
        "capacity-near": (_WARNING, "studies limit"),
        "capacity-reached": (_CRITICAL, "studies limit"),
    },
    Category.INDEX: {
        "index-failed": (_CRITICAL, "reason"),
        "index-damaged": (_CRITICAL, "reason"),
        "index-backup-old": (_WARNING, "age_s"),
        "index-mismatch": (_WARNING, "count"),
    },
    Category.DISK: {
        "raid-degraded": (_CRITICAL, "!array: present wanted reason"),
        "raid-failed": (_CRITICAL, "!array: reason"),
        "raid-missing": (_CRITICAL, "!array: reason"),
        "raid-rebuilding": (_INFO, "array: percent left_s"),
        "raid-mismatch": (_WARNING, "array: count"),
        "raid-spare-missing": (_WARNING, "array: present wanted"),
        "array-foreign": (_NOTICE, "array: reason"),
        "member-replaced": (_NOTICE, "array: reason"),
        "volume-moved": (_NOTICE, "volume: reason"),
        "disk-missing": (_CRITICAL, "!disk: reason"),
        "disk-blank": (_NOTICE, "disk: size_bytes"),
        "disk-unknown": (_NOTICE, "disk: size_bytes"),
        "disk-smart-failing": (_CRITICAL, "!disk: reason"),
        "disk-smart-prefail": (_WARNING, "disk: reason"),
        "disk-selftest-failed": (_WARNING, "disk: reason"),
        "disk-reallocations-rising": (_WARNING, "disk: before count"),
        "disk-errors-rising": (_WARNING, "disk: reason before count"),
        "disk-temperature-warning": (_WARNING, "disk: temperature_c limit_c"),
        "disk-temperature-critical": (_CRITICAL, "disk: temperature_c limit_c"),
        "ssd-wear": (_WARNING, "disk: used_percent"),
        "nvme-critical": (_CRITICAL, "!disk: reason"),
        "filesystem-errors": (_CRITICAL, "!filesystem: reason count"),
    },
    Category.MACHINE: {
        "temperature-warning": (_WARNING, "sensor: temperature_c limit_c"),
        "temperature-critical": (_CRITICAL, "sensor: temperature_c limit_c"),
        "fan-failed": (_CRITICAL, "fan: reason"),
        "power-supply-failed": (_CRITICAL, "power supply: reason"),
        "memory-errors": (_WARNING, "memory module: count"),
        "memory-high": (_WARNING, "used_percent"),
        "load-high": (_NOTICE, "load processors"),  # images still arrive; nobody must get up
        "descriptors-high": (_WARNING, "count limit"),
        "clock-unsynchronised": (_WARNING, "reason"),
        "sensor-failed": (_WARNING, "sensor: reason"),
        "machine-memory-damaged": (_NOTICE, "what: reason"),
    },
    Category.POWER: {
        "ups-on-battery": (_CRITICAL, "UPS: charge_percent left_s"),
        "ups-low": (_CRITICAL, "UPS: charge_percent left_s"),
        "ups-unreachable": (_CRITICAL, "UPS: reason"),
        "ups-replace-battery": (_CRITICAL, "UPS: reason"),
        "ups-overloaded": (_WARNING, "UPS: load_percent"),
    },
    Category.NODE: {
        "provider-not-listening": (_CRITICAL, "provider: reason"),
    },
    Category.SECURITY: {
        "certificate-expiring": (_NOTICE, "certificate: expires_day left_s"),
        "certificate-expired": (_CRITICAL, "certificate: expires_day"),
        "audit-write-failed": (_CRITICAL, "reason dropped"),
        "audit-trail-damaged": (_CRITICAL, "reason"),
        "audit-syslog-failed": (_WARNING, "reason waiting"),
        "setup-code-unclaimed": (_NOTICE, ""),
    },
    Category.SYSTEM: {
        "settings-damaged": (_CRITICAL, "reason"),
        "alert-channel-failed": (_CRITICAL, "channel: reason waiting"),
        "webhook-failed": (_WARNING, "webhook: reason count"),
        "alert-history-damaged": (_WARNING, "place: reason"),
    },
}
_EVENTS: Final[dict[Category, dict[str, tuple[Level, str]]]] = {
    Category.IMAGES: {
        "scrub-repaired": (_WARNING, "volume: count"),
        "retention-deleted": (_INFO, "count freed_bytes"),
        "objects-rejected": (_WARNING, "sender: count reason"),
    },
    Category.INDEX: {
        "index-rebuilt": (_NOTICE, "count"),
    },
    Category.DISK: {
        "disk-pulled": (_CRITICAL, "!disk: reason"),
        "disk-inserted": (_INFO, "disk: size_bytes"),
        "topology-changed": (_NOTICE, "reason"),
    },
    Category.MACHINE: {
        "clock-step": (_WARNING, "step_s"),
    },
    Category.POWER: {
        "ups-shutdown": (_CRITICAL, "UPS: reason"),
    },
    Category.NODE: {
        "unknown-node": (_WARNING, "sender: host"),
        "association-limit": (_WARNING, "limit"),
        "tls-handshake-failed": (_WARNING, "host: reason"),
    },
    Category.SECURITY: {
        "login-failures": (_WARNING, "host: count"),
        "admin-login": (_NOTICE, "user: host"),
        "settings-changed": (_NOTICE, "user: revision"),
    },
    Category.SYSTEM: {
        "service-crashed": (_CRITICAL, "reason"),
        "worker-replaced": (_WARNING, "worker: reason"),
        "alerts-dropped": (_WARNING, "channel: count"),
    },
}


def _classes() -> dict[str, AlertClass]:
    tables = ((Kind.CONDITION, _CONDITIONS), (Kind.EVENT, _EVENTS))
    return {
        code: _line(kind, category, level, code, names)
        for kind, table in tables
        for category, lines in table.items()
        for code, (level, names) in lines.items()
    }


CLASSES: Final = _classes()
