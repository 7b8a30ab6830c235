# SPDX-License-Identifier: Apache-2.0
"""A whole archive on two folders, and objects to put into it."""

import asyncio
import hashlib
import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from scrigno.archive.backups import BackupRules, IndexBackups
from scrigno.archive.importer import Importer
from scrigno.archive.inbox import Inbox
from scrigno.archive.index_state import KeeperTiming
from scrigno.archive.indexkeeper import IndexKeeper
from scrigno.archive.ingest import Ingest, IngestRules, Receipt, Reception
from scrigno.archive.mend import Mender
from scrigno.archive.quarantine import Quarantine
from scrigno.archive.rebuild import Rebuilder
from scrigno.archive.recent_copies import RecentCopies
from scrigno.archive.reconcile import Reconciler
from scrigno.archive.recovery import Recovery
from scrigno.archive.replicate import Replicator
from scrigno.archive.retrieve import Retrieval
from scrigno.archive.scrub import Scrubber, ScrubRules
from scrigno.archive.taking import Taking
from scrigno.archive.verify import Verifier
from scrigno.catalogue.catalogue import Catalogue
from scrigno.catalogue.records import Origin
from scrigno.core.clock import SystemClock
from scrigno.core.counters import Counters
from scrigno.core.events import Event, EventBus, InstanceHeld, InstanceStored
from scrigno.imaging.part10 import file_prefix
from scrigno.volumes.placement import IngestPolicy, Placement
from scrigno.volumes.staging import Staging
from scrigno.volumes.states import Role, VolumeSpec
from scrigno.volumes.volume import Volumes
from scrigno.volumes.warden import Timing

EXPLICIT_LE = "1.2.840.10008.1.2.1"
IMPLICIT_LE = "1.2.840.10008.1.2"
CT = "1.2.840.10008.5.1.4.1.1.2"
QUICK = Timing(
    probe_every_s=0.5,
    fresh_write_s=0.2,
    retry_s=0.1,
    retry_most_s=0.3,
    proof_every_s=0.1,
    hold_s=0.3,
)
PATIENCE = 3
MODALITY = Origin(door="dicom", calling_ae="CT1", called_ae="SCRIGNO", address="127.0.0.1")


@dataclass(frozen=True)
class Made:
    """An object as a modality sends it."""

    study: str
    series: str
    uid: str
    data: bytes  # the data set
    transfer_syntax: str = EXPLICIT_LE
    sop_class: str = CT

    @property
    def file(self) -> bytes:
        """The file that the archive makes of it."""
        prefix = file_prefix(
            sop_class_uid=self.sop_class,
            sop_instance_uid=self.uid,
            transfer_syntax_uid=self.transfer_syntax,
        )
        return prefix + self.data

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.file).hexdigest()

    @property
    def key(self) -> str:
        return f"studies/{self.study}/{self.series}/{self.uid}.dcm"


def encoded(dataset: Dataset, *, implicit: bool = False) -> bytes:
    """Return a data set as bytes, little endian."""
    out = DicomBytesIO()
    out.is_little_endian = True
    out.is_implicit_VR = implicit
    write_dataset(out, dataset)
    return out.getvalue()


