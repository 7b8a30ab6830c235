# SPDX-License-Identifier: Apache-2.0
"""What pool and worker say to each other: one JSON message and its descriptors per packet.

The socket is SOCK_SEQPACKET, so a message arrives whole or not at all. Objects and results travel
as memory files (memfd_create(2)), which the sender seals: neither side can change or shrink them
under the other's hands.
"""

import fcntl
import json
import mmap
import os
import select
import socket
from collections.abc import Callable
from typing import Any, Final

MAX_MESSAGE_BYTES: Final = 64 << 10
MAX_DESCRIPTORS: Final = 2
LEISURE_S: Final = 5.0

_ADD_SEALS: Final = 1033  # fcntl(2) F_ADD_SEALS, F_GET_SEALS; named by Python only since 3.8 builds
_GET_SEALS: Final = 1034
_SHRINK_GROW_WRITE: Final = 0x2 | 0x4 | 0x8


class BadMessage(Exception):
    """The other side said something that is no message of ours."""


def send(control: socket.socket, message: dict[str, Any], fds: tuple[int, ...] = ()) -> None:
    """Send one message; the descriptors stay open here."""
    socket.send_fds(control, [json.dumps(message).encode()], fds)


def wait_or(control: socket.socket, at_leisure: Callable[[], None]) -> None:
    """Wait for a message, calling `at_leisure` every few seconds without one."""
    while not select.select([control], [], [], LEISURE_S)[0]:
        at_leisure()


def receive(control: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Receive one message; raises EOFError when the other side is gone, `BadMessage`."""
    packet, fds, flags, _ = socket.recv_fds(control, MAX_MESSAGE_BYTES, MAX_DESCRIPTORS)
    if not packet:
        raise EOFError
    try:
        message = json.loads(packet)
        if not isinstance(message, dict) or flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            raise BadMessage
    except (ValueError, BadMessage, RecursionError):
        for fd in fds:
            os.close(fd)
        raise BadMessage from None
    return message, fds


def memory_file(content: bytes | memoryview) -> int:
    """Return a sealed memory file that holds `content`; the caller closes it."""
    fd = os.memfd_create("scrigno-imaging", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        if len(content):
            os.ftruncate(fd, len(content))
            with mmap.mmap(fd, len(content)) as target:  # far quicker than write(2) of many chunks
                target[:] = content
        seal(fd)
    except BaseException:
        os.close(fd)
        raise
    return fd


def seal(fd: int) -> None:
    """Make a memory file final."""
    fcntl.fcntl(fd, _ADD_SEALS, _SHRINK_GROW_WRITE)


def is_sealed(fd: int) -> bool:
    """Tell whether `fd` is a memory file that nobody can change any more."""
    try:
        seals = fcntl.fcntl(fd, _GET_SEALS)
    except OSError:
        return False
    return seals & _SHRINK_GROW_WRITE == _SHRINK_GROW_WRITE
