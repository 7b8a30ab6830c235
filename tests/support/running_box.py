# SPDX-License-Identifier: Apache-2.0
"""A whole daemon as a process of its own, for tests that see it as its users do."""

import contextlib
import hashlib
import json
import os
import signal
import socket
import subprocess  # noqa: TID251 - tests start the real daemon and real peers
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ports import free_port

STORESCU = "/usr/bin/storescu"

CONFIG = """\
state_dir: {root}/state
staging_dir: {root}/staging
web: {{host: 127.0.0.1, port: {web_port}, tls_port: 0}}
log: {{level: info}}
index: {{url: sqlite}}
initial:
  volumes:
    - {{name: data, role: data, path: {root}/data}}
    - {{name: backup1, role: backup, path: {root}/backup1}}
  dicom:
    providers:
      - {{name: Scrigno, ae_title: SCRIGNO, port: {dicom_port}, unregistered: {unregistered}}}
    users: []
  ingest: {{ack_copies: 2, count_shared_device: true}}
  language: en
"""


@dataclass
class RunningBox:
    """One box below `root`; `start` and `kill` as often as wanted, state stays."""

    root: Path
    unregistered: str = "accept"
    dicom_port: int = field(default_factory=free_port)
    web_port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        for name in ("state", "staging", "data", "backup1"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        self.config.write_text(
            CONFIG.format(
                root=self.root,
                web_port=self.web_port,
                dicom_port=self.dicom_port,
                unregistered=self.unregistered,
            )
        )

    @property
    def config(self) -> Path:
        return self.root / "scrigno.yaml"

    @property
    def log(self) -> str:
        path = self.root / "daemon.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def start(self, *, wait_s: float = 90, **environment: str) -> float:
        """Start the daemon and wait until it takes associations; returns the seconds it took."""
        began = time.monotonic()
        with (self.root / "daemon.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "scrigno", "serve", "--config", str(self.config)],
                stdout=log,
                stderr=log,
                env={**os.environ, **environment},
            )
        while True:
            if self.process.poll() is not None:
                raise AssertionError(f"the daemon ended at start:\n{self.log[-4000:]}")
            try:
                socket.create_connection(("127.0.0.1", self.dicom_port), 0.2).close()
                return time.monotonic() - began
            except OSError:
                if time.monotonic() - began > wait_s:
                    raise AssertionError(f"no answer:\n{self.log[-4000:]}") from None
                time.sleep(0.02)

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End the daemon by a signal and wait for its end."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)
            self.process.wait(60)
        self.process = None

    def cli(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run one command of the operator."""
        return subprocess.run(
            [sys.executable, "-m", "scrigno", *arguments, "--config", str(self.config)],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def ask(self, *arguments: str) -> Any:
        """Run one command with --json and return its answer."""
        done = self.cli(*arguments, "--json")
        assert done.stdout, f"{arguments}: {done.stderr}"
        return json.loads(done.stdout)

    def store(
        self, *paths: Path, options: tuple[str, ...] = (), check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Send files or folders with DCMTK's storescu."""
        folder_options = ("+sd", "+r") if any(path.is_dir() for path in paths) else ()
        done = subprocess.run(
            [
                STORESCU, "-aet", "SENDER", "-aec", "SCRIGNO", *folder_options, *options,
                "127.0.0.1", str(self.dicom_port), *map(str, paths),
            ],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )  # fmt: skip
        if check:
            assert done.returncode == 0, done.stderr + self.log[-2000:]
        return done

    def wait_until_replicated(self, wait_s: float = 30) -> None:
        """Wait until no volume owes an image."""
        end = time.monotonic() + wait_s
        while any(volume["owed"] for volume in self.ask("status")["volumes"]):
            assert time.monotonic() < end, self.ask("status")
            time.sleep(0.1)


@contextlib.contextmanager
def running_box(root: Path, **settings: Any) -> Iterator[RunningBox]:
    """Start a box and end it whatever happens."""
    box = RunningBox(root, **settings)
    box.start()
    try:
        yield box
    finally:
        box.kill(signal.SIGTERM)


def data_set_digest(path: Path) -> str:
    """Return the SHA-256 of a Part 10 file's data set, its File Meta Information left out."""
    content = path.read_bytes()
    assert content[128:132] == b"DICM", path
    length = int.from_bytes(content[140:144], "little")  # (0002,0000) UL, PS3.10 section 7.1
    return hashlib.sha256(content[144 + length :]).hexdigest()
