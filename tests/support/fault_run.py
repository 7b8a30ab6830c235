# SPDX-License-Identifier: Apache-2.0
"""One row of the fault plan: a whole box under load, a fault, its healing, and the judgement.

The judge is the senders' ledger: everything acknowledged is fetched by C-GET after a restart, and
read from the volumes after they were unmounted, so that no cache can stand in for a disk.
"""

import contextlib
import random
import re
import shutil
import signal
import subprocess  # noqa: TID251 - real peers
import sys
import time
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from afterwards import clean_up_after
from fault_disks import Disk, left_behind, remove
from fault_load import Load, ask, get
from fault_objects import Ledger, data_set_digest_of
from running_box import RunningBox

USER, PASSWORD = "judge", "correct horse battery staple"
REPOSITORY = Path(__file__).resolve().parents[2]
BESIDE = (".sha256",)  # what may stand beside an object


@dataclass(frozen=True, kw_only=True)
class Bars:
    """What must hold; None is not judged. Nothing lost, partial or wrong is always judged."""

    next_ack_s: float | None = 5.0
    detect_s: float | None = None
    alert_s: float | None = 10.0  # from the detection to the first of `alerts`
    reads_pct: float | None = 99.0
    web_pct: float | None = 95.0
    refused: int | None = 0  # answers other than success, and associations that broke
    loop_lag_ms: float | None = 250.0
    settle_s: float | None = 90.0  # from the healing until every volume is online and owes nothing
    alerts: tuple[str, ...] = ()
    copies: int = 2


def like(bars: Bars, **changed: Any) -> Bars:
    """Return the same bars but for those named."""
    return replace(bars, **changed)


IO_ERROR = Bars()
HANG = Bars(next_ack_s=15.0, detect_s=10.0, reads_pct=95.0)


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds of load before, during and after the fault; what a row does itself comes on top.

    `turns`: how often a row does what it does again and again. `impatient`: the operator takes a
    volume back at once (`scrigno volume force`) and does not wait for the damping.
    """

    before_s: float = 5.0
    fault_s: float = 12.0
    after_s: float = 5.0
    turns: int = 20
    impatient: bool = True


def briefly(fault_s: float, turns: int = 3) -> Timing:
    """Return the timing of the short tier, which runs with every change."""
    return Timing(before_s=1.5, fault_s=fault_s, after_s=1.5, turns=turns)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One fault: `break_it` injects, yields while it lasts, then heals."""

    number: str
    name: str
    break_it: Callable[["Rig"], Generator[None, None, None]]
    disks: Mapping[str, str] = field(default_factory=lambda: {"data": "ext4", "backup1": "xfs"})
    disk_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    bars: Bars = IO_ERROR
    timing: Timing = Timing()
    target: str = "data"  # whose state tells the detection
    short: Timing | None = None  # in the short tier too, with this timing
    note: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Proof:
    """A row that tests of the rooms prove already; they run as they are."""

    number: str
    name: str
    tests: tuple[str, ...]
    note: str = ""


@dataclass
class Check:
    """Something a row looked at besides the common measures."""

    what: str
    ok: bool
    detail: str = ""


