# SPDX-License-Identifier: Apache-2.0
"""Retention as the settings want it: without a rule of an operator it does nothing at all."""

from scrigno.access.audit import AuditTrail
from scrigno.archive.retention import Retention, RetentionReport, RetentionRule
from scrigno.settings.store import SettingsStore

from .archive_parts import ArchiveParts
from .health_parts import HealthParts
from .in_use import StudiesInUse
from .stores import Common, Stores


def make_retention(
    settings: SettingsStore,
    stores: Stores,
    archive: ArchiveParts,
    health: HealthParts,
    in_use: StudiesInUse,
    audit: AuditTrail,
    common: Common,
) -> Retention:
    """Make it and tie it to what it must know; the caller starts and closes it."""

    def moved(report: RetentionReport) -> None:
        values = {"count": report.moved, "freed_bytes": report.size_bytes}
        health.book.raise_once("retention-deleted", values=values)

    retention = Retention(
        catalogue=stores.catalogue,
        volumes=stores.volumes,
        trash=archive.trash,
        rules=lambda: rules_of(settings),
        clock_trusted=lambda: not health.watch.clock.doubtful,
        clock=common.clock,
        counters=common.counters,
        busy=in_use.is_in_use,
        audit=audit.record,
        on_moved=moved,
    )
    retention.hold = health.watch.hold_background
    return retention


def rules_of(settings: SettingsStore) -> list[RetentionRule]:
    """Return the rules as the settings say now."""
    return [
        RetentionRule(
            name=each.name,
            enabled=each.enabled,
            older_than_days=each.older_than_days,
            unread_for_days=each.unread_for_days,
            modalities=each.modalities,
            copies_elsewhere=each.copies_elsewhere,
            max_studies_per_run=each.max_studies_per_run,
            max_studies_per_day=each.max_studies_per_day,
            only_above_used=_share(each.only_above_used_percent),
        )
        for each in settings.current.care.retention
    ]


def _share(percent: int | None) -> float | None:
    return None if percent is None else percent / 100
