# SPDX-License-Identifier: Apache-2.0
"""One imaging worker process as the pool sees it: started, asked, ended. Loop thread only."""

import asyncio
import os
import socket
from typing import Any, Final

from scrigno.host.process import Process, spawn_worker

from .protocol import BadMessage, is_sealed, receive, send

START_TIMEOUT_S: Final = 30.0  # imports of numpy, pydicom, GDCM: half a second on a quiet machine
MAX_OUTPUT_BYTES: Final = 8 << 30  # of a transcoded object
# glibc's arenas and BLAS threads would eat the address space that the limit is about
ENVIRONMENT: Final = {
    "MALLOC_ARENA_MAX": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
}


class WorkerDied(Exception):
    """The worker process ended, or said something that it may not."""


class Worker:
    """One worker process and the socket to it; one job at a time."""

    def __init__(self, *, memory_limit_bytes: int, cpu_limit_s: int) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            limits = (memory_limit_bytes, MAX_OUTPUT_BYTES, cpu_limit_s)
            try:
                self.process: Process = spawn_worker(
                    "scrigno.imaging.worker",
                    [str(limit) for limit in limits],
                    fds=[theirs],
                    environment=ENVIRONMENT,
                )
            except BaseException:
                ours.close()
                raise
        ours.setblocking(False)  # noqa: FBT003 - positional only
        self._socket = ours
        self.jobs = 0
        self.key: str | None = None  # of the object that it had open last
        self.measures: tuple[str, ...] = ()  # of the sandbox, in force

    async def ready(self) -> None:
        """Wait until the worker has loaded and shut itself in; raises WorkerDied, TimeoutError."""
        async with asyncio.timeout(START_TIMEOUT_S):
            message, fds = await self._receive()
        _close(fds)
        self.measures = tuple(str(name) for name in message.get("ready", ()))

    async def job(self, message: dict[str, Any], source: int) -> tuple[dict[str, Any], int | None]:
        """Do one job; the caller closes the descriptor answered. Raises WorkerDied."""
        self.jobs += 1
        try:
            send(self._socket, message, (source,))
        except OSError as error:
            raise WorkerDied from error
        answer, fds = await self._receive()
        if len(fds) > 1 or (not fds and "error" not in answer) or not all(map(is_sealed, fds)):
            _close(fds)
            raise WorkerDied
        return answer, fds[0] if fds else None

    async def _receive(self) -> tuple[dict[str, Any], list[int]]:
        await _readable(self._socket)
        try:
            return receive(self._socket)
        except (EOFError, OSError, BadMessage) as error:
            raise WorkerDied from error

    def end(self) -> None:
        """Kill the process and close the socket; idempotent."""
        self.process.kill()
        self._socket.close()

    async def how_it_ended(self) -> str:
        """Say in words why the process is gone."""
        code = await self.process.wait(1.0)
        if code is not None and code < 0:
            return f"The decoder was ended by signal {-code} on this object."
        return "The decoder process ended on this object."


async def _readable(control: socket.socket) -> None:
    """Wait until a packet (or the end) has arrived."""
    loop = asyncio.get_running_loop()
    arrived = loop.create_future()

    def tell() -> None:
        if not arrived.done():
            arrived.set_result(None)

    loop.add_reader(control, tell)
    try:
        await arrived
    finally:
        loop.remove_reader(control)


def _close(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)
