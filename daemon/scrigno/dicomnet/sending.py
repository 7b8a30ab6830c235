# SPDX-License-Identifier: Apache-2.0
"""Whole messages onto a connection, one after another, no faster than the peer reads."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import chain
from typing import Final

from . import commandset, dimse
from .errors import AssociationLost
from .fsm import MAY_SEND_DATA
from .pdu import NOT_SPECIFIED, SERVICE_USER
from .service import CloseReason, Command, Response
from .upper import UpperLayer

_SUCCESS: Final = Response(dimse.SUCCESS)


class Sender:
    """The sending half of an association."""

    def __init__(self, upper: UpperLayer, *, max_pdu: int) -> None:
        self._upper = upper
        self._max_pdu = max_pdu
        self._ended: CloseReason | None = None
        self._ended_words = ""
        self._send_lock = asyncio.Lock()  # the PDUs of a message stay together
        self._waiters: list[asyncio.Future[None]] = []

    def abort(self, source: int = SERVICE_USER, reason: int = NOT_SPECIFIED) -> None:
        """Send A-ABORT (PS3.8 section 9.3.8); at once, idempotent."""
        self._upper.abort(CloseReason.ABORTED_BY_US, "", source=source, reason_code=reason)

    async def answer(
        self,
        command: Command,
        response: Response,
        *,
        data: bytes | None = None,
        counts: Mapping[int, int] | None = None,
    ) -> None:
        """Send one response to a request of the peer's; raises AssociationLost."""
        if command.field == dimse.C_STORE_RQ and response == _SUCCESS:
            pdu = commandset.encode_store_success(command)
            if len(pdu) - 6 <= self._max_pdu:
                await self._send((pdu,))
                return
        encoded = commandset.encode_response(
            command, response, has_data_set=data is not None, counts=counts
        )
        await self._send(self._message(command.context_id, encoded, data))

    def writable(self) -> None:
        """Wake whoever waits for the write buffer, for quiet or for the end."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _message(self, context_id: int, command: bytes, data: bytes | None) -> Iterable[bytes]:
        cut = partial(commandset.fragments, context_id, last=True, max_pdu=self._max_pdu)
        pdus = cut(command, command=True)
        return pdus if data is None else chain(pdus, cut(data, command=False))

    async def _send(self, pdus: Iterable[bytes]) -> None:
        """Send a whole message; raises AssociationLost. Aborts when cancelled half-way."""
        async with self._send_lock:
            begun = False
            try:
                for pdu in pdus:
                    await self._writable()
                    self._write(pdu)
                    begun = True
            except asyncio.CancelledError:
                if begun:
                    self.abort()
                raise

    def _write(self, pdu: bytes) -> None:
        if not self._upper.send_data(pdu):
            raise AssociationLost(self._lost_words())

    async def _writable(self) -> None:
        while self._upper.write_paused and self._upper.state in MAY_SEND_DATA:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter

    def _lost_words(self) -> str:
        if self._ended is None:
            return "the association is being released"
        return f"the association ended: {self._ended.value} {self._ended_words}".strip()

    async def _until(self, done: Callable[[], bool]) -> None:
        while not done():
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter
