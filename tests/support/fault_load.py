# SPDX-License-Identifier: Apache-2.0
"""What a hospital does to the box while a fault happens: senders, readers, people at pages.

Everything runs in threads of the test's process and touches no volume: senders and readers are
DCMTK's tools, people are HTTP requests. Reads and canaries start on the clock, whether or not the
earlier ones have ended, so a box that stands still is seen by everyone who came meanwhile.
"""

import contextlib
import http.client
import itertools
import json
import os
import random
import re
import shutil
import subprocess  # noqa: TID251 - real peers
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fault_objects import Ledger, Made, ObjectMaker, data_set_digest_of
from running_box import STORESCU, RunningBox

GETSCU, FINDSCU, ECHOSCU = "/usr/bin/getscu", "/usr/bin/findscu", "/usr/bin/echoscu"
SENDERS = 4
READ_EVERY_S = 0.5
CANARY_EVERY_S = 1.0
READ_LIMIT_S = 10.0  # who waits longer for a picture has given up
SENDER_LIMIT_S = 60  # DIMSE timeout of the senders: a modality's usual order of patience
SENDING = re.compile(r"Sending file: (\S+)")
ANSWER = re.compile(r"Received Store Response \((.*)\)")


@dataclass(frozen=True, slots=True)
class Sent:
    """One C-STORE: when it was sent and answered (monotonic), "Success", a refusal or "lost"."""

    uid: str
    sent_s: float
    answered_s: float
    answer: str


@dataclass(frozen=True, slots=True)
class Read:
    """One question: when it was asked, how long it took, and how it went ("" is well)."""

    kind: str  # 'image' | 'find' | 'web' | 'health'
    asked_s: float
    took_s: float
    problem: str


@dataclass
class Seen:
    """What an observer of the status page saw over time."""

    volumes: list[tuple[float, dict[str, str]]] = field(default_factory=list)
    conditions: list[tuple[float, frozenset[tuple[str, str]]]] = field(default_factory=list)
    loop_lag_p99_s: list[tuple[float, float]] = field(default_factory=list)
    rss: list[tuple[float, int]] = field(default_factory=list)
    unanswered: list[float] = field(default_factory=list)