class Rig:
    """The box under test with its disks and its load."""

    def __init__(self, row: Row, folder: Path, seed: int, timing: Timing) -> None:
        self.row, self.folder, self.seed, self.timing = row, folder, seed, timing
        self.chance = random.Random(seed)
        self.checks: list[Check] = []
        self.disks: dict[str, Disk] = {}
        self.fault_s = self.heal_s = 0.0  # monotonic
        self.unexpected_exits = 0
        self.expect_exit = False
        self.away: list[tuple[float, float]] = []  # when the row itself had stopped the daemon
        self._stack = contextlib.ExitStack()
        self.root = folder / "box"

    def start(self) -> None:
        """Make disks, box and load, and let it run until objects were acknowledged."""
        self.root.mkdir(parents=True)
        clean_up_after(self.folder)
        for name, medium in self.row.disks.items():
            options = dict(self.row.disk_options.get(name, {}))
            self.disks[name] = disk = Disk(self.root, name, medium, **options)
            self._stack.callback(disk.close)
        self.box = RunningBox(self.root)
        self._stack.callback(self.box.kill, signal.SIGKILL)
        self.box.start(wait_s=120, **self.row.environment)
        claimed = self.box.cli("claim", "--user", USER, stdin=PASSWORD + "\n")
        assert claimed.returncode == 0, claimed.stderr
        self.token = self.login()
        self.ledger = Ledger(self.folder / "ledger.jsonl")
        self._stack.callback(self.ledger.close)
        self.load = Load(
            self.box, self.folder / "load", self.ledger, seed=self.seed, token=self.token
        )
        self._stack.callback(self._end_load)
        self.load.start()
        self.until(lambda: len(self.ledger.entries) >= 20, 30, "the first images")
        self.wait(self.timing.before_s)

    def login(self) -> str:
        """Return a token for the pages' API."""
        _, answer = ask(self.box, "/viewer/api/login", "", 15, user=USER, password=PASSWORD)
        return str(answer["token"])

    def _end_load(self) -> None:
        with contextlib.suppress(BaseException):
            self.load.stop()

    def close(self) -> None:
        """End everything and heal every disk; then nothing of the row is left."""
        self._stack.close()

    # -- for rows ------------------------------------------------------------------------------

    @property
    def data(self) -> Disk:
        return self.disks["data"]

    @property
    def backup(self) -> Disk:
        return self.disks["backup1"]

    def wait(self, seconds: float) -> None:
        """Let the load run on; a daemon that ends meanwhile is noticed."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.look_at_the_daemon()
            time.sleep(0.05)

    def look_at_the_daemon(self) -> None:
        process = self.box.process
        if process is not None and process.poll() is not None and not self.expect_exit:
            self.unexpected_exits += 1
            self.box.process = None
            self.box.start(wait_s=120, **self.row.environment)

    def until(self, condition: Callable[[], Any], limit_s: float, what: str) -> float:
        """Wait for a condition; returns the seconds, raises AssertionError past the limit."""
        began = time.monotonic()
        while not condition():
            took = time.monotonic() - began
            if took > limit_s:
                raise AssertionError(f"{what}: not within {limit_s} s\n{self.box.log[-3000:]}")
            self.look_at_the_daemon()
            time.sleep(0.05)
        return time.monotonic() - began

    def check(self, what: str, ok: object, detail: object = "") -> None:
        """Note whether something holds that only this row looks at."""
        self.checks.append(Check(what, bool(ok), str(detail)[:300]))

    def state(self, volume: str = "data") -> str:
        """Return the state of a volume as the status page told it last."""
        return self.load.seen.volumes[-1][1].get(volume, "") if self.load.seen.volumes else ""

    def states_since(self, when_s: float, volume: str = "data") -> list[str]:
        """Return the states that were seen since then, each change once."""
        found: list[str] = []
        for at, states in self.load.seen.volumes:
            state = states.get(volume, "")
            if at >= when_s and (not found or found[-1] != state):
                found.append(state)
        return found

    def acknowledged_since(self, when_s: float) -> int:
        return sum(1 for s in self.load.sent if s.sent_s >= when_s and s.answer == "Success")

    def volumes(self) -> list[dict[str, Any]]:
        """Ask for the volumes with their debts; [] while the box does not answer."""
        try:
            status, answer = ask(self.box, "/viewer/api/volumes", self.token, 5)
        except (OSError, ValueError):
            return []
        return list(answer["volumes"]) if status == 200 else []

    def repaired(self, name: str, repair: Callable[[], None]) -> None:
        """Repair a disk that the box still reads from, as an operator does: pause it first."""
        paused = self.box.cli("volume", "pause", name)
        repair()
        resumed = self.box.cli("volume", "resume", name)
        self.check("pause and resume work", not paused.returncode and not resumed.returncode,
                   paused.stderr + resumed.stderr)  # fmt: skip
        self.check("the box lets go of the disk", not self.disks[name].busy)

    def alerted(self) -> set[str]:
        """Return the codes of all alerts that the book has ever raised in this row."""
        _, answer = ask(self.box, "/viewer/api/alerts/history?limit=500", self.token, 10)
        raised = (c["alert"] for c in answer["changes"] if c["action"] == "raised")
        return {alert["code"] for alert in raised if alert}

    def all_well(self) -> bool:
        volumes = self.volumes()
        return bool(volumes) and all(
            v["state"] == "online" and not v["objects_owed"] for v in volumes
        )

    def stop_daemon(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End the daemon as part of the row; who asks until `restart` is not counted."""
        self.expect_exit = True
        self.away.append((time.monotonic(), float("inf")))
        self.box.kill(number)

    def was_away(self, begin: float, end: float) -> bool:
        """Tell whether the row had stopped the daemon at some moment between these."""
        return any(begin <= back and end >= gone for gone, back in self.away)

    def restart(self, **environment: str) -> float:
        """Start the daemon again; returns the seconds until it takes associations."""
        took = self.box.start(wait_s=120, **{**self.row.environment, **environment})
        self.expect_exit = False
        if self.away:
            self.away[-1] = (self.away[-1][0], time.monotonic())
        return took


