# SPDX-License-Identifier: Apache-2.0
"""The audit trail: bound line to line, told when it cannot be written, never in the way."""

import asyncio
import json
import os
import signal
import subprocess  # noqa: TID251 - a process to kill
import sys
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from loopfs import loop_filesystem, sh
from scrigno.access.audit import DCM_CODES, Action, AuditRules, AuditTrail
from scrigno.core.clock import SystemClock
from scrigno.core.counters import Counters

QUICK = AuditRules(group_s=0.02, retry_s=0.05, segment_bytes=3000, quota_bytes=1 << 20)


def new_trail(folder: Path, **rules: object) -> AuditTrail:
    changed = AuditRules(**({"group_s": 0.02, "retry_s": 0.05} | rules))
    return AuditTrail(folder, SystemClock(), Counters(), changed)


@pytest.fixture
async def trail(tmp_path: Path) -> AsyncIterator[AuditTrail]:
    one = AuditTrail(tmp_path, SystemClock(), Counters(), QUICK)
    await one.open()
    yield one
    await one.close()


def segments(folder: Path) -> list[Path]:
    return sorted((folder / "audit").glob("*.jsonl"))


async def test_what_was_done_is_read_back_newest_first_and_by_page(trail: AuditTrail) -> None:
    for number in range(50):
        trail.record("anna", Action.INSTANCES_ACCESSED, f"1.2.{number}", details={"door": "web"})
    page = await trail.entries(limit=20)
    assert [each.subject for each in page] == [f"1.2.{n}" for n in range(49, 29, -1)]
    assert page[0].details == {"door": "web"}
    rest = await trail.entries(after=page[-1].number, limit=100)
    assert [each.subject for each in rest][:30] == [f"1.2.{n}" for n in range(29, -1, -1)]
    assert rest[-1].action == Action.RECORDING_STARTED
    assert await trail.verify_chain() == []
    assert trail.failure == ""


async def test_lines_are_found_by_who_what_and_when(trail: AuditTrail, tmp_path: Path) -> None:
    trail.record("anna", Action.LOGIN, "anna")
    trail.record("bob", Action.LOGIN, "bob", "failure")
    trail.record("bob", Action.QUERY, "1.2.3")
    assert [e.action for e in await trail.entries(who="bob")] == ["query", "login"]
    assert [e.who for e in await trail.entries(action="login")] == ["bob", "anna"]
    (one,) = await trail.entries(who="bob", action=Action.LOGIN)
    assert one.outcome == "failure"
    assert await trail.entries(since=one.at + timedelta(days=1)) == []
    assert await trail.entries(until=one.at - timedelta(days=1)) == []
    assert len(await trail.entries(since=one.at - timedelta(days=1), until=one.at)) >= 2
    assert (segments(tmp_path)[0].stat().st_mode & 0o777) == 0o600


def test_standard_events_have_their_codes() -> None:
    assert DCM_CODES[Action.STUDY_DELETED] == "110105"
    assert set(DCM_CODES) <= set(Action)
    assert len(set(DCM_CODES.values())) == len(DCM_CODES)


async def test_recording_never_waits_and_takes_any_text(trail: AuditTrail) -> None:
    began = time.perf_counter()
    for _ in range(1000):
        trail.record("x" * 999, "odd\n\0\udcff", "1" * 999, details={"k\n": "\u2028" * 999})
    assert time.perf_counter() - began < 1.0
    (one,) = await trail.entries(limit=1)
    assert one.action == "odd\n\0\udcff"
    assert len(one.who) == len(one.details["k\n"]) == 256
    assert await trail.verify_chain() == []


async def test_the_chain_goes_on_over_segments_and_restarts(tmp_path: Path) -> None:
    for run in range(3):
        one = AuditTrail(tmp_path, SystemClock(), Counters(), QUICK)
        await one.open()
        for number in range(30):
            one.record("anna", "query", f"{run}.{number}")
            if number % 10 == 0:
                await one.settle()
        assert await one.verify_chain() == []
        await one.close()
    assert len(segments(tmp_path)) > 3
    one = AuditTrail(tmp_path, SystemClock(), Counters(), QUICK)
    await one.open()
    lines = await one.entries(limit=1000, action="query")
    assert [each.subject for each in lines] == [
        f"{run}.{n}" for run in (2, 1, 0) for n in range(29, -1, -1)
    ]
    assert one.repaired == ""
    await one.close()


