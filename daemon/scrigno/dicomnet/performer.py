# SPDX-License-Identifier: Apache-2.0
"""The requests of the peer: from a command set to the handler and back with the answer."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final

from . import dimse
from .errors import AssociationLost
from .incoming import Collecting, Dropping, Incoming, Storing
from .service import AssociationHandler, Command, Operation, Response, StoreSink

if TYPE_CHECKING:
    from .association import Association

log = logging.getLogger(__name__)

_QUERIES: Final = frozenset({dimse.C_FIND_RQ, dimse.C_GET_RQ, dimse.C_MOVE_RQ})
_REQUESTS: Final = _QUERIES | {
    dimse.C_STORE_RQ,
    dimse.C_ECHO_RQ,
    dimse.N_EVENT_REPORT_RQ,
    dimse.N_GET_RQ,
    dimse.N_SET_RQ,
    dimse.N_ACTION_RQ,
    dimse.N_CREATE_RQ,
    dimse.N_DELETE_RQ,
}


class Performer:
    """Performs up to `window` requests at once; one more waits in the socket.

    `finish` of a complete object is never cancelled by the end of the association; the tasks
    that serve other operations are.
    """

    def __init__(self, association: "Association", *, window: int, max_identifier: int) -> None:
        self.handler: AssociationHandler | None = None
        self.finishing = 0  # complete objects that are not yet answered
        self.tasks: set[asyncio.Task[None]] = set()
        self._association = association
        self._window = window
        self._max_identifier = max_identifier
        self._running: dict[int, Operation | Command] = {}
        self._beyond: Command | None = None  # the request that waits
        self._serving: set[asyncio.Task[None]] = set()

    @property
    def busy(self) -> bool:
        """Tell whether a request of the peer's is not yet answered."""
        return bool(self._running)

    def take(self, command: Command) -> Incoming | None:
        """Begin a request; return where its data set goes, if it has one."""
        if len(self._running) >= self._window:
            self._beyond = command
            self._association.hold()
            return None
        if command.message_id in self._running:
            return self._refuse(command, Response(dimse.DUPLICATE_INVOCATION), counted=False)
        self._running[command.message_id] = command
        if command.field not in _REQUESTS:
            return self._refuse(command, Response(dimse.UNRECOGNIZED_OPERATION))
        if self.handler is None or not self._association.contexts[command.context_id].as_scp:
            refusal = Response(dimse.SOP_CLASS_NOT_SUPPORTED, "not in this role")
            return self._refuse(command, refusal)
        if command.field == dimse.C_STORE_RQ:
            return self._take_store(command, self.handler)
        if command.has_data_set:
            return Collecting(command, limit=self._max_identifier, done=self._collected)
        self._collected(command, b"")
        return None

    def take_cancel(self, command: Command) -> Incoming | None:
        """C-CANCEL-RQ: tell the operation it names, if it still runs."""
        operation = self._running.get(command.message_id)
        if isinstance(operation, Operation):
            operation.cancelled.set()
        return Dropping(command, done=lambda: None) if command.has_data_set else None

    def cancel_operations(self) -> None:
        """The association is over or being released: stop what is served, but no `finish`."""
        self._beyond = None
        for operation in self._running.values():
            if isinstance(operation, Operation):
                operation.cancelled.set()
        for task in tuple(self._serving):
            task.cancel()

    def _take_store(self, command: Command, handler: AssociationHandler) -> Incoming | None:
        if not command.has_data_set:
            return self._refuse(command, Response(dimse.CANNOT_UNDERSTAND, "no data set"))
        association = self._association
        reading = object()
        try:
            answer = handler.store_sink(
                command,
                association.contexts[command.context_id].transfer_syntax,
                lambda: association.resume_reading(reading),
            )
        except Exception:
            log.exception("association %r: no sink for a C-STORE", association)
            answer = Response(dimse.PROCESSING_FAILURE)
        if isinstance(answer, Response):
            return self._refuse(command, answer)
        return Storing(
            command, answer, pause=lambda: association.pause_reading(reading), done=self._stored
        )

    def _refuse(
        self, command: Command, response: Response, *, counted: bool = True
    ) -> Incoming | None:
        """Answer, after the data set, which is thrown away."""

        def done() -> None:
            _ = self._spawn(self._answer_and_end(command, response, counted=counted))

        if command.has_data_set:
            return Dropping(command, done=done)
        done()
        return None

    def _stored(self, command: Command, sink: StoreSink | None) -> None:
        if sink is None:
            failure = Response(dimse.PROCESSING_FAILURE, "the object could not be taken")
            _ = self._spawn(self._answer_and_end(command, failure))
        else:
            self.finishing += 1
            _ = self._spawn(self._finish(command, sink))

    async def _finish(self, command: Command, sink: StoreSink) -> None:
        try:
            try:
                response = await sink.finish()
            except Exception:
                log.exception("association %r: a C-STORE failed", self._association)
                response = Response(dimse.PROCESSING_FAILURE)
            await self._answer(command, response)
        finally:
            self.finishing -= 1
            self._over(command)

    def _collected(self, command: Command, data: bytes | None) -> None:
        if data is None:
            status = (
                dimse.OUT_OF_RESOURCES if command.field in _QUERIES else dimse.RESOURCE_LIMITATION
            )
            refusal = Response(status, f"identifier over {self._max_identifier} bytes")
            _ = self._spawn(self._answer_and_end(command, refusal))
            return
        operation = Operation(
            command=command,
            data=data,
            transfer_syntax=self._association.contexts[command.context_id].transfer_syntax,
            association=self._association,
        )
        self._running[command.message_id] = operation
        task = self._spawn(self._serve(operation))
        self._serving.add(task)

    async def _serve(self, operation: Operation) -> None:
        handler = self.handler
        try:
            if handler is not None:
                try:
                    await handler.serve(operation)
                except AssociationLost:
                    pass  # it was told by `cancelled`, and `closed` follows
                except Exception:
                    log.exception("association %r: an operation failed", self._association)
            if not operation.answered:
                await self._answer(operation.command, Response(dimse.PROCESSING_FAILURE))
        finally:
            self._over(operation.command)

    async def _answer_and_end(
        self, command: Command, response: Response, *, counted: bool = True
    ) -> None:
        try:
            await self._answer(command, response)
        finally:
            if counted:
                self._over(command)

    async def _answer(self, command: Command, response: Response) -> None:
        try:
            await self._association.answer(command, response)
        except AssociationLost:
            self._association.count("dicom_answers_unsent")

    def _over(self, command: Command) -> None:
        self._running.pop(command.message_id, None)
        beyond, self._beyond = self._beyond, None
        if beyond is not None:
            self._association.go_on(beyond)
        self._association.request_over()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        self._serving.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("association %r: a task failed", self._association, exc_info=task.exception())
