# SPDX-License-Identifier: Apache-2.0
"""The machine this runs on, machines rebuilt from captures, and tools that are absent or hang."""

import asyncio
import os
import subprocess  # noqa: TID251 - a whole process must end
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from scrigno.host.arrays import ArrayHealth, ArrayKind
from scrigno.host.blockdevices import BlockTree, DiskId
from scrigno.host.facts import NotAvailable
from scrigno.host.linux_machine import LinuxMachine
from scrigno.host.process import CommandNotFound, CommandTimeout, Completed
from scrigno.host.smart import Smart
from scrigno.host.topology import Topology

Sysfs = Callable[[str], Path]
Capture = Callable[[str], str]


class Tools:
    """Stands where tools are run: answers by program name, else it is not installed."""

    def __init__(self, **answers: Completed | Exception) -> None:
        self.answers = answers
        self.asked: list[tuple[str, ...]] = []

    async def __call__(self, argv: Sequence[str], timeout_s: float) -> Completed:
        assert 0 < timeout_s <= 60
        self.asked.append(tuple(argv))
        answer = self.answers.get(argv[0], CommandNotFound(f"{argv[0]}: cannot be started"))
        if isinstance(answer, Exception):
            raise answer
        return answer


def _said(stdout: str, *, stderr: str = "", code: int = 0) -> Completed:
    return Completed(argv=("x",), returncode=code, stdout=stdout.encode(), stderr=stderr.encode())


@pytest.fixture
def here() -> LinuxMachine:
    return LinuxMachine()


def _machine(root: Path, tools: Tools, *, read_timeout_s: float = 5) -> LinuxMachine:
    return LinuxMachine(root=root.parent, runner=tools, read_timeout_s=read_timeout_s)


async def test_everything_can_be_asked_here_and_nothing_raises(here: LinuxMachine) -> None:
    tree = await here.block_tree()
    assert isinstance(tree, BlockTree)
    assert isinstance(await here.io_counters(), dict)
    assert isinstance(await here.mounts(), tuple)
    assert isinstance(await here.file_systems(), tuple)
    assert isinstance((await here.arrays()).found, tuple)
    assert isinstance(await here.temperatures(), tuple)
    assert isinstance(await here.topology({"data": Path("/")}), Topology)
    assert not isinstance(await here.clock(), NotAvailable)
    for disk in tree.disks():
        assert disk.disk is not None
        assert isinstance(await here.smart(disk.disk), Smart | NotAvailable)


@pytest.mark.spec("AD-11")
async def test_an_absent_tool_is_an_answer_with_its_reason(sysfs: Sysfs) -> None:
    machine = _machine(sysfs("bare"), Tools())
    answer = await machine.smart(DiskId("wwn:naa.5000c50000000a01"))
    assert isinstance(answer, NotAvailable)
    assert (answer.source, "cannot be started" in answer.reason) == ("smartctl", True)
    ups = await machine.ups("ups@localhost")
    assert isinstance(ups, NotAvailable)
    gone = await machine.smart(DiskId("wwn:nobody"))
    assert isinstance(gone, NotAvailable)
    assert "no disk" in gone.reason
    assert (await machine.arrays()).unknown == {}  # no LVM and no ZFS in use: nothing to miss


@pytest.mark.spec("AD-11")
async def test_smart_asks_the_disk_by_its_letter_of_the_moment(
    sysfs: Sysfs, capture: Capture
) -> None:
    tools = Tools(smartctl=_said(capture("smartctl-7.3-qemu-ata.json"), code=4))
    machine = _machine(sysfs("bare"), tools)
    answer = await machine.smart(DiskId("wwn:naa.5000c500000000f1"))
    assert isinstance(answer, Smart)
    assert answer.serial == "SATADISK01"
    assert tools.asked == [("smartctl", "--json=c", "-x", "-n", "standby,3", "/dev/sdf")]


@pytest.mark.spec("ST-4")
async def test_volumes_that_lvm_cannot_be_asked_about_are_unknown_and_not_missing(
    sysfs: Sysfs,
) -> None:
    root = sysfs("lvm")
    table = root.parent / "proc/self/mountinfo"
    table.parent.mkdir(parents=True)
    table.write_text("1 1 0:2 / / rw - rootfs rootfs rw\n")
    for answer in (CommandTimeout("lvs: no end"), CommandNotFound("lvs: none"), _said("", code=5)):
        machine = _machine(root, Tools(lvs=answer))
        assert set((await machine.arrays()).unknown) == {ArrayKind.LVM}
        seen = await machine.topology({})
        assert isinstance(seen, Topology)
        assert seen.unasked == {ArrayKind.LVM}


