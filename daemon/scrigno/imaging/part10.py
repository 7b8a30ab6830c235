# SPDX-License-Identifier: Apache-2.0
"""The beginning of a DICOM file (PS3.10 section 7.1): writing ours, understanding everybody's."""

import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from scrigno.core.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

from .dataset import (
    EXPLICIT,
    EXPLICIT_BE,
    EXPLICIT_LE,
    IMPLICIT,
    IMPLICIT_LE,
    Broken,
    Budget,
    Cut,
    Element,
    Encoding,
    element_at,
    elements,
    encoding_of,
    looks_like,
)
from .errors import NotDicom

PREAMBLE_BYTES: Final = 128
_MAGIC: Final = b"DICM"
_MAX_META_ELEMENTS: Final = 64
_MAX_UID: Final = 16 << 10  # 64 by the standard; what came in a command set is found again
_SOP_CLASS, _SOP_INSTANCE = 0x00080016, 0x00080018
_META_SOP_CLASS, _META_SOP_INSTANCE, _META_TRANSFER_SYNTAX = 0x00020002, 0x00020003, 0x00020010


@dataclass(frozen=True, slots=True, kw_only=True)
class FileHead:
    """What a file says of itself before its data set begins at `data_offset`.

    An empty UID was not to be found; the transfer syntax is never empty.
    """

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    data_offset: int


def file_prefix(*, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> bytes:
    """Return preamble and File Meta Information, the same bytes for the same three UIDs.

    No AE title and no time is in it, so that one data set always makes one file and one digest.
    """
    before, after = _template(sop_class_uid, transfer_syntax_uid)
    value = _padded(sop_instance_uid)
    length = len(before) + 8 + len(value) + len(after)
    return b"".join(
        (
            _START,
            length.to_bytes(4, "little"),
            before,
            b"\x02\0\x03\0UI",
            len(value).to_bytes(2, "little"),
            value,
            after,
        )
    )


_START: Final = bytes(PREAMBLE_BYTES) + _MAGIC + b"\x02\0\0\0UL\x04\0"


@lru_cache(maxsize=512)
def _template(sop_class_uid: str, transfer_syntax_uid: str) -> tuple[bytes, bytes]:
    """Return the elements before and after the SOP Instance UID."""
    before = struct.pack("<HH2sHI2s", 2, 1, b"OB", 0, 2, b"\0\1")
    before += _element(0x0002, b"UI", _padded(sop_class_uid))
    after = _element(0x0010, b"UI", _padded(transfer_syntax_uid))
    after += _element(0x0012, b"UI", _padded(IMPLEMENTATION_CLASS_UID))
    after += _element(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME.ljust(16)[:16].encode())
    return before, after


def _element(number: int, vr: bytes, value: bytes) -> bytes:
    return struct.pack("<HH2sH", 2, number, vr, len(value)) + value


def _padded(uid: str) -> bytes:
    """Return a UID in even length (PS3.5 section 9); what is no UID passes as it came, capped."""
    value = uid.encode("utf-8", "surrogateescape")[:0xFFFE]
    return value + b"\0" if len(value) % 2 else value


def split(head: bytes | memoryview) -> FileHead:
    """Find UIDs, transfer syntax and data set in the first bytes of a file.

    Files without preamble, without File Meta Information or with a faulty one are understood when
    that can be done without doubt; otherwise `NotDicom` says why. A few KiB of head are enough.
    """
    data = bytes(head)
    if data[PREAMBLE_BYTES : PREAMBLE_BYTES + 4] == _MAGIC:
        start = PREAMBLE_BYTES + 4
    elif data[:4] == _MAGIC:
        start = 4
    elif data[:2] == b"\x02\0" and data[4:6] in (b"UL", b"OB", b"UI"):
        start = 0  # File Meta Information without preamble
    else:
        return _bare(data)
    uids, data_offset = _meta(data, start)
    transfer_syntax = uids.get(_META_TRANSFER_SYNTAX, "")
    if not transfer_syntax:
        transfer_syntax = _guess(data[data_offset : data_offset + 16])
    sop_class, sop_instance = uids.get(_META_SOP_CLASS, ""), uids.get(_META_SOP_INSTANCE, "")
    if not (sop_class and sop_instance):
        found = _sop_uids(data, data_offset, encoding_of(transfer_syntax))
        sop_class, sop_instance = sop_class or found[0], sop_instance or found[1]
    return FileHead(
        sop_class_uid=sop_class,
        sop_instance_uid=sop_instance,
        transfer_syntax_uid=transfer_syntax,
        data_offset=data_offset,
    )


def _meta(data: bytes, start: int) -> tuple[dict[int, str], int]:
    """Return the UIDs of group 0002 and the position of the first element after it."""
    uids: dict[int, str] = {}
    group_end = None
    position = start
    for _ in range(_MAX_META_ELEMENTS):
        if position + 2 > len(data) and position != group_end:
            break
        if data[position : position + 2] != b"\x02\0":
            return uids, position  # at once when nothing but the magic word stands before it
        try:
            element = element_at(data, position, EXPLICIT)
        except Cut:
            raise NotDicom("The file ends inside its file meta information.") from None
        end = element.start + element.length
        if end > len(data):
            if group_end is not None and group_end < len(data):
                return uids, group_end
            raise NotDicom("The file ends inside its file meta information.")
        if element.tag == 0x00020000 and element.length == 4:
            group_end = end + int.from_bytes(data[element.start : end], "little")
        elif element.tag in (_META_SOP_CLASS, _META_SOP_INSTANCE, _META_TRANSFER_SYNTAX):
            uids[element.tag] = _uid(data, element)
        position = end
    raise NotDicom("The file meta information does not end inside the bytes given.")


def _uid(data: bytes, element: Element) -> str:
    value = data[element.start : element.start + min(element.length, _MAX_UID)]
    return value.decode("ascii", "replace").strip("\0 ")


def _bare(data: bytes) -> FileHead:
    """Read a data set that stands in a file without anything before it."""
    encoding = looks_like(data)
    if encoding is None or data[:2] not in (b"\x08\0", b"\0\x08"):
        raise NotDicom("No DICM prefix, and the first bytes are no DICOM data set.")
    sop_class, sop_instance = _sop_uids(data, 0, encoding)
    if not (sop_class or sop_instance):
        raise NotDicom("No DICM prefix, and no SOP Class or SOP Instance UID at the beginning.")
    return FileHead(
        sop_class_uid=sop_class,
        sop_instance_uid=sop_instance,
        transfer_syntax_uid=_name(encoding),
        data_offset=0,
    )


def _guess(data: bytes) -> str:
    encoding = looks_like(data)
    if encoding is None:
        raise NotDicom("The file names no transfer syntax and its data set looks like none.")
    return _name(encoding)


def _name(encoding: Encoding) -> str:
    if encoding is IMPLICIT:
        return IMPLICIT_LE
    return EXPLICIT_LE if encoding is EXPLICIT else EXPLICIT_BE


def _sop_uids(data: bytes, start: int, encoding: Encoding) -> tuple[str, str]:
    """Return SOP Class and Instance UID of a data set as far as its beginning holds them."""
    found = {_SOP_CLASS: "", _SOP_INSTANCE: ""}
    try:
        for element in elements(data, start, len(data), encoding, Budget(256)):
            if element.tag > _SOP_INSTANCE:
                break
            if element.tag in found:
                found[element.tag] = _uid(data, element)
    except (Cut, Broken):
        pass  # what was found before the data set could not be followed still counts
    return found[_SOP_CLASS], found[_SOP_INSTANCE]
