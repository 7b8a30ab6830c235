# SPDX-License-Identifier: Apache-2.0
"""The launch grammar: what stands behind `#/list?` and `#/viewer?`. Pure functions.

A pair is `key`, an operator and a value; the operator is looked for after percent decoding, since
browsers write `>` and `<` as %3E and %3C in a fragment (URL Standard, fragment percent-encode set).
`===` takes everything behind it as it is. Values of repeated `patientid` and `modality` are
alternatives, all else must hold together.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import Final
from urllib.parse import unquote_to_bytes

from scrigno.catalogue.records import FilterOperator, ListFilter

from .errors import LaunchRefused

MOST_CHARACTERS: Final = 8192
MOST_PAIRS: Final = 64
MOST_VALUE: Final = 256  # characters of one value, as the study list takes them

OPERATORS: Final[Mapping[str, FilterOperator]] = {
    "==": FilterOperator.EQUAL,
    "!=": FilterOperator.NOT_EQUAL,
    ">>": FilterOperator.GREATER,
    ">=": FilterOperator.GREATER_OR_EQUAL,
    "<<": FilterOperator.LESS,
    "<=": FilterOperator.LESS_OR_EQUAL,
    "**": FilterOperator.CONTAINS,
    "=~": FilterOperator.RANGE,
}
FIELDS: Final[Mapping[str, str]] = {
    "studyinstanceuid": "study_instance_uid",
    "seriesinstanceuid": "series_instance_uid",
    "sopinstanceuid": "sop_instance_uid",
    "patientid": "patient_id",
    "patientname": "patient_name",
    "patientcomments": "patient_comments",
    "patientbirthdate": "patient_birth_date",
    "patientsex": "patient_sex",
    "studydescription": "study_description",
    "studyid": "study_id",
    "studydate": "study_date",
    "studytime": "study_time",
    "accessionnumber": "accession_number",
    "seriesnumber": "series_number",
    "seriesdate": "series_date",
    "seriestime": "series_time",
    "seriesdescription": "series_description",
    "modality": "modality",
    "bodypartexamined": "body_part_examined",
}
VIEWER_KEYS: Final = frozenset(
    {"studyinstanceuid", "seriesinstanceuid", "sopinstanceuid", "patientid", "accessionnumber"}
)
ALTERNATIVES: Final = frozenset({"patientid", "modality"})
RANGED: Final = frozenset(
    {"patientbirthdate", "studydate", "studytime", "seriesdate", "seriestime", "seriesnumber"}
)
# the old product spells the code with a small letter, its manual with a capital one
_USER, _PASSWORD, _CODE, _TOKEN = "id", "password", "code", "token"
SECRET_KEYS: Final = frozenset({_USER, _PASSWORD, _CODE, _TOKEN})

_DATE = re.compile(r"(\d{4})([-/.]?)(\d{1,2})\2(\d{1,2})", re.ASCII)
_TIME = re.compile(r"(\d{1,2})(?::?(\d{2})(?::?(\d{2})(\.\d{1,6})?)?)?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """User and password as an address or a one-time code names them; neither is ever printed."""

    user: str = field(repr=False)
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """An address, understood. `ignored` names keys that mean nothing here."""

    filters: tuple[ListFilter, ...]
    credentials: Credentials | None = None
    code: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    ignored: tuple[str, ...] = ()


def fallback_codecs(language: str, character_set: str) -> tuple[str, ...]:
    """Return the codecs for values that are not UTF-8, by what this box is used with."""
    if language == "ja" or re.search(r"IR (?:13|87|159)\b", character_set):
        return ("cp932", "cp1252")
    if language == "ko" or "IR 149" in character_set:
        return ("cp949", "cp1252")
    return ("cp1252", "cp932")


def parse_list(query: str, *, today: date, codecs: Sequence[str] = ("cp932",)) -> Launch:
    """Return what an address of the list asks for; raises LaunchRefused."""
    return _parse(query, FIELDS.keys(), today, codecs)


def parse_viewer(query: str, *, today: date, codecs: Sequence[str] = ("cp932",)) -> Launch:
    """Return what an address of the viewer asks for: five keys, equality; raises LaunchRefused."""
    launch = _parse(query, VIEWER_KEYS, today, codecs)
    for each in launch.filters:
        if each.operator is not FilterOperator.EQUAL or each.alternatives:
            raise LaunchRefused(f"The viewer is opened by equality: {each.field} is not.")
    return launch


def parse_credentials(text: str, *, codecs: Sequence[str] = ("cp932",)) -> Credentials | None:
    """Return what `id=…&password=…` says, None when it says something else. Never raises."""
    try:
        return _credentials(dict(_raw_pairs(text)), codecs)
    except LaunchRefused:
        return None


def _parse(query: str, known: Iterable[str], today: date, codecs: Sequence[str]) -> Launch:
    wanted = frozenset(known)
    secrets: dict[str, str] = {}
    conditions: list[tuple[str, ListFilter]] = []
    ignored: dict[str, None] = {}
    for key, raw in _raw_pairs(query):
        if key in SECRET_KEYS:
            secrets.setdefault(key, raw)
        elif key not in wanted:
            ignored.setdefault(key[:64])
        else:
            condition = _condition(key, _decoded(raw, codecs), today)
            if condition is not None:
                conditions.append((key, condition))
    return Launch(
        filters=tuple(_joined(conditions)),
        credentials=_credentials(secrets, codecs),
        code=secrets.get(_CODE, ""),
        token=_decoded(secrets.get(_TOKEN, ""), codecs),
        ignored=tuple(ignored),
    )


def _raw_pairs(query: str) -> Iterator[tuple[str, str]]:
    """Yield keys in small letters with what stands behind their first `=`, not decoded."""
    if len(query) > MOST_CHARACTERS:
        raise LaunchRefused(f"The address has more than {MOST_CHARACTERS} characters.")
    pairs = [pair for pair in query.removeprefix("?").split("&") if pair]
    if len(pairs) > MOST_PAIRS:
        raise LaunchRefused(f"The address has more than {MOST_PAIRS} keys.")
    for pair in pairs:
        key, _, rest = pair.partition("=")
        yield _decoded(key, ()).strip().casefold(), rest


def _decoded(text: str, codecs: Sequence[str]) -> str:
    """Undo percent and plus; bytes that are not UTF-8 are read by the first codec that can."""
    plain = text.replace("+", " ")
    try:
        content = unquote_to_bytes(plain.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:  # a lone surrogate, which is no character
        content = unquote_to_bytes(plain.encode("utf-8", "replace"))
    for codec in ("utf-8", *codecs):
        try:
            return content.decode(codec)
        except UnicodeDecodeError:
            continue
    return content.decode("latin-1")


def _credentials(raw: Mapping[str, str], codecs: Sequence[str]) -> Credentials | None:
    """No operator here: a password may begin with any sign."""
    if _USER not in raw or _PASSWORD not in raw:
        return None
    user, password = _decoded(raw[_USER], codecs), _decoded(raw[_PASSWORD], codecs)
    return Credentials(user=user, password=password)


def _condition(key: str, text: str, today: date) -> ListFilter | None:
    """Return the condition of one pair, None for an empty value of a template."""
    operator = OPERATORS.get(text[:2])
    value = text[2:] if operator is not None else text
    if operator is None and not value.strip():
        return None
    if len(value) > MOST_VALUE or "\0" in value:
        raise LaunchRefused(f"The value of {key} has more than {MOST_VALUE} characters.")
    found = operator or FilterOperator.EQUAL
    if key in {"studydate", "seriesdate"} and found is FilterOperator.EQUAL:
        relative = _relative(value, today)
        if relative is not None:
            return ListFilter(field=FIELDS[key], operator=relative[0], values=relative[1])
    values = _range(key, value) if found is FilterOperator.RANGE else (value,)
    normal = _NORMAL.get(key, str)
    if found is FilterOperator.CONTAINS and key.endswith("date"):
        normal = _part_of_date
    if key == "modality" and found in _ORDERED:
        raise LaunchRefused("Modalities have no order to compare by.")
    try:
        kept = tuple(normal(each) if each else each for each in values)
    except ValueError as error:
        raise LaunchRefused(f"The value of {key} is not understood.") from error
    if normal is _part_of_date and key != "patientbirthdate":
        return ListFilter(
            field=FIELDS[key], operator=FilterOperator.RANGE, values=_stretch(kept[0])
        )
    return ListFilter(field=FIELDS[key], operator=found, values=kept)


_ORDERED: Final = frozenset(
    {
        FilterOperator.GREATER,
        FilterOperator.GREATER_OR_EQUAL,
        FilterOperator.LESS,
        FilterOperator.LESS_OR_EQUAL,
        FilterOperator.RANGE,
    }
)


def _range(key: str, value: str) -> tuple[str, str]:
    low, tilde, high = value.partition("~")
    if key not in RANGED or not tilde or "~" in high or not (low or high):
        raise LaunchRefused(f"{key} takes no range, or a range with two ends: ==~low~high.")
    return low, high


def _relative(word: str, today: date) -> tuple[FilterOperator, tuple[str, ...]] | None:
    match word.strip().casefold():
        case "today":
            return FilterOperator.EQUAL, (_dicom(today),)
        case "yesterday":
            return FilterOperator.EQUAL, (_dicom(today - timedelta(days=1)),)
        case "pastweek":
            return FilterOperator.RANGE, (_dicom(today - timedelta(days=7)), _dicom(today))
        case "pastmonth":
            return FilterOperator.RANGE, (_dicom(month_before(today)), _dicom(today))
        case _:
            return None


def month_before(day: date) -> date:
    """Return the same day of the month before, its last day when it is shorter."""
    last = day.replace(day=1) - timedelta(days=1)
    return last.replace(day=min(day.day, last.day))


def _dicom(day: date) -> str:
    return f"{day.year:04}{day.month:02}{day.day:02}"


def _day(text: str) -> str:
    """Return `2013/11/25`, `2013-11-25`, `2013.11.25` or `20131125` as DICOM writes it."""
    match = _DATE.fullmatch(text.strip())
    if match is None:
        raise ValueError("no date")
    year, _, month, day = match.groups()
    return _dicom(date(int(year), int(month), int(day)))


def _part_of_date(text: str) -> str:
    """Return a piece of a date without its separators: `2013/11` is in all of that month."""
    piece = re.sub(r"[-/.]", "", text.strip())
    if not piece.isascii() or not piece.isdigit():
        raise ValueError("no part of a date")
    return piece


def _stretch(piece: str) -> tuple[str, str]:
    """Return the first and the last day of a year, a month or a day."""
    match len(piece):
        case 4:
            return f"{piece}0101", f"{piece}1231"
        case 6 if "01" <= piece[4:] <= "12":
            after = date(int(piece[:4]), int(piece[4:]), 28) + timedelta(days=4)
            return f"{piece}01", _dicom(after.replace(day=1) - timedelta(days=1))
        case 8:
            return _day(piece), _day(piece)
        case _:
            raise LaunchRefused("A part of a date is a year, a year and month, or all of it.")


def _time(text: str) -> str:
    """Return `12:30`, `12:30:15` or `123015.5` as DICOM writes it."""
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise ValueError("no time")
    hour, minute, second, part = match.groups()
    if int(hour) > 23 or int(minute or 0) > 59 or int(second or 0) > 60:
        raise ValueError("no time")
    return f"{int(hour):02}{minute or ''}{second or ''}{part or ''}"


def _whole(text: str) -> str:
    return str(int(text.strip()))


_NORMAL: Final[Mapping[str, Callable[[str], str]]] = {
    "patientbirthdate": _day,
    "studydate": _day,
    "seriesdate": _day,
    "studytime": _time,
    "seriestime": _time,
    "seriesnumber": _whole,
    "modality": lambda text: text.strip().upper(),
    "patientsex": lambda text: text.strip().upper(),
    "studyinstanceuid": str.strip,
    "seriesinstanceuid": str.strip,
    "sopinstanceuid": str.strip,
}


def _joined(conditions: Sequence[tuple[str, ListFilter]]) -> Iterator[ListFilter]:
    """Yield what must hold together; several values of some keys are alternatives.

    What must not be equal always narrows: `patientid=!=1&patientid=!=2` is neither of both.
    """
    alternatives: dict[str, list[ListFilter]] = {}
    for key, one in conditions:
        if key in ALTERNATIVES and one.operator is not FilterOperator.NOT_EQUAL:
            alternatives.setdefault(key, []).append(one)
        else:
            yield one
    for several in alternatives.values():
        yield _any_of(several)


def _any_of(several: Sequence[ListFilter]) -> ListFilter:
    merged: list[ListFilter] = []
    for operator in (FilterOperator.EQUAL, FilterOperator.CONTAINS):
        same = [each for each in several if each.operator is operator]
        if same:
            values = dict.fromkeys(value for each in same for value in each.values)
            merged.append(replace(same[0], values=tuple(values)))
    merged += [each for each in several if each.operator in _ORDERED]
    return replace(merged[0], alternatives=tuple(merged[1:]))
