# SPDX-License-Identifier: Apache-2.0
"""Being told when anything is mounted or unmounted, without asking any disk."""

import asyncio
import os
import select
from collections.abc import Callable
from typing import Final

MOUNT_TABLE: Final = "/proc/self/mountinfo"


class MountWatch:
    """Calls back on every change of the mount table. Loop thread only.

    The kernel raises POLLPRI on an open mountinfo (mounts_poll, fs/proc_namespace.c). The loop
    only knows readable and writable, so the descriptor waits inside an epoll of its own, which
    becomes readable itself.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        """Watch from now on; must be called in a running loop."""
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._table = os.open(MOUNT_TABLE, os.O_RDONLY | os.O_CLOEXEC)
        self._epoll = select.epoll()
        self._epoll.register(self._table, select.EPOLLPRI)
        self._loop.add_reader(self._epoll.fileno(), self._readable)

    def _readable(self) -> None:
        if self._epoll.poll(0):  # polling takes the news in, the next one is news again
            self._changed()

    def close(self) -> None:
        """Stop watching; idempotent."""
        if not self._epoll.closed:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
            os.close(self._table)
