# SPDX-License-Identifier: Apache-2.0
"""The UPS as Network UPS Tools tells it: `upsc NAME@HOST` (upsc(8), nut-names)."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from .facts import FactsUnreadable, key_values, number

_TOOL: Final = "upsc"


class UpsPower(StrEnum):
    """Where the power comes from."""

    MAINS = "mains"
    BATTERY = "battery"
    OFF = "off"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ups:
    """One UPS at one moment."""

    model: str
    power: UpsPower
    words: frozenset[str]  # of ups.status: OL, OB, LB, RB, CHRG, FSD …
    battery_low: bool  # LB or FSD: finish, sync and stop now
    replace_battery: bool
    charge_percent: float | None = None
    runtime_s: float | None = None
    load_percent: float | None = None
    alarm: str = ""


def parse_upsc(text: str) -> Ups:
    """Return what `upsc` printed; raises FactsUnreadable when there is no status in it.

    `upsc` prints variables on stdout and reasons ("Driver not connected", "Data stale") on stderr;
    with only a reason there is no status, and the UPS is unknown, not fine.
    """
    values = key_values(text, ":")
    if not (words := frozenset(values.get("ups.status", "").split())):
        raise FactsUnreadable(_TOOL, "no ups.status")
    return Ups(
        model=" ".join(filter(None, (values.get("ups.mfr"), values.get("ups.model")))),
        power=_power(words),
        words=words,
        battery_low=bool(words & {"LB", "FSD"}),
        replace_battery="RB" in words,
        charge_percent=number(values.get("battery.charge")),
        runtime_s=number(values.get("battery.runtime")),
        load_percent=number(values.get("ups.load")),
        alarm=values.get("ups.alarm", ""),
    )


def _power(words: frozenset[str]) -> UpsPower:
    # OB wins: some drivers keep OL beside it for a moment while switching
    for word, power in (("OB", UpsPower.BATTERY), ("OFF", UpsPower.OFF), ("OL", UpsPower.MAINS)):
        if word in words:
            return power
    return UpsPower.UNKNOWN
