# SPDX-License-Identifier: Apache-2.0
"""From a query string to what the catalogue is asked (PS3.18 sections 8.3.4 and 10.6.1). Pure."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from scrigno.catalogue.find import keywords
from scrigno.catalogue.query import (
    DateRange,
    FindKey,
    FindQuery,
    Level,
    Matching,
    Order,
    SequenceMatch,
    Single,
    TimeRange,
    UidList,
    Universal,
    Wildcard,
)
from scrigno.core.uids import is_uid
from scrigno.web.errors import RequestRefused

from .dictionary import Attribute, could_name, named
from .target import Target

MOST_KEYS: Final = 128
LONGEST_VALUE: Final = 16 << 10
MOST_VALUES: Final = 2000
MOST_RESULTS: Final = 10_000  # in one answer; the rest is asked for with an offset
LAST_OFFSET: Final = 1_000_000_000
REQUESTS: Final = "RequestAttributesSequence"

LEVELS: Final = {"studies": Level.STUDY, "series": Level.SERIES, "instances": Level.IMAGE}


def _words(text: str) -> list[str]:
    return text.split()


# PS3.18 tables 10.6.3-3 to 10.6.3-5, and what viewers ask for at once after them
_STUDY: Final = _words(
    "StudyDate StudyTime AccessionNumber ModalitiesInStudy ReferringPhysicianName StudyDescription "
    "PatientName PatientID PatientBirthDate PatientSex StudyInstanceUID StudyID "
    "NumberOfStudyRelatedSeries NumberOfStudyRelatedInstances"
)
_SERIES: Final = _words(
    "Modality SeriesDescription SeriesInstanceUID SeriesNumber NumberOfSeriesRelatedInstances "
    "PerformedProcedureStepStartDate PerformedProcedureStepStartTime RequestAttributesSequence"
)
_INSTANCE: Final = _words(
    "SOPClassUID SOPInstanceUID InstanceNumber Rows Columns BitsAllocated NumberOfFrames"
)

# Answers say these of themselves; they are asked for in vain or for nothing.
_OF_THE_ANSWER: Final = frozenset(
    {"SpecificCharacterSet", "RetrieveURL", "InstanceAvailability", "TimezoneOffsetFromUTC",
     "RetrieveAETitle", "QueryRetrieveLevel"}
)  # fmt: skip
_WILDCARD_VRS: Final = frozenset({"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})
_DATE: Final = re.compile(r"[0-9]{8}|[0-9]{4}\.[0-9]{2}\.[0-9]{2}")
_TIME: Final = re.compile(r"[0-9]{2}:?([0-5][0-9]:?([0-5][0-9]|60)?(\.[0-9]{1,6})?)?")


class TooManyKeys(RequestRefused):
    """The query has more keys or values than are matched."""

    code = "query-too-large"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A search, and what of its request is not done here, for the Warning header."""

    query: FindQuery
    limit: int
    kept: frozenset[str]  # keywords that answers hold
    ignored: tuple[str, ...] = ()

    def ordered(self, order: tuple[Order, ...]) -> "Asked":
        """Return the same search with its answers in an order."""
        return replace(self, query=replace(self.query, order=order))


@dataclass(slots=True)
class _Reading:
    level: Level
    matched: dict[str, list[str]] = field(default_factory=dict)
    wanted: list[str] = field(default_factory=list)
    order: list[Order] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    every: bool = False
    fuzzy: bool = False
    offset: int = 0
    limit: int = MOST_RESULTS


def asked_of(pairs: Sequence[tuple[str, str]], level: Level, target: Target) -> Asked:
    """Return the search of a query string; raises RequestRefused, TooManyKeys."""
    if len(pairs) > MOST_KEYS:
        raise TooManyKeys(f"A search may have {MOST_KEYS} parameters.")
    reading = _Reading(level)
    for name, value in pairs:
        if len(value) > LONGEST_VALUE:
            raise TooManyKeys(f"The value of a parameter may have {LONGEST_VALUE} characters.")
        _parameter(reading, name, value)
    return _asked(reading, target)


