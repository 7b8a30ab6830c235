# SPDX-License-Identifier: Apache-2.0
"""Rows 24 to 26: bytes that change where they lie, files that vanish, a mirror that loses a leg."""

import contextlib
import subprocess  # noqa: TID251 - btrfs's own tool
from collections.abc import Generator
from pathlib import Path

from fault_disks import forget_caches
from fault_objects import Made, data_set_digest_of
from fault_run import IO_ERROR, Rig, Row, Timing, briefly, like

Fault = Generator[None, None, None]
FLIPPED = 50
# A repair keeps the bad file aside; what is measured is what readers get meanwhile.
BARS = like(IO_ERROR, next_ack_s=None, alert_s=None)


def _chosen(rig: Rig, count: int) -> list[tuple[Made, Path]]:
    """Choose so many acknowledged objects that stand on the data volume and on the backup."""
    chosen: list[tuple[Made, Path]] = []

    def choose() -> bool:
        chosen[:] = [
            (made, _place(rig.data.path, made))
            for made in sorted(rig.ledger.entries.values(), key=lambda made: made.uid)
            if _place(rig.data.path, made).exists() and _place(rig.backup.path, made).exists()
        ]
        return len(chosen) >= count

    rig.until(choose, 60, f"{count} images on both volumes")
    return rig.chance.sample(chosen, count)


def _place(volume: Path, made: Made) -> Path:
    return volume / "studies" / made.study / made.series / f"{made.uid}.dcm"


def _flip(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 0x10]))


def _whole(made: Made, path: Path) -> bool:
    return path.exists() and data_set_digest_of(path.read_bytes()) == made.digest


def _read_some(rig: Rig, hurt: list[tuple[Made, Path]]) -> None:
    wrong = [
        made.uid
        for number, (made, _) in enumerate(hurt)
        if data_set_digest_of(rig.load.fetch(made, number)) != made.digest
    ]
    rig.check("reads of the bad ones are right", not wrong, wrong[:3])


def _bits_flip(rig: Rig) -> Fault:
    hurt = _chosen(rig, FLIPPED)
    for made, path in hurt:
        _flip(path, rig.chance.randrange(path.stat().st_size // 2, path.stat().st_size))
        assert not _whole(made, path)
    forget_caches()
    _read_some(rig, hurt[:10])
    yield
    report = rig.box.ask("verify")
    repaired = sum(1 for made, path in hurt if _whole(made, path))
    rig.check(
        f"{FLIPPED} of {FLIPPED} are found and repaired", repaired == FLIPPED,
        f"{repaired}; verify: {report['copies_bad']} bad, {report['repaired']} repaired",
    )  # fmt: skip


def _files_are_hurt(rig: Rig) -> Fault:
    hurt = _chosen(rig, 30)
    for number, (_, path) in enumerate(hurt):
        if number % 3 == 0:
            with path.open("r+b") as file:
                file.truncate(path.stat().st_size // 3)
        elif number % 3 == 1:
            path.write_bytes(bytes(path.stat().st_size))
        else:
            path.unlink()
    aliens = [
        rig.data.path / "studies" / "holiday.dcm",
        rig.data.path / "studies" / hurt[0][0].study / "Thumbs.db",
    ]
    for alien in aliens:
        alien.write_bytes(b"nothing of ours")
    forget_caches()
    _read_some(rig, hurt[:9])
    yield
    rig.box.ask("verify")
    rig.box.ask("reconcile", "--fix")
    with contextlib.suppress(AssertionError):  # the check says how far it came
        rig.until(lambda: all(_whole(*each) for each in hurt), 60, "repairs that were owed")
    repaired = sum(1 for made, path in hurt if _whole(made, path))
    rig.check("30 of 30 are repaired", repaired == 30, repaired)
    for alien in aliens:
        kept = alien.exists() or any(rig.data.path.rglob(f"*{alien.name}*"))
        rig.check(f"{alien.name} was not deleted", kept)
        alien.unlink(missing_ok=True)


def _leg_dies(rig: Rig) -> Fault:
    rig.data.leg_dies()
    yield
    rig.check("the volume stays in service", rig.state() == "online", rig.states_since(rig.fault_s))
    rig.stop_daemon()
    rig.data.leg_back()
    done = subprocess.run(
        ["btrfs", "scrub", "start", "-B", str(rig.data.path)],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    rig.check("the mirror mends itself", not done.returncode, done.stdout[-200:] + done.stderr)
    subprocess.run(
        ["btrfs", "device", "stats", "-z", str(rig.data.path)], check=False, capture_output=True
    )
    rig.restart()


ROWS = (
    Row(
        number="24", name=f"bits flip in {FLIPPED} objects of the data volume",
        break_it=_bits_flip, bars=BARS, timing=Timing(fault_s=15), short=briefly(5),
    ),
    Row(
        number="25", name="objects are cut short, zeroed and deleted; files of others appear",
        break_it=_files_are_hurt, bars=BARS, timing=Timing(fault_s=15),
    ),
    Row(
        number="26", name="a leg of the mirror under the data volume dies", break_it=_leg_dies,
        disks={"data": "btrfs@raid1", "backup1": "xfs"}, timing=Timing(fault_s=20),
        bars=like(
            IO_ERROR, reads_pct=99.0, alerts=("raid-degraded",), alert_s=None
        ),
    ),
)  # fmt: skip
