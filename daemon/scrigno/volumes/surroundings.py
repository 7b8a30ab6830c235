# SPDX-License-Identifier: Apache-2.0
"""What all wardens share: their patience, and the parts they work with."""

from collections.abc import Callable
from dataclasses import dataclass

from scrigno.core.clock import Clock
from scrigno.core.counters import Counters
from scrigno.core.events import EventBus

from .kernel import Kernel
from .probing import DevicesOf
from .regaining import Regaining
from .registry import Registry


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How patient a warden is; seconds."""

    op_timeout_s: float = 10.0  # no sign of life of a request: hung (design, section 4)
    hang_s: float = 3.0  # requests wait and the device completes none: others are asked first
    kernel_every_s: float = 1.0  # the kernel is asked, which never waits for a disk
    probe_every_s: float = 15.0  # MinIO's interval
    fresh_write_s: float = 5.0  # a real write this recent stands for a probe
    slow_probe_s: float = 2.0  # a slower probe makes it SUSPECT
    retry_s: float = 1.0  # after a fall; doubles up to…
    retry_most_s: float = 15.0
    proofs: int = 3  # probes in a row before it is trusted again
    proof_every_s: float = 1.0
    hold_s: float = 60.0  # it must hold this long after its first fall; doubles with each…
    hold_most_s: float = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What all wardens share."""

    registry: Registry
    regaining: Regaining
    claims: dict[str, str]  # uuid → name of the volume in service
    kernel: Kernel
    timing: Timing
    counters: Counters
    bus: EventBus
    clock: Clock
    devices_of: DevicesOf | None
    caught_up: Callable[[str], bool]