def run(row: Row, folder: Path, *, seed: int, timing: Timing | None = None) -> dict[str, Any]:
    """Run a row and return its measures and verdict; leaves nothing behind, whatever happens."""
    began = time.monotonic()
    rig = Rig(row, folder, seed, timing or row.timing)
    result: dict[str, Any] = {"row": row.number, "name": row.name, "seed": seed, "note": row.note}
    try:
        rig.start()
        _hurt_and_heal(rig)
        rig.load.rest()
        result["settle_s"] = _settle(rig)
        rig.load.stop()
        result |= _measured(rig)
        result |= _verified(rig)
    except BaseException as error:
        where = "".join(traceback.format_exception(error)[-6:])
        result["broke"] = f"{type(error).__name__}: {error}"[:3000]
        result["traceback"] = where[-3000:]
        if isinstance(error, KeyboardInterrupt):
            raise
    finally:
        if hasattr(rig, "box"):
            result["daemon_log"] = rig.box.log
        rig.close()
        left = _left(folder)
        rig.check("nothing was left behind", not left, left)
        result["checks"] = [asdict(check) for check in rig.checks]
        result["seconds"] = round(time.monotonic() - began, 1)
    result["bars"] = _judged(row, result)
    result["green"] = "broke" not in result and all(
        each["ok"] for each in (*result["bars"].values(), *result["checks"])
    )
    remove(folder)
    return result


def prove(row: Proof, folder: Path) -> dict[str, Any]:
    """Run the tests of a row; green when there are some and all passed."""
    began = time.monotonic()
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider",
            f"--basetemp={folder}", *row.tests,
        ],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=1800, check=False,
    )  # fmt: skip
    last = (done.stdout.strip().splitlines() or [""])[-1]
    passed = re.search(r"(\d+) passed", last)
    shutil.rmtree(folder, ignore_errors=True)
    return {
        "row": row.number, "name": row.name, "note": row.note, "tests": list(row.tests),
        "bars": {}, "passed": int(passed.group(1)) if passed else 0,
        "checks": [asdict(Check("its tests pass", bool(passed) and not done.returncode, last))],
        "green": bool(passed) and not done.returncode,
        "seconds": round(time.monotonic() - began, 1),
        "daemon_log": done.stdout[-20000:],
    }  # fmt: skip


def _left(folder: Path) -> list[str]:
    for _ in range(40):
        left = left_behind(folder)
        if not left:
            break
        time.sleep(0.25)
    return left


def _hurt_and_heal(rig: Rig) -> None:
    fault = rig.row.break_it(rig)
    rig.fault_s = time.monotonic()
    next(fault)
    remaining = rig.fault_s + rig.timing.fault_s - time.monotonic()
    rig.wait(max(remaining, 0.5))
    rig.heal_s = time.monotonic()
    with contextlib.suppress(StopIteration):
        next(fault)
        raise AssertionError("a row yields once")
    rig.wait(rig.timing.after_s)


def _settle(rig: Rig) -> float | None:
    """Wait until the box is whole again; returns the seconds since the healing, or None."""
    end = time.monotonic() + (rig.row.bars.settle_s or 15.0)
    while time.monotonic() < end:
        if rig.all_well():
            return round(time.monotonic() - rig.heal_s, 1)
        if rig.timing.impatient:
            for volume in rig.volumes():
                if volume["state"] == "recovering":
                    rig.box.cli("volume", "force", volume["name"])
        rig.look_at_the_daemon()
        time.sleep(0.25)
    return None


# -- measuring ---------------------------------------------------------------------------------