async def _tampered(tmp_path: Path, change: str) -> list[str]:
    one = new_trail(tmp_path)
    await one.open()
    for number in range(10):
        one.record("anna", "query", f"1.2.{number}")
    await one.close()
    (path,) = segments(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    match change:
        case "changed":
            lines[4] = lines[4].replace(b"anna", b"mary")
        case "taken out":
            del lines[4]
        case "put in":
            lines.insert(4, lines[3])
        case "beginning gone":
            del lines[:3]
        case "no text":
            lines[4] = b"rubbish\n"
        case "last changed":
            lines[-1] = lines[-1].replace(b"stopped", b"started")
    path.write_bytes(b"".join(lines))
    one = new_trail(tmp_path)
    await one.open()
    one.record("bob", "query", "9")
    found = await one.verify_chain()
    await one.close()
    return found


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("changed", "line 6: line 5 is not as it was"),
        ("taken out", "line 5: it is missing"),
        ("put in", "line 5: it is missing, or not where it was"),
        ("beginning gone", "begins with line 4"),
        ("no text", "line 5"),
    ],
)
async def test_tampering_is_found_at_its_line(tmp_path: Path, change: str, words: str) -> None:
    found = await _tampered(tmp_path, change)
    assert words in found[0]


async def test_a_last_line_that_was_changed_is_found_while_the_box_runs(
    trail: AuditTrail, tmp_path: Path
) -> None:
    trail.record("anna", "query", "1.2.3")
    assert await trail.settle()
    path = segments(tmp_path)[-1]
    path.write_bytes(path.read_bytes().replace(b"1.2.3", b"1.2.4"))
    assert "written last" in (await trail.verify_chain())[0]


async def test_only_what_is_over_the_quota_goes_and_that_is_told(tmp_path: Path) -> None:
    one = new_trail(tmp_path, segment_bytes=2000, quota_bytes=6000)
    await one.open()
    for number in range(120):
        one.record("anna", "query", f"1.2.{number}")
        if number % 8 == 0:
            await one.settle()
    assert await one.verify_chain() == []
    assert sum(path.stat().st_size for path in segments(tmp_path)) < 10_000
    assert await one.entries(action="audit-lines-removed")
    oldest = (await one.entries(limit=10_000))[-1].number
    assert oldest > 1
    segments(tmp_path)[0].unlink()  # by somebody else
    assert "taken away" in (await one.verify_chain())[0]
    await one.close()


@pytest.mark.parametrize("tail", [b'{"n":99,"prev":"ab', b"\0" * 700, b"\0" * 10 + b'{"n":7}\n'])
async def test_a_torn_last_line_is_cut_off_and_told(tmp_path: Path, tail: bytes) -> None:
    one = new_trail(tmp_path)
    await one.open()
    one.record("anna", "query", "1.2.3")
    await one.close()
    path = segments(tmp_path)[-1]
    path.write_bytes(path.read_bytes() + tail)
    one = new_trail(tmp_path)
    await one.open()
    assert str(len(tail)) in one.repaired
    (started, *_) = await one.entries(action=Action.RECORDING_STARTED)
    assert started.details["found"] == one.repaired
    assert await one.verify_chain() == []
    await one.close()


_CHILD = """
import asyncio, sys
from pathlib import Path
from scrigno.access.audit import AuditRules, AuditTrail
from scrigno.core.clock import SystemClock
from scrigno.core.counters import Counters

async def main():
    rules = AuditRules(group_s=0.001, segment_bytes=20000)
    trail = AuditTrail(Path(sys.argv[1]), SystemClock(), Counters(), rules)
    await trail.open()
    number = 0
    while True:
        for _ in range(20):
            number += 1
            trail.record("anna", "query", str(number), details={"run": sys.argv[2]})
        if await trail.settle():
            print(number, flush=True)

asyncio.run(main())
"""


