# SPDX-License-Identifier: Apache-2.0
"""`python -m bench.profile_store [ct|mr]`: where the daemon spends its time on one image.

Samples the daemon and its workers with py-spy while a tuned sender stores a set, and prints
microseconds per image by process, thread and function: own time, and time with all it called.
Only time on the processor is counted, `--waiting` counts the waits as well.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
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
    parser.add_argument("--lines", action="store_true", help="by line and not by function")
    parser.add_argument("--keep", type=Path, help="write the raw stacks here (flame graphs)")
    options = parser.parse_args()
    place = Path("var")
    place.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=place) as folder:
        home = Path(folder).resolve()
        bench = Bench(
            place=home, peers=[], options=Options(pairs=1, ct=options.count, mr=options.count)
        )
        images = bench.image_set(options.set)
        raw = options.keep or home / "stacks.txt"
        with bench.warm(Scrigno(), tuned=True) as server:
            spy = _spy(server.program.pid, raw, waiting=options.waiting, log=home / "spy.log")
            cpu = server.program.cpu_s()
            seconds = store(server, images.parts(options.associations), tuned=True)
            cpu = server.program.cpu_s() - cpu
            spy.interrupt()
        print(
            f"{images.count} {images.name}, {options.associations} associations: "
            f"{seconds * 1e6 / images.count:.0f} us per image under the profiler, "
            f"{cpu * 1e6 / images.count:.0f} us of processor per image in all processes\n"
        )
        print_profile(raw, images=images.count, by_line=options.lines)
    return 0


def _spy(pid: int, raw: Path, *, waiting: bool, log: Path) -> Program:
    """Start py-spy on the process and its children; it runs until it is interrupted."""
    command = [str(Path(sys.executable).with_name("py-spy")), "record", "--pid", str(pid)]
    command += ["--subprocesses", "--threads", "--rate", str(RATE), "--format", "raw"]
    command += ["--nonblocking", "--output", str(raw)] + (["--idle"] if waiting else [])
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