class Load:
    """The load on one box. `start`, then `stop`; what happened stands in the lists."""

    def __init__(
        self, box: RunningBox, folder: Path, ledger: Ledger, *, seed: int, token: str
    ) -> None:
        self.box, self.ledger, self.token = box, ledger, token
        self.maker = ObjectMaker(folder / "out", seed)
        self._canary_study = self.maker.new_study()
        self.sent: list[Sent] = []
        self.reads: list[Read] = []
        self.wrong_bytes: list[str] = []
        self.seen = Seen()
        self.pause_s = 0.3  # of a sender between two associations
        self._folder = folder
        self._seed = seed
        self._halt = threading.Event()
        self._quiet = threading.Event()  # senders rest, readers go on
        self._threads: list[threading.Thread] = []
        self._pool = ThreadPoolExecutor(64, thread_name_prefix="load")
        self._number = itertools.count()
        self.broken: list[BaseException] = []

    # -- life ----------------------------------------------------------------------------------

    def start(self) -> None:
        for number in range(SENDERS):
            self._run(lambda number=number: self._sender(number))
        self._run(lambda: self._on_the_clock(CANARY_EVERY_S, self._canary))
        self._run(lambda: self._on_the_clock(READ_EVERY_S, self._read_image))
        self._run(lambda: self._on_the_clock(2 * READ_EVERY_S, self._find))
        self._run(lambda: self._on_the_clock(READ_EVERY_S, self._web))
        self._run(self._observe)

    def rest(self) -> None:
        """Let senders and canary pause; readers and observer go on."""
        self._quiet.set()

    def resume(self) -> None:
        """Let senders and canary go on."""
        self._quiet.clear()

    def stop(self) -> None:
        """End the load; every tool that still runs is given time to end by itself first."""
        self._quiet.set()
        self._halt.set()
        for thread in self._threads:
            thread.join(SENDER_LIMIT_S + 30)
        self._pool.shutdown(wait=True)
        if self.broken:
            raise self.broken[0]

    def _run(self, work: Callable[[], None]) -> None:
        def guarded() -> None:
            try:
                work()
            except BaseException as error:
                self.broken.append(error)

        thread = threading.Thread(target=guarded, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _on_the_clock(self, every_s: float, ask: Callable[[], None]) -> None:
        due = time.monotonic()
        while not self._halt.wait(max(due - time.monotonic(), 0)):
            self._pool.submit(self._guard, ask)
            due += every_s

    def _guard(self, ask: Callable[[], None]) -> None:
        try:
            ask()
        except BaseException as error:
            self.broken.append(error)

    # -- senders -------------------------------------------------------------------------------

    def _sender(self, number: int) -> None:
        chance = random.Random(self._seed * 31 + number)
        again: list[Made] = []
        study = self.maker.new_study()
        for turn in itertools.count(1):
            while self._quiet.is_set() and not self._halt.is_set():
                self._halt.wait(0.1)
            if self._halt.is_set():
                return
            if turn % 10 == 0:
                study = self.maker.new_study()
            kinds = chance.choices(("small", "middle"), (4, 1), k=chance.randint(3, 8))
            if chance.random() < 0.12:
                kinds.append(chance.choices(("large", "huge"), (4, 1))[0])
            batch = again[:10] + [self.maker.make(kind, study) for kind in kinds]
            self._store(batch, f"SENDER{number}")
            again = [made for made in batch + again[10:] if made.uid not in self.ledger.entries]
            self._halt.wait(self.pause_s * chance.uniform(0.5, 1.5))

    def store_one(self, kind: str = "small") -> tuple[Made, str]:
        """Send one object now; returns it and its answer, "none" when none came."""
        made = self.maker.make(kind, self._canary_study)
        self._store([made], "HAND")
        return made, next((s.answer for s in reversed(self.sent) if s.uid == made.uid), "none")

    def _canary(self) -> None:
        if not self._quiet.is_set():
            made = self.maker.make("canary", self._canary_study)
            self._store([made], f"CANARY{next(self._number) % 6}")

    def _store(self, batch: list[Made], ae_title: str) -> None:
        by_path = {str(made.path): made for made in batch}
        process = subprocess.Popen(
            [
                STORESCU, "-v", "-nh", "-td", str(SENDER_LIMIT_S), "-ta", "20", "-to", "10",
                "-aet", ae_title, "-aec", "SCRIGNO", "127.0.0.1", str(self.box.dicom_port),
                *by_path,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**os.environ, "TCP_NODELAY": "1"},
        )  # fmt: skip
        current: tuple[Made, float] | None = None
        assert process.stdout is not None
        for line in process.stdout:
            if match := SENDING.search(line):
                self._lost(current)
                current = (by_path[match.group(1)], time.monotonic())
            elif (match := ANSWER.search(line)) and current is not None:
                self._answered(*current, match.group(1))
                current = None
        self._lost(current)
        process.wait()
        process.stdout.close()

    def _answered(self, made: Made, sent_s: float, answer: str) -> None:
        now = time.monotonic()
        if answer == "Success":
            self.ledger.acknowledge(made)
            made.path.unlink()
        self.sent.append(Sent(made.uid, sent_s, now, answer))

    def _lost(self, current: tuple[Made, float] | None) -> None:
        if current is not None:
            self.sent.append(Sent(current[0].uid, current[1], time.monotonic(), "lost"))

    # -- readers -------------------------------------------------------------------------------

    def _noted(self, kind: str, asked_s: float, problem: str) -> None:
        self.reads.append(Read(kind, asked_s, time.monotonic() - asked_s, problem))

    def _read_image(self) -> None:
        number = next(self._number)
        made = self.ledger.some(random.Random(self._seed + number))
        if made is None:
            return
        asked_s = time.monotonic()
        try:
            content = self.fetch(made, number)
        except (subprocess.TimeoutExpired, FileNotFoundError, RuntimeError) as error:
            self._noted("image", asked_s, str(error)[-200:])
            return
        right = data_set_digest_of(content) == made.digest
        if not right:
            self.wrong_bytes.append(made.uid)
        self._noted("image", asked_s, "" if right else "wrong bytes")

    def fetch(self, made: Made, number: int = 0) -> bytes:
        """Read one object by C-GET, as it is stored."""
        folder = self._folder / "in" / f"{number}-{made.uid[-12:]}"
        folder.mkdir(parents=True, exist_ok=True)
        try:
            get(
                self.box, folder, f"READER{number % 6}", READ_LIMIT_S,
                QueryRetrieveLevel="IMAGE", StudyInstanceUID=made.study,
                SeriesInstanceUID=made.series, SOPInstanceUID=made.uid,
            )  # fmt: skip
            files = list(folder.iterdir())
            if len(files) != 1:
                raise RuntimeError(f"{len(files)} files came")
            return files[0].read_bytes()
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _find(self) -> None:
        asked_s = time.monotonic()
        made = self.ledger.some(random.Random(asked_s))
        if made is None:
            return
        try:
            done = subprocess.run(
                [
                    FINDSCU, "-S", "-aet", "FINDER", "-aec", "SCRIGNO",
                    "127.0.0.1", str(self.box.dicom_port), "-k", "QueryRetrieveLevel=STUDY",
                    "-k", f"StudyInstanceUID={made.study}", "-k", "NumberOfStudyRelatedInstances",
                ],
                capture_output=True, text=True, errors="replace", check=False,
                timeout=READ_LIMIT_S,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            self._noted("find", asked_s, str(error)[-100:])
            return
        found = made.study in done.stdout + done.stderr
        self._noted("find", asked_s, "" if found else f"not found, {done.returncode}")

    def _web(self) -> None:
        asked_s = time.monotonic()
        try:
            status, _ = ask(self.box, "/viewer/api/studies?limit=20", self.token, READ_LIMIT_S)
        except (OSError, http.client.HTTPException) as error:
            self._noted("web", asked_s, repr(error)[:200])
            return
        self._noted("web", asked_s, "" if status == 200 else f"answered {status}")

    # -- the observer --------------------------------------------------------------------------

    def _observe(self) -> None:
        metrics_at = 0.0
        while not self._halt.wait(0.2):
            now = time.monotonic()
            try:
                code, status = ask(self.box, "/viewer/api/status", self.token, 5)
                if code != 200:
                    self.seen.unanswered.append(now)
                    continue
                if now >= metrics_at:
                    metrics_at = now + 2
                    self._note_metrics(now)
            except (OSError, http.client.HTTPException, ValueError):
                self.seen.unanswered.append(now)
                continue
            seen_s = time.monotonic()
            self.seen.volumes.append((seen_s, {v["name"]: v["state"] for v in status["volumes"]}))
            self.seen.conditions.append(
                (seen_s, frozenset((c["code"], c["subject"]) for c in status["conditions"]))
            )

    def _note_metrics(self, now: float) -> None:
        _, text = ask(self.box, "/metrics", self.token, 5, as_json=False)
        for line in text.splitlines():
            name, _, value = line.rpartition(" ")
            if name == 'scrigno_loop_lag_seconds{of="p99"}':
                self.seen.loop_lag_p99_s.append((now, float(value)))
            elif name == "scrigno_resident_memory_bytes":
                self.seen.rss.append((now, int(float(value))))


def ask(
    box: RunningBox, path: str, token: str, limit_s: float, *, as_json: bool = True, **body: Any
) -> tuple[int, Any]:
    """Ask the pages' API; a body makes it a POST."""
    connection = http.client.HTTPConnection("127.0.0.1", box.web_port, timeout=limit_s)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    headers["Content-Type"] = "application/json"
    with contextlib.closing(connection):
        connection.request(
            "POST" if body else "GET", path, json.dumps(body) if body else None, headers
        )
        answer = connection.getresponse()
        content = answer.read()
    return answer.status, json.loads(content) if as_json else content.decode()


def get(box: RunningBox, folder: Path, ae_title: str, limit_s: float, **keys: str) -> None:
    """C-GET what the keys name into a folder, bit for bit; raises RuntimeError when refused."""
    arguments = [word for name, value in keys.items() for word in ("-k", f"{name}={value}")]
    done = subprocess.run(
        [
            GETSCU, "-S", "+B", "-aet", ae_title, "-aec", "SCRIGNO", "-od", str(folder),
            "127.0.0.1", str(box.dicom_port), *arguments,
        ],
        capture_output=True, text=True, errors="replace", check=False, timeout=limit_s,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError((done.stdout + done.stderr)[-300:])


def changes(timeline: Iterator[tuple[float, str]]) -> list[tuple[float, str]]:
    """Keep of a timeline only where the value changes."""
    kept: list[tuple[float, str]] = []
    for at, value in timeline:
        if not kept or kept[-1][1] != value:
            kept.append((at, value))
    return kept
