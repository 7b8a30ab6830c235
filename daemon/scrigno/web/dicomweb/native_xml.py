# SPDX-License-Identifier: Apache-2.0
"""DICOM JSON as the Native DICOM Model in XML (PS3.19 annex A.1). Pure."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final
from xml.sax.saxutils import escape, quoteattr

from .dictionary import BY_TAG

# XML 1.0 cannot hold most control characters, not even written as references
_UNWRITABLE: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_GROUPS: Final = ("Alphabetic", "Ideographic", "Phonetic")
_COMPONENTS: Final = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")
_DEEPEST: Final = 64


def document(dataset: Mapping[str, Any]) -> bytes:
    """Return one data set as an XML document in UTF-8."""
    body = "".join(_elements(dataset, 0))
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<NativeDicomModel xmlns="http://dicom.nema.org/PS3.19/models/NativeDICOM"'
        f' xml:space="preserve">{body}</NativeDicomModel>'
    ).encode()


def _elements(dataset: Mapping[str, Any], depth: int) -> list[str]:
    return (
        [_element(tag, dataset[tag], depth) for tag in sorted(dataset)] if depth < _DEEPEST else []
    )


def _element(tag: str, element: Mapping[str, Any], depth: int) -> str:
    attribute = BY_TAG.get(tag)
    keyword = f" keyword={quoteattr(attribute.keyword)}" if attribute else ""
    vr = str(element.get("vr", "UN"))
    head = f"<DicomAttribute tag={quoteattr(tag)} vr={quoteattr(vr)}{keyword}>"
    if "BulkDataURI" in element:
        inside = f"<BulkData uri={quoteattr(_text(element['BulkDataURI']))}/>"
    elif "InlineBinary" in element:
        inside = f"<InlineBinary>{_escaped(element['InlineBinary'])}</InlineBinary>"
    else:
        values: Sequence[Any] = element.get("Value") or ()
        inside = "".join(_value(vr, each, at + 1, depth) for at, each in enumerate(values))
    return f"{head}{inside}</DicomAttribute>"


def _value(vr: str, value: Any, number: int, depth: int) -> str:
    if vr == "SQ":
        inside = "".join(_elements(value or {}, depth + 1))
        return f'<Item number="{number}">{inside}</Item>'
    if vr == "PN":
        return f'<PersonName number="{number}">{_name(value or {})}</PersonName>'
    text = "" if value is None else _escaped(value)
    return f'<Value number="{number}">{text}</Value>'


def _name(groups: Mapping[str, str]) -> str:
    parts = []
    for group in _GROUPS:
        if groups.get(group):
            components = zip(_COMPONENTS, str(groups[group]).split("^"), strict=False)
            inside = "".join(
                f"<{name}>{_escaped(text)}</{name}>" for name, text in components if text
            )
            parts.append(f"<{group}>{inside}</{group}>")
    return "".join(parts)


def _escaped(value: Any) -> str:
    return escape(_text(value))


def _text(value: Any) -> str:
    return _UNWRITABLE.sub("\ufffd", str(value))
