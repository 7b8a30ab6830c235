# SPDX-License-Identifier: Apache-2.0
"""Parts that are handed on together."""

from dataclasses import dataclass

from scrigno.access.access import Access
from scrigno.catalogue.catalogue import Catalogue
from scrigno.core.clock import Clock
from scrigno.core.counters import Counters
from scrigno.core.events import EventBus
from scrigno.imaging.cache import FrameCache
from scrigno.volumes.staging import Staging
from scrigno.volumes.volume import Volumes


@dataclass(frozen=True, slots=True, kw_only=True)
class Common:
    """What nearly every part is given."""

    bus: EventBus
    clock: Clock
    counters: Counters


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """Where things are kept."""

    access: Access
    catalogue: Catalogue
    frames: FrameCache
    staging: Staging
    staging_capacity_bytes: int
    volumes: Volumes