def _parameter(reading: _Reading, name: str, value: str) -> None:
    match name.lower():
        case "limit":
            reading.limit = min(_number(name, value), MOST_RESULTS)
        case "offset":
            reading.offset = _number(name, value)
        case "fuzzymatching":
            reading.fuzzy = _switch(name, value)
        case "includefield":
            _include(reading, value)
        case "orderby":
            reading.order += [_order(reading.level, each) for each in value.split(",") if each]
        case "accept" | "charset":
            pass  # said of the answer, and read there
        case "emptyvaluematching" | "multiplevaluematching":
            if _switch(name, value):
                reading.ignored.append(name)
        case _:
            _key(reading, name, value)


def _number(name: str, value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) <= 10):
        raise RequestRefused(f"{name} must be a whole number, not negative.")
    number = int(value)
    if number > LAST_OFFSET:
        raise RequestRefused(f"{name} may be at most {LAST_OFFSET}.")
    return number


def _switch(name: str, value: str) -> bool:
    if value.lower() not in ("true", "false"):
        raise RequestRefused(f"{name} must be true or false.")
    return value.lower() == "true"


def _attribute(text: str) -> Attribute | None:
    if not could_name(text):
        raise RequestRefused(
            f"{text[:64]!r} is neither a keyword nor a tag of 8 hex digits.",
            next_step="Write attributes as PatientID or 00100020.",
        )
    return named(text)


def _include(reading: _Reading, value: str) -> None:
    for each in value.split(","):
        each = each.strip()
        if each == "all":
            reading.every = True
        elif each:
            attribute = _attribute(each.partition(".")[0])
            if attribute is None:
                reading.ignored.append(each)
            else:
                reading.wanted.append(attribute.keyword)


def _order(level: Level, text: str) -> Order:
    text = text.strip()
    attribute = _attribute(text.removeprefix("-").removeprefix("+"))
    if attribute is None or attribute.keyword not in keywords(level):
        raise RequestRefused("orderby names an attribute that results cannot be sorted by.")
    return Order(keyword=attribute.keyword, descending=text.startswith("-"))


def _key(reading: _Reading, name: str, value: str) -> None:
    path = name.split(".")
    found = [_attribute(each) for each in path]
    known = [each.keyword for each in found if each is not None]
    if len(known) < len(path) or len(path) > 2 or (len(path) == 2 and known[0] != REQUESTS):
        reading.ignored.append(name)
        return
    if "\0" in value:
        raise RequestRefused(f"{name} holds a character that no attribute has.")
    reading.matched.setdefault(".".join(known), []).append(value)


def _asked(reading: _Reading, target: Target) -> Asked:
    known = keywords(Level.IMAGE)  # keys of lower levels match too: a study that has such a series
    here = keywords(reading.level)
    keys: dict[str, FindKey] = {}
    returned = list(_returned(reading, target))
    for keyword in returned:
        keys[keyword] = FindKey(keyword=keyword)
    requests: list[FindKey] = []
    for name, values in reading.matched.items():
        keyword, _, inside = name.partition(".")
        if keyword in _OF_THE_ANSWER:
            continue
        if inside:
            requests.append(FindKey(keyword=inside, matching=_matching(named(inside), values)))
        elif keyword in known and keyword != REQUESTS:
            keys[keyword] = FindKey(keyword=keyword, matching=_matching(named(keyword), values))
        else:
            reading.ignored.append(name)
    if requests:
        keys[REQUESTS] = FindKey(keyword=REQUESTS, matching=SequenceMatch(tuple(requests)))
    _limit_to(keys, target)
    query = FindQuery(
        level=reading.level,
        keys=tuple(keys.values()),
        fuzzy_names=reading.fuzzy,
        combined_datetime=True,  # PS3.18 section 8.3.4.1: date and time of a pair are one
        relational=any(each not in here for each in keys),
        offset=reading.offset,
        limit=reading.limit,
        order=tuple(reading.order),
    )
    return Asked(
        query=query,
        limit=reading.limit,
        kept=frozenset(
            {*returned, *(each for each in keys if each in here), *_uids(reading.level)}
        ),
        ignored=tuple(dict.fromkeys(reading.ignored)),
    )


