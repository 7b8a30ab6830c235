# SPDX-License-Identifier: Apache-2.0
"""The accepting side: one listening port."""

import asyncio
import logging
import ssl
from collections import Counter
from collections.abc import Collection
from typing import Final, TypeVar

from scrigno.core.clock import Clock, SystemClock
from scrigno.core.counters import Counters

from .acceptor import Acceptor
from .association import Association
from .fsm import State
from .limits import DEFAULT_LIMITS, Limits
from .service import AssociationRequest, CloseReason, ServiceProvider
from .upper import ReceiveBuffer, UpperLayer

log = logging.getLogger(__name__)

_Counted = TypeVar("_Counted")

_BACKLOG: Final = 512
_TLS_SHUTDOWN_S: Final = 2
# asyncio keeps 256 KiB for each TLS connection, idle or not.
_TLS_CONNECTIONS_PER_ASSOCIATION: Final = 4
# What a peer gets to close its end after our A-ABORT at shutdown.
_LAST_WORD_S: Final = 0.5


class DicomServer:
    """Listens on one address and runs the associations that come in."""

    def __init__(
        self,
        *,
        host: str,
        port: int,
        provider: ServiceProvider,
        counters: Counters,
        limits: Limits = DEFAULT_LIMITS,
        tls: ssl.SSLContext | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._host = host
        self._port = port
        self._provider = provider
        self._counters = counters
        self._limits = limits
        self._tls = tls
        self._max_connections = limits.max_connections
        if tls is not None:
            most = _TLS_CONNECTIONS_PER_ASSOCIATION * limits.max_associations
            self._max_connections = min(most, limits.max_connections)
        self._clock = clock or SystemClock()
        self._server: asyncio.Server | None = None
        self._closing = False
        self._buffer = ReceiveBuffer()
        self._connections: dict[UpperLayer, Acceptor] = {}  # oldest first
        self._associations: dict[Association, None] = {}
        self._ending: set[Association] = set()  # over, but with `finish` still running
        # Associations, negotiations included.
        self._peers: Counter[tuple[str, str]] = Counter()  # by calling AE title and address
        self._hosts: Counter[str] = Counter()
        self._changed = asyncio.Event()

    async def start(self) -> None:
        """Listen; OSError when the port cannot be had."""
        self._server = await asyncio.get_running_loop().create_server(
            self._connection,
            self._host,
            self._port,
            backlog=_BACKLOG,
            ssl=self._tls,
            ssl_handshake_timeout=self._limits.artim_s if self._tls else None,
            ssl_shutdown_timeout=_TLS_SHUTDOWN_S if self._tls else None,
        )
        log.info("DICOM port %s:%d: listening%s", self._host, self.port, self._with_tls())

    @property
    def port(self) -> int:
        """Return the port in use, also when 0 was asked for."""
        if self._server is not None and self._server.sockets:
            return int(self._server.sockets[0].getsockname()[1])
        return self._port

    @property
    def associations(self) -> Collection[Association]:
        """Return the associations that are established now; `len()` counts them."""
        return self._associations.keys()

    @property
    def connections(self) -> int:
        """Return the number of TCP connections, those without an association included."""
        return len(self._connections)

    async def close(self, grace_s: float = 10) -> None:
        """Stop listening, let what runs end within `grace_s`, abort the rest. Idempotent.

        `finish` of complete objects may use the grace too; what is left then is cancelled.
        """
        if self._closing:
            return
        self._closing = True
        if self._server is not None:
            port = self.port
            self._server.close()
            log.info("DICOM port %s:%d: closed", self._host, port)
        for upper, acceptor in tuple(self._connections.items()):
            if upper.user is acceptor:
                upper.drop()
        quiet = [
            asyncio.ensure_future(self._finish(association))
            for association in (*self._associations, *self._ending)
        ]
        if quiet:
            _, late = await asyncio.wait(quiet, timeout=grace_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*quiet, return_exceptions=True)
        await self._abort_all()
        if self._server is not None:
            await self._server.wait_closed()

    async def _finish(self, association: Association) -> None:
        await association.quiet()
        association.abort()
        await association.wait_tasks()

    async def _abort_all(self) -> None:
        left = (*self._associations, *self._ending)
        for association in left:
            association.abort()
            association.cancel_tasks()
        await asyncio.gather(*(association.wait_tasks() for association in left))
        negotiations = [a.task for a in self._connections.values() if a.task is not None]
        for task in negotiations:
            task.cancel()
        await asyncio.gather(*negotiations, return_exceptions=True)
        await self._connections_gone(_LAST_WORD_S)
        for upper in tuple(self._connections):
            upper.drop()
        await self._connections_gone(_TLS_SHUTDOWN_S)

    async def _connections_gone(self, wait_s: float) -> None:
        try:
            async with asyncio.timeout(wait_s):
                while self._connections:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return

    # -- connections --------------------------------------------------------------------------

    def _connection(self) -> UpperLayer:
        acceptor = Acceptor(
            provider=self._provider, register=self, limits=self._limits, counters=self._counters
        )
        upper = UpperLayer(
            user=acceptor,
            limits=self._limits,
            receive_buffer=self._buffer,
            requestor=False,
            made=lambda upper: self._made(upper, acceptor),
            gone=self._gone,
        )
        acceptor.upper = upper
        return upper

    def _made(self, upper: UpperLayer, acceptor: Acceptor) -> None:
        """Count a connection, over TLS only now that the handshake is done."""
        self._connections[upper] = acceptor
        self._make_room()

    def _make_room(self) -> None:
        """Over the limit, drop the oldest connection that has not asked for an association."""
        if len(self._connections) <= self._max_connections:
            return
        self._counters.add("dicom_connections_dropped")
        for upper in self._connections:
            if upper.state is State.STA2:
                upper.abort(CloseReason.ABORTED_BY_US, "too many connections")
                return

    def _gone(self, upper: UpperLayer) -> None:
        self._connections.pop(upper, None)
        self._changed.set()

    # -- the register of associations ---------------------------------------------------------

    def has_room(self, request: AssociationRequest) -> bool:
        """Tell whether one more of this peer is within the limits; if so it is counted."""
        peer = request.calling_ae, request.peer.host
        limits = self._limits
        if (
            self._closing
            or self._hosts.total() >= limits.max_associations
            or self._hosts[request.peer.host] >= limits.max_associations_per_host
            or self._peers[peer] >= limits.max_associations_per_peer
        ):
            return False
        self._peers[peer] += 1
        self._hosts[request.peer.host] += 1
        return True

    def established(self, association: Association) -> None:
        """Keep the association until it is over."""
        self._associations[association] = None

    def failed(self, request: AssociationRequest) -> None:
        """Uncount a request that became no association."""
        peer = request.calling_ae, request.peer.host
        _uncount(self._peers, peer)
        _uncount(self._hosts, request.peer.host)

    def over(self, association: Association) -> None:
        """Uncount the association; keep an eye on what still runs."""
        self._associations.pop(association, None)
        self.failed(association.request)
        if association.has_tasks:
            self._ending.add(association)
            association.when_tasks_done(self._ending.discard)

    def _with_tls(self) -> str:
        return " with TLS" if self._tls is not None else ""


def _uncount(counter: Counter[_Counted], key: _Counted) -> None:
    counter[key] -= 1
    if counter[key] <= 0:
        del counter[key]
