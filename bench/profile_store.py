# SPDX-License-Identifier: Apache-2.0
"""`python -m bench.profile_store [ct|mr]`: where the daemon spends its time on one image.

Samples the daemon and its workers with py-spy while a tuned sender stores a set, and prints
microseconds per image by process, thread and function: own time, and time with all it called.
Only time on the processor is counted, `--waiting` counts the waits as well.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from .clients import store
from .own import Scrigno
from .process import Program, ProgramFailed, environment
from .run import Bench, Options

RATE = 400  # samples a second: 2.5 ms apart, and py-spy itself stays under a tenth of a core
SHOWN = 45


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.profile_store", description=__doc__)
    parser.add_argument("set", nargs="?", choices=("ct", "mr"), default="mr")
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--associations", type=int, choices=(1, 2, 4), default=1)
    parser.add_argument("--waiting", action="store_true", help="count the waits as well")
    parser.add_argument("--gil", action="store_true", help="count only who holds the GIL")
    parser.add_argument("--no-spy", action="store_true", help="the kernel's accounts alone")
    parser.add_argument("--lines", action="store_true", help="by line and not by function")
    parser.add_argument("--place", type=Path, default=Path("var"), help="/dev/shm: no disk at all")
    parser.add_argument("--keep", type=Path, help="write the raw stacks here (flame graphs)")
    options = parser.parse_args()
    options.place.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.place) as folder:
        home = Path(folder).resolve()
        bench = Bench(
            place=home, peers=[], options=Options(pairs=1, ct=options.count, mr=options.count)
        )
        images = bench.image_set(options.set)
        raw = options.keep or home / "stacks.txt"
        with bench.warm(Scrigno(), tuned=True) as server:
            time.sleep(1)  # the copies of the warm-up
            spy = None
            mode = ["--idle"] * options.waiting + ["--gil"] * options.gil
            if not options.no_spy:
                spy = _spy(server.program.pid, raw, mode=mode, log=home / "spy.log")
            before = threads(server.program)
            seconds = store(server, images.parts(options.associations), tuned=True)
            used = threads(server.program)
            used.subtract(before)
            if spy is not None:
                spy.interrupt()
        per_image = 1e6 / images.count
        print(
            f"{images.count} {images.name}, {options.associations} associations: "
            f"{seconds * per_image:.0f} us per image, processor {used.total() * per_image:.0f} us:"
        )
        for name, cpu_s in used.most_common():
            if cpu_s * per_image > 1:
                print(f"{cpu_s * per_image:8.0f} us  {name}")
        if spy is None:
            return 0
        print_profile(raw, images=images.count, by_line=options.lines)
    return 0


def threads(program: Program) -> Counter[str]:
    """Processor seconds of the threads that live now, by process and name (numbers left out)."""
    tick = os.sysconf("SC_CLK_TCK")
    used: Counter[str] = Counter()
    for process in program.processes():
        who = " ".join(process.cmdline())[-24:]
        for stat in Path(f"/proc/{process.pid}/task").glob("*/stat"):
            name, _, rest = stat.read_text().partition("(")[2].rpartition(")")
            fields = rest.split()
            thread = name.rstrip("0123456789_-")
            for kind, position in (("user", 11), ("system", 12)):
                seconds = int(fields[position]) / tick
                used[f"{process.pid} {who} / {thread} / {kind}"] += seconds  # type: ignore[assignment]
    return used


def _spy(pid: int, raw: Path, *, mode: list[str], log: Path) -> Program:
    """Start py-spy on the process and its children; it runs until it is interrupted."""
    command = [str(Path(sys.executable).with_name("py-spy")), "record", "--pid", str(pid)]
    command += ["--subprocesses", "--threads", "--rate", str(RATE), "--format", "raw"]
    command += ["--nonblocking", "--output", str(raw), *mode]
    program = Program(command, env=environment(tuned=False, buffer_bytes=0), log=log)
    if program.ended:
        raise ProgramFailed(program.tail())
    return program


def print_profile(raw: Path, *, images: int, by_line: bool) -> None:
    own: Counter[tuple[str, str]] = Counter()
    whole: Counter[tuple[str, str]] = Counter()
    threads: Counter[str] = Counter()
    for line in raw.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        where, frames = _split(stack.split(";"), by_line=by_line)
        threads[where] += int(count)
        if frames:
            own[where, frames[-1]] += int(count)
        for frame in set(frames):
            whole[where, frame] += int(count)
    sample_us = 1e6 / RATE / images
    for where, samples in threads.most_common(12):
        print(f"{samples * sample_us:8.0f} us  {where}")
    for title, seen in (("own time", own), ("with what it called", whole)):
        print(f"\n{title}")
        for (where, frame), samples in seen.most_common(SHOWN):
            print(f"{samples * sample_us:8.1f} us  {where:<28} {frame}")


def _split(frames: list[str], *, by_line: bool) -> tuple[str, list[str]]:
    """Process and thread of a stack, and its Python frames."""
    head = [frame for frame in frames if frame.startswith(("process ", "thread "))]
    rest = [frame for frame in frames if not frame.startswith(("process ", "thread "))]
    if not by_line:
        rest = [f"{frame.rpartition(':')[0]})" if ":" in frame else frame for frame in rest]
    return " / ".join(_short(frame) for frame in head), rest


def _short(frame: str) -> str:
    words = frame.split(":", 1)[-1].strip().strip('"')
    return words.rpartition("/")[2][-40:]


if __name__ == "__main__":
    sys.exit(main())
