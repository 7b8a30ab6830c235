# SPDX-License-Identifier: Apache-2.0
"""The first call of every worker process, the other end of `process.spawn_worker`.

A worker imports this before anything heavy. Nothing here may import asyncio or other rooms, so
that a worker is up in a few hundredths of a second.
"""

import ctypes
import os
import signal
import socket
from typing import Final

FDS_VARIABLE: Final = "SCRIGNO_WORKER_FDS"
PARENT_VARIABLE: Final = "SCRIGNO_WORKER_PARENT"
_PR_SET_PDEATHSIG: Final = 1
_STANDARD_STREAMS: Final = 3


def enter() -> list[socket.socket]:
    """Become a worker: return the sockets that were handed over, in the order they were given.

    From here on the process dies by SIGKILL when the main process does (even when stopped), has
    no other descriptor of it, and ignores SIGINT (a Ctrl-C is for the main process to handle).
    Exits at once when the parent has gone before we could ask for that.
    """
    numbers = [int(text) for text in os.environ.pop(FDS_VARIABLE).split(",") if text]
    parent = int(os.environ.pop(PARENT_VARIABLE))
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        raise SystemExit(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.chdir("/")
    _close_all_but(numbers)
    for number in numbers:
        os.set_inheritable(number, False)  # noqa: FBT003 - positional only
    return [socket.socket(fileno=number) for number in numbers]


def _close_all_but(keep: list[int]) -> None:
    start = _STANDARD_STREAMS
    for number in sorted(keep):
        os.closerange(start, number)
        start = number + 1
    os.closerange(start, os.sysconf("SC_OPEN_MAX"))
