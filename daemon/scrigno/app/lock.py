# SPDX-License-Identifier: Apache-2.0
"""One daemon for one state directory."""

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from scrigno.core.errors import CommandError


class AlreadyRunning(CommandError):
    """Another daemon holds this state directory."""

    code = "already-running"


class StateLock:
    """An exclusive flock(2) on `<state_dir>/lock`; the kernel lets it go when the process ends."""

    def __init__(self, state_dir: Path) -> None:
        """Remember the place; entering takes the lock."""
        self._path = state_dir / "lock"
        self._fd = -1

    def __enter__(self) -> Self:
        """Take the lock; raises AlreadyRunning."""
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(self._fd, 20, 0).decode("ascii", "replace").strip()
            os.close(self._fd)
            self._fd = -1
            raise AlreadyRunning(
                f"A daemon is already running on {self._path.parent}"
                + (f" (process {holder})." if holder else "."),
                next_step="Stop it first, or use another state directory for this one.",
            ) from error
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let the lock go."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
