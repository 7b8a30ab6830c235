# SPDX-License-Identifier: Apache-2.0
"""Another SOP Instance UID for the same data set, every other byte as it was."""

import hashlib
import struct
import uuid
from typing import Final

from .dataset import DEFLATED_LE, Broken, Budget, Cut, Element, Encoding, elements, encoding_of
from .errors import HeaderIncomplete, HeaderUnreadable

GROUP_LENGTH: Final = 0x00080000
SOP_INSTANCE_UID: Final = 0x00080018
# A name space of our own: one digest always gives one UID, and no other box's the same by chance.
_SPACE: Final = uuid.UUID("8230c1d2-5b0f-5b43-9f0e-0c6a4fa7c2f1")


def derived_uid(digest: str) -> str:
    """Return a UID for the object with this digest, the same each time (PS3.5 annex B.2)."""
    return f"2.25.{uuid.uuid5(_SPACE, hashlib.sha256(digest.encode()).hexdigest()).int}"


def renamed(head: bytes, *, transfer_syntax_uid: str, sop_instance_uid: str) -> tuple[bytes, int]:
    """Return bytes that take the place of the first so many bytes of a data set.

    `head` is its beginning. Raises HeaderIncomplete (give more of it) and HeaderUnreadable.
    """
    if transfer_syntax_uid == DEFLATED_LE:
        raise HeaderUnreadable("The data set is deflated; its UID cannot be changed as it stands.")
    encoding = encoding_of(transfer_syntax_uid)
    group_length: Element | None = None
    found: Element | None = None
    try:
        for element in elements(head, 0, len(head), encoding, Budget(256)):
            if element.tag == GROUP_LENGTH and element.length == 4:
                group_length = element
            elif element.tag == SOP_INSTANCE_UID:
                if element.start + element.length > len(head):
                    raise Cut(element.start + element.length)
                found = element
                break
            elif element.tag > SOP_INSTANCE_UID:
                raise HeaderUnreadable("The data set has no SOP Instance UID.")
        if found is None:
            raise Cut(len(head) + 1)
    except Cut as cut:
        raise HeaderIncomplete(
            "The header goes on behind the bytes given.", needed_bytes=cut.needed
        ) from None
    except Broken as broken:
        raise HeaderUnreadable(f"The data set cannot be followed: {broken}.") from None
    return _put_together(head, encoding, group_length, found, sop_instance_uid)


def _put_together(
    head: bytes, encoding: Encoding, group_length: Element | None, found: Element, uid: str
) -> tuple[bytes, int]:
    value = uid.encode("ascii")
    value += b"\0" * (len(value) % 2)
    order = encoding.order
    tag = struct.pack(f"{order}HH", SOP_INSTANCE_UID >> 16, SOP_INSTANCE_UID & 0xFFFF)
    if encoding.explicit:
        element = tag + b"UI" + struct.pack(f"{order}H", len(value)) + value
    else:
        element = tag + struct.pack(f"{order}I", len(value)) + value
    begin = head.rindex(tag, 0, found.start)
    end = found.start + found.length
    before = bytearray(head[:begin])
    if group_length is not None:
        at = group_length.start
        (length,) = struct.unpack_from(f"{order}I", before, at)
        grown = (length + len(element) - (end - begin)) & 0xFFFFFFFF
        struct.pack_into(f"{order}I", before, at, grown)
    return bytes(before) + element, end
