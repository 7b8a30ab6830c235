# SPDX-License-Identifier: Apache-2.0
"""Rows 31 to 37 and 46: processes that are killed, stopped and lied to, the index, the clock."""

import contextlib
import itertools
import os
import re
import signal
import socket
import subprocess  # noqa: TID251 - strace is the injector
import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import psutil

from fault_disks import GIB
from fault_load import ask
from fault_objects import Made, data_set_digest_of
from fault_run import HANG, IO_ERROR, Bars, Rig, Row, Timing, briefly, like

Fault = Generator[None, None, None]
# The daemon is stopped within the row: who asks meanwhile is not counted, all others are.
INTERRUPTED = Bars(next_ack_s=None, reads_pct=95.0, alert_s=None)
PAUSED = like(INTERRUPTED, refused=None, reads_pct=None, web_pct=None, loop_lag_ms=None)
FAILPOINTS = ("sealed", "placed", "recorded", "released")
FAILPOINT_EXIT = 77


# -- 31: killed anywhere -------------------------------------------------------------------------


def _first_ack_after(rig: Rig, when_s: float, limit_s: float = 60) -> float:
    rig.until(lambda: rig.acknowledged_since(when_s), limit_s, "an image after the restart")
    done = [s.answered_s for s in rig.load.sent if s.sent_s >= when_s and s.answer == "Success"]
    return round(min(done) - when_s, 2)


def _killed_again_and_again(rig: Rig) -> Fault:
    waits = []
    for _ in range(rig.timing.turns):
        rig.wait(rig.chance.uniform(0.3, 2.0))
        rig.stop_daemon(signal.SIGKILL)
        killed_s = time.monotonic()
        rig.restart()
        waits.append(_first_ack_after(rig, killed_s))
    rig.check("the first image within 10 s of each kill", max(waits) <= 10, sorted(waits)[-5:])
    yield


def _dies_at_each_failpoint(rig: Rig) -> Fault:
    waits, codes = {}, {}
    for name in FAILPOINTS:
        rig.stop_daemon()
        rig.box.start(**{**rig.row.environment, "SCRIGNO_FAILPOINT": name})
        assert rig.box.process is not None
        codes[name] = rig.box.process.wait(30)
        killed_s = time.monotonic()
        rig.box.process = None
        rig.restart()
        waits[name] = _first_ack_after(rig, killed_s)
    rig.check("it died at each place", set(codes.values()) == {FAILPOINT_EXIT}, codes)
    rig.check("the first image within 10 s of each", max(waits.values()) <= 10, waits)
    yield


# -- 32: each system call of one store fails once ------------------------------------------------

CALLS = (
    "openat", "write", "pwrite64", "pwritev", "copy_file_range", "fallocate", "fsetxattr",
    "fsync", "fdatasync", "linkat", "mkdirat", "unlinkat",
)  # fmt: skip
ERRNOS = ("EIO", "ENOSPC", "EROFS", "EINTR")
STRACE_LEAVES_S = 60  # it detaches from one thread after the other; a busy machine takes its time
CALLS_MOST = int(os.environ.get("SCRIGNO_FAULT_CALLS", "8"))  # of one kind in one store


def _each_call_fails(rig: Rig) -> Fault:
    """In the daemon (staging, index) and in the worker of the volume that is written."""
    rig.load.rest()
    rig.wait(2)
    bad: list[str] = []
    tried = answered = 0
    for process_of, call in itertools.product((_daemon, _data_worker), CALLS):
        for number in range(1, CALLS_MOST + 1):
            hits = 0
            for errno in rig.chance.sample(ERRNOS, 2):
                _whole_again(rig)
                hit, answer, problem = _store_with(rig, process_of(rig), call, errno, number)
                hits += hit
                tried += hit
                answered += hit and answer == "Success"
                if problem:
                    bad.append(f"{process_of.__name__} {call} {number} {errno}: {problem}")
            if not hits:
                break
    rig.check("every failure is either durable success or an error without trace", not bad, bad[:4])
    rig.check("many calls were hit", tried >= 20, f"{tried} failures, {answered} stores succeeded")
    rig.load.resume()
    yield


def _daemon(rig: Rig) -> psutil.Process:
    assert rig.box.process is not None
    return psutil.Process(rig.box.process.pid)


def _data_worker(rig: Rig) -> psutil.Process:
    for _ in range(100):  # one that died is replaced within a second
        for worker in workers(rig, "volumes.worker"):
            if _is_of(worker, rig.data.path):
                return worker
        time.sleep(0.1)
    raise AssertionError("the data volume has no worker")


def _is_of(worker: psutil.Process, path: Path) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return str(path) in worker.cmdline()
    return False


