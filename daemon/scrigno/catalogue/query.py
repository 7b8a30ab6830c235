# SPDX-License-Identifier: Apache-2.0
"""A query on the DICOM information model (PS3.4 C.2.2.2 and C.6) as types."""

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias


class Level(StrEnum):
    """Query/Retrieve Level (0008,0052), PS3.4 C.6."""

    PATIENT = "PATIENT"
    STUDY = "STUDY"
    SERIES = "SERIES"
    IMAGE = "IMAGE"


@dataclass(frozen=True, slots=True)
class Universal:
    """Everything matches; the attribute is only wanted back (C.2.2.2.3)."""


@dataclass(frozen=True, slots=True)
class Single:
    """One value (C.2.2.2.1). Person names match blind to case, accents and width."""

    text: str


@dataclass(frozen=True, slots=True)
class Wildcard:
    """A pattern with `*` (any text) and `?` (one character), C.2.2.2.4."""

    text: str


@dataclass(frozen=True, slots=True)
class DateRange:
    """`YYYYMMDD`, both ends inclusive, '' is open (C.2.2.2.5)."""

    low: str
    high: str


@dataclass(frozen=True, slots=True)
class TimeRange:
    """`HHMMSS.FFFFFF` or a shorter form, both ends inclusive, '' is open (C.2.2.2.5)."""

    low: str
    high: str


@dataclass(frozen=True, slots=True)
class UidList:
    """Any of these UIDs (C.2.2.2.2); also used for several values of another VR (any matches)."""

    uids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SequenceMatch:
    """One item of the sequence matches all of these keys (C.2.2.2.6)."""

    keys: "tuple[FindKey, ...]"


Matching: TypeAlias = (
    Universal | Single | Wildcard | DateRange | TimeRange | UidList | SequenceMatch
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FindKey:
    """One attribute of the identifier, by its keyword of PS3.6, and what it must match."""

    keyword: str
    matching: Matching = Universal()


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """By which attribute answers are sorted."""

    keyword: str
    descending: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FindQuery:
    """A whole query. Keys that `find.keywords(level)` does not name are not matched.

    `fuzzy_names`: every word of a person name key begins some word of the name, in any order.
    `combined_datetime`: a date range and the time range of the same pair are one range
    (C.2.2.2.5.3, extended negotiation). `relational`: keys of lower levels match too (an entity
    matches when something below it does). `order`: by these, the first of most weight; without it
    the newest come first.
    """

    level: Level
    keys: tuple[FindKey, ...] = ()
    fuzzy_names: bool = False
    combined_datetime: bool = False
    relational: bool = False
    offset: int = 0
    limit: int | None = None
    order: tuple[Order, ...] = ()
