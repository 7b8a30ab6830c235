# SPDX-License-Identifier: Apache-2.0
"""A DICOM node with a real archive below it in the test's own process, and peers to ask it."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from ports import free_port
from scrigno.archive.ingest import Ingest
from scrigno.archive.receipts import IngestRules
from scrigno.archive.retrieve import Retrieval
from scrigno.archive.taking import Taking
from scrigno.catalogue.catalogue import Catalogue
from scrigno.core.clock import SystemClock
from scrigno.core.counters import Counters
from scrigno.core.events import Event, EventBus
from scrigno.imaging.workers import ImagingPool
from scrigno.node.outgoing import Outgoing
from scrigno.node.providers import Node
from scrigno.node.remote import RemoteNodes
from scrigno.settings.peers import Peers
from scrigno.settings.schema import (
    IngestSettings,
    LimitSettings,
    Peer,
    Provider,
    Settings,
    Unregistered,
    VolumeRole,
    VolumeSetting,
)
from scrigno.settings.store import SettingsStore
from scrigno.volumes.placement import IngestPolicy, Placement
from scrigno.volumes.staging import Staging
from scrigno.volumes.states import Role, VolumeSpec
from scrigno.volumes.volume import Volumes

AE_TITLE = "SCRIGNO"


@dataclass
class RunningNode:
    """Everything of the node under test."""

    root: Path
    settings: SettingsStore
    peers: Peers
    bus: EventBus
    counters: Counters
    catalogue: Catalogue
    ingest: Ingest
    node: Node
    remote: RemoteNodes
    port: int
    outgoing: Outgoing
    events: list[Event] = field(default_factory=list)

    async def change(self, **values: object) -> None:
        """Put other settings in force and wait until the node does what they say."""
        await self.settings.change(
            lambda settings: replace(settings, **values), author="test", why="test"
        )
        await self.node.settled()

    async def tool(self, name: str, *arguments: str, check: bool = True) -> "Done":
        """Run one of DCMTK's tools against the node."""
        return await run(
            name, "-aec", AE_TITLE, "127.0.0.1", str(self.port), *arguments, check=check
        )

    def stored_file(self, sop_instance_uid: str) -> Path:
        """Return where an object stands on the data volume."""
        (found,) = (self.root / "data" / "studies").glob(f"*/*/{sop_instance_uid}.dcm")
        return found

    async def inbox(self) -> list[str]:
        """Return the reasons of what was kept aside."""
        return [each.item.reason for each in await self.catalogue.inbox_list()]


@dataclass
class Done:
    """A tool that ended."""

    code: int
    output: str


async def run(name: str, *arguments: str, check: bool = True, timeout_s: float = 60) -> Done:
    """Run a tool and return what it printed; `/usr/bin` because .venv/bin holds namesakes."""
    process = await asyncio.create_subprocess_exec(
        f"/usr/bin/{name}",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    )
    try:
        async with asyncio.timeout(timeout_s):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    done = Done(process.returncode or 0, output.decode("utf-8", "replace"))
    if check and done.code:
        raise AssertionError(f"{name} ended with {done.code}:\n{done.output[-3000:]}")
    return done


