# SPDX-License-Identifier: Apache-2.0
"""Command sets and P-DATA-TF as bytes: PS3.7 section 6.3, PS3.8 section 9.3.5."""

from collections.abc import Iterator, Mapping
from struct import Struct, pack
from typing import Final

from .dimse import (
    AFFECTED_SOP_CLASS_UID,
    AFFECTED_SOP_INSTANCE_UID,
    C_CANCEL_RQ,
    C_STORE_RQ,
    COMMAND_FIELD,
    DATA_SET_TYPE,
    ERROR_COMMENT,
    GROUP_LENGTH,
    HAS_DATA_SET,
    MESSAGE_ID,
    MESSAGE_ID_RESPONDED,
    MOVE_DESTINATION,
    MOVE_ORIGINATOR,
    MOVE_ORIGINATOR_ID,
    N_ACTION_RQ,
    N_CREATE_RQ,
    N_DELETE_RQ,
    N_EVENT_REPORT_RQ,
    N_GET_RQ,
    N_SET_RQ,
    NO_DATA_SET,
    OFFENDING_ELEMENT,
    PRIORITY,
    REQUESTED_SOP_CLASS_UID,
    REQUESTED_SOP_INSTANCE_UID,
    RESPONSE,
    STATUS,
    SUCCESS,
)
from .errors import UnreadablePdu
from .pdu import INVALID_PARAMETER
from .service import Command, Response

_ELEMENT: Final = Struct("<HHI")
_KNOWN: Final = frozenset(
    {
        GROUP_LENGTH,
        AFFECTED_SOP_CLASS_UID,
        REQUESTED_SOP_CLASS_UID,
        COMMAND_FIELD,
        MESSAGE_ID,
        MESSAGE_ID_RESPONDED,
        MOVE_DESTINATION,
        PRIORITY,
        DATA_SET_TYPE,
        STATUS,
        ERROR_COMMENT,
        AFFECTED_SOP_INSTANCE_UID,
        REQUESTED_SOP_INSTANCE_UID,
        MOVE_ORIGINATOR,
        MOVE_ORIGINATOR_ID,
    }
)


def decode_command(data: bytes, context_id: int) -> Command:
    """Return the command set `data` (implicit VR little endian, complete, size already capped).

    Raises UnreadablePdu when lengths do not fit, or the command field or data set type is
    missing. Elements of other groups are ignored; the last of equal tags counts.
    """
    elements: dict[int, bytes] = {}
    at = 0
    end = len(data)
    unpack = _ELEMENT.unpack_from
    while at < end:
        if end - at < 8:
            raise UnreadablePdu("stray bytes after the command set", INVALID_PARAMETER)
        group, element, length = unpack(data, at)
        at += 8
        if length > end - at:
            raise UnreadablePdu(
                f"command element ({group:04X},{element:04X}) is longer than the command set",
                INVALID_PARAMETER,
            )
        if group == 0:
            elements[element] = data[at : at + length]
        at += length
    take = elements.get
    if COMMAND_FIELD not in elements or DATA_SET_TYPE not in elements:
        raise UnreadablePdu("command set without command field or data set type", INVALID_PARAMETER)
    field = _number(elements[COMMAND_FIELD])
    responded = field & RESPONSE or field == C_CANCEL_RQ
    return Command(
        field=field,
        message_id=_number(take(MESSAGE_ID_RESPONDED if responded else MESSAGE_ID, b"")),
        context_id=context_id,
        sop_class_uid=_text(take(AFFECTED_SOP_CLASS_UID) or take(REQUESTED_SOP_CLASS_UID, b"")),
        sop_instance_uid=_text(
            take(AFFECTED_SOP_INSTANCE_UID) or take(REQUESTED_SOP_INSTANCE_UID, b"")
        ),
        priority=_number(take(PRIORITY, b"")),
        move_destination=_text(take(MOVE_DESTINATION, b"")),
        move_originator=_text(take(MOVE_ORIGINATOR, b"")),
        move_originator_id=_number(take(MOVE_ORIGINATOR_ID, b"")),
        has_data_set=_number(elements[DATA_SET_TYPE]) != NO_DATA_SET,
        status=_number(take(STATUS, b"")),
        comment=_text(take(ERROR_COMMENT, b"")),
        raw={tag: value for tag, value in elements.items() if tag not in _KNOWN},
    )


def short(value: bytes) -> int:
    """Return the number in a US element's value, for elements in `Command.raw`."""
    return _number(value)


def _number(value: bytes) -> int:
    """Return a US value; an empty one counts as 0."""
    return int.from_bytes(value[:2], "little")


def _text(value: bytes) -> str:
    return value.decode("ascii", "backslashreplace").strip(" \0")


def encode_command(elements: Mapping[int, bytes | int | str]) -> bytes:
    """Return a command set with its group length; elements by tag, in any order.

    A number becomes US, a text UI when it is one of the UID elements and space-padded else,
    bytes go out as they are (padded to even length with zero).
    """
    body = b"".join(_encoded(elements))
    return _ELEMENT.pack(0, GROUP_LENGTH, 4) + pack("<I", len(body)) + body


