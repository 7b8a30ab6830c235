# SPDX-License-Identifier: Apache-2.0
"""Rows 15 and 16: the disk that every image passes."""

from collections.abc import Generator

from fault_disks import GIB
from fault_run import HANG, IO_ERROR, Rig, Row, Timing, briefly, like

Fault = Generator[None, None, None]
WITH_STAGING = {"data": "ext4", "backup1": "xfs", "staging": "ext4"}


def _repaired(rig: Rig) -> None:
    """Stop the box, mend its system disk, start it: what an engineer does."""
    rig.stop_daemon()
    rig.disks["staging"].revive()
    rig.restart()


def _full(rig: Rig) -> Fault:
    rig.disks["staging"].fill()
    yield
    rig.disks["staging"].make_room()


def _dies(rig: Rig) -> Fault:
    rig.disks["staging"].die(2)
    yield
    _repaired(rig)


def _hangs(rig: Rig) -> Fault:
    rig.disks["staging"].hang()
    yield
    rig.disks["staging"].go_on()


def _dies_with_debts(rig: Rig) -> Fault:
    """The backup is away, so staging holds what data alone has; then staging dies."""
    rig.backup.die(2)
    rig.wait(rig.timing.fault_s / 2)
    owed = sum(volume["objects_owed"] for volume in rig.volumes())
    rig.check("the backup is owed images", owed > 0, owed)
    rig.disks["staging"].die(2)
    yield
    _repaired(rig)
    rig.backup.revive()


ROWS = (
    Row(
        number="15a", name="staging is full", break_it=_full, disks=WITH_STAGING,
        disk_options={"staging": {"size": 2 * GIB}}, target="staging",
        bars=like(IO_ERROR, reads_pct=99.0),
    ),
    Row(
        number="15b", name="staging dies", break_it=_dies, disks=WITH_STAGING, target="staging",
        bars=like(IO_ERROR, alerts=("staging-failed",)), short=briefly(6),
    ),
    Row(
        number="15c", name="staging hangs", break_it=_hangs, target="staging",
        disks={"data": "ext4", "backup1": "xfs", "staging": "ext4@fuse"},
        timing=Timing(fault_s=20), bars=like(HANG, detect_s=None, alerts=("staging-failed",)),
    ),
    Row(
        number="16", name="staging dies with images that only it and data have",
        break_it=_dies_with_debts, disks=WITH_STAGING, target="backup1",
        timing=Timing(fault_s=16), bars=like(IO_ERROR, alerts=("volume-offline",)),
    ),
)  # fmt: skip
