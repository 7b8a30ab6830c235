# SPDX-License-Identifier: Apache-2.0
"""The parts a simulated machine is made of."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from .blockdevices import DiskId
from .smart import DiskProtocol, Exit, Smart

TERABYTE: Final = 10**12


@dataclass(slots=True, kw_only=True)
class SimulatedDisk:
    """One disk, in the box or in a drawer."""

    serial: str
    model: str = "SIMULATED"
    size_bytes: int = 4 * TERABYTE
    letter: str = ""  # "" while pulled
    blank: bool = True
    hung: bool = False
    celsius: float = 34.0
    completed: int = 0
    smart: Smart = field(init=False)

    def __post_init__(self) -> None:
        self.smart = Smart(
            protocol=DiskProtocol.ATA,
            model=self.model,
            serial=self.serial,
            exit=Exit(0),
            passed=True,
            hours=1000,
            temperature_c=round(self.celsius),
        )

    @property
    def id(self) -> DiskId:
        """Return its id as the block tree tells it."""
        return DiskId(f"serial:{self.model}:{self.serial}")


@dataclass(slots=True, kw_only=True)
class SimulatedMirror:
    """One md RAID1: two slots, each a serial or empty."""

    name: str
    uuid: str
    slots: list[str | None]
    spares: list[str] = field(default_factory=list)
    faulty: set[str] = field(default_factory=set)  # members md has thrown out, disk still there
    rebuilt_bytes: dict[str, float] = field(default_factory=dict)  # of members being filled
    checked_bytes: float | None = None  # of a check that runs
    mismatches: int = 0


class SimulatedWatch:
    """Calls back when a hand touched the machine."""

    def __init__(self, changed: Callable[[], None]) -> None:
        """Watch from now on."""
        self.changed = changed
        self.closed = False

    def renew(self) -> None:
        """Nothing comes later here."""

    def close(self) -> None:
        """Stop watching; idempotent."""
        self.closed = True
