# SPDX-License-Identifier: Apache-2.0
"""Disks and heat: from facts to conditions. Pure.

A counter is judged by its change against what is remembered of the disk (by serial): many disks
live for years with an old scar. A rise is told for two weeks of the disk's own power-on time, so
no step of the clock can bring it back or end it, or until somebody accepts the disk as it is.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from scrigno.host.smart import Counter, Smart
from scrigno.host.smart_judge import COUNTER_SEVERITY, Finding, Judgement, Severity, conditions
from scrigno.host.temperature import Heat, Temperature

from .codes import Level
from .conditions import Condition, condition

RISE_TOLD_H: Final = 14 * 24  # hours of the disk's own clock (power_on_time)

_LEVELS: Final = {
    Severity.NOTICE: Level.NOTICE,
    Severity.WARNING: Level.WARNING,
    Severity.CRITICAL: Level.CRITICAL,
}
# TrueNAS keeps these apart as well (alert/source/smart.py). A hot NVMe is warm, not dying.
_CODES: Final = {
    Finding.FAILING: "disk-smart-failing",
    Finding.PREFAIL: "disk-smart-prefail",
    Finding.SCARS: "disk-smart-prefail",
    Finding.SELF_TEST_FAILED: "disk-selftest-failed",
    Finding.SPARE_LOW: "nvme-critical",
    Finding.UNRELIABLE: "nvme-critical",
    Finding.READ_ONLY: "nvme-critical",
    Finding.BACKUP_FAILED: "nvme-critical",
    Finding.MEMORY_UNRELIABLE: "nvme-critical",
}
_WORDS: Final = {
    Finding.FAILING: "its own verdict is failed",
    Finding.PREFAIL: "an attribute is at its limit",
    Finding.SELF_TEST_FAILED: "the last self-test found an error",
    Finding.SPARE_LOW: "its spare space is used up",
    Finding.UNRELIABLE: "it is not reliable any more",
    Finding.READ_ONLY: "it takes no writes any more",
    Finding.BACKUP_FAILED: "its protection against power cuts has failed",
    Finding.MEMORY_UNRELIABLE: "its memory region has become unreliable or read-only",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rise:
    """A counter that rose."""

    before: int
    now: int
    hours: int | None  # power-on hours of the disk when it last rose


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskMemory:
    """What is remembered of one disk."""

    counters: Mapping[Counter, int] = field(default_factory=dict)
    risen: Mapping[Counter, Rise] = field(default_factory=dict)


def remember(memory: DiskMemory | None, now: Smart) -> DiskMemory:
    """Return what to remember after a reading; one that told nothing changes nothing.

    The first reading of a disk only sets what later ones are held against. A counter that was not
    there before (other firmware, other tool) has not risen.
    """
    known = memory or DiskMemory()
    if now.unread:
        return known
    risen = {counter: rise for counter, rise in known.risen.items() if not _old(rise, now.hours)}
    for counter, value in now.counters.items():
        before = known.counters.get(counter)
        if before is not None and value > before:
            first = risen[counter].before if counter in risen else before
            risen[counter] = Rise(before=first, now=value, hours=now.hours)
    return DiskMemory(counters={**known.counters, **now.counters}, risen=risen)


def _old(rise: Rise, hours: int | None) -> bool:
    return rise.hours is not None and hours is not None and hours - rise.hours >= RISE_TOLD_H


def accepted(memory: DiskMemory) -> DiskMemory:
    """Return the memory of a disk whose rises somebody has seen."""
    return replace(memory, risen={})


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskFacts:
    """One disk: what it is, what it last said of itself, what rose."""

    serial: str
    model: str = ""
    name: str = ""  # the kernel's at this moment
    used_by: tuple[str, ...] = ()
    smart: Smart | None = None  # the last reading that told something; None: none yet
    risen: Mapping[Counter, Rise] = field(default_factory=dict)
    heat: Temperature | None = None

    def place(self) -> str:
        """Return what helps a hand to find it: model, name of the moment, what it is used for."""
        return ", ".join(filter(None, (self.model, self.name, *self.used_by)))


def disk_conditions(disk: DiskFacts) -> Iterator[Condition]:
    """Yield every condition that holds, one for each code."""
    found = conditions(disk.smart) if disk.smart is not None else ()
    by_code: dict[str, list[Judgement]] = {}
    for one in found:
        if code := _CODES.get(one.finding):
            by_code.setdefault(code, []).append(one)
    for code, judgements in by_code.items():
        yield condition(
            code,
            subject=disk.serial,
            level=_worst(judgements),
            reason="; ".join([*map(_said, judgements), disk.place()]).removesuffix("; "),
        )
    for one in found:
        if one.finding is Finding.WORN and one.now is not None:
            yield condition(
                "ssd-wear",
                subject=disk.serial,
                level=_LEVELS[one.severity],
                used_percent=one.now,
            )
    yield from _risen(disk)
    yield from _heat(disk, said_hot=any(one.finding is Finding.TOO_HOT for one in found))


def _worst(found: list[Judgement]) -> Level:
    return max((_LEVELS[one.severity] for one in found), key=lambda level: level.rank)


def _said(one: Judgement) -> str:
    if one.finding is Finding.SCARS:
        return f"{one.now} {one.subject}"
    words = _WORDS[one.finding]
    return f"{words} ({one.subject})" if one.subject else words


def _risen(disk: DiskFacts) -> Iterator[Condition]:
    moved = disk.risen.get(Counter.REALLOCATED)
    if moved is not None:
        yield condition(
            "disk-reallocations-rising",
            subject=disk.serial,
            before=moved.before,
            count=moved.now,
        )
    others = {one: rise for one, rise in disk.risen.items() if one is not Counter.REALLOCATED}
    if others:
        told = (f"{one}: {rise.before} -> {rise.now}" for one, rise in sorted(others.items()))
        yield condition(
            "disk-errors-rising",
            subject=disk.serial,
            level=max(
                (_LEVELS[COUNTER_SEVERITY[one]] for one in others), key=lambda level: level.rank
            ),
            reason="; ".join([*told, disk.place()]).removesuffix("; "),
            before=sum(rise.before for rise in others.values()),
            count=sum(rise.now for rise in others.values()),
        )


def _heat(disk: DiskFacts, *, said_hot: bool) -> Iterator[Condition]:
    heat = disk.heat
    warning_c, critical_c = heat.limits if heat is not None else (None, None)
    if heat is not None and heat.heat is Heat.CRITICAL:
        yield condition(
            "disk-temperature-critical",
            subject=disk.serial,
            temperature_c=heat.current_c,
            limit_c=critical_c,
        )
    elif (heat is not None and heat.heat is Heat.WARM) or said_hot:
        yield condition(
            "disk-temperature-warning",
            subject=disk.serial,
            temperature_c=heat.current_c if heat is not None else None,
            limit_c=warning_c,
        )


def chip_conditions(sensors: tuple[Temperature, ...]) -> Iterator[Condition]:
    """Yield what is too warm beside the disks, the hottest of each chip."""
    hottest: dict[str, Temperature] = {}
    for one in sensors:
        if one.sensor not in hottest or one.current_c > hottest[one.sensor].current_c:
            hottest[one.sensor] = one
    for one in hottest.values():
        if one.heat is Heat.FINE:
            continue
        critical = one.heat is Heat.CRITICAL
        yield condition(
            "temperature-critical" if critical else "temperature-warning",
            subject=" ".join(filter(None, (one.sensor, one.label))),
            temperature_c=one.current_c,
            limit_c=one.limits[1 if critical else 0],
        )
