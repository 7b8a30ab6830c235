# SPDX-License-Identifier: Apache-2.0
"""A folder seen through FUSE, so that what lies in it can hang, be slow or answer errors.

A loop device over a file in it is a disk with those faults: SIGSTOP of the server is a disk that
does not answer, a delay is a slow one, an errno is a bad sector. Needs root, libfuse3 and mfusepy.
`python fusefs.py BEHIND SEEN CONTROL` is the server; `FuseFolder` starts and ends it.
"""

import contextlib
import errno
import json
import os
import signal
import subprocess  # noqa: TID251 - the tests' own server, not the product's
import sys
import time
from pathlib import Path
from typing import Any


class FuseFolder:
    """`seen` shows what stands in `behind`, with the faults that are set. Close it always."""

    def __init__(self, behind: Path, seen: Path) -> None:
        behind.mkdir(parents=True, exist_ok=True)
        seen.mkdir(parents=True, exist_ok=True)
        self.behind, self.seen = behind, seen
        self._control = behind.with_name(behind.name + ".faults.json")
        self._control.write_text("{}")
        self._stopped = False
        self._server = subprocess.Popen(
            [sys.executable, __file__, str(behind), str(seen), str(self._control)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        end = time.monotonic() + 15
        while not os.path.ismount(seen):
            if self._server.poll() is not None or time.monotonic() > end:
                self.close()
                reason = self._server.stderr.read() if self._server.stderr else b""
                raise RuntimeError(f"the FUSE server did not start: {reason.decode()[-500:]}")
            time.sleep(0.02)

    def hang(self) -> None:
        """Answer nothing any more until `go_on`."""
        self._stopped = True
        self._server.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Answer again, what waited first."""
        if self._stopped:
            self._stopped = False
            self._server.send_signal(signal.SIGCONT)

    def faults(self, **values: Any) -> None:
        """Set delay_s, read_errno, write_errno (by name, as "EIO"); what is left out is well."""
        new = self._control.with_suffix(".new")
        new.write_text(json.dumps(values))
        new.replace(self._control)

    def close(self) -> None:
        """End the server; whoever hangs on it is set free with ENOTCONN. Idempotent."""
        self.go_on()
        if self._server.poll() is None:
            with contextlib.suppress(OSError):
                self.faults()
            subprocess.run(["umount", str(self.seen)], capture_output=True, timeout=20, check=False)
            try:
                self._server.wait(3)
            except subprocess.TimeoutExpired:
                self._server.kill()
                self._server.wait(10)
        if os.path.ismount(self.seen):
            subprocess.run(["umount", "-l", str(self.seen)], capture_output=True, check=False)
        if self._server.stderr is not None:
            self._server.stderr.close()


def _serve(behind: str, seen: str, control: str) -> None:
    """Pass everything through; runs until it is unmounted."""
    import mfusepy

    class Passthrough(mfusepy.Operations):  # type: ignore[misc]
        """Only what a loop device asks of its file, and mkfs of a folder."""

        use_ns = True

        def __init__(self) -> None:
            self._read_at = 0
            self._faults: dict[str, Any] = {}

        def _real(self, path: str) -> str:
            return behind + path

        def _suffer(self, kind: str) -> None:
            changed = os.stat(control).st_mtime_ns
            if changed != self._read_at:
                self._faults = json.loads(Path(control).read_text())
                self._read_at = changed
            if delay := self._faults.get("delay_s"):
                time.sleep(delay)
            if name := self._faults.get(f"{kind}_errno"):
                raise mfusepy.FuseOSError(getattr(errno, name))

        def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
            try:
                found = os.lstat(self._real(path))
            except OSError as error:
                raise mfusepy.FuseOSError(error.errno) from error
            keys = ("atime_ns", "ctime_ns", "mtime_ns")
            times = {f"st_{key[:-3]}": getattr_(found, f"st_{key}") for key in keys}
            plain = ("mode", "nlink", "size", "uid", "gid", "blocks")
            return times | {f"st_{key}": getattr_(found, f"st_{key}") for key in plain}

        def readdir(self, path: str, fh: int) -> list[str]:
            return [".", "..", *os.listdir(self._real(path))]

        def open(self, path: str, flags: int) -> int:
            return os.open(self._real(path), flags & ~os.O_DIRECT)

        def create(self, path: str, mode: int, fi: Any = None) -> int:
            return os.open(self._real(path), os.O_RDWR | os.O_CREAT, mode)

        def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
            self._suffer("read")
            return os.pread(fh, size, offset)

        def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
            self._suffer("write")
            return os.pwrite(fh, data, offset)

        def truncate(self, path: str, length: int, fh: int | None = None) -> None:
            os.truncate(self._real(path), length)

        def fsync(self, path: str, datasync: int, fh: int) -> int:
            self._suffer("write")
            return 0  # the machine under the tests does not lose its power

        def unlink(self, path: str) -> None:
            os.unlink(self._real(path))

        def release(self, path: str, fh: int) -> None:
            os.close(fh)

    getattr_ = getattr
    mfusepy.FUSE(Passthrough(), seen, foreground=True, nothreads=False, allow_other=True)


if __name__ == "__main__":
    _serve(*sys.argv[1:4])
