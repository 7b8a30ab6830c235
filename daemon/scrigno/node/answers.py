# SPDX-License-Identifier: Apache-2.0
"""Answers to a C-FIND: rows of the catalogue as identifier data sets (PS3.4 section C.4.1.1.3.2).

An answer holds the keys that were asked for and are supported, the level, where to retrieve
from, and the character set when its texts need one.
"""

from collections.abc import Mapping
from typing import Final

from pydicom.datadict import tag_for_keyword

from scrigno.catalogue.query import Level
from scrigno.catalogue.records import FindRow, FindValue
from scrigno.core.attributes import PersonName

from .identifier import (
    QUERY_RETRIEVE_LEVEL,
    SPECIFIC_CHARACTER_SET,
    Key,
    Writer,
    dictionary_entry,
    is_binary,
)
from .matching import QueryPlan
from .texts import SET_DEPENDENT_VRS, UTF_8, CharacterSet, character_set

RETRIEVE_AE_TITLE: Final = 0x00080054
INSTANCE_AVAILABILITY: Final = 0x00080056


class _CannotHold(Exception):
    """A text does not fit the character set."""


class AnswerWriter:
    """Writes the answers to one request."""

    def __init__(
        self, plan: QueryPlan, *, transfer_syntax: str, character_set: str, retrieve_ae: str
    ) -> None:
        """Prepare what is the same in every answer."""
        self._keys = plan.returned
        self._level = plan.level
        self._writer = Writer(transfer_syntax)
        self._named = character_set
        self._fixed = {
            QUERY_RETRIEVE_LEVEL: self._element(QUERY_RETRIEVE_LEVEL, "CS", plan.level),
            RETRIEVE_AE_TITLE: self._element(RETRIEVE_AE_TITLE, "AE", retrieve_ae),
        }
        self._availability = {
            online: self._element(INSTANCE_AVAILABILITY, "CS", word)
            for online, word in ((True, "ONLINE"), (False, "UNAVAILABLE"))
        }

    def _element(self, tag: int, vr: str, text: str) -> bytes:
        return self._writer.element(tag, vr, text.encode("ascii", "replace"))

    def encode(self, row: FindRow) -> bytes:
        """Return one answer, in the request's character set if that holds it, else in UTF-8."""
        try:
            return self._encoded(row, character_set(self._named))
        except _CannotHold:
            return self._encoded(row, character_set(UTF_8))

    def _encoded(self, row: FindRow, holder: CharacterSet) -> bytes:
        encoded = dict(self._fixed)
        online = self._level is not Level.IMAGE or bool(row.copies)
        encoded[INSTANCE_AVAILABILITY] = self._availability[online]
        if holder.named:
            encoded[SPECIFIC_CHARACTER_SET] = self._element(
                SPECIFIC_CHARACTER_SET, "CS", holder.named
            )
        for key in self._keys:
            encoded[key.tag] = self._value(key, row.values.get(key.keyword, ""), holder)
        return self._writer.data_set(encoded)

    def _value(self, key: Key, value: FindValue, holder: CharacterSet) -> bytes:
        if key.vr == "SQ":
            items = value if isinstance(value, tuple) else ()
            wanted = {each.keyword for item in key.items for each in item}
            return self._writer.sequence(
                key.tag,
                [self._item(each, wanted, holder) for each in items if isinstance(each, Mapping)],
            )
        return self._text(key.tag, key.vr, _plain(value), holder)

    def _item(self, item: Mapping[str, str], wanted: set[str], holder: CharacterSet) -> bytes:
        elements = {}
        for keyword, text in item.items():
            tag = tag_for_keyword(keyword)
            if tag is None or (wanted and keyword not in wanted):
                continue
            elements[tag] = self._text(tag, dictionary_entry(tag)[1], text, holder)
        return b"".join(elements[tag] for tag in sorted(elements))

    def _text(self, tag: int, vr: str, text: str, holder: CharacterSet) -> bytes:
        if is_binary(vr):
            return self._writer.element(tag, vr, self._writer.number(vr, text))
        if vr not in SET_DEPENDENT_VRS:
            return self._element(tag, vr, text)
        encoded = holder.encode(text, vr)
        if encoded is None:
            raise _CannotHold
        return self._writer.element(tag, vr, encoded)


def _plain(value: FindValue) -> str:
    match value:
        case PersonName():
            return value.text()
        case tuple():
            return "\\".join(each for each in value if isinstance(each, str))
        case _:
            return str(value)
