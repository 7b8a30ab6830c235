# SPDX-License-Identifier: Apache-2.0
"""Rows of the catalogue as DICOM JSON (PS3.18 annex F). Pure."""

from collections.abc import Mapping
from typing import Any, Final

from scrigno.catalogue.query import Level
from scrigno.catalogue.records import FindRow, FindValue
from scrigno.core.attributes import PersonName

from .dictionary import BY_KEYWORD, Attribute

UTF_8: Final = {"vr": "CS", "Value": ["ISO_IR 192"]}
_NUMBERS: Final = frozenset({"IS", "US", "UL", "SS", "SL"})
_DECIMALS: Final = frozenset({"DS", "FL", "FD"})
_SINGLE: Final = frozenset({"LT", "ST", "UT"})  # a backslash is a character of theirs
_UIDS: Final = {
    Level.STUDY: ("StudyInstanceUID",),
    Level.SERIES: ("StudyInstanceUID", "SeriesInstanceUID"),
    Level.IMAGE: ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"),
}


def result(row: FindRow, level: Level, base: str, kept: frozenset[str]) -> dict[str, Any]:
    """Return one answer; of the unique keys only those of `kept`, which are the level's own."""
    found: dict[str, Any] = {"00080005": UTF_8}
    for keyword, value in row.values.items():
        attribute = BY_KEYWORD.get(keyword)
        if attribute is not None and keyword in kept:
            found[attribute.tag] = element(attribute, value)
    if level is not Level.SERIES:
        online = level is not Level.IMAGE or bool(row.copies)
        found["00080056"] = {"vr": "CS", "Value": ["ONLINE" if online else "UNAVAILABLE"]}
    found["00081190"] = {"vr": "UR", "Value": [base + _path(row, level)]}
    return dict(sorted(found.items()))


def _path(row: FindRow, level: Level) -> str:
    names = ("studies", "series", "instances")
    uids = (str(row.values.get(each, "")) for each in _UIDS[level])
    return "".join(f"/{name}/{uid}" for name, uid in zip(names, uids, strict=False))


def element(attribute: Attribute, value: FindValue) -> dict[str, Any]:
    """Return one element; without `Value` when it is empty (PS3.18 F.2.5)."""
    values = _values(attribute.vr, value)
    return {"vr": attribute.vr, "Value": values} if values else {"vr": attribute.vr}


def _values(vr: str, value: FindValue) -> list[Any]:
    if isinstance(value, PersonName):
        name = person(value)
        return [name] if name else []
    if isinstance(value, tuple):
        items = (_item(each) if isinstance(each, Mapping) else each for each in value)
        return [each for each in items if each]
    if isinstance(value, int):
        return [value]
    if not value:
        return []
    parts = [value] if vr in _SINGLE else value.split("\\")
    if vr in _NUMBERS or vr in _DECIMALS:
        return [_number(each.strip(), whole=vr in _NUMBERS) for each in parts]
    return [each or None for each in parts]


def _item(item: Mapping[str, str]) -> dict[str, Any]:
    found = {}
    for keyword, text in item.items():
        attribute = BY_KEYWORD.get(keyword)
        if attribute is not None:
            found[attribute.tag] = element(attribute, text)
    return dict(sorted(found.items()))


def person(name: PersonName) -> dict[str, str]:
    """Return the component groups that are there (PS3.18 F.2.2)."""
    groups = {
        "Alphabetic": name.alphabetic,
        "Ideographic": name.ideographic,
        "Phonetic": name.phonetic,
    }
    return {group: str(text) for group, text in groups.items() if text}


def _number(text: str, *, whole: bool) -> int | float | str | None:
    """Return a number; what an object holds there and is none stays a text (PS3.18 F.2.3.1)."""
    if not text:
        return None
    try:
        return int(text) if whole else _decimal(text)
    except ValueError:
        return text


def _decimal(text: str) -> int | float | str:
    number = float(text)
    return number if abs(number) < 1e300 else text