def dataset(number: int = 1, *, study: int = 1, pixels: int = 64, **changes: Any) -> Dataset:
    """Return a small CT image; equal arguments give equal bytes."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.SOPClassUID = CT
    ds.SOPInstanceUID = f"1.2.826.0.1.{study}.7.{number}"
    ds.StudyDate = "20260102"
    ds.StudyTime = "101112"
    ds.AccessionNumber = f"A{study}"
    ds.Modality = "CT"
    ds.StudyDescription = "Thorax"
    ds.SeriesDescription = "Axial"
    ds.PatientName = "Rossi^Anna"
    ds.PatientID = f"P{study}"
    ds.PatientBirthDate = "19700101"
    ds.PatientSex = "F"
    ds.StudyInstanceUID = f"1.2.826.0.1.{study}"
    ds.SeriesInstanceUID = f"1.2.826.0.1.{study}.7"
    ds.StudyID = "1"
    ds.SeriesNumber = 7
    ds.InstanceNumber = number
    ds.Rows = 8
    ds.Columns = 4
    ds.BitsAllocated = 16
    ds.PixelData = struct.pack("<I", number) * (pixels // 4)
    ds["PixelData"].VR = "OW"
    for keyword, value in changes.items():
        if value is None:
            delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)
    return ds


def made(number: int = 1, *, study: int = 1, **changes: Any) -> Made:
    """Return an object as a modality sends it."""
    ds = dataset(number, study=study, **changes)
    return Made(
        study=str(ds.get("StudyInstanceUID", "")),
        series=str(ds.get("SeriesInstanceUID", "")),
        uid=str(ds.SOPInstanceUID),
        data=encoded(ds),
    )


@dataclass
class Box:
    """Everything of an archive that a test may want to touch."""

    root: Path
    rules: IngestRules = field(
        default_factory=lambda: IngestRules(max_object_bytes=64 << 20, ack_copies=2)
    )
    names: tuple[str, ...] = ("data", "backup1")
    replicating: bool = False
    keeping: bool = False  # the index is opened and looked after by its keeper
    staging_capacity: int = 256 << 20
    recovery_retry_s: float = 0.2
    events: list[Event] = field(default_factory=list)
    scrub_rules: ScrubRules = field(default_factory=lambda: ScrubRules(max_bytes_per_s=1 << 40))

    async def open(self) -> "Box":
        for folder in ("state", "staging", *self.names):
            (self.root / folder).mkdir(exist_ok=True, parents=True)
        self.counters, self.bus, self.clock = Counters(), EventBus(), SystemClock()
        for kind in (InstanceStored, InstanceHeld):
            self.bus.subscribe(kind, self.events.append)
        self.staging = Staging(
            self.root / "staging",
            capacity_bytes=self.staging_capacity,
            counters=self.counters,
            high_water_bytes=1 << 18,
        )
        await self.staging.open()
        self.volumes = Volumes(
            [
                VolumeSpec(
                    name=name,
                    role=Role.BACKUP if number else Role.DATA,
                    path=self.root / name,
                )
                for number, name in enumerate(self.names)
            ],
            state_dir=self.root / "state",
            counters=self.counters,
            bus=self.bus,
            clock=self.clock,
            timing=QUICK,
        )
        await self.volumes.start()
        self.catalogue = Catalogue(
            self.root / "state" / "index.db",
            counters=self.counters,
            clock=self.clock,
            max_studies=lambda: self.rules.max_studies,
        )
        if not self.keeping:
            await self.catalogue.open()
        self._compose()
        if self.keeping:
            await self.keeper.open()
            self.recovery.start()
            self.keeper.start()
        return self

    def _compose(self) -> None:
        self.placement = Placement(
            self.staging,
            self.volumes,
            lambda: IngestPolicy(ack_copies=self.rules.ack_copies, count_shared_device=True),
        )
        self.taking = Taking(
            staging=self.staging,
            volumes=self.volumes,
            catalogue=self.catalogue,
            rules=lambda: self.rules,
            bus=self.bus,
            counters=self.counters,
        )
        self.ingest = Ingest(
            staging=self.staging,
            placement=self.placement,
            taking=self.taking,
            rules=lambda: self.rules,
            counters=self.counters,
            clock=self.clock,
        )
        self.recovery = Recovery(
            staging=self.staging,
            volumes=self.volumes,
            catalogue=self.catalogue,
            taking=self.taking,
            counters=self.counters,
            clock=self.clock,
            retry_s=self.recovery_retry_s,
        )
        self.replicator = Replicator(
            catalogue=self.catalogue,
            volumes=self.volumes,
            staging=self.staging,
            placement=self.placement,
            rules=lambda: self.rules,
            bus=self.bus,
            counters=self.counters,
            staging_capacity_bytes=self.staging_capacity,
            turn=self.taking.turn,
            recent=RecentCopies(self.clock, self.root / "state" / "recent-copies"),
        )
        self.taking.doubted = self.replicator.doubted
        if self.replicating:
            self.taking.on_debt = self.replicator.nudge
            self.replicator.start()
        self.retrieval = Retrieval(
            volumes=self.volumes,
            staging=self.staging,
            counters=self.counters,
            anew=self.catalogue.instance,
        )
        self.mender = Mender(
            catalogue=self.catalogue,
            volumes=self.volumes,
            placement=self.placement,
            counters=self.counters,
            clock=self.clock,
            bus=self.bus,
            turn=self.taking.turn,
            settle_s=2,
        )
        self.verifier = Verifier(
            catalogue=self.catalogue,
            mender=self.mender,
            counters=self.counters,
            clock=self.clock,
        )
        self.quarantine = Quarantine(
            catalogue=self.catalogue,
            volumes=self.volumes,
            counters=self.counters,
            clock=self.clock,
            is_good=self.mender.has_good_copy,
        )
        self.scrubber = Scrubber(
            catalogue=self.catalogue,
            volumes=self.volumes,
            mender=self.mender,
            quarantine=self.quarantine,
            rules=lambda: self.scrub_rules,
            counters=self.counters,
            clock=self.clock,
            bus=self.bus,
            start_delay_s=0,
            poll_s=0.05,
            second_look_s=0.05,
            pause_mark=self.root / "state" / "scrub-paused",
        )
        self.rebuilder = Rebuilder(
            catalogue=self.catalogue,
            volumes=self.volumes,
            rules=lambda: self.rules,
            counters=self.counters,
            clock=self.clock,
            on_debt=self.replicator.nudge,
        )
        self.reconciler = Reconciler(
            catalogue=self.catalogue,
            volumes=self.volumes,
            rebuilder=self.rebuilder,
            on_debt=self.replicator.nudge,
            turn=self.taking.turn,
            suspect=self.verifier.suspect,
            second_look_s=0.05,
        )
        self.backups = IndexBackups(
            catalogue=self.catalogue,
            volumes=self.volumes,
            work_dir=self.root / "state",
            counters=self.counters,
            clock=self.clock,
            rules=lambda: BackupRules(last=2, daily=0, weekly=0),
        )
        self.keeper = IndexKeeper(
            catalogue=self.catalogue,
            path=self.root / "state" / "index.db",
            volumes=self.volumes,
            staging=self.staging,
            backups=self.backups,
            rebuilder=self.rebuilder,
            reconciler=self.reconciler,
            recovery=self.recovery,
            counters=self.counters,
            clock=self.clock,
            bus=self.bus,
            replaced=(self.taking.forget_studies, self.scrubber.reload, self.replicator.reload),
            timing=KeeperTiming(poll_s=0.1, check_pause_s=0.001),
        )
        self.inbox = Inbox(
            catalogue=self.catalogue,
            volumes=self.volumes,
            staging=self.staging,
            ingest=self.ingest,
            retrieval=self.retrieval,
            turn=self.taking.turn,
        )
        self.importer = Importer(self.ingest)

    async def close(self) -> None:
        await self.scrubber.close()
        await self.ingest.close(2)
        await self.recovery.close()
        await self.replicator.close()
        await self.backups.close()
        await self.keeper.close()
        self.taking.close()
        await self.catalogue.close()
        await self.volumes.close()
        await self.staging.close()

    async def reopened(self) -> None:
        """Stop in order and start again on the same folders."""
        await self.close()
        await self.open()

    def begin(self, one: Made, **changes: Any) -> Reception:
        arguments = {
            "origin": MODALITY,
            "sop_class_uid": one.sop_class,
            "sop_instance_uid": one.uid,
            "transfer_syntax_uid": one.transfer_syntax,
        } | changes
        return self.ingest.begin(**arguments)

    async def store(self, one: Made, **changes: Any) -> Receipt:
        """Send an object as a modality does, in PDU-sized fragments."""
        reception = self.begin(one, **changes)
        view = memoryview(one.data)
        for place in range(0, len(view), 16_000):
            if not reception.write(view[place : place + 16_000]):
                drained = asyncio.Event()
                reception.on_drain = drained.set
                await drained.wait()
        return await reception.commit()

    def on(self, volume: str, prefix: str = "") -> dict[str, bytes]:
        """Return key and content of every file of ours on a volume."""
        root = self.root / volume
        return {
            str(path.relative_to(root)): path.read_bytes()
            for path in sorted(root.rglob("*"))
            if path.is_file()
            and not str(path.relative_to(root)).startswith(".")
            and str(path.relative_to(root)).startswith(prefix)
        }

    def set_aside(self, volume: str) -> list[bytes]:
        """Return what was set aside on a volume, without the notes about it."""
        displaced = self.on(volume, "displaced")
        return [content for key, content in displaced.items() if key.endswith(".dcm")]

    async def staged(self) -> int:
        """How many objects stand in staging."""
        return len(await self.staging.journal())

    async def until(self, condition: Callable[[], Any], timeout_s: float = 10) -> None:
        """Wait until `condition`, which may be a coroutine function, holds.

        The limit tells a hang and is no bar: a busy machine is given three times as long.
        """
        async with asyncio.timeout(PATIENCE * timeout_s):
            while True:
                holds = condition()
                if asyncio.iscoroutine(holds):
                    holds = await holds
                if holds:
                    return
                await asyncio.sleep(0.02)

    def refused(self, code: str) -> float:
        return self.counters.value("ingest_refused_objects", code=code)

    def change(self, **changes: Any) -> None:
        self.rules = replace(self.rules, **changes)
