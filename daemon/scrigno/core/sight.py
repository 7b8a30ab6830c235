# SPDX-License-Identifier: Apache-2.0
"""How much of the archive somebody may see: everything, or what meets every condition."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What is seen. An empty tuple is no condition; `study_uids` None is no condition either.

    A study is seen when one of its series has one of `modalities`, one of its series has one of
    `body_parts`, its institution is one of `institutions`, and one of its objects came from one of
    `sources` (calling AE titles). `study_uids` names the studies of a guest exactly.
    """

    modalities: tuple[str, ...] = ()
    body_parts: tuple[str, ...] = ()
    institutions: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    study_uids: frozenset[str] | None = None

    @property
    def everything(self) -> bool:
        """Tell whether nothing is hidden."""
        return self == EVERYTHING


EVERYTHING: Final = Sight()
