# SPDX-License-Identifier: Apache-2.0
"""The association PDUs and their items: PS3.8 section 9.3, PS3.7 annex D.3.3.

Our own and not pynetdicom's, which raises, warns and logs at a UID or title that is not as it
should be: here such bytes come from hostile peers, and some of them we must repeat in our answer.
An item that is not known is ignored (PS3.8 section 9.3.1), a text that is not ASCII harms nobody,
and a length that does not fit raises UnreadablePdu. pynetdicom is what the tests compare with.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import Final

from scrigno.core.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, is_uid

from .errors import UnreadablePdu
from .limits import Limits
from .service import (
    Acceptance,
    AssociationRequest,
    PeerAddress,
    ProposedContext,
    Rejection,
    UserIdentity,
)

APPLICATION_CONTEXT: Final = "1.2.840.10008.3.1.1.1"  # PS3.7 annex A.2.1
IMPLICIT_LITTLE_ENDIAN: Final = "1.2.840.10008.1.2"

# A-ABORT, PS3.8 table 9-26
SERVICE_USER: Final = 0
SERVICE_PROVIDER: Final = 2
NOT_SPECIFIED: Final = 0
UNRECOGNIZED_PDU: Final = 1
UNEXPECTED_PDU: Final = 2
UNEXPECTED_PARAMETER: Final = 5
INVALID_PARAMETER: Final = 6

# A-ASSOCIATE-RJ, PS3.8 table 9-21
REJECTIONS: Final = {
    (1, 1): "no reason given",
    (1, 2): "application context name not supported",
    (1, 3): "calling AE title not recognized",
    (1, 7): "called AE title not recognized",
    (2, 1): "no reason given",
    (2, 2): "protocol version not supported",
    (3, 1): "temporary congestion",
    (3, 2): "local limit exceeded",
}
VERSION_NOT_SUPPORTED: Final = Rejection(1, 2, 2, "protocol version not supported")
CONTEXT_NAME_NOT_SUPPORTED: Final = Rejection(1, 1, 2, "application context name not supported")
TEMPORARY_CONGESTION: Final = Rejection(2, 3, 1, "temporary congestion")
LOCAL_LIMIT_EXCEEDED: Final = Rejection(2, 3, 2, "local limit exceeded")

# A peer that takes less than this per PDU cannot be served: the overhead would be an attack.
LEAST_MAX_PDU: Final = 128

_UNREADABLE_TEXT = "backslashreplace"
_ITEM_HEADER: Final = Struct(">BxH")
_SHORT: Final = Struct(">H")
_LONGEST: Final = 0xFFFF
_PDU_HEADER: Final = Struct(">BxI")
_FIXED_PART: Final = Struct(">H2x32s32x")  # PS3.8 tables 9-11 and 9-17, after the length
_FOUR_BYTES: Final = Struct(">BxIBBBB")


class PduType(IntEnum):
    """PS3.8 section 9.3.1."""

    ASSOCIATE_RQ = 1
    ASSOCIATE_AC = 2
    ASSOCIATE_RJ = 3
    P_DATA_TF = 4
    RELEASE_RQ = 5
    RELEASE_RP = 6
    ABORT = 7


RELEASE_RQ: Final = _FOUR_BYTES.pack(PduType.RELEASE_RQ, 4, 0, 0, 0, 0)
RELEASE_RP: Final = _FOUR_BYTES.pack(PduType.RELEASE_RP, 4, 0, 0, 0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedRequest:
    """A decoded A-ASSOCIATE-RQ with what is not for the room above."""

    request: AssociationRequest
    version: int
    application_context: str
    titles: bytes  # both AE titles as sent, 32 bytes: the answer repeats them (table 9-17)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedAcceptance:
    """A decoded A-ASSOCIATE-AC. `contexts`: id to accepted transfer syntax or refusal 1..4."""

    acceptance: Acceptance
    max_pdu: int
    implementation_class_uid: str
    implementation_version: str


# -- decoding -------------------------------------------------------------------------------


def decode_associate_rq(
    body: bytes, *, peer: PeerAddress, limits: Limits, tls: bool = False
) -> ReceivedRequest:
    """Return the A-ASSOCIATE-RQ whose bytes after the PDU length are `body`.

    Raises UnreadablePdu when lengths do not fit each other, when there are more than
    `limits.max_contexts` contexts, or when a context id is even or comes twice.
    """
    version, titles = _fixed_part(body)
    application_context = ""
    contexts: dict[int, ProposedContext] = {}
    user = _UserInformation()
    for kind, value in _items(body, _FIXED_PART.size):
        if kind == 0x10:
            application_context = _text(value)
        elif kind == 0x20:
            context = _proposed_context(value)
            if context.context_id in contexts or context.context_id % 2 == 0:
                raise UnreadablePdu(f"presentation context id {context.context_id} twice or even")
            contexts[context.context_id] = context
            if len(contexts) > limits.max_contexts:
                raise UnreadablePdu(f"more than {limits.max_contexts} presentation contexts")
        elif kind == 0x50:
            user.read(value)
    request = AssociationRequest(
        called_ae=_text(titles[:16]),
        calling_ae=_text(titles[16:]),
        peer=peer,
        contexts=tuple(contexts.values()),
        max_pdu=user.max_pdu,
        implementation_class_uid=user.class_uid,
        implementation_version=user.version_name,
        user_identity=user.identity,
        async_ops=user.async_ops,
        roles=user.roles,
        extended=user.extended,
        common_extended=user.common_extended,
        tls=tls,
    )
    return ReceivedRequest(
        request=request, version=version, application_context=application_context, titles=titles
    )


def decode_associate_ac(body: bytes) -> ReceivedAcceptance:
    """Return the A-ASSOCIATE-AC whose bytes after the PDU length are `body`."""
    _fixed_part(body)
    contexts: dict[int, str | int] = {}
    user = _UserInformation()
    for kind, value in _items(body, _FIXED_PART.size):
        if kind == 0x21:
            if len(value) < 4:
                raise UnreadablePdu("presentation context item too short")
            syntaxes = [_text(sub) for sub_kind, sub in _items(value, 4) if sub_kind == 0x40]
            result = value[2]
            accepted = syntaxes[0] if syntaxes else ""
            contexts[value[0]] = accepted if result == 0 and accepted else (result or 2)
        elif kind == 0x50:
            user.read(value)
    return ReceivedAcceptance(
        acceptance=Acceptance(
            contexts=contexts,
            roles=user.roles,
            extended=user.extended,
            async_ops=user.async_ops,
            user_identity_response=user.identity_response,
        ),
        max_pdu=user.max_pdu,
        implementation_class_uid=user.class_uid,
        implementation_version=user.version_name,
    )


def decode_associate_rj(body: bytes) -> Rejection:
    """Return the A-ASSOCIATE-RJ whose four bytes after the PDU length are `body`."""
    _, result, source, reason = body
    words = REJECTIONS.get((source, reason), f"source {source}, reason {reason}")
    return Rejection(result, source, reason, words)


def decode_abort(body: bytes) -> tuple[int, int]:
    """Return source and reason of the A-ABORT whose four bytes after the length are `body`."""
    return body[2], body[3]


class _UserInformation:
    """What the user information item may hold (PS3.7 annex D.3.3); later ones replace earlier."""

    def __init__(self) -> None:
        self.max_pdu = 0  # absent means no limit (PS3.8 annex D.1)
        self.class_uid = ""
        self.version_name = ""
        self.async_ops: tuple[int, int] | None = None
        self.roles: dict[str, tuple[bool, bool]] = {}
        self.extended: dict[str, bytes] = {}
        self.common_extended: dict[str, tuple[str, tuple[str, ...]]] = {}
        self.identity: UserIdentity | None = None
        self.identity_response: bytes | None = None

    def read(self, data: bytes) -> None:
        """Take every sub-item of the item's value."""
        readers = {
            0x51: self._max_length,
            0x52: self._class_uid,
            0x53: self._async_ops,
            0x54: self._role,
            0x55: self._version_name,
            0x56: self._extended,
            0x57: self._common_extended,
            0x58: self._identity,
            0x59: self._identity_response,
        }
        for kind, value in _items(data, 0):
            reader = readers.get(kind)
            if reader is not None:
                reader(value)

    def _max_length(self, value: bytes) -> None:
        if len(value) != 4:
            raise UnreadablePdu("maximum length item is not four bytes")
        self.max_pdu = int.from_bytes(value, "big")

    def _class_uid(self, value: bytes) -> None:
        self.class_uid = _text(value)

    def _version_name(self, value: bytes) -> None:
        self.version_name = _text(value)

    def _async_ops(self, value: bytes) -> None:
        if len(value) != 4:
            raise UnreadablePdu("asynchronous operations window item is not four bytes")
        self.async_ops = _SHORT.unpack_from(value)[0], _SHORT.unpack_from(value, 2)[0]

    def _role(self, value: bytes) -> None:
        uid, at = _counted(value, 0)
        if len(value) < at + 2:
            raise UnreadablePdu("role selection item too short")
        self.roles[_text(uid)] = value[at] == 1, value[at + 1] == 1

    def _extended(self, value: bytes) -> None:
        uid, at = _counted(value, 0)
        self.extended[_text(uid)] = value[at:]

    def _common_extended(self, value: bytes) -> None:
        uid, at = _counted(value, 0)
        service, at = _counted(value, at)
        related, _ = _counted(value, at)
        uids: list[str] = []
        at = 0
        while at < len(related):
            general, at = _counted(related, at)
            uids.append(_text(general))
        self.common_extended[_text(uid)] = _text(service), tuple(uids)

    def _identity(self, value: bytes) -> None:
        if len(value) < 2:
            raise UnreadablePdu("user identity item too short")
        primary, at = _counted(value, 2)
        secondary, _ = _counted(value, at)
        self.identity = UserIdentity(value[0], primary, secondary, value[1] == 1)

    def _identity_response(self, value: bytes) -> None:
        self.identity_response = _counted(value, 0)[0]


