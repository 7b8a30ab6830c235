# SPDX-License-Identifier: Apache-2.0
"""What the room above sees of the network and what it implements: plain types and protocols.

Everything here lives on the event loop's thread. Texts from the peer (AE titles, UIDs) are
decoded, padding removed, and not otherwise trusted.
"""

import asyncio
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from .dimse import COMPLETED, FAILED, REMAINING, WARNING, is_pending

if TYPE_CHECKING:
    from .association import Association

_NOTHING: Mapping[Any, Any] = MappingProxyType({})


def nothing() -> Mapping[Any, Any]:
    """Return the empty, unchangeable mapping that optional mappings start as."""
    return _NOTHING


@dataclass(frozen=True, slots=True)
class PeerAddress:
    """Where the peer's end of the TCP connection is."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class ProposedContext:
    """One presentation context of an A-ASSOCIATE-RQ (PS3.8 section 9.3.2.2)."""

    context_id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UserIdentity:
    """User identity negotiation (PS3.7 annex D.3.3.7); `repr` never shows the secrets."""

    kind: int  # 1 name, 2 name and passcode, 3 Kerberos, 4 SAML, 5 JSON web token
    primary: bytes = dataclasses.field(repr=False)
    secondary: bytes = dataclasses.field(repr=False, default=b"")
    response_requested: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociationRequest:
    """An A-ASSOCIATE-RQ, received or sent.

    `roles` maps a SOP class to (requestor is SCU, requestor is SCP) as proposed; `async_ops` is
    (invoked, performed) of the requestor, 0 for no limit; `common_extended` maps a SOP class to
    its service class and related general SOP classes.
    """

    called_ae: str
    calling_ae: str
    peer: PeerAddress
    contexts: tuple[ProposedContext, ...]
    max_pdu: int  # what the requestor takes; 0 for no limit
    implementation_class_uid: str = ""
    implementation_version: str = ""
    user_identity: UserIdentity | None = None
    async_ops: tuple[int, int] | None = None
    roles: Mapping[str, tuple[bool, bool]] = dataclasses.field(default_factory=nothing)
    extended: Mapping[str, bytes] = dataclasses.field(default_factory=nothing)
    common_extended: Mapping[str, tuple[str, tuple[str, ...]]] = dataclasses.field(
        default_factory=nothing
    )
    tls: bool = False


@dataclass(frozen=True, slots=True)
class AcceptedContext:
    """One presentation context in force. `as_scu`/`as_scp`: the roles *we* may take on it.

    An acceptor is SCP by default; `as_scu` is the reversed role that C-GET needs. A requestor is
    SCU by default and `as_scp` is the reversed one.
    """

    context_id: int
    abstract_syntax: str
    transfer_syntax: str
    as_scu: bool = False
    as_scp: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """The answer to a request that is accepted.

    `contexts` maps a context id to the accepted transfer syntax or to a refusal 1..4 (PS3.8
    table 9-18; ids not named are refused with 1, user rejection). `roles` and `async_ops` are in
    the requestor's terms, as in the request; what was not proposed is left out of the answer.
    """

    contexts: Mapping[int, str | int]
    roles: Mapping[str, tuple[bool, bool]] = dataclasses.field(default_factory=nothing)
    extended: Mapping[str, bytes] = dataclasses.field(default_factory=nothing)
    async_ops: tuple[int, int] | None = None
    user_identity_response: bytes | None = dataclasses.field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Rejection:
    """The answer to a request that is rejected: the three numbers of PS3.8 table 9-21."""

    result: int  # 1 permanent, 2 transient
    source: int  # 1 service user, 2 provider (ACSE), 3 provider (presentation)
    reason: int
    words: str = ""  # for our own log and counters; nothing of it travels


@dataclass(frozen=True, slots=True)
class Command:
    """A parsed command set (PS3.7 section 6.3 and annex E), requests and responses alike.

    `raw` holds the elements that have no field here, by tag, value bytes as sent.
    For a response `message_id` is MessageIDBeingRespondedTo.
    """

    field: int
    message_id: int
    context_id: int
    sop_class_uid: str = ""  # Affected, else Requested
    sop_instance_uid: str = ""  # Affected, else Requested
    priority: int = 0
    move_destination: str = ""
    move_originator: str = ""
    move_originator_id: int = 0
    has_data_set: bool = False
    status: int = 0  # of a response
    comment: str = ""  # ErrorComment of a response
    raw: Mapping[int, bytes] = dataclasses.field(default_factory=nothing)


class CloseReason(StrEnum):
    """Why an association ended."""

    RELEASED = "released"
    ABORTED_BY_PEER = "aborted by the peer"
    ABORTED_BY_US = "aborted by us"
    PROTOCOL_ERROR = "the peer broke the protocol"
    CONNECTION_LOST = "connection lost"
    TIMEOUT = "timed out"


@dataclass(frozen=True, slots=True)
class Response:
    """A DIMSE status and what may come with it (PS3.7 annex C)."""

    status: int
    comment: str = ""  # ErrorComment; cut to 64 characters when sent
    offending: tuple[int, ...] = ()  # OffendingElement, tags as numbers
    extra: Mapping[int, bytes] = dataclasses.field(
        default_factory=nothing
    )  # further command elements by tag


class StoreSink(Protocol):
    """Takes one C-STORE data set; exactly one of `finish` and `discard` ends it."""

    def write(self, fragment: memoryview) -> bool:
        """Consume or copy the bytes before returning; the view dies afterwards.

        False means over the high-water mark: the transport stops reading until `resume` (given
        to `AssociationHandler.store_sink`) is called from a later turn of the loop. What was
        already read, at most one receive buffer of 256 KiB, is still written.
        """

    async def finish(self) -> Response:
        """The last fragment has been written; the answer is sent to the peer.

        Runs to its end even when the association dies meanwhile (the object is complete); only
        the server's shutdown cancels it, after its grace period.
        """

    def discard(self, reason: str) -> None:
        """The association died before the last fragment; must leave nothing behind."""


class Operation:
    """A request other than C-STORE: echo, find, move, get and the N- services.

    `data` is the identifier or attribute list as sent in `transfer_syntax`, empty when the
    request had none. `cancelled` is set by C-CANCEL-RQ of this message id and by the loss of the
    association, which also cancels the task that serves it.
    """

    __slots__ = ("_final", "association", "cancelled", "command", "data", "transfer_syntax")

    def __init__(
        self, *, command: Command, data: bytes, transfer_syntax: str, association: "Association"
    ) -> None:
        self.command = command
        self.data = data
        self.transfer_syntax = transfer_syntax
        self.association = association
        self.cancelled = asyncio.Event()
        self._final = False

    @property
    def answered(self) -> bool:
        """Tell whether the final response was sent."""
        return self._final

    async def respond(
        self,
        status: int,
        *,
        data: bytes | None = None,
        comment: str = "",
        offending: Sequence[int] = (),
        remaining: int | None = None,
        completed: int | None = None,
        failed: int | None = None,
        warning: int | None = None,
        extra: Mapping[int, bytes] | None = None,
    ) -> None:
        """Send one response; a status that is not pending (FF00, FF01) is the final one.

        `data` goes out as data set in the context's transfer syntax. `extra` holds further
        command elements by tag, values encoded in implicit VR little endian. Waits while the
        peer does not read. Raises AssociationLost when the association is gone, and
        RuntimeError for a response after the final one.
        """
        if self._final:
            raise RuntimeError("the final response was already sent")
        self._final = not is_pending(status)
        named = {REMAINING: remaining, COMPLETED: completed, FAILED: failed, WARNING: warning}
        await self.association.answer(
            self.command,
            Response(status, comment, tuple(offending), extra or nothing()),
            data=data,
            counts={tag: count for tag, count in named.items() if count is not None},
        )


class AssociationHandler(Protocol):
    """One per established association, made by `ServiceProvider.established`."""

    def store_sink(
        self, command: Command, transfer_syntax: str, resume: Callable[[], None]
    ) -> StoreSink | Response:
        """Open a sink for this C-STORE-RQ; a Response refuses it and the data set is dropped.

        `resume` may be called any number of times, also after the association died.
        """

    async def serve(self, operation: Operation) -> None:
        """Answer one operation, in a task of its own that the association supervises.

        If it returns or raises without a final response, 0110 (processing failure) is sent.
        """

    def closed(self, reason: CloseReason) -> None:
        """The association is over; called exactly once. `finish` of complete objects may go on."""


class ServiceProvider(Protocol):
    """What a server asks for each association."""

    async def negotiate(self, request: AssociationRequest) -> Acceptance | Rejection:
        """Decide on a request; cancelled when the peer goes away meanwhile."""

    def established(self, association: "Association") -> AssociationHandler:
        """The acceptance was sent; return who serves the association."""