def _measured(rig: Rig) -> dict[str, Any]:
    load, begin, end = rig.load, rig.fault_s, rig.heal_s
    after = [s for s in load.sent if s.sent_s >= begin]
    answered = [s.answered_s - begin for s in after if s.answer == "Success"]
    bad = [
        s.answer
        for s in load.sent
        if s.answer != "Success"
        and s.answered_s >= begin
        and not rig.was_away(s.sent_s, s.answered_s)
    ]
    lag = [value for at, value in load.seen.loop_lag_p99_s if begin <= at <= end + 2]
    detected = next(
        (
            at - begin
            for at, states in load.seen.volumes
            if at >= begin and states.get(rig.row.target, "online") != "online"
        ),
        None,
    )
    return {
        "acknowledged": len(rig.ledger.entries),
        "acknowledged_in_fault": sum(1 for s in after if s.answered_s <= end),
        "next_ack_s": _rounded(min(answered, default=None)),
        "detect_s": _rounded(detected),
        "refused": len(bad),
        "refusals": _tally(bad),
        "slowest_ack_s": _rounded(max((s.answered_s - s.sent_s for s in after), default=None)),
        "reads_ok_pct": _share(rig, "image"),
        "find_ok_pct": _share(rig, "find"),
        "web_ok_pct": _share(rig, "web"),
        "slowest_read_s": _rounded(
            max((r.took_s for r in load.reads if begin <= r.asked_s <= end), default=None)
        ),
        "read_problems": _tally([r.problem[-80:] for r in load.reads if r.problem]),
        "alerts": _alerts(rig),
        "status_page_unanswered": sum(1 for at in load.seen.unanswered if begin <= at <= end),
        "states": rig.states_since(begin, rig.row.target),
        "loop_lag_p99_ms": _rounded(max(lag, default=0.0) * 1000),
        "rss_peak_mb": max((rss for _, rss in load.seen.rss), default=0) >> 20,
        "unexpected_exits": rig.unexpected_exits,
        "wrong_bytes_served": len(load.wrong_bytes),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def _tally(words: Sequence[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for word in words:
        counts[word] = counts.get(word, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: -item[1])[:8])


def _share(rig: Rig, kind: str) -> float | None:
    """Return the per cent of questions of the fault window that were answered rightly."""
    asked = [
        read
        for read in rig.load.reads
        if read.kind == kind
        and rig.fault_s <= read.asked_s <= rig.heal_s
        and not rig.was_away(read.asked_s, read.asked_s + read.took_s)
    ]
    if not asked:
        return None
    return round(100 * sum(1 for read in asked if not read.problem) / len(asked), 1)


def _alerts(rig: Rig) -> dict[str, dict[str, Any]]:
    """Tell of each condition met since the fault when it came, how often, and whether it went."""
    timeline = rig.load.seen.conditions
    found: dict[str, dict[str, Any]] = {}
    before: frozenset[tuple[str, str]] = frozenset()
    for at, now in timeline:
        if at >= rig.fault_s:
            for code, subject in now - before:
                key = f"{code} {subject}".strip()
                each = found.setdefault(
                    key, {"raised_s": round(at - rig.fault_s, 1), "times": 0, "cleared": False}
                )
                each["times"] += 1
        before = now
    for key, each in found.items():
        each["cleared"] = not any(f"{code} {subject}".strip() == key for code, subject in before)
    return found


# -- verifying ---------------------------------------------------------------------------------


def _verified(rig: Rig) -> dict[str, Any]:
    """Stop, unmount, mount, read the volumes; start, fetch everything; compare with the ledger."""
    rig.stop_daemon()
    for disk in rig.disks.values():
        if disk.fs.mounted:
            disk.unmount()
            disk.mount()
    copies: dict[str, int] = dict.fromkeys(rig.ledger.entries, 0)
    partials: list[str] = []
    for name in ("data", "backup1"):
        for uid, problem in _stored(rig.root / name, rig.load.maker.known):
            if problem:
                partials.append(f"{name}: {problem}")
            elif uid in copies:
                copies[uid] += 1
    took = rig.restart()
    with contextlib.suppress(AssertionError):  # what cannot be read then is counted as lost
        rig.until(lambda: any(v["state"] == "online" for v in rig.volumes()), 30, "a volume")
    fetched, wrong, problems = _fetch_all(rig)
    lost = [uid for uid in rig.ledger.entries if uid not in fetched]
    return {
        "lost": len(lost),
        "lost_uids": lost[:5],
        "fetch_problems": problems[:3],
        "single_copy": sum(1 for count in copies.values() if count < rig.row.bars.copies),
        "on_no_volume": sum(1 for count in copies.values() if not count),
        "partials": len(partials),
        "partial_names": partials[:5],
        "wrong_bytes_served": len(rig.load.wrong_bytes) + len(wrong),
        "restart_s": _rounded(took),
    }


def _stored(volume: Path, known: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield UID and problem of everything below `studies`."""
    for path in (volume / "studies").rglob("*"):
        if path.is_dir() or path.suffix in BESIDE:
            continue
        if path.suffix != ".dcm" or path.stem not in known:
            yield "", f"{path.name} is nothing that was sent"
        elif data_set_digest_of(path.read_bytes()) != known[path.stem].digest:
            yield "", f"{path.name} is not whole"
        else:
            yield path.stem, ""


def _fetch_all(rig: Rig) -> tuple[set[str], list[str], list[str]]:
    """C-GET every study of the ledger; returns the UIDs that came right, wrong, and problems."""
    entries = rig.ledger.entries
    studies = sorted({made.study for made in entries.values()})
    right: set[str] = set()
    wrong: list[str] = []
    problems: list[str] = []

    def fetch(numbered: tuple[int, str]) -> None:
        number, study = numbered
        folder = rig.folder / "fetched" / study
        folder.mkdir(parents=True)
        try:
            get(
                rig.box, folder, f"JUDGE{number % 4}", 120,
                QueryRetrieveLevel="STUDY", StudyInstanceUID=study,
            )  # fmt: skip
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            problems.append(str(error)[-300:])
        for path in folder.iterdir():
            uid = path.name  # getscu's way with +B
            if uid not in entries:
                continue
            if data_set_digest_of(path.read_bytes()) == entries[uid].digest:
                right.add(uid)
            else:
                wrong.append(uid)
        shutil.rmtree(folder)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(fetch, enumerate(studies)))
    return right, wrong, problems


# -- judging -----------------------------------------------------------------------------------


def _judged(row: Row, result: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    bars, verdicts = row.bars, {}

    def most(name: str, bar: float | None, measured: Any) -> None:
        if bar is not None:
            ok = measured is not None and measured <= bar
            verdicts[name] = {"bar": f"<= {bar:g}", "measured": measured, "ok": ok}

    for name in ("lost", "single_copy", "partials", "wrong_bytes_served", "unexpected_exits"):
        most(name, 0, result.get(name))
    most("refused", bars.refused, result.get("refused"))
    most("next_ack_s", bars.next_ack_s, result.get("next_ack_s"))
    most("detect_s", bars.detect_s, result.get("detect_s"))
    most("loop_lag_p99_ms", bars.loop_lag_ms, result.get("loop_lag_p99_ms"))
    most("settle_s", bars.settle_s, result.get("settle_s"))
    for name, bar in (("reads_ok_pct", bars.reads_pct), ("web_ok_pct", bars.web_pct)):
        if bar is not None:
            measured = result.get(name)
            ok = measured is not None and measured >= bar
            verdicts[name] = {"bar": f">= {bar:g}", "measured": measured, "ok": ok}
    _judge_alerts(bars, result, verdicts)
    return verdicts


def _judge_alerts(
    bars: Bars, result: Mapping[str, Any], verdicts: dict[str, dict[str, Any]]
) -> None:
    seen: Mapping[str, Mapping[str, Any]] = result.get("alerts", {})
    for code in bars.alerts:
        found = [each for key, each in seen.items() if key.split()[0] == code]
        verdicts[f"alert {code}"] = {
            "bar": "raised and cleared",
            "measured": "never raised"
            if not found
            else ("raised and cleared" if all(e["cleared"] for e in found) else "still there"),
            "ok": bool(found) and all(each["cleared"] for each in found),
        }
    if bars.alerts and bars.alert_s is not None:
        times = [e["raised_s"] for key, e in seen.items() if key.split()[0] in bars.alerts]
        first = min(times, default=None)
        since = None if first is None else first - (result.get("detect_s") or 0)
        verdicts["alert_s"] = {
            "bar": f"<= {bars.alert_s:g} after the detection",
            "measured": _rounded(since),
            "ok": since is not None and since <= bars.alert_s,
        }
