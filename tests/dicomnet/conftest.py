# SPDX-License-Identifier: Apache-2.0
"""Real servers, raw peers and DCMTK listeners on the loopback, cleaned up and checked."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from dicomnet_kit import Dial, Listen, RawPeer, RecordingProvider, Serve, dictionary

from ports import free_port
from scrigno.core.counters import Counters
from scrigno.dicomnet.limits import Limits
from scrigno.dicomnet.server import DicomServer


@pytest.fixture
async def provider() -> RecordingProvider:
    return RecordingProvider()


@pytest.fixture
async def serve(provider: RecordingProvider) -> AsyncIterator[Serve]:
    """Return a function that starts a server with these limits; all are closed at the end.

    Afterwards no task of ours may be left, and every handler was told of its end exactly once.
    """
    servers: list[DicomServer] = []

    async def start(
        used: RecordingProvider | None = None, *, tls: object = None, **limits: float
    ) -> DicomServer:
        server = DicomServer(
            host="127.0.0.1",
            port=0,
            provider=used or provider,
            counters=Counters(),
            limits=Limits(**limits),  # type: ignore[arg-type]
            tls=tls,  # type: ignore[arg-type]
        )
        await server.start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        await server.close(grace_s=0.5)
        assert not server.associations
        assert not server.connections
    for handler in provider.handlers:
        assert len(handler.close_reasons) == 1, handler
    for sink in provider.sinks:
        assert sink.finished + len(sink.discarded) == 1, sink
    await asyncio.sleep(0)
    left = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
    assert not left, left


@pytest.fixture
async def dial() -> AsyncIterator[Dial]:
    """Return a function that connects a raw peer to a server."""
    peers: list[RawPeer] = []

    async def connect(server: DicomServer) -> RawPeer:
        peer = RawPeer(*await asyncio.open_connection("127.0.0.1", server.port))
        peers.append(peer)
        return peer

    yield connect
    for peer in peers:
        await peer.close()


@pytest.fixture
async def dcmtk_scp() -> AsyncIterator[Listen]:
    """Return a function that starts a listening DCMTK tool and returns its port."""
    running: list[asyncio.subprocess.Process] = []

    async def start(name: str, *arguments: str, cwd: Path) -> int:
        path = shutil.which(name, path="/usr/bin")
        if path is None:
            pytest.skip(f"DCMTK's {name} is not installed")
        port = free_port()
        process = await asyncio.create_subprocess_exec(
            path,
            *arguments,
            str(port),
            cwd=cwd,
            env={"PATH": "/usr/bin", "DCMDICTPATH": dictionary()},
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        running.append(process)
        async with asyncio.timeout(10):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    await asyncio.sleep(0.02)
                else:
                    writer.close()
                    await writer.wait_closed()
                    return port

    yield start
    for process in running:
        process.kill()
        await process.wait()