def workers(rig: Rig, module: str) -> list[psutil.Process]:
    """Return the daemon's processes of this module, those that end meanwhile left out."""
    found = []
    for child in _daemon(rig).children(recursive=True):
        try:
            if any(module in word for word in child.cmdline()):
                found.append(child)
        except psutil.NoSuchProcess:
            continue
    return found


def _whole_again(rig: Rig) -> None:
    """An injected error may have taken the volume out of service: start anew."""
    process = rig.box.process
    if process is None or process.poll() is not None or rig.state() != "online":
        rig.stop_daemon()
        rig.restart()
        rig.until(lambda: [v for v in rig.volumes() if v["state"] == "online"][1:], 30, "volumes")
        rig.wait(0.5)


def _store_with(
    rig: Rig, process: psutil.Process, call: str, errno: str, number: int
) -> tuple[bool, str, str]:
    """Store one object while the Nth call fails; returns hit, answer, and what is wrong."""
    trace = rig.folder / "strace.txt"
    tracer = subprocess.Popen(
        [
            "strace", "-f", "-qq", "-o", str(trace), "-e", f"trace={call}",
            "-e", f"inject={call}:error={errno}:when={number}", "-p", str(process.pid),
        ],
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        _until_traced(process.pid)
        made, answer = rig.load.store_one()
    finally:
        tracer.send_signal(signal.SIGINT)
        try:
            tracer.wait(STRACE_LEAVES_S)
        except subprocess.TimeoutExpired:
            tracer.kill()  # the kernel lets its tracees go
            tracer.wait(STRACE_LEAVES_S)
    hit = "(INJECTED)" in trace.read_text(errors="replace")
    if not hit:
        return False, answer, ""
    return True, answer, _trace_of(rig, made, answer)


def _trace_of(rig: Rig, made: Made, answer: str) -> str:
    """Say what is wrong with an object after its answer."""
    found = [
        path
        for disk in rig.disks.values()
        for path in (disk.path / "studies").rglob(f"{made.uid}*")
    ]
    whole = [p for p in found if data_set_digest_of(p.read_bytes()) == made.digest]
    if len(whole) != len(found):
        return "a file that is not whole"
    if answer == "Success" and not whole:
        return "acknowledged and on no volume"
    return ""


def _until_traced(pid: int) -> None:
    status = Path(f"/proc/{pid}/status")
    for _ in range(200):
        if not re.search(r"TracerPid:\s0\n", status.read_text()):
            time.sleep(0.05)
            return
        time.sleep(0.01)
    raise AssertionError("strace did not attach")


# -- 33: the daemon stands still -----------------------------------------------------------------

WATCHDOG_S = 6


class Watchdog:
    """systemd's part of Type=notify with WatchdogSec (sd_notify(3)): hear pings, miss them."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(0.2)
        self.environment = {
            "NOTIFY_SOCKET": str(path),
            "WATCHDOG_USEC": str(WATCHDOG_S * 1_000_000),
        }

    def silent_for(self, rig: Rig, limit_s: float) -> float:
        """Return how long nothing was heard: at WATCHDOG_S systemd would act."""
        last = time.monotonic()
        while time.monotonic() - last < limit_s:
            rig.look_at_the_daemon()
            try:
                if b"WATCHDOG=1" in self._socket.recv(4096):
                    return time.monotonic() - last
            except TimeoutError:
                continue
        return time.monotonic() - last

    def close(self) -> None:
        self._socket.close()


def _stopped_daemon(rig: Rig) -> Fault:
    watchdog = Watchdog(rig.folder / "notify.sock")
    try:
        rig.stop_daemon()
        rig.restart(**watchdog.environment)
        rig.check("it pings while it is well", watchdog.silent_for(rig, WATCHDOG_S) < WATCHDOG_S)
        _first_ack_after(rig, time.monotonic())
        _daemon(rig).suspend()
        stopped_s = time.monotonic()
        silent = watchdog.silent_for(rig, WATCHDOG_S)
        rig.check("the watchdog misses it", silent >= WATCHDOG_S, silent)
        rig.stop_daemon(signal.SIGKILL)  # what systemd does then, with Restart=always
        restart_s = time.monotonic()
        rig.restart()
        wait = _first_ack_after(rig, restart_s)
        rig.check("the first image within 10 s of the restart", wait <= 10, wait)
        rig.check("service was away", restart_s - stopped_s < WATCHDOG_S + 10)
        yield
    finally:
        watchdog.close()


def _paused_daemon(rig: Rig) -> Fault:
    _daemon(rig).suspend()
    rig.wait(rig.timing.fault_s)
    _daemon(rig).resume()
    since = time.monotonic()
    wait = _first_ack_after(rig, since)
    rig.check("images go on at once", wait <= 10, wait)
    yield


# -- 34: workers ---------------------------------------------------------------------------------


def _worker_stopped(rig: Rig) -> Fault:
    stuck = _data_worker(rig)
    stuck.suspend()
    yield
    with contextlib.suppress(psutil.NoSuchProcess):
        stuck.resume()


def _workers_killed(rig: Rig) -> Fault:
    end = time.monotonic() + rig.timing.fault_s
    killed = 0
    while time.monotonic() < end:
        for worker in workers(rig, "volumes.worker")[:1] + workers(rig, "imaging")[:1]:
            try:
                worker.kill()
                killed += 1
            except psutil.NoSuchProcess:
                continue
        rig.wait(rig.chance.uniform(3, 5))
    rig.check("workers were killed", killed >= 2, killed)
    yield


# -- 35: the index -------------------------------------------------------------------------------


def _index_disk_full(rig: Rig) -> Fault:
    rig.disks["state"].fill()
    yield
    rig.disks["state"].make_room()
    since = time.monotonic()
    rig.until(lambda: rig.acknowledged_since(since), 60, "images after there is room again")


def _index_disk_dies(rig: Rig) -> Fault:
    rig.disks["state"].die(2)
    rig.wait(rig.timing.fault_s)
    rig.stop_daemon()
    rig.disks["state"].revive()
    rig.restart()
    yield
    since = time.monotonic()
    rig.until(lambda: rig.acknowledged_since(since), 60, "images after the index is back")
    _until_whole(rig)


def _index_hurt(hurt: Callable[[Path], None]) -> Callable[[Rig], Fault]:
    def break_it(rig: Rig) -> Fault:
        rig.load.rest()
        rig.until(rig.all_well, 60, "no debts")
        rig.stop_daemon()
        hurt(rig.root / "state" / "index.db")
        try:
            rig.restart()
        except AssertionError as error:
            rig.check("it starts with a damaged index", ok=False, detail=str(error)[-300:])
            raise
        rig.load.resume()
        since = time.monotonic()
        wait = _first_ack_after(rig, since)
        rig.check("images are taken within 10 s", wait <= 10, wait)
        yield
        _until_whole(rig)

    return break_it


def _until_whole(rig: Rig) -> None:
    """Wait until the index has everything that was acknowledged until now."""
    wanted = len(rig.ledger.entries)
    rig.until(lambda: _instances(rig) >= wanted, 120, "the index to be whole")


def _index_deleted_in_use(rig: Rig) -> Fault:
    rig.until(lambda: _instances(rig) >= 20, 30, "an index with images")
    _delete(rig.root / "state" / "index.db")
    yield
    _until_whole(rig)
    present = (rig.root / "state" / "index.db").exists()
    rig.check("its file stands in its place again", present)


def _instances(rig: Rig) -> int:
    try:
        return int(ask(rig.box, "/viewer/api/status", rig.token, 5)[1]["totals"]["instances"])
    except (OSError, ValueError, KeyError):
        return 0


def _corrupt(index: Path) -> None:
    with index.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        for page in range(8, min(size // 4096, 200), 7):
            file.seek(page * 4096)
            file.write(b"\xff" * 4096)


def _delete(index: Path) -> None:
    for path in index.parent.glob("index.db*"):
        path.unlink()


# -- 37: the clock -------------------------------------------------------------------------------

FAKETIME = next(map(str, Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), "")


CLOCK_LOOK_S = 35.0  # the clock is looked at each half minute


def _clock_jumps(rig: Rig) -> Fault:
    stamp = rig.folder / "clock"
    stamp.write_text("+0")
    fake = {
        "LD_PRELOAD": FAKETIME,
        "DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_TIMESTAMP_FILE": str(stamp),
        "FAKETIME_CACHE_DURATION": "1",
    }
    rig.stop_daemon()
    rig.restart(**fake)
    _first_ack_after(rig, time.monotonic())
    logged_in: dict[str, bool] = {}
    for jump in ("+10y", "-1h", "+0"):
        stamp.write_text(jump)
        rig.wait(CLOCK_LOOK_S if jump != "+0" else 5)
        since = time.monotonic()
        wait = _first_ack_after(rig, since, 20)
        rig.check(f"images are taken after a jump to {jump}", wait <= 5, wait)
        if jump == "-1h":  # ten years end a session rightly
            rig.token = rig.load.token = rig.login()
            logged_in[jump] = bool(rig.volumes())
        elif jump == "+10y":
            rig.token = rig.load.token = rig.login()
    told = rig.alerted()
    rig.check("the step of the clock is an alert", "clock-step" in told, sorted(told))
    rig.check("who is logged in stays so when the clock goes back", all(logged_in.values()))
    yield


# -- 46: one UID, two senders --------------------------------------------------------------------


def _same_uid_at_once(rig: Rig) -> Fault:
    """Two associations send the same object at the same moment, again and again."""
    twice: list[str] = []
    for _ in range(10):
        made = rig.load.maker.make("middle", rig.load.maker.new_study())
        copy = made.path.with_suffix(".twin")
        copy.write_bytes(made.path.read_bytes())
        answers: list[int] = []

        def send(path: Path, answers: list[int] = answers) -> None:
            done = rig.box.store(path, check=False)
            answers.append(done.returncode)

        both = [threading.Thread(target=send, args=(path,)) for path in (made.path, copy)]
        for thread in both:
            thread.start()
        for thread in both:
            thread.join(60)
        if answers.count(0) == 2:
            rig.ledger.acknowledge(made)
            twice.append(made.uid)
    rig.check("both senders hear success", len(twice) == 10, len(twice))
    yield
    for disk in rig.disks.values():
        names = [path.name for path in (disk.path / "studies").rglob("*.dcm")]
        rig.check(f"each stands once on {disk.name}", len(names) == len(set(names)))


def _rows() -> Iterator[Row]:
    yield Row(
        number="31a", name="kill -9 at random, again and again", break_it=_killed_again_and_again,
        bars=INTERRUPTED, timing=Timing(fault_s=0),
        note="20 kills; tests/app/test_app_crash.py has 50 more",
    )  # fmt: skip
    yield Row(
        number="31b", name="death at each failpoint of the way of an image",
        break_it=_dies_at_each_failpoint, bars=INTERRUPTED, timing=Timing(fault_s=0),
    )  # fmt: skip
    yield Row(
        number="32", name="the Nth system call of one store fails", break_it=_each_call_fails,
        bars=like(INTERRUPTED, refused=None), timing=Timing(fault_s=0),
        note="strace injects, two errors into each call; no other stores meanwhile",
    )  # fmt: skip
    yield Row(
        number="33a", name="the daemon stands still: the watchdog restarts it",
        break_it=_stopped_daemon, bars=INTERRUPTED, timing=Timing(fault_s=0),
        note="the row plays systemd's part",
    )  # fmt: skip
    yield Row(
        number="33b", name="the daemon stands still for a while and goes on",
        break_it=_paused_daemon, bars=PAUSED,
        timing=Timing(fault_s=20),
    )  # fmt: skip
    yield Row(
        number="34a", name="the worker of the data volume is stopped", break_it=_worker_stopped,
        bars=HANG, timing=Timing(fault_s=20),
    )  # fmt: skip
    yield Row(
        number="34b", name="workers of volumes and pictures are killed", short=briefly(10),
        break_it=_workers_killed, bars=IO_ERROR, timing=Timing(fault_s=20),
    )  # fmt: skip
    state = {"state": {"size": GIB // 4}}
    disks = {"data": "ext4", "backup1": "xfs", "state": "ext4"}
    # What needs the index to be found cannot be found meanwhile; images are taken all the same.
    blind = like(IO_ERROR, reads_pct=None, web_pct=None, alerts=("index-failed",))
    anew = like(blind, next_ack_s=None, alerts=())
    yield Row(
        number="35a", name="the disk of the index is full", break_it=_index_disk_full,
        disks=disks, disk_options=state, bars=blind,
    )  # fmt: skip
    yield Row(
        number="35b", name="the disk of the index dies", break_it=_index_disk_dies,
        disks=disks, disk_options=state, bars=blind,
    )  # fmt: skip
    yield Row(
        number="35c", name="pages of the index are garbage at the start",
        break_it=_index_hurt(_corrupt), bars=anew,
    )  # fmt: skip
    yield Row(
        number="35d", name="the index was deleted", break_it=_index_hurt(_delete), bars=anew,
    )  # fmt: skip
    yield Row(
        number="35e", name="the index is deleted while it is in use",
        break_it=_index_deleted_in_use, bars=anew,
    )  # fmt: skip
    yield Row(
        number="37", name="the clock jumps ten years ahead and an hour back",
        break_it=_clock_jumps, timing=Timing(fault_s=0),
        bars=like(INTERRUPTED, web_pct=None),
        note="web is not judged: a jump of ten years rightly ends every session",
    )  # fmt: skip
    yield Row(
        number="46a", name="one object from two senders at the same moment",
        break_it=_same_uid_at_once, timing=Timing(fault_s=0), bars=IO_ERROR,
    )  # fmt: skip


ROWS = tuple(_rows())