def _fixed_part(body: bytes) -> tuple[int, bytes]:
    if len(body) < _FIXED_PART.size:
        raise UnreadablePdu("association PDU too short")
    version, titles = _FIXED_PART.unpack_from(body)
    return version, titles


def _items(data: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    """Yield type and value of each item from `at` on."""
    end = len(data)
    while at < end:
        if end - at < _ITEM_HEADER.size:
            raise UnreadablePdu("stray bytes after the last item")
        kind, length = _ITEM_HEADER.unpack_from(data, at)
        at += _ITEM_HEADER.size
        if length > end - at:
            raise UnreadablePdu(f"item {kind:#04x} is longer than what holds it")
        yield kind, data[at : at + length]
        at += length


def _counted(data: bytes, at: int) -> tuple[bytes, int]:
    """Return the bytes at `at` that a 16 bit length precedes, and where they end."""
    end = at + 2
    if end > len(data):
        raise UnreadablePdu("sub-item too short")
    (length,) = _SHORT.unpack_from(data, at)
    if end + length > len(data):
        raise UnreadablePdu("field is longer than the sub-item that holds it")
    return data[end : end + length], end + length


def _proposed_context(value: bytes) -> ProposedContext:
    if len(value) < 4:
        raise UnreadablePdu("presentation context item too short")
    abstract = ""
    transfer: list[str] = []
    for kind, sub in _items(value, 4):
        if kind == 0x30:
            abstract = _text(sub)
        elif kind == 0x40:
            transfer.append(_text(sub))
    return ProposedContext(value[0], abstract, tuple(transfer))


def _text(value: bytes) -> str:
    return value.decode("ascii", _UNREADABLE_TEXT).strip(" \0")


# -- encoding -------------------------------------------------------------------------------


def encode_associate_rq(request: AssociationRequest, *, max_pdu: int) -> bytes:
    """Return an A-ASSOCIATE-RQ that asks for `request`, announcing `max_pdu`.

    Raises ValueError for an AE title that is empty or over 16 characters, or an item over 64 KiB.
    """
    items = [_item(0x10, APPLICATION_CONTEXT.encode())]
    for proposed in request.contexts:
        subs = [_item(0x30, _ascii(proposed.abstract_syntax))]
        subs += [_item(0x40, _ascii(syntax)) for syntax in proposed.transfer_syntaxes]
        items.append(_item(0x20, bytes((proposed.context_id, 0, 0, 0)) + b"".join(subs)))
    user = _user_items(max_pdu, request.async_ops, request.roles, request.extended)
    for sop_class, (service, related) in request.common_extended.items():
        general = b"".join(_counting(_ascii(uid)) for uid in related)
        fields = _counting(_ascii(sop_class)) + _counting(_ascii(service)) + _counting(general)
        user.append(_item(0x57, fields))
    if request.user_identity is not None:
        identity = request.user_identity
        user.append(
            _item(
                0x58,
                bytes((identity.kind, identity.response_requested))
                + _counting(identity.primary)
                + _counting(identity.secondary),
            )
        )
    titles = _title(request.called_ae) + _title(request.calling_ae)
    return _associate(PduType.ASSOCIATE_RQ, titles, items, user)


def encode_associate_ac(
    received: ReceivedRequest, acceptance: Acceptance, *, max_pdu: int
) -> bytes:
    """Return the A-ASSOCIATE-AC that answers `received`; what was not proposed is left out."""
    request = received.request
    items = [_item(0x10, APPLICATION_CONTEXT.encode())]
    for proposed in request.contexts:
        answer = acceptance.contexts.get(proposed.context_id, 1)
        result = 0 if isinstance(answer, str) else answer
        # Not significant in a refusal, but it has to be there (PS3.8 section 9.3.3.2).
        syntax = answer if isinstance(answer, str) else IMPLICIT_LITTLE_ENDIAN
        head = bytes((proposed.context_id, 0, result, 0))
        items.append(_item(0x21, head + _item(0x40, _ascii(syntax))))
    roles = {
        uid: agreed
        for uid, agreed in acceptance.roles.items()
        if uid in request.roles and is_uid(uid)
    }
    extended = {
        uid: information
        for uid, information in acceptance.extended.items()
        if uid in request.extended and is_uid(uid)
    }
    async_ops = acceptance.async_ops if request.async_ops is not None else None
    user = _user_items(max_pdu, async_ops, roles, extended)
    identity = request.user_identity
    response = acceptance.user_identity_response
    if identity is not None and identity.response_requested and response is not None:
        user.append(_item(0x59, _counting(response)))
    return _associate(PduType.ASSOCIATE_AC, received.titles, items, user)


def encode_associate_rj(rejection: Rejection) -> bytes:
    """Return an A-ASSOCIATE-RJ."""
    return _FOUR_BYTES.pack(
        PduType.ASSOCIATE_RJ, 4, 0, rejection.result, rejection.source, rejection.reason
    )


def encode_abort(source: int, reason: int) -> bytes:
    """Return an A-ABORT; the reason means something only from the service provider."""
    return _FOUR_BYTES.pack(
        PduType.ABORT, 4, 0, 0, source, reason if source == SERVICE_PROVIDER else NOT_SPECIFIED
    )


def _associate(kind: PduType, titles: bytes, items: list[bytes], user: list[bytes]) -> bytes:
    body = b"".join((_FIXED_PART.pack(1, titles), *items, _item(0x50, b"".join(user))))
    return _PDU_HEADER.pack(kind, len(body)) + body


def _user_items(
    max_pdu: int,
    async_ops: tuple[int, int] | None,
    roles: Mapping[str, tuple[bool, bool]],
    extended: Mapping[str, bytes],
) -> list[bytes]:
    """Return the sub-items that request and answer share, in the order of their types."""
    items = [
        _item(0x51, max_pdu.to_bytes(4, "big")),
        _item(0x52, IMPLEMENTATION_CLASS_UID.encode()),
    ]
    if async_ops is not None:
        items.append(_item(0x53, _SHORT.pack(async_ops[0]) + _SHORT.pack(async_ops[1])))
    for sop_class, (scu, scp) in roles.items():
        items.append(_item(0x54, _counting(_ascii(sop_class)) + bytes((scu, scp))))
    items.append(_item(0x55, IMPLEMENTATION_VERSION_NAME.encode()))
    for sop_class, information in extended.items():
        items.append(_item(0x56, _counting(_ascii(sop_class)) + information))
    return items


def _item(kind: int, value: bytes) -> bytes:
    if len(value) > _LONGEST:
        raise ValueError(f"item {kind:#04x} is longer than a 16 bit length can say")
    return _ITEM_HEADER.pack(kind, len(value)) + value


def _counting(value: bytes) -> bytes:
    if len(value) > _LONGEST:
        raise ValueError("field is longer than a 16 bit length can say")
    return _SHORT.pack(len(value)) + value


def _ascii(text: str) -> bytes:
    return text.encode("ascii", "replace")


def _title(title: str) -> bytes:
    """Return an AE title as 16 bytes (PS3.8 table 9-11); ValueError when it is none."""
    encoded = title.strip().encode("ascii", "replace")
    if not 1 <= len(encoded) <= 16:
        raise ValueError("an AE title has 1 to 16 characters")
    return encoded.ljust(16)