def _encoded(elements: Mapping[int, bytes | int | str]) -> Iterator[bytes]:
    for tag in sorted(elements):
        value = elements[tag]
        if isinstance(value, int):
            encoded = pack("<H", value)
        elif isinstance(value, str):
            encoded = value.encode("ascii", "replace")
            if len(encoded) % 2:
                encoded += b"\0" if tag in _UID_ELEMENTS else b" "
        else:
            encoded = value if len(value) % 2 == 0 else value + b"\0"
        yield _ELEMENT.pack(0, tag, len(encoded))
        yield encoded


_UID_ELEMENTS: Final = frozenset(
    {
        AFFECTED_SOP_CLASS_UID,
        REQUESTED_SOP_CLASS_UID,
        AFFECTED_SOP_INSTANCE_UID,
        REQUESTED_SOP_INSTANCE_UID,
    }
)


def encode_response(
    command: Command,
    response: Response,
    *,
    has_data_set: bool = False,
    counts: Mapping[int, int] | None = None,
) -> bytes:
    """Return the command set that answers `command` (PS3.7 sections 9.3 and 10.3)."""
    elements: dict[int, bytes | int | str] = {
        COMMAND_FIELD: command.field | RESPONSE,
        MESSAGE_ID_RESPONDED: command.message_id,
        DATA_SET_TYPE: HAS_DATA_SET if has_data_set else NO_DATA_SET,
        STATUS: response.status,
    }
    if command.sop_class_uid:
        elements[AFFECTED_SOP_CLASS_UID] = command.sop_class_uid
    if command.sop_instance_uid and command.field in _NAMES_INSTANCE:
        elements[AFFECTED_SOP_INSTANCE_UID] = command.sop_instance_uid
    if response.comment:
        elements[ERROR_COMMENT] = response.comment[:64]
    if response.offending:
        elements[OFFENDING_ELEMENT] = b"".join(
            pack("<HH", tag >> 16, tag & 0xFFFF) for tag in response.offending
        )
    if counts:
        elements.update(counts)
    elements.update({tag & 0xFFFF: value for tag, value in response.extra.items()})
    return encode_command(elements)


# Responses that repeat the instance they acted on.
_NAMES_INSTANCE: Final = frozenset(
    {C_STORE_RQ, N_EVENT_REPORT_RQ, N_GET_RQ, N_SET_RQ, N_ACTION_RQ, N_CREATE_RQ, N_DELETE_RQ}
)


# A C-STORE-RSP of status 0000 as one whole P-DATA-TF, all but lengths, ids and UIDs ready.
_STORE_RSP_HEAD: Final = Struct(">BxIIBB")
_STORE_RSP_GROUP: Final = Struct("<HHIIHHI")
_STORE_RSP_MIDDLE: Final = Struct("<HHIHHHIHHHIHHHIHHHI")


def encode_store_success(command: Command) -> bytes:
    """Return the P-DATA-TF that answers a C-STORE-RQ with success; the fast path's template."""
    sop_class = command.sop_class_uid.encode("ascii", "replace")
    instance = command.sop_instance_uid.encode("ascii", "replace")
    if len(sop_class) % 2:
        sop_class += b"\0"
    if len(instance) % 2:
        instance += b"\0"
    body = 56 + len(sop_class) + len(instance)  # what follows the group length element
    return b"".join(
        (
            _STORE_RSP_HEAD.pack(4, body + 18, body + 14, command.context_id, 3),
            _STORE_RSP_GROUP.pack(
                0, GROUP_LENGTH, 4, body, 0, AFFECTED_SOP_CLASS_UID, len(sop_class)
            ),
            sop_class,
            _STORE_RSP_MIDDLE.pack(
                *(0, COMMAND_FIELD, 2, C_STORE_RQ | RESPONSE),
                *(0, MESSAGE_ID_RESPONDED, 2, command.message_id),
                *(0, DATA_SET_TYPE, 2, NO_DATA_SET),
                *(0, STATUS, 2, SUCCESS),
                *(0, AFFECTED_SOP_INSTANCE_UID, len(instance)),
            ),
            instance,
        )
    )


_P_DATA_HEADER: Final = Struct(">BxIIBB")
_PDV_OVERHEAD: Final = 6


def fragments(
    context_id: int, message: bytes | memoryview, *, command: bool, last: bool, max_pdu: int
) -> Iterator[bytes]:
    """Yield P-DATA-TF PDUs of one PDV each, at most `max_pdu` long after the PDU length.

    `last` marks the final one as the last of the command set or data set (PS3.8 annex E.2).
    An empty `message` yields one empty fragment if `last`, else nothing.
    """
    step = (max_pdu - _PDV_OVERHEAD) & ~1
    at = 0
    end = len(message)
    while at < end or (last and not end):
        piece = message[at : at + step]
        at += step
        control = (1 if command else 0) | (2 if last and at >= end else 0)
        header = _P_DATA_HEADER.pack(4, len(piece) + 6, len(piece) + 2, context_id, control)
        yield b"".join((header, piece))
        if not end:
            return