async def test_nothing_that_was_durable_is_lost_by_kill(tmp_path: Path) -> None:
    durable: dict[str, int] = {}
    for run in ("a", "b", "c"):
        child = subprocess.Popen(
            [sys.executable, "-c", _CHILD, str(tmp_path), run], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        await asyncio.sleep(1.2)
        os.kill(child.pid, signal.SIGKILL)
        said, _ = await asyncio.to_thread(child.communicate)
        durable[run] = int(said.split()[-1])
    one = new_trail(tmp_path)
    await one.open()
    assert await one.verify_chain() == []
    found = await one.entries(limit=1_000_000, action="query")
    for run, last in durable.items():
        numbers = {int(e.subject) for e in found if e.details["run"] == run}
        assert set(range(1, last + 1)) <= numbers
    await one.close()


@pytest.mark.spec("ST-10")
async def test_a_full_disk_is_told_bounded_and_told_again_when_it_is_over(tmp_path: Path) -> None:
    with loop_filesystem(tmp_path / "fs", "state", size=16 << 20) as disk:
        one = new_trail(disk.mount_point, most_waiting=200)
        await one.open()
        one.record("anna", "query", "before")
        assert await one.settle()
        ballast = disk.mount_point / "ballast"
        with ballast.open("wb") as file:
            try:
                while True:
                    file.write(b"x" * 65536)
                    file.flush()
            except OSError:
                pass
        for number in range(500):
            one.record("anna", "query", f"{number:0200}")
        await _until(lambda: one.failure)
        assert "No space left" in one.failure
        for number in range(500, 1000):
            one.record("anna", "query", str(number))
        assert one.dropped >= 500
        assert len(one._waiting.lines) + one._waiting.writing <= 200
        assert await one.entries(limit=1)  # reading goes on
        lost = one.dropped
        ballast.unlink()
        await _until(lambda: one.failure == "")
        (told,) = await one.entries(action="audit-lines-lost")
        assert told.details["lost"] == str(lost)
        assert await one.verify_chain() == []
        kept = {int(e.subject) for e in await one.entries(limit=5000) if e.subject.isdigit()}
        assert len(kept) == 1000 - lost
        assert 0 in kept  # the first ones are kept: they say how it began
        await one.close()


async def test_a_disk_that_dies_takes_nothing_that_waits(tmp_path: Path) -> None:
    with loop_filesystem(tmp_path / "fs", "state") as disk:
        one = new_trail(disk.mount_point)
        await one.open()
        one.record("anna", "query", "durable")
        assert await one.settle()
        disk.shutdown()
        one.record("anna", "query", "waiting")
        await _until(lambda: one.failure)
        disk.unmount()
        disk.mount()
        await _until(lambda: one.failure == "")
        subjects = [e.subject for e in await one.entries(action="query")]
        assert subjects == ["waiting", "durable"]
        assert await one.verify_chain() == []
        await one.close()
        await asyncio.sleep(0)


async def test_an_unwritable_folder_at_start_stops_nobody(tmp_path: Path) -> None:
    with loop_filesystem(tmp_path / "fs", "state") as disk:
        sh("mount", "-o", "remount,ro", str(disk.mount_point))
        one = new_trail(disk.mount_point)
        await one.open()
        assert "Read-only" in one.failure
        one.record("anna", "query", "1.2.3")
        assert await one.verify_chain() == []
        sh("mount", "-o", "remount,rw", str(disk.mount_point))
        await _until(lambda: one.failure == "")
        assert [e.subject for e in await one.entries(action="query")] == ["1.2.3"]
        await one.close()


async def test_a_broken_trail_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    folder = tmp_path / "audit"
    folder.mkdir()
    (folder / "audit-000000000001.jsonl").write_bytes(b'[1]\n{"n":"x"}\nrubbish\n')
    (folder / "audit-odd.jsonl").write_bytes(json.dumps({"n": 1}).encode())
    one = new_trail(tmp_path)
    await one.open()
    one.record("anna", "query", "1")
    assert [e.subject for e in await one.entries(action="query")] == ["1"]
    assert await one.verify_chain()
    await one.close()


async def _until(condition: object) -> None:
    async with asyncio.timeout(10):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.02)
