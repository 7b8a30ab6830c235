# SPDX-License-Identifier: Apache-2.0
"""Rows 42, 52 and 54: the cable, the settings, the disk of the audit trail."""

import contextlib
import json
import subprocess  # noqa: TID251 - ip, tc and a real sender
import time
from collections.abc import Generator, Iterator
from pathlib import Path

from fault_load import ANSWER
from fault_run import IO_ERROR, Rig, Row, Timing, like
from loopfs import sh
from running_box import STORESCU

Fault = Generator[None, None, None]
HERE, THERE = "10.213.77.1", "10.213.77.2"  # inside a namespace of the row's own
LINK_CUT_S = 12.0


@contextlib.contextmanager
def _far_away(rate: str) -> Iterator[tuple[str, str]]:
    """A place behind a slow link: the name of its namespace and of our end of the cable."""
    space, near, far = "scrigno-faults", "scrigno-near", "scrigno-far"
    sh("ip", "netns", "del", space, check=False)
    sh("ip", "netns", "add", space)
    try:
        sh("ip", "link", "add", near, "type", "veth", "peer", "name", far)
        sh("ip", "link", "set", far, "netns", space)
        sh("ip", "addr", "add", f"{HERE}/30", "dev", near)
        sh("ip", "link", "set", near, "up")
        sh("ip", "netns", "exec", space, "ip", "addr", "add", f"{THERE}/30", "dev", far)
        sh("ip", "netns", "exec", space, "ip", "link", "set", far, "up")
        sh(
            "ip", "netns", "exec", space, "tc", "qdisc", "add", "dev", far, "root",
            "tbf", "rate", rate, "burst", "32kbit", "latency", "400ms",
        )  # fmt: skip
        yield space, near
    finally:
        sh("ip", "link", "del", near, check=False)
        sh("ip", "netns", "del", space, check=False)


def _cable_is_pulled(rig: Rig) -> Fault:
    """In the middle of an object; it goes on when the cable is back (TCP resends)."""
    study = rig.load.maker.new_study()
    objects = [rig.load.maker.make(kind, study) for kind in ("large", "small", "large")]
    with _far_away("8mbit") as (space, near):
        sender = subprocess.Popen(
            [
                "ip", "netns", "exec", space, STORESCU, "-v", "-aet", "FARAWAY", "-aec", "SCRIGNO",
                HERE, str(rig.box.dicom_port), *(str(made.path) for made in objects),
            ],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        rig.wait(3)
        sh("ip", "link", "set", near, "down")
        rig.wait(LINK_CUT_S)
        sh("ip", "link", "set", near, "up")
        output, _ = sender.communicate(timeout=120)
        answers = ANSWER.findall(output)
        for made in objects[: answers.count("Success")]:
            rig.ledger.acknowledge(made)
        rig.check("all three arrive all the same", answers == ["Success"] * 3, answers)
        last = rig.load.maker.make("large", study)
        sender = subprocess.Popen(
            [
                "ip", "netns", "exec", space, STORESCU, "-aet", "FARAWAY", "-aec", "SCRIGNO",
                HERE, str(rig.box.dicom_port), str(last.path),
            ],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        rig.wait(2)
    sender.kill()  # the far end is gone for good, and says nothing
    sender.wait()
    yield
    stands = [p for d in rig.disks.values() for p in (d.path / "studies").rglob(f"{last.uid}*")]
    rig.check("of what was cut off nothing stands", not stands, stands)


def _settings_torn(rig: Rig) -> Fault:
    """The newest revision of the settings was torn."""
    rig.stop_daemon()
    folder = rig.root / "state" / "settings"
    (newest,) = sorted(folder.glob("*.yaml"))[-1:]
    number = int(newest.stem) + 1
    torn = newest.read_bytes()[: newest.stat().st_size // 2]
    (folder / f"{number:06}.yaml").write_bytes(torn)
    rig.fault_s = time.monotonic()
    rig.restart()
    since = time.monotonic()
    rig.until(lambda: rig.acknowledged_since(since), 30, "images by the last good settings")
    yield
    aside = folder / f"{number:06}.yaml.damaged"
    rig.check("the torn revision is kept aside", aside.exists() and aside.read_bytes() == torn)
    reverted = rig.box.cli("config", "revert", newest.stem.lstrip("0"))  # the operator confirms
    rig.check("the operator confirms the settings", not reverted.returncode, reverted.stderr)


def _memory_of_volumes_torn(rig: Rig) -> Fault:
    """Both copies of it: what is left are the markers of the disks, and the index."""
    rig.stop_daemon()
    paths = [rig.root / "state" / name for name in ("volumes.json", "volumes.copy.json")]
    markers = [disk.path / ".scrigno-volume.json" for disk in (rig.data, rig.backup)]
    before = [json.loads(path.read_text())["uuid"] for path in markers]
    for path in paths:
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    rig.fault_s = time.monotonic()
    rig.restart()
    since = time.monotonic()
    rig.until(lambda: rig.acknowledged_since(since), 30, "images without the memory")
    rig.until(
        lambda: [v["state"] for v in rig.volumes()] == ["online"] * 2, 30, "both volumes online"
    )
    yield
    for path in paths:
        rig.check(f"{path.name} is whole again", json.loads(path.read_text()).get("owner"))
        rig.check("the torn one is kept", path.with_name(f"{path.name}.damaged").exists())
    after = [json.loads(path.read_text())["uuid"] for path in markers]
    rig.check("the disks are the same volumes", after == before, (before, after))
    rig.stop_daemon()
    rig.restart()  # then it is no news any more


def _audit_disk_full(rig: Rig) -> Fault:
    folder = rig.root / "state" / "audit"
    rig.stop_daemon()
    sh("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder))
    try:
        _fill(folder / "ballast")
        rig.fault_s = time.monotonic()
        rig.restart()
        since = time.monotonic()
        rig.until(lambda: rig.acknowledged_since(since), 30, "images without an audit trail")
        rig.login()
        yield
        (folder / "ballast").unlink()
        rig.login()
        rig.wait(10)
        rig.stop_daemon()
    finally:
        sh("umount", "-l", str(folder), check=False)
    rig.restart()


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"\0" * 4096)


ANEW = "the row starts the daemon anew; who asks meanwhile is not counted"
ROWS = (
    Row(
        number="42", name="a slow link, cut for twelve seconds, then for good",
        break_it=_cable_is_pulled, timing=Timing(fault_s=0), bars=like(IO_ERROR, alert_s=None),
    ),
    Row(
        number="52a", name="the newest settings are torn", break_it=_settings_torn, note=ANEW,
        bars=like(IO_ERROR, next_ack_s=None, alerts=("settings-damaged",)),
    ),
    Row(
        number="52b", name="the memory of the volumes is torn", break_it=_memory_of_volumes_torn,
        note=ANEW, bars=like(IO_ERROR, next_ack_s=None, alerts=("settings-damaged",)),
    ),
    Row(
        number="54a", name="the disk of the audit trail is full", break_it=_audit_disk_full,
        note=ANEW, bars=like(IO_ERROR, next_ack_s=None, alerts=("audit-write-failed",)),
    ),
)  # fmt: skip
