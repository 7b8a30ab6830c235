# SPDX-License-Identifier: Apache-2.0
"""The index attributes of an object, scanned by hand from the bytes of its data set.

This runs in the main process for every image received, so it is one loop over element headers that
touches no value but the wanted ones, stops at the first tag behind them and never recurses.
"""

import struct
import zlib
from dataclasses import dataclass, field
from typing import Any, Final

from scrigno.core.attributes import (
    IndexAttributes,
    InstanceAttributes,
    PatientAttributes,
    PersonName,
    SeriesAttributes,
    StudyAttributes,
)
from scrigno.core.phi import Phi

from .charset import TextDecoder, decoder_for
from .dataset import (
    BIG,
    DEFLATED_LE,
    DELIMITERS,
    EXPLICIT,
    EXPLICIT_BE,
    EXPLICIT_LE,
    IMPLICIT,
    IMPLICIT_LE,
    MAX_ELEMENTS,
    SHORT_VRS,
    UNDEFINED,
    Broken,
    Budget,
    Cut,
    Element,
    Encoding,
    after,
    element_at,
    elements,
    encoding_of,
    inner,
    items_of,
    looks_like,
)
from .errors import HeaderIncomplete, HeaderUnreadable
from .wanted import (
    LAST_TAG,
    REQUEST_ATTRIBUTES,
    REQUEST_KEYWORDS,
    SERIES_INSTANCE_UID,
    SPECIFIC_CHARACTER_SET,
    STOP_TAG,
    WANTED,
    Kind,
    Wanted,
)

# LT, the longest text wanted, holds 10240 characters (PS3.5 section 6.2) of at most four bytes
MAX_VALUE_BYTES: Final = 40_960
MAX_REQUESTS: Final = 16
MAX_PROBLEMS: Final = 20
# PS3.5 sets no limit for the deflated syntax; a header that needs more than this is an attack
MAX_INFLATED_BYTES: Final = 16 << 20
MAX_INFLATE_RATIO: Final = 100

_NO_NAME: Final = PersonName()
_LITTLE: Final = struct.Struct("<HH2sH")
_BIG: Final = struct.Struct(">HH2sH")
_NAMES: Final = {IMPLICIT: IMPLICIT_LE, EXPLICIT: EXPLICIT_LE, BIG: EXPLICIT_BE}
_WORDS: Final = {
    IMPLICIT: "implicit VR little endian",
    EXPLICIT: "explicit VR little endian",
    BIG: "explicit VR big endian",
}


@dataclass(slots=True)
class _Scan:
    """What a pass over the elements left behind."""

    values: dict[int, tuple[Wanted, bytes]] = field(default_factory=dict)
    requests: Element | None = None
    encoding: Encoding = EXPLICIT
    last_tag: int = -1
    stopped: bool = False  # at a tag behind the wanted ones
    problems: list[str] = field(default_factory=list)

    def note(self, problem: str) -> None:
        if len(self.problems) < MAX_PROBLEMS and problem not in self.problems:
            self.problems.append(problem)


def read_index_attributes(
    head: bytes | memoryview,
    *,
    transfer_syntax_uid: str,
    sop_class_uid: str,
    sop_instance_uid: str,
    default_character_set: str = "",
    size: int | None = None,
) -> IndexAttributes:
    """Read what the catalogue keeps from `head`, the first bytes of the data set (no file meta).

    `size` is the length of the whole data set in bytes when the caller knows it: with it, an
    object that ends too early is told from a head that is too short. Without it, a head that ends
    between two elements counts as whole and one that ends inside an element as too short.

    A fault behind the Series Instance UID is told in `problems` and what stands before it counts;
    a fault before it raises `HeaderUnreadable`. Raises `HeaderIncomplete` (read more, see
    `needed_bytes`) and `HeaderUnreadable`, never anything else. The UIDs given stand in for those
    that the data set lacks. A tag that occurs twice counts with its last value, as in pydicom.
    """
    data = bytes(head)
    if transfer_syntax_uid == DEFLATED_LE:
        data, scan = _scan_deflated(data, size)
    else:
        encoding = encoding_of(transfer_syntax_uid)
        whole = size is not None and len(data) >= size
        scan = _scan_checked(data, encoding, size=size, whole=whole)
    return _attributes(data, scan, _Labels(transfer_syntax_uid, sop_class_uid, sop_instance_uid),
                       default_character_set)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Labels:
    transfer_syntax_uid: str
    sop_class_uid: str
    sop_instance_uid: str


