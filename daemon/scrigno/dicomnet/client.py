# SPDX-License-Identifier: Apache-2.0
"""The requesting side."""

import asyncio
import logging
import ssl
from collections.abc import Mapping, Sequence
from typing import Final

from scrigno.core.counters import Counters

from .association import Association
from .errors import AssociationLost, AssociationRejected, ConnectFailed, DicomNetError
from .fsm import Event
from .limits import DEFAULT_LIMITS, Limits
from .pdu import ReceivedAcceptance, ReceivedRequest, encode_associate_rq
from .service import (
    AssociationHandler,
    AssociationRequest,
    CloseReason,
    PeerAddress,
    ProposedContext,
    Rejection,
    UserIdentity,
)
from .upper import ReceiveBuffer, UpperLayer

log = logging.getLogger(__name__)

_BUFFER: Final = 64 * 1024
_TLS_SHUTDOWN_S: Final = 2


async def connect(
    *,
    host: str,
    port: int,
    called_ae: str,
    calling_ae: str,
    contexts: Sequence[tuple[str, Sequence[str]]],
    roles: Mapping[str, tuple[bool, bool]] | None = None,
    extended: Mapping[str, bytes] | None = None,
    async_ops: tuple[int, int] | None = None,
    user_identity: UserIdentity | None = None,
    handler: AssociationHandler | None = None,
    limits: Limits = DEFAULT_LIMITS,
    tls: ssl.SSLContext | None = None,
    timeout_s: float = 30,
    counters: Counters | None = None,
) -> Association:
    """Connect and negotiate. `contexts` are (abstract syntax, transfer syntaxes), 1 to 128.

    `roles` is (we are SCU, we are SCP) by SOP class; `handler` serves what the peer asks of us
    (C-GET sub-operations); without one such requests are refused. `timeout_s` covers TCP, TLS
    and the answer together. Raises ConnectFailed, AssociationRejected, and AssociationLost when
    the peer aborts instead of answering; ValueError for an AE title or context list that
    cannot be sent.
    """
    if not 1 <= len(contexts) <= limits.max_contexts:
        raise ValueError(f"from 1 to {limits.max_contexts} presentation contexts")
    request = AssociationRequest(
        called_ae=called_ae,
        calling_ae=calling_ae,
        peer=PeerAddress(host, port),
        contexts=tuple(
            ProposedContext(2 * number + 1, abstract, tuple(transfer))
            for number, (abstract, transfer) in enumerate(contexts)
        ),
        max_pdu=limits.max_pdu,
        user_identity=user_identity,
        async_ops=async_ops,
        roles=dict(roles or {}),
        extended=dict(extended or {}),
        tls=tls is not None,
    )
    loop = asyncio.get_running_loop()
    requestor = _Requestor(request, limits, counters or Counters(), handler)
    upper = UpperLayer(
        user=requestor,
        limits=limits,
        receive_buffer=ReceiveBuffer(_BUFFER),
        requestor=True,
        request_pdu=encode_associate_rq(request, max_pdu=limits.max_pdu),
    )
    requestor.upper = upper
    upper.fire(Event.ASSOCIATE_REQUEST)
    association: Association | None = None
    try:
        async with asyncio.timeout(timeout_s):
            try:
                await loop.create_connection(
                    lambda: upper,
                    host,
                    port,
                    ssl=tls,
                    server_hostname=host if tls is not None else None,
                    ssl_shutdown_timeout=_TLS_SHUTDOWN_S if tls is not None else None,
                )
            except (OSError, ssl.SSLError) as error:
                raise ConnectFailed(f"{host}:{port}: {error}") from error
            association = await requestor.answer
    except TimeoutError as error:
        raise ConnectFailed(f"{host}:{port}: no answer within {timeout_s:g} s") from error
    finally:
        if association is None:
            requestor.give_up()
    return association


class _Requestor:
    """The upper layer's user from Sta4 until there is an association."""

    busy = True
    inside_message = False

    def __init__(
        self,
        request: AssociationRequest,
        limits: Limits,
        counters: Counters,
        handler: AssociationHandler | None,
    ) -> None:
        self.answer: asyncio.Future[Association] = asyncio.get_running_loop().create_future()
        self.upper: UpperLayer | None = None
        self._request = request
        self._limits = limits
        self._counters = counters
        self._handler = handler

    def give_up(self) -> None:
        """Leave nothing behind when there is no answer, or nobody waits for it any more."""
        self.answer.cancel()
        if self.upper is not None:
            self.upper.abort(CloseReason.ABORTED_BY_US, "nobody waits for the answer")
            self.upper.drop()

    def associate_confirmed(self, received: ReceivedAcceptance) -> None:
        """Hand the association to whoever waits; if nobody does any more, `give_up` ended it."""
        upper = self.upper
        if upper is None or self.answer.done():
            return
        association = Association(
            upper=upper,
            request=self._request,
            acceptance=received.acceptance,
            peer_max_pdu=received.max_pdu,
            limits=self._limits,
            counters=self._counters,
        )
        upper.user = association
        if self._handler is not None:
            association.attach(self._handler)
        self.answer.set_result(association)

    def associate_refused(self, rejection: Rejection) -> None:
        """The peer said no."""
        self._fail(
            AssociationRejected(
                rejection.result, rejection.source, rejection.reason, rejection.words
            )
        )

    def ended(self, reason: CloseReason, words: str) -> None:
        """The connection ended before there was an answer."""
        self._fail(AssociationLost(f"no association: {reason.value} {words}".strip()))

    def _fail(self, error: DicomNetError) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)

    def associate_indicated(self, received: ReceivedRequest) -> Rejection | None:
        """Cannot happen: a requestor is never in Sta2."""
        raise AssertionError

    def data_indicated(
        self, context_id: int, control: int, piece: memoryview, *, complete: bool
    ) -> None:
        """Cannot happen: there is no data before Sta6."""
        raise AssertionError

    def release_indicated(self) -> None:
        """Cannot happen: there is no release before Sta6."""
        raise AssertionError

    def writable(self) -> None:
        """Nobody waits to write yet."""
