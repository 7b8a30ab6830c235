# SPDX-License-Identifier: Apache-2.0
"""C-ECHO of remote nodes at the press of a button (SPEC DN-2)."""

import asyncio
from typing import Final

from scrigno.core.clock import Clock
from scrigno.core.errors import ScrignoError
from scrigno.dicomnet.client import connect
from scrigno.settings.kinds import is_host
from scrigno.settings.schema import Peer, Settings

from .shapes import Answer

VERIFICATION: Final = "1.2.840.10008.1.1"  # PS3.4 annex A
IMPLICIT_LITTLE: Final = "1.2.840.10008.1.2"
EXPLICIT_LITTLE: Final = "1.2.840.10008.1.2.1"
TIMEOUT_S: Final = 8.0
AT_ONCE: Final = 16


class EchoAnswer(Answer):
    """What a node answered; `code` is the DICOM status or why there was none."""

    name: str
    seconds: float
    ok: bool
    code: str
    detail: str


async def echo(peer: Peer, settings: Settings, clock: Clock) -> EchoAnswer:
    """Ask one node; never raises for anything the node or the network does."""
    began = clock.monotonic()
    calling = settings.providers[0].ae_title if settings.providers else "SCRIGNO"
    try:
        if not is_host(peer.host):
            raise ScrignoError(
                "The node has no single address.", next_step="Enter its address to reach it."
            )
        async with asyncio.timeout(TIMEOUT_S):
            status = await _ask(peer, calling)
    except TimeoutError:
        found = (False, "timeout", f"No answer within {TIMEOUT_S:g} s.")
    except ScrignoError as error:
        found = (False, error.code, error.sentence())
    else:
        found = (status == 0, f"status-{status:04x}", "")
    ok, code, detail = found
    seconds = round(clock.monotonic() - began, 4)
    return EchoAnswer(name=peer.name, seconds=seconds, ok=ok, code=code, detail=detail)


async def _ask(peer: Peer, calling: str) -> int:
    association = await connect(
        host=peer.host,
        port=peer.port,
        called_ae=peer.ae_title,
        calling_ae=calling,
        contexts=[(VERIFICATION, [IMPLICIT_LITTLE, EXPLICIT_LITTLE])],
        timeout_s=TIMEOUT_S,
    )
    try:
        response = await association.echo()
        await association.release()
    except BaseException:
        association.abort()
        raise
    return response.status


async def echo_all(settings: Settings, clock: Clock) -> list[EchoAnswer]:
    """Ask every node, a few at a time."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(peer: Peer) -> EchoAnswer:
        async with gate:
            return await echo(peer, settings, clock)

    return list(await asyncio.gather(*(one(peer) for peer in settings.peers)))
