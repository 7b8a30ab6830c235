# SPDX-License-Identifier: Apache-2.0
"""One association, either role: messages in and out, operations, sinks."""

from collections.abc import AsyncIterator, Mapping, Sequence

from .service import Acceptance, AcceptedContext, AssociationRequest, Command, PeerAddress, Response


class Association:
    """What the room above holds of an association. Loop thread only."""

    request: AssociationRequest
    acceptance: Acceptance
    contexts: Mapping[int, AcceptedContext]
    peer: PeerAddress
    peer_max_pdu: int

    @property
    def alive(self) -> bool:
        """Tell whether requests can still be sent."""
        raise NotImplementedError

    def context_for(
        self, sop_class_uid: str, transfer_syntaxes: Sequence[str] = (), *, as_scp: bool = False
    ) -> int | None:
        """Return the id of an accepted context on which we may be SCU (SCP with `as_scp`).

        The first of `transfer_syntaxes` that was accepted wins; none named means any.
        """
        raise NotImplementedError

    async def echo(self, *, timeout_s: float | None = None) -> Response:
        """Send C-ECHO-RQ (PS3.7 section 9.1.5) and return the answer."""
        raise NotImplementedError

    async def store(
        self,
        *,
        context_id: int,
        sop_class_uid: str,
        sop_instance_uid: str,
        chunks: AsyncIterator[bytes],
        priority: int = 0,
        move_originator: tuple[str, int] | None = None,
        timeout_s: float | None = None,
    ) -> Response:
        """Send one object (data set bytes without file meta) and return the peer's answer.

        Nothing is sent before the first chunk is there. If `chunks` raises later, the
        association is aborted (a message cannot be taken back) and the error goes on.
        `timeout_s` is from the last byte sent to the answer. Raises AssociationLost, NoAnswer,
        NoSuchContext.
        """
        raise NotImplementedError

    def find(
        self, context_id: int, identifier: bytes, *, timeout_s: float | None = None
    ) -> AsyncIterator[tuple[Response, bytes | None]]:
        """Send C-FIND-RQ and yield each response, the final one included.

        Leaving the iterator early sends C-CANCEL-RQ. `timeout_s` is per response.
        """
        raise NotImplementedError

    def request_responses(
        self,
        *,
        field: int,
        context_id: int,
        sop_class_uid: str = "",
        sop_instance_uid: str = "",
        data: bytes | None = None,
        priority: int | None = None,
        move_destination: str = "",
        extra: Mapping[int, bytes] | None = None,
        timeout_s: float | None = None,
    ) -> AsyncIterator[tuple[Command, bytes | None]]:
        """Send any other request and yield its responses, the final one included."""
        raise NotImplementedError

    async def release(self, *, timeout_s: float | None = None) -> None:
        """Send A-RELEASE-RQ and wait until the association is over; never raises for that."""
        raise NotImplementedError

    def abort(self, source: int = 0, reason: int = 0) -> None:
        """Send A-ABORT (PS3.8 section 9.3.8); at once, idempotent."""
        raise NotImplementedError
