# SPDX-License-Identifier: Apache-2.0
"""A run that is killed leaves no mount, loop device or process behind on the machine."""

import os
import signal
import subprocess  # noqa: TID251 - a test run that is killed
import sys
import time
from pathlib import Path

import pytest

from fault_disks import left_behind
from loopfs import need_loop, sh

RUN = """
import sys, time
from pathlib import Path
from fault_disks import Disk
folder = Path(sys.argv[1])
disk = Disk(folder, "data", sys.argv[2], size=1 << 27)
{more}
print("made", flush=True)
time.sleep(600)
"""


def loops(below: str) -> dict[str, str]:
    """Return the loop devices whose file lies below a folder, with the number of that file."""
    rows = (
        line.split()
        for line in sh("losetup", "-l", "-n", "-O", "NAME,BACK-INO,BACK-FILE").splitlines()
    )
    return {row[0]: row[1] for row in rows if len(row) > 2 and row[2].startswith(below)}


@pytest.mark.parametrize(
    ("medium", "more"), [("ext4", ""), ("ext4", "disk.freeze()"), ("ext4@fuse", "disk.hang()")]
)
def test_a_run_that_is_killed_leaves_nothing_behind(tmp_path: Path, medium: str, more: str) -> None:
    need_loop()
    folder = tmp_path / "run"
    folder.mkdir()
    paths = os.pathsep.join(path for path in sys.path if "/tests/" in path)
    run = subprocess.Popen(
        [sys.executable, "-c", RUN.replace("{more}", more), str(folder), medium],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": paths},
        start_new_session=True,
    )
    try:
        assert run.stdout is not None
        assert run.stdout.readline() == b"made\n"
        mine = loops(str(folder))
        assert mine
    finally:
        os.killpg(run.pid, signal.SIGKILL)
        run.communicate(timeout=30)
    end = time.monotonic() + 120
    while left_behind(folder) or mine.items() & loops("").items():
        assert time.monotonic() < end, (left_behind(folder), mine)
        time.sleep(0.1)