def _scan_checked(data: bytes, encoding: Encoding, *, size: int | None, whole: bool) -> _Scan:
    """Scan, turning what stops the scan into a problem or into the right exception."""
    _refuse_wrong_label(data, encoding)
    scan = _Scan(encoding=encoding)
    try:
        _scan(data, encoding, scan)
    except Cut as cut:
        if not whole and (size is None or cut.needed <= size):
            raise HeaderIncomplete(
                "The header goes on behind the bytes given.", needed_bytes=cut.needed
            ) from None
        fault = "an element reaches past the end of the object"
    except Broken as broken:
        fault = str(broken)
    else:
        if not scan.stopped and size is not None and not whole:
            raise HeaderIncomplete(
                "The header goes on behind the bytes given.", needed_bytes=len(data) + 1
            )
        if not data:
            raise HeaderUnreadable("The data set is empty.")
        return scan
    behind = f"behind ({scan.last_tag >> 16:04X},{scan.last_tag & 0xFFFF:04X})"
    if scan.last_tag < SERIES_INSTANCE_UID:
        behind = behind if scan.last_tag >= 0 else "at its beginning"
        raise HeaderUnreadable(f"The data set cannot be followed {behind}: {fault}.")
    scan.note(f"the data set cannot be followed {behind}: {fault}")
    return scan


def _refuse_wrong_label(data: bytes, encoding: Encoding) -> None:
    seen = looks_like(data)
    if seen is not None and seen is not encoding:
        raise HeaderUnreadable(
            f"The object is labelled {_WORDS[encoding]} but its data set begins as {_WORDS[seen]}.",
            likely_transfer_syntax=_NAMES[seen],
        )


