# SPDX-License-Identifier: Apache-2.0
"""Programs started from outside the product: their life, processor time and memory."""

from __future__ import annotations

import os
import signal
import subprocess  # noqa: TID251 - the benches start programs from outside the product
import time
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

STOP_S = 20.0  # a server may still be paying its replication debts when it is told to stop
CLIENT_S = 900.0  # 1,000 images at 100 ms each, with room for a busy machine


class ProgramFailed(RuntimeError):
    """A program ended with an error, or did not end at all; the text holds what it wrote."""


class Program:
    """One running program and its children, ended by their own process ids and nothing else."""

    def __init__(self, argv: Sequence[str], *, env: Mapping[str, str], log: Path) -> None:
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                list(argv), env=dict(env), stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        self._ps = psutil.Process(self._process.pid)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def processes(self) -> list[psutil.Process]:
        """The main process first, then every child that lives now."""
        try:
            return [self._ps, *self._ps.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def cpu_s(self) -> float:
        """Processor seconds so far of the program, its children and the children it has reaped."""
        total = 0.0
        for process in self.processes():
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += times.user + times.system + times.children_user + times.children_system
        return total

    def main_rss_bytes(self) -> int:
        return int(self._ps.memory_info().rss)

    def tree_pss_bytes(self) -> int:
        """Memory of the program and its children, shared pages counted once (PSS)."""
        return sum(_pss_bytes(process.pid) for process in self.processes())

    def peak_main_rss_bytes(self) -> int:
        """The kernel's own high-water mark of the main process (VmHWM)."""
        with open(f"/proc/{self.pid}/status", encoding="ascii") as lines:
            for line in lines:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
        return 0

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-2000:]

    def stop(self) -> None:
        """Ask with SIGTERM, insist with SIGKILL after STOP_S; children left behind are killed."""
        family = self.processes()
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        _end(family[1:])

    def interrupt(self) -> None:
        """Ask with SIGINT, as Ctrl-C does, and wait for the end."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(STOP_S)

    def kill(self) -> None:
        """SIGKILL to the main process alone, as a crash would."""
        self._process.kill()
        self._process.wait()


def _pss_bytes(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as lines:
            for line in lines:
                if line.startswith("Pss:"):
                    return int(line.split()[1]) * 1024
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return 0
    return 0


def _end(processes: Sequence[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=2.0)
    for process in alive:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(alive, timeout=5.0)


def run_together(commands: Sequence[Sequence[str]], *, env: Mapping[str, str]) -> float:
    """Start all at once; seconds until the last has ended. Any failure raises ProgramFailed."""
    began = time.perf_counter()
    running = [
        subprocess.Popen(
            list(argv),
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for argv in commands
    ]
    deadline = began + CLIENT_S
    failures = []
    for argv, process in zip(commands, running, strict=True):
        try:
            output, _ = process.communicate(timeout=max(1.0, deadline - time.perf_counter()))
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
        if process.returncode != 0:
            words = output.decode(errors="replace")[-1500:]
            failures.append(f"{' '.join(argv)[:300]}\n  ended with {process.returncode}: {words}")
    seconds = time.perf_counter() - began
    if failures:
        raise ProgramFailed("\n".join(failures))
    return seconds


def output_of(argv: Sequence[str]) -> str:
    """What a short command says, both streams; empty when it cannot be run."""
    try:
        done = subprocess.run(list(argv), capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout + done.stderr


def environment(*, tuned: bool, buffer_bytes: int) -> dict[str, str]:
    """The environment of a DCMTK based program: stock, or with Nagle off and bigger socket buffers.

    TCP_NODELAY=1 turns Nagle's algorithm off, TCP_BUFFER_LENGTH is SO_SNDBUF and SO_RCVBUF in bytes
    (DCMTK 3.6.7, envvars.txt). Orthanc and dcmqrscp obey both, because they are built on dcmnet.
    """
    env = {
        key: value
        for key, value in os.environ.items()
        if key not in {"TCP_NODELAY", "TCP_BUFFER_LENGTH"}
    }
    if tuned:
        env["TCP_NODELAY"] = "1"
        if buffer_bytes:
            env["TCP_BUFFER_LENGTH"] = str(buffer_bytes)
    return env
