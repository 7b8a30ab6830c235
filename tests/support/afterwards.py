# SPDX-License-Identifier: Apache-2.0
"""Undoing what tests did to the machine when they are killed: mounts, loop devices, processes.

`clean_up_after(folder)` starts, once for each test process, a small process of its own session. It
hears of every folder in which file systems are made, and waits for the end of the test process,
however that ends. Then it undoes whatever stands below those folders; after tests that closed what
they opened that is nothing. `python afterwards.py` is that process.
"""

import contextlib
import fcntl
import os
import signal
import subprocess  # noqa: TID251 - the tests' own tools, not the product's
import sys
import time
from pathlib import Path

import psutil

FITHAW = 0xC0045878
TRIES = 20
_guards: dict[int, "subprocess.Popen[bytes]"] = {}


def clean_up_after(folder: Path) -> None:
    """Have everything below `folder` undone once this process has ended."""
    guard = _guards.get(os.getpid())
    if guard is None or guard.poll() is not None:
        guard = _guards[os.getpid()] = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # what kills the tests must not kill it
            cwd="/",
        )
    assert guard.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        guard.stdin.write(f"{folder.resolve()}\n".encode())
        guard.stdin.flush()


def undo(folder: Path) -> list[str]:
    """Undo what stands below `folder`; returns what is left."""
    left: list[str] = []
    loops: set[str] = set()
    for _ in range(TRIES):
        # before a FUSE below goes: from then on the file of a loop device has lost its folder
        loops = {each for each in loops if _backing_file(each).exists()} | set(_loops(folder))
        for device in loops:
            _run("losetup", "-d", device)  # of one that is mounted: with its last user
        _end_processes(folder)
        _unmount(folder)
        left = [*_mounts(folder), *(each for each in loops if _backing_file(each).exists())]
        if not left:
            break
        time.sleep(0.25)
    return left


def _end_processes(folder: Path) -> None:
    """End daemons, workers and FUSE servers; a stopped one goes on first, so that it can end."""
    for process in psutil.process_iter(["pid", "cmdline"]):
        words = process.info["cmdline"] or ()
        if process.pid != os.getpid() and any(f"{folder}/" in word for word in words):
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGCONT)
                process.kill()


def _unmount(folder: Path) -> None:
    for place in reversed(_mounts(folder)):  # those made last lie deepest
        with contextlib.suppress(OSError):
            root = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.ioctl(root, FITHAW, 0)
            finally:
                os.close(root)
        _run("umount", "-l", place)


def _mounts(folder: Path) -> list[str]:
    """Return where something is mounted below; the kernel writes blanks as octal numbers."""
    places = [
        line.split()[1].replace("\\040", " ")
        for line in Path("/proc/self/mounts").read_text().splitlines()
    ]
    return [place for place in places if place.startswith(f"{folder}/")]


def _loops(folder: Path) -> list[str]:
    """Return loop devices whose file lies below, also when it was deleted meanwhile."""
    found = []
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):
            if path.read_text().startswith(f"{folder}/"):
                found.append(f"/dev/{path.parts[3]}")
    return found


def _backing_file(device: str) -> Path:
    return Path("/sys/block") / Path(device).name / "loop" / "backing_file"


def _run(*argv: str) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired, OSError):
        subprocess.run(argv, capture_output=True, timeout=20, check=False)


def _main() -> None:
    folders = dict.fromkeys(line.strip() for line in sys.stdin if line.strip())  # until it ends
    for name in folders:
        undo(Path(name))


if __name__ == "__main__":
    _main()