def _scan_deflated(deflated: bytes, size: int | None) -> tuple[bytes, _Scan]:
    """Inflate as much as the header needs, within limits, and scan it (PS3.5 annex A.5)."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    limit = min(MAX_INFLATED_BYTES, max(1 << 20, MAX_INFLATE_RATIO * len(deflated)))
    step = 32 << 10  # holds most headers
    data = b""
    source = deflated
    while True:
        try:
            data += inflater.decompress(source, step)
        except zlib.error:
            raise HeaderUnreadable("The deflated data set cannot be inflated.") from None
        source = inflater.unconsumed_tail
        whole = inflater.eof or (not source and size is not None and len(deflated) >= size)
        try:
            return data, _scan_checked(data, EXPLICIT, size=None if whole else 1 << 62, whole=whole)
        except HeaderIncomplete:
            if len(data) >= limit:
                raise HeaderUnreadable(
                    f"The deflated header is larger than {limit} bytes."
                ) from None
            if not source and not inflater.eof:
                raise HeaderIncomplete(
                    "The header goes on behind the bytes given.", needed_bytes=2 * len(deflated) + 1
                ) from None
        step = min(len(data) * 3, limit - len(data)) or 1


def _scan(data: bytes, encoding: Encoding, scan: _Scan) -> None:  # noqa: C901 - one hot loop
    """Collect the raw values of the wanted tags; raise `Cut` or `Broken` where it ends too early.

    `scan.last_tag` is the last element that is all there. The order of the cases is by how often
    they occur, measured by bench/header_scan.py.
    """
    explicit = encoding.explicit
    unpack = (_LITTLE if encoding.little else _BIG).unpack_from
    short_vrs, wanted_tags, values = SHORT_VRS, WANTED, scan.values
    size = len(data)
    position, left = 0, MAX_ELEMENTS
    while position < size:
        if position + 8 > size:
            raise Cut(position + 8)
        group, number, vr, length = unpack(data, position)
        tag = group << 16 | number
        if tag > LAST_TAG or tag == STOP_TAG:
            if group != DELIMITERS:
                scan.stopped = True
                return
            # left behind by an anonymiser that removed the sequence around it: seen in the field
            scan.note("an item or a delimiter stands outside a sequence")
        left -= 1
        if left < 0:
            raise Broken("it has too many elements")
        if explicit and vr in short_vrs:
            start = position + 8
        else:
            _, vr, start, length = element_at(data, position, encoding)
        if length == UNDEFINED:
            budget = Budget(left)
            position = after(data, Element(tag, vr, start, length), encoding, budget, depth=1)
            left = budget.left
        else:
            position = start + length
            if position > size:
                raise Cut(position)
        wanted = wanted_tags.get(tag)
        if wanted is not None:
            values[tag] = (wanted, data[start:position] if length != UNDEFINED else b"")
        elif tag == REQUEST_ATTRIBUTES:
            scan.requests = Element(tag, vr, start, length)
        if tag <= scan.last_tag:
            scan.note("tags are not in ascending order or occur twice")
        elif group != DELIMITERS:
            scan.last_tag = tag


def _attributes(
    data: bytes, scan: _Scan, labels: _Labels, default_character_set: str
) -> IndexAttributes:
    """Decode what the scan collected."""
    named = scan.values.get(SPECIFIC_CHARACTER_SET)
    character_set = named[1][:512] if named else b""
    decoder = decoder_for(character_set, default_character_set)
    if decoder.problem:
        scan.note(decoder.problem)
    rooms = _decoded(scan, decoder, big=labels.transfer_syntax_uid == EXPLICIT_BE)
    patient, study, series, instance, _ = rooms
    if not study.setdefault("study_instance_uid", ""):
        scan.note("the object names no Study Instance UID")
    if not series.setdefault("series_instance_uid", ""):
        scan.note("the object names no Series Instance UID")
    if not instance.get("sop_class_uid"):
        instance["sop_class_uid"] = labels.sop_class_uid
        scan.note("the object names no SOP Class UID")
    if not instance.get("sop_instance_uid"):
        instance["sop_instance_uid"] = labels.sop_instance_uid
        scan.note("the object names no SOP Instance UID")
    if scan.requests is not None:
        series["request_attributes"] = _requests(data, scan, scan.requests, decoder)
    return IndexAttributes(
        patient=PatientAttributes(**patient),
        study=StudyAttributes(**study),
        series=SeriesAttributes(**series),
        instance=InstanceAttributes(transfer_syntax_uid=labels.transfer_syntax_uid, **instance),
        character_set=_code(character_set),
        problems=tuple(scan.problems),
    )


def _decoded(scan: _Scan, decoder: TextDecoder, *, big: bool) -> list[dict[str, Any]]:
    """Return the fields of each room, in the order of `Room`."""
    rooms: list[dict[str, Any]] = [{}, {}, {}, {}, {}]
    name_kind = Kind.NAME
    for wanted, raw in scan.values.values():
        _, room, name, kind, _, private, plain = wanted
        if plain and raw.isascii() and 92 not in raw and 27 not in raw and len(raw) < 128:
            # the short way: no delimiter, no escape sequence, padding only at the ends
            text = raw.decode("ascii").strip("\0 ")
            if "\0" in text or (kind is name_kind and "=" in text):
                rooms[room][name] = _value(wanted, raw, decoder, scan, big=big)
            elif kind is name_kind:
                rooms[room][name] = PersonName(alphabetic=Phi(text)) if text else _NO_NAME
            else:
                rooms[room][name] = Phi(text) if private else text
        else:
            rooms[room][name] = _value(wanted, raw, decoder, scan, big=big)
    return rooms


def _value(
    wanted: Wanted, raw: bytes, decoder: TextDecoder, scan: _Scan, *, big: bool
) -> str | PersonName | int | None:
    """Decode one raw value by what the attribute is, whatever value representation was written."""
    kind = wanted.kind
    if len(raw) > MAX_VALUE_BYTES:
        scan.note(f"{wanted.label} is longer than {MAX_VALUE_BYTES} bytes and is cut")
        raw = raw[:MAX_VALUE_BYTES]
    if kind is Kind.CODE:
        text = _code(raw)
        return Phi(text) if wanted.private else text
    if kind is Kind.SHORT:
        return _unsigned(raw, wanted, scan, big=big)
    if kind is Kind.COUNT:
        return _count(raw, wanted, scan)
    text, problem = decoder.decode(raw, name=kind is Kind.NAME)
    if problem:
        scan.note(f"{wanted.label} {problem}")
    if kind is Kind.NAME:
        return _person_name(_clean(text))
    text = _clean(text, leading=kind is Kind.TEXT)
    return Phi(text) if wanted.private else text


def _code(raw: bytes) -> str:
    """Decode a value of the default repertoire (CS, DA, TM, UI, DS, IS, AS)."""
    return _clean(raw.decode("ascii" if raw.isascii() else "latin_1"))


def _clean(text: str, *, leading: bool = True) -> str:
    """Take padding off (PS3.5 section 6.2), of each value; a NUL inside becomes U+FFFD."""
    text = text.strip("\0 ") if leading else text.rstrip("\0 ")
    if "\\" in text and leading:
        text = "\\".join([value.strip("\0 ") for value in text.split("\\")])
    return text.replace("\0", "\ufffd") if "\0" in text else text


def _person_name(text: str) -> PersonName:
    if "\\" not in text:
        return PersonName.parse(text)
    names = [PersonName.parse(value) for value in text.split("\\")]
    groups = ("alphabetic", "ideographic", "phonetic")
    joined = ("\\".join([str(getattr(name, group)) for name in names]) for group in groups)
    alphabetic, ideographic, phonetic = (Phi(text if text.strip("\\") else "") for text in joined)
    return PersonName(alphabetic=alphabetic, ideographic=ideographic, phonetic=phonetic)


def _unsigned(raw: bytes, wanted: Wanted, scan: _Scan, *, big: bool) -> int | None:
    """Read the first US, or a UL or SL that a writer put in its place."""
    if not raw:
        return None
    if len(raw) not in (2, 4):
        scan.note(f"{wanted.label} is not one number of 16 bits")
    return int.from_bytes(raw[: 4 if len(raw) == 4 else 2], "big" if big else "little")


def _count(raw: bytes, wanted: Wanted, scan: _Scan) -> int | None:
    """Read an IS (PS3.5 section 6.2: within 32 bits) that is a number of things."""
    text = _code(raw[:64]).partition("\\")[0]
    if not text:
        return None
    if text.isascii() and text.lstrip("+").isdigit() and int(text) < 1 << 31:
        return int(text)
    scan.note(f"{wanted.label} is no number that can be")
    return None


def _requests(
    data: bytes, scan: _Scan, sequence: Element, decoder: TextDecoder
) -> tuple[dict[str, str], ...]:
    """Return the items of the Request Attributes Sequence as far as they can be read."""
    requests: list[dict[str, str]] = []
    encoding = inner(sequence, scan.encoding)
    budget = Budget(2_000)
    try:
        for start, end in items_of(data, sequence, encoding, budget):
            if len(requests) == MAX_REQUESTS:
                scan.note(f"more than {MAX_REQUESTS} items in Request Attributes Sequence")
                break
            requests.append(_request(data, (start, end), encoding, budget, decoder))
    except (Cut, Broken):
        scan.note("Request Attributes Sequence (0040,0275) cannot be followed")
    return tuple(request for request in requests if request)


def _request(
    data: bytes, span: tuple[int, int], encoding: Encoding, budget: Budget, decoder: TextDecoder
) -> dict[str, str]:
    request: dict[str, str] = {}
    for element in elements(data, *span, encoding, budget, depth=2):
        raw = data[element.start : element.start + min(element.length, 1024)]
        if element.tag == SPECIFIC_CHARACTER_SET:
            decoder = decoder_for(raw[:512])
        keyword = REQUEST_KEYWORDS.get(element.tag)
        if keyword and element.length != UNDEFINED:
            request[keyword] = _clean(decoder.decode(raw)[0])
    return request
