# SPDX-License-Identifier: Apache-2.0
"""The daemon's end of the control socket: commands of the operator on this machine.

One line of JSON asks, lines of JSON answer: any number of `{"progress": …}`, then one
`{"result": …}` or `{"error": {"code", "reason", "next_step"}}`. The socket stands in the state
directory with mode 0600 and every caller is checked by SO_PEERCRED (unix(7)): root or our own user.
A caller that goes away ends its command.
"""

import asyncio
import json
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

from scrigno.core.errors import CommandError, ScrignoError
from scrigno.web.shapes import as_plain

log = logging.getLogger(__name__)

SOCKET_NAME: Final = "control.sock"
REQUEST_LIMIT_BYTES: Final = 4 << 20  # a whole configuration fits many times
PROGRESS_INTERVAL_S: Final = 0.2  # more often than a person can read is waste

Progress = Callable[..., None]
Handler = Callable[[Mapping[str, Any], Progress], Awaitable[Any]]


class ControlServer:
    """Answers `commands` (name to handler) on `<state_dir>/control.sock`."""

    def __init__(self, state_dir: Path, commands: Mapping[str, Handler]) -> None:
        """Touch nothing yet; `start` listens."""
        self._state_dir = state_dir
        self._commands = commands
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """Listen; a socket left by an earlier run is replaced (the state lock is ours)."""
        listener = await asyncio.to_thread(self._bind)
        self._server = await asyncio.start_unix_server(
            self._serve, sock=listener, limit=REQUEST_LIMIT_BYTES
        )

    def _bind(self) -> socket.socket:
        (self._state_dir / SOCKET_NAME).unlink(missing_ok=True)
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        # By way of the folder's descriptor: a socket's path is limited to 107 bytes (unix(7)).
        folder = os.open(self._state_dir, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fchmod(server.fileno(), 0o600)  # bind(2) gives the name the socket's own mode
            server.bind(f"/proc/self/fd/{folder}/{SOCKET_NAME}")
        finally:
            os.close(folder)
        return server

    async def close(self) -> None:
        """Stop listening and end the commands that run. Idempotent."""
        if self._server is None:
            return
        self._server.close()
        for writer in tuple(self._open):
            writer.transport.abort()
        await self._server.wait_closed()
        self._server = None
        socket_path = self._state_dir / SOCKET_NAME
        await asyncio.to_thread(socket_path.unlink, missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            if not _is_permitted(writer):
                return
            line = await reader.readline()
            if line:
                await self._answer(line, reader, writer)
        except (ConnectionError, ValueError):
            log.info("control socket: a caller went away or asked for too much at once")
        finally:
            self._open.discard(writer)
            writer.close()

    async def _answer(
        self, line: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        work = asyncio.ensure_future(self._run(line, _Reporter(writer)))
        gone = asyncio.ensure_future(reader.read(1))  # the caller says nothing more until it goes
        try:
            await asyncio.wait([work, gone], return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                _send(writer, work.result())
                await writer.drain()
        finally:
            for task in (work, gone):
                task.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)

    async def _run(self, line: bytes, report: "_Reporter") -> Mapping[str, Any]:
        try:
            request = json.loads(line)
            name, arguments = request["command"], request["arguments"]
            handler = self._commands[name]
        except (ValueError, KeyError, TypeError):
            return _error("unknown-command", "The daemon does not know this command.", "")
        try:
            return {"result": await handler(arguments, report)}
        except ScrignoError as error:
            return _error(error.code, error.reason, error.next_step)
        except (KeyError, TypeError, ValueError) as error:
            log.exception("control socket: command %s failed", name)
            return _error(
                CommandError.code,
                f"The command could not be carried out ({type(error).__name__}).",
                "Look into the daemon's log.",
            )


class _Reporter:
    """Sends progress lines, at most one each PROGRESS_INTERVAL_S."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._next = 0.0

    def __call__(self, done: int, total: int | None = None, what: str = "") -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._next:
            self._next = now + PROGRESS_INTERVAL_S
            _send(self._writer, {"progress": {"done": done, "total": total, "what": what}})


def _send(writer: asyncio.StreamWriter, message: Mapping[str, Any]) -> None:
    text = json.dumps(message, ensure_ascii=False, default=as_plain)
    writer.write(text.encode("utf-8", "replace") + b"\n")


def _error(code: str, reason: str, next_step: str) -> Mapping[str, Any]:
    return {"error": {"code": code, "reason": reason, "next_step": next_step}}


def _is_permitted(writer: asyncio.StreamWriter) -> bool:
    peer = writer.get_extra_info("socket")
    credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _pid, uid, _gid = struct.unpack("3i", credentials)
    if uid in (0, os.geteuid()):
        return True
    log.warning("control socket: refused a caller of user id %d", uid)
    return False
