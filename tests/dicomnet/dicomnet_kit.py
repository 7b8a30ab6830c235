# SPDX-License-Identifier: Apache-2.0
"""Parts for these tests: a provider that records, a raw socket, DCMTK's tools, small objects."""

import asyncio
import contextlib
import os
import shutil
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from scrigno.dicomnet import commandset, dimse
from scrigno.dicomnet.association import Association
from scrigno.dicomnet.pdu import encode_associate_rq
from scrigno.dicomnet.server import DicomServer
from scrigno.dicomnet.service import (
    Acceptance,
    AssociationRequest,
    CloseReason,
    Command,
    Operation,
    PeerAddress,
    ProposedContext,
    Rejection,
    Response,
    StoreSink,
)

VERIFICATION = "1.2.840.10008.1.1"
CT = str(CTImageStorage)
STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
STUDY_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
STUDY_ROOT_GET = "1.2.840.10008.5.1.4.1.2.2.3"
# For tests in which one address plays many peers.
MANY = {
    "max_associations": 1000,
    "max_associations_per_peer": 1000,
    "max_associations_per_host": 1000,
}
IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"


@dataclass
class RecordingSink:
    """Keeps what it is given, and what happened to it."""

    command: Command
    provider: "RecordingProvider"
    resume: Callable[[], None]
    received: bytearray = field(default_factory=bytearray)
    finished: int = 0
    discarded: list[str] = field(default_factory=list)

    def write(self, fragment: memoryview) -> bool:
        self.received += fragment
        return self.provider.on_write(self) if self.provider.on_write is not None else True

    async def finish(self) -> Response:
        self.finished += 1
        if self.provider.on_finish is not None:
            return await self.provider.on_finish(self)
        return Response(0)

    def discard(self, reason: str) -> None:
        self.discarded.append(reason)


@dataclass
class RecordingHandler:
    """Serves echo and whatever the provider was told to."""

    provider: "RecordingProvider"
    association: Association
    close_reasons: list[CloseReason] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)

    def store_sink(
        self, command: Command, transfer_syntax: str, resume: Callable[[], None]
    ) -> StoreSink | Response:
        if self.provider.refuse_store is not None:
            return self.provider.refuse_store
        sink = RecordingSink(command, self.provider, resume)
        self.provider.sinks.append(sink)
        self.provider.syntaxes.append(transfer_syntax)
        return sink

    async def serve(self, operation: Operation) -> None:
        self.operations.append(operation)
        if self.provider.on_serve is not None:
            await self.provider.on_serve(operation)
        else:
            await operation.respond(0)

    def closed(self, reason: CloseReason) -> None:
        self.close_reasons.append(reason)
        self.provider.closed.append(reason)
        self.provider.changed.set()


class RecordingProvider:
    """Accepts everything, first transfer syntax, unless told otherwise."""

    def __init__(self) -> None:
        self.requests: list[AssociationRequest] = []
        self.handlers: list[RecordingHandler] = []
        self.sinks: list[RecordingSink] = []
        self.syntaxes: list[str] = []
        self.closed: list[CloseReason] = []
        self.changed = asyncio.Event()
        self.answer: Acceptance | Rejection | None = None
        self.roles = False
        self.async_ops: tuple[int, int] | None = None
        self.negotiate_s = 0.0
        self.refuse_store: Response | None = None
        self.on_write: Callable[[RecordingSink], bool] | None = None
        self.on_finish: Callable[[RecordingSink], Awaitable[Response]] | None = None
        self.on_serve: Callable[[Operation], Awaitable[None]] | None = None

    async def negotiate(self, request: AssociationRequest) -> Acceptance | Rejection:
        self.requests.append(request)
        if self.negotiate_s:
            await asyncio.sleep(self.negotiate_s)
        if self.answer is not None:
            return self.answer
        return Acceptance(
            contexts={c.context_id: c.transfer_syntaxes[0] for c in request.contexts},
            roles=request.roles if self.roles else {},
            async_ops=self.async_ops,
        )

    def established(self, association: Association) -> RecordingHandler:
        handler = RecordingHandler(self, association)
        self.handlers.append(handler)
        return handler

    async def until_closed(self, count: int = 1) -> list[CloseReason]:
        async with asyncio.timeout(10):
            while len(self.closed) < count:
                self.changed.clear()
                await self.changed.wait()
        return self.closed


Serve = Callable[..., Awaitable[DicomServer]]
Dial = Callable[[DicomServer], Awaitable["RawPeer"]]
Listen = Callable[..., Awaitable[int]]


def request_pdu(contexts: list[tuple[str, list[str]]] | None = None, **more: object) -> bytes:
    """Return an A-ASSOCIATE-RQ; by default for verification (1) and CT storage (3)."""
    chosen = contexts or [(VERIFICATION, [IMPLICIT]), (CT, [EXPLICIT, IMPLICIT])]
    values: dict[str, object] = {
        "called_ae": "SCRIGNO",
        "calling_ae": "PEER",
        "peer": PeerAddress("", 0),
        "contexts": tuple(
            ProposedContext(2 * n + 1, uid, tuple(ts)) for n, (uid, ts) in enumerate(chosen)
        ),
        "max_pdu": 16384,
    }
    values.update(more)
    return encode_associate_rq(AssociationRequest(**values), max_pdu=16384)  # type: ignore[arg-type]


