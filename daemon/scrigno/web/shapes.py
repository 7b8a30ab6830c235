# SPDX-License-Identifier: Apache-2.0
"""Bodies, answers and query strings as types; what is refused says which field and why.

A `Body` or an `Answer` is a msgspec Struct. The same type reads a request, writes an answer and
stands in the OpenAPI document, so the three cannot differ.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Final, TypeVar

import msgspec
from aiohttp import web
from msgspec import Meta

from .bodies import SMALL_BYTES, read_bytes
from .errors import BadBody, NotFound, NotPossible, RequestRefused, UnknownParameter

DEEPEST: Final = 32  # objects and lists inside each other in one body
MOST_REPEATED: Final = 32
_STRINGS: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"?', re.DOTALL)
_INTEGER: Final = re.compile(r"-?[0-9]{1,18}")
_NUMBER: Final = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,18})?([eE][+-]?[0-9]{1,2})?")
_LARGEST: Final = 2**53
_SEE: Final = "The document at /viewer/api/openapi.json says what the body may be."
_WHERE: Final = re.compile(r"^(.*?)(?: - at `\$\.?(.*)`)?$", re.DOTALL)

# One line without control characters. Python's `$` also stands before a last line feed; the
# look-ahead takes that back and means nothing to other engines.
ONE_LINE: Final = r"^[^\x00-\x1f\x7f]*$(?!\n)"
NOT_BLANK: Final = r"^(?=[^\x00]*\S)[^\x00]*$(?!\x00)"
NO_NULL: Final = r"^[^\x00]*$(?!\x00)"

# Texts. Take the narrowest that fits; each length is refused before anything is done with it.
Word = Annotated[str, Meta(min_length=1, max_length=64, pattern=ONE_LINE)]
Line = Annotated[str, Meta(max_length=256, pattern=ONE_LINE)]
Text = Annotated[str, Meta(max_length=1024, pattern=NO_NULL)]
LongText = Annotated[str, Meta(max_length=16384, pattern=NO_NULL)]
# not only digits and dots: what devices and de-identifiers write instead is kept and must open
Uid = Annotated[
    str, Meta(min_length=1, max_length=64, pattern=r"^[0-9A-Za-z][0-9A-Za-z._-]*$(?!\n)")
]
Moment = Annotated[str, Meta(max_length=40, extra_json_schema={"format": "date-time"})]
# A time in a body; read by `time_of`.
Time = Annotated[
    str,
    Meta(
        max_length=40,
        pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:\d\d)?$(?!\n)",
        extra_json_schema={"format": "date-time"},
    ),
]
# Numbers. JavaScript holds whole numbers up to 2**53 - 1.
Id = Annotated[int, Meta(ge=1, le=2**53 - 1)]
Count = Annotated[int, Meta(ge=0, le=2**53 - 1)]


class Body(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What a request brings; unknown fields are refused.

    msgspec does not hand `kw_only` down: a class whose fields without a default stand after some
    with one says `kw_only=True` again.
    """