def _uids(level: Level) -> Iterable[str]:
    """Return the unique keys that every answer of a level holds (they make its address)."""
    keywords_ = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    return keywords_[: (Level.STUDY, Level.SERIES, Level.IMAGE).index(level) + 1]


def _limit_to(keys: dict[str, FindKey], target: Target) -> None:
    """Let the path decide; a key that says otherwise finds nothing more."""
    for keyword, uid in (("StudyInstanceUID", target.study), ("SeriesInstanceUID", target.series)):
        if uid:
            keys[keyword] = FindKey(keyword=keyword, matching=Single(uid))


def _returned(reading: _Reading, target: Target) -> Iterable[str]:
    """Return what comes back: of the level, of those above that the path does not name, asked."""
    here = keywords(reading.level)
    if reading.every:
        return sorted(here)
    names = list(_INSTANCE) if reading.level is Level.IMAGE else []
    if reading.level is Level.SERIES or (reading.level is Level.IMAGE and not target.series):
        names += _SERIES
    if reading.level is Level.STUDY or not target.study:
        names += _STUDY
    asked = [each for each in reading.wanted if each in here]
    reading.ignored += [
        each for each in reading.wanted if each not in here and each not in _OF_THE_ANSWER
    ]
    return [*names, *asked]


# values ------------------------------------------------------------------------------------------


def _matching(attribute: Attribute | None, values: Sequence[str]) -> Matching:
    assert attribute is not None  # noqa: S101 - only known keywords come here
    parts = [part.strip() for value in values for part in _several(attribute.vr, value)]
    parts = [part for part in parts if part.strip("*")]
    if not parts:
        return Universal()
    if len(parts) > MOST_VALUES:
        raise TooManyKeys(f"{attribute.keyword} may have {MOST_VALUES} values.")
    match attribute.vr:
        case "UI":
            if not all(map(is_uid, parts)):
                raise RequestRefused(f"{attribute.keyword} must be a UID or a list of UIDs.")
            return UidList(tuple(parts)) if len(parts) > 1 else Single(parts[0])
        case "DA":
            return DateRange(*_range(attribute, parts, _DATE, "YYYYMMDD"))
        case "TM":
            return TimeRange(*_range(attribute, parts, _TIME, "HHMMSS.FFFFFF"))
        case "IS" | "US" if not all(part.lstrip("+-").isdigit() for part in parts):
            raise RequestRefused(f"{attribute.keyword} must be a whole number.")
        case _ if len(parts) > 1:
            return UidList(tuple(parts))
        case vr if vr in _WILDCARD_VRS and any(each in parts[0] for each in "*?"):
            return Wildcard(parts[0])
        case _:
            return Single(parts[0])


def _several(vr: str, value: str) -> list[str]:
    """UIDs are listed with commas too (PS3.18 section 8.3.4.6); elsewhere a comma is a text's."""
    if vr == "UI":
        value = value.replace(",", "\\")
    return [value] if vr in ("LT", "ST", "UT") else value.split("\\")


def _range(
    attribute: Attribute, parts: Sequence[str], form: re.Pattern[str], words: str
) -> tuple[str, str]:
    if len(parts) > 1:
        raise RequestRefused(f"{attribute.keyword} takes one value or one range.")
    low, dash, high = parts[0].partition("-")
    ends = [each.strip() for each in ((low, high) if dash else (low, low))]
    if not any(ends) or not all(form.fullmatch(each) for each in ends if each):
        raise RequestRefused(f"{attribute.keyword} must be {words}, or two of them with a dash.")
    if "DA" in attribute.vr:
        ends = [each.replace(".", "") for each in ends]
    return ends[0], ends[1]