@asynccontextmanager
async def running_node(
    root: Path,
    *,
    unregistered: Unregistered = Unregistered.ACCEPT,
    peers: Iterable[Peer] = (),
    limits: LimitSettings | None = None,
    default_character_set: str = "",
) -> AsyncIterator[RunningNode]:
    """Run a node on folders below `root`."""
    clock, bus, counters = SystemClock(), EventBus(), Counters()
    port = free_port()
    initial = Settings(
        volumes=(VolumeSetting(name="data", role=VolumeRole.DATA, path=root / "data"),),
        providers=(
            Provider(
                name="Scrigno",
                ae_title=AE_TITLE,
                port=port,
                host="127.0.0.1",
                unregistered=unregistered,
            ),
        ),
        peers=tuple(peers),
        ingest=IngestSettings(ack_copies=1, count_shared_device=True),
        limits=limits or LimitSettings(),
        default_character_set=default_character_set,
    )
    for name in ("state", "staging", "data"):
        (root / name).mkdir(parents=True)
    async with AsyncExitStack() as stack:
        settings = SettingsStore(root / "state", bus=bus, clock=clock)
        await settings.open(initial)
        catalogue = Catalogue(root / "state" / "index.db", counters=counters, clock=clock)
        await catalogue.open()
        stack.push_async_callback(catalogue.close)
        staging = Staging(root / "staging", capacity_bytes=4 << 30, counters=counters)
        await staging.open()
        stack.push_async_callback(staging.close)
        volumes = Volumes(
            [VolumeSpec(name="data", role=Role.DATA, path=root / "data")],
            state_dir=root / "state",
            counters=counters,
            bus=bus,
            clock=clock,
        )
        await volumes.start()
        stack.push_async_callback(volumes.close)

        def rules() -> IngestRules:
            current = settings.current
            return IngestRules(
                max_object_bytes=current.ingest.max_object_bytes,
                ack_copies=current.ingest.ack_copies,
                max_studies=current.limits.max_studies,
                default_character_set=current.default_character_set,
            )

        taking = Taking(
            staging=staging,
            volumes=volumes,
            catalogue=catalogue,
            rules=rules,
            bus=bus,
            counters=counters,
        )
        stack.callback(taking.close)
        placement = Placement(
            staging, volumes, lambda: IngestPolicy(ack_copies=1, count_shared_device=True)
        )
        ingest = Ingest(
            staging=staging,
            placement=placement,
            taking=taking,
            rules=rules,
            counters=counters,
            clock=clock,
        )
        stack.push_async_callback(ingest.close, 5)
        imaging = ImagingPool(1, counters=counters)
        stack.push_async_callback(imaging.close)
        known = Peers(settings, bus=bus, clock=clock)
        retrieval = Retrieval(volumes=volumes, staging=staging, counters=counters)
        node = Node(
            settings=settings,
            peers=known,
            ingest=ingest,
            catalogue=catalogue,
            retrieval=retrieval,
            imaging=imaging,
            bus=bus,
            counters=counters,
            clock=clock,
        )
        await node.start()
        stack.push_async_callback(node.close, 1)
        yield RunningNode(
            root=root,
            settings=settings,
            peers=known,
            bus=bus,
            counters=counters,
            catalogue=catalogue,
            ingest=ingest,
            node=node,
            remote=RemoteNodes(settings, counters=counters, clock=clock),
            port=port,
            outgoing=Outgoing(retrieval, imaging),
        )


def data_set_bytes(path: Path) -> bytes:
    """Return the data set of a Part 10 file, byte for byte, without preamble and file meta."""
    content = path.read_bytes()
    assert content[128:132] == b"DICM", path
    position = 132
    while content[position : position + 2] == b"\x02\0":
        vr = content[position + 4 : position + 6]
        if vr in (b"OB", b"UN", b"OW", b"SQ", b"UT"):
            position += 12 + int.from_bytes(content[position + 8 : position + 12], "little")
        else:
            position += 8 + int.from_bytes(content[position + 6 : position + 8], "little")
    return content[position:]


def encoded(data_set: Dataset, transfer_syntax: str) -> bytes:
    """Return the bytes of a data set as they travel in a C-STORE."""
    stream = DicomBytesIO()
    stream.is_implicit_VR = transfer_syntax == ImplicitVRLittleEndian
    stream.is_little_endian = transfer_syntax != ExplicitVRBigEndian
    write_dataset(stream, data_set)
    return stream.getvalue()


def write_object(folder: Path, name: str, data_set: Dataset) -> Path:
    """Write a data set that has its file meta as a Part 10 file."""
    path = folder / name
    data_set.save_as(path, enforce_file_format=True)
    return path


@dataclass
class Receiver:
    """DCMTK's storescp, which writes what it receives bit for bit."""

    folder: Path
    port: int
    ae_title: str = "RECEIVER"

    @property
    def files(self) -> dict[str, Path]:
        """Return what was received, by SOP Instance UID (the files are MODALITY.uid)."""
        return {path.name.split(".", 1)[1]: path for path in self.folder.iterdir()}

    def peer(self) -> Peer:
        """Return the receiver as a node of the settings."""
        return Peer(name="receiver", ae_title=self.ae_title, host="127.0.0.1", port=self.port)


@asynccontextmanager
async def receiver_running(folder: Path, *options: str) -> AsyncIterator[Receiver]:
    folder.mkdir()
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        "/usr/bin/storescp",
        "+B",
        *options,
        "-aet",
        "RECEIVER",
        "-od",
        str(folder),
        str(port),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        for _ in range(200):
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                break
        assert process.returncode is None, "the receiver ended at its start"
        yield Receiver(folder, port)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