class Answer(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What a route answers."""


class Binary:
    """A body or an answer that is no JSON: the content type says what it is."""


class Nothing(Body):
    """A body that may be left out and says nothing."""


def time_of(text: str, name: str) -> datetime:
    """Return the moment that a Time says, in UTC where it says no zone; raises NotPossible."""
    try:
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise NotPossible(f"{name} is no moment of the calendar.") from error


def encoded(answer: Any) -> bytes:
    """Return an Answer, or JSON values, as JSON."""
    return msgspec.json.encode(answer, enc_hook=_plain_value)


def as_plain(answer: Any) -> Any:
    """Return an Answer as dictionaries, lists and texts."""
    return msgspec.to_builtins(answer, enc_hook=_plain_value)


def _plain_value(value: object) -> object:
    if isinstance(value, str):  # Phi: these are the doors through which it may leave
        return str.__str__(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise NotImplementedError(f"{type(value).__name__} is no JSON value.")


B = TypeVar("B", bound=msgspec.Struct)


async def read_body(request: web.Request, shape: type[B], *, limit: int = SMALL_BYTES) -> B:
    """Return the JSON body as `shape`; raises BadBody with the path of the field, BodyTooLarge.

    The content type must say JSON: a form of another site cannot send that without being asked.
    """
    if request.content_type != "application/json":
        raise BadBody("The body must be application/json.", next_step=_SEE)
    return parse(await read_bytes(request, limit), shape)


async def read_optional_body(
    request: web.Request, shape: type[B], *, limit: int = SMALL_BYTES
) -> B:
    """Return the JSON body as `shape`, its defaults when there is none; raises BadBody."""
    if not request.body_exists:
        return shape()
    return await read_body(request, shape, limit=limit)


def parse(content: bytes, shape: type[B]) -> B:
    """Return JSON as `shape`; raises BadBody."""
    _require_shallow(content)
    try:
        try:
            return msgspec.json.decode(content, type=shape)
        except msgspec.ValidationError as error:
            if "got `float`" not in str(error):
                raise
        # to JSON Schema 2.0 is a whole number
        return msgspec.convert(_whole(msgspec.json.decode(content)), type=shape)
    except msgspec.ValidationError as error:
        raise bad_field(error) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadBody("The body is not valid JSON.") from error


def _whole(value: Any) -> Any:
    match value:
        case dict():
            return {name: _whole(each) for name, each in value.items()}
        case list():
            return [_whole(each) for each in value]
        case float() if value.is_integer() and abs(value) < _LARGEST:
            return int(value)
        case _:
            return value


def bad_field(error: msgspec.ValidationError) -> BadBody:
    """Return the refusal for what msgspec says; its message names types and never the value."""
    found = _WHERE.match(str(error))
    what, where = (found[1], found[2] or "") if found else (str(error), "")
    refusal = BadBody(f"{where or 'The body'}: {what.replace('`', '')}.", next_step=_SEE)
    refusal.field = where
    return refusal


def _require_shallow(content: bytes) -> None:
    depth = 0
    for byte in re.sub(rb"[^][{}]+", b"", _STRINGS.sub(b"", content)):
        depth += 1 if byte in b"[{" else -1
        if depth > DEEPEST:
            raise BadBody(f"The body is nested more than {DEEPEST} deep.")


# Query strings and path parameters -------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Query:
    """One key of a query string, or one part of a path.

    `kind` is str, int, float, bool, a StrEnum, a Literal or one of these with a Meta; bounds may
    be given here instead. `many` keys may be repeated and are a tuple.
    """

    name: str
    kind: Any = str
    default: Any = None
    about: str = ""
    ge: float | None = None
    le: float | None = None
    max_length: int | None = None
    many: bool = False
    required: bool = False

    def type(self) -> Any:
        """Return the type with its bounds, as msgspec reads it."""
        bounds: dict[str, Any] = {"ge": self.ge, "le": self.le, "max_length": self.max_length}
        if self.kind is str:
            bounds |= {"max_length": self.max_length or 256, "pattern": NO_NULL}
        given = {name: bound for name, bound in bounds.items() if bound is not None}
        return Annotated[self.kind, Meta(**given)] if given else self.kind

    def read(self, text: str) -> Any:
        """Return the value of a text; raises ValueError with what is allowed."""
        return msgspec.convert(_plain(text, _base(self.kind)), self.type())


# Keys that mean the same in every list.
BEFORE: Final = Query("before", int, 0, "Only what has a smaller number", ge=0, le=2**53 - 1)
AFTER: Final = Query("after", int, 0, "Only what has a larger number", ge=0, le=2**53 - 1)
LANGUAGE: Final = Query("language", str, "", "In which language, as BCP 47 names it", max_length=16)


def limit_of(most: int, usual: int = 100) -> Query:
    """Return the key that says how many lines a page may have."""
    return Query("limit", int, min(usual, most), "Lines at most", ge=1, le=most)


def _base(kind: Any) -> Any:
    return kind.__origin__ if hasattr(kind, "__metadata__") else kind


def _plain(text: str, base: Any) -> Any:
    if base is int and _INTEGER.fullmatch(text):
        return int(text)
    if base is float and _NUMBER.fullmatch(text):
        return float(text)
    if base is bool and text in {"true", "false"}:
        return text == "true"
    return text


QUERY: Final = web.RequestKey("query", dict[str, Any])
PATH: Final = web.RequestKey("path", dict[str, Any])


def query_of(request: web.Request) -> dict[str, Any]:
    """Return the values of the route's declared keys; what was not given is its default."""
    return request[QUERY]


def path_of(request: web.Request) -> dict[str, Any]:
    """Return the values of the variable parts of the path, by their declared types."""
    return request[PATH]


def parse_query(request: web.Request, keys: Sequence[Query], *, free: bool) -> dict[str, Any]:
    """Return the declared values; raises RequestRefused, UnknownParameter unless `free`."""
    given, known = request.query, {each.name: each for each in keys}
    if not free:
        for name in given:
            if name not in known:
                raise UnknownParameter(
                    f"The query string has a key that is not known here: {name[:64]!r}.",
                    next_step=f"Known are: {', '.join(known) or 'none'}.",
                )
    return {each.name: _values(each, given.getall(each.name, [])) for each in keys}


def _values(key: Query, texts: Sequence[str]) -> Any:
    if not texts:
        if key.required:
            raise RequestRefused(f"{key.name} is missing in the query string.")
        return key.default if not key.many else key.default or ()
    if len(texts) > (MOST_REPEATED if key.many else 1):
        raise RequestRefused(f"{key.name} is given too often.")
    try:
        found = tuple(key.read(each) for each in texts)
    except (ValueError, msgspec.ValidationError) as error:
        raise RequestRefused(f"{key.name}: {str(error).replace('`', '')}.") from error
    return found if key.many else found[0]


# parts of paths that mean the same everywhere
_KINDS: Final[Mapping[str, Any]] = {
    "uid": Uid, "study": Uid, "series": Uid, "instance": Uid, "id": Word, "number": Id,
}  # fmt: skip


def path_part(name: str, pattern: str, declared: Mapping[str, Any]) -> Query:
    """Return how the part `name` of a path is read: as declared, else by its pattern and name."""
    kind = declared.get(name)
    if kind is None:
        kind = Id if pattern == r"\d+" else _KINDS.get(name, Word)
    return Query(name, kind, required=True)


def parse_path(request: web.Request, parts: Sequence[Query]) -> dict[str, Any]:
    """Return the variable parts of the path; raises NotFound for what can be none."""
    try:
        return {each.name: each.read(request.match_info[each.name]) for each in parts}
    except (ValueError, msgspec.ValidationError) as error:
        raise NotFound("There is nothing at this address.") from error
