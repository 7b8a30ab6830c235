# SPDX-License-Identifier: Apache-2.0
"""The kinds of value a settings document holds: how to read, write and describe each.

Reading never raises: what is wrong is appended to the caller's list of problems, so that a
document is reported with all its faults at once, and `BAD` stands in for the value.
"""

import difflib
import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum, StrEnum
from pathlib import Path as FilePath
from pathlib import PurePosixPath
from typing import Any, Final, Protocol

from .document import Node, Path, Plain, Problem


class Bad(Enum):
    """Marks a value that could not be read."""

    BAD = "bad"


BAD: Final = Bad.BAD


class Kind(Protocol):
    """What a value may be."""

    @property
    def allowed(self) -> str:
        """Return in words what is allowed."""

    def read(self, node: Node, path: Path, problems: list[Problem]) -> Any:
        """Return the typed value, or BAD after appending why."""

    def plain(self, value: Any) -> Plain:
        """Return the value as JSON and YAML hold it."""

    def json_schema(self) -> dict[str, Any]:
        """Return the JSON Schema (2020-12) of the kind."""


def _wrong(node: Node, path: Path, problems: list[Problem], allowed: str) -> Bad:
    match node.value:
        case dict():
            shown = "a group of keys"
        case list():
            shown = "a list"
        case None:
            shown = "nothing"
        case _:
            shown = repr(node.text[:60])
    problems.append(Problem(path=path, what=f"{shown} is not allowed here", allowed=allowed))
    return BAD


