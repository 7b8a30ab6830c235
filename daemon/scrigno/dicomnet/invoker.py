# SPDX-License-Identifier: Apache-2.0
"""Our requests to the peer and its responses: the invoking DIMSE service user."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from typing import Final

from scrigno.core.counters import Counters

from . import commandset, dimse
from .errors import AssociationLost, NoAnswer, NoSuchContext, UnreadablePdu
from .fsm import State
from .incoming import Collecting, Incoming
from .limits import Limits
from .outgoing import Pending, Window
from .sending import Sender
from .service import AcceptedContext, CloseReason, Command, Response
from .upper import UpperLayer

VERIFICATION: Final = "1.2.840.10008.1.1"
_MAY_BE_CANCELLED: Final = frozenset({dimse.C_FIND_RQ, dimse.C_GET_RQ, dimse.C_MOVE_RQ})
_MESSAGE_IDS: Final = 0xFFFF


class Invoker(Sender):
    """What an association asks of the peer."""

    contexts: Mapping[int, AcceptedContext]

    def __init__(
        self,
        upper: UpperLayer,
        *,
        max_pdu: int,
        window: int,
        limits: Limits,
        counters: Counters,
    ) -> None:
        super().__init__(upper, max_pdu=max_pdu)
        self._limits = limits
        self._counters = counters
        self._window = Window(window)
        self._pending: dict[int, Pending] = {}  # by message id
        self._last_message_id = 0

    @property
    def alive(self) -> bool:
        """Tell whether requests can still be sent."""
        return self._upper.state is State.STA6

    @property
    def _waits_for_answers(self) -> bool:
        """Tell whether somebody waits for the peer; each has a time limit of its own."""
        return any(not pending.abandoned for pending in self._pending.values())

    def context_for(
        self, sop_class_uid: str, transfer_syntaxes: Sequence[str] = (), *, as_scp: bool = False
    ) -> int | None:
        """Return the id of an accepted context on which we may be SCU (SCP with `as_scp`).

        The first of `transfer_syntaxes` that was accepted wins; none named means any.
        """
        found = [
            context
            for context in self.contexts.values()
            if context.abstract_syntax == sop_class_uid
            and (context.as_scp if as_scp else context.as_scu)
        ]
        for wanted in transfer_syntaxes:
            for context in found:
                if context.transfer_syntax == wanted:
                    return context.context_id
        return found[0].context_id if found and not transfer_syntaxes else None

    # -- our requests -------------------------------------------------------------------------

    async def echo(self, *, timeout_s: float | None = None) -> Response:
        """Send C-ECHO-RQ (PS3.7 section 9.1.5) and return the answer."""
        context_id = self.context_for(VERIFICATION)
        if context_id is None:
            raise NoSuchContext("the peer accepted no verification context")
        responses = self.request_responses(
            field=dimse.C_ECHO_RQ,
            context_id=context_id,
            sop_class_uid=VERIFICATION,
            timeout_s=timeout_s,
        )
        command, _ = await anext(responses)
        await responses.aclose()
        return response_of(command)

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
        self._check_context(context_id)
        first = await anext(chunks, b"")
        pending = await self._begin()
        elements: dict[int, bytes | int | str] = {
            dimse.AFFECTED_SOP_CLASS_UID: sop_class_uid,
            dimse.COMMAND_FIELD: dimse.C_STORE_RQ,
            dimse.MESSAGE_ID: pending.message_id,
            dimse.PRIORITY: priority,
            dimse.DATA_SET_TYPE: dimse.HAS_DATA_SET,
            dimse.AFFECTED_SOP_INSTANCE_UID: sop_instance_uid,
        }
        if move_originator is not None:
            elements[dimse.MOVE_ORIGINATOR], elements[dimse.MOVE_ORIGINATOR_ID] = move_originator
        command = commandset.encode_command(elements)
        try:
            async with self._send_lock:
                await self._stream(context_id, command, first, chunks)
        except AssociationLost:
            raise
        except BaseException:
            self.abort()  # the data set was cut off
            raise
        response, _ = await self._next(pending, timeout_s)
        return response_of(response)

    async def _stream(
        self, context_id: int, command: bytes, first: bytes, chunks: AsyncIterator[bytes]
    ) -> None:
        """Write command and data set; each chunk waits until the one after it is there."""
        max_pdu = self._max_pdu
        await self._writable()
        ready = b"".join(self._message(context_id, command, None))
        chunk = first
        while True:
            following = await anext(chunks, None)
            last = following is None
            odd = b""
            if len(chunk) % 2 and not last:
                # Fragments are of even length (PS3.8 annex E.1): the last byte travels later.
                chunk, odd = chunk[:-1], chunk[-1:]
            for pdu in commandset.fragments(
                context_id, memoryview(chunk), command=False, last=last, max_pdu=max_pdu
            ):
                await self._writable()
                self._write(ready + pdu if ready else pdu)
                ready = b""
            if following is None:
                return
            chunk = odd + following if odd else following

    async def find(
        self, context_id: int, identifier: bytes, *, timeout_s: float | None = None
    ) -> AsyncGenerator[tuple[Response, bytes | None], None]:
        """Send C-FIND-RQ and yield each response, the final one included.

        Leaving the iterator early (`aclose`) sends C-CANCEL-RQ. `timeout_s` is per response.
        """
        self._check_context(context_id)
        responses = self.request_responses(
            field=dimse.C_FIND_RQ,
            context_id=context_id,
            sop_class_uid=self.contexts[context_id].abstract_syntax,
            data=identifier,
            priority=0,
            timeout_s=timeout_s,
        )
        try:
            async for command, data in responses:
                yield response_of(command), data
        finally:
            await responses.aclose()

    async def request_responses(
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
    ) -> AsyncGenerator[tuple[Command, bytes | None], None]:
        """Send any request but C-STORE and yield its responses, the final one included.

        The UIDs are sent as Affected or Requested as the service wants it (PS3.7 section 10.3).
        Leaving early (`aclose`) sends C-CANCEL-RQ where the service has one.
        """
        self._check_context(context_id)
        elements: dict[int, bytes | int | str] = {dimse.COMMAND_FIELD: field}
        requested = field in dimse.NAMES_REQUESTED
        if sop_class_uid:
            tag = dimse.REQUESTED_SOP_CLASS_UID if requested else dimse.AFFECTED_SOP_CLASS_UID
            elements[tag] = sop_class_uid
        if sop_instance_uid:
            tag = dimse.REQUESTED_SOP_INSTANCE_UID if requested else dimse.AFFECTED_SOP_INSTANCE_UID
            elements[tag] = sop_instance_uid
        if priority is not None:
            elements[dimse.PRIORITY] = priority
        if move_destination:
            elements[dimse.MOVE_DESTINATION] = move_destination
        elements.update(extra or {})
        pending = await self._begin()
        elements[dimse.MESSAGE_ID] = pending.message_id
        elements[dimse.DATA_SET_TYPE] = dimse.NO_DATA_SET if data is None else dimse.HAS_DATA_SET
        final = False
        try:
            await self._send_request(pending, context_id, elements, data)
            while not final:
                command, answer = await self._next(pending, timeout_s)
                final = not dimse.is_pending(command.status)
                yield command, answer
        finally:
            if not final:
                pending.abandon()
                waits = self._pending.get(pending.message_id) is pending
                if waits and self.alive and field in _MAY_BE_CANCELLED:
                    await self._cancel(context_id, pending.message_id)

    async def _send_request(
        self,
        pending: Pending,
        context_id: int,
        elements: Mapping[int, bytes | int | str],
        data: bytes | None,
    ) -> None:
        """Send a request; one that did not go out holds no place in the window."""
        try:
            await self._send(self._message(context_id, commandset.encode_command(elements), data))
        except BaseException:
            if self._pending.pop(pending.message_id, None) is not None:
                self._window.leave()
            raise

    async def _cancel(self, context_id: int, message_id: int) -> None:
        """Send C-CANCEL-RQ (PS3.7 section 9.3.2.3)."""
        command = commandset.encode_command(
            {
                dimse.COMMAND_FIELD: dimse.C_CANCEL_RQ,
                dimse.MESSAGE_ID_RESPONDED: message_id,
                dimse.DATA_SET_TYPE: dimse.NO_DATA_SET,
            }
        )
        await self._send(self._message(context_id, command, None))

    def _check_context(self, context_id: int) -> None:
        context = self.contexts.get(context_id)
        if context is None or not context.as_scu:
            raise NoSuchContext(f"context {context_id} was not accepted for us as SCU")

    async def _begin(self) -> Pending:
        """Wait for a place in the window and take a free message id."""
        await self._window.enter()
        if not self.alive:
            self._window.leave()
            raise AssociationLost(self._lost_words())
        message_id = self._last_message_id % _MESSAGE_IDS + 1
        while message_id in self._pending:
            message_id = message_id % _MESSAGE_IDS + 1
        self._last_message_id = message_id
        pending = Pending(message_id=message_id, pause=self._upper.pause, resume=self._upper.resume)
        self._pending[message_id] = pending
        return pending

    async def _next(
        self, pending: Pending, timeout_s: float | None
    ) -> tuple[Command, bytes | None]:
        """Return the next response; when it does not come the association is aborted."""
        wait_s = self._limits.response_s if timeout_s is None else timeout_s
        try:
            return await pending.next(wait_s)
        except TimeoutError as error:
            self._upper.abort(CloseReason.TIMEOUT, "a request was not answered in time")
            raise NoAnswer(f"no answer within {wait_s:g} s") from error
        except asyncio.CancelledError:
            pending.abandon()
            raise

    async def answered(self) -> None:
        """Wait until each request has its final answer, those too that nobody waits for any more.

        After a C-CANCEL a peer may still be sending; who releases then is not heard by all peers.
        """
        await self._until(lambda: not self._pending or not self.alive)

    # -- responses ----------------------------------------------------------------------------

    def _take_response(self, command: Command) -> Incoming | None:
        if command.has_data_set:
            return Collecting(command, limit=self._limits.max_identifier, done=self._responded)
        self._arrived(command, None)
        return None

    def _responded(self, command: Command, data: bytes | None) -> None:
        if data is None:
            raise UnreadablePdu(f"response over {self._limits.max_identifier} bytes")
        self._arrived(command, data)

    def _arrived(self, command: Command, data: bytes | None) -> None:
        pending = self._pending.get(command.message_id)
        if pending is None:
            self._counters.add("dicom_responses_to_nothing")
            return
        if pending.arrive(command, data):
            del self._pending[command.message_id]
            self._window.leave()
            self.writable()

    def _lose_requests(self, words: str) -> None:
        """The association is over: nobody will answer."""
        for pending in tuple(self._pending.values()):
            pending.lose(words)
            self._window.leave()
        self._pending.clear()


def response_of(command: Command) -> Response:
    """Return the status of a response's command set and what came with it."""
    offending = command.raw.get(dimse.OFFENDING_ELEMENT, b"")
    tags = tuple(
        int.from_bytes(offending[at : at + 2], "little") << 16
        | int.from_bytes(offending[at + 2 : at + 4], "little")
        for at in range(0, len(offending) - 3, 4)
    )
    return Response(command.status, command.comment, tags, command.raw)
