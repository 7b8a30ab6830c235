# SPDX-License-Identifier: Apache-2.0
"""What the box asks of other nodes by itself: C-ECHO to one or to all of them (SPEC DN-2, DN-9)."""

import asyncio
from dataclasses import dataclass
from typing import Final

from scrigno.core.clock import Clock
from scrigno.core.counters import Counters
from scrigno.dicomnet.client import connect
from scrigno.dicomnet.errors import AssociationRejected, DicomNetError
from scrigno.settings.schema import Peer
from scrigno.settings.store import SettingsStore

from .negotiation import VERIFICATION
from .retrieve import UNCOMPRESSED
from .statuses import Status

ECHO_TIMEOUT_S: Final = 10.0
ECHOES_AT_ONCE: Final = 8
DEFAULT_AE_TITLE: Final = "SCRIGNO"  # while no provider is set up


@dataclass(frozen=True, slots=True, kw_only=True)
class EchoResult:
    """How a node answered. `code` is stable: ok, or why not; `words` are for people."""

    peer: str
    ok: bool
    code: str
    words: str
    duration_s: float


def own_ae_title(settings: SettingsStore) -> str:
    """Return the title that the box calls itself by: its first provider that is on."""
    providers = settings.current.providers
    return next((each.ae_title for each in providers if each.enabled), DEFAULT_AE_TITLE)


class RemoteNodes:
    """The requesting side of the box."""

    def __init__(self, settings: SettingsStore, *, counters: Counters, clock: Clock) -> None:
        """Know the nodes from `settings`."""
        self._settings = settings
        self._counters = counters
        self._clock = clock

    @property
    def ae_title(self) -> str:
        """Return the title that the box calls itself by: its first provider that is on."""
        return own_ae_title(self._settings)

    async def echo(self, peer: Peer, *, timeout_s: float = ECHO_TIMEOUT_S) -> EchoResult:
        """Ask one node whether it is there; never raises for what the node does."""
        started = self._clock.monotonic()
        code, words = await self._echoed(peer, timeout_s)
        self._counters.add("dicom_echo_sent", outcome=code)
        return EchoResult(
            peer=peer.name,
            ok=code == "ok",
            code=code,
            words=words,
            duration_s=self._clock.monotonic() - started,
        )

    async def echo_all(self, *, timeout_s: float = ECHO_TIMEOUT_S) -> list[EchoResult]:
        """Ask every node, a few at a time; the answers are in the order of the settings."""
        gate = asyncio.Semaphore(ECHOES_AT_ONCE)

        async def ask(peer: Peer) -> EchoResult:
            async with gate:
                return await self.echo(peer, timeout_s=timeout_s)

        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(ask(each)) for each in self._settings.current.peers]
        return [each.result() for each in asked]

    async def _echoed(self, peer: Peer, timeout_s: float) -> tuple[str, str]:
        if peer.host == "*" or "/" in peer.host:
            return "no-address", "The node is registered without an address of its own."
        try:
            association = await connect(
                host=peer.host,
                port=peer.port,
                called_ae=peer.ae_title,
                calling_ae=self.ae_title,
                contexts=[(VERIFICATION, UNCOMPRESSED)],
                timeout_s=timeout_s,
                counters=self._counters,
            )
        except AssociationRejected as error:
            return error.code, f"The node refuses the association: {error.reason}"
        except DicomNetError as error:
            return error.code, error.reason
        try:
            response = await association.echo(timeout_s=timeout_s)
        except DicomNetError as error:
            return error.code, error.reason
        finally:
            if association.alive:
                await association.release(timeout_s=2)
            association.abort()
        if response.status != Status.SUCCESS:
            return "refused", f"The node answers with status {response.status:04X}."
        return "ok", "The node answers."