def _is_scalar(node: Node) -> bool:
    """Tell whether the node is a text: in YAML as it was written, in JSON only in quotes."""
    if node.line is None:
        return isinstance(node.value, str)
    return node.value is not None and not isinstance(node.value, dict | list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A text that matches `pattern` as a whole and passes `check`."""

    allowed: str
    pattern: str
    check: Callable[[str], bool] = lambda _: True

    def read(self, node: Node, path: Path, problems: list[Problem]) -> Any:
        """Take the text as written, so an AE title of digits needs no quotes."""
        text = node.text
        if _is_scalar(node) and re.fullmatch(self.pattern, text) and self.check(text):
            return text
        return _wrong(node, path, problems, self.allowed)

    def plain(self, value: Any) -> Plain:
        """Return the text."""
        return str(value)

    def json_schema(self) -> dict[str, Any]:
        """Return a string schema."""
        return {"type": "string", "pattern": f"^(?:{self.pattern})$"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """A whole number; `nothing` names what null means where null is allowed."""

    lowest: int
    highest: int
    nothing: str = ""

    @property
    def allowed(self) -> str:
        """Return the range in words."""
        words = f"a whole number from {self.lowest} to {self.highest}"
        return f"{words}, or null ({self.nothing})" if self.nothing else words

    def read(self, node: Node, path: Path, problems: list[Problem]) -> Any:
        """Take an integer in range; true and false are no numbers."""
        value = node.value
        if value is None and self.nothing:
            return None
        whole = isinstance(value, int) and not isinstance(value, bool)
        if isinstance(value, int) and whole and self.lowest <= value <= self.highest:
            return value
        return _wrong(node, path, problems, self.allowed)

    def plain(self, value: Any) -> Plain:
        """Return the number or None."""
        return None if value is None else int(value)

    def json_schema(self) -> dict[str, Any]:
        """Return an integer schema."""
        kind: Any = ["integer", "null"] if self.nothing else "integer"
        return {"type": kind, "minimum": self.lowest, "maximum": self.highest}


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """True or false."""

    @property
    def allowed(self) -> str:
        """Return the two words."""
        return "true or false"

    def read(self, node: Node, path: Path, problems: list[Problem]) -> Any:
        """Take a boolean."""
        if isinstance(node.value, bool):
            return node.value
        return _wrong(node, path, problems, self.allowed)

    def plain(self, value: Any) -> Plain:
        """Return the boolean."""
        return bool(value)

    def json_schema(self) -> dict[str, Any]:
        """Return a boolean schema."""
        return {"type": "boolean"}


@dataclass(frozen=True, slots=True, kw_only=True)
class OneOf:
    """One word of a closed set; `nothing` names what null means where null is allowed."""

    words: type[StrEnum]
    nothing: str = ""

    @property
    def allowed(self) -> str:
        """Return the words."""
        words = ", ".join(self.words)
        return f"{words}, or null ({self.nothing})" if self.nothing else words

    def read(self, node: Node, path: Path, problems: list[Problem]) -> Any:
        """Take one of the words."""
        if node.value is None and self.nothing:
            return None
        if _is_scalar(node) and node.text in list(self.words):
            return self.words(node.text)
        return _wrong(node, path, problems, self.allowed)

    def plain(self, value: Any) -> Plain:
        """Return the word."""
        return None if value is None else str(value)

    def json_schema(self) -> dict[str, Any]:
        """Return an enumeration."""
        return {"enum": [*(str(word) for word in self.words), *([None] if self.nothing else [])]}


@dataclass(frozen=True, slots=True, kw_only=True)
class SomeOf:
    """A set of words of a closed set."""

    words: type[StrEnum]

    @property
    def allowed(self) -> str:
        """Return the words."""
        return f"a list of {', '.join(self.words)}"

    def read(self, node: Node, path: Path, problems: list[Problem]) -> Any:
        """Take a list of the words; order and repetition do not matter."""
        if not isinstance(node.value, list):
            return _wrong(node, path, problems, self.allowed)
        one = OneOf(words=self.words)
        found = [one.read(each, (*path, i), problems) for i, each in enumerate(node.value)]
        return BAD if BAD in found else frozenset(found)

    def plain(self, value: Any) -> Plain:
        """Return the words in the order of their definition."""
        return [str(word) for word in self.words if word in value]

    def json_schema(self) -> dict[str, Any]:
        """Return an array of an enumeration."""
        return {"type": "array", "items": {"enum": [str(word) for word in self.words]}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """An absolute path without `..`; `nothing` names what null means where null is allowed."""

    nothing: str = ""

    @property
    def allowed(self) -> str:
        """Return the rule in words."""
        words = "an absolute path without '..'"
        return f"{words}, or null ({self.nothing})" if self.nothing else words

    def read(self, node: Node, path: Path, problems: list[Problem]) -> Any:
        """Take the path as written; it need not exist."""
        if node.value is None and self.nothing:
            return None
        text = node.text
        if (
            _is_scalar(node)
            and text.startswith("/")
            and text.isprintable()
            and len(text) <= 1024
            and ".." not in PurePosixPath(text).parts
            and text.strip("/")
        ):
            return FilePath(text)
        return _wrong(node, path, problems, self.allowed)

    def plain(self, value: Any) -> Plain:
        """Return the path as text."""
        return None if value is None else str(value)

    def json_schema(self) -> dict[str, Any]:
        """Return a string schema."""
        return {"type": ["string", "null"] if self.nothing else "string", "pattern": "^/"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Timestamp:
    """A moment with its offset from UTC, or null."""

    @property
    def allowed(self) -> str:
        """Return the form in words."""
        return "a time as 2026-01-31T12:00:00+00:00, or null"

    def read(self, node: Node, path: Path, problems: list[Problem]) -> Any:
        """Take ISO 8601 with an offset."""
        if node.value is None:
            return None
        try:
            moment = datetime.fromisoformat(node.text)
        except ValueError:
            return _wrong(node, path, problems, self.allowed)
        if moment.tzinfo is None:
            return _wrong(node, path, problems, self.allowed)
        return moment.astimezone(UTC)

    def plain(self, value: Any) -> Plain:
        """Return ISO 8601 in UTC."""
        return None if value is None else value.isoformat(timespec="seconds")

    def json_schema(self) -> dict[str, Any]:
        """Return a date-time schema."""
        return {"type": ["string", "null"], "format": "date-time"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ListOf:
    """Any number of values of one kind, at most `most`."""

    item: Kind
    most: int = 10_000

    @property
    def allowed(self) -> str:
        """Return the rule in words."""
        return "a list"

    def read(self, node: Node, path: Path, problems: list[Problem]) -> Any:
        """Take a list; an empty key (null) is the empty list."""
        if node.value is None:
            return ()
        if not isinstance(node.value, list) or len(node.value) > self.most:
            return _wrong(node, path, problems, f"a list of at most {self.most}")
        values = [self.item.read(each, (*path, i), problems) for i, each in enumerate(node.value)]
        return BAD if BAD in values else tuple(values)

    def plain(self, value: Any) -> Plain:
        """Return the items as a list."""
        return [self.item.plain(each) for each in value]

    def json_schema(self) -> dict[str, Any]:
        """Return an array schema."""
        return {"type": ["array", "null"], "items": self.item.json_schema()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One key of a group: its kind, what it is for, and whether it may be left out."""

    kind: Kind
    about: str
    required: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Named keys that make one typed value; keys left out take the defaults of `build`."""

    build: Callable[..., Any]
    keys: Mapping[str, Key]
    parts: Callable[[Any], Mapping[str, Any]] = field(
        default=lambda value: {name: getattr(value, name) for name in value.__dataclass_fields__}
    )

    @property
    def allowed(self) -> str:
        """Return the keys."""
        return f"the keys {', '.join(self.keys)}"

    def read(self, node: Node, path: Path, problems: list[Problem]) -> Any:
        """Take the keys; an unknown one is an error that names its nearest relative."""
        entries = {} if node.value is None else node.value
        if not isinstance(entries, dict):
            return _wrong(node, path, problems, self.allowed)
        before = len(problems)
        problems += [self._unknown(name, path) for name in entries if name not in self.keys]
        values: dict[str, Any] = {}
        for name, key in self.keys.items():
            if name in entries:
                values[name] = key.kind.read(entries[name], (*path, name), problems)
            elif key.required:
                missing = Problem(path=(*path, name), what="is missing", allowed=key.kind.allowed)
                problems.append(missing)
        return BAD if len(problems) > before else self.build(**values)

    def _unknown(self, name: str, path: Path) -> Problem:
        near = difflib.get_close_matches(name, self.keys, n=1, cutoff=0.5)
        hint = f" (did you mean {near[0]}?)" if near else ""
        what = f"is not a known key{hint}"
        return Problem(path=(*path, name), what=what, allowed=self.allowed)

    def plain(self, value: Any) -> Plain:
        """Return every key with its value."""
        parts = self.parts(value)
        return {name: key.kind.plain(parts[name]) for name, key in self.keys.items()}

    def json_schema(self) -> dict[str, Any]:
        """Return an object schema that knows every key."""
        schema: dict[str, Any] = {
            "type": "object",
            "properties": {
                name: {"description": key.about, **key.kind.json_schema()}
                for name, key in self.keys.items()
            },
            "additionalProperties": False,
        }
        required = [name for name, key in self.keys.items() if key.required]
        return {**schema, "required": required} if required else schema


_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*\.?")


def is_address(text: str) -> bool:
    """Tell whether `text` is an IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_network(text: str) -> bool:
    """Tell whether `text` is a network such as 192.168.1.0/24."""
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return False
    return "/" in text


def is_host(text: str) -> bool:
    """Tell whether `text` is an address or a host name (RFC 1123 section 2.1)."""
    if is_address(text):
        return True
    looks_like_address = re.fullmatch(r"[0-9.]+", text) is not None
    return len(text) <= 253 and not looks_like_address and bool(_HOST_NAME.fullmatch(text))