def p_data(context_id: int, control: int, fragment: bytes) -> bytes:
    """Return one P-DATA-TF with one PDV."""
    return (
        struct.pack(">BxIIBB", 4, len(fragment) + 6, len(fragment) + 2, context_id, control)
        + fragment
    )


def store_command(message_id: int = 1, *, uid: str = "1.2.3.4", data_set: bool = True) -> bytes:
    """Return the command set of a C-STORE-RQ."""
    return commandset.encode_command(
        {
            dimse.AFFECTED_SOP_CLASS_UID: CT,
            dimse.COMMAND_FIELD: dimse.C_STORE_RQ,
            dimse.MESSAGE_ID: message_id,
            dimse.PRIORITY: 0,
            dimse.DATA_SET_TYPE: dimse.HAS_DATA_SET if data_set else dimse.NO_DATA_SET,
            dimse.AFFECTED_SOP_INSTANCE_UID: uid,
        }
    )


def echo_command(message_id: int = 1) -> bytes:
    """Return the command set of a C-ECHO-RQ."""
    return commandset.encode_command(
        {
            dimse.AFFECTED_SOP_CLASS_UID: VERIFICATION,
            dimse.COMMAND_FIELD: dimse.C_ECHO_RQ,
            dimse.MESSAGE_ID: message_id,
            dimse.DATA_SET_TYPE: dimse.NO_DATA_SET,
        }
    )


RELEASE_RQ = bytes.fromhex("05000000000400000000")
RELEASE_RP = bytes.fromhex("06000000000400000000")
ABORT = bytes.fromhex("07000000000400000000")


class RawPeer:
    """A socket that says exactly what it is told."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def say(self, *pdus: bytes) -> None:
        self.writer.write(b"".join(pdus))
        await self.writer.drain()

    async def hear(self) -> tuple[int, bytes]:
        """Return type and body of the next PDU; (0, b"") when the connection ended."""
        try:
            async with asyncio.timeout(10):
                header = await self.reader.readexactly(6)
                kind, length = struct.unpack(">BxI", header)
                return kind, await self.reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError):
            return 0, b""

    async def hear_command(self) -> Command:
        """Return the command set of the next P-DATA-TF, which must hold a whole one."""
        kind, body = await self.hear()
        assert kind == 4, (kind, body)
        length, context_id, control = struct.unpack(">IBB", body[:6])
        assert control == 3
        assert length == len(body) - 4
        return commandset.decode_command(body[6:], context_id)

    async def associate(self, pdu: bytes | None = None) -> None:
        await self.say(pdu or request_pdu())
        kind, _ = await self.hear()
        assert kind == 2

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()

    def reset(self) -> None:
        """Close with RST, as a machine that lost power and came back would."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(1, 13, struct.pack("ii", 1, 0))  # SOL_SOCKET, SO_LINGER
        self.writer.transport.abort()


@dataclass
class Tool:
    """A finished run of a DCMTK tool."""

    code: int
    output: str


async def run_tool(name: str, *arguments: str, cwd: Path | None = None) -> Tool:
    """Run a DCMTK tool (never pynetdicom's app of the same name); stock, so Nagle is on."""
    path = shutil.which(name, path="/usr/bin")
    if path is None:
        pytest.skip(f"DCMTK's {name} is not installed")
    process = await asyncio.create_subprocess_exec(
        path,
        *arguments,
        cwd=cwd,
        env={"PATH": "/usr/bin", **({"DCMDICTPATH": p} if (p := dictionary()) else {})},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(30):
        output, _ = await process.communicate()
    return Tool(process.returncode or 0, output.decode(errors="replace"))


def dictionary() -> str:
    found = sorted(Path("/usr/share").glob("libdcmtk*/dicom.dic"))
    return str(found[0]) if found else ""


def make_ct(size: int = 40_000, uid: str | None = None) -> Dataset:
    """Return a CT object with `size` bytes (to the hundred below) of noise as pixels."""
    image = Dataset()
    image.SOPClassUID = CTImageStorage
    image.SOPInstanceUID = uid or generate_uid()
    image.StudyInstanceUID, image.SeriesInstanceUID = generate_uid(), generate_uid()
    image.PatientName, image.PatientID, image.Modality = "Test^Net", "N1", "CT"
    image.StudyDate, image.StudyTime, image.AccessionNumber, image.StudyID = "", "", "", ""
    image.Rows, image.Columns, image.BitsAllocated = size // 100, 50, 16
    image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 15, 0
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.add_new(0x7FE00010, "OW", os.urandom(size // 100 * 100))
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return image


def write_ct(path: Path, size: int = 40_000, uid: str | None = None) -> bytes:
    """Write a CT as Part 10 file; return its data set's bytes."""
    make_ct(size, uid).save_as(path, enforce_file_format=True)
    return data_set_bytes(path)


def data_set_bytes(path: Path) -> bytes:
    """Return what follows the file meta information of a Part 10 file."""
    content = path.read_bytes()
    group_length = struct.unpack("<I", content[140:144])[0]
    return content[144 + group_length :]
