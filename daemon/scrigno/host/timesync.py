# SPDX-License-Identifier: Apache-2.0
"""Whether the clock is disciplined, and whether it stepped.

The kernel knows, whoever disciplines it (timesyncd, chrony, ntpd): `adjtimex` with no mode is
allowed to everybody. Where a unit's ProtectClock= forbids the call, `timedatectl show` tells.
"""

import ctypes
import os
import time
from dataclasses import dataclass
from typing import Final

from .facts import FactsUnreadable, key_values

COMMAND: Final = ("timedatectl", "show")
STA_UNSYNC: Final = 0x0040  # include/uapi/linux/timex.h
TIME_ERROR: Final = 5
STEP_THRESHOLD_S: Final = 1.0  # slewing moves 0.5 ms a second at most, so no slew looks like a step


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockState:
    """What is known of the clock's discipline."""

    synchronised: bool
    source: str  # "kernel" or "timedatectl"
    error_s: float | None = None  # the kernel's bound on it; grows while nobody disciplines


class _Timex(ctypes.Structure):
    _fields_ = (  # struct timex, adjtimex(2)
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),  # never read; far over what the kernel writes
    )


def read_kernel_clock() -> ClockState:
    """Return the kernel's word; raises FactsUnreadable where the call is forbidden."""
    record = _Timex()
    library = ctypes.CDLL(None, use_errno=True)
    outcome = library.adjtimex(ctypes.byref(record))
    if outcome < 0:
        raise FactsUnreadable("adjtimex", os.strerror(ctypes.get_errno()))
    return ClockState(
        synchronised=outcome != TIME_ERROR and not record.status & STA_UNSYNC,
        source="kernel",
        error_s=record.maxerror / 1e6,
    )


def parse_timedatectl(text: str) -> ClockState:
    """Return the facts of `timedatectl show`; raises FactsUnreadable."""
    match key_values(text).get("NTPSynchronized"):
        case "yes":
            return ClockState(synchronised=True, source="timedatectl")
        case "no":
            return ClockState(synchronised=False, source="timedatectl")
        case _:
            raise FactsUnreadable("timedatectl", "no NTPSynchronized")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockSample:
    """Wall clock and elapsed time, read together."""

    wall_s: float
    elapsed_s: float  # CLOCK_BOOTTIME: goes on while suspended, so waking up is no step


def sample_clock() -> ClockSample:
    """Return both clocks now."""
    return ClockSample(
        wall_s=time.clock_gettime(time.CLOCK_REALTIME),
        elapsed_s=time.clock_gettime(time.CLOCK_BOOTTIME),
    )


def step_s(
    before: ClockSample, after: ClockSample, *, threshold_s: float = STEP_THRESHOLD_S
) -> float | None:
    """Return by how much the wall clock was set (forward positive), None when it was not."""
    moved = (after.wall_s - before.wall_s) - (after.elapsed_s - before.elapsed_s)
    return moved if abs(moved) >= threshold_s else None
