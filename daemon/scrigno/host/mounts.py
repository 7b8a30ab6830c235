# SPDX-License-Identifier: Apache-2.0
"""Being told when anything is mounted, unmounted, or changes in an md array, asking no disk."""

import os
import select
from asyncio import get_running_loop
from collections.abc import Callable
from pathlib import Path
from typing import Final

MOUNT_TABLE: Final = "/proc/self/mountinfo"
MD_TABLE: Final = "/proc/mdstat"


class KernelFileWatch:
    """Calls back on every event of a kernel file that tells them by POLLPRI. Loop thread only.

    The loop only knows readable and writable, so the descriptor waits inside an epoll of its own,
    which becomes readable itself. Opening the file anew takes the news in, whatever the file's own
    way is; it is done before the call, so what happens meanwhile is news again. That the loop found
    the epoll readable is the news: its look has taken in the event of the mount table already
    (mounts_poll in fs/proc_namespace.c does at every poll), and a second look finds nothing.
    """

    def __init__(self, path: str, changed: Callable[[], None]) -> None:
        """Watch from now on; must be called in a running loop. Raises OSError when not there."""
        self._path = path
        self._changed = changed
        self._loop = get_running_loop()
        self._epoll = select.epoll()
        try:
            self._table = self._open()
        except OSError:
            self._epoll.close()
            raise
        self._loop.add_reader(self._epoll.fileno(), self._readable)

    def _open(self) -> int:
        table = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        self._epoll.register(table, select.EPOLLPRI)
        return table

    def _readable(self) -> None:
        self._epoll.poll(0)
        before = self._table
        try:
            self._table = self._open()
        except OSError:  # its module was unloaded
            self.close()
        else:
            self._epoll.unregister(before)
            os.close(before)
        self._changed()

    @property
    def closed(self) -> bool:
        """Tell whether nothing is watched any more."""
        return self._epoll.closed

    def close(self) -> None:
        """Stop watching; idempotent."""
        if not self._epoll.closed:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
            os.close(self._table)


class MountWatch(KernelFileWatch):
    """Calls back on every change of the mount table. Loop thread only."""

    def __init__(self, changed: Callable[[], None]) -> None:
        """Watch from now on; must be called in a running loop."""
        super().__init__(MOUNT_TABLE, changed)


class StorageWatch:
    """Calls back when a mount or an md array changes. Loop thread only.

    The md table is there once the md module is loaded; `renew` looks for it again.
    """

    def __init__(
        self, changed: Callable[[], None], *, root: Path = Path("/"), mounts: bool = True
    ) -> None:
        """Watch from now on; must be called in a running loop."""
        self._changed = changed
        self._root = root
        self._files: dict[str, KernelFileWatch] = {}
        self._paths = (*((MOUNT_TABLE,) if mounts else ()), MD_TABLE)
        self.renew()

    def renew(self) -> None:
        """Watch what has come since; cheap, to be called now and then."""
        for path in self._paths:
            if path in self._files and not self._files[path].closed:
                continue
            try:
                self._files[path] = KernelFileWatch(
                    str(self._root / path.lstrip("/")), self._changed
                )
            except OSError:
                continue  # not there, or a plain file of a test, which epoll refuses

    def close(self) -> None:
        """Stop watching; idempotent."""
        for file in self._files.values():
            file.close()
