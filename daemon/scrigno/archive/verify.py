# SPDX-License-Identifier: Apache-2.0
"""Fixity: read every copy anew from its disk and compare it with the digest of reception."""

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class BadCopy:
    """One copy that is not what was received."""

    volume: str
    key: str
    sop_instance_uid: str
    problem: str  # 'missing' | 'changed' | 'unreadable'
    repaired: bool


@dataclass(slots=True)
class VerifyReport:
    """What a verification found so far."""

    instances: int = 0
    copies_good: int = 0
    copies_skipped: int = 0  # volume away
    bad: list[BadCopy] = field(default_factory=list)
    cancelled: bool = False


class Verifier:
    """Reads copies anew and compares them."""

    async def verify(
        self,
        *,
        study_uid: str | None = None,
        repair: bool = True,
        progress: Callable[[int, int], None] | None = None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> VerifyReport:
        """Check one study, or everything; a bad copy is rewritten from a good one by `repair`."""
        raise NotImplementedError
