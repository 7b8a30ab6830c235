# SPDX-License-Identifier: Apache-2.0
"""What every reader of facts shares: the two ways not to know, and reading small kernel files.

A parser raises `FactsUnreadable` and nothing else, whatever text it is given. A machine that lacks
a tool answers `NotAvailable`: a value, because not knowing is a fact an operator must see.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scrigno.core.errors import ScrignoError

_LARGEST: Final = 1 << 128  # of an NVMe counter
ATTRIBUTE_LIMIT_BYTES: Final = 64 << 10  # of one sysfs or procfs file: a page, mdstat a few


class FactsUnreadable(ScrignoError):
    """A tool or a kernel file said something its format does not allow."""

    code = "facts-unreadable"

    def __init__(self, source: str, reason: str) -> None:
        """Name the source (tool or file) and what is wrong with its text."""
        super().__init__(f"{source}: {reason}")
        self.source = source


@dataclass(frozen=True, slots=True, kw_only=True)
class NotAvailable:
    """Nothing can be said here, and why: no such tool, no answer in time, text not understood."""

    source: str
    reason: str
    absent: bool = False  # the tool is not installed, so asking again soon is no use


def read_text(path: Path) -> str:
    """Return a kernel file without its last newline, or "" when it is gone or refuses.

    Attributes vanish while they are read (a pulled disk gives ENOENT, ENODEV, EIO), so absence is
    an answer. Bytes that are no UTF-8 stay visible as escapes.
    """
    try:
        with path.open("rb", buffering=0) as file:
            content = file.read(ATTRIBUTE_LIMIT_BYTES)
    except OSError:
        return ""
    return (content or b"").decode("utf-8", "backslashreplace").strip("\n\x00 ")


def read_names(path: Path) -> tuple[str, ...]:
    """Return the sorted names in a kernel directory; nothing when it is not there."""
    try:
        return tuple(sorted(entry.name for entry in path.iterdir()))
    except OSError:
        return ()


def link_name(path: Path) -> str:
    """Return the last part of where a link leads, "" when there is none."""
    try:
        return path.readlink().name
    except OSError:
        return ""


def whole(text: object) -> int | None:
    """Return a whole number told as a number or as text, or None; no counter has over 128 bits."""
    if isinstance(text, bool) or not isinstance(text, int | str):
        return None
    try:
        value = int(text)
    except ValueError:
        return None
    return value if abs(value) <= _LARGEST else None


def number(text: object) -> float | None:
    """Return a finite number told as a number or as text, or None."""
    if isinstance(text, bool) or not isinstance(text, int | float | str):
        return None
    try:
        value = float(text)
    except (ValueError, OverflowError):
        return None
    return value if abs(value) < float("inf") else None


def key_values(text: str, separator: str = "=") -> Mapping[str, str]:
    """Return the `KEY=value` lines of a tool; lines of another form are not its facts."""
    found = {}
    for line in text.splitlines():
        key, middle, value = line.partition(separator)
        if middle and key.strip():
            found[key.strip()] = value.strip()
    return found


class Json:
    """JSON from a tool, walked without trusting it: what is not there is empty, not wrong."""

    __slots__ = ("_value",)

    def __init__(self, value: object) -> None:
        self._value = value

    @classmethod
    def parse(cls, content: bytes | str, source: str) -> "Json":
        """Return the object a tool printed; raises FactsUnreadable when it is none."""
        try:
            value = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise FactsUnreadable(source, "the output is not JSON") from error
        if not isinstance(value, dict):
            raise FactsUnreadable(source, "the output is not a JSON object")
        return cls(value)

    def __getitem__(self, key: str) -> "Json":
        return Json(self._value.get(key) if isinstance(self._value, dict) else None)

    def __contains__(self, key: str) -> bool:
        return isinstance(self._value, dict) and key in self._value

    def items(self) -> Iterator[tuple[str, "Json"]]:
        """Return the members of an object, nothing for anything else."""
        if isinstance(self._value, dict):
            yield from ((str(key), Json(value)) for key, value in self._value.items())

    def values(self) -> Iterator["Json"]:
        """Return what the members of an object hold."""
        yield from (value for _, value in self.items())

    def rows(self) -> Iterator["Json"]:
        """Return the objects of an array; gaps (null) are left out."""
        if isinstance(self._value, list):
            yield from (Json(value) for value in self._value if isinstance(value, dict))

    def texts(self) -> Iterator[str]:
        """Return the texts of an array."""
        if isinstance(self._value, list):
            yield from (value for value in self._value if isinstance(value, str))

    @property
    def text(self) -> str:
        """Return the text here, "" when there is none."""
        return self._value.strip() if isinstance(self._value, str) else ""

    @property
    def whole(self) -> int | None:
        """Return the whole number here, also when told as text."""
        return whole(self._value)

    @property
    def number(self) -> float | None:
        """Return the number here, also when told as text."""
        return number(self._value)

    @property
    def truth(self) -> bool | None:
        """Return true or false, None when neither was said."""
        return self._value if isinstance(self._value, bool) else None
