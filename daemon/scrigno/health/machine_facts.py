# SPDX-License-Identifier: Apache-2.0
"""The machine under the archive: what is known of it, and what that means. Pure.

`MachineFacts` is everything the watch knows at a moment; `machine_conditions` says what of it an
operator should know. The rules of storage and of disks stand in modules of their own.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from scrigno.host.resources import Resources
from scrigno.host.temperature import Temperature
from scrigno.host.ups import Ups, UpsPower

from .codes import Level
from .conditions import Condition, condition, in_order
from .disk_conditions import DiskFacts, chip_conditions, disk_conditions
from .forecast import Forecast
from .storage_conditions import StorageFacts, storage_conditions

DAY_S: Final = 86400.0
# A box that was just started needs some minutes; then nobody answers (TrueNAS looks after 12 h).
UNSYNCHRONISED_S: Final = 15 * 60.0
# A step as large as this, by nobody who disciplines the clock, makes dates worth nothing.
DOUBT_S: Final = DAY_S
CERTIFICATE_NOTICE_S: Final = 30 * DAY_S
CERTIFICATE_WARNING_S: Final = 7 * DAY_S
MEMORY_WARNING_PERCENT: Final = 90.0
MEMORY_CRITICAL_PERCENT: Final = 97.0
LOAD_WARNING: Final = 4.0  # runnable threads for each processor, over five minutes
DESCRIPTORS_WARNING: Final = 0.8
FORECAST_NOTICE_S: Final = 90 * DAY_S
FORECAST_WARNING_S: Final = 30 * DAY_S  # buying a disk takes weeks
FORECAST_CRITICAL_S: Final = 7 * DAY_S
# upsmon.conf(5), DEADTIME: a UPS that was on battery and says nothing for so long counts as low.
UPS_DEAD_S: Final = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SensorFailure:
    """A source that cannot be read."""

    reason: str
    absent: bool = False  # its tool is not installed


@dataclass(frozen=True, slots=True, kw_only=True)
class UpsFacts:
    """The UPS as it last answered."""

    name: str  # as NUT names it, `ups@host`
    last: Ups | None = None  # None: it never answered
    silent_s: float = 0  # how long it has not answered
    silence: str = ""  # why; "" when it does

    @property
    def on_battery(self) -> bool:
        """Tell whether there was no mains power when it last answered."""
        return self.last is not None and self.last.power is UpsPower.BATTERY

    @property
    def asks_to_stop(self) -> bool:
        """Tell whether it has given its last warning (upsmon(8), FSD)."""
        return self.last is not None and "FSD" in self.last.words

    @property
    def low(self) -> bool:
        """Tell whether the power can end at any moment.

        On battery and low, or told to shut down (upsmon(8), "critical"); low alone is a battery
        that is being charged again. Silence that began on battery counts after its dead time.
        """
        if self.last is None:
            return False
        if self.silence and self.on_battery and self.silent_s >= UPS_DEAD_S:
            return True
        return (self.on_battery and self.last.battery_low) or self.asks_to_stop


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockFacts:
    """The clock of the box."""

    synchronised: bool = True
    reason: str = ""
    unsynchronised_s: float = 0
    doubt_s: float = 0  # by how much it was set without having been disciplined since

    @property
    def doubtful(self) -> bool:
        """Tell whether dates cannot be judged by it now."""
        return abs(self.doubt_s) >= DOUBT_S and not self.synchronised


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateFacts:
    """One certificate the box uses."""

    name: str
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineFacts:
    """Everything known of the machine at one moment; None: nothing is known of it."""

    now: datetime
    storage: StorageFacts = field(default_factory=StorageFacts)
    disks: tuple[DiskFacts, ...] = ()
    chips: tuple[Temperature, ...] = ()
    ups: UpsFacts | None = None
    clock: ClockFacts = field(default_factory=ClockFacts)
    certificates: tuple[CertificateFacts, ...] = ()
    resources: Resources | None = None
    forecasts: Mapping[str, Forecast] = field(default_factory=dict)  # by volume
    index_damage: str = ""  # what the check of the index found, given from outside
    failures: Mapping[str, SensorFailure] = field(default_factory=dict)  # by source, in words
    forgotten: Mapping[str, str] = field(default_factory=dict)  # what could not be read -> why


def machine_conditions(facts: MachineFacts) -> tuple[Condition, ...]:
    """Return every condition of the machine that holds, one for each code and subject.

    The worst comes first, then by code and subject. `index_damage` is told with the conditions of
    the archive when the app hands it there; here only when it is given here.
    """
    return in_order(_once(_every(facts)))


def _every(facts: MachineFacts) -> Iterator[Condition]:
    yield from storage_conditions(facts.storage)
    for disk in facts.disks:
        yield from disk_conditions(disk)
    yield from chip_conditions(facts.chips)
    if facts.ups is not None:
        yield from _ups(facts.ups)
    yield from _clock(facts.clock)
    if not facts.clock.doubtful:  # a clock ten years ahead must not expire everything
        for certificate in facts.certificates:
            yield from _certificate(certificate, facts.now)
        for volume, found in facts.forecasts.items():
            yield from _forecast(volume, found, facts.now)
    if facts.resources is not None:
        yield from _resources(facts.resources)
    if facts.index_damage:
        yield condition("index-damaged", reason=facts.index_damage)
    for name, failure in facts.failures.items():
        # a tool that was never installed is no fault that came, so it is told more softly
        level = Level.NOTICE if failure.absent else None
        yield condition("sensor-failed", subject=name, level=level, reason=failure.reason)
    for name, reason in facts.forgotten.items():
        yield condition("machine-memory-damaged", subject=name, reason=reason)


def _once(found: Iterator[Condition]) -> list[Condition]:
    """Return one condition for each code and subject, the worst."""
    kept: dict[tuple[str, str], Condition] = {}
    for one in found:
        key = (one.code, one.subject)
        if key not in kept or one.level.rank > kept[key].level.rank:
            kept[key] = one
    return list(kept.values())


def _ups(ups: UpsFacts) -> Iterator[Condition]:
    if ups.silence:
        yield condition("ups-unreachable", subject=ups.name, reason=ups.silence)
    last = ups.last
    if last is None:
        return
    charge = last.charge_percent
    left_s = None if last.runtime_s is None else round(last.runtime_s)
    if ups.low:
        yield condition("ups-low", subject=ups.name, charge_percent=charge, left_s=left_s)
    if ups.on_battery:
        yield condition("ups-on-battery", subject=ups.name, charge_percent=charge, left_s=left_s)
    if last.replace_battery:
        reason = last.alarm or "the UPS asks for a new battery"
        yield condition("ups-replace-battery", subject=ups.name, reason=reason)
    if "OVER" in last.words:  # NUT developer guide, status data
        yield condition("ups-overloaded", subject=ups.name, load_percent=last.load_percent)


def _clock(clock: ClockFacts) -> Iterator[Condition]:
    if not clock.synchronised and clock.unsynchronised_s >= UNSYNCHRONISED_S:
        yield condition("clock-unsynchronised", reason=clock.reason)


def _certificate(certificate: CertificateFacts, now: datetime) -> Iterator[Condition]:
    left_s = (certificate.expires_at - now).total_seconds()
    day = certificate.expires_at.astimezone(UTC).date().isoformat()
    if left_s <= 0:
        yield condition("certificate-expired", subject=certificate.name, expires_day=day)
    elif left_s <= CERTIFICATE_NOTICE_S:
        yield condition(
            "certificate-expiring",
            subject=certificate.name,
            level=Level.WARNING if left_s <= CERTIFICATE_WARNING_S else Level.NOTICE,
            expires_day=day,
            left_s=_hours(left_s),
        )


def _forecast(volume: str, found: Forecast, now: datetime) -> Iterator[Condition]:
    if found.full_at is None:
        return
    left_s = (found.full_at - now).total_seconds()
    steps = (
        (FORECAST_CRITICAL_S, Level.CRITICAL),
        (FORECAST_WARNING_S, Level.WARNING),
        (FORECAST_NOTICE_S, Level.NOTICE),
    )
    level = next((level for bound, level in steps if left_s <= bound), None)
    if level is not None:
        yield condition(
            "volume-space-forecast",
            subject=volume,
            level=level,
            full_day=found.full_at.date().isoformat(),
            left_s=_hours(left_s),
        )


def _hours(seconds: float) -> int:
    """Return seconds in whole hours, so that an alert does not change every minute."""
    return max(0, round(seconds / 3600) * 3600)


def _resources(found: Resources) -> Iterator[Condition]:
    if found.memory_used_percent >= MEMORY_WARNING_PERCENT:
        critical = found.memory_used_percent >= MEMORY_CRITICAL_PERCENT
        yield condition(
            "memory-high",
            level=Level.CRITICAL if critical else Level.WARNING,
            used_percent=round(found.memory_used_percent),
        )
    if found.load >= LOAD_WARNING * found.processors:
        yield condition("load-high", load=round(found.load, 1), processors=found.processors)
    if found.descriptors >= DESCRIPTORS_WARNING * found.descriptor_limit:
        yield condition("descriptors-high", count=found.descriptors, limit=found.descriptor_limit)
