# SPDX-License-Identifier: Apache-2.0
"""The accepting side: one listening port."""

import ssl
from collections.abc import Collection

from scrigno.core.clock import Clock, SystemClock
from scrigno.core.counters import Counters

from .association import Association
from .limits import DEFAULT_LIMITS, Limits
from .service import ServiceProvider


class DicomServer:
    """Listens on one address and runs the associations that come in."""

    def __init__(
        self,
        *,
        host: str,
        port: int,
        provider: ServiceProvider,
        counters: Counters,
        limits: Limits = DEFAULT_LIMITS,
        tls: ssl.SSLContext | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        raise NotImplementedError

    async def start(self) -> None:
        """Listen; OSError when the port cannot be had."""
        raise NotImplementedError

    @property
    def port(self) -> int:
        """Return the port in use, also when 0 was asked for."""
        raise NotImplementedError

    @property
    def associations(self) -> Collection[Association]:
        """Return the associations that are established now; `len()` counts them."""
        raise NotImplementedError

    async def close(self, grace_s: float = 10) -> None:
        """Stop listening, let what runs end within `grace_s`, abort the rest. Idempotent."""
        raise NotImplementedError