@pytest.mark.spec("ST-4")
async def test_the_uuid_of_an_inactive_array_comes_from_mdadm(
    sysfs: Sysfs, capture: Capture
) -> None:
    tools = Tools(mdadm=_said(capture("mdadm-4.2-detail-export-md-inactive.txt")))
    machine = _machine(sysfs("md-inactive"), tools)
    (array,) = (await machine.arrays()).found
    assert (array.uuid, array.health) == (
        "e6148f44f450698e2f9fcc5bec6c7cac",
        ArrayHealth.INACTIVE,
    )
    assert ("mdadm", "--detail", "--export", "/dev/md127") in tools.asked


async def test_older_zfs_is_asked_in_its_own_form(sysfs: Sysfs, capture: Capture) -> None:
    class OldZfs(Tools):
        async def __call__(self, argv: Sequence[str], timeout_s: float) -> Completed:
            if "-j" in argv:
                return _said("", stderr="invalid option 'j'\nusage:\n", code=2)
            return await super().__call__(argv, timeout_s)

    root = sysfs("bare")
    (root / "module/zfs").mkdir(parents=True)
    tools = OldZfs(zpool=_said(capture("zpool-written-2.1-degraded.txt")))
    machine = _machine(root, tools)
    assert [array.name for array in (await machine.arrays()).found] == ["tank", "other"]


async def test_the_reason_of_a_tool_is_passed_on(sysfs: Sysfs) -> None:
    tools = Tools(upsc=_said("", stderr="Init SSL\nError: Driver not connected\n", code=1))
    machine = _machine(sysfs("bare"), tools)
    answer = await machine.ups("ups@localhost")
    assert answer == NotAvailable(source="upsc", reason="Error: Driver not connected")
    for name in ("-h", "a b", "ups@host;rm", ""):
        assert isinstance(await machine.ups(name), NotAvailable)
    assert tools.asked == [("upsc", "ups@localhost")]


@pytest.mark.timing
async def test_a_read_that_hangs_is_left_behind_and_the_next_is_refused_at_once(
    sysfs: Sysfs,
) -> None:
    root = sysfs("bare")
    sensor = root / "class/hwmon/hwmon0/temp1_input"
    sensor.unlink()
    os.mkfifo(sensor)  # opening it waits, as reading a sensor of a hung disk does
    machine = _machine(root, Tools(), read_timeout_s=0.2)
    try:
        first = await machine.temperatures()
        assert first == NotAvailable(source="hwmon", reason="no answer in 0.2 s")
        started = time.monotonic()
        second = await machine.temperatures()
        assert isinstance(second, NotAvailable)
        assert "have not come back" in second.reason
        assert time.monotonic() - started < 0.1
        assert isinstance(await machine.block_tree(), BlockTree)  # the others go on
    finally:
        os.close(os.open(sensor, os.O_RDWR))  # the disk comes back
    sensor.unlink()
    sensor.write_text("40000\n")
    for _ in range(100):
        answer = await machine.temperatures()
        if isinstance(answer, tuple):
            break
        await asyncio.sleep(0.02)
    assert isinstance(answer, tuple)
    assert [one.current_c for one in answer] == [40.0]


async def test_a_machine_without_a_sysfs_has_nothing_and_says_why(tmp_path: Path) -> None:
    machine = LinuxMachine(root=tmp_path, runner=Tools())
    assert await machine.block_tree() == BlockTree(devices={})
    assert isinstance(await machine.mounts(), NotAvailable)
    assert isinstance(await machine.topology({}), NotAvailable)
    assert (await machine.arrays()).found == ()


def test_a_read_that_never_returns_does_not_keep_the_daemon_from_ending(sysfs: Sysfs) -> None:
    root = sysfs("bare")
    sensor = root / "class/hwmon/hwmon0/temp1_input"
    sensor.unlink()
    os.mkfifo(sensor)
    script = textwrap.dedent(f"""
        import asyncio
        from pathlib import Path
        from scrigno.host.linux_machine import LinuxMachine

        async def main():
            machine = LinuxMachine(root=Path({str(root.parent)!r}), read_timeout_s=0.2)
            print(await machine.temperatures())

        asyncio.run(main())
    """)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, timeout=20, text=True, check=True
    )
    assert "no answer in 0.2 s" in done.stdout
    assert done.stderr == ""
