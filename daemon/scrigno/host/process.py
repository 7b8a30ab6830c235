# SPDX-License-Identifier: Apache-2.0
"""Starting processes: a command run to its end, or a worker that talks over sockets.

Every start is one `posix_spawn` in the loop's thread (vfork inside: about a millisecond whatever
our size). The loop's thread matters: PR_SET_PDEATHSIG fires when the *thread* that made the child
ends (prctl(2)). The end is seen through a pidfd on the loop, so no thread ever waits for a child,
and a child in D state costs nothing but its entry.
"""

import asyncio
import errno
import fcntl
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

import scrigno
from scrigno.core.errors import ScrignoError

from .child import FDS_VARIABLE, PARENT_VARIABLE

OUTPUT_LIMIT_BYTES: Final = 16 << 20  # of a command: far over any tool's report, far under our RAM
KILL_GRACE_S: Final = 1.0  # after SIGKILL; longer means D state, and then it is abandoned
_SEALS: Final = fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK if hasattr(fcntl, "F_SEAL_GROW") else 0x6
_ADD_SEALS: Final = getattr(fcntl, "F_ADD_SEALS", 1033)
_DEFAULT_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE)


class CommandNotFound(ScrignoError):
    """The program is not installed or may not be executed."""

    code = "command-not-found"


class CommandTimeout(ScrignoError):
    """The program did not end in its time and was killed (or abandoned when that failed)."""

    code = "command-timeout"


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """How a command ended; `returncode` is negative for a signal."""

    argv: tuple[str, ...]
    returncode: int
    stdout: bytes
    stderr: bytes


class Process:
    """One started child, watched through its pidfd. Loop thread only."""

    def __init__(self, pid: int, name: str) -> None:
        """Watch the running child `pid`; must be called in a running loop."""
        self.pid = pid
        self.name = name
        self.returncode: int | None = None
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[int] = self._loop.create_future()
        self._pidfd = os.pidfd_open(pid)
        self._loop.add_reader(self._pidfd, self._reap)

    def _reap(self) -> None:
        result = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG)
        if result is None:
            return
        exited = result.si_code == os.CLD_EXITED
        self.returncode = result.si_status if exited else -result.si_status
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        if not self.ended.done():
            self.ended.set_result(self.returncode)

    def kill(self) -> None:
        """Send SIGKILL to the whole session of the child; nothing happens when it has ended."""
        if self.returncode is None:
            try:
                os.killpg(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                # setsid has not run yet, or all are gone: the pidfd still names the right one
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the child alone; nothing happens when it has ended."""
        if self.returncode is None:
            signal.pidfd_send_signal(self._pidfd, number)

    async def wait(self, timeout_s: float | None = None) -> int | None:
        """Return the exit code, or None when it is still running after `timeout_s`."""
        await asyncio.wait([self.ended], timeout=timeout_s)
        return self.returncode

    def abandon(self) -> None:
        """Kill and stop caring; the child is reaped by init or by us, whenever it can die."""
        self.kill()


def spawn_worker(
    module: str,
    args: Sequence[str] = (),
    *,
    fds: Sequence[int | socket.socket],
    environment: Mapping[str, str] | None = None,
) -> Process:
    """Start `python -m module args…` in its own session with only `fds` (same numbers) inherited.

    The child calls `scrigno.host.child.enter()` first: it closes what it was not given, dies with
    us and answers the sockets in this order. The caller closes its own copies of `fds` afterwards.
    Loop thread only; stdin is /dev/null, stdout and stderr are ours. Raises CommandNotFound.
    """
    numbers = [fd if isinstance(fd, int) else fd.fileno() for fd in fds]
    variables = {
        "PYTHONPATH": str(Path(scrigno.__file__).parent.parent),
        FDS_VARIABLE: ",".join(str(number) for number in numbers),
        PARENT_VARIABLE: str(os.getpid()),
        **(environment or {}),
    }
    argv = [sys.executable, "-P", "-X", "utf8", "-m", module, *args]
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        # dup2 onto itself clears FD_CLOEXEC in the child only (posix_spawn, POSIX.1-2024)
        *((os.POSIX_SPAWN_DUP2, number, number) for number in numbers),
    ]
    return Process(_spawn(argv, actions, variables), f"{module} {' '.join(args)}".strip())


async def run(
    argv: Sequence[str],
    *,
    timeout_s: float,
    stdin: bytes = b"",
    environment: Mapping[str, str] | None = None,
    output_limit_bytes: int = OUTPUT_LIMIT_BYTES,
) -> Completed:
    """Run a command to its end and return what it wrote, whatever its exit code.

    `argv[0]` is looked up in a fixed PATH. stdout and stderr are memory files sealed at
    `output_limit_bytes`, so a tool gone wild gets EPERM instead of our memory.
    Raises CommandNotFound, CommandTimeout; on cancellation the command is killed.
    """
    descriptors: list[int] = []
    try:
        given, out, err = (_memory_file(descriptors) for _ in range(3))
        os.pwrite(given, stdin, 0)
        for fd in (out, err):
            os.ftruncate(fd, output_limit_bytes)
            fcntl.fcntl(fd, _ADD_SEALS, _SEALS)
        actions = [(os.POSIX_SPAWN_DUP2, fd, n) for n, fd in enumerate((given, out, err))]
        process = Process(_spawn(list(argv), actions, environment or {}), argv[0])
        try:
            code = await process.wait(timeout_s)
        finally:
            process.kill()
        if code is None:
            await process.wait(KILL_GRACE_S)
            raise CommandTimeout(f"{argv[0]}: no end after {timeout_s:g} s")
        # the file offset is shared with the child, so it says how much was written
        stdout, stderr = (os.pread(fd, os.lseek(fd, 0, os.SEEK_CUR), 0) for fd in (out, err))
        return Completed(argv=tuple(argv), returncode=code, stdout=stdout, stderr=stderr)
    finally:
        for fd in descriptors:
            os.close(fd)


def _memory_file(opened: list[int]) -> int:
    # at 10 or above, so that the three dup2 onto 0, 1, 2 cannot overwrite one another
    fd = os.memfd_create("scrigno-run", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        high = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10)
    finally:
        os.close(fd)
    opened.append(high)
    return high


def _spawn(
    argv: Sequence[str],
    actions: Sequence[tuple[int, ...] | tuple[object, ...]],
    extra: Mapping[str, str],
) -> int:
    environment = {
        "LC_ALL": "C.UTF-8",
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/",
        "TZ": os.environ.get("TZ", ""),
        **extra,
    }
    try:
        return os.posix_spawnp(
            argv[0],
            list(argv),
            environment,
            file_actions=actions,
            setsid=True,
            setsigmask=(),
            setsigdef=_DEFAULT_SIGNALS,
        )
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EACCES, errno.ENOEXEC, errno.ENOTDIR):
            raise CommandNotFound(
                f"{argv[0]}: cannot be started ({os.strerror(error.errno)}).",
                next_step="Install the package it comes from.",
            ) from error
        raise


def begin_anew() -> NoReturn:
    """Become a new run of this very command, in the same process: whoever waits for it sees no end.

    The caller has closed everything; open descriptors that are inheritable would stay open.
    """
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - ourselves
