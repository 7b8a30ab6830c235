# SPDX-License-Identifier: Apache-2.0
"""From an identifier to what the catalogue is asked (PS3.4 sections C.2.2.2, C.4, C.6). Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from scrigno.catalogue.find import keywords
from scrigno.catalogue.query import (
    DateRange,
    FindKey,
    FindQuery,
    Level,
    Matching,
    SequenceMatch,
    Single,
    TimeRange,
    UidList,
    Universal,
    Wildcard,
)
from scrigno.core.errors import ScrignoError

from .identifier import QUERY_RETRIEVE_LEVEL, Identifier, Key
from .negotiation import Model, QueryOptions

# What an identifier says about itself or the answer about its source: never matched.
NOT_KEYS: Final = frozenset(
    {
        "SpecificCharacterSet",
        "TimezoneOffsetFromUTC",
        "QueryRetrieveLevel",
        "RetrieveAETitle",
        "InstanceAvailability",
    }
)

LEVELS: Final[Mapping[Model, tuple[Level, ...]]] = {
    Model.PATIENT_ROOT: (Level.PATIENT, Level.STUDY, Level.SERIES, Level.IMAGE),
    Model.STUDY_ROOT: (Level.STUDY, Level.SERIES, Level.IMAGE),
    Model.PATIENT_STUDY_ONLY: (Level.PATIENT, Level.STUDY),
}
UNIQUE_KEYS: Final[Mapping[Level, int]] = {
    Level.PATIENT: 0x00100020,
    Level.STUDY: 0x0020000D,
    Level.SERIES: 0x0020000E,
    Level.IMAGE: 0x00080018,
}
_KEYWORDS: Final[Mapping[Level, str]] = {
    Level.PATIENT: "PatientID",
    Level.STUDY: "StudyInstanceUID",
    Level.SERIES: "SeriesInstanceUID",
    Level.IMAGE: "SOPInstanceUID",
}

# PS3.4 section C.2.2.2.4: the VRs in which `*` and `?` are wildcards
_WILDCARD_VRS: Final = frozenset({"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})
# Texts in which a backslash is a character, not a delimiter (PS3.5 section 6.2)
_SINGLE_VALUED_VRS: Final = frozenset({"ST", "LT", "UT", "UR"})


class IdentifierMismatch(ScrignoError):
    """The identifier does not fit the information model (A900); `tags` are at fault."""

    code = "identifier-mismatch"

    def __init__(self, reason: str, tags: Sequence[int] = ()) -> None:
        """Keep the reason and the offending elements."""
        super().__init__(reason)
        self.tags = tuple(tags)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryPlan:
    """What to ask and what to answer."""

    level: Level
    query: FindQuery
    returned: tuple[Key, ...]  # supported keys that were asked for
    unsupported: tuple[Key, ...]  # the others: left out of the answers, told by FF01


def plan_query(identifier: Identifier, model: Model, options: QueryOptions) -> QueryPlan:
    """Return what an identifier asks for; raises IdentifierMismatch."""
    level = level_of(identifier, model)
    check_upper_keys(identifier, model, level, relational=options.relational)
    # Relational queries match attributes of lower levels too (PS3.4 section C.4.1.2.2.2); they
    # cannot be answered with, an entity has many of them.
    matched = keywords(LEVELS[model][-1] if options.relational else level)
    answered = keywords(level)
    asked = [key for key in identifier.keys if key.keyword not in NOT_KEYS]
    query = FindQuery(
        level=level,
        keys=tuple(
            FindKey(keyword=key.keyword, matching=matching_of(key))
            for key in asked
            if key.keyword in matched
        ),
        fuzzy_names=options.fuzzy_names,
        combined_datetime=options.combined_date_time,
        relational=options.relational,
    )
    return QueryPlan(
        level=level,
        query=query,
        returned=tuple(key for key in asked if key.keyword in answered),
        unsupported=tuple(key for key in asked if key.keyword not in matched),
    )


def level_of(identifier: Identifier, model: Model) -> Level:
    """Return the level asked for; raises IdentifierMismatch when the model has none such."""
    text = identifier.text(QUERY_RETRIEVE_LEVEL)
    for level in LEVELS[model]:
        if text == level:
            return level
    raise IdentifierMismatch(
        "The Query/Retrieve Level is missing or unknown in this model.", (QUERY_RETRIEVE_LEVEL,)
    )


def levels_above(model: Model, level: Level) -> tuple[Level, ...]:
    """Return the levels of the model above `level`, the root first."""
    levels = LEVELS[model]
    return levels[: levels.index(level)]


def check_upper_keys(
    identifier: Identifier, model: Model, level: Level, *, relational: bool
) -> None:
    """Raise unless each level above has one value in its unique key (PS3.4 C.4.1.2.2.1)."""
    if relational:
        return
    missing = [
        UNIQUE_KEYS[upper]
        for upper in levels_above(model, level)
        if not _single(identifier.text(UNIQUE_KEYS[upper]))
    ]
    if missing:
        raise IdentifierMismatch(
            "A unique key of a higher level is missing or not a single value.", missing
        )


def _single(value: str) -> bool:
    return bool(value) and not any(each in value for each in "*?\\")


def unique_keyword(level: Level) -> str:
    """Return the keyword of the level's unique key."""
    return _KEYWORDS[level]


def matching_of(key: Key) -> Matching:
    """Return how the key's value matches (PS3.4 section C.2.2.2)."""
    if key.vr == "SQ":
        return _sequence(key.items)
    if not key.text.strip("*"):
        # No value; and `*` alone, which some peers send in every VR, matches everything too.
        return Universal()
    if key.vr == "DA":
        return _date(key.text)
    if key.vr == "TM":
        return _time(key.text)
    values = [key.text]
    if key.vr not in _SINGLE_VALUED_VRS:
        values = [each.strip() for each in key.text.split("\\") if each.strip()]
    if key.vr == "UI" or len(values) > 1:
        return UidList(tuple(values))
    if key.vr in _WILDCARD_VRS and any(each in values[0] for each in "*?"):
        return Wildcard(values[0])
    return Single(values[0])


def _sequence(items: Iterable[tuple[Key, ...]]) -> Matching:
    for item in items:  # the request has at most one item, PS3.4 section C.2.2.2.6
        keys = tuple(
            FindKey(keyword=key.keyword, matching=matching)
            for key in item
            if key.keyword and not isinstance(matching := matching_of(key), Universal)
        )
        return SequenceMatch(keys) if keys else Universal()
    return Universal()


def _date(text: str) -> Matching:
    if "\\" in text:
        return UidList(tuple(each for each in text.split("\\") if each))
    low, dash, high = text.replace(".", "").partition("-")  # `.` as ACR-NEMA wrote dates
    if not dash:
        return Single(low.strip())
    low, high = low.strip(), high.strip()
    return DateRange(low, high) if low or high else Universal()


def _time(text: str) -> Matching:
    low, dash, high = text.replace(":", "").partition("-")  # `:` as ACR-NEMA wrote times
    if not dash:
        return Single(low.strip())
    low, high = low.strip(), high.strip()
    return TimeRange(low, high) if low or high else Universal()
