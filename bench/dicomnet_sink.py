# SPDX-License-Identifier: Apache-2.0
"""How much the network layer alone costs: C-STORE into a sink that throws the bytes away.

    .venv/bin/python bench/dicomnet_sink.py [--images 1000] [--kib 130] [--senders 1] [--nagle]

Starts the server, sends with DCMTK's `storescu +sd` and prints wall time and CPU time per image
of this process. Also holds 40 idle associations, then 1,000 idle connections, and prints what
they cost.
"""

import argparse
import asyncio
import gc
import os
import resource
import socket
import tempfile
import time
from pathlib import Path

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

from scrigno.core.counters import Counters
from scrigno.dicomnet.association import Association
from scrigno.dicomnet.client import connect
from scrigno.dicomnet.limits import Limits
from scrigno.dicomnet.server import DicomServer
from scrigno.dicomnet.service import (
    Acceptance,
    AssociationRequest,
    CloseReason,
    Command,
    Operation,
    Response,
)

VERIFICATION = "1.2.840.10008.1.1"


class Sink:
    """Counts and forgets."""

    total = 0

    def write(self, fragment: memoryview) -> bool:
        Sink.total += len(fragment)
        return True

    async def finish(self) -> Response:
        return Response(0)

    def discard(self, reason: str) -> None:
        pass


class Handler:
    def store_sink(self, command: Command, transfer_syntax: str, resume: object) -> Sink:
        return Sink()

    async def serve(self, operation: Operation) -> None:
        await operation.respond(0)

    def closed(self, reason: CloseReason) -> None:
        pass


class Provider:
    async def negotiate(self, request: AssociationRequest) -> Acceptance:
        return Acceptance(contexts={c.context_id: c.transfer_syntaxes[0] for c in request.contexts})

    def established(self, association: Association) -> Handler:
        return Handler()


def write_images(folder: Path, count: int, size: int) -> None:
    """Write `count` MR objects of about `size` bytes."""
    pixels = os.urandom(size - 700)
    study, series = generate_uid(), generate_uid()
    for number in range(count):
        image = Dataset()
        image.SOPClassUID = MRImageStorage
        image.SOPInstanceUID = generate_uid()
        image.StudyInstanceUID, image.SeriesInstanceUID = study, series
        image.PatientName, image.PatientID, image.Modality = "Bench^Sink", "B1", "MR"
        image.Rows, image.Columns, image.BitsAllocated = 256, len(pixels) // 512, 16
        image.BitsStored, image.HighBit, image.PixelRepresentation = 12, 11, 0
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.add_new(0x7FE00010, "OW", pixels + b"\0" * (len(pixels) % 2))
        image.file_meta = FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.save_as(folder / f"{number:05d}.dcm", enforce_file_format=True)


def cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def rss_kib() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") // 1024


async def send(port: int, folder: Path, *, nagle: bool, verbose: bool) -> None:
    sender = await asyncio.create_subprocess_exec(
        *("/usr/bin/storescu", "-xe", "+sd", "-aec", "BENCH", "127.0.0.1", str(port), str(folder)),
        env={"PATH": "/usr/bin", "DCMDICTPATH": DICTIONARY}
        | ({} if nagle else {"TCP_NODELAY": "1"}),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=None if verbose else asyncio.subprocess.DEVNULL,
    )
    if await sender.wait() != 0:
        print("storescu failed")


DICTIONARY = "/usr/share/libdcmtk17/dicom.dic"


async def throughput(server: DicomServer, options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_images(folder, options.images, options.kib * 1024)
        for round_number in range(options.rounds):
            Sink.total = 0
            cpu, began = cpu_s(), time.perf_counter()
            await asyncio.gather(
                *(
                    send(server.port, folder, nagle=options.nagle, verbose=True)
                    for _ in range(options.senders)
                )
            )
            wall, cpu = time.perf_counter() - began, cpu_s() - cpu
            images = options.images * options.senders
            print(
                f"round {round_number + 1}: {images} images of {options.kib} KiB:"
                f" {wall:.2f} s, {Sink.total / wall / 1e6:.0f} MB/s,"
                f" {cpu / images * 1e3:.3f} ms CPU per image",
                flush=True,
            )


async def idle_cost(what: str, watch_s: float, before_kib: int) -> None:
    gc.collect()
    cpu = cpu_s()
    await asyncio.sleep(watch_s)
    cpu = cpu_s() - cpu
    print(
        f"{what}: {100 * cpu / watch_s:.3f} % CPU over {watch_s:.0f} s,"
        f" {(rss_kib() - before_kib) / 1024:.1f} MiB more memory",
        flush=True,
    )


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--kib", type=int, default=130)
    parser.add_argument("--senders", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--nagle", action="store_true", help="send as stock DCMTK does")
    parser.add_argument("--idle-s", type=float, default=5)
    options = parser.parse_args()
    limits = Limits(
        artim_s=120,
        max_associations=2000,
        max_associations_per_peer=2000,
        max_associations_per_host=2000,
        max_connections=2000,
    )
    server = DicomServer(
        host="127.0.0.1", port=0, provider=Provider(), limits=limits, counters=Counters()
    )
    await server.start()
    if options.images:
        await throughput(server, options)
    if options.idle_s:
        before = rss_kib()
        held = [
            await connect(
                host="127.0.0.1",
                port=server.port,
                called_ae="BENCH",
                calling_ae=f"IDLE{number}",
                contexts=[(VERIFICATION, [ExplicitVRLittleEndian])],
            )
            for number in range(40)
        ]
        await idle_cost("40 idle associations (both ends)", options.idle_s, before)
        for association in held:
            await association.release()
        before = rss_kib()
        sockets = []
        for _ in range(1000):
            peer = socket.socket()
            peer.setblocking(False)
            await asyncio.get_running_loop().sock_connect(peer, ("127.0.0.1", server.port))
            sockets.append(peer)
        while server.connections < 1000:
            await asyncio.sleep(0.01)
        await idle_cost("1000 idle connections", options.idle_s, before)
        for peer in sockets:
            peer.close()
    await server.close(grace_s=1)


if __name__ == "__main__":
    asyncio.run(main())
