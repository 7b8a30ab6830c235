# SPDX-License-Identifier: Apache-2.0
"""Data sets as DICOM JSON (PS3.18 annex F), whatever stands in them. Worker process only.

A value that breaks its representation is given as the text it is, or left out; the rest of the
object is told all the same. Texts come out as UTF-8, so Specific Character Set says ISO_IR 192.
"""

import base64
import math
import struct
from collections.abc import Iterable
from typing import Any, Final

import numpy as np
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.valuerep import PersonName

from .dataset import MAX_DEPTH
from .errors import DecodeFailed, NoSuchValue

BULK_BYTES: Final = 1024  # longer binary values become bulk data
MAX_TEXT: Final = 1 << 20
MAX_VALUES: Final = 1 << 16  # numbers of one attribute; longer ones are bulk data
_CHARACTER_SET: Final = 0x00080005
_BINARY: Final = {"OB": 1, "UN": 1, "OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8}
_NUMBERS: Final = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d",
                   "UV": "Q", "SV": "q"}  # fmt: skip
_INTEGERS: Final = frozenset({"IS", "US", "SS", "UL", "SL", "UV", "SV"})
_DECIMALS: Final = frozenset({"DS", "FL", "FD"})
_GROUPS: Final = ("Alphabetic", "Ideographic", "Phonetic")

Attributes = dict[str, Any]


def described(dataset: Dataset, bulk_uri: str | None, *, depth: int = 0) -> Attributes:
    """Return the attributes by tag; raises DecodeFailed when sequences nest too deep."""
    if depth > MAX_DEPTH:
        raise DecodeFailed("The object's sequences are nested too deep.")
    found: Attributes = {}
    for tag in sorted(dataset.keys()):
        if tag.element == 0 or tag.group == 2:  # group lengths and file meta are no attributes
            continue
        name = f"{tag:08X}"
        try:
            element = dataset[tag]
        except Exception:  # noqa: BLE001 - a value that pydicom cannot make anything of
            found[name] = {"vr": "UN"}
            continue
        uri = f"{bulk_uri}/{name}" if bulk_uri is not None else None
        found[name] = _element(element, uri, little=_is_little(dataset), depth=depth)
    if "00080005" in found:
        found["00080005"] = {"vr": "CS", "Value": ["ISO_IR 192"]}
    return found


def _is_little(dataset: Dataset) -> bool:
    return dataset.original_encoding[1] is not False


def _element(element: DataElement, uri: str | None, *, little: bool, depth: int) -> Attributes:
    vr = _vr(element)
    said: Attributes = {"vr": vr}
    if vr == "SQ":
        items = [
            described(item, f"{uri}/{number}" if uri is not None else None, depth=depth + 1)
            for number, item in enumerate(element.value or ())
        ]
        if items:
            said["Value"] = items
        return said
    if vr in _BINARY:
        return said | _binary(element, vr, uri, little=little)
    values = [_value(each, vr) for each in _values(element)]
    if len(values) > MAX_VALUES:
        return said | ({"BulkDataURI": uri} if uri is not None else {})
    if any(value is not None for value in values):
        said["Value"] = values
    return said


def _vr(element: DataElement) -> str:
    vr = str(element.VR)
    if " or " not in vr:
        return vr
    return "OW" if "OW" in vr else "US"


def _binary(element: DataElement, vr: str, uri: str | None, *, little: bool) -> Attributes:
    content = binary_value(element, vr, little=little)
    if not content:
        return {}
    if len(content) > BULK_BYTES:
        return {"BulkDataURI": uri} if uri is not None else {}
    return {"InlineBinary": base64.b64encode(content).decode()}


def binary_value(element: DataElement, vr: str, *, little: bool) -> bytes:
    """Return the value in little endian."""
    value = element.value
    if isinstance(value, bytes | bytearray):
        content = bytes(value)
    elif isinstance(value, str):
        content = value.encode("latin_1", "replace")
    elif value is None:
        return b""
    else:
        kind = "<H" if vr == "OW" else "<f" if vr == "OF" else "<d" if vr == "OD" else "<I"
        numbers = value if isinstance(value, Iterable) else [value]
        try:
            return b"".join(struct.pack(kind, each) for each in numbers)
        except (struct.error, TypeError):
            return b""
    width = _BINARY[vr]
    if little or width == 1:
        return content
    whole = len(content) // width * width
    return np.frombuffer(content[:whole], f"u{width}").byteswap().tobytes() + content[whole:]


def _values(element: DataElement) -> list[Any]:
    value = element.value
    if value is None or value == "":
        return []
    if isinstance(value, MultiValue | list | tuple):
        return list(value)
    return [value]


def _value(value: Any, vr: str) -> Any:
    if value is None or value == "":
        return None
    if vr == "PN":
        return _person(value)
    if vr == "AT":
        try:
            return f"{int(value):08X}"
        except (TypeError, ValueError):
            return None
    if vr in _INTEGERS:
        try:
            return int(value)
        except (TypeError, ValueError, OverflowError):
            return _text(value)
    if vr in _DECIMALS:
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            return _text(value)
        if not math.isfinite(number):
            return None
        return int(number) if vr == "DS" and number.is_integer() and abs(number) < 1e15 else number
    return _text(value)


def _text(value: Any) -> str:
    # JSON takes every character, but lone surrogates are no UTF-8
    return str(value).encode("utf-8", "replace").decode()[:MAX_TEXT]


def _person(value: Any) -> Attributes | None:
    name = value if isinstance(value, PersonName) else PersonName(str(value))
    groups = str(name).split("=")[:3]
    return {
        group: _text(text) for group, text in zip(_GROUPS, groups, strict=False) if text
    } or None


def value_at(dataset: Dataset, path: str) -> bytes:
    """Return the value of the attribute at `path` in little endian.

    Raises NoSuchValue.
    """
    steps = path.split("/")
    if len(steps) % 2 == 0 or len(steps) > 2 * MAX_DEPTH:
        raise NoSuchValue("There is no such value.")
    try:
        for tag, number in zip(steps[:-1:2], steps[1::2], strict=True):
            dataset = dataset[int(tag, 16)].value[int(number)]
        element = dataset[int(steps[-1], 16)]
    except (KeyError, IndexError, ValueError, TypeError, AttributeError):
        raise NoSuchValue("The object has no value at this path.") from None
    vr = _vr(element)
    if vr in _BINARY:
        return binary_value(element, vr, little=_is_little(dataset))
    if vr in _NUMBERS:
        numbers = _values(element)
        return struct.pack(f"<{len(numbers)}{_NUMBERS[vr]}", *numbers)
    return "\\".join(_text(each) for each in _values(element)).encode()
